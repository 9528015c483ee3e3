"""HTML by construction: text is escaped unless it is already markup, so no caption can become a tag."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import Any

__all__ = ["Html", "join", "tag"]

_VOID = frozenset({"br", "col", "hr", "img", "meta"})
_SHAPES = frozenset({"circle", "image", "line", "path", "polygon", "polyline", "rect", "use"})
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""What no HTML document may hold. A lone surrogate, which JSON may bring, is not even writable as UTF-8."""


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def escaped(value: Any) -> Html:
    """Markup as it is, anything else as text that means itself."""
    if isinstance(value, Html):
        return value
    return Html(html.escape(_UNPRINTABLE.sub("\ufffd", str(value)), quote=True))


def join(parts: Iterable[Any], between: str = "") -> Html:
    """Several pieces in a row; None is left out."""
    return Html(between.join(escaped(part) for part in parts if part is not None))


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """One element.

    Args:
        name: of the element.
        children: what lies inside; None is left out, anything but `Html` is escaped.
        attributes: `class_` is class, `stroke_width` is stroke-width; None and False leave one out, True gives it bare.
    """
    said = ""
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        said += f" {attribute}" if value is True else f' {attribute}="{escaped(value)}"'
    if name in _VOID:
        return Html(f"<{name}{said}>")
    inside = join(children)
    return Html(f"<{name}{said}/>" if name in _SHAPES and not inside else f"<{name}{said}>{inside}</{name}>")
