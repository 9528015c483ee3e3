"""How many elements of matching sets get a gradient: sparse under the maximum, all under Smooth-Chamfer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

import manymatch as mm
from manymatch.data.pairs import Pairs
from manymatch.embeddings import Sets
from manymatch.similarity import SmoothChamfer
from manymatch.similarity.base import Role, Similarity
from manymatch.training import TrainConfig, train
from manymatch.training.health import gradient_share, health

SMALL = {"dim": 16, "word_dim": 12, "hidden": 8, "batch": 16, "least_count": 1}


class Closest(Similarity):
    """The closest pair of elements."""

    kinds: ClassVar[tuple[str, ...]] = ("sets",)
    symmetric: ClassVar[bool] = False

    def forward(self, queries: Sets, gallery: Sets) -> Tensor:
        return torch.einsum("qkd,gld->qgkl", queries.elements, gallery.elements).flatten(2).amax(dim=2)

    def proxy(self, embedding: Sets, role: Role) -> None:
        return None


def sets(seed: int, elements: int) -> Sets:
    vectors = torch.randn(5, elements, 8, generator=torch.Generator().manual_seed(seed))
    return Sets(torch.nn.functional.normalize(vectors, dim=-1))


@pytest.mark.parametrize("elements", [1, 2, 4, 7])
def test_the_maximum_teaches_one_element_a_side(elements: int) -> None:
    assert gradient_share(Closest(), sets(0, elements), sets(1, elements)) == pytest.approx(2 / (2 * elements))
    assert gradient_share(SmoothChamfer(16.0), sets(0, elements), sets(1, elements)) == 1.0
    assert gradient_share(Closest(), sets(0, 2), sets(1, 6)) == pytest.approx(2 / 8)


def test_what_was_encoded_for_searching_can_be_asked() -> None:
    with torch.inference_mode():
        images, texts = sets(0, 4), sets(1, 4)
    assert gradient_share(Closest(), images, texts) == pytest.approx(0.25)


def test_it_is_logged_for_sets_alone(featured: Pairs, tmp_path: Path) -> None:
    few, told = featured.take(range(32)), list[str]()
    assert health(mm.method("vsepp", **SMALL).build(few), few) == {}
    train(mm.method("dive", **SMALL).build(few), few, out=tmp_path, config=TrainConfig(epochs=1), say=told.append)
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["elements with gradient"] == 1.0
    assert any("elements with gradient 100%" in line for line in told)
