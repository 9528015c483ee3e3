"""What several commands have in common: the options that say where data lies, reading it, and a progress bar."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import DataError

if TYPE_CHECKING:
    from ..data.files import Progress
    from ..data.pairs import Pairs

__all__ = [
    "BatchSize",
    "Data",
    "EvaluatedData",
    "FeaturesOption",
    "Field",
    "Images",
    "Pooled",
    "Protocols",
    "Split",
    "Ties",
    "Truth",
    "again",
    "bar",
    "chosen",
    "field_names",
    "read",
]

Data = Annotated[
    Path, typer.Argument(metavar="DATA", help="JSON Lines, one object an image: image, captions, and optional others.")
]
Images = Annotated[
    Path | None,
    typer.Option(
        "--images",
        metavar="PATH",
        help="Folder or uncompressed tar of the pictures. Default: images/ or images.tar beside DATA.",
    ),
]
FeaturesOption = Annotated[
    Path | None,
    typer.Option(
        "--features", metavar="FILE", help=".npy or .npz of precomputed fragments (n, f, c), row by row as DATA."
    ),
]
Pooled = Annotated[
    Path | None,
    typer.Option("--pooled", metavar="FILE", help=".npy or .npz of precomputed pooled vectors (n, p)."),
]
Field = Annotated[
    list[str] | None,
    typer.Option(
        "--field",
        metavar="OURS=THEIRS",
        help="What DATA calls a field, such as captions=sentence or split=class_split. Repeat it for several.",
    ),
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

EvaluatedData = Annotated[Path, typer.Option("--data", metavar="DATA", help="JSON Lines, one object an image.")]
Split = Annotated[
    str | None,
    typer.Option("--split", metavar="NAME", help="Which split. Default: test; all, when DATA has no splits."),
]
Protocols = Annotated[
    list[str] | None,
    typer.Option(
        "--protocol",
        metavar="NAME",
        help="own, coco-5k, coco-1k, eccv, cxc, pmrp, labels, matches, graded, crowd, true-false, slices or "
        "uncertainty. Repeat it. Default: what the data's truth allows.",
    ),
]
Ties = Annotated[str, typer.Option("--ties", help="How equal scores count: expected, optimistic or pessimistic.")]
BatchSize = Annotated[
    int,
    typer.Option(
        "--batch-size",
        help="Items encoded at a time. It matters to runs in mode released alone, some of which depend on padding.",
    ),
]

_SHOWN = 10


def again(
    images: Path | None = None,
    features: Path | None = None,
    pooled: Path | None = None,
    field: Sequence[str] | None = None,
) -> str:
    """These options as another command takes them, with a blank before each."""
    given = [("--images", images), ("--features", features), ("--pooled", pooled)]
    given += [("--field", text) for text in field or ()]  # type: ignore[misc]
    return "".join(f" {option} {shlex.quote(str(value))}" for option, value in given if value is not None)


def field_names(field: Sequence[str] | None) -> dict[str, str]:
    """`["captions=sentence"]` as `{"captions": "sentence"}`. Raises DataError."""
    out: dict[str, str] = {}
    for text in field or ():
        ours, equals, theirs = text.partition("=")
        if not (ours and equals and theirs):
            raise DataError(f"--field {text!r}: expected OURS=THEIRS, such as captions=sentence")
        if ours in out:
            raise DataError(f"--field {text!r}: {ours} is {out[ours]!r} already, expected it once")
        out[ours] = theirs
    return out


def read(
    data: Path,
    images: Path | None = None,
    features: Path | None = None,
    pooled: Path | None = None,
    field: Sequence[str] | None = None,
    truth: Sequence[Path] | None = None,
    strict: bool = False,
) -> Pairs:
    """`Pairs.read` with the options as the command line gives them; rows left out are listed on stderr.

    Raises:
        DataError, UnknownName: as `data.sources.read_pairs`.
    """
    from ..data.pairs import Pairs

    pairs = Pairs.read(
        data,
        images=images,
        features=features,
        pooled=pooled,
        truth=truth,
        fields=field_names(field),
        strict=strict,
    )
    for problem in pairs.problems[:_SHOWN]:
        typer.echo(problem, err=True)
    more = len(pairs.problems) - _SHOWN
    if more > 0:
        typer.echo(f"and {more} more; manymatch check {data} lists them", err=True)
    return pairs


def chosen(pairs: Pairs, split: str | None) -> Pairs:
    """The asked split, else the test split, else (said on stderr) everything."""
    if split is None and not pairs.splits:
        typer.echo(f"{pairs.name} has no splits; all {len(pairs)} images are evaluated", err=True)
        return pairs
    return pairs.split(split or "test")


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
