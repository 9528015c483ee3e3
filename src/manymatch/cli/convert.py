"""`manymatch convert DATA OUT.jsonl`: any format as JSON Lines."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from .options import DataOptions, bar, reads_data

__all__ = ["convert"]


@reads_data
def convert(
    data: DataOptions,
    out: Annotated[Path, typer.Argument(metavar="OUT.jsonl", help="The file to write.")],
    pictures: Annotated[
        Path | None,
        typer.Option(
            "--pictures",
            metavar="FOLDER_OR_TAR",
            help="Copy the pictures there. Default: they stay where they are; those inside a table are left out.",
        ),
    ] = None,
) -> None:
    """Write any data set as JSON Lines, one object an image.

    With the same --images, the new file gives the same images, captions, splits, labels and metadata. Example:

    manymatch convert dataset_flickr30k.json flickr30k.jsonl --images flickr30k-images
    """
    from ..data.converting import convert as write

    reading = data.reading()
    with bar("copying pictures", "image") as progress:
        done = write(reading, out, pictures=pictures, strict=data.strict, progress=progress)
    for note in done.notes:
        typer.echo(note, err=True)
    captions, without = sum(len(item.captions) for item in done.items), sum(not item.captions for item in done.items)
    none = f" ({without:,} without captions)" if without else ""
    typer.echo(
        f"{out}: {len(done.items):,} images{none} and {captions:,} captions from {reading.format.title}; "
        f"{len(done.problems):,} problems"
    )
    images = pictures if pictures is not None else data.images or reading.images_at
    more = "" if images is None or not any(item.picture for item in done.items) else f" --images {_quoted(images)}"
    typer.echo(f"next: manymatch check {_quoted(out)}{more}")


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
