"""Heads and pools with the weights of whole official systems, on what their backbones gave: embeddings as recorded."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from manymatch.draws import recorded
from manymatch.embeddings import Samples, Sets
from manymatch.encoders.base import Locals
from manymatch.encoders.context import ContextPool
from manymatch.encoders.gaussians import SampleHead, TokenGaussianHead
from manymatch.encoders.heads import SetHead, SlotAttention
from manymatch.encoders.necks import MeanNeck, RegionProjector
from manymatch.encoders.pie import PIEHead
from manymatch.encoders.pooling import TopMeanPool, max_pool
from manymatch.runs.importers.dive import SLOT_BLOCK
from manymatch.runs.importers.pcme import ELEMENT_HEAD
from official_names import CONTEXT

pytestmark = pytest.mark.slow
Weights = dict[str, torch.Tensor]


def weights_of(folder: Path) -> Any:
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(folder / "checkpoint.pth", weights_only=True)


def arrays(folder: Path, name: str) -> Weights:
    with np.load(folder / f"{name}.npz") as file:
        return {k: torch.from_numpy(file[k]) for k in file if file[k].dtype.kind in "fibu"}


def fill(module: nn.Module, weights: Weights, names: dict[str, str]) -> None:
    """Their weights under our names; every weight of the module must get one."""
    state = {}
    for key, value in weights.items():
        start = max((n for n in names if key.startswith(n)), key=len, default=None)
        if start is not None:
            state[names[start] + key[len(start) :]] = value
    module.load_state_dict(state)
    module.eval()


def cells(grid: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, c, h, w) -> (n, h * w, c) and all valid."""
    flat = grid.flatten(2).transpose(1, 2)
    return flat, torch.ones(flat.shape[:2], dtype=torch.bool)


