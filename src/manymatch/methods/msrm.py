"""MSRM: Gaussian queries, Mahalanobis semantics, hyperedge convolution. No formula of it is public: a reconstruction.

Wang et al. Multilateral Semantic Relations Modeling for Image Text Retrieval. CVPR 2023; on HIST (Lim et al., CVPR
2022), whose learned class Gaussians give way to the queries of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch

from ..draws import draw
from ..embeddings import Embedding, Encoded, Points, Samples
from ..encoders import GaussianHead, Head
from ..losses import MatchNLL, Rescored, ScoreLoss, SemanticDistribution, Term
from ..relations import Hypergraph, Relation
from ..similarity import Cosine, Mahalanobis, MatchProbability, SampledMatchProbability, Similarity
from .base import Ranges
from .pcme import PCMETowers
from .recipe import Recipe

__all__ = ["MSRM"]


def _means(encoded: Encoded) -> Embedding:
    return Points(encoded.tensor("mean"))


def _samples(encoded: Encoded, count: int) -> Embedding:
    mean, log_variance = encoded.tensor("mean"), encoded.tensor("log_variance")
    shape = (len(mean), count, mean.shape[1])
    noise = draw("gaussian noise", lambda: torch.randn(shape, device=mean.device))
    return Samples(mean[:, None] + (log_variance / 2).exp()[:, None] * noise)


@dataclass(frozen=True, kw_only=True)
class MSRM(PCMETowers):
    """Every item is a diagonal Gaussian; a query's Gaussian is compared with the candidates' means.

    The loss on pairs reads the cosine of the means. PCME's match probability, the nearest published one, draws samples:
    with variances of at least 1 their noise outweighs means of unit length by far.

    Attributes:
        compare: what searches, "mahalanobis", "match" (PCME++'s match probability in closed form) or "mean" (cosine).
        base: the loss on pairs, "cosine" of the means by `objective`, or "match", PCME's loss on `samples` draws.
        samples: draws an item for it.
        covariance: "identity" takes every variance for 1 (Euclidean distance).
        bound: how the variance is bounded, "relu6" to 1 .. e^6 or "softplus" to above 0.01.
        distribution_weight: of the semantic distribution loss.
        distribution_temperature: tau, which sharpens the softmax of that loss.
        orientation: what its softmax runs over, the queries of each candidate ("queries") or the "candidates".
        hyperedge_weight: of the loss on refined candidates; 0 leaves the hypergraph out.
        incidence: "matches" (1 for a match), "free" of labels, or "top" (free, the `nearest` of each query only).
        nearest: candidates of a query under "top".
        refined: what is asked of refined candidates: cosines to the "queries" classify them, a layer with a class for
            each of `places` in the batch does (HIST), or they stand for the candidates in a "match" loss.
        refined_temperature: of those cosines.
        places: most queries of a batch under "places".
        layers: convolutions over the hypergraph, one after the other.
        graph_hidden: width between two of them.
        sharpness: alpha of the incidence `exp(-alpha d^2)`.
        shared: the same convolutions for both directions.
        graph_rate: learning rate of the convolutions, as a multiple of the base rate.
    """

    name: ClassVar[str] = "msrm"
    paper: ClassVar[str] = "Wang et al., CVPR 2023 (a reconstruction on HIST)"
    summary: ClassVar[str] = "Gaussian queries, Mahalanobis distance, hyperedge convolution while training"
    fixed: ClassVar[Mapping[str, str]] = {"mode": "no code of its authors is public"}
    ranges: ClassVar[Ranges] = {
        "distribution_weight": (0.0, math.inf),
        "distribution_temperature": (1e-3, 1e3),
        "hyperedge_weight": (0.0, math.inf),
        "layers": (1, 8),
        "graph_hidden": (1, math.inf),
        "sharpness": (1e-3, 1e3),
        "graph_rate": (1e-3, 1e3),
        **dict.fromkeys(("samples", "nearest", "places"), (1, math.inf)),
        "refined_temperature": (1e-3, 1e3),
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": {**PCMETowers.published, "objective": "triplet", "all_until": 0.0}
    }

    compare: Literal["mahalanobis", "match", "mean"] = "mahalanobis"
    base: Literal["cosine", "match"] = "cosine"
    samples: int = 7
    covariance: Literal["diagonal", "identity"] = "diagonal"
    bound: Literal["relu6", "softplus"] = "relu6"
    distribution_weight: float = 1.0
    distribution_temperature: float = 16.0
    orientation: Literal["queries", "candidates"] = "queries"
    hyperedge_weight: float = 1.0
    incidence: Literal["matches", "free", "top"] = "matches"
    nearest: int = 10
    refined: Literal["queries", "places", "match"] = "queries"
    refined_temperature: float = 0.05
    places: int = 256
    layers: int = 2
    graph_hidden: int = 512
    sharpness: float = 2.0
    shared: bool = False
    graph_rate: float = 5.0

    def head(self, inputs: int, side: Literal["image", "text"]) -> Head:
        return GaussianHead(inputs, self.dim, spread=self.spread, bound=self.bound)

    def similarity(self) -> Similarity:
        if self.compare == "match":
            return MatchProbability()
        return Mahalanobis(self.covariance) if self.compare == "mahalanobis" else Cosine()

    def terms(self) -> dict[str, tuple[float, Term]]:
        ((name, (_, base)),) = super().terms().items()
        assert isinstance(base, ScoreLoss)
        main = Rescored(Cosine(), base, view=_means)
        if self.base == "match":
            view = partial(_samples, count=self.samples)
            name, main = "match", Rescored(SampledMatchProbability(), MatchNLL(reduction="mean"), view=view)
        distribution: Term = SemanticDistribution(self.distribution_temperature, over=self.orientation)
        if self.compare != "mahalanobis":
            assert isinstance(distribution, ScoreLoss)
            distribution = Rescored(Mahalanobis(self.covariance), distribution)
        return {name: (1.0, main), "distribution": (self.distribution_weight, distribution)}

    def relation(self) -> Relation | None:
        if not self.hyperedge_weight:
            return None
        return Hypergraph(
            self.dim,
            hidden=self.graph_hidden,
            layers=self.layers,
            alpha=self.sharpness,
            incidence=self.incidence,
            top=self.nearest,
            use=self.refined,
            temperature=self.refined_temperature,
            places=self.places,
            match=Rescored(MatchProbability(), MatchNLL(reduction="mean")) if self.refined == "match" else None,
            # Above 0.01 alone, variances would leave exp(-alpha d^2) nothing but zeros.
            distance="mean" if self.bound == "softplus" else "sum",
            covariance=self.covariance,
            shared=self.shared,
            weight=self.hyperedge_weight,
        )

    def recipe(self) -> Recipe:
        recipe = super().recipe()
        return replace(recipe, groups={**recipe.groups, "relation.": self.graph_rate})
