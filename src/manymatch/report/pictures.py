"""Small copies of photos, each held by the page once however often it is shown; without photos, what says as much."""

from __future__ import annotations

import base64
import io

from PIL import Image

from ..data.pairs import Pairs
from ..errors import DataError
from .markup import Html, join, tag

__all__ = ["Thumbnails"]

_SIDE = 176
_QUALITY = 74


class Thumbnails:
    """The photos of some pairs as the page shows them.

    Args:
        pairs: whose images are asked for by row.
        side: the long side in pixels; smaller pictures keep their size.
    """

    def __init__(self, pairs: Pairs, side: int = _SIDE) -> None:
        self.pairs, self.side = pairs, side
        self._made: dict[int, tuple[int, int, str] | None] = {}

    @property
    def any(self) -> bool:
        """Whether these pairs come with pictures at all."""
        return self.pairs.pictures is not None

    def size(self, row: int) -> tuple[int, int] | None:
        """Width and height of a thumbnail; None where there is no readable picture."""
        made = self._find(row)
        return None if made is None else made[:2]

    def name(self, row: int) -> str:
        """Id and first caption of an image: what stands for it in words."""
        item = self.pairs.items[row]
        return f"{item.id}: {item.captions[0]}" if item.captions else item.id

    def shown(self, row: int, *over: Html) -> Html:
        """The photo, with what is drawn over it in its own pixels; or a tile with its id and first caption."""
        size = self.size(row)
        if size is None:
            return self._stub(row)
        width, height = size
        use = tag("use", href=f"#p{row}", width=width, height=height)
        title = tag("title", self.name(row))
        return tag("svg", title, use, *over, viewBox=f"0 0 {width} {height}", role="img", class_="photo")

    def definitions(self) -> Html:
        """Every photo that was asked for, to stand once in the page."""
        symbols = [
            tag(
                "symbol",
                tag("image", href=f"data:image/jpeg;base64,{made[2]}", width=made[0], height=made[1]),
                id=f"p{row}",
                viewBox=f"0 0 {made[0]} {made[1]}",
            )
            for row, made in sorted(self._made.items())
            if made is not None
        ]
        return tag("svg", tag("defs", join(symbols)), width=0, height=0, aria_hidden="true", class_="store")

    def _stub(self, row: int) -> Html:
        item = self.pairs.items[row]
        first = tag("span", item.captions[0], dir="auto") if item.captions else None
        return tag("div", tag("b", item.id), first, class_="photo stub")

    def _find(self, row: int) -> tuple[int, int, str] | None:
        if row not in self._made:
            self._made[row] = self._make(row)
        return self._made[row]

    def _make(self, row: int) -> tuple[int, int, str] | None:
        item = self.pairs.items[row]
        if self.pairs.pictures is None or item.picture is None:
            return None
        try:
            picture = self.pairs.pictures.open(item.picture).convert("RGB")
        except DataError:
            # A run on features needs no pictures; one that cannot be read is shown as one that is not there.
            return None
        picture.thumbnail((self.side, self.side), Image.Resampling.LANCZOS)
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=_QUALITY, optimize=True)
        return *picture.size, base64.b64encode(out.getvalue()).decode("ascii")