def close(one: torch.Tensor, other: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(one, other, rtol=0, atol=atol)


def test_pcmepp_token_heads(reference: Path) -> None:
    folder = reference / "parity" / "pcmepp_heads"
    weights, inputs, expected = weights_of(folder)["state_dict"], arrays(folder, "inputs"), arrays(folder, "expected")
    sides = {
        "img": {
            "img_enc.image_encoder.fc.": "mean.",
            "img_enc.image_encoder.gpool.": "mean_pool.",
            "img_enc.image_std_encoder.fc.": "log_variance.",
            "img_enc.image_std_encoder.gpool.": "log_variance_pool.",
        },
        "cap": {
            "txt_enc.linear.": "mean.",
            "txt_enc.gpool.": "mean_pool.",
            "txt_enc.std_linear.": "log_variance.",
            "txt_enc.std_gpool.": "log_variance_pool.",
        },
    }
    tokens = {"img": inputs["image_tokens"], "cap": inputs["caption_tokens"]}
    valid = {
        "img": torch.ones(tokens["img"].shape[0], tokens["img"].shape[2], dtype=torch.bool),
        "cap": torch.arange(tokens["cap"].shape[2]) < inputs["caption_lengths"][:, None],
    }
    for side, names in sides.items():
        head = TokenGaussianHead(tokens[side].shape[-1], 32, context_heads=0)
        fill(head, weights, names)
        encoded = head.of_streams(tokens[side][:, 0], tokens[side][:, 1], valid[side])
        close(encoded.tensor("mean"), expected[f"{side}_mean"])
        close(encoded.tensor("log_variance"), expected[f"{side}_std"])


def test_pcme_image_samples(reference: Path) -> None:
    folder = reference / "parity" / "pcme_coco"
    with np.load(folder / "expected.npz") as file:
        expected = {k: torch.from_numpy(file[k]) for k in file if k.startswith("img_")}
    weights = weights_of(folder)["model"]
    neck, head = MeanNeck(512, 32, spread=True), SampleHead(512, 32, side="image", spread=True)
    fill(neck, weights, {"img_enc.fc.": "fc.", "img_enc.uncertain_net.fc2.": "spread_fc."})
    names = {f"img_enc.pie_net.{theirs}": f"mean.{ours}" for theirs, ours in ELEMENT_HEAD.items()}
    names |= {
        f"img_enc.uncertain_net.{theirs}": f"uncertainty.{ours}"
        for theirs, ours in ELEMENT_HEAD.items()
        if ours != "norm."
    }
    fill(head, weights, names)
    with recorded({"image noise.0": expected["img_eps"]}):
        encoded = head(neck(*cells(expected["img_grid"])))
    close(encoded.tensor("mean"), expected["img_mu"], 5e-5)
    close(encoded.tensor("log_sigma"), expected["img_logsigma"], 5e-5)
    assert isinstance(encoded.embedding, Samples)
    close(encoded.embedding.vectors, expected["img_samples"], 5e-5)


def test_pvse_image_sets(reference: Path) -> None:
    folder = reference / "parity" / "pvse_coco_k2"
    weights, expected = weights_of(folder)["model"], arrays(folder, "expected")
    neck, head = MeanNeck(512, 32), PIEHead(512, 32, elements=2)
    fill(neck, weights, {"img_enc.fc.": "fc."})
    fill(head, weights, {f"img_enc.pie_net.{theirs}": f"net.{ours}" for theirs, ours in ELEMENT_HEAD.items()})
    encoded = head(neck(*cells(expected["img_grid"])))
    assert isinstance(encoded.embedding, Sets)
    close(encoded.embedding.elements, expected["img_embs"], 5e-5)
    close(encoded.tensor("residual"), expected["img_residual"], 5e-5)


def test_dive_sets_on_a_grid(reference: Path) -> None:
    folder = reference / "parity" / "dive_grid_resnet18"
    weights, expected = weights_of(folder)["model"], arrays(folder, "expected")
    projector = RegionProjector(512, 32, 16)
    names = {"fc.": "fc.", "mlp.fc1.": "inner.", "mlp.bn.bn.": "norm.", "mlp.fc2.": "outer."}
    fill(projector, weights, {f"img_enc.{theirs}": ours for theirs, ours in names.items()})
    head = SetHead(SlotAttention(32, 32, hidden=128, positions="grid", mode="released"), 32)
    slots = {f"img_enc.spm.agg_block.{theirs}": f"slots.{ours}" for theirs, ours in SLOT_BLOCK.items()}
    fill(head, weights, {"img_enc.spm.residual_norm.": "global_norm.", **slots})
    raw, valid = cells(expected["img_grid"])
    local = projector(raw)
    encoded = head(Locals(local, valid, max_pool(local, valid)))
    assert isinstance(encoded.embedding, Sets)
    close(encoded.embedding.elements, expected["img_embs"], 5e-5)


@pytest.mark.parametrize("set_of", ["", "varlen_"])
def test_hrem_images_in_context(reference: Path, set_of: str) -> None:
    folder = reference / "parity" / "hrem_region_bert"
    weights, inputs, expected = weights_of(folder)["model"][0], arrays(folder, "inputs"), arrays(folder, "expected")
    if set_of:
        inputs = arrays(folder, "train_batch")
    projector = RegionProjector(256, 64, 32, form="vse_infty")
    names = {"fc.": "fc.", "mlp.layers.0.": "inner.", "mlp.bns.0.": "norm.", "mlp.layers.1.": "outer."}
    fill(projector, weights, {f"fc.{theirs}": ours for theirs, ours in names.items()})
    pool = ContextPool(64, initial=TopMeanPool(2, mode="released"))
    fill(pool, weights, {f"aggr.layers.0.{theirs}": f"context.{ours}" for theirs, ours in CONTEXT.items()})
    vectors = inputs["image_features"]
    valid = torch.arange(vectors.shape[1]) < inputs["image_lengths"][:, None]
    pooled = pool(projector(vectors), valid)
    close(functional.normalize(pooled, dim=-1), expected[f"{set_of}img_embs"])
