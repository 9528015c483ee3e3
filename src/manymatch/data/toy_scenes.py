"""The toy world's scenes: one to three coloured shapes on a soft background, drawn by a seed, and their pictures.

Everything a caption may say is discrete (shape, colour, size, column, row, background) and drawn with clear margins,
so that each statement about a picture is plainly true or plainly false.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Any, TypeVar

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

__all__ = ["BACKGROUNDS", "COLOURS", "COLUMNS", "ROWS", "SHAPES", "SIZES", "Scene", "SceneTable", "Thing"]
__all__ += ["MOST_THINGS", "pick", "render", "scene_at"]

T = TypeVar("T")
Colour = tuple[int, int, int]
Codes = np.ndarray[Any, np.dtype[np.int8]]

SHAPES = ("circle", "square", "triangle", "star", "heart", "ring", "cross", "moon")
COLOURS: dict[str, Colour] = {
    "red": (214, 51, 56),
    "orange": (244, 136, 32),
    "yellow": (250, 208, 44),
    "green": (52, 152, 84),
    "blue": (43, 108, 206),
    "purple": (123, 70, 182),
    "pink": (240, 110, 170),
    "black": (44, 46, 54),
}
SIZES = {"small": 0.19, "medium": 0.28, "large": 0.40}
"""Diameter over the picture's width."""
BACKGROUNDS: dict[str, tuple[Colour, Colour]] = {
    "sand": ((243, 231, 206), (221, 202, 164)),
    "sky": ((222, 238, 249), (166, 205, 234)),
    "mint": ((222, 243, 230), (164, 216, 187)),
    "lilac": ((236, 228, 247), (201, 187, 229)),
    "rose": ((250, 230, 228), (234, 190, 188)),
    "stone": ((228, 229, 230), (178, 183, 188)),
}
"""Light and deep end of the gradient."""
COLUMNS = ("left", "middle", "right")
ROWS = ("top", "middle", "bottom")
PATTERNS = ("plain", "dots", "stripes", "checks", "waves")
RAMPS = ("down", "right", "diagonal", "glow")
MOST_THINGS = 3

_CENTRES = (0.2, 0.5, 0.8)
_JITTER = 0.06
_CLEARANCE = 1.06
_TILTS = (-14, -7, 0, 7, 14)
_OVERSAMPLE = 4


@dataclass(frozen=True)
class Thing:
    """One object. `x`, `y` are its centre over the picture's width and height, `tilt` is in degrees."""

    shape: str
    colour: str
    size: str
    column: str
    row: str
    x: float
    y: float
    tilt: int

    @property
    def radius(self) -> float:
        return SIZES[self.size] / 2


@dataclass(frozen=True)
class Scene:
    """What one picture shows. `shift` is the pattern's offset, each part in [0, 1)."""

    things: tuple[Thing, ...]
    background: str
    pattern: str
    ramp: str
    shift: tuple[float, float]


def pick(rng: Random, choices: Sequence[T], weights: Sequence[float] | None = None) -> T:
    """One of the choices. Uses only `rng.random()`, whose stream Python promises never to change."""
    if weights is None:
        return choices[int(rng.random() * len(choices))]
    mark = rng.random() * sum(weights)
    for choice, weight in zip(choices, weights, strict=True):
        mark -= weight
        if mark < 0:
            return choice
    return choices[-1]


@lru_cache(maxsize=16384)
def scene_at(seed: int, number: int) -> Scene:
    """Scene `number` of the world of this seed; no other scene has a say in it."""
    rng = Random(f"toy scene {seed} {number}")
    while True:
        things = _things(rng)
        if things is not None:
            break
    shift = (rng.random(), rng.random())
    return Scene(things, pick(rng, tuple(BACKGROUNDS)), pick(rng, PATTERNS), pick(rng, RAMPS), shift)


def _things(rng: Random) -> tuple[Thing, ...] | None:
    """One to three objects that do not touch; None when one of them found no room."""
    things: list[Thing] = []
    for _ in range(pick(rng, (1, 2, 3), (0.25, 0.4, 0.35))):
        thing = _place(rng, *_look(rng, things), things)
        if thing is None:
            return None
        things.append(thing)
    return tuple(things)


