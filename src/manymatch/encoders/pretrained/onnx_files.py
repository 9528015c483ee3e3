"""ONNX files: opened by onnxruntime, and known by the digest of every byte that their numbers come from."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...data.files import inside, regular_file
from ...errors import DataError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

__all__ = ["chosen", "file_of", "onnx_digest", "open_session", "run_session"]

Array = np.ndarray[Any, Any]

_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
# Numbers of fields in onnx.proto: where a model keeps the names of files beside it.
_GRAPH, _INITIALIZER, _EXTERNAL, _KEY, _VALUE = 7, 5, 13, 1, 2
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def file_of(source: str) -> Path:
    """The file of "onnx:FILE". Raises DataError: not there, or no file."""
    return regular_file(Path(source.removeprefix("onnx:")).expanduser(), f"tower {source!r}")


def open_session(source: str) -> InferenceSession:
    """The network in a file, on as many threads as torch takes, with the accelerator onnxruntime was built for.

    Raises:
        DataError: onnxruntime is not installed, or the file is no ONNX that it can run.
    """
    path = file_of(source)
    try:
        import onnxruntime as runtime
    except ImportError:
        raise DataError(f'tower {source!r} needs onnxruntime: pip install "manymatch[onnx]"') from None
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    # Threads that spin between two batches would take the processor from those that decode pictures.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    there = runtime.get_available_providers()
    try:
        return runtime.InferenceSession(str(path), options, [name for name in _PROVIDERS if name in there])
    # Its errors derive from nothing but Exception, and each is about the file.
    except Exception as error:
        raise DataError(f"tower {source!r}: {_line(error)}; expected an exported ONNX file") from None


def run_session(
    session: InferenceSession, source: str, wanted: list[str], given: Mapping[str, Array], batch: int | None = None
) -> dict[str, Array]:
    """Outputs by name, of n items.

    Args:
        session: the network.
        source: how messages call it.
        wanted: names of outputs.
        given: input -> n rows of it.
        batch: how many rows it takes, where that is fixed; the last ones are filled up, and cut away again.

    Raises:
        DataError: the network refuses its input.
    """
    count = len(next(iter(given.values())))
    size = batch or max(1, count)
    parts = []
    for start in range(0, count, size):
        rows = {name: _filled(value[start : start + size], batch) for name, value in given.items()}
        try:
            found = session.run(wanted, rows)
        except Exception as error:
            shapes = {name: tuple(value.shape) for name, value in rows.items()}
            raise DataError(f"tower {source!r}: it does not take {shapes} ({_line(error)})") from None
        parts.append([np.asarray(one)[: count - start] for one in found])
    return {name: np.concatenate([part[n] for part in parts]) for n, name in enumerate(wanted)}


def _filled(rows: Array, batch: int | None) -> Array:
    short = (batch or len(rows)) - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], short, axis=0)]) if short else rows


def expect_finite_outputs(source: str, found: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """Raises DataError where what a network gave of a probe holds NaN or infinity: its weights do."""
    for name, values in found.items():
        if not np.isfinite(values).all():
            raise DataError(f"tower {source!r}: its output {name!r} holds NaN or infinity; export the network again")


def chosen(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """Of outputs that would all do, one with a usual name, else the first; None of none."""
    return next((name for name in usual if name in names), names[0] if names else None)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def onnx_digest(path: Path) -> str:
    """SHA-256, hex, over the file and the files beside it that it says hold its weights. Raises DataError."""
    total = hashlib.sha256()
    for one in (path, *(path.parent / name for name in _beside(path))):
        facts = regular_file(one, f"weights of {str(path)!r}").stat()
        total.update(_of_file(str(one.resolve()), facts.st_size, facts.st_mtime_ns, facts.st_ino))
    return total.hexdigest()


@lru_cache(maxsize=64)
def _of_file(path: str, size: int, changed: int, inode: int) -> bytes:
    """Remembered while the process lives: a model opens its networks more than once."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _beside(path: Path) -> list[str]:
    """Names of the files that hold weights of this one, sorted. Raises DataError where one leads elsewhere."""
    if not path.stat().st_size:
        raise DataError(f"{str(path)!r} is empty, expected an exported ONNX file")
    names = set()
    with open(path, "rb") as file, closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) as data:
        try:
            for graph in _fields(data, 0, len(data), _GRAPH):
                for tensor in _fields(data, *graph, _INITIALIZER):
                    names |= {name for entry in _fields(data, *tensor, _EXTERNAL) if (name := _location(data, *entry))}
        except (ValueError, IndexError):
            raise DataError(f"{str(path)!r} is damaged, or no ONNX file") from None
    for name in names:
        if inside(name) is None:
            raise DataError(f"{str(path)!r} keeps weights in {name!r}, outside its folder; they are not read")
    return sorted(names)


def _location(data: mmap.mmap, start: int, end: int) -> str:
    texts = {
        number: data[slice(*next(_fields(data, start, end, number), (0, 0)))].decode("utf-8", "replace")
        for number in (_KEY, _VALUE)
    }
    return texts[_VALUE] if texts[_KEY] == "location" else ""


def _fields(data: mmap.mmap, at: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """Where the values of one repeated field of a message lie: protocol buffers, read without their library."""
    while at < end:
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, at = _varint(data, at)
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        elif kind == _BYTES:
            size, at = _varint(data, at)
            if at + size > end:
                raise ValueError("a field that is longer than its message")
            if number == wanted:
                yield at, at + size
            at += size
        else:
            raise ValueError(f"a field of kind {kind}")


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number of more than 64 bits")
