"""Whether sets are still sets: what the embeddings are like, whatever they were asked for."""

from __future__ import annotations

from collections.abc import Iterator

from ..embeddings import Embedding, Sets
from .report import Row, plain_row

__all__ = ["health"]


def health(images: Embedding, texts: Embedding) -> Iterator[Row]:
    """Natural log of the mean circular variance of each side's sets, minus infinity when collapsed (DivE's poster)."""
    for direction, items in (("i2i", images), ("t2t", texts)):
        if isinstance(items, Sets):
            value = items.log_circular_variance()
            yield plain_row("health", direction, "log circular variance", value, len(items), len(items))
