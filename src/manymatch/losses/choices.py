"""Words that settings of several losses take."""

from __future__ import annotations

from typing import Any, Literal, get_args

from ..errors import UnknownName

__all__ = ["Positives", "Reduction", "Siblings", "check_choice"]

Positives = Literal["matches", "diagonal"]
Siblings = Literal["masked", "negatives"]
Reduction = Literal["mean", "sum"]


def check_choice(kind: str, value: str, choices: Any) -> None:
    """Raises UnknownName, saying what kind of word it is, unless the value is one of a Literal."""
    if value not in get_args(choices):
        raise UnknownName(kind, value, get_args(choices))
