"""What every page has: numbered sections, a bar with their names, style and footer, in one file that needs no other."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from .. import __version__
from .markup import Html, join, tag

__all__ = ["document", "framed", "section"]


def section(number: int, name: str, title: str, *inside: Html | str | None) -> Html:
    """A section; the bar leads to it by its short name."""
    head = tag("h2", tag("span", str(number), class_="number"), title)
    return tag("section", head, *inside, id=name.lower())


def framed(sections: Sequence[Html], names: Sequence[str]) -> list[Html]:
    """Bar, sections and footer."""
    links = [tag("li", tag("a", name, href=f"#{name.lower()}")) for name in names]
    return [
        tag("nav", tag("ol", *links), aria_label="Sections"),
        tag("main", *sections),
        tag("footer", f"Made by manymatch {__version__}. Everything on this page lies in this one file."),
    ]


def document(title: str, body: Sequence[Html | None]) -> str:
    """The whole document."""
    top = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", Html(files(__package__).joinpath("style.css").read_text(encoding="utf-8"))),
    ]
    page = tag("html", tag("head", join(top, "\n")), "\n", tag("body", join(body, "\n")), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"
