"""A relation adds pairs to score and penalties while training, acts from its start on, and is not stored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from manymatch.data.pairs import Pairs
from manymatch.embeddings import Encoded, Points
from manymatch.methods import Batch, Model
from manymatch.methods.vsepp import VSEpp
from manymatch.relations import Related, Relation
from manymatch.training import TrainConfig, train


class Turned(Relation):
    """Scores a learned rotation of the images too, and asks it to stay near the identity."""

    def __init__(self, dim: int, start: float) -> None:
        super().__init__(start)
        self.turn = nn.Linear(dim, dim, bias=False)

    def forward(self, images: Encoded, texts: Encoded, matches: Tensor) -> Related:
        assert isinstance(images.embedding, Points)
        turned = Points(self.turn(images.embedding.vectors))
        drift = (self.turn.weight - torch.eye(len(self.turn.weight))).square().mean()
        return Related([("turned", turned, texts.embedding)], {"drift": (0.5, drift)})


@dataclass(frozen=True, kw_only=True)
class Related_(VSEpp):
    """The control with a relation."""

    start: ClassVar[float] = 0.5

    def relation(self) -> Relation:
        return Turned(self.dim, self.start)


SMALL = {"dim": 16, "word_dim": 8, "hidden": 8, "batch": 16, "least_count": 1, "dropout": 0.0, "feature_dropout": 0.0}


def first_batch(model: Model, pairs: Pairs) -> Batch:
    rows = next(iter(model.method.sampler().epoch(pairs, seed=0, epoch=0)))
    return model.batch(pairs, rows.images, rows.captions, rows.matches)


def test_it_acts_from_its_start_on(featured: Pairs) -> None:
    model = Related_(**SMALL).build(featured).eval()
    batch = first_batch(model, featured)
    model.advance(4, 10)
    before = model.training_step(batch)
    model.advance(5, 10)
    after = model.training_step(batch)
    assert set(after) - set(before) == {"turned infonce", "drift"}
    torch.testing.assert_close(after["loss"], before["loss"] + after["turned infonce"] + 0.5 * after["drift"])
    assert model.relation is not None and model.relation.acted == 1


def test_nothing_of_it_is_needed_to_search(featured: Pairs) -> None:
    model = Related_(**SMALL).build(featured).eval()
    assert any(key.startswith("relation.") for key in model.state_dict())
    assert not any(key.startswith("relation.") for key in model.search_state())
    before, mark = model.encode_images(featured.images[:4]), model.fingerprint()
    with torch.no_grad():
        model.relation.turn.weight.zero_()  # type: ignore[union-attr, operator]
    assert torch.equal(before.tensors()["vectors"], model.encode_images(featured.images[:4]).tensors()["vectors"])
    assert model.fingerprint() == mark


@pytest.mark.parametrize("start", [0.5, 1.0])
def test_a_run_in_which_it_never_acted_says_so(
    featured: Pairs, tmp_path: Path, start: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Related_, "start", start)
    told: list[str] = []
    few = featured.take(range(32))
    best = train(Related_(**SMALL).build(few), few, out=tmp_path, config=TrainConfig(epochs=2), say=told.append)
    assert any("the relation never acted" in line for line in told) == (start == 1.0)
    assert best.notes["relation acted"] == (0 if start == 1.0 else 2)
