"""Batches of a run: features read for one step alone may be written over, those of a careful reader's memory never."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import manymatch as mm
from manymatch.data.features import Features
from manymatch.data.pairs import Item, Pairs
from manymatch.training import TrainConfig, train


class Held:
    """Features that stay in memory: one array for all, handed out as it is."""

    def __init__(self) -> None:
        self.vectors = np.random.default_rng(0).normal(size=(8, 3, 6)).astype(np.float32)

    def get(self, items: Sequence[Item]) -> Features:
        return Features(self.vectors[: len(items)])

    def sizes(self) -> dict[str, int]:
        return {"fragments": 3, "fragment_width": 6}


class Fresh(Held):
    """The same, copied for whoever asks."""

    fresh = True

    def get(self, items: Sequence[Item]) -> Features:
        return Features(self.vectors[: len(items)].copy())


@pytest.mark.parametrize("name", ["dive", "vsepp"])
def test_writing_over_a_batch_changes_no_run_and_nobodys_memory(tmp_path: Path, name: str) -> None:
    made = []
    for reader in (Held(), Fresh()):
        before = reader.vectors.copy()
        items = [Item(str(n), (f"a thing {n}", f"thing {n} again")) for n in range(8)]
        pairs = Pairs(items, features=reader)
        model = mm.method(name, dim=8, hidden=8, word_dim=8, batch=4, least_count=1, feature_dropout=0.3).build(pairs)
        out = tmp_path / f"{type(reader).__name__}"
        made.append(train(model, pairs, out=out, config=TrainConfig(epochs=2), say=None).fingerprint())
        assert np.array_equal(reader.vectors, before)
    assert made[0] == made[1]
