"""XMP: RDF in XML, of which Dublin Core's description and subject are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn
from xml.parsers import expat

from .stock import tidy

__all__ = ["Xmp", "read_xmp"]

_LONGEST = 2**20
_DEEPEST = 64
_MOST = 500
_DC = "http://purl.org/dc/elements/1.1/ "
_ITEM = "http://www.w3.org/1999/02/22-rdf-syntax-ns# li"


@dataclass(frozen=True)
class Xmp:
    """Descriptions, in any language, and keywords."""

    captions: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()


class _Reader:
    """Listens to the parser: the texts of list items inside the two elements."""

    def __init__(self) -> None:
        self.found: dict[str, list[str]] = {"description": [], "subject": []}
        self._path: list[str] = []
        self._text: list[str] | None = None

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(name)
        if len(self._path) > _DEEPEST:
            raise ValueError("nested too deeply")
        if name == _ITEM and self._within() is not None:
            self._text = []

    def data(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)

    def end(self, name: str) -> None:
        within = self._within()
        self._path.pop()
        if name == _ITEM and self._text is not None and within is not None:
            if len(self.found[within]) < _MOST:
                self.found[within].append("".join(self._text))
            self._text = None

    def _within(self) -> str | None:
        return next((name for name in self.found if _DC + name in self._path), None)


def read_xmp(data: bytes) -> Xmp:
    """What the packet says; nothing of one that is damaged, that is not UTF-8, or that defines entities."""
    if not data or len(data) > _LONGEST:
        return Xmp()
    reader, parser = _Reader(), expat.ParserCreate("utf-8", namespace_separator=" ")
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler = reader.data
    # Entities that stand for others fill the memory.
    parser.StartDoctypeDeclHandler = _refuse
    try:
        parser.Parse(data.strip(b"\0 \t\r\n"), True)
    except (expat.ExpatError, ValueError):
        return Xmp()
    captions, keywords = (tuple(filter(None, map(tidy, reader.found[name]))) for name in ("description", "subject"))
    return Xmp(captions, keywords)


def _refuse(*declared: object) -> NoReturn:
    raise ValueError("a document type")
