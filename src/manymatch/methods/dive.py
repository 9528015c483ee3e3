"""DivE: sets of diverse embeddings by slot attention, compared by Smooth-Chamfer similarity.

Kim, Kim and Kwak. Improving Cross-Modal Retrieval with Set of Diverse Embeddings. CVPR 2023. The published numbers are
those of the authors' COCO script with region features and a BiGRU, `preset="published"`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ..encoders import Head, SetHead, SlotAttention, TextInput, TextTower
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

    def text_tower(self, inputs: TextInput) -> TextTower:
        words = self.text_fragments == "words"
        return self.bigru(inputs, self.text_fragments, self.word_dim if words else self.dim)

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