def _look(rng: Random, before: Sequence[Thing]) -> tuple[str, str, str]:
    """Shape, colour and size. One object in three repeats a shape or colour, so that "two circles" is common."""
    shape, colour, size = pick(rng, SHAPES), pick(rng, tuple(COLOURS)), pick(rng, tuple(SIZES))
    if before:
        copied, chance = pick(rng, before), rng.random()
        if chance < 0.18:
            shape = copied.shape
        elif chance < 0.36:
            colour = copied.colour
    return shape, colour, size


def _place(rng: Random, shape: str, colour: str, size: str, others: Sequence[Thing]) -> Thing | None:
    """A free cell of the 3 x 3 grid. Jitter keeps equal rows within 0.12 and different rows 0.18 apart."""
    cells = [(c, r) for c in range(3) for r in range(3)]
    while cells:
        column, row = cells.pop(int(rng.random() * len(cells)))
        edge = SIZES[size] / 2 + 0.02
        x, y = (min(max(_CENTRES[k] + _JITTER * (2 * rng.random() - 1), edge), 1 - edge) for k in (column, row))
        reach = SIZES[size] / 2
        if all(math.hypot(x - o.x, y - o.y) > (reach + o.radius) * _CLEARANCE for o in others):
            return Thing(shape, colour, size, COLUMNS[column], ROWS[row], x, y, pick(rng, _TILTS))
    return None


class SceneTable:
    """The captions' view of n scenes: codes (n, 3), one column per object, -1 where there is no object.

    Attributes:
        codes: "shape", "colour", "size", "column", "row" -> (n, 3) int8, positions in the tuples above.
        real: (n, 3) bool, False where there is no object.
        background: (n,) int8.
    """

    def __init__(self, scenes: Sequence[Scene]) -> None:
        values = {
            "shape": SHAPES,
            "colour": tuple(COLOURS),
            "size": tuple(SIZES),
            "column": COLUMNS,
            "row": ROWS,
        }
        self.codes: dict[str, Codes] = {
            name: self._codes(scenes, name, {word: code for code, word in enumerate(words)})
            for name, words in values.items()
        }
        self.real = self.codes["shape"] >= 0
        names = list(BACKGROUNDS)
        self.background: Codes = np.array([names.index(s.background) for s in scenes], np.int8)

    @staticmethod
    def _codes(scenes: Sequence[Scene], name: str, code: dict[str, int]) -> Codes:
        out = np.full((len(scenes), MOST_THINGS), -1, np.int8)
        for n, scene in enumerate(scenes):
            out[n, : len(scene.things)] = [code[getattr(thing, name)] for thing in scene.things]
        return out

    def __len__(self) -> int:
        return len(self.real)


def render(scene: Scene, size: int) -> Image.Image:
    """The picture, RGB, `size` x `size` pixels, edges smoothed."""
    light, deep = BACKGROUNDS[scene.background]
    canvas = Image.new("RGB", (size, size), light)
    canvas.paste(deep, (0, 0), _ramp(scene.ramp, size))
    if scene.pattern != "plain":
        left, top = (int(part * size / 4) for part in scene.shift)
        canvas.paste((255, 255, 255), (0, 0), _pattern(scene.pattern, size).crop((left, top, left + size, top + size)))
    for thing in scene.things:
        _stamp(canvas, thing, size)
    return canvas


