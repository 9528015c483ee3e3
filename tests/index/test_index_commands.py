"""`manymatch index` and `manymatch search`, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from index_fakes import FakeModel
from PIL import Image
from typer.testing import CliRunner

from manymatch import runs
from manymatch.cli import app
from manymatch.errors import DataError, IndexMismatch, UnknownName
from manymatch.index import Index

CAPTIONS = {"a": ["red cat", "cat"], "b": ["blue dog"], "c": ["green tree", "snow"]}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    lines = []
    for number, (id, captions) in enumerate(CAPTIONS.items()):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "images" / f"{id}.png")
        split = "train" if id == "c" else "test"
        lines.append(json.dumps({"id": id, "image": f"{id}.png", "captions": captions, "split": split}))
    (tmp_path / "data.jsonl").write_text("\n".join(lines))
    runs.save_search(FakeModel(), tmp_path / "run")  # type: ignore[arg-type]
    return tmp_path


def call(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def indexed(data: Path, *more: object) -> str:
    return call("index", data / "data.jsonl", "--model", data / "run", "--out", data / "x", *more)


def test_index_tells_what_is_stored_and_what_comes_next(data: Path) -> None:
    told = indexed(data).splitlines()
    assert told[0] == "stored 3 of 3 images (3 added, 0 replaced)"
    assert told[1].startswith(f"3 images and 5 captions in {data / 'x'}, ")
    assert told[2] == "images searched exactly; captions searched exactly"
    assert told[3].startswith(f"next: manymatch search {data / 'x'} ")
    assert indexed(data, "--split", "train").startswith("0 added, 0 changed, 0 moved, 0 gone, 1 as before\n")
    runs.save_search(FakeModel(seed=1), data / "run")  # type: ignore[arg-type]
    with pytest.raises(IndexMismatch, match="built with another run"):
        indexed(data)


def test_pictures_of_the_index_can_be_opened(data: Path) -> None:
    indexed(data, "--split", "test")
    index = Index.open(data / "x")
    assert index.picture("b#0") == (data / "images" / "b.png").read_bytes()
    assert index.open_picture("b").getpixel((0, 0)) == (1, 0, 0)
    assert index.count("image") == 2


def test_unreadable_pictures_are_left_out_and_counted(data: Path) -> None:
    (data / "images" / "b.png").write_bytes(b"no picture")
    result = CliRunner().invoke(
        app, ["index", str(data / "data.jsonl"), "--model", str(data / "run"), "--out", str(data / "x")]
    )
    assert result.exit_code == 0
    assert "1 images left out: their pictures cannot be read" in result.stderr and "b.png" in result.stderr
    assert {hit.id for hit in Index.open(data / "x").search("red")} == {"a", "c"}


def test_search_prints_a_table(data: Path) -> None:
    indexed(data)
    first, expected, head, *rows = call("search", data / "x", "red cat", "--among", "captions", "-k", 2).splitlines()
    assert first.startswith("exact; 5 captions, ") and first.endswith(" ms")
    assert expected.startswith("ambiguity of the query ")
    assert head.split() == ["rank", "score", "id", "caption"]
    assert rows[0].split()[0::2] == ["1", "a#0", "cat"] and len(rows) == 2
    assert "nothing found: the offset is behind the last one" in call("search", data / "x", "red", "--offset", 9)
    assert call("search", data / "x", "--image", data / "images" / "a.png", "-k", 1).startswith("exact; 3 images")


def test_search_prints_json(data: Path) -> None:
    indexed(data)
    body = json.loads(call("search", data / "x", "--like", "a", "--json", "--offset", 1))
    assert body["query"] == "a" and body["exact"] is True and [hit["rank"] for hit in body["hits"]] == [2]


def test_bad_calls_are_told(data: Path) -> None:
    indexed(data)
    with pytest.raises(DataError, match='give one of "words", --image F or --like ID'):
        call("search", data / "x")
    with pytest.raises(DataError, match="no index here"):
        call("search", data / "nowhere", "red")
    with pytest.raises(UnknownName, match="did you mean 'faiss'"):
        indexed(data, "--engine", "fais")
