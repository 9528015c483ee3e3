"""Batches of region features from the feature store, a `.npy` memory map, and an array in memory. Rows with ratios.

    python bench/features.py [--images 2000] [--batches 40] [--rounds 2]

Made-up features of COCO's shape (36 x 2048 float16, 147 KB an image) on disk twice; 128 images at a time in an order
that training takes, none of it sequential. `float16` is what is stored, `float32` what a tower is given. Every row is
a process of its own with the page cache warm. It reads its batches alone first: anonymous memory (RssAnon) is its peak
above what the process held before it opened anything. Then it reads each batch in turn with the memory map, and `x map`
is the ratio of the medians of their processor times: others on the machine slow both alike. "trained" trains an epoch,
with the towers, the optimiser and the batches counted in.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from memory import anonymous
from timing import peak

from manymatch.data.features import Features
from manymatch.data.pairs import Item
from manymatch.data.store import FeatureStore, Kind, StoreFeatures

FRAGMENTS, WIDTH, BATCH = 36, 2048, 128
KIND = Kind("be" * 32, FRAGMENTS, WIDTH, 0, source="made up")
WAYS = ("map float16", "memory float16", "store float16", "map float32", "memory float32", "store float32")

Read = Callable[[np.ndarray[Any, Any]], Any]


def name_of(image: int) -> str:
    return f"{image:06}.jpg"


def digest_of(image: int) -> bytes:
    return hashlib.sha256(name_of(image).encode()).digest()


def make(folder: Path, images: int) -> None:
    """The same features in `features.npy` and in the store."""
    array = np.lib.format.open_memmap(folder / "features.npy", "w+", np.float16, (images, FRAGMENTS, WIDTH))
    shelf = FeatureStore(folder / "store").shelf(KIND)
    for start in range(0, images, 250):
        rows = range(start, min(start + 250, images))
        draw = np.random.default_rng(start)
        array[rows.start : rows.stop] = draw.standard_normal((len(rows), FRAGMENTS, WIDTH), np.float32)
        shelf.put([digest_of(image) for image in rows], Features(array[rows.start : rows.stop]))
    array.flush()


def opened(folder: Path, images: int, how: str) -> Read:
    """What reads a batch of rows."""
    where, _, kind = how.partition(" ")
    if where == "store":
        shelf = FeatureStore(folder / "store").shelf(KIND)
        features = StoreFeatures(shelf, {name_of(image): digest_of(image) for image in range(images)})
        items = [Item(str(image), ("x",), picture=name_of(image)) for image in range(images)]
        read = features.read if kind == "float16" else features.get
        return lambda rows: read([items[row] for row in rows.tolist()])
    array = np.load(folder / "features.npy", mmap_mode="r" if where == "map" else None)
    if kind == "float16":
        return lambda rows: array[rows]
    return lambda rows: array[rows].astype(np.float32)


def measure(folder: Path, images: int, batches: int, how: str) -> dict[str, float]:
    """Milliseconds of a batch by clock and processor, those of the map, and anonymous memory in MiB, first and most."""
    before = anonymous()
    with peak() as most:
        read = opened(folder, images, how)
        held = anonymous() - before
        for start in range(0, images - BATCH + 1, BATCH):
            read(np.arange(start, start + BATCH))
    base = opened(folder, images, f"map {how.split()[1]}")
    for start in range(0, images - BATCH + 1, BATCH):
        base(np.arange(start, start + BATCH))
    clock: dict[str, list[float]] = {"own": [], "base": []}
    used: dict[str, list[float]] = {"own": [], "base": []}
    for n in range(batches):
        rows = np.random.default_rng(n).permutation(images)[:BATCH]
        for who, call in (("own", read), ("base", base)) if n % 2 else (("base", base), ("own", read)):
            began, begun = time.perf_counter(), time.thread_time()
            call(rows)
            used[who].append(1000 * (time.thread_time() - begun))
            clock[who].append(1000 * (time.perf_counter() - began))
    middle = {f"{who} cpu": float(np.median(times)) for who, times in used.items()}
    return {**middle, "ms": float(np.median(clock["own"])), "held": held, "peak": most[0]}


class Own:
    """Features of a store as if they were the user's own: those of a network are read by that network's tower alone."""

    fresh = True

    def __init__(self, features: StoreFeatures) -> None:
        self.get, self.sizes = features.get, features.sizes


def train(folder: Path, images: int) -> dict[str, float]:
    """Train on the first `images` from the store; peak anonymous memory in MiB."""
    import torch

    import manymatch as mm
    from manymatch.data.pairs import Pairs
    from manymatch.training import TrainConfig
    from manymatch.training import train as run

    torch.set_num_threads(1)
    words = "a dog runs over the green grass with one red ball near two small boats".split()  # noqa: SIM905
    captions = [" ".join(np.random.default_rng(n).choice(words, 6)) for n in range(images)]
    items = [Item(str(n), (captions[n],), picture=name_of(n)) for n in range(images)]
    with peak() as most:
        shelf = FeatureStore(folder / "store").shelf(KIND)
        features = StoreFeatures(shelf, {name_of(image): digest_of(image) for image in range(images)})
        pairs = Pairs(items, features=Own(features))
        model = mm.method("vse_infty", dim=64, hidden=64, batch=BATCH, objective="infonce").build(pairs)
        with tempfile.TemporaryDirectory() as out:
            run(model, pairs, out=Path(out) / "run", config=TrainConfig(epochs=1), say=None)
    return {"peak": most[0]}


def child(folder: Path, **asked: Any) -> dict[str, float]:
    told = json.dumps({"folder": str(folder), **asked})
    done = subprocess.run([sys.executable, __file__, "--one", told], check=True, capture_output=True, text=True)
    out: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        one = json.loads(asked.one)
        folder = Path(one.pop("folder"))
        print(json.dumps(measure(folder, **one) if "how" in one else train(folder, **one)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        began = time.perf_counter()
        make(folder, asked.images)
        size, took = asked.images * KIND.row_bytes / 1e9, time.perf_counter() - began
        print(f"{asked.images} x {FRAGMENTS} x {WIDTH} float16, {size:.2f} GB, made in {took:.0f} s")
        best: dict[str, dict[str, float]] = {}
        for _ in range(asked.rounds):
            for how in WAYS:
                found = child(folder, images=asked.images, batches=asked.batches, how=how)
                best[how] = min(best.get(how, found), found, key=lambda each: each["own cpu"])
        print(f"{'':<16}{'ms':>8}{'cpu ms':>8}{'GB/s':>7}{'x map':>7}{'open MiB':>10}{'peak MiB':>10}")
        for how in WAYS:
            row = best[how]
            speed = BATCH * FRAGMENTS * WIDTH * 2 / row["own cpu"] / 1e6
            print(
                f"{how:<16}{row['ms']:>8.2f}{row['own cpu']:>8.2f}{speed:>7.1f}{row['base cpu'] / row['own cpu']:>7.2f}"
                f"{row['held']:>10.0f}{row['peak']:>10.0f}",
                flush=True,
            )
        print(f"\n{'trained from the store':<24}{'on disk MiB':>12}{'peak MiB':>10}{'ratio':>7}")
        first = 0.0
        for images in (asked.images // 2, asked.images):
            found = child(folder, images=images)
            first = first or found["peak"]
            print(
                f"{f'{images} images':<24}{images * KIND.row_bytes / 2**20:>12.0f}{found['peak']:>10.0f}"
                f"{found['peak'] / first:>7.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
