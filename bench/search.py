"""Search in process: exact scan against faiss candidates with the exact step, in one run so that ratios hold.

    python bench/search.py [--items 20000] [--elements 4] [--width 256] [--spread 0.5] [--queries 100]

Items are sets around shared topics. A large `--spread` makes the elements of a set independent of each other, which is
the hard case for candidates by mean. One row per way of searching: p50 and p99 in milliseconds, how many times quicker
than the scan of the same run, and the share of the exact first ten that was found.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from manymatch import runs
from manymatch.embeddings import Sets
from manymatch.index import Index
from manymatch.index.store import Store
from manymatch.similarity import SmoothChamfer

BATCH = 5000


def sets(n: int, k: int, d: int, spread: float, seed: int) -> Sets:
    """n sets of k unit elements around 1000 topics, each element moved by noise of length `spread`."""
    topics = torch.nn.functional.normalize(torch.randn(1000, d, generator=torch.Generator().manual_seed(0)), dim=-1)
    draw = torch.Generator().manual_seed(seed)
    own = topics[torch.randint(1000, (n,), generator=draw)] + 0.5 * torch.randn(n, d, generator=draw) / d**0.5
    noise = spread * torch.randn(n, k, d, generator=draw) / d**0.5
    return Sets(torch.nn.functional.normalize(own[:, None] + noise, dim=-1))


def fill(folder: Path, engine: str, args: argparse.Namespace) -> tuple[Index, float]:
    """An index of images and 1000 captions as queries; items stored in a second."""
    settings = {"fingerprint": "bench", "similarity": "SmoothChamfer", "model": "bench", "precision": "float16"}
    Store.create(folder / "index.sqlite", {**settings, "engine": engine, "agreement": 0.99}).close()
    index, spent = Index.open(folder), 0.0
    for start in range(0, args.items, BATCH):
        count = min(BATCH, args.items - start)
        part = sets(count, args.elements, args.width, args.spread, 1 + start)
        began = time.perf_counter()
        index.add_embeddings([f"i{start + n}" for n in range(count)], part, "image")
        spent += time.perf_counter() - began
    queries = sets(1000, args.elements, args.width, args.spread, 7)
    index.add_embeddings([f"c{n}" for n in range(1000)], queries, "caption")
    return index, args.items / spent


def ask(index: Index, queries: int, exact: bool) -> tuple[list[float], list[set[str]]]:
    """Milliseconds and ids of the first ten of each query; three before are not counted."""
    times, found = [], []
    for n in range(-3, queries):
        answer = index.search(like=f"c{(7 * n) % 1000}", among="images", exact=exact or None)
        if n >= 0:
            times.append(answer.milliseconds)
            found.append({hit.id for hit in answer})
    return times, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--elements", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--spread", type=float, default=0.5)
    parser.add_argument("--queries", type=int, default=100)
    args = parser.parse_args()
    similarity: Any = SimpleNamespace(similarity=SmoothChamfer(), fingerprint=lambda: "bench", name="bench")
    runs.load = lambda folder: similarity  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        index, rate = fill(Path(folder), "faiss", args)
        print(f"{args.items:,} sets of {args.elements} x {args.width}, spread {args.spread}")
        print(f"stored {rate:,.0f} items a second")
        began = time.perf_counter()
        index.search(like="c0", among="images", exact=True)
        print(f"vectors mapped in {time.perf_counter() - began:.1f} s")
        began = time.perf_counter()
        index.refresh()
        print(f"candidates built and measured in {time.perf_counter() - began:.1f} s")
        scan, right = ask(index, args.queries, exact=True)
        near, found = ask(index, args.queries, exact=False)
        began = time.perf_counter()
        with Index.open(folder) as again:
            again.search(like="c0", among="images")
        print(f"opened and asked once in {time.perf_counter() - began:.3f} s")
        print(index.info()["agreement"]["image"], {w: p for w, p in plans(index).items()})
    shared = float(np.mean([len(a & b) / len(a) for a, b in zip(right, found, strict=True)]))
    print(f"{'':24}{'p50 ms':>8}{'p99 ms':>8}{'times':>8}{'agreement':>11}")
    for name, times, agreement in (("exact scan", scan, 1.0), ("faiss and exact step", near, shared)):
        ratio = np.median(scan) / np.median(times)
        print(f"{name:24}{np.median(times):8.2f}{np.quantile(times, 0.99):8.2f}{ratio:8.1f}{agreement:11.3f}")


def plans(index: Index) -> dict[str, Any]:
    """Candidates and effort that were chosen for each asking modality."""
    from manymatch.index.candidates import Candidates

    found = Candidates.plans_at(index.path / "candidates-image.faiss", index.info()["generation"]) or {}
    return {asking: (plan.count, plan.effort) for asking, plan in found.items()}


if __name__ == "__main__":
    main()
