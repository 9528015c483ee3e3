"""Several trained models made one: a set of joined elements, which indexes, searches and serves like any other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from ..embeddings import Embedding, Sets
from ..encoders import ImageInput
from ..encoders.joined import JoinedImages, JoinedTexts, Joining, elements_of
from ..encoders.standardise import feature_statistics
from ..errors import CheckpointError, DataError
from ..losses import Objective
from ..similarity import Cosine, Order, Similarity, SmoothChamfer
from .base import Method
from .composite import Composite, JoinedRuns
from .model import Model

__all__ = ["Joint", "JointShape", "named_members"]

_ALPHA = 16.0
_VARYING = ("reads", "outputs")
"""Of a frozen network's identity: which of its outputs are read."""


@dataclass(frozen=True)
class JointShape:
    """What a joint is besides its members and numbers.

    Attributes:
        widths: d of each member's elements.
        elements: k.
        dim: width of the joint elements.
        alpha: of Smooth-Chamfer, where k > 1.
        lead: place of the member that reads pictures and says what its elements attend to.
    """

    widths: tuple[int, ...]
    elements: int
    dim: int
    alpha: float = _ALPHA
    lead: int = 0

    @classmethod
    def of(cls, members: Mapping[str, Model], dim: int) -> JointShape:
        """Measured by embedding one text. Raises DataError for members that cannot be joined."""
        for name, model in members.items():
            if model.elements is not None:
                raise DataError(f"join: {name} is used with its first {model.elements} elements; give it with all")
            if isinstance(model.similarity, Order):
                raise DataError(
                    f"join: {name} ({model.name}) cannot be joined: its points are compared by order, expected what "
                    "cosines compare"
                )
        probed = {name: model.encode_texts(["a"]) for name, model in members.items()}
        sides = {}
        for name, embedding in probed.items():
            try:
                sides[name] = elements_of(embedding).shape[1:]
            except DataError as error:
                raise DataError(f"join: {name} ({members[name].name}) cannot be joined: {error}") from None
        sizes = {name: int(k) for name, (k, _) in sides.items() if k > 1}
        if len(set(sizes.values())) > 1:
            said = ", ".join(f"{name} of {k}" for name, k in sizes.items())
            raise DataError(f"join: sets {said} elements, expected as many in each; train them with the same elements")
        _expect_same_input(members)
        ranked = sorted(
            (not isinstance(probed[name], Sets), -model.input_of_images.fragments, place)
            for place, (name, model) in enumerate(members.items())
        )
        lead = ranked[0][2]
        sharp = (getattr(model.similarity, "alpha", None) for model in members.values())
        alpha = next((each for each in sharp if isinstance(each, float)), _ALPHA)
        widths = tuple(int(d) for _, d in sides.values())
        return cls(widths, max(sizes.values(), default=1), min(dim, sum(widths)), alpha, lead)


def _expect_same_input(members: Mapping[str, Model]) -> None:
    (first, *others) = members
    wanted = _reads(members[first].input_of_images)
    for name in others:
        found = _reads(members[name].input_of_images)
        if found != wanted:
            said = " and ".join(f"{each} reads {_said(members[each].input_of_images)}" for each in (first, name))
            raise DataError(f"join: {said}; members must read the same features, or pictures in the same way")
    _expect_same_features(members)


def _expect_same_features(members: Mapping[str, Model]) -> None:
    """Features of equal shape may be of different files: those of the same pairs have the same means and spreads.

    A member that takes features as they are (standardise=false) keeps nothing of them to compare.
    """
    known: dict[tuple[str, str], tuple[str, Tensor]] = {}
    for name, model, trained in _trained(members):
        if trained is None or model.input_of_images.tower != "features":
            continue
        for place, found in feature_statistics(model.images).items():
            first, wanted = known.setdefault((trained, place), (name, found))
            if not _alike(found, wanted):
                raise DataError(
                    f"join: {first} and {name} were trained on the same pairs with different features ({place} "
                    "differs); members must read the same features"
                )


def _trained(members: Mapping[str, Model]) -> Iterator[tuple[str, Model, str | None]]:
    """Members, those of a member that is a joint itself, and the digest of what each was trained on."""
    for name, model in members.items():
        yield name, model, model.notes.get("seen", {}).get("training")
        if isinstance(model, Joint):
            seen = model.notes.get("seen of members", {})
            for inner, each in zip(model.members, model.models, strict=True):
                yield f"{inner} of {name}", each, seen.get(inner, {}).get("training")


