"""Numbers of one run on the test split, by name, each with what images contribute to it; kept in a file."""

from __future__ import annotations

import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...data.writing import whole_file
from ...evaluation.measures import Floats, Measure

__all__ = ["Measured", "Quantity", "load_measured", "save_measured"]

_FORMAT = 1


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


def save_measured(path: Path, found: Measured) -> None:
    """A `.npz`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {"facts": np.frombuffer(json.dumps(_facts(found)).encode(), np.uint8)}
    for kind in ("contributions", "drawn"):
        rows = [getattr(each, kind) for each in found.quantities.values() if getattr(each, kind) is not None]
        arrays[kind] = np.stack(rows) if rows else np.zeros((0, 0))
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def _facts(found: Measured) -> dict[str, object]:
    named = [
        (
            name,
            each.value if math.isfinite(each.value) else repr(each.value),
            each.contributions is not None,
            each.drawn is not None,
        )
        for name, each in found.quantities.items()
    ]
    return {"format": _FORMAT, "key": found.key, "notes": found.notes, "quantities": named}


def load_measured(path: Path, key: str) -> Measured | None:
    """What was saved under this key; None where that is not there, of another key, or damaged."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            facts = json.loads(bytes(file["facts"]))
            if facts["format"] != _FORMAT or facts["key"] != key:
                return None
            rows = {kind: iter(file[kind]) for kind in ("contributions", "drawn")}
            quantities = {
                name: Quantity(
                    float(value),
                    next(rows["contributions"]) if summed else None,
                    next(rows["drawn"]) if drawn else None,
                )
                for name, value, summed, drawn in facts["quantities"]
            }
    except (OSError, ValueError, KeyError, StopIteration, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    return Measured(key, quantities, tuple(facts["notes"]))
