"""Facts: metadata laid flat, so that filters, facets and groups are questions to an index of SQLite.

An item's fact is a field's name and one value; "a.b" is field b of the object a, a list gives one fact a member, and
labels are the field "labels". A caption of an image has no facts of its own: the image's are its own. An image, and a
caption without one, is the *subject* of its facts.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from ...data.scripts import characters
from ...errors import DataError
from ..filters import Condition, Value, Where, value_of
from .words import TOKENS, all_of

__all__ = [
    "ALONE",
    "SCHEMA",
    "delete_facts",
    "facet",
    "facts_of",
    "fields",
    "insert_facts",
    "json_rows",
    "passing",
    "row_array",
    "text_of",
    "values",
]

Array = np.ndarray[Any, Any]

_MANY = 500
"""Parameters in one statement: below the limit of any SQLite in use."""

_FEW = 8
"""One subject in so many captions, and looking its captions up is as quick as reading all of them."""

ALONE = "SELECT row FROM captions WHERE image IS NULL"
"""Rows of captions that are their own subjects."""

SCHEMA = f"""
CREATE TABLE facts (fact INTEGER PRIMARY KEY, name TEXT NOT NULL, value NOT NULL, row INTEGER NOT NULL);
CREATE INDEX facts_value ON facts (name, value, row);
CREATE INDEX facts_row ON facts (row, name);
CREATE VIEW fact_texts AS SELECT fact, value, row FROM facts WHERE typeof(value) = 'text';
CREATE VIRTUAL TABLE fact_words USING fts5 (
    value, content = 'fact_texts', content_rowid = 'fact', columnsize = 0, {TOKENS}
);
"""
"""Tables of facts. Who writes facts writes `fact_words` too: a trigger would have it flush after every one."""


def facts_of(metadata: Mapping[str, Any], labels: Sequence[str]) -> Iterable[tuple[str, Value]]:
    """Field and value of every fact, each once, in order; a value that no filter compares gives none.

    Raises:
        DataError: objects in objects in objects, a thousand deep or without an end.
    """
    flat = chain(_flat("", metadata), (("labels", label) for label in labels))
    try:
        return dict.fromkeys(flat)
    except RecursionError:
        raise DataError("metadata: objects lie too deep in each other; flatten them") from None


def _flat(prefix: str, value: object) -> Iterator[tuple[str, Value]]:
    # Most values are plain, and asking whether one is a mapping costs more than all the rest.
    if not isinstance(value, str | int | float) and isinstance(value, Mapping):
        for key, inner in value.items():
            name = key if isinstance(key, str) else json.dumps(key)
            yield from _flat(f"{prefix}.{name}" if prefix else name, inner)
    elif isinstance(value, list | tuple):
        for member in value:
            yield from _flat(prefix, member)
    elif (plain := value_of(value)) is not None:
        yield prefix, plain


def text_of(metadata: Mapping[str, Any], labels: Sequence[str]) -> str | None:
    """What words search reads of an image: the texts in its metadata and its labels, a line each; None for none."""
    if not metadata and not labels:
        return None
    return "\n".join(value for _, value in facts_of(metadata, labels) if isinstance(value, str)) or None


def insert_facts(connection: sqlite3.Connection, facts: Iterable[tuple[str, Value, int]]) -> None:
    """Store name, value and row of new items' facts."""
    (before,) = connection.execute("SELECT coalesce(max(fact), 0) FROM facts").fetchone()
    connection.executemany("INSERT INTO facts (name, value, row) VALUES (?, ?, ?)", facts)
    new = "SELECT fact, value FROM fact_texts WHERE fact > ? ORDER BY fact"
    connection.execute(f"INSERT INTO fact_words (rowid, value) {new}", (before,))


def delete_facts(connection: sqlite3.Connection, rows: str) -> None:
    """Delete the facts of the items at rows, given as `json_rows`."""
    among = "WHERE row IN (SELECT value FROM json_each(?))"
    old = f"SELECT 'delete', fact, value FROM fact_texts {among} ORDER BY fact"
    connection.execute(f"INSERT INTO fact_words (fact_words, rowid, value) {old}", (rows,))
    connection.execute(f"DELETE FROM facts {among}", (rows,))


