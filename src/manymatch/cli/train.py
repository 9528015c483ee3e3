"""`manymatch train [METHOD] DATA --out RUN`: from captions and pictures to a run folder."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ..errors import DataError
from .options import DataOptions, reads_data, trained_on

__all__ = ["train"]

DEFAULT = "manymatch"
"""The method where none is named."""


@reads_data(store=True, after=("method", f"METHOD: as listed by manymatch methods; {DEFAULT} where DATA stands alone."))
def train(
    method: str | None,
    data: DataOptions,
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="The run folder to write.")],
    image_tower: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:FILE]",
            help="features, cnn (small, from random weights), a backbone on pictures: resnet18, 34, 50, 101, 152, "
            "resnext101_32x8d, with :FILE from its weights; or a pretrained one: hf:NAME or hf:FOLDER (CLIP, SigLIP, "
            "SigLIP 2, DINOv2, ViT; needs manymatch[hf]), onnx:FILE. Default: features where they are given, else cnn.",
        ),
    ] = None,
    text_tower: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:PATH]",
            help="bigru, bigru:FILE (its words start from a file of word vectors), bert:FOLDER, or a pretrained one: "
            "hf:NAME or hf:FOLDER (CLIP, SigLIP, SigLIP 2, BERT, ModernBERT, MiniLM; both need manymatch[hf]). "
            "Default: bigru.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Any field of the method or of the training config, such as elements=8, epochs=3, seed=1; of a member "
            "of manymatch, sets.epochs=3. Repeat it.",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="The split to train on; everything where DATA has no splits.")] = "train",
    val_split: Annotated[
        str | None, typer.Option(help="The split that chooses the best epoch. Default: val, where DATA has one.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last save of RUN.")] = False,
) -> None:
    """Train a method and keep its best epoch.

    Learns from captions and pictures, or from precomputed features; validation chooses the epoch.

    Ctrl-C saves and says how to go on. Examples:

    manymatch train captions.jsonl --features regions.npy --out runs/first

    manymatch train dive captions.jsonl --images photos.tar --out runs/dive --set elements=8
    """
    from ..methods import method as build
    from ..training import TrainConfig, split_settings
    from ..training import train as run

    method = method or _default(data.path)
    of_method, of_config = split_settings(method, parse_settings(settings))
    chosen = build(method, **of_method)
    config = TrainConfig(**of_config)
    training, validation = trained_on(data.captioned(), split, val_split)
    towers = {"image_tower": image_tower, "text_tower": text_tower}
    model = chosen.build(training, **towers, seed=config.seed, store=data.store, say=_told)
    run(model, training, validate=validation, out=out, config=config, resume=resume, store=data.store)
    run_folder, source, more = shlex.quote(str(out)), shlex.quote(str(data.path)), data.again()
    typer.echo(f"next: manymatch evaluate {run_folder} --data {source}{more}")
    typer.echo(f"or:   manymatch index {source}{more} --model {run_folder} --out X")


def _default(data: Path) -> str:
    """The method of DATA alone. Raises DataError where that is a method's name and no file."""
    from ..methods import methods

    if str(data) in methods() and not data.exists():
        raise DataError(f"train: {data} is a method, and DATA is missing: manymatch train {data} DATA --out RUN")
    return DEFAULT


def _told(line: str) -> None:
    typer.echo(line, err=True)


def parse_settings(settings: Sequence[str] | None) -> dict[str, str]:
    """`["epochs=3"]` as `{"epochs": "3"}`; the last of a repeated field counts. Raises DataError."""
    out = {}
    for text in settings or ():
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise DataError(f"--set {text!r}: expected FIELD=VALUE, such as epochs=3")
        out[name.strip()] = value.strip()
    return out
