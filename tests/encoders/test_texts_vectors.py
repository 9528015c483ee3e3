"""Files of word vectors: which words are found, and lines that hold none."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch

from manymatch.encoders.word_vectors import start_vectors
from manymatch.errors import DataError

FILE = "the 1 2\ndont 3 4\ndon't 5 6\nred 7 8\nice cream 9 9\nthe 0 0\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "vectors.txt").write_text(FILE)
    return tmp_path / "vectors.txt"


def test_words_are_found_as_spelt_and_then_plainly(path: Path) -> None:
    rows, found = start_vectors(path, ["the", "don't", "d-o.nt", "red/green", "ice", "", "the"])
    assert found.tolist() == [True, True, True, True, False, False, True]
    assert rows[found].tolist() == [[1, 2], [5, 6], [3, 4], [7, 8], [1, 2]], "the first line of a word counts"


def test_absent_words_are_drawn_from_a_unit_normal(path: Path) -> None:
    torch.manual_seed(0)
    rows, found = start_vectors(path, ["the", *(f"none{n}" for n in range(4000))])
    assert int(found.sum()) == 1 and rows.dtype == torch.float32
    assert float(rows[1:].std()) == pytest.approx(1.0, abs=0.05) and abs(float(rows[1:].mean())) < 0.05
    torch.manual_seed(0)
    assert torch.equal(start_vectors(path, ["the", *(f"none{n}" for n in range(4000))])[0], rows)


def test_gzip_header_and_blanks_at_the_end(path: Path, tmp_path: Path) -> None:
    (tmp_path / "v.vec.gz").write_bytes(gzip.compress(b"2 2\nthe 1 2 \nred 7 8\r\n\n"))
    rows, found = start_vectors(tmp_path / "v.vec.gz", ["red", "the"])
    assert found.all() and rows.tolist() == [[7, 8], [1, 2]]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("the 1 2\nred 1\n", r"line 2: found 1 numbers behind a word, expected 2"),
        ("the 1 2\nred 1 x\n", r"line 2: '1 x' is not a row of numbers"),
        ("the 1 2\nred 1 nan\n", r"line 2: found a number that is not finite"),
        ("the\n", r"line 1: found 0 numbers behind a word, expected some"),
        ("", r"found no line with a word and its vector"),
        ("der 1 2\n", r"holds none of the 2 words"),
    ],
)
def test_files_that_hold_no_vectors(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "v.txt").write_text(text)
    with pytest.raises(DataError, match=says):
        start_vectors(tmp_path / "v.txt", ["the", "red"])


def test_files_that_cannot_be_read(path: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt: cannot be read as a file of word vectors"):
        start_vectors(tmp_path / "none.txt", ["the"])
    cut = gzip.compress(FILE.encode() * 50)[:-12]
    (tmp_path / "cut.gz").write_bytes(cut)
    with pytest.raises(DataError, match=r"cut\.gz: cannot be read"):
        start_vectors(tmp_path / "cut.gz", ["the"])
