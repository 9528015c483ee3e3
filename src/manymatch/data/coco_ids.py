"""COCO's numbers of images and captions, by which its published annotations name them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

from ..errors import DataError
from .pairs import Pairs

__all__ = ["caption_rows", "coco_id", "image_rows", "is_karpathy_test"]

_KARPATHY_TEST = "0f892ba2fcb97da20443b3ce06d6bc972adb0e41ee6d338c22fa644350b3e2f7"
"""SHA-256 of the COCO ids of the 5,000 images, ascending, one a line. Other 5,000 of COCO (val2017) are other data."""

_NUMBERED = re.compile(r"(?:.*[_:/])?([0-9]{1,18})(?:\.[A-Za-z]+)?", re.DOTALL)


def coco_id(value: Any) -> int | None:
    """391895 of `391895`, `COCO_val2014_000000391895.jpg` or `COCO_val2014:sentid:391895`; None of anything else."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = _NUMBERED.fullmatch(value) if isinstance(value, str) else None
    return int(found[1]) if found else None


def image_rows(pairs: Pairs) -> dict[int, int]:
    """COCO id -> image row, of the items whose id is or ends in a number.

    Raises:
        DataError: no item has one, or two items have the same.
    """
    out: dict[int, int] = {}
    for row, item in enumerate(pairs):
        number = coco_id(item.id)
        if number is not None and out.setdefault(number, row) != row:
            other = pairs.items[out[number]].id
            raise DataError(f"{pairs.name}: images {other!r} and {item.id!r} are both COCO's {number}, expected one")
    if not out:
        raise DataError(
            f"{pairs.name}: no image has a COCO id, which this truth goes by; expected ids such as 391895 or "
            f"COCO_val2014_000000391895.jpg, found {pairs.image_ids[:1]}"
        )
    return out


def caption_rows(pairs: Pairs) -> tuple[dict[int, int], list[str]]:
    """COCO id -> caption row, from each line's `caption_ids`, and notes on images whose list does not fit.

    A line whose list is not as long as its captions are many (one of them may have been left out on reading) does not
    say which caption is which, so its captions have no id.

    Raises:
        DataError: no caption has one, or two captions have the same.
    """
    out: dict[int, int] = {}
    row, unlike, notes = 0, [], []
    for item in pairs:
        listed = item.metadata.get("caption_ids", ())
        if not isinstance(listed, list | tuple) or len(listed) not in (0, len(item.captions)):
            listed = ()
            unlike.append(item.id)
        for n, value in enumerate(listed):
            number = coco_id(value)
            if number is not None and out.setdefault(number, row + n) != row + n:
                raise DataError(
                    f"{pairs.name}: captions {pairs.caption_ids[out[number]]!r} and {pairs.caption_ids[row + n]!r} are "
                    f"both COCO's {number}, expected one"
                )
        row += len(item.captions)
    if not out:
        raise DataError(
            f"{pairs.name}: no caption has a COCO id, which this truth goes by; expected a field `caption_ids` with "
            "one number for each caption of a line"
        )
    if unlike:
        notes.append(
            f"{len(unlike)} of {len(pairs)} images have not as many caption_ids as captions, so their captions have no "
            f"COCO id; the first: {unlike[0]}"
        )
    return out, notes


def is_karpathy_test(pairs: Pairs) -> bool:
    """Whether these are the 5,000 images of Karpathy's COCO test split with 25,000 captions, in any order."""
    if len(pairs) != 5000 or len(pairs.captions) != 25_000:
        return False
    ids = [coco_id(name) for name in pairs.image_ids]
    return None not in ids and _digest(ids) == _KARPATHY_TEST


def _digest(ids: Sequence[int | None]) -> str:
    return hashlib.sha256("\n".join(map(str, sorted(i for i in ids if i is not None))).encode()).hexdigest()
