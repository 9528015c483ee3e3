"""What is asked: every parameter and field with its bounds, told once for the query string, JSON and OpenAPI."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
)
from pydantic_core import from_json

from ...errors import DataError
from ..problems import Refused
from ..settings import Settings
from .conditions import WhereForms, WhereObject

__all__ = ["Asked", "Body", "Parameters"]

ID_LENGTH = 4096
_NAME_LENGTH = 256
_FIELDS = 16
_PARAMETERS = 256

_CONFIG = ConfigDict(extra="forbid", strict=True, regex_engine="python-re")
"""Python's own regular expressions: its blanks are those that the index strips."""

# ---- the table


def _nothing() -> None:
    """Not given; as a factory, because a default of null would be in the schema."""


def _whole(value: object) -> object:
    # 24.0 is a whole number in JSON.
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]
Name = Annotated[str, Field(min_length=1, max_length=_NAME_LENGTH)]


def _table(settings: Settings) -> dict[str, tuple[Any, Any]]:
    """Name -> type and field of everything a search can be asked."""

    most = settings.most
    query = Annotated[str, Field(min_length=1, max_length=settings.query_length, pattern=r"\S")]

    def words(description: str) -> tuple[Any, Any]:
        return query, Field(default_factory=_nothing, description=description)

    def item(description: str) -> tuple[Any, Any]:
        return str, Field(default_factory=_nothing, description=description, min_length=1, max_length=ID_LENGTH)

    def choice(description: str, kind: Any = bool, **bounds: Any) -> tuple[Any, Any]:
        return kind, Field(default_factory=_nothing, description=description, **bounds)

    return {
        "q": words("what to look for, in words"),
        "query": words("what to look for, in words"),
        "queries": (list[query], Field(min_length=1, max_length=settings.queries, description="each in words")),
        "like": item("in place of words, the id of an item to start from"),
        "unlike": words("words that the results shall not be like"),
        "unlike_item": item("the id of an item that the results shall not be like"),
        "among": choice("what to search; images unless told", Literal["images", "captions"]),
        "k": (Whole, Field(min(24, most), ge=1, le=most, description="how many hits")),
        "offset": (Whole, Field(0, ge=0, le=settings.deepest, description="how many hits to pass over first")),
        "exact": choice("score every item; the index decides unless told"),
        "confident": choice("only items that are right with at least this probability", float, ge=0, le=1),
        "bank": choice("whether the items' biases take part in the order; where there are any unless told"),
        "hybrid": (bool, Field(False, description="fuse with a search by the query's words (BM25)")),
        "diverse": choice("from 0, as unlike each other as can be, to 1, plain order", float, ge=0, le=1),
        "group_by": choice("a metadata field; the hits are the best of each value", Name),
        "per_group": (
            Whole,
            Field(min(3, most), ge=1, le=most, description="hits shown at most of each group and meaning"),
        ),
        "facets": (list[Name], Field([], max_length=_FIELDS, description="metadata fields to count the values of")),
        "meanings": (bool, Field(False, description="also what the query could mean, each with examples")),
        "explain": (bool, Field(False, description="also which elements of query and item matched")),
    }


_HOW = (
    "among",
    "k",
    "offset",
    "exact",
    "confident",
    "bank",
    "diverse",
    "group_by",
    "per_group",
    "facets",
    "meanings",
    "explain",
)
_AWAY = ("unlike", "unlike_item")

# ---- reading


class Parameters:
    """The query string of a route. Anything but its parameters is refused, as is one given twice that is not a list.

    Attributes:
        openapi: the parameters, as OpenAPI lists them.
    """

    def __init__(self, fields: Mapping[str, tuple[Any, Any]]) -> None:
        self._model = create_model("Parameters", __config__=_CONFIG, **dict(fields))  # type: ignore[call-overload]
        told = self._model.model_json_schema()
        required = told.get("required", ())
        self.openapi = [_parameter(n, dict(s), n in required) for n, s in told.get("properties", {}).items()]
        self._read: dict[str, Callable[[str], object]] = {
            name: _READERS.get(schema.get("type", ""), str) for name, schema in told.get("properties", {}).items()
        }
        self._lists = {name for name, schema in told.get("properties", {}).items() if schema.get("type") == "array"}

    def read(self, query: bytes) -> dict[str, Any]:
        """Checked values by name; those left out have their default, or are not there.

        Raises:
            DataError: a parameter that does not exist, or a value that cannot be.
            Refused: 400, no query string.
        """
        return _checked(self._model, self._values(query)) if query or self._model.model_fields else {}

    def _values(self, query: bytes) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for name, text in _pairs(query):
            if name not in self._read:
                # Passed over in silence, a filter that is not there would look like one that everything passes.
                raise DataError(f"unknown parameter {name!r}, known: {', '.join(sorted(self._read)) or 'none'}")
            if name in self._lists:
                values.setdefault(name, []).append(text)
            elif name in values:
                raise DataError(f"{name}: given twice, expected it once")
            else:
                values[name] = self._read[name](text)
        return values


