"""DivE: sets of diverse embeddings by slot attention, compared by Smooth-Chamfer similarity.

Kim, Kim and Kwak. Improving Cross-Modal Retrieval with Set of Diverse Embeddings. CVPR 2023. The published numbers are
those of the authors' COCO script with region features and a BiGRU, `preset="published"`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ..encoders import BiGRUTower, FeatureTower, Head, ImageInput, ImageTower, SetHead, SlotAttention, TextInput
from ..losses import MMD, Diversity, Objective
from ..similarity import Similarity, SmoothChamfer
from .base import Method, Recipe

__all__ = ["DivE"]


@dataclass(frozen=True, kw_only=True)
class DivE(Method):
    """Every item is a set of `elements` unit vectors.

    Attributes:
        elements: k, size of each set.
        alpha: sharpness of Smooth-Chamfer.
        iterations: times the shared slot-attention block is applied.
        heads, head_width: its attention heads.
        slot_hidden: width of its feed-forward layer.
        mmd_weight, diversity_weight: of the regularisers.
        text_fragments: what text slots attend to, "states" of the GRU or "words" of the word table.
        pooling: global vector, "max_mean" of projected regions and GRU states, or "published" (maximum of the regions,
            mean of the GRU's two final states).
        use_pooled: read the pooled image vector where the data have one (the published form does not).
    """

    name: ClassVar[str] = "dive"
    paper: ClassVar[str] = "Kim, Kim and Kwak, CVPR 2023"
    summary: ClassVar[str] = "sets of diverse embeddings, slot attention, Smooth-Chamfer"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": {
            "dim": 1024,
            "hidden": 512,
            "dropout": 0.1,
            "feature_dropout": 0.0,
            "region_drop": 0.2,
            "word_drop": 0.2,
            "region_norm": "batch",
            "batch": 200,
            "captions": 5,
            "objective": "triplet",
            "all_until": 0.0,
            "head_width": 512,
            "slot_hidden": 4096,
            "text_fragments": "words",
            "pooling": "published",
            "use_pooled": False,
        }
    }

    elements: int = 4
    alpha: float = 16.0
    iterations: int = 4
    heads: int = 4
    head_width: int = 64
    slot_hidden: int = 512
    mmd_weight: float = 0.01
    diversity_weight: float = 0.01
    text_fragments: Literal["states", "words"] = "states"
    pooling: Literal["max_mean", "published"] = "max_mean"
    use_pooled: bool = True

    def head(self, inputs: int, side: Literal["image", "text"]) -> Head:
        slots = SlotAttention(
            inputs,
            self.dim,
            elements=self.elements,
            iterations=self.iterations,
            heads=self.heads,
            head_width=self.head_width,
            hidden=self.slot_hidden,
            dropout=self.dropout,
            positions=side == "text" and self.text_fragments == "words",
            mode=self.mode,
        )
        return SetHead(slots, self.dim)

    def image_tower(self, inputs: ImageInput) -> ImageTower:
        tower = super().image_tower(inputs)
        if not isinstance(tower, FeatureTower) or self.pooling == "max_mean":
            return tower
        return FeatureTower(
            inputs,
            self.head(self.dim, "image"),
            dim=self.dim,
            hidden=self.hidden,
            pooling="max",
            norm=self.region_norm,
            use_pooled=self.use_pooled,
            dropout=self.dropout,
            feature_dropout=self.feature_dropout,
            drop=self.region_drop,
        )

    def text_tower(self, inputs: TextInput) -> BiGRUTower:
        return BiGRUTower(
            inputs,
            self.head(self.word_dim if self.text_fragments == "words" else self.dim, "text"),
            dim=self.dim,
            word_dim=self.word_dim,
            fragments=self.text_fragments,
            pooling="last" if self.pooling == "published" else "max_mean",
            dropout=self.dropout,
            drop=self.word_drop,
        )

    def similarity(self) -> Similarity:
        return SmoothChamfer(self.alpha)

    def objective_terms(self) -> Objective:
        regularisers = {"mmd": (self.mmd_weight, MMD()), "diversity": (self.diversity_weight, Diversity())}
        return Objective({**self.score_loss(), **regularisers})

    def recipe(self) -> Recipe:
        if self.preset != "published":
            return Recipe()
        # One rate for words and GRU, a tenth of it for the visual side and both set modules (authors' COCO script).
        groups = {"images.": 0.1, "texts.head.slots": 0.1}
        return replace(
            Recipe(), epochs=80, weight_decay=1e-4, betas=(0.9, 0.999), warmup=0.0, clip=1.0, average=0.0, groups=groups
        )
