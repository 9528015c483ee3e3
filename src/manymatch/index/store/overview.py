"""What the fields of the images hold, each told in a few numbers: for whoever offers filters."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..filters import Value
from .facts import ALONE, json_rows

__all__ = ["MOST_FIELDS", "MOST_VALUES", "FieldSeen", "all_bool", "overview", "seen"]

Kind = Literal["number", "text", "boolean", "mixed"]

MOST_VALUES = 30
"""Values of a field that are told."""

MOST_FIELDS = 200
"""Fields that are told, those with most to tell."""

_LOOKED_AT = 100
"""Items with a 0, and with a 1, that are looked at to know truths from numbers: facts hold both as numbers."""


@dataclass(frozen=True)
class FieldSeen:
    """One metadata field of the images.

    Attributes:
        kind: "mixed" where values are of several sorts.
        items: images that have it.
        low, high: of a field of numbers, the least and the largest; None where they are not known.
        values: the most frequent with the number of images that have each, then in the order of values; truths are
            bools.
    """

    name: str
    kind: Kind
    items: int
    low: float | None
    high: float | None
    values: tuple[tuple[Value, int], ...]

    def to_json(self) -> dict[str, Any]:
        """JSON of a field in `Index.fields`."""
        values = [{"value": value, "count": count} for value, count in self.values]
        return {**vars(self), "values": values}


def seen(
    name: str,
    items: int,
    values: Sequence[tuple[Value, int]],
    bounds: tuple[float, float] | None,
    kinds: Iterable[bool],
    truths: bool,
) -> FieldSeen:
    """What a field is, by what it holds.

    Args:
        values: the most frequent, with their counts.
        bounds: of its numbers, where they are known.
        kinds: for every sort of value it has, whether that is text.
        truths: whether its numbers are bools.
    """
    sorts = set(kinds)
    kind: Kind = "mixed" if len(sorts) > 1 else "text" if True in sorts else "boolean" if truths else "number"
    if truths:
        values = [(value if isinstance(value, str) else bool(value), count) for value, count in values]
    low, high = bounds if kind == "number" and bounds is not None else (None, None)
    return FieldSeen(name, kind, items, low, high, tuple(values))


def overview(connection: sqlite3.Connection) -> list[FieldSeen]:
    """The fields that images have, in the order of letters; of very many those of the most facts."""
    query = "SELECT name FROM facts GROUP BY name ORDER BY count(*) DESC, name LIMIT ?"
    names = sorted(name for (name,) in connection.execute(query, (MOST_FIELDS,)))
    (lone,) = connection.execute(f"SELECT EXISTS ({ALONE})").fetchone()
    several = f"""
        SELECT name, sum(facts - 1) FROM (
            SELECT name, count(*) AS facts FROM facts INDEXED BY facts_row
            GROUP BY row, name HAVING facts > 1 AND row NOT IN ({ALONE}))
        GROUP BY name"""
    more = dict(connection.execute(several).fetchall())
    found = (_Field(connection, name, bool(lone)).seen(more.get(name, 0)) for name in names)
    return [field for field in found if field is not None]


class _Field:
    """Questions to one field.

    Args:
        lone: whether there are captions without an image, which may have it too.
    """

    def __init__(self, connection: sqlite3.Connection, name: str, lone: bool) -> None:
        self._connection, self._name = connection, name
        self._own = f"FROM facts WHERE name = ? {f'AND row NOT IN ({ALONE})' if lone else ''}"

    def _asked(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, (self._name, *values)).fetchall()

    def seen(self, more: int) -> FieldSeen | None:
        """None where only captions without an image have it.

        Args:
            more: values that images have of it beyond their first.
        """
        ((facts,),) = self._asked(f"SELECT count(*) {self._own}")
        if not facts:
            return None
        query = f"SELECT value, count(*) AS items {self._own} GROUP BY value ORDER BY items DESC, value LIMIT ?"
        values, bounds = self._asked(query, MOST_VALUES), self._bounds()
        kinds = {False} if bounds else set()
        if self._asked(f"SELECT 1 {self._own} AND value >= '' LIMIT 1"):
            kinds.add(True)
        # Between 0 and 1 lie more numbers than these two.
        few = bounds is not None and bounds[0] >= 0 and bounds[1] <= 1
        truths = few and {value for value, _ in values if not isinstance(value, str)} <= {0, 1} and self._truths()
        return seen(self._name, facts - more, values, bounds, kinds, truths)

    def _bounds(self) -> tuple[float, float] | None:
        """The least and the largest number. SQLite sorts every number before every text, of which '' is the first."""
        found = [
            self._asked(f"SELECT value {self._own} AND value < '' ORDER BY value {order} LIMIT 1")
            for order in ("ASC", "DESC")
        ]
        return (found[0][0][0], found[1][0][0]) if found[0] else None

    def _truths(self) -> bool:
        """Whether the first items with a 0 and with a 1 have them as false and true."""
        rows = [
            row
            for value in (0, 1)
            for (row,) in self._asked(f"SELECT row {self._own} AND value = ? LIMIT ?", value, _LOOKED_AT)
        ]
        query = "SELECT metadata FROM items WHERE row IN (SELECT value FROM json_each(?))"
        found = self._connection.execute(query, (json_rows(rows),))
        return all(all_bool(json.loads(told), self._name) for (told,) in found)


def all_bool(metadata: Mapping[str, Any], name: str) -> bool:
    """Whether no value of the field is a number."""
    return not any(_numbers("", metadata, name))


def _numbers(prefix: str, value: object, name: str) -> Iterable[bool]:
    """One for each value of the field: whether it is a number. Fields are laid flat as in `facts_of`."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(f"{prefix}.{key}" if prefix else key, inner, name)
    elif isinstance(value, list):
        for member in value:
            yield from _numbers(prefix, member, name)
    elif prefix == name:
        yield isinstance(value, int | float) and not isinstance(value, bool)
