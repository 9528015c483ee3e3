"""Keep freed memory inside the process while training on a CPU, and give the scraps back between epochs."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

__all__ = ["give_back_freed_memory", "keep_freed_memory"]

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -2, -3, -8

_LARGE = 2**25
"""Bytes, the most glibc allows: what a step allocates lies below it, the tiles of a validation above."""


def _glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None


def keep_freed_memory() -> bool:
    """Tell glibc to keep what tensors free instead of giving it back to the kernel and faulting it in again.

    Every step allocates and frees the same few hundred megabytes. On a quiet machine that is 1 to 2 % of a step
    (`bench/train_step.py`); where the kernel is slow to hand out pages it is more. Returns False without glibc.
    """
    mallopt = _glibc("mallopt")
    if mallopt is None:
        return False
    options = ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, _LARGE), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 2**26))
    return all(mallopt(option, value) for option, value in options)


def give_back_freed_memory() -> None:
    """Hand freed pages back once: batches differ in length, and over epochs the gaps between them add up."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)
