"""From a score to the probability that the answer is right: what a run learnt on held-out pairs, ready to be read.

A `Curve` is for one way of asking, a `Calibration` holds those of a run. They are fitted in `evaluation.calibrating`;
reading one needs no torch. The expected number of right answers among some items is the sum of their probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from .errors import DataError, UnknownName

__all__ = ["KINDS", "MODALITIES", "Calibration", "Curve"]

Floats = np.ndarray[Any, np.dtype[np.float64]]

MODALITIES = ("caption", "image")
KINDS = ("isotonic", "logistic")
FORMAT = 1

_AT_ONCE = 1 << 14
"""Scores that are read together: what is computed on the way stays in a core's cache."""

_MOST = 256
"""Knots, so that the number of a segment is one byte."""

_LOWEST = -700.0
"""Log-odds below which a double would be no positive number any more."""


@dataclass(frozen=True)
class Curve:
    """A map of scores to probabilities, rising up to its ceiling: log-odds linear between knots and beyond them.

    Below the lowest knot probabilities go on falling, so that a hundred thousand poor answers do not add up to a good
    one. Above the highest they rise to `ceiling`, because so and so many right answers show no more certainty.

    Where the truth names only a share of what fits, the log-odds are those of being named, and the probability is that
    of being named divided by the share.

    Attributes:
        kind: "logistic", one line of log-odds (Platt 1999), or "isotonic", several of rising height.
        scores: (k,) knots, ascending.
        log_odds: (k,) at the knots, ascending.
        ceiling: the highest probability it gives.
        truth: what was called a right answer where it was fitted.
        queries, gallery: how many asked there, and how many items each query was scored with.
        pairs, right: scores it was fitted on, and how many of them were of right answers.
        ece: expected calibration error over all pairs against that truth, each measured by a curve fitted without its
            query's image; None where too few images asked.
        named: share of the right answers that the truth names, 1 where it names them all. Dividing by it (Elkan and
            Noto, KDD 2008, lemma 1) takes the named ones to score like the right ones that nobody named.
    """

    kind: str
    scores: tuple[float, ...]
    log_odds: tuple[float, ...]
    ceiling: float
    truth: str
    queries: int
    gallery: int
    pairs: int
    right: int
    ece: float | None = None
    named: float = 1.0

    def __post_init__(self) -> None:
        knots = len(self.scores)
        if self.kind not in KINDS or not 2 <= knots <= _MOST or knots != len(self.log_odds):
            raise DataError(
                f"curve: kind {self.kind!r} with {knots} scores and {len(self.log_odds)} log-odds; expected "
                f"{' or '.join(KINDS)} with 2 to {_MOST} of each"
            )
        for name in ("scores", "log_odds"):
            values = np.asarray(getattr(self, name), np.float64)
            if not np.isfinite(values).all() or (np.diff(values) <= 0).any():
                raise DataError(f"curve: {name} {getattr(self, name)}, expected finite and rising numbers")
        if not 0.0 < self.named <= 1.0:
            raise DataError(f"curve: named {self.named}, expected a share above 0 and up to 1")
        if not 0.0 < self.ceiling < 1.0:
            raise DataError(f"curve: ceiling {self.ceiling}, expected a probability between 0 and 1")

    @property
    def meaning(self) -> str:
        """What it gives the probability of, in words: its truth, and of how many right answers that names one."""
        often = f"{1 / self.named:.1f}"
        return self.truth if often == "1.0" else f"{self.truth}, taken to be 1 in {often} of what fits"

    @property
    def probabilities(self) -> tuple[float, ...]:
        """At the knots (k,)."""
        return tuple(self.probability(np.asarray(self.scores)).tolist())

    def probability(self, scores: Any) -> Floats:
        """Of any shape -> the same shape, in (0, 1). Raises DataError for a NaN."""
        values = np.asarray(scores)
        flat, out = values.reshape(-1), np.empty(values.size)
        for start in range(0, values.size, _AT_ONCE):
            out[start : start + _AT_ONCE] = self._read(flat[start : start + _AT_ONCE].astype(np.float64))
        return out.reshape(values.shape)

    def _read(self, values: Floats) -> Floats:
        if np.isnan(values).any():
            raise DataError("probability: found a NaN among the scores, expected numbers")
        knots, odds = np.asarray(self.scores), np.asarray(self.log_odds)
        # Comparing all with each of some dozen knots is quicker than a search for each score.
        segment = np.zeros(len(values), np.uint8)
        for knot in knots[1:-1]:
            segment += (values >= knot).view(np.uint8)
        rises = np.diff(odds) / np.diff(knots)
        found = odds.take(segment) + rises.take(segment) * (values - knots.take(segment))
        named = 1.0 / (1.0 + np.exp(-np.clip(found, _LOWEST, None)))
        return np.asarray(np.minimum(named / self.named, self.ceiling), np.float64)

    def expected_matches(self, scores: Any) -> Any:
        """The expected number of right answers among n items: scores (..., n) -> (...), the sum of their probabilities.

        Every item that is searched belongs into the sum: the many unlikely ones weigh as much as the few likely.
        """
        return self.probability(scores).sum(axis=-1)


