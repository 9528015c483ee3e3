"""The two formats of `torch.save`: where the object lies in a file, and where the numbers of its tensors.

The format since torch 1.6 is an uncompressed zip: `<root>/data.pkl` and one entry `<root>/data/<key>` a storage. The
one before is five pickles in a row (magic number, version, machine, object, keys), then each storage: how many numbers
(int64), then the numbers.

A pickle only claims: a `Storage` of so many numbers, a `View` of it. Storages are held against the file here. What
stands in for torch's names is immutable all through, since a pickle may set attributes of whatever it has.
"""

from __future__ import annotations

import io
import mmap
import zipfile
from typing import IO, Any, NamedTuple, cast

import torch
from torch import Tensor

from ..data.restricted import ANY_MODULE, PLAIN, Names, Record, pickle_end, unpickle
from ..errors import CheckpointError

__all__ = ["Parts", "Storage", "View", "open_parts"]

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001

_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Storage(NamedTuple):
    """A claim: so many `numbers` under `key`, of which those from `start` on are meant."""

    key: str
    dtype: torch.dtype
    numbers: int
    start: int = 0

    @property
    def bytes(self) -> int:
        return self.numbers * self.dtype.itemsize


class View(NamedTuple):
    """A claim: a tensor over a storage. Whether it is one is looked at when it is cut out."""

    storage: Any
    offset: Any
    size: Any
    stride: Any


class _Rebuild:
    """Stands in for `torch._utils._rebuild_tensor` and its successor."""

    __slots__ = ()

    def __call__(self, storage: object, offset: object, size: object, stride: object, *_: object) -> View:
        return View(storage, offset, size, stride)


class _RebuildParameter:
    """Stands in for `torch._utils._rebuild_parameter`: the tensor itself."""

    __slots__ = ()

    def __call__(self, data: object, *_: object) -> object:
        return data


class _Vocabulary(Record):
    """Stands in for a vocabulary saved beside the weights."""

    __slots__ = ()


_NAMES: Names = {
    **PLAIN,
    (ANY_MODULE, "Vocabulary"): _Vocabulary,
    ("torch._utils", "_rebuild_tensor"): _Rebuild(),
    ("torch._utils", "_rebuild_tensor_v2"): _Rebuild(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
    **{(module, name): name for name in _DTYPES for module in ("torch", "torch.cuda")},
}


def open_parts(file: IO[bytes], where: str) -> Parts:
    """The parts of an open file that is not empty. Raises CheckpointError."""
    try:
        zipped = zipfile.is_zipfile(file)
    except zipfile.BadZipFile as error:
        # Some damage to its last bytes raises here, instead of saying no.
        raise CheckpointError(f"{where} is damaged: the zip cannot be read ({error})") from None
    return _ZipParts(file, where) if zipped else _OldParts(file, where)


class Parts:
    """A file's pickle and its storages."""

    def __init__(self, file: IO[bytes], where: str) -> None:
        self.where = where
        self.claims: dict[str, Storage] = {}
        self._read: dict[str, Tensor] = {}

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        raise NotImplementedError

    def tree(self) -> Any:
        """The object, tensors still as claims."""
        raise NotImplementedError

    def data(self, claim: Storage) -> bytes:
        """The bytes of a storage, exactly as many as claimed."""
        raise NotImplementedError

    def storage(self, claim: Storage) -> Tensor:
        """Its numbers (count,), read once."""
        if claim.key not in self._read:
            data = self.data(claim)
            raw = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)
            self._read[claim.key] = raw
        return self._read[claim.key].view(claim.dtype)

    def unpickle(self, data: bytes) -> Any:
        return unpickle(data, self.where, _NAMES, persistent=self._claim)

    def _claim(self, pid: Any) -> Storage:
        tag, kind, key, _, count, *view = pid
        start = 0 if view in ([], [None]) else view[0][1]
        if tag != "storage" or kind not in _DTYPES or not isinstance(key, str | int):
            raise TypeError("a reference that is no storage")
        if type(count) is not int or type(start) is not int or min(count, start) < 0:
            raise TypeError("a storage without a size")
        claim = Storage(str(key), _DTYPES[kind], count, start)
        first = self.claims.setdefault(claim.key, claim)
        if (first.dtype, first.numbers) != (claim.dtype, claim.numbers):
            raise TypeError(f"storage {key} with two kinds or sizes")
        return claim

    def broken(self, why: str) -> CheckpointError:
        return CheckpointError(f"{self.where}: {why}; the file is damaged or forged, get it again")


