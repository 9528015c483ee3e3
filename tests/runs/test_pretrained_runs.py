"""A pretrained network as a run: loaded by name, kept in an index and in a run folder by name and digest."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import manymatch as mm
from manymatch.data.pairs import Pairs
from manymatch.errors import CheckpointError, DataError
from manymatch.index import Index
from manymatch.runs import is_run, load, save_search
from manymatch.training import TrainConfig, train
from tiny_towers import tiny_clip


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return tiny_clip(tmp_path / "towers" / "clip")


@pytest.fixture
def few(world: Pairs) -> Pairs:
    return world.take(range(20))


def test_a_name_is_a_run_and_a_folder_of_that_name_is_its_own(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_run(f"hf:{clip}") and is_run(Path(f"hf:{clip}")) and not is_run(str(tmp_path / "none"))
    monkeypatch.setenv("MANYMATCH_TOWERS", str(clip.parent))
    assert load("hf:somebody/clip").fingerprint() == load(f"hf:{clip}").fingerprint()
    monkeypatch.chdir(tmp_path)
    save_search(load(f"hf:{clip}"), "hf:mine")
    assert load("hf:mine").fingerprint() == load(f"hf:{clip}").fingerprint()


def test_a_run_folder_holds_the_name_and_no_weights(clip: Path, few: Pairs, tmp_path: Path) -> None:
    model = mm.method("pretrained").build(few, image_tower=f"hf:{clip}")
    said: list[str] = []
    out = train(model, few, validate=few, out=tmp_path / "run", config=TrainConfig(), say=said.append)
    assert any("nothing to train" in line for line in said) and any("validation RSUM" in line for line in said)
    value = json.loads((tmp_path / "run" / "run.json").read_text())
    assert value["images"]["backbone"]["source"] == value["texts"]["backbone"]["source"] == f"hf:{clip}"
    assert value["finished"] and "RSUM" in value["notes"]["validation"]
    assert load_file(tmp_path / "run" / "model.safetensors") == {}
    again = load(tmp_path / "run")
    assert torch.equal(out.encode_texts(few.captions).vectors, again.encode_texts(few.captions).vectors)
    assert again.fingerprint() == load(f"hf:{clip}").fingerprint()
    with pytest.raises(CheckpointError, match="holds a run already"):
        train(model, few, out=tmp_path / "run", say=None)
    resumed = train(model, few, validate=few, out=tmp_path / "run", config=TrainConfig(), resume=True, say=said.append)
    assert resumed.fingerprint() == out.fingerprint() and said[-1].startswith("fitted already")


def test_an_index_moves_with_or_without_its_network(
    clip: Path, few: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Index.build(load(f"hf:{clip}"), few, tmp_path / "x") as made:
        found = made.search("a small red circle", k=5)
    shutil.move(tmp_path / "x", tmp_path / "y")
    with Index.open(tmp_path / "y") as moved:
        assert moved.search("a small red circle", k=5).hits == found.hits
    shutil.move(clip, tmp_path / "clip")
    with (
        Index.open(tmp_path / "y") as index,
        pytest.raises(
            CheckpointError, match=r"run: tower 'hf:.*towers/clip': no such folder; .* MANYMATCH_TOWERS"
        ) as caught,
    ):
        index.search("a small red circle")
    assert "\n" not in str(caught.value)
    monkeypatch.setenv("MANYMATCH_TOWERS", str(tmp_path))
    with Index.open(tmp_path / "y") as index:
        assert index.search("a small red circle", k=5).hits == found.hits
    weights = load_file(tmp_path / "clip" / "model.safetensors")
    save_file({name: value * 1.01 for name, value in weights.items()}, tmp_path / "clip" / "model.safetensors")
    with Index.open(tmp_path / "y") as index, pytest.raises(CheckpointError, match="than the run was trained on"):
        index.search("a small red circle")


def test_an_index_of_it_is_calibrated(clip: Path, few: Pairs, world: Pairs, tmp_path: Path) -> None:
    with Index.build(load(f"hf:{clip}"), few, tmp_path / "x") as made:
        assert made.search("a star", k=1).hits[0].probability is None
        made.calibrate(world.take(range(40, 110)))
        probability = made.search("a star", k=1).hits[0].probability
    assert probability is not None and 0.0 < probability < 1.0


def test_features_of_another_network_are_not_read(clip: Path, featured: Pairs) -> None:
    model, few = load(f"hf:{clip}"), featured.take(range(4))
    plain = Pairs(few.items, pictures=few.pictures)
    assert torch.equal(model.encode_images(few.images).vectors, model.encode_images(plain.images).vectors)


def test_stored_features_are_read_and_give_the_same(clip: Path, few: Pairs, tmp_path: Path) -> None:
    model, said = load(f"hf:{clip}"), []
    supplied = model.supply(few, tmp_path / "store", said.append)
    assert model.images.takes(supplied.images) and "20" in said[-1]
    stored, looked = (model.encode_images(pairs.images).vectors for pairs in (supplied, few))
    torch.testing.assert_close(stored, looked, rtol=0, atol=1e-3)
    assert mm.evaluate(model, supplied).value("RSUM", "both") == mm.evaluate(model, few).value("RSUM", "both")


def test_a_networks_folder_that_is_given_as_a_run_is_told_its_name(clip: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"no run.json in .*it looks like a pretrained network.*'hf:{clip}'"):
        load(clip)


def test_no_such_network(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tower 'hf:/.*none': no such folder"):
        load(f"hf:{tmp_path / 'none'}")
    with pytest.raises(DataError, match="expected hf:NAME or hf:FOLDER"):
        load("hf:")
