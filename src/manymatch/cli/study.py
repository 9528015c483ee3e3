"""`manymatch study FILE.toml --out DIR`: methods x settings x seeds, trained alike and compared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["study"]


def study(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The study, TOML: data, seeds, rows, claims.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of its runs and results.")],
    jobs: Annotated[int, typer.Option("--jobs", min=1, metavar="N", help="Runs trained at once.")] = 1,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, metavar="N", help="Of each run. Default: the cores shared.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            "--only",
            metavar="ROW",
            help="Train only this row and its members; tables wait for the others. Repeat it.",
        ),
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(
            "--records",
            metavar="DIR",
            help="Small files of what was measured, one a run: what has one is not trained, the others get one.",
        ),
    ] = None,
    train: Annotated[
        bool, typer.Option("--train/--no-train", help="Train what is missing, or only measure what is there.")
    ] = True,
) -> None:
    """Train methods with several seeds, then measure and compare them.

    The same command goes on after an interruption, and trains what was added to FILE. Validation chooses; the test
    split is read when everything is trained. DIR then holds results.json, table.md and index.html.

    manymatch study methods.toml --out runs/methods --jobs 2 --threads 1

    With --records what is trained on one machine goes on on another, and a row of your own is compared with rows that
    others have trained.
    """
    from ..report.study import study as run

    page = run(file, out, jobs=jobs, threads=threads, only=only or (), records=records, train=train)
    if page is not None:
        typer.echo(page)
