"""From a ranking to an answer: fused with words, cut, made diverse, grouped, paged, and told what it could mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..collection import Pool, Reading
from .asking import Asked, Options
from .diverse import mmr
from .explain import explain_all
from .meanings import meanings
from .ranking import Ranked, fuse, probable, rank, rank_near
from .results import Group, Hit, Meant, Results

if TYPE_CHECKING:
    from ...calibration import Curve

__all__ = ["OWNER", "Answer"]

Array = np.ndarray[Any, Any]

_LOOKED_AT = 100
"""Answers that meanings are found among."""

_DIVERSE = 200
"""Answers that are put in another order; those behind them keep theirs."""

_FUSED = 1000
"""Depth of each of the two lists that are fused, whatever the page: another depth would be another order."""

_COUNTED = 50
"""Where probabilities are told there are candidates for this many at least: right answers are counted one by one. With
those for a first page alone the expected number was off by 60 % among a hundred thousand sets, with these by 1 %."""

_AT_THE_EDGE = 0.02
_MOST_COUNTED = 1000
"""While the lower half of the candidates is still as probable as that, four times as many are asked for, up to this."""

_SAMPLE = 250
"""Items outside the candidates that stand for all the others: these are improbable, so that few do."""

OWNER = "owner"
"""Groups by it are of one image each: a caption's own, or the image itself."""

_FILLED = 2000
"""Answers that are looked through at most to fill groups, of which there are enough already."""

_EVEN = 0.5
_VALUES = 50
"""Values of a facet that are told."""


