"""A process that puts features into a store, or fills one from pictures, until it is killed.

    python store_child.py put STORE SEED      random batches of made-up pictures, for ever
    python store_child.py fill STORE DATA     the pictures of a data set through a fake backbone, once

It tells each number of a picture, a line each, after the call that put it returned. A line is one write to a pipe, so
what was said before a kill is not lost.
"""

from __future__ import annotations

import hashlib
import os
import random
import sys
from typing import Any

import numpy as np

from manymatch.data.features import Features
from manymatch.data.store import FeatureStore, Kind, segments

KIND = Kind("ab" * 32, 6, 32, 16)
PICTURES = 20_000


def digest_of(number: int) -> bytes:
    return hashlib.sha256(f"picture {number}".encode()).digest()


def row_of(number: int) -> np.ndarray[Any, np.dtype[np.float16]]:
    """All numbers of a picture's features."""
    return np.random.default_rng(number).standard_normal(6 * 32 + 16).astype(np.float16)


def features_of(numbers: list[int]) -> Features:
    rows = np.stack([row_of(number) for number in numbers]).astype(np.float32)
    return Features(rows[:, :192].reshape(-1, 6, 32), pooled=rows[:, 192:])


def say(*words: object) -> None:
    os.write(1, " ".join(map(str, words)).encode() + b"\n")


def put(folder: str, seed: int) -> None:
    # Small segments, so that kills meet their beginnings and ends too.
    segments.SEGMENT_BYTES = 40 * KIND.row_bytes
    rng, shelf = random.Random(seed), FeatureStore(folder).shelf(KIND)
    say("ready")
    while True:
        numbers = [rng.randrange(PICTURES) for _ in range(rng.randint(1, 30))]
        shelf.put([digest_of(number) for number in numbers], features_of(numbers))
        say(*numbers)


def fill(folder: str, data: str) -> None:
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from backbone_fakes import GridBackbone
    from manymatch.data.pairs import Pairs
    from manymatch.encoders.pretrained import extract, work

    work._KEPT_EVERY = 0.0
    kept = 0

    def count(done: int, total: int) -> None:
        nonlocal kept
        kept = done
        say(done)

    say("ready")
    extract.fill(FeatureStore(folder), GridBackbone(), Pairs.read(data), progress=count, batch=4)
    say("done")


if __name__ == "__main__":
    if sys.argv[1] == "put":
        put(sys.argv[2], int(sys.argv[3]))
    else:
        fill(sys.argv[2], sys.argv[3])
