"""`evaluate`: encode, rank once, and read every protocol's numbers from the same counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.check import readable
from ..data.files import Progress
from ..data.matches import Matches
from ..data.pairs import Pairs
from ..embeddings import Embedding
from ..errors import DataError
from .ensemble import Joined, MeanScore
from .health import health
from .measures import Floats, interval, resampled
from .metrics import check_ties, queries
from .protocols import PROTOCOLS, Asked, Direction, Found, Measured, choose
from .protocols.base import nothing
from .ranks import Ranks
from .report import Report, Row, row
from .scores import ModelScores, Source

if TYPE_CHECKING:
    from ..methods import Model

__all__ = ["Judged", "evaluate", "judge"]


@dataclass(frozen=True)
class Judged:
    """What every protocol measured of one system, before it becomes rows.

    Attributes:
        measured: protocol -> its numbers.
        notes: what was left out and why.
    """

    measured: Mapping[str, Sequence[Measured]]
    notes: tuple[str, ...]

    def rows(self, weights: Floats | None) -> list[Row]:
        """One flat row a number; `weights` (b, n) of the bootstrap over images, None for no intervals."""
        return [
            row(name, one, one.measure.value, interval(one.measure, weights), PROTOCOLS[name].truth_name)
            for name, found in self.measured.items()
            for one in found
        ]


def evaluate(
    models: Model | Sequence[Model],
    pairs: Pairs,
    *,
    protocol: str | Sequence[str] | None = None,
    ties: str = "expected",
    batch_size: int = 256,
    resamples: int = 1000,
    run: str | Sequence[str] | None = None,
    progress: Progress | None = None,
) -> Report:
    """How well captions find images and images find captions.

    Args:
        models: one model, or several whose mean score is ranked.
        pairs: what is encoded and ranked; usually one split.
        protocol: names from `PROTOCOLS`; by default what the data's truth allows.
        ties: "expected", "optimistic" or "pessimistic", see `metrics`.
        batch_size: items encoded at a time.
        resamples: of the bootstrap over images behind the 95 % intervals; 0 leaves them out.
        run: what tables call it, or each model of an ensemble; by default the models' names.
        progress: called with (done, total) of each stage: pictures, images, captions, score tiles.

    Raises:
        DataError: no images, no captions, no right answer, or an embedding or a score that is not finite.
        UnknownName: a protocol or a way with ties that does not exist.
    """
    members = list(models) if isinstance(models, Sequence) else [models]
    if not members:
        raise DataError("evaluate: found no model, expected at least one")
    check_ties(ties)
    names = choose(protocol, pairs)
    labels = [run] if isinstance(run, str) else list(run or [model.name for model in members])
    notes = _seen(members, labels, pairs)
    pairs, left_out = _usable(members, pairs, progress)
    notes += left_out + _unlike(members)
    encoded = [_encode(model, pairs, batch_size, progress) for model in members]
    alone = encoded[0] if len(members) == 1 else (None, None)
    judged = judge(_source(members, encoded, pairs, progress), pairs, names, ties, *alone)
    title = "+".join(labels)
    weights = resampled(len(pairs), resamples) if resamples else None
    rows: list[Row] = [{"run": title, **found} for found in judged.rows(weights)]
    labels = labels if len(labels) == len(members) else [model.name for model in members]
    for label, both in zip(labels, encoded, strict=True):
        rows += [{"run": label, **found} for found in health(*both)]
    made = tuple(
        m.summary if label == m.name else f"{label}: {m.summary}" for label, m in zip(labels, members, strict=True)
    )
    return Report(rows, (*notes, *judged.notes), made)


def judge(
    source: Source,
    pairs: Pairs,
    names: Sequence[str],
    ties: str,
    images: Embedding | None = None,
    texts: Embedding | None = None,
) -> Judged:
    """Every named protocol's numbers from one pass over the scores.

    Args:
        source: of the scores of these pairs.
        pairs: what was scored.
        names: of protocols.
        ties: how equal scores count.
        images, texts: embeddings, for what a protocol says of the items themselves.
    """
    asked = {name: PROTOCOLS[name].ask(pairs) for name in names}
    if any(each.rows for each in asked.values()) and isinstance(source, ModelScores):
        source = source.kept()
    shape = len(pairs), len(pairs.captions)
    ranking = source.ranking(
        _union([each.i2t for each in asked.values()], shape),
        _union([each.t2i for each in asked.values()], (shape[1], shape[0])),
        folds=next((each.folds for each in asked.values() if each.folds is not None), None),
        best=any(each.best for each in asked.values()),
    )
    own = np.arange(shape[0])
    measured: dict[str, list[Measured]] = {}
    notes: list[str] = []
    for name, each in asked.items():
        sides = [
            Direction(direction, _only(ranks, truth), images_of, ties)
            for direction, ranks, truth, images_of in (
                ("i2t", ranking.i2t, each.i2t, own),
                ("t2i", ranking.t2i, each.t2i, pairs.owner),
            )
        ]
        within = {
            kind: Direction(kind, source.within(kind, truth), pairs.owner if kind == "t2t" else own, ties)
            for kind, truth in each.within.items()
        }
        folds = _folds(each, ranking.folds, pairs, ties)
        found = Found(pairs, each, sides[0], sides[1], folds, within, source.rows, images, texts, ties)
        measured[name] = list(PROTOCOLS[name].measure(found))
        notes += [*each.notes, *_left_out(name, each, sides)]
    return Judged(measured, tuple(dict.fromkeys(notes)))


def _folds(
    asked: Asked, ranked: Sequence[tuple[Ranks, Ranks]], pairs: Pairs, ties: str
) -> tuple[tuple[Direction, Direction], ...]:
    if asked.folds is None:
        return ()
    rows = np.arange(len(pairs)), np.arange(len(pairs.captions))
    out = []
    for images, captions, (i2t, t2i) in zip(asked.folds.images, asked.folds.captions, ranked, strict=True):
        own = [
            truth.subset(rows[side][chosen], rows[1 - side][others]) if truth is not None else None
            for side, truth, chosen, others in ((0, asked.i2t, images, captions), (1, asked.t2i, captions, images))
        ]
        out.append(
            (
                Direction("i2t", _only(i2t, own[0]), rows[0][images], ties),
                Direction("t2i", _only(t2i, own[1]), pairs.owner[captions], ties),
            )
        )
    return tuple(out)


def _only(ranks: Ranks, truth: Matches | None) -> Ranks:
    return ranks.only(truth or nothing((len(ranks.indptr) - 1, ranks.gallery)))


def _union(truths: Sequence[Matches | None], shape: tuple[int, int]) -> Matches:
    """Counts of one right answer do not depend on the others, so one pass over the union serves every protocol."""
    known = [truth for truth in truths if truth is not None]
    images, captions = (
        np.concatenate([np.zeros(0, np.int64), *(getattr(t, side) for t in known)]) for side in ("images", "captions")
    )
    return Matches.of(images, captions, shape)


def _seen(members: Sequence[Model], labels: Sequence[str], pairs: Pairs) -> list[str]:
    """A note for each model that was trained, or whose epoch was chosen, on these very pairs."""
    names = labels if len(labels) == len(members) else [model.name for model in members]
    uses = {"training": "was trained", "validation": "had its epoch chosen"}
    return [
        f"{name} {did} on these very pairs: no test of it"
        for name, model in zip(names, members, strict=True)
        for what, did in uses.items()
        if model.notes.get("seen", {}).get(what) == pairs.digest
    ]


def _usable(members: Sequence[Model], pairs: Pairs, progress: Progress | None) -> tuple[Pairs, list[str]]:
    """The pairs that can be encoded, and a note on those that cannot."""
    _expect_both(pairs)
    if not any(model.image_input == "pixels" for model in members):
        return pairs, []
    kept = readable(pairs, progress)
    if len(kept) == len(pairs):
        return pairs, []
    first = kept.problems[len(pairs.problems)]
    note = f"{len(pairs) - len(kept)} of {len(pairs)} images could not be read and are left out; the first: {first}"
    if not len(kept):
        raise DataError(f"{pairs.name}: {note}")
    _expect_both(kept)
    return kept, [note]


def _expect_both(pairs: Pairs) -> None:
    if not len(pairs) or not pairs.captions:
        raise DataError(
            f"{pairs.name}: {len(pairs)} images, {len(pairs.captions)} captions; evaluation needs at least one of each"
        )


def _encode(model: Model, pairs: Pairs, batch_size: int, progress: Progress | None) -> tuple[Embedding, Embedding]:
    images = model.encode_images(pairs.images, batch_size=batch_size, progress=_adding(progress, len(pairs)))
    captions = pairs.captions
    return images, model.encode_texts(captions, batch_size=batch_size, progress=_adding(progress, len(captions)))


def _adding(progress: Progress | None, total: int) -> Callable[[int], None] | None:
    """What a model tells after each batch, how many items it held, as (done, total)."""
    if progress is None:
        return None
    done = 0

    def add(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    return add


def _source(
    members: Sequence[Model],
    encoded: Sequence[tuple[Embedding, Embedding]],
    pairs: Pairs,
    progress: Progress | None,
) -> ModelScores:
    similarity: Any = members[0].similarity
    images: Any
    texts: Any
    images, texts = encoded[0]
    if len(members) > 1:
        images, texts = (Joined(parts) for parts in zip(*encoded, strict=True))
        similarity = MeanScore([model.similarity for model in members])
    return ModelScores(
        similarity, images, texts, image_ids=pairs.image_ids, caption_ids=pairs.caption_ids, progress=progress
    )


def _unlike(members: Sequence[Model]) -> list[str]:
    """A note where the members' similarities differ: a mean of cosines and log-odds is one of log-odds."""
    found = dict.fromkeys(type(model.similarity).__name__ for model in members)
    if len(found) < 2:
        return []
    return [f"the mean of {' and '.join(found)} scores: where their scales differ, the larger one decides the order"]


def _left_out(name: str, asked: Asked, sides: Sequence[Direction]) -> Iterator[str]:
    """A note for each direction in which some query has no right answer."""
    for side, truth, what in zip(sides, (asked.i2t, asked.t2i), ("images", "captions"), strict=True):
        if truth is None:
            continue
        used, total = queries(side.ranks), len(side.ranks.positives)
        if used < total:
            yield f"{name}: {total - used} of {total} {what} have no right answer and are left out as queries"
