"""A pretrained network of pictures and texts as it is: CLIP, SigLIP, SigLIP 2. Nothing is trained.

Radford et al. Learning Transferable Visual Models From Natural Language Supervision. ICML 2021 (CLIP); Zhai et al.
Sigmoid Loss for Language Image Pre-Training. ICCV 2023 (SigLIP); Tschannen et al. SigLIP 2. 2025.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Self

from ..data.pairs import Pairs
from ..encoders import Head, ImageInput, ImageTower, PointHead, TextInput, TextTower, read_at
from ..encoders.pretrained import is_pretrained, on_backbone, open_backbone, settled
from ..encoders.pretrained.hub import config, find
from ..encoders.pretrained.looking import identity_of, read_vision
from ..errors import DataError
from ..similarity import Cosine, Similarity
from .base import Method
from .model import Model

__all__ = ["Pretrained", "as_it_is"]

_BOTH = ("clip", "siglip", "siglip2")
"""Kinds of network that have an image half and a text half."""


@dataclass(frozen=True, kw_only=True)
class Pretrained(Method):
    """Each picture and each text is the vector that the pretrained networks make of it, compared by cosine.

    The scale (and SigLIP's shift) that such networks put on the cosine in training is left aside: the same for every
    pair, it changes no order.
    """

    name: ClassVar[str] = "pretrained"
    paper: ClassVar[str] = "Radford et al., ICML 2021; Zhai et al., ICCV 2023"
    summary: ClassVar[str] = "CLIP, SigLIP or SigLIP 2 as it is; no training"
    fitted: ClassVar[bool] = True
    kind: ClassVar[str] = "as it is"
    learns: ClassVar[bool] = False
    fixed: ClassVar[Mapping[str, str]] = dict.fromkeys(
        {spec.name for spec in fields(Method)}, "pretrained networks are taken as they are"
    )

    def head(self, inputs: int, side: Literal["image", "text"]) -> Head:
        return PointHead()

    def similarity(self) -> Similarity:
        return Cosine()

    def resolve(self, pairs: Pairs) -> Self:
        return self

    def inputs(self, pairs: Pairs, image_tower: str | None, text_tower: str | None) -> tuple[ImageInput, TextInput]:
        return inputs_of(image_tower, text_tower)

    def image_tower(self, inputs: ImageInput) -> ImageTower:
        from ..encoders.pretrained.backed import AsIs

        return on_backbone(inputs, AsIs(inputs, self.head(0, "image")), rate=1.0, decay=1.0)

    def text_tower(self, inputs: TextInput) -> TextTower:
        if inputs.tower == "onnx":
            from ..encoders.pretrained.onnx_texts import OnnxTexts

            return OnnxTexts(inputs, self.head(0, "text"), dim=None)
        from ..encoders.pretrained.texts import PretrainedTexts

        return PretrainedTexts(inputs, self.head(0, "text"), dim=None)

    def fit(self, model: Any, pairs: Pairs, say: Callable[[str], None]) -> dict[str, Any]:
        """Nothing to fit."""
        say(f"nothing to train: {model.input_of_images.backbone['source']} as it is")
        return {}


def as_it_is(source: str) -> Model:
    """The model of one folder with both halves, ready to encode.

    Args:
        source: "hf:NAME" or "hf:FOLDER" of CLIP, SigLIP or SigLIP 2.

    Raises:
        DataError: no such folder, or a network that lacks a half.
    """
    found = find(source)
    kind = "sentence-transformers" if (found.folder / "modules.json").is_file() else config(found)["model_type"]
    if kind not in _BOTH:
        raise DataError(
            f"model {source!r}: {kind} is no network of pictures and texts ({', '.join(_BOTH)}) and can be one tower "
            "alone; train a run on it: manymatch train METHOD DATA --image-tower hf:... --text-tower hf:..."
        )
    model = Model(Pretrained(), *inputs_of(source, source))
    return model.requires_grad_(False).eval()


def inputs_of(image_tower: str | None, text_tower: str | None) -> tuple[ImageInput, TextInput]:
    """What two pretrained towers read; one that is not named is the other's second half.

    Raises:
        DataError: none is named, one is not pretrained, or their vectors differ in width.
    """
    images, texts = image_tower or text_tower, text_tower or image_tower
    if images is None or texts is None or not (is_pretrained(images) and is_pretrained(texts)):
        raise DataError(
            f"method pretrained: image tower {image_tower or 'none'}, text tower {text_tower or 'none'}; expected "
            "--image-tower hf:NAME, and --text-tower where that is another network or file"
        )
    read = _image_input(images), read_at((), texts, least=1)
    wide, other = (side.pooled_width for side in read)
    if wide != other:
        raise DataError(
            f"method pretrained: {images} makes vectors of width {wide}, {texts} of {other}; expected two halves of "
            "one space, or train a run on them with another method"
        )
    return read


def _image_input(source: str) -> ImageInput:
    """The pooled vector alone: patches would be computed for nothing."""
    kind = source.partition(":")[0]
    if kind == "hf":
        # Its weights are read when the tower is made, and not here too.
        found = find(source)
        looking = read_vision(found)
        width, revision = looking.pooled_width, found.revision
        identity = identity_of(found, looking, fragments=False)
    else:
        backbone = open_backbone(source, fragments=False)
        width, revision, identity = backbone.pooled_width, backbone.revision, dict(backbone.identity)
    facts = {"source": settled(source), "tuning": "frozen", "identity": identity}
    facts |= {"revision": revision} if revision else {}
    return ImageInput(kind, pooled_width=width, backbone=facts)
