"""Anonymous memory of training from pixels and from features while the data set grows. Rows with ratios.

    python bench/memory.py [--sizes 1500 6000 24000] [--steps 20]

Made-up data on disk: the toy world in a tar, float16 fragments (36 x 512) in a `.npy`. Every row is a process of its
own that trains `--steps` steps; anonymous memory (RssAnon) is its peak, above what the process held before reading.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np


def anonymous(pid: int | str = "self") -> float:
    """MiB of anonymous memory of a process, this one unless told."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no RssAnon in /proc/{pid}/status")


def measure(kind: str, folder: Path, images: int, steps: int) -> dict[str, float]:
    """Train a little on the first `images` of the world; peaks in MiB."""
    import torch

    import manymatch as mm
    from manymatch.training import TrainConfig, train

    torch.set_num_threads(1)
    before = anonymous()
    features = {"features": folder / f"features-{images}.npy"} if kind == "features" else {}
    pairs = mm.Pairs.read(folder / f"captions-{images}.jsonl", images=folder / "images.tar", **features)
    after_reading = anonymous()
    model = mm.method("dive", dim=128, batch=64).build(pairs)
    peak, stop = 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.is_set():
            peak = max(peak, anonymous())
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    done = 0

    class Enough(Exception):
        pass

    step = type(model).training_step

    def counted(self: object, *arguments: object) -> object:
        nonlocal done
        done += 1
        if done > steps:
            raise Enough
        return step(self, *arguments)  # type: ignore[arg-type]

    type(model).training_step = counted  # type: ignore[method-assign, assignment]
    with suppress(Enough):
        train(model, pairs, out=folder / f"run-{kind}-{images}", config=TrainConfig(epochs=1), say=None)
    stop.set()
    watcher.join()
    return {"reading": after_reading - before, "training": peak - before}


def world(folder: Path, most: int, sizes: list[int]) -> None:
    from manymatch.data.toy import write_toy

    lines = write_toy(folder, most).read_text().splitlines()
    for images in sizes:
        (folder / f"captions-{images}.jsonl").write_text("\n".join(lines[:images]) + "\n")
        store = np.lib.format.open_memmap(folder / f"features-{images}.npy", "w+", np.float16, (images, 36, 512))
        for start in range(0, images, 500):
            store[start : start + 500] = np.random.default_rng(start).normal(size=store[start : start + 500].shape)
        store.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1500, 6000, 24000])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        kind, folder, images = json.loads(asked.one)
        print(json.dumps(measure(kind, Path(folder), images, asked.steps)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world(folder, max(asked.sizes), asked.sizes)
        print(f"{'input':<10}{'images':>8}{'on disk MiB':>13}{'reading MiB':>13}{'training MiB':>14}{'ratio':>7}")
        for kind in ("pixels", "features"):
            first = 0.0
            for images in asked.sizes:
                one = [sys.executable, __file__, "--steps", str(asked.steps), "--one", json.dumps([kind, name, images])]
                told = subprocess.run(one, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
                found = json.loads(told)
                disk = (images * 36 * 512 * 2 if kind == "features" else images * 64 * 64 * 3) / 2**20
                first = first or found["training"]
                print(
                    f"{kind:<10}{images:>8}{disk:>13.0f}{found['reading']:>13.0f}{found['training']:>14.0f}"
                    f"{found['training'] / first:>7.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
