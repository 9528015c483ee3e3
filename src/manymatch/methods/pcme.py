"""PCME: an item is a Gaussian, compared through samples by the probability of a match.

Chun, Oh, de Rezende, Kalantidis and Larlus. Probabilistic Embeddings for Cross-Modal Retrieval. CVPR 2021.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ..embeddings import Embedding, Encoded, Samples
from ..encoders import RESNETS, Head, ImageInput, ImageTower, MeanNeck, Neck, SampleHead, TextInput, TextTower
from ..losses import Inclusion, InfoNCE, KLPrior, MatchNLL, Rescored, ScoreLoss, Term, Uniformity
from ..similarity import Cosine, SampledMatchProbability, SampleProducts, Similarity
from .base import Method, Ranges
from .recipe import PLAIN, Recipe, Stage

__all__ = ["PCME", "PCMETowers"]


def _samples(encoded: Encoded) -> Embedding:
    return Samples(encoded.tensor("samples"))


@dataclass(frozen=True, kw_only=True)
class PCMETowers(Method):
    """What PCME, P2RM and MSRM share: towers that give their uncertainty path weights of its own, and two stages.

    Attributes:
        inclusion_weight: of the term by which an item lies inside of what is left of it when most words or regions go.
    """

    pairwise: ClassVar[bool] = True
    ranges: ClassVar[Ranges] = {"inclusion_weight": (0.0, math.inf)}
    published: ClassVar[Mapping[str, Any]] = {
        "dim": 1024,
        "dropout": 0.0,
        "feature_dropout": 0.0,
        "region_drop": 0.0,
        "word_drop": 0.1,
        "pooling": "published",
        "use_pooled": False,
        "standardise": False,
        "least_count": 4,
        "sampling": "pairs",
        "batch": 128,
    }

    inclusion_weight: float = 0.0

    def further_terms(self) -> dict[str, tuple[float, Term]]:
        return {**super().further_terms(), "inclusion": (self.inclusion_weight, Inclusion(mode=self.mode))}

    @property
    def spread(self) -> bool:
        """Whether the towers give a second global vector; else the head makes one of the first."""
        return self.pooling == "published"

    def neck(self, inputs: int) -> Neck:
        return MeanNeck(inputs, self.dim, spread=True) if self.spread else super().neck(inputs)

    def image_tower(self, inputs: ImageInput) -> ImageTower:
        if self.spread and not (inputs.fragments or inputs.tower in RESNETS):
            # The small CNN and pooled features have no second path; the head makes one of the global vector.
            return replace(self, pooling="max_mean").image_tower(inputs)
        return super().image_tower(inputs)

    def text_tower(self, inputs: TextInput) -> TextTower:
        if not self.spread:
            return super().text_tower(inputs)
        if inputs.tower != "bigru":
            return replace(self, pooling="max_mean").text_tower(inputs)
        # Words as fragments, the outputs at the last valid step as the sentence, twice.
        settings: dict[str, Any] = {"merge": "concatenate", "pooling": "last_step", "second_gru": True}
        return self.bigru(inputs, "words", self.word_dim, **settings, drop_manner="unknown")

    def recipe(self) -> Recipe:
        if self.preset != "published":
            return Recipe()
        return replace(
            PLAIN,
            epochs=60,
            lr=2e-4,
            weight_decay=0.0,
            stages=(Stage(epochs=30, frozen=("images.backbone.", "texts.words.")), Stage(epochs=30, lr=2e-5)),
            note="published with AdamP; here AdamW, its projection is in no library this project keeps",
        )


@dataclass(frozen=True, kw_only=True)
class PCME(PCMETowers):
    """Every item is `samples` draws from a Gaussian around a unit vector.

    Attributes:
        samples: j, draws an item, while training and while searching.
        compare: "samples" searches by the probability of a match, "products" by the summed inner products of the draws
            (what the authors' scripts sort by), "mean" by the cosine of the means alone.
        kl_weight: of the prior on the Gaussians.
        uniform_weight: of the term that spreads what is searched by, an option of the authors' code that they left off.
        scale, shift: a and b of the match probability at the start; learned.
        start_log_sigma: what the log standard deviation begins around. The published 0 drowns means of unit length in
            noise, which large data overcome.
        objective: "match" is the published soft contrastive loss, "infonce" reads the same log-odds.
    """

    name: ClassVar[str] = "pcme"
    paper: ClassVar[str] = "Chun, Oh, de Rezende, Kalantidis and Larlus, CVPR 2021"
    summary: ClassVar[str] = "Gaussians, sampled match probability, soft contrastive loss"
    published_objective: ClassVar[str] = "match"
    further_objectives: ClassVar[tuple[str, ...]] = ()
    ranges: ClassVar[Ranges] = {
        "samples": (1, 64),
        **dict.fromkeys(("kl_weight", "uniform_weight"), (0.0, math.inf)),
        "scale": (1e-3, 1e3),
        "shift": (-1e3, 1e3),
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": {**PCMETowers.published, "objective": "match", "reduction": "sum", "start_log_sigma": 0.0}
    }

    temperature: float = 2.0
    samples: int = 7
    compare: Literal["samples", "products", "mean"] = "samples"
    kl_weight: float = 1e-5
    uniform_weight: float = 0.0
    scale: float = 15.0
    shift: float = 15.0
    start_log_sigma: float = -4.0

    def head(self, inputs: int, side: Literal["image", "text"]) -> Head:
        return SampleHead(
            inputs,
            self.dim,
            side=side,
            samples=self.samples,
            spread=self.spread,
            start=self.start_log_sigma,
            search_by="mean" if self.compare == "mean" else "samples",
        )

    def similarity(self) -> Similarity:
        if self.compare == "samples":
            return SampledMatchProbability(self.scale, self.shift)
        return Cosine() if self.compare == "mean" else SampleProducts()

    def terms(self) -> dict[str, tuple[float, Term]]:
        loss: ScoreLoss = InfoNCE(self.temperature)
        if self.objective == "match":
            positives: Literal["diagonal", "matches"] = "diagonal" if self.mode == "released" else "matches"
            loss = MatchNLL(reduction=self.reduction, positives=positives)
        main: Term = loss
        if self.compare != "samples":
            main = Rescored(SampledMatchProbability(self.scale, self.shift), loss, view=_samples)
        # Beside a loss that is a mean, a prior summed over the batch would be all that is learned.
        reduction = self.reduction if self.objective == "match" else "mean"
        regularisers: dict[str, tuple[float, Term]] = {
            "kl": (self.kl_weight, KLPrior(reduction=reduction, mode=self.mode)),
            "uniform": (self.uniform_weight, Uniformity()),
        }
        return {self.objective: (1.0, main), **regularisers}
