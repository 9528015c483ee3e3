"""`manymatch evaluate RUN... --data DATA`: the field's table for one run, or for several as one ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    Banked,
    BatchSize,
    DataOptions,
    Elements,
    Protocols,
    Split,
    Ties,
    Truth,
    bar,
    chosen,
    reads_data,
)

__all__ = ["evaluate"]


@reads_data(as_option=True, store=True)
def evaluate(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Run folders, or hf:NAME of a pretrained network; several are evaluated as one ensemble. Or files of "
            "any other system: scores (.npy, .npz) or ranked lists (TREC run file, JSON).",
        ),
    ],
    data: DataOptions,
    truth: Truth = None,
    split: Split = None,
    protocol: Protocols = None,
    ties: Ties = "expected",
    bank: Banked = None,
    elements: Elements = None,
    batch_size: BatchSize = 256,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of rows.")] = False,
) -> None:
    """Measure a run, or several as an ensemble.

    Ranks every caption for every image and every image for every caption, and prints how well that went.
    """
    from ..data.files import regular_file
    from ..evaluation import evaluate as measure
    from ..runs import is_run, load

    pairs = chosen(data.read(truth), split)
    # What is not there is looked for as a file: that message names the near ones, run folders too.
    models = [
        load(run, device="auto", elements=elements) if is_run(run) else regular_file(run, "evaluate") for run in runs
    ]
    with bar("evaluating") as progress:
        report = measure(
            models,
            pairs,
            protocol=protocol or None,
            ties=ties,
            bank=bank,
            batch_size=batch_size,
            run=[run.resolve().name for run in runs],
            progress=progress,
            store=data.store,
            say=lambda line: typer.echo(line, err=True),
        )
    if as_json:
        for note in report.notes:
            typer.echo(note, err=True)
    typer.echo(report.json() if as_json else str(report))
