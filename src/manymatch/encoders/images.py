"""What image towers are given: measured from the training pairs, written into the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..data.features import Features
from ..data.pairs import Images, Pairs
from ..errors import DataError, UnknownName
from .resnet import RESNETS

__all__ = ["ImageInput", "feature_blocks", "look_at", "real_fragments", "split_tower"]

_BLOCK = 512
_LOOKED_AT = 32
_BACKBONE_SIDE = 224


@dataclass(frozen=True)
class ImageInput:
    """What an image tower will be given: written into the run, enough to build the tower again.

    Attributes:
        tower: "features", "cnn" (a small one, trained from scratch) or a backbone ("resnet18" ...).
        fragments, fragment_width: f and c of precomputed fragments, 0 without.
        pooled_width: p of a precomputed pooled vector, 0 without.
        size: side in pixels that pictures are brought to ("cnn" and backbones).
    """

    tower: str
    fragments: int = 0
    fragment_width: int = 0
    pooled_width: int = 0
    size: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def expect(self, images: Features, *, all_fragments: bool = False) -> None:
        """Raises DataError unless features are as wide as those the run was trained on (and as many fragments)."""
        trained = (self.fragments if all_fragments else None, self.fragment_width or None, self.pooled_width or None)
        given = (
            None if images.vectors is None or not all_fragments else images.vectors.shape[1],
            None if images.vectors is None else images.vectors.shape[2],
            None if images.pooled is None else images.pooled.shape[1],
        )
        for what, wanted, found in zip(("fragments", "fragment width", "pooled width"), trained, given, strict=True):
            if wanted is not None and found is not None and wanted != found:
                raise DataError(f"features: {what} {found}, but the run was trained on {wanted}; give the same kind")


def split_tower(tower: str | None) -> tuple[str | None, str | None]:
    """ "resnet152:weights.pth" as ("resnet152", "weights.pth"): which tower, and the file its weights begin from."""
    name, _, source = (tower or "").partition(":")
    return name or None, source or None


def look_at(pairs: Pairs, tower: str | None, *, longest_side: int) -> ImageInput:
    """Choose the tower the data allow ("features" where there are some, else "cnn") and measure its input.

    Raises:
        UnknownName: a tower that does not exist.
        DataError: the data do not hold what the tower reads.
    """
    name, _ = split_tower(tower)
    chosen = name or ("features" if pairs.features is not None else "cnn")
    known = ("features", "cnn", *RESNETS)
    if chosen not in known:
        raise UnknownName("image tower", chosen, known)
    if chosen == "features":
        if pairs.features is None:
            raise DataError("image tower 'features': the pairs have no features; give --features FILE or --pooled FILE")
        sizes = pairs.features.sizes()
        return ImageInput(
            "features", sizes.get("fragments", 0), sizes.get("fragment_width", 0), sizes.get("pooled_width", 0)
        )
    if pairs.pictures is None:
        raise DataError(f"image tower {chosen!r}: the pairs have no pictures; give --images PATH (a folder or a tar)")
    if chosen != "cnn":
        return ImageInput(chosen, size=_BACKBONE_SIDE)
    return ImageInput("cnn", size=min(longest_side, _usual_side(pairs)))


def _usual_side(pairs: Pairs) -> int:
    """Median shorter side, in pixels, of the first pictures that can be read."""
    sides: list[int] = []
    for item in pairs.items:
        with suppress(DataError):
            assert pairs.pictures is not None
            sides.append(min(pairs.pictures.open(item.picture or "").size))
        if len(sides) == _LOOKED_AT:
            break
    if not sides:
        raise DataError(f"{pairs.name}: none of {len(pairs)} pictures can be read; look with: manymatch check DATA")
    return int(np.median(sides))


def feature_blocks(images: Images) -> Iterator[Features]:
    """The precomputed features of many images, a block of rows at a time."""
    for start in range(0, len(images), _BLOCK):
        yield images[start : start + _BLOCK].read_features()


def real_fragments(features: Features) -> np.ndarray[Any, Any]:
    """The valid fragments only, (m, c)."""
    assert features.vectors is not None
    if features.lengths is None:
        return features.vectors.reshape(-1, features.vectors.shape[-1])
    return features.vectors[np.arange(features.vectors.shape[1])[None, :] < features.lengths[:, None]]
