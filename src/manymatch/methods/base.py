"""The method contract: a frozen dataclass whose fields are its numbers and whose functions name its parts.

Two kinds keep the same contract: a trained method says its objective, sampler and recipe; a method fitted in closed
form (`fitted = True`) has `fit` instead. Both build the same Model, and everything after is the same.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from ..data.batches import ImagesWithCaptions, Sampler
from ..data.pairs import Pairs
from ..encoders import (
    BiGRUTower,
    FeatureTower,
    Head,
    ImageInput,
    ImageTower,
    Mode,
    PixelTower,
    TextInput,
    TextTower,
    look_at,
    read_at,
)
from ..errors import DataError, Error, UnknownName
from ..losses import InfoNCE, Objective, Term, Triplet
from ..relations import Relation
from ..similarity import Similarity

if TYPE_CHECKING:
    from .model import Model

__all__ = ["Method", "Recipe", "change", "check_ranges", "check_value"]

SMALL_DATA = 20_000
"""Training images below which `objective="auto"` takes InfoNCE: there the hardest triplet hardly starts."""


_SHARE = (0.0, 0.99)
_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("dim", "word_dim", "hidden", "least_count", "elements", "iterations", "heads"), (1, math.inf)),
    **dict.fromkeys(("head_width", "slot_hidden", "least_pairs", "most_terms"), (1, math.inf)),
    **dict.fromkeys(("dropout", "feature_dropout", "region_drop", "word_drop"), _SHARE),
    "longest_side": (16, 4096),
    "batch": (2, math.inf),
    "captions": (0, math.inf),
    "margin": (0.0, math.inf),
    "all_until": (0.0, 1.0),
    "temperature": (0.01, 1e6),
    "image_ridge": (1e-9, math.inf),
    "text_ridge": (1e-9, math.inf),
    "mmd_weight": (0.0, math.inf),
    "diversity_weight": (0.0, math.inf),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a method is trained. TrainConfig may override each of these.

    Attributes:
        epochs: passes over the training images.
        lr: base learning rate of AdamW.
        groups: start of a parameter's name -> factor on `lr`; the longest start that fits counts.
        weight_decay, betas: of AdamW.
        warmup: share of all steps over which the rate rises from 0.
        schedule: "cosine" to 0, "step" or "constant".
        milestones: epochs after which "step" multiplies the rate by `step_factor`.
        clip: largest norm of all gradients together; 0 is none.
        average: decay of the running average of the weights that is validated and kept; 0 keeps the last weights.
    """

    epochs: int = 14
    lr: float = 1e-3
    groups: Mapping[str, float] = field(default_factory=dict)
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    warmup: float = 0.05
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    milestones: tuple[int, ...] = ()
    step_factor: float = 0.1
    clip: float = 2.0
    average: float = 0.99


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
        region_norm: "layer" or "batch" (published) inside the region projector.
        pooling: global vector, "max_mean" of projected regions and GRU states, or "published" (maximum of the regions,
            mean of the GRU's two final states).
        use_pooled: read the pooled image vector where the data have one.
        standardise: bring precomputed features to one scale by the training split; the published systems take them raw.
        longest_side: pictures are scaled to at most this many pixels.
        least_count: a word must occur this often in the training captions.
        batch: images a step.
        captions: captions of an image in a batch; 0 takes all it has.
        objective: "auto" takes "infonce" below 20,000 training images, else "triplet".
        margin: of the triplet, in units of similarity.
        all_until: share of the run with all negatives before the hardest (triplet only).
        temperature: of InfoNCE at the start; learned.
        mode: "paper", or "released" where the authors' code departs from it.
        preset: the named set of values this method started from. `method(name, preset=...)` fills them in; the field
            alone changes nothing.
    """

    name: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    fitted: ClassVar[bool] = False
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    dim: int = 512
    word_dim: int = 300
    hidden: int = 256
    dropout: float = 0.2
    feature_dropout: float = 0.3
    region_drop: float = 0.1
    word_drop: float = 0.1
    region_norm: Literal["layer", "batch"] = "layer"
    pooling: Literal["max_mean", "published"] = "max_mean"
    use_pooled: bool = True
    standardise: bool = True
    longest_side: int = 96
    least_count: int = 3
    batch: int = 192
    captions: int = 2
    objective: Literal["auto", "infonce", "triplet"] = "auto"
    margin: float = 0.2
    all_until: float = 0.1
    temperature: float = 0.05
    mode: Mode = "paper"
    preset: str = ""

    def __post_init__(self) -> None:
        for spec in fields(self):
            check_value(self.name or type(self).__name__, spec.name, getattr(self, spec.name), _hints(type(self)))
        check_ranges(self.name or type(self).__name__, self, _RANGES)
        if self.preset and self.preset not in self.presets:
            raise UnknownName(f"preset of {self.name}", self.preset, self.presets)

    # ---- the parts

    def head(self, inputs: int, side: Literal["image", "text"]) -> Head:
        """The head over fragments of width `inputs`; its embedding is what is searched."""
        raise NotImplementedError

    def similarity(self) -> Similarity:
        """The similarity that trains, evaluates, indexes and searches."""
        raise NotImplementedError

    def image_tower(self, inputs: ImageInput) -> ImageTower:
        """The image tower for what the data hold."""
        head = self.head(self.dim, "image")
        if inputs.tower == "cnn":
            return PixelTower(inputs, head, dim=self.dim, dropout=self.dropout / 2)
        return FeatureTower(
            inputs,
            head,
            dim=self.dim,
            hidden=self.hidden,
            pooling="max" if self.pooling == "published" else "max_mean",
            norm=self.region_norm,
            use_pooled=self.use_pooled,
            standardise=self.standardise,
            dropout=self.dropout,
            feature_dropout=self.feature_dropout,
            drop=self.region_drop,
        )

    def text_tower(self, inputs: TextInput) -> TextTower:
        """The text tower."""
        return self.bigru(inputs, "states", self.dim)

    def bigru(self, inputs: TextInput, fragments: Literal["words", "states"], width: int) -> BiGRUTower:
        """A BiGRU tower whose head sees these fragments, `width` wide."""
        return BiGRUTower(
            inputs,
            self.head(width, "text"),
            dim=self.dim,
            word_dim=self.word_dim,
            fragments=fragments,
            pooling="last" if self.pooling == "published" else "max_mean",
            dropout=self.dropout,
            drop=self.word_drop,
        )

    def score_loss(self) -> dict[str, tuple[float, Term]]:
        """The main term, by the resolved `objective`."""
        if self.objective == "infonce":
            return {"infonce": (1.0, InfoNCE(self.temperature))}
        return {"triplet": (1.0, Triplet(self.margin, all_until=self.all_until))}

    def objective_terms(self) -> Objective:
        """The named sum that training minimises."""
        return Objective(self.score_loss())

    def relation(self) -> Relation | None:
        """Cross-item module, training only; none by default."""
        return None

    def sampler(self) -> Sampler:
        """How images and captions meet in batches."""
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
        return replace(self, objective="infonce" if len(pairs) < SMALL_DATA else "triplet")

    def inputs(self, pairs: Pairs, image_tower: str | None, text_tower: str | None) -> tuple[ImageInput, TextInput]:
        """What the towers will be given, from the training pairs."""
        return (
            look_at(pairs, image_tower, longest_side=self.longest_side),
            read_at(pairs.captions, text_tower, least=self.least_count),
        )

    def build(
        self, pairs: Pairs, *, image_tower: str | None = None, text_tower: str | None = None, seed: int = 0
    ) -> Model:
        """An untrained model for these training pairs: vocabulary and feature statistics are theirs.

        Args:
            pairs: the training split.
            image_tower: "features" or "cnn"; default: what the data hold.
            text_tower: "bigru".
            seed: of the starting weights.
        """
        from .model import Model

        return Model.fresh(self.resolve(pairs), pairs, image_tower, text_tower, seed)


def _hints(cls: type) -> dict[str, Any]:
    return {k: v for k, v in get_type_hints(cls).items() if get_origin(v) is not ClassVar}


def check_value(owner: str, name: str, value: Any, hints: Mapping[str, Any]) -> None:
    """Raises DataError unless `value` is of the field's type."""
    if not _fits(value, hints[name]):
        raise DataError(f"{owner}.{name}: found {value!r} ({type(value).__name__}), expected {_say(hints[name])}")


def check_ranges(owner: str, holder: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Raises DataError unless every number of the dataclass that has a range lies in it."""
    for name, (low, high) in ranges.items():
        value = getattr(holder, name, None)
        if value is not None and not low <= value <= high:
            end = "" if math.isinf(high) else f" and at most {high:g}"
            raise DataError(f"{owner}.{name}: found {value!r}, expected at least {low:g}{end}")


def _fits(value: Any, hint: Any) -> bool:
    origin = get_origin(hint)
    if hint is Any:
        return True
    if origin is Literal:
        return any(value == allowed and type(value) is type(allowed) for allowed in get_args(hint))
    if origin in (Union, types.UnionType):
        return any(_fits(value, h) for h in get_args(hint))
    if origin is not None:
        return True
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and value == value
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _say(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(repr(a) for a in get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_say(h) for h in get_args(hint))
    return {float: "a number", int: "a whole number", bool: "true or false", str: "text", type(None): "none"}.get(
        hint, getattr(hint, "__name__", str(hint))
    )


def change(owner: str, cls: type, settings: Mapping[str, str | Any]) -> dict[str, Any]:
    """Texts of `--set field=value` as values of a dataclass's field types; values that are no text pass unchanged.

    Raises:
        UnknownName: no such field; offers the nearest.
        DataError: a value that is not of the field's type.
    """
    hints, out = _hints(cls), {}
    known = [f.name for f in fields(cls)]
    for name, value in settings.items():
        if name not in known:
            raise UnknownName(f"field of {owner}", name, known)
        out[name] = _parse(value, hints[name]) if isinstance(value, str) else value
        check_value(owner, name, out[name], hints)
        if float in (hints[name], *get_args(hints[name])) and isinstance(out[name], int):
            out[name] = float(out[name])
    return out


def _parse(text: str, hint: Any) -> Any:
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    for option in options:
        try:
            if option is type(None) and text.lower() in ("none", "null"):
                return None
            if option is bool and text.lower() in ("true", "false", "yes", "no", "1", "0"):
                return text.lower() in ("true", "yes", "1")
            if option is int:
                return int(text)
            if option is float:
                return float(text)
        except (ValueError, Error):
            continue
    return text
