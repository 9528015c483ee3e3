"""`manymatch join RUN RUN... --data DATA --out RUN`: trained runs as one set model."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from .options import DataOptions, reads_data, trained_on

__all__ = ["join"]


@reads_data(as_option=True, store=True)
def join(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN...", help="Run folders, two or more.")],
    data: DataOptions,
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="The run folder to write.")],
    dim: Annotated[int, typer.Option(min=2, help="Width of the joint elements.")] = 512,
    weight: Annotated[
        list[float] | None,
        typer.Option(
            "--weight", metavar="W", help="Of each run, in their order. Repeat it. Default: chosen on validation."
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(help="The split the runs were trained on; everything where DATA has no splits.")
    ] = "train",
    val_split: Annotated[
        str | None, typer.Option(help="The split that chooses the weights. Default: val, where DATA has one.")
    ] = None,
    bank: Annotated[
        int, typer.Option(min=0, help="Training captions, and images, of the query bank, at most; 0 is none.")
    ] = 5_000,
) -> None:
    """Make several trained runs one set model.

    Each element of the joint is the runs' elements side by side, weighted on validation and rotated to one width. It
    indexes, searches and serves like any other run, and needs the others no more. Runs that erred in different places
    gain most: a linear one (cca_tuned) and one of sets.

    manymatch join runs/cca_tuned runs/dive --data captions.jsonl --features regions.npy --out runs/joint
    """
    from ..training import join as run

    training, validation = trained_on(
        data.captioned(),
        split,
        val_split,
        doing="fitting the joint",
        without=f"runs count {'as given' if weight else 'the same'}, and there is neither calibration nor query bank",
    )
    run(runs, training, validate=validation, out=out, dim=dim, weights=weight, bank=bank, store=data.store)
    typer.echo(f"next: manymatch evaluate {shlex.quote(str(out))} --data {shlex.quote(str(data.path))}{data.again()}")
