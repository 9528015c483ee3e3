"""DivE: sets of diverse embeddings by slot attention, compared by Smooth-Chamfer similarity.

Kim, Kim and Kwak. Improving Cross-Modal Retrieval with Set of Diverse Embeddings. CVPR 2023. The presets:

    published       the authors' COCO script, region features and a BiGRU
    flickr30k       the same with smaller batches; the authors gave no script (a project built on theirs has it so)
    resnext_bert    ResNeXt-101 grids and BERT, as far as the authors answered what they had trained with
    spread          small data, where elements else become one point: the default with MaxMatch's divergence, its scale
                    so large that it presses on elements nearer than the margin and lets the others be
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

from ..data.pairs import Pairs
from ..encoders import (
    ElementGaussians,
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
from ..errors import DataError
from ..losses import (
    MMD,
    Diversity,
    GlobalDiscriminative,
    InfoNCE,
    IntraSetDivergence,
    KLPrior,
    Nested,
    PseudoPositives,
    ScoreLoss,
    Term,
    prefixes_of,
)
from ..similarity import Assignment, Chamfer, ElementProbability, GaussianChamfer, Mil, Similarity, SmoothChamfer
from ..similarity.assignment import MOST_ELEMENTS
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

_MATCH_WEIGHT = 20.0
"""Of the match probability where pairs rank well from the first step on."""


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
        discriminative_weight: of what keeps elements away from the global vector (MaxMatch; 0.25 there), 0 is off.
        divergence_weight: of what keeps the elements of a set apart (MaxMatch; 0.25 there), 0 is off.
        discriminative_scale, discriminative_margin, divergence_scale, divergence_margin: of these two; a large scale
            presses on cosines above the margin alone.
        ramp: share of the run over which these two come in.
        text_fragments: what text slots attend to, "states" of the GRU or "words" of the word table.
        grid: image fragments are the cells of a square grid in their order, and slots may know their places.
        bert_pooling: BERT's global vector, the first token's ("cls") or the maximum.
        set_head: "slots", or the ablations "transformer" (softmax over inputs) and "pie" (PVSE's head).
        compare: "smooth_chamfer", "assignment" (MaxMatch: one to one), or the ablations "chamfer", "mil" (closest pair)
            and "probability" (mean match probability of the pairs).
        nested: the first 1, 2, 4, ... elements are trained as sets of their own too, and may be used alone.
        variance: every element also says how sure it is, as in PCME++: Smooth-Chamfer of closed-form distances
            (`gaussian_chamfer`), trained by InfoNCE on its log-odds, which `temperature` scales as it does a cosine.
        match_weight: of the cross-entropy of those log-odds with pseudo-positives (variance only); none is 20 with
            start=linear and 0 without. From random weights it draws all pairs together before any rank well, and the
            elements of a set with them.
        kl_weight: of the prior on the elements' variances (variance only).
        scale, shift: a and b of the log-odds at the start; learned (variance only).
        start_log_variance: of one of an element's d dimensions at the start (variance only).
    """

    name: ClassVar[str] = "dive"
    paper: ClassVar[str] = "Kim, Kim and Kwak, CVPR 2023"
    summary: ClassVar[str] = "sets of diverse embeddings, slot attention, Smooth-Chamfer"
    whole_pictures: ClassVar[bool] = True
    ranges: ClassVar[Ranges] = {
        **dict.fromkeys(("elements", "iterations", "heads", "head_width", "slot_hidden"), (1, math.inf)),
        **dict.fromkeys(("mmd_weight", "diversity_weight"), (0.0, math.inf)),
        **dict.fromkeys(("discriminative_weight", "divergence_weight"), (0.0, math.inf)),
        **dict.fromkeys(("discriminative_scale", "divergence_scale"), (1e-3, 100.0)),
        **dict.fromkeys(("discriminative_margin", "divergence_margin"), (-1.0, 1.0)),
        "ramp": (0.0, 1.0),
        **dict.fromkeys(("match_weight", "kl_weight"), (0.0, math.inf)),
        "alpha": (1e-3, 1e4),
        "scale": (1e-3, 1e3),
        "shift": (-1e3, 1e3),
        "start_log_variance": (-30.0, 10.0),
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "published": _COCO,
        "flickr30k": {**_COCO, "batch": 128},
        "resnext_bert": {**_COCO, "batch": 128, "margin": 0.1, "heads": 8, "head_width": 256, "grid": True},
        "spread": {"divergence_weight": 0.05, "divergence_scale": 10.0, "divergence_margin": 0.75, "ramp": 0.1},
    }

    elements: int = 4
    alpha: float = 16.0
    iterations: int = 4
    heads: int = 4
    head_width: int = 64
    slot_hidden: int = 512
    mmd_weight: float = 0.01
    diversity_weight: float = 0.01
    discriminative_weight: float = 0.0
    divergence_weight: float = 0.0
    discriminative_scale: float = 0.5
    discriminative_margin: float = 0.7
    divergence_scale: float = 0.5
    divergence_margin: float = 0.7
    ramp: float = 0.0
    text_fragments: Literal["states", "words"] = "states"
    grid: bool = False
    bert_pooling: Literal["max", "cls"] = "max"
    set_head: Literal["slots", "transformer", "pie"] = "slots"
    compare: Literal["smooth_chamfer", "chamfer", "mil", "probability", "assignment"] = "smooth_chamfer"
    nested: bool = False
    variance: bool = False
    match_weight: float | None = None
    kl_weight: float = 1e-4
    scale: float = 10.0
    shift: float = 5.0
    start_log_variance: float = -7.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compare == "assignment" and self.elements > MOST_ELEMENTS:
            raise DataError(
                f"dive.elements: found {self.elements}, expected at most {MOST_ELEMENTS} with compare=assignment"
            )
        if self.variance and self.compare != "smooth_chamfer":
            raise DataError(
                f"dive.compare: found {self.compare!r}, but variance compares by smooth_chamfer; leave it out"
            )
        if self.variance and self.objective == "triplet":
            raise DataError(
                "dive.objective: found 'triplet', but variance trains log-odds; leave it out or take infonce"
            )

    def resolve(self, pairs: Pairs) -> Self:
        if self.variance and self.objective == "auto":
            return replace(self, objective="infonce")
        return super().resolve(pairs)

    def head(self, inputs: int, side: Literal["image", "text"]) -> Head:
        made = self._set_head(inputs, side)
        return ElementGaussians(made, self.dim, start=self.start_log_variance) if self.variance else made

    def _set_head(self, inputs: int, side: Literal["image", "text"]) -> Head:
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
            largest = self.pool("text") if self.pooling == "attention" else MaxPool()
            return self.bert(inputs, pooling="cls" if self.bert_pooling == "cls" else largest)
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
        if self.compare == "assignment":
            return Assignment()
        if self.variance:
            return GaussianChamfer(self.scale, self.shift, self.alpha)
        return SmoothChamfer(self.alpha)

    @property
    def unit(self) -> float:
        return 2 * self.scale if self.variance else super().unit

    def prefixes(self) -> tuple[int, ...]:
        return prefixes_of(self.elements) if self.nested else ()

    def terms(self) -> dict[str, tuple[float, Term]]:
        # The first element of a nested set means the whole item, as the global vector does.
        discriminative = GlobalDiscriminative(
            self.discriminative_scale, self.discriminative_margin, exempt=int(self.nested), ramp=self.ramp
        )
        divergence = IntraSetDivergence(self.divergence_scale, self.divergence_margin, ramp=self.ramp)
        return {
            **{name: (weight, self._on_prefixes(term)) for name, (weight, term) in self._main_terms().items()},
            "mmd": (self.mmd_weight, MMD()),
            "diversity": (self.diversity_weight, Diversity()),
            "discriminative": (self.discriminative_weight, discriminative),
            "divergence": (self.divergence_weight, divergence),
        }

    def _on_prefixes(self, term: Term) -> Term:
        return Nested(term, self.prefixes()) if self.nested and isinstance(term, ScoreLoss) else term

    def _main_terms(self) -> dict[str, tuple[float, Term]]:
        if not self.variance:
            return super().terms()
        match_weight = self.match_weight
        if match_weight is None:
            match_weight = _MATCH_WEIGHT if self.start == "linear" else 0.0
        return {
            "infonce": (1.0, InfoNCE(self.temperature * self.unit)),
            "match": (match_weight, PseudoPositives(mode=self.mode)),
            "kl": (self.kl_weight, KLPrior(reduction="mean")),
        }

    def recipe(self) -> Recipe:
        if self.preset in ("", "spread"):
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
