"""`manymatch search X "words"`: ask an index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import DataError

if TYPE_CHECKING:
    from ..index import Index, Results

__all__ = ["search"]

_DIVERSE = 0.5


def search(
    index: Annotated[Path, typer.Argument(metavar="X", help="The index folder.")],
    words: Annotated[
        list[str] | None, typer.Argument(metavar="WORDS", help="What to look for; several queries are several answers.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option("--image", metavar="F", help="A picture to look for, in place of words.")
    ] = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="ID", help="An item of the index to start from.")
    ] = None,
    unlike: Annotated[
        str | None, typer.Option("--not", metavar="WORDS", help="What the results shall not be like.")
    ] = None,
    unlike_item: Annotated[
        str | None, typer.Option("--not-like", metavar="ID", help="An item they shall not be like.")
    ] = None,
    k: Annotated[int, typer.Option("-k", help="How many results.")] = 10,
    offset: Annotated[int, typer.Option("--offset", metavar="N", help="How many to pass over first.")] = 0,
    among: Annotated[
        str | None, typer.Option("--among", metavar="images|captions", help="What to find. Default: images.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="CONDITION",
            help="On metadata: 'year>=2000', 'tag=dog|cat', 'title~snow' (words), 'note' (has it), '!note'. "
            "Repeat it: all must hold.",
        ),
    ] = None,
    confident: Annotated[
        float | None,
        typer.Option("--confident", metavar="P", help="Only what is right with this probability, such as 0.5."),
    ] = None,
    meanings: Annotated[bool, typer.Option("--meanings", help="Also what the query could mean.")] = False,
    diverse: Annotated[bool, typer.Option("--diverse", help="Not ten times the same.")] = False,
    group_by: Annotated[
        str | None, typer.Option("--group-by", metavar="FIELD", help="The best of each value of a metadata field.")
    ] = None,
    facet: Annotated[
        list[str] | None, typer.Option("--facet", metavar="FIELD", help="Count the values of a field. Repeat it.")
    ] = None,
    hybrid: Annotated[
        bool, typer.Option("--hybrid", help="Also by the query's very words (BM25), fused by reciprocal rank.")
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Also which elements matched.")] = False,
    bank: Annotated[
        bool | None, typer.Option("--bank/--no-bank", help="Order by score less bias. Default: where there are biases.")
    ] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Score every item, whatever the engine.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; of several queries, a list.")] = False,
) -> None:
    """Ask an index in words, with a picture or an item."""
    from ..index import Index
    from ..index.filters import parse_where

    if sum((bool(words), image is not None, like is not None)) != 1:
        raise DataError('search: give one of "words", --image F or --like ID')
    opened = Index.open(index)
    options = {
        "k": k,
        "among": among,
        "where": parse_where(where or ()),
        "exact": exact or None,
        "offset": offset,
        "confident": confident,
        "bank": bank,
        "hybrid": hybrid,
        "diverse": _DIVERSE if diverse else None,
        "group_by": group_by,
        "facets": tuple(facet or ()),
        "meanings": meanings,
        "explain": explain,
    }
    if words is not None and len(words) > 1:
        if unlike is not None or unlike_item is not None:
            raise DataError("search: --not and --not-like go with one query; ask one by one")
        found = opened.search_many(words, **options)  # type: ignore[arg-type]
    else:
        query = image if image is not None else words[0] if words else None
        away = {"like": like, "unlike": unlike, "unlike_item": unlike_item}
        found = [opened.search(query, **away, **options)]  # type: ignore[arg-type]
    _say(opened, words or [], found, as_json)
    if as_json:
        bodies = [results.to_json() for results in found]
        typer.echo(json.dumps(bodies if len(bodies) > 1 else bodies[0], ensure_ascii=False))
        return
    from .answers import printed

    for place, results in enumerate(found):
        if len(found) > 1:
            typer.echo(f"{'' if place == 0 else chr(10)}{results.query}")
        typer.echo(printed(results, among or "images", confident))


def _say(index: Index, words: list[str], found: list[Results], as_json: bool) -> None:
    """What a person should know besides the answer, on stderr; JSON carries the notes itself."""
    for text in words:
        if not index.model.knows(text):
            typer.echo(f"the run knows no word of {text!r}: the order says nothing", err=True)
    if not as_json:
        told = {note: results for results in found for note in results.notes}
        for note, results in told.items():
            # Where nothing is found the answer itself says why.
            if note.startswith("no probabilities"):
                # Photos without a word have no pairs that probabilities could be learned from.
                worth = index.calibration is not None or index.count("caption") > 0
            else:
                worth = bool(results.hits)
            if worth:
                typer.echo(note, err=True)
