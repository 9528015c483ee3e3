"""PVSE: sets by PIE-Net, a set is as close as its closest pair (multiple-instance similarity).

Song and Soleymani. Polysemous Visual-Semantic Embedding for Cross-Modal Retrieval. CVPR 2019.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ..encoders import Head, MeanNeck, Neck, PIEHead, TextInput, TextTower
from ..losses import MMD, Diversity, Term
from ..similarity import Mil, Similarity
from .base import Method, Ranges
from .recipe import PLAIN, Recipe, Stage

__all__ = ["PVSE"]


@dataclass(frozen=True, kw_only=True)
class PVSE(Method):
    """Every item is a set of `elements` unit vectors.

    Attributes:
        elements: k, size of each set.
        mmd_weight, diversity_weight: of the regularisers; a set of one has none.
        pooling: global vectors: "published", a linear map of the mean fragment and both directions of the BiGRU side by
            side; "max_mean", of projected regions and of words.
        text_global: a text's global vector, the two "final" states of the BiGRU, or its output at the "last_step",
            where the backward direction has read one word (the authors' published weights, their option `legacy`).
        train_backbone, train_words: a backbone on pictures, or the word table, learns too; else it stays as it began.
    """

    name: ClassVar[str] = "pvse"
    paper: ClassVar[str] = "Song and Soleymani, CVPR 2019"
    summary: ClassVar[str] = "sets by local attention (PIE-Net), closest pair of elements"
    pairwise: ClassVar[bool] = True
    ranges: ClassVar[Ranges] = {
        "elements": (1, 64),
        "mmd_weight": (0.0, float("inf")),
        "diversity_weight": (0.0, float("inf")),
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": {
            "dim": 1024,
            "dropout": 0.0,
            "feature_dropout": 0.0,
            "region_drop": 0.0,
            "word_drop": 0.0,
            "pooling": "published",
            "standardise": False,
            "least_count": 4,
            "use_pooled": False,
            "sampling": "pairs",
            "batch": 256,
            "objective": "triplet",
            "margin": 0.1,
            "all_until": 0.0,
            "train_backbone": False,
            "train_words": False,
        }
    }

    elements: int = 2
    mmd_weight: float = 0.01
    diversity_weight: float = 0.1
    text_global: Literal["final", "last_step"] = "final"
    train_backbone: bool = True
    train_words: bool = True

    def head(self, inputs: int, side: Literal["image", "text"]) -> Head:
        return PIEHead(inputs, self.dim, elements=self.elements, dropout=self.residual_dropout)

    def similarity(self) -> Similarity:
        return Mil()

    def neck(self, inputs: int) -> Neck:
        return MeanNeck(inputs, self.dim, dropout=self.dropout) if self.pooling == "published" else super().neck(inputs)

    def text_tower(self, inputs: TextInput) -> TextTower:
        if self.pooling == "published" and inputs.tower == "bigru":
            return self.bigru(inputs, "words", self.word_dim, merge="concatenate", pooling=self.text_global)
        return super().text_tower(inputs)

    def terms(self) -> dict[str, tuple[float, Term]]:
        regularisers = {"mmd": (self.mmd_weight, MMD()), "diversity": (self.diversity_weight, Diversity(form="gram"))}
        return {**super().terms(), **(regularisers if self.elements > 1 else {})}

    def recipe(self) -> Recipe:
        recipe = self._published() if self.preset else Recipe()
        trains = {"images.backbone.": self.train_backbone, "texts.words.": self.train_words}
        frozen = tuple(start for start, learns in trains.items() if not learns)
        return replace(recipe, stages=(Stage(epochs=recipe.epochs, frozen=frozen),)) if frozen else recipe

    def _published(self) -> Recipe:
        # The authors step the plateau schedule in "min" mode with a score that grows.
        return replace(
            PLAIN,
            epochs=30,
            lr=2e-4,
            optimiser="adam",
            amsgrad=True,
            weight_decay=0.0,
            schedule="plateau",
            plateau_mode="min" if self.mode == "released" else "max",
            note=""
            if self.train_words
            else "published with GloVe's vectors, which never change; --text-tower bigru:FILE",
        )
