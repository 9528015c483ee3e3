"""Queries and what the first two runs found for them: examples, and the worst failures."""

from __future__ import annotations

import numpy as np

from ..cards import card
from ..choosing import Chosen, choose, worst
from ..gather import Material
from ..markup import Html, join, tag
from ..unsure import ambiguity

__all__ = ["examples", "failures"]

_KINDS = {"t2i": "Captions, and the photos they find", "i2t": "Photos, and the captions they find"}


def examples(material: Material) -> Html:
    """Caption queries, then image queries, of the first two runs side by side."""
    seen = material.seen[:2]
    said = [f"The same queries asked of {' and '.join(each.name for each in seen)}."]
    said += ["Half of them are those on which the two disagree most"] if len(seen) > 1 else []
    said = [said[0], *(f"{text}, others are ambiguous, the rest were drawn at random." for text in said[1:])]
    corrected = [each.name for each in seen if each.bank]
    said += [f"From the scores of {' and '.join(corrected)} a query bank's biases are taken off."] if corrected else []
    parts = [tag("p", " ".join([*said, material.right.explained]), class_="lead")]
    for direction, title in _KINDS.items():
        cards = [card(material, seen, direction, c.query, c.why) for c in _chosen(material, direction)]
        parts += [tag("h3", title), tag("div", *cards, class_="cards")]
    return join(parts)


def _chosen(material: Material, direction: str) -> list[Chosen]:
    seen = material.seen[:2]
    first = seen[0].texts if direction == "t2i" else seen[0].images
    unsure, counts = ambiguity(first), material.right.counts(direction)
    orders = [(unsure, f"ambiguous to {seen[0].name}")] if unsure is not None else []
    orders += [(counts.astype(np.float64), "many right answers")] if len(np.unique(counts)) > 1 else []
    ranks = [each.standing(direction).rank for each in seen]
    owner = material.pairs.owner if direction == "t2i" else np.arange(len(material.pairs))
    names = [each.name for each in seen]
    return choose(ranks, orders, names, owner, material.asked.examples, material.asked.seed)


def failures(material: Material) -> Html:
    """For each run the queries whose first right answer ranks worst."""
    count = max(material.asked.examples // 2, 1)
    parts = [
        tag(
            "p",
            "Queries whose first right answer ranks worst, and what stood above it. Some are mistakes of the model, "
            "some of the data: look whether what stands first is truly wrong.",
            class_="lead",
        )
    ]
    for seen in material.seen:
        parts.append(tag("h3", "Failures of ", tag("span", seen.name, class_=f"run s{seen.style % 6}")))
        cards = []
        for direction in _KINDS:
            owner = material.pairs.owner if direction == "t2i" else np.arange(len(material.pairs))
            standing = seen.standing(direction)
            for query in worst(standing.rank, owner, count):
                why = f"rank {standing.rank[query]:,} of {standing.gallery:,}"
                cards.append(card(material, [seen], direction, query, why))
        none = tag("p", "None: every query's first answer is right.", class_="none")
        parts.append(tag("div", *cards, class_="cards narrow") if cards else none)
    return join(parts)
