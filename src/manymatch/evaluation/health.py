"""Whether sets are still sets: what the embeddings are like, whatever they were asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..data.matches import Matches
from ..embeddings import Embedding, Sets
from .report import Row, plain_row

__all__ = ["closest_elements", "health", "slots_in_use"]

Ints = np.ndarray[Any, np.dtype[np.int64]]

_AT_ONCE = 512
"""Matches whose elements are compared together."""


def health(images: Embedding, texts: Embedding, matches: Matches | None = None) -> Iterator[Row]:
    """How spread the sets of each side are and, given matches, how many of their elements are ever used.

    "log circular variance": natural log of the mean circular variance, minus infinity when collapsed (DivE's poster).
    "winning elements": percent of all elements of that side that are one of the two closest of at least one match. An
    item with m matches has at most m winners, so a caption of one image at most one of its k.
    "effective slots": percent of the k places of a set that wins are spread over, see `slots_in_use`.

    Args:
        images, texts: of one model; other kinds than sets have no rows.
        matches: (i, c), usually own captions.
    """
    sides = (("i2i", images), ("t2t", texts))
    if isinstance(images, Sets) and isinstance(texts, Sets) and matches is not None and len(matches):
        slots = closest_elements(images, texts, matches)
        owners = matches.images, matches.captions
    else:
        slots = None
    for place, (direction, items) in enumerate(sides):
        if not isinstance(items, Sets):
            continue
        rows = {"log circular variance": items.log_circular_variance()}
        if slots is not None:
            k = items.elements.shape[1]
            won = len(np.unique(owners[place] * k + slots[place]))
            rows["winning elements"] = 100.0 * won / (len(items) * k)
            rows["effective slots"] = 100.0 * slots_in_use(slots[place], k)
        for metric, value in rows.items():
            yield plain_row("health", direction, metric, value, len(items), len(items))


def closest_elements(images: Sets, texts: Sets, matches: Matches) -> tuple[Ints, Ints]:
    """The closest pair of elements of each matching image (i, k, d) and caption (c, l, d), by cosine.

    Returns:
        Which element of the image (p,) and of the caption (p,), from 0; of equally close pairs the first, so that a
        collapsed set has one winner and not k.
    """
    k, other = images.elements.shape[1], texts.elements.shape[1]
    found = [np.zeros(0, np.int64)]
    with torch.inference_mode():
        for start in range(0, len(matches), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            cosines = torch.bmm(
                images[matches.images[part]].elements, texts[matches.captions[part]].elements.transpose(1, 2)
            )
            found.append(cosines.reshape(-1, k * other).float().numpy().argmax(axis=1))
    best = np.concatenate(found)
    return best // other, best % other


def slots_in_use(slots: Ints, k: int) -> float:
    """Over how many of k slots wins are spread, as a share: the exponential of their entropy, by k.

    1 when every slot wins equally often, 1 / k when one slot wins always.
    """
    share = np.bincount(slots, minlength=k) / len(slots)
    share = share[share > 0]
    return math.exp(float(-(share * np.log(share)).sum())) / k
