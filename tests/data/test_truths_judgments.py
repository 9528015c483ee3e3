"""Expert grades and crowd votes from tab-separated files."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manymatch.data.pairs import Item, Pairs
from manymatch.data.sources import read_pairs
from manymatch.data.truths import open_truths
from manymatch.data.truths.crowd import CrowdJudgments
from manymatch.data.truths.expert import ExpertRatings
from manymatch.errors import DataError

PAIRS = Pairs([Item("a", ("x", "y"), split="val"), Item("b", ("z",), split="val"), Item("c", ("w",), split="test")])
EXPERT = ["b\ta#1\t1\t2\t2", "a\tb#0\t4\t4\t3", "a\ta#0\t4\t4\t4", "c\ta#0\t1\t1\t1", "gone\ta#0\t4\t4\t4"]
CROWD = ["a\tb#0\t0.666666666666667\t2\t1", "a\ta#1\t0\t0\t3", "b\ta#0\t0.5\t2\t2", "b\ta#1\t1\t3\t0"]


def write(folder: Path, lines: list[str], name: str = "judgments.txt") -> Path:
    path = folder / name
    data = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    return path


def test_grades_are_means_in_the_order_of_their_pairs(tmp_path: Path) -> None:
    truth = ExpertRatings([write(tmp_path, EXPERT)])
    judged, grades = truth.grades(PAIRS)
    assert list(zip(judged.images, judged.captions, strict=True)) == [(0, 0), (0, 2), (1, 1), (2, 0)]
    np.testing.assert_allclose(grades, [4, 11 / 3, 5 / 3, 1])
    judged, grades = truth.grades(PAIRS.take([2, 0]))
    assert (judged.images.tolist(), judged.captions.tolist()) == ([0, 1], [1, 1])
    assert (judged.shape, grades.tolist()) == ((2, 3), [1, 4])
    assert truth.problems == []


def test_more_than_half_must_say_yes(tmp_path: Path) -> None:
    positives, judged = CrowdJudgments([write(tmp_path, CROWD)]).positives(PAIRS)
    expected = np.zeros((3, 4), bool)
    expected[0, 2] = expected[1, 1] = True
    np.testing.assert_array_equal(positives.dense(), expected)
    expected[0, 1] = expected[1, 0] = True
    np.testing.assert_array_equal(judged.dense(), expected)


@pytest.mark.parametrize("suffix", ["txt", "txt.gz", "anything"])
def test_files_are_known_by_their_content(tmp_path: Path, suffix: str) -> None:
    one, two = write(tmp_path, EXPERT, f"one.{suffix}"), write(tmp_path, CROWD, f"two.{suffix}")
    (tmp_path / "vectors.npy").write_bytes(b"\x93NUMPY" + bytes(range(256)) * 999)
    write(tmp_path, ["a\tb", "readme"], "readme.txt")
    write(tmp_path, ['{"image": "a", "captions": ["x"]}'], "captions.jsonl")
    found = open_truths([two, one])
    assert isinstance(found["graded"], ExpertRatings) and isinstance(found["crowd"], CrowdJudgments)
    assert set(open_truths(tmp_path)) == {"graded", "crowd"}


@given(st.lists(st.sampled_from(["0", "1", "2", "3", "4", "5", "0.5", "1.0", "0.75", "x"]), min_size=3, max_size=3))
def test_no_line_is_of_both_kinds(columns: list[str]) -> None:
    def reads(kind: type[ExpertRatings] | type[CrowdJudgments]) -> bool:
        try:
            return kind.value(columns) >= 0
        except ValueError:
            return False

    assert not (reads(ExpertRatings) and reads(CrowdJudgments))


@pytest.mark.parametrize(
    ("kind", "line", "said"),
    [
        (ExpertRatings, "a\tb#0\t1\t2", "found 4 tab-separated columns, expected 5: image, caption, three grades"),
        (ExpertRatings, "a\tb\t1\t2\t3", "found image 'a' and caption 'b', expected an id and one like"),
        (ExpertRatings, "a\tb#x\t1\t2\t3", "caption 'b#x'"),
        (ExpertRatings, "\tb#0\t1\t2\t3", "found image ''"),
        (ExpertRatings, "a\tb#0\t1\t5\t3", "the grades are 1, 5, 3, expected three whole numbers from 1 to 4"),
        (ExpertRatings, "a\tb#0\t1\tnan\t3", "the grades are 1, nan, 3"),
        (CrowdJudgments, "a\tb#0\t0.5\t1.5\t1", "expected a share of yes and two whole numbers"),
        (CrowdJudgments, "a\tb#0\tnan\t1\t1", "the share of yes is nan, but 1 of 2 said yes"),
        (CrowdJudgments, "a\tb#0\t0\t0\t0", "0 said yes and 0 said no, expected at least one judge"),
        (CrowdJudgments, "a\tb#0\t0.9\t1\t2", "the share of yes is 0.9, but 1 of 3 said yes"),
    ],
)
def test_bad_rows_are_listed_with_their_line(tmp_path: Path, kind: type, line: str, said: str) -> None:
    good = EXPERT if kind is ExpertRatings else CROWD
    path = write(tmp_path, [good[0], "", line, good[1]])
    truth = kind([path])
    assert [(p.file, p.line, p.kind) for p in truth.problems] == [(str(path), 3, "bad judgment")]
    assert said in truth.problems[0].detail
    assert len(truth.among(PAIRS)[1]) == 2
    with pytest.raises(DataError, match=re.escape(f"{path}:3: bad judgment")):
        kind([path], strict=True)


def test_of_a_pair_judged_twice_the_first_line_stays(tmp_path: Path) -> None:
    one = write(tmp_path, [EXPERT[0]], "one.txt")
    two = write(tmp_path, ["c\ta#0\t1\t1\t1", "b\ta#01\t4\t4\t4"], "two.txt")
    truth = ExpertRatings([one, two])
    assert [(p.file, p.line, p.kind) for p in truth.problems] == [(str(two), 2, "repeated judgment")]
    np.testing.assert_allclose(truth.grades(PAIRS)[1], [5 / 3, 1])


def test_a_file_that_breaks_off_keeps_its_whole_lines(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [f"i{n}\ti{rng.integers(1 << 30)}#0\t1\t2\t3" for n in range(3000)]
    path = write(tmp_path, ["a\ta#0\t1\t2\t3", *lines], "cut.gz")
    path.write_bytes(path.read_bytes()[:-4000])
    truth = ExpertRatings([path])
    assert len(truth.grades(PAIRS)[1]) == 1
    assert "the gzip stream breaks off here" in truth.problems[-1].detail


def test_not_text_and_endless_lines_are_bad_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manymatch.data.files.LONGEST_LINE", 60)
    path = tmp_path / "odd.txt"
    path.write_bytes(b"\xef\xbb\xbf" + EXPERT[1].encode() + b"\r\n\xff\tb#0\t1\t1\t1\r\n" + b"a" * 100 + b"\n")
    truth = ExpertRatings([path])
    assert [p.line for p in truth.problems] == [2, 3]
    assert "byte 1 of the line is not UTF-8" in truth.problems[0].detail
    assert "longer than 60 bytes" in truth.problems[1].detail
    np.testing.assert_allclose(truth.grades(PAIRS)[1], [11 / 3])


def test_nothing_usable_and_other_data_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no line of .* is usable; first of 1 problems"):
        ExpertRatings([write(tmp_path, ["a b c"])])
    truth = ExpertRatings([write(tmp_path, ["gone\ta#0\t1\t1\t1", "a\tgone#0\t1\t1\t1"])])
    with pytest.raises(DataError, match=r"judges no image of pairs with one of its captions.*'gone'.*\['a'\]"):
        truth.grades(PAIRS)


def test_pairs_carry_them_and_their_problems(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"image": "a", "captions": ["x", "y"]}\n{"image": "b", "captions": ["z"]}\n')
    files = [write(tmp_path, [*EXPERT, "half a line"], "expert.txt"), write(tmp_path, CROWD, "crowd.gz")]
    pairs = read_pairs(tmp_path / "data.jsonl", truth=files)
    assert set(pairs.truths) == {"graded", "crowd"} and pairs.truth is None
    assert [(p.file, p.line) for p in pairs.problems] == [(str(files[0]), 6)]
