"""One training step of DivE and of the point control: seconds, and what keeping freed memory saves. Rows with ratios.

    python bench/train_step.py [--steps 12]

Made-up features (9 fragments of 256, pooled 1,280) and captions of 12 words; every row is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np

from manymatch.data.features import Features
from manymatch.data.pairs import Item, Pairs


class MadeUp:
    """Random features for any item."""

    def get(self, items: Sequence[Item]) -> Features:
        draw = np.random.default_rng(len(items))
        vectors = draw.normal(size=(len(items), 9, 256)).astype(np.float32)
        return Features(vectors, pooled=draw.random((len(items), 1280)).astype(np.float32))

    def sizes(self) -> dict[str, int]:
        return {"fragments": 9, "fragment_width": 256, "pooled_width": 1280}


def measure(name: str, precision: str, keep: bool, steps: int) -> float:
    """Median seconds of a step: forward, backward, update."""
    import torch

    import manymatch as mm
    from manymatch.training.memory import keep_freed_memory

    if keep:
        keep_freed_memory()
    draw = np.random.default_rng(0)
    words = [f"word{n}" for n in range(3000)]
    items = [Item(str(n), tuple(" ".join(draw.choice(words, 12)) for _ in range(2))) for n in range(192 * 4)]
    pairs = Pairs(items, features=MadeUp())
    model = mm.method(name, least_count=1).build(pairs)
    model.train()
    optimiser = torch.optim.AdamW(model.parameters())
    times = []
    for step in range(steps):
        rows = next(iter(model.method.sampler().epoch(pairs, seed=0, epoch=step)))
        batch = model.batch(pairs, rows.images, rows.captions, rows.matches)
        began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = model.training_step(batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        times.append(time.perf_counter() - began)
    return float(np.median(times[2:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(measure(*json.loads(asked.one), asked.steps))
        return
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
        one = [sys.executable, __file__, "--steps", str(asked.steps), "--one", json.dumps([name, precision, keep])]
        seconds = float(subprocess.run(one, check=True, capture_output=True, text=True).stdout.split()[-1])
        first = first or seconds
        print(
            f"{name:<8}{precision:<10}{'kept' if keep else 'given back':<14}{seconds:>8.2f}{seconds / first:>8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
