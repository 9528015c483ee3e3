"""`manymatch index`, `index-add`, `index-delete`, `index-calibrate`: make an index and keep it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import DataError
from .options import Data, FeaturesOption, Field, Images, Pooled, Truth, bar, read

if TYPE_CHECKING:
    from ..data.pairs import Pairs
    from ..index import Added, Index
    from ..methods import Model

__all__ = ["index", "index_add", "index_calibrate", "index_delete"]

_SHOWN = 10

Folder = Annotated[Path, typer.Argument(metavar="X", help="The index folder.")]
IndexedSplit = Annotated[str | None, typer.Option("--split", help="Index only this split. Default: every image.")]


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
    split: IndexedSplit = None,
    engine: Annotated[
        str | None,
        typer.Option("--engine", metavar="exact|faiss|qdrant", help="Where candidates come from. Default: by size."),
    ] = None,
    agreement: Annotated[
        float | None,
        typer.Option(
            "--agreement",
            metavar="SHARE",
            help="Of the exact first ten that approximate search has to find. Default: 0.99.",
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="Of the Qdrant server; its key is read from QDRANT_API_KEY."),
    ] = None,
    placement: Annotated[
        list[str] | None,
        typer.Option(
            "--placement",
            metavar="NAME=VALUE",
            help="Of a new Qdrant collection: shards=12, replicas=2, confirmed=2, on_disk=false, int8=true. Repeat it.",
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option("--precision", metavar="float16|float32", help="Of the stored embeddings.")
    ] = "float16",
    calibrate: Annotated[
        Path | None,
        typer.Option(
            "--calibrate",
            metavar="DATA",
            help="Held-out pairs that probabilities are learned from. Default: what the run learned in training.",
        ),
    ] = None,
) -> None:
    """Index photos with their captions. What a line says is kept; after an interruption, call it again."""
    from .. import runs
    from ..index import Index
    from ..index.placement import Placement

    began = time.perf_counter()
    run = runs.load(model)
    same = calibrate is not None and calibrate.resolve() == data.resolve()
    if calibrate is not None and not same and run.image_input == "features":
        raise DataError(
            f"index: --calibrate {calibrate} has features of its own; once the index is made go by: "
            f"manymatch index-calibrate {out} {calibrate} --features FILE"
        )
    pairs = _usable(run, read(data, images, features, pooled, field), split)
    made = Index.build(
        run,
        pairs,
        out,
        engine=engine,  # type: ignore[arg-type]
        precision=precision,  # type: ignore[arg-type]
        agreement=agreement,
        url=url,
        placement=Placement.parse(placement) if placement else None,
        progress=_acknowledge(),
        told=_step,
    )
    if calibrate is not None:
        # Files of features go row by row with the data they were made for.
        _calibrated(made, read(calibrate, *((images, features, pooled) if same else (None, None, None)), field), None)
    typer.echo(_summary(made, time.perf_counter() - began))
    example = next(iter(made.examples(1)), "words")
    typer.echo(f"next: manymatch search {shlex.quote(str(out))} {shlex.quote(example)}")


def index_add(
    index: Folder,
    data: Data,
    images: Images = None,
    features: FeaturesOption = None,
    pooled: Pooled = None,
    field: Field = None,
    split: IndexedSplit = None,
) -> None:
    """Add photos with their captions to an index; a known id is replaced. Searches go on meanwhile."""
    from ..index import Index

    began = time.perf_counter()
    opened = Index.open(index)
    pairs = _usable(opened.model, read(data, images, features, pooled, field), split)
    opened.add_all(pairs, progress=_acknowledge())
    opened.refresh(_step)
    typer.echo(_summary(opened, time.perf_counter() - began))


def index_delete(
    index: Folder,
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="Images, or single captions such as photo.jpg#0.")],
) -> None:
    """Delete items from an index; the captions of an image go with it. All of them, or none."""
    from ..index import Index

    opened = Index.open(index)
    typer.echo(f"deleted {opened.delete(ids):,} items")
    opened.refresh(_step)


def index_calibrate(
    index: Folder,
    data: Data,
    images: Images = None,
    features: FeaturesOption = None,
    pooled: Pooled = None,
    field: Field = None,
    truth: Truth = None,
    split: Annotated[str | None, typer.Option("--split", help="Of DATA. Default: val, else every image.")] = None,
) -> None:
    """Learn from held-out pairs how probable a score makes a right answer, and keep it in the index.

    Use pairs like those that are searched, and not those the run was trained on.
    """
    from ..index import Index

    _calibrated(Index.open(index), read(data, images, features, pooled, field, truth), split)


def _calibrated(opened: Index, pairs: Pairs, split: str | None) -> None:
    if split is None and "val" in pairs.splits:
        split = "val"
    opened.calibrate(pairs if split is None else pairs.split(split))
    typer.echo(str(opened.calibration))


def _step(what: str) -> None:
    typer.echo(f"making {what} ...", err=True)


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
