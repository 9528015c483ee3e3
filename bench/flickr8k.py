"""Methods on Flickr8k with small frozen features: RSUM, set health, minutes and memory, one row a run.

    python bench/flickr8k.py DATA_FOLDER --out runs/flickr8k [--row NAME:SEED ...] [--threads 2]

DATA_FOLDER holds captions.jsonl, the two MobileNetV2 feature files and images_160.tar. Every row is one
`manymatch train` with the settings printed; finished runs are read, not trained again. The best epoch is chosen on
val, test is measured once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROWS: dict[str, tuple[str, list[str]]] = {
    "cca": ("cca", []),
    **{name: (name, []) for name in ("vsepp", "vse_infty", "pvse", "pcme", "pcmepp", "p2rm", "dive", "hrem", "msrm")},
    "pcme-mean": ("pcme", ["compare=mean"]),
    "dive-published": ("dive", ["preset=published", "epochs=4"]),
    "dive-pixels": ("dive", ["epochs=6"]),
}


def train(name: str, seed: int, data: Path, out: Path, threads: int) -> dict[str, object]:
    """One run in its own process; its facts, from `run.json` and a note of this bench beside it."""
    method, settings = ROWS[name]
    run = out / f"{name}-{seed}"
    note = run / "bench.json"
    if not note.is_file():
        command = ["train", method, str(data / "captions.jsonl"), "--out", str(run), "--resume"]
        if name == "dive-pixels":
            command += ["--images", str(data / "images_160.tar")]
        else:
            command += ["--features", str(data / "mobilenetv2_regions9_pca256_i8.npz")]
            command += ["--pooled", str(data / "mobilenetv2_pool_u8.npy")]
        for setting in [*settings, f"seed={seed}"]:
            command += ["--set", setting]
        print(" ".join(["manymatch", *command]), file=sys.stderr, flush=True)
        began = time.perf_counter()
        child = subprocess.Popen(
            [sys.executable, "-m", "manymatch", *command], env={**os.environ, "OMP_NUM_THREADS": str(threads)}
        )
        _, status, used = os.wait4(child.pid, 0)
        if status:
            raise SystemExit(f"{name}: training failed")
        seconds, peak = time.perf_counter() - began, used.ru_maxrss / 2**20
        note.write_text(json.dumps({"minutes": seconds / 60, "peak_gib": peak, "threads": threads}))
    return {"run": run, **json.loads(note.read_text())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/flickr8k"))
    parser.add_argument("--row", action="append", help="NAME:SEED; default: cca, and one seed of each other")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    rows = asked.row or [f"{name}:0" for name in ROWS]

    import manymatch as mm

    features = {
        "features": asked.data / "mobilenetv2_regions9_pca256_i8.npz",
        "pooled": asked.data / "mobilenetv2_pool_u8.npy",
        "images": asked.data / "images_160.tar",
    }
    test = mm.Pairs.read(asked.data / "captions.jsonl", **features).split("test")
    head = f"{'run':<18}{'objective':>10}{'i2t R@1':>9}{'t2i R@1':>9}{'val RSUM':>10}{'test RSUM':>10}"
    print(head + f"{'log var i/t':>15}{'minutes':>9}{'GiB':>6}{'threads':>9}", flush=True)
    for row in rows:
        name, _, seed = row.partition(":")
        facts = train(name, int(seed or 0), asked.data, asked.out, asked.threads)
        model = mm.load(str(facts["run"]))
        report = mm.evaluate(model, test, protocol="own")
        health = [r["value"] for r in report.rows if r["metric"] == "log circular variance"]
        notes = model.notes
        val = (notes.get("best") or notes.get("validation"))["RSUM"]
        print(
            f"{row:<18}{notes.get('objective', 'closed'):>10}{report.value('R@1', 'i2t'):>9.1f}"
            f"{report.value('R@1', 't2i'):>9.1f}{val:>10.1f}{report.value('RSUM', 'both'):>10.1f}"
            f"{' / '.join(f'{v:.2f}' for v in health) or '-':>15}{facts['minutes']:>9.1f}{facts['peak_gib']:>6.1f}"
            f"{facts['threads']:>9}",
            flush=True,
        )


if __name__ == "__main__":
    main()
