"""Small pictures, tars and tables for the tests of what holds pictures."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def png(red: int, side: int = 4) -> bytes:
    """A PNG of one colour, told by its red."""
    out = io.BytesIO()
    Image.new("RGB", (side, side), (red, 0, 0)).save(out, "PNG")
    return out.getvalue()


def tar_of(path: Path, members: Mapping[str, bytes], **options: Any) -> Path:
    with tarfile.open(path, "w", **options) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def cells(reds: Sequence[int]) -> list[dict[str, Any]]:
    """Pictures as the datasets library keeps them, without names of their own."""
    return [{"bytes": png(red), "path": None} for red in reds]


def parquet_of(path: Path, columns: Mapping[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(dict(columns)), path, **options)
    return path


def arrow_of(path: Path, columns: Mapping[str, Any], rows: int = 1000, stream: bool = False, **options: Any) -> Path:
    table = pa.table(dict(columns))
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as file, new(file, table.schema, **options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path
