"""`manymatch features`: resumable, idempotent, in shards, checked; and `train` reads what it made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import manymatch.encoders.pretrained as pretrained
import manymatch.encoders.pretrained.extract as extract
from backbone_fakes import GridBackbone
from manymatch.cli import app
from manymatch.data.pairs import Pairs
from manymatch.data.store import FeatureStore
from manymatch.data.toy import write_toy
from manymatch.encoders.pretrained.extract import kind_of
from manymatch.errors import DataError

TOWER = "hf:grid"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty toy pictures; their tar is old enough to be trusted."""
    path = write_toy(tmp_path_factory.mktemp("data"), 40)
    return path


@pytest.fixture(autouse=True)
def backbones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[GridBackbone]:
    """Every backbone that was opened, all of them fakes; files count as settled at once."""
    made: list[GridBackbone] = []

    def opened(source: str, *, fragments: bool = True) -> GridBackbone:
        made.append(GridBackbone(fragments=fragments))
        made[-1].source = source
        return made[-1]

    monkeypatch.setattr(pretrained, "open_backbone", opened)
    monkeypatch.setattr("manymatch.data.store.stamps.settled", lambda changed: True)
    monkeypatch.setenv("MANYMATCH_STORE", str(tmp_path / "default"))
    return made


def run(*arguments: object) -> list[str]:
    """What a command prints, stdout and stderr."""
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


def stored(folder: Path, data: Path) -> np.ndarray:
    """The pooled vectors of the data set's pictures in a store."""
    pairs = Pairs.read(data)
    shelf = FeatureStore(folder).shelf(kind_of(GridBackbone()))
    filled = extract.fill(FeatureStore(folder), GridBackbone(), pairs)
    assert filled.computed == 0
    assert len(shelf.places([])) == 0
    return np.asarray(filled.features.get(pairs.items).pooled)


def test_the_second_run_is_all_hits(data: Path, tmp_path: Path, backbones: list[GridBackbone]) -> None:
    store = tmp_path / "store"
    first = run("features", data, "--image-tower", TOWER, "--out", store)
    assert "hf:grid: 40 pictures to look at, at most" in first[0] and "512 B each" in first[0]
    assert any(f"features of hf:grid: 0 of 40 were in {store}, 40 computed now" in line for line in first)
    assert first[-1] == f"next: manymatch train vse_infty {data} --image-tower hf:grid --store {store} --out RUN"
    second = run("features", data, "--image-tower", TOWER, "--out", store)
    assert f"features of hf:grid: 40 of 40 were in {store}, 0 computed now" in second[0]
    assert [backbone.looked for backbone in backbones] == [40, 0]


def test_shards_together_are_the_whole(data: Path, tmp_path: Path, backbones: list[GridBackbone]) -> None:
    for number in (1, 2, 3):
        run("features", data, "--image-tower", TOWER, "--out", tmp_path / "parts", "--shard", f"{number}/3")
    run("features", data, "--image-tower", TOWER, "--out", tmp_path / "whole")
    assert [backbone.looked for backbone in backbones] == [14, 13, 13, 40]
    np.testing.assert_array_equal(stored(tmp_path / "parts", data), stored(tmp_path / "whole", data))


def test_the_default_store(data: Path, tmp_path: Path) -> None:
    assert str(tmp_path / "default") in run("features", data, "--image-tower", TOWER)[-1]
    assert (tmp_path / "default" / "catalogue.sqlite").is_file()


def test_pooled_only_keeps_no_patches(data: Path, tmp_path: Path, backbones: list[GridBackbone]) -> None:
    lines = run("features", data, "--image-tower", TOWER, "--out", tmp_path, "--pooled-only")
    assert "128 B each" in lines[0] and "train cca" in lines[-1]
    assert backbones[0].fragments == 0


def test_checking_mends(data: Path, tmp_path: Path, backbones: list[GridBackbone]) -> None:
    store = tmp_path / "store"
    run("features", data, "--image-tower", TOWER, "--out", store)
    fine = run("features", data, "--image-tower", TOWER, "--out", store, "--check")
    assert f"checked {store}: 40 records whole" in fine[0]
    (segment,) = store.glob("segments/*/*.features")
    damaged = bytearray(segment.read_bytes())
    damaged[4096 + 512 * 7 + 100] ^= 1
    segment.write_bytes(damaged)
    lines = run("features", data, "--image-tower", TOWER, "--out", store, "--check")
    assert lines[0].startswith("damaged: segment ") and "bytes have changed" in lines[0]
    assert "39 records whole" in lines[1] and "1 taken out" in lines[1]
    assert any("39 of 40 were in" in line and "1 computed now" in line for line in lines)
    assert "40 records whole" in run("features", data, "--image-tower", TOWER, "--out", store, "--check")[0]


