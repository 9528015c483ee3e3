"""The page: sections in their order, and a file that holds everything it shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path

from .. import __version__
from ..data.files import Progress
from ..data.pairs import Pairs
from ..data.writing import whole_file
from ..errors import DataError
from ..methods import Model
from . import sections
from .gather import Asked, Material, gather, open_runs
from .markup import Html, join, tag

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
    asked = Asked(examples, names, resamples, times, grid, seed)
    text = page(gather(open_runs(runs), pairs, asked, progress))
    try:
        with whole_file(out) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise DataError(f"report: {str(out)!r} cannot be written ({error.strerror})") from None
    return out


def page(material: Material) -> str:
    """The whole document."""
    parts = [
        tag("section", tag("h2", tag("span", str(number), class_="number"), title), make(material), id=name.lower())
        for number, (name, title, make) in enumerate(_SECTIONS, 1)
    ]
    links = [tag("li", tag("a", name, href=f"#{name.lower()}")) for name, _, _ in _SECTIONS]
    body = [
        sections.head(material),
        tag("nav", tag("ol", *links), aria_label="Sections"),
        tag("main", *parts),
        tag("footer", f"Made by manymatch {__version__}. Everything on this page lies in this one file."),
    ]
    names = " and ".join(seen.name for seen in material.seen)
    top = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{names} on {material.pairs.name}"),
        tag("style", Html(files(__package__).joinpath("style.css").read_text(encoding="utf-8"))),
    ]
    # Photos are known when everything else is written; they stand first, so that no browser shows a hole.
    body = [material.pictures.definitions(), *body]
    document = tag("html", tag("head", join(top, "\n")), "\n", tag("body", join(body, "\n")), lang="en")
    return f"<!DOCTYPE html>\n{document}\n"
