"""`manymatch index`, `index-add`, `index-delete`, `index-calibrate`: make an index and keep it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import DataError
from .options import DataOptions, Elements, Truth, bar, kept_when_stopped, reads_data

if TYPE_CHECKING:
    from ..data.pairs import Pairs
    from ..index import Added, Index
    from ..methods import Model

__all__ = ["index", "index_add", "index_calibrate", "index_delete"]

_SHOWN = 10
_LOOKED_AT = 100

Folder = Annotated[Path, typer.Argument(metavar="X", help="The index folder.")]
IndexedSplit = Annotated[str | None, typer.Option("--split", help="Index only this split. Default: every image.")]


@reads_data(store=True)
def index(
    data: DataOptions,
    model: Annotated[
        Path,
        typer.Option("--model", metavar="RUN|hf:NAME", help="The run folder to encode with, or a pretrained network."),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="X", help="The index folder; an index of this run is added to.")
    ],
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
    elements: Elements = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            "--calibrate",
            metavar="DATA",
            help="Held-out pairs that probabilities are learned from. Default: what the run learned in training.",
        ),
    ] = None,
    keep_gone: Annotated[
        bool, typer.Option("--keep-gone", help="Of DATA indexed before, leave in the index what DATA has no more.")
    ] = False,
) -> None:
    """Index photos, with or without captions.

    What it says is stored is kept: after an interruption call it again. Called again later it encodes what is new or
    changed, renames what was moved, and removes what DATA has no more.
    """
    from .. import runs
    from ..index import Index
    from ..index.placement import Placement

    began = time.perf_counter()
    run = runs.load(model, elements=elements)
    same = calibrate is not None and calibrate.resolve() == data.path.resolve()
    if calibrate is not None and not same and run.image_input == "features":
        raise DataError(
            f"index: --calibrate {calibrate} has features of its own; once the index is made go by: "
            f"manymatch index-calibrate {out} {calibrate} --features FILE"
        )
    pairs = _told_aside(data)
    _expect_some(run, pairs, split)
    made = Index.begin(
        run,
        out,
        engine=engine,  # type: ignore[arg-type]
        precision=precision,  # type: ignore[arg-type]
        agreement=agreement,
        url=url,
        placement=Placement.parse(placement) if placement else None,
    )
    _brought(made, pairs, data, split, keep_gone)
    if calibrate is not None:
        # Files of features go row by row with the data they were made for.
        alone = replace(data, path=calibrate, images=None, features=None, pooled=None, format=None)
        _calibrated(made, data if same else alone, None)
    typer.echo(_summary(made, time.perf_counter() - began))
    typer.echo(f"next: manymatch search {shlex.quote(str(out))} {_example(made, pairs)}")
    typer.echo(f"or:   manymatch serve {shlex.quote(str(out))}")


@reads_data(store=True)
def index_add(
    index: Folder,
    data: DataOptions,
    split: IndexedSplit = None,
) -> None:
    """Add photos with their captions to an index; a known id is replaced. Searches go on meanwhile.

    What is there as it is already is not encoded again, and nothing is removed.
    """
    from ..index import Index

    began = time.perf_counter()
    opened = Index.open(index)
    _brought(opened, _told_aside(data), data, split, keep_gone=True)
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


@reads_data
def index_calibrate(
    index: Folder,
    data: DataOptions,
    truth: Truth = None,
    split: Annotated[str | None, typer.Option("--split", help="Of DATA. Default: val, else every image.")] = None,
) -> None:
    """Learn from held-out pairs how probable a score makes a right answer, and keep it in the index.

    Use pairs like those that are searched, and not those the run was trained on.
    """
    from ..index import Index

    _calibrated(Index.open(index), data, split, truth)


def _calibrated(opened: Index, data: DataOptions, split: str | None, truth: Sequence[Path] | None = None) -> None:
    pairs = data.read(truth)
    if split is None and "val" in pairs.splits:
        split = "val"
    opened.calibrate(pairs if split is None else pairs.split(split))
    typer.echo(str(opened.calibration))


def _told_aside(data: DataOptions) -> Pairs:
    """The pairs; pictures of kinds that are not read, which are no bad rows, are told."""
    reading = data.reading()
    for line in reading.seen:
        if line.startswith("left aside"):
            typer.echo(line, err=True)
    return reading.pairs


def _step(what: str) -> None:
    typer.echo(f"making {what} ...", err=True)


def _expect_some(run: Model, pairs: Pairs, split: str | None) -> None:
    """Raises DataError where the run can look at no picture: before there is an empty index of it."""
    from ..data.check import readable

    some = pairs if split is None else pairs.split(split)
    if run.image_input == "pixels":
        one_by_one = (readable(some.take([n])) for n in range(len(some)))
        some = next((one for one in one_by_one if len(one)), some.take([]))
    if not len(some):
        raise DataError(f"{pairs.name}: no images that can be read, so nothing to index")
    run.prepare_images(some.images[:1])


def _brought(made: Index, pairs: Pairs, data: DataOptions, split: str | None, keep_gone: bool) -> None:
    """Bring the index up to date with the data, and say what that took."""
    first = not len(made)
    left_out = _LeftOut(made.model, data.strict, data.store)
    with kept_when_stopped(), bar("comparing pictures", "image") as looking:
        done = made.sync(
            pairs,
            source=str(data.path.resolve()),
            split=split,
            keep_gone=keep_gone,
            usable=left_out.usable,
            looking=looking,
            progress=_acknowledge,
            told=lambda line: typer.echo(line, err=True),
        )
    left_out.tell()
    if not first:
        typer.echo(str(done))
    made.refresh(_step)


class _LeftOut:
    """Pictures that cannot be read, where the run looks at pictures."""

    def __init__(self, run: Model, strict: bool, store: Path | None) -> None:
        self._run, self._strict, self._store, self._count = run, strict, store, 0

    def usable(self, pairs: Pairs) -> Pairs:
        """The pairs without those, which are told."""
        from ..data.check import readable

        if self._run.image_input != "pixels":
            return pairs
        kept = pairs if self._store is None or self._strict else self._run.supply(pairs, self._store)
        if kept.features is pairs.features:
            kept = readable(kept, strict=self._strict)
        for problem in kept.problems[len(pairs.problems) :]:
            self._count += 1
            if self._count <= _SHOWN:
                typer.echo(problem, err=True)
        return kept

    def tell(self) -> None:
        """How many there were."""
        if self._count:
            typer.echo(f"{self._count} images left out: their pictures cannot be read", err=True)


def _acknowledge(so_far: Added, total: int) -> None:
    done = so_far.added + so_far.replaced
    typer.echo(f"stored {done:,} of {total:,} images ({so_far.added:,} added, {so_far.replaced:,} replaced)")


def _example(made: Index, pairs: Pairs) -> str:
    """Something to ask: words of a caption, or where there are none a picture of the index."""
    words = next(iter(made.examples(1)), None)
    if words is not None:
        return shlex.quote(words)
    first = sorted(made.images_among(pairs.image_ids[:_LOOKED_AT]))[:1]
    return f"--like {shlex.quote(first[0])}" if first else "words"


def _summary(made: Index, seconds: float) -> str:
    about = made.info()
    how = []
    for modality in ("image", "caption") if about["captions"] else ("image",):
        name, agreement = about["engine"][modality], about["agreement"][modality]
        if name == "exact":
            how.append(f"{modality}s searched exactly")
        elif not agreement:
            how.append(f"{modality}s searched exactly: {name} did not reach the wanted agreement")
        else:
            measured = ", ".join(f"{value:.3f} asked by {who}s" for who, value in agreement.items())
            how.append(f"{modality}s searched by {name} (agreement with exact search {measured})")
    captions = f"and {about['captions']:,} captions" if about["captions"] else "without captions"
    return f"{about['images']:,} images {captions} in {made.path}, {seconds:.1f} s\n" + "; ".join(how)
