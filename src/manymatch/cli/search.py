"""`manymatch search X "words"`: ask an index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import DataError

if TYPE_CHECKING:
    from ..index import Results

__all__ = ["search"]

_CAPTION = 60
"""Letters of a caption that a line shows."""


def search(
    index: Annotated[Path, typer.Argument(metavar="X", help="The index folder.")],
    words: Annotated[str | None, typer.Argument(help="What to look for, in words.")] = None,
    image: Annotated[
        Path | None, typer.Option("--image", metavar="F", help="A picture to look for, in place of words.")
    ] = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="ID", help="An item of the index to start from.")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many results.")] = 10,
    offset: Annotated[int, typer.Option("--offset", metavar="N", help="How many to pass over first.")] = 0,
    among: Annotated[
        str | None, typer.Option("--among", metavar="images|captions", help="What to find. Default: images.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Score every item, whatever the engine.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Ask an index in words, with a picture or an item."""
    from ..index import Index

    if sum(given is not None for given in (words, image, like)) != 1:
        raise DataError('search: give one of "words", --image F or --like ID')
    opened = Index.open(index)
    found = opened.search(
        image if image is not None else words,
        k,
        like=like,
        among=among,  # type: ignore[arg-type]
        exact=exact or None,
        offset=offset,
    )
    if words is not None and not opened.model.knows(words):
        typer.echo("the run knows no word of the query: the order says nothing", err=True)
    typer.echo(json.dumps(found.to_json(), ensure_ascii=False) if as_json else _table(found, among or "images"))


def _table(found: Results, among: str) -> str:
    how = "exact" if found.agreement is None else f"approximate, agreement with exact search {found.agreement:.3f}"
    lines = [f"{how}; {found.searched:,} {among}, {found.milliseconds:.1f} ms"]
    if not found.hits:
        reason = "the offset is behind the last one" if found.searched else f"the index holds no {among}"
        return "\n".join([*lines, f"nothing found: {reason}"])
    rows = [(str(hit.rank), f"{hit.score:.4f}", hit.id, _short(hit.caption or "")) for hit in found]
    rows.insert(0, ("rank", "score", "id", "caption"))
    rank, score, id = (max(len(row[column]) for row in rows) for column in range(3))
    lines += [f"{r:>{rank}}  {s:>{score}}  {i:<{id}}  {c}".rstrip() for r, s, i, c in rows]
    return "\n".join(lines)


def _short(caption: str) -> str:
    plain = " ".join(caption.split())
    return plain if len(plain) <= _CAPTION else plain[: _CAPTION - 1].rstrip() + "…"