def _stamp(canvas: Image.Image, thing: Thing, size: int) -> None:
    """Shadow, body, a darker rim that keeps pale colours off pale backgrounds, and a little light from above."""
    shadow, body, rim, light = _stencils(thing.shape, thing.size, thing.tilt, size)
    corner = (round(thing.x * size - body.width / 2), round(thing.y * size - body.height / 2))
    colour = COLOURS[thing.colour]
    canvas.paste((40, 36, 60), corner, shadow)
    canvas.paste(colour, corner, body)
    canvas.paste((colour[0] * 5 // 8, colour[1] * 5 // 8, colour[2] * 5 // 8), corner, rim)
    canvas.paste((255, 255, 255), corner, light)


@lru_cache(maxsize=512)
def _stencils(
    shape: str, size_name: str, tilt: int, size: int
) -> tuple[Image.Image, Image.Image, Image.Image, Image.Image]:
    """Masks of shadow, body, rim and light, one for all colours."""
    radius = SIZES[size_name] / 2 * size
    half = math.ceil(radius * 1.3) + 1
    fine = _outline(shape, radius * _OVERSAMPLE, 2 * half * _OVERSAMPLE, tilt)
    wide = 2 * max(1, round(_OVERSAMPLE * size / 160)) + 1
    rim = ImageChops.subtract(fine, fine.filter(ImageFilter.MinFilter(wide)))
    small = (2 * half, 2 * half)
    body, edge = (mask.resize(small, Image.Resampling.BOX) for mask in (fine, rim))
    slope = np.linspace(1.0, 0.0, 2 * half)[:, None] ** 2 * np.ones(2 * half)
    light = Image.fromarray((np.asarray(body) * slope * 0.30).astype(np.uint8))
    fall = max(1, round(size / 64))
    shadow = ImageChops.offset(body, fall, fall).filter(ImageFilter.GaussianBlur(size / 80))
    return shadow.point([v * 3 // 10 for v in range(256)]), body, edge.point([v // 2 for v in range(256)]), light


def _outline(shape: str, radius: float, side: int, tilt: int) -> Image.Image:
    """The shape in white on black, centred, of this radius in pixels."""
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    middle, turn = side / 2, math.radians(tilt)

    def at(x: float, y: float) -> tuple[float, float]:
        u, v = x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)
        return middle + radius * u, middle + radius * v

    def disc(x: float, y: float, r: float, fill: int) -> None:
        u, v = at(x, y)
        draw.ellipse((u - r * radius, v - r * radius, u + r * radius, v + r * radius), fill=fill)

    if shape in ("circle", "ring", "moon"):
        disc(0, 0, 0.95, 255)
        if shape == "ring":
            disc(0, 0, 0.5, 0)
        elif shape == "moon":
            disc(0.5, -0.18, 0.78, 0)
    else:
        draw.polygon([at(x, y) for x, y in _corners(shape)], fill=255)
    return mask


def _corners(shape: str) -> list[tuple[float, float]]:
    """Corner points of a shape with straight or traced edges, in units of its radius, y downwards."""
    if shape == "square":
        return [(-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)]
    if shape == "triangle":
        return [(0, -0.95), (1, 0.78), (-1, 0.78)]
    if shape == "cross":
        a, b = 0.33, 0.95
        half = [(-a, -b), (a, -b), (a, -a), (b, -a), (b, a), (a, a)]
        return half + [(-x, -y) for x, y in half]
    if shape == "star":
        spokes = [(1.08 if k % 2 == 0 else 0.47, math.pi * k / 5) for k in range(10)]
        return [(r * math.sin(t), -r * math.cos(t) + 0.05) for r, t in spokes]
    turns = [2 * math.pi * k / 72 for k in range(72)]
    return [
        (
            math.sin(t) ** 3,
            -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16 - 0.12,
        )
        for t in turns
    ]


@lru_cache(maxsize=64)
def _ramp(kind: str, size: int) -> Image.Image:
    """How much of the background's deep end each pixel takes."""
    y, x = np.mgrid[0:size, 0:size] / max(size - 1, 1)
    values = {
        "down": y,
        "right": x,
        "diagonal": (x + y) / 2,
        "glow": np.clip(np.hypot(x - 0.5, y - 0.45) / 0.7, 0, 1) ** 1.5,
    }[kind]
    return Image.fromarray((values * 255).round().astype(np.uint8))


@lru_cache(maxsize=64)
def _pattern(kind: str, size: int) -> Image.Image:
    """A faint white texture, a quarter wider than the picture so that it can be shifted."""
    side = size + size // 4 + 1
    y, x = np.mgrid[0:side, 0:side] / size
    wave = {
        "dots": 4 * (np.cos(2 * np.pi * 8 * x) + np.cos(2 * np.pi * 8 * y)) - 4,
        "stripes": 4 * np.sin(2 * np.pi * 5 * (x + y)),
        "checks": 12 * np.sin(2 * np.pi * 3 * x) * np.sin(2 * np.pi * 3 * y),
        "waves": 4 * np.sin(2 * np.pi * (6 * y + 0.25 * np.sin(2 * np.pi * 2.5 * x))),
    }[kind]
    return Image.fromarray((255 * 0.22 / (1 + np.exp(-wave))).round().astype(np.uint8))
