"""How far storing embeddings in float16 moves a cosine, by width. Largest move over random unit vectors.

python bench/precision.py
"""

from __future__ import annotations

import torch
from torch.nn import functional

from manymatch.embeddings import Points, Sets
from manymatch.similarity import Cosine, SmoothChamfer


def move(kind: str, width: int, items: int = 1000) -> float:
    """Largest absolute difference of any score between float32 and float16 storage."""
    draw = torch.Generator().manual_seed(width)
    shape = (items, width) if kind == "points" else (items, 4, width)
    vectors = functional.normalize(torch.randn(*shape, generator=draw), dim=-1)
    # Half of each gallery item is its query, so that scores are as large as those that decide a search.
    near = functional.normalize(vectors + functional.normalize(torch.randn(*shape, generator=draw), dim=-1), dim=-1)
    make, similarity = (Points, Cosine()) if kind == "points" else (Sets, SmoothChamfer())
    with torch.inference_mode():
        exact = similarity(make(vectors), make(near))
        stored = similarity(make(vectors), make(near.half().float()))
    return float((exact - stored).abs().max())


def main() -> None:
    print(f"{'width':>6}{'points':>10}{'sets of 4':>11}")
    for width in (64, 128, 256, 512, 1024):
        print(f"{width:>6}{move('points', width):>10.1e}{move('sets', width):>11.1e}")


if __name__ == "__main__":
    main()
