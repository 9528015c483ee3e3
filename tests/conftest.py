"""What many tests share: one torch thread, and a small world with features made from its pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from manymatch.data.features import Features
from manymatch.data.pairs import Item, Pairs

torch.set_num_threads(1)
# A test says what is true, not how fast: on a busy machine any example may be slow.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def feature_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where features of pretrained towers are kept where no test says otherwise: not in the user's cache."""
    folder = tmp_path_factory.mktemp("features")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MANYMATCH_STORE", str(folder))
        yield folder


class GridFeatures:
    """Mean colours of a 4 x 4 grid, each cell split in four: fragments (n, 16, 12), pooled (n, 48)."""

    def __init__(self, pairs: Pairs) -> None:
        self._rows = {}
        for n, item in enumerate(pairs.items):
            picture = np.asarray(pairs.images[n].convert("RGB").resize((8, 8)), np.float32) / 255.0
            cells = picture.reshape(4, 2, 4, 2, 3).transpose(0, 2, 1, 3, 4).reshape(16, 12)
            self._rows[item.id] = cells

    def get(self, items: Sequence[Item]) -> Features:
        vectors = np.stack([self._rows[item.id] for item in items])
        return Features(vectors, pooled=vectors.reshape(len(items), 4, 4, 12).mean(1).reshape(len(items), 48))

    def sizes(self) -> dict[str, int]:
        return {"fragments": 16, "fragment_width": 12, "pooled_width": 48}


@pytest.fixture(scope="session")
def world() -> Pairs:
    """120 toy pictures of 32 pixels with five captions each and every right answer known."""
    return Pairs.toy(120, seed=3, size=32)


@pytest.fixture(scope="session")
def featured(world: Pairs) -> Pairs:
    """The same world with precomputed features, as a run on frozen features sees it."""
    return Pairs(world.items, pictures=world.pictures, features=GridFeatures(world), truth=world.truth, name="featured")


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of real photographs and recorded outputs, where this machine has one."""
    folder = os.environ.get("MANYMATCH_REFERENCE")
    if not folder:
        pytest.skip("MANYMATCH_REFERENCE is not set: it names the folder of real photographs and recorded outputs")
    return Path(folder)
