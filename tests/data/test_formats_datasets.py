"""Folders that the datasets library saved, read without it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value, disable_progress_bars
from datasets import Image as Pictures
from PIL import Image
from shards_made import arrow_of, cells

from manymatch.data.formats import known
from manymatch.data.pairs import Pairs
from manymatch.data.sources import read_pairs, read_rows
from manymatch.errors import DataError

FEATURES = Features({"image": Pictures(), "caption": List(Value("string")), "label": ClassLabel(names=["cat", "dog"])})
disable_progress_bars()


def some(*all_reds: int) -> Dataset:
    rows = {
        "image": [Image.new("RGB", (4, 4), (red, 0, 0)) for red in all_reds],
        "caption": [[f"red {red}", "all red"] for red in all_reds],
        "label": [red % 2 for red in all_reds],
    }
    return Dataset.from_dict(rows, features=FEATURES)


def reds(pairs: Pairs) -> list[int]:
    return [image.getpixel((0, 0))[0] for image in pairs.images]


def test_a_folder_of_splits(tmp_path: Path) -> None:
    whole = DatasetDict({"train": some(1, 2, 3), "validation": some(4), "extra": some(5)})
    whole.save_to_disk(str(tmp_path / "saved"), num_shards={"train": 2, "validation": 1, "extra": 1})
    reading = read_rows(tmp_path / "saved", strict=True)
    pairs = reading.pairs
    assert reading.format.name == "datasets" and reading.seen[0] == "a folder with dataset_dict.json"
    assert "validation: 1 Arrow files, split val" in reading.seen
    assert pairs.splits == {"train": 3, "val": 1, "extra": 1}
    assert [item.labels for item in pairs] == [("dog",), ("cat",), ("dog",), ("cat",), ("dog",)]
    assert pairs.items[0].captions == ("red 1", "all red")
    assert pairs.items[2].picture == "train/data-00001-of-00002/0"
    assert reds(pairs) == [1, 2, 3, 4, 5]


def test_a_single_data_set_with_names_of_its_pictures(tmp_path: Path) -> None:
    for red in (1, 2):
        Image.new("RGB", (4, 4), (red, 0, 0)).save(tmp_path / f"{red}.png")
    rows = {"image": [str(tmp_path / f"{red}.png") for red in (1, 2, 1)], "text": ["one", "two", "three"]}
    data = Dataset.from_dict(rows, features=Features({"image": Pictures(), "text": Value("string")}))
    data.save_to_disk(str(tmp_path / "saved"))
    pairs = read_pairs(tmp_path / "saved", strict=True)
    assert [(item.id, item.captions) for item in pairs] == [("1.png", ("one", "three")), ("2.png", ("two",))]
    assert reds(pairs) == [1, 2] and pairs.splits == {}


def test_names_of_classes_come_from_its_description(tmp_path: Path) -> None:
    some(1, 2).save_to_disk(str(tmp_path / "saved"))
    path = tmp_path / "saved" / "dataset_info.json"
    told = json.loads(path.read_text())
    told["features"]["label"]["names"] = ["CAT", "DOG"]
    path.write_text(json.dumps(told))
    assert [item.labels for item in read_pairs(tmp_path / "saved")] == [("DOG",), ("CAT",)]
    told["features"] = None
    path.write_text(json.dumps(told))
    assert [item.labels for item in read_pairs(tmp_path / "saved")] == [("dog",), ("cat",)]


def test_a_stream_that_breaks_off_keeps_its_whole_batches(tmp_path: Path) -> None:
    some(1).save_to_disk(str(tmp_path / "saved"))
    file = tmp_path / "saved" / "data-00000-of-00001.arrow"
    columns = {"image": cells(range(9)), "caption": [["x"]] * 9, "label": [0] * 9}
    whole = arrow_of(file, columns, 3, stream=True).read_bytes()
    file.write_bytes(whole[: len(whole) * 2 // 3])
    pairs = read_pairs(tmp_path / "saved")
    assert 3 <= len(pairs) < 9 and reds(pairs) == list(range(len(pairs)))
    assert pairs.problems[0].kind == "damaged file"
    assert f"breaks off after {len(pairs)} whole rows" in pairs.problems[0].detail
    file.unlink()
    with pytest.raises(DataError, match=r"no such file '.*data-00000-of-00001\.arrow'"):
        read_pairs(tmp_path / "saved")


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("state.json", "{", "is not JSON"),
        ("state.json", "[]", "expected one JSON object"),
        ("state.json", "{}", "lists no Arrow files"),
        (
            "state.json",
            '{"_data_files": [{"filename": "../x.arrow"}]}',
            "'../x.arrow', expected a name in this",
        ),
        ("state.json", '{"_data_files": [3]}', "data file None"),
        ("dataset_info.json", "{", "is not JSON"),
        ("data-00000-of-00001.arrow", "", "neither Parquet nor Arrow"),
        ("data-00000-of-00001.arrow", "\x7f" * 50, "neither Parquet nor Arrow"),
    ],
)
def test_what_is_wrong_with_a_saved_folder_is_one_line(file: str, content: str, words: str, tmp_path: Path) -> None:
    some(1).save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "saved" / file).write_text(content)
    with pytest.raises(DataError, match=words) as told:
        read_pairs(tmp_path / "saved")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("splits", [["../x"], [], ["a/b"], "train", [3]])
def test_splits_are_folders_inside(splits: Any, tmp_path: Path) -> None:
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": splits}))
    assert known(tmp_path)[0].name == "datasets"
    with pytest.raises(DataError, match="no 'splits', expected a list of their names"):
        read_pairs(tmp_path)
    (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": ["gone"]}))
    with pytest.raises(DataError, match="no such file"):
        read_pairs(tmp_path)


def test_pictures_are_neither_read_nor_held_while_rows_are(tmp_path: Path) -> None:
    file = tmp_path / "saved"
    some(1).save_to_disk(str(file))
    shutil.copy(file / "state.json", tmp_path / "state.json")
    columns = {"image": [{"bytes": bytes([n]) * 2_000_000, "path": None} for n in range(30)]}
    columns |= {"caption": [["x"]] * 30, "label": [0] * 30}
    arrow_of(file / "data-00000-of-00001.arrow", columns, 10, stream=True)
    del columns
    before = pa.total_allocated_bytes()
    pairs = read_pairs(file)
    assert len(pairs) == 30
    assert pa.total_allocated_bytes() - before < 1_000_000
    assert pairs.pictures is not None
    assert pairs.pictures.read("29") == bytes([29]) * 2_000_000
    assert pa.total_allocated_bytes() - before < 1_000_000