class _ZipParts(Parts):
    """The format since torch 1.6."""

    def __init__(self, file: IO[bytes], where: str) -> None:
        super().__init__(file, where)
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise self.broken(f"the zip cannot be read ({error})") from None
        self._left = file.seek(0, io.SEEK_END)

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def tree(self) -> Any:
        names = self._zip.namelist()
        found = [name for name in names if name.split("/")[1:] == ["data.pkl"]]
        if len(found) != 1:
            raise CheckpointError(f"{self.where}: a zip that torch.save did not write; expected a checkpoint's file")
        self._root = found[0].removesuffix("data.pkl")
        if f"{self._root}constants.pkl" in names:
            raise CheckpointError(f"{self.where}: a compiled model (TorchScript), expected a checkpoint's weights")
        if f"{self._root}byteorder" in names and self._entry("byteorder", None) != b"little":
            raise CheckpointError(f"{self.where}: written on a big-endian machine, which is not read; save it again")
        return self.unpickle(self._entry("data.pkl", None))

    def data(self, claim: Storage) -> bytes:
        return self._entry(f"data/{claim.key}", claim.bytes)

    def _entry(self, name: str, size: int | None) -> bytes:
        try:
            info = self._zip.getinfo(self._root + name)
        except KeyError:
            raise self.broken(f"no entry {name!a}") from None
        if info.compress_type != zipfile.ZIP_STORED:
            raise self.broken(f"entry {name!a} is compressed")
        if size is not None and info.file_size != size:
            raise self.broken(f"entry {name!a} has {info.file_size} bytes, but {size} are claimed")
        # Entries may lie over one another; together they are never more than the file.
        self._left -= info.file_size
        if self._left < 0:
            raise self.broken("its entries claim more bytes than the file has")
        try:
            return self._zip.read(info)
        except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
            raise self.broken(f"entry {name!a} cannot be read ({error})") from None


class _OldParts(Parts):
    """The format before torch 1.6."""

    def __init__(self, file: IO[bytes], where: str) -> None:
        super().__init__(file, where)
        self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._places: dict[str, int] = {}

    def __exit__(self, *_: object) -> None:
        self._map.close()

    def tree(self) -> Any:
        if not self._map[:1] == b"\x80" or self._next() != _MAGIC:
            raise CheckpointError(f"{self.where}: not a file that torch.save wrote; expected a checkpoint's file")
        version, machine = self._next(), self._next()
        if version != _VERSION or not isinstance(machine, dict) or machine.get("little_endian") is not True:
            raise CheckpointError(f"{self.where}: format {ascii(version)[:40]} of an unknown machine; save it again")
        tree, keys = self._next(), self._next()
        self._find(keys)
        return tree

    def _next(self) -> Any:
        start = self._map.tell()
        end = pickle_end(cast(IO[bytes], self._map), self.where)
        return self.unpickle(self._map[start:end])

    def _find(self, keys: object) -> None:
        place, size = self._map.tell(), len(self._map)
        for key in map(str, keys if isinstance(keys, list) else ()):
            if key not in self.claims:
                raise self.broken(f"storage {ascii(key)[:40]} belongs to no tensor")
            claim = self.claims[key]
            count = int.from_bytes(self._map[place : place + 8], "little")
            if count != claim.numbers or place + 8 + claim.bytes > size:
                raise self.broken(f"storage {ascii(key)[:40]} has {count} numbers, but {claim.numbers} are claimed")
            self._places[key] = place + 8
            place += 8 + claim.bytes

    def data(self, claim: Storage) -> bytes:
        if claim.key not in self._places:
            raise self.broken(f"no storage {ascii(claim.key)[:40]}")
        place = self._places[claim.key]
        return self._map[place : place + claim.bytes]
