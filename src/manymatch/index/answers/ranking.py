"""One search: which items are scored, by what, and in which order they come."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..collection import Near, Pool
from ..local.candidates import asking_proxies
from ..local.gallery import best
from .asking import Asked

if TYPE_CHECKING:
    from ...embeddings import Embedding

__all__ = ["Ranked", "fuse", "probable", "rank", "rank_many", "rank_near"]

Array = np.ndarray[Any, Any]

_UNLIKE = 0.5
"""What the similarity to an unwanted example counts against that to the query."""

_UNLIKE_TIMES = 4
"""How many more candidates are looked at with an unwanted example, whose agreement nobody has measured."""

_RANKS = 60
"""k of reciprocal rank fusion (Cormack, Clarke and Buettcher 2009): the rank at which an answer's weight has halved."""

_TOGETHER = 16
"""Queries of one exact pass over the items."""


@dataclass(frozen=True)
class Ranked:
    """Scored items, in the order of the store.

    Attributes:
        handles: (n,) of the pool.
        raw: (n,) the run's similarity.
        score: (n,) what orders.
        exact: whether they are all that pass.
        agreement: of candidates, with exact search, where it was measured.
    """

    handles: Array
    raw: Array
    score: Array
    exact: bool
    agreement: float | None

    def first(self, count: int) -> Ranked:
        """The best, best first; equal scores keep the order of the store."""
        return self.at(best(self.score, count))

    def at(self, places: Array) -> Ranked:
        """The chosen ones, in that order."""
        return Ranked(self.handles[places], self.raw[places], self.score[places], self.exact, self.agreement)

    def joined(self, other: Ranked) -> Ranked:
        """These, and behind them those of the other that are not among them."""
        fresh = other.at(np.flatnonzero(~np.isin(other.handles, self.handles)))
        return replace(
            self,
            handles=np.concatenate([self.handles, fresh.handles]),
            raw=np.concatenate([self.raw, fresh.raw]),
            score=np.concatenate([self.score, fresh.score]),
        )

    def __len__(self) -> int:
        return len(self.handles)


def rank(pool: Pool, asked: Asked, need: int, *, exact: bool, bank: bool) -> Ranked:
    """Every item that passes, or candidates for the first `need`, scored by the run's own similarity."""
    near = None if exact else rank_near(pool, asked, need, bank=bank)
    if near is not None:
        return near
    handles, raw = pool.scan(asked.embedding)
    return _scored(pool, asked, handles, raw[0], bank, None, _own(pool, asked), exact=True)


def rank_near(pool: Pool, asked: Asked, need: int, *, bank: bool) -> Ranked | None:
    """Candidates for the first `need`, scored; None where every item has to be."""
    own = _own(pool, asked)
    near = _near(pool, asked, need + (own is not None and len(own) > 0), bank)
    if near is None:
        return None
    return _scored(pool, asked, near.handles, pool.scores(asked.embedding, near.handles), bank, near.agreement, own)


def probable(pool: Pool, asked: Asked, need: int) -> Ranked | None:
    """Candidates for the `need` items of the highest raw scores, whatever orders the answer; None as `rank_near`.

    How many that takes was measured with biases, so that their agreement is not known.
    """
    asked, own = replace(asked, unlike=None), _own(pool, asked)
    near = _near(pool, asked, need + (own is not None and len(own) > 0), False, unmeasured=True)
    if near is None:
        return None
    return _scored(pool, asked, near.handles, pool.scores(asked.embedding, near.handles), False, None, own)


def rank_many(pool: Pool, queries: list[Asked], need: int, *, exact: bool, bank: bool) -> list[Ranked | None]:
    """What is scored exactly, read once for several queries; None for those that are better ranked one by one."""
    out: list[Ranked | None] = []
    for start in range(0, len(queries), _TOGETHER):
        part = queries[start : start + _TOGETHER]
        together = len({asked.modality for asked in part}) == 1 and len(part) > 1
        if not together or (not exact and _near(pool, part[0], need, bank) is not None):
            out += [None] * len(part)
            continue
        handles, raw = pool.scan(type(part[0].embedding).concat([asked.embedding for asked in part]))
        for asked, scores in zip(part, raw, strict=True):
            out.append(_scored(pool, asked, handles, scores, bank, None, _own(pool, asked), exact=True))
    return out


def _own(pool: Pool, asked: Asked) -> Array | None:
    return pool.handle(asked.item) if asked.item is not None else None


def _near(pool: Pool, asked: Asked, need: int, bank: bool, *, unmeasured: bool = False) -> Near | None:
    if bank not in asked.proxies:
        asked.proxies[bank] = asking_proxies(pool.similarity, asked.embedding, asked.modality, bank)
    proxies = asked.proxies[bank]
    # Agreement was measured with biases where there are any; without them lists that they shaped are no good guide.
    if proxies is None or (bank != pool.biased(asked.modality) and not unmeasured):
        return None
    if asked.unlike is None:
        return pool.near(proxies[0], asked.modality, need)
    away = asking_proxies(pool.similarity, asked.unlike, asked.modality, False)
    assert away is not None, "one similarity gives proxies to all or none"
    near = pool.near(proxies[0] - np.float32(_UNLIKE) * away[0], asked.modality, _UNLIKE_TIMES * need)
    return None if near is None else replace(near, agreement=None)


def _scored(
    pool: Pool,
    asked: Asked,
    handles: Array,
    raw: Array,
    bank: bool,
    agreement: float | None,
    own: Array | None,
    *,
    exact: bool = False,
) -> Ranked:
    if own is not None and len(own):
        kept = handles != own[0]
        handles, raw = handles[kept], raw[kept]
    score = raw - pool.bias(handles, asked.modality) if bank else raw
    if asked.unlike is not None:
        score = score - np.float32(_UNLIKE) * _against(pool, asked.unlike, handles, exact)
    return Ranked(handles, raw, score, exact, agreement)


def _against(pool: Pool, unlike: Embedding, handles: Array, exact: bool) -> Array:
    if not exact:
        return pool.scores(unlike, handles)
    everything, raw = pool.scan(unlike)
    return np.asarray(raw[0] if len(everything) == len(handles) else raw[0][np.isin(everything, handles)])


def fuse(pool: Pool, asked: Asked, ranked: Ranked, depth: int, need: int) -> Ranked:
    """Reciprocal rank fusion of the first `depth` by similarity and the first `depth` by words (BM25).

    Args:
        need: items wanted; where they are more than `depth`, the next by similarity follow with a score of 0.

    Returns:
        The items of both lists; `score` is the sum of 1 / (60 + rank) over the lists an item is in.
    """
    first = ranked.first(max(need, depth))
    found = pool.words(asked.text or "", depth)
    if asked.item is not None:
        found = found[~np.isin(found, pool.handle(asked.item))]
    fresh = found[~np.isin(found, first.handles)]
    handles = np.concatenate([first.handles, fresh])
    raw = np.concatenate([first.raw, pool.scores(asked.embedding, fresh) if len(fresh) else np.empty(0, np.float32)])
    score = np.zeros(len(handles), np.float32)
    fused = min(depth, len(first))
    score[:fused] = 1 / (_RANKS + 1 + np.arange(fused))
    places = {handle: place for place, handle in enumerate(handles.tolist())}
    for place, handle in enumerate(found.tolist()):
        score[places[handle]] += 1 / (_RANKS + 1 + place)
    return replace(ranked, handles=handles, raw=raw, score=score)