# ---- filters


def passing(connection: sqlite3.Connection, modality: str, where: Where) -> Array:
    """Rows of the modality that pass, int64 ascending; a caption passes with its image."""
    if not where:
        return row_array(connection.execute("SELECT row FROM items WHERE modality = ? ORDER BY row", (modality,)))
    subjects = _subjects(connection, where)
    if not len(subjects):
        return subjects
    if modality == "image":
        return np.setdiff1d(subjects, _alone(connection), assume_unique=True)
    (last,) = connection.execute("SELECT coalesce(max(row), 0) FROM captions").fetchone()
    if len(subjects) > last / _FEW:
        captions, of = _captions(connection)
        return np.asarray(captions[np.isin(of, subjects)])
    query = "SELECT row FROM captions WHERE image IN (SELECT value FROM json_each(?))"
    owned = row_array(connection.execute(query, (json_rows(subjects),)))
    return np.union1d(owned, np.intersect1d(subjects, _alone(connection), assume_unique=True))


def _alone(connection: sqlite3.Connection) -> Array:
    """Rows of captions that are their own subjects, ascending."""
    return row_array(connection.execute(f"{ALONE} ORDER BY row"))


def _captions(connection: sqlite3.Connection) -> tuple[Array, Array]:
    """Rows of all captions, ascending, and of their subjects."""
    query = "SELECT row, coalesce(image, row) FROM captions ORDER BY row"
    pairs = row_array(connection.execute(query)).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _subjects(connection: sqlite3.Connection, where: Where) -> Array:
    """Rows that all conditions hold for, ascending."""
    out: Array | None = None
    missing = [c for c in where.conditions if c.kind == "exists" and not c.present]
    for condition in where.conditions:
        if condition not in missing:
            held = _holding(connection, condition)
            out = held if out is None else np.intersect1d(out, held, assume_unique=True)
            if not len(out):
                return out
    if out is None:
        query = "SELECT row FROM items WHERE modality = 'image' UNION ALL SELECT row FROM captions WHERE image IS NULL"
        out = np.unique(row_array(connection.execute(query)))
    for condition in missing:
        out = np.setdiff1d(out, _holding(connection, condition), assume_unique=True)
    return out


def _holding(connection: sqlite3.Connection, condition: Condition) -> Array:
    """Rows with a fact that fits, ascending; of "exists" those that have the field, whatever is wanted."""
    query, values = "SELECT row FROM facts WHERE name = ?", condition.values
    if condition.kind == "in":
        parts = [values[start : start + _MANY] for start in range(0, len(values), _MANY)]
        found = [
            row_array(connection.execute(f"{query} AND value IN ({_marks(part)})", (condition.field, *part)))
            for part in parts
        ]
        return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)
    if condition.kind == "range":
        bounds, values = _range(condition)
        query = f"{query} AND {bounds}"
    elif condition.kind == "text" and any(map(characters, condition.words)):
        # `fact_words` reads the values as users wrote them, where a run of Chinese is one word: looked for inside it.
        query += " AND typeof(value) = 'text'" + " AND instr(lower(value), ?)" * len(condition.words)
        values = tuple(word.lower() for word in condition.words)
    elif condition.kind == "text":
        query = """
            SELECT facts.row FROM fact_words CROSS JOIN facts ON facts.fact = fact_words.rowid
            WHERE facts.name = ? AND fact_words MATCH ?"""
        values = (all_of(condition.words),)
    return np.unique(row_array(connection.execute(query, (condition.field, *values))))


def _range(condition: Condition) -> tuple[str, tuple[Value, ...]]:
    signs = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
    bounds = [f"value {signs[name]} ?" for name, _ in condition.bounds]
    # SQLite sorts every number before every text, of which the empty one is the first.
    bounds.append("value >= ''" if isinstance(condition.bounds[0][1], str) else "value < ''")
    return " AND ".join(bounds), tuple(value for _, value in condition.bounds)


