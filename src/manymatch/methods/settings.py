"""The numbers of a method or a config: types and ranges checked in words, texts of `--set` read as values."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from ..errors import DataError, Error, UnknownName

__all__ = ["change", "check_ranges", "check_value", "hints_of"]


def hints_of(cls: type) -> dict[str, Any]:
    """Field name -> type, class variables left out."""
    return {k: v for k, v in get_type_hints(cls).items() if get_origin(v) is not ClassVar}


def check_value(owner: str, name: str, value: Any, hints: Mapping[str, Any]) -> None:
    """Raises DataError unless `value` is of the field's type."""
    if not _fits(value, hints[name]):
        raise DataError(f"{owner}.{name}: found {value!r} ({type(value).__name__}), expected {_say(hints[name])}")


def check_ranges(owner: str, holder: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Raises DataError unless every number of the dataclass that has a range lies in it."""
    for name, (low, high) in ranges.items():
        value = getattr(holder, name, None)
        if value is not None and not low <= value <= high:
            end = "" if math.isinf(high) else f" and at most {high:g}"
            raise DataError(f"{owner}.{name}: found {value!r}, expected at least {low:g}{end}")


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if hint is Any:
        return True
    if origin is Literal:
        return any(value == allowed and type(value) is type(allowed) for allowed in get_args(hint))
    if origin in (Union, types.UnionType):
        return any(_fits(value, h) for h in get_args(hint))
    if origin is tuple:
        item = get_args(hint)[0]
        return isinstance(value, tuple) and all(_fits(v, item) for v in value)
    if origin is not None:
        return True
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and value == value
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _say(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(repr(a) for a in get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_say(h) for h in get_args(hint))
    if get_origin(hint) is tuple:
        return f"{_say(get_args(hint)[0])}, or several with commas between them"
    return {float: "a number", int: "a whole number", bool: "true or false", str: "text", type(None): "none"}.get(
        hint, getattr(hint, "__name__", str(hint))
    )


def change(owner: str, cls: type, settings: Mapping[str, str | Any]) -> dict[str, Any]:
    """Texts of `--set field=value` as values of a dataclass's field types; values that are no text pass unchanged.

    Raises:
        UnknownName: no such field; offers the nearest.
        DataError: a value that is not of the field's type.
    """
    hints, out = hints_of(cls), {}
    known = [f.name for f in fields(cls)]
    for name, value in settings.items():
        if name not in known:
            raise UnknownName(f"field of {owner}", name, known)
        out[name] = _parse(value, hints[name]) if isinstance(value, str) else value
        check_value(owner, name, out[name], hints)
        if float in (hints[name], *get_args(hints[name])) and isinstance(out[name], int):
            out[name] = float(out[name])
    return out


def _parse(text: str, hint: Any) -> Any:
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    for option in options:
        try:
            if option is type(None) and text.lower() in ("none", "null"):
                return None
            if option is bool and text.lower() in ("true", "false", "yes", "no", "1", "0"):
                return text.lower() in ("true", "yes", "1")
            if get_origin(option) is tuple:
                return tuple(_parse(part.strip(), get_args(option)[0]) for part in text.split(","))
            if option is int:
                return int(text)
            if option is float:
                return float(text)
        except (ValueError, Error):
            continue
    return text
