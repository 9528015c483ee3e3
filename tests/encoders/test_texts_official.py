"""Text towers alone against recorded caption embeddings of the official implementations."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from manymatch.data.official_text import read_vocabulary
from manymatch.encoders import BertTower, BiGRUTower, ContextPool, Head, PointHead, TextInput, TextTower
from manymatch.encoders.gaussians import SampleHead
from manymatch.encoders.gpo import GPO
from manymatch.encoders.pie import PIEHead

pytestmark = pytest.mark.slow

GRU = {"embed.": "words.", "rnn.": "gru."}
BERT = {"bert.": "bert.", "linear.": "linear."}
CONTEXT = {
    "aggr.layers.0.self_attn.in_proj_": "pool.context.qkv.",
    "aggr.layers.0.self_attn.out_proj.": "pool.context.out.",
    "aggr.layers.0.linear1.": "pool.context.wide.",
    "aggr.layers.0.linear2.": "pool.context.narrow.",
    "aggr.layers.0.norm1.": "pool.context.attention_norm.",
    "aggr.layers.0.norm2.": "pool.context.last_norm.",
}


def attention_of(theirs: str, ours: str) -> dict[str, str]:
    parts = {
        "attention.w_1": "attention.first",
        "attention.w_2": "attention.second",
        "fc": "linear",
        "layer_norm": "norm",
    }
    return {f"{theirs}{a}.": f"{ours}{b}." for a, b in parts.items()}


def their_text_side(folder: Path) -> dict[str, torch.Tensor]:
    with torch.serialization.safe_globals([argparse.Namespace]):
        weights = torch.load(folder / "checkpoint.pth", weights_only=True)["model"]
    if isinstance(weights, list):
        return {key.removeprefix("module."): value for key, value in weights[1].items()}
    return {k.removeprefix("txt_enc."): v for k, v in weights.items() if k.startswith("txt_enc.")}


def encoded(folder: Path, tower: TextTower, names: Mapping[str, str], leave: tuple[str, ...] = ()) -> tuple[Any, Any]:
    """What the tower makes of the case's own captions with the case's weights, and what was recorded."""
    state = {}
    for key, value in their_text_side(folder).items():
        start = max((s for s in names if key.startswith(s)), key=len, default="")
        if not key.startswith(leave):
            state[names[start] + key[len(start) :]] = value
    tower.load_state_dict(state)
    tower.eval()
    captions = (folder / "captions.txt").read_text(encoding="utf-8").splitlines()
    with torch.inference_mode(), np.load(folder / "expected.npz") as file:
        return tower(tower.tokens(captions)), {name: file[name] for name in file.files}


def words(folder: Path) -> TextInput:
    return TextInput("bigru", read_vocabulary(folder / "vocab.json").vocabulary())


def pieces(folder: Path) -> TextInput:
    config = {"vocab_size": 300, "num_hidden_layers": 1, "intermediate_size": 768}
    return TextInput("bert", read_vocabulary(folder / "vocab.txt").vocabulary(), config)


def close(ours: torch.Tensor, theirs: np.ndarray[Any, Any], tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=tolerance)


def test_vsepp(reference: Path) -> None:
    case = reference / "parity" / "vsepp_precomp_gru"
    tower = BiGRUTower(words(case), PointHead(), dim=48, word_dim=32, directions=1, pooling="last_step")
    out, expected = encoded(case, tower, GRU)
    close(out.embedding.vectors, expected["cap_embs"])


def test_vse_infty_bigru(reference: Path) -> None:
    case = reference / "parity" / "vse_infty_region_bigru"
    tower = BiGRUTower(words(case), PointHead(), dim=64, word_dim=48, pooling=GPO())
    out, expected = encoded(case, tower, {**GRU, "gpool.": "pool."})
    close(out.embedding.vectors, expected["cap_embs"])


def concatenated(case: Path, head: Head, **settings: Any) -> BiGRUTower:
    return BiGRUTower(words(case), head, dim=32, word_dim=24, fragments="words", merge="concatenate", **settings)


def test_pvse(reference: Path) -> None:
    case = reference / "parity" / "pvse_coco_k2"
    names = {**GRU, **attention_of("pie_net.", "head.net.")}
    out, expected = encoded(case, concatenated(case, PIEHead(24, 32, elements=2), pooling="final"), names)
    close(out.embedding.elements, expected["txt_embs"], 5e-5)


def test_pcme(reference: Path) -> None:
    case = reference / "parity" / "pcme_coco"
    head = SampleHead(24, 32, spread=True, side="text")
    names = {
        **GRU,
        **attention_of("pie_net.", "head.mean."),
        **attention_of("uncertain_net.", "head.uncertainty."),
        "uncertain_net.rnn.": "second_gru.",
    }
    tower = concatenated(case, head, pooling="last_step", second_gru=True)
    out, expected = encoded(case, tower, names)
    close(out.tensors["mean"], expected["cap_mu"], 5e-5)
    close(out.tensors["log_sigma"], expected["cap_logsigma"], 5e-5)


UNUSED = ("bert.pooler", "bert.embeddings.position_ids")


def test_vse_infty_bert(reference: Path) -> None:
    case = reference / "parity" / "vse_infty_region_bert"
    tower = BertTower(pieces(case), PointHead(), dim=48, pooling=GPO())
    out, expected = encoded(case, tower, {**BERT, "gpool.": "pool."}, UNUSED)
    close(out.embedding.vectors, expected["cap_embs"])


def test_hrem_bert(reference: Path) -> None:
    case = reference / "parity" / "hrem_region_bert"
    tower = BertTower(pieces(case), PointHead(), dim=64, pooling=ContextPool(64))
    out, expected = encoded(case, tower, {**BERT, **CONTEXT}, UNUSED)
    close(out.embedding.vectors, expected["cap_embs"])