# ---- facets and groups


def fields(connection: sqlite3.Connection, modality: str | None) -> list[str]:
    """Names of all fields that some item of the modality has, in the order of letters."""
    of = {
        None: "",
        "image": "AND row NOT IN (SELECT row FROM captions WHERE image IS NULL)",
        "caption": "AND (row IN (SELECT image FROM captions) OR row IN (SELECT row FROM captions))",
    }[modality]
    query = f"""
        WITH RECURSIVE names (name) AS (
            SELECT min(name) FROM facts
            UNION ALL SELECT (SELECT min(name) FROM facts WHERE facts.name > names.name) FROM names WHERE name NOTNULL
        )
        SELECT name FROM names WHERE EXISTS (SELECT 1 FROM facts WHERE facts.name = names.name {of})"""
    return [name for (name,) in connection.execute(query)]


def values(connection: sqlite3.Connection, field: str, rows: Iterable[int]) -> list[list[Value]]:
    """The field's values of the items at `rows`, in their order, each as in the metadata; empty where it is missing."""
    query = """
        SELECT wanted.key, facts.value
        FROM json_each(?) AS wanted
        LEFT JOIN captions ON captions.row = wanted.value
        CROSS JOIN facts INDEXED BY facts_row
            ON facts.row = coalesce(captions.image, wanted.value) AND facts.name = ?
        ORDER BY wanted.key, facts.fact"""
    asked = json_rows(rows)
    out: list[list[Value]] = [[] for _ in json.loads(asked)]
    for place, value in connection.execute(query, (asked, field)):
        out[place].append(value)
    return out


def facet(
    connection: sqlite3.Connection, modality: str, field: str, rows: Array | None, limit: int
) -> list[tuple[Value, int]]:
    """Values of a field with the number of items that have each, the most frequent first, then in order of values.

    Args:
        rows: the items counted; None counts all of the modality.
        limit: how many values at most.
    """
    query = "SELECT value, count(*) FROM facts WHERE name = ? GROUP BY value ORDER BY value"
    groups = connection.execute(query, (field,)).fetchall()
    if not groups:
        return []
    holders = row_array(connection.execute("SELECT row FROM facts WHERE name = ? ORDER BY value", (field,)))
    group = np.repeat(np.arange(len(groups)), [count for _, count in groups])
    totals = np.bincount(group, _items_of(connection, holders, modality, rows)).astype(np.int64)
    order = np.argsort(-totals, kind="stable")[:limit]
    return [(groups[place][0], int(totals[place])) for place in order if totals[place]]


def _items_of(connection: sqlite3.Connection, subjects: Array, modality: str, rows: Array | None) -> Array:
    """How many items of the modality, or of `rows`, have each of the subjects: (n,)."""
    if modality == "image":
        return np.isin(subjects, _alone(connection), invert=True) if rows is None else np.isin(subjects, rows)
    captions, of = _captions(connection)
    if rows is not None:
        of = of[np.isin(captions, rows)]
    if not len(of):
        return np.zeros(len(subjects))
    known, counts = np.unique(of, return_counts=True)
    places = np.searchsorted(known, subjects).clip(max=len(known) - 1)
    return np.where(known[places] == subjects, counts[places], 0)


# ---- rows in and out of SQLite


def row_array(found: Iterable[tuple[int, ...]]) -> Array:
    """A cursor's integers as int64, row after row."""
    return np.fromiter(chain.from_iterable(found), np.int64)


def json_rows(rows: Iterable[int]) -> str:
    """Rows for `json_each`, which reads many more of them than a statement has parameters."""
    return json.dumps(rows.tolist() if isinstance(rows, np.ndarray) else [int(row) for row in rows])


def _marks(given: Sequence[Any]) -> str:
    return ", ".join("?" * len(given))
