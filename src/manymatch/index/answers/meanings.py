"""What a query could mean: its answers in groups, by the query's elements or by modes among the answers.

Groups are kept apart only where there is a valley between them: on the line from the middle of one to the middle of the
other, fewer answers lie half way than a single bell curve would put there. Answers that differ only gradually are one
meaning.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional

from ...data.text import Tokenizer
from ...embeddings import Embedding, Sets
from ...errors import DataError
from .explain import elements_of, means_of

__all__ = ["Meaning", "Meanings", "by_elements", "by_modes", "characteristic_words", "directions", "meanings"]

Array = np.ndarray[Any, Any]

_ONE_DIRECTION = 0.95
"""Elements with at least this cosine (18 degrees) are one. A set of four has it at a log circular variance of -4."""

_MOST = 6
"""Modes at most."""

_PIECES, _PIECE = 9, 8
"""Answers are cut into so many pieces at most, of at least so many answers on average, before pieces are joined."""

_CHANCE = 0.05
"""A valley counts where chance alone would leave it as empty less often: an empty one between four answers and four."""

_BELL = math.exp(1 / math.pi)
"""A bell curve cut at its peak is 1.37 times as dense at the cut as at the mean of either half, sqrt(2 / pi) away."""

_WINDOW = 1 / 6
"""Of the way between two middles: how far around each, and around the point half way, answers are counted."""

_ROUNDS = 20
"""Of moving the elements' zeros at most; two or three are usual."""

_WORDS = 4
"""A meaning is named by so many words at most."""

_TELLING, _TIMES = 1.0, 3
"""A word names a group where its log-odds exceed zero by so many standard deviations, and its share of captions is so
many times that among the rest: what stands nearly everywhere ("the", "and") names nothing."""


@dataclass(frozen=True)
class Meaning:
    """One group of answers.

    Attributes:
        positions: of its answers among all answers, best first.
        elements: the query's elements it stands for, ascending; empty where groups are modes.
        share: of all answers, in (0, 1]; weighted where weights were given.
        words: the one to four words that tell its captions from those of the other groups, most telling first; None
            without captions, without another group, or where no word does.
    """

    positions: tuple[int, ...]
    elements: tuple[int, ...]
    share: float
    words: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Meanings:
    """Every answer in exactly one group; groups in the order of their best answers.

    Attributes:
        groups: at least one, unless there are no answers.
        by: what made them, "elements" of the query or "modes" among the answers.
        why: one line that says why it was that.
    """

    groups: tuple[Meaning, ...]
    by: Literal["elements", "modes"]
    why: str

    def __len__(self) -> int:
        return len(self.groups)

    def to_json(self) -> dict[str, Any]:
        """Its attributes, ready for JSON."""
        return {"by": self.by, "why": self.why, "groups": [asdict(group) for group in self.groups]}


def meanings(
    query: Embedding,
    answers: Embedding,
    *,
    weights: Sequence[float] | Array | None = None,
    captions: Sequence[str | None] | None = None,
) -> Meanings:
    """Groups by the query's elements where they point apart and tell the answers apart, else by modes.

    Args:
        query: one item.
        answers: n items, best first; some 50 to 200 are worth grouping.
        weights: (n,), at least 0: what each answer counts in a share, such as its probability of being right. All zero
            counts as all equal.
        captions: (n,), what names the groups.

    Raises:
        DataError: not one query, or weights or captions of another number, or weights that are negative.
    """
    n = len(answers)
    if len(query) != 1:
        raise DataError(f"meanings: {len(query)} queries, expected one")
    for name, given in (("weights", weights), ("captions", captions)):
        if given is not None and len(given) != n:
            raise DataError(f"meanings: {len(given)} {name} for {n} answers")
    groups, by, why = _chosen(query, answers)
    out = [replace(group, share=share) for group, share in zip(groups, _shares(groups, n, weights), strict=True)]
    if captions is not None:
        names = characteristic_words([group.positions for group in out], captions)
        out = [replace(group, words=name) for group, name in zip(out, names, strict=True)]
    return Meanings(tuple(out), by, why)


def _chosen(query: Embedding, answers: Embedding) -> tuple[list[Meaning], Literal["elements", "modes"], str]:
    if not isinstance(query, Sets) or not isinstance(answers, Sets) or query.elements.shape[1] == 1:
        return by_modes(answers), "modes", "one element: the query is no set of several"
    k, ways = query.elements.shape[1], len(directions(query))
    if ways == 1:
        return by_modes(answers), "modes", f"one direction: the query's {k} elements point the same way"
    groups = by_elements(query, answers)
    if len(groups) > 1:
        return groups, "elements", f"the query's {k} elements point {ways} ways and tell the answers apart"
    return by_modes(answers), "modes", f"the query's {k} elements point {ways} ways, but do not tell the answers apart"


