"""HREM: hierarchical relations, between the fragments of an item and, only while training, between items.

Fu, Mao, Song and Zhang. Learning Semantic Relationship among Instances for Image-Text Matching. CVPR 2023. The
published numbers are those of the authors' region script, `preset="published"` for Flickr30K, `preset="coco"` for COCO.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ..data.batches import Sampler
from ..encoders import ContextPool, Head, PointHead, Pool, TopMeanPool
from ..losses import DistanceWeighted, Term, Triplet
from ..losses.choices import Siblings
from ..relations import AssociationGraph, Relation
from ..similarity import Cosine, Similarity
from .base import Method, Ranges
from .recipe import PLAIN, Recipe
from .vse_infty import REGIONS

__all__ = ["HREM"]

_FLICKR: Mapping[str, Any] = {**REGIONS, "sampling": "neighbours", "batch": 128, "objective": "distance_weighted"}


@dataclass(frozen=True, kw_only=True)
class HREM(Method):
    """Every item is one unit vector; at search nothing of another item is needed.

    Attributes:
        objective: "distance_weighted" is the published triplet, its negatives drawn by their distance; "triplet" is the
            authors' other loss, the hinge of VSE++.
        siblings: of the hinge in mode "released": other captions of an image are "masked" out of its negatives (the
            authors' mask_repeat), or are "negatives".
        nonzero_cut: negatives farther than this are never drawn (1.7 on Flickr30K, 1.9 on COCO).
        image_context, text_context: fragments of that side look at each other before they are pooled.
        residual: share of the pool of fragments without context.
        context_heads, context_dropout: of that layer, and of the layer between items.
        graph: whether items of a batch look at each other.
        interaction: one layer over all items ("fusion"), or cross then self ("standalone").
        relevance: lambda, how much the learned relevance biases who listens to whom; 0 leaves the relevance out.
        connections: listen to the best half alone; false connects every item with every other.
        blocks: which parts of the graph act, "both", "intra" (within a side) or "inter" (across).
        cross_consistency: also score raw against enhanced embeddings.
        regularisation: weight of the relevance regularisation.
        graph_start, graph_start_steps: share of the run, and most steps, before the graph acts.
    """

    name: ClassVar[str] = "hrem"
    paper: ClassVar[str] = "Fu, Mao, Song and Zhang, CVPR 2023"
    summary: ClassVar[str] = "relations between fragments, and between items while training"
    pairwise: ClassVar[bool] = True
    published_objective: ClassVar[str] = "distance_weighted"
    ranges: ClassVar[Ranges] = {
        "nonzero_cut": (0.5, 2.0),
        "residual": (0.0, 1.0),
        "context_heads": (1, 128),
        "context_dropout": (0.0, 0.99),
        "relevance": (0.0, 100.0),
        "regularisation": (0.0, math.inf),
        "graph_start": (0.0, 1.0),
        "graph_start_steps": (0, math.inf),
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": _FLICKR,
        "coco": {**_FLICKR, "batch": 256, "relevance": 1.5, "nonzero_cut": 1.9},
    }

    siblings: Siblings = "masked"
    nonzero_cut: float = 1.7
    image_context: bool = True
    text_context: bool = True
    residual: float = 0.8
    context_heads: int = 16
    context_dropout: float = 0.1
    graph: bool = True
    interaction: Literal["fusion", "standalone"] = "fusion"
    relevance: float = 1.0
    connections: bool = True
    blocks: Literal["both", "intra", "inter"] = "both"
    cross_consistency: bool = True
    regularisation: float = 10.0
    graph_start: float = 0.2
    graph_start_steps: int = 8000

    def head(self, inputs: int, side: Literal["image", "text"]) -> Head:
        return PointHead()

    def pool(self, side: Literal["image", "text"]) -> Pool:
        acts = self.image_context if side == "image" else self.text_context
        return ContextPool(
            self.dim,
            beta=self.residual if acts else 1.0,
            initial=super().pool(side) if self.pooling == "attention" else TopMeanPool(2, mode=self.mode),
            heads=self.context_heads,
            dropout=self.context_dropout,
        )

    def similarity(self) -> Similarity:
        return Cosine()

    def terms(self) -> dict[str, tuple[float, Term]]:
        if self.objective == "triplet" and self.mode == "released":
            hinge = Triplet(
                self.margin,
                reduction=self.reduction,
                all_until=self.all_until,
                positives="diagonal",
                siblings=self.siblings,
            )
            return {"triplet": (1.0, hinge)}
        if self.objective != "distance_weighted":
            return super().terms()
        return {"distance_weighted": (1.0, DistanceWeighted(self.margin, farthest=self.nonzero_cut, mode=self.mode))}

    def relation(self) -> Relation | None:
        if not self.graph:
            return None
        return AssociationGraph(
            self.dim,
            interaction=self.interaction,
            bias=self.relevance,
            blocks=self.blocks,
            connections=self.connections,
            cross_consistency=self.cross_consistency,
            regularisation=self.regularisation,
            mode=self.mode,
            heads=self.context_heads,
            dropout=self.context_dropout,
            start=self.graph_start,
            start_steps=self.graph_start_steps,
        )

    def sampler(self) -> Sampler:
        # The authors' code has no neighbour batches; the paper has.
        if self.mode == "released" and self.sampling == "neighbours":
            return replace(self, sampling="pairs").sampler()
        return super().sampler()

    def recipe(self) -> Recipe:
        if self.preset not in ("published", "coco"):
            return Recipe()
        return replace(
            PLAIN,
            epochs=30,
            lr=5e-4,
            groups={"texts.bert.": 0.1},
            schedule="step",
            milestones=(15, 25),
        )
