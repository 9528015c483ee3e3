"""DivE's loss terms against the authors' numbers, and by geometry."""

from __future__ import annotations

import json
from pathlib import Path

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


@pytest.mark.parametrize("case", [0, 1, 2])
def test_equals_the_official_implementation(case: int) -> None:
    recorded = np.load(PARITY)
    options = json.loads(str(recorded["options"]))["cases"][case]
    images, texts = (Sets(torch.from_numpy(recorded[f"in.{m}{case}"])) for m in ("img", "txt"))
    residuals = [torch.from_numpy(recorded[f"in.{m}_r{case}"]) for m in ("img", "txt")]
    matches = torch.arange(options["B"])[:, None] == torch.arange(5 * options["B"])[None] // 5
    triplet = Triplet(options["margin"], negatives="hardest" if options["mv"] else "all")
    found = triplet(Scores.of(score(options["sim"], options["temp"], images, texts)), matches)
    expected = recorded[f"out.i2t_loss{case}"] + recorded[f"out.t2i_loss{case}"]
    assert float(found) == pytest.approx(float(expected), rel=1e-4)
    both = [Encoded(e, tensors={"residual": r}) for e, r in zip((images, texts), residuals, strict=True)]
    assert float(MMD()(*both)) == pytest.approx(float(recorded[f"out.mmd_loss{case}"]), rel=3e-4)
    if options["unif_residual"]:
        assert float(Diversity()(*both)) == pytest.approx(float(recorded[f"out.unif_loss{case}"]), rel=1e-4)


def test_gradient_equals_the_official_implementation() -> None:
    recorded = np.load(PARITY)
    images, texts = (torch.from_numpy(recorded[f"in.{m}0"]).requires_grad_() for m in ("img", "txt"))
    both = [Encoded(Sets(e)) for e in (images, texts)]
    matches = torch.arange(4)[:, None] == torch.arange(20)[None] // 5
    scores = Scores.of(SmoothChamfer(16)(Sets(images), Sets(texts)))
    (Triplet(0.2)(scores, matches) + 0.01 * MMD()(*both)).backward()
    for tensor, name in ((images, "d_img0"), (texts, "d_txt0")):
        assert tensor.grad is not None
        np.testing.assert_allclose(tensor.grad, recorded[f"out.{name}"], rtol=2e-3, atol=2e-6)


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


def test_diversity_falls_as_elements_part() -> None:
    def value(residual: torch.Tensor) -> float:
        one = Encoded(Sets(torch.zeros(1, 2, 2)), tensors={"residual": residual})
        return float(Diversity()(one, one))

    same, apart = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]), torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
    assert value(same) == pytest.approx(2.0) and value(apart) < 0.01
