"""What a pretrained image network is, and whether its image processor fits it, read from its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import DataError
from .hub import Found, config, digest, weight_files, weights
from .library import library, quiet
from .preprocessing import Preprocessing
from .processors import read_preprocessing

__all__ = ["CLASSES", "PROJECTION", "Looking", "identity_of", "read_vision"]

_HALVES = {"clip": "vision_config", "siglip": "vision_config", "siglip2": "vision_config"}
"""Where config.json has two halves, the image half's key."""
_KINDS = {
    "clip": "clip",
    "clip_vision_model": "clip",
    "siglip": "siglip",
    "siglip_vision_model": "siglip",
    "siglip2": "siglip2",
    "siglip2_vision_model": "siglip2",
    "dinov2": "dinov2",
    "vit": "vit",
}
CLASSES = {
    "clip": ("CLIPVisionConfig", "CLIPVisionModel"),
    "siglip": ("SiglipVisionConfig", "SiglipVisionModel"),
    "siglip2": ("Siglip2VisionConfig", "Siglip2VisionModel"),
    "dinov2": ("Dinov2Config", "Dinov2Model"),
    "vit": ("ViTConfig", "ViTModel"),
}
PROJECTION = "visual_projection.weight"
_NO_NUMBERS = (
    "architectures",
    "attn_implementation",
    "auto_map",
    "dtype",
    "id2label",
    "label2id",
    "torch_dtype",
    "transformers_version",
)
"""Of a configuration: what changes nothing that is computed. What begins with an underscore does not either."""


