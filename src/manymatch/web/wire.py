"""What a `Client` sends, and what it makes of the answers: JSON to the classes of an index, and to errors."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..data.decoding import PictureError
from ..data.pictures import FolderPictures
from ..errors import DataError, Error, IndexMismatch, UnknownName
from ..index import Hit, Results
from ..index.answers.asking import Options, modality_of
from ..index.answers.results import Group, Meant
from ..index.filters import Condition, Where, parse_where, read_where

if TYPE_CHECKING:
    import httpx

__all__ = [
    "ServerError",
    "body_of",
    "encoded",
    "error_of",
    "forms",
    "no_such",
    "not_ours",
    "path_of",
    "results_of",
    "seconds",
    "structured",
]

_SIGNS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_UNKNOWN = re.compile(
    r"unknown (?P<kind>.+?) (?P<name>'.*?'|\".*?\"): (?:did you mean .*?\? )?known: (?P<known>.*)", re.S
)


class ServerError(Error):
    """The server refused, or failed, for a reason that is not one of the data.

    Attributes:
        status: of the HTTP answer.
        type: "Unauthorized", "Forbidden", "TooLarge", "TooManyRequests", "Overloaded" and so on, as docs/serve.md lists
            them; "NotManymatch" where what answered is something else.
    """

    def __init__(self, message: str, status: int, type: str) -> None:
        super().__init__(message)
        self.status, self.type = status, type

    def __reduce__(self) -> tuple[object, ...]:
        return (type(self), (str(self), self.status, self.type))


# ---- what is sent


def body_of(options: Options, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked and how, less what goes without saying. Raises DataError, UnknownName."""
    if isinstance(options.facets, str):
        raise DataError(f"search: facets is the string {options.facets!r}, expected a list of fields")
    modality_of(asked["among"])
    usual = asdict(Options())
    body = {name: value for name, value in asdict(options).items() if name == "k" or value != usual[name]}
    # Numbers of other libraries are none in JSON.
    body |= {name: float(body[name]) for name in ("confident", "diverse") if name in body}
    return body | {name: value for name, value in asked.items() if value is not None}


def structured(where: Where) -> dict[str, dict[str, Any]] | None:
    """Conditions as `read_where` takes them; None where one mapping cannot hold them."""
    out: dict[str, dict[str, Any]] = {}
    for condition in where.conditions:
        out.setdefault(condition.field, {}).update(_operators(condition))
    return out if set(read_where(out).conditions) == set(where.conditions) else None


def forms(where: Where) -> list[str] | None:
    """Conditions as `parse_where` takes them; None where there are no such forms."""
    out = [form for condition in where.conditions for form in _forms(condition)]
    try:
        return out if set(parse_where(out).conditions) == set(where.conditions) else None
    except DataError:
        return None


def no_such(where: Where) -> DataError:
    return DataError(f"where: conditions that cannot be sent together, found {len(where.conditions)}; give a mapping")


def _forms(condition: Condition) -> list[str]:
    field = condition.field
    if condition.kind == "in":
        # Of text that looks like a number the form means the number besides.
        return [f"{field}={'|'.join(value for value in condition.values if isinstance(value, str))}"]
    if condition.kind == "exists":
        return [field if condition.present else f"!{field}"]
    if condition.kind == "text":
        return [f"{field}~{' '.join(condition.words)}"]
    return [f"{field}{_SIGNS[name]}{value}" for name, value in condition.bounds]


def _operators(condition: Condition) -> dict[str, Any]:
    if condition.kind == "in":
        return {"in": list(condition.values)}
    if condition.kind == "exists":
        return {"exists": condition.present}
    return dict(condition.bounds) if condition.kind == "range" else {"text": " ".join(condition.words)}


