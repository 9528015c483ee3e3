"""`manymatch evaluate RUN... --data DATA`: the field's table for one run, or for several as one ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import (
    BatchSize,
    EvaluatedData,
    FeaturesOption,
    Field,
    Images,
    Pooled,
    Protocols,
    Split,
    Ties,
    Truth,
    bar,
    chosen,
    read,
)

__all__ = ["evaluate"]


def evaluate(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Run folders; several are evaluated as one ensemble. Or files of any other system: "
            "scores (.npy, .npz) or ranked lists (TREC run file, JSON).",
        ),
    ],
    data: EvaluatedData,
    images: Images = None,
    features: FeaturesOption = None,
    pooled: Pooled = None,
    truth: Truth = None,
    field: Field = None,
    split: Split = None,
    protocol: Protocols = None,
    ties: Ties = "expected",
    batch_size: BatchSize = 256,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of rows.")] = False,
) -> None:
    """Measure a run, or several as an ensemble.

    Ranks every caption for every image and every image for every caption, and prints how well that went.
    """
    from ..data.files import regular_file
    from ..evaluation import evaluate as measure
    from ..runs import load

    pairs = chosen(read(data, images, features, pooled, field, truth), split)
    # What is not there is looked for as a file: that message names the near ones, run folders too.
    models = [load(run, device="auto") if run.is_dir() else regular_file(run, "evaluate") for run in runs]
    with bar("evaluating") as progress:
        report = measure(
            models,
            pairs,
            protocol=protocol or None,
            ties=ties,
            batch_size=batch_size,
            run=[run.resolve().name for run in runs],
            progress=progress,
        )
    if as_json:
        for note in report.notes:
            typer.echo(note, err=True)
    typer.echo(report.json() if as_json else str(report))
