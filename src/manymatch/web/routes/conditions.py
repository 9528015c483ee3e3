"""Conditions on metadata as they are asked for: in the short form of a query string, and as JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema

from ...errors import DataError, UnknownName
from ...index.filters import Where, parse_where, read_where

__all__ = ["CONDITION", "LONGEST", "MOST", "WhereForms", "WhereObject"]

MOST, LONGEST = 32, 1000
"""Conditions that must hold together, and characters of each."""

_NAME = r"\s*[^\s=<>~!][^=<>~!]*"
_MEMBER = r"\s*[^\s|][^|]*"
CONDITION = (
    "^("
    rf"\s*(!\s*)?{_NAME}"
    rf"|{_NAME}=\s*[^\s|=<>~][^|]*(\|{_MEMBER})*"
    rf"|{_NAME}~(?=[\s\S]*[^\W_])\s*[^\s=<>~][\s\S]*"
    rf"|{_NAME}[<>]=?\s*(?![\s\S]*(&|\band\b))[^\s=<>~][\s\S]*"
    r")$"
)
"""What `parse_where` takes, for those who read the schema."""

_CONDITION = re.compile(CONDITION)

_TEXT = r"[^\W_]"


def _forms(forms: list[str]) -> Where:
    for form in forms:
        if not _CONDITION.search(form):
            raise DataError(f"where {form!r}: {_why_not(form)}")
    return parse_where(forms)


def _why_not(form: str) -> str:
    try:
        parse_where([form])
    except DataError as error:
        return str(error).partition(": ")[2]
    return "no condition of a known form; write year>=2000, tag=dog|cat or title~snow"


def _structured(where: dict[str, Any]) -> Where:
    if len(where) > MOST:
        raise DataError(f"where: {len(where)} fields, expected at most {MOST}")
    for field, wanted in where.items():
        words = wanted.get("text") if isinstance(wanted, Mapping) else None
        if isinstance(words, str) and len(words) > LONGEST:
            raise DataError(f"where: {len(words)} characters for {field!r}, expected at most {LONGEST}")
    try:
        return read_where(where)
    except UnknownName as error:
        # An operator, not something that an index could have.
        raise DataError(str(error)) from None


_SCALAR = {
    "anyOf": [
        {"type": "string"},
        {"type": "number", "minimum": -1.7e308, "maximum": 1.7e308},
        {"type": "boolean"},
    ]
}
_NUMERIC = {"anyOf": _SCALAR["anyOf"][1:]}
_WORDS = {"type": "string", "pattern": _TEXT, "maxLength": LONGEST}
_ONE_OF = {"anyOf": [*_SCALAR["anyOf"], {"type": "array", "items": _SCALAR}]}


def _operators(bound: Mapping[str, Any]) -> dict[str, Any]:
    others = {"in": _ONE_OF, "exists": {"type": "boolean"}, "text": _WORDS}
    bounds = dict.fromkeys(("gt", "gte", "lt", "lte"), bound)
    return {"type": "object", "properties": bounds | others, "additionalProperties": False, "minProperties": 1}


_STRUCTURED = {
    "type": "object",
    "description": "conditions on metadata that must all hold: a value, a list of values (one of), or operators",
    "propertyNames": {"minLength": 1},
    "maxProperties": MOST,
    "additionalProperties": {"anyOf": [*_ONE_OF["anyOf"], _operators(_NUMERIC), _operators({"type": "string"})]},
    "examples": [{"year": {"gte": 2000}, "tag": ["dog", "cat"], "title": {"text": "snow"}}],
}
_CONDITIONS_FORM = {
    "type": "array",
    "items": {"type": "string", "pattern": CONDITION, "maxLength": LONGEST},
    "maxItems": MOST,
    "description": "conditions on metadata that must all hold: year>=2000 (>, <, <=), tag=dog, tag=dog|cat (one of), "
    "title~snow (words), note (exists), !note (does not)",
}

WhereForms = Annotated[
    list[Annotated[str, Field(max_length=LONGEST)]],
    Field(max_length=MOST),
    AfterValidator(_forms),
    WithJsonSchema(_CONDITIONS_FORM),
]
WhereObject = Annotated[dict[str, Any], AfterValidator(_structured), WithJsonSchema(_STRUCTURED)]
