"""A query with what each run found for it: the card that examples and failures share."""

from __future__ import annotations

from collections.abc import Sequence

from .gather import Material, Seen
from .markup import Html, join, tag
from .right import Mark

__all__ = ["card", "score_text", "sign"]

_SIGNS = {"own": "own", "match": "match"}


def card(material: Material, seen: Sequence[Seen], direction: str, query: int, why: str) -> Html:
    """One query of "t2i" (a caption) or "i2t" (an image) and the top of each run's ranking, right answers marked."""
    sides = [_side(material, each, direction, query, named=len(seen) > 1) for each in seen]
    asked = _caption_head(material, query) if direction == "t2i" else _image_head(material, query)
    right = int(material.right.counts(direction)[query])
    gallery = seen[0].standing(direction).gallery
    kind = "images" if direction == "t2i" else "captions"
    many = f"{right} right answer{'s' * (right != 1)} among {gallery:,} {kind}"
    head = tag("header", tag("p", tag("b", why), " · ", many, class_="why"), asked)
    alone = " alone" if len(sides) == 1 else ""
    return tag("article", head, tag("div", *sides, class_="sides"), class_=f"query {direction}{alone}")


def _caption_head(material: Material, query: int) -> Html:
    pairs = material.pairs
    image = int(pairs.owner[query])
    words = tag("p", pairs.captions[query], class_="words", dir="auto")
    source = tag("p", pairs.caption_ids[query], class_="id")
    return tag("div", material.pictures.shown(image), tag("div", words, source), class_="asked")


def _image_head(material: Material, query: int) -> Html:
    item = material.pairs.items[query]
    words = tag("p", item.captions[0], class_="words quiet", dir="auto") if item.captions else None
    return tag("div", material.pictures.shown(query), tag("div", words, tag("p", item.id, class_="id")), class_="asked")


def _side(material: Material, seen: Seen, direction: str, query: int, *, named: bool) -> Html:
    standing = seen.standing(direction)
    show = _photo if direction == "t2i" else _line
    hits = [
        show(material, int(candidate), float(score), material.right.mark(direction, query, int(candidate)))
        for candidate, score in zip(standing.top[query], standing.scores[query], strict=True)
    ]
    rank = int(standing.rank[query])
    first = f"first right answer at {rank:,}" if rank else "no right answer known"
    title = tag("h4", tag("span", seen.name, class_=f"run s{seen.style % 6}"), tag("span", first, class_="place"))
    return tag(
        "section", title if named else None, tag("ol", *hits, class_="photos" if direction == "t2i" else "lines")
    )


def _photo(material: Material, candidate: int, score: float, mark: Mark) -> Html:
    notes = [tag("span", note, class_="note") for note in mark.notes]
    below = tag("div", sign(mark), tag("span", score_text(score), class_="num"), *notes, class_="below")
    return tag("li", material.pictures.shown(candidate), below, class_="right" if mark.sign else None)


def _line(material: Material, candidate: int, score: float, mark: Mark) -> Html:
    notes = [tag("span", note, class_="note") for note in mark.notes]
    words = tag("span", material.pairs.captions[candidate], class_="said", dir="auto")
    below = tag("span", sign(mark), tag("span", score_text(score), class_="num"), *notes, class_="below")
    return tag("li", words, below, class_="right" if mark.sign else None)


def sign(mark: Mark) -> Html | None:
    """A tick and the word; nothing for what is not right."""
    if not mark.sign:
        return None
    tick = tag(
        "svg", tag("path", d="M2 6.4 5 9.4 10.2 2.8"), viewBox="0 0 12 12", aria_hidden="true", class_="tick-sign"
    )
    return tag("span", join([tick, _SIGNS[mark.sign]]), class_="sign")


def score_text(score: float) -> str:
    """A score, as fine as its size allows."""
    return (f"{score:.3f}" if abs(score) < 10 else f"{score:.1f}").replace("-", "−")
