"""What image towers are given: measured from the training pairs, written into the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from ..data.features import Features
from ..data.pairs import FeatureRows, Images, Pairs
from ..errors import DataError, UnknownName
from .resnet import RESNETS

__all__ = ["ImageInput", "Tuning", "backbone_of", "feature_blocks", "look_at", "real_fragments", "split_tower"]

Tuning = Literal["frozen", "tuned", "lora"]
"""What of a pretrained network learns: nothing, all of it, or small matrices beside it."""

_BLOCK = 2**20
"""Numbers of features in memory at a time: statistics of them take ten times as many bytes again."""

_LOOKED_AT = 32
_BACKBONE_SIDE = 224


@dataclass(frozen=True)
class ImageInput:
    """What an image tower will be given: written into the run, enough to build the tower again.

    Attributes:
        tower: "features", "cnn" (a small one, trained from scratch), a backbone ("resnet18" ...), or the kind of a
            pretrained network ("hf", "onnx").
        fragments, fragment_width: f and c of precomputed fragments, 0 without.
        pooled_width: p of a precomputed pooled vector, 0 without.
        size: side in pixels that pictures are brought to ("cnn" and backbones).
        backbone: of a pretrained network, JSON: its `source` as the user named it (with the hub's `revision`), its
            `tuning`, and the `identity` of what it gives and whether that has `fragments` (frozen), or what it is built
            again from (tuned, lora).
    """

    tower: str
    fragments: int = 0
    fragment_width: int = 0
    pooled_width: int = 0
    size: int = 0
    backbone: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        value = asdict(self)
        # Runs without one are described as they were before there were any.
        return value if self.backbone is not None else {k: v for k, v in value.items() if k != "backbone"}

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


def look_at(
    pairs: Pairs,
    tower: str | None,
    *,
    longest_side: int,
    tuning: Tuning = "frozen",
    rank: int = 8,
    fragments: bool = True,
) -> ImageInput:
    """Choose the tower the data allow ("features" where there are some, else "cnn") and measure its input.

    Args:
        pairs: the training split.
        tower: as `--image-tower` takes it.
        longest_side: most pixels of a side, for "cnn".
        tuning, rank: of a pretrained network ("hf:..."): what of it learns, and LoRA's rank.
        fragments: of a pretrained network that is frozen, its patches too, or the pooled vector alone.

    Raises:
        UnknownName: a tower that does not exist.
        DataError: the data do not hold what the tower reads; a pretrained network that cannot be read, or not tuned.
    """
    from .pretrained import is_pretrained, settled

    name, _ = split_tower(tower)
    if tuning != "frozen" and name != "hf":
        raise DataError(
            f"image_tuning={tuning} is for a pretrained network (--image-tower hf:NAME), found {tower or 'none'}; "
            "leave it out"
        )
    if tower is not None and is_pretrained(tower):
        return _pretrained(pairs, settled(tower), tuning, rank, fragments)
    chosen = name or ("features" if pairs.features is not None else "cnn")
    known = ("features", "cnn", *RESNETS)
    if chosen not in known:
        raise UnknownName("image tower", chosen, (*known, "hf:NAME", "onnx:FILE"))
    if chosen == "features":
        if pairs.features is None:
            raise DataError("image tower 'features': the pairs have no features; give --features FILE or --pooled FILE")
        if backbone_of(pairs.features) is not None:
            raise DataError(
                "image tower 'features': the pairs come with what a pretrained network sees in their pictures; name it "
                "(image_tower='hf:NAME'), or give features of your own"
            )
        sizes = pairs.features.sizes()
        return ImageInput(
            "features", sizes.get("fragments", 0), sizes.get("fragment_width", 0), sizes.get("pooled_width", 0)
        )
    _expect_pictures(pairs, chosen)
    if chosen != "cnn":
        return ImageInput(chosen, size=_BACKBONE_SIDE)
    return ImageInput("cnn", size=min(longest_side, _usual_side(pairs)))


def backbone_of(features: FeatureRows | None) -> str | None:
    """Key of the pretrained network that gave these features; None of the user's own, or where there are none."""
    key = getattr(features, "key", None)
    return None if key is None else str(key)


def _expect_pictures(pairs: Pairs, tower: str) -> None:
    if pairs.pictures is None:
        raise DataError(f"image tower {tower!r}: the pairs have no pictures; give --images PATH (a folder or a tar)")


def _pretrained(pairs: Pairs, source: str, tuning: Tuning, rank: int, fragments: bool) -> ImageInput:
    """What a pretrained network gives, and what it is built again from."""
    from .pretrained import open_backbone

    _expect_pictures(pairs, source)
    if tuning != "frozen":
        from .pretrained.images import look_at_tuned

        return look_at_tuned(source, tuning, rank)
    backbone = open_backbone(source, fragments=fragments)
    facts = {
        "source": backbone.source,
        "tuning": tuning,
        "fragments": bool(backbone.fragments),
        "identity": dict(backbone.identity),
        **({"revision": backbone.revision} if backbone.revision else {}),
    }
    return ImageInput(
        source.partition(":")[0], backbone.fragments, backbone.fragment_width, backbone.pooled_width, backbone=facts
    )


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
    sizes = {} if images.features is None else images.features.sizes()
    numbers = sizes.get("fragments", 0) * sizes.get("fragment_width", 0) + sizes.get("pooled_width", 0)
    rows = min(512, max(1, _BLOCK // max(1, numbers)))
    for start in range(0, len(images), rows):
        yield images[start : start + rows].read_features()


def real_fragments(features: Features) -> np.ndarray[Any, Any]:
    """The valid fragments only, (m, c)."""
    assert features.vectors is not None
    if features.lengths is None:
        return features.vectors.reshape(-1, features.vectors.shape[-1])
    return features.vectors[np.arange(features.vectors.shape[1])[None, :] < features.lengths[:, None]]
