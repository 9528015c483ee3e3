"""The model a method builds: two towers, a similarity, and while training an objective and a relation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..calibration import Calibration
from ..data.features import Features, Pixels
from ..data.pairs import Images, Pairs
from ..data.pictures import FolderPictures
from ..data.text import Tokens, texts_of
from ..draws import recorded
from ..embeddings import Embedding, Encoded
from ..encoders import (
    Attention,
    ImageInput,
    ImageTower,
    TextInput,
    TextTower,
    attention_of_images,
    attention_of_texts,
    split_tower,
)
from ..errors import CheckpointError, DataError
from ..losses import Objective, score
from ..relations import Relation
from ..similarity import Similarity
from .base import Method

__all__ = ["Batch", "Model"]

_TRAINING_ONLY = ("objective_terms.", "relation.")

Progress = Callable[[int], object] | None


@dataclass(frozen=True)
class Batch:
    """What a training step sees: n_i images, n_c texts, and which match (i, c) bool."""

    images: Features | Pixels
    texts: Tokens
    matches: Tensor


class Model(nn.Module):
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
        begun: what its towers said of the files they began from, for a model made by `fresh`.
        from_random: whether each tower ("images.", "texts.") began from random weights, for a model made by `fresh`.
    """

    def __init__(self, method: Method, image_input: ImageInput, text_input: TextInput) -> None:
        super().__init__()
        self.method, self.input_of_images, self.input_of_texts = method, image_input, text_input
        self.images: ImageTower = method.image_tower(image_input)
        self.texts: TextTower = method.text_tower(text_input)
        self.similarity: Similarity = method.similarity()
        self.objective_terms: Objective = Objective({}) if method.fitted else method.objective_terms()
        self.relation: Relation | None = None if method.fitted else method.relation()
        self.notes: dict[str, Any] = {}
        self.calibration: Calibration | None = None
        self.from_random: dict[str, bool] = {}
        self.begun: list[str] = []
        self._stored: dict[str, Any] | None = None

    @classmethod
    def fresh(cls, method: Method, pairs: Pairs, image_tower: str | None, text_tower: str | None, seed: int) -> Model:
        """Seeded starting weights, with vocabulary and feature statistics of these training pairs."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = cls(method, *method.inputs(pairs, image_tower, text_tower))
            for start, tower, source in (("images.", model.images, image_tower), ("texts.", model.texts, text_tower)):
                said = tower.begin(split_tower(source)[1])
                model.begun += [said] if said else []
                model.from_random[start] = split_tower(source)[1] is None
        model.images.fit_input(pairs.images)
        return model

    @property
    def name(self) -> str:
        """The method's name."""
        return self.method.name

    @property
    def summary(self) -> str:
        """How it was made, for tables: method, and what its "auto" fields and preset came to."""
        m = self.method
        parts = ["fitted in closed form" if m.fitted else f"objective {m.objective}"]
        parts += [f"preset {m.preset}"] if m.preset else []
        parts += [f"mode {m.mode}"] if m.mode != "paper" else []
        return f"{self.name}: {', '.join(parts)}"

    @property
    def image_input(self) -> str:
        """What the image tower reads: "features" or "pixels"."""
        return self.images.reads

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    # ---- encoding

    def prepare_images(self, images: Any) -> Features | Pixels:
        """Anything that can be encoded, as the tower reads it.

        Args:
            images: `Images` (pairs.images), `Features`, `Pixels`, or a list of paths and PIL images.

        Raises:
            DataError: something else, or not what this run's tower reads.
        """
        if isinstance(images, Features | Pixels):
            return images
        if isinstance(images, Images) and self.image_input == "features":
            return images.read_features()
        return self.images.prepare(_opened(images))

    def encode_images(self, images: Any, *, batch_size: int = 256, progress: Progress = None) -> Embedding:
        """Embeddings of n images, on the CPU, without gradients.

        Args:
            images: as `prepare_images`, or one path or PIL image.
            batch_size: images at a time; it changes no embedding beyond rounding.
            progress: told how many images were done after each batch.
        """
        if isinstance(images, str | Path | Image.Image):
            images = [images]
        return self._encode(images, len(images), batch_size, progress, lambda x: self.images(self.prepare_images(x)))

    def encode_texts(self, texts: Any, *, batch_size: int = 256, progress: Progress = None) -> Embedding:
        """Embeddings of n texts, on the CPU, without gradients; consecutive chunks of `batch_size`."""
        words = texts_of(texts)
        return self._encode(words, len(words), batch_size, progress, lambda x: self.texts(self.texts.tokens(x)))

    def _encode(
        self, items: Any, count: int, size: int, progress: Progress, encode: Callable[[Any], Encoded]
    ) -> Embedding:
        if size < 1:
            raise DataError(f"batch_size {size}, expected at least 1")
        if count == 0:
            raise DataError("nothing to encode: found an empty list, expected at least one item")
        parts = []
        with self._at_rest():
            for start in range(0, count, size):
                parts.append(encode(items[start : start + size]).embedding.to("cpu", torch.float32))
                if progress is not None:
                    progress(len(parts[-1]))
        return type(parts[0]).concat(parts)

    @contextmanager
    def _at_rest(self) -> Iterator[None]:
        """Not training, and without gradients."""
        was_training = self.training
        if was_training:
            # Only then: toggling is not safe over threads, and a loaded model never needs it.
            self.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            if was_training:
                self.train()

    def attend_images(self, images: Any) -> list[Attention]:
        """What each element of n images reads of their fragments; `images` as `prepare_images`, in one batch."""
        if self.image_input == "pixels" and not isinstance(images, Features | Pixels):
            images = _opened(images)
        sizes = None if isinstance(images, Images | Features | Pixels) else [picture.size for picture in images]
        with self._at_rest():
            return attention_of_images(self.images, self.prepare_images(images), sizes)

    def attend_texts(self, texts: Any) -> list[Attention]:
        """What each element of n texts reads of their words, in one batch."""
        with self._at_rest():
            return attention_of_texts(self.texts, texts_of(texts))

    def knows(self, text: str) -> bool:
        """Whether the text tower knows any word of it; if not, its embedding says nothing of the text."""
        return self.texts.vocabulary.knows(text)

    # ---- training

    def batch(self, pairs: Pairs, image_rows: Any, caption_rows: Any, matches: np.ndarray[Any, Any]) -> Batch:
        """The batch of these rows of the training pairs, read from disk now."""
        images = self.prepare_images(pairs.images.take(image_rows))
        captions = pairs.captions
        tokens = self.texts.tokens([captions[int(c)] for c in caption_rows])
        return Batch(images, tokens, torch.from_numpy(matches))

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
        # Towers may run in bfloat16; a similarity divided by a temperature of 0.05 must not.
        with torch.autocast(self.device.type, enabled=False):
            images, texts = images.float(), texts.float()
            matches = batch.matches.to(self.device)
            scores = score(self.similarity, images.embedding, texts.embedding)
            terms = self.objective_terms(scores, matches, images, texts)
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

    # ---- identity

    def describe(self) -> dict[str, Any]:
        """All but the weights, as JSON: what `from_description` builds the model from.

        A loaded run keeps the description it was written with, so that its fingerprint outlives new fields.
        """
        if self._stored is not None:
            return dict(self._stored)
        return {
            "method": self.name,
            "fields": asdict(self.method),
            "images": self.input_of_images.to_json(),
            "texts": self.input_of_texts.to_json(),
        }

    @classmethod
    def from_description(cls, value: Mapping[str, Any]) -> Model:
        """The model of `describe`, with untrained weights. Raises UnknownName, CheckpointError."""
        from . import method_class

        try:
            kind = method_class(value["method"])
            method = kind(**{name: v for name, v in value["fields"].items() if name not in kind.fixed})
            model = cls(method, ImageInput(**value["images"]), TextInput.from_json(value["texts"]))
            model._stored = {key: value[key] for key in ("method", "fields", "images", "texts")}
            return model
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"run description: {error}; it was written by another version") from None

    def search_state(self) -> dict[str, Tensor]:
        """The weights that searching needs: towers and similarity."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith(_TRAINING_ONLY)}

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
        """SHA-256 of description and search weights, hex: equal fingerprints give equal embeddings and scores."""
        digest = hashlib.sha256(json.dumps(self.describe(), sort_keys=True).encode())
        for key, value in sorted(self.search_state().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def parameter_count(self) -> int:
        """Numbers that train, of towers and similarity."""
        return sum(p.numel() for n, p in self.named_parameters() if not n.startswith(_TRAINING_ONLY))


def _opened(images: Any) -> list[Image.Image]:
    return images.decode() if isinstance(images, Images) else [_open(image, n) for n, image in enumerate(images)]


def _open(image: str | Path | Image.Image, place: int) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if not isinstance(image, str | Path):
        raise DataError(f"images[{place}]: found {type(image).__name__}, expected a path or a PIL image")
    path = Path(image)
    return FolderPictures(path.parent).open(path.name)
