"""Sets: what each element looked at, which captions lie nearest to it, and where the elements of a few items lie."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...embeddings import Sets
from ...encoders import Attention
from ..charts import bars, figure
from ..choosing import different
from ..element_map import drawn_map, flatten
from ..gather import Material, Seen
from ..markup import Html, join, tag

__all__ = ["sets"]

_PHOTOS = 4
_NEAREST = 3
_MAPPED = 6


def sets(material: Material) -> Html:
    """For each run whose embeddings are sets: its elements on photos, and its map."""
    parts: list[Html] = []
    for seen in material.seen:
        if isinstance(seen.images, Sets) and isinstance(seen.texts, Sets):
            name = tag("span", seen.name, class_=f"run s{seen.style % 6}")
            k = seen.images.elements.shape[1]
            parts += [tag("h3", name, f": {k} elements an image"), _photos(material, seen, seen.images, seen.texts)]
            parts.append(_map(material, seen, seen.images, seen.texts))
    return join(parts) if parts else tag("p", "None of the runs embeds an item as a set.", class_="none")


def _photos(material: Material, seen: Seen, images: Sets, texts: Sets) -> Html:
    rows = _chosen(material, images)
    pairs, model = material.pairs, seen.run.model
    looks = model.attend_images(pairs.images.take(rows))
    firsts = [int(np.searchsorted(pairs.owner, row)) for row in rows]
    reads = model.attend_texts([pairs.captions[c] for c in firsts])
    cards = []
    for n, row in enumerate(rows):
        near = _nearest(images.elements[row], texts.elements, pairs.captions)
        panels = [
            tag(
                "li",
                _looked(material, seen, row, looks[n], k),
                tag("p", tag("b", f"element {k + 1}"), class_="name"),
                tag("ol", *(tag("li", pairs.captions[c], dir="auto") for c in near[k]), class_="near"),
            )
            for k in range(images.elements.shape[1])
        ]
        photo = tag("div", material.pictures.shown(row), tag("p", pairs.image_ids[row], class_="id"), class_="whole")
        grid = tag("ul", *panels, class_="elements")
        cards.append(tag("article", tag("div", photo, grid, class_="seen"), _words(reads[n]), class_="query"))
    return join([tag("p", _lead(looks[0], material, seen), class_="lead"), tag("div", *cards, class_="stack")])


def _lead(look: Attention, material: Material, seen: Seen) -> str:
    near = "Below each element stand the captions of the gallery that lie nearest to it."
    if look.shares is None:
        return f"The head of this run does not attend to fragments, so nothing is drawn on the photos. {near}"
    if _grid(look, material, seen) is None or not material.pictures.any:
        return f"Bars are the shares that an element read of each fragment, numbered as in the feature file. {near}"
    return f"What an element read of the photo is bright, what it passed over is dark. {near}"


def _grid(look: Attention, material: Material, seen: Seen) -> tuple[int, int] | None:
    """Rows and columns of the cells that the fragments are; None where nothing says that they are some.

    Fragments of a feature file are a square grid where the reader or the method was told so.
    """
    if look.rows is not None and look.columns is not None:
        return look.rows, look.columns
    side = 0 if look.shares is None else math.isqrt(look.shares.shape[1])
    square = look.shares is not None and side * side == look.shares.shape[1]
    told = material.asked.grid or bool(getattr(seen.run.model.method, "grid", False))
    return (side, side) if told and square else None


def _chosen(material: Material, images: Sets) -> list[int]:
    """Half the most spread sets, half drawn at random; all have a caption."""
    captioned = [row for row, item in enumerate(material.pairs.items) if item.captions]
    spread = images.circular_variance().numpy()[captioned]
    widest = [captioned[n] for n in np.argsort(-spread, kind="stable")[: _PHOTOS // 2]]
    drawn = [captioned[n] for n in np.random.default_rng(material.asked.seed).permutation(len(captioned))]
    return [*widest, *[row for row in drawn if row not in widest]][:_PHOTOS]


def _nearest(elements: Tensor, texts: Tensor, captions: list[str]) -> list[list[int]]:
    """Of each element (k, d) the captions (c, l, d) with the nearest element, of different words."""
    with torch.inference_mode():
        cosines = torch.einsum("kd,cld->kcl", elements, texts).amax(dim=-1)
    return [different(np.argsort(-line, kind="stable"), captions, _NEAREST) for line in cosines.numpy()]


def _looked(material: Material, seen: Seen, row: int, look: Attention, element: int) -> Html:
    if look.shares is None:
        return material.pictures.shown(row)
    size, grid = material.pictures.size(row), _grid(look, material, seen)
    values = [float(v) for v in look.shares[element]]
    if size is None or grid is None:
        names = [str(n) for n in range(len(values))]
        return bars("Share of each fragment", values, names, seen.style)
    left, top, right, bottom = (0, 0, 1, 1) if look.kind == "regions" else seen.run.model.images.seen(*size)
    part = (left * size[0], top * size[1], (right - left) * size[0], (bottom - top) * size[1])
    return material.pictures.shown(row, _shades(values, grid, part, size))


def _shades(
    values: list[float], grid: tuple[int, int], part: tuple[float, float, float, float], size: tuple[int, int]
) -> Html:
    """Dark cells over a photo: the less an element read of a cell, the darker."""
    left, top, width, height = part
    rows, columns = grid
    most = max(values) or 1.0
    out = []
    if (width, height) != size:
        hole = f"M0 0H{size[0]}V{size[1]}H0ZM{left:.1f} {top:.1f}V{top + height:.1f}H{left + width:.1f}V{top:.1f}Z"
        out.append(tag("path", d=hole, fill_rule="evenodd", class_="shade unseen"))
    for n, value in enumerate(values):
        dark = 0.8 * (1 - value / most)
        box: dict[str, Any] = {
            "x": f"{left + width / columns * (n % columns):.2f}",
            "y": f"{top + height / rows * (n // columns):.2f}",
            "width": f"{width / columns:.2f}",
            "height": f"{height / rows:.2f}",
        }
        out.append(tag("rect", **box, fill_opacity=f"{dark:.2f}", class_="shade"))
    return join(out)


def _words(read: Attention) -> Html | None:
    """The caption, once an element, its words washed by what the element read of them."""
    if read.shares is None or read.words is None:
        return None
    lines = []
    for k, line in enumerate(read.shares.tolist()):
        most = max(line, default=0.0) or 1.0
        shown = [tag("span", w, style=f"--a:{(v / most) ** 2:.2f}") for w, v in zip(read.words, line, strict=True)]
        lines.append(tag("li", tag("b", f"{k + 1}"), tag("span", join(shown, " "), class_="wash", dir="auto")))
    label = tag("p", "What the caption's elements read of its words", class_="id")
    return tag("div", label, tag("ol", *lines), class_="reading")


def _map(material: Material, seen: Seen, images: Sets, texts: Sets) -> Html:
    pairs = material.pairs
    drawn = np.random.default_rng(material.asked.seed).permutation(len(pairs)).tolist()
    rows = [row for row in drawn if pairs.items[row].captions][:_MAPPED]
    captions = [int(np.searchsorted(pairs.owner, row)) for row in rows]
    if images.elements.shape[1] != texts.elements.shape[1]:
        return tag("p", "Images and captions have different numbers of elements: no common map.", class_="none")
    middles = [items.elements.flatten(0, 1).mean(dim=0) for items in (images, texts)]
    flat = flatten(torch.cat([images.elements[rows] - middles[0], texts.elements[captions] - middles[1]]))
    numbers = [str(n + 1) for n in range(len(rows))]
    styles = list(range(len(rows)))
    kinds = ["image"] * len(rows) + ["caption"] * len(rows)
    picture = drawn_map(flat, numbers * 2, kinds, styles * 2, f"Elements of {2 * len(rows)} items of {seen.name}")
    legend = [
        tag(
            "li",
            tag("b", number, class_=f"run s{style}"),
            material.pictures.shown(row),
            tag("span", pairs.captions[caption], dir="auto"),
        )
        for number, style, row, caption in zip(numbers, styles, rows, captions, strict=True)
    ]
    text = (
        f"Elements on their two strongest directions ({100 * flat.kept:.0f} % of the variance), tied to the middle of "
        "their set. Round: an image; square: its caption, in the same colour and number. From each modality its mean "
        f"is taken off, which closes the gap between the two (here {float((middles[0] - middles[1]).norm()):.2f})."
    )
    return tag("div", figure(picture, text), tag("ol", *legend, class_="legend"), class_="map")
