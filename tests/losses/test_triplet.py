"""Hinges and InfoNCE against the authors' numbers, and what holds of any of them."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.embeddings import Encoded, Points, Sets
from manymatch.errors import DataError, UnknownName
from manymatch.losses import MMD, Diversity, InfoNCE, Scores, Triplet
from manymatch.losses.anchors import Pairing
from manymatch.similarity import Mil

PARITY = Path(__file__).parents[1] / "parity"


def leaves(recorded: np.lib.npyio.NpzFile, *names: str) -> list[torch.Tensor]:
    return [torch.from_numpy(recorded[f"in.{name}"]).requires_grad_() for name in names]


def expect_gradients(recorded: np.lib.npyio.NpzFile, tensors: list[torch.Tensor], *names: str) -> None:
    for tensor, name in zip(tensors, names, strict=True):
        assert tensor.grad is not None
        np.testing.assert_allclose(tensor.grad, recorded[f"out.{name}"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("negatives", "name"), [("hardest", "max"), ("all", "sum")])
def test_equals_vse_infinity(negatives: str, name: str) -> None:
    recorded = np.load(PARITY / "vse_hinge.npz")
    images, texts = both = leaves(recorded, "img", "cap")
    term = Triplet(0.2, negatives=negatives, reduction="sum", positives="diagonal", siblings="negatives")  # type: ignore[arg-type]
    loss = term(Scores.of(images @ texts.T), torch.eye(len(images), dtype=torch.bool))
    assert float(loss.detach()) == pytest.approx(float(recorded[f"out.loss_{name}"]), rel=1e-4)
    loss.backward()
    expect_gradients(recorded, both, f"dimg_{name}", f"dcap_{name}")


@pytest.mark.parametrize(
    ("margin", "siblings", "name"), [*product((0.2, 0.1), (("masked", "mask"), ("negatives", "diag")), ("max", "sum"))]
)
def test_equals_hrem_hinge(margin: float, siblings: tuple[str, str], name: str) -> None:
    recorded = np.load(PARITY / "hrem_hinge.npz")
    images, texts = both = leaves(recorded, "img", "cap")
    ids = torch.from_numpy(recorded["in.ids"])
    term = Triplet(
        margin,
        negatives="hardest" if name == "max" else "all",
        reduction="sum",
        positives="diagonal",
        siblings=siblings[0],  # type: ignore[arg-type]
    )
    loss = term(Scores.of(images @ texts.T), ids[:, None] == ids)
    case = f"m{margin}_{siblings[1]}_{name}"
    assert float(loss.detach()) == pytest.approx(float(recorded[f"out.loss_{case}"]), rel=1e-4)
    loss.backward()
    expect_gradients(recorded, both, f"dimg_{case}", f"dcap_{case}")


@pytest.mark.parametrize("case", [0, 1, 2])
def test_equals_pvse(case: int) -> None:
    recorded = np.load(PARITY / "pvse_losses.npz")
    options = json.loads(str(recorded["options"]))
    settings_, tensors = options["cases"][case], leaves(recorded, *(f"{n}{case}" for n in ("img", "txt")))
    residuals = leaves(recorded, *(f"{n}_r{case}" for n in ("img", "txt")))
    many = settings_["K"] > 1
    sets = [Sets(t if many else t[:, None]) for t in tensors]
    both = [Encoded(s, tensors={"residual": r}) for s, r in zip(sets, residuals, strict=True)]
    n = settings_["B"]
    negatives = "hardest" if settings_["mv"] else "all"
    term = Triplet(settings_["margin"], negatives=negatives, positives="diagonal", siblings="negatives")  # type: ignore[arg-type]
    ranking = term(Scores.of(Mil()(*sets)), torch.eye(n, dtype=torch.bool))
    if not settings_["mv"]:
        # Their mean over all negatives counts the masked diagonal too.
        ranking = ranking * (n - 1) / n
    loss, names = ranking, [f"{d}_{m}{case}" for d, m in product("d", ("img", "txt"))]
    if many:
        mmd, diversity = MMD()(*both), Diversity(form="gram")(*both)
        assert float(diversity.detach()) == pytest.approx(float(recorded[f"out.div_loss{case}"]), rel=1e-4)
        assert float(mmd.detach()) == pytest.approx(float(recorded[f"out.mmd_loss{case}"]), rel=3e-4)
        loss = loss + options["mmd_weight"] * mmd + options["div_weight"] * diversity
        tensors, names = [*tensors, *residuals], [*names, f"d_img_r{case}", f"d_txt_r{case}"]
    assert float(ranking.detach()) == pytest.approx(float(recorded[f"out.ranking_loss{case}"]), rel=1e-4)
    assert float(loss.detach()) == pytest.approx(float(recorded[f"out.loss{case}"]), rel=1e-4)
    loss.backward()
    expect_gradients(recorded, tensors, *names)


def test_equals_pvse_with_order_embeddings() -> None:
    recorded = np.load(PARITY / "pvse_losses.npz")
    scores = Scores.of(torch.from_numpy(recorded["out.scores3"]))
    found = Triplet(0.05, positives="diagonal", siblings="negatives")(scores, torch.eye(5, dtype=torch.bool))
    assert float(found) == pytest.approx(float(recorded["out.ranking_loss3"]), rel=1e-4)


def test_infonce_equals_pcmepp() -> None:
    recorded = np.load(PARITY / "pcmepp_mc_loss.npz")
    images, texts = leaves(recorded, "img_mean", "cap_mean")
    term = InfoNCE(1 / 5, positives="diagonal", siblings="negatives")
    loss = term(Scores.of(images @ texts.T), torch.from_numpy(recorded["in.matched"]).bool())
    assert float(loss.detach()) == pytest.approx(float(recorded["out.infonce_tau5"]), rel=1e-4)
    loss.backward()
    expect_gradients(recorded, [images], "infonce_dimg")


# ---- what must hold


def table(seed: int, images: int, captions: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random scores in [-1, 1] and matches in which every row and column has one at least."""
    draw = torch.Generator().manual_seed(seed)
    scores = torch.rand(images, captions, generator=draw, dtype=torch.float64) * 2 - 1
    owner = torch.cat([torch.arange(images), torch.randint(images, (captions - images,), generator=draw)])
    return scores, torch.arange(images)[:, None] == owner


