"""`manymatch train` to `manymatch search` on a small world, and the slips of a first day."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from manymatch.cli import app
from manymatch.data.toy import write_toy
from manymatch.errors import DataError, UnknownName

SMALL = ["--set", "epochs=1", "--set", "dim=16", "--set", "word_dim=8", "--set", "least_count=1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"), 60, size=32)


def call(*arguments: object) -> str:
    told = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    if told.exception is not None and not isinstance(told.exception, SystemExit):
        raise told.exception
    assert told.exit_code == 0
    return told.output


def test_from_captions_to_hits(data: Path, tmp_path: Path) -> None:
    run, index = tmp_path / "run", tmp_path / "x"
    pictures = data.with_name("images.tar")
    told = call("train", "dive", data, "--images", pictures, "--out", run, *SMALL)
    assert f"next: manymatch evaluate {run} --data {data} --images {pictures}\n" in told
    assert f"manymatch index {data} --images {pictures} --model {run} --out X\n" in told
    with pytest.raises(DataError, match="is a run folder; choose another --out"):
        call("index", data, "--model", run, "--out", run)
    assert "objective infonce" in call("evaluate", run, "--data", data)
    both = call("evaluate", run, run, "--data", data)
    assert "\nrun: dive" in both and "\nrun (2): dive" in both
    assert "60 images" in call("index", data, "--model", run, "--out", index)
    assert "exact; 60 images" in call("search", index, "a red circle", "-k", "3")
    assert "the run knows no word of 'qqq'" in call("search", index, "qqq")
    assert "fragments" not in call("check", data)


def test_slips_are_told(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'val'"):
        call("train", "dive", data, "--out", tmp_path / "a", "--val-split", "vall", *SMALL)
    with pytest.raises(UnknownName, match="did you mean 'train'"):
        call("train", "dive", data, "--out", tmp_path / "a", "--split", "trains", *SMALL)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot be a run folder"):
        call("train", "dive", data, "--out", tmp_path / "file", *SMALL)


def test_captions_nobody_can_read_are_said(data: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    for n, row in enumerate(rows[:30]):
        row["captions"] = [f"unicorn{n}x{m}" for m in range(5)]
    unread = tmp_path / "captions.jsonl"
    rows[30]["captions"] = ["a red circle " * 9] * 5
    unread.write_text("".join(json.dumps(row) + "\n" for row in rows))
    few = [*SMALL[:-1], "least_count=2"]
    told = call("train", "vsepp", unread, "--images", data.with_name("images.tar"), "--out", tmp_path / "run", *few)
    assert "of the training captions hold no word of the vocabulary" in told
    assert "2% of the training captions are longer than the 24 words that vsepp's text tower reads" in told
