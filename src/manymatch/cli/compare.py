"""`manymatch compare RUN RUN... --data DATA`: which differences between runs are more than chance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    Banked,
    BatchSize,
    DataOptions,
    Protocols,
    Split,
    Ties,
    Truth,
    bar,
    chosen,
    reads_data,
)

__all__ = ["compare"]


@reads_data(as_option=True)
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN RUN...",
            help="Run folders or hf:NAME, two or more; every further one is compared with the FIRST.",
        ),
    ],
    data: DataOptions,
    truth: Truth = None,
    split: Split = None,
    protocol: Protocols = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric",
            metavar="NAME",
            help='What is tested: R@5, "i2t R@5", ... or all. Repeat it. Default: RSUM and R@1 each way.',
        ),
    ] = None,
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="Compare every run with every other, not with the first alone.")
    ] = False,
    ties: Ties = "expected",
    bank: Banked = None,
    batch_size: BatchSize = 256,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of rows.")] = False,
) -> None:
    """Compare runs on the same pairs.

    Measures every run as evaluate does, then each one's difference from the FIRST: its 95 % interval over images, and
    how often chance alone gives as much (paired randomisation test over images, corrected for the number of
    comparisons). Runs that differ in nothing but the seed are also summed up as mean and standard deviation.

    manymatch compare runs/dive-0 runs/dive-1 runs/pvse-0 runs/pvse-1 --data captions.jsonl
    """
    from ..evaluation import compare as run

    pairs = chosen(data.read(truth), split)
    with bar("comparing") as progress:
        found = run(
            runs,
            pairs,
            protocol=protocol or None,
            ties=ties,
            metric=metric or None,
            all_pairs=all_pairs,
            bank=bank,
            batch_size=batch_size,
            progress=progress,
        )
    if as_json:
        for note in found.notes:
            typer.echo(note, err=True)
    typer.echo(found.json() if as_json else str(found))
