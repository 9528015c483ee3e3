"""Filters on metadata: from Python or from the command line to checked conditions. What stores do with them is theirs.

A field may have several values (a list); a condition holds when it holds for any of them. Numbers are compared with
numbers and text with text (ISO dates by their letters); a number and a text never match.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal

from ..errors import DataError, UnknownName
from .store.words import split_words

__all__ = ["Condition", "Value", "Where", "parse_where", "read_where", "value_of"]

Value = str | int | float

_BOUNDS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_OPERATORS = (*_BOUNDS, "in", "exists", "text")

_FORMS = "year>=2000 (>, <, <=), tag=dog, tag=dog|cat (one of), title~snow (words), note (exists), !note (does not)"
_FORM = re.compile(r"(?P<field>[^=<>~!]+)(?P<sign>>=|<=|>|<|=|~)(?P<value>.*)", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_TRUTHS = {"true": 1, "false": 0}


@dataclass(frozen=True)
class Condition:
    """What one field has to be.

    Attributes:
        field: its name; inside a nested object "outer.inner".
        kind: "in" (equal to one of `values`), "range" (within `bounds`), "exists" (as `present` says),
            "text" (every one of `words` occurs in one value, in any order, case and accents aside).
        values: of "in".
        bounds: of "range", operator ("gt", "gte", "lt", "lte") and value, all numbers or all text.
        present: of "exists", False when the field has to be missing.
        words: of "text".
    """

    field: str
    kind: Literal["in", "range", "exists", "text"]
    values: tuple[Value, ...] = ()
    bounds: tuple[tuple[str, Value], ...] = ()
    present: bool = True
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Where:
    """Conditions that must all hold; without any, everything passes."""

    conditions: tuple[Condition, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.conditions)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that are asked about, each once, except those that have to be missing."""
        wanted = (c.field for c in self.conditions if c.kind != "exists" or c.present)
        return tuple(dict.fromkeys(wanted))


def value_of(value: object) -> Value | None:
    """A value as filters compare it: a bool is 0 or 1; None for what is neither text nor a finite number."""
    if isinstance(value, (bool, int)):
        # SQLite's integers have 64 bits; beyond them a float is near enough, on both sides of a comparison.
        return int(value) if -(2**63) <= value < 2**63 else _finite(value)
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, str):
        return value
    if isinstance(value, Integral):
        return value_of(int(value))
    return _finite(float(value)) if isinstance(value, Real) else None


def _finite(value: float) -> float | None:
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def read_where(where: Mapping[str, Any] | Where | None) -> Where:
    """Conditions from their Python form: field -> value, list of values, or {operator: value, ...}.

    Operators are gt, gte, lt, lte, in, exists (True or False) and text: `{"year": {"gte": 2000}, "tag": ["dog", "cat"],
    "note": {"exists": True}, "title": {"text": "snow"}}`.

    Raises:
        DataError: not a mapping, or a value that a condition cannot have.
        UnknownName: an operator that does not exist.
    """
    if where is None or isinstance(where, Where):
        return where or Where()
    if not isinstance(where, Mapping):
        raise DataError(f'where is {where!r}, expected a mapping such as {{"year": {{"gte": 2000}}}}')
    out: list[Condition] = []
    for field, wanted in where.items():
        if not isinstance(field, str) or not field:
            raise DataError(f"where: field {field!r}, expected a name that is not empty")
        _unicode(field)
        out += _read_operators(field, wanted if isinstance(wanted, Mapping) else {"in": wanted})
    return Where(tuple(out))


def _read_operators(field: str, operators: Mapping[str, Any]) -> Iterable[Condition]:
    if not operators:
        raise DataError(f"where: {field!r} is {{}}, expected at least one of {', '.join(_OPERATORS)}")
    bounds: dict[str, Value] = {}
    for name, given in operators.items():
        if name not in _OPERATORS:
            raise UnknownName(f"operator of field {field!r}", str(name), _OPERATORS)
        if name in _BOUNDS:
            bounds[name] = _value(field, given)
        elif name == "in":
            many = isinstance(given, Sequence | set | frozenset) and not isinstance(given, str)
            yield Condition(field, "in", values=tuple(_value(field, v) for v in (given if many else [given])))
        elif name == "exists":
            if not isinstance(given, bool):
                raise DataError(f"where: exists of {field!r} is {given!r}, expected True or False")
            yield Condition(field, "exists", present=given)
        else:
            yield _text(field, given)
    if bounds:
        yield _range(field, bounds)


def _range(field: str, bounds: Mapping[str, Value]) -> Condition:
    if len({isinstance(value, str) for value in bounds.values()}) > 1:
        raise DataError(f"where: {field!r} is bounded by {dict(bounds)}, expected numbers only or text only")
    return Condition(field, "range", bounds=tuple(bounds.items()))


def _value(field: str, given: object) -> Value:
    value = value_of(given)
    if value is None:
        hint = '; write {"exists": False} for a field that is missing' if given is None else ""
        raise DataError(f"where: {field!r} is compared with {given!r}, expected text, a number or a bool{hint}")
    return _unicode(value) if isinstance(value, str) else value


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"where: {text!r} is not valid Unicode; mend it") from None
    return text


def _text(field: str, given: object) -> Condition:
    words = split_words(given) if isinstance(given, str) else []
    if not words:
        raise DataError(f"where: the text looked for in {field!r} is {given!r}, expected at least one word")
    return Condition(field, "text", words=tuple(words))


def parse_where(forms: Iterable[str]) -> Where:
    """Conditions from the command line, all of which must hold.

    The forms are `year>=2000` (also >, <, <=), `tag=dog`, `tag=dog|cat`, `title~snow`, `note` and `!note`. What looks
    like a number is one. Equality holds for the text as well, and true and false for bools: `code=007` finds "007"
    and 7.

    Raises:
        DataError: a condition of no known form.
    """
    return Where(tuple(_parse(form) for form in forms))


def _parse(form: str) -> Condition:
    _unicode(form)
    negated, name = form.strip().startswith("!"), form.strip().removeprefix("!").strip()
    found = _FORM.fullmatch(name)
    if found is None or negated:
        if not name or re.search("[=<>~!]", name):
            raise DataError(f"--where {form!r}: no condition of a known form; write {_FORMS}")
        return Condition(name, "exists", present=not negated)
    field, sign, value = found["field"].strip(), found["sign"], found["value"].strip()
    if not value or value[0] in "=<>~":
        wrong = f"found {value!r} after {sign!r}" if value else f"nothing after {sign!r}"
        raise DataError(f"--where {form!r}: {wrong}; write {_FORMS}")
    if sign == "~":
        return _text(field, value)
    if sign != "=":
        name = next(name for name, written in _BOUNDS.items() if written == sign)
        number = _number(value)
        if number is None and re.search(r"&|\band\b", value):
            raise DataError(f"--where {form!r}: one comparison each; repeat --where, and all must hold")
        return _range(field, {name: value if number is None else number})
    members = [member.strip() for member in value.split("|")]
    if not all(members):
        raise DataError(f"--where {form!r}: nothing beside a '|'; write {_FORMS}")
    return Condition(field, "in", values=tuple(v for member in members for v in _meanings(member)))


def _number(text: str) -> int | float | None:
    if not _NUMBER.fullmatch(text):
        return None
    whole = re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII)
    number = value_of(int(text) if whole else float(text))
    return None if isinstance(number, str) else number


def _meanings(text: str) -> list[Value]:
    number = _TRUTHS.get(text.lower(), _number(text))
    return [text] if number is None else [text, number]
