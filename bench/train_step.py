"""One training step: seconds, and what keeping freed memory, the GRU or an association graph costs. Rows with ratios.

    python bench/train_step.py [--steps 12] [--only methods | gru | graph-step | graph]

"methods": DivE and the point control on made-up features (9 fragments of 256, pooled 1,280) and captions of 12 words;
every row is a process of its own. "gru": a step with the package's GRU and with torch's. "graph-step": a step of HREM's
size with its association graph and without. "graph": the graph alone, against the same caption by caption and against
its matrix product. Rows of one table take turns in one process and keep their shortest time; for ratios that hold set
OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from manymatch.data.features import Features
from manymatch.data.pairs import Item, Pairs

if TYPE_CHECKING:
    import torch

    from manymatch.embeddings import Encoded, Fragments
    from manymatch.methods import Model
    from manymatch.relations.fragment_scores import FragmentScores


class MadeUp:
    """Random features for any item."""

    def __init__(self, fragments: int = 9, width: int = 256, pooled: int = 1280) -> None:
        self.fragments, self.width, self.pooled = fragments, width, pooled

    def get(self, items: Sequence[Item]) -> Features:
        draw = np.random.default_rng(len(items))
        vectors = draw.standard_normal((len(items), self.fragments, self.width), np.float32)
        return Features(vectors, pooled=draw.random((len(items), self.pooled)).astype(np.float32))

    def sizes(self) -> dict[str, int]:
        return {"fragments": self.fragments, "fragment_width": self.width, "pooled_width": self.pooled}


def made_up(images: int, captions: int, shortest: int, longest: int, features: MadeUp) -> Pairs:
    """Pairs whose captions have `shortest` to `longest` words, any number as often as another."""
    draw = np.random.default_rng(0)
    words = [f"word{n}" for n in range(3000)]
    texts = [" ".join(draw.choice(words, draw.integers(shortest, longest + 1))) for _ in range(images * captions)]
    return Pairs(
        [Item(str(n), tuple(texts[n * captions : (n + 1) * captions])) for n in range(images)], features=features
    )


def stepper(model: Model, pairs: Pairs, precision: str = "float32") -> Callable[[int], float]:
    """Seconds of the n-th step: forward, backward, update."""
    import torch

    optimiser = torch.optim.AdamW(model.parameters())

    def step(n: int) -> float:
        rows = next(iter(model.method.sampler().epoch(pairs, seed=0, epoch=n)))
        batch = model.batch(pairs, rows.images, rows.captions, rows.matches)
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = model.training_step(batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return time.perf_counter() - began

    return step


def measure(name: str, precision: str, keep: bool, steps: int) -> float:
    """Median seconds of a step of a method."""
    import manymatch as mm
    from manymatch.training.memory import keep_freed_memory

    if keep:
        keep_freed_memory()
    pairs = made_up(192 * 4, 2, 12, 12, MadeUp())
    step = stepper(mm.method(name, least_count=1).build(pairs).train(), pairs, precision)
    return float(np.median([step(n) for n in range(steps)][2:]))


def in_turn(rows: Mapping[str, Callable[[int], float]], rounds: int) -> dict[str, float]:
    """The shortest of `rounds` times of each row after one that does not count; the rows take turns."""
    times = {name: [run(0)][1:] for name, run in rows.items()}
    for n in range(1, rounds + 1):
        for name, run in rows.items():
            times[name].append(run(n))
    return {name: min(found) for name, found in times.items()}


def show(title: str, times: Mapping[str, float]) -> None:
    """One row each, with the ratio to the last."""
    print(f"{title:<46}{'ms':>9}{'ratio':>8}")
    last = list(times.values())[-1]
    for name, seconds in times.items():
        print(f"{name:<46}{1000 * seconds:>9.1f}{seconds / last:>8.2f}", flush=True)


# ---- the GRU


def gru_step(steps: int) -> None:
    """A step with the GRU's quick way and with torch's, in turns; captions of 4 to 20 words."""
    import manymatch as mm
    from manymatch.encoders.gru import GRU
    from manymatch.training.memory import keep_freed_memory

    keep_freed_memory()
    pairs, quick = made_up(192 * 4, 2, 4, 20, MadeUp()), GRU._quick
    for name in ("dive", "vsepp"):
        for precision in ("bfloat16", "float32"):
            step = stepper(mm.method(name, least_count=1).build(pairs).train(), pairs, precision)

            def timed(way: Any, step: Callable[[int], float] = step) -> Callable[[int], float]:
                def run(n: int) -> float:
                    GRU._quick = way
                    return step(n)

                return run

            rows = {"its own way": timed(quick), "torch's way": timed(lambda *_: False)}
            show(f"step of {name} in {precision}", in_turn(rows, steps))


# ---- the association graph


def hrem_like(pairs: Pairs) -> tuple[str, Model]:
    """HREM, where this version has it, or the point control with the same graph; 128 images, one caption each, d 1,024.

    The control's towers are cheaper than HREM's, so a step of it shows more of the graph.
    """
    from dataclasses import dataclass

    import manymatch as mm
    from manymatch.methods import methods
    from manymatch.methods.vsepp import VSEpp
    from manymatch.relations.association import AssociationGraph

    size: dict[str, Any] = {"dim": 1024, "batch": 128, "captions": 1, "least_count": 1, "use_pooled": False}
    if "hrem" in methods():
        return "hrem", mm.method("hrem", **size).build(pairs)

    @dataclass(frozen=True, kw_only=True)
    class Control(VSEpp):
        def relation(self) -> AssociationGraph:
            return AssociationGraph(self.dim)

    return "point control", Control(**size, hidden=512).build(pairs)


def graph_step(steps: int) -> None:
    """A step with the graph and one without, in turns."""
    from manymatch.training.memory import keep_freed_memory

    keep_freed_memory()
    pairs = made_up(128, 5, 8, 18, MadeUp(36, 2048, 1))
    name, model = hrem_like(pairs)
    graph, step = model.relation, stepper(model.train(), pairs)

    def with_graph(n: int) -> float:
        model.relation = graph
        return step(n)

    def without(n: int) -> float:
        model.relation = None
        return step(n)

    rows = {f"{name}, with the graph": with_graph, f"{name}, without": without}
    show("step, batch 128, d 1,024, 36 regions of 2,048", in_turn(rows, steps))


def by_caption(images: Fragments, texts: Fragments, *, top: int, mode: str) -> FragmentScores:
    """`fragment_scores` in released mode, caption by caption: each against all images."""
    import torch
    from torch.nn.functional import leaky_relu, normalize

    from manymatch.relations.fragment_scores import FragmentScores

    regions, found = normalize(images.vectors.detach(), dim=-1), []
    for words, length in zip(texts.vectors.detach(), texts.valid.sum(1).tolist(), strict=True):
        again = normalize(words[: max(length, top)].repeat(len(regions), 1, 1), dim=-1)
        cosines = leaky_relu(torch.bmm(again, regions.transpose(1, 2)), 0.1)
        word = normalize(cosines, dim=1).max(dim=2).values
        region = normalize(cosines, dim=2)[:, :length].max(dim=1).values
        best = region.topk(top, dim=1).values, word.topk(top, dim=1).values
        found.append((region.mean(1), word[:, :length].mean(1), *best))
    mean_i2t, mean_t2i, best_i2t, best_t2i = (torch.stack(part) for part in zip(*found, strict=True))
    return FragmentScores(mean_i2t.T, mean_t2i, best_i2t.transpose(0, 1), best_t2i)


def random_side(lengths: torch.Tensor, dim: int, seed: int) -> Encoded:
    """Random unit points with random fragments, so many each."""
    import torch

    from manymatch.embeddings import Encoded, Fragments, Points

    draw = torch.Generator().manual_seed(seed)
    vectors = torch.randn(len(lengths), int(lengths.max()), dim, generator=draw)
    points = torch.nn.functional.normalize(torch.randn(len(lengths), dim, generator=draw), dim=-1)
    valid = torch.arange(vectors.shape[1]) < lengths[:, None]
    return Encoded(Points(points), Fragments(vectors, valid, points))


def graph_alone(rounds: int) -> None:
    """The graph of 128 images and captions, at once and caption by caption, for even and for mixed lengths."""
    import torch

    from manymatch.relations import association
    from manymatch.training.memory import keep_freed_memory

    keep_freed_memory()
    at_once = association.fragment_scores
    images = random_side(torch.full((128,), 36), 1024, 0)
    for title, lengths in (("15 words", torch.full((128,), 15)), ("8 to 18 words", 8 + torch.arange(128) % 11)):
        texts = random_side(lengths, 1024, 1)
        words, regions = texts.fragments.vectors[texts.fragments.valid], images.fragments.vectors.flatten(0, 1)

        def timed(mode: Any, scores: Any, texts: Encoded = texts) -> Callable[[int], float]:
            relation = association.AssociationGraph(1024, mode=mode)

            def run(_: int) -> float:
                association.fragment_scores = scores
                began = time.perf_counter()
                relation.graph(images, texts)
                return time.perf_counter() - began

            return run

        def product(_: int, words: torch.Tensor = words, regions: torch.Tensor = regions) -> float:
            began = time.perf_counter()
            words @ regions.T
            return time.perf_counter() - began

        left, right = (s(images.fragments, texts.fragments, top=10, mode="released") for s in (at_once, by_caption))
        for name, value in vars(left).items():
            torch.testing.assert_close(value, vars(right)[name])
        rows = {
            "released, caption by caption": timed("released", by_caption),
            "released, at once": timed("released", at_once),
            "paper, at once": timed("paper", at_once),
            "its matrix product alone": product,
        }
        times = in_turn(rows, rounds)
        show(f"graph of 128 images, captions of {title}", times)
        quicker = times["released, caption by caption"] / times["released, at once"]
        print(f"at once is {quicker:.2f} times as quick as caption by caption")


def methods_table(steps: int) -> None:
    """Methods by precision and by what becomes of freed memory."""
    print(f"{'method':<8}{'precision':<10}{'freed memory':<14}{'s/step':>8}{'ratio':>8}")
    first = 0.0
    for name, precision, keep in (
        ("vsepp", "float32", True),
        ("vsepp", "bfloat16", True),
        ("dive", "float32", False),
        ("dive", "float32", True),
        ("dive", "bfloat16", False),
        ("dive", "bfloat16", True),
    ):
        one = [sys.executable, __file__, "--steps", str(steps), "--one", json.dumps([name, precision, keep])]
        seconds = float(subprocess.run(one, check=True, capture_output=True, text=True).stdout.split()[-1])
        first = first or seconds
        print(
            f"{name:<8}{precision:<10}{'kept' if keep else 'given back':<14}{seconds:>8.2f}{seconds / first:>8.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables = {"methods": methods_table, "gru": gru_step, "graph-step": graph_step, "graph": graph_alone}
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--only", choices=tables)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(measure(*json.loads(asked.one), asked.steps))
        return
    for name, table in tables.items():
        if asked.only in (None, name):
            table(asked.steps)


if __name__ == "__main__":
    main()
