"""Does ambiguity fall as a text says more: counted by hand, as a row of its protocol, and taught by inclusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

import manymatch as mm
from manymatch.data.pairs import Pairs
from manymatch.embeddings import Embedding, Gaussians, Points
from manymatch.evaluation.specificity import falling, specificity
from manymatch.methods import Model
from manymatch.training import TrainConfig, train


class Longer:
    """Its ambiguity is a number of the text's length."""

    def __init__(self, *spread: float) -> None:
        self.spread = spread

    def encode_texts(self, texts: Sequence[str], *, batch_size: int = 256) -> Embedding:
        logs = torch.tensor([[float(self.spread[len(text.split())])] for text in texts])
        return Gaussians(torch.zeros_like(logs), logs)


class Sure(Longer):
    def encode_texts(self, texts: Sequence[str], *, batch_size: int = 256) -> Embedding:
        return Points(torch.zeros(len(texts), 1))


LADDERS = [["dog", "black dog", "black dog runs"], ["cat"], ["cat", "one black cat"]]


@pytest.mark.parametrize(
    ("spread", "share"),
    [((0, 3, 2, 1), 1.0), ((0, 1, 2, 3), 0.0), ((0, 3, 3, 1), 2.5 / 3), ((0, 2, 1, 1), 2.5 / 3), ((1, 1, 1, 1), 0.5)],
)
def test_falling_steps_by_hand(spread: tuple[float, ...], share: float) -> None:
    assert falling(Longer(*spread), LADDERS) == (pytest.approx(share), 3)  # type: ignore[arg-type]


def test_nothing_to_say() -> None:
    for ladders in ([], [["cat"]], [["cat"], ["dog"]]):
        assert falling(Longer(0, 1), ladders) is None  # type: ignore[arg-type]
    assert falling(Sure(), LADDERS) is None  # type: ignore[arg-type]


def test_a_row_of_those_that_have_an_ambiguity(featured: Pairs) -> None:
    small: dict[str, Any] = {"dim": 16, "word_dim": 12, "hidden": 8, "least_count": 1}
    few = featured.take(range(30))
    for name, there in (("pcmepp", True), ("dive", True), ("vsepp", False)):
        model = mm.method(name, **small).build(few)
        rows = mm.evaluate(model, few, protocol=["own", "uncertainty"], resamples=0).rows
        found = [row for row in rows if row["metric"] == "specificity"]
        assert len(found) == there
        if there:
            assert found == [{"run": name, **row} for row in specificity(model, few)]
            assert (found[0]["protocol"], found[0]["direction"], found[0]["queries"]) == ("uncertainty", "t2t", 150)
            assert 0 <= found[0]["value"] <= 100
    assert "specificity" in str(mm.evaluate(mm.method("dive", **small).build(few), few, protocol="uncertainty"))
    plain = mm.evaluate(mm.method("dive", **small).build(few), few, resamples=0).rows
    assert "specificity" not in {row["metric"] for row in plain}


def learned(pairs: Pairs, name: str, folder: Any, weight: float) -> Model:
    small: dict[str, Any] = {"dim": 16, "word_dim": 12, "hidden": 8, "batch": 32, "captions": 1, "least_count": 1}
    model = mm.method(name, **small, inclusion_weight=weight).build(pairs)
    return train(model, pairs, out=folder / f"{name}-{weight}", config=TrainConfig(epochs=3, lr=3e-3), say=None)


@pytest.mark.parametrize("name", ["pcmepp", "p2rm"])
def test_inclusion_teaches_that_more_words_mean_less_ambiguity(name: str, featured: Pairs, tmp_path: Any) -> None:
    """Steps the term never saw: captions of other pictures, and looks that are told one word more at a time."""
    seen, others = featured.take(range(60)), featured.take(range(60, 120))
    ladders = [
        ["a star", "a red star", "a small red star"],
        ["a circle", "a blue circle", "a large blue circle on the left"],
        ["a square", "a green square", "a green square above a star", "a green square above a small red star"],
        ["a blue thing", "a blue thing on the left"],
    ]
    shares = {}
    for weight in (0.0, 1.0):
        model = learned(seen, name, tmp_path, weight)
        told, by_hand = next(specificity(model, others))["value"], falling(model, ladders)
        assert by_hand is not None
        shares[weight] = told, 100 * by_hand[0]
    assert shares[1.0][0] > 85 and shares[1.0][1] > 70, shares
    assert shares[1.0][0] > shares[0.0][0] + 10, shares
