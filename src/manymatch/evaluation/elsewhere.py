"""Scores and rankings of any system: arrays in memory, `.npy` and `.npz` files, ranked lists."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.arrays import open_arrays
from ..data.files import Progress, regular_file
from ..data.pairs import Pairs
from ..errors import DataError
from .encoding import expect_both
from .list_files import read_lists
from .lists import ListScores
from .protocols import PROTOCOLS
from .scores import MatrixScores

__all__ = ["Elsewhere", "Given", "StoredScores", "source_of"]

Array = np.ndarray[Any, Any]
Given = Array | Tensor | Mapping[str, Any] | str | Path
"""Scores, or where they are."""

_NAMES = ("i2t", "t2i", "t2t", "i2i")


@dataclass(frozen=True)
class Elsewhere:
    """Scores that no model here gave.

    Attributes:
        source: of the scores; its `notes` say what it passed over, complete once everything was ranked.
        names: what tables call each file or array.
        made: what each of them holds, one line each.
    """

    source: StoredScores | ListScores
    names: tuple[str, ...]
    made: tuple[str, ...]

    def measurable(self, names: Sequence[str], pairs: Pairs, named: bool) -> list[str]:
        """The protocols among `names` that can be measured: all, if the user named them.

        Of protocols that nobody named, those that read whole rows of scores are left out of ranked lists, with a note.
        """
        if named or isinstance(self.source, StoredScores):
            return list(names)
        reading = [name for name in names if PROTOCOLS[name].ask(pairs).rows]
        self.source.notes += [f"{name}: ranked lists hold no scores to read; it is left out" for name in reading]
        return [name for name in names if name not in reading]


@dataclass(frozen=True)
class _Matrices:
    """The matrices of one file, or of one argument."""

    name: str
    arrays: Mapping[str, Array]

    @property
    def summary(self) -> str:
        shapes = (f"{name} {array.shape} {array.dtype}" for name, array in self.arrays.items())
        return f"{self.name}: scores from elsewhere, {', '.join(shapes)}"


def source_of(models: Any, pairs: Pairs, progress: Progress | None = None) -> Elsewhere | None:
    """What `evaluate` was given, when it is scores or ranked lists; None when it is models.

    Args:
        models: an array or tensor (i, c); a mapping with such under "i2t" and, where they are known and differ, "t2i"
            (c, i), "t2t" (c, c), "i2i" (i, i); the path of a file; or a list of these, whose mean is ranked. Ranked
            lists of several files are joined.
        pairs: what was scored: rows are its images in their order, columns its captions in theirs.
        progress: called with (done, total) tiles.

    Raises:
        DataError: models and files mixed, or matrices and lists; a matrix of another shape; a file that cannot be read.
    """
    given = list(models) if isinstance(models, list | tuple) else [models]
    if not _outside(given):
        return None
    expect_both(pairs)
    paths = {n: _file(Path(each)) for n, each in enumerate(given) if isinstance(each, str | Path)}
    lists = [path for path in paths.values() if not _is_numpy(path)]
    if not lists:
        names = [paths[n].name if n in paths else _called(n, len(given)) for n in range(len(given))]
        opened = [_Matrices(name, _arrays(paths.get(n, given[n]), name)) for n, name in enumerate(names)]
        return Elsewhere(StoredScores(opened, pairs, progress), tuple(names), tuple(each.summary for each in opened))
    if len(lists) < len(given):
        raise DataError(
            f"evaluate: {lists[0].name} holds ranked lists, others hold score matrices; a mean needs scores of all"
        )
    source = ListScores([(path, read_lists(path)) for path in lists], pairs)
    names = [path.name for path in lists]
    return Elsewhere(source, tuple(names), tuple(f"{name}: ranked lists from elsewhere" for name in names))


def _outside(given: Sequence[Any]) -> bool:
    """Whether these are scores, not models. Raises DataError for anything else, and for some of both."""
    outside = [isinstance(each, np.ndarray | Tensor | Mapping | str | Path) for each in given]
    for each, known in zip(given, outside, strict=True):
        if not known and not hasattr(each, "encode_images"):
            raise DataError(
                f"evaluate: found {type(each).__name__}, expected a model, an array or tensor of scores (images, "
                "captions), a mapping of them, or the path of a file"
            )
    if any(outside) and not all(outside):
        raise DataError(
            "evaluate: models and files of scores cannot be one ensemble: a model leaves out pictures it cannot read, "
            "and nothing says that its scores have the files' scale; give one or the other"
        )
    return any(outside)


def _file(path: Path) -> Path:
    if path.is_dir():
        raise DataError(
            f"evaluate: {str(path)!r} is a folder, expected a file of scores; a run is given as load({str(path)!r})"
        )
    return regular_file(path, "scores")


def _called(number: int, total: int) -> str:
    return "scores" if total == 1 else f"scores {number + 1}"


def _is_numpy(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(6).startswith((b"\x93NUMPY", b"PK\x03\x04"))
    except OSError as error:
        raise DataError(f"scores: {str(path)!r} cannot be read ({error})") from None


def _arrays(given: Any, name: str) -> dict[str, Array]:
    if isinstance(given, Path):
        return _opened(given)
    if not isinstance(given, Mapping):
        return {"i2t": _array(given)}
    _expect_names(name, given)
    return {kind: _array(given[kind]) for kind in _NAMES if kind in given}


def _opened(path: Path) -> dict[str, Array]:
    found = open_arrays(path, frozenset(_NAMES), "scores")
    if "" in found:
        return {"i2t": found[""]}
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
    _expect_names(str(path), names)
    return {kind: found[kind] for kind in _NAMES if kind in found}


def _expect_names(what: str, names: Any) -> None:
    """A misspelt t2i would otherwise be taken for a similarity that is the same both ways."""
    if "i2t" not in names or set(names) - set(_NAMES):
        raise DataError(
            f"scores: {what} holds {', '.join(sorted(map(str, names))) or 'nothing'}; expected i2t (images, captions) "
            "and, where they are known and differ, t2i (captions, images), t2t, i2i"
        )


def _array(given: Any) -> Array:
    if isinstance(given, Tensor):
        tensor = given.detach().cpu()
        return np.asarray((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy())
    return np.asarray(given)


class StoredScores(MatrixScores):
    """Scores from elsewhere, checked against the pairs they are of.

    Args:
        given: what holds them.
        pairs: what was scored.
        progress: called with (done, total) tiles.

    Raises:
        DataError: an array that holds no real numbers, or has another shape than `pairs` say.
    """

    def __init__(self, given: Sequence[_Matrices], pairs: Pairs, progress: Progress | None = None) -> None:
        super().__init__(
            [each.arrays for each in given],
            image_ids=pairs.image_ids,
            caption_ids=pairs.caption_ids,
            progress=progress,
        )
        for each in given:
            for kind, array in each.arrays.items():
                self._check(each.name, kind, array, pairs)
        several = "the mean of several files' scores: where their scales differ, the larger one decides"
        self.notes: list[str] = [several] if len(given) > 1 else []

    def _check(self, name: str, kind: str, array: Array, pairs: Pairs) -> None:
        if array.dtype.kind not in "biuf":
            raise DataError(f"scores: {kind} of {name} holds {array.dtype}, expected real numbers")
        ids = {"i": pairs.image_ids, "t": pairs.caption_ids}
        asks, asked = (self._said(letter, ids[letter]) for letter in (kind[0], kind[2]))
        expected = len(ids[kind[0]]), len(ids[kind[2]])
        if array.shape == expected:
            return
        hint = "; it is there turned round" if array.shape == expected[::-1] else ""
        gone = f" ({len(pairs.problems)} bad rows or captions of the data are not counted)" if pairs.problems else ""
        raise DataError(
            f"scores: {kind} of {name} has shape {array.shape}, expected {expected}{hint}: a row for each {asks}, "
            f"a column for each {asked}, in the order of {pairs.name}{gone}"
        )

    def _said(self, letter: str, ids: Sequence[str]) -> str:
        return f"{self.sides[letter].kind} ({', '.join(ids[:2])}{', ...' if len(ids) > 2 else ''})"
