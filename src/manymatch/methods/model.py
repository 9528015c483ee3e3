"""The model a method builds: two towers, a similarity, and while training an objective and a relation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from ..bank import Bank
from ..calibration import Calibration
from ..data.batches import Rows
from ..data.pairs import Pairs
from ..draws import recorded
from ..embeddings import Encoded
from ..encoders import ImageInput, TextInput, split_tower
from ..errors import CheckpointError, DataError
from ..losses import Objective, score
from ..relations import Relation
from ..similarity import Similarity
from .base import Method
from .batch import Batch, batch_of
from .encoding import Encoders

if TYPE_CHECKING:
    from ..data.store import Where

__all__ = ["Batch", "Model"]

_TRAINING_ONLY = ("objective_terms.", "relation.")
_PLACES = ("source", "revision")
"""Of a pretrained network's facts: where it was found, and not what it is."""


class Model(Encoders):
    """Two towers and the similarity they were trained with. Made by `Method.build` or `load`.

    Attributes:
        method: the resolved method, every number of it.
        image_input, text_input: what the towers read.
        images, texts: the towers.
        similarity: scores (q, g), the one that trains, evaluates, indexes and searches.
        objective_terms, relation: training only; not needed, nor stored with what is needed, to search.
        notes: what training recorded, written into the run.
        calibration: which score means what probability, fitted on held-out pairs; None where it was not fitted. No
            part of what the model is: its fingerprint does not depend on it.
        bank: training queries whose scores correct a ranking; None where none was fitted. No part of what the model is.
        begun: what its towers said of the files they began from, for a model made by `fresh`.
        from_random: whether each tower ("images.", "texts.") began from random weights, for a model made by `fresh`.
    """

    def __init__(self, method: Method, image_input: ImageInput, text_input: TextInput) -> None:
        super().__init__()
        self.method, self.input_of_images, self.input_of_texts = method, image_input, text_input
        self.images, self.texts = method.towers(image_input, text_input)
        self.similarity: Similarity = method.similarity()
        self.objective_terms: Objective = Objective({}) if method.fitted else method.objective_terms()
        self.relation: Relation | None = None if method.fitted else method.relation()
        self._blank()

    def _blank(self) -> None:
        """Nothing noted, fitted, begun or stored yet."""
        self.notes: dict[str, Any] = {}
        self.calibration: Calibration | None = None
        self.bank: Bank | None = None
        self.from_random: dict[str, bool] = {}
        self.begun: list[str] = []
        self._stored: dict[str, Any] | None = None

    @classmethod
    def fresh(
        cls,
        method: Method,
        pairs: Pairs,
        image_tower: str | None,
        text_tower: str | None,
        seed: int,
        *,
        store: Where = None,
        say: Callable[[str], None] | None = None,
    ) -> Model:
        """Seeded starting weights, with vocabulary and feature statistics of these training pairs.

        Args:
            store, say: as `supply`, for statistics of what a frozen image network sees.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(method, *method.inputs(pairs, image_tower, text_tower))
            for start, tower, source in (("images.", model.images, image_tower), ("texts.", model.texts, text_tower)):
                said = tower.begin(split_tower(source)[1])
                model.begun += [said] if said else []
                model.from_random[start] = split_tower(source)[1] is None
        if method.learns:
            seen = model.supply(pairs, store, say)
            model.images.fit_input(seen.images)
            method.begin(model, seen, say)
        return model

    @property
    def name(self) -> str:
        """The method's name."""
        return self.method.name

    @property
    def summary(self) -> str:
        """How it was made, for tables: method, and what its "auto" fields and preset came to."""
        m = self.method
        parts = [m.kind if m.fitted else f"objective {m.objective}"]
        parts += [f"preset {m.preset}"] if m.preset else []
        parts += [f"mode {m.mode}"] if m.mode != "paper" else []
        parts += [f"elements {self.elements} of {self.prefixes[-1]}"] if self.elements is not None else []
        return f"{self.name}: {', '.join(parts)}"

    # ---- training

    def batch(
        self,
        pairs: Pairs,
        image_rows: Any,
        caption_rows: Any,
        matches: np.ndarray[Any, Any],
        *,
        seed: Sequence[int] = (0,),
    ) -> Batch:
        """The batch of these rows of the training pairs, read from disk now.

        Args:
            seed: of what is left out of some of them, for a term that asks.
        """
        images = self.prepare_images(pairs.images.take(image_rows))
        rows = Rows(np.asarray(image_rows), np.asarray(caption_rows), matches)
        return batch_of(images, pairs.captions, rows, self.texts, self.objective_terms.containment(), seed)

    def training_step(self, batch: Batch, draws: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Forward through towers, similarity and objective: each named term, and `loss`.

        Args:
            batch: images, texts and matches.
            draws: recorded random numbers by name (`draws.py`), for a step that must be replayed.

        Raises:
            DataError: draws that nothing in the step asks for, or a batch without any match.
        """
        with recorded(draws):
            return self._step(batch)

    def _step(self, batch: Batch) -> dict[str, Tensor]:
        images, texts = self.images(batch.images), self.texts(batch.texts)
        parts = [*batch.parts(images, texts, self.images, self.texts)]
        # Towers may run in bfloat16; a similarity divided by a temperature of 0.05 must not.
        with torch.autocast(self.device.type, enabled=False):
            images, texts = images.float(), texts.float()
            matches = batch.matches.to(self.device)
            scores = score(self.similarity, images.embedding, texts.embedding)
            seen: dict[str, Any] = {
                "similarity": self.similarity,
                "rows": batch.rows,
                "parts": [(whole.float(), part.float()) for whole, part in parts],
            }
            terms = self.objective_terms(scores, matches, images, texts, **seen)
            if self.relation is not None and self.relation.active():
                self._relate(self.relation, images, texts, matches, terms)
            return terms

    def advance(self, step: int, steps: int, epochs: int = 0) -> None:
        """Tell objective and relation, before a step, which of how many it is, and how many epochs those are."""
        self.objective_terms.advance(step, steps, epochs)
        if self.relation is not None:
            self.relation.advance(step, steps)

    def _relate(
        self, relation: Relation, images: Encoded, texts: Encoded, matches: Tensor, terms: dict[str, Tensor]
    ) -> None:
        """Add what the relation says to the terms: further pairs by the same losses, and its own penalties."""
        related = relation(images, texts, matches)
        relation.acted += 1
        for name, further_images, further_texts in related.pairs:
            for term, value in self.objective_terms.of_scores(
                score(self.similarity, further_images, further_texts), matches
            ).items():
                terms[f"{name} {term}"] = value
                terms["loss"] = terms["loss"] + self.objective_terms.weights[term] * value
        for name, (weight, value) in related.penalties.items():
            terms[name] = value
            terms["loss"] = terms["loss"] + weight * value

    # ---- the first elements alone

    @property
    def prefixes(self) -> tuple[int, ...]:
        """How many first elements its sets may be used with, the last all of them; none unless it was trained so."""
        return self.method.prefixes()

    def first(self, elements: int) -> Self:
        """Embed from now on with the first elements of each set alone. What was fitted to others' scores is dropped.

        Raises:
            DataError: it was not trained nested, or not with so many.
        """
        if not self.prefixes:
            raise DataError(
                f"elements {elements}: {self.name} was not trained to be used with fewer; leave it out, or train a "
                "method that can be with nested=true"
            )
        if elements not in self.prefixes:
            raise DataError(f"elements {elements}: expected {' or '.join(str(n) for n in self.prefixes)}, as trained")
        wanted = None if elements == self.prefixes[-1] else elements
        if wanted == self.elements:
            return self
        if self.bank is not None:
            # What was cut already cannot be made longer.
            longer = self.elements is not None and elements > self.elements
            self.bank = None if longer else self.bank.first(elements)
        self.elements, self.calibration = wanted, None
        return self

    # ---- identity

    def describe(self) -> dict[str, Any]:
        """All but the weights, as JSON: what `from_description` builds the model from.

        A loaded run keeps the description it was written with, so that its fingerprint outlives new fields.
        """
        if self._stored is not None:
            return self.used({**self._stored})
        return self.used(
            {
                "method": self.name,
                "fields": asdict(self.method),
                "images": self.input_of_images.to_json(),
                "texts": self.input_of_texts.to_json(),
            }
        )

    def used(self, description: dict[str, Any]) -> dict[str, Any]:
        """The description with how many elements it is used with, where those are not all."""
        return description if self.elements is None else {**description, "elements": self.elements}

    @classmethod
    def from_description(cls, value: Mapping[str, Any]) -> Model:
        """The model of `describe`, with untrained weights. Raises UnknownName, CheckpointError."""
        kind: type[Model] = cls
        if "members" in value:
            from .joint import Joint

            kind = Joint
        try:
            return kind._described(value)
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"run description: {error}; it was written by another version") from None
        except DataError as error:
            # A pretrained network that is not where it was, or a library that is not installed.
            raise CheckpointError(f"run: {error}") from None

    @classmethod
    def _described(cls, value: Mapping[str, Any]) -> Model:
        """`from_description`, whatever goes wrong."""
        from . import method_class

        kind = method_class(value["method"])
        method = kind(**{name: v for name, v in value["fields"].items() if name not in kind.fixed})
        model = cls(method, ImageInput(**value["images"]), TextInput.from_json(value["texts"]))
        model._stored = {key: value[key] for key in ("method", "fields", "images", "texts")}
        model.elements = value.get("elements")
        return model

    def essence(self) -> dict[str, Any]:
        """`describe` without the places where pretrained networks were found: their digests say what they are."""
        value = self.describe()
        for side in ("images", "texts"):
            if backbone := value[side].get("backbone"):
                kept = {name: fact for name, fact in backbone.items() if name not in _PLACES}
                value[side] = {**value[side], "backbone": kept}
        return value

    def borrowed(self, name: str) -> bool:
        """Whether a weight is a pretrained network's own, read from its folder each time."""
        side, _, rest = name.partition(".")
        return side in ("images", "texts") and bool(getattr(self, side).borrowed(rest))

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """As of any module; borrowed weights never learn."""
        super().requires_grad_(requires_grad)
        for name, parameter in self.named_parameters():
            if self.borrowed(name):
                parameter.requires_grad_(False)
        return self

    def search_state(self) -> dict[str, Tensor]:
        """The weights that searching needs, towers' and similarity's, without borrowed ones."""
        state = self.state_dict()
        return {k: v for k, v in state.items() if not k.startswith(_TRAINING_ONLY) and not self.borrowed(k)}

    def training_state(self) -> dict[str, Tensor]:
        """The weights that only training needs: of the objective and the relation."""
        return {k: v for k, v in self.state_dict().items() if k.startswith(_TRAINING_ONLY)}

    def load_search_state(self, state: Mapping[str, Tensor]) -> None:
        """Strict in both directions. Raises CheckpointError naming the first key that is missing or too many."""
        self._load(self.search_state(), state)

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        """As `load_search_state`, of `training_state`."""
        self._load(self.training_state(), state)

    def _load(self, mine: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
        odd = sorted(set(mine) ^ set(state))
        if odd:
            where = "missing from" if odd[0] in mine else "unknown in"
            raise CheckpointError(
                f"weights: {odd[0]!r} is {where} the run ({len(odd)} differ); the file is of another model"
            )
        for key, value in state.items():
            if mine[key].shape != value.shape:
                raise CheckpointError(
                    f"weights: {key!r} has shape {tuple(value.shape)}, expected {tuple(mine[key].shape)}"
                )
        self.load_state_dict({**self.state_dict(), **state})

    def fingerprint(self) -> str:
        """SHA-256 of description and search weights, hex: equal fingerprints give equal embeddings and scores.

        Borrowed weights are in it by the digests of the description.
        """
        digest = hashlib.sha256(json.dumps(self.essence(), sort_keys=True).encode())
        for key, value in sorted(self.search_state().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def parameter_count(self) -> int:
        """Numbers that train, of towers and similarity."""
        named = self.named_parameters()
        return sum(p.numel() for n, p in named if not n.startswith(_TRAINING_ONLY) and not self.borrowed(n))
