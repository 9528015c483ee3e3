"""Small worlds and untrained runs that the tests of the report share."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import manymatch as mm
from manymatch.data.pairs import Pairs
from manymatch.methods import Model

SMALL = {"dim": 16, "word_dim": 8, "least_count": 1, "longest_side": 32}
HOSTILE = (
    "<script>alert('x')</script> & \"quotes\" 'single' </svg></title><img src=x onerror=alert(1)>",
    "كلب يقفز فوق ‮ السياج",
    "a dog 🐕‍🦺 on \ud800 a \x00 hill\x1b[0m",
)


def small(pairs: Pairs, name: str, **settings: Any) -> Model:
    """An untrained model of 16 dimensions."""
    if name == "dive":
        settings = {"elements": 2, "heads": 2, "head_width": 8, "slot_hidden": 16, **settings}
    return mm.method(name, **{**SMALL, **settings}).build(pairs, seed=0)


def hostile(pairs: Pairs) -> Pairs:
    """The same images; the first have captions and labels that are not meant well."""
    items = [
        replace(item, captions=(words, *item.captions[1:]), labels=(words,))
        for item, words in zip(pairs.items, HOSTILE, strict=False)
    ]
    return Pairs([*items, *pairs.items[len(items) :]], pictures=pairs.pictures, name="<b>hostile</b>")


class Checked(HTMLParser):
    """Reads a page and remembers what it holds. Raises where an element is not closed by its own end."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.names: set[str] = set()
        self.words = ""
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"
        assert len(self.ids) == len(set(self.ids)), "an id stands twice"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        for name, value in attrs:
            assert not name.startswith("on"), f"{tag} {name}"
            self.ids += [value or ""] if name == "id" else []
            self.links += [value or ""] if name in ("href", "src", "xlink:href", "action", "data") else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        last = self.open.pop()
        assert last == tag, f"</{tag}> closes <{last}>"

    def handle_data(self, data: str) -> None:
        self.words += data
