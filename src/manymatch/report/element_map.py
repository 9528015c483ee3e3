"""Elements of a few items in two dimensions, each tied to the middle of its set (as on the poster of DivE)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .axes import Frame, Scale
from .markup import Html, join, tag

__all__ = ["Flat", "drawn_map", "flatten"]


@dataclass(frozen=True)
class Flat:
    """Elements on their two strongest directions.

    Attributes:
        places: (n, k, 2).
        kept: share of the variance that both directions hold, in [0, 1].
    """

    places: np.ndarray[tuple[int, int, int], np.dtype[np.float64]]
    kept: float


def flatten(elements: Tensor) -> Flat:
    """Principal components of the elements (n, k, d); of each axis the largest loading is positive."""
    points = elements.flatten(0, 1).double()
    centred = points - points.mean(dim=0)
    _, strengths, axes = torch.linalg.svd(centred, full_matrices=False)
    axes = axes[:2]
    signs = torch.gather(axes, 1, axes.abs().argmax(dim=1, keepdim=True)).sign()
    places = centred @ (axes * signs).T
    if places.shape[1] < 2:
        places = torch.cat([places, places.new_zeros(len(places), 2 - places.shape[1])], dim=1)
    total = float(strengths.square().sum())
    kept = float(strengths[:2].square().sum()) / total if total > 0 else 1.0
    return Flat(np.asarray(places.reshape(*elements.shape[:2], 2)), kept)


def drawn_map(flat: Flat, names: list[str], kinds: list[str], styles: list[int], title: str) -> Html:
    """A star an item: a ring at the middle of its set, lines to its elements, which carry its name.

    Args:
        flat: of n items.
        names: of the items, a letter or two.
        kinds: "image" is drawn round, anything else square.
        styles: numbers of colours; an image and its caption have the same.
        title: for those who cannot see it.
    """
    x, y = flat.places[..., 0].ravel(), flat.places[..., 1].ravel()
    frame = Frame(_tight(x), _tight(y), ("first component", "second component"), 560, 440)
    lines, hubs, dots = [], [], []
    for item, name, kind, style in zip(flat.places, names, kinds, styles, strict=True):
        middle = frame.place(*item.mean(axis=0))
        look = f"s{style % 6}"
        hubs.append(_shape(kind, *middle, 4.5, f"hub {look}"))
        for element in item:
            at = frame.place(*element)
            ends = {"x1": _n(middle[0]), "y1": _n(middle[1]), "x2": _n(at[0]), "y2": _n(at[1])}
            lines.append(tag("line", **ends, class_=f"spoke {look}"))
            label = tag("text", name, x=_n(at[0]), y=_n(at[1] + 3.6), class_="inside middle")
            dots.append(join([_shape(kind, *at, 7.5, f"mark {look}"), label]))
    return frame.drawn([*lines, *hubs, *dots], title)


def _tight(values: np.ndarray[Any, np.dtype[np.float64]]) -> Scale:
    """A scale without marks: the numbers of a component say nothing by themselves."""
    low, high = float(values.min()), float(values.max())
    edge = 0.06 * (high - low) or 1.0
    return Scale(low - edge, high + edge, ())


def _shape(kind: str, x: float, y: float, r: float, class_: str) -> Html:
    if kind == "image":
        return tag("circle", cx=_n(x), cy=_n(y), r=r, class_=class_)
    return tag("rect", x=_n(x - r), y=_n(y - r), width=2 * r, height=2 * r, rx=1.5, class_=class_)


def _n(value: float) -> str:
    return f"{value:.1f}"
