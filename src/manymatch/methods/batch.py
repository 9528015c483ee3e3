"""What a training step sees, and beside it some items with much of them left out, for a term that asks for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.batches import Rows
from ..data.features import Features, Pixels
from ..data.shortening import shortened
from ..data.text import Tokens
from ..embeddings import Encoded
from ..encoders import ImageTower, TextTower
from ..losses import Containment

__all__ = ["Batch", "Part", "batch_of", "part_of_captions", "part_of_images"]

Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Part:
    """Some items of one modality of a batch, most of each left out.

    Attributes:
        rows: (m,), which items of the batch.
        inputs: what is left of them, as their tower reads it.
    """

    rows: Ints
    inputs: Features | Tokens


@dataclass(frozen=True)
class Batch:
    """What a training step sees: n_i images, n_c texts, and which match (i, c) bool.

    Attributes:
        rows: of the training pairs that these are, for terms that ask.
        image_part, caption_part: some of them with much left out, for a term that asks.
    """

    images: Features | Pixels
    texts: Tokens
    matches: Tensor
    rows: Rows | None = None
    image_part: Part | None = None
    caption_part: Part | None = None

    def parts(
        self, images: Encoded, texts: Encoded, image_tower: ImageTower, text_tower: TextTower
    ) -> Iterator[tuple[Encoded, Encoded]]:
        """Whole items of the encoded batch and, encoded now, what is left of them."""
        if self.image_part is not None:
            yield _taken(images, self.image_part.rows), image_tower(self.image_part.inputs)
        if self.caption_part is not None:
            yield _taken(texts, self.caption_part.rows), text_tower(self.caption_part.inputs)


def batch_of(
    images: Features | Pixels,
    captions: Sequence[str],
    rows: Rows,
    tower: TextTower,
    wanted: Containment | None,
    seed: Sequence[int],
) -> Batch:
    """A batch of images, and of these rows of all captions.

    Args:
        images: as their tower reads them.
        captions: of the training pairs.
        rows: of the training pairs.
        tower: of texts.
        wanted: the term that asks for items with much left out.
        seed: of what is left out.
    """
    said = [captions[int(c)] for c in rows.captions]
    batch = Batch(images, tower.prepare(said), torch.from_numpy(rows.matches), rows)
    if wanted is None:
        return batch
    draw = np.random.default_rng(seed)
    shown = part_of_images(images, wanted, draw)
    return replace(batch, image_part=shown, caption_part=part_of_captions(said, tower, wanted, draw))


def _chosen(items: int, wanted: Containment, draw: np.random.Generator) -> Ints:
    # Two at least: batch normalisation has nothing to say of one.
    many = min(items, max(2, round(wanted.chosen * items)))
    return np.sort(draw.permutation(items)[:many])


def part_of_images(images: Features | Pixels, wanted: Containment, draw: np.random.Generator) -> Part | None:
    """Images with a few of their fragments; None where they have no fragments to leave out.

    A pooled vector stays as it is: it is one of the whole image, and there is none of the part. So does the number of
    fragments, the missing ones being padding, for towers that expect as many as ever.
    """
    if isinstance(images, Pixels) or images.vectors is None or images.vectors.shape[1] < 2:
        return None
    rows = _chosen(len(images), wanted, draw)
    vectors = images.vectors[rows]
    real = np.full(len(rows), vectors.shape[1]) if images.lengths is None else np.asarray(images.lengths)[rows]
    lengths = np.maximum(1, np.rint((1.0 - wanted.left_out) * real)).astype(np.int64)
    places = np.arange(vectors.shape[1])
    fate = np.where(places < real[:, None], draw.random(vectors.shape[:2]), 2.0).argsort(axis=1).argsort(axis=1)
    # Those that stay come first, in their order.
    order = np.where(fate < lengths[:, None], places, places + len(places)).argsort(axis=1)
    kept = np.take_along_axis(vectors, order[..., None], axis=1)
    kept[places >= lengths[:, None]] = 0.0
    return Part(rows, Features(kept, lengths, None if images.pooled is None else images.pooled[rows]))


def part_of_captions(
    captions: Sequence[str], tower: TextTower, wanted: Containment, draw: np.random.Generator
) -> Part | None:
    """Captions with a few of their words; None where there is none."""
    if not captions:
        return None
    rows = _chosen(len(captions), wanted, draw)
    left = [shortened(captions[row], (1.0 - wanted.left_out,), draw)[0] for row in rows]
    return Part(rows, tower.prepare(left))


def _taken(items: Encoded, rows: Ints) -> Encoded:
    """The items at these rows, without their fragments."""
    return Encoded(items.embedding[rows], tensors={name: value[rows] for name, value in (items.tensors or {}).items()})
