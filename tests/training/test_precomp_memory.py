"""Training on precomputed regions holds a few batches of them in memory, never the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

IMAGES, REGIONS, WIDTH = 5000, 36, 2048
LIMIT = 400
"""MB of anonymous memory over what the libraries take once they are imported."""

CHILD = """
import json, sys, threading, time
import torch
import torch._dynamo  # what the first optimiser imports
import manymatch as mm
import manymatch.evaluation, manymatch.training
from manymatch.training import TrainConfig

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon:")) / 1024

def watch():
    while True:
        most[stage] = max(most.get(stage, 0.0), anonymous() - base)
        time.sleep(0.003)

torch.set_num_threads(1)
base, most, stage = anonymous(), {}, "reading"
threading.Thread(target=watch, daemon=True).start()
pairs = mm.Pairs.read(sys.argv[1])
stage = "statistics"
model = mm.method("dive", batch=80).build(pairs)
stage = "training"
mm.train(model, pairs.take(range(0, 5000, 8)), out=sys.argv[2], config=TrainConfig(epochs=1), say=None)
print(json.dumps(most))
"""


def write_features(folder: Path) -> None:
    """1.5 GB of which nearly all are holes: the first region of each image holds numbers, the others zeros."""
    draw, row = np.random.default_rng(0), REGIONS * WIDTH * 4
    header = {"descr": "<f4", "fortran_order": False, "shape": (IMAGES, REGIONS, WIDTH)}
    with open(folder / "train_ims.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        file.truncate(start + IMAGES * row)
        for n in range(IMAGES):
            file.seek(start + n * row)
            file.write(draw.normal(size=WIDTH).astype(np.float32).tobytes())
    lines = (f"thing {n % 97} beside thing {n % 13}, number {k}\n" for n in range(IMAGES) for k in range(5))
    (folder / "train_caps.txt").write_text("".join(lines))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc/self/status, which only Linux has")
def test_training_on_precomputed_regions_holds_a_few_batches(tmp_path: Path) -> None:
    folder = tmp_path / "precomp"
    folder.mkdir()
    write_features(folder)
    try:
        told = subprocess.run(
            [sys.executable, "-c", CHILD, str(folder), str(tmp_path / "run")],
            capture_output=True,
            text=True,
            # Where a processor has wider instructions, oneDNN takes up to 170 MB of its own for them.
            env={**os.environ, "OMP_NUM_THREADS": "1", "ONEDNN_MAX_CPU_ISA": "AVX2"},
        )
    finally:
        (folder / "train_ims.npy").unlink()
    assert told.returncode == 0, told.stderr
    most = json.loads(told.stdout.splitlines()[-1])
    print({stage: round(value) for stage, value in most.items()})
    assert set(most) == {"reading", "statistics", "training"}
    assert max(most.values()) < LIMIT, most
    # Looking through a file, and the statistics of it, go in blocks that have nothing to do with its size.
    assert most["reading"] < 100 and most["statistics"] < 200, most
