"""An image encoder exported to ONNX as a frozen backbone (`--image-tower onnx:FILE`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.features import Features, Pixels
from ...errors import DataError
from .base import LARGEST_HALF, Backbone
from .hub import Found, config
from .onnx_files import chosen, expect_finite_outputs, file_of, onnx_digest, open_session, run_session
from .preprocessing import Preprocessing
from .processors import read_preprocessing

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["OnnxBackbone", "open_onnx"]

Array = np.ndarray[Any, Any]

_SIDE, _RESIZED = 224, 256
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BILINEAR = 2
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_POOLED = ("image_embeds", "pooler_output", "pooled", "embeddings", "embedding")
_FRAGMENTS = ("last_hidden_state", "hidden_states", "features")
_CONFIGS = ("processor_config.json", "preprocessor_config.json")


class OnnxBackbone(Backbone):
    """Pictures to features by an ONNX network with one input (n, 3, h, w).

    An output with two axes is the pooled vector, one with three (n, f, c) are fragments, one with four (n, c, h, w) a
    grid of them. Of several of a kind the one with a usual name counts ("image_embeds", "pooler_output",
    "last_hidden_state"), else the first. Pictures are prepared as `preprocessor_config.json` beside the file says
    (or in the folder above one that is called "onnx"); without it as ImageNet's networks are shown them.

    Args:
        source: "onnx:FILE".
        fragments: give fragments where there are some; False gives the pooled vector alone.

    Raises:
        DataError: onnxruntime is missing, or the file is no such network.
    """

    def __init__(self, source: str, *, fragments: bool = True) -> None:
        super().__init__()
        path = file_of(source)
        # As it is found again from any working directory.
        self.source = f"onnx:{path.resolve()}"
        # First: it refuses weights that lie outside the file's folder, which onnxruntime would read.
        content = onnx_digest(path)
        self._session = open_session(source)
        self._input, self._type, shape = _one_input(source, self._session.get_inputs())
        self._batch = shape[0]
        self.preprocessing, self.note = _preprocessing(source, path, shape[2], shape[3])
        self._read_outputs(shape, fragments)
        self.identity: Mapping[str, Any] = {
            "onnx": content,
            "preprocessing": self.preprocessing.to_json(),
            "outputs": [self._pooled, self._fragments],
        }

    def _read_outputs(self, shape: Sequence[int | None], fragments: bool) -> None:
        """Which outputs are read, and what they hold: only running it tells, as a file may leave sizes open."""
        height, width = self.preprocessing.fixed or (shape[2] or _SIDE, shape[3] or _SIDE)
        names = [output.name for output in self._session.get_outputs()]
        probe = np.zeros((self._batch or 1, 3, height, width), self._type)
        found = run_session(self._session, self.source, names, {self._input: probe}, self._batch)
        ranks = {rank: [name for name in names if np.ndim(found[name]) == rank] for rank in (2, 3, 4)}
        self._pooled = chosen(ranks[2], _POOLED)
        wanted = chosen(ranks[3], _FRAGMENTS) or chosen(ranks[4], _FRAGMENTS)
        self._fragments = wanted if fragments or self._pooled is None else None
        if self._pooled is None and self._fragments is None:
            shapes = {name: np.shape(value) for name, value in found.items()}
            raise DataError(
                f"tower {self.source!r}: outputs {shapes}, expected one with two axes (pooled vector), three "
                "(fragments) or four (grid)"
            )
        expect_finite_outputs(self.source, {name: found[name] for name in (self._pooled, self._fragments) if name})
        self.pooled_width = 0 if self._pooled is None else found[self._pooled].shape[1]
        self.fragments = self.fragment_width = 0
        self._cells: tuple[int, int] | None = None
        if self._fragments is not None:
            one = found[self._fragments]
            self._cells = (one.shape[2], one.shape[3]) if one.ndim == 4 else None
            self.fragments, self.fragment_width = _flat(one).shape[1:]

    def prepare(self, pictures: Iterable[Image.Image]) -> Pixels:
        return self.preprocessing.pixels(pictures)

    def grid(self, height: int, width: int) -> tuple[int, int] | None:
        return self._cells

    def seen(self, width: int, height: int) -> tuple[float, float, float, float]:
        return self.preprocessing.seen(width, height)

    def features(self, pixels: Pixels) -> Features:
        wanted = [name for name in (self._pooled, self._fragments) if name is not None]
        given = np.ascontiguousarray(pixels.array, self._type)
        out = run_session(self._session, self.source, wanted, {self._input: given}, self._batch)
        return Features(
            None if self._fragments is None else _rounded(_flat(out[self._fragments])),
            pooled=None if self._pooled is None else _rounded(out[self._pooled]),
        )


def _one_input(source: str, inputs: Sequence[Any]) -> tuple[str, type[Any], list[int | None]]:
    """Name, type and shape of the input, None for a size that is left open."""
    if len(inputs) != 1:
        named = ", ".join(one.name for one in inputs)
        raise DataError(
            f"tower {source!r}: inputs {named}, expected one (n, 3, height, width); export the image half alone"
        )
    one = inputs[0]
    shape = [size if isinstance(size, int) and size > 0 else None for size in one.shape]
    if one.type not in _TYPES or len(shape) != 4 or shape[1] not in (3, None):
        channels_last = len(shape) == 4 and shape[3] == 3
        why = "; its channels come last, export it with them first" if channels_last else ""
        raise DataError(
            f"tower {source!r}: input {one.name!r} is {one.type} {list(one.shape)}, expected float (n, 3, height, "
            f"width){why}"
        )
    return one.name, _TYPES[one.type], shape


def _preprocessing(source: str, path: Path, height: int | None, width: int | None) -> tuple[Preprocessing, str]:
    """How pictures are prepared, and what to say of it."""
    for folder in (path.parent, *([path.parent.parent] if path.parent.name == "onnx" else [])):
        if any((folder / name).is_file() for name in _CONFIGS):
            found = Found(source, folder)
            kind = config(found)["model_type"] if (folder / "config.json").is_file() else ""
            out = read_preprocessing(found, kind)
            _expect_size(source, out, height, width)
            return out, ""
    height, width = height or width or _SIDE, width or height or _SIDE
    shorter = round(max(height, width) * _RESIZED / _SIDE)
    out = Preprocessing(size={"shortest_edge": shorter}, resample=_BILINEAR, crop=(height, width), mean=_MEAN, std=_STD)
    return out, (
        f"{source}: no preprocessor_config.json beside it, so pictures are prepared as for ImageNet: shorter side "
        f"{shorter}, the {height} x {width} centre, its mean and deviation"
    )


def _expect_size(source: str, preprocessing: Preprocessing, height: int | None, width: int | None) -> None:
    if preprocessing.patch:
        raise DataError(f"tower {source!r}: its preprocessing cuts pictures into patches, and no ONNX file takes those")
    if preprocessing.fixed is None:
        raise DataError(
            f"tower {source!r}: its preprocessor_config.json brings pictures to different sizes; add a crop_size"
        )
    for wanted, given in zip((height, width), preprocessing.fixed, strict=True):
        if wanted is not None and wanted != given:
            raise DataError(
                f"tower {source!r} takes {height} x {width} pixels, and preprocessor_config.json makes "
                f"{preprocessing.fixed[0]} x {preprocessing.fixed[1]}; is it of another network?"
            )


def _flat(fragments: Array) -> Array:
    """(n, f, c), or a grid (n, c, h, w) as (n, h w, c)."""
    return fragments if fragments.ndim == 3 else fragments.reshape(*fragments.shape[:2], -1).transpose(0, 2, 1)


def _rounded(values: Array) -> Array:
    """Float32 values that float16 holds."""
    within = np.clip(values, -LARGEST_HALF, LARGEST_HALF)
    return np.ascontiguousarray(within.astype(np.float16), np.float32)


def open_onnx(source: str, *, fragments: bool = True) -> OnnxBackbone:
    """The backbone in "onnx:FILE", see `OnnxBackbone`."""
    return OnnxBackbone(source, fragments=fragments)
