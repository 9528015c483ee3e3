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
from ..encoders import ImageInput, TextInput, look_at, read_at
from ..encoders.linear import terms_known
from ..encoders.linear_start import expect_features, fit_linear, linear_parts
from ..errors import DataError, UnknownName
from ..losses import InfoNCE, Objective, SoftLabels, Term, Triplet
from ..losses.soft_labels import PUBLISHED_UNIT, Teacher
from ..relations import Relation
from ..similarity import Similarity
from .recipe import Recipe
from .settings import check_ranges, check_value, hints_of
from .towers import Ranges, Towers

if TYPE_CHECKING:
    from ..data.store import Where
    from .model import Model

__all__ = ["Method", "Ranges", "Recipe"]

SMALL_DATA = 20_000
"""Training images below which `objective="auto"` takes InfoNCE: there the hardest triplet hardly starts."""


@dataclass(frozen=True, kw_only=True)
class Method(Towers):
    """Base of all methods: towers, sampler and recipe that suit small data; a method changes what its paper changes.

    Attributes:
        sampling: "images" with some captions each, "pairs" of a caption and its image, or "neighbours" (pairs whose
            images look alike).
        batch: images a step ("pairs": pairs).
        captions: captions of an image in a batch; 0 takes all it has.
        objective: "auto" takes "infonce" below 20,000 training images, else what was published.
        margin: of the triplet, in units of similarity.
        reduction: of the triplet over its anchors.
        all_until: share of the run with all negatives before the hardest, in whole epochs and at least one; 1 never
            takes the hardest (triplet only).
        temperature: of InfoNCE at the start; learned.
        soft_weight: of soft labels, in the units of CUSA, which takes 0.1; beside InfoNCE it counts 64 times that.
        soft_teacher: of them, "features", or "shuffled", the control that says what is due to the teacher.
        soft_temperature: of the teacher.
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
    fixed: ClassVar[Mapping[str, str]] = {}
    """Inherited fields that do nothing for a method -> why; a value of theirs is refused."""
    ranges: ClassVar[Ranges] = {
        "batch": (2, math.inf),
        "captions": (0, math.inf),
        "margin": (0.0, math.inf),
        "all_until": (0.0, 1.0),
        "temperature": (0.01, 1e6),
        "soft_weight": (0.0, math.inf),
        "soft_temperature": (1e-3, 1e3),
    }
    """Field -> least and largest value; a method lists those of its own fields."""

    sampling: Literal["images", "pairs", "neighbours"] = "images"
    batch: int = 192
    captions: int = 2
    objective: str = "auto"
    margin: float = 0.2
    reduction: Literal["mean", "sum"] = "mean"
    all_until: float = 0.1
    temperature: float = 0.05
    soft_weight: float = 0.0
    soft_teacher: Teacher = "features"
    soft_temperature: float = 1.0
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

    def similarity(self) -> Similarity:
        """The similarity that trains, evaluates, indexes and searches."""
        raise NotImplementedError

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

    def prefixes(self) -> tuple[int, ...]:
        """How many first elements its sets may be used with, rising; none unless it trains them so."""
        return ()

    def objective_terms(self) -> Objective:
        """The named sum that training minimises."""
        return Objective({**self.terms(), **self.further_terms()})

    @property
    def unit(self) -> float:
        """How much one more of a cosine is in the scores: log-odds are larger, as the temperature they are read at."""
        return type(self).temperature / Method.temperature

    def further_terms(self) -> dict[str, tuple[float, Term]]:
        """Terms that may stand beside any others, none of them by default."""
        if not self.soft_weight:
            return {}
        soft = SoftLabels(self.soft_teacher, temperature=self.soft_temperature, unit=self.unit)
        return {"soft": (PUBLISHED_UNIT * self.soft_weight, soft)}

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

    def members(self) -> Mapping[str, Method]:
        """Methods that a composite one trains apart and then joins, by name; none by default."""
        return {}

    # ---- building

    def resolve(self, pairs: Pairs) -> Self:
        """The same method with every "auto" decided by the training pairs."""
        if self.objective != "auto":
            return self
        return replace(self, objective="infonce" if len(pairs) < SMALL_DATA else self.published_objective)

    def inputs(self, pairs: Pairs, image_tower: str | None, text_tower: str | None) -> tuple[ImageInput, TextInput]:
        """What the towers will be given, from the training pairs."""
        images = look_at(
            pairs, image_tower, longest_side=self.longest_side, tuning=self.image_tuning, rank=self.lora_rank
        )
        texts = read_at(
            pairs.captions,
            text_tower,
            least=self.least_count,
            released=self.mode == "released",
            tuning=self.text_tuning,
        )
        if self.start == "linear":
            expect_features(images, f"{self.name}.start=linear")
            texts = replace(texts, terms=terms_known(pairs.captions, least=self.least_count))
        return images, texts

    def begin(self, model: Model, pairs: Pairs, say: Callable[[str], None] | None) -> None:
        """Fill what a fresh model's weights begin at besides random numbers, from the training pairs."""
        begun = linear_parts(model.images, model.texts)
        if begun is not None:
            fit_linear(*begun, pairs, say)

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
