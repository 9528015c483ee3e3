"""`evaluate`: encode, rank once, and read every protocol's numbers from the same counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from ..data.files import Progress
from ..data.matches import Matches
from ..data.pairs import Pairs
from ..embeddings import Embedding
from ..errors import DataError
from .banking import biases_of, expect_no_bank, usable_banks
from .duplicates import duplicates
from .elsewhere import Elsewhere, Given, source_of
from .encoding import encode, looks, scores_of, seen, supplied, unlike, usable
from .health import health
from .measures import Floats, interval, resampled
from .metrics import check_ties, queries
from .protocols import PROTOCOLS, Asked, Direction, Found, Measured, choose
from .protocols.base import nothing
from .published import published_for
from .ranks import Ranks
from .report import Report, Row, distinct, row
from .scores import ModelScores, Source
from .specificity import specificity

if TYPE_CHECKING:
    from ..data.store import Where
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
    models: Model | Given | Sequence[Model | Given],
    pairs: Pairs,
    *,
    protocol: str | Sequence[str] | None = None,
    ties: str = "expected",
    batch_size: int = 256,
    resamples: int = 1000,
    run: str | Sequence[str] | None = None,
    bank: bool | None = None,
    find_duplicates: bool = True,
    progress: Progress | None = None,
    store: Where = None,
    say: Callable[[str], None] | None = None,
) -> Report:
    """How well captions find images and images find captions.

    Args:
        models: one model, or several whose mean score is ranked; or one or several of what `elsewhere.source_of` takes,
            any other system's: an array (i, c), a mapping of arrays, the path of a file of scores or of ranked lists.
        pairs: what is encoded and ranked; usually one split.
        protocol: names from `PROTOCOLS`; by default what the data's truth allows.
        ties: "expected", "optimistic" or "pessimistic", see `metrics`.
        batch_size: items encoded at a time.
        resamples: of the bootstrap over images behind the 95 % intervals; 0 leaves them out.
        run: what tables call it, or each model of an ensemble; by default the models' names.
        bank: rank by scores less biases of the runs' query banks (raw where scores themselves are read). None does so
            where every model has one that holds none of these images, and a note says which it was.
        find_duplicates: note images of the gallery that are one picture; reads every picture, or every feature row.
        progress: called with (done, total) of each stage: pictures, images, captions, score tiles.
        store, say: as `Model.supply`: where features of a frozen image network are kept, and who is told.

    Raises:
        DataError: no images, no captions, no right answer, an embedding or a score that is not finite, or no bank that
            may be used where `bank` asks for one.
        UnknownName: a protocol or a way with ties that does not exist.
    """
    check_ties(ties)
    names = choose(protocol, pairs)
    outside = source_of(models, pairs, progress)
    if outside is not None:
        expect_no_bank(bank)
        notes = duplicates(pairs).notes() if find_duplicates else []
        names = outside.measurable(names, pairs, protocol is not None)
        return _report(outside, judge(outside.source, pairs, names, ties), pairs, resamples, run, notes)
    members = cast("list[Model]", list(models) if isinstance(models, Sequence) else [models])
    labels = _labels(members, run)
    notes = seen(members, labels, pairs)
    pairs, lost = supplied(members, pairs, store, say)
    pairs, left_out = usable(any(looks(model, pairs) for model in members), pairs, progress)
    notes += lost + left_out + unlike(members) + (duplicates(pairs).notes() if find_duplicates else [])
    banks, said = usable_banks(members, labels, pairs, bank)
    encoded = [encode(model, pairs, batch_size, progress) for model in members]
    alone = encoded[0] if len(members) == 1 else (None, None)
    scores = scores_of(members, encoded, pairs, progress, biases_of(members, encoded, pairs, banks))
    judged = judge(scores, pairs, names, ties, *alone)
    notes += said
    title = run if isinstance(run, str) else "+".join(run or [model.name for model in members])
    rows: list[Row] = _titled(title, judged, pairs, resamples, banks is not None)
    if "uncertainty" in names and len(members) == 1:
        rows += [{"run": title, **found} for found in specificity(members[0], pairs, batch_size=batch_size)]
    for label, both in zip(labels, encoded, strict=True):
        rows += [{"run": label, **found} for found in health(*both, pairs.matches())]
    made = tuple(
        m.summary if label == m.name else f"{label}: {m.summary}" for label, m in zip(labels, members, strict=True)
    )
    return Report(rows, (*notes, *judged.notes), made, published_for([m.name for m in members], names, pairs))


def _labels(members: Sequence[Model], run: str | Sequence[str] | None) -> list[str]:
    """What tables call each model, all different. Raises DataError: no model, or not as many names."""
    if not members:
        raise DataError("evaluate: found no model, expected at least one")
    if run is None or (isinstance(run, str) and len(members) > 1):
        names = [model.name for model in members]
    else:
        names = [run] if isinstance(run, str) else list(run)
    if len(names) != len(members):
        raise DataError(f"evaluate: {len(names)} names of {len(members)} models, expected as many")
    return distinct(names)


def _titled(title: str, judged: Judged, pairs: Pairs, resamples: int, bank: bool) -> list[Row]:
    weights = resampled(len(pairs), resamples) if resamples else None
    return [{"run": title, **found, "bank": bank} for found in judged.rows(weights)]


def _report(
    outside: Elsewhere,
    judged: Judged,
    pairs: Pairs,
    resamples: int,
    run: str | Sequence[str] | None,
    notes: Sequence[str],
) -> Report:
    """Rows of scores from elsewhere: no embeddings, so nothing on their health."""
    title = run if isinstance(run, str) else "+".join(run or outside.names)
    published = published_for([], list(judged.measured), pairs)
    return Report(
        _titled(title, judged, pairs, resamples, False),
        (*notes, *outside.source.notes, *judged.notes),
        outside.made,
        published,
    )


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
    # Counts of one right answer do not depend on the others, so one pass over the union serves every protocol.
    ranking = source.ranking(
        Matches.union((each.i2t for each in asked.values() if each.i2t is not None), shape),
        Matches.union((each.t2i for each in asked.values() if each.t2i is not None), shape[::-1]),
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
        ranked = {kind: source.within(kind, truth) for kind, truth in each.within.items()}
        within = {
            kind: Direction(kind, ranks, pairs.owner if kind == "t2t" else own, ties)
            for kind, ranks in ranked.items()
            if ranks is not None
        }
        folds = _folds(each, ranking.folds, pairs, ties)
        found = Found(pairs, each, sides[0], sides[1], folds, within, source.rows, images, texts, ties)
        measured[name] = list(PROTOCOLS[name].measure(found))
        notes += [*each.notes, *found.said, *_left_out(name, each, [*sides, *within.values()])]
        notes += [f"{name}: the scores hold no {kind}, which is left out" for kind in ranked if kind not in within]
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


def _left_out(name: str, asked: Asked, sides: Sequence[Direction]) -> Iterator[str]:
    """A note for each direction in which some query has no right answer."""
    known = {"i2t": asked.i2t, "t2i": asked.t2i, **asked.within}
    for side in sides:
        used, total = queries(side.ranks), len(side.ranks.positives)
        if known[side.name] is not None and used < total:
            what = "images" if side.name[0] == "i" else "captions"
            among = f" among {what}" if side.name in asked.within else ""
            why = f"{PROTOCOLS[name].left_out}{among}"
            yield f"{name}: {total - used} of {total} {what} {why} and are left out as queries"
