"""Room 4: one file per similarity. File name = name; a new file needs no other edit."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from ..errors import UnknownName
from .base import Role, Similarity
from .cosine import Cosine
from .smooth_chamfer import SmoothChamfer, element_cosines

__all__ = [
    "Cosine",
    "Role",
    "Similarity",
    "SmoothChamfer",
    "element_cosines",
    "similarities",
    "similarity_class",
]


def similarities() -> list[str]:
    """Names of all similarities in this room."""
    return sorted(m.name for m in iter_modules(__path__) if m.name != "base")


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
