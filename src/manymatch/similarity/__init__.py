"""Room 4: one file per similarity. File name = name; a new file needs no other edit."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from ..errors import UnknownName
from .assignment import Assignment
from .base import Probabilistic, Role, Similarity
from .box_distance import BoxDistance
from .chamfer import Chamfer
from .cosine import Cosine
from .element_probability import ElementProbability
from .gaussian_chamfer import GaussianChamfer
from .mahalanobis import Mahalanobis
from .match_probability import MatchProbability
from .mil import Mil
from .order import Order
from .sample_products import SampleProducts
from .sampled_match_probability import SampledMatchProbability
from .smooth_chamfer import SmoothChamfer, element_cosines

__all__ = [
    "Assignment",
    "BoxDistance",
    "Chamfer",
    "Cosine",
    "ElementProbability",
    "GaussianChamfer",
    "Mahalanobis",
    "MatchProbability",
    "Mil",
    "Order",
    "Probabilistic",
    "Role",
    "SampleProducts",
    "SampledMatchProbability",
    "Similarity",
    "SmoothChamfer",
    "element_cosines",
    "similarities",
    "similarity_class",
]

_NOT_SIMILARITIES = {"base", "pairwise"}


def similarities() -> list[str]:
    """Names of all similarities in this room."""
    return sorted(m.name for m in iter_modules(__path__) if m.name not in _NOT_SIMILARITIES)


def similarity_class(name: str) -> type[Similarity]:
    """The similarity of that file name. Raises UnknownName."""
    if name not in similarities():
        raise UnknownName("similarity", name, similarities())
    module: Any = import_module(f".{name}", __name__)
    return next(
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Similarity) and value.__module__ == module.__name__
    )
