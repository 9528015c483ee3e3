"""VSE++'s checkpoints (fartashf/vsepp): a precomputed pooled vector or a ResNet, with a GRU; cosine or order."""

from __future__ import annotations

from dataclasses import replace

import torch

from ...data.official_text import OfficialVocabulary
from ...data.text import Vocabulary
from ...encoders import RESNETS, ImageInput
from ...errors import CheckpointError
from ...methods import Model
from ..official_files import OfficialCheckpoint
from .base import Importer, Sizes, State, word_input

__all__ = ["IMPORTER"]

_NAMES = {
    "img_enc.fc.": "images.pooled_linear.",
    "img_enc.cnn.": "images.backbone.",
    "txt_enc.embed.": "texts.words.",
    "txt_enc.rnn.": "texts.gru.",
}
_ON_PICTURES = {**_NAMES, "img_enc.fc.": "images.neck.fc."}
_COUNT = "num_batches_tracked"


class _VSEpp(Importer):
    """The linear map stands elsewhere in a model that reads pictures."""

    def build(
        self,
        checkpoint: OfficialCheckpoint,
        vocabulary: OfficialVocabulary | None = None,
        criterion: OfficialCheckpoint | None = None,
    ) -> Model:
        if checkpoint.parts and any(name.startswith("cnn.") for name in checkpoint.parts[0]):
            parts = (_counted(checkpoint.parts[0]), *checkpoint.parts[1:])
            checkpoint = replace(checkpoint, parts=parts)
            return Importer.build(replace(self, names=_ON_PICTURES), checkpoint, vocabulary, criterion)
        return super().build(checkpoint, vocabulary, criterion)


def _counted(state: State) -> dict[str, torch.Tensor]:
    """With a count of batches for every batch norm: the published files are of a torch that kept none."""
    norms = [name.removesuffix("running_var") for name in state if name.endswith(".running_var")]
    return {**{norm + _COUNT: torch.zeros((), dtype=torch.long) for norm in norms}, **state}


def _sizes(checkpoint: OfficialCheckpoint, state: State, words: Vocabulary) -> Sizes:
    option = checkpoint.option
    measure, absolute = option("measure", "cosine"), bool(option("use_abs", False))
    if (measure, absolute) not in (("cosine", False), ("order", True)):
        raise CheckpointError(
            f"checkpoint: {checkpoint.path!r} was trained with measure={measure!r} and use_abs={absolute}, expected "
            "'cosine' without or 'order' with absolute values"
        )
    dim, width = state["img_enc.fc.weight"].shape
    rows, word_dim = state["txt_enc.embed.weight"].shape
    settings = {
        "preset": "published",
        "measure": measure,
        "dim": dim,
        "word_dim": word_dim,
        "margin": option("margin"),
        "batch": option("batch_size"),
        # Without it every negative counts, from the first epoch to the last.
        "all_until": 0.0 if option("max_violation") else 1.0,
        "train_backbone": bool(option("finetune", False)),
    }
    images = ImageInput("features", pooled_width=width)
    if any(name.startswith("img_enc.cnn.") for name in state):
        backbone = option("cnn_type")
        if backbone not in RESNETS:
            raise CheckpointError(
                f"checkpoint: {checkpoint.path!r} reads pictures by {backbone!r}, only {', '.join(RESNETS)} is imported"
            )
        images = ImageInput(backbone, size=option("crop_size"))
    return Sizes(settings, images, word_input(checkpoint, words, rows))


IMPORTER = _VSEpp(
    "vsepp",
    _NAMES,
    _sizes,
    # Their descendants SCAN and SGRAF keep the names of the weights and add options.
    expected={"no_imgnorm": False, "num_layers": 1, "bi_gru": False, "cross_attn": None, "module_name": None},
    prefixes=("img_enc.", "txt_enc."),
)
