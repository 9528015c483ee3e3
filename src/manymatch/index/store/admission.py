"""What may be stored: ids that are given once and to one item only, owners that are there, metadata that is JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ...errors import DataError
from .rows import Modality, Record

__all__ = ["Known", "admit", "encoded"]

Known = Mapping[str, tuple[int, Modality, str | None]]
"""id -> row, modality and owner of an item that is stored."""

_encode = json.JSONEncoder(allow_nan=False, ensure_ascii=False).encode


def admit(modality: Modality, records: Sequence[Record], known: Callable[[Iterable[str]], Known]) -> Known:
    """Those of the records' ids that are stored already, and are to be replaced.

    Args:
        known: what is stored under ids.

    Raises:
        DataError: an id twice, an id that is already another modality's or another image's, or an owner that is not an
            image of the index.
    """
    stored = known([record.id for record in records])
    seen: set[str] = set()
    for record in records:
        if record.id in seen:
            raise DataError(f"id {record.id!r} is given twice, expected every id once")
        seen.add(record.id)
    for record in records if stored else ():
        _, other, owner = stored.get(record.id, (0, modality, record.owner))
        if (other, owner) != (modality, record.owner):
            whose = f" of {owner!r}" if owner is not None else ""
            raise DataError(f"id {record.id!r} of a new {modality} is already that of the {other}{whose}; rename one")
    owners = {record.owner for record in records if record.owner is not None}
    images = {id for id, found in known(sorted(owners)).items() if found[1] == "image"}
    if owners - images:
        raise DataError(
            f"owner {min(owners - images)!r} of a caption is not an image of this index; add the image first"
        )
    return stored


def encoded(value: Any, what: str, name: str) -> str:
    """The value as JSON. Raises DataError, beginning with `what` and the name, for what JSON cannot hold."""
    try:
        return _encode(dict(value) if isinstance(value, Mapping) else value)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{what} {name!r}: {error}; expected what JSON can hold") from None
