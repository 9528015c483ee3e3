"""`manymatch index-check X`: whether an index is whole, mending what can be made again, and giving back room."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import DataError

if TYPE_CHECKING:
    from ..index.care.checkup import Checkup, Told
    from ..index.care.mending import Compacted

__all__ = ["index_check"]

_SHOWN = 50
"""Findings that are printed; `--json` has all of them."""


def index_check(
    index: Annotated[Path, typer.Argument(metavar="X", help="The index folder.")],
    repair: Annotated[
        bool, typer.Option("--repair", help="Make again what is derived and not as it should be.")
    ] = False,
    compact: Annotated[
        bool,
        typer.Option("--compact", help="Forget what was deleted, give its room back, and make anew what is derived."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Verify an index: checksums, counts, the run, derived files, agreement. Exits with 2 when something is wrong."""
    from ..index import Index

    with Index.open(index) as opened, _steps() as told:
        found = opened.repair(told) if repair else opened.check(told)
        compacted = None
        if compact and not found.problems:
            compacted = opened.compact(told)
    if as_json:
        sizes = {} if compacted is None else {"compacted": compacted.to_json()}
        typer.echo(json.dumps(found.to_json() | sizes, ensure_ascii=False))
    else:
        _show(found, compacted)
    if found.problems:
        raise DataError(_summary(found) + ("; not compacted" if compact else ""))
    if not as_json:
        typer.echo(_summary(found))


def _show(found: Checkup, compacted: Compacted | None) -> None:
    for line in found.mended:
        typer.echo(f"mended: {line}")
    for line in found.looked:
        typer.echo(f"fine: {line}")
    for line in found.skipped:
        typer.echo(f"not checked: {line}")
    for finding in found.findings[:_SHOWN]:
        typer.echo(f"{'note' if finding.harmless else 'problem'}: {finding}")
    if len(found.findings) > _SHOWN:
        typer.echo(f"and {len(found.findings) - _SHOWN} more; --json lists them")
    if compacted is not None:
        for name in sorted({*compacted.before, *compacted.after}):
            typer.echo(
                f"compacted: {name}: {compacted.before.get(name, 0):,} -> {compacted.after.get(name, 0):,} bytes"
            )
        for line in compacted.notes:
            typer.echo(f"note: {line}")


def _summary(found: Checkup) -> str:
    problems, notes = len(found.problems), len(found.findings) - len(found.problems)
    more = f", {notes} note{'s' * (notes > 1)}" if notes else ""
    if problems:
        one = "1 problem" if problems == 1 else f"{problems} problems"
        return f"index-check: {found.path}: {one}{more}, {found.seconds:.1f} s; the lines above say what to do"
    return f"{found.path}: all is well{more}, {found.seconds:.1f} s"


@contextmanager
def _steps() -> Iterator[Told]:
    """A bar on stderr for what takes longer than two seconds, named after the step."""
    from tqdm import tqdm

    step = ""
    with tqdm(delay=2, leave=False, file=sys.stderr, dynamic_ncols=True, disable=None) as shown:

        def told(what: str, done: int, total: int) -> None:
            nonlocal step
            if what != step:
                step = what
                shown.reset()
                shown.set_description(what, refresh=False)
            shown.total = total or None
            shown.update(done - shown.n)

        yield told
