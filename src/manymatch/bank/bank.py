"""A bank: queries of both modalities, and how they correct."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..data.pairs import Pairs
from ..embeddings import Embedding
from ..errors import DataError
from .keys import item_keys
from .nearest import Floats, Ints, Scorer, nearest, prefix_means
from .queries import Queries

__all__ = ["ASKING", "Asking", "Bank", "Setting"]

Asking = Literal["caption", "image"]
ASKING: tuple[Asking, Asking] = ("caption", "image")
"""Which modality asks."""

FORMAT = 1


@dataclass(frozen=True)
class Setting:
    """How much one modality's asking corrects, and what that did on validation.

    Attributes:
        alpha: times the mean; 0 corrects nothing.
        neighbours: k, how many of the highest scores are averaged.
        raw, biased: R@1 + R@5 + R@10 of that direction on validation without and with the bias, None where unknown.
    """

    alpha: float = 0.0
    neighbours: int = 1
    raw: float | None = None
    biased: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.alpha) and self.alpha >= 0 and self.neighbours >= 1):
            raise DataError(
                f"query bank: alpha {self.alpha} with {self.neighbours} neighbours, expected a number of at least 0 "
                "and a whole number of at least 1"
            )


@dataclass(frozen=True, eq=False)
class Bank:
    """Training queries of both modalities, and how they correct.

    Attributes:
        queries: asking modality -> its queries.
        settings: asking modality -> alpha and k.
        held: (h,) ascending `item_keys` of the images that queries came from.
        data: what it was drawn from and chosen on: name and digest of the pairs.
        digest: SHA-256 of all of it, hex.
        chosen: (v,) ascending `item_keys` of the images that alpha and k were chosen on; None where that is not known.
    """

    queries: Mapping[Asking, Queries]
    settings: Mapping[Asking, Setting]
    held: Tensor
    data: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""
    chosen: Tensor | None = None

    def __post_init__(self) -> None:
        if not self.digest:
            object.__setattr__(self, "digest", self._digest())

    def _digest(self) -> str:
        found = hashlib.sha256(json.dumps(self._facts(), sort_keys=True).encode())
        for name, tensor in sorted(self.tensors().items()):
            found.update(name.encode())
            found.update(tensor.contiguous().numpy().data)
        return found.hexdigest()

    # ---- what it does

    def bias(self, similarity: Scorer, embedding: Embedding, asking: Asking, own: Ints | None = None) -> Floats:
        """What is taken off the scores of n items when such a query asks: (n,) float32.

        Args:
            similarity: of the run: `similarity(queries, gallery)` with the bank's queries as queries.
            embedding: the items.
            asking: modality of the queries.
            own: (n,) `owner_keys` of the items' images: queries of the same image do not count for an item.

        Raises:
            DataError: a score that is not finite.
        """
        setting = self.settings[asking]
        if setting.alpha == 0 or not len(embedding):
            return np.zeros(len(embedding), np.float32)
        nearest = self.nearest(similarity, embedding, asking, setting.neighbours, own)
        return np.asarray(setting.alpha * prefix_means(nearest)[:, -1], np.float32)

    def nearest(
        self, similarity: Scorer, embedding: Embedding, asking: Asking, count: int, own: Ints | None = None
    ) -> Floats:
        """The `count` highest scores of each item, as `nearest.nearest`; arguments and errors as `bias`."""
        return nearest(similarity, self.queries[asking], embedding, count, own)

    def holds(self, pairs: Pairs) -> int:
        """How many images of the pairs its queries came from: it must not correct a ranking of those."""
        return _among(pairs, self.held)

    def chosen_on(self, pairs: Pairs) -> int:
        """How many images of the pairs its alpha and k were chosen on, as far as that is known."""
        return 0 if self.chosen is None else _among(pairs, self.chosen)

    @property
    def corrects(self) -> bool:
        """Whether it changes any score."""
        return any(setting.alpha > 0 for setting in self.settings.values())

    @property
    def sound(self) -> bool:
        """Whether its numbers are those that its digest is of."""
        return self._digest() == self.digest

    def with_settings(self, settings: Mapping[Asking, Setting], chosen_on: Pairs | None = None) -> Bank:
        """The same queries with other numbers, chosen on these pairs."""
        chosen = None if chosen_on is None else torch.from_numpy(np.unique(item_keys(chosen_on)[0]))
        return replace(self, settings=dict(settings), digest="", chosen=chosen)

    def first(self, elements: int) -> Bank:
        """The same with the first elements of each set alone; of these it is not known what it did on validation."""
        return replace(
            self,
            queries={asking: queries.first(elements) for asking, queries in self.queries.items()},
            settings={asking: replace(s, raw=None, biased=None) for asking, s in self.settings.items()},
            digest="",
        )

    # ---- what is said of it

    @property
    def how(self) -> str:
        """Alpha and k of each direction, in words."""
        said = []
        for direction, asking in (("i2t", "image"), ("t2i", "caption")):
            setting = self.settings[asking]  # type: ignore[index]
            said.append(f"{direction} alpha {setting.alpha:g}" + (f" of {setting.neighbours}" if setting.alpha else ""))
        return ", ".join(said)

    def __str__(self) -> str:
        counts = f"{len(self.queries['caption']):,} training captions and {len(self.queries['image']):,} images"
        sums = [(s.raw, s.biased) for s in self.settings.values()]
        gain = ""
        if all(raw is not None and biased is not None for raw, biased in sums):
            before, after = (sum(pair[n] or 0.0 for pair in sums) for n in (0, 1))
            gain = f", validation RSUM {before:.1f} -> {after:.1f}"
        return f"query bank of {counts}: {self.how}{gain}"

    # ---- storing

    def _facts(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "data": dict(self.data),
            **{
                asking: {
                    **asdict(self.settings[asking]),
                    "queries": len(self.queries[asking]),
                    "kind": self.queries[asking].kind,
                    "layout": dict(self.queries[asking].layout),
                }
                for asking in ASKING
            },
        }

    def to_json(self) -> dict[str, Any]:
        """All but the numbers of the queries."""
        return {**self._facts(), "digest": self.digest}

    def tensors(self) -> dict[str, Tensor]:
        """The numbers of the queries, by name."""
        named = {f"{asking}.{name}": t for asking in ASKING for name, t in self.queries[asking].tensors().items()}
        return {"held": self.held, **({} if self.chosen is None else {"chosen": self.chosen}), **named}

    @classmethod
    def from_stored(cls, value: Any, tensors: Mapping[str, Tensor]) -> Bank:
        """Inverse of `to_json` and `tensors`. Raises DataError for anything else."""
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            found = value.get("format") if isinstance(value, dict) else type(value).__name__
            raise DataError(f"query bank: found format {found!r}, expected {FORMAT}; fit it again")
        try:
            queries, settings = dict[Asking, Queries](), dict[Asking, Setting]()
            for asking in ASKING:
                facts = value[asking]
                named = [tensors.get(f"{asking}.{name}") for name in ("rows", "ends", "owners")]
                if named[0] is None or named[2] is None or len(named[2]) != facts["queries"]:
                    raise KeyError(f"{asking}.rows")
                queries[asking] = Queries(facts["kind"], facts["layout"], named[0], named[1], named[2])
                settings[asking] = Setting(**{name: facts[name] for name in Setting.__dataclass_fields__})
            facts = dict(value["data"]), str(value["digest"])
            return cls(queries, settings, tensors["held"], *facts, tensors.get("chosen"))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"query bank: {error!r} while reading it; it is damaged, fit it again") from None


def _among(pairs: Pairs, keys: Tensor) -> int:
    """How many images of the pairs have a caption among these `item_keys`."""
    found, owner = item_keys(pairs)
    return len(np.unique(owner[np.isin(found, keys.numpy())]))
