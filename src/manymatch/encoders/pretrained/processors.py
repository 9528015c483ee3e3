"""What a network's `preprocessor_config.json` says is done to pictures. A file that asks for more is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import DataError, UnknownName
from .hub import Found, read_json
from .preprocessing import Preprocessing

__all__ = ["preprocessing_of", "read_preprocessing"]

_HALF = (0.5, 0.5, 0.5)
_CLIP = {
    "resample": 3,
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
    "size": {"shortest_edge": 224},
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "default_to_square": False,
}
_SQUARE = {"image_mean": _HALF, "image_std": _HALF, "size": {"height": 224, "width": 224}, "do_center_crop": False}
_COMMON = {"do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "CLIPImageProcessor": {**_COMMON, **_CLIP, "do_convert_rgb": True},
    "BitImageProcessor": {**_COMMON, **_CLIP, "do_convert_rgb": True},
    "SiglipImageProcessor": {
        **{**_COMMON, **_SQUARE, "resample": 3, "default_to_square": False},
        "do_convert_rgb": True,
    },
    "ViTImageProcessor": {
        **{**_COMMON, **_SQUARE, "resample": 2, "default_to_square": True},
        "do_convert_rgb": False,
    },
    "Siglip2ImageProcessor": {
        **{**_COMMON, **_SQUARE, "resample": 2, "default_to_square": True},
        "do_convert_rgb": False,
        "patch_size": 16,
        "max_num_patches": 256,
    },
}
"""Each processor's own values, which those of the file go before."""

_OF_MODEL = {
    "clip": "CLIPImageProcessor",
    "clip_vision_model": "CLIPImageProcessor",
    "siglip": "SiglipImageProcessor",
    "siglip_vision_model": "SiglipImageProcessor",
    "siglip2": "Siglip2ImageProcessor",
    "siglip2_vision_model": "Siglip2ImageProcessor",
    "dinov2": "BitImageProcessor",
    "vit": "ViTImageProcessor",
}
"""The processor of a file that names none."""

_NO_EFFECT = {
    "image_processor_type",
    "feature_extractor_type",
    "processor_class",
    "auto_map",
    "data_format",
    "input_data_format",
    "return_tensors",
    "device",
    "disable_grouping",
    "image_seq_length",
    "pad_size",
    "crop_size",
    "size",
}
_RESAMPLES = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
"""By Pillow's numbers."""

_SIZES = (
    {"height", "width"},
    {"shortest_edge"},
    {"shortest_edge", "longest_edge"},
    {"max_height", "max_width"},
)
"""What a size may say."""


def read_preprocessing(found: Found, model_type: str) -> Preprocessing:
    """As the folder's processor_config.json or preprocessor_config.json says.

    Args:
        found: the folder.
        model_type: of the network, for a file that names no processor.

    Raises:
        DataError: neither file, or settings that are not done here.
        UnknownName: a processor that is not known here.
    """
    whole = read_json(found, "processor_config.json") if (found.folder / "processor_config.json").is_file() else {}
    value = whole.get("image_processor")
    path = found.folder / ("processor_config.json" if isinstance(value, dict) else "preprocessor_config.json")
    if not isinstance(value, dict):
        value = read_json(found, path.name)
    return preprocessing_of(value, model_type, str(path))


def preprocessing_of(
    value: Mapping[str, Any], model_type: str, where: str = "preprocessor_config.json"
) -> Preprocessing:
    """As `read_preprocessing`, of a configuration that is read already; `where` is how messages call it."""
    kind = _kind(value, model_type)
    own = _DEFAULTS[kind]
    given = {name: setting for name, setting in value.items() if setting is not None and not name.startswith("_")}
    odd = [name for name in given if name not in own and name not in _NO_EFFECT]
    if "do_pad" in odd and not given["do_pad"]:
        odd.remove("do_pad")
    if odd:
        raise DataError(
            f"{where}: {odd[0]} = {given[odd[0]]!r} is not done here ({kind}); save the network's image processor "
            "without it, or make features with the library and give --features"
        )
    return _made({**own, **given}, _Settings(where), flexible="max_num_patches" in own)


