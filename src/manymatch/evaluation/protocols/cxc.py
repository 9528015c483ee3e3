"""Crisscrossed Captions: R@K with human-rated right answers, across and within images and captions."""

from __future__ import annotations

from collections.abc import Iterator

from ...data.pairs import Pairs
from ...errors import DataError
from .base import Asked, Found, Measured, Protocol
from .own import DEPTHS

__all__ = ["Crisscrossed"]


class Crisscrossed(Protocol):
    """R@1, R@5 and R@10 image to text, text to image, text to text and image to image (Parekh et al., EACL 2021).

    Queries without a right answer are left out, and an item is never its own answer: it is not in its own gallery. (The
    published evaluator of VSE-infinity sets an item's score with itself to 0, which ranks it above negative scores.)
    """

    name = "cxc"
    truth_name = "CxC"

    def fits(self, pairs: Pairs) -> bool:
        return "cxc" in pairs.truths

    def ask(self, pairs: Pairs) -> Asked:
        truth = pairs.truths.get("cxc")
        if truth is None:
            raise DataError(
                f"protocol 'cxc': {pairs.name} comes without CxC's annotations; give --truth FOLDER with "
                "sits_test.csv, sts_test.csv and sis_test.csv, or with cxc_image_to_caption.json and "
                "cxc_caption_to_image.json for image to text and text to image alone"
            )
        found = truth.answers(pairs)
        notes = tuple(f"cxc: {note}" for note in found.notes)
        return Asked(found.i2t, found.t2i, within=found.within, notes=notes)

    def measure(self, found: Found) -> Iterator[Measured]:
        across = ((found.i2t, found.asked.i2t), (found.t2i, found.asked.t2i))
        for side in (*(side for side, truth in across if truth is not None), *found.within.values()):
            yield from side.hits(*DEPTHS)
