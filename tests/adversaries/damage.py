"""Ways to damage bytes and JSON, drawn by hypothesis: what a full disk, a bad copy or a stranger leaves of a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

__all__ = ["damages", "damages_of_json"]

Damage = Callable[[bytes], bytes]

PIECES = (
    b"", b"\0", b"\n", b"\r", b"\r\n", b'"', b"'", b",", b"\t", b"[", b"{", b"]", b"}", b"\\", b"\xff", b"\xff" * 8,
    b"\0" * 512, b"\xef\xbb\xbf", b"../", b"/etc/passwd", b"NaN", b"null", b"-1", b"9" * 40, b"1e999", b"\xed\xa0\x80",
    b"\\ud800", b"[" * 3000, b"#", b"|", b"PK\x03\x04", b"\x1f\x8b", b"\x80\x04.", "\u202e\u0663é".encode(),
)  # fmt: skip

VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 10**30, 1.5, float("nan"), float("inf"), "", " ", "x", "../x", "/etc/passwd", "\0", "\ud800",
    "x" * 5000, [], {}, [None], [[]], [{}], {"": None}, ["x", 1, None], "a.jpg", "1", [float("nan")], "\n", "#1\t",
)  # fmt: skip


def _cut(at: float) -> Damage:
    return lambda data: data[: int(len(data) * at)]


def _flip(at: float, bits: int) -> Damage:
    def damage(data: bytes) -> bytes:
        place = int(len(data) * at)
        return data[:place] + bytes(byte ^ bits for byte in data[place : place + 1]) + data[place + 1 :]

    return damage


def _put(at: float, piece: bytes, over: bool) -> Damage:
    def damage(data: bytes) -> bytes:
        place = int(len(data) * at)
        return data[:place] + piece + data[place + (len(piece) if over else 0) :]

    return damage


def _move(first: float, second: float, to: float) -> Damage:
    """A part of the file once more, somewhere else."""

    def damage(data: bytes) -> bytes:
        begin, end = sorted((int(len(data) * first), int(len(data) * second)))
        place = int(len(data) * to)
        return data[:place] + data[begin : min(end, begin + 4096)] + data[place:]

    return damage


def _without(first: float, length: int) -> Damage:
    return lambda data: data[: int(len(data) * first)] + data[int(len(data) * first) + length :]


def damages() -> st.SearchStrategy[Damage]:
    """One change of a file's bytes."""
    place = st.floats(0, 1, exclude_max=True)
    return st.one_of(
        st.builds(_cut, place),
        st.builds(_flip, place, st.integers(1, 255)),
        st.builds(_put, place, st.sampled_from(PIECES), st.booleans()),
        st.builds(_put, place, st.binary(min_size=1, max_size=8), st.booleans()),
        st.builds(_move, place, place, place),
        st.builds(_without, place, st.integers(1, 600)),
    )


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) inside a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in list(inner):
        yield value, key
        yield from _places(member)


def _swap(at: float, new: Any, out: bool) -> Damage:
    def damage(data: bytes) -> bytes:
        lines = data.splitlines() if data.count(b"\n{") else [data]
        try:
            values = [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            return data
        places = [place for value in values for place in _places(value)]
        if places:
            container, key = places[int(len(places) * at)]
            if out:
                del container[key]
            else:
                container[key] = new
        return b"\n".join(json.dumps(value).encode() for value in values)

    return damage


def damages_of_json() -> st.SearchStrategy[Damage]:
    """One value inside JSON replaced by another, or taken out; other bytes stay as they are."""
    return st.builds(_swap, st.floats(0, 1, exclude_max=True), st.sampled_from(VALUES), st.booleans())
