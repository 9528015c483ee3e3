"""A run without training: words and items become sets or points by hashing, so equal words get equal embeddings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from manymatch import runs
from manymatch.data import Item, Pairs
from manymatch.embeddings import Embedding, Points, Sets
from manymatch.similarity import Cosine, SmoothChamfer


class Folderless:
    """Pictures kept in memory, each of its own colour."""

    def __init__(self, count: int) -> None:
        self.count = count

    def open(self, name: str) -> Image.Image:
        return Image.new("RGB", (8, 8), (int(name) % 256, int(name) // 256, 0))

    def read(self, name: str) -> bytes:
        return self.open(name).tobytes()

    def names(self) -> Sequence[str]:
        return [str(n) for n in range(self.count)]

    def describe(self) -> dict[str, Any]:
        return {"kind": "memory", "count": self.count}


class FakeModel:
    """Stands in for `Model`: words of a caption, and the words an image was drawn from, mixed by hashing."""

    name = "fake"

    def __init__(self, kind: str = "sets", *, k: int = 4, d: int = 16, seed: int = 0, reads: str = "pixels") -> None:
        self.settings = {"kind": kind, "k": k, "d": d, "seed": seed, "reads": reads}
        self.similarity = SmoothChamfer() if kind == "sets" else Cosine()
        self.image_input = reads
        self.encoded: list[Any] = []

    def fingerprint(self) -> str:
        return hashlib.sha256(json.dumps(self.settings).encode()).hexdigest()

    def prepare_images(self, images: Any) -> Any:
        return images

    def knows(self, text: str) -> bool:
        return text != "zzz"

    def encode_texts(self, texts: Sequence[str]) -> Embedding:
        self.encoded.append(list(texts))
        return self._embed([text.split() for text in texts])

    def encode_images(self, images: Any) -> Embedding:
        if hasattr(images, "items"):
            return self._embed([[f"image-{item.id}", *" ".join(item.captions).split()] for item in images.items])
        self.encoded.append(list(images))
        opened = [image if isinstance(image, Image.Image) else Image.open(image) for image in images]
        return self._embed([[f"pixel-{image.getpixel((0, 0))}"] for image in opened])

    def _embed(self, items: Sequence[Sequence[str]]) -> Embedding:
        k, d = (self.settings["k"] if self.settings["kind"] == "sets" else 1), self.settings["d"]
        drawn = torch.stack([sum(_vector(f"{w}/{self.settings['seed']}", k * d) for w in words) for words in items])
        unit = torch.nn.functional.normalize(drawn.view(len(items), k, d), dim=-1)
        return Sets(unit) if self.settings["kind"] == "sets" else Points(unit[:, 0])


def _vector(word: str, size: int) -> torch.Tensor:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "little")
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(size).astype(np.float32))


WORDS = ["red", "blue", "green", "circle", "square", "star", "above", "below"]
WORDS += ["small", "large", "cat", "dog", "snow", "hat", "tree", "house"]


def some_pairs(count: int, *, seed: int = 0, captions: int = 2, start: int = 0, pictures: bool = True) -> Pairs:
    """`count` images called p0, p1, ..., each with captions of four words."""
    rng = np.random.default_rng(seed)
    items = [
        Item(
            f"p{n}",
            tuple(" ".join(rng.choice(WORDS, 4)) for _ in range(captions)),
            labels=(str(rng.choice(WORDS)),),
            metadata={"year": 2000 + n % 20},
            picture=str(n),
            row=n,
        )
        for n in range(start, start + count)
    ]
    return Pairs(items, pictures=Folderless(count) if pictures else None)


def keep_runs(monkeypatch: Any) -> None:
    """Let fakes be saved into an index and loaded from it again."""

    def save_search(model: FakeModel, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text(json.dumps(model.settings))

    def load(folder: Path, **how: Any) -> FakeModel:
        settings = json.loads((folder / "run.json").read_text())
        return FakeModel(settings.pop("kind"), **settings)

    monkeypatch.setattr(runs, "save_search", save_search)
    monkeypatch.setattr(runs, "load", load)


def brute(model: FakeModel, query: Embedding, gallery: Embedding, ids: Sequence[str]) -> list[tuple[str, float]]:
    """Every id with its score, best first, ties in the order of ids given."""
    scores = model.similarity(query, gallery)[0].tolist()
    return sorted(zip(ids, scores, strict=True), key=lambda pair: -pair[1])


def same_order(found: Sequence[Any], expected: Sequence[tuple[str, float]], within: float) -> Iterator[str]:
    """What differs between hits and the expected order, swaps of nearly equal scores allowed."""
    scores = dict(expected)
    if len(found) > len(expected):
        yield f"{len(found)} hits, expected at most {len(expected)}"
    for hit, (_, score) in zip(found, expected, strict=False):
        if abs(scores[hit.id] - score) > within:
            yield f"rank {hit.rank}: {hit.id} scores {scores[hit.id]}, expected {score}"
        if abs(hit.score - scores[hit.id]) > within:
            yield f"{hit.id}: score {hit.score}, expected {scores[hit.id]}"
