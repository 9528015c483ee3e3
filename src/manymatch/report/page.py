"""The page: sections in their order, and a file that holds everything it shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..data.files import Progress
from ..data.pairs import Pairs
from ..data.writing import whole_file
from ..errors import DataError
from ..methods import Model
from . import sections
from .frame import document, framed, section
from .gather import Asked, Material, gather, open_runs
from .markup import Html

__all__ = ["page", "write_report"]

_SECTIONS: tuple[tuple[str, str, Callable[[Material], Html]], ...] = (
    ("Accuracy", "Accuracy", sections.accuracy),
    ("Training", "Training", sections.training),
    ("Time", "Accuracy against query time", sections.speed),
    ("Examples", "Example queries", sections.examples),
    ("Failures", "Worst failures", sections.failures),
    ("Sets", "What the elements of a set see", sections.sets),
    ("Variance", "Variance", sections.gaussians),
    ("Relations", "Relations", sections.relations),
    ("Ambiguity", "Ambiguity and right answers", sections.ambiguous),
)
"""Name in the bar at the top, title, and what makes it."""


def write_report(
    runs: Sequence[Model | str | Path],
    pairs: Pairs,
    out: str | Path,
    *,
    examples: int = 8,
    protocol: str | Sequence[str] | None = None,
    bank: bool | None = None,
    resamples: int = 1000,
    times: bool = True,
    grid: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Path:
    """One HTML page on what runs do on some pairs, in one file that needs no other.

    With `times=False` the same runs and pairs give the same bytes.

    Args:
        runs: run folders, or models; training curves are in folders alone.
        pairs: what is encoded and ranked; usually a test split.
        out: the file; it appears whole or not at all.
        examples: queries of each direction that are shown.
        protocol: names, as for `evaluate`; by default what the truth of the data allows.
        bank: rank with the runs' query banks, as for `evaluate`; by default each where it may be.
        resamples: of the bootstrap behind the 95 % intervals; 0 leaves them out.
        times: measure how long a query takes.
        grid: the fragments of a feature file are the cells of a square grid, row by row, so that attention can be drawn
            on the photos.
        seed: of what is drawn at random.
        progress: called with (done, total) of each stage.

    Returns:
        The path of the file.

    Raises:
        DataError: no run, nothing to rank, fewer than one example, or a place that cannot be written to.
        CheckpointError: a folder that is no run.
        UnknownName: a protocol that does not exist.
    """
    out = Path(out)
    if examples < 1:
        raise DataError(f"report: examples {examples}, expected at least 1")
    if not out.parent.is_dir() or out.is_dir():
        what = "is a folder" if out.is_dir() else "lies in no folder that exists"
        raise DataError(f"report: {str(out)!r} {what}; name a file, such as report.html")
    names = [protocol] if isinstance(protocol, str) else protocol
    asked = Asked(examples, names, resamples, times, grid, seed, bank)
    text = page(gather(open_runs(runs), pairs, asked, progress))
    try:
        with whole_file(out) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise DataError(f"report: {str(out)!r} cannot be written ({error.strerror})") from None
    return out


def page(material: Material) -> str:
    """The whole document."""
    parts = [section(number, name, title, make(material)) for number, (name, title, make) in enumerate(_SECTIONS, 1)]
    body = [
        sections.head(material),
        *framed(parts, [name for name, _, _ in _SECTIONS]),
    ]
    names = " and ".join(seen.name for seen in material.seen)
    # Photos are known when everything else is written; they stand first, so that no browser shows a hole.
    return document(f"{names} on {material.pairs.name}", [material.pictures.definitions(), *body])
