"""Fitting a join: weights of the members on validation, then the rotation of their elements on training embeddings.

The rotation is the principal directions of the joined elements, uncentred: what a mean element has in common is part of
the cosines that the members learnt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.pairs import Pairs
from ..embeddings import Embedding, Points, Sets
from ..errors import DataError
from ..methods.joint import Joint
from ..similarity import Similarity
from .encoding import looks, usable
from .measure import judge
from .measures import Correlation
from .scores import MatrixScores, ModelScores

__all__ = ["Joined", "fit_join", "scaled_weights"]

_IMAGES, _CAPTIONS = 1000, 5000
"""Of validation, at most."""

_TRAINING_IMAGES, _TRAINING_CAPTIONS = 6000, 15_000
_BLOCK = 1024
_STEP = 0.1
"""Of weights, at most."""

_TOP = 10
_RANKED = 1_000_000
_WAYS = ("i2t", "t2i")

Weights = tuple[float, ...]
Floats = np.ndarray[Any, np.dtype[np.float32]]
Scores = Mapping[str, Floats]
"""Direction -> scores (q, g)."""


@dataclass(frozen=True)
class Joined:
    """What joining did, on validation.

    Attributes:
        weights: member -> its weight.
        members: member -> RSUM alone.
        ensemble: RSUM of the members' scores, each brought to mean 0 and spread 1, added with the weights.
        before, after: RSUM of the joint before and after its rotation.
        kept: share of the training elements' squared length that the rotation keeps.
        top: share of the first ten that joint and ensemble have in common, mean over queries.
        spearman: of their scores.
    """

    weights: Mapping[str, float]
    members: Mapping[str, float]
    ensemble: float
    before: float
    after: float
    kept: float
    top: float
    spearman: float

    def to_json(self) -> dict[str, Any]:
        """As it stands in a run's notes."""
        return {
            "weights": dict(self.weights),
            "validation RSUM": {
                **self.members,
                "ensemble of scores": self.ensemble,
                "joint unrotated": self.before,
                "joint": self.after,
            },
            "kept by the rotation": self.kept,
            "agreement with the ensemble": {f"top {_TOP}": self.top, "spearman": self.spearman},
        }

    def lines(self) -> Iterator[str]:
        """What a user is told."""
        alone = ", ".join(f"{name} {value:.1f}" for name, value in self.members.items())
        chosen = ", ".join(f"{name} {weight:.3g}" for name, weight in self.weights.items())
        yield f"validation RSUM: {alone}; ensemble of their scores {self.ensemble:.1f}"
        turned = "" if self.kept == 1.0 else f", rotated {self.after:.1f} ({self.kept:.1%} of the squared length kept)"
        yield f"joint with weights {chosen}: {self.before:.1f}{turned}"
        yield (
            f"joint and ensemble: {self.top:.0%} of the first {_TOP} in common, "
            f"Spearman of the scores {self.spearman:.3f}"
        )


def fit_join(
    joint: Joint,
    training: Pairs,
    validation: Pairs | None,
    *,
    weights: Sequence[float] | None = None,
) -> Joined | None:
    """Choose the weights by RSUM of the unrotated joint on validation, then fit the rotation; both into the joint.

    Up to 1,000 images of validation are ranked, and up to 6,000 images and 15,000 captions of training embedded.

    Args:
        joint: of trained members.
        training: the members' training pairs.
        validation: held out from them; None leaves equal weights.
        weights: of each member, in their order, instead of choosing; scaled to a sum of 1.

    Returns:
        What it did; None without validation.

    Raises:
        DataError: weights that are too few or not positive, or an embedding or a score that is not finite.
    """
    given = None if weights is None else scaled_weights(weights, joint)
    if validation is None:
        _set(joint, given or (1.0 / len(joint.models),) * len(joint.models))
        _rotate(joint, training)
        return None
    held_out = _held_out(joint, validation)
    images, texts = joint.image_parts(held_out.images), joint.text_parts(held_out.captions)
    alone = [_scores(m.similarity, i, t) for m, i, t in zip(joint.models, images, texts, strict=True)]
    found = given or _best(joint, images, texts, held_out)
    _set(joint, found)
    whole = [_set_of(joint.joining.concatenated(parts)) for parts in (images, texts)]
    before = _rsum(_scores(joint.similarity, *whole), held_out)
    kept = _rotate(joint, training)
    scores = _scores(joint.similarity, joint.joining(images), joint.joining(texts))
    ensemble = _mean(alone, found)
    return Joined(
        weights=dict(zip(joint.members, found, strict=True)),
        members={name: _rsum(each, held_out) for name, each in zip(joint.members, alone, strict=True)},
        ensemble=_rsum(ensemble, held_out),
        before=before,
        after=_rsum(scores, held_out),
        kept=kept,
        top=float(np.mean([_common(scores[way], ensemble[way]) for way in _WAYS])),
        spearman=_spearman(scores["i2t"], ensemble["i2t"]),
    )


def scaled_weights(weights: Sequence[float], joint: Joint) -> Weights:
    """Weights of the members as they stand in it, with a sum of 1. Raises DataError."""
    found = tuple(float(weight) for weight in weights)
    if len(found) != len(joint.models) or not all(weight > 0 and np.isfinite(weight) for weight in found):
        raise DataError(
            f"join: weights {', '.join(f'{w:g}' for w in found)} of {len(joint.models)} members, expected one positive "
            "number of each"
        )
    return tuple(weight / sum(found) for weight in found)


def _set(joint: Joint, weights: Weights) -> None:
    joint.joining.weights.copy_(torch.tensor(weights))


# ---- validation


