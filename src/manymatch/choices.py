"""Words that settings of several rooms take."""

from __future__ import annotations

from typing import Any, Literal, get_args

from .errors import UnknownName

__all__ = ["Mode", "check_choice", "check_mode"]

Mode = Literal["paper", "released"]
"""What the paper evidently means, or what the authors' code does where it departs from that."""


def check_choice(kind: str, value: str, choices: Any) -> None:
    """Raises UnknownName, saying what kind of word it is, unless the value is one of a Literal."""
    if value not in get_args(choices):
        raise UnknownName(kind, value, get_args(choices))


def check_mode(mode: str) -> None:
    """Raises UnknownName unless it is a `Mode`."""
    check_choice("mode", mode, Mode)
