"""What can be said about a toy scene: small statements, their words, and which of many scenes they are true of.

A statement is a frozen tree; its truth is worked out for all scenes at once, from what the scenes hold and never from
pixels. Words follow from the statement, so two captions with equal words are the same statement.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import numpy as np

from .toy_scenes import BACKGROUNDS, COLOURS, COLUMNS, MOST_THINGS, ROWS, SHAPES, SIZES, Scene, SceneTable, Thing, pick

__all__ = ["Beside", "Count", "Look", "On", "Statement", "There", "captions_of"]

Bools = np.ndarray[Any, np.dtype[np.bool_]]

_WORDS = {"shape": SHAPES, "colour": tuple(COLOURS), "size": tuple(SIZES), "column": COLUMNS, "row": ROWS}
_NUMBERS = ("no", "one", "two", "three")
_PLURAL = {"cross": "crosses"}


class Statement(Protocol):
    """Something that is true or false of a scene."""

    def words(self) -> str:
        """The caption."""
        ...

    def holds(self, table: SceneTable) -> Bools:
        """(n,): for which scenes it is true."""
        ...


@dataclass(frozen=True)
class Look:
    """How an object looks or where it is; None leaves that open. Not a statement by itself.

    `column` and `row` are thirds of the picture; "in the middle" alone is the middle column and row.
    """

    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    column: str | None = None
    row: str | None = None

    def fits(self, table: SceneTable) -> Bools:
        """(n, 3): which objects of each scene look like this."""
        out = table.real.copy()
        for name, words in _WORDS.items():
            value = getattr(self, name)
            if value is not None:
                out &= table.codes[name] == words.index(value)
        return out

    def noun(self, *, plural: bool = False) -> str:
        """The words without article and place: "small red star"."""
        noun = self.shape or "thing"
        if plural:
            noun = _PLURAL.get(noun, f"{noun}s")
        return " ".join(word for word in (self.size, self.colour, noun) if word)

    def phrase(self) -> str:
        """With article and place: "an orange star on the left"."""
        noun = self.noun()
        return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}{self.place()}"

    def place(self) -> str:
        """Empty, or the place with a blank before it."""
        if self.column and self.row:
            same = self.column == self.row
            return " in the middle" if same else f" at the {self.row} {self.column}"
        if self.column:
            return f" on the {self.column}" if self.column != "middle" else " in the middle column"
        if self.row:
            return f" at the {self.row}" if self.row != "middle" else " in the middle row"
        return ""


@dataclass(frozen=True)
class There:
    """There is at least one such object; of two looks, two different objects."""

    one: Look
    other: Look | None = None

    def words(self) -> str:
        return self.one.phrase() if self.other is None else f"{self.one.phrase()} and {self.other.phrase()}"

    def holds(self, table: SceneTable) -> Bools:
        one = self.one.fits(table)
        return np.asarray(one.any(axis=1)) if self.other is None else _any_two(one, self.other.fits(table))


@dataclass(frozen=True)
class Count:
    """Exactly `number` such objects."""

    number: int
    look: Look

    def words(self) -> str:
        return f"{_NUMBERS[self.number]} {self.look.noun(plural=self.number != 1)}"

    def holds(self, table: SceneTable) -> Bools:
        return np.asarray(self.look.fits(table).sum(axis=1) == self.number)


@dataclass(frozen=True)
class Beside:
    """One object above another, or left of it: in a higher row, or in a column further left."""

    one: Look
    relation: str
    other: Look

    def words(self) -> str:
        return f"{self.one.phrase()} {self.relation} {self.other.phrase()}"

    def holds(self, table: SceneTable) -> Bools:
        codes = table.codes["row" if self.relation in ("above", "below") else "column"]
        before = codes[:, :, None] < codes[:, None, :]
        if self.relation in ("below", "right of"):
            before = before.transpose(0, 2, 1)
        return _any_two(self.one.fits(table), self.other.fits(table), before)


@dataclass(frozen=True)
class On:
    """So many objects on this background."""

    number: int
    background: str

    def words(self) -> str:
        return f"{_NUMBERS[self.number]} thing{'' if self.number == 1 else 's'} on {self.background}"

    def holds(self, table: SceneTable) -> Bools:
        ground = table.background == tuple(BACKGROUNDS).index(self.background)
        return np.asarray(ground & (table.real.sum(axis=1) == self.number))


def _any_two(one: Bools, other: Bools, related: Bools | None = None) -> Bools:
    """(n, 3), (n, 3) and optionally (n, 3, 3): is there a pair of different objects that fits?"""
    pairs = one[:, :, None] & other[:, None, :] & ~np.eye(MOST_THINGS, dtype=bool)
    return np.asarray((pairs if related is None else pairs & related).any(axis=(1, 2)))


def captions_of(scene: Scene, rng: Random, count: int) -> list[Statement]:
    """Different true statements of mixed vagueness: one that tells nearly the whole picture, the rest looser."""
    makers = [_precise, _precise, _middling, _middling, _related, _related, _vague, _vague]
    made = {s.words(): s for s in [_whole(scene, rng)]}
    while len(made) < count:
        statement = pick(rng, makers)(scene, rng)
        made.setdefault(statement.words(), statement)
    left = list(made.values())
    return [left.pop(int(rng.random() * len(left))) for _ in range(len(left))]


def _look(thing: Thing, *names: str) -> Look:
    return Look(**{name: getattr(thing, name) for name in names})


def _two(scene: Scene, rng: Random) -> tuple[Thing, Thing] | None:
    if len(scene.things) < 2:
        return None
    first = int(rng.random() * len(scene.things))
    second = (first + 1 + int(rng.random() * (len(scene.things) - 1))) % len(scene.things)
    return scene.things[first], scene.things[second]


def _whole(scene: Scene, rng: Random) -> Statement:
    """The most precise: two objects with size, colour and shape, or one with its place."""
    two = _two(scene, rng)
    if two is None:
        return There(_look(scene.things[0], "shape", "colour", "size", "column", "row"))
    return There(*(_look(thing, "shape", "colour", "size") for thing in two))


def _precise(scene: Scene, rng: Random) -> Statement:
    place = pick(rng, (("column",), ("row",), ("column", "row"), ("size",)))
    return There(_look(pick(rng, scene.things), "shape", "colour", *place))


def _middling(scene: Scene, rng: Random) -> Statement:
    two = _two(scene, rng)
    if two is not None and rng.random() < 0.5:
        return There(*(_look(thing, *pick(rng, (("shape", "colour"), ("shape",), ("colour",)))) for thing in two))
    names = pick(rng, (("shape", "colour"), ("shape", "size"), ("size", "colour")))
    return There(_look(pick(rng, scene.things), *names))


def _related(scene: Scene, rng: Random) -> Statement:
    two = _two(scene, rng)
    if two is None:
        return _precise(scene, rng)
    one, other = two
    choices = []
    if one.row != other.row:
        choices.append("above" if ROWS.index(one.row) < ROWS.index(other.row) else "below")
    if one.column != other.column:
        choices.append("left of" if COLUMNS.index(one.column) < COLUMNS.index(other.column) else "right of")
    looks = [_look(t, *pick(rng, (("shape", "colour"), ("shape", "colour", "size"), ("shape",)))) for t in two]
    return Beside(looks[0], pick(rng, choices), looks[1])


def _vague(scene: Scene, rng: Random) -> Statement:
    thing = pick(rng, scene.things)
    kind = rng.random()
    if kind < 0.35:
        name = pick(rng, ("shape", "colour"))
        value = getattr(thing, name)
        return Count(sum(getattr(t, name) == value for t in scene.things), _look(thing, name))
    if kind < 0.7:
        return There(_look(thing, "colour", pick(rng, ("column", "row"))))
    return On(len(scene.things), scene.background)
