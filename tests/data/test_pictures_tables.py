"""Pictures in Parquet and Arrow columns: read by their row, a few at a time, by threads and forked processes."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shards_made import arrow_of, cells, parquet_of, png

from manymatch.data.decoding import PictureError
from manymatch.data.pictures import TablePictures, open_pictures, table
from manymatch.errors import DataError

WRITERS = {
    "parquet": lambda path, columns: parquet_of(path, columns, row_group_size=4),
    "file": lambda path, columns: arrow_of(path, columns, 4),
    "stream": lambda path, columns: arrow_of(path, columns, 4, stream=True),
    "lz4": lambda path, columns: arrow_of(path, columns, 4, options=pa.ipc.IpcWriteOptions(compression="lz4")),
}
every = pytest.mark.parametrize("kind", WRITERS)


@every
def test_pictures_are_read_by_their_row(kind: str, tmp_path: Path) -> None:
    path = WRITERS[kind](tmp_path / "a", {"image": cells(range(10)), "x": list(range(10))})
    pictures = TablePictures(path, "image")
    assert sorted(pictures.names(), key=int) == [str(n) for n in range(10)]
    for row in (7, 0, 9, 3, 3):
        assert pictures.read(str(row)) == png(row)
    assert pictures.open("5").getpixel((0, 0)) == (5, 0, 0)
    for name in ("10", "-1", "x", "a/3", "1e1", "٣", "9" * 30, ""):
        with pytest.raises(PictureError):
            pictures.require(name)


@every
def test_plain_bytes_and_empty_cells(kind: str, tmp_path: Path) -> None:
    path = WRITERS[kind](tmp_path / "a", {"jpg": pa.array([png(1), None, b"", png(1)], pa.binary())})
    pictures = TablePictures(path, "jpg")
    assert pictures.read("0") == pictures.read("3") == png(1)
    with pytest.raises(PictureError, match=r"its cell in 'jpg' is empty"):
        pictures.read("1")
    with pytest.raises(PictureError, match="the file is empty"):
        pictures.open("2")
    path = WRITERS[kind](tmp_path / "b", {"image": [{"bytes": None, "path": "/etc/passwd"}, *cells([2]), None]})
    pictures = TablePictures(path, "image")
    for row in ("0", "2"):
        with pytest.raises(PictureError, match="is empty"):
            pictures.read(row)
    assert pictures.read("1") == png(2)


def test_several_files_are_told_apart_and_described(tmp_path: Path) -> None:
    paths = [parquet_of(tmp_path / f"train-{n}.parquet", {"image": cells([n, 10 + n])}) for n in range(3)]
    pictures = TablePictures(paths, "image")
    assert pictures.names() == [f"train-{n}/{row}" for n in range(3) for row in range(2)]
    assert pictures.read("train-2/1") == png(12)
    paths[0].rename(tmp_path / "elsewhere")
    reopened = open_pictures(pictures.describe())
    assert reopened.read("train-1/1") == png(11)
    with pytest.raises(PictureError, match="no such file"):
        reopened.read("train-0/0")
    (tmp_path / "elsewhere").rename(paths[0])
    pictures.max_pixels = 9
    for again in (open_pictures(pictures.describe()), pickle.loads(pickle.dumps(pictures))):
        assert again.names() == pictures.names() and again.read("train-1/0") == png(1)
        with pytest.raises(PictureError, match="at most 9 are read"):
            again.open("train-1/0")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@every
def test_threads_and_forks_share_one(kind: str, tmp_path: Path) -> None:
    path = WRITERS[kind](tmp_path / "a", {"image": cells(range(40))})
    pictures = TablePictures(path, "image")
    rows = Random(0).choices(range(40), k=200)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda row: pictures.read(str(row)), rows)) == [png(row) for row in rows]
    with pictures._lock:  # as if another thread read just now
        child = os.fork()
        if child == 0:
            os._exit(0 if pictures.read("11") == png(11) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert pictures.read("12") == png(12)


@settings(max_examples=25)
@given(rows=st.lists(st.integers(0, 39), max_size=30), group=st.integers(1, 40))
def test_large_groups_are_walked_through_in_any_order(
    rows: list[int], group: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = parquet_of(tmp_path_factory.mktemp("t") / "a.parquet", {"image": cells(range(40))}, row_group_size=group)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "_GROUP", 200)
        patch.setattr(table, "_STEP", 300)
        pictures = TablePictures(path, "image")
        assert [pictures.read(str(row)) for row in rows] == [png(row) for row in rows]


def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_KEPT", 30_000)
    monkeypatch.setattr(table, "_OPEN", 2)
    data = [{"bytes": Random(n).randbytes(1000), "path": None} for n in range(60)]
    paths = [parquet_of(tmp_path / f"{n}.parquet", {"image": data}, row_group_size=5) for n in range(4)]
    pictures = TablePictures(paths, "image")
    for n in Random(0).choices(range(240), k=300):
        assert pictures.read(f"{n // 60}/{n % 60}") == data[n % 60]["bytes"]
        reader = pictures._reader
        assert len(reader._tables) <= 2
        assert sum(reader._sizes.values()) <= 30_000 and set(reader._sizes) == set(reader._kept)


def test_a_picture_on_every_row_is_held_once(tmp_path: Path) -> None:
    picture = Random(0).randbytes(500_000)
    path = parquet_of(tmp_path / "a.parquet", {"image": pa.array([picture] * 400, pa.binary())})
    assert path.stat().st_size < 2_000_000
    pictures = TablePictures(path, "image")
    before = pa.total_allocated_bytes()
    assert pictures.read("399") == picture
    assert pa.total_allocated_bytes() - before < 20_000_000


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"picture": cells([1])}, "found columns .*'picture'"),
        ({"image": ["a.jpg"]}, "found string"),
        ({"image": [[1, 2]]}, "found list<"),
        ({"image": [{"path": "a.jpg"}]}, "found struct<path"),
    ],
)
def test_a_column_without_pictures_is_said(columns: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"'image' holds no pictures, {words}"):
        TablePictures(parquet_of(tmp_path / "a.parquet", columns), "image")


@every
def test_damage_is_said_of_the_file_or_of_its_pictures(kind: str, tmp_path: Path) -> None:
    path = WRITERS[kind](tmp_path / "a", {"image": cells(range(12))})
    whole = path.read_bytes()
    rng = Random(0)
    for _ in range(60):
        data = bytearray(whole[: rng.choice([len(whole)] * 3 + [rng.randrange(len(whole))])])
        for _ in range(rng.choice([0, 1, 4])):
            data[rng.randrange(len(data))] = rng.randrange(256) if data else 0
        path.write_bytes(data)
        try:
            pictures = TablePictures(path, "image")
            for name in pictures.names()[:20]:
                pictures.read(name)
        except DataError as error:
            assert "\n" not in str(error)


def test_what_is_no_table_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"no table")
    with pytest.raises(DataError, match="neither Parquet nor Arrow"):
        TablePictures(tmp_path / "x.parquet", "image")
    with pytest.raises(DataError, match="no such file"):
        TablePictures(tmp_path / "y.parquet", "image")
    with pytest.raises(DataError, match="no table given"):
        TablePictures([], "image")


def test_without_pyarrow_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet_of(tmp_path / "a.parquet", {"image": cells([1])})
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(DataError, match=r'pip install "manymatch\[arrow\]"'):
        TablePictures(path, "image")
