"""Truth from a file of matches."""

from pathlib import Path

import numpy as np
import pytest

from manymatch.data.pairs import Item, Pairs
from manymatch.data.sources import read_pairs
from manymatch.data.truths import MatchesFile, open_truths
from manymatch.errors import DataError

PAIRS = Pairs([Item("a", ("x", "y"), split="val"), Item("b", ("z",), split="val"), Item("3", ("w",), split="test")])


def write(folder: Path, *lines: str) -> Path:
    path = folder / "truth.jsonl"
    path.write_text("\n".join(lines))
    return path


def test_both_directions_are_joined_and_own_pairs_are_not_invented(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        '{"query": "a", "matches": ["a#0", "b#0", "gone#0"]}',
        '{"query": "a#1", "matches": ["b", "b"]}',
        '{"query": "b#0", "matches": ["a"]}',
        '{"query": 3, "matches": []}',
        '{"query": "gone", "matches": ["a#1"]}',
        '{"query": "a", "matches": ["3#0", "b"]}',
    )
    truth = MatchesFile(path)
    expected = np.array([[1, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]], bool)
    np.testing.assert_array_equal(truth.matches(PAIRS).dense(), expected)
    np.testing.assert_array_equal(truth.matches(PAIRS.split("val")).dense(), expected[:2, :3])
    np.testing.assert_array_equal(truth.matches(PAIRS.split("test")).dense(), [[False]])
    assert truth.problems == []


def test_a_split_without_a_query_is_an_error_not_an_empty_truth(tmp_path: Path) -> None:
    truth = MatchesFile(write(tmp_path, '{"query": "a", "matches": ["a#0"]}'))
    with pytest.raises(DataError, match=r"lists no image or caption of pairs:test as a query.*'a'.*'3'"):
        truth.matches(PAIRS.split("test"))


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("{half", "not JSON"),
        ("[1]", "not an object"),
        ('{"query": "a"}', "not a match"),
        ('{"query": ["a"], "matches": []}', "not a match"),
        ('{"query": "a", "matches": "b#0"}', "not a match"),
        ('{"query": "a", "matches": ["b#0", null]}', "bad match"),
    ],
)
def test_bad_rows_are_listed_with_the_pairs(tmp_path: Path, line: str, kind: str) -> None:
    path = write(tmp_path, '{"query": "a", "matches": ["a#0"]}', "", line)
    (tmp_path / "pairs.jsonl").write_text('{"image": "a", "captions": ["x"]}')
    pairs = read_pairs(tmp_path / "pairs.jsonl", truth=path)
    assert [(p.file, p.line, p.kind) for p in pairs.problems] == [(str(path), 3, kind)]
    exhaustive = pairs.exhaustive()
    assert exhaustive is not None and len(exhaustive) == 1
    with pytest.raises(DataError, match=f"truth.jsonl:3: {kind}"):
        read_pairs(tmp_path / "pairs.jsonl", truth=path, strict=True)


def test_nothing_usable_and_no_such_file_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no line of .* is usable; first of 1 problems"):
        MatchesFile(write(tmp_path, '{"image": "a", "captions": ["x"]}'))
    with pytest.raises(DataError, match=r"no such file.*'truth.jsonl'"):
        MatchesFile(tmp_path / "truths.jsonl")


def test_rankings_beside_the_truth_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "run.jsonl").write_text('{"query": "a", "ranking": ["a#0"]}\n')
    (tmp_path / "truth.jsonl").write_text('{"query": "a", "matches": ["a#0"]}\n')
    assert open_truths(tmp_path)["matches"].path == tmp_path / "truth.jsonl"
