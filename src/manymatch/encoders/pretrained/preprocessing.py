"""Pictures as pretrained networks were shown them, in Pillow and numpy.

Equal to the last bit to the image processors of `transformers` on Pillow (CLIP, SigLIP, SigLIP 2, BiT, which DINOv2
takes, and ViT). `processors.py` reads from a network's folder what is to be done.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from ...data.decoding import MAX_PIXELS
from ...data.features import Pixels
from ...errors import DataError

__all__ = ["Preprocessing"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Preprocessing:
    """What is done to a picture, in this order. As JSON, it is rebuilt by `Preprocessing(**value)`.

    Attributes:
        convert: transparency is laid over white in RGB pictures too; others always become RGB so.
        size: what it is resized to: "height" and "width"; "shortest_edge", with a most for "longest_edge" or without;
            "max_height" and "max_width"; None leaves it as it is.
        resample: Pillow's number of the filter.
        crop: height and width cut out of the middle, black where the picture is smaller.
        scale: factor on the values 0 to 255.
        mean, std: of each channel; what is left of a value is (value - mean) / std.
        patch, most_patches: the picture is resized to the largest size of whole patches that has no more of them, and
            laid out in patches (NaFlex); `size` and `crop` are then None.
    """

    convert: bool = True
    size: Mapping[str, int] | None = None
    resample: int = 3
    crop: tuple[int, int] | None = None
    scale: float | None = 1 / 255
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    patch: int = 0
    most_patches: int = 0

    def __post_init__(self) -> None:
        # From JSON, tuples come as lists.
        for name in ("crop", "mean", "std"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(value))

    def to_json(self) -> dict[str, Any]:
        """What `Preprocessing(**value)` makes the same from."""
        value = asdict(replace(self, size=None))
        return {**value, "size": None if self.size is None else dict(self.size)} | {
            name: None if value[name] is None else list(value[name]) for name in ("crop", "mean", "std")
        }

    @property
    def fixed(self) -> tuple[int, int] | None:
        """Height and width that every picture comes to; None where they differ from picture to picture."""
        if self.crop is not None:
            return self.crop
        if self.size is not None and set(self.size) == {"height", "width"}:
            return self.size["height"], self.size["width"]
        return None

    # ---- one picture

    def __call__(self, picture: Image.Image) -> Array:
        """(3, h, w) float32; with patches (3, patch, patch * m), row by row from the top left.

        Raises:
            DataError: it cannot be made RGB, or would become larger than 64 million pixels.
        """
        picture = self._rgb(picture)
        if not self.patch:
            return self._valued(self._cut(picture))
        rows, columns = self.patches(*picture.size)
        resized = picture.resize((columns * self.patch, rows * self.patch), resample=self.resample)
        cells = self._valued(np.asarray(resized)).reshape(3, rows, self.patch, columns, self.patch)
        return cells.transpose(0, 2, 1, 3, 4).reshape(3, self.patch, -1)

    def pixels(self, pictures: Iterable[Image.Image]) -> Pixels:
        """Of n pictures (n, 3, h, w). With patches (n, 3, patch, patch * most_patches), zeros behind each picture's
        own, and rows and columns of these in `grids`.

        Raises:
            DataError: as of one picture, or pictures that come to different sizes.
        """
        listed = list(pictures)
        made = [self(picture) for picture in listed]
        if self.patch:
            array = np.zeros((len(made), 3, self.patch, self.patch * self.most_patches), np.float32)
            for n, one in enumerate(made):
                array[n, :, :, : one.shape[2]] = one
            grids = np.array([self.patches(*picture.size) for picture in listed], np.int64).reshape(-1, 2)
            return Pixels(array, grids)
        sizes = sorted({one.shape[1:] for one in made})
        if len(sizes) > 1:
            raise DataError(
                f"pictures: they come to different sizes, {sizes[0]} and {sizes[1]}, as the image processor neither "
                "crops nor resizes to height and width; give one at a time"
            )
        return Pixels(np.stack(made) if made else np.zeros((0, 3, *(self.fixed or (1, 1))), np.float32))

    def _rgb(self, picture: Image.Image) -> Image.Image:
        if picture.mode == "RGB" and not self.convert:
            return picture
        try:
            if "A" not in picture.getbands() and picture.info.get("transparency") is None:
                return picture.convert("RGB")
            over = picture.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", over.size, (255, 255, 255, 255)), over).convert("RGB")
        except ValueError as error:
            raise DataError(f"picture: mode {picture.mode} cannot be made RGB ({error}); convert it") from None

    def _valued(self, values: Array) -> Array:
        """(h, w, 3) uint8 to (3, h, w) float32."""
        return np.stack([self._table[:, channel][values[..., channel]] for channel in range(3)])

    @cached_property
    def _table(self) -> Array:
        """(256, 3): what each value of each channel becomes. In double precision up to the scale, then in single."""
        values = np.arange(256)[:, None].repeat(3, axis=1)
        table: Array = (values.astype(np.float64) * self.scale if self.scale is not None else values).astype(np.float32)
        if self.mean is not None and self.std is not None:
            table = (table - np.array(self.mean, np.float32)) / np.array(self.std, np.float32)
        return table

    # ---- sizes and places

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height a picture of this size is resized to."""
        if self.size is None:
            return width, height
        if "shortest_edge" in self.size:
            across, down = _by_edge(width, height, self.size["shortest_edge"], self.size.get("longest_edge"))
        elif "max_height" in self.size:
            scale = min(self.size["max_height"] / height, self.size["max_width"] / width)
            across, down = int(width * scale), int(height * scale)
        else:
            across, down = self.size["width"], self.size["height"]
        return max(across, 1), max(down, 1)

    def patches(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of patches of a picture of this size: the largest scale at which it has no more than
        `most_patches`, its sides rounded up to whole patches."""

        def count(side: int, scale: float) -> int:
            return max(1, math.ceil(side * scale / self.patch))

        low, high = 1e-5 / 10, 100.0
        while high - low >= 1e-5:
            scale = (low + high) / 2
            if count(height, scale) * count(width, scale) <= self.most_patches:
                low = scale
            else:
                high = scale
        return count(height, low), count(width, low)

    def seen(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of what is kept of a picture, in shares of its sides; below 0 and above 1 where
        black is added around it."""
        if self.crop is None:
            return 0.0, 0.0, 1.0, 1.0
        across, down = self.resized(width, height)
        left, top = (across - self.crop[1]) // 2, (down - self.crop[0]) // 2
        return left / across, top / down, (left + self.crop[1]) / across, (top + self.crop[0]) / down

    def _cut(self, picture: Image.Image) -> Array:
        """Resized and cut (h, w, 3) uint8."""
        across, down = self.resized(*picture.size)
        if across * down > MAX_PIXELS:
            return self._cut_of_a_strip(picture, across, down)
        if self.size is not None:
            picture = picture.resize((across, down), resample=self.resample)
        values: Array = np.asarray(picture)
        if self.crop is None:
            return values
        height, width = self.crop
        top, left = (down - height) // 2, (across - width) // 2
        inside = values[max(top, 0) : top + height, max(left, 0) : left + width]
        if inside.shape[:2] == (height, width):
            return inside
        out = np.zeros((height, width, 3), np.uint8)
        out[max(-top, 0) :, max(-left, 0) :][: inside.shape[0], : inside.shape[1]] = inside
        return out

    def _cut_of_a_strip(self, picture: Image.Image, across: int, down: int) -> Array:
        """Of a picture hundreds of times as long as wide, whose resized whole would be too large: what is cut out of
        it, and nothing else, is made. Rounding may differ in the last bit."""
        if self.crop is None:
            raise DataError(
                f"picture: {picture.width} x {picture.height} would be resized to {across} x {down}, at most "
                f"{MAX_PIXELS:,} pixels are made; crop it"
            )
        height, width = (min(wanted, there) for wanted, there in zip(self.crop, (down, across), strict=True))
        top, left = (down - height) // 2, (across - width) // 2
        x, y = picture.width / across, picture.height / down
        box = left * x, top * y, min((left + width) * x, picture.width), min((top + height) * y, picture.height)
        part = picture.resize((width, height), resample=self.resample, box=box)
        return replace(self, size=None)._cut(part)


def _by_edge(width: int, height: int, shortest: int, longest: int | None) -> tuple[int, int]:
    """Width and height with the shorter side at `shortest`, or less, so that the longer one stays within `longest`."""
    short, long = min(width, height), max(width, height)
    if longest is None:
        other = int(shortest * long / short)
    elif long / short * shortest > longest:
        # The longer side follows from the shorter one before that is rounded.
        exact = longest * float(short) / long
        shortest = round(exact)
        other = long if short == shortest else int(exact * long / short)
    else:
        other = long if short == shortest else int(shortest * long / short)
    return (shortest, other) if width <= height else (other, shortest)