def test_stopped_by_hand_it_says_what_is_kept(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("manymatch.encoders.pretrained.extract.fill", stopped)
    told = CliRunner().invoke(app, ["features", str(data), "--image-tower", TOWER])
    assert told.exit_code != 0 and "what is stored is kept, and the same command goes on from there" in told.stderr


def test_bad_pictures_are_listed_and_the_rest_is_kept(tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("red", "blue"):
        Image.new("RGB", (20, 20), name).save(folder / f"{name}.png")
    (folder / "cut.png").write_bytes((folder / "red.png").read_bytes()[:40])
    (tmp_path / "c.jsonl").write_text(
        "".join(f'{{"image": "{name}.png", "captions": ["x"]}}\n' for name in ("red", "cut", "blue"))
    )
    lines = run("features", tmp_path / "c.jsonl", "--images", folder, "--image-tower", TOWER)
    assert any(line.startswith("cut.png: unreadable picture:") for line in lines)
    assert any("2 computed now" in line and "1 cannot be read" in line for line in lines)
    strict = CliRunner().invoke(
        app,
        [
            *("features", str(tmp_path / "c.jsonl"), "--images", str(folder), "--image-tower", TOWER),
            *("--strict", "--out", str(tmp_path / "strict")),
        ],
    )
    assert strict.exit_code != 0 and str(strict.exception).startswith("cut.png: unreadable picture:")
    for name in ("red", "blue"):
        (folder / f"{name}.png").unlink()
    with pytest.raises(DataError):
        run("features", tmp_path / "c.jsonl", "--images", folder, "--image-tower", TOWER)


def test_a_disk_without_room_is_refused_before_it_begins(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbones: list[GridBackbone]
) -> None:
    monkeypatch.setattr(FeatureStore, "room", lambda self: 64 * 2**20 + 5000)
    with pytest.raises(DataError, match=r"40 pictures x 512 B are 20,480 B, and .* has room for 5,000 B; make room"):
        run("features", data, "--image-tower", TOWER, "--out", tmp_path)
    assert backbones[0].looked == 0
    monkeypatch.undo()


@pytest.mark.parametrize("shard", ["3/2", "0/2", "one/2", "2", "1/0", "-1/2"])
def test_shards_that_are_none(data: Path, tmp_path: Path, shard: str) -> None:
    with pytest.raises(DataError, match="expected I/N"):
        run("features", data, "--image-tower", TOWER, "--out", tmp_path, f"--shard={shard}")


def test_moved_pictures_are_known_by_their_content(data: Path, tmp_path: Path, backbones: list[GridBackbone]) -> None:
    store = tmp_path / "store"
    run("features", data, "--image-tower", TOWER, "--out", store)
    moved = tmp_path / "moved"
    moved.mkdir()
    for path in data.parent.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    lines = run("features", moved / data.name, "--image-tower", TOWER, "--out", store)
    assert any("40 of 40 were in" in line for line in lines) and backbones[-1].looked == 0


def test_a_second_look_reads_no_pictures(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from manymatch.data.pictures import TarPictures

    run("features", data, "--image-tower", TOWER, "--out", tmp_path)
    read: list[str] = []
    whole = TarPictures.read
    monkeypatch.setattr(TarPictures, "read", lambda self, name: (read.append(name), whole(self, name))[1])
    run("features", data, "--image-tower", TOWER, "--out", tmp_path)
    assert not read
    os.utime(data.parent / "images.tar")
    run("features", data, "--image-tower", TOWER, "--out", tmp_path)
    assert len(read) == 40, "a file that may have changed is read again"


def test_train_reads_the_store_and_says_so(data: Path, tmp_path: Path, backbones: list[GridBackbone]) -> None:
    store, out = tmp_path / "store", tmp_path / "run"
    run("features", data, "--image-tower", TOWER, "--out", store, "--shard", "1/2")
    settings = [f"--set={one}" for one in ("epochs=1", "dim=16", "hidden=16", "batch=16", "least_count=1")]
    lines = run("train", "vse_infty", data, "--image-tower", TOWER, "--store", store, "--out", out, *settings)
    assert any(line.startswith("features of hf:grid:") and "computed now" in line for line in lines), lines
    looked = sum(backbone.looked for backbone in backbones)
    assert 20 < looked <= 36, "those of train and val, each once"
    run("features", data, "--image-tower", TOWER, "--out", store)
    assert sum(backbone.looked for backbone in backbones) == 40
    lines = run("evaluate", out, "--data", data, "--store", store)
    assert sum(backbone.looked for backbone in backbones) == 40, "all from the store"
    assert any("features of hf:grid: 4 of 4 from" in line for line in lines), lines
    assert any("RSUM" in line for line in lines)


def test_cca_is_a_linear_map_of_the_pooled_vector(data: Path, tmp_path: Path, backbones: list[GridBackbone]) -> None:
    store, out = tmp_path / "store", tmp_path / "run"
    run("features", data, "--image-tower", TOWER, "--out", store, "--pooled-only")
    settings = ("--set=dim=8", "--set=least_count=1")
    lines = run("train", "cca", data, "--image-tower", TOWER, "--store", store, "--out", out, *settings)
    assert any(f"features of hf:grid: 32 of 32 from {store}" in line for line in lines), lines
    assert sum(backbone.looked for backbone in backbones) == 40
    lines = run("evaluate", out, "--data", data, "--store", store)
    assert sum(backbone.looked for backbone in backbones) == 40
    assert any("RSUM" in line for line in lines)


def test_indexing_reads_the_store_it_is_given(data: Path, tmp_path: Path, backbones: list[GridBackbone]) -> None:
    store, out = tmp_path / "store", tmp_path / "run"
    settings = ("--set=dim=8", "--set=least_count=1")
    run("train", "cca", data, "--image-tower", TOWER, "--store", store, "--out", out, *settings)
    run("features", data, "--image-tower", TOWER, "--out", store, "--pooled-only")
    looked = sum(backbone.looked for backbone in backbones)
    lines = run("index", data, "--model", out, "--out", tmp_path / "x", "--store", store)
    assert any("40 images" in line for line in lines)
    assert sum(backbone.looked for backbone in backbones) <= looked + 1, "at most the first picture, to see if it can"
    run("index", data, "--model", out, "--out", tmp_path / "y")
    assert sum(backbone.looked for backbone in backbones) >= looked + 40, "without one it looks at the pictures"
