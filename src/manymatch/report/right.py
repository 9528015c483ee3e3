"""What a candidate is to a query: right or not, by which truth, and what judges or labels say of the two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.matches import Matches
from ..data.pairs import Pairs
from ..evaluation.protocols import PROTOCOLS, WIDEST_FIRST
from ..evaluation.protocols.base import nothing

__all__ = ["Mark", "Right"]

Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Mark:
    """What is written at a candidate.

    Attributes:
        sign: "own" (caption and image of one item), "match" (another right answer), or "" where it is none.
        notes: the experts' grade, the distance zeta of labels.
    """

    sign: str
    notes: tuple[str, ...] = ()


class Right:
    """Right answers of some pairs: own captions, and the widest truth that the data carry.

    Args:
        pairs: images (i) with their captions (c).

    Attributes:
        truth: name of the protocol whose right answers those are; "" where own captions are all.
    """

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs
        own = pairs.matches()
        wide = {"i2t": own, "t2i": own.transpose()}
        self.truth = next((each.name for each in WIDEST_FIRST if each.fits(pairs)), "")
        if self.truth:
            asked = PROTOCOLS[self.truth].ask(pairs)
            wide = {"i2t": asked.i2t or nothing(own.shape), "t2i": asked.t2i or nothing(own.shape[::-1])}
        self._wide = wide
        both = {"i2t": own, "t2i": own.transpose()}
        self._all = {name: Matches.union((each, wide[name]), each.shape) for name, each in both.items()}
        self._flat = {name: m.images * max(m.shape[1], 1) + m.captions for name, m in self._all.items()}
        self._labels = [frozenset(item.labels) for item in pairs.items]
        self._grades = _grades(pairs)

    def of(self, direction: str) -> Matches:
        """Right answers (q, g) of "i2t" or "t2i", own ones among them."""
        return self._all[direction]

    def counts(self, direction: str) -> Ints:
        """(q,): how many right answers each query has."""
        return np.diff(self.of(direction).indptr())

    def listed(self, direction: str) -> Ints:
        """(q,): how many the widest truth alone lists; 0 for a query it does not speak of."""
        return np.diff(self._wide[direction].indptr())

    def mark(self, direction: str, query: int, candidate: int) -> Mark:
        """What a candidate is to a query of a direction."""
        image, caption = (query, candidate) if direction == "i2t" else (candidate, query)
        own = int(self.pairs.owner[caption])
        notes = [self._zeta(own, image)] if own != image and self._labels[own] and self._labels[image] else []
        grade = self._grades.get((image, caption))
        notes += [f"grade {grade:.1f}"] if grade is not None else []
        if own == image:
            return Mark("own", tuple(notes))
        flat, at = self._flat[direction], query * self._all[direction].shape[1] + candidate
        place = int(np.searchsorted(flat, at))
        return Mark("match" if place < len(flat) and int(flat[place]) == at else "", tuple(notes))

    def _zeta(self, first: int, second: int) -> str:
        return f"ζ {len(self._labels[first] ^ self._labels[second])}"

    @property
    def explained(self) -> str:
        """What the marks of these pairs mean, in a sentence."""
        said = ["“own” marks a caption and its own image"]
        if self.truth:
            said.append(f"“match” is another right answer ({PROTOCOLS[self.truth].truth_name})")
        said += ["ζ counts the labels that one image has and the other has not"] if any(self._labels) else []
        said += ["“grade” is the mean of the experts' grades, 1 to 4"] if self._grades else []
        return "; ".join(said) + "."


def _grades(pairs: Pairs) -> dict[tuple[int, int], float]:
    """(image, caption) -> mean grade of the experts, where they judged."""
    if not PROTOCOLS["graded"].fits(pairs):
        return {}
    judged, grades = pairs.truths["graded"].grades(pairs)
    return {(int(i), int(c)): float(grade) for i, c, grade in zip(judged.images, judged.captions, grades, strict=True)}
