"""Feature files that lie about themselves: NumPy arrays and archives of them."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from bad_case import Case, Write, either, fine, listed, refused, rows

__all__ = ["feature_cases"]

BAD = "bad features"


def feature_cases() -> list[Case]:
    return [*_values(), *_shapes(), *_headers(), *_archives(), *_bombs(), *_files()]


def _given(data: bytes | Callable[[], bytes], name: str = "f.npy", option: str = "--features") -> Write:
    """Three lines, and a feature file of these bytes for them."""

    def write(folder: Path) -> Sequence[str]:
        (folder / "data.jsonl").write_bytes(rows({"image": "m.jpg", "captions": ["x"]}))
        (folder / name).write_bytes(data if isinstance(data, bytes) else data())
        return ["data.jsonl", option, name]

    return write


def npy(array: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def npz(packed: bool = False, **arrays: Any) -> bytes:
    out = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(out, **arrays)
    return out.getvalue()


def headed(text: str, numbers: bytes = b"", version: int = 1) -> bytes:
    """A `.npy` whose header is this text."""
    told = text.encode("latin1") + b"\n"
    size = struct.pack("<H", len(told)) if version == 1 else struct.pack("<I", len(told))
    return b"\x93NUMPY" + bytes([version, 0]) + size + told + numbers


def shaped(shape: str, descr: str = "'<f4'", order: str = "False", numbers: bytes = bytes(240)) -> bytes:
    return headed(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}", numbers)


def _values() -> Iterator[Case]:
    for name, value in (("nan", np.nan), ("infinity", np.inf), ("minus-infinity", -np.inf)):
        for kind in (np.float16, np.float32, np.float64):
            for shape in ((3, 4), (3, 2, 4)):
                array = np.ones(shape, kind)
                array[1].flat[2] = value
                yield listed(f"features-{name}-{kind.__name__}-{len(shape)}", _given(npy(array)), BAD, line=2)
    large = np.ones((3, 4))
    large[1, 0] = 1e300
    yield listed("features-beyond-float32", _given(npy(large)), BAD, line=2)
    scaled = np.ones((3, 2, 4), np.float32)
    yield refused("features-all-nan", _given(npy(scaled * np.nan)), "usable")
    yield listed("lengths-zero", _given(npz(vectors=scaled, lengths=np.array([1, 0, 2])), "f.npz"), BAD, line=2)
    yield listed("lengths-negative", _given(npz(vectors=scaled, lengths=np.array([1, -1, 2])), "f.npz"), BAD, line=2)
    yield listed("lengths-too-long", _given(npz(vectors=scaled, lengths=np.array([1, 9, 2])), "f.npz"), BAD, line=2)
    ids = np.array(["a.jpg", "nobody", "z.jpg"])
    yield listed("ids-of-others", _given(npz(vectors=scaled, ids=ids), "f.npz"), BAD, line=2)
    odd = scaled.copy()
    odd[1, 1] = np.nan
    yield fine("nan-behind-the-length", _given(npz(vectors=odd, lengths=np.array([2, 1, 2])), "f.npz"))
    yield fine("big-endian", _given(npy(scaled.astype(">f4"))))
    yield fine("fortran-order", _given(npy(np.asfortranarray(scaled))))
    yield fine("empty-rows-behind", _given(npy(scaled) + bytes(1000)))
    yield fine("packed", _given(npz(True, vectors=scaled), "f.npz"))
    yield fine("named-otherwise", _given(npz(vectors=scaled), "f.npy"))


def _shapes() -> Iterator[Case]:
    for shape in ((2, 4), (4, 4), (0, 4), (3,), (), (3, 0), (3, 2, 0), (3, 1, 2, 4), (1,) * 32):
        name = "x".join(map(str, shape)) or "scalar"
        yield refused(f"shape-{name[:20]}", _given(npy(np.ones(shape, np.float32))), "shape|rows|axes")
    kinds: tuple[Any, ...] = ("<i8", "<u2", "?", "<c8", "<U3", "S3", "<M8[s]", "V4", [("a", "<f4")], "<f4,<f4")
    for kind in kinds:
        name = str(kind).replace("'", "")
        yield refused(f"type-{name}", _given(npy(np.zeros((3, 4), np.dtype(kind)))), "type|objects|damaged")
    if hasattr(np, "longdouble"):
        yield Case("type-longdouble", _given(npy(np.zeros((3, 4), np.longdouble))), (BAD,), good=3, fine=True)
    yield refused("pooled-of-three-axes", _given(npy(np.ones((3, 2, 4), np.float32)), option="--pooled"), "two axes")
    one = np.ones((3, 2, 4), np.float32)
    wrong: dict[str, dict[str, Any]] = {
        "no-arrays": {},
        "other-names": {"x": one},
        "ids-repeated": {"vectors": one, "ids": np.array(["a.jpg", "a.jpg", "z.jpg"])},
        "ids-numbers": {"vectors": one, "ids": np.arange(3)},
        "ids-table": {"vectors": one, "ids": np.array([["a", "b"]] * 3)},
        "ids-latin-1": {"vectors": one, "ids": np.array([b"\xe9", b"b", b"c"])},
        "ids-too-few": {"vectors": one, "ids": np.array(["a.jpg"])},
        "ids-of-nobody": {"vectors": one, "ids": np.array(["1", "2", "3"])},
        "ids-pickled": {"vectors": one, "ids": np.array(["a", None, {}], dtype=object)},
        "lengths-floats": {"vectors": one, "lengths": np.ones(3)},
        "lengths-too-few": {"vectors": one, "lengths": np.ones(2, int)},
        "lengths-table": {"vectors": one, "lengths": np.ones((3, 1), int)},
        "scale-nan": {"q": np.ones((3, 2, 4), np.int8), "scale": np.array([1, 2, np.nan, 1])},
        "scale-wrong": {"q": np.ones((3, 2, 4), np.int8), "scale": np.ones(3)},
        "scale-text": {"q": np.ones((3, 2, 4), np.int8), "scale": np.array(["1"] * 4)},
        "scale-missing": {"q": np.ones((3, 2, 4), np.int8)},
        "vectors-of-two-axes": {"vectors": one[:, 0]},
        "pooled-of-three-axes": {"pooled": one},
        "pooled-of-one-axis": {"pooled": one[:, 0, 0]},
    }
    for name, arrays in wrong.items():
        yield refused(f"archive-{name}", _given(lambda arrays=arrays: npz(**arrays), "f.npz"), "features: .")


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, ("hacked",))


def _headers() -> Iterator[Case]:
    objects = np.array([_Evil(), None, None], dtype=object)
    texts = {
        "pickle-inside": lambda: npy(objects),
        "pickle-bare": lambda: pickle.dumps(_Evil()),
        "pickle-named-archive": lambda: pickle.dumps({"vectors": _Evil()}),
        "million-billion-rows": lambda: shaped("(1000000000000000, 36, 2048)"),
        "beyond-64-bits": lambda: shaped("(9223372036854775807, 9223372036854775807)"),
        "wraps-to-small": lambda: shaped("(4294967296, 4294967296, 4)"),
        "wraps-to-nothing": lambda: shaped("(9223372036854775808, 2)"),
        "long-number": lambda: shaped("(" + "9" * 5000 + ", 4)"),
        "negative": lambda: shaped("(-3, 4)"),
        "both-negative": lambda: shaped("(-3, -4)"),
        "true": lambda: shaped("(True, 4)"),
        "fraction": lambda: shaped("(3.0, 4)"),
        "no-tuple": lambda: shaped("3"),
        "list": lambda: shaped("[3, 4]"),
        "none": lambda: shaped("None"),
        "call": lambda: shaped("__import__('os').mkdir('hacked')"),
        "call-as-type": lambda: shaped("(3, 4)", "__import__('os').mkdir('hacked')"),
        "type-of-nothing": lambda: shaped("(3, 4)", "''"),
        "type-unknown": lambda: shaped("(3, 4)", "'<q9'"),
        "type-object": lambda: shaped("(3, 4)", "'|O'"),
        "type-object-inside": lambda: shaped("(3,)", "[('a', '|O')]"),
        "type-of-a-terabyte": lambda: shaped("(3, 4)", "'|V1099511627776'"),
        "type-deep": lambda: shaped("(3, 4)", "[('a', " * 300 + "'<f4'" + ")]" * 300),
        "order-of-nothing": lambda: headed("{'descr': '<f4', 'shape': (3, 4)}", bytes(48)),
        "keys-missing": lambda: headed("{}", bytes(48)),
        "no-dictionary": lambda: headed("[]", bytes(48)),
        "empty": lambda: headed("", bytes(48)),
        "deep": lambda: headed("(" * 9000),
        "not-closed": lambda: headed("{'descr': '<f4'"),
        "nul": lambda: headed("{'descr': '<f4\0', 'fortran_order': False, 'shape': (3, 4)}", bytes(48)),
        "version-4": lambda: headed("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)}", bytes(48), 4),
        "version-0": lambda: headed("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)}", bytes(48), 0),
        "four-gigabytes-long": lambda: b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
        "only-a-head": lambda: b"\x93NUMPY",
        "cut-head": lambda: npy(np.ones((3, 4), np.float32))[:40],
        "cut-numbers": lambda: npy(np.ones((3, 4), np.float32))[:-1],
        "no-numbers": lambda: npy(np.ones((3, 4), np.float32))[:128],
        "zero-bytes": lambda: b"",
        "text": lambda: b"1.0 2.0 3.0\n4.0 5.0 6.0\n",
        "hdf5": lambda: b"\x89HDF\r\n\x1a\n" + bytes(500),
        "noise": lambda: np.random.default_rng(0).bytes(5000),
    }
    for name, make in texts.items():
        yield refused(f"header-{name}", _given(make), "features: .*(damaged|objects|not a NumPy|rows|shape|type|cut)")
    yield refused("header-claims-much-and-has-it", _claims, "rows|shape")


def _claims(folder: Path) -> Sequence[str]:
    """Ten to the twelve rows, all of them there: a file with a hole in it."""
    given = _given(shaped("(1000000000000, 4)", "'|u1'", numbers=b""))(folder)
    with open(folder / "f.npy", "r+b") as file:
        file.truncate(128 + 4 * 10**12)
    return given


@cache
def _archive() -> bytes:
    return npz(vectors=np.random.default_rng(0).random((3, 2, 400), np.float32))


@cache
def _packed_archive() -> bytes:
    return npz(True, vectors=np.random.default_rng(0).random((3, 2, 400), np.float32))


def _archives() -> Iterator[Case]:
    damaged = "features: .*(damaged|cut|not a NumPy|none of)"
    for kind, make in (("stored", _archive), ("packed", _packed_archive)):
        whole = make()
        for part in (0.1, 0.5, 0.9, 0.99):
            yield refused(f"archive-{kind}-cut-{part}", _given(whole[: int(len(whole) * part)], "f.npz"), damaged)
        yield refused(f"archive-{kind}-without-its-head", _given(b"XX" + whole[2:], "f.npz"), damaged)
    flipped = bytearray(_packed_archive())
    flipped[len(flipped) // 2] ^= 0x55
    yield refused("archive-flipped", _given(bytes(flipped), "f.npz"), damaged)
    yield refused("archive-empty", _given(b"PK\x05\x06" + bytes(18), "f.npz"), damaged)
    yield refused("archive-encrypted", _given(_encrypted, "f.npz"), damaged)
    yield refused("archive-of-text", _given(lambda: _zip({"vectors.npy": b"1 2 3"}), "f.npz"), damaged)
    yield refused("archive-of-nothing", _given(lambda: _zip({"vectors.npy": b""}), "f.npz"), damaged)
    up = {"../../vectors.npy": npy(np.ones((3, 4), np.float32)), "/vectors.npy": b""}
    yield refused("archive-names-up", _given(lambda: _zip(up), "f.npz"), damaged)
    yield refused("archive-in-archive", _given(lambda: _zip({"vectors.npy": _archive()}), "f.npz"), damaged)
    many = {f"{n}.npy": b"" for n in range(20_000)}
    yield refused("archive-of-many", _given(lambda: _zip(many), "f.npz"), damaged)
    for field, at in (("compressed-size", 20), ("size", 24)):
        # The numbers are all there, and their own header says how many: other readers give up.
        yield either(f"archive-lying-{field}", _given(lambda at=at: _lying(at), "f.npz"), damaged)
    yield refused("archive-lying-start", _given(lambda: _lying(42), "f.npz"), damaged)


def _zip(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def _lying(at: int) -> bytes:
    """A packed archive whose directory gives another number for one field."""
    data = bytearray(_packed_archive())
    entry = data.index(b"PK\x01\x02")
    data[entry + at : entry + at + 4] = struct.pack("<I", 0xFFFFFF0)
    return bytes(data)


def _encrypted() -> bytes:
    data = bytearray(_packed_archive())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def _bombs() -> Iterator[Case]:
    """Archives of kilobytes that hold gigabytes, or say so."""
    rooms = "features: .*(damaged|compressed and says)"
    yield refused("bomb-declared", _given(lambda: _packed("(1000000000, 4)", bytes(1000)), "f.npz"), rooms)
    yield refused("bomb-real", _given(lambda: _packed("(100000000, 4)", bytes(2**20), 400), "f.npz"), rooms)
    yield refused("bomb-of-rows-that-fit", _given(lambda: _packed("(3, 36000000)", bytes(2**20), 420), "f.npz"), rooms)
    yield refused("bomb-behind-its-numbers", _given(lambda: _packed("(2, 4)", bytes(2**20), 400), "f.npz"), rooms)


def _packed(shape: str, block: bytes, times: int = 1) -> bytes:
    out = io.BytesIO()
    archive = zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED)
    with archive, archive.open("vectors.npy", "w", force_zip64=True) as member:
        member.write(shaped(shape, numbers=b""))
        for _ in range(times):
            member.write(block)
    return out.getvalue()


def _files() -> Iterator[Case]:
    def other(goal: str) -> Write:
        return lambda folder: [*_given(b"")(folder)[:2], goal]

    yield refused("features-missing", other("nothing.npy"), "no such")
    yield refused("features-folder", other("."), "folder")
    yield refused("features-device", other("/dev/zero"), "device|expected")
    yield refused("features-passwd", other("/etc/passwd"), "not a NumPy")
    yield refused("features-pipe", lambda f: (os.mkfifo(f / "p.npy"), other("p.npy")(f))[1], "pipe")
    yield refused("features-and-pooled-alike", _alike, "pooled vectors too")


def _alike(folder: Path) -> Sequence[str]:
    given = _given(npy(np.ones((3, 4), np.float32)))(folder)
    return [*given, "--pooled", "f.npy"]
