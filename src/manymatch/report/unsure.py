"""How much an item may mean, by its own embedding."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..embeddings import Embedding

__all__ = ["ambiguity", "ambiguity_name"]

Floats = np.ndarray[Any, np.dtype[np.float64]]

_NAMES = {
    "sets": "circular variance",
    "gaussian_sets": "mean total variance",
    "gaussians": "mean log-variance",
    "samples": "variance of the draws",
    "boxes": "half the mean side",
}


def ambiguity(embedding: Embedding) -> Floats | None:
    """(n,), higher may mean more; None for a kind that says nothing of it."""
    found = embedding.ambiguity()
    return None if found is None else np.asarray(found.double())


def ambiguity_name(embedding: Embedding) -> str:
    """What that number is, for an axis."""
    return _NAMES.get(embedding.kind, f"ambiguity of {embedding.kind}")
