"""Parquet files, and folders that the datasets library saves."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bad_case import ODD, ROW, Case, Write, either, fine, jpeg, listed, plain_json, refused, written

__all__ = ["arrow_cases"]


def arrow_cases() -> list[Case]:
    return [*_parquet(), *_saved()]


def _table(columns: Mapping[str, Any], **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), out, **options)
    return out.getvalue()


ROWS = {"image": ["a.jpg", "m.jpg", "z.jpg"], "captions": [["a red dog"], ["a green bird"], ["a blue cat"]]}
_ARROW = (
    *ROW,
    "damaged file",
    "unreadable picture",
    "missing picture",
    "bad picture",
    "bad text",
    "not UTF-8",
    "damaged rows",
    "bad row",
)


def _parquet() -> Iterator[Case]:
    whole = _table(ROWS)

    def given(data: bytes | Callable[[], bytes]) -> Write:
        return written({"data.parquet": data}, "data.parquet")

    yield fine("parquet-whole", given(whole))
    for part in (0.05, 0.3, 0.6, 0.95, 0.999):
        yield refused(f"parquet-cut-{part}", given(whole[: int(len(whole) * part)]), ".")
    for at in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        data = bytearray(whole)
        data[int(len(whole) * at)] ^= 0xFF
        yield either(f"parquet-flipped-{at}", given(bytes(data)), ".", *_ARROW)
    foot = int.from_bytes(whole[-8:-4], "little")
    for name, size in (("huge", 2**31 - 1), ("negative", 2**32 - 1), ("zero", 0), ("beyond", foot + 5000)):
        yield refused(f"parquet-footer-{name}", given(whole[:-8] + size.to_bytes(4, "little") + b"PAR1"), ".")
    bad = {
        "empty": b"",
        "magic": b"PAR1PAR1",
        "encrypted": b"PARE" + whole[4:-4] + b"PARE",
        "noise": b"PAR1" + np.random.default_rng(0).bytes(5000) + b"PAR1",
        "no-rows": _table({"image": pa.array([], pa.string()), "captions": pa.array([], pa.string())}),
        "no-columns": _table({}),
        "other-columns": _table({"a": [1], "b": [2]}),
        "numbers": _table({"image": [1.5], "captions": [[1, 2]]}),
    }
    for name, data in bad.items():
        yield refused(f"parquet-{name}", given(data), ".")
    null = {"image": ["a.jpg", None, "z.jpg"], "captions": [["x"], None, [None, "y"]]}
    yield Case("parquet-nulls", given(_table(null)), _ARROW, good=-1)
    raw = [b"\xff\xfe\xfd", b"x", b"y"]
    texts = pa.array(raw, pa.binary()).view(pa.string())
    yield Case("parquet-not-utf-8", given(_table({"image": ROWS["image"], "captions": texts})), _ARROW, good=-1)
    cells = [
        {"bytes": jpeg("red"), "path": "a"},
        {"bytes": b"junk", "path": "../x"},
        {"bytes": jpeg("blue"), "path": None},
    ]
    yield listed("parquet-bad-picture", given(_table({"image": cells, "caption": ["x", "y", "z"]})), *_ARROW)
    none = [{"bytes": jpeg("red")}, {"bytes": None}, {"bytes": jpeg("blue")}]
    yield listed("parquet-no-picture", given(_table({"image": none, "caption": ["x", "y", "z"]})), *_ARROW)
    odd = {
        "column-twice": lambda: _arrays(["image", "image", "caption"], [["a"], ["b"], ["c"]]),
        "deep": lambda: _table({"image": ["a"], "caption": ["x"], "deep": [json.loads('{"a":' * 60 + "1" + "}" * 60)]}),
        "maps": lambda: _table(
            {"image": ["a"], "caption": ["x"], "m": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8()))}
        ),
        "decimals": lambda: _table({"image": ["a"], "caption": ["x"], "d": pa.array([5]).cast(pa.decimal128(30, 5))}),
        "dates": lambda: _table({"image": ["a"], "caption": ["x"], "d": pa.array([2**62], pa.timestamp("us"))}),
        "nan": lambda: _table({"image": ["a"], "caption": ["x"], "n": [float("nan")]}),
        "bytes": lambda: _table({"image": ["a"], "caption": ["x"], "b": [b"\xff" * 1000]}),
        "many-columns": lambda: _table({"image": ["a"], "caption": ["x"], **{f"c{n}": [n] for n in range(2000)}}),
    }
    for name, make in odd.items():
        yield either(f"parquet-odd-{name}", given(make), ".", *_ARROW)
    yield either("parquet-bomb", given(_parquet_bomb), ".", *_ARROW)
    yield refused("parquet-pipe", lambda f: (os.mkfifo(f / "x.parquet"), ["x.parquet"])[1], ".")
    folder = {"d/train-0.parquet": whole, "d/train-1.parquet": whole[:-30]}
    yield either("parquet-folder-with-a-bad-one", written(folder, "d"), ".", *_ARROW)


def _arrays(names: Sequence[str], columns: Sequence[Any]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array(column) for column in columns], names=list(names)), out)
    return out.getvalue()


def _parquet_bomb() -> bytes:
    """Captions of 400 MB in half a megabyte: the same text again and again."""
    text = "x" * (4 * 2**20)
    index = pa.array([0] * 100, pa.int8())
    many = pa.DictionaryArray.from_arrays(index, pa.array([text]))
    return _table({"image": [f"{n}.jpg" for n in range(100)], "caption": many}, compression="zstd")


def _saved() -> Iterator[Case]:
    """What `save_to_disk` of the datasets library leaves."""
    whole = _arrow(ROWS)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": "train"}
    about = {"features": {"image": {"dtype": "string", "_type": "Value"}}}
    name = "d/data-00000-of-00001.arrow"

    def given(state: Any = state, about: Any = about, data: bytes = whole, **more: bytes) -> Write:
        files = {"d/state.json": plain_json(state), "d/dataset_info.json": plain_json(about), name: data}
        return written({**files, **{f"d/{n.replace('__', '.')}": d for n, d in more.items()}}, "d")

    yield fine("saved-whole", given())
    for goal in (
        "../../../../../../etc/passwd",
        "/etc/passwd",
        "../secret.arrow",
        "a/../../x",
        "",
        ".",
        "..",
        "\0",
        "x" * 5000,
        "state.json",
        "nothing.arrow",
        "C:\\x",
        "..\\x",
    ):
        yield refused(f"saved-file-{ascii(goal)[:16]}", given({"_data_files": [{"filename": goal}]}), ".")
    for kind, value in ODD.items():
        if value is ...:
            continue
        yield refused(f"saved-files-{kind}", given({"_data_files": value}), ".")
        yield refused(f"saved-name-{kind}", given({"_data_files": [{"filename": value}]}), ".")
        yield either(f"saved-split-{kind}", given(state | {"_split": value}), ".", *_ARROW)
        yield either(f"saved-features-{kind}", given(about={"features": value}), ".", *_ARROW)
        yield either(
            f"saved-feature-{kind}", given(about={"features": {"image": value, "captions": value}}), ".", *_ARROW
        )
        yield refused(f"saved-splits-{kind}", given(dataset_dict__json=plain_json({"splits": value})), ".")
    names = {
        "features": {"captions": {"_type": "ClassLabel", "names": [None, {}, "x" * 99]}, "image": {"_type": "Image"}}
    }
    yield either("saved-wrong-features", given(about=names), ".", *_ARROW)
    yield refused("saved-splits-up", given(dataset_dict__json=plain_json({"splits": ["../../etc"]})), "splits|names")
    yield refused("saved-splits-missing", given(dataset_dict__json=plain_json({"splits": ["train"]})), ".")
    for bad in (b"", b"[", b"null", b"\xff", b'{"a":' * 50_000):
        yield refused(f"saved-state-{bad[:4]!a}", given(bad), ".")
        yield either(f"saved-about-{bad[:4]!a}", given(about=bad), ".")
    for part in (0.1, 0.5, 0.9):
        yield either(f"saved-cut-{part}", given(data=whole[: int(len(whole) * part)]), ".", *_ARROW)
    for at in range(1, 20):
        data = bytearray(whole)
        data[len(whole) * at // 20] ^= 0xFF
        yield either(f"saved-flipped-{at}", given(data=bytes(data)), ".", *_ARROW)
    for bad in (b"", b"ARROW1\0\0", b"\xff\xff\xff\xff\xff\xff\xff\x7f", b"\xff" * 4000, bytes(4000)):
        yield either(f"saved-data-{bad[:5]!a}-{len(bad)}", given(data=bad), ".", *_ARROW)
    yield refused("saved-pipe", _saved_pipe, ".")


def _arrow(columns: Mapping[str, Any]) -> bytes:
    table, out = pa.table(dict(columns)), io.BytesIO()
    with pa.ipc.new_stream(out, table.schema) as stream:
        stream.write_table(table)
    return out.getvalue()


def _saved_pipe(folder: Path) -> Sequence[str]:
    os.mkfifo(folder / "x.arrow")
    (folder / "state.json").write_bytes(plain_json({"_data_files": [{"filename": "x.arrow"}]}))
    (folder / "dataset_info.json").write_bytes(b"{}")
    return ["."]
