"""Cells of Arrow columns as Python values, one bad cell at a time: what is no text, too long or of a strange type."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

__all__ = ["LONGEST", "Unreadable", "bytes_in", "is_bytes", "is_list_of_text", "is_text", "left_out", "values"]

LONGEST = 2**20
"""Bytes of one text. Nothing longer is a caption or says something of a picture."""


@dataclass(frozen=True)
class Unreadable:
    """What stands in place of a cell that cannot be used."""

    why: str


def is_text(type: Any) -> bool:
    """Whether a column holds text, with or without a dictionary."""
    from pyarrow import types

    type = type.value_type if types.is_dictionary(type) else type
    return types.is_string(type) or types.is_large_string(type) or types.is_string_view(type)


def is_bytes(type: Any) -> bool:
    """Whether a column holds bytes, with or without a dictionary."""
    from pyarrow import types

    type = type.value_type if types.is_dictionary(type) else type
    return types.is_binary(type) or types.is_large_binary(type) or types.is_binary_view(type)


def _is_list(type: Any) -> bool:
    from pyarrow import types

    return types.is_list(type) or types.is_large_list(type) or types.is_fixed_size_list(type)


def is_list_of_text(type: Any) -> bool:
    """Whether each cell is a list of texts."""
    return _is_list(type) and is_text(type.value_type)


def bytes_in(type: Any) -> str | None:
    """Where the bytes of pictures stand in cells of this type: "" for bytes, a struct's field; None for nowhere."""
    from pyarrow import types

    if is_bytes(type):
        return ""
    if types.is_struct(type):
        return "bytes" if "bytes" in [f.name for f in type] and is_bytes(type.field("bytes").type) else None
    return None


def left_out(type: Any) -> str | None:
    """Why a column of this type is no metadata, in words; None where it is."""
    from pyarrow import types

    if is_text(type) or is_list_of_text(type) or _is_timed(type):
        return None
    if types.is_boolean(type) or types.is_integer(type) or types.is_floating(type) or types.is_null(type):
        return None
    if _is_list(type) and not types.is_nested(type.value_type) and not is_bytes(type.value_type):
        return "lists of numbers"
    return f"of type {str(type)[:60]}"


def _is_timed(type: Any) -> bool:
    from pyarrow import types

    return types.is_timestamp(type) or types.is_date(type) or types.is_time(type) or types.is_decimal(type)


def values(array: Any) -> list[Any]:
    """The cells of a column: text, numbers, lists of them, None; times and decimals as text. See `Unreadable`."""
    import pyarrow as pa
    from pyarrow import types

    if types.is_dictionary(array.type):
        return _shared(array)
    if _is_timed(array.type):
        array.validate(full=True)
        array = array.cast(pa.string())
    if _is_list(array.type):
        return _lists(array)
    if is_text(array.type):
        return _texts(array)
    array.validate(full=True)
    # NaN is how tables say that there is nothing; JSON, which metadata become, has no word for it.
    return [None if isinstance(cell, float) and not math.isfinite(cell) else cell for cell in array.to_pylist()]


def _shared(array: Any) -> list[Any]:
    """What stands in many cells is one object."""
    import pyarrow as pa

    array.validate()
    _check(array.dictionary)
    rows = array.indices.to_pylist()
    used = sorted({row for row in rows if row is not None})
    if used and not 0 <= used[0] <= used[-1] < len(array.dictionary):
        raise pa.ArrowInvalid("a dictionary that does not hold what its column asks for")
    known = dict(zip(used, values(array.dictionary.take(pa.array(used, pa.int64()))), strict=True))
    return [None if row is None else known[row] for row in rows]


def _check(array: Any) -> None:
    """Lengths and offsets that lead out of the file would crash us. What is no UTF-8 is a matter of single cells."""
    text = is_text(array.type.value_type if _is_list(array.type) else array.type)
    (array.view(_as_bytes(array.type)) if text else array).validate(full=True)


def _lists(array: Any) -> list[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    array.validate()
    lengths = pc.list_value_length(array).to_pylist()
    if not pa.types.is_dictionary(array.type.value_type):
        _check(array)
    elif any(length is not None and length < 0 for length in lengths):
        raise pa.ArrowInvalid("a list of less than no values")
    flat = iter(values(array.flatten()))
    return [None if length is None else [next(flat) for _ in range(length)] for length in lengths]


def _as_bytes(type: Any) -> Any:
    import pyarrow as pa

    if _is_list(type):
        inner = pa.field(type.value_field.name, _as_bytes(type.value_type))
        if pa.types.is_large_list(type):
            return pa.large_list(inner)
        return pa.list_(inner, type.list_size) if pa.types.is_fixed_size_list(type) else pa.list_(inner)
    if pa.types.is_large_string(type):
        return pa.large_binary()
    return pa.binary_view() if pa.types.is_string_view(type) else pa.binary()


def _texts(array: Any) -> list[Any]:
    import pyarrow as pa

    _check(array)
    try:
        array.validate(full=True)
        if array.nbytes <= LONGEST:
            return array.to_pylist()
    except pa.ArrowInvalid:
        pass
    return [_text(cell) for cell in array]


def _text(cell: Any) -> Any:
    if not cell.is_valid:
        return None
    size = cell.as_buffer().size
    if size > LONGEST:
        return Unreadable(f"{size} bytes of text, at most {LONGEST} are read")
    try:
        return cell.as_py()
    except UnicodeDecodeError as error:
        return Unreadable(f"byte {error.start + 1} of it is not UTF-8")
