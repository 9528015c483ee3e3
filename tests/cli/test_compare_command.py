"""`manymatch compare` on runs of two methods and two seeds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from manymatch.cli import app
from manymatch.data.toy import write_toy
from manymatch.errors import DataError, UnknownName

SMALL = ["dim=12", "word_dim=8", "least_count=1", "longest_side=32", "epochs=1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"), 60, size=32)


def call(*arguments: object) -> Result:
    told = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    if told.exception is not None and not isinstance(told.exception, SystemExit):
        raise told.exception
    assert told.exit_code == 0, told.output
    return told


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """vsepp with seeds 0 and 1, dive with seeds 0 and 1."""
    top, out = tmp_path_factory.mktemp("runs"), []
    for method in ("vsepp", "dive"):
        for seed in (0, 1):
            out.append(top / f"{method}-{seed}")
            settings = [part for each in (*SMALL, f"seed={seed}") for part in ("--set", each)]
            call("train", method, data, "--out", out[-1], *settings)
    return out


def test_tables(data: Path, runs: list[Path]) -> None:
    told = call("compare", *runs, "--data", data, "--protocol", "own")
    lines = told.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:8:2]] == ["vsepp-0", "vsepp-1", "dive-0", "dive-1"]
    compared = lines.index(next(line for line in lines if line.startswith("compared with vsepp-0")))
    assert [line.split()[0] for line in lines[compared + 1 : compared + 10]] == [
        *["vsepp-1"] * 3,
        *["dive-0"] * 3,
        *["dive-1"] * 3,
    ]
    assert "for 9 comparisons (Holm)" in told.stdout and "over 6 images" in told.stdout
    seeds = lines.index(next(line for line in lines if line.startswith("over training seeds")))
    assert [line.split()[0] for line in lines[seeds + 1 : seeds + 7]] == [*["vsepp"] * 3, *["dive"] * 3]
    assert "dive - vsepp" in told.stdout


def test_json(data: Path, runs: list[Path]) -> None:
    told = call("compare", *runs[:3], "--data", data, "--all-pairs", "--metric", "t2i R@5", "--json", "--split", "val")
    rows = json.loads(told.stdout)
    compared = [row for row in rows if row["table"] == "compared"]
    assert [(row["run"], row["other"]) for row in compared] == [
        ("vsepp-1", "vsepp-0"),
        ("dive-0", "vsepp-0"),
        ("dive-0", "vsepp-1"),
    ]
    assert {row["metric"] for row in compared} == {"R@5"}
    assert {row["table"] for row in rows} == {"measured", "compared", "seeds"}
    assert "had its epoch chosen on these very pairs" in told.stderr


def test_slips(data: Path, runs: list[Path]) -> None:
    with pytest.raises(DataError, match="found 1 runs, expected at least two"):
        call("compare", runs[0], "--data", data)
    with pytest.raises(UnknownName, match="unknown metric 'R@7'"):
        call("compare", *runs[:2], "--data", data, "--metric", "R@7")
    with pytest.raises(UnknownName, match="did you mean 'val'"):
        call("compare", *runs[:2], "--data", data, "--split", "vall")


def test_help_says_against_which() -> None:
    assert "compared with the FIRST" in " ".join(call("compare", "--help").stdout.split())
