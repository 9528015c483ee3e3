"""`manymatch train DATA` and `manymatch join`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from manymatch.cli import app
from manymatch.data.toy import write_toy
from manymatch.errors import DataError, UnknownName

FEW = ["dim=16", "word_dim=8", "least_count=1", "epochs=1"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"), 60, size=32)


def call(*arguments: object) -> str:
    told = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    if told.exception is not None and not isinstance(told.exception, SystemExit):
        raise told.exception
    assert told.exit_code == 0, told.output
    return told.output


def test_data_alone_trains_the_default(data: Path, tmp_path: Path) -> None:
    run, index = tmp_path / "run", tmp_path / "x"
    settings = [word for field in FEW for word in ("--set", f"sets.{field}")]
    told = call("train", data, "--out", run, *settings, "--set", "bank=20")
    assert "there is no linear member" in told and f"next: manymatch evaluate {run}" in told
    assert "manymatch: sets (dive) x 1" in call("evaluate", run, "--data", data)
    call("index", data, "--model", run, "--out", index)
    assert "exact; 60 images" in call("search", index, "a red circle", "-k", "3")


def test_runs_are_joined(data: Path, tmp_path: Path) -> None:
    settings = [word for field in FEW for word in ("--set", field)]
    for name in ("dive", "vsepp"):
        call("train", name, data, "--out", tmp_path / name, *settings, "--set", "bank=0")
    runs, joint = [tmp_path / "dive", tmp_path / "vsepp"], tmp_path / "joint"
    told = call("join", *runs, "--data", data, "--out", joint, "--dim", "20", "--bank", "20")
    assert "joint with weights dive 0." in told and f"next: manymatch evaluate {joint} --data {data}" in told
    assert "32 rotated to 20" in call("evaluate", joint, "--data", data)
    given = call(
        "join", *runs, "--data", data, "--out", tmp_path / "b", "--weight", "3", "--weight", "1", "--bank", "0"
    )
    assert "weights dive 0.75, vsepp 0.25" in given


def test_a_join_without_splits_says_what_it_does(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    plain = data.with_name("plain.jsonl")
    plain.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "split"}) + "\n" for row in rows))
    monkeypatch.setattr("manymatch.training.join", lambda *_, **__: None)
    for given, weighed in (([], "the same"), (["--weight", "1", "--weight", "2"], "as given")):
        told = call("join", "a", "b", "--data", plain, "--out", "c", *given)
        assert "DATA has no splits: fitting the joint on all 60 images" in told
        assert f"runs count {weighed}, and there is neither calibration nor query bank" in told


def test_slips_are_told(data: Path, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "run"]
    with pytest.raises(DataError, match="dive is a method, and DATA is missing: manymatch train dive DATA"):
        call("train", "dive", *out)
    with pytest.raises(UnknownName, match="did you mean 'dive'"):
        call("train", "divee", data, *out)
    with pytest.raises(DataError, match=r"expected \[METHOD\] DATA"):
        call("train", "dive", data, data, *out)
    with pytest.raises(DataError, match="epochs of which member"):
        call("train", data, *out, "--set", "epochs=3")


def test_help_shows_how_it_is_typed() -> None:
    assert "train [OPTIONS] [METHOD] DATA\n" in call("train", "--help")
    assert "join [OPTIONS] RUN RUN...\n" in call("join", "--help")
