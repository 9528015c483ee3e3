"""A recorded case of an official implementation: its files, the model of its checkpoint, and how both are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from manymatch.data.features import Features, Pixels
from manymatch.data.matches import Matches
from manymatch.embeddings import Embedding
from manymatch.encoders.resnet import IMAGENET_MEAN, IMAGENET_STD
from manymatch.evaluation import hit_rate, mean_rank, median_rank, rank
from manymatch.methods import Model
from manymatch.runs.importers import importer
from manymatch.runs.official_files import read_official, read_vocabulary

Values = dict[str, Any]


def load(path: Path) -> Values:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def close(ours: Any, theirs: Any, tolerance: float = 1e-5, *, share: float = 0.0) -> None:
    """Raises AssertionError where they differ by more than `tolerance`, or by this share of theirs."""
    ours = ours.detach().numpy() if isinstance(ours, Tensor) else ours
    np.testing.assert_allclose(ours, theirs, rtol=share, atol=tolerance)


def pixels(raw: np.ndarray[Any, Any]) -> Pixels:
    """Raw pixels (n, h, w, 3) uint8 as published backbones read them."""
    array = (raw / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
    return Pixels(array.astype(np.float32).transpose(0, 3, 1, 2))


def still(model: Model, **fields: Any) -> Model:
    """A copy in training mode of which nothing is dropped, with these fields of the method changed."""
    value = model.describe()
    nothing = dict.fromkeys(("dropout", "feature_dropout", "region_drop", "word_drop"), 0.0)
    texts = dict(value["texts"])
    if "config" in texts:
        texts["config"] = {**texts["config"], "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    copy = Model.from_description({**value, "fields": {**value["fields"], **nothing, **fields}, "texts": texts})
    copy.load_search_state(model.search_state())
    return copy.train()


def seen(model: Model, module: str, images: Features | Pixels) -> tuple[Any, Any]:
    """What a module of the image tower is given, and gives, for these images."""
    found: list[tuple[Any, Any]] = []
    handle = model.get_submodule(module).register_forward_hook(lambda _, given, out: found.append((given, out)))
    with handle, torch.inference_mode():
        model.images(images)
    ((given, out),) = found
    return given, out


@dataclass(frozen=True)
class Case:
    """What is recorded of one system, and the model that its checkpoint becomes."""

    name: str
    system: str
    model: Model
    inputs: Values
    train: Values
    expected: Values
    captions: list[str]

    @classmethod
    def read(cls, reference: Path, name: str, system: str, vocabulary: str | None) -> Case:
        """The case of that folder; `vocabulary` names its file, None leaves it to the checkpoint."""
        folder = reference / "parity" / name
        words = None if vocabulary is None else read_vocabulary(folder / vocabulary)
        model = importer(system).build(read_official(folder / "checkpoint.pth"), words)
        train = folder / "train_batch.npz"
        return cls(
            name,
            system,
            model,
            load(folder / "inputs.npz"),
            load(train) if train.exists() else {},
            load(folder / "expected.npz"),
            (folder / "captions.txt").read_text().splitlines(),
        )

    def images(self) -> Features | Pixels:
        """The images that are evaluated."""
        if "images_uint8" in self.inputs:
            return pixels(self.inputs["images_uint8"])
        return Features(self.inputs["image_features"], lengths=self.inputs["image_lengths"])

    def texts(self, *, alone: bool = False) -> Embedding:
        """Embeddings of the captions, each alone or padded in their recorded chunks."""
        size = 1 if alone else int(self.inputs["eval_batch_size"])
        return self.model.encode_texts(self.captions, batch_size=size)


def check_ranks(
    similarity: Any, images: Embedding, texts: Embedding, owners: np.ndarray[Any, Any], expected: Values, name: str = ""
) -> None:
    """R@1, R@5, R@10, median and mean rank, every query's rank and its first item, both directions."""
    matches = Matches.of(images=owners, captions=np.arange(len(owners)), shape=(len(images), len(texts)))
    scores = similarity(images, texts).detach()
    for way, ranks, rows in zip(
        ("i2t", "t2i"), rank(similarity, images, texts, matches), (scores, scores.T), strict=True
    ):
        found = [*(hit_rate(ranks, k) * 100 for k in (1, 5, 10)), median_rank(ranks), mean_rank(ranks)]
        close(found, expected[f"{way}{name}"], 1e-5)
        if f"{way}_ranks" in expected:
            close(np.minimum.reduceat(ranks.above, ranks.indptr[:-1]), expected[f"{way}_ranks"], 0)
        if f"{way}_top1" in expected:
            close(rows.argmax(dim=1), expected[f"{way}_top1"], 0)


def check_norms(ours: Mapping[str, Tensor], names: Any, norms: Any, tolerance: float, share: float) -> None:
    """Norms of tensors by our name against recorded ones in the same order; every one of ours must be among them."""
    assert sorted(ours) == sorted(names)
    for name, norm in zip(names, norms.tolist(), strict=True):
        found = float(ours[name].detach().double().norm())
        assert abs(found - norm) <= tolerance + share * norm, f"{name}: {found}, expected {norm}"
