"""PCME++: an item is a Gaussian, compared by a distance in closed form; unmarked matches count as matches.

Chun. Improved Probabilistic Image-Text Representations. ICLR 2024.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ..encoders import Head, TokenGaussianHead
from ..losses import Inclusion, InfoNCE, KLPrior, PseudoPositives, ScoreLoss, Term
from ..similarity import MatchProbability, Similarity
from .base import Method, Ranges
from .recipe import PLAIN, Recipe, Stage

__all__ = ["PCMEpp"]

_BERT_LAYERS = 12
_LAYER_DECAY = 0.7
"""Each layer of the text backbone learns at this share of the rate of the one above it."""


@dataclass(frozen=True, kw_only=True)
class PCMEpp(Method):
    """Every item is a diagonal Gaussian with a unit mean.

    Attributes:
        distance: "csd" (closed-form sampled distance) or "wasserstein".
        context_heads: of the layer before the log-variance.
        pseudo_weight: of the same loss on pairs that score at least as high as a true one.
        kl_weight: of the prior on the Gaussians.
        scale, shift: a and b of the match probability at the start; learned.
        inclusion_weight: of the term by which an item lies inside of what is left of it when most words or regions go.
        start_log_variance: what the log-variance begins around.
        objective: "match" is the published cross-entropy with pseudo-positives; "infonce" reads the same log-odds.
    """

    name: ClassVar[str] = "pcmepp"
    paper: ClassVar[str] = "Chun, ICLR 2024"
    summary: ClassVar[str] = "Gaussians, closed-form sampled distance, pseudo-positives"
    published_objective: ClassVar[str] = "match"
    further_objectives: ClassVar[tuple[str, ...]] = ()
    ranges: ClassVar[Ranges] = {
        "context_heads": (1, 64),
        "pseudo_weight": (0.0, math.inf),
        "kl_weight": (0.0, math.inf),
        "inclusion_weight": (0.0, math.inf),
        "scale": (1e-3, 1e3),
        "shift": (-1e3, 1e3),
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": {
            "dim": 1024,
            "dropout": 0.0,
            "feature_dropout": 0.0,
            "region_drop": 0.2,
            "word_drop": 0.2,
            "use_pooled": False,
            "standardise": False,
            "sampling": "pairs",
            "batch": 128,
            "objective": "match",
            "start_log_variance": 0.0,
            "pooling": "published",
        }
    }

    temperature: float = 1.0
    distance: Literal["csd", "wasserstein"] = "csd"
    context_heads: int = 8
    pseudo_weight: float = 0.1
    kl_weight: float = 1e-4
    inclusion_weight: float = 0.0
    scale: float = 5.0
    shift: float = 5.0
    start_log_variance: float = -7.0

    def head(self, inputs: int, side: Literal["image", "text"]) -> Head:
        return TokenGaussianHead(
            inputs,
            self.dim,
            context_heads=self.context_heads,
            dropout=self.dropout,
            start=self.start_log_variance,
            add_pooled=self.pooling != "published",
        )

    def similarity(self) -> Similarity:
        return MatchProbability(self.scale, self.shift, self.distance)

    def terms(self) -> dict[str, tuple[float, Term]]:
        infonce = self.objective == "infonce"
        loss: ScoreLoss = InfoNCE(self.temperature) if infonce else PseudoPositives(self.pseudo_weight, mode=self.mode)
        return {self.objective: (1.0, loss), "kl": (self.kl_weight, KLPrior(reduction="mean"))}

    def further_terms(self) -> dict[str, tuple[float, Term]]:
        return {**super().further_terms(), "inclusion": (self.inclusion_weight, Inclusion(mode=self.mode))}

    def recipe(self) -> Recipe:
        if self.preset != "published":
            return Recipe()
        layers = {
            f"texts.bert.encoder.layer.{n}.": 0.1 * _LAYER_DECAY ** (_BERT_LAYERS - n) for n in range(_BERT_LAYERS)
        }
        return replace(
            PLAIN,
            epochs=25,
            lr=5e-4,
            groups={"texts.bert.": 0.1, "images.backbone.": 0.01, **layers},
            no_decay=("similarity.",),
            schedule="step",
            milestones=(15,),
            average_from=0.64,
            stages=(
                Stage(epochs=2, frozen=("images.backbone.",)),
                Stage(epochs=1, restart=False, loss_ramp=True),
                Stage(epochs=22, restart=False),
            ),
            note="published with AdamP, CLIP's backbones, Mixup and CutMix; here AdamW, ResNet and BERT, nothing mixed",
        )
