"""ESA: one point an item, every dimension with an attention of its own, trained on the worst of several views.

Zhu, Zhang, Wei, Huang and Zhao. ESA: External Space Attention Aggregation for Image-Text Retrieval. IEEE
Transactions on Circuits and Systems for Video Technology 2023. The published numbers are those of the authors' scripts:
`preset="published"` for regions and a BiGRU, "bert" for regions and BERT.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from ..embeddings import Embedding, Encoded, Points
from ..encoders import AttentionPool, Head, LeftToHead, Pool, TextInput, TextTower, ViewsHead, WordDrop
from ..losses import Expanding, Rescored, Term
from ..similarity import Cosine, Similarity
from .base import Method, Ranges
from .recipe import PLAIN, Recipe
from .towers import Pooling
from .vse_infty import REGIONS

__all__ = ["ESA"]

_PUBLISHED: Mapping[str, Any] = {
    **REGIONS,
    # Regions are left out of each view, and of nothing before.
    "region_drop": 0.0,
    "drop_marks": True,
    "sampling": "pairs",
    "batch": 128,
    "objective": "expanding",
    "reduction": "sum",
    # All negatives in the first of 25 epochs.
    "all_until": 0.04,
}


@dataclass(frozen=True, kw_only=True)
class ESA(Method):
    """Every item is one unit vector, the mean of its fragments with weights for each dimension.

    Attributes:
        objective: "expanding" is the published loss over several views of each item: the least similar of a match's
            views against the hardest negative. Under the others an item has one view.
        pooling: "attention", or "max_mean", which it is compared with; "published" pools by attention too.
        views: of every item while training.
        view_drop: share of the regions that each view of an image leaves out. Views of a text differ by `word_drop`;
            under a pretrained text network they leave out this share of its tokens.
        drop_marks: `word_drop` takes the start and the end of a text for words too (BiGRU only).
    """

    name: ClassVar[str] = "esa"
    paper: ClassVar[str] = "Zhu, Zhang, Wei, Huang and Zhao, TCSVT 2023"
    summary: ClassVar[str] = "one point an item, attention for each dimension, the worst of two views must rank first"
    pairwise: ClassVar[bool] = True
    published_objective: ClassVar[str] = "expanding"
    ranges: ClassVar[Ranges] = {"views": (1, 16), "view_drop": (0.0, 0.99)}
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": _PUBLISHED,
        "bert": {**_PUBLISHED, "drop_marks": False},
    }

    pooling: Pooling = "attention"
    views: int = 2
    view_drop: float = 0.2
    drop_marks: bool = False

    @property
    def _views(self) -> int:
        """Views that the objective reads."""
        return self.views if self.objective == "expanding" else 1

    def pool(self, side: Literal["image", "text"]) -> Pool:
        return LeftToHead()

    def head(self, inputs: int, side: Literal["image", "text"]) -> Head:
        pool = super().pool(side) if self.pooling == "max_mean" else AttentionPool(inputs)
        return ViewsHead(pool, views=self._views, drop=self.view_drop)

    def text_tower(self, inputs: TextInput) -> TextTower:
        settings = {"drop_marks": self.drop_marks}
        bigru = inputs.backbone is None and inputs.tower == "bigru"
        tower = self.bigru(inputs, "states", self.dim, **settings) if bigru else super().text_tower(inputs)
        if isinstance(drop := getattr(tower, "drop", None), WordDrop) and isinstance(tower.head, ViewsHead):
            # Each view is a text of its own from the first word on.
            drop.views, tower.head.drop = self._views, None
        return tower

    def similarity(self) -> Similarity:
        return Cosine()

    def terms(self) -> dict[str, tuple[float, Term]]:
        inherited = super().terms()
        if self.objective != "expanding":
            return inherited
        paired = self.mode == "released"
        loss = Expanding(
            self.margin,
            reduction=self.reduction,
            all_until=self.all_until,
            positives="diagonal" if paired else "matches",
            siblings="negatives" if paired else "masked",
        )
        main: Term = loss if self.views == 1 else Rescored(Cosine(), loss, view=_views)
        return {"expanding": (1.0, main), **{name: term for name, term in inherited.items() if name != "triplet"}}

    def recipe(self) -> Recipe:
        if not self.preset:
            return Recipe()
        # The BiGRU script calls AdamW without a weight decay, so the library's 0.01 holds; the BERT script says 1e-4.
        return replace(
            PLAIN,
            epochs=25,
            lr=5e-4,
            groups={"texts.bert.": 0.1, "images.backbone.": 0.01},
            weight_decay=0.01 if self.preset == "published" else 1e-4,
            schedule="step",
            milestones=(15,),
        )


def _views(encoded: Encoded) -> Embedding:
    """(n, h, d) -> (n h, d)."""
    return Points(encoded.tensor("views").flatten(0, 1))
