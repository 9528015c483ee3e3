"""`manymatch report`: from runs to a page, with the options of evaluate."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from manymatch import Pairs, method
from manymatch.cli import app
from manymatch.data.toy import write_toy
from manymatch.errors import DataError
from manymatch.runs import save_search

SMALL = {"dim": 16, "word_dim": 8, "least_count": 1, "longest_side": 32}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"), 40, size=32)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "points"
    save_search(method("vsepp", **SMALL).build(Pairs.read(data).split("train"), seed=0), folder)
    return folder


def call(*arguments: object) -> str:
    told = CliRunner().invoke(app, ["report", *map(str, arguments)], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    return told.stdout


def test_a_page_of_the_test_split(data: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    told = call(run, run, "--data", data, "--out", out, "--examples", 2, "--no-times")
    assert told.startswith(str(out)) and told.endswith("MB)\n")
    text = out.read_text("utf-8")
    assert "points</span>" in text and "points (2)</span>" in text and "captions:test</h1>" in text
    assert ">4</dd>" in text, "four images of the test split"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_the_options_of_evaluate(data: Path, run: Path, tmp_path: Path) -> None:
    out, truth = tmp_path / "report.html", data.with_name("truth.jsonl")
    more = ["--truth", truth, "--images", data.with_name("images.tar"), "--protocol", "matches", "--split", "val"]
    call(run, "--data", data, "--out", out, "--examples", 1, "--no-times", *more)
    text = out.read_text("utf-8")
    assert "captions:val</h1>" in text and "mAP@R" in text and "RSUM" not in text


def test_slips(data: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"report: '.*' lies in no folder that exists; name a file"):
        CliRunner().invoke(
            app,
            ["report", str(run), "--data", str(data), "--out", str(tmp_path / "x" / "r.html")],
            catch_exceptions=False,
        )
    told = CliRunner().invoke(app, ["report", str(run), "--data", str(data)])
    assert told.exit_code == 2 and "--out" in told.output
