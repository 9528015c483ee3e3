"""An index over pictures in shards and tables keeps where they are, and serves them when it is opened again."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from index_fakes import FakeModel
from PIL import Image

from manymatch.data.pairs import Pairs
from manymatch.data.sources import read_pairs
from manymatch.errors import DataError
from manymatch.index import Index


def png(red: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (red, 0, 0)).save(out, "PNG")
    return out.getvalue()


def shards(folder: Path) -> None:
    for n in range(2):
        with tarfile.open(folder / f"train-{n}.tar", "w") as tar:
            for k in range(3):
                for name, data in ((f"{k}.png", png(10 * n + k)), (f"{k}.txt", f"number {k} of {n}".encode())):
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))


def parquet(folder: Path) -> None:
    for n in range(2):
        cells = [{"bytes": png(10 * n + k), "path": None} for k in range(3)]
        captions = [[f"number {k} of {n}"] for k in range(3)]
        pq.write_table(pa.table({"image": cells, "captions": captions}), folder / f"train-{n}.parquet")


@pytest.mark.parametrize(("write", "suffix"), [(shards, ".png"), (parquet, "")])
def test_pictures_are_served_from_where_they_lie(
    write: object, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    write(tmp_path / "data")  # type: ignore[operator]
    # Named from where the user is; an index has to find them from anywhere.
    monkeypatch.chdir(tmp_path)
    pairs: Pairs = read_pairs("data", strict=True)
    assert pairs.pictures is not None
    pairs.pictures.max_pixels = 70_000_000  # type: ignore[attr-defined]
    with Index.build(FakeModel(), pairs, tmp_path / "x") as built:
        assert built.picture(f"train-1/2{suffix}") == png(12)
    monkeypatch.chdir("/")
    with Index.open(tmp_path / "x") as index:
        for item in pairs:
            number = 10 * int(item.id[6]) + int(item.id[8])
            assert index.picture(item.id) == png(number)
            assert index.open_picture(f"{item.id}#0").getpixel((0, 0)) == (number, 0, 0)
            assert index.pixels(item.id) == 70_000_000
    next((tmp_path / "data").glob("train-0.*")).unlink()
    with Index.open(tmp_path / "x") as index:
        assert index.picture(f"train-1/0{suffix}") == png(10)
        with pytest.raises(DataError, match=r"'train-0/0.*No such file|'train-0/0.*no such file"):
            index.picture(f"train-0/0{suffix}")
