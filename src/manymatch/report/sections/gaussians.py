"""Uncertain embeddings: how wide they are, and which queries are the most and the least certain."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...embeddings import Boxes, Embedding, Gaussians, GaussianSets, Samples
from ..charts import Series, figure, histogram
from ..choosing import different
from ..gather import Material, Seen
from ..markup import Html, join, tag

__all__ = ["gaussians"]

_SHOWN = 5

Floats = np.ndarray[Any, np.dtype[np.float64]]


def gaussians(material: Material) -> Html:
    """For each run whose embeddings have a width: its histogram and its extremes."""
    parts: list[Html] = []
    for seen in material.seen:
        images, texts = _width(seen.images), _width(seen.texts)
        if images is not None and texts is not None:
            parts += [
                tag("h3", tag("span", seen.name, class_=f"run s{seen.style % 6}")),
                _one(material, seen, images, texts),
            ]
    none = "None of the runs embeds an item with a variance: no Gaussians, samples or boxes."
    return join(parts) if parts else tag("p", none, class_="none")


def _width(embedding: Embedding) -> Floats | None:
    """(n,): log-variance, its mean over the dimensions or a set's elements; of a box the log of its half side."""
    if isinstance(embedding, Gaussians | GaussianSets):
        found = embedding.log_variance
    elif isinstance(embedding, Samples):
        found = embedding.vectors.var(dim=1).clamp_min(1e-12).log()
    elif isinstance(embedding, Boxes):
        found = embedding.offset.abs().clamp_min(1e-12).log()
    else:
        return None
    return np.asarray(found.double().mean(dim=1))


def _one(material: Material, seen: Seen, images: Floats, texts: Floats) -> Html:
    names = {"boxes": "log half side", "samples": "log-variance of samples", "gaussian_sets": "log total variance"}
    name, over = (
        names.get(seen.images.kind, "log-variance"),
        "elements" if seen.images.kind == "gaussian_sets" else "dimensions",
    )
    series = [
        Series("images", [(float(v), 0.0) for v in images], seen.style),
        Series("captions", [(float(v), 0.0) for v in texts], seen.style + 3),
    ]
    title = f"{name} of images and captions of {seen.name}"
    text = f"Mean {name} over the {over}. Right means wider: less certain."
    plot = figure(histogram(title, series, f"mean {name}"), text)
    order = np.argsort(-texts, kind="stable")
    lists = [
        _captions(material, texts, order, "Least certain captions"),
        _captions(material, texts, order[::-1], "Most certain captions"),
    ]
    ways = np.argsort(-images, kind="stable")
    strips = [
        _photos(material, images, ways[:_SHOWN], "Least certain images"),
        _photos(material, images, ways[::-1][:_SHOWN], "Most certain images"),
    ]
    return join([tag("div", plot, tag("div", *lists), class_="beside"), tag("div", *strips, class_="strips")])


def _captions(material: Material, values: Floats, order: Any, title: str) -> Html:
    said = material.pairs.captions
    lines = [
        tag("li", tag("span", said[n], class_="said", dir="auto"), tag("span", _value(values[n]), class_="num"))
        for n in different(order, said, _SHOWN)
    ]
    return join([tag("h4", title), tag("ol", *lines, class_="lines plain")])


def _photos(material: Material, values: Floats, rows: Any, title: str) -> Html:
    hits = [tag("li", material.pictures.shown(int(n)), tag("div", _value(values[n]), class_="below num")) for n in rows]
    return tag("section", tag("h4", title), tag("ol", *hits, class_="photos"))


def _value(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")
