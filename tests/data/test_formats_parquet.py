"""Parquet: which column is what, one caption a row or several, pictures inside or by their path."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shards_made import cells, parquet_of, png

from manymatch.data.formats import format_named, known
from manymatch.data.pairs import Pairs
from manymatch.data.pictures import TablePictures
from manymatch.data.sources import read_pairs, read_rows
from manymatch.errors import DataError


def pictures(*named: tuple[int, str | None]) -> list[dict[str, Any]]:
    return [{"bytes": png(red), "path": path} for red, path in named]


def reds(pairs: Pairs) -> list[int]:
    return [image.getpixel((0, 0))[0] for image in pairs.images]


def test_pictures_inside_with_lists_of_captions(tmp_path: Path) -> None:
    path = parquet_of(
        tmp_path / "a.parquet",
        {
            "image": pictures((1, "x/a.jpg"), (2, None), (3, "c.jpg")),
            "caption": [["one", "two"], ["drei"], ["三"]],
            "label": ["dog", None, "cat"],
            "split": ["train", "val", "test"],
            "year": [2001, None, 2003],
        },
    )
    reading = read_rows(path, strict=True)
    pairs = reading.pairs
    assert reading.format.name == "parquet" and isinstance(pairs.pictures, TablePictures)
    assert pairs.image_ids == ["x/a.jpg", "1", "c.jpg"]
    assert [item.picture for item in pairs] == ["0", "1", "2"]
    assert [item.captions for item in pairs] == [("one", "two"), ("drei",), ("三",)]
    assert [item.labels for item in pairs] == [("dog",), (), ("cat",)]
    assert [item.metadata for item in pairs] == [{"year": 2001}, {"year": None}, {"year": 2003}]
    assert pairs.splits == {"train": 1, "val": 1, "test": 1} and reds(pairs) == [1, 2, 3]
    assert "pictures in 'image', as encoded bytes" in reading.seen
    assert "'label' is taken for labels" in reading.seen


def test_rows_of_one_picture_with_one_caption_each_are_one_image(tmp_path: Path) -> None:
    path = parquet_of(
        tmp_path / "a.parquet",
        {
            "image": pictures((1, "a.jpg"), (2, "b.jpg"), (1, "a.jpg"), (9, "a.jpg"), (9, "a.jpg"), (3, None)),
            "caption": ["one", "two", "three", "four", "five", "six"],
        },
        row_group_size=2,
    )
    pairs = read_pairs(path)
    assert [(item.id, item.captions) for item in pairs] == [
        ("a.jpg", ("one", "three")),
        ("b.jpg", ("two",)),
        ("3", ("four", "five")),
        ("5", ("six",)),
    ]
    assert reds(pairs) == [1, 2, 9, 3]
    by_id = {"image": cells([1, 1, 2]), "image_id": [7, 7, 8], "text": ["one", "two", "three"]}
    pairs = read_pairs(parquet_of(tmp_path / "b.parquet", by_id))
    assert [(item.id, item.captions) for item in pairs] == [("7", ("one", "two")), ("8", ("three",))]


def test_names_that_say_nothing_are_soon_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = pictures(*((n, "image.jpg") for n in range(60)))
    path = parquet_of(tmp_path / "a.parquet", {"image": named, "caption": ["x"] * 60})
    read: list[str] = []
    whole = TablePictures.read
    monkeypatch.setattr(TablePictures, "read", lambda self, name: read.append(name) or whole(self, name))
    assert len(read_pairs(path)) == 60
    assert len(read) <= 20


def test_pictures_by_their_path_lie_beside(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "images" / name).write_bytes(png(ord(name[0])))
    columns = {"file_name": ["a.png", "b.png", "a.png", "no.png"], "text": ["one", "two", "three", "four"]}
    pairs = read_pairs(parquet_of(tmp_path / "a.parquet", columns))
    assert [(item.id, item.captions) for item in pairs] == [("a.png", ("one", "three")), ("b.png", ("two",))]
    assert reds(pairs) == [97, 98]
    assert [problem.kind for problem in pairs.problems] == ["missing picture"]


def test_the_layout_of_the_hub_says_the_splits(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001", "test-00000-of-00001"):
        columns = {"image": cells([len(name)]), "captions": [[name]]}
        parquet_of(tmp_path / "data" / f"{name}.parquet", columns)
    reading = read_rows(tmp_path)
    assert reading.pairs.splits == {"test": 1, "train": 2, "val": 1}
    assert "data/validation-00000-of-00001.parquet: split val" in reading.seen
    assert reading.pairs.items[1].picture == "train-00000-of-00002/0"
    assert reading.pairs.captions[1] == "train-00000-of-00002" and reds(reading.pairs) == [19, 20, 20, 25]
    (tmp_path / "more" / "default" / "train").mkdir(parents=True)
    parquet_of(tmp_path / "more" / "default" / "train" / "0000.parquet", {"image": cells([1]), "captions": [["x"]]})
    assert read_pairs(tmp_path / "more").splits == {"train": 1}


def test_labels_take_the_names_of_their_classes(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Image, List

    features = Features(
        {"image": Image(), "cls": ClassLabel(names=["cat", "dog"]), "tags": List(ClassLabel(names=["x"]))}
    )
    rows = {"image": pictures((1, "a.png"), (2, "b.png")), "cls": [1, None], "tags": [[0], []]}
    Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "a.parquet"))
    pairs = read_pairs(tmp_path / "a.parquet")
    assert [item.labels for item in pairs] == [("dog",), ()]
    assert [item.metadata for item in pairs] == [{"tags": ["x"]}, {"tags": []}]
    assert [item.captions for item in pairs] == [(), ()]


def test_columns_of_every_type_are_metadata_or_said(tmp_path: Path) -> None:
    when = datetime.datetime(2024, 5, 6, 7, 8, 9)
    path = parquet_of(
        tmp_path / "a.parquet",
        {
            "image": ["a.jpg"],
            "captions": [["x"]],
            "when": pa.array([when], pa.timestamp("ns")),
            "day": [when.date()],
            "price": [Decimal("1.50")],
            "score": [float("nan")],
            "flag": [True],
            "tags": [["p", None]],
            "kind": pa.array(["k"]).dictionary_encode(),
            "vector": [[0.5] * 768],
            "boxes": [[[1, 2]]],
            "about": [{"x": 1}],
            "mask": [b"\x00"],
            "nothing": pa.nulls(1),
        },
    )
    reading = read_rows(path)
    metadata = dict(reading.pairs.items[0].metadata)
    assert metadata.pop("when").startswith("2024-05-06 07:08:09")
    assert metadata == {
        "day": "2024-05-06",
        "price": "1.50",
        "score": None,
        "flag": True,
        "tags": ["p", None],
        "kind": "k",
        "nothing": None,
    }
    assert json.dumps(metadata)
    left = next(line for line in reading.seen if line.startswith("left out"))
    assert all(f"'{name}'" in left for name in ("vector", "boxes", "about", "mask"))


def test_bad_cells_are_bad_rows(tmp_path: Path) -> None:
    def text(*values: bytes | None) -> Any:
        return pa.array(values, pa.binary()).view(pa.string())

    path = parquet_of(
        tmp_path / "a.parquet",
        {
            "image": [*cells([1]), {"bytes": None, "path": "/home/x.jpg"}, None, *cells([4, 5, 6])],
            "caption": text(b"one", b"two", b"three", b"\xff\xfe", b"x" * (2**20 + 1), b"six"),
            "place": text(b"a", b"b", b"c", b"d", b"e", b"\xff"),
        },
    )
    pairs = read_pairs(path)
    assert [item.captions for item in pairs] == [("one",), (), (), ("six",)] or pairs.captions == ["one", "six"]
    told = [f"{problem.kind}: {problem.detail}" for problem in pairs.problems]
    assert "missing picture: row 1: 'image' holds no picture, only the path '/home/x.jpg'" in told
    assert "missing picture: row 2: 'image' holds no picture" in told
    assert "caption is not text: row 3: 'caption': byte 1 of it is not UTF-8; it is left out" in told
    assert any(line.startswith("caption is not text: row 4: 'caption': 1048577 bytes of text") for line in told)
    assert "bad place: row 5: 'place': byte 1 of it is not UTF-8; it is left out" in told


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"caption": ["x"]}, "has no column of images: found columns caption"),
        ({"image": [[1, 2]], "caption": ["x"]}, "has no column of images: found 'image' of type list<"),
        ({"image": [{"path": "a"}], "caption": ["x"]}, "has no column of images: found 'image' of type struct<"),
        ({"image": ["a.jpg"], "captions": [3]}, "'captions' is of type int64, expected text or a list of texts"),
        ({"image": ["a.jpg"], "captions": [[{"raw": "x"}]]}, "'captions' is of type list<.*, expected text"),
    ],
)
def test_strange_columns_are_said_in_one_line(columns: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words) as told:
        read_pairs(parquet_of(tmp_path / "a.parquet", columns))
    assert "\n" not in str(told.value)


def test_a_file_of_other_columns_or_damaged_is_one_bad_row(tmp_path: Path) -> None:
    for n in range(3):
        parquet_of(tmp_path / f"train-{n}.parquet", {"image": cells([n]), "captions": [["x"]]})
    parquet_of(tmp_path / "train-1.parquet", {"photo": cells([n]), "captions": [["x"]]})
    (tmp_path / "train-2.parquet").write_bytes((tmp_path / "train-2.parquet").read_bytes()[:-9])
    pairs = read_pairs(tmp_path)
    assert pairs.image_ids == ["train-0/0"]
    told = "\n".join(map(str, pairs.problems))
    assert "its columns are photo, captions, expected image, captions" in told and "train-2.parquet" in told


def test_a_damaged_row_group_leaves_the_others(tmp_path: Path) -> None:
    columns = {"image": [f"{n}.jpg" for n in range(30)], "captions": [[f"{n}" * 50] for n in range(30)]}
    path = parquet_of(tmp_path / "a.parquet", columns, row_group_size=10, compression="NONE", use_dictionary=False)
    data = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(1).column(1).data_page_offset
    data[start : start + 40] = b"\xff" * 40
    path.write_bytes(data)
    pairs = read_pairs(path)
    assert pairs.image_ids == [f"{n}.jpg" for n in [*range(10), *range(20, 30)]]
    assert [item.row for item in pairs][10] == 20
    assert "rows 10 to 19 cannot be read" in pairs.problems[0].detail


def test_footers_that_lie_are_refused(tmp_path: Path) -> None:
    path = parquet_of(tmp_path / "a.parquet", {"image": ["a.jpg"] * 50, "captions": [["x"]] * 50})
    whole, rng = path.read_bytes(), Random(0)
    size = int.from_bytes(whole[-8:-4], "little")
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 3])):
            data[len(data) - 8 - rng.randrange(1, size)] = rng.randrange(256)
        path.write_bytes(data)
        try:
            read_pairs(path)
        except DataError as error:
            assert "\n" not in str(error)


def test_what_is_asked_by_name_and_is_no_parquet_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"x" * 100)
    assert format_named("parquet").sees(tmp_path / "a.parquet") is None
    with pytest.raises(DataError, match="neither Parquet nor Arrow"):
        read_pairs(tmp_path / "a.parquet", format="parquet")
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match=r"holds no \.parquet file"):
        read_pairs(tmp_path / "b", format="parquet")
    assert known(parquet_of(tmp_path / "c", {"image": ["x"]}))[0].name == "parquet"


@settings(max_examples=40)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 255), st.lists(st.text(st.characters(codec="utf-8"), max_size=5), max_size=3)),
        min_size=1,
        max_size=12,
    ),
    group=st.integers(1, 5),
    inside=st.booleans(),
)
def test_any_rows_written_read_back(
    rows: list[tuple[int, list[str]]], group: int, inside: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    image = cells([red for red, _ in rows]) if inside else [f"{n}.png" for n in range(len(rows))]
    texts = pa.array([texts for _, texts in rows], pa.list_(pa.string()))
    path = parquet_of(folder / "a.parquet", {"image": image, "captions": texts}, row_group_size=group)
    wanted = {n: tuple(t for t in texts if t.strip()) for n, (_, texts) in enumerate(rows)}
    usable = {n: texts for n, texts in wanted.items() if texts}
    if not usable:
        with pytest.raises(DataError, match="none of the"):
            read_pairs(path)
        return
    pairs = read_pairs(path)
    assert {item.row: item.captions for item in pairs} == usable
    if inside:
        assert reds(pairs) == [rows[n][0] for n in usable]
