"""PCME's checkpoints (naver-ai/pcme): a ResNet's grid and a BiGRU. They hold their vocabulary and their criterion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...data.text import Vocabulary
from ...encoders import ImageInput
from ...errors import CheckpointError
from ..official_files import OfficialCheckpoint
from .base import Importer, Sizes, State, word_input

__all__ = ["ELEMENT_HEAD", "IMPORTER"]

ELEMENT_HEAD = {
    "attention.w_1.": "attention.first.",
    "attention.w_2.": "attention.second.",
    "fc.": "linear.",
    "layer_norm.": "norm.",
}
"""Parts of their PIE-Net and of ours."""
_SIDES = {"img_enc.": "images.", "txt_enc.": "texts."}
_HEADS = {"pie_net.": "head.mean.", "uncertain_net.": "head.uncertainty."}
_NAMES = {
    "img_enc.cnn.": "images.backbone.",
    "img_enc.fc.": "images.neck.fc.",
    "img_enc.uncertain_net.fc2.": "images.neck.spread_fc.",
    "txt_enc.embed.": "texts.words.",
    "txt_enc.rnn.": "texts.gru.",
    "txt_enc.uncertain_net.rnn.": "texts.second_gru.",
    **{
        f"{side}{theirs}{key}": f"{ours_side}{ours}{value}"
        for side, ours_side in _SIDES.items()
        for theirs, ours in _HEADS.items()
        for key, value in ELEMENT_HEAD.items()
    },
}
_EXPECTED: Mapping[str, Mapping[str, Any]] = {
    "model": {
        "name": "pcme",
        "img_attention": True,
        "txt_attention": True,
        "img_probemb": True,
        "txt_probemb": True,
        "no_sigma_ln": True,
    },
    "criterion": {"name": "pcme"},
}


def _sizes(checkpoint: OfficialCheckpoint, state: State, words: Vocabulary) -> Sizes:
    parts = {name: _part(checkpoint, name) for name in ("dataloader", "model", "criterion")}
    loader, criterion = parts["dataloader"], parts["criterion"]
    samples = {parts["model"]["n_samples_inference"], criterion["num_samples"]}
    if len(samples) > 1:
        raise CheckpointError(
            f"checkpoint: {checkpoint.path!r} was trained and searched with {sorted(samples)} samples, "
            "only one number for both is imported"
        )
    rows, word_dim = state["txt_enc.embed.weight"].shape
    settings = {
        "preset": "published",
        "standardise": False,
        "dim": state["img_enc.fc.weight"].shape[0],
        "word_dim": word_dim,
        "word_drop": loader.get("caption_drop_prob", 0.0),
        "batch": loader["batch_size"],
        "samples": samples.pop(),
        "kl_weight": criterion.get("vib_beta", 0.0),
        "uniform_weight": criterion.get("uniform_lambda", 0.0),
        "scale": criterion["init_negative_scale"],
        "shift": criterion["init_shift"],
    }
    images = ImageInput(parts["model"]["cnn_type"], size=loader["crop_size"])
    note = _note(parts["model"].get("eval_method"))
    return Sizes(settings, images, word_input(checkpoint, words, rows), note)


def _part(checkpoint: OfficialCheckpoint, name: str) -> Mapping[str, Any]:
    """A part of their configuration, which has two levels. Raises CheckpointError for another system's."""
    part = checkpoint.option(name)
    where = f"checkpoint: {checkpoint.path!r}"
    if not isinstance(part, dict):
        raise CheckpointError(f"{where}, option {name!r} is {part!r}, expected options by name as PCME's scripts write")
    for key, wanted in _EXPECTED.get(name, {}).items():
        if (found := part.get(key, wanted)) != wanted:
            raise CheckpointError(f"{where} was trained with {name}.{key}={found!r}, only {wanted!r} is imported")
    return part


def _adapt(name: str, value: Tensor) -> Tensor:
    """Their scalars are vectors of one number."""
    return value.reshape(()) if name.startswith("similarity.") else value


def _note(searched_by: object) -> str:
    if searched_by in (None, "matching_prob"):
        return ""
    return f"their evaluation sorts by {searched_by!r}; this run sorts by the match probability it was trained with"


IMPORTER = Importer(
    "pcme",
    _NAMES,
    _sizes,
    criterion={"shift": "similarity.shift", "negative_scale": "similarity.scale"},
    adapt=_adapt,
)
