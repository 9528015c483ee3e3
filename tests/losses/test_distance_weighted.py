"""The triplet of drawn negatives against the authors' numbers, and what its weights must keep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from manymatch.draws import recorded
from manymatch.errors import DataError, UnknownName
from manymatch.losses import DistanceWeighted, Scores, distance_weights

PARITY = Path(__file__).parents[1] / "parity" / "hrem_distance_weighted_triplet.npz"
FARTHEST = {"f30k": 1.7, "coco": 1.9}


@pytest.mark.parametrize("mode", ["paper", "released"])
@pytest.mark.parametrize("dataset", ["f30k", "coco"])
@pytest.mark.parametrize("shape", ["", "rect_"])
def test_equals_the_official_implementation(shape: str, dataset: str, mode: str) -> None:
    ours = np.load(PARITY)
    images = torch.from_numpy(ours["in.img_unique" if shape else "in.img"]).requires_grad_()
    texts = torch.from_numpy(ours["in.cap"]).requires_grad_()
    ids = torch.from_numpy(ours["in.ids"])
    matches = (ids.unique() if shape else ids)[:, None] == ids
    term = DistanceWeighted(farthest=FARTHEST[dataset], mode=mode)  # type: ignore[arg-type]
    scores = Scores.of(images @ texts.T)
    for n, (side, truth) in enumerate(((scores.i2t, matches), (scores.t2i, matches.T))):
        weights = term.weights(side, truth)[truth.nonzero()[:, 0]].numpy()
        expected = ours[f"out.{shape}weights{n}_{dataset}"]
        if mode == "paper":
            # Their rows sum to less than one where a column beyond the cut-off outweighs all that may be drawn; below
            # 1e-15 they have too few digits left to compare with.
            sums = expected.sum(axis=1, keepdims=True)
            few = sums[:, 0] < 1e-15
            expected = np.where(few[:, None], weights, expected / sums)
            assert few.sum() < len(few) / 2
        np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-5)
    with recorded({f"negatives.{n}": torch.from_numpy(ours[f"out.{shape}neg{n}_{dataset}"]) for n in (0, 1)}):
        loss = term(scores, matches)
    assert float(loss.detach()) == pytest.approx(float(ours[f"out.{shape}loss_{dataset}"]), rel=1e-4)
    loss.backward()
    for name, tensor in (("dimg", images), ("dcap", texts)):
        if f"out.{shape}{name}_{dataset}" in ours:
            assert tensor.grad is not None
            np.testing.assert_allclose(tensor.grad, ours[f"out.{shape}{name}_{dataset}"], rtol=1e-4, atol=1e-5)


def test_four_terms_of_one_official_step(reference: Path) -> None:
    folder = reference / "parity" / "hrem_region_bert"
    theirs, ids = np.load(folder / "expected.npz"), torch.from_numpy(np.load(folder / "train_batch.npz")["image_ids"])
    images, texts = (torch.from_numpy(theirs[f"train_{m}_embs"]) for m in ("img", "cap"))
    enhanced = functional.normalize(torch.from_numpy(theirs["gnn_out"]), dim=-1).split(len(ids))
    matches = ids[:, None] == ids
    expected = [float(theirs["base_loss"]), *theirs["gnn_losses"].tolist()]
    draws = {f"negatives.{n}": torch.from_numpy(theirs[f"neg_draw_{n}"]) for n in range(8)}
    pairs = [(images, texts), (images, enhanced[1]), (enhanced[0], texts), (enhanced[0], enhanced[1])]
    with recorded(draws):
        for n, (left, right) in enumerate(pairs):
            # In double: the weights are a high power of the scores, which processors round differently.
            scores = Scores.of(left.double() @ right.double().T)
            for side, asked in enumerate((scores.i2t, scores.t2i)):
                weights, rows = distance_weights(asked, matches), matches.nonzero()[:, 0]
                np.testing.assert_allclose(weights[rows], theirs[f"draw_weights_{2 * n + side}"], rtol=1e-4, atol=1e-5)
            assert float(DistanceWeighted()(scores, matches)) == pytest.approx(expected[n], rel=1e-4)


# ---- the weights


def cosines(seed: int, rows: int, columns: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    left, right = (functional.normalize(torch.randn(n, 4, generator=draw), dim=-1) for n in (rows, columns))
    return left @ right.T


@given(seed=st.integers(0, 9999), rows=st.integers(1, 6), columns=st.integers(1, 8), released=st.booleans())
@settings(max_examples=60, deadline=None)
def test_rows_sum_to_one_and_a_positive_is_never_drawn(seed: int, rows: int, columns: int, released: bool) -> None:
    scores = cosines(seed, rows, columns)
    matches = torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed)) < 0.4
    weights = distance_weights(scores, matches, mode="released" if released else "paper")
    assert torch.isfinite(weights).all() and (weights >= 0).all()
    assert (weights[matches] == 0).all()
    admissible = ~matches & ((2 - 2 * scores).clamp(min=0).sqrt() < 1.7)
    sums = weights.sum(dim=1)
    assert (weights[~admissible] == 0).all()
    if not released:
        torch.testing.assert_close(sums, admissible.any(dim=1).float(), rtol=0, atol=1e-5)
    assert (sums <= 1 + 1e-5).all()


@given(seed=st.integers(0, 999), only=st.integers(0, 4))
@settings(max_examples=20, deadline=None)
def test_the_only_admissible_negative_is_drawn(seed: int, only: int) -> None:
    scores = torch.rand(5, 5, generator=torch.Generator().manual_seed(seed)) * 0.8
    matches = (torch.arange(5) != only).expand(5, 5)
    weights = distance_weights(scores, matches)
    assert torch.equal(weights, (~matches).float())


def test_negatives_below_the_nearest_distance_are_equally_likely() -> None:
    # Distances 0.49, 0.2 and 0 lie below 0.5, that is cosines above 0.875.
    scores = torch.tensor([[0.9, 1 - 0.49**2 / 2, 1 - 0.2**2 / 2, 1.0]])
    weights = distance_weights(scores, torch.tensor([[True, False, False, False]]))
    torch.testing.assert_close(weights, torch.tensor([[0.0, 1 / 3, 1 / 3, 1 / 3]]))


def test_the_closer_is_far_likelier_until_a_right_angle_and_then_the_farther() -> None:
    none = torch.zeros(1, 2, dtype=torch.bool)
    near, less = distance_weights(torch.tensor([[0.5, 0.45]], dtype=torch.float64), none)[0].tolist()
    assert 10 < np.log(near / less) < 20
    near, far = distance_weights(torch.tensor([[-0.1, -0.2]]), none)[0].tolist()
    assert far > near


# ---- anchors without any admissible negative


def lonely() -> tuple[torch.Tensor, torch.Tensor]:
    """Row 0 has no negative within 1.7; row 1 has one."""
    return torch.tensor([[0.9, -0.9, -0.95], [0.3, 0.4, 0.5]]), torch.tensor([[1, 0, 0], [0, 1, 0]]).bool()


def test_paper_leaves_out_that_anchor_alone() -> None:
    scores, matches = lonely()
    with recorded({"negatives.0": torch.tensor([1, 2]), "negatives.1": torch.tensor([1, 0])}):
        # Row 0 counts nothing; row 1 draws column 2: 0.2 + 0.5 - 0.4; all scores of the other direction are 0.
        assert float(DistanceWeighted()(Scores(scores, torch.zeros(3, 2)), matches)) == pytest.approx(0.3 + 2 * 0.2)


def test_released_gives_up_that_direction_without_drawing() -> None:
    scores, matches = lonely()
    scores.requires_grad_()
    with recorded({"negatives.0": torch.tensor([1, 0])}):
        loss = DistanceWeighted(mode="released")(Scores(scores, torch.zeros(3, 2)), matches)
    assert float(loss.detach()) == pytest.approx(2 * 0.2)
    loss.backward()
    assert scores.grad is not None and (scores.grad == 0).all()


def test_nothing_admissible_anywhere_is_zero_and_finite() -> None:
    scores = torch.full((2, 2), -1.0, requires_grad=True)
    for mode in ("paper", "released"):
        loss = DistanceWeighted(mode=mode)(Scores.of(scores), torch.eye(2).bool())  # type: ignore[arg-type]
        assert float(loss.detach()) == 0.0
        loss.backward()
        assert scores.grad is not None and (scores.grad == 0).all()


def test_nothing_learns_through_the_draw() -> None:
    weights = distance_weights(torch.rand(3, 3, requires_grad=True), torch.eye(3).bool())
    assert not weights.requires_grad


def test_gradient_with_fixed_negatives() -> None:
    scores, matches = cosines(3, 4, 8).double(), torch.arange(4)[:, None] == torch.arange(8) // 2
    draws = {"negatives.0": torch.arange(8).roll(2), "negatives.1": torch.tensor([1, 1, 2, 2, 3, 3, 0, 0])}

    def loss(values: torch.Tensor) -> torch.Tensor:
        with recorded(draws):
            return DistanceWeighted()(Scores.of(values), matches)

    assert torch.autograd.gradcheck(loss, (scores.requires_grad_(),), eps=1e-7, atol=1e-4)


def test_it_is_zero_once_every_negative_is_a_margin_away() -> None:
    matches = torch.eye(4).bool()
    apart, together = (DistanceWeighted()(Scores.of(s), matches) for s in (torch.eye(4), torch.ones(4, 4)))
    assert float(apart) == 0.0 and float(together) == pytest.approx(8 * 0.2)


def test_bad_settings_and_draws() -> None:
    with pytest.raises(UnknownName, match="unknown mode 'papers'"):
        DistanceWeighted(mode="papers")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"nearest 0\.5, farthest 0\.4; expected 0 < nearest < farthest"):
        DistanceWeighted(farthest=0.4)
    scores, matches = Scores.of(torch.zeros(3, 3)), torch.eye(3).bool()
    with (
        pytest.raises(DataError, match=r"negatives of shape \(2,\), expected \(3,\), one for each match"),
        recorded({"negatives.0": torch.zeros(2, dtype=torch.int64)}),
    ):
        DistanceWeighted()(scores, matches)