def encoded(picture: Any, asked: str = "search", called: str = "query") -> tuple[str, bytes]:
    """Name and bytes to send. Raises DataError."""
    from PIL import Image

    if isinstance(picture, str | Path):
        path = Path(picture)
        return path.name, FolderPictures(path.parent).read(path.name)
    if not isinstance(picture, Image.Image):
        raise DataError(f"{asked}: {called} is {type(picture).__name__}, expected a path or a PIL image")
    out = io.BytesIO()
    pixels = picture.convert("RGB")
    # What is left of EXIF would turn the picture on the server, where `Index.search` takes it as it lies.
    pixels.info = {}
    pixels.save(out, "PNG", compress_level=1)
    return "picture.png", out.getvalue()


def path_of(id: str, part: str = "") -> str:
    """Below the address, as the page writes it. Raises DataError."""
    if not isinstance(id, str) or not id:
        raise DataError(f"id is {id!r}, expected the id of an item")
    try:
        sent = quote(id, safe="-_.!~*'()")
    except UnicodeEncodeError:
        raise DataError(f"id {id!r} is not valid Unicode; mend it") from None
    # On the way, "." and ".." would be taken for folders.
    return f"api/items/{sent if id.strip('.') else sent.replace('.', '%2E')}{part}"


# ---- what comes back


def results_of(body: Mapping[str, Any]) -> Results:
    made: dict[str, Any] = {**body, "hits": _hits(body["hits"]), "notes": tuple(body["notes"])}
    if body.get("groups") is not None:
        made["groups"] = tuple(Group(group["value"], _hits(group["hits"])) for group in body["groups"])
    if body.get("meanings") is not None:
        made["meanings"] = tuple(_meant(one) for one in body["meanings"])
    if body.get("facets") is not None:
        made["facets"] = {
            name: [(found["value"], found["count"]) for found in counted] for name, counted in body["facets"].items()
        }
    return Results(**_known(Results, made))


def _hits(found: Sequence[Mapping[str, Any]]) -> tuple[Hit, ...]:
    return tuple(Hit(**_known(Hit, hit)) for hit in found)


def _meant(found: Mapping[str, Any]) -> Meant:
    words = None if found["words"] is None else tuple(found["words"])
    return Meant(words, tuple(found["elements"]), found["share"], found["count"], _hits(found["hits"]))


def _known(kind: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a class of ours has a place for: a newer server may say more."""
    return {field.name: given[field.name] for field in fields(kind) if field.name in given}


def seconds(answer: httpx.Response) -> float | None:
    """How long the server asks to wait, where it does, in seconds; a date is not ours."""
    told = answer.headers.get("Retry-After", "")
    return float(told) if re.fullmatch(r"\d{1,6}", told, re.ASCII) else None


def error_of(url: str, answer: httpx.Response) -> Error:
    """What an answer other than 200 says, as the class that `Index` would raise."""
    try:
        said = answer.json()["error"]
        kind, message = str(said["type"]), str(said["message"])
    except (ValueError, TypeError, KeyError):
        return not_ours(url, answer)
    if kind == "UnknownName":
        return _unknown(message)
    if kind == "PictureError":
        return PictureError("unreadable picture", message)
    known: dict[str, type[Error]] = {"DataError": DataError, "IndexMismatch": IndexMismatch}
    return known[kind](message) if kind in known else ServerError(message, answer.status_code, kind)


def _unknown(message: str) -> UnknownName:
    found = _UNKNOWN.fullmatch(message)
    kind, name, known = found.group("kind", "name", "known") if found else ("name", "", "")
    error = UnknownName(kind, name[1:-1], [] if known == "none" else known.split(", "))
    # Names may hold what parts them here; the words stay the server's.
    error.args = (message,)
    return error


def not_ours(url: str, answer: httpx.Response) -> ServerError:
    moved = answer.headers.get("Location")
    hint = f"it points to {moved}; give that address" if moved else "is that the address of `manymatch serve`?"
    message = f"{url}: answered {answer.status_code}, but not as manymatch does; {hint}"
    return ServerError(message, answer.status_code, "NotManymatch")
