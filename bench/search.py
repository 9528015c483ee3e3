"""Search in process, one thread a request: time, agreement and memory, with ratios within one run.

    python bench/search.py [--items 100000] [--elements 4] [--width 256] [--world clustered|independent]
                           [--only ROW ...] [--folder F] [--queries 200] [--repeat 3] [--seed 0]

The collection is made up (`search_worlds.py`): sets of unit elements with three metadata fields. All queries that are
timed, and those that agreement is measured with, are others than those the index chose its candidates with. `cpu` is
the processor time of the thread, which other programs on the machine disturb less than the clock.

Rows, each of which `--only` can choose; the index is stored and built first unless `--folder` holds it already:

store     items a second into SQLite, in acknowledged batches: bare, and with metadata (what filters, facets and words
          search need); the largest anonymous memory, and the disk
build     mapped rows, then candidates: seconds of lists and of measuring agreement; what was chosen
open      a fresh process, after its imports, from opening the folder to the first answer
memory    anonymous memory of that process above its imports and run, once open and after 200 searches
search    p50 of the index as it decides, against the exact scan by the run's similarity (Smooth-Chamfer), and against
          MaxSim: a scan of all elements held in memory, and faiss over all elements with the exact step
filter    metadata that half, a tenth and a hundredth of the items have
extras    facets, groups, meanings, diverse, hybrid, deep pages, probabilities: what each adds shows against plain
many      64 queries at once against one by one, exact and as the index decides
tail      with 5 % more items and 2 % deleted, before `refresh`; memory of a fresh process then
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from memory import anonymous
from search_maxsim import MaxSim
from search_worlds import BLOCK, World
from timing import Timed, head, peak, row

from manymatch import runs
from manymatch.calibration import Calibration, Curve
from manymatch.embeddings import Sets
from manymatch.index import Index
from manymatch.index.local.derived import header_at
from manymatch.index.store.store import Store
from manymatch.similarity import SmoothChamfer

ROWS = ("store", "build", "open", "memory", "search", "filter", "extras", "many", "tail")
CAPTIONS = 1000
"""Views of the first items, stored as captions: what the index measures agreement with."""

_ELEMENTS_UP_TO = 200_000
"""Items up to which faiss gets all elements: it holds them in memory, in float32."""

SHARES = {"half": 2, "tenth": 10, "hundredth": 100}


class Run:
    """Stands in for a trained run: the words "q7" are the seventh query that the index has never met.

    Of other words the first number says which.
    """

    name, image_input = "bench", "pixels"

    def __init__(self, world: World) -> None:
        self.similarity = SmoothChamfer()
        self.queries = Sets(torch.from_numpy(world.queries(CAPTIONS, CAPTIONS)))

    def fingerprint(self) -> str:
        return "bench"

    def encode_texts(self, texts: list[str]) -> Sets:
        return self.queries[[int(re.findall(r"\d+", text)[0]) % CAPTIONS for text in texts]]

    def knows(self, text: str) -> bool:
        return True


# ---- small things


def shared(right: list[list[str]], found: list[list[str]]) -> float:
    """Share of the exact first ten that was found."""
    return float(np.mean([len({*a} & {*b}) / max(1, len(a)) for a, b in zip(right, found, strict=True)]))


def ids(answers: Any) -> list[list[str]]:
    return [[hit.id for hit in answer] for answer in answers]


def disk(folder: Path) -> str:
    sizes = {p.name: p.stat().st_size / 2**20 for p in sorted(folder.iterdir()) if p.is_file()}
    return ", ".join(f"{name} {size:,.0f}" for name, size in sizes.items() if size >= 1) + " MiB"


# ---- making the collection


def metadata(numbers: range) -> list[dict[str, Any]]:
    """Fields that a half, a tenth, a hundredth of the items share, at random, and a word of two thousand."""
    drawn = np.random.default_rng((5, numbers.start)).integers(2**30, size=(len(numbers), 4)).tolist()
    return [
        {**{name: draw[n] % of for n, (name, of) in enumerate(SHARES.items())}, "tag": f"word{draw[3] % 2000}"}
        for draw in drawn
    ]


def created(folder: Path) -> Index:
    settings = {"fingerprint": "bench", "similarity": "SmoothChamfer", "model": "bench", "precision": "float16"}
    Store.create(folder / "index.sqlite", {**settings, "engine": "auto", "agreement": 0.99}).close()
    return Index.open(folder)


def fill(index: Index, world: World, blocks: int, *, described: bool) -> float:
    """Items a second, drawing them not counted."""
    spent, items = 0.0, 0
    for number in range(blocks):
        part = Sets(torch.from_numpy(world.block(number)))
        numbers = range(number * BLOCK, number * BLOCK + len(part))
        told = metadata(numbers) if described else None
        began = time.perf_counter()
        index.add_embeddings([f"i{n}" for n in numbers], part, "image", metadata=told)
        spent += time.perf_counter() - began
        items += len(part)
    return items / spent


def store(folder: Path, world: World) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as beside, created(Path(beside)) as index:
        bare = max(fill(index, world, 1, described=False) for _ in range(4))
    with peak() as most, created(folder) as index:
        full = fill(index, world, world.blocks, described=True)
        queries = Sets(torch.from_numpy(world.queries(0, CAPTIONS)))
        words = [f"word{n} word{7 * n % 2000}" for n in range(CAPTIONS)]
        index.add_embeddings([f"c{n}" for n in range(CAPTIONS)], queries, "caption", captions=words)
    print(f"store\n  {bare:,.0f} items a second bare, {full:,.0f} with metadata; anonymous memory +{most[0]:.0f} MiB")
    print(f"  {disk(folder)}", flush=True)


def made(folder: Path, world: World) -> None:
    """Whatever the folder lacks of a stored and built collection."""
    if not (folder / "index.sqlite").exists():
        folder.mkdir(parents=True, exist_ok=True)
        store(folder, world)
    if not (folder / "candidates-image.faiss").exists():
        build(folder, world)


def build(folder: Path, world: World) -> None:
    steps: list[tuple[str, float]] = []
    run: Any = Run(world)
    with peak() as most, Index.open(folder, run) as index:
        began = time.perf_counter()
        index.search("q0", k=1, exact=True)
        print(f"build\n  rows mapped in {time.perf_counter() - began:.1f} s")
        index.refresh(lambda step: steps.append((step, time.perf_counter())))
        steps.append(("", time.perf_counter()))
    for (step, began), (_, ended) in pairwise(steps):
        print(f"  {step}: {ended - began:.1f} s")
    header = header_at(folder / "candidates-image.faiss")
    for asking, plan in (header or {"plans": {}})["plans"].items():
        print(f"  asked by {asking}s: {plan}")
    print(f"  anonymous memory +{most[0]:.0f} MiB; {disk(folder)}", flush=True)


# ---- a process of its own


def child(folder: Path) -> None:
    """What `fresh` reads."""
    torch.set_num_threads(1)
    began, before = time.perf_counter(), anonymous()
    with Index.open(folder) as index:
        index.search("q0")
        opened, first = time.perf_counter() - began, anonymous() - before
        for n in range(200):
            index.search(f"q{n}")
        print(json.dumps({"opened": opened, "first": first, "after": anonymous() - before}))


def fresh(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", "--folder", str(folder), "--items", str(args.items)]
    command += ["--world", args.world, "--elements", str(args.elements), "--width", str(args.width)]
    command += ["--spread", str(args.spread), "--seed", str(args.seed)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(told.splitlines()[-1]))


# ---- rows over the built index


class Bench:
    """The index, asked in many ways."""

    def __init__(self, args: argparse.Namespace, folder: Path, world: World) -> None:
        self.args, self.folder, self.world = args, folder, world
        self.index = Index.open(folder)
        self.run = self.index.model
        self.asked = count()
        self.few = max(3, min(args.queries, 2_000_000 // args.items))
        """Queries of what looks at every item."""

    def timed(self, few: bool = False, **options: Any) -> Timed:
        queries, repeat = (self.few, 1 + self.args.repeat // 2) if few else (self.args.queries, self.args.repeat)
        return Timed(lambda n: self.index.search(f"q{n}", **options), queries, repeat)

    def words(self) -> list[str]:
        return [f"q{n}" for n in range(self.args.queries)]

    def agreement(self) -> tuple[float, bool]:
        """With the exact first ten, and whether answers were approximate."""
        found = [self.index.search(word) for word in self.words()]
        exact = self.index.search_many(self.words(), exact=True)
        return shared(ids(exact), ids(found)), not found[0].exact

    def opened(self) -> None:
        seen = [fresh(self.args, self.folder) for _ in range(self.args.repeat)]
        if "open" in self.args.only:
            print(f"open\n  {min(one['opened'] for one in seen):.2f} s to the first answer")
        if "memory" in self.args.only:
            print(f"memory\n  +{seen[0]['first']:.0f} MiB open, +{seen[0]['after']:.0f} after 200 searches", flush=True)

    def search(self) -> None:
        head("search")
        agreement, near = self.agreement()
        found, scan = self.timed(), self.timed(few=True, exact=True)
        row("candidates and exact step" if near else "exact, as the index chose", found, scan, agreement)
        row("exact scan, Smooth-Chamfer", scan, scan, 1.0)
        self.maxsim(found)

    def maxsim(self, found: Timed) -> None:
        other, queries = MaxSim(self.world), self.run.queries.elements
        scan = Timed(lambda n: other.scan(queries[n]), self.few, 1 + self.args.repeat // 2)
        row("MaxSim scan, float16 in memory", scan, scan, 1.0, f"{scan.cpu / found.cpu:.1f} times the first row")
        if self.args.items > _ELEMENTS_UP_TO:
            return
        began = time.perf_counter()
        other.lists()
        built = f"its lists take {time.perf_counter() - began:.0f} s to build"
        some = range(min(50, self.args.queries))
        right = [[str(item) for item in other.scan(queries[n])] for n in some]
        for lists, most in ((16, 200), (64, 400)):
            ask = partial(other.near, count=most, lists=lists)
            timed = Timed(lambda n, ask=ask: ask(queries[n]), self.args.queries, self.args.repeat)  # type: ignore[misc]
            got = [[str(item) for item in ask(queries[n])] for n in some]
            row(f"MaxSim, faiss over elements, {lists} lists", timed, scan, shared(right, got), built)

    def filters(self) -> None:
        head("filter")
        row("none", self.timed())
        for name in SHARES:
            given = {"where": {name: 1}}
            near, exact = (self.index.search_many(self.words(), exact=how, **given) for how in (None, True))
            note = "exact, as the index decides" if near[0].exact else ""
            row(f"a {name} pass", self.timed(few=True, **given), None, shared(ids(exact), ids(near)), note)
            row("  the same, exact asked", self.timed(few=True, exact=True, **given))
            row("  a filter nobody has asked for yet", Timed(partial(self.new_filter, name), self.few, 1))

    def new_filter(self, name: str, n: int) -> None:
        """Lets the same items pass as `{name: 1}`, in other words each time."""
        self.index.search(f"q{n}", where={name: {"gte": 1, "lt": 1.5 + next(self.asked) / 1e6}})

    def extras(self) -> None:
        head("extras")
        row("plain", self.timed())
        options: dict[str, dict[str, Any]] = {
            "facets": {"facets": ["tenth"]},
            "facets under a filter of a tenth": {"facets": ["hundredth"], "where": {"tenth": 1}},
            "group_by": {"group_by": "hundredth"},
            "meanings": {"meanings": True},
            "diverse": {"diverse": 0.5},
            "explain": {"explain": True},
            "page 10": {"offset": 90},
            "100 hits": {"k": 100},
        }
        for name, given in options.items():
            row(name, self.timed(few=True, **given))
        texts = [f"q{n} word{n} word{n + 1}" for n in range(CAPTIONS)]
        row("hybrid", Timed(lambda n: self.index.search(texts[n], hybrid=True), self.few, 2))
        self.probabilities()

    def probabilities(self) -> None:
        """An even chance at the fifth best score, odds of one to fifty at the hundredth."""
        deep = self.index.search_many(self.words()[:20], k=100, exact=True)
        fifth, last = (float(np.median([answer[place].score for answer in deep])) for place in (4, 99))
        curve = Curve("logistic", (last, fifth), (-4.0, 0.0), 0.99, "made up", 20, self.args.items, 100, 10)
        with Store(self.folder / "index.sqlite").writing() as change:
            change.set("calibration", Calibration({("caption", "image"): curve}).to_json())
        asked = [(self.index.search(f"q{n}"), self.index.search(f"q{n}", exact=True)) for n in range(self.few)]
        off = [abs(np.log((near.expected_matches or 0) / (all_.expected_matches or 1))) for near, all_ in asked]
        note = f"expected matches: exact {np.median([b.expected_matches for _, b in asked]):.1f}, "
        note += f"off by {100 * np.median(off):.0f} % (median), {100 * np.quantile(off, 0.9):.0f} % (p90)"
        row("probabilities", self.timed(), note=note)
        with Store(self.folder / "index.sqlite").writing() as change:
            change.set("calibration", {})

    def many(self) -> None:
        print("many\n  64 queries, ms each")
        words = self.words()[:64]
        for name, exact in (("exact", True), ("as the index decides", None)):
            together, single = 1e9, 1e9
            for _ in range(self.args.repeat):
                began = time.perf_counter()
                self.index.search_many(words, exact=exact)
                together = min(together, 1000 * (time.perf_counter() - began) / len(words))
                began = time.perf_counter()
                for word in words[: 64 if exact is None else self.few]:
                    self.index.search(word, exact=exact)
                asked = 64 if exact is None else min(64, self.few)
                single = min(single, 1000 * (time.perf_counter() - began) / asked)
            ratio = f"{single / together:8.1f} times"
            print(f"  {name:38}{together:9.2f} at once{single:9.2f} one by one{ratio}", flush=True)

    def tail(self) -> None:
        before = self.timed()
        extra = World(self.world.name, self.world.items // 20, self.world.k, self.world.d, seed=self.world.seed + 1)
        for number in range(extra.blocks):
            part = extra.block(number)
            for start in range(0, len(part), 500):
                names = [f"t{number * BLOCK + start + n}" for n in range(len(part[start : start + 500]))]
                self.index.add_embeddings(names, Sets(torch.from_numpy(part[start : start + 500])), "image")
                self.index.search("q0")
        drawn = np.random.default_rng(9).choice(self.world.items, self.world.items // 50, replace=False)
        self.index.delete([f"i{n}" for n in drawn])
        began = time.perf_counter()
        self.index.search("q0")
        note = f"first search after a change {1000 * (time.perf_counter() - began):.0f} ms"
        head("tail")
        agreement, _ = self.agreement()
        row("before", before)
        row("5 % came and 2 % went", self.timed(), before, agreement, note)
        seen = fresh(self.args, self.folder)
        memory = f"+{seen['first']:.0f} MiB open, +{seen['after']:.0f} after 200 searches"
        print(f"  fresh process: {seen['opened']:.2f} s to the first answer, {memory}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--elements", type=int, default=4)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--world", choices=["clustered", "independent"], default="clustered")
    parser.add_argument("--spread", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--folder", type=Path, help="keep the index here, and use what is there")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parsed()
    world = World(args.world, args.items, args.elements, args.width, spread=args.spread, seed=args.seed)
    run: Any = Run(world)
    runs.load = lambda folder: run
    if args.child:
        child(args.folder)
        return
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    print(f"{args.items:,} {args.world} sets of {args.elements} x {args.width}, spread {args.spread}, seed {args.seed}")
    kept = args.folder
    folder = kept or Path(tempfile.mkdtemp()) / "index"
    try:
        made(folder, world)
        bench = Bench(args, folder, world)
        if {"open", "memory"} & {*args.only}:
            bench.opened()
        rows = {"search": bench.search, "filter": bench.filters, "extras": bench.extras, "many": bench.many}
        for name, print_row in {**rows, "tail": bench.tail}.items():
            if name in args.only:
                print_row()
    finally:
        if kept is None:
            shutil.rmtree(folder.parent)


if __name__ == "__main__":
    main()
