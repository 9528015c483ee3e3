"""`manymatch methods [NAME]`: what can be trained, and every number of one method."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields
from typing import Annotated

import typer

__all__ = ["methods"]


def methods(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One method, with all its fields.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the methods, or explain one.

    Of one method: every field with its meaning, default and published value.
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
    row = rows[0]
    typer.echo(f"{row['name']}: {row['summary']}\n{row['paper']}; {row['kind']}; similarity {row['similarity']}\n")
    meanings = field_meanings(method_class(name))
    columns = ["default", *row["presets"]]
    typer.echo(f"{'field':<18}" + "".join(f"{c:<12}" for c in columns) + "meaning")
    for field, default in row["fields"].items():
        values = [default, *(preset.get(field, default) for preset in row["presets"].values())]
        typer.echo(f"{field:<18}" + "".join(f"{v!s:<12}" for v in values) + meanings.get(field, ""))
    from ..training import TrainConfig

    typer.echo(f"\n{'training':<18}{'default':<12}meaning (none: what the method's recipe says)")
    meanings = field_meanings(TrainConfig)
    for spec in fields(TrainConfig):
        default = "none" if spec.default is None else str(spec.default)
        typer.echo(f"{spec.name:<18}{default:<12}{meanings.get(spec.name, '')}")
    typer.echo("\nchange any with --set FIELD=VALUE; a preset with --set preset=NAME")


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