class Body:
    """A JSON object. Raises as `Parameters`; what is no JSON is refused with 400."""

    def __init__(self, title: str, fields: Mapping[str, tuple[Any, Any]], relations: Mapping[str, Any]) -> None:
        config = _CONFIG | ConfigDict(json_schema_extra=dict(relations))
        self._model = create_model(title, __config__=config, **dict(fields))  # type: ignore[call-overload]
        self.schema = self._model.model_json_schema()

    def read(self, body: bytes) -> dict[str, Any]:
        return _checked(self._model, body)

    def read_field(self, name: str, text: str) -> dict[str, Any]:
        """One of its fields, from JSON that came as the text of a form. Raises DataError."""
        try:
            value = from_json(text)
        except ValueError as error:
            raise DataError(f"{name}: no JSON: {error}") from None
        return _checked(self._model, {name: value})


class Asked:
    """Everything that searches can be asked, within the limits of these settings.

    Attributes:
        search, image, elements, nothing: query strings.
        body, many, session: JSON bodies; `where` is one with conditions alone.
    """

    def __init__(self, settings: Settings) -> None:
        table = _table(settings)
        how = {name: table[name] for name in _HOW}
        away = {name: table[name] for name in _AWAY}
        forms = {"where": (WhereForms, Field(default_factory=_nothing))}
        structured = {"where": (WhereObject, Field(default_factory=_nothing))}
        hybrid = {"hybrid": table["hybrid"]}
        by_words = {name: table[name] for name in ("q", "like")}
        by_field = {name: table[name] for name in ("query", "like")}
        alone = {"not": {"anyOf": [{"required": ["unlike", "unlike_item"]}, _GROUPED]}}
        one = {"oneOf": [{"required": ["query"]}, {"required": ["like"]}]}
        self.search = Parameters(by_words | away | how | hybrid | forms)
        self.image = Parameters(away | how | forms)
        self.elements = Parameters({"q": (table["q"][0], Field(description=table["q"][1].description))})
        self.nothing = Parameters({})
        self.body = Body("SearchBody", by_field | away | how | hybrid | structured, one | alone)
        self.many = Body("ManyBody", {"queries": table["queries"]} | how | hybrid | structured, {"not": _GROUPED})
        self.where = Body("WhereBody", structured, {})
        key = Field(min_length=1, max_length=500, description="a key made by `manymatch key new`")
        self.session = Body("SessionBody", {"key": (str, key)}, {})


_GROUPED = {"required": ["diverse", "group_by"]}


def _checked(model: type[BaseModel], given: Mapping[str, Any] | bytes) -> dict[str, Any]:
    try:
        made = model.model_validate_json(given) if isinstance(given, bytes) else model.model_validate(given)
    except ValidationError as error:
        raise _refusal(error) from None
    return {name: value for name, value in made if value is not None}


def _refusal(error: ValidationError) -> Exception:
    told = error.errors(include_url=False, include_context=False, include_input=False)
    if told[0]["type"] == "json_invalid":
        return Refused(400, "BadRequest", f"the body is no JSON: {told[0]['msg'].removeprefix('Invalid JSON: ')}")
    parts = [f"{'.'.join(map(str, one['loc'])) or 'body'}: {_said(one)}" for one in told[:5]]
    return DataError("; ".join(parts))


def _said(one: Mapping[str, Any]) -> str:
    return "no such field" if one["type"] == "extra_forbidden" else str(one["msg"])


# ---- the query string


def _pairs(query: bytes) -> Iterable[tuple[str, str]]:
    try:
        text = query.decode("ascii")
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_PARAMETERS)
    except UnicodeDecodeError:
        raise Refused(400, "BadRequest", "the query string is not percent-encoded UTF-8") from None
    except ValueError:
        raise Refused(400, "BadRequest", f"more than {_PARAMETERS} parameters in the query string") from None


_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_DECIMAL = re.compile(r"[+-]?([0-9]{1,100}(\.[0-9]{0,100})?|\.[0-9]{1,100})([eE][+-]?[0-9]{1,3})?")


def _integer(text: str) -> object:
    return int(text) if _INTEGER.fullmatch(text) else text


def _decimal(text: str) -> object:
    return float(text) if _DECIMAL.fullmatch(text) else text


def _boolean(text: str) -> object:
    return {"true": True, "false": False}.get(text, text)


_READERS: Mapping[str, Callable[[str], object]] = {"integer": _integer, "number": _decimal, "boolean": _boolean}


def _parameter(name: str, schema: dict[str, Any], required: bool) -> dict[str, Any]:
    told = {"name": name, "in": "query", "required": required, "schema": schema}
    description = schema.pop("description", None)
    schema.pop("title", None)
    return told | ({"description": description} if description else {})
