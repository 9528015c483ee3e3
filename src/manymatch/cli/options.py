"""What several commands have in common: options of measuring, which split, and a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .reading import DataOptions, reads_data

if TYPE_CHECKING:
    from ..data.files import Progress
    from ..data.pairs import Pairs

__all__ = [
    "Banked",
    "BatchSize",
    "DataOptions",
    "Elements",
    "Protocols",
    "Split",
    "Ties",
    "Truth",
    "bar",
    "chosen",
    "kept_when_stopped",
    "reads_data",
    "trained_on",
]

Truth = Annotated[
    list[Path] | None,
    typer.Option(
        "--truth",
        metavar="FILE_OR_FOLDER",
        help='Further right answers: JSON Lines {"query": id, "matches": [ids]}, or published annotations, known by '
        "their content, those of COCO by their file names. Repeat it.",
    ),
]

Split = Annotated[
    str | None,
    typer.Option("--split", metavar="NAME", help="Which split. Default: test; all, when DATA has no splits."),
]
Protocols = Annotated[
    list[str] | None,
    typer.Option(
        "--protocol",
        metavar="NAME",
        help="own, coco-5k, coco-1k, eccv, cxc, pmrp, labels, matches, graded, crowd, judged, true-false, slices or "
        "uncertainty. Repeat it. Default: what the data's truth allows.",
    ),
]
Ties = Annotated[str, typer.Option("--ties", help="How equal scores count: expected, optimistic or pessimistic.")]
Banked = Annotated[
    bool | None,
    typer.Option(
        "--bank/--no-bank",
        help="Rank by scores less biases of the run's query bank. Default: where there is one that holds none of these "
        "images.",
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(
        "--batch-size",
        help="Items encoded at a time. It matters to runs in mode released alone, some of which depend on padding.",
    ),
]


def chosen(pairs: Pairs, split: str | None) -> Pairs:
    """The asked split, else the test split, else (said on stderr) everything."""
    if split is None and not pairs.splits:
        typer.echo(f"{pairs.name} has no splits; all {len(pairs)} images are evaluated", err=True)
        return pairs
    return pairs.split(split or "test")


def trained_on(
    pairs: Pairs,
    split: str,
    val_split: str | None,
    *,
    doing: str = "training",
    without: str = "the last weights are kept, none are chosen by validation",
) -> tuple[Pairs, Pairs | None]:
    """The training split, and the one that chooses where there is one; what is not there is said on stderr.

    Args:
        doing: on the training split, said where all is one.
        without: what comes of no validation split.
    """
    if not pairs.splits:
        typer.echo(f"DATA has no splits: {doing} on all {len(pairs)} images", err=True)
    training = pairs.split(split) if pairs.splits else pairs
    validation = pairs.split(val_split or "val") if val_split or "val" in pairs.splits else None
    if validation is None:
        typer.echo(f"DATA has no split 'val': {without}", err=True)
    return training, validation


Elements = Annotated[
    int | None,
    typer.Option(
        "--elements",
        metavar="N",
        help="Use the first N elements of each set alone, of a run trained with --set nested=true. Default: all.",
    ),
]


@contextmanager
def kept_when_stopped() -> Iterator[None]:
    """For work that is kept as it goes: Ctrl-C says so, and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("stopped; what is stored is kept, and the same command goes on from there", err=True)
        raise


@contextmanager
def bar(what: str, unit: str = "") -> Iterator[Progress]:
    """A progress bar on stderr that shows itself after two seconds, as a function of (done, total)."""
    from tqdm import tqdm

    with tqdm(
        desc=what, unit=unit or "it", delay=2, leave=False, file=sys.stderr, dynamic_ncols=True, disable=None
    ) as shown:

        def progress(done: int, total: int) -> None:
            shown.total = total
            shown.update(done - shown.n)

        yield progress
