"""DivE: sets of diverse embeddings by slot attention, compared by Smooth-Chamfer similarity.

Kim, Kim and Kwak. Improving Cross-Modal Retrieval with Set of Diverse Embeddings. CVPR 2023. The presets:

    published       the authors' COCO script, region features and a BiGRU
    flickr30k       the same with smaller batches; the authors gave no script (a project built on theirs has it so)
    resnext_bert    ResNeXt-101 grids and BERT, as far as the authors answered what they had trained with
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ..encoders import (
    Head,
    MaxPool,
    Neck,
    PIEHead,
    ProjectorNeck,
    RegionProjector,
    SetHead,
    SlotAttention,
    TextInput,
    TextTower,
)
from ..losses import MMD, Diversity, Term
from ..similarity import Chamfer, ElementProbability, Mil, Similarity, SmoothChamfer
from .base import Method, Ranges
from .recipe import PLAIN, Recipe, Stage

__all__ = ["DivE"]

_COCO: dict[str, Any] = {
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
    "standardise": False,
    "least_count": 4,
}


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
        grid: image fragments are the cells of a square grid in their order, and slots may know their places.
        bert_pooling: BERT's global vector, the first token's ("cls") or the maximum.
        set_head: "slots", or the ablations "transformer" (softmax over inputs) and "pie" (PVSE's head).
        compare: "smooth_chamfer", or the ablations "chamfer", "mil" (closest pair) and "probability" (mean match
            probability of the pairs).
    """

    name: ClassVar[str] = "dive"
    paper: ClassVar[str] = "Kim, Kim and Kwak, CVPR 2023"
    summary: ClassVar[str] = "sets of diverse embeddings, slot attention, Smooth-Chamfer"
    whole_pictures: ClassVar[bool] = True
    ranges: ClassVar[Ranges] = {
        **dict.fromkeys(("elements", "iterations", "heads", "head_width", "slot_hidden"), (1, math.inf)),
        **dict.fromkeys(("mmd_weight", "diversity_weight"), (0.0, math.inf)),
        "alpha": (1e-3, 1e4),
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": _COCO,
        "flickr30k": {**_COCO, "batch": 128},
        "resnext_bert": {**_COCO, "batch": 128, "margin": 0.1, "heads": 8, "head_width": 256, "grid": True},
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
    grid: bool = False
    bert_pooling: Literal["max", "cls"] = "max"
    set_head: Literal["slots", "transformer", "pie"] = "slots"
    compare: Literal["smooth_chamfer", "chamfer", "mil", "probability"] = "smooth_chamfer"

    def head(self, inputs: int, side: Literal["image", "text"]) -> Head:
        if self.set_head == "pie":
            return PIEHead(inputs, self.dim, elements=self.elements, dropout=self.residual_dropout)
        words = side == "text" and self.text_fragments == "words"
        slots = SlotAttention(
            inputs,
            self.dim,
            elements=self.elements,
            iterations=self.iterations,
            heads=self.heads,
            head_width=self.head_width,
            hidden=self.slot_hidden,
            dropout=self.dropout,
            positions="sequence" if words else "grid" if self.grid and side == "image" else "none",
            over="inputs" if self.set_head == "transformer" else "slots",
            mode=self.mode,
        )
        return SetHead(slots, self.dim)

    def neck(self, inputs: int) -> Neck:
        projector = RegionProjector(inputs, self.dim, self.hidden, form=self.projector, norm=self.region_norm)
        published = self.pooling == "published"
        return ProjectorNeck(projector, self.pool("image"), dim=self.dim, twice=published, dropout=self.dropout)

    def text_tower(self, inputs: TextInput) -> TextTower:
        if inputs.backbone is not None:
            return self.pretrained_texts(inputs)
        if inputs.tower == "bert":
            return self.bert(inputs, pooling="cls" if self.bert_pooling == "cls" else MaxPool())
        words = self.text_fragments == "words"
        settings: dict[str, Any] = {"pooling": "final"} if self.pooling == "published" else {}
        return self.bigru(inputs, self.text_fragments, self.word_dim if words else self.dim, **settings)

    def similarity(self) -> Similarity:
        if self.compare == "chamfer":
            return Chamfer()
        if self.compare == "mil":
            return Mil()
        if self.compare == "probability":
            return ElementProbability(learned=self.mode == "paper")
        return SmoothChamfer(self.alpha)

    def terms(self) -> dict[str, tuple[float, Term]]:
        regularisers = {"mmd": (self.mmd_weight, MMD()), "diversity": (self.diversity_weight, Diversity())}
        return {**super().terms(), **regularisers}

    def recipe(self) -> Recipe:
        if not self.preset:
            return Recipe()
        # One rate for words, GRU and backbone, a tenth of it for the rest of the visual side and both set modules.
        published = replace(
            PLAIN,
            epochs=80,
            groups={"images.": 0.1, "images.backbone.": 1.0, "texts.head.": 0.1},
            clip=1.0,
            keep="last" if self.mode == "released" else "best",
        )
        if self.preset != "resnext_bert":
            return published
        return replace(
            published,
            epochs=50,
            groups={"images.": 0.1, "images.backbone.": 0.01, "texts.head.": 0.1, "texts.bert.": 0.1},
            schedule="step",
            milestones=(20, 40),
            stages=(Stage(epochs=1, frozen=("images.backbone.",)), Stage(epochs=49, restart=False)),
            note="the authors did not say the rates of ResNeXt and BERT; here 1e-5 and 1e-4",
        )
