"""DivE's checkpoints (kdwonn/DivE): region features or a ResNet's grid, with a BiGRU."""

from __future__ import annotations

from ...data.text import Vocabulary
from ...encoders import ImageInput, TextInput
from ...errors import CheckpointError
from ..official_files import OfficialCheckpoint
from .base import Importer, Sizes, State

__all__ = ["IMPORTER"]

_HEADS = 4
"""Not an option there."""
_REGIONS = 36
_SLOTS = {
    "latents": "slots",
    "layers.0.0.norm.": "slot_norm.",
    "layers.0.0.norm_context.": "input_norm.",
    "layers.0.0.fn.to_q.": "query.",
    "layers.0.0.fn.to_k.": "key.",
    "layers.0.0.fn.to_v.": "value.",
    "layers.0.0.fn.to_out.0.": "out.0.",
    "layers.0.2.norm.": "feed_forward.0.",
    "layers.0.2.fn.net.0.": "feed_forward.1.",
    "layers.0.2.fn.net.3.": "feed_forward.4.",
    "last_layer.0.": "last_norm.",
}
_SIDES = {"img_enc.": "images.", "txt_enc.": "texts."}
_NAMES = {
    "img_enc.cnn.": "images.backbone.",
    "img_enc.fc.": "images.neck.projector.fc.",
    "img_enc.mlp.fc1.": "images.neck.projector.inner.",
    "img_enc.mlp.bn.bn.": "images.neck.projector.norm.",
    "img_enc.mlp.fc2.": "images.neck.projector.outer.",
    "txt_enc.embed.": "texts.words.",
    "txt_enc.rnn.": "texts.gru.",
    **{f"{theirs}spm.residual_norm.": f"{ours}head.global_norm." for theirs, ours in _SIDES.items()},
    **{
        f"{theirs}spm.agg_block.{key}": f"{ours}head.slots.{value}"
        for theirs, ours in _SIDES.items()
        for key, value in _SLOTS.items()
    },
}


def _sizes(checkpoint: OfficialCheckpoint, state: State, words: Vocabulary) -> Sizes:
    # One block is applied `spm_depth` times; the file repeats it under each layer's name.
    block = "img_enc.spm.agg_block."
    try:
        query, feed = state[block + "layers.0.0.fn.to_q.weight"], state[block + "layers.0.2.fn.net.0.weight"]
        projector, inner = state["img_enc.fc.weight"], state["img_enc.mlp.fc1.weight"]
        slots, table = state[block + "latents"], state["txt_enc.embed.weight"]
    except KeyError as error:
        raise CheckpointError(f"checkpoint: {checkpoint.path!r} has no {error}; expected DivE with a BiGRU") from None
    if len(words) != len(table):
        raise CheckpointError(
            f"vocabulary: {len(words)} words, but {checkpoint.path!r} was trained on {len(table)}; give its own"
        )
    grid = "img_enc.cnn.conv1.weight" in state
    settings = {
        "preset": "published",
        "standardise": False,
        "dim": projector.shape[0],
        "hidden": inner.shape[0],
        "word_dim": table.shape[1],
        "elements": slots.shape[0],
        "iterations": checkpoint.option("spm_depth"),
        "heads": _HEADS,
        "head_width": query.shape[0] // _HEADS,
        "slot_hidden": feed.shape[0],
        "alpha": checkpoint.option("temperature"),
        "margin": checkpoint.option("margin"),
        "dropout": checkpoint.option("dropout"),
        "region_drop": checkpoint.option("grid_drop_prob" if grid else "butd_drop_prob"),
        "word_drop": checkpoint.option("caption_drop_prob"),
        "mmd_weight": checkpoint.option("mmd_weight"),
        "diversity_weight": checkpoint.option("unif_weight"),
        "grid": grid and checkpoint.option("spm_img_pos_enc_type") == "sine",
    }
    if grid:
        images = ImageInput(checkpoint.option("cnn_type"), size=checkpoint.option("crop_size"))
    else:
        images = ImageInput("features", fragments=_REGIONS, fragment_width=projector.shape[1])
    return Sizes(settings, images, TextInput("bigru", words))


IMPORTER = Importer(
    "dive",
    _NAMES,
    _sizes,
    left_out=tuple(f"{side}spm.agg_block.layers.{n}." for side in _SIDES for n in range(1, 10)),
    expected={
        "arch": "slot",
        "loss": "smooth_chamfer",
        "eval_similarity": "smooth_chamfer",
        "denominator": 2.0,
        "use_bert": False,
        "spm_weight_sharing": True,
        "spm_pre_norm": True,
        "spm_last_ln": True,
        "spm_residual": True,
        "spm_residual_norm": True,
        "spm_residual_activation": "none",
        "spm_activation": "gelu",
        "spm_txt_pos_enc_type": "sine",
        "txt_attention_input": "wemb",
        "txt_pooling": "rnn",
        "img_res_pool": "max",
        "query_slot": False,
    },
    mask=True,
)
