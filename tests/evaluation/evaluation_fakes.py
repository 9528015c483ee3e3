"""A similarity and a model small enough to know every score in advance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from manymatch.data.pairs import Item, Pairs
from manymatch.embeddings import Embedding, Points


class Dot:
    """Inner product, exact for small whole numbers. `lean` makes it depend on who asks."""

    def __init__(self, lean: float = 0.0) -> None:
        self.lean, self.symmetric = lean, lean == 0.0
        self.shapes: list[tuple[int, int]] = []

    def __call__(self, queries: Points, gallery: Points) -> Tensor:
        self.shapes.append((len(queries), len(gallery)))
        return queries.vectors @ gallery.vectors.T + self.lean * gallery.vectors[:, 0]


class FakeModel:
    """Embeddings looked up by what is encoded: images by row, texts by row; beyond the last the first ones again."""

    def __init__(
        self,
        images: Embedding,
        texts: Embedding,
        similarity: object = None,
        name: str = "fake",
        reads: str = "features",
    ) -> None:
        self.kept = {"images": images, "texts": texts}
        self.similarity = similarity or Dot()
        self.name, self.image_input = name, reads
        self.summary = f"{name}: made up"
        self.seen: dict[str, int] = {}
        self.notes: dict[str, object] = {}
        self.device = torch.device("cpu")

    def encode_images(self, images: Sequence[object], *, batch_size: int = 256, progress=None) -> Embedding:
        return self._encode("images", len(images), batch_size, progress)

    def encode_texts(self, texts: Sequence[str], *, batch_size: int = 256, progress=None) -> Embedding:
        return self._encode("texts", len(texts), batch_size, progress)

    def _encode(self, what: str, count: int, batch_size: int, progress) -> Embedding:
        self.seen[what] = count
        for start in range(0, count, batch_size):
            if progress is not None:
                progress(min(batch_size, count - start))
        kept = self.kept[what]
        return kept[np.arange(count) % len(kept)]


def made_pairs(captions: Sequence[int], **more: object) -> Pairs:
    """Image n has `captions[n]` captions."""
    items = [Item(f"i{n}", tuple(f"caption {n} {m}" for m in range(count))) for n, count in enumerate(captions)]
    return Pairs(items, name="made", **more)


def one_hot(owner: np.ndarray, images: int) -> tuple[Points, Points]:
    """A perfect model: every caption lies on its image."""
    eye = torch.eye(images)
    return Points(eye), Points(eye[torch.from_numpy(owner)])
