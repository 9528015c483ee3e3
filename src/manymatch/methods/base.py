"""The method contract: a frozen dataclass whose fields are its numbers and whose functions name its parts.

Two kinds keep the same contract: a trained method says its objective, sampler and recipe; a method fitted in closed
form (`fitted = True`) has `fit` instead. Both build the same Model, and everything after is the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from ..choices import Mode
from ..data.batches import ImagesWithCaptions, Sampler, ShuffledPairs
from ..data.neighbours import NeighbourBatches
from ..data.pairs import Pairs
from ..encoders import (
    RESNETS,
    BackboneTower,
    BertTower,
    BiGRUTower,
    FeatureTower,
    Head,
    ImageInput,
    ImageTower,
    MaxMeanPool,
    MaxPool,
    Neck,
    PixelTower,
    Pool,
    ProjectorNeck,
    RegionProjector,
    TextInput,
    TextTower,
    look_at,
    read_at,
)
from ..encoders.images import Tuning
from ..encoders.pretrained import on_backbone
from ..errors import DataError, UnknownName
from ..losses import InfoNCE, Objective, Term, Triplet
from ..relations import Relation
from ..similarity import Similarity
from .recipe import Recipe
from .settings import check_ranges, check_value, hints_of

if TYPE_CHECKING:
    from ..data.store import Where
    from .model import Model

__all__ = ["Method", "Recipe"]

SMALL_DATA = 20_000
"""Training images below which `objective="auto"` takes InfoNCE: there the hardest triplet hardly starts."""

_SHARE = (0.0, 0.99)
Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Method:
    """Base of all methods: towers, sampler and recipe that suit small data; a method changes what its paper changes.

    Attributes:
        dim: joint width d.
        word_dim: width of the word table.
        hidden: inner width of the region projector.
        dropout: in towers and heads.
        feature_dropout: on precomputed features (half of it on fragments).
        region_drop, word_drop: share of fragments and words left out or masked while training.
        projector: form of the region projector: its inner layers read the projected region ("dive") or the raw one
            ("vse_infty"); "linear" has none (VSE-infinity on grids).
        region_norm: "layer" or "batch" (published) inside the region projector.
        pooling: global vector, "max_mean" of projected regions and of GRU states, or as "published".
        use_pooled: read the pooled image vector where the data have one.
        standardise: bring precomputed features to one scale by the training split; the published systems take them raw.
        longest_side: pictures are scaled to at most this many pixels.
        least_count: a word must occur this often in the training captions.
        sampling: "images" with some captions each, "pairs" of a caption and its image, or "neighbours" (pairs whose
            images look alike).
        batch: images a step ("pairs": pairs).
        captions: captions of an image in a batch; 0 takes all it has.
        image_tuning, text_tuning: what of a pretrained tower (hf:NAME) learns: nothing ("frozen"), all of it ("tuned"),
            or small matrices beside it ("lora").
        backbone_rate: learning rate of the last layer of a tower that is tuned, as a multiple of the base rate.
        layer_decay: each layer of it further from the output learns at this share of the rate of the one after it.
        lora_rank: rank of LoRA's matrices, which learn at the full rate.
        objective: "auto" takes "infonce" below 20,000 training images, else what was published.
        margin: of the triplet, in units of similarity.
        reduction: of the triplet over its anchors.
        all_until: share of the run with all negatives before the hardest, in whole epochs and at least one; 1 never
            takes the hardest (triplet only).
        temperature: of InfoNCE at the start; learned.
        mode: "paper", or "released" where the authors' code departs from it.
        preset: the named set of values this method started from. `method(name, preset=...)` fills them in; the field
            itself chooses the recipe.
    """

    name: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    fitted: ClassVar[bool] = False
    kind: ClassVar[str] = "fitted in closed form"
    """How a fitted one gets its weights, for tables."""
    learns: ClassVar[bool] = True
    """Whether training pairs say anything to it; what is taken as it is reads none."""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    published_objective: ClassVar[str] = "triplet"
    """What `objective="auto"` takes on large data."""
    further_objectives: ClassVar[tuple[str, ...]] = ("triplet",)
    """What `objective` may be besides "auto", "infonce" and the published one."""
    pairwise: ClassVar[bool] = False
    """Whether the authors' batches are pairs with the diagonal as truth, as `mode="released"` then has them."""
    whole_pictures: ClassVar[bool] = False
    """Whether a backbone sees the whole picture, squashed, and not its centre."""
    fixed: ClassVar[Mapping[str, str]] = {}
    """Inherited fields that do nothing for a method -> why; a value of theirs is refused."""
    ranges: ClassVar[Ranges] = {
        **dict.fromkeys(("dim", "word_dim", "hidden", "least_count"), (1, math.inf)),
        **dict.fromkeys(("dropout", "feature_dropout", "region_drop", "word_drop"), _SHARE),
        "backbone_rate": (1e-6, 1e3),
        "layer_decay": (1e-3, 1.0),
        "lora_rank": (1, 4096),
        "longest_side": (16, 4096),
        "batch": (2, math.inf),
        "captions": (0, math.inf),
        "margin": (0.0, math.inf),
        "all_until": (0.0, 1.0),
        "temperature": (0.01, 1e6),
    }
    """Field -> least and largest value; a method lists those of its own fields."""

    dim: int = 512
    word_dim: int = 300
    hidden: int = 256
    dropout: float = 0.2
    feature_dropout: float = 0.3
    region_drop: float = 0.1
    word_drop: float = 0.1
    projector: Literal["dive", "vse_infty", "linear"] = "dive"
    region_norm: Literal["layer", "batch"] = "layer"
    pooling: Literal["max_mean", "published"] = "max_mean"
    use_pooled: bool = True
    standardise: bool = True
    longest_side: int = 96
    least_count: int = 3
    sampling: Literal["images", "pairs", "neighbours"] = "images"
    batch: int = 192
    captions: int = 2
    image_tuning: Tuning = "frozen"
    text_tuning: Tuning = "frozen"
    backbone_rate: float = 0.1
    layer_decay: float = 0.8
    lora_rank: int = 8
    objective: str = "auto"
    margin: float = 0.2
    reduction: Literal["mean", "sum"] = "mean"
    all_until: float = 0.1
    temperature: float = 0.05
    mode: Mode = "paper"
    preset: str = ""

    def __post_init__(self) -> None:
        owner, hints = self.name or type(self).__name__, hints_of(type(self))
        for spec in fields(self):
            check_value(owner, spec.name, getattr(self, spec.name), hints)
        objectives = dict.fromkeys(("auto", "infonce", *self.further_objectives, self.published_objective))
        if self.objective not in objectives:
            raise DataError(f"{owner}.objective: found {self.objective!r}, expected one of {_listed(objectives)}")
        for cls in type(self).__mro__:
            check_ranges(owner, self, vars(cls).get("ranges", {}))
        if self.preset and self.preset not in self.presets:
            raise UnknownName(f"preset of {self.name}", self.preset, self.presets)
        for spec in fields(self):
            if spec.name in self.fixed and (found := getattr(self, spec.name)) != spec.default:
                raise DataError(f"{owner}.{spec.name}: found {found!r}, but {self.fixed[spec.name]}; leave it out")

    # ---- the parts

    def head(self, inputs: int, side: Literal["image", "text"]) -> Head:
        """The head over fragments of width `inputs`; its embedding is what is searched."""
        raise NotImplementedError

    def similarity(self) -> Similarity:
        """The similarity that trains, evaluates, indexes and searches."""
        raise NotImplementedError

    def pool(self, side: Literal["image", "text"]) -> Pool:
        """Fragments to the global vector."""
        return MaxPool() if self.pooling == "published" else MaxMeanPool()

    @property
    def residual_dropout(self) -> float:
        """Dropout of a residual beside the global vector (PIE-Net): on small data a young global vector drowns in one,
        a sigmoid around a half, whose entries drop out."""
        return self.dropout if self.pooling == "published" else 0.0

    def neck(self, inputs: int) -> Neck:
        """Between image fragments of width `inputs` and the head."""
        projector = RegionProjector(inputs, self.dim, self.hidden, form=self.projector, norm=self.region_norm)
        return ProjectorNeck(projector, self.pool("image"), dim=self.dim, dropout=self.dropout)

    def image_tower(self, inputs: ImageInput) -> ImageTower:
        """The image tower for what the data hold."""
        if inputs.backbone is not None:
            inner = self.image_tower(replace(inputs, tower="features", backbone=None))
            return on_backbone(inputs, inner, rate=self.backbone_rate, decay=self.layer_decay)
        if inputs.tower == "cnn":
            head = self.head(self.dim, "image")
            return PixelTower(inputs, self.pool("image"), head, dim=self.dim, dropout=self.dropout / 2)
        if inputs.tower != "features":
            neck = self.neck(RESNETS[inputs.tower])
            head = self.head(neck.width, "image")
            return BackboneTower(inputs, neck, head, drop=self.region_drop, whole=self.whole_pictures)
        fragments = self.neck(inputs.fragment_width) if inputs.fragments else None
        return FeatureTower(
            inputs,
            fragments,
            self.head(self.dim if fragments is None else fragments.width, "image"),
            dim=self.dim,
            use_pooled=self.use_pooled,
            pooled_form="linear" if self.pooling == "published" else "linear_mlp",
            standardise=self.standardise,
            dropout=self.dropout,
            feature_dropout=self.feature_dropout,
            drop=self.region_drop,
        )

    def text_tower(self, inputs: TextInput) -> TextTower:
        """The text tower."""
        if inputs.backbone is not None:
            return self.pretrained_texts(inputs)
        if inputs.tower == "bert":
            return self.bert(inputs)
        return self.bigru(inputs, "states", self.dim)

    def pretrained_texts(self, inputs: TextInput) -> TextTower:
        """A tower over a pretrained text network, whose head sees its projected token states."""
        if inputs.tower == "onnx":
            from ..encoders.pretrained.onnx_texts import OnnxTexts

            common: dict[str, Any] = {"dropout": self.dropout, "drop": self.word_drop}
            return OnnxTexts(inputs, self.head(self.dim, "text"), dim=self.dim, pool=self.pool("text"), **common)
        from ..encoders.pretrained.texts import PretrainedTexts

        settings: dict[str, Any] = {"tuning": self.text_tuning, "rate": self.backbone_rate, "decay": self.layer_decay}
        settings |= {"rank": self.lora_rank, "dropout": self.dropout, "drop": self.word_drop}
        return PretrainedTexts(inputs, self.head(self.dim, "text"), dim=self.dim, pool=self.pool("text"), **settings)

    def bert(self, inputs: TextInput, **settings: Any) -> BertTower:
        """A BERT tower whose head sees its projected word pieces; `settings` are further ones of the tower's."""
        common: dict[str, Any] = {"dim": self.dim, "pooling": self.pool("text"), "drop": self.word_drop}
        return BertTower(inputs, self.head(self.dim, "text"), **{**common, **settings})

    def bigru(
        self, inputs: TextInput, fragments: Literal["words", "states"], width: int, **settings: Any
    ) -> BiGRUTower:
        """A BiGRU tower whose head sees these fragments, `width` wide; `settings` are further ones of the tower's."""
        common: dict[str, Any] = {"dim": self.dim, "word_dim": self.word_dim, "dropout": self.dropout}
        common |= {"fragments": fragments, "pooling": self.pool("text"), "drop": self.word_drop}
        return BiGRUTower(inputs, self.head(width, "text"), **{**common, **settings})

    def terms(self) -> dict[str, tuple[float, Term]]:
        """The main term by the resolved `objective`; methods add theirs."""
        if self.objective == "infonce":
            return {"infonce": (1.0, InfoNCE(self.temperature))}
        paired = self.pairwise and self.mode == "released"
        triplet = Triplet(
            self.margin,
            reduction=self.reduction,
            all_until=self.all_until,
            positives="diagonal" if paired else "matches",
            siblings="negatives" if paired else "masked",
        )
        return {"triplet": (1.0, triplet)}

    def objective_terms(self) -> Objective:
        """The named sum that training minimises."""
        return Objective(self.terms())

    def relation(self) -> Relation | None:
        """Cross-item module, training only; none by default."""
        return None

    def sampler(self) -> Sampler:
        """How images and captions meet in batches."""
        if self.sampling == "neighbours":
            return NeighbourBatches(self.batch)
        if self.sampling == "pairs":
            return ShuffledPairs(self.batch, repeat_images=self.pairwise and self.mode == "released")
        return ImagesWithCaptions(self.batch, self.captions or None)

    def recipe(self) -> Recipe:
        """How it is trained."""
        return Recipe()

    def fit(self, model: Model, pairs: Pairs, say: Callable[[str], None]) -> dict[str, Any]:
        """Closed form, for `fitted` methods: fill the model's weights from the training pairs; what it measured."""
        raise NotImplementedError

    # ---- building

    def resolve(self, pairs: Pairs) -> Self:
        """The same method with every "auto" decided by the training pairs."""
        if self.objective != "auto":
            return self
        return replace(self, objective="infonce" if len(pairs) < SMALL_DATA else self.published_objective)

    def inputs(self, pairs: Pairs, image_tower: str | None, text_tower: str | None) -> tuple[ImageInput, TextInput]:
        """What the towers will be given, from the training pairs."""
        return (
            look_at(pairs, image_tower, longest_side=self.longest_side, tuning=self.image_tuning, rank=self.lora_rank),
            read_at(
                pairs.captions,
                text_tower,
                least=self.least_count,
                released=self.mode == "released",
                tuning=self.text_tuning,
            ),
        )

    def build(
        self,
        pairs: Pairs,
        *,
        image_tower: str | None = None,
        text_tower: str | None = None,
        seed: int = 0,
        store: Where = None,
        say: Callable[[str], None] | None = None,
    ) -> Model:
        """An untrained model for these training pairs: vocabulary and feature statistics are theirs.

        Args:
            pairs: the training split.
            image_tower: "features", "cnn", a backbone ("resnet152", or "resnet152:FILE" with its weights), or a
                pretrained network ("hf:NAME", "hf:FOLDER", "onnx:FILE"); default: what the data hold.
            text_tower: "bigru", "bigru:FILE" (word vectors its table begins from), "bert:FOLDER", or a pretrained
                network ("hf:NAME", "hf:FOLDER").
            seed: of the starting weights.
            store, say: as `Model.supply`: where features of a frozen image network are kept, and who is told.
        """
        from .model import Model

        return Model.fresh(self.resolve(pairs), pairs, image_tower, text_tower, seed, store=store, say=say)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
