"""A start for the word table from a file of word vectors (GloVe, word2vec and fastText as text)."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from torch import Tensor

from ..errors import DataError

__all__ = ["start_vectors"]

_GZIP = b"\x1f\x8b"


def start_vectors(path: str | Path, words: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Rows of a word table, from a text file of `word v1 ... vd` a line, plain or gzipped.

    The file is streamed: memory holds the wanted rows only. A word that the file lacks is looked for once more without
    "-", "." and "'" and cut at "/" (authors' code of PVSE, PCME and DivE). What is still absent is drawn from N(0, 1),
    as their table starts; GloVe's own numbers have a standard deviation near 0.4, so absent words start longer.

    Args:
        path: the file; a first line of two counts (word2vec, fastText) is passed over.
        words: by row; "" is absent.

    Returns:
        Rows (n, d) float32, and which words were found (n,) bool.

    Raises:
        DataError: the file cannot be read, a line is short or a wanted one holds no finite numbers (named by its
            number), or none of the words is in it.
    """
    path = Path(path)
    wanted: dict[str, list[int]] = {}
    second: dict[str, list[int]] = {}
    for row, word in enumerate(words):
        wanted.setdefault(word, []).append(row)
        second.setdefault(_plain(word), []).append(row)
    for start in (wanted, second):
        start.pop("", None)
    exact, near, width = _read(path, wanted, second)
    rows, found = torch.randn(len(words), width), torch.zeros(len(words), dtype=torch.bool)
    # Spelt exactly goes last, so that it wins.
    for places, vectors in ((second, near), (wanted, exact)):
        for word, vector in vectors.items():
            rows[places[word]] = torch.from_numpy(vector)
            found[places[word]] = True
    if not bool(found.any()):
        raise DataError(f"{path}: holds none of the {len(words)} words, expected vectors of the captions' language")
    return rows, found


def _plain(word: str) -> str:
    return word.replace("-", "").replace(".", "").replace("'", "").split("/")[0]


Vectors = dict[str, np.ndarray[Any, np.dtype[np.float32]]]


def _read(path: Path, wanted: Mapping[str, Any], second: Mapping[str, Any]) -> tuple[Vectors, Vectors, int]:
    """Vectors of the wanted words, of their second spellings, and the width."""
    exact: Vectors = {}
    near: Vectors = {}
    width = 0
    for number, line in _lines(path):
        blanks = line.count(" ")
        if not line or (number == 1 and blanks == 1):
            continue
        width = width or blanks
        if blanks < width or not width:
            raise DataError(f"{path}, line {number}: found {blanks} numbers behind a word, expected {width or 'some'}")
        word = line.partition(" ")[0]
        if blanks > width or (word not in wanted and word not in second):
            # A word with blanks in it (GloVe's 840B has some) is no word of a caption.
            continue
        vector = _vector(line.split(" ")[1:], path, number)
        if word in wanted:
            exact.setdefault(word, vector)
        if word in second:
            near.setdefault(word, vector)
    if not width:
        raise DataError(f"{path}: found no line with a word and its vector")
    return exact, near, width


def _vector(texts: list[str], path: Path, number: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    try:
        vector = np.array(texts, dtype=np.float32)
    except ValueError:
        raise DataError(f"{path}, line {number}: {' '.join(texts)[:40]!r} is not a row of numbers") from None
    if not np.isfinite(vector).all():
        raise DataError(f"{path}, line {number}: found a number that is not finite")
    return vector


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open("rb") as plain:
            zipped = plain.read(2) == _GZIP
            plain.seek(0)
            stream = cast(BinaryIO, gzip.GzipFile(fileobj=plain)) if zipped else plain
            for number, line in enumerate(stream, start=1):
                yield number, line.decode("utf-8", errors="replace").rstrip()
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read as a file of word vectors ({error})") from None