SHAPES = given(seed=st.integers(0, 999), images=st.integers(2, 5), more=st.integers(0, 5))


@SHAPES
@settings(max_examples=30, deadline=None)
def test_zero_just_when_every_margin_holds(seed: int, images: int, more: int) -> None:
    scores, matches = table(seed, images, images + more)
    apart = torch.where(matches, 1.0 + scores.abs(), scores - 1.0)
    least = min(
        float(side[row][truth[row]].min() - side[row][~truth[row]].max())
        for side, truth in ((apart, matches), (apart.T, matches.T))
        for row in range(len(side))
        if not truth[row].all()
    )
    for negatives in ("hardest", "all"):
        assert float(Triplet(least - 1e-9, negatives=negatives)(Scores.of(apart), matches)) == 0.0
        assert float(Triplet(least + 1e-6, negatives=negatives)(Scores.of(apart), matches)) > 0.0


@SHAPES
@settings(max_examples=30, deadline=None)
def test_hardest_at_most_all_and_semi_hard_at_most_all(seed: int, images: int, more: int) -> None:
    scores, matches = table(seed, images, images + more)
    hardest, every, semi = (
        float(Triplet(0.3, negatives=n, reduction="sum")(Scores.of(scores), matches))  # type: ignore[arg-type]
        for n in ("hardest", "all", "semi_hard")
    )
    assert hardest <= every + 1e-12 and semi <= every + 1e-12


