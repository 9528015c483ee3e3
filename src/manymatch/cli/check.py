"""`manymatch check DATA`: what is in a data set, and what is wrong with it."""

from __future__ import annotations

import json
import shlex
from typing import Annotated, Any

import typer

from .options import DataOptions, bar, reads_data
from .reading import field_names

__all__ = ["check"]

_SHOWN = 20


@reads_data
def check(
    data: DataOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every problem.")] = False,
) -> None:
    """Look at a data set and list what is wrong.

    Reads every row and decodes every picture: bad rows, unreadable or duplicate pictures, leaks between splits.
    """
    from ..data.check import check as look

    with bar("checking", "image") as progress:
        found = look(
            data.path,
            format=data.format,
            images=data.images,
            features=data.features,
            pooled=data.pooled,
            fields=field_names(data.field),
            strict=data.strict,
            max_pixels=data.max_pixels,
            progress=progress,
        )
    typer.echo(json.dumps(found) if as_json else _text(found))
    if found["images"] and not as_json:
        typer.echo(_next(found, f"{shlex.quote(str(data.path))}{data.again()}"))
    if not found["images"] or (data.strict and found["problems"]):
        raise typer.Exit(2)


def _text(found: dict[str, Any]) -> str:
    problems = found["problems"]
    rows = [("format", found["format"]["title"]), *(("", seen) for seen in found["seen"])]
    rows += [("images", found["images"]), ("captions", found["captions"])]
    if found["without_captions"]:
        rows.append(("  none", f"for {found['without_captions']} images"))
    rows += [(f"  {name}", f"{count} images") for name, count in found["splits"].items()]
    rows.append(("problems", len(problems)))
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {value}".rstrip() for name, value in rows]
    lines += [f"  {_line(problem)}" for problem in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        lines.append(f"  and {len(problems) - _SHOWN} more; --json lists them all")
    if not found["images"]:
        lines.append("nothing is usable")
    return "\n".join(lines)


def _next(found: dict[str, Any], data: str) -> str:
    if found["captions"]:
        return f"next: manymatch train METHOD {data} --out RUN"
    return f"next: manymatch index {data} --model hf:NAME --out X"


def _line(problem: dict[str, Any]) -> str:
    where = problem["file"] if problem["line"] is None else f"{problem['file']}:{problem['line']}"
    return f"{where}: {problem['kind']}: {problem['detail']}"
