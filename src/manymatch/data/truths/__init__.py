"""Right answers and judgments beyond the own captions, each kind in its file.

A file is known by what it holds, the lists of COCO ids by the names they were published under: nothing in them says
whose they are. The name of a kind is the name of the protocol that reads it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ...errors import DataError
from ..files import read_objects
from ..pairs import Problem
from .coco import EccvFiles, is_eccv
from .crowd import CrowdJudgments
from .cxc import CxcFiles, is_cxc
from .expert import ExpertRatings
from .matches import MatchesFile

__all__ = ["MatchesFile", "TruthFile", "open_truths"]


class TruthFile(Protocol):
    """What every kind has in common.

    Attributes:
        problems: rows that were left out on reading.
    """

    problems: list[Problem]


Opener = Callable[[Sequence[Path], bool], TruthFile]
"""(the files of this kind, strict) -> what they hold."""

_KINDS: dict[str, tuple[Callable[[Path], bool], Opener]] = {
    "eccv": (is_eccv, lambda paths, strict: EccvFiles(paths, strict=strict)),
    "cxc": (is_cxc, lambda paths, strict: CxcFiles(paths, strict=strict)),
    "graded": (ExpertRatings.fits, lambda paths, strict: ExpertRatings(paths, strict=strict)),
    "crowd": (CrowdJudgments.fits, lambda paths, strict: CrowdJudgments(paths, strict=strict)),
    "matches": (lambda path: ".jsonl" in path.suffixes and _asks(path), lambda paths, strict: _only_one(paths, strict)),
}
"""Kind -> (whether a file is of it, how its files are opened)."""


def open_truths(given: str | Path | Sequence[str | Path] | None, *, strict: bool = False) -> dict[str, Any]:
    """What files and folders hold, by kind: the name of the protocol that reads it.

    Args:
        given: files, or folders of them; of a folder, files of no kind are passed over.
        strict: raise at the first bad row instead of listing it in `problems`.

    Raises:
        DataError: nothing there, or a file or a whole folder of no known kind.
    """
    paths = [] if given is None else [given] if isinstance(given, str | Path) else list(given)
    sorted_out: dict[str, list[Path]] = {}
    for path in map(Path, paths):
        # What no kind claims is read as matches, whose messages say what a line should be.
        found = (
            {file: _kind(file) for file in sorted(path.rglob("*"))}
            if path.is_dir()
            else {path: _kind(path) or "matches"}
        )
        known = {file: kind for file, kind in found.items() if kind is not None}
        if not known:
            raise DataError(f"truth: no file in {str(path)!r} is of a known kind ({', '.join(_KINDS)})")
        for file, kind in known.items():
            sorted_out.setdefault(kind, []).append(file)
    return {kind: _KINDS[kind][1](files, strict) for kind, files in sorted_out.items()}


def _kind(path: Path) -> str | None:
    return next((kind for kind, (fits, _) in _KINDS.items() if path.is_file() and fits(path)), None)


def _asks(path: Path) -> bool:
    """Whether some of the first lines list matches: in a folder pairs and rankings may lie beside their truth."""
    return any({"query", "matches"} <= set(line.value or ()) for line in itertools.islice(read_objects(path), 100))


def _only_one(paths: Sequence[Path], strict: bool) -> MatchesFile:
    if len(paths) > 1:
        raise DataError(f"truth: {len(paths)} files of matches, {paths[0]} and {paths[1]}; expected one")
    return MatchesFile(paths[0], strict=strict)
