"""VSE-infinity: one point an item, fragments pooled by a learned weight for every rank (GPO).

Chen, Hu, Wu, Jiang and Wang. Learning the Best Pooling Strategy for Visual Semantic Embedding. CVPR 2021. The
published numbers are those of the authors' region script, `preset="published"`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ..encoders import GPO, Head, PointHead, Pool
from ..similarity import Cosine, Similarity
from .base import Method
from .recipe import Recipe

__all__ = ["VSEInfinity"]


@dataclass(frozen=True, kw_only=True)
class VSEInfinity(Method):
    """Every item is one unit vector, the generalised pool of its fragments."""

    name: ClassVar[str] = "vse_infty"
    paper: ClassVar[str] = "Chen, Hu, Wu, Jiang and Wang, CVPR 2021"
    summary: ClassVar[str] = "one point an item, generalised pooling (GPO), cosine"
    pairwise: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": {
            "dim": 1024,
            "hidden": 512,
            "dropout": 0.0,
            "feature_dropout": 0.0,
            "region_drop": 0.2,
            "word_drop": 0.2,
            "projector": "vse_infty",
            "region_norm": "batch",
            "use_pooled": False,
            "sampling": "pairs",
            "batch": 128,
            "objective": "triplet",
            "reduction": "sum",
            # All negatives in the first of 25 epochs.
            "all_until": 0.04,
        }
    }

    def head(self, inputs: int, side: Literal["image", "text"]) -> Head:
        return PointHead()

    def pool(self, side: Literal["image", "text"]) -> Pool:
        return GPO()

    def similarity(self) -> Similarity:
        return Cosine()

    def recipe(self) -> Recipe:
        if self.preset != "published":
            return Recipe()
        # The authors' BiGRU branch calls the optimiser without its weight decay, so the library's 0.01 holds there.
        decay = 0.01 if self.mode == "released" else 1e-4
        return replace(
            Recipe(),
            epochs=25,
            lr=5e-4,
            groups={"texts.bert.": 0.1, "images.backbone.": 0.01},
            weight_decay=decay,
            betas=(0.9, 0.999),
            warmup=0.0,
            schedule="step",
            milestones=(15,),
            clip=2.0,
            average=0.0,
        )
