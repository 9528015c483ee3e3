"""Ranks at COCO-5K size: seconds and memory against the matrix products alone and against the usual way, in one run.

    python bench/evaluate.py [--small] [--only sets | points | samples] [--threads 2] [--width 1024] [--rounds 2]
                             [--full] [--device cpu]

5,000 images and 25,000 captions (`--small`: a fifth of each), made-up unit embeddings, float32. No file is read.

"sets": 4 elements an item, Smooth-Chamfer. Ranks of both directions over all and within folds of 1,000 images, from one
pass, against the products of all elements alone; peak anonymous memory (RssAnon of /proc/self/status, looked at every
10 ms) over what the process held before and the embeddings; and against the usual way: query by query, sums over
elements by pooling layers as in published code, a full sort for each query, each direction and each fold anew. It is
timed on 100 queries of each kind and multiplied; how many of those have the same rank both ways is said.

"points": one vector an item, cosine. All protocols of COCO with made-up truths of the published sizes: own captions,
5K, 1K folds, ECCV Caption, CxC (text to text and image to image with it) and PMRP. Products counted are those that the
protocols need: images by captions once, and of captions by captions and images by images one half, which is also the
other; a second ratio is to all of the three. Bootstrap intervals are a row of their own.

"samples": 7 draws an item, match probability. A hundredth of the scores is timed and multiplied; `--full` ranks all.

Rows take turns `--rounds` times and keep their shortest time. A ratio is to the row that says "products".
"""

from __future__ import annotations

import argparse
import gc
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from memory import anonymous
from torch import Tensor
from torch.nn.functional import lp_pool2d, normalize

from manymatch.data.matches import Matches
from manymatch.data.pairs import Item, Pairs
from manymatch.data.truths.coco import Answers
from manymatch.embeddings import Points, Samples, Sets
from manymatch.evaluation.folds import Folds
from manymatch.evaluation.measure import judge
from manymatch.evaluation.measures import resampled
from manymatch.evaluation.metrics import first_ranks, hit_rate
from manymatch.evaluation.protocols import PROTOCOLS
from manymatch.evaluation.ranks import Ranking, rank_tiles, score_tiles
from manymatch.evaluation.scores import ModelScores
from manymatch.similarity import Cosine, SampledMatchProbability, SmoothChamfer

if TYPE_CHECKING:
    from collections.abc import Iterator

CAPTIONS, FOLD, SIBLINGS = 5, 1000, 10
BUFFER = 64 << 20


