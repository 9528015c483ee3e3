"""Every embedding kind survives being stored, ragged fragments included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from manymatch.embeddings import Boxes, Embedding, Fragments, Gaussians, Points, Samples, Sets
from manymatch.index.rows import Record
from manymatch.index.store import Store
from manymatch.index.vectors import Space, Vectors

SETTINGS = {
    "fingerprint": "f",
    "similarity": "s",
    "model": "m",
    "precision": "float16",
    "engine": "auto",
    "agreement": 0.99,
}


def of_every_kind() -> list[Embedding]:
    draw = torch.Generator().manual_seed(0)

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw)

    valid = torch.arange(5)[None] < torch.tensor([3, 5, 1, 4])[:, None]
    return [
        Points(some(4, 8)),
        Sets(some(4, 3, 8)),
        Samples(some(4, 2, 8)),
        Gaussians(some(4, 8), some(4, 8)),
        Boxes(some(4, 8), some(4, 8)),
        Fragments(some(4, 5, 8) * valid[..., None], valid, some(4, 8)),
    ]


@pytest.mark.parametrize("precision", ["float16", "float32"])
@pytest.mark.parametrize("embedding", of_every_kind(), ids=lambda e: e.kind)
def test_stored_embeddings_come_back(tmp_path: Path, embedding: Embedding, precision: str) -> None:
    space = Space.of(embedding, precision)
    store = Store.create(tmp_path / "index.sqlite", {**SETTINGS, "precision": precision})
    with store.writing() as change:
        change.put("image", [Record(str(n), blob) for n, blob in enumerate(space.pack(embedding))])
    path = tmp_path / "vectors-image.bin"
    with store.reading() as snapshot:
        Vectors.write(path, snapshot, "image", precision)
        mapped, read = Vectors.open(path, snapshot.generation), Vectors.read(snapshot, "image", precision)
        first = space.unpack_one(snapshot.vector(1))
    assert mapped is not None and np.array_equal(mapped.data, read.data, equal_nan=True)
    assert np.array_equal(mapped.rows, read.rows)
    back = space.unpack(mapped.data)
    tolerance = 2e-3 if precision == "float16" else 0.0
    for name, value in embedding.tensors().items():
        torch.testing.assert_close(back.tensors()[name], value, atol=tolerance, rtol=0.0)
        torch.testing.assert_close(
            first.tensors()[name][0], back.tensors()[name][0][: len(first.tensors()[name][0])], atol=0.0, rtol=0.0
        )


def test_files_of_another_generation_are_not_opened(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "index.sqlite", SETTINGS)
    with store.reading() as snapshot:
        Vectors.write(tmp_path / "v", snapshot, "image", "float16")
        assert Vectors.open(tmp_path / "v", snapshot.generation) is not None
    assert Vectors.open(tmp_path / "v", "0-other") is None
