"""`manymatch methods [NAME]`: what can be trained, and every number of one method."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..methods import Recipe
    from ..methods.composite import Composite

__all__ = ["methods"]

_NARROW = 40
"""Columns of the terminal that a meaning needs beside the values; with fewer it goes below them."""


def methods(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One method, with all its fields.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the methods, or explain one.

    Of one method: every field with its meaning, its default, and what each preset changes.
    """
    from ..methods import method_class, methods_table

    if name is not None:
        method_class(name)
    rows = [row for row in methods_table() if name in (None, row["name"])]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    if name is None:
        width = max(len(row["name"]) for row in rows)
        for row in rows:
            typer.echo(f"{row['name']:<{width}}  {row['summary']}  ({row['paper']}; {row['kind']})")
        return
    for line in _explained(name, rows[0]):
        typer.echo(line)


def _explained(name: str, row: Mapping[str, Any]) -> Iterator[str]:
    from ..methods import method, method_class
    from ..methods.composite import Composite
    from ..training import TrainConfig
    from ..training.member_settings import SHARED

    kind = method_class(name)
    yield f"{row['name']}: {row['summary']}\n{row['paper']}; {row['kind']}; similarity {row['similarity']}\n"
    presets = row["presets"]
    own = {
        field: [default, *(p.get(field, default) for p in presets.values())] for field, default in row["fields"].items()
    }
    yield from _table("field", presets, own, field_meanings(kind))
    if not kind.fitted:
        # What a preset trains with stands in its recipe, which the config overrides.
        recipes = {preset: TrainConfig().recipe(method(name, preset=preset)) for preset in ("", *presets)}
        kept = SHARED if issubclass(kind, Composite) else [spec.name for spec in fields(TrainConfig)]
        numbers = {
            spec.name: [getattr(recipe, spec.name, spec.default) for recipe in recipes.values()]
            for spec in fields(TrainConfig)
            if spec.name in kept
        }
        yield ""
        yield from _table("training", presets, numbers, field_meanings(TrainConfig))
        yield from _remarks(recipes)
    if issubclass(kind, Composite):
        yield from _members(kind)
    taken = ", take a preset with --set preset=NAME; its column shows what it changes" if presets else ""
    yield f"\nchange any with --set FIELD=VALUE{taken}"


def _members(kind: type[Composite]) -> Iterator[str]:
    """What a composite method consists of, and how a member's numbers change."""
    made = kind()
    yield "\nmembers, each trained apart"
    for name, (part, _) in kind.parts.items():
        settings = ", ".join(f"{field}={value}" for field, value in made.settings_of(name).items())
        yield from _beside(f"{name}: ", f"{part}{f' with {settings}' if settings else ''}")
    examples = " and ".join(dict.fromkeys(f"manymatch methods {part}" for part, _ in kind.parts.values()))
    yield f"\nchange a member's field with --set MEMBER.FIELD=VALUE; {examples} explain them"


def _table(
    title: str, presets: Sequence[str] | Mapping[str, Any], values: Mapping[str, list[Any]], meanings: Mapping[str, str]
) -> Iterator[str]:
    """A row a field: default, what each preset has instead, meaning. On a terminal, meanings are wrapped."""
    cells = [[title, "default", *presets]]
    for field, (default, *others) in values.items():
        cells.append([field, _said(default), *("" if v == default else _said(v) for v in others)])
    widths = [max(map(len, column)) + 2 for column in zip(*cells, strict=True)]
    told = ["meaning", *(meanings.get(row[0], "") for row in cells[1:])]
    for row, meaning in zip(cells, told, strict=True):
        left = "".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        yield from _beside(left, meaning)


def _said(value: Any) -> str:
    return "none" if value is None else str(value)


def _beside(left: str, meaning: str) -> Iterator[str]:
    if not sys.stdout.isatty():
        yield left + meaning
        return
    columns = shutil.get_terminal_size().columns
    below = columns - len(left) < _NARROW
    lines = textwrap.wrap(meaning, max(_NARROW, columns - (8 if below else len(left)))) or [""]
    if below:
        yield left.rstrip()
        yield from (" " * 8 + line for line in lines)
        return
    yield left + lines[0]
    yield from (" " * len(left) + line for line in lines[1:])


def _remarks(recipes: Mapping[str, Recipe]) -> Iterator[str]:
    """Of the recipes that have some: rates of single parts, stages, and what they lack."""
    for preset, recipe in recipes.items():
        rates = ", ".join(f"{part} x {factor:.3g}" for part, factor in recipe.groups.items())
        parts = [f"rates {rates}"] if rates else []
        if recipe.schedule == "step":
            parts.append(f"rate x {recipe.step_factor:g} after epochs {', '.join(map(str, recipe.milestones))}")
        for number, stage in enumerate(recipe.stages, 1):
            frozen = f", {' and '.join(stage.frozen)} frozen" if stage.frozen else ""
            ramp = ", the loss ramps up" if stage.loss_ramp else ""
            rate = "" if stage.lr is None else f" at {stage.lr:g}"
            parts.append(f"stage {number}: {stage.epochs} epochs{rate}{frozen}{ramp}")
        parts += [recipe.note] if recipe.note else []
        if parts:
            yield from _beside(f"{preset or 'default'}: ", "; ".join(parts))


def field_meanings(cls: type) -> dict[str, str]:
    """Field -> its line under "Attributes" in the docstrings of a class and its bases."""
    out: dict[str, str] = {}
    for one in reversed(cls.__mro__):
        text = inspect.getdoc(one) or ""
        part = text.partition("Attributes:")[2]
        for match in re.finditer(r"^    ([a-z_]+(?:, [a-z_]+)*): (.*(?:\n {6,}.*)*)", part, re.MULTILINE):
            for field in match[1].split(", "):
                out[field] = " ".join(match[2].split())
    return out
