"""One call of search: what it reads, what it asks for, and the answers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ...errors import DataError, UnknownName
from ...threads import one_thread
from ..collection import Pool, Reading
from ..filters import Where, read_where
from .answer import OWNER, Answer
from .asking import Asked, Options, encode_picture, modality_of, name_of, stored
from .ranking import rank_many
from .results import Results

if TYPE_CHECKING:
    from ...calibration import Curve
    from ..searchable import Searchable

__all__ = ["Search"]


class Search:
    """Queries of one call, answered from one consistent look at the index. Raises as `Index.search`."""

    def __init__(
        self,
        index: Searchable,
        reading: Reading,
        among: str | None,
        where: Mapping[str, Any] | Where | None,
        options: Options,
    ) -> None:
        self._index, self._reading, self._options = index, reading, options
        self._modality = modality_of(among)
        self._where = read_where(where)
        self._calibration = index.calibration

    def run(self, queries: Sequence[Any], like: str | None, unlike: tuple[Any, str | None]) -> list[Results]:
        """One answer a query."""
        names = [name_of(query, like) for query in queries]
        if unlike[0] is not None or unlike[1] is not None:
            name_of(*unlike, called=("unlike", "unlike_item"))
        everything = self._reading.pool(self._modality, Where())
        if everything is not None and (any(query is not None for query in queries) or unlike[0] is not None):
            # Loaded before the clock starts; an index without items needs no run.
            _ = self._index.model
        self._check_fields()
        if everything is None:
            for id in (like, unlike[1]):
                if id is not None:
                    self._reading.item(id)
            return [self._nothing(name) for name in names]
        _ = everything.similarity
        began = time.perf_counter()
        pool = self._reading.pool(self._modality, self._where) if self._where else everything
        assert pool is not None, "there are items of this modality"
        with one_thread():
            asked = self._asked(queries, like, unlike)
            answers = self._answers(pool, asked)
            found = [answer.results(name) for answer, name in zip(answers, names, strict=True)]
        spent = 1000 * (time.perf_counter() - began) / max(1, len(found))
        notes = self._notes(len(pool))
        return [
            replace(results, milliseconds=spent, notes=(*notes, *self._unknown(one)))
            for results, one in zip(found, asked, strict=True)
        ]

    def _asked(self, queries: Sequence[Any], like: str | None, unlike: tuple[Any, str | None]) -> list[Asked]:
        words, item = unlike
        away = None
        if item is not None:
            away = stored(self._reading, item).embedding
        elif words is not None:
            away = self._encoded(words).embedding
        if like is not None:
            asked = [stored(self._reading, like)]
        elif len(queries) > 1:
            asked = self._index.in_words(list(queries))
        else:
            asked = [self._encoded(query) for query in queries]
        return asked if away is None else [replace(one, unlike=away) for one in asked]

    def _encoded(self, query: Any) -> Asked:
        if isinstance(query, str):
            return self._index.in_words([query])[0]
        return encode_picture(self._index.model, query)

    def _answers(self, pool: Pool, asked: list[Asked]) -> list[Answer]:
        options, bank = self._options, self._biased(pool, asked)
        if options.confident is not None and bank:
            # Confidence is of raw scores, and candidates are the first by others: not all that are confident.
            options = replace(options, exact=True)
        curves = [self._curve(one) for one in asked]
        for one, curve in zip(asked, curves, strict=True):
            if options.confident is not None and curve is None:
                raise DataError(f"search: confident {options.confident} cannot cut: {self._why_not(one)}")
        ranked: list[Any] = [None] * len(asked)
        if len(asked) > 1 and not options.hybrid:
            need = options.offset + options.k
            ranked = list(rank_many(pool, asked, need, exact=bool(options.exact), bank=bank))
        return [
            Answer(self._reading, pool, one, options, curve, bank, scored)
            for one, curve, scored in zip(asked, curves, ranked, strict=True)
        ]

    def _curve(self, asked: Asked) -> Curve | None:
        if self._calibration is None or self._unread(asked):
            return None
        return self._calibration.curve(asked.modality, self._modality)

    def _unread(self, asked: Asked) -> bool:
        """Whether the query is words of which the run knows none: its embedding says nothing, nor do its scores."""
        return asked.text is not None and asked.item is None and not self._index.model.knows(asked.text)

    def _biased(self, pool: Pool, asked: Sequence[Asked]) -> bool:
        """Whether biases take part. Queries of one call are of one modality."""
        asking = asked[0].modality if asked else "caption"
        biased = pool.biased(asking)
        if self._options.bank and not biased and not self._index.banked():
            raise DataError(
                f"search: a query bank was asked for, and no {self._modality} of this index has a bias for when "
                f"{'a caption or words ask' if asking == 'caption' else 'an image asks'}"
            )
        return biased and self._options.bank is not False

    def _why_not(self, asked: Asked) -> str:
        if self._calibration is None:
            return "the index has no calibration; learn one with: manymatch index-calibrate X DATA"
        if self._unread(asked):
            return "the run knows no word of the query"
        return f"{asked.modality} to {self._modality}: {self._calibration.why_not(asked.modality, self._modality)}"

    def _notes(self, passing: int) -> list[str]:
        notes = list(self._reading.notes)
        if self._where and not passing:
            known = self._reading.fields()
            for field in self._where.fields:
                if field not in known:
                    near = get_close_matches(field, known, n=1)
                    hint = f"; nearest: {near[0]!r}" if near else f"; there are: {', '.join(known[:5]) or 'none'}"
                    notes.append(f"no item has a field {field!r}{hint}")
        return notes

    def _unknown(self, asked: Asked) -> list[str]:
        return [] if self._curve(asked) is not None else [f"no probabilities: {self._why_not(asked)}"]

    def _check_fields(self) -> None:
        """Raises UnknownName for a field to group by or to count that no item has."""
        by = self._options.group_by
        asked = [*self._options.facets, *([] if by in (None, OWNER) else [str(by)])]
        known = self._reading.fields() if asked else []
        for field in asked:
            if field not in known:
                raise UnknownName("field", field, known)

    def _nothing(self, name: str) -> Results:
        options, why = self._options, f"the index has no {self._modality}s"
        return Results(
            query=name,
            hits=(),
            exact=True,
            agreement=None,
            searched=0,
            milliseconds=0.0,
            groups=() if options.group_by is not None else None,
            meanings=() if options.meanings else None,
            meant_by=why if options.meanings else None,
            facets={field: [] for field in options.facets} if options.facets else None,
            notes=(why,),
        )
