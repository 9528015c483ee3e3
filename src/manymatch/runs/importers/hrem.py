"""HREM's checkpoints (CrossmodalGroup/HREM): region features with BERT.

The script saves the two encoders alone. The graph between items, which only training needs, is its criterion's; whoever
kept `model.criterion.state_dict()` gives that file too.
"""

from __future__ import annotations

from typing import Any

from ...data.text import Vocabulary
from ...encoders import ImageInput
from ...errors import CheckpointError
from ..official_files import OfficialCheckpoint
from .base import Importer, Sizes, State, bert_input

__all__ = ["IMPORTER"]

_REGIONS = 36
_TRIPLET_MARGIN = 0.2
"""Fixed there; the option is that of the other loss."""

_SIDES = {"img_enc.": "images.neck.pool.context.", "txt_enc.": "texts.pool.context."}
_CONTEXT = {
    "self_attn.in_proj_": "qkv.",
    "self_attn.out_proj.": "out.",
    "linear1.": "wide.",
    "linear2.": "narrow.",
    "norm1.": "attention_norm.",
    "norm2.": "last_norm.",
}
_NAMES = {
    "img_enc.fc.fc.": "images.neck.projector.fc.",
    "img_enc.fc.mlp.layers.0.": "images.neck.projector.inner.",
    "img_enc.fc.mlp.bns.0.": "images.neck.projector.norm.",
    "img_enc.fc.mlp.layers.1.": "images.neck.projector.outer.",
    "txt_enc.bert.": "texts.bert.",
    "txt_enc.linear.": "texts.linear.",
    **{
        f"{theirs}aggr.layers.0.{key}": f"{ours}{value}"
        for theirs, ours in _SIDES.items()
        for key, value in _CONTEXT.items()
    },
}
_GRAPH = {
    "gnn.layers.0.self_attn.": "relation.interaction.layer.attention.",
    "gnn.layers.0.linear1.": "relation.interaction.layer.feed_forward.0.",
    "gnn.layers.0.linear2.": "relation.interaction.layer.feed_forward.3.",
    "gnn.layers.0.norm1.": "relation.interaction.layer.attention_norm.",
    "gnn.layers.0.norm2.": "relation.interaction.layer.feed_forward_norm.",
    **{
        f"adj_model.adj_learning.mlp_{way}.{theirs}.": f"relation.relevance_{way}.{ours}."
        for way in ("i2t", "t2i")
        for theirs, ours in ((0, 0), (3, 2))
    },
}


def _sizes(checkpoint: OfficialCheckpoint, state: State, words: Vocabulary) -> Sizes:
    option = checkpoint.option
    texts = bert_input(checkpoint, state, words, "txt_enc.bert.")
    dim, width = state["img_enc.fc.fc.weight"].shape
    coco = str(option("dataset")).startswith("coco")
    augmented = 0.2 if option("size_augment") else 0.0
    settings = {
        "preset": "coco" if coco else "published",
        "standardise": False,
        "dim": dim,
        "hidden": state["img_enc.fc.mlp.layers.0.weight"].shape[0],
        "region_drop": augmented,
        "word_drop": augmented,
        "sampling": "pairs",
        "batch": option("batch_size"),
        "nonzero_cut": 1.9 if coco else 1.7,
        "residual": option("residual_weight"),
        "context_heads": option("nhead"),
        "context_dropout": option("dropout"),
        "relevance": option("mask_weight"),
        "cross_consistency": bool(option("cross_loss")),
        "regularisation": option("reg_loss_weight"),
        "graph_start_steps": option("warmup"),
        **_objective(checkpoint),
    }
    return Sizes(settings, ImageInput("features", fragments=_REGIONS, fragment_width=width), texts)


def _objective(checkpoint: OfficialCheckpoint) -> dict[str, Any]:
    option = checkpoint.option
    losses = {name: option(name) for name in ("base_loss", "gnn_loss")}
    if len(set(losses.values())) > 1 or losses["base_loss"] not in ("trip", "vse"):
        raise CheckpointError(
            f"checkpoint: {checkpoint.path!r} was trained with {losses}, expected 'trip' twice or 'vse' twice"
        )
    if losses["base_loss"] == "trip":
        return {"objective": "distance_weighted", "margin": _TRIPLET_MARGIN}
    warm = option("vse_mean_warmup_epochs") / option("num_epochs") if option("max_violation") else 1.0
    return {
        "objective": "triplet",
        "margin": option("margin"),
        "reduction": "sum",
        "all_until": warm,
        "siblings": "masked" if option("mask_repeat") else "negatives",
    }


IMPORTER = Importer(
    "hrem",
    _NAMES,
    _sizes,
    # The last batch norm of their projector exists, and is never applied.
    left_out=("img_enc.fc.mlp.bns.1.", "txt_enc.bert.pooler.", "txt_enc.bert.embeddings.position_ids"),
    expected={
        "no_imgnorm": False,
        "no_txtnorm": False,
        "num_layers_enc": 1,
        "threshold": 0.5,
        "topk": 10,
        "norm_input": 1,
    },
    prefixes=("img_enc.", "txt_enc."),
    criterion=_GRAPH,
)
