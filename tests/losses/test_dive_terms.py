"""DivE's loss terms against the authors' numbers, and by geometry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from manymatch.embeddings import Encoded, Sets
from manymatch.errors import DataError, UnknownName
from manymatch.losses import MMD, Diversity, Scores, Triplet
from manymatch.similarity import SmoothChamfer, element_cosines

PARITY = Path(__file__).parents[1] / "parity" / "dive_losses.npz"


def score(name: str, alpha: float, images: Sets, texts: Sets) -> torch.Tensor:
    cosines = element_cosines(images, texts)
    if name == "max":
        return cosines.amax((0, 2))
    if name == "chamfer":
        return (cosines.amax(2).mean(0) + cosines.amax(0).mean(1)) / 2
    return SmoothChamfer(alpha)(images, texts)


def negatives_of(options: dict[str, Any]) -> Any:
    return "semi_hard" if options["semi"] else "hardest" if options["mv"] else "all"


@pytest.mark.parametrize("case", [0, 1, 2, 3])
def test_equals_the_official_implementation(case: int) -> None:
    recorded = np.load(PARITY)
    everything = json.loads(str(recorded["options"]))
    options = everything["cases"][case]
    leaves = {f"{m}{r}": torch.from_numpy(recorded[f"in.{m}{r}{case}"]) for m in ("img", "txt") for r in ("", "_r")}
    for tensor in leaves.values():
        tensor.requires_grad_()
    images, texts = Sets(leaves["img"]), Sets(leaves["txt"])
    both = [Encoded(Sets(leaves[m]), tensors={"residual": leaves[f"{m}_r"]}) for m in ("img", "txt")]
    matches = torch.arange(options["B"])[:, None] == torch.arange(5 * options["B"])[None] // 5
    triplet = Triplet(options["margin"], negatives=negatives_of(options))
    terms = {
        "triplet": triplet(Scores.of(score(options["sim"], options["temp"], images, texts)), matches),
        "mmd": MMD()(*both),
        "div": Diversity(form="gram")(*both),
        "unif": Diversity()(*both) if options["unif_residual"] else closeness(images) + closeness(texts),
    }
    expected = {n: float(recorded[f"out.{n}_loss{case}"]) for n in ("mmd", "div", "unif")}
    expected["triplet"] = float(recorded[f"out.i2t_loss{case}"] + recorded[f"out.t2i_loss{case}"])
    found = {name: float(value.detach()) for name, value in terms.items()}
    assert found == pytest.approx(expected, rel=3e-4)
    weights = {n: everything[f"{n}_weight"] for n in ("mmd", "div", "unif")} | {"triplet": 1.0}
    total = sum((weights[n] * value for n, value in terms.items()), torch.zeros(()))
    assert float(total.detach()) == pytest.approx(float(recorded[f"out.loss{case}"]), rel=1e-4)
    total.backward()
    for name, tensor in leaves.items():
        if f"out.d_{name}{case}" in recorded:
            assert tensor.grad is not None
            np.testing.assert_allclose(tensor.grad, recorded[f"out.d_{name}{case}"], rtol=1e-4, atol=1e-5)


def closeness(sets: Sets) -> torch.Tensor:
    """Their uniformity where it runs over the sets: the same, but of elements that are of unit length already."""
    k = sets.elements.shape[1]
    if k == 1:
        return torch.zeros(())
    p, q = torch.triu_indices(k, k, offset=1)
    return torch.exp(-2 * (sets.elements[:, p] - sets.elements[:, q]).square().sum(-1)).mean()


def test_triplet_is_zero_once_every_margin_holds() -> None:
    matches = torch.eye(3, dtype=torch.bool)
    scores = Scores.of(torch.eye(3) * 0.5)
    assert float(Triplet(0.2)(scores, matches)) == 0.0
    assert float(Triplet(0.6)(scores, matches)) == pytest.approx(0.2)


def test_hardest_is_at_most_all_when_summed() -> None:
    scores, matches = Scores.of(torch.rand(5, 5)), torch.eye(5, dtype=torch.bool)
    hardest = Triplet(0.5, reduction="sum")(scores, matches)
    assert hardest <= Triplet(0.5, negatives="all", reduction="sum")(scores, matches)


def test_warm_up_uses_all_negatives_first() -> None:
    scores, matches = Scores.of(torch.rand(5, 5)), torch.eye(5, dtype=torch.bool)
    term = Triplet(0.5, all_until=0.5)
    term.advance(0, 10)
    assert term(scores, matches) == Triplet(0.5, negatives="all")(scores, matches)
    term.advance(5, 10)
    assert term(scores, matches) == Triplet(0.5)(scores, matches)


def test_bad_settings() -> None:
    with pytest.raises(UnknownName, match="did you mean 'hardest'"):
        Triplet(negatives="hardes")  # type: ignore[arg-type]
    with pytest.raises(UnknownName, match="triplet reduction"):
        Triplet(reduction="max")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="share between 0 and 1"):
        Triplet(all_until=2.0)


def test_mmd_of_equal_sets_is_zero() -> None:
    sets = Encoded(Sets(torch.nn.functional.normalize(torch.randn(4, 3, 8), dim=-1)))
    assert float(MMD()(sets, sets)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("form", "collapsed"), [("pairs", 2.0), ("gram", 2 * 2**0.5 / 4)])
def test_diversity_falls_as_elements_part(form: Any, collapsed: float) -> None:
    def value(residual: torch.Tensor) -> float:
        one = Encoded(Sets(torch.zeros(1, 2, 2)), tensors={"residual": residual})
        return float(Diversity(form=form)(one, one))

    same, apart = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]), torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    assert value(same) == pytest.approx(collapsed) and value(apart) < 0.05
    assert value(same[:, :1]) == 0.0, "a set of one"


def test_orthogonal_elements_have_a_gradient() -> None:
    residual = torch.eye(3)[None].requires_grad_()
    one = Encoded(Sets(torch.zeros(1, 3, 3)), tensors={"residual": residual})
    Diversity(form="gram")(one, one).backward()
    assert residual.grad is not None and torch.isfinite(residual.grad).all()
    with pytest.raises(UnknownName, match="did you mean 'pairs'"):
        Diversity(form="pair")  # type: ignore[arg-type]


def test_discrepancy_of_many_elements_is_that_of_all_pairs() -> None:
    torch.manual_seed(0)
    x, y = (torch.randn(n, 4, 5, dtype=torch.float64, requires_grad=True) for n in (40, 70))

    def mean(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        squared = (a[:, None] - b).square().sum(-1)
        return torch.exp(-0.5 * torch.where(squared > 0, squared, 1.0).sqrt() * (squared > 0)).mean()

    flat = x.flatten(0, 1), y.flatten(0, 1)
    expected = mean(flat[0], flat[0]) - 2 * mean(*flat) + mean(flat[1], flat[1])
    found = MMD()(Encoded(Sets(x)), Encoded(Sets(y)))
    torch.testing.assert_close(found, expected)
    for ours, plain in zip(torch.autograd.grad(found, [x, y]), torch.autograd.grad(expected, [x, y]), strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-9, rtol=1e-6)