def _made(value: Mapping[str, Any], read: _Settings, *, flexible: bool) -> Preprocessing:
    does = {name: read.flag(name, value[name]) for name in value if name.startswith("do_")}
    if flexible and not does["do_resize"]:
        raise DataError(f"{read.where}: do_resize is false; pictures of any size cannot be cut into whole patches")
    return Preprocessing(
        convert=does["do_convert_rgb"],
        size=_size(value, read) if does["do_resize"] and not flexible else None,
        resample=read.whole("resample", value["resample"], least=0, most=len(_RESAMPLES) - 1),
        crop=_crop(value, read) if does["do_center_crop"] and not flexible else None,
        scale=read.number("rescale_factor", value["rescale_factor"]) if does["do_rescale"] else None,
        mean=read.channels("image_mean", value["image_mean"]) if does["do_normalize"] else None,
        std=read.channels("image_std", value["image_std"], divides=True) if does["do_normalize"] else None,
        patch=read.whole("patch_size", value["patch_size"]) if flexible else 0,
        most_patches=read.whole("max_num_patches", value["max_num_patches"]) if flexible else 0,
    )


def _size(value: Mapping[str, Any], read: _Settings) -> dict[str, int]:
    size = read.size("size", value["size"], square=read.flag("default_to_square", value["default_to_square"]))
    if set(size) not in _SIZES:
        raise DataError(f"{read.where}: size {size} is not done here; expected height and width, or shortest_edge")
    return size


def _crop(value: Mapping[str, Any], read: _Settings) -> tuple[int, int]:
    cut = read.size("crop_size", value.get("crop_size"), square=True)
    if set(cut) != {"height", "width"}:
        raise DataError(f"{read.where}: crop_size {cut}, expected height and width")
    return cut["height"], cut["width"]


def _kind(value: Mapping[str, Any], model_type: str) -> str:
    """The processor's name, without the library's endings for one back end or another."""
    named = value.get("image_processor_type") or str(value.get("feature_extractor_type") or "").replace(
        "FeatureExtractor", "ImageProcessor"
    )
    kind = str(named or _OF_MODEL.get(model_type, model_type)).removesuffix("Fast").removesuffix("Pil")
    if kind not in _DEFAULTS:
        raise UnknownName("image processor", kind, _DEFAULTS)
    return kind


@dataclass(frozen=True)
class _Settings:
    """Checks single settings of a file; `where` stands in messages."""

    where: str

    def flag(self, name: str, value: Any) -> bool:
        if not isinstance(value, bool):
            raise self._error(name, value, "true or false")
        return value

    def whole(self, name: str, value: Any, *, least: int = 1, most: int = 16384) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._error(name, value, f"a whole number from {least} to {most}")
        return value

    def number(self, name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self._error(name, value, "a number")
        return value

    def channels(self, name: str, value: Any, *, divides: bool = False) -> tuple[float, ...]:
        listed = list(value) if isinstance(value, list | tuple) else [value] * 3
        numbers = tuple(self.number(name, number) for number in listed)
        if len(numbers) != 3 or (divides and 0 in numbers):
            raise self._error(name, value, "three numbers" + " other than 0" * divides)
        return numbers

    def size(self, name: str, value: Any, *, square: bool) -> dict[str, int]:
        if isinstance(value, list | tuple) and len(value) == 2:
            value = {"height": value[0], "width": value[1]}
        elif isinstance(value, int) and not isinstance(value, bool):
            value = {"height": value, "width": value} if square else {"shortest_edge": value}
        if not isinstance(value, Mapping) or not value:
            raise self._error(name, value, "height and width, or shortest_edge")
        return {key: self.whole(f"{name}.{key}", side) for key, side in value.items() if side is not None}

    def _error(self, name: str, value: Any, expected: str) -> DataError:
        return DataError(f"{self.where}: {name} = {value!r}, expected {expected}")
