"""What the diary says of a run's health: elements with a gradient, the hardest negatives, what a relation does."""

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
from manymatch.losses import Scores
from manymatch.similarity import SmoothChamfer
from manymatch.similarity.base import Role, Similarity
from manymatch.training import TrainConfig, train
from manymatch.training.health import batch_health, gradient_share, hardest_negative, health

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


def test_the_hardest_negative_is_the_best_that_does_not_match() -> None:
    scores = torch.tensor([[0.9, 0.2, 0.4], [0.8, 0.7, -0.3]])
    matches = torch.tensor([[True, False, False], [False, True, True]])
    expected = torch.tensor([0.4, 0.8, 0.8, 0.2, 0.4]).mean()
    assert hardest_negative(Scores.of(scores), matches) == pytest.approx(float(expected))
    assert hardest_negative(Scores.of(scores, scores.T - 1.0), matches) == pytest.approx(float(expected) - 3 / 5)
    # An image all of whose captions of the batch are right has no negative, and counts for nothing.
    everything = torch.tensor([[True, True, True], [False, True, True]])
    assert hardest_negative(Scores.of(scores), everything) == pytest.approx((0.8 + 0.8) / 2)
    assert hardest_negative(Scores.of(scores), torch.ones(2, 3, dtype=torch.bool)) is None


def test_a_batch_is_looked_at_as_at_search_and_changes_nothing(featured: Pairs) -> None:
    few = featured.take(range(32))
    model = mm.method("hrem", **SMALL, graph_start=0.0).build(few)
    assert model.relation is not None
    model.train()
    sampler = model.method.sampler()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    asleep = batch_health(model, few, sampler, seed=3)
    assert asleep.keys() == {"batch hardest negative"}
    model.relation.acted = 1
    seen = batch_health(model, few, sampler, seed=3)
    assert seen == batch_health(model, few, sampler, seed=3) != batch_health(model, few, sampler, seed=4)
    assert model.training and model.relation.acted == 1
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    rows = next(iter(sampler.epoch(few, seed=3, epoch=0)))
    images = model.encode_images(few.images.take(rows.images))
    texts = model.encode_texts([few.captions[n] for n in rows.captions])
    scores = model.similarity(images, texts)
    assert seen["batch hardest negative"] == pytest.approx(
        hardest_negative(Scores.of(scores), torch.as_tensor(rows.matches)), abs=1e-6
    )


def test_the_diary_tells_what_the_relations_of_hrem_do(featured: Pairs, tmp_path: Path) -> None:
    few = featured.take(range(32))
    rows = {}
    for name, fields in {"hrem": {}, "all": {"connections": False}, "noreg": {"regularisation": 0.0}}.items():
        method = mm.method("hrem", **SMALL, graph_start=0.0, **fields)
        out = tmp_path / name
        train(method.build(few), few, out=out, config=TrainConfig(epochs=1), say=lambda line: None)
        rows[name] = json.loads((out / "metrics.jsonl").read_text())
    for row in rows.values():
        assert -1 <= row["batch hardest negative"] <= 1 and -1 <= row["batch enhanced cosine"] <= 1
        assert row["batch relevance divergence"] >= 0
    assert "relevance" not in rows["noreg"]
    assert rows["all"]["batch attention entropy"] > rows["hrem"]["batch attention entropy"] + 0.5