@dataclass(frozen=True)
class Calibration:
    """A run's curves.

    Attributes:
        curves: (asking, searched) modality -> curve; words that find photos are ("caption", "image").
        reasons: (asking, searched) -> why there is none.
        data: what it was fitted on: name, images, captions and digest of the pairs.
        seed: by which queries were drawn.
        notes: what its reader should beware of, in words.
    """

    curves: Mapping[tuple[str, str], Curve]
    reasons: Mapping[tuple[str, str], str] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    notes: tuple[str, ...] = ()

    def curve(self, asking: str, searched: str) -> Curve | None:
        """The curve of one way of asking, None where there is none; `why_not` says why. Raises UnknownName."""
        return self.curves.get(_way(asking, searched))

    def why_not(self, asking: str, searched: str) -> str:
        """Why there is no curve, in words; empty where there is one. Raises UnknownName."""
        way = _way(asking, searched)
        return "" if way in self.curves else self.reasons.get(way, "it was not fitted for this way of asking")

    def __str__(self) -> str:
        found = [f"{asking} to {searched} ({curve.meaning})" for (asking, searched), curve in self.curves.items()]
        first = next(iter(self.reasons.values()), "nothing was fitted")
        said = ", ".join(found) or f"nothing, {first}"
        return "; ".join([f"calibrated on {self.data.get('name', 'pairs')}: {said}", *self.notes])

    def to_json(self) -> dict[str, Any]:
        """All of it, as JSON; `from_json` gives an equal calibration."""
        return {
            "format": FORMAT,
            "data": dict(self.data),
            "seed": self.seed,
            "notes": list(self.notes),
            "curves": [
                {"asking": asking, "searched": searched, **asdict(curve)}
                for (asking, searched), curve in self.curves.items()
            ],
            "reasons": [
                {"asking": asking, "searched": searched, "reason": reason}
                for (asking, searched), reason in self.reasons.items()
            ],
        }

    @classmethod
    def from_json(cls, value: Any) -> Calibration:
        """Inverse of `to_json`. Raises DataError for anything else."""
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            found = value.get("format") if isinstance(value, dict) else type(value).__name__
            raise DataError(f"calibration: found format {found!r}, expected {FORMAT}; calibrate again")
        try:
            curves = {_way(each["asking"], each["searched"]): _curve(each) for each in value["curves"]}
            reasons = {_way(each["asking"], each["searched"]): str(each["reason"]) for each in value["reasons"]}
            notes = tuple(str(note) for note in value["notes"])
            return cls(curves, reasons, dict(value["data"]), int(value["seed"]), notes)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"calibration: {error!r} while reading it; it is damaged, calibrate again") from None


def _curve(value: Mapping[str, Any]) -> Curve:
    # Curves written before the share was estimated say nothing of it.
    known = {each.name: value[each.name] for each in fields(Curve) if each.name != "named"}
    knots = {name: tuple(float(number) for number in known[name]) for name in ("scores", "log_odds")}
    counts = {name: int(known[name]) for name in ("queries", "gallery", "pairs", "right")}
    ece = None if known["ece"] is None else float(known["ece"])
    shares = {"ceiling": float(known["ceiling"]), "named": float(value.get("named", 1.0))}
    return Curve(**{**known, **knots, **counts, **shares, "ece": ece})


def _way(asking: str, searched: str) -> tuple[str, str]:
    for modality in (asking, searched):
        if modality not in MODALITIES:
            raise UnknownName("modality", str(modality), MODALITIES)
    return asking, searched
