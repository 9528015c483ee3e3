"""`manymatch features DATA --image-tower T --out STORE`: every picture through a pretrained network once, ever."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import DataError
from .options import DataOptions, bar, kept_when_stopped, reads_data

if TYPE_CHECKING:
    from ..data.store import Checked

__all__ = ["features"]

_SHOWN = 10


@reads_data
def features(
    data: DataOptions,
    image_tower: Annotated[
        str,
        typer.Option("--image-tower", metavar="hf:NAME|onnx:FILE", help="The pretrained network, or hf:FOLDER of it."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="STORE",
            help="The feature store. Default: MANYMATCH_STORE, else ~/.cache/manymatch/features.",
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option("--shard", metavar="I/N", help="Only every N-th image, from the I-th; run 1/4 to 4/4 at once."),
    ] = None,
    pooled_only: Annotated[
        bool, typer.Option("--pooled-only", help="One vector an image, without the patches; enough for cca.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="First verify the checksum of all that is stored; what is damaged goes.")
    ] = False,
) -> None:
    """Keep what a pretrained network sees in pictures.

    What is there already is not computed again; what a line says is kept is on the disk. After an interruption, or
    with more pictures, call it again. Training, evaluating and indexing then read it there by --store. Example:

    manymatch features captions.jsonl --images photos --image-tower hf:google/siglip2-base-patch16-224 --out store
    """
    from ..data.store import FeatureStore, check_store, default_folder
    from ..encoders.pretrained import open_backbone
    from ..encoders.pretrained.extract import fill, shard_of
    from ..runs import device_named

    folder, part = default_folder() if out is None else out, _shard(shard)
    if check and folder.is_dir() and any(folder.iterdir()):
        with bar("checking", "record") as progress:
            typer.echo(_told(check_store(folder, progress), folder))
    pairs = data.read()
    shard_of(pairs, part)
    backbone = open_backbone(image_tower, fragments=not pooled_only).to(device_named("auto"))
    if backbone.note:
        typer.echo(f"note: {backbone.note}", err=True)
    began = time.perf_counter()
    with kept_when_stopped(), bar("features", "picture") as progress:
        done = fill(
            FeatureStore(folder), backbone, pairs, say=typer.echo, progress=progress, shard=part, strict=data.strict
        )
    for name, why in list(done.bad.items())[:_SHOWN]:
        typer.echo(f"{name}: {why.kind}: {why}", err=True)
    if len(done.bad) > _SHOWN:
        typer.echo(f"and {len(done.bad) - _SHOWN} more; manymatch check lists them", err=True)
    lost = f", {len(done.bad):,} cannot be read" if done.bad else ""
    typer.echo(
        f"features of {image_tower}: {done.found:,} of {done.pictures:,} were in {folder}, {done.computed:,} computed "
        f"now in {time.perf_counter() - began:.1f} s{lost}"
    )
    if done.pictures and len(done.bad) == done.pictures:
        raise DataError(f"{pairs.name}: none of {done.pictures} pictures can be read; look with: manymatch check DATA")
    method = "cca" if pooled_only else "vse_infty"
    source, tower = shlex.quote(str(data.path)), shlex.quote(image_tower)
    typer.echo(
        f"next: manymatch train {method} {source}{data.again()} --image-tower {tower} "
        f"--store {shlex.quote(str(folder))} --out RUN"
    )


def _shard(text: str | None) -> tuple[int, int] | None:
    """ "1/4" as (1, 4). Raises DataError."""
    if text is None:
        return None
    number, slash, of = text.partition("/")
    if not (slash and number.isascii() and number.isdigit() and of.isascii() and of.isdigit()):
        raise DataError(f"--shard {text!r}: expected I/N, such as 1/4")
    return int(number), int(of)


def _told(checked: Checked, folder: Path) -> str:
    lines = [f"damaged: {fault}" for fault in checked.faults]
    taken = f", {checked.lost:,} taken out and computed again when asked for" if checked.lost else ""
    lines.append(f"checked {folder}: {checked.records:,} records whole ({checked.bytes / 1e6:,.1f} MB read){taken}")
    return "\n".join(lines)
