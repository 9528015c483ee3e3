"""`convert`: what is written reads back the same, and what cannot be kept is said."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from manymatch.cli import app
from manymatch.data.converting import convert
from manymatch.data.decoding import PictureError
from manymatch.data.pairs import Item, Pairs
from manymatch.data.pictures import FolderPictures, TarPictures
from manymatch.data.sources import Reading, read_rows
from manymatch.errors import DataError


def call(*arguments: object) -> Any:
    told = CliRunner().invoke(app, [str(each) for each in arguments])
    if told.exception is not None and not isinstance(told.exception, SystemExit):
        raise told.exception
    return told


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.png"):
        Image.new("RGB", (9, 7), "red" if name == "a.jpg" else "blue").save(tmp_path / name)
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    rows: Sequence[Mapping[str, Any]] = (
        {"image": "a.jpg", "captions": ["x", "y"], "split": "train", "labels": ["l"], "year": 3, "tags": [1, None]},
        {"image": "./b.png", "id": "B", "captions": None, "nested": {"ü": "\u2028"}},
        {"image": "gone.jpg", "captions": ["z"]},
        {"image": "bad.jpg", "captions": ["w"]},
    )
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_items_read_back_the_same_and_pictures_stay_where_they_are(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out.jsonl"
    out.parent.mkdir()
    told = call("convert", data, out)
    assert told.stdout.splitlines() == [
        f"{out}: 3 images (1 without captions) and 3 captions from JSON Lines, one object an image; 1 problems",
        f"next: manymatch check {out} --images {tmp_path}",
    ]
    assert "pairs.jsonl:3: missing picture" in told.stderr
    before, after = Pairs.read(data), Pairs.read(out, images=tmp_path)
    assert [(i.id, i.captions, i.split, i.labels, i.metadata, i.picture) for i in after] == [
        (i.id, i.captions, i.split, i.labels, i.metadata, i.picture) for i in before
    ]


def test_strict_stops_at_the_first_bad_row_and_leaves_nothing(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pairs\.jsonl:3: missing picture"):
        call("convert", data, tmp_path / "out.jsonl", "--strict")
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize("name", ["copied", "copied.tar"])
def test_pictures_are_copied_to_a_folder_or_a_tar(data: Path, tmp_path: Path, name: str) -> None:
    call("convert", data, tmp_path / "out.jsonl", "--pictures", tmp_path / name)
    copied = (TarPictures if name.endswith(".tar") else FolderPictures)(tmp_path / name)
    assert copied.names() == ["a.jpg", "b.png", "bad.jpg"]
    assert copied.read("b.png") == (tmp_path / "b.png").read_bytes()
    assert Pairs.read(tmp_path / "out.jsonl", images=tmp_path / name).image_ids == ["a.jpg", "B", "bad.jpg"]


class Inside(FolderPictures):
    """Pictures that no `--images` opens, by names that say nothing."""

    def describe(self) -> dict[str, Any]:
        return {"kind": "table"}

    def read(self, name: str) -> bytes:
        if name == "2":
            raise PictureError("unreadable picture", "picture '2': gone since")
        return super().read({"0": "a.jpg", "1": "b.png"}[name])


def reading(pairs: Pairs, like: Reading) -> Reading:
    return Reading(pairs, like.path, dict.fromkeys(pairs.image_ids), like.format)


def test_pictures_inside_a_container_are_named_when_copied_and_left_out_otherwise(data: Path, tmp_path: Path) -> None:
    items = [Item(f"i{n}", ("x",), picture=str(n)) for n in range(3)]
    given = reading(Pairs(items, pictures=Inside(tmp_path)), read_rows(data))
    done = convert(given, tmp_path / "out.jsonl")
    assert "pictures lie inside" in done.notes[0] and [item.picture for item in done.items] == [None] * 3
    done = convert(given, tmp_path / "out.jsonl", pictures=tmp_path / "copied")
    assert [item.picture for item in done.items] == ["00000000.jpg", "00000001.png"]
    assert [(problem.file, problem.kind) for problem in done.problems] == [(str(data), "unreadable picture")]
    again = Pairs.read(tmp_path / "out.jsonl", images=tmp_path / "copied", strict=True)
    assert again.image_ids == ["i0", "i1"]
    # Once more over the same is fine; a picture that somebody else put there is not lost.
    convert(given, tmp_path / "out.jsonl", pictures=tmp_path / "copied")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "00000000.jpg").write_bytes(b"mine")
    with pytest.raises(DataError, match="is there already and is another file"):
        convert(given, tmp_path / "out.jsonl", pictures=tmp_path / "other")
    assert (tmp_path / "other" / "00000000.jpg").read_bytes() == b"mine"
    with pytest.raises(DataError, match="picture '2': gone since"):
        convert(given, tmp_path / "strict.jsonl", pictures=tmp_path / "copied", strict=True)
    assert not (tmp_path / "strict.jsonl").exists()


def test_metadata_that_is_called_as_one_of_ours_is_renamed_and_said(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"name": "a", "sentence": "x", "captions": "old", "captions_": 1, "id": 2, "split": 3}')
    told = call("convert", path, tmp_path / "out.jsonl", "--field", "captions=sentence", "--field", "id=name")
    assert "metadata 'captions' is called 'captions__'" in told.stderr
    (item,) = Pairs.read(tmp_path / "out.jsonl")
    assert (item.id, item.captions, item.split) == ("a", ("x",), "3")
    assert item.metadata == {"captions__": "old", "captions_": 1, "id_": 2}


def test_features_that_no_longer_fit_are_said(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"image": "a", "captions": "x"}\n{half\n{"image": "c", "captions": "x"}\n')
    np.save(tmp_path / "f.npy", np.zeros((3, 4), np.float32))
    told = call("convert", path, tmp_path / "out.jsonl", "--pooled", tmp_path / "f.npy")
    assert "feature files go by the rows of what was read" in told.stderr


def test_numbers_of_captions_that_change_are_said(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"image": "a", "captions": ["x", "", "y"]}\n')
    assert "captions were left out of 1 images, such as 'a'" in call("convert", path, tmp_path / "out.jsonl").stderr


def test_where_it_cannot_write(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ends in \.jsonl"):
        call("convert", data, tmp_path / "out.csv")
    with pytest.raises(DataError, match="is the file that is read"):
        call("convert", data, data)
    with pytest.raises(DataError, match=r"cannot write .*nowhere"):
        call("convert", data, tmp_path / "nowhere" / "out.jsonl")
    (tmp_path / "f.jsonl").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        call("convert", data, tmp_path / "f.jsonl")