def _shares(groups: Sequence[Meaning], n: int, weights: Sequence[float] | Array | None) -> list[float]:
    counted = np.ones(n) if weights is None else np.asarray(weights, np.float64)
    if not (np.isfinite(counted).all() and (counted >= 0).all()):
        raise DataError("meanings: a weight is negative or not finite, expected at least 0")
    counted = counted if counted.sum() > 0 else np.ones(n)
    return [float(counted[list(group.positions)].sum() / counted.sum()) for group in groups]


# ---- by the elements of the query


def directions(query: Sets) -> list[tuple[int, ...]]:
    """The query's elements, those that point nearly the same way together: numbers ascending, in order of the first.

    The two groups whose means are closest are joined while their cosine is at least 0.95.
    """
    elements = elements_of(query)[0][0]
    groups: list[tuple[int, ...]] = [(n,) for n in range(len(elements))]
    while len(groups) > 1:
        middles = _middles(elements, groups)
        cosines = (middles @ middles.T).fill_diagonal_(-2.0)
        if float(cosines.max()) < _ONE_DIRECTION:
            break
        first, second = sorted(divmod(int(cosines.argmax()), len(groups)))
        groups[first] = tuple(sorted(groups[first] + groups.pop(second)))
    return groups


def _middles(elements: torch.Tensor, groups: Sequence[tuple[int, ...]]) -> torch.Tensor:
    return functional.normalize(torch.stack([elements[list(group)].mean(dim=0) for group in groups]), dim=-1)


def by_elements(query: Sets, answers: Sets) -> list[Meaning]:
    """Groups of answers by the direction of the query that matches them best; one group where none stands apart.

    A direction matches an answer by its largest cosine with any element there. One that is closer to everything would
    take all, so each direction has a zero of its own: its mean over the groups, every group counting the same however
    large it is, found by turns with the groups. Then groups without a valley between them are joined.
    """
    if not len(answers):
        return []
    ways, (items, _) = directions(query), elements_of(answers)
    middles = _middles(elements_of(query)[0][0], ways)
    closeness = (items @ middles.T).amax(dim=1).double().cpu().numpy()
    labels = _belonging(closeness)
    kept = [way for way in range(len(ways)) if (labels == way).any()]
    pieces = [np.flatnonzero(labels == way) for way in kept]
    return _ordered(
        [
            (np.concatenate([pieces[n] for n in group]), tuple(sorted(e for n in group for e in ways[kept[n]])))
            for group in _joined(closeness, pieces, len(pieces))
        ]
    )


def _belonging(closeness: Array) -> Array:
    """(n, ways) -> the way each answer belongs to (n,)."""
    labels: Array = (closeness - closeness.mean(axis=0)).argmax(axis=1)
    for _ in range(_ROUNDS):
        zero = np.mean([closeness[labels == way].mean(axis=0) for way in np.unique(labels)], axis=0)
        moved = (closeness - zero).argmax(axis=1)
        if (moved == labels).all():
            break
        labels = moved
    return labels


# ---- by modes among the answers


