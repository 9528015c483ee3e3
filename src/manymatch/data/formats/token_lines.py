"""One line of a caption list: image, number of the caption, caption."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from ..files import Unread

__all__ = ["Kind", "Token", "kind_of"]

_TOKEN = re.compile(r"(?P<image>[^\t]*[^\t#])#(?P<number>\d{1,6})(?:\t|[ ]+)(?P<text>.*)", re.DOTALL)
_FIRST = re.compile(rb"[^\t\r\n#]+\.[A-Za-z0-9.]{1,8}#\d{1,6}\t")
_NUMBERED = re.compile(r"[ ]*(?P<number>\d{1,6})[ ]*(?:\||[ ]{2,})(?P<text>.*)", re.DOTALL)

_QUOTED = re.compile(r'\s*("(?:[^"]|"")*")\s*,(.*)', re.DOTALL)


@dataclass(frozen=True)
class Token:
    """A caption of an image; `number` is None where the list does not number them."""

    image: str
    number: int | None
    text: str


@dataclass(frozen=True)
class Kind:
    """A way to write a list.

    Attributes:
        words: what it is.
        heading: whether the first line names the columns.
        parse: a line without its end -> what it says, or why nothing.
    """

    words: str
    heading: bool
    parse: Callable[[str], Token | str]

    def read(self, line: bytes) -> Token | Unread:
        """What a line says, or why it says nothing."""
        try:
            found = self.parse(line.decode().rstrip("\r\n"))
        except UnicodeDecodeError as error:
            return Unread("not UTF-8", f"byte {error.start + 1} of the line is not UTF-8")
        return Unread("bad line", found) if isinstance(found, str) else found


def kind_of(head: bytes, name: str) -> Kind | None:
    """The kind of list that begins so; None when it is none."""
    head = head.removeprefix(b"\xef\xbb\xbf").lstrip(b"\r\n")
    if _FIRST.match(head):
        return Kind("lines of NAME#N<TAB>CAPTION", False, _token)
    first = head.split(b"\n", 1)[0].strip().lower().decode("latin1")
    if re.fullmatch(r"image_name\s*\|\s*comment_number\s*\|\s*comment", first):
        return Kind("image_name| comment_number| comment", True, _piped)
    # The same heading in a .csv is a table like any other.
    if first in ("image,caption", "image_name,caption") and name.lower().endswith(".txt"):
        return Kind(first, True, _comma)
    if re.fullmatch(r"image(?:_name)?,\s*(?:comment|caption)_number,\s*(?:comment|caption)", first) and name.endswith(
        "t"
    ):
        return Kind(first, True, _comma_numbered)
    return None


def _token(line: str) -> Token | str:
    found = _TOKEN.fullmatch(line)
    if found is None:
        return "expected NAME#N<TAB>CAPTION"
    return Token(found["image"].strip(), int(found["number"]), found["text"].strip())


def _piped(line: str) -> Token | str:
    image, _, rest = line.partition("|")
    # In one line of Flickr30k's the second | is missing: `2199200615.jpg| 4   A dog runs`.
    found = _NUMBERED.fullmatch(rest)
    if found is None or not image.strip():
        return "expected NAME| N| CAPTION"
    return Token(image.strip(), int(found["number"]), found["text"].strip())


def _comma(line: str) -> Token | str:
    image, comma, text = _cell(line)
    return Token(image, None, _unquoted(text)) if comma and image else "expected NAME,CAPTION"


def _comma_numbered(line: str) -> Token | str:
    image, _, rest = _cell(line)
    number, comma, text = rest.partition(",")
    if not comma or not image or not re.fullmatch(r"\s*\d{1,6}\s*", number, re.ASCII):
        return "expected NAME,N,CAPTION"
    return Token(image, int(number), _unquoted(text))


def _cell(line: str) -> tuple[str, str, str]:
    """(first cell, the comma behind it or nothing, the rest)."""
    quoted = _QUOTED.fullmatch(line)
    image, comma, rest = (quoted[1], ",", quoted[2]) if quoted else line.partition(",")
    return _unquoted(image), comma, rest


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1].replace('""', '"').strip()
    return text
