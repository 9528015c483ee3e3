"""A study read from its TOML file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...errors import DataError, UnknownName
from .plan import TESTED, Claim, DataFiles, Plan, Row
from .tables import Table, read_toml

__all__ = ["read_plan"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,80}")


def read_plan(path: str | Path) -> Plan:
    """A study from its TOML file.

    Raises:
        DataError: a key that is missing or holds something else than it should, by file and key.
        UnknownName: a key or a row that does not exist.
    """
    table = read_toml(path)
    table.knows("title", "about", "data", "seeds", "protocols", "row", "claim", "against", "tested", "runs", "set")
    seeds, shared = _seeds(table, (0,)), _settings(table)
    rows = tuple(_row(each, seeds, shared) for each in table.tables("row"))
    if not rows:
        raise DataError(f"study: {str(table.file)!r} has no [[row]], expected one or more")
    _expect_once(table, "called", [row.name for row in rows])
    _expect_once(table, "titled", [row.title for row in rows])
    _expect_order(table, rows)
    against = table.get("against", str)
    if against is not None:
        _known(table, "against", against, rows)
    plan = Plan(
        table.file,
        table.get("title", str, table.file.stem),
        table.get("about", str, ""),
        _data(table.table("data")),
        rows,
        table.several("protocols", str),
        against,
        table.several("tested", str, TESTED),
        tuple(_claim(each, rows) for each in table.tables("claim")),
        table.get("runs", str, "runs"),
    )
    plan.runs  # noqa: B018 - raises where a row lacks a seed of what it is made of
    return plan


def _data(table: Table) -> DataFiles:
    table.knows("path", "images", "features", "pooled", "truth", "field", "format")
    table.need("path", str)
    path = table.path("path")
    assert path is not None
    images, features, pooled = (table.path(key) for key in ("images", "features", "pooled"))
    more = table.settings("field"), table.get("format", str)
    return DataFiles(path, images, features, pooled, table.paths("truth"), *more)


def _row(table: Table, seeds: tuple[int, ...], shared: Mapping[str, str]) -> Row:
    table.knows(
        *("name", "title", "method", "set", "seeds", "image_tower", "text_tower", "pictures"),
        *("join", "dim", "weights", "ensemble", "measure"),
    )
    name = table.need("name", str)
    if not _NAME.fullmatch(name):
        raise table.wrong("name", name, "letters, digits and . _ + = -, as of a folder")
    kinds = [kind for kind in ("method", "join", "ensemble") if table.has(kind)]
    if len(kinds) != 1:
        raise table.wrong("", " and ".join(kinds) or "none of them", "one of method, join, ensemble")
    method, join, ensemble = table.get("method", str), table.several("join", str), table.several("ensemble", str)
    if not method and len(join or ensemble) < 2:
        raise table.wrong(kinds[0], list(join or ensemble), "two rows or more")
    settings = _settings(table)
    if method is None and settings:
        raise table.wrong("set", settings, "settings only where a method is trained")
    options = ["--dim", str(table.get("dim", int))] if table.has("dim") else []
    for weight in table.several("weights", float):
        options += ["--weight", f"{weight:g}"]
    if options and not join:
        raise table.wrong("dim" if table.has("dim") else "weights", options, "it only beside join")
    return Row(
        name,
        table.get("title", str, name),
        _seeds(table, seeds),
        method,
        {} if method is None else {**shared, **settings},
        table.get("image_tower", str),
        table.get("text_tower", str),
        table.get("pictures", bool, False),
        join,
        tuple(options),
        ensemble,
        table.several("measure", str),
    )


def _settings(table: Table) -> dict[str, str]:
    settings = table.settings("set")
    if "seed" in settings:
        raise table.wrong("set.seed", settings["seed"], "seeds = [...] of the row or of the study")
    return settings


def _seeds(table: Table, default: Sequence[int]) -> tuple[int, ...]:
    seeds: tuple[int, ...] = table.several("seeds", int, default)
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise table.wrong("seeds", list(seeds), "whole numbers of at least 0, each once")
    return seeds


def _claim(table: Table, rows: Sequence[Row]) -> Claim:
    table.knows("name", "text", "source", "better", "worse", "above", "metric", "bank", "margin", "within", "note")
    better, worse, above = table.need("better", str), table.get("worse", str), table.get("above", float)
    _known(table, "better", better, rows)
    if worse is not None:
        _known(table, "worse", worse, rows)
    if (worse is None) == (above is None):
        raise table.wrong("", "both or neither", "either worse, a row, or above, a number")
    margin, within = table.get("margin", float), table.get("within", float)
    for key, value in (("margin", margin), ("within", within)):
        if value is not None and value <= 0:
            raise table.wrong(key, value, "a number above 0")
    if margin is not None and within is not None:
        raise table.wrong("within", within, "it without margin")
    return Claim(
        table.need("name", str),
        table.need("text", str),
        table.get("source", str, ""),
        better,
        worse,
        above,
        table.get("metric", str, "RSUM"),
        table.get("bank", bool, False),
        margin,
        within,
        table.get("note", str, ""),
    )


def _known(table: Table, key: str, name: str, rows: Sequence[Row]) -> None:
    names = [row.name for row in rows]
    if name not in names:
        raise UnknownName(f"row in {table.file.name}, {table.name(key)}:", name, names)


def _expect_once(table: Table, how: str, names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        what = {"called": "names", "titled": "titles"}[how]
        raise DataError(f"study: {str(table.file)!r}: two rows are {how} {twice!r}, expected {what} of their own")


def _expect_order(table: Table, rows: Sequence[Row]) -> None:
    """A row is made of rows above it, which keeps circles out."""
    for number, row in enumerate(rows):
        above = [other.name for other in rows[:number]]
        for name in row.made_of:
            if name not in above:
                raise UnknownName(f"row above row[{row.name}] in {table.file.name}", name, above)
        mean = next((other.name for other in rows[:number] if other.ensemble and other.name in row.join), None)
        if mean is not None:
            where = f"study: {str(table.file)!r}, row[{row.name}].join"
            raise DataError(f"{where}: {mean!r} is an ensemble and no run, expected rows that are trained or joined")