def by_modes(answers: Embedding) -> list[Meaning]:
    """Groups of answers that lie together, from one to six, whatever their kind.

    Each answer is its unit mean. Along the five principal axes (six middles span no more) they are cut into small
    pieces by Ward's method, and the two pieces with the least of a valley between them are joined until a valley lies
    between all that are left. A single cloud, round, stretched or with heavy tails, so stays one. A group that shows
    needs four answers or more, and fewer than 16 answers are one.
    """
    count = min(_PIECES, len(answers) // _PIECE)
    if count < 2:
        return _ordered([(np.arange(len(answers)), ())] if len(answers) else [])
    places = _principal(means_of(answers).double().cpu(), _MOST - 1)
    pieces = _ward(places, count)
    return _ordered([(np.concatenate([pieces[n] for n in group]), ()) for group in _joined(places, pieces, _MOST)])


def _principal(vectors: torch.Tensor, count: int) -> Array:
    """(n, d) -> coordinates along the first principal axes (n, count)."""
    centred = vectors - vectors.mean(dim=0)
    values, sides = torch.linalg.eigh(centred @ centred.T)
    places: Array = (sides * values.clamp(min=0).sqrt()).flip(1)[:, :count].numpy()
    return places


def _ward(places: Array, count: int) -> list[Array]:
    """(n, p) -> `count` pieces by Ward's method (1963), distances kept up to date by Lance and Williams (1967)."""
    n = len(places)
    apart = np.square(places[:, None] - places).sum(axis=-1)
    np.fill_diagonal(apart, np.inf)
    sizes, labels = np.ones(n), np.arange(n)
    for _ in range(n - count):
        first, second = sorted(divmod(int(apart.argmin()), n))
        of_first, of_second = sizes[first], sizes[second]
        total = (of_first + sizes) * apart[first] + (of_second + sizes) * apart[second] - sizes * apart[first, second]
        total /= of_first + of_second + sizes
        total[[first, second]] = np.inf
        apart[first], apart[:, first], apart[second], apart[:, second] = total, total, np.inf, np.inf
        sizes[first] += of_second
        labels[labels == second] = first
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


# ---- what stands apart


def _joined(places: Array, pieces: Sequence[Array], most: int) -> list[list[int]]:
    """Which pieces of (n, p) belong together: joined, the least apart first, until all are apart and at most `most`."""
    groups, members = {n: [n] for n in range(len(pieces))}, dict(enumerate(pieces))
    apart = {(i, j): _apart(places, pieces[i], pieces[j]) for j in members for i in range(j)}
    while apart:
        (i, j), (chance, _) = max(apart.items(), key=lambda entry: (entry[1], entry[0]))
        if chance <= _CHANCE and len(groups) <= most:
            break
        groups[i] += groups.pop(j)
        members[i] = np.concatenate([members[i], members.pop(j)])
        apart = {pair: value for pair, value in apart.items() if i not in pair and j not in pair}
        apart |= {(min(i, o), max(i, o)): _apart(places, members[i], members[o]) for o in groups if o != i}
    return list(groups.values())


def _apart(places: Array, first: Array, second: Array) -> tuple[float, float]:
    """How likely it is that so few lie half way if there is no valley, and minus the squared distance of the middles.

    Two halves of one bell have their densest place half way. Counted there and around the sparser middle, answers would
    divide as 1.37 to 1 or more; the binomial tail says how rarely so few of them lie half way.
    """
    start, end = places[first].mean(axis=0), places[second].mean(axis=0)
    line = end - start
    length = float(line @ line)
    if not length > 0:
        return 1.0, 0.0
    along = (places[np.concatenate([first, second])] - start) @ line / length
    here, between, there = (int((np.abs(along - place) < _WINDOW).sum()) for place in (0.0, 0.5, 1.0))
    counted, share = between + min(here, there), _BELL / (1 + _BELL)
    chances = (math.comb(counted, few) * share**few * (1 - share) ** (counted - few) for few in range(between + 1))
    return sum(chances), -length


def _ordered(groups: Sequence[tuple[Array, tuple[int, ...]]]) -> list[Meaning]:
    n = sum(len(positions) for positions, _ in groups)
    made = [
        Meaning(tuple(sorted(int(p) for p in positions)), elements, len(positions) / n)
        for positions, elements in groups
    ]
    return sorted(made, key=lambda group: group.positions)


# ---- names


def characteristic_words(
    groups: Sequence[Sequence[int]], captions: Sequence[str | None]
) -> list[tuple[str, ...] | None]:
    """For each group the words that tell its captions from those of the other groups.

    The log-odds of a word in the group against the rest, with all captions as the prior, over its standard deviation
    (Monroe, Colaresi and Quinn, Political Analysis 2008); a caption counts a word once. It must stand in two captions
    of the group at least, and in three times the share of them that it has among the rest. Equals come in the order of
    their number, then spelling.

    Args:
        groups: positions into the captions; no position twice.
        captions: None where there is none.

    Returns:
        One to four words each, most telling first; None where no word tells, or no other group has captions.
    """
    tokenizer = Tokenizer(longest=0)
    texts = [[text for position in group if (text := captions[position]) is not None] for group in groups]
    counts = [Counter(word for text in own for word in set(tokenizer.words(text))) for own in texts]
    total, number = sum(counts, Counter[str]()), sum(map(len, texts))
    return [_telling(own, len(lines), total, number) for own, lines in zip(counts, texts, strict=True)]


def _telling(own: Counter[str], captions: int, total: Counter[str], all_captions: int) -> tuple[str, ...] | None:
    """Pseudo-counts of the prior are the counts of all captions, added to the group's and to the rest's."""
    if captions == all_captions:
        return None
    own_words, all_words, found = own.total(), total.total(), []
    for word, count in own.items():
        rest = total[word] - count
        if count < 2 or count * (all_captions - captions) < _TIMES * rest * captions:
            continue
        inside, outside = count + total[word], rest + total[word]
        others = own_words + all_words - inside, 2 * all_words - own_words - outside
        odds = math.log(inside / max(others[0], 1)) - math.log(outside / max(others[1], 1))
        telling = odds / math.sqrt(1 / inside + 1 / outside)
        if telling >= _TELLING:
            found.append((-telling, -count, word))
    return tuple(word for *_, word in sorted(found)[:_WORDS]) or None
