"""Every embedding kind survives being stored, ragged fragments included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from manymatch.embeddings import Boxes, Embedding, Fragments, Gaussians, GaussianSets, Points, Samples, Sets
from manymatch.index.local.vectors import Space, Vectors
from manymatch.index.store.packed import Packed
from manymatch.index.store.rows import Record
from manymatch.index.store.store import Store

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
        GaussianSets(some(4, 3, 8), some(4, 3)),
        Samples(some(4, 2, 8)),
        Gaussians(some(4, 8), some(4, 8)),
        Boxes(some(4, 8), some(4, 8)),
        Fragments(some(4, 5, 8) * valid[..., None], valid, some(4, 8)),
    ]


@pytest.mark.parametrize("precision", ["float16", "float32"])
@pytest.mark.parametrize("embedding", of_every_kind(), ids=lambda e: e.kind)
def test_stored_embeddings_come_back(tmp_path: Path, embedding: Embedding, precision: str) -> None:
    packed = Packed.of(embedding)
    space = Space.of(packed, precision)
    store = Store.create(tmp_path / "index.sqlite", {**SETTINGS, "precision": precision})
    with store.writing() as change:
        change.put("image", [Record(str(n), blob) for n, blob in enumerate(packed.blobs(precision))])
    path = tmp_path / "vectors-image.bin"
    with store.reading() as snapshot:
        Vectors.write(path, snapshot, "image", space)
        mapped, read = Vectors.open(path, space), Vectors.read(snapshot, "image", space)
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


def test_rows_that_came_later_are_read_behind_the_file(tmp_path: Path) -> None:
    embedding = of_every_kind()[0]
    packed = Packed.of(embedding)
    space, blobs = Space.of(packed, "float32"), packed.blobs("float32")
    store = Store.create(tmp_path / "index.sqlite", {**SETTINGS, "precision": "float32"})
    with store.writing() as change:
        change.put("image", [Record("a", blobs[0])])
    with store.reading() as snapshot:
        Vectors.write(tmp_path / "v", snapshot, "image", space)
    with store.writing() as change:
        change.put("image", [Record("b", blobs[1], bias_caption=0.5)])
    base = Vectors.open(tmp_path / "v", space)
    assert base is not None
    with store.reading() as snapshot:
        assert base.generation != snapshot.generation
        tail = Vectors.read(snapshot, "image", space, base.last)
        whole = Vectors.read(snapshot, "image", space)
    joined = Vectors.joined(base, tail)
    assert np.array_equal(joined.rows, whole.rows) and np.array_equal(joined.data, whole.data)
    assert np.array_equal(joined.biases, [[0.0, 0.5], [0.0, 0.0]])
    assert Vectors.open(tmp_path / "v", Space(space.kind, space.layout, "float16")) is None
