"""Whether an embedding knows how many right answers its item has."""

from __future__ import annotations

import numpy as np

from ...evaluation.measures import Correlation
from ..charts import Series, figure, scatter
from ..gather import Material, Seen
from ..markup import Html, join, tag
from ..unsure import ambiguity, ambiguity_name

__all__ = ["ambiguous"]

_POINTS = 700


def ambiguous(material: Material) -> Html:
    """Ambiguity against the number of right answers, a plot a run and direction."""
    if not material.right.truth:
        text = "The truth of these data is each caption's own image: no query has more right answers than another."
        return tag("p", text, class_="none")
    plots, without = [], []
    for seen in material.seen:
        found = [_plot(material, seen, direction) for direction in ("t2i", "i2t")]
        plots += [plot for plot in found if plot is not None]
        without += [] if any(plot is not None for plot in found) else [seen.name]
    lead = tag(
        "p",
        "If an embedding says how much an item may mean, that should grow with the number of its right answers. ρ is "
        "Spearman's rank correlation; the line goes through the medians of eight equal parts of the queries.",
        class_="lead",
    )
    said = f"Embeddings of {', '.join(without)} are single points and say nothing of their own ambiguity."
    return join([lead, tag("div", *plots, class_="charts"), tag("p", said, class_="none") if without else None])


def _plot(material: Material, seen: Seen, direction: str) -> Html | None:
    items = seen.texts if direction == "t2i" else seen.images
    values, counts = ambiguity(items), material.right.listed(direction)
    if values is None or len(np.unique(counts[counts > 0])) < 2:
        return None
    known = np.flatnonzero((counts > 0) & np.isfinite(values))
    x, y = counts[known].astype(np.float64), values[known]
    rho = Correlation(x, y, known).value
    shown = np.sort(np.random.default_rng(material.asked.seed).permutation(len(known))[:_POINTS])
    cloud = Series("", [(float(x[n]), float(y[n])) for n in shown], seen.style)
    kind = "captions" if direction == "t2i" else "images"
    title = f"{ambiguity_name(items)} of {kind} against their number of right answers"
    picture = scatter(title, [cloud], "right answers", ambiguity_name(items), log_x=True, trend=_medians(x, y))
    said = "not defined: one of the two is constant" if np.isnan(rho) else f"{rho:.2f}".replace("-", "−")
    few = f", {_POINTS} of them drawn" if len(known) > _POINTS else ""
    name = tag("span", seen.name, class_=f"run s{seen.style % 6}")
    return figure(picture, name, f", {len(known):,} {kind}{few}: ρ\u00a0=\u00a0{said}")


def _medians(x: np.ndarray, y: np.ndarray) -> list[tuple[float, float]]:
    order = np.argsort(x, kind="stable")
    parts = [part for part in np.array_split(order, 8) if len(part)]
    return [(float(np.median(x[part])), float(np.median(y[part]))) for part in parts]
