"""VSE++: one point an item, compared by cosine. The control of every richer embedding: same towers, same budget.

Faghri, Fleet, Kiros and Fidler. VSE++: Improving Visual-Semantic Embeddings with Hard Negatives. BMVC 2018. Its VSE0
is `all_until=1`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ..data.pairs import Pairs
from ..encoders import (
    RESNETS,
    BackboneTower,
    Head,
    ImageInput,
    ImageTower,
    MeanNeck,
    Neck,
    PointHead,
    TextInput,
    TextTower,
)
from ..encoders.pretrained import pooled_alone
from ..errors import DataError
from ..similarity import Cosine, Order, Similarity
from .base import Method
from .recipe import PLAIN, Recipe, Stage

__all__ = ["VSEpp"]

_PUBLISHED: dict[str, Any] = {
    "dim": 1024,
    "dropout": 0.0,
    "feature_dropout": 0.0,
    "region_drop": 0.0,
    "word_drop": 0.0,
    "pooling": "published",
    "standardise": False,
    "least_count": 4,
    "sampling": "pairs",
    "batch": 128,
    "objective": "triplet",
    "reduction": "sum",
    "all_until": 0.0,
    "train_backbone": False,
}
_FROZEN = ("images.backbone.",)


@dataclass(frozen=True, kw_only=True)
class VSEpp(Method):
    """Every item is one unit vector.

    Attributes:
        measure: "cosine", or "order" (an image is contained in its caption: absolute values, and only what the caption
            has more of counts as distance).
        pooling: global vectors: "published", a linear map of the pooled image vector and the last state of a GRU in one
            direction; "max_mean", of projected regions and BiGRU states.
        train_backbone: a backbone on pictures learns too; else it stays as it began. The preset "finetuned" is the
            authors' second training: 30 epochs without it, then 15 with it at a tenth of the rate.
    """

    name: ClassVar[str] = "vsepp"
    paper: ClassVar[str] = "Faghri, Fleet, Kiros and Fidler, BMVC 2018"
    summary: ClassVar[str] = "one point an item, cosine, hardest-negative triplet; the control"
    pairwise: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": _PUBLISHED,
        "finetuned": {**_PUBLISHED, "train_backbone": True},
    }

    measure: Literal["cosine", "order"] = "cosine"
    train_backbone: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start == "linear" and self.measure == "order":
            raise DataError("vsepp.start=linear: the closed form is compared by cosine, not by measure=order")

    def head(self, inputs: int, side: Literal["image", "text"]) -> Head:
        if self.measure == "cosine":
            return PointHead()
        return PointHead(order="above" if side == "image" else "below")

    def similarity(self) -> Similarity:
        return Order() if self.measure == "order" else Cosine()

    def neck(self, inputs: int) -> Neck:
        return MeanNeck(inputs, self.dim) if self.pooling == "published" else super().neck(inputs)

    def inputs(self, pairs: Pairs, image_tower: str | None, text_tower: str | None) -> tuple[ImageInput, TextInput]:
        images, texts = super().inputs(pairs, image_tower, text_tower)
        return pooled_alone(images) if self.pooling == "published" else images, texts

    def image_tower(self, inputs: ImageInput) -> ImageTower:
        if self.pooling == "published" and inputs.tower in RESNETS:
            neck = MeanNeck(RESNETS[inputs.tower], self.dim, unit=True)
            return BackboneTower(inputs, neck, self.head(neck.width, "image"), drop=self.region_drop)
        if self.pooling == "published" and inputs.pooled_width:
            # One linear map of the CNN's pooled vector, regions or not.
            inputs = replace(inputs, fragments=0, fragment_width=0)
        return super().image_tower(inputs)

    def text_tower(self, inputs: TextInput) -> TextTower:
        if self.pooling == "published" and inputs.tower == "bigru":
            return self.bigru(inputs, "states", self.dim, directions=1, pooling="last_step")
        return super().text_tower(inputs)

    def recipe(self) -> Recipe:
        recipe = self._published() if self.preset else Recipe()
        if self.preset == "finetuned":
            stages = Stage(epochs=30, frozen=_FROZEN), Stage(epochs=15, lr=2e-5)
            return replace(recipe, epochs=45, stages=stages)
        if self.train_backbone:
            return recipe
        return replace(recipe, stages=(Stage(epochs=recipe.epochs, frozen=_FROZEN),))

    def _published(self) -> Recipe:
        return replace(
            PLAIN,
            epochs=30,
            lr=2e-4,
            optimiser="adam",
            weight_decay=0.0,
            schedule="step",
            milestones=(15,),
        )
