"""`manymatch index` over a folder of photos, and over it again: a real run, photos on the disk, no captions."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner, Result

import manymatch as mm
from manymatch.cli import app
from manymatch.errors import DataError
from manymatch.index import Index
from manymatch.web.app import create_app

LONG_AGO = 1_500_000_000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on pixels, trained for a moment and calibrated."""
    folder = tmp_path_factory.mktemp("run") / "run"
    pairs = mm.Pairs.toy(120, seed=3, size=32)
    small = {"dim": 16, "word_dim": 8, "least_count": 1, "longest_side": 32}
    model = mm.method("dive", elements=2, **small).build(pairs.split("train"), image_tower="cnn", text_tower="bigru")
    config = mm.TrainConfig(epochs=1)
    mm.train(model, pairs.split("train"), validate=pairs.split("val"), out=folder, config=config)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve toy pictures as files in two folders, with nothing written about them."""
    root = tmp_path / "photos"
    pairs = mm.Pairs.toy(12, seed=5, size=32)
    for number, (item, image) in enumerate(zip(pairs, pairs.images, strict=True)):
        path = root / ("2023" if number % 2 else "2024") / str(item.picture)
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        os.utime(path, (LONG_AGO, LONG_AGO))
    return root


def called(*words: object) -> Result:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None:
        raise result.exception
    return result


def indexed(photos: Path, run: Path, *more: object) -> list[str]:
    return called("index", photos, "--model", run, "--out", photos.parent / "x", *more).stdout.splitlines()


def test_photos_without_captions_are_indexed_searched_and_served(photos: Path, run: Path) -> None:
    assert called("check", photos).stdout.endswith(f"next: manymatch index {photos} --model hf:NAME --out X\n")
    (photos / "2024" / "phone.HEIC").write_bytes(b"x")
    aside = called("index", photos, "--model", run, "--out", photos.parent / "other").stderr
    assert "left aside, of kinds that are not read here: 1 .heic" in aside
    told = indexed(photos, run)
    assert told[0] == "stored 12 of 12 images (12 added, 0 replaced)"
    assert told[1].startswith(f"12 images without captions in {photos.parent / 'x'}, ")
    assert told[2] == "images searched exactly"
    assert told[3] == f"next: manymatch search {photos.parent / 'x'} --like 2023/toy-00001.png"
    found = json.loads(called(*told[3].removeprefix("next: manymatch ").split(), "--json").stdout)
    assert len(found["hits"]) == 10 and found["hits"][0]["id"] != "2023/toy-00001.png"
    by_words = json.loads(called("search", photos.parent / "x", "red circle", "--json").stdout)
    assert len(by_words["hits"]) == 10 and by_words["hits"][0]["metadata"] == {"width": 32, "height": 32}
    # The calibration is the run's, learned from pairs that have captions.
    assert by_words["hits"][0]["probability"] is not None
    # Nothing is said, nor a column kept, of captions and probabilities where there are none to be had.
    plain = called("search", photos.parent / "x", "red circle", "-k", 1)
    assert "caption" not in plain.stdout and "index-calibrate" not in plain.stderr
    by_picture = called("search", photos.parent / "x", "--image", photos / "2024" / "toy-00000.png", "-k", 1).stdout
    assert by_picture.startswith("exact; 12 images") and "toy-" in by_picture
    among = called("search", photos.parent / "x", "red", "--among", "captions")
    assert "no captions" in among.stdout + among.stderr
    assert called("index-check", photos.parent / "x").exit_code == 0


def test_the_api_of_an_index_without_captions(photos: Path, run: Path) -> None:
    indexed(photos, run)
    with TestClient(create_app(Index.open(photos.parent / "x")), base_url="http://localhost") as client:
        info = client.get("/api/info").json()
        assert (info["images"], info["captions"], info["examples"]) == (12, 0, [])
        hits = client.get("/api/search", params={"q": "a photo", "k": 3}).json()["hits"]
        assert len(hits) == 3 and all(hit["caption"] is None and hit["has_picture"] for hit in hits)
        item = client.get(f"/api/items/{hits[0]['id']}").json()
        assert item["item"]["captions"] == [] and item["captions"]["notes"] == ["the index has no captions"]
        assert len(item["like"]["hits"]) == 11
        picture = client.get(f"/api/items/{hits[0]['id']}/picture")
        assert picture.content == (photos / hits[0]["id"]).read_bytes()
        assert client.get("/").status_code == 200


def test_again_says_what_it_found(photos: Path, run: Path) -> None:
    indexed(photos, run)
    assert indexed(photos, run)[0] == "0 added, 0 changed, 0 moved, 0 gone, 12 as before"
    (photos / "2024" / "toy-00000.png").rename(photos / "renamed.png")
    (photos / "2024" / "toy-00002.png").unlink()
    shutil.copy(photos / "2024" / "toy-00004.png", photos / "2024" / "toy-00006.png")
    for number, item in enumerate(mm.Pairs.toy(2, seed=9, size=32).images):
        item.save(photos / f"new{number}.png")
    told = indexed(photos, run)
    assert told[0] == "stored 3 of 3 images (2 added, 1 replaced)"
    assert told[1] == "2 added, 1 changed, 1 moved, 1 gone, 9 as before"
    assert told[2].startswith("13 images without captions")
    (photos / "renamed.txt").write_text("a photo that was renamed\n")
    told = indexed(photos, run)
    assert told[1] == "0 added, 1 changed, 0 moved, 0 gone, 12 as before"
    assert told[-2].startswith("next: ") and told[-2].endswith("'a photo that was renamed'")
    assert told[-1] == f"or:   manymatch serve {photos.parent / 'x'}"


def test_gone_photos_are_removed_unless_all_are_gone_or_they_are_to_be_kept(photos: Path, run: Path) -> None:
    indexed(photos, run)
    shutil.rmtree(photos / "2024")
    assert indexed(photos, run, "--keep-gone")[0] == "0 added, 0 changed, 0 moved, 0 gone, 6 as before"
    assert Index.open(photos.parent / "x").count("image") == 12
    assert indexed(photos, run)[0] == "0 added, 0 changed, 0 moved, 6 gone, 6 as before"
    shutil.rmtree(photos / "2023")
    with pytest.raises(DataError):
        indexed(photos, run)
    mm.Pairs.toy(1, seed=9, size=32).images[0].save(photos / "other.png")
    with pytest.raises(DataError, match=r"none of the 6 images that came from .* is there any more"):
        indexed(photos, run)
    photos.rename(photos.parent / "away")
    with pytest.raises(DataError, match="no such file"):
        indexed(photos, run)
    assert Index.open(photos.parent / "x").count("image") == 6


def test_what_cannot_be_read_is_left_out_and_stays_as_it_was(photos: Path, run: Path) -> None:
    (photos / "2024" / "toy-00000.png").write_bytes(b"no picture")
    result = called("index", photos, "--model", run, "--out", photos.parent / "x")
    assert "1 images left out: their pictures cannot be read" in result.stderr
    assert result.stdout.startswith("stored 11 of 11 images")
    (photos / "2023" / "toy-00001.png").write_bytes(b"no picture any more")
    result = called("index", photos, "--model", run, "--out", photos.parent / "x")
    assert "2 images left out" in result.stderr and "0 added, 0 changed, 0 moved, 0 gone, 11 as before" in result.stdout
    assert "2023/toy-00001.png" in {hit.id for hit in Index.open(photos.parent / "x").search("red", k=20).hits}


def test_nothing_that_can_be_read_leaves_no_index(photos: Path, run: Path) -> None:
    for path in photos.rglob("*.png"):
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match="no images that can be read, so nothing to index"):
        indexed(photos, run)
    assert not (photos.parent / "x").exists()


def test_adding_removes_nothing(photos: Path, run: Path) -> None:
    indexed(photos, run)
    (photos / "2024" / "toy-00000.png").rename(photos / "renamed.png")
    (photos / "2024" / "toy-00002.png").unlink()
    told = called("index-add", photos.parent / "x", photos).stdout.splitlines()
    assert told[0] == "0 added, 0 changed, 1 moved, 0 gone, 10 as before"


def test_a_data_file_is_compared_line_by_line(photos: Path, run: Path) -> None:
    data = photos / "data.jsonl"
    rows = [{"image": f"2023/toy-{n:05}.png", "captions": [f"caption {n}"], "year": n} for n in (1, 3, 5, 7)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    called("index", data, "--model", run, "--out", photos / "x", "--images", photos)
    rows[0]["captions"] = ["another"]
    rows[1]["year"] = 2000
    rows[2]["id"] = "renamed"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows[:3]))
    told = called("index", data, "--model", run, "--out", photos / "x", "--images", photos).stdout.splitlines()
    assert told[:2] == [
        "stored 1 of 1 images (0 added, 1 replaced)",
        "0 added, 2 changed, 1 moved, 1 gone, 0 as before",
    ]
