"""What the file of a photo says of itself: its size, when and with what it was taken, captions and keywords.

Read from EXIF, IPTC and XMP by positions, without decoding pixels; of a file of any size at most some hundred pieces
and two megabytes are read, whatever its headers claim. Where the photo was taken (GPS) is never read: an index is shown
to others, and few know that their photos tell where they live.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .containers import blocks
from .iptc import read_iptc
from .stock import is_stock
from .xmp import read_xmp

__all__ = ["About", "about"]


@dataclass(frozen=True)
class About:
    """What a photo says of itself; whatever it does not say is empty.

    Attributes:
        width, height: pixels, as it is seen upright.
        taken: date and time by the camera's clock, ISO 8601 without a zone: "2024-07-03T18:05:09".
        camera: maker and model.
        captions: different texts, those of EXIF first, then IPTC, then XMP.
        labels: keywords.
    """

    width: int | None = None
    height: int | None = None
    taken: str | None = None
    camera: str | None = None
    captions: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


def about(path: str | Path) -> About:
    """What the file says; nothing of what is damaged, of other kinds of files, or where it cannot be read."""
    found = blocks(path)
    if found is None:
        return About()
    exif, iptc, xmp = found.exif, read_iptc(found.iptc), read_xmp(found.xmp)
    width, height = found.width, found.height
    if exif.turned:
        width, height = height, width
    own = {name.casefold() for name in (exif.camera, exif.make, exif.model) if name}
    texts = (*exif.captions, *iptc.captions, *xmp.captions)
    captions = [text for text in texts if text.casefold() not in own and not is_stock(text)]
    labels = (*exif.keywords, *iptc.keywords, *xmp.keywords)
    return About(width, height, exif.taken, exif.camera, tuple(_different(captions)), tuple(dict.fromkeys(labels)))


def _different(texts: Iterable[str]) -> Iterator[str]:
    """Each text once; one that was only cut short, as IPTC does, or written in other case, is the same."""
    told: list[str] = []
    for text in texts:
        plain = text.casefold()
        if not any(known == plain or (len(plain) > 30 and known.startswith(plain)) for known in told):
            told.append(plain)
            yield text