def _alike(one: Tensor, other: Tensor) -> bool:
    """Equal but for the order in which sums were taken."""
    one, other = one.detach().double().cpu(), other.detach().double().cpu()
    return torch.allclose(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


def _reads(inputs: ImageInput) -> dict[str, Any]:
    """What must be equal: one preparation of an image serves all members."""
    if inputs.backbone is None:
        return inputs.to_json()
    facts = inputs.backbone
    # One that learns is a network of its member's own; what it is built of says how it reads a picture.
    identity = facts["looking"] if "looking" in facts else facts["identity"]
    same = {name: value for name, value in identity.items() if name not in _VARYING}
    return {"tower": inputs.tower, "tuning": facts["tuning"], "identity": same}


def _said(inputs: ImageInput) -> str:
    if inputs.backbone is not None:
        return f"{inputs.backbone['source']} ({inputs.backbone['tuning']})"
    if inputs.tower != "features":
        return f"pictures of {inputs.size} pixels ({inputs.tower})"
    fragments = f"{inputs.fragments} fragments of {inputs.fragment_width}" if inputs.fragments else "no fragments"
    return f"{fragments} and {f'{inputs.pooled_width} pooled' if inputs.pooled_width else 'nothing pooled'}"


class Joint(Model):
    """Trained models as one. Made by `Joint.of`, `manymatch.join`, a composite method's `build`, or `load`.

    Attributes:
        members: the models, by name.
        images, texts: their towers, joined.
        joining: their weights and the rotation.
        shape: the rest.
    """

    images: JoinedImages
    texts: JoinedTexts

    def __init__(self, method: Composite, members: Mapping[str, Model], shape: JointShape) -> None:
        nn.Module.__init__(self)
        self._blank()
        self.method: Method = method
        self.shape = shape
        self.members = nn.ModuleDict(members)
        self.joining = Joining(shape.widths, shape.elements, shape.dim)
        models = self.models
        lead = models[shape.lead]
        self.input_of_images, self.input_of_texts = lead.input_of_images, lead.input_of_texts
        fragments = [model.input_of_images.backbone is None or model.input_of_images.fragments > 0 for model in models]
        self.images = JoinedImages([model.images for model in models], fragments, self.joining, shape.lead)
        self.texts = JoinedTexts([model.texts for model in models], self.joining, shape.lead)
        self.similarity: Similarity = SmoothChamfer(shape.alpha) if shape.elements > 1 else Cosine()
        self.objective_terms, self.relation = Objective({}), None
        self.from_random = {k: any(model.from_random.get(k, False) for model in models) for k in ("images.", "texts.")}
        self.begun = [line for model in models for line in model.begun]

    @classmethod
    def of(cls, method: Composite, members: Mapping[str, Model], *, seed: int = 0) -> Joint:
        """These models with equal weights and, where they are wider together than `method.dim`, a random rotation.

        Args:
            method: what tables call it, and the width.
            members: by name, as they are; each is held and no copy.
            seed: of the rotation.

        Raises:
            DataError: embeddings that are not compared by cosines, sets of different size, different image input.
        """
        joint = cls(method, members, JointShape.of(members, method.dim))
        if joint.joining.rotation is not None:
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.randn(joint.joining.rotation.shape[::-1], generator=generator)
            joint.joining.rotation.copy_(torch.linalg.qr(drawn)[0].T)
        return joint

    @property
    def models(self) -> list[Model]:
        """The members, in their order."""
        return [model for model in self.members.values() if isinstance(model, Model)]

    @property
    def prefixes(self) -> tuple[int, ...]:
        """Those that every member has that is a set; a repeated point, and a set of one, has any."""
        whole = [model for model in self.models if any("sets" in k for k in model.similarity.kinds)]
        sets = [set(model.prefixes) for model in whole if model.prefixes != (1,)]
        return tuple(sorted(set.intersection(*sets))) if sets else ()

    @property
    def summary(self) -> str:
        """Members with their weights, and the width."""
        weights = self.joining.weights.tolist()
        parts = [f"{name} ({m.name}) x {w:.3g}" for name, m, w in zip(self.members, self.models, weights, strict=True)]
        total = sum(self.shape.widths)
        turned = f", {total} rotated to {self.shape.dim}" if self.shape.dim < total else ""
        used = f", elements {self.elements} of {self.shape.elements}" if self.elements is not None else ""
        return f"{self.name}: {' + '.join(parts)}{turned}{used}"

    # ---- what each member says

    def image_parts(self, images: Any, *, batch_size: int = 256) -> list[Embedding]:
        """Embeddings of n images by each member, as `encode_images`."""
        return self._parts_of(images, batch_size, lambda x: self.images.parts(self.prepare_images(x)))

    def text_parts(self, texts: Sequence[str], *, batch_size: int = 256) -> list[Embedding]:
        """Embeddings of n texts by each member, as `encode_texts`."""
        return self._parts_of(texts, batch_size, lambda x: self.texts.parts(self.texts.prepare(list(x))))

    def _parts_of(self, items: Any, size: int, encode: Callable[[Any], list[Embedding]]) -> list[Embedding]:
        blocks = []
        with self.at_rest():
            for start in range(0, len(items), size):
                blocks.append([part.to("cpu", torch.float32) for part in encode(items[start : start + size])])
        return [type(parts[0]).concat(parts) for parts in zip(*blocks, strict=True)]

    # ---- training

    def batch(self, *_: Any, **__: Any) -> NoReturn:
        """Raises DataError: its members train apart."""
        raise DataError(f"{self.name}: its members train apart, and there is no step of all; train them with train()")

    training_step = batch

    # ---- identity

    def describe(self) -> dict[str, Any]:
        """As `Model.describe`, with what it is of each member under `members`."""
        if self._stored is not None:
            return self.used({**self._stored})
        named = zip(self.members, self.models, strict=True)
        return self.used(
            {
                "method": self.name,
                "fields": {k: v for k, v in asdict(self.method).items() if k not in self.method.fixed},
                "members": [{"name": name, **model.describe()} for name, model in named],
                "joint": {**asdict(self.shape), "widths": list(self.shape.widths)},
                "images": self.input_of_images.to_json(),
            }
        )

    @classmethod
    def _described(cls, value: Mapping[str, Any]) -> Joint:
        from . import method_class

        kind = JoinedRuns if value["method"] == JoinedRuns.name else method_class(value["method"])
        method = kind(**{name: v for name, v in value["fields"].items() if name not in kind.fixed})
        if not isinstance(method, Composite):
            raise CheckpointError(f"run description: {method.name} joins no members; it was written by another version")
        members = {each["name"]: Model.from_description(each) for each in value["members"]}
        shape = JointShape(**{**value["joint"], "widths": tuple(value["joint"]["widths"])})
        joint = cls(method, members, shape)
        joint._stored = {key: value[key] for key in ("method", "fields", "members", "joint", "images")}
        joint.elements = value.get("elements")
        return joint

    def essence(self) -> dict[str, Any]:
        """As `Model.essence`, of every member too."""
        named = zip(self.describe()["members"], self.models, strict=True)
        members = [{"name": about["name"], **model.essence()} for about, model in named]
        own = {key: value for key, value in self.describe().items() if key != "images"}
        return {**own, "members": members}

    def borrowed(self, name: str) -> bool:
        start, _, rest = name.partition(".")
        if start != "members":
            return False
        member, _, rest = rest.partition(".")
        model = self.members[member]
        assert isinstance(model, Model)
        return model.borrowed(rest)

    def search_state(self) -> dict[str, Tensor]:
        """The members' weights under their names, their own weights in the joint, and the rotation."""
        state = {f"joining.{k}": v for k, v in self.joining.state_dict().items()}
        for name, model in zip(self.members, self.models, strict=True):
            state |= {f"members.{name}.{k}": v for k, v in model.search_state().items()}
        return state

    def training_state(self) -> dict[str, Tensor]:
        """Nothing: what its members train with lies in their own runs."""
        return {}

    def parameter_count(self) -> int:
        return sum(model.parameter_count() for model in self.models)


def named_members(models: Sequence[Model], names: Sequence[str]) -> dict[str, Model]:
    """Models by names that a joint can file them under: letters, digits, "_" and "-", each different."""
    out: dict[str, Model] = {}
    for model, name in zip(models, names, strict=True):
        plain = "".join(letter if letter.isalnum() or letter in "_-" else "-" for letter in name)
        if not plain or hasattr(nn.ModuleDict(), plain):
            plain = model.name
        free, number = plain, 1
        while free in out:
            number += 1
            free = f"{plain}-{number}"
        out[free] = model
    return out