class Answer:
    """One query's answer.

    Args:
        reading, pool: what is searched.
        asked: the query.
        options: how the answer is wanted.
        curve: score to probability, for this query's and the pool's modality; None where there is none.
        bank: whether biases take part.
        ranked: what is scored already, for the first page.
    """

    def __init__(
        self,
        reading: Reading,
        pool: Pool,
        asked: Asked,
        options: Options,
        curve: Curve | None,
        bank: bool,
        ranked: Ranked | None = None,
    ) -> None:
        self._reading, self._pool, self._asked, self._options = reading, pool, asked, options
        self._curve, self._bank = curve, bank
        self._ranked = ranked
        self._depth = self._wished = 0

    # ---- scored items

    def _scored(self, need: int, wish: int = 0) -> Ranked:
        """All that pass, or candidates for at least `need`, and for `wish` where that does not take all that pass."""
        if self._curve is not None:
            wish = max(wish, _COUNTED)
        unscored = not self._options.exact and (self._ranked is None or not self._ranked.exact)
        if unscored and wish > max(need, self._depth, self._wished):
            self._wished = wish
            found = rank_near(self._pool, self._asked, wish, bank=self._bank)
            if found is not None:
                self._ranked, self._depth = found, wish
        if self._ranked is None or (not self._ranked.exact and need > self._depth):
            exact = bool(self._options.exact)
            self._ranked, self._depth = rank(self._pool, self._asked, need, exact=exact, bank=self._bank), need
        return self._ranked

    def ordered(self, need: int) -> Ranked:
        """The first `need` of the final order, or as many as there are."""
        ranked = self._kept(self._fused(need))
        if self._options.diverse is None:
            return ranked.first(need)
        first = ranked.first(max(need, _DIVERSE))
        if not len(first):
            return first
        top = first.at(np.arange(min(_DIVERSE, len(first))))
        order = mmr(top.score, self._pool.take(top.handles), min(need, len(top)), self._options.diverse)
        return first.at(np.concatenate([order, np.arange(len(top), len(first))])[:need])

    def _fused(self, need: int) -> Ranked:
        if self._options.diverse is not None:
            need = max(need, _DIVERSE)
        if not self._options.hybrid:
            return self._scored(need)
        return fuse(self._pool, self._asked, self._scored(max(need, _FUSED)), _FUSED, need)

    def _kept(self, ranked: Ranked) -> Ranked:
        """Those at or above the asked probability, in unchanged order."""
        if self._options.confident is None or self._curve is None:
            return ranked
        return ranked.at(np.flatnonzero(self._curve.probability(ranked.raw) >= self._options.confident))

    # ---- the answer

    def results(self, name: str) -> Results:
        """The page, with what was asked for besides."""
        options = self._options
        need = options.offset + options.k
        groups = None
        if options.group_by is None:
            shown = self.ordered(max(need, _LOOKED_AT if options.meanings else 0))
            page = shown.at(np.arange(options.offset, min(need, len(shown))))
            hits = self._hits(page, range(options.offset + 1, options.offset + len(page) + 1))
        else:
            grouped = self._grouped(need)[options.offset : need]
            groups = tuple(Group(value, self._hits(members, ranks)) for value, members, ranks in grouped)
            hits = tuple(replace(group.hits[0], rank=options.offset + n + 1) for n, group in enumerate(groups))
        scored = self._counted()
        meant: tuple[Any, Any] = self._meant() if options.meanings else (None, None)
        return Results(
            query=name,
            hits=hits,
            exact=scored.exact,
            agreement=scored.agreement,
            searched=len(self._pool),
            milliseconds=0.0,
            bank=self._bank,
            ambiguity=self._asked.ambiguity,
            expected_matches=self._expected(scored),
            likely=self._likely(scored),
            groups=groups,
            meanings=meant[0],
            meant_by=meant[1],
            facets={field: self._facet(field) for field in options.facets} if options.facets else None,
        )

    def _expected(self, scored: Ranked) -> float | None:
        """Sum of the probabilities of all that pass: of what was not scored, a sample stands for the others."""
        if self._curve is None:
            return None
        total = float(self._curve.probability(scored.raw).sum())
        if scored.exact:
            return total
        others = self._pool.sample(_SAMPLE)
        # The item that asks lies outside of its candidates, and is none of the others.
        own = self._own()
        others = others[~np.isin(others, np.concatenate([scored.handles, own]))]
        if not len(others):
            return total
        each = self._curve.probability(self._pool.scores(self._asked.embedding, others)).mean()
        return total + float(each) * max(0, len(self._pool) - len(own) - len(scored))

    def _counted(self) -> Ranked:
        """What is scored, so many that beyond them hardly anything is right."""
        ranked, wish = self._scored(0), _COUNTED
        if self._curve is None or ranked.exact:
            return ranked
        if self._bank:
            return self._with_probable(ranked, self._curve)
        while not ranked.exact and wish < _MOST_COUNTED and not _at_the_edge(ranked, self._curve):
            wish *= 4
            ranked = self._scored(0, wish)
        return ranked

    def _with_probable(self, ranked: Ranked, curve: Curve) -> Ranked:
        """And the first by raw scores, which tell how probable an item is: what biases push down is probable too."""
        found, wish = None, _COUNTED
        while wish <= 4 * _MOST_COUNTED:
            deeper = probable(self._pool, self._asked, wish)
            if deeper is None or (found is not None and len(deeper) <= len(found)):
                break
            found = deeper
            if _at_the_edge(found, curve):
                break
            wish *= 4
        if found is None:
            found = probable(self._pool, self._asked, 1)
        return ranked if found is None else ranked.joined(found)

    def _own(self) -> Array:
        """Handle of the item that asks (1,), or none (0,)."""
        item = self._asked.item
        return np.empty(0, np.int64) if item is None else self._pool.handle(item)

    def _likely(self, scored: Ranked) -> int | None:
        if self._curve is None:
            return None
        least = _EVEN if self._options.confident is None else self._options.confident
        return int((self._curve.probability(scored.raw) >= least).sum())

    # ---- groups, meanings, facets

    def _values(self, field: str, handles: Array) -> list[list[Any]]:
        if field == OWNER:
            return [[item.owner or item.id] for item in self._pool.items(handles)]
        return self._pool.values(field, handles)

    def _grouped(self, count: int) -> list[tuple[Any, Ranked, list[int]]]:
        """The first `count` values in the order of their best item, with their first items and the ranks of these."""
        field, depth = str(self._options.group_by), max(_LOOKED_AT, 4 * count)
        while True:
            found = self.ordered(depth)
            members: dict[Any, list[int]] = {}
            for place, values in enumerate(self._values(field, found.handles)):
                for value in dict.fromkeys(values) or [None]:
                    members.setdefault(value, []).append(place)
            first = list(members.items())[:count]
            full = all(len(m) >= self._options.per_group for _, m in first) or depth >= _FILLED or not found.exact
            if (len(first) == count and full) or len(found) < depth:
                chosen = [(value, np.array(places[: self._options.per_group])) for value, places in first]
                return [(value, found.at(places), (places + 1).tolist()) for value, places in chosen]
            depth *= 4

    def _meant(self) -> tuple[tuple[Meant, ...], str]:
        first = self.ordered(_LOOKED_AT)
        if not len(first):
            return (), "no answers"
        answers = self._pool.take(first.handles)
        hits = self._hits(first, range(1, len(first) + 1), explained=False)
        weights = None if self._curve is None else [hit.probability or 0.0 for hit in hits]
        found = meanings(self._asked.embedding, answers, weights=weights, captions=[hit.caption for hit in hits])
        shown = tuple(
            Meant(
                words=group.words,
                elements=group.elements,
                share=group.share,
                count=len(group.positions),
                hits=tuple(hits[place] for place in group.positions[: self._options.per_group]),
            )
            for group in found.groups
        )
        return shown, found.why

    def _facet(self, field: str) -> list[tuple[Any, int]]:
        """Of the items that are likely where a probability was asked for, else of all that pass."""
        handles = None
        if self._options.confident is not None and self._curve is not None:
            handles = self._kept(self._scored(self._options.offset + self._options.k)).handles
        # Pools keep what they found: the caller's list is its own.
        return list(self._pool.facet(field, handles, _VALUES))

    def _hits(self, ranked: Ranked, ranks: Sequence[int], *, explained: bool = True) -> tuple[Hit, ...]:
        """The items as they are shown."""
        items = self._pool.items(ranked.handles)
        said = self._reading.first_captions([item.id for item in items if item.modality == "image"])
        probabilities = [None] * len(items) if self._curve is None else self._curve.probability(ranked.raw).tolist()
        why: list[Any] = [None] * len(items)
        if explained and self._options.explain and len(items):
            matches = explain_all(
                self._asked.embedding, self._pool.take(ranked.handles), similarity=self._pool.similarity
            )
            why = [[match.to_json() for match in each] for each in matches]
        return tuple(
            Hit(
                rank=ranks[n],
                id=item.id,
                modality=item.modality,
                score=float(ranked.score[n]),
                raw_score=float(ranked.raw[n]),
                probability=probabilities[n],
                metadata=item.metadata,
                caption=item.caption or said.get(item.id),
                owner=item.owner,
                has_picture=item.picture is not None,
                why=why[n],
            )
            for n, item in enumerate(items)
        )


def _at_the_edge(ranked: Ranked, curve: Curve) -> bool:
    """Whether the less probable half of the candidates is hardly probable."""
    found = np.sort(curve.probability(ranked.raw))
    return bool(found[: -(-len(found) // 2)].mean() < _AT_THE_EDGE)
