"""`calibrate`: which score means what probability, learnt on held-out pairs for each way of asking.

What is called a right answer decides what the probability is one of. By default it is the widest truth the pairs have:
every match where all are known, else the own captions and what people judged to fit, else the own captions alone. The
latter two leave out most of what fits, so the share they name is estimated, and the probability is that of fitting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..calibration import Calibration, Curve
from ..data.files import Progress
from ..data.matches import Matches
from ..data.pairs import Pairs
from ..errors import DataError, UnknownName
from .curves import LEAST_NAMED, Tally, fit_curve
from .encoding import encode, looks, usable
from .measures import Ints
from .protocols import PROTOCOLS, Asked
from .protocols.labels import Labels, LabelVectors
from .protocols.true_false import says_false
from .tiles import Side, Tiles

if TYPE_CHECKING:
    from ..embeddings import Embedding
    from ..methods import Model

__all__ = ["TRUTHS", "calibrate"]

TRUTHS = ("matches", "judged", "eccv", "cxc", "own")
"""What may be called right between images and captions, the widest first."""

_COMPLETE = ("matches", "eccv")
"""Truths that name every right answer, or were made to; the others leave out most that nobody was asked about."""

WAYS = (("caption", "image"), ("image", "caption"), ("caption", "caption"), ("image", "image"))

_IMAGES, _CAPTIONS = 5_000, 25_000
_FEW_IMAGES = 100
_QUERIES = 1000
"""Queries of one way of asking, and more until `_ENOUGH` are scored: captions that find photos have one own photo each,
and few right answers tell little of the share that is named."""

_ENOUGH = 5_000_000
_SCORES = 12_000_000
"""Scores of one way of asking that are held together: 48 MB, and as much again while they are sorted."""

_BAND = 2_000_000
_FOLDS = 5

Bools = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class _Right:
    """The right answers of one way of asking.

    Attributes:
        truth: what they are, in words.
        asking: rows of the queries that have one.
        among: rows of queries (b,) -> which items of the gallery are right (b, g).
        complete: whether it names every right answer.
    """

    truth: str
    asking: Ints
    among: Callable[[Ints], Bools]
    complete: bool


def calibrate(
    model: Model,
    pairs: Pairs,
    *,
    truth: str | None = None,
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Calibration:
    """Encode pairs that the model was not trained on, and fit a curve for each way of asking they have a truth for.

    Up to 5,000 images (25,000 captions) are drawn by `seed`, and of each way of asking 1,000 queries, more up to five
    million scores, fewer above twelve. Among captions those of the same image are right; among images those that share
    a label, where labels are classes.

    Only every match and ECCV Caption's name all that fits. Of other truths the share that they name is estimated
    (`Curve.named`), and probabilities are of all that fits: "own captions, taken to be 1 in 4.1 of what fits". It is
    assumed that the highest-scored pairs fit, named or not, and that named ones score like the others that fit. A run
    too poor for the first is told so in the notes.

    Args:
        model: of a trained run.
        pairs: held out from training; validation pairs, or ones like those that will be searched.
        truth: what is right between images and captions, one of `TRUTHS`: every match, own captions and what people
            judged right (mean grade of at least 3, more than half said yes), ECCV Caption's, CxC's, own captions
            alone. By default the first that the pairs have.
        seed: of the drawing.
        batch_size: items encoded at a time.
        progress: called with (done, total) of each stage.

    Returns:
        The curves, and for each way of asking without one the reason.

    Raises:
        DataError: nothing to encode, an embedding or a score that is not finite, or a truth the pairs do not have.
        UnknownName: no such truth.
    """
    pairs, _ = usable(looks(model, pairs), pairs, progress)
    drawn = _drawn(pairs, seed)
    known = _right_answers(drawn, truth)
    images, captions = (items.to(model.device) for items in encode(model, drawn, batch_size, progress))
    scorer = _Scorer(model, drawn, {"image": images, "caption": captions}, np.random.default_rng(seed))
    curves: dict[tuple[str, str], Curve] = {}
    reasons: dict[tuple[str, str], str] = {}
    for way, found in known.items():
        fitted = found if isinstance(found, str) else scorer.curve(*way, found)
        if isinstance(fitted, str):
            reasons[way] = fitted
        else:
            curves[way] = fitted
    notes = []
    if model.notes.get("seen", {}).get("training") == pairs.digest:
        notes.append("fitted on the very pairs the run was trained on: of others it says nothing, often far too little")
    if len(drawn) < _FEW_IMAGES:
        notes.append(f"fitted on {len(drawn)} images alone: its probabilities may be far off; some hundred are wanted")
    for (asking, searched), curve in curves.items():
        if curve.named <= LEAST_NAMED:
            notes.append(_too_few(asking, searched, curve))
    return Calibration(curves, reasons, pairs.describe(), seed, tuple(notes))


def _too_few(asking: str, searched: str, curve: Curve) -> str:
    return (
        f"{asking} to {searched}: of the highest scores at most 1 in {1 / LEAST_NAMED:.0f} is of {curve.truth}; either "
        "the run is poor and its probabilities are too high, or far more fits and they are too low"
    )


def _drawn(pairs: Pairs, seed: int) -> Pairs:
    """So many images that they and their captions are soon encoded, in their order."""
    order = np.random.default_rng([seed, 1]).permutation(len(pairs))
    captions = np.cumsum([len(pairs.items[row].captions) for row in order])
    count = max(1, min(_IMAGES, int(np.searchsorted(captions, _CAPTIONS, side="right"))))
    return pairs if count >= len(pairs) else pairs.take(np.sort(order[:count]))


def _right_answers(pairs: Pairs, truth: str | None) -> dict[tuple[str, str], _Right | str]:
    """For each way of asking its right answers, or why there are none."""
    if truth is not None and truth not in TRUTHS:
        raise UnknownName("truth of a calibration", truth, TRUTHS)
    name, asked = (truth, PROTOCOLS[truth].ask(pairs)) if truth else _widest(pairs)
    said = PROTOCOLS[name].truth_name
    complete = name in _COMPLETE
    out: dict[tuple[str, str], _Right | str] = {
        WAYS[0]: _listed(asked.t2i, said, complete),
        WAYS[1]: _listed(asked.i2t, said, complete),
    }
    if name == "own" and says_false(pairs):
        out = dict.fromkeys(out, "some captions are false of their image, so own captions are no right answers")
    within = asked.within
    out[WAYS[2]] = _listed(within["t2t"], said, complete) if "t2t" in within else _siblings(pairs)
    out[WAYS[3]] = _listed(within["i2i"], said, complete) if "i2i" in within else _sharing(pairs)
    return out


def _widest(pairs: Pairs) -> tuple[str, Asked]:
    """The first truth that says something of these pairs: a file of truth may be of another split."""
    for name in TRUTHS[:-1]:
        if name == "judged" or PROTOCOLS[name].fits(pairs):
            with suppress(DataError):
                return name, PROTOCOLS[name].ask(pairs)
    return TRUTHS[-1], PROTOCOLS[TRUTHS[-1]].ask(pairs)


def _listed(matches: Matches | None, truth: str, complete: bool) -> _Right | str:
    if matches is None or not len(matches):
        return f"no right answer is known ({truth})"
    indptr, gallery = matches.indptr(), matches.shape[1]

    def among(rows: Ints) -> Bools:
        out = np.zeros((len(rows), gallery), bool)
        for place, row in enumerate(rows):
            out[place, matches.captions[indptr[row] : indptr[row + 1]]] = True
        return out

    return _Right(truth, np.unique(matches.images), among, complete)


def _siblings(pairs: Pairs) -> _Right | str:
    """Captions of the same image."""
    owner = pairs.owner
    asking = np.flatnonzero(np.bincount(owner)[owner] > 1)
    if not len(asking):
        return "no image has two captions, so it is not known which captions mean the same"
    return _Right("captions of the same image", asking, lambda rows: owner[rows][:, None] == owner[None], False)


def _sharing(pairs: Pairs) -> _Right | str:
    """Images that share a label, where labels are classes."""
    if not Labels().fits(pairs):
        return "the pairs do not say which images match: their labels are no classes that images share"
    vectors = LabelVectors.of(pairs)
    asking = np.flatnonzero(vectors.shared.any(axis=1))
    return _Right(Labels.truth_name, asking, lambda rows: vectors.common(rows) > 0, True)


@dataclass(frozen=True)
class _Scorer:
    """Embeddings by modality, and what turns them into curves."""

    model: Model
    pairs: Pairs
    items: dict[str, Embedding]
    rng: np.random.Generator

    def curve(self, asking: str, searched: str, known: _Right) -> Curve | str:
        """The curve of one way of asking, or why there is none."""
        gallery = len(self.items[searched])
        most = min(max(_QUERIES, _ENOUGH // gallery), max(1, _SCORES // gallery))
        rows = known.asking
        if len(rows) > most:
            rows = np.sort(self.rng.choice(rows, most, replace=False))
        images = self.pairs.owner[rows] if asking == "caption" else rows
        # A photo's captions are alike, so they are never on both sides of a fold.
        folds = self.rng.permutation(len(self.pairs))[images] % _FOLDS
        right: list[list[Any]] = [[] for _ in range(_FOLDS)]
        wrong: list[list[Any]] = [[] for _ in range(_FOLDS)]
        for place, scores in self._bands(asking, searched, rows):
            chosen, others = known.among(rows[place]), np.ones(scores.shape, bool)
            if asking == searched:
                others[np.arange(len(scores)), rows[place]] = False
            for fold in np.unique(folds[place]):
                mine = folds[place] == fold
                kept, said = scores[mine], chosen[mine]
                right[fold].append(kept[said & others[mine]])
                wrong[fold].append(kept[~said & others[mine]])
        try:
            tally = Tally.of(_joined(right), _joined(wrong))
            return fit_curve(tally, truth=known.truth, queries=len(rows), gallery=gallery, complete=known.complete)
        except DataError as error:
            return str(error)

    def _bands(self, asking: str, searched: str, rows: Ints) -> Iterator[tuple[slice, Any]]:
        ids = {"image": self.pairs.image_ids, "caption": self.pairs.caption_ids}
        queries, gallery = self.items[asking][rows], self.items[searched]
        sides = Side(asking, [ids[asking][row] for row in rows]), Side(searched, ids[searched])
        low = max(1, _BAND // len(gallery))
        return Tiles.of(self.model.similarity, queries, gallery, None, sides, most_rows=low).bands()


def _joined(folds: list[list[Any]]) -> list[Any]:
    """The scores of each fold that asked, as one array; its pieces go as it is made."""
    out = []
    while folds:
        pieces = folds.pop()
        if pieces:
            out.append(np.concatenate(pieces))
    return out