def _held_out(joint: Joint, validation: Pairs) -> Pairs:
    """Some of validation, evenly."""
    validation = validation.captioned()
    rows = np.arange(len(validation))
    while len(rows) > 1 and (
        len(rows) > _IMAGES or sum(len(validation.items[row].captions) for row in rows) > _CAPTIONS
    ):
        count = min(_IMAGES, len(rows) - max(1, len(rows) // 10))
        rows = np.arange(count) * len(validation) // count
    return usable(looks(joint, validation), validation.take(rows), None)[0]


def _set_of(elements: Tensor) -> Embedding:
    return Sets(elements) if elements.shape[1] > 1 else Points(elements[:, 0])


def _scores(similarity: Similarity, images: Embedding, texts: Embedding) -> Scores:
    """Both directions; one matrix where the similarity is symmetric."""
    source = ModelScores(similarity, images, texts)
    i2t = np.concatenate([rows for _, rows in source.rows("i2t")])
    if similarity.symmetric:
        return {"i2t": i2t, "t2i": i2t.T}
    return {"i2t": i2t, "t2i": np.concatenate([rows for _, rows in source.rows("t2i")])}


def _rsum(scores: Scores, pairs: Pairs) -> float:
    judged = judge(MatrixScores(dict(scores)), pairs, ["own"], "expected")
    return next(each.measure.value for each in judged.measured["own"] if each.metric == "RSUM")


def _mean(alone: Sequence[Scores], weights: Weights) -> Scores:
    """Log-odds and cosines are brought to one scale first."""
    out = {}
    for way in _WAYS:
        total = np.zeros(alone[0][way].shape, np.float32)
        for weight, each in zip(weights, alone, strict=True):
            total += np.float32(weight) * (each[way] - each[way].mean()) / max(float(each[way].std()), 1e-12)
        out[way] = total
    return out


def _best(joint: Joint, images: Sequence[Embedding], texts: Sequence[Embedding], pairs: Pairs) -> Weights:
    """From equal weights on, moves a step from one member to another for as long as RSUM rises."""
    found: dict[Weights, float] = {}

    def value(weights: Weights) -> float:
        if weights not in found:
            _set(joint, weights)
            whole = [_set_of(joint.joining.concatenated(parts)) for parts in (images, texts)]
            found[weights] = _rsum(_scores(joint.similarity, *whole), pairs)
        return found[weights]

    members = len(joint.models)
    best = (1.0 / members,) * members
    while further := max(_moves(best), key=value, default=None):
        if value(further) <= value(best):
            break
        best = further
    return best


def _moves(weights: Weights) -> Iterator[Weights]:
    """A step from every member that keeps half of one to every other: a tenth, of seven members and more less."""
    step = min(_STEP, 1.0 / (1.5 * len(weights)))
    for giving, taking in permutations(range(len(weights)), 2):
        if weights[giving] >= 1.5 * step - 1e-9:
            changed = list(weights)
            changed[giving] -= step
            changed[taking] += step
            yield tuple(round(weight, 9) for weight in changed)


def _common(one: Floats, other: Floats) -> float:
    """Share of the first ten in common, mean over rows."""
    count = min(_TOP, one.shape[1])
    first, second = (np.argpartition(-scores, count - 1, axis=1)[:, :count] for scores in (one, other))
    return float(np.mean([len(np.intersect1d(a, b)) / count for a, b in zip(first, second, strict=True)]))


def _spearman(one: Floats, other: Floats) -> float:
    step = max(1, one.size // _RANKED)
    first, second = (scores.ravel()[::step].astype(np.float64) for scores in (one, other))
    return Correlation(first, second, np.zeros(len(first), np.int64)).value


# ---- the rotation


def _rotate(joint: Joint, training: Pairs) -> float:
    """The directions in which training elements are longest, those of images and captions counting the same.

    Returns:
        Share of the squared length that they keep; 1 where there is no rotation.
    """
    joining = joint.joining
    if joining.rotation is None:
        return 1.0
    training = training.captioned()
    some = training.take(_evenly(len(training), _TRAINING_IMAGES))
    images, captions = usable(looks(joint, some), some, None)[0].images, training.captions
    texts = _evenly(len(captions), _TRAINING_CAPTIONS)
    of_images = _moments(joint, (joint.image_parts(images.take(rows)) for rows in _blocks(range(len(images)))))
    of_texts = _moments(joint, (joint.text_parts([captions[row] for row in rows]) for rows in _blocks(texts)))
    values, directions = torch.linalg.eigh(of_images + of_texts)
    rotation = directions[:, -joining.dim :].flip(1).T
    # A direction and its opposite are one: its largest number shall be positive.
    largest = rotation.gather(1, rotation.abs().argmax(dim=1, keepdim=True))
    joining.rotation.copy_(rotation * largest.sign())
    return float(values[-joining.dim :].sum() / values.sum())


def _moments(joint: Joint, blocks: Iterator[list[Embedding]]) -> Tensor:
    """Mean of x x^T over the joined elements x of items (d, d), float64."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for parts in blocks:
        whole = joint.joining.concatenated(parts).flatten(0, 1).double()
        total, count = total + whole.T @ whole, count + len(whole)
    if not count or not bool(torch.isfinite(total).all()):
        raise DataError("join: a training embedding is not finite; a member has diverged")
    return total / count


def _evenly(count: int, most: int) -> list[int]:
    return list(range(count)) if count <= most else [n * count // most for n in range(most)]


def _blocks(rows: Sequence[int]) -> Iterator[list[int]]:
    return (list(rows[start : start + _BLOCK]) for start in range(0, len(rows), _BLOCK))
