"""Captions without blanks between words train as any others do."""

from __future__ import annotations

from pathlib import Path

import pytest

import manymatch as mm
from manymatch.data.pairs import Pairs
from manymatch.training import TrainConfig, train

pytestmark = pytest.mark.slow

CHANCE = 2 * 100 * (1 + 5 + 10) / 100
"""RSUM of a hundred images whose order is drawn; with five captions an image it is as good as that."""


def test_chinese_captions_of_photographs_are_learned(reference: Path, tmp_path: Path) -> None:
    folder = reference / "data" / "flickr8k"
    pairs = Pairs.read(
        folder / "captions.jsonl",
        features=folder / "mobilenetv2_regions9_pca256_i8.npz",
        fields={"captions": "captions_zh"},
    )
    training, held = pairs.split("train").take(range(600)), pairs.split("test").take(range(100))
    model = mm.method("vsepp", dim=256, word_dim=128, batch=64).build(training)
    words = model.texts.vocabulary.words
    assert {"狗", "人"} <= set(words) and max(map(len, words)) < 12, "characters, and a few Latin words"
    model = train(model, training, out=tmp_path / "run", config=TrainConfig(epochs=4), say=None)
    rows = mm.evaluate(model, held).rows
    (rsum,) = (row["value"] for row in rows if row["metric"] == "RSUM")
    assert rsum > 3 * CHANCE, rsum
