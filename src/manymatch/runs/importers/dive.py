"""DivE's checkpoints (kdwonn/DivE): region features or a ResNet's grid, with a BiGRU or BERT."""

from __future__ import annotations

from typing import Any

from ...data.text import Vocabulary
from ...encoders import ImageInput, TextInput
from ...errors import CheckpointError
from ..official_files import OfficialCheckpoint
from .base import Importer, Sizes, State, bert_input, word_input

__all__ = ["IMPORTER", "SLOT_BLOCK"]

_REGIONS = 36
_CAPTIONS = 5
_BLOCK = "img_enc.spm.agg_block."
_COMPARE = {"smooth_chamfer": "smooth_chamfer", "chamfer": "chamfer", "max": "mil", "mp": "probability"}
"""Their similarities and ours."""
_BACKBONES = {"resnext_wsl": "resnext101_32x8d"}
"""What they call otherwise than we do."""
_POOLS = {"rnn": False, "cls": True, "max": True}
"""Global vectors of a text; whether it is BERT's."""

SLOT_BLOCK = {
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
"""Parts of their slot block and of ours."""
_SIDES = {"img_enc.": "images.", "txt_enc.": "texts."}
_NAMES = {
    "img_enc.cnn.": "images.backbone.",
    "img_enc.fc.": "images.neck.projector.fc.",
    "img_enc.mlp.fc1.": "images.neck.projector.inner.",
    "img_enc.mlp.bn.bn.": "images.neck.projector.norm.",
    "img_enc.mlp.fc2.": "images.neck.projector.outer.",
    "txt_enc.embed.": "texts.words.",
    "txt_enc.rnn.": "texts.gru.",
    "txt_enc.bert.": "texts.bert.",
    "txt_enc.linear.": "texts.linear.",
    **{f"{theirs}spm.residual_norm.": f"{ours}head.global_norm." for theirs, ours in _SIDES.items()},
    **{
        f"{theirs}spm.agg_block.{key}": f"{ours}head.slots.{value}"
        for theirs, ours in _SIDES.items()
        for key, value in SLOT_BLOCK.items()
    },
}


def _sizes(checkpoint: OfficialCheckpoint, state: State, words: Vocabulary) -> Sizes:
    option, grid = checkpoint.option, "img_enc.cnn.conv1.weight" in state
    projector, slots = state["img_enc.fc.weight"], state[f"{_BLOCK}latents"]
    images = ImageInput("features", fragments=_REGIONS, fragment_width=projector.shape[1])
    if grid:
        backbone = str(option("cnn_type"))
        images = ImageInput(_BACKBONES.get(backbone, backbone), size=option("crop_size"))
    texts = _texts(checkpoint, state, words)
    large = texts.tower == "bert" and images.tower.startswith("resnext")
    # Heads are no option of theirs: 4 in the code, 8 by hand where ResNeXt and BERT were trained (the authors' answer).
    heads = 8 if large else 4
    settings = {
        "preset": "resnext_bert"
        if large
        else "flickr30k"
        if str(option("data_name")).startswith("f30k")
        else "published",
        "standardise": False,
        "dim": projector.shape[0],
        "hidden": state["img_enc.mlp.fc1.weight"].shape[0],
        "elements": slots.shape[0],
        "iterations": option("spm_depth"),
        "heads": heads,
        "head_width": state[f"{_BLOCK}layers.0.0.fn.to_q.weight"].shape[0] // heads,
        "slot_hidden": state[f"{_BLOCK}layers.0.2.fn.net.0.weight"].shape[0],
        "region_drop": option("grid_drop_prob" if grid else "butd_drop_prob"),
        "word_drop": option("caption_drop_prob"),
        "grid": grid and option("spm_img_pos_enc_type") == "sine",
        **_dropout(checkpoint),
        **_text_settings(checkpoint, state, texts),
        **_objective(checkpoint),
    }
    return Sizes(settings, images, texts)


def _texts(checkpoint: OfficialCheckpoint, state: State, words: Vocabulary) -> TextInput:
    bert, pooling = "txt_enc.linear.weight" in state, checkpoint.option("txt_pooling")
    if _POOLS.get(pooling) is not bert:
        raise CheckpointError(
            f"checkpoint: {checkpoint.path!r} was trained with {'BERT' if bert else 'a GRU'} and "
            f"txt_pooling={pooling!r}, expected {sorted(k for k, v in _POOLS.items() if v is bert)}"
        )
    if bert:
        return bert_input(checkpoint, state, words, "txt_enc.bert.")
    return word_input(checkpoint, words, len(state["txt_enc.embed.weight"]))


def _text_settings(checkpoint: OfficialCheckpoint, state: State, texts: TextInput) -> dict[str, Any]:
    if texts.tower == "bert":
        return {"bert_pooling": checkpoint.option("txt_pooling")}
    return {"word_dim": state["txt_enc.embed.weight"].shape[1]}


def _dropout(checkpoint: OfficialCheckpoint) -> dict[str, Any]:
    found = {name: checkpoint.option(name) for name in ("dropout", "img_1x1_dropout")}
    if len(set(found.values())) > 1:
        raise CheckpointError(
            f"checkpoint: {checkpoint.path!r} was trained with {found}, only one number for both is imported"
        )
    return {"dropout": found["dropout"]}


def _objective(checkpoint: OfficialCheckpoint) -> dict[str, Any]:
    option = checkpoint.option
    loss, searched = option("loss"), option("eval_similarity")
    if loss != searched or loss not in _COMPARE:
        raise CheckpointError(
            f"checkpoint: {checkpoint.path!r} was trained with loss={loss!r} and eval_similarity={searched!r}, "
            f"expected twice the same of {', '.join(map(repr, _COMPARE))}"
        )
    return {
        "compare": _COMPARE[loss],
        "alpha": option("temperature"),
        "margin": option("margin"),
        "all_until": 0.0 if option("max_violation") else 1.0,
        "mmd_weight": option("mmd_weight"),
        "diversity_weight": option("unif_weight"),
        "batch": option("batch_size"),
        "captions": _CAPTIONS,
    }


IMPORTER = Importer(
    "dive",
    _NAMES,
    _sizes,
    # One block is applied `spm_depth` times; the file repeats it under the name of each layer.
    left_out=(
        *(f"{side}spm.agg_block.layers.{n}." for side in _SIDES for n in range(1, 10)),
        "txt_enc.bert.pooler.",
        "txt_enc.bert.embeddings.position_ids",
    ),
    expected={
        "arch": "slot",
        "denominator": 2.0,
        "gpo_1x1": True,
        "gpo_rnn": True,
        "rnn_no_dropout": False,
        "sep_bert_fc": False,
        "spm_weight_sharing": True,
        "spm_pre_norm": True,
        "spm_post_norm": False,
        "spm_last_ln": True,
        "spm_residual": True,
        "spm_residual_norm": True,
        "spm_residual_activation": "none",
        "spm_more_dropout": False,
        "spm_activation": "gelu",
        "spm_txt_pos_enc_type": "sine",
        "first_order": False,
        "res_act_local_dropout": 0,
        "res_act_global_dropout": 0,
        "txt_attention_input": "wemb",
        "img_res_first_fc": True,
        "img_res_first_pool": False,
        "img_res_last_pool": False,
        "img_res_pool": "max",
        "query_slot": False,
        "semi_hard_triplet": False,
        "unif_residual": True,
    },
    mask=True,
)
