"""`manymatch evaluate RUN... --data DATA`: the field's table for one run, or for several as one ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import FeaturesOption, Field, Images, Pooled, Truth, bar, read

if TYPE_CHECKING:
    from ..data.pairs import Pairs

__all__ = ["chosen", "evaluate"]


def evaluate(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Run folders; several are evaluated as one ensemble. Or files of any other system: "
            "scores (.npy, .npz) or ranked lists (TREC run file, JSON).",
        ),
    ],
    data: Annotated[Path, typer.Option("--data", metavar="DATA", help="JSON Lines, one object an image.")],
    images: Images = None,
    features: FeaturesOption = None,
    pooled: Pooled = None,
    truth: Truth = None,
    field: Field = None,
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="NAME", help="Which split. Default: test; all, when DATA has no splits."),
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            "--protocol",
            metavar="NAME",
            help="own, coco-5k, coco-1k, eccv, cxc, pmrp, labels, matches, graded, crowd, true-false, slices or "
            "uncertainty. Repeat it. Default: what the data's truth allows.",
        ),
    ] = None,
    ties: Annotated[
        str, typer.Option("--ties", help="How equal scores count: expected, optimistic or pessimistic.")
    ] = "expected",
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size",
            help="Items encoded at a time. It matters to runs in mode released alone, some of which depend on padding.",
        ),
    ] = 256,
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


def chosen(pairs: Pairs, split: str | None) -> Pairs:
    """The asked split, else the test split, else (said on stderr) everything."""
    if split is None and not pairs.splits:
        typer.echo(f"{pairs.name} has no splits; all {len(pairs)} images are evaluated", err=True)
        return pairs
    return pairs.split(split or "test")
