"""`manymatch report RUN... --data DATA --out F.html`: one page on what runs do, to read and to send."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Banked, DataOptions, Protocols, Split, Truth, bar, chosen, reads_data

__all__ = ["report"]


@reads_data(as_option=True)
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Run folders or hf:NAME; the first two are shown side by side."),
    ],
    data: DataOptions,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The page, such as report.html.")],
    truth: Truth = None,
    split: Split = None,
    protocol: Protocols = None,
    bank: Banked = None,
    examples: Annotated[int, typer.Option("--examples", min=1, metavar="N", help="Queries shown of each kind.")] = 8,
    grid: Annotated[
        bool,
        typer.Option("--grid", help="The features are cells of a square grid, row by row: draw attention on photos."),
    ] = False,
    times: Annotated[
        bool,
        typer.Option("--times/--no-times", help="Measure query times, in which alone two calls differ."),
    ] = True,
) -> None:
    """Write one self-contained HTML page on what runs do.

    Tables, training curves, example queries side by side, failures, what sets and Gaussians hold.
    """
    from ..report import write_report

    pairs = chosen(data.read(truth), split)
    with bar("reporting") as progress:
        path = write_report(
            list(runs),
            pairs,
            out,
            examples=examples,
            protocol=protocol or None,
            bank=bank,
            times=times,
            grid=grid,
            progress=progress,
        )
    typer.echo(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
