"""Filters as conditions of the server, which have to pass what a folder's filters pass.

A fact (a field and one value) lies in the payload three times, because the server compares by kind: `terms` has every
value as a tagged text, for equality, existence and facets (a float is never equal to anything there, and 1 is not 1.0);
`numbers` has the numbers, for ranges; `texts` has one object a text with its words, so that all words looked for are
found in the same one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from ..filters import Condition, Value, Where
from ..store.rows import Modality
from .api import models
from .words import folded

__all__ = ["any_of", "key", "number_path", "of", "passing", "term", "term_path", "value_of_term"]

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")


def key(field: str) -> str:
    """A field's key in the payload: a path to it can be quoted, which has no way to write a quotation mark."""
    return field.replace("%", "%25").replace('"', "%22") or "%"


def term_path(field: str) -> str:
    """Where its values lie as terms."""
    return _path("terms", field)


def number_path(field: str) -> str:
    """Where its numbers lie."""
    return _path("numbers", field)


def _path(kind: str, field: str) -> str:
    name = key(field)
    return f"{kind}.{name}" if _PLAIN.fullmatch(name) else f'{kind}."{name}"'


def term(value: Value) -> str:
    """A value as a text that equals another one's exactly where the values are equal."""
    if isinstance(value, str):
        return f"s:{value}"
    whole = isinstance(value, int) or value.is_integer()
    return f"n:{int(value)}" if whole else f"n:{value!r}"


def value_of_term(text: str) -> Value:
    """Inverse of `term`."""
    kind, value = text[0], text[2:]
    if kind == "s":
        return value
    return int(value) if re.fullmatch(r"-?\d+", value, re.ASCII) else float(value)


def any_of(field: str, values: Sequence[Any]) -> models.FieldCondition:
    """A payload field has one of these values."""
    return models.FieldCondition(key=field, match=models.MatchAny(any=list(values)))


def of(modality: Modality, which: models.Filter, points: Sequence[str] | None = None) -> models.Filter:
    """The same, of one modality and only of these points, where they are given."""
    must: list[Any] = [models.FieldCondition(key="modality", match=models.MatchValue(value=modality))]
    if points is not None:
        must.append(models.HasIdCondition(has_id=list(points)))
    return models.Filter(must=[*must, *_list(which.must)], must_not=which.must_not)


def passing(where: Where, texts: Callable[[str], list[str]]) -> models.Filter:
    """What passes, whatever its modality.

    Args:
        texts: gives the different texts that a field has.

    Raises:
        DataError: from `texts`.
    """
    must: list[Any] = []
    missing: list[Any] = []
    for condition in where.conditions:
        if condition.kind == "exists":
            absent = models.IsEmptyCondition(is_empty=models.PayloadField(key=term_path(condition.field)))
            (missing if condition.present else must).append(absent)
        else:
            must.append(_holds(condition, texts))
    return models.Filter(must=must or None, must_not=missing or None)


def _holds(condition: Condition, texts: Callable[[str], list[str]]) -> Any:
    field = condition.field
    if condition.kind == "in":
        return any_of(term_path(field), list(dict.fromkeys(map(term, condition.values))))
    if condition.kind == "text":
        words = [word for text in condition.words for word in folded(text)]
        same = models.FieldCondition(key="field", match=models.MatchValue(value=field))
        each = [models.FieldCondition(key="words", match=models.MatchValue(value=word)) for word in words]
        inner = models.Filter(must=[same, *each])
        return models.NestedCondition(nested=models.Nested(key="texts", filter=inner))
    limits = {name: bound for name, bound in condition.bounds if not isinstance(bound, str)}
    if limits:
        return models.FieldCondition(key=number_path(field), range=models.Range(**limits))
    # The server has no order of texts: those within the bounds are picked here and asked for by equality.
    bounds = {name: bound for name, bound in condition.bounds if isinstance(bound, str)}
    return any_of(term_path(field), [term(text) for text in texts(field) if _within(text, bounds)])


def _within(text: str, bounds: dict[str, str]) -> bool:
    tests = {"gt": text.__gt__, "gte": text.__ge__, "lt": text.__lt__, "lte": text.__le__}
    return all(tests[name](bound) for name, bound in bounds.items())


def _list(given: Any) -> list[Any]:
    return [] if given is None else list(given) if isinstance(given, list) else [given]
