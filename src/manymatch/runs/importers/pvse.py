"""PVSE's checkpoints (yalesong/pvse): a ResNet's grid with a BiGRU.

The training script saves weights and options; the files the authors published, and those their evaluation reads, hold
weights alone. How many elements, which ResNet and all widths are then read from the weights. One thing they do not say:
`legacy`, the text's global vector being the output at the last word. The files published with the paper were trained
with it; a file without options is read without it, as their evaluation reads it unless told, and the model's notes say
so.
"""

from __future__ import annotations

import torch

from ...data.text import Vocabulary
from ...encoders import RESNETS, ImageInput
from ...encoders.resnet import resnet
from ...errors import CheckpointError
from ..official_files import OfficialCheckpoint
from .base import Importer, Sizes, State, word_input

__all__ = ["IMPORTER"]

_BACKBONE = "img_enc.cnn."
_HEAD = {
    "attention.w_1.": "attention.first.",
    "attention.w_2.": "attention.second.",
    "fc.": "linear.",
    "layer_norm.": "norm.",
}
_NAMES = {
    _BACKBONE: "images.backbone.",
    "img_enc.fc.": "images.neck.fc.",
    "txt_enc.embed.": "texts.words.",
    "txt_enc.rnn.": "texts.gru.",
    **{f"img_enc.pie_net.{theirs}": f"images.head.net.{ours}" for theirs, ours in _HEAD.items()},
    **{f"txt_enc.pie_net.{theirs}": f"texts.head.net.{ours}" for theirs, ours in _HEAD.items()},
}
_UNSAID = (
    "the checkpoint does not say how it read the BiGRU, taken were its final states; the weights published with the "
    "paper need its output at the last word: --option legacy=true"
)


def _sizes(checkpoint: OfficialCheckpoint, state: State, words: Vocabulary) -> Sizes:
    option = checkpoint.option
    dim = state["img_enc.fc.weight"].shape[0]
    rows, word_dim = state["txt_enc.embed.weight"].shape
    settings = {
        "preset": "published",
        "dim": dim,
        "word_dim": word_dim,
        "elements": state["img_enc.pie_net.attention.w_2.weight"].shape[0],
        "text_global": "last_step" if option("legacy", False) else "final",
        "train_backbone": bool(option("img_finetune", False)),
        "train_words": bool(option("txt_finetune", False)),
    }
    theirs = {
        "margin": "margin",
        "dropout": "dropout",
        "batch": "batch_size",
        "mmd_weight": "mmd_weight",
        "diversity_weight": "div_weight",
    }
    settings |= {ours: option(name) for ours, name in theirs.items() if name in checkpoint.options}
    backbone = option("cnn_type", "") or _backbone(checkpoint, state)
    if backbone not in RESNETS:
        raise CheckpointError(
            f"checkpoint: {checkpoint.path!r} reads pictures by {backbone!r}, only {', '.join(RESNETS)} is imported"
        )
    note = "" if "legacy" in checkpoint.options else _UNSAID
    images = ImageInput(backbone, size=option("crop_size", 224))
    return Sizes(settings, images, word_input(checkpoint, words, rows), note)


def _backbone(checkpoint: OfficialCheckpoint, state: State) -> str:
    """The ResNet that these weights are of, by their names and shapes."""
    found = {name[len(_BACKBONE) :]: value.shape for name, value in state.items() if name.startswith(_BACKBONE)}
    for name in RESNETS:
        with torch.device("meta"):
            wanted = {key: value.shape for key, value in resnet(name).state_dict().items()}
        if wanted == found:
            return name
    raise CheckpointError(
        f"checkpoint: {checkpoint.path!r} has no options, and {len(found)} weights under {_BACKBONE!r} that are those "
        f"of none of {', '.join(RESNETS)}"
    )


IMPORTER = Importer(
    "pvse",
    _NAMES,
    _sizes,
    expected={
        "max_video_length": 1,
        "img_attention": True,
        "txt_attention": True,
        "max_violation": True,
        "order": False,
    },
)
