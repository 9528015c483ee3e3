"""Numbers that were published, to stand beside measured ones where data and protocol are the same.

All are read off the posters of HREM (CVPR 2023), DivE (CVPR 2023) and MSRM (CVPR 2023), but for those marked
second-hand, which later papers' tables and lists of results give. DivE's ablations (RSUM 483.3 to 500.8) are not
here: its poster does not say on which data they were measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ..data.coco_ids import is_karpathy_test
from ..data.pairs import Pairs
from .protocols import PROTOCOLS
from .report import Row, plain_row

__all__ = ["PUBLISHED", "Published", "published_for"]

Source = Literal["poster", "second-hand"]


@dataclass(frozen=True)
class Published:
    """One published number.

    Attributes:
        method: our name of the system; "" where it is none of ours.
        system, variant: as the source calls them.
        data: "coco" (the 5,000 test images of Karpathy's split) or "flickr30k" (its 1,000).
        protocol, direction, metric, value: as in a report; shares in percent.
        source: where it was read.
        ablation: of a system that lacks a part.
    """

    method: str
    system: str
    variant: str
    data: str
    protocol: str
    direction: str
    metric: str
    value: float
    source: Source = "poster"
    ablation: bool = False

    @property
    def run(self) -> str:
        """What tables call it."""
        said = ", ".join(part for part in (self.system, self.variant) if part)
        return f"published: {said}" + (" (second-hand)" if self.source == "second-hand" else "")


_F30K, _1K, _5K = ("flickr30k", "own"), ("coco", "coco-1k"), ("coco", "coco-5k")

_COLUMNS = (
    *(("i2t", f"R@{k}") for k in (1, 5, 10)),
    *(("t2i", f"R@{k}") for k in (1, 5, 10)),
    ("both", "RSUM"),
)

_RECALLS = (
    ("hrem", "HREM", "Region + BiGRU, Standalone", _5K, "58.4 85.5 92.4 39.8 70.5 81.0 427.6"),
    ("hrem", "HREM", "Region + BiGRU, Fusion", _F30K, "79.5 94.3 97.4 59.3 85.1 91.2 506.8"),
    ("hrem", "HREM", "Region + BiGRU, Fusion", _1K, "80.0 96.0 98.7 62.7 90.1 95.4 522.8"),
    ("hrem", "HREM", "Region + BiGRU, Fusion", _5K, "58.9 85.3 92.1 40.0 70.6 81.2 428.1"),
    ("hrem", "HREM", "Region + BiGRU, Full (ensemble)", _F30K, "81.4 96.5 98.5 60.9 85.6 91.3 514.3"),
    ("hrem", "HREM", "Region + BiGRU, Full (ensemble)", _1K, "81.2 96.5 98.9 63.7 90.7 96.0 527.1"),
    ("hrem", "HREM", "Region + BiGRU, Full (ensemble)", _5K, "60.6 86.4 92.5 41.3 71.9 82.4 435.1"),
    ("hrem", "HREM", "Region + BERT, Standalone", _5K, "61.8 87.0 93.2 44.0 73.7 83.4 443.1"),
    ("hrem", "HREM", "Region + BERT, Fusion", _F30K, "83.3 96.0 98.1 63.5 87.1 92.4 520.4"),
    ("hrem", "HREM", "Region + BERT, Fusion", _1K, "81.1 96.6 98.9 66.1 91.6 96.5 530.7"),
    ("hrem", "HREM", "Region + BERT, Fusion", _5K, "62.3 87.6 93.4 43.9 73.6 83.3 444.1"),
    ("hrem", "HREM", "Region + BERT, Full (ensemble)", _F30K, "84.0 96.1 98.6 64.4 88.0 93.1 524.2"),
    ("hrem", "HREM", "Region + BERT, Full (ensemble)", _1K, "82.9 96.9 99.0 67.1 92.0 96.6 534.6"),
    ("hrem", "HREM", "Region + BERT, Full (ensemble)", _5K, "64.0 88.5 93.7 45.4 75.1 84.3 450.9"),
    ("vse_infty", "VSE-infinity", "Region + BiGRU", _F30K, "76.5 94.2 97.7 56.4 83.4 89.9 498.1"),
    ("vse_infty", "VSE-infinity", "Region + BiGRU", _1K, "78.5 96.0 98.7 61.7 90.3 95.6 520.8"),
    ("vse_infty", "VSE-infinity", "Region + BiGRU", _5K, "56.6 83.6 91.4 39.3 69.9 81.1 421.9"),
    ("vse_infty", "VSE-infinity", "Region + BERT", _F30K, "81.7 95.4 97.6 61.4 85.9 91.5 513.5"),
    ("vse_infty", "VSE-infinity", "Region + BERT", _1K, "79.7 96.4 98.9 64.8 91.4 96.3 527.5"),
    ("vse_infty", "VSE-infinity", "Region + BERT", _5K, "58.3 85.3 92.3 42.4 72.7 83.2 434.3"),
    ("vse_infty", "VSE-infinity", "ResNeXt-101 + BERT", _1K, "84.5 98.1 99.4 72.0 93.9 97.5 545.4"),
    ("vse_infty", "VSE-infinity", "ResNeXt-101 + BERT", _5K, "66.4 89.3 94.6 51.6 79.3 87.6 468.9"),
    ("vse_infty", "VSE-infinity", "ResNeXt-101 + BERT, ensemble", _1K, "85.6 98.0 99.4 73.1 94.3 97.7 548.1"),
    ("vse_infty", "VSE-infinity", "ResNeXt-101 + BERT, ensemble", _5K, "68.1 90.2 95.2 52.7 80.2 88.3 474.8"),
    ("dive", "DivE", "Faster R-CNN + BiGRU", _1K, "79.8 96.2 98.6 63.6 90.7 95.7 524.6"),
    ("dive", "DivE", "Faster R-CNN + BiGRU", _5K, "58.8 84.9 91.5 41.1 72.0 82.4 430.7"),
    ("dive", "DivE", "Faster R-CNN + BiGRU, ensemble", _1K, "80.6 96.3 98.8 64.7 91.4 96.2 528.0"),
    ("dive", "DivE", "Faster R-CNN + BiGRU, ensemble", _5K, "60.4 86.2 92.4 42.6 73.1 83.1 437.8"),
    ("dive", "DivE", "ResNeXt-101 + BERT", _1K, "86.3 97.8 99.4 72.4 94.0 97.6 547.5"),
    ("dive", "DivE", "ResNeXt-101 + BERT", _5K, "69.1 90.7 95.6 52.1 79.6 87.8 474.9"),
    ("dive", "DivE", "ResNeXt-101 + BERT, ensemble", _1K, "86.6 98.2 99.4 73.4 94.5 97.8 549.9"),
    ("dive", "DivE", "ResNeXt-101 + BERT, ensemble", _5K, "71.0 91.8 96.3 53.4 80.9 88.6 482.0"),
)
"""R@1, R@5, R@10 of image to text, of text to image, and their sum."""

_SECOND_HAND = (
    ("dive", "DivE", "best listed, Faster R-CNN + BiGRU level", _F30K, "80.9 - - 59.4 - - -"),
    ("dive", "DivE", "best listed, ResNeXt + BERT level", _F30K, "90.6 - - 75.9 - - -"),
    ("dive", "DivE", "ResNet-152 + BiGRU", _F30K, "- - - - - - 442.6"),
    ("dive", "DivE", "ResNet-152 + BiGRU", _5K, "- - - - - - 377.7"),
    ("dive", "DivE", "Faster R-CNN + BERT", _F30K, "- - - - - - 514.8"),
    ("dive", "DivE", "Faster R-CNN + BERT", _5K, "- - - - - - 439.6"),
)
"""As above; whether they are of one model or of an ensemble is not stated where they were found."""

_HREM_ABLATIONS = (
    ("no fragment level", "81.5 94.9 - 62.3 86.2"),
    ("fragment level of texts only", "81.8 95.1 - 62.4 86.2"),
    ("fragment level of images only", "83.1 95.9 - 63.2 87.0"),
    ("no instance level", "80.1 94.8 - 60.9 85.3"),
    ("instance level within a modality only", "80.5 94.7 - 61.2 85.2"),
    ("instance level across modalities only", "82.2 95.5 - 62.6 86.4"),
    ("no connection matrix A", "81.4 95.1 - 61.5 86.3"),
    ("no relevance matrix S", "81.7 95.3 - 61.9 86.5"),
    ("no consistency loss", "81.6 95.6 - 61.8 86.7"),
    ("no regularisation loss", "82.8 95.8 - 62.9 86.9"),
    ("no neighbour batches", "82.8 95.9 - 63.1 87.0"),
)
"""Flickr30K, Region + BERT, Fusion: the first five of the same columns."""

_MSRM = (
    ("vsepp", "VSE++", "", "- - - -", "64.60 52.00 41.30 30.30"),
    ("pvse", "PVSE", "one element", "40.30 41.90 29.30 30.10", "66.70 53.50 41.70 30.60"),
    ("pvse", "PVSE", "two elements", "42.80 43.70 31.80 32.00", "69.20 55.20 45.20 32.40"),
    ("", "VSRN", "", "41.20 42.40 29.70 29.90", "76.20 62.80 53.00 40.50"),
    ("", "VSRN + AOQ", "", "44.70 45.60 33.00 33.50", "77.50 63.50 55.10 41.10"),
    ("pcme", "PCME", "means only", "45.00 45.90 34.00 34.30", "68.00 54.60 43.50 31.70"),
    ("pcme", "PCME", "", "45.10 46.00 34.10 34.40", "68.80 54.60 44.20 31.90"),
    ("pcme", "PCME", "dagger row", "45.10 46.00 34.10 34.40", "65.90 53.30 41.70 31.20"),
    ("p2rm", "P2RM", "", "45.90 46.42 35.52 35.11", "66.60 54.22 42.12 31.50"),
    ("msrm", "MSRM", "", "46.43 47.35 35.62 35.81", "68.85 56.12 44.32 33.40"),
)
"""MSRM's poster: PMRP, then R@1; of each 1K image to text, 1K text to image, 5K image to text, 5K text to image."""


def _recalls() -> Iterator[Published]:
    for table, source in ((_RECALLS, "poster"), (_SECOND_HAND, "second-hand")):
        for method, system, variant, (data, protocol), numbers in table:
            for (direction, metric), number in zip(_COLUMNS, numbers.split(), strict=True):
                if number != "-":
                    where = (data, protocol, direction, metric, float(number))
                    yield Published(method, system, variant, *where, source)  # type: ignore[arg-type]


def _ablations() -> Iterator[Published]:
    for variant, numbers in _HREM_ABLATIONS:
        for (direction, metric), number in zip(_COLUMNS, numbers.split(), strict=False):
            if number != "-":
                said = f"Region + BERT, Fusion, {variant}"
                yield Published("hrem", "HREM", said, *_F30K, direction, metric, float(number), ablation=True)


def _msrm() -> Iterator[Published]:
    places = [(folds, direction) for folds in (True, False) for direction in ("i2t", "t2i")]
    for method, system, variant, pmrp, first in _MSRM:
        for (folds, direction), plausible, own in zip(places, pmrp.split(), first.split(), strict=True):
            if plausible != "-":
                metric = "PMRP 1K" if folds else "PMRP"
                yield Published(method, system, variant, "coco", "pmrp", direction, metric, float(plausible))
            protocol = "coco-1k" if folds else "coco-5k"
            yield Published(method, system, variant, "coco", protocol, direction, "R@1", float(own))


PUBLISHED: tuple[Published, ...] = (*_recalls(), *_ablations(), *_msrm())
"""Every published number we know."""


def published_for(methods: Sequence[str], protocols: Sequence[str], pairs: Pairs) -> tuple[Row, ...]:
    """Published rows of these methods that were measured as these protocols measure on these pairs.

    `pmrp` shows every system of its table. Ablations are left out.

    Args:
        methods: by our names.
        protocols: which are measured.
        pairs: what is evaluated; published numbers stand beside COCO's 5,000 test images of Karpathy's split and
            beside data called flickr30k with 1,000 images of five captions each, unless they are another split.

    Returns:
        Rows as in a report, `run` "published: ..."; without interval and counts.
    """
    data = _data(pairs)
    return tuple(
        {"run": one.run, **plain_row(name, one.direction, one.metric, one.value, None, None)}
        | {"truth": PROTOCOLS[one.protocol].truth_name}
        for one in PUBLISHED
        for name in protocols
        # On COCO's whole test split `own` is `coco-5k` by another name.
        if one.data == data
        and one.protocol == ("coco-5k" if (data, name) == ("coco", "own") else name)
        and not one.ablation
        and (one.method in methods or one.protocol == "pmrp")
    )


def _data(pairs: Pairs) -> str:
    """Which of the data with published numbers these are, "" if none."""
    name, _, split = pairs.name.lower().partition(":")
    if split in ("", "test") and ("flickr30k" in name or "f30k" in name):
        return "flickr30k" if (len(pairs), len(pairs.captions)) == (1000, 5000) else ""
    return "coco" if is_karpathy_test(pairs) else ""
