"""`manymatch bank`, and `--bank` where runs are measured."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

import manymatch as mm
from manymatch.cli import app
from manymatch.data.toy import write_toy
from manymatch.errors import CheckpointError, DataError, UnknownName

SMALL = [part for each in ("epochs=1", "dim=12", "word_dim=8", "least_count=1") for part in ("--set", each)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"), 80, size=32)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    call("train", "vsepp", data, "--out", out, *SMALL, "--set", "bank=0")
    return out


def call(*arguments: object) -> str:
    told = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    if told.exception is not None and not isinstance(told.exception, SystemExit):
        raise told.exception
    assert told.exit_code == 0, told.output
    return told.output


def test_a_run_gets_a_bank_and_loses_it(run: Path, data: Path, tmp_path: Path) -> None:
    before = json.loads((run / "run.json").read_text())
    assert "bank" not in before and "query bank" not in call("evaluate", run, "--data", data)
    said = call("bank", run, "--data", data, "--size", 40)
    assert said.startswith("query bank of 40 training captions and 40 images: i2t alpha") and "is not what" not in said
    after = json.loads((run / "run.json").read_text())
    assert {key: value for key, value in after.items() if key != "bank"} == before
    assert after["bank"]["caption"]["queries"] == 40
    assert "with the query bank (i2t alpha" in call("evaluate", run, "--data", data)
    assert "raw scores, without the query bank" in call("evaluate", run, "--data", data, "--no-bank")
    assert "images, and correcting by it would be peeking" in call("evaluate", run, "--data", data, "--split", "train")
    with pytest.raises(DataError, match="would be peeking; evaluate other pairs, or use --no-bank"):
        call("evaluate", run, "--data", data, "--split", "train", "--bank")
    assert mm.load(run).bank is not None
    assert f"{run} has no query bank" in call("bank", run, "--remove")
    assert json.loads((run / "run.json").read_text()) == before and not (run / "bank.safetensors").exists()
    with pytest.raises(DataError, match="has no query bank; fit one with: manymatch bank RUN --data DATA"):
        call("evaluate", run, "--data", data, "--bank")


def test_slips_are_told(run: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="bank: give --data DATA, what the run was trained on, or --remove"):
        call("bank", run)
    with pytest.raises(DataError, match="'val' cannot be drawn from and choose alpha and k"):
        call("bank", run, "--data", data, "--split", "val")
    with pytest.raises(UnknownName, match="did you mean 'val'"):
        call("bank", run, "--data", data, "--val-split", "vall")
    with pytest.raises(CheckpointError, match="no such folder"):
        call("bank", tmp_path / "nothing", "--data", data)
    with pytest.raises(DataError, match="'hf:some/name' is a pretrained network as it is and no run folder"):
        call("bank", "hf:some/name", "--data", data)
    assert mm.load(run).bank is None


def test_pairs_that_the_run_was_not_trained_on_are_said(run: Path, tmp_path: Path) -> None:
    other = write_toy(tmp_path, 60, size=32, seed=4)
    said = call("bank", run, "--data", other, "--size", 20)
    assert "is not what the run was trained on" in said and mm.load(run).bank is not None
    call("bank", run, "--remove")


def test_pictures_that_cannot_be_read_make_no_other_pairs_and_what_an_index_keeps_stays(tmp_path: Path) -> None:
    data = write_toy(tmp_path / "toy", 60, size=32)
    folder = tmp_path / "pictures"
    with tarfile.open(tmp_path / "toy" / "images.tar") as tar:
        tar.extractall(folder, filter="data")
    (folder / str(mm.Pairs.read(data).split("train").items[0].picture)).write_bytes(b"nothing")
    (tmp_path / "toy" / "images.tar").unlink()
    given = ("--images", folder)
    run = tmp_path / "run"
    call("train", "vsepp", data, *given, "--out", run, *SMALL, "--set", "bank=0")
    assert "is not what the run was trained on" not in call("bank", run, "--data", data, *given, "--size", 100)
    index = tmp_path / "x"
    call("index", data, *given, "--model", run, "--out", index, "--split", "test")
    assert "; less the query bank's biases" in call("search", index, "a red circle")
    assert "biases" not in call("search", index, "a red circle", "--no-bank")
    for more in (("--remove",), ("--data", data)):
        with pytest.raises(DataError, match="is what an index keeps of its run"):
            call("bank", index / "run", *more)
    assert mm.load(index / "run").bank is not None
