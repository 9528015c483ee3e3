"""What tests of studies share: a plan's file, a child that only pretends to train, and rows with made-up numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from manymatch.evaluation.measures import Mean, resampled
from manymatch.report.study.lines import Line
from manymatch.report.study.plan import Row
from manymatch.report.study.quantities import Quantity

IMAGES = 60

HEAD = """
seeds = [0, 1]
[data]
path = "pairs.jsonl"
"""

TWO = """
[[row]]
name = "a"
method = "vsepp"
[[row]]
name = "b"
method = "dive"
set = { elements = 2 }
"""

CHILD = '''
"""Pretends to train: writes a finished run; --set says how it goes."""
import json, os, signal, sys, time
from pathlib import Path
words = sys.argv[1:]
out = Path(words[words.index("--out") + 1])
said = dict(words[n + 1].split("=", 1) for n, word in enumerate(words) if word == "--set")
with open(out / "calls.txt", "a") as file:
    file.write(json.dumps(words) + "\\n")
print("a line of the child", flush=True)
if (out.parent / "slow").exists():
    stop = []
    signal.signal(signal.SIGINT, lambda number, frame: stop.append(number))
    (out / "begun").write_text("")
    while not stop and (out.parent / "slow").exists():
        time.sleep(0.01)
    if stop:
        print("saved", flush=True)
        raise SystemExit(130)
if (out.parent / f"broken-{out.name}").exists():
    print("manymatch: it broke", file=sys.stderr)
    raise SystemExit(2)
run = {"format": 1, "finished": True, "notes": {"best": {"RSUM": 100.0 + int(said.get("seed", 0))}}, "bank": {}}
(out / "run.json").write_text(json.dumps(run))
'''


def plan_file(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    (folder / "pairs.jsonl").write_text('{"image": "a.png", "captions": ["a"]}\n')
    return path


def row(name: str, seeds: Sequence[int] = (0, 1, 2)) -> Row:
    return Row(name, name, tuple(seeds), "vsepp")


def line(
    name: str, values: Sequence[float], *, state: str = "raw", rng: int = 0, more: Mapping[str, float] = {}
) -> Line:
    """A row whose RSUM has these values, one a seed: each image hits or misses, by the row's own luck."""
    draw = np.random.default_rng(rng)
    weights = resampled(IMAGES, 200)
    found = []
    for value in values:
        hits = np.zeros(IMAGES)
        hits[draw.permutation(IMAGES)[: round(IMAGES * value / 100)]] = 1.0
        measure = Mean(hits, np.arange(IMAGES))
        found.append({"RSUM": Quantity.of(measure, weights), **{key: Quantity(each) for key, each in more.items()}})
    return Line(row(name, range(len(values))), state, tuple(range(len(values))), tuple(found))
