"""Records of a segment: one picture's features each, with the picture they are of and their own checksum."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ...errors import DataError
from ..features import Features

__all__ = ["Kind", "bytes_of", "good", "records_of"]

Array = np.ndarray[Any, Any]

_FRONT, _ALIGN = 64, 64
_CHECK = slice(36, 40)


@dataclass(frozen=True)
class Kind:
    """What records hold: features of one backbone.

    Attributes:
        key: SHA-256 of the backbone's identity, hex.
        fragments, fragment_width, pooled_width: f, c and p; 0 for what it does not give.
        identity: what the key is the digest of, for people.
        source: how the user named the backbone, for people.
    """

    key: str
    fragments: int
    fragment_width: int
    pooled_width: int
    identity: str = "{}"
    source: str = ""

    def __post_init__(self) -> None:
        if bool(self.fragments) != bool(self.fragment_width) or not (self.fragments or self.pooled_width):
            raise DataError(
                f"feature store: {self.fragments} fragments of width {self.fragment_width} and a pooled vector of "
                f"width {self.pooled_width}, expected at least one of the two"
            )

    @cached_property
    def record(self) -> np.dtype[Any]:
        """A record as NumPy reads it: `picture`, `length`, `check`, and `vectors` and `pooled` where there are some."""
        names, formats, offsets = ["picture", "length", "check"], ["V32", "<u4", "<u4"], [0, 32, 36]
        end = _FRONT
        for name, shape in (("vectors", (self.fragments, self.fragment_width)), ("pooled", (self.pooled_width,))):
            if shape[0]:
                names.append(name)
                formats.append(("<f2", shape))  # type: ignore[arg-type]
                offsets.append(end)
                end += 2 * int(np.prod(shape))
        return np.dtype(
            {"names": names, "formats": formats, "offsets": offsets, "itemsize": -(-end // _ALIGN) * _ALIGN}
        )

    @property
    def row_bytes(self) -> int:
        """Bytes of a record."""
        return self.record.itemsize

    def same(self, other: Kind) -> bool:
        """Whether records of one can be read as the other's."""
        return (self.key, self.record) == (other.key, other.record)


def records_of(kind: Kind, pictures: list[bytes], features: Features) -> Array:
    """(n,) records of n pictures.

    Args:
        pictures: SHA-256 of the bytes of each.
        features: of as many, of values that float16 holds.

    Raises:
        DataError: features of another kind, or values that are not finite as float16.
    """
    out = np.zeros(len(pictures), kind.record)
    out["picture"] = np.frombuffer(b"".join(pictures), "V32")
    for name, width in (("vectors", kind.fragments), ("pooled", kind.pooled_width)):
        if not width:
            continue
        values = getattr(features, name)
        if values is None or np.shape(values) != out[name].shape:
            found = "none" if values is None else f"shape {np.shape(values)}"
            raise DataError(f"feature store: {name} of shape {out[name].shape} expected, found {found}")
        with np.errstate(over="ignore"):
            out[name] = values
        if not np.isfinite(out[name]).all():
            raise DataError(f"feature store: {name} hold NaN or values beyond the range of float16; they are not kept")
    out["length"] = kind.fragments if features.lengths is None else features.lengths
    if len(out) and int(out["length"].max()) > kind.fragments:
        raise DataError(f"feature store: {int(out['length'].max())} real fragments, at most {kind.fragments} expected")
    out["check"] = [_check(row) for row in bytes_of(out)]
    return out


def good(records: Array) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """(n,) which records are as they were written."""
    pairs = zip(bytes_of(records), records["check"], strict=True)
    return np.array([_check(row) == check for row, check in pairs], bool)


def bytes_of(records: Array) -> Array:
    """(n, bytes) uint8 of n records."""
    return np.ascontiguousarray(records).view(np.uint8).reshape(len(records), records.dtype.itemsize)


def _check(row: Array) -> int:
    return zlib.crc32(row[_CHECK.stop :].data, zlib.crc32(row[: _CHECK.start].data))
