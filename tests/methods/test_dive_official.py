"""DivE whole against recorded outputs of the official implementation: sets, scores and every loss term."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import manymatch as mm
from manymatch.data.features import Features
from manymatch.data.text import Tokens, Vocabulary
from manymatch.embeddings import Sets
from manymatch.encoders import ImageInput, TextInput
from manymatch.methods import Batch, Model
from official_names import SLOT_BLOCK

pytestmark = pytest.mark.slow

OURS = {
    "img_enc.fc.": "images.neck.projector.fc.",
    "img_enc.mlp.fc1.": "images.neck.projector.inner.",
    "img_enc.mlp.bn.bn.": "images.neck.projector.norm.",
    "img_enc.mlp.fc2.": "images.neck.projector.outer.",
    "txt_enc.embed.": "texts.words.",
    "txt_enc.rnn.": "texts.gru.",
}
for theirs, ours in (("img_enc", "images"), ("txt_enc", "texts")):
    OURS[f"{theirs}.spm.residual_norm."] = f"{ours}.head.global_norm."
    OURS |= {f"{theirs}.spm.agg_block.{k}": f"{ours}.head.slots.{v}" for k, v in SLOT_BLOCK.items()}


def renamed(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Their names to ours; layers 1 to 3 repeat layer 0 (one block, shared)."""
    out = {}
    for key, value in weights.items():
        starts = [start for start in OURS if key.startswith(start)]
        if starts:
            longest = max(starts, key=len)
            out[OURS[longest] + key[len(longest) :]] = value
    return out


@pytest.fixture(scope="module")
def case(reference: Path) -> Path:
    return reference / "parity" / "dive_butd_bigru"


@pytest.fixture
def model(case: Path) -> Model:
    with torch.serialization.safe_globals([argparse.Namespace]):
        weights = torch.load(case / "checkpoint.pth", weights_only=True)["model"]
    small = {"dim": 32, "word_dim": 32, "hidden": 16, "slot_hidden": 128}
    off = {"dropout": 0.0, "region_drop": 0.0, "word_drop": 0.0}
    method = mm.method("dive", preset="published", mode="released", standardise=False, **small, **off)
    words = Vocabulary(tuple(str(n) for n in range(len(weights["txt_enc.embed.weight"]) - 3)))
    out = Model(method, ImageInput("features", fragments=36, fragment_width=2048), TextInput("bigru", words))
    state = renamed(weights)
    out.load_state_dict({**out.state_dict(), **state})
    assert set(out.search_state()) == set(state)
    return out.eval()


def load(path: Path) -> dict[str, Any]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def test_sets_and_scores(model: Model, case: Path) -> None:
    inputs, expected = load(case / "inputs.npz"), load(case / "expected.npz")
    images = model.encode_images(Features(inputs["image_features"], lengths=inputs["image_lengths"]))
    assert isinstance(images, Sets)
    np.testing.assert_allclose(images.elements, expected["img_embs"], rtol=0, atol=1e-5)
    lengths = inputs["caption_lengths"]
    with torch.inference_mode():
        # Released mode depends on padding: all captions in one batch, as recorded, and each alone.
        texts = model.texts(Tokens(inputs["token_ids"][:, : lengths.max()], lengths)).embedding
        alone = [
            model.texts(Tokens(i[None, :n], np.array([n]))) for i, n in zip(inputs["token_ids"], lengths, strict=True)
        ]
    np.testing.assert_allclose(texts.tensors()["elements"], expected["txt_embs"], rtol=0, atol=1e-5)
    singles = Sets.concat([a.embedding for a in alone])  # type: ignore[misc]
    np.testing.assert_allclose(singles.elements, expected["txt_embs_alone"], rtol=0, atol=1e-5)
    assert np.abs(expected["txt_embs"] - expected["txt_embs_alone"]).max() > 1e-3
    np.testing.assert_allclose(model.similarity(images, texts).detach(), expected["scores"], rtol=0, atol=1e-5)


def test_loss_terms_and_gradients(model: Model, case: Path) -> None:
    recorded, expected = load(case / "train_batch.npz"), load(case / "expected.npz")
    rows = recorded["recovery"]
    tokens = Tokens(recorded["token_ids_sorted"][rows], recorded["caption_lengths_sorted"][rows])
    images = Features(recorded["image_features"], lengths=recorded["image_lengths"])
    matches = torch.arange(4)[:, None] == torch.arange(20)[None] // 5
    model.train()
    terms = model.training_step(Batch(images, tokens, matches))
    wanted = {
        "loss": expected["loss"],
        "triplet": expected["loss_i2t"] + expected["loss_t2i"],
        "mmd": expected["loss_mmd"],
        "diversity": expected["loss_unif"],
    }
    for name, value in wanted.items():
        assert float(terms[name].detach()) == pytest.approx(float(value), rel=1e-4), name
    terms["loss"].backward()
    norms = dict(zip(expected["grad_names"].tolist(), expected["grad_norms"].tolist(), strict=True))
    ours = dict(model.named_parameters())
    for theirs, norm in norms.items():
        (name,) = renamed({theirs: torch.zeros(())}) or (None,)
        if name is not None and name in ours:
            grad = ours[name].grad
            assert grad is not None and float(grad.norm()) == pytest.approx(norm, rel=1e-3, abs=1e-6), theirs
