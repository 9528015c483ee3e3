"""Numbers of one run on the test split, by name, each with what images contribute to it; kept in a file."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...data.writing import whole_file
from ...errors import DataError
from ...evaluation.measures import Floats, Measure

__all__ = [
    "STATES",
    "Measured",
    "Quantity",
    "load_measured",
    "pack",
    "read_arrays",
    "save_measured",
    "unpack",
    "write_arrays",
]

STATES = ("raw", "bank")
"""Without and with the query bank."""

_FORMAT = 1
_KINDS = ("contributions", "drawn")


@dataclass(frozen=True)
class Quantity:
    """One number.

    Attributes:
        value: on all images.
        contributions: (n,) of the n images, which add up to it; None where it is no such sum.
        drawn: (b,) on each bootstrap sample of the images; None where images have no part in it.
    """

    value: float
    contributions: Floats | None = None
    drawn: Floats | None = None

    @classmethod
    def of(cls, measure: Measure, weights: Floats) -> Quantity:
        """With `weights` (b, n), how often each image was drawn."""
        return cls(measure.value, measure.contributions(weights.shape[1]), measure.drawn(weights))


@dataclass(frozen=True)
class Measured:
    """What was measured of one run in one state, with or without its query bank.

    Attributes:
        key: says of what: another key, other numbers.
        quantities: name -> number, names as tables and claims use them.
        notes: what was left out and why.
    """

    key: str
    quantities: Mapping[str, Quantity]
    notes: tuple[str, ...] = ()


def pack(found: Measured) -> tuple[dict[str, Any], dict[str, Any]]:
    """As plain facts for JSON, and as arrays with a row for each quantity that has one."""
    arrays: dict[str, Any] = {}
    for kind in _KINDS:
        rows = [getattr(each, kind) for each in found.quantities.values() if getattr(each, kind) is not None]
        arrays[kind] = np.stack(rows) if rows else np.zeros((0, 0))
    named = [
        (
            name,
            each.value if math.isfinite(each.value) else repr(each.value),
            each.contributions is not None,
            each.drawn is not None,
        )
        for name, each in found.quantities.items()
    ]
    return {"key": found.key, "notes": found.notes, "quantities": named}, arrays


def unpack(facts: Mapping[str, Any], arrays: Mapping[str, Any]) -> Measured:
    """What `pack` took apart. Raises KeyError, ValueError or StopIteration where it is damaged."""
    rows = {kind: iter(np.asarray(arrays[kind], np.float64)) for kind in _KINDS}
    quantities = {
        name: Quantity(
            float(value),
            next(rows["contributions"]) if summed else None,
            next(rows["drawn"]) if drawn else None,
        )
        for name, value, summed, drawn in facts["quantities"]
    }
    return Measured(facts["key"], quantities, tuple(facts["notes"]))


def write_arrays(path: Path, facts: Mapping[str, Any], arrays: Mapping[str, Any]) -> None:
    """A `.npz`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    said = np.frombuffer(json.dumps({"format": _FORMAT, **facts}).encode(), np.uint8)
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, facts=said, **arrays)


@contextmanager
def read_arrays(path: Path) -> Iterator[tuple[dict[str, Any], Mapping[str, Any]]]:
    """Facts and arrays of a file that `write_arrays` wrote.

    Raises:
        DataError: it is not there, or damaged, or of another format; whatever the block finds amiss comes as this too.
    """
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            facts = json.loads(bytes(file["facts"]))
            if facts["format"] != _FORMAT:
                raise ValueError(f"format {facts['format']}, expected {_FORMAT}")
            yield facts, file
    except (OSError, ValueError, KeyError, TypeError, StopIteration, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"study: {str(path)!r} cannot be read: {error}") from None


def save_measured(path: Path, found: Measured) -> None:
    """A `.npz`, whole or not at all."""
    write_arrays(path, *pack(found))


def load_measured(path: Path, key: str) -> Measured | None:
    """What was saved under this key; None where that is not there, of another key, or damaged."""
    try:
        with read_arrays(path) as (facts, arrays):
            return unpack(facts, arrays) if facts["key"] == key else None
    except DataError:
        return None
