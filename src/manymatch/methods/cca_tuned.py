"""CCA, tuned: the closed form's maps learn on by gradient, with small networks beside them that begin at zero.

The closed form is Hotelling's (Biometrika 1936), the loss van den Oord et al.'s (2018), the Gaussians and their
match probability Chun's (Improved Probabilistic Image-Text Representations, ICLR 2024).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Literal, Self

from ..data.pairs import Pairs
from ..encoders import BagOfWords, Head, ImageInput, ImageTower, LinearFeatures, PointHead, TextInput
from ..encoders.linear_residual import ResidualBag, ResidualFeatures, SpreadHead
from ..encoders.linear_start import fit_linear
from ..encoders.pretrained.backed import Backed
from ..losses import InfoNCE, KLPrior, PseudoPositives, Term
from ..similarity import Cosine, MatchProbability, Similarity
from .base import Method, Ranges
from .cca import CCA
from .recipe import Recipe

__all__ = ["CCATuned"]

_READ = {"dim", "hidden", "dropout", "feature_dropout", "word_drop", "least_count", "sampling", "batch", "captions"}
_READ |= {"objective", "temperature", "mode", "soft_weight", "soft_teacher", "soft_temperature"}


@dataclass(frozen=True, kw_only=True)
class CCATuned(CCA):
    """Every item is a Gaussian (or one unit vector), its mean a linear map of the input and a little more.

    Attributes:
        hidden: width of the networks beside the linear maps.
        dropout: on their hidden layers.
        word_drop: share of a caption's terms left out while training.
        variance: each item also has a spread, which sets what it is compared by back; false gives plain points.
        start_log_variance: every log-variance at the start.
        scale, shift: a and b of the match probability at the start; learned.
        match_weight: of the cross-entropy of that probability over all pairs of a batch, beside InfoNCE.
        pseudo_weight: in it, of the same with whatever outscores a true pair taken for true.
        kl_weight: of the prior on the Gaussians.
        temperature: of InfoNCE at the start, in units of the cosine; learned.
    """

    name: ClassVar[str] = "cca_tuned"
    paper: ClassVar[str] = "Hotelling, Biometrika 1936; Chun, ICLR 2024"
    summary: ClassVar[str] = "cca trained on by InfoNCE with small networks beside its maps, points or Gaussians"
    fitted: ClassVar[bool] = False
    published_objective: ClassVar[str] = "infonce"
    further_objectives: ClassVar[tuple[str, ...]] = ()
    fixed: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys({spec.name for spec in fields(Method)} - _READ, "this method has no such part"),
        **dict.fromkeys(("start", "start_dim", "start_rate"), "this method is a linear start itself"),
    }
    ranges: ClassVar[Ranges] = {
        **dict.fromkeys(("match_weight", "pseudo_weight", "kl_weight"), (0.0, math.inf)),
        "scale": (1e-3, 1e3),
        "shift": (-1e3, 1e3),
    }

    hidden: int = 1024
    dropout: float = 0.5
    feature_dropout: float = 0.5
    word_drop: float = 0.3
    batch: int = 256
    variance: bool = True
    start_log_variance: float = -7.0
    scale: float = 10.0
    shift: float = 5.0
    match_weight: float = 20.0
    pseudo_weight: float = 0.1
    kl_weight: float = 1e-4

    def head(self, inputs: int, side: Literal["image", "text"]) -> Head:
        return SpreadHead(inputs, self.dim, start=self.start_log_variance) if self.variance else PointHead()

    def similarity(self) -> Similarity:
        return MatchProbability(self.scale, self.shift) if self.variance else Cosine()

    @property
    def unit(self) -> float:
        return 2 * self.scale if self.variance else super().unit

    def resolve(self, pairs: Pairs) -> Self:
        return replace(self, objective="infonce")

    def image_tower(self, inputs: ImageInput) -> ImageTower:
        if inputs.backbone is not None:
            return super().image_tower(inputs)
        return ResidualFeatures(
            inputs,
            self.head(self.hidden, "image"),
            dim=self.dim,
            hidden=self.hidden,
            feature_dropout=self.feature_dropout,
            dropout=self.dropout,
        )

    def text_tower(self, inputs: TextInput) -> BagOfWords:
        head = self.head(self.hidden, "text")
        return ResidualBag(inputs, head, dim=self.dim, hidden=self.hidden, drop=self.word_drop, dropout=self.dropout)

    def begin(self, model: Any, pairs: Pairs, say: Callable[[str], None] | None) -> None:
        images, texts = model.images.inner if isinstance(model.images, Backed) else model.images, model.texts
        assert isinstance(images, LinearFeatures) and isinstance(texts, BagOfWords)
        fit_linear(images, texts, pairs, say, image_ridge=self.image_ridge, text_ridge=self.text_ridge)

    def terms(self) -> dict[str, tuple[float, Term]]:
        if not self.variance:
            return {"infonce": (1.0, InfoNCE(self.temperature))}
        # Log-odds grow by twice the scale where a cosine grows by one.
        return {
            "infonce": (1.0, InfoNCE(self.temperature * self.unit)),
            "match": (self.match_weight, PseudoPositives(self.pseudo_weight, mode=self.mode)),
            "kl": (self.kl_weight, KLPrior(reduction="mean")),
        }

    def recipe(self) -> Recipe:
        # The probability's own numbers are some ten times larger than weights.
        return Recipe(epochs=8, lr=1e-4, groups={"similarity.": 10.0}, weight_decay=0.05, warmup=0.1, average=0.98)
