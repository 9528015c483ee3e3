"""From a folder of photos and a pretrained network to hits, on the command line; then training on the same network."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from manymatch.cli import app
from manymatch.data.toy import write_toy
from manymatch.errors import CheckpointError, DataError
from tiny_towers import tiny_clip, tiny_dinov2, tiny_minilm

SMALL = ["--set", "dim=16", "--set", "hidden=16", "--set", "least_count=1", "--set", "batch=16"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"), 60, size=32)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("towers") / "clip")


def call(*arguments: object) -> str:
    told = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    if told.exception is not None and not isinstance(told.exception, SystemExit):
        raise told.exception
    assert told.exit_code == 0
    return told.output


def test_a_folder_of_photos_is_searched_today(data: Path, clip: Path, tmp_path: Path) -> None:
    photos, index = tmp_path / "photos", tmp_path / "x"
    photos.mkdir()
    with tarfile.open(data.with_name("images.tar")) as tar:
        tar.extractall(photos, filter="data")
    told = call("index", photos, "--model", f"hf:{clip}", "--out", index)
    assert "60 images without captions" in told and f"next: manymatch search {index} --like" in told
    first = json.loads(call("search", index, "a small red circle", "-k", "3", "--json"))
    assert len(first["hits"]) == 3 and first["exact"]
    picture = next(photos.rglob("*.png"))
    found = json.loads(call("search", index, "--image", picture, "-k", "1", "--json"))
    assert found["hits"][0]["id"].endswith(picture.name)
    again = call("index", photos, "--model", f"hf:{clip}", "--out", index)
    assert "60 as before" in again
    assert "the run knows no word of '日本'" in call("search", index, "日本")


def test_it_is_evaluated_compared_calibrated_and_reported(data: Path, clip: Path, tmp_path: Path) -> None:
    name, other = f"hf:{clip}", f"hf:{tiny_clip(tmp_path / 'other', seed=1)}"
    assert "pretrained: as it is" in call("evaluate", name, "--data", data)
    both = call("evaluate", name, other, "--data", data)
    assert "clip+other" in both
    told = call("compare", name, other, "--data", data, "--metric", "RSUM")
    assert "clip" in told and "other" in told
    index = tmp_path / "x"
    call("index", data, "--model", name, "--out", index, "--split", "test")
    assert call("index-calibrate", index, data, "--split", "train").strip()
    call("report", name, "--data", data, "--out", tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size > 10_000
    with pytest.raises(DataError, match=r"dinov2 is no network of pictures and texts"):
        call("index", data, "--model", f"hf:{tiny_dinov2(tmp_path / 'dino')}", "--out", tmp_path / "y")


def test_training_on_the_same_towers(data: Path, clip: Path, tmp_path: Path) -> None:
    towers = ["--image-tower", f"hf:{clip}", "--text-tower", f"hf:{clip}"]
    run, store = tmp_path / "run", tmp_path / "store"
    small = [*SMALL, "--set", "head_width=8", "--set", "slot_hidden=16", "--set", "epochs=4", "--set", "lr=0.005"]
    told = call("train", "dive", data, *towers, "--store", store, "--out", run, *small)
    assert f"of hf:{clip}" in told
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert "RSUM" in call("evaluate", run, "--data", data, "--store", store)
    assert call("train", "pretrained", data, *towers, "--out", tmp_path / "as_it_is")
    raw = ("--data", data, "--no-bank", "--json")
    evaluated = [call("evaluate", one, *raw) for one in (tmp_path / "as_it_is", f"hf:{clip}")]
    values = [[row["value"] for row in json.loads(text[text.index("[") :])] for text in evaluated]
    assert values[0] == values[1]


def test_texts_of_another_network(data: Path, clip: Path, tmp_path: Path) -> None:
    minilm = tiny_minilm(tmp_path / "minilm")
    towers = ["--image-tower", f"hf:{clip}", "--text-tower", f"hf:{minilm}"]
    told = call("train", "vsepp", data, *towers, "--out", tmp_path / "run", *SMALL, "--set", "epochs=1")
    assert f"next: manymatch evaluate {tmp_path / 'run'}" in told
    assert "RSUM" in call("evaluate", tmp_path / "run", "--data", data)
    (minilm / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="has another tokeniser or configuration than the run was made with"):
        call("evaluate", tmp_path / "run", "--data", data)
