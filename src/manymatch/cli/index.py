"""`manymatch index DATA`: encode photos and captions with a run and keep them where they can be searched."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Data, FeaturesOption, Field, Images, Pooled, bar, read

if TYPE_CHECKING:
    from ..data.pairs import Pairs
    from ..index import Added, Index
    from ..methods import Model

__all__ = ["index"]

_SHOWN = 10


def index(
    data: Data,
    model: Annotated[Path, typer.Option("--model", metavar="RUN", help="The run folder to encode with.")],
    out: Annotated[
        Path, typer.Option("--out", metavar="X", help="The index folder; an index of this run is added to.")
    ],
    images: Images = None,
    features: FeaturesOption = None,
    pooled: Pooled = None,
    field: Field = None,
    split: Annotated[str | None, typer.Option("--split", help="Index only this split. Default: every image.")] = None,
    engine: Annotated[
        str | None,
        typer.Option("--engine", metavar="exact|faiss", help="Where candidates come from. Default: by size."),
    ] = None,
    precision: Annotated[
        str, typer.Option("--precision", metavar="float16|float32", help="Of the stored embeddings.")
    ] = "float16",
) -> None:
    """Index photos with their captions. What a line says is kept; after an interruption, call it again."""
    from .. import runs
    from ..index import Index

    began = time.perf_counter()
    run = runs.load(model)
    pairs = _usable(run, read(data, images, features, pooled, field), split)
    made = Index.build(run, pairs, out, engine=engine, precision=precision, progress=_acknowledge())  # type: ignore[arg-type]
    typer.echo(_summary(made, time.perf_counter() - began))
    example = next(iter(made.examples(1)), "words")
    typer.echo(f"next: manymatch search {shlex.quote(str(out))} {shlex.quote(example)}")


def _usable(run: Model, pairs: Pairs, split: str | None) -> Pairs:
    """The chosen split, without pictures that cannot be read where the run looks at pictures."""
    from ..data.check import readable

    if split is not None:
        pairs = pairs.split(split)
    if run.image_input != "pixels":
        return pairs
    before = len(pairs.problems)
    with bar("looking at pictures", "image") as progress:
        pairs = readable(pairs, progress)
    left_out = pairs.problems[before:]
    for problem in left_out[:_SHOWN]:
        typer.echo(problem, err=True)
    if left_out:
        typer.echo(f"{len(left_out)} images left out: their pictures cannot be read", err=True)
    return pairs


def _acknowledge() -> Callable[[Added, int], None]:
    def told(so_far: Added, total: int) -> None:
        done = so_far.added + so_far.replaced
        typer.echo(f"stored {done:,} of {total:,} images ({so_far.added:,} added, {so_far.replaced:,} replaced)")

    return told


def _summary(made: Index, seconds: float) -> str:
    about = made.info()
    how = []
    for modality in ("image", "caption"):
        name, agreement = about["engine"][modality], about["agreement"][modality]
        if name == "exact":
            how.append(f"{modality}s searched exactly")
        elif not agreement:
            how.append(f"{modality}s searched exactly: {name} did not reach the wanted agreement")
        else:
            measured = ", ".join(f"{value:.3f} asked by {who}s" for who, value in agreement.items())
            how.append(f"{modality}s searched by {name} (agreement with exact search {measured})")
    return (
        f"{about['images']:,} images and {about['captions']:,} captions in {made.path}, {seconds:.1f} s\n"
        + "; ".join(how)
    )