@dataclass(frozen=True)
class Looking:
    """What an image network is, enough to build it again.

    Attributes:
        kind: "clip", "siglip", "siglip2", "dinov2" or "vit".
        network: the library's configuration of the image half.
        preprocessing: how pictures are brought to what it reads.
        projection: width the class token is projected to (CLIP); 0 without.
    """

    kind: str
    network: Mapping[str, Any]
    preprocessing: Preprocessing
    projection: int = 0

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "network": dict(self.network),
            "preprocessing": self.preprocessing.to_json(),
            "projection": self.projection,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Looking:
        return cls(value["kind"], value["network"], Preprocessing(**value["preprocessing"]), value["projection"])

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return _side(self.network["patch_size"])

    @property
    def width(self) -> int:
        """Of a fragment."""
        return int(self.network["hidden_size"])

    @property
    def pooled_width(self) -> int:
        """Of the vector of a whole picture; 0 where there is none."""
        if self.kind in ("siglip", "siglip2") and not self.network.get("vision_use_head", True):
            return 0
        return self.projection or self.width

    @property
    def cells(self) -> int:
        """Fragments of a picture, at most."""
        height, width = self.preprocessing.fixed or (0, 0)
        rows, columns = self.grid(height, width) or (1, self.preprocessing.most_patches)
        return rows * columns

    def grid(self, height: int, width: int) -> tuple[int, int] | None:
        """Rows and columns of the patches of pixels of this size; None where each picture has its own."""
        return None if self.preprocessing.patch else (height // self.patch, width // self.patch)

    def seen(self, width: int, height: int) -> tuple[float, float, float, float]:
        """What whole patches show of a picture of this size, as `Backbone.seen`."""
        left, top, right, bottom = self.preprocessing.seen(width, height)
        down, across = self.preprocessing.fixed or (self.patch, self.patch)
        # Pixels right of and below the last whole patch are not looked at.
        right -= (right - left) * (across % self.patch) / across
        bottom -= (bottom - top) * (down % self.patch) / down
        return left, top, right, bottom


def _side(value: Any) -> int:
    """A side that a configuration may give once or for both directions."""
    sides = list(value) if isinstance(value, list | tuple) else [value]
    if len(set(sides)) != 1:
        raise DataError(f"config.json: {value!r}, expected the same side in both directions")
    return int(sides[0])


def read_vision(found: Found) -> Looking:
    """What the folder's image network is; of its weights only the names are looked at.

    Raises:
        DataError: another architecture, one without an image half, or files that cannot be read or do not fit.
        UnknownName: an image processor that is not known here.
    """
    said = config(found)
    kind = _KINDS.get(said["model_type"])
    where = found.folder / "config.json"
    if kind is None:
        raise DataError(
            f"tower {found.source!r}: {where} has model_type {said['model_type']!r}, which is no image network that is "
            f"known here ({', '.join(CLASSES)})"
        )
    if "quantization_config" in said:
        raise DataError(f"{where}: quantised weights are not read; get the network as it was before")
    network = _filled(kind, _half(said), str(where))
    projected = kind == "clip" and PROJECTION in weights(found)
    width = said.get("projection_dim", network.get("projection_dim", 512)) if projected else 0
    looking = Looking(kind, network, read_preprocessing(found, said["model_type"]), int(width))
    _check(looking, found)
    return looking


def _half(said: Mapping[str, Any]) -> dict[str, Any]:
    """The image half of a configuration, as the file has it."""
    half = said.get(_HALVES[said["model_type"]]) if said["model_type"] in _HALVES else said
    return {k: v for k, v in (half or {}).items() if k not in _NO_NUMBERS and not k.startswith("_")}


def _filled(kind: str, half: Mapping[str, Any], where: str) -> dict[str, Any]:
    """With every number that the library fills in."""
    code = library(f"image tower {kind}")
    try:
        with quiet():
            whole = getattr(code, CLASSES[kind][0])(**half).to_dict()
    # The library checks its configurations in its own ways; whatever it says, config.json is to be mended.
    except Exception as error:
        raise DataError(f"{where}: not a configuration of {kind} ({_line(error)})") from None
    return {k: v for k, v in whole.items() if k not in _NO_NUMBERS and not k.startswith("_")}


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _check(looking: Looking, found: Found) -> None:
    """Raises DataError where processor and network do not fit."""
    prepare, patch, where = looking.preprocessing, looking.patch, f"tower {found.source!r}"
    if looking.network.get("num_channels", 3) != 3:
        raise DataError(f"{where}: the network reads {looking.network['num_channels']} channels, expected 3")
    if (looking.kind == "siglip2") != bool(prepare.patch):
        raise DataError(f"{where}: its image processor does not fit {looking.kind}; expected the one it was saved with")
    if prepare.patch:
        if prepare.patch != patch:
            raise DataError(f"{where}: the image processor cuts patches of {prepare.patch}, the network reads {patch}")
        return
    if prepare.fixed is None:
        raise DataError(
            f"{where}: its image processor leaves pictures at different sizes; set size to height and width, or "
            "do_center_crop with a crop_size, in preprocessor_config.json"
        )
    wanted = (_side(looking.network["image_size"]),) * 2
    if looking.kind == "dinov2":
        # Its places are interpolated to any size.
        if min(prepare.fixed) < patch:
            raise DataError(f"{where}: pictures of {prepare.fixed[1]} x {prepare.fixed[0]} hold no whole patch")
    elif prepare.fixed != wanted:
        raise DataError(
            f"{where}: the image processor makes pictures of {prepare.fixed[1]} x {prepare.fixed[0]}, the network "
            f"reads {wanted[1]} x {wanted[0]}"
        )


def identity_of(found: Found, looking: Looking, *, fragments: bool) -> dict[str, Any]:
    """What a feature depends on, as `Backbone.identity`. Where the folder lies, and under what name, is no part."""
    half = _half(config(found))
    return {
        "kind": looking.kind,
        "network": json.loads(json.dumps(half, sort_keys=True)),
        "weights": digest(found, *(path.name for path in weight_files(found.folder))),
        "preprocessing": looking.preprocessing.to_json(),
        "projection": looking.projection,
        "reads": "patches and pooled" if fragments else "pooled",
    }
