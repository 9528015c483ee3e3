"""ECCV Caption: image and caption queries of the COCO test split whose right answers people have checked."""

from __future__ import annotations

from collections.abc import Iterator

from ...data.pairs import Pairs
from ...errors import DataError
from .base import Asked, Found, Measured, Protocol

__all__ = ["EccvCaption"]


class EccvCaption(Protocol):
    """mAP@R, R-precision and R@1 over ECCV Caption's queries (Chun et al., ECCV 2022), the whole gallery ranked.

    R is how many right answers a query has in the gallery. The published package divides R-precision by the number of
    different items it was given, so that a list of two right answers scores 1 where R is 100. Not here: R-precision is
    the share of right answers among the first R, and a list cut before R gives no number.
    """

    name = "eccv"
    truth_name = "ECCV Caption"

    def fits(self, pairs: Pairs) -> bool:
        return "eccv" in pairs.truths

    def ask(self, pairs: Pairs) -> Asked:
        truth = pairs.truths.get("eccv")
        if truth is None:
            raise DataError(
                f"protocol 'eccv': {pairs.name} comes without ECCV Caption's lists; give --truth FOLDER with "
                "eccv_image_to_caption.json and eccv_caption_to_image.json, as in the data of the package eccv_caption"
            )
        found = truth.answers(pairs)
        return Asked(found.i2t, found.t2i, notes=tuple(f"eccv: {note}" for note in found.notes))

    def measure(self, found: Found) -> Iterator[Measured]:
        for side, truth in ((found.i2t, found.asked.i2t), (found.t2i, found.asked.t2i)):
            if truth is not None and len(truth):
                by_name = {each.metric: each for each in side.precisions()}
                yield from (by_name[name] for name in ("mAP@R", "R-precision") if name in by_name)
                yield from side.hits(1)
