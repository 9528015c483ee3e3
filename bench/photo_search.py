"""Search on indexed photos, end to end in process, and whether it gives what `evaluate` ranks.

    python bench/photo_search.py RUN DATA_FOLDER [--captions 200]

Indexes the 1,000 test photos of Flickr8k with the run, asks with captions (words to hits: tokenise, encode, score,
order, read the hits' metadata), and compares each first ten with the order in which `evaluate` ranks: the exact one of
the run's float32 embeddings, corrected by the run's query bank where it has one.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

import manymatch as mm
from manymatch.evaluation.banking import biases_of, usable_banks
from manymatch.evaluation.encoding import encode, scores_of
from manymatch.methods import Model


def ranked(model: Model, pairs: mm.Pairs, count: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and rows of the first ten images of every step-th caption, as `evaluate` ranks them."""
    encoded = encode(model, pairs, 256, None)
    banks, notes = usable_banks([model], ["the run"], pairs, None)
    print("; ".join(notes) or "raw scores: the run has no query bank")
    source = scores_of([model], [encoded], pairs, None, biases_of([model], [encoded], pairs, banks))
    scores = np.concatenate([part for _, part in source.rows("t2i")])[::step][:count]
    rows = np.argsort(-scores, axis=1, kind="stable")[:, :10]
    return np.take_along_axis(scores, rows, axis=1), rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--captions", type=int, default=200)
    asked = parser.parse_args()
    model = mm.load(asked.run)
    test = mm.Pairs.read(
        asked.data / "captions.jsonl",
        images=asked.data / "images_160.tar",
        features=asked.data / "mobilenetv2_regions9_pca256_i8.npz",
        pooled=asked.data / "mobilenetv2_pool_u8.npy",
    ).split("test")
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        mm.Index.build(model, test, Path(folder) / "x").close()
        print(f"{model.summary}; indexed in {time.perf_counter() - began:.1f} s")
        began = time.perf_counter()
        index = mm.Index.open(Path(folder) / "x")
        index.search("a dog", k=10)
        print(f"opened, run loaded and asked once in {time.perf_counter() - began:.2f} s")
        step = max(1, len(test.captions) // asked.captions)
        queries = test.captions[::step][: asked.captions]
        scores, rows = ranked(model, test, len(queries), step)
        times, equal, worst = [], 0, 0.0
        for n, query in enumerate(queries):
            began = time.perf_counter()
            hits = list(index.search(query, k=10))
            times.append(1000 * (time.perf_counter() - began))
            equal += [h.id for h in hits] == [test.image_ids[r] for r in rows[n].tolist()]
            worst = max(worst, float(np.abs(np.array([h.score for h in hits]) - np.asarray(scores[n])).max()))
        index.close()
    print(f"{'captions':>9}{'p50 ms':>9}{'p99 ms':>9}{'same ten, same order':>22}{'largest move of a score':>25}")
    p50, p99 = np.quantile(times, [0.5, 0.99])
    print(f"{len(queries):>9}{p50:>9.1f}{p99:>9.1f}{equal:>22}{worst:>25.1e}")


if __name__ == "__main__":
    main()
