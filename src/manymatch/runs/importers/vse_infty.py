"""VSE-infinity's checkpoints (woodfrog/vse_infty): regions or a ResNeXt's grid, with BERT or (branch bigru) a BiGRU."""

from __future__ import annotations

from typing import Any

from ...data.text import Vocabulary
from ...encoders import ImageInput
from ...errors import CheckpointError
from ..official_files import OfficialCheckpoint
from .base import Importer, Sizes, State, bert_input, word_input

__all__ = ["IMPORTER"]

_REGIONS = 36
_SIDE = 256
"""Of pictures, times `input_scale_factor`."""
_DROP = 0.2
"""Of regions, cells and words; not an option there."""
_RESNEXT = ("wsl", "vsepp_wsl", "imagenet_resnext", "vsepp_resnext")
"""Their other backbones are a ResNet of their own, which strides where torchvision's does not."""

_IMAGES = {"fc.": "projector.fc.", "gpool.": "pool."}
_NAMES = {
    **{f"img_enc.{theirs}": f"images.neck.{ours}" for theirs, ours in _IMAGES.items()},
    **{f"img_enc.image_encoder.{theirs}": f"images.neck.{ours}" for theirs, ours in _IMAGES.items()},
    "img_enc.mlp.layers.0.": "images.neck.projector.inner.",
    "img_enc.mlp.bns.0.": "images.neck.projector.norm.",
    "img_enc.mlp.layers.1.": "images.neck.projector.outer.",
    "img_enc.backbone.resnet.": "images.backbone.",
    "txt_enc.gpool.": "texts.pool.",
    "txt_enc.embed.": "texts.words.",
    "txt_enc.rnn.": "texts.gru.",
    "txt_enc.bert.": "texts.bert.",
    "txt_enc.linear.": "texts.linear.",
}


def _sizes(checkpoint: OfficialCheckpoint, state: State, words: Vocabulary) -> Sizes:
    option = checkpoint.option
    kind, bert = option("precomp_enc_type"), "txt_enc.linear.weight" in state
    if kind not in ("basic", "backbone"):
        raise CheckpointError(
            f"checkpoint: {checkpoint.path!r} was trained with precomp_enc_type={kind!r}, only 'basic' (regions) and "
            "'backbone' (grids) are imported"
        )
    grid = kind == "backbone"
    settings: dict[str, Any] = {
        "preset": "grid" if grid else "bert" if bert else "published",
        "margin": option("margin"),
        "batch": option("batch_size"),
        "all_until": option("vse_mean_warmup_epochs") / option("num_epochs"),
        "region_drop": _DROP,
        "word_drop": _DROP if bert or option("drop", True) else 0.0,
    }
    texts = bert_input(checkpoint, state, words, "txt_enc.bert.") if bert else None
    if texts is None:
        rows, settings["word_dim"] = state["txt_enc.embed.weight"].shape
        texts = word_input(checkpoint, words, rows)
    if grid:
        settings["dim"] = state["img_enc.image_encoder.fc.weight"].shape[0]
        settings["grid_side"] = int(_SIDE * option("input_scale_factor"))
        return Sizes(settings, _backbone(checkpoint, settings["grid_side"]), texts)
    settings["dim"], width = state["img_enc.fc.weight"].shape
    settings["hidden"] = state["img_enc.mlp.layers.0.weight"].shape[0]
    return Sizes(settings, ImageInput("features", fragments=_REGIONS, fragment_width=width), texts)


def _backbone(checkpoint: OfficialCheckpoint, side: int) -> ImageInput:
    source = checkpoint.option("backbone_source")
    if source not in _RESNEXT:
        raise CheckpointError(
            f"checkpoint: {checkpoint.path!r} reads pictures by backbone_source={source!r}, only "
            f"{', '.join(map(repr, _RESNEXT))} is imported; for others give precomputed grids"
        )
    return ImageInput("resnext101_32x8d", size=side)


IMPORTER = Importer(
    "vse_infty",
    _NAMES,
    _sizes,
    left_out=(
        # The last batch norm of their projector exists, and is never applied.
        "img_enc.mlp.bns.1.",
        "img_enc.backbone.resnet.fc.",
        # The backbone again, cut in two.
        "img_enc.backbone.base.",
        "img_enc.backbone.top.",
        "txt_enc.bert.pooler.",
        "txt_enc.bert.embeddings.position_ids",
    ),
    expected={"no_imgnorm": False, "no_txtnorm": False, "num_layers": 1},
    prefixes=("img_enc.", "txt_enc."),
    mask=True,
)
