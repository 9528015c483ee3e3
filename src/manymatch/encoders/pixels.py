"""Image towers on pixels: a small CNN for small pictures, or a published backbone and a neck."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..data.features import Features, Pixels
from ..draws import draw
from ..errors import DataError
from .base import Head, ImageTower, Locals, Pool
from .dropout import Dropout
from .images import ImageInput
from .necks import Neck
from .noise import key_of_floats
from .resnet import crop_of, load_backbone, prepare, resnet

__all__ = ["BackboneTower", "PixelTower", "SmallCNN"]


class SmallCNN(nn.Module):
    """Four strided blocks for pictures of 48 to 160 pixels: (n, 3, h, w) -> grid cells (n, f, d)."""

    def __init__(self, dim: int, channels: Sequence[int] = (32, 64, 128, 256)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for n, width in enumerate(channels):
            layers += [
                nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            if n >= 1:
                layers += [
                    nn.Conv2d(width, width, 3, padding=1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(inplace=True),
                ]
            before = width
        self.layers = nn.Sequential(*layers)
        self.project = nn.Linear(before, dim)

    def forward(self, pixels: Tensor) -> Tensor:
        grid = self.layers(pixels.contiguous(memory_format=torch.channels_last))
        out: Tensor = self.project(grid.flatten(2).transpose(1, 2))
        return out


class PixelTower(ImageTower):
    """A small CNN on pixels, its grid cells as fragments, each knowing its place by a learned code.

    While training, pictures are shifted by up to a sixteenth of their side. They are never mirrored: captions say
    "left" and "right".
    """

    reads = "pixels"

    def __init__(self, inputs: ImageInput, pool: Pool, head: Head, *, dim: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.size, self.pool, self.head = inputs.size, pool, head
        self.cnn = SmallCNN(dim)
        cells = (-(-inputs.size // 16)) ** 2
        self.place = nn.Parameter(torch.randn(cells, dim) * 0.02)
        narrow = max(1, dim // 8)
        self.whole = nn.Sequential(nn.Linear(cells * narrow, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.squeeze = nn.Linear(dim, narrow)
        self.dropout = Dropout(dropout)

    def prepare(self, pictures: Iterable[Image.Image]) -> Pixels:
        """RGB pictures to (n, 3, size, size) in [-1, 1]; the aspect ratio is squashed, nothing is cropped away."""
        side = (self.size, self.size)
        scaled = [np.asarray(p.convert("RGB").resize(side, Image.Resampling.BILINEAR)) for p in pictures]
        array = np.stack(scaled) if scaled else np.zeros((0, *side, 3), np.uint8)
        return Pixels(array.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1.0)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return -(-height // 16), -(-width // 16)

    def local(self, images: Features | Pixels) -> Locals:
        pixels = _pixels(images, self.place.device)
        if tuple(pixels.shape[2:]) != (self.size, self.size):
            raise DataError(f"pixels: {tuple(pixels.shape[2:])}, but the run reads {self.size} x {self.size}")
        if self.training:
            pixels = _shifted(pixels, self.size // 16)
        vectors = self.dropout(self.cnn(pixels) + self.place)
        valid = torch.ones(vectors.shape[:2], dtype=torch.bool, device=vectors.device)
        whole = self.pool(vectors, valid) + self.whole(self.squeeze(vectors).flatten(1))
        return _keyed(self, Locals(vectors, valid, whole), pixels)


class BackboneTower(ImageTower):
    """A ResNet's grid, a neck and a head (PVSE, PCME; DivE and VSE-infinity on grids).

    Pictures are brought to the input size as the backbone was trained on them; `Pixels` are taken as they are, already
    normalised, of any size that the grid's neck and head allow.

    Args:
        inputs: its `tower` names the backbone.
        drop: probability scale of grid cells left out while training (VSE-infinity: with u uniform, if u > drop each
            cell with probability drop * u).
        whole: pictures are squashed to the input size, nothing cut away (VSE-infinity, DivE); else the shorter side is
            fitted and the centre cut out (PVSE, PCME, VSE++).
        fixed_norm: batch normalisation goes by its running statistics while training too (VSE-infinity).
    """

    reads = "pixels"

    def __init__(
        self,
        inputs: ImageInput,
        neck: Neck,
        head: Head,
        *,
        drop: float = 0.0,
        whole: bool = False,
        fixed_norm: bool = False,
    ) -> None:
        super().__init__()
        self.size, self.drop, self.neck, self.head = inputs.size, drop, neck, head
        self.whole, self.fixed_norm = whole, fixed_norm
        self.backbone = resnet(inputs.tower)

    def begin(self, source: str | None) -> str:
        """Start the backbone from a file of its weights (torchvision's names)."""
        if source is not None:
            load_backbone(self.backbone, Path(source))
        return ""

    def prepare(self, pictures: Iterable[Image.Image]) -> Pixels:
        return prepare(list(pictures), self.size, whole=self.whole)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return -(-height // 32), -(-width // 32)

    def seen(self, width: int, height: int) -> tuple[float, float, float, float]:
        return (0.0, 0.0, 1.0, 1.0) if self.whole else crop_of(width, height, self.size)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.fixed_norm:
            self.backbone.eval()
        return self

    def local(self, images: Features | Pixels) -> Locals:
        pixels = _pixels(images, next(self.parameters()).device)
        # Not channels-last: in training mode its batch statistics round differently, and here it is hardly faster.
        grid = self.backbone(pixels.contiguous())
        raw = grid.flatten(2).transpose(1, 2)
        valid = torch.ones(raw.shape[:2], dtype=torch.bool, device=raw.device)
        if self.training and self.drop:
            share = draw("cell share", lambda: torch.rand(len(raw), 1, device=raw.device))
            fate = draw("cell drop", lambda: torch.rand(valid.shape, device=raw.device))
            lost = (share > self.drop) & (fate < self.drop * share)
            valid = torch.where(lost.all(dim=1, keepdim=True), valid, ~lost)
        return _keyed(self, self.neck(raw, valid), pixels)


def _pixels(images: Features | Pixels, device: torch.device) -> Tensor:
    if isinstance(images, Features):
        raise DataError("this run reads pixels, found precomputed features; give pictures (--images PATH)")
    return torch.as_tensor(images.array, dtype=torch.float32, device=device)


def _keyed(tower: PixelTower | BackboneTower, local: Locals, pixels: Tensor) -> Locals:
    if tower.training or not tower.head.keyed:
        return local
    return replace(local, key=key_of_floats(pixels, None))


def _shifted(pixels: Tensor, most: int) -> Tensor:
    """Every picture moved by its own whole number of pixels, edges repeated."""
    if not most:
        return pixels
    n, _, h, w = pixels.shape
    padded = nn.functional.pad(pixels, (most,) * 4, mode="replicate")
    down, right = torch.randint(0, 2 * most + 1, (2, n), device=pixels.device)
    rows = (torch.arange(h, device=pixels.device)[None] + down[:, None])[:, None, :, None]
    columns = (torch.arange(w, device=pixels.device)[None] + right[:, None])[:, None, None, :]
    items = torch.arange(n, device=pixels.device)[:, None, None, None]
    return padded[items, torch.arange(3, device=pixels.device)[None, :, None, None], rows, columns]
