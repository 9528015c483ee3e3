"""Sections of the report page, a file each: what was gathered in, markup out."""

from __future__ import annotations

from .accuracy import accuracy
from .ambiguity import ambiguous
from .gaussians import gaussians
from .head import head
from .queries import examples, failures
from .relations import relations
from .sets import sets
from .speed import speed
from .training import training

__all__ = [
    "accuracy",
    "ambiguous",
    "examples",
    "failures",
    "gaussians",
    "head",
    "relations",
    "sets",
    "speed",
    "training",
]
