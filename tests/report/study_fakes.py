"""What tests of studies share: a plan's file, a child that only pretends to train, and rows with made-up numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from report_fakes import small

from manymatch.data.toy import write_toy
from manymatch.evaluation import fit_bank
from manymatch.evaluation.measures import Mean, resampled
from manymatch.report.study import read_plan
from manymatch.report.study.lines import Line
from manymatch.report.study.plan import Plan, Row, Run
from manymatch.report.study.quantities import Quantity
from manymatch.report.study.runs import folder_of
from manymatch.runs import save_search

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


ROWS = """
title = "A <b>study</b>"
seeds = [0, 1]
protocols = ["own"]
against = "points"
tested = ["RSUM"]
[data]
path = "world/captions.jsonl"
[[row]]
name = "points"
method = "vsepp"
[[row]]
name = "sets"
title = "sets & <script>"
method = "dive"
[[row]]
name = "both"
ensemble = ["points", "sets"]
[[claim]]
name = "sets"
text = "Sets find better than <i>points</i>."
better = "sets"
worse = "points"
"""


def plan_file(folder: Path, text: str) -> Path:
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    (folder / "pairs.jsonl").write_text('{"image": "a.png", "captions": ["a"]}\n')
    return path


def measured_study(folder: Path) -> Path:
    """The study of ROWS on a toy world, its runs there as if trained, those of points with a query bank."""
    write_toy(folder / "world", 60, seed=2, size=32)
    (folder / "study.toml").write_text(ROWS)
    plan = read_plan(folder / "study.toml")
    for run in plan.runs:
        if not run.row.ensemble:
            write_run(plan, run, folder / "out" / "runs")
    return folder


def write_run(plan: Plan, run: Run, runs: Path) -> None:
    """A run of small random weights, finished."""
    pairs, place = plan.data.read(), folder_of(runs, run)
    place.claim(plan.data)
    torch.manual_seed(run.seed)
    model = small(pairs.split("train"), run.row.method or "").eval()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    if run.row.name == "points":
        model.bank = fit_bank(model, pairs.split("train"), pairs.split("val"), most=50)
    save_search(model, place.path, {"finished": True})
    (place.path / "metrics.jsonl").write_text('{"loss": 2.0}\n{"loss": 1.0, "elements with gradient": 0.5}\n')


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