@given(seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
def test_two_pairs_have_one_negative_each(seed: int) -> None:
    scores, matches = table(seed, 2, 2)
    hardest, every = (
        Triplet(0.3, negatives=n, reduction="sum")(Scores.of(scores), matches)  # type: ignore[arg-type]
        for n in ("hardest", "all")
    )
    torch.testing.assert_close(hardest, every)


@given(seed=st.integers(0, 999), n=st.integers(1, 4), m=st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_mmd_is_symmetric_and_not_negative(seed: int, n: int, m: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    x, y = (Encoded(Points(torch.randn(k, 3, generator=draw, dtype=torch.float64))) for k in (n, m))
    assert float(MMD()(x, y)) >= -1e-9
    torch.testing.assert_close(MMD()(x, y), MMD()(y, x))
    assert float(MMD()(x, x)) == pytest.approx(0.0, abs=1e-9)


def test_siblings_are_negatives_only_when_asked() -> None:
    matches = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]]).bool()
    scores = torch.tensor([[0.5, 0.9, -1.0], [0.9, 0.5, -1.0], [-1.0, -1.0, 0.9]])
    assert float(Triplet(0.2, positives="diagonal")(Scores.of(scores), matches)) == 0.0
    # Four anchors of six meet a sibling that scores 0.4 higher.
    asked = Triplet(0.2, positives="diagonal", siblings="negatives", reduction="sum")
    assert float(asked(Scores.of(scores), matches)) == pytest.approx(4 * 0.6)
    every = Triplet(0.2, siblings="negatives", reduction="sum")
    assert float(every(Scores.of(scores), matches)) == pytest.approx(4 * 0.6), "the better sibling meets the worse one"


def test_an_anchor_without_negatives_teaches_nothing() -> None:
    scores, matches = torch.rand(1, 2, requires_grad=True), torch.ones(1, 2).bool()
    for term in (Triplet(negatives=n) for n in ("hardest", "all", "semi_hard")):  # type: ignore[arg-type]
        assert float(term(Scores.of(scores), matches).detach()) == 0.0
    (InfoNCE()(Scores.of(scores), matches) + Triplet()(Scores.of(scores), matches)).backward()
    assert scores.grad is not None and (scores.grad == 0).all()


def test_the_first_epoch_is_one_over_the_epochs() -> None:
    scores, matches = Scores.of(torch.rand(5, 5)), torch.eye(5, dtype=torch.bool)
    hardest, every = Triplet(0.5)(scores, matches), Triplet(0.5, negatives="all")(scores, matches)
    assert hardest != every
    for epochs, steps in ((25, 7), (3, 11), (30, 1)):
        term = Triplet(0.5, all_until=1 / epochs)
        for step, expected in ((steps - 1, every), (steps, hardest)):
            term.advance(step, epochs * steps)
            assert term(scores, matches) == expected


def test_bad_pairings() -> None:
    with pytest.raises(UnknownName, match="did you mean 'diagonal'"):
        Triplet(positives="diag")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="unknown siblings 'mask'"):
        InfoNCE(siblings="mask")  # type: ignore[arg-type]
    square = Triplet(positives="diagonal")
    with pytest.raises(DataError, match="found 2 rows and 3 columns, expected as many images as captions"):
        square(Scores.of(torch.rand(2, 3)), torch.ones(2, 3).bool())
    with pytest.raises(DataError, match="row 1 and column 1 do not match"):
        square(Scores.of(torch.rand(2, 2)), torch.tensor([[True, True], [False, False]]))


def test_pairing_counts_every_match_with_its_own_negatives() -> None:
    matches = torch.tensor([[True, True, False]])
    kept, asked = Pairing().anchors(matches), Pairing(siblings="negatives").anchors(matches)
    assert kept.negatives[kept.lists].tolist() == [[False, False, True]] * 2
    assert asked.columns.tolist() == [0, 1]
    assert asked.negatives[asked.lists].tolist() == [[False, True, True], [True, False, True]]