@dataclass(frozen=True)
class Size:
    """What is ranked: so many images, five captions each, vectors so wide, on that device."""

    images: int = 5000
    width: int = 1024
    device: str = "cpu"
    rounds: int = 2
    full: bool = False

    @property
    def captions(self) -> int:
        return CAPTIONS * self.images

    @property
    def owner(self) -> np.ndarray[Any, Any]:
        return np.repeat(np.arange(self.images), CAPTIONS)

    def vectors(self, seed: int, each: int, spread: float) -> tuple[Tensor, Tensor]:
        """Unit vectors (n, each, width) of images and captions.

        Ten images are much alike, and a caption is near its image, not very: so ranks are neither perfect nor chance.
        """
        draw = torch.Generator().manual_seed(seed)

        def noise(*shape: int) -> Tensor:
            return torch.randn(*shape, self.width, generator=draw) / self.width**0.5

        topics = noise(-(-self.images // SIBLINGS)).repeat_interleave(SIBLINGS, dim=0)[: self.images]
        images = normalize(topics + 0.2 * noise(self.images), dim=-1)
        captions = images.repeat_interleave(CAPTIONS, dim=0).add_(noise(self.captions), alpha=4)
        sides = []
        for centres in (images, normalize(captions, dim=-1)):
            out = torch.empty(len(centres), each, self.width)
            for start in range(0, len(centres), 1000):
                part = centres[start : start + 1000, None]
                out[start : start + 1000] = normalize(part + spread * noise(len(part), each), dim=-1)
            sides.append(out.to(self.device))
        return sides[0], sides[1]


# ---- measuring


def in_turn(rows: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The shortest of `rounds` times of each row; the rows take turns."""
    times: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, run in rows.items():
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    return {name: min(found) for name, found in times.items()}


@contextmanager
def peak() -> Iterator[list[float]]:
    """A list that holds the highest anonymous memory (MiB) afterwards."""
    found, done = [anonymous()], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            found[0] = max(found[0], anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        done.set()
        watcher.join()


def products(left: Tensor, right: Tensor, share: float = 1.0) -> None:
    """All inner products of (m, d) and (n, d), block by block into one buffer; `share` of the rows of `left`."""
    columns = min(len(right), 8192)
    rows = max(1, min(len(left), BUFFER // (4 * columns)))
    buffer = left.new_empty(rows, columns)
    with torch.inference_mode():
        for r in range(0, int(share * len(left)), rows):
            for c in range(0, len(right), columns):
                one, other = left[r : r + rows], right[c : c + columns]
                torch.mm(one, other.T, out=buffer[: len(one), : len(other)])
    buffer[0, 0].item()  # an accelerator may still be at it


def show(title: str, times: Mapping[str, float], product: float) -> None:
    """A row each: seconds, and the ratio to the products."""
    print(f"\n{title}\n{'':58}{'s':>9}{'ratio':>9}")
    for name, seconds in times.items():
        print(f"{name:<58}{seconds:>9.2f}{seconds / product:>9.2f}", flush=True)


# ---- sets


def sets(size: Size) -> None:
    """Ranks of sets of four, against their products and against the usual way."""
    products(torch.ones(64, size.width), torch.ones(64, size.width))
    gc.collect()
    before = anonymous()
    images, captions = (Sets(vectors) for vectors in size.vectors(0, 4, 0.5))
    held = sum(side.elements.nbytes for side in (images, captions)) / 2**20 * (size.device == "cpu")
    matches, folds = Matches.from_owner(size.owner, size.images), Folds.of(size.owner, size.images, FOLD)
    similarity = SmoothChamfer().to(size.device)
    found: list[Ranking] = []

    def ranks() -> None:
        tiles = score_tiles(similarity, images, captions)
        found[:] = [rank_tiles(*tiles, matches, matches.transpose(), folds=folds)]

    with peak() as highest:
        first = in_turn({"": ranks}, 1)[""]
    flat = [side.elements.flatten(0, 1) for side in (images, captions)]
    rows = {"products of all elements": lambda: products(*flat), "ranks, both directions, all and folds": ranks}
    times = in_turn(rows, size.rounds)
    product, ours = times.values()
    ours = min(ours, first)
    usual, agree = usual_way(similarity, images, captions, found[0], folds)
    title = f"sets of 4 x {size.width}, {size.images:,} images, {size.captions:,} captions, Smooth-Chamfer"
    show(title, {**times, list(times)[1]: ours, "the usual way (extrapolated)": usual}, product)
    print(f"times as fast as the usual way: {usual / ours:.0f} (same rank for {100 * agree:.1f} % of its queries)")
    print(f"anonymous memory over embeddings of {held:,.0f} MiB: {highest[0] - before - held:,.0f} MiB")
    said = ", ".join(f"{n} R@1 {100 * hit_rate(r, 1):.1f}" for n, r in (("i2t", found[0].i2t), ("t2i", found[0].t2i)))
    print(said)


def pooled(query: Tensor, gallery: Tensor, each: int, alpha: float) -> Tensor:
    """Smooth-Chamfer of one set (k, d) with every set of a flat gallery (g * each, d), as published code has it:
    each half from exponentials of its own, every sum over elements a pooling layer of norm 1."""
    k, cosines = len(query), (query @ gallery.T)[None]
    over_gallery = lp_pool2d(lp_pool2d(torch.exp(alpha * cosines), 1, (1, each)).log(), 1, (k, 1))
    over_query = lp_pool2d(lp_pool2d(torch.exp(alpha * cosines), 1, (k, 1)).log(), 1, (1, each))
    return (over_gallery / (k * alpha) + over_query / (each * alpha))[0, 0] / 2


def usual_way(
    similarity: SmoothChamfer, images: Sets, captions: Sets, ranking: Ranking, folds: Folds, queries: int = 100
) -> tuple[float, float]:
    """Seconds for all queries from some of each kind, and the share of those with the same rank as ours."""
    everything = slice(0, len(images)), slice(0, len(captions))
    fold = (folds.images[0], folds.captions[0]) if folds.images else everything
    inside = ranking.folds[0] if ranking.folds else (ranking.i2t, ranking.t2i)
    kinds = [
        (images, captions, *everything, ranking.i2t, 1),
        (captions, images, *everything[::-1], ranking.t2i, 1),
        (images, captions, *fold, inside[0], len(folds.images)),
        (captions, images, *fold[::-1], inside[1], len(folds.images)),
    ]
    total, same, asked = 0.0, 0, 0
    for side, other, rows, columns, ranks, times in kinds:
        gallery, own = other.elements[columns].flatten(0, 1), first_ranks(ranks)
        chosen = np.linspace(0, len(own) - 1, min(queries, len(own))).astype(int)
        began = time.perf_counter()
        with torch.inference_mode():
            for row in chosen:
                scores = pooled(side.elements[rows.start + row], gallery, other.elements.shape[1], similarity.alpha)
                order = np.argsort(-scores.cpu().numpy())
                right = ranks.items[ranks.indptr[row] : ranks.indptr[row + 1]]
                place = min(np.flatnonzero(order == item)[0] for item in right) + 1
                same, asked = same + int(place == own[row]), asked + 1
        total += (time.perf_counter() - began) * len(own) / len(chosen) * times
    return total, same / asked


# ---- points


class MadeUpTruth:
    """Right answers of so many queries, any number around a mean, the own ones with them."""

    def __init__(self, queries: Mapping[str, tuple[float, float]], seed: int) -> None:
        self.queries, self.seed = queries, seed

    def answers(self, pairs: Pairs) -> Answers:
        rng, size = np.random.default_rng(self.seed), {"i": len(pairs), "t": len(pairs.captions)}
        images = {"i": np.arange(len(pairs)), "t": pairs.owner}
        found = {}
        for kind, (share, mean) in self.queries.items():
            asking, asked = kind[0], kind[2]
            chosen = np.sort(rng.choice(size[asking], int(share * size[asking]), replace=False))
            rows = chosen.repeat(np.maximum(rng.poisson(rng.gamma(4, mean / 4, len(chosen))), 1))
            # Right answers are near: of the ten images that are alike, and now and then of any.
            near = images[asking][rows] // SIBLINGS * SIBLINGS + rng.integers(0, SIBLINGS, len(rows))
            near = np.where(rng.random(len(rows)) < 0.2, rng.integers(0, len(pairs), len(rows)), near)
            near = np.minimum(near, len(pairs) - 1)
            items = near if asked == "i" else near * CAPTIONS + rng.integers(0, CAPTIONS, len(rows))
            kept = items != rows if asking == asked else np.ones(len(rows), bool)
            found[kind] = Matches.of(rows[kept], items[kept], (size[asking], size[asked]))
        within = {kind: matches for kind, matches in found.items() if kind[0] == kind[2]}
        return Answers(found.get("i2t"), found.get("t2i"), within)


def made_up(size: Size) -> Pairs:
    """Pairs with truths as large as COCO's: ECCV Caption, CxC, and some three of 80 categories an image."""
    rng = np.random.default_rng(0)
    common = 0.5 / np.arange(1, 81)
    categories = np.repeat(rng.random((-(-size.images // SIBLINGS), 80)) < common, SIBLINGS, axis=0)[: size.images]
    categories |= rng.random((size.images, 80)) < 0.3 * common
    items = [
        Item(str(n), tuple(f"caption {n} {m}" for m in range(CAPTIONS)), labels=tuple(map(str, np.flatnonzero(row))))
        for n, row in enumerate(categories)
    ]
    truths = {
        "eccv": MadeUpTruth({"i2t": (0.2522, 17.9), "t2i": (0.0533, 8.5)}, 1),
        "cxc": MadeUpTruth({"i2t": (1, 7.1), "t2i": (0.999, 1.4), "t2t": (1, 4.0), "i2i": (0.958, 8.5)}, 2),
    }
    return Pairs(items, name="made up", truths=truths)


def points(size: Size) -> None:
    """All protocols of points, against the products they need."""
    images, captions = (Points(vectors[:, 0]) for vectors in size.vectors(1, 1, 0.0))
    pairs, similarity = made_up(size), Cosine().to(size.device)
    wanted = ("own", "coco-5k", "coco-1k", "eccv", "cxc", "pmrp")
    there = [name for name in wanted if name in PROTOCOLS]
    judged: list[Any] = []

    def all_of(names: Sequence[str]) -> Callable[[], None]:
        def run() -> None:
            judged[:] = [judge(ModelScores(similarity, images, captions), pairs, names, "expected", images, captions)]

        return run

    gc.collect()
    before = anonymous()
    with peak() as highest:
        all_of(there)()
    left, right = images.vectors, captions.vectors
    rows: dict[str, Callable[[], Any]] = {
        "products i2t": lambda: products(left, right),
        "products t2t": lambda: products(right, right),
        "products i2i": lambda: products(left, left),
        **{name: all_of([name]) for name in there},
        f"all {len(there)} protocols": all_of(there),
    }
    times = in_turn(rows, size.rounds)
    weights = resampled(len(pairs), 1000)
    times["their 95 % intervals, 1,000 resamples"] = in_turn({"": lambda: judged[0].rows(weights)}, 1)[""]
    across, texts, pictures = (times[f"products {kind}"] for kind in ("i2t", "t2t", "i2i"))
    needed, whole = across + (texts + pictures) / 2, across + texts + pictures
    show(f"points of {size.width}, {size.images:,} images, {size.captions:,} captions, cosine", times, across)
    everything = times[f"all {len(there)} protocols"]
    print(
        f"all protocols: {everything / needed:.2f} x the products they need ({needed:.2f} s: i2t, half of t2t and i2i)"
    )
    print(f"               {everything / whole:.2f} x the products i2t, t2t and i2i in full ({whole:.2f} s)")
    print(f"anonymous memory of all protocols over embeddings and pairs: {highest[0] - before:,.0f} MiB")
    shares = [row for row in judged[0].rows(None) if row["metric"] in ("R@1", "mAP@R", "PMRP")]
    print(", ".join(f"{r['protocol']} {r['direction']} {r['metric']} {r['value']:.1f}" for r in shares))


# ---- samples


def samples(size: Size) -> None:
    """Match probability of seven draws a side: a part of the scores, or all."""
    share = 1 if size.full else 10
    part = Size(size.images // share, size.width, size.device)
    images, captions = (Samples(vectors) for vectors in part.vectors(2, 7, 0.5))
    similarity = SampledMatchProbability().to(size.device)
    matches = Matches.from_owner(part.owner, part.images)

    def ranks() -> None:
        tiles = score_tiles(similarity, images, captions)
        rank_tiles(*tiles, matches, matches.transpose())

    flat = [side.vectors.flatten(0, 1) for side in (images, captions)]
    times = in_turn({"products of all draws": lambda: products(*flat), "ranks, both directions": ranks}, 1)
    product, ours = times.values()
    title = f"samples of 7 x {size.width}, {part.images:,} images, {part.captions:,} captions, match probability"
    show(title, times, product)
    print(f"{size.images:,} x {size.captions:,}: {share**2 * ours / 60:.1f} minutes" + " (extrapolated)" * (share > 1))


def main(arguments: Sequence[str] | None = None) -> None:
    tables = {"sets": sets, "points": points, "samples": samples}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a fifth of the images")
    parser.add_argument("--only", choices=tables)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--full", action="store_true", help="samples: every score")
    parser.add_argument("--device", default="cpu")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(asked.threads)
    size = Size(1000 if asked.small else 5000, asked.width, asked.device, asked.rounds, asked.full)
    print(f"{asked.threads} threads, {asked.device}, float32")
    for name, table in tables.items():
        if asked.only in (None, name):
            table(size)


if __name__ == "__main__":
    main()
