"""VSE-infinity: one point an item, fragments pooled by a learned weight for every rank (GPO).

Chen, Hu, Wu, Jiang and Wang. Learning the Best Pooling Strategy for Visual Semantic Embedding. CVPR 2021. The
published numbers are those of the authors' scripts: `preset="published"` for regions and a BiGRU, "bert" for regions
and BERT, "grid" for a backbone's grid with either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ..data.pairs import Pairs
from ..encoders import (
    GPO,
    RESNETS,
    BackboneTower,
    Head,
    ImageInput,
    ImageTower,
    PointHead,
    Pool,
    TextInput,
    TextTower,
)
from ..similarity import Cosine, Similarity
from .base import Method, Ranges
from .recipe import PLAIN, Recipe, Stage

__all__ = ["REGIONS", "VSEInfinity"]

REGIONS: Mapping[str, Any] = {
    "dim": 1024,
    "hidden": 512,
    "dropout": 0.0,
    "feature_dropout": 0.0,
    "region_drop": 0.2,
    "word_drop": 0.2,
    "projector": "vse_infty",
    "region_norm": "batch",
    "standardise": False,
    "least_count": 4,
    "use_pooled": False,
}
"""How its region script reads features; HREM's is built on it."""
_PUBLISHED: Mapping[str, Any] = {
    **REGIONS,
    "drop_marks": True,
    "sampling": "pairs",
    "batch": 128,
    "objective": "triplet",
    "reduction": "sum",
    # All negatives in the first of 25 epochs.
    "all_until": 0.04,
}


@dataclass(frozen=True, kw_only=True)
class VSEInfinity(Method):
    """Every item is one unit vector, the generalised pool of its fragments.

    Attributes:
        drop_marks: `word_drop` takes the start and the end of a text for words too (BiGRU only).
        grid_side: pictures are squashed to so many pixels a side for a backbone.
    """

    name: ClassVar[str] = "vse_infty"
    paper: ClassVar[str] = "Chen, Hu, Wu, Jiang and Wang, CVPR 2021"
    summary: ClassVar[str] = "one point an item, generalised pooling (GPO), cosine"
    pairwise: ClassVar[bool] = True
    ranges: ClassVar[Ranges] = {"grid_side": (32, 4096)}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": _PUBLISHED,
        "bert": _PUBLISHED,
        "grid": {**_PUBLISHED, "projector": "linear", "grid_side": 512},
    }

    drop_marks: bool = False
    grid_side: int = 224

    def head(self, inputs: int, side: Literal["image", "text"]) -> Head:
        return PointHead()

    def pool(self, side: Literal["image", "text"]) -> Pool:
        return super().pool(side) if self.pooling == "attention" else GPO()

    def similarity(self) -> Similarity:
        return Cosine()

    def image_tower(self, inputs: ImageInput) -> ImageTower:
        if inputs.tower not in RESNETS:
            return super().image_tower(inputs)
        neck = self.neck(RESNETS[inputs.tower])
        head = self.head(neck.width, "image")
        return BackboneTower(inputs, neck, head, drop=self.region_drop, whole=True, fixed_norm=True)

    def text_tower(self, inputs: TextInput) -> TextTower:
        if inputs.tower != "bigru":
            return super().text_tower(inputs)
        return self.bigru(inputs, "states", self.dim, drop_marks=self.drop_marks)

    def inputs(self, pairs: Pairs, image_tower: str | None, text_tower: str | None) -> tuple[ImageInput, TextInput]:
        images, texts = super().inputs(pairs, image_tower, text_tower)
        return replace(images, size=self.grid_side) if images.tower in RESNETS else images, texts

    def recipe(self) -> Recipe:
        if not self.preset:
            return Recipe()
        # The authors' BiGRU branch calls the optimiser without its weight decay, so the library's 0.01 holds there.
        decay = 0.01 if self.mode == "released" and self.preset == "published" else 1e-4
        recipe = replace(
            PLAIN,
            epochs=25,
            lr=5e-4,
            groups={"texts.bert.": 0.1, "images.backbone.": 0.01},
            weight_decay=decay,
            schedule="step",
            milestones=(15,),
        )
        if self.preset != "grid":
            return recipe
        stages = (
            Stage(epochs=1, frozen=("images.backbone.",)),
            Stage(epochs=1, restart=False, loss_ramp=True),
            Stage(epochs=23, restart=False),
        )
        note = "published with random crops and mirrored pictures, which are left out"
        return replace(recipe, stages=stages, note=note)
