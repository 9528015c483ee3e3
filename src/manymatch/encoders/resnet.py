"""ResNet 18 to 152 and ResNeXt-101 32x8d: pictures to a grid of cells, with the names torchvision gives the weights.

Deep Residual Learning for Image Recognition (He et al., 2016; the stride of a bottleneck lies in its 3 x 3 convolution,
as in torchvision) and Aggregated Residual Transformations (Xie et al., 2017). PVSE and PCME take ResNet-152 at 224
pixels, which gives 7 x 7 cells; DivE and VSE-infinity take ResNeXt-101 at 512 pixels, 16 x 16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor, nn

from ..data.features import Pixels
from ..errors import CheckpointError, UnknownName
from .torch_files import read_weights

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "RESNETS", "ResNet", "crop_of", "load_backbone", "prepare", "resnet"]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of red, green and blue in [0, 1]; what all published weights expect."""


@dataclass(frozen=True)
class _Plan:
    """Blocks of the four stages; bottleneck or basic; groups of the 3 x 3 convolution and its width per 64."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool
    groups: int = 1
    group_width: int = 64


_PLANS = {
    "resnet18": _Plan((2, 2, 2, 2), bottleneck=False),
    "resnet34": _Plan((3, 4, 6, 3), bottleneck=False),
    "resnet50": _Plan((3, 4, 6, 3), bottleneck=True),
    "resnet101": _Plan((3, 4, 23, 3), bottleneck=True),
    "resnet152": _Plan((3, 8, 36, 3), bottleneck=True),
    "resnext101_32x8d": _Plan((3, 4, 23, 3), bottleneck=True, groups=32, group_width=8),
}
RESNETS = {name: 2048 if plan.bottleneck else 512 for name, plan in _PLANS.items()}
"""The names `resnet` knows, and how wide their grids are."""


def _conv(inputs: int, outputs: int, side: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, groups=groups, bias=False)


class _Basic(nn.Module):
    """Two 3 x 3 convolutions around a shortcut: (n, inputs, h, w) -> (n, width, h / stride, w / stride)."""

    def __init__(self, inputs: int, width: int, stride: int, plan: _Plan) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, width, 3, stride), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2, self.bn2 = _conv(width, width, 3), nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, cells: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(cells)))
        out = self.bn2(self.conv2(out))
        out += cells if self.downsample is None else self.downsample(cells)
        return self.relu(out)


class _Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions around a shortcut; four times as many channels leave as the stage's width."""

    def __init__(self, inputs: int, width: int, stride: int, plan: _Plan) -> None:
        super().__init__()
        inner, outputs = width * plan.group_width // 64 * plan.groups, width * 4
        self.conv1, self.bn1 = _conv(inputs, inner, 1), nn.BatchNorm2d(inner)
        self.conv2, self.bn2 = _conv(inner, inner, 3, stride, plan.groups), nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = _conv(inner, outputs, 1), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, cells: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(cells)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += cells if self.downsample is None else self.downsample(cells)
        return self.relu(out)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """Normalised pixels (n, 3, h, w) to a grid (n, width, ceil(h / 32), ceil(w / 32)), in any memory format.

    Without average pooling and classifier. Names and shapes of its state are those of torchvision, less `fc`. Channels
    last is up to an eighth faster on a CPU; while training, batch norm then sums in an order that moves a grid by 3e-4.

    Attributes:
        name: "resnet152" and so on.
        width: channels of a cell, 512 or 2,048.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        plan = _PLANS[name]
        self.name = name
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False), nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        block: type[_Basic | _Bottleneck] = _Bottleneck if plan.bottleneck else _Basic
        growth = 4 if plan.bottleneck else 1
        inputs, stages = 64, []
        for stage, count in enumerate(plan.blocks):
            width = 64 * 2**stage
            strides = [1 if stage == 0 else 2] + [1] * (count - 1)
            befores = [inputs] + [width * growth] * (count - 1)
            layers = [block(b, width, s, plan) for b, s in zip(befores, strides, strict=True)]
            stages.append(nn.Sequential(*layers))
            inputs = width * growth
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.width = inputs
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pixels: Tensor) -> Tensor:
        cells = self.maxpool(self.relu(self.bn1(self.conv1(pixels))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            cells = stage(cells)
        return cells


def resnet(name: str) -> ResNet:
    """A ResNet with random weights, by torchvision's name. Raises UnknownName."""
    if name not in _PLANS:
        raise UnknownName("backbone", name, _PLANS)
    return ResNet(name)


def load_backbone(net: ResNet, path: str | Path) -> None:
    """Start from weights in a file: torchvision's own (`.pth`), the same as safetensors, or a backbone saved alone.

    The classifier `fc` is left out, and so is "module." that data-parallel training puts before names.

    Raises:
        DataError: no such file.
        CheckpointError: not a file of weights, or of another network; `net` is then as it was.
    """
    found = {k.removeprefix("module."): v for k, v in read_weights(path, what="backbone").items()}
    found = {k: v for k, v in found.items() if not k.startswith("fc.")}
    # torch before 0.4.1 did not count batches; the count is not used.
    wanted = {k: v for k, v in net.state_dict().items() if k in found or not k.endswith("num_batches_tracked")}
    missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or extra:
        name = (missing or extra)[0]
        raise CheckpointError(
            f"backbone: {str(path)!r} is not {net.name}: {len(missing)} of {len(wanted)} tensors are missing and "
            f"{len(extra)} too many, {name!r} the first; give the weights of {net.name} with torchvision's names"
        )
    for name, value in wanted.items():
        if found[name].shape != value.shape:
            raise CheckpointError(
                f"backbone: {str(path)!r} is not {net.name}: {name!r} is {tuple(found[name].shape)}, "
                f"expected {tuple(value.shape)}; give the weights of {net.name}"
            )
    net.load_state_dict({**net.state_dict(), **found})


def prepare(pictures: Sequence[Image.Image], size: int = 224, *, whole: bool = False) -> Pixels:
    """Pictures as published backbones saw them when tested: shorter side to 8/7 of `size`, centre crop, normalised.

    256 and 224 in PVSE (`data.py`, get_image_transform) and PCME (`datasets/_transforms.py`, imagenet_transform),
    bilinear, as torchvision's Resize and CenterCrop do it on PIL pictures: the longer side is rounded down, the corner
    of the crop to the nearest even.

    Args:
        pictures: RGB, or turned into it.
        size: side in pixels of what comes out.
        whole: cut nothing away, squash to `size` x `size` instead (grids of VSE-infinity and DivE, at 512).

    Returns:
        (n, 3, size, size) float32 with ImageNet's mean taken off and divided by its standard deviation.
    """
    array = np.zeros((len(pictures), 3, size, size), np.float32)
    for n, picture in enumerate(pictures):
        rgb = picture.convert("RGB")
        made = rgb.resize((size, size), Image.Resampling.BILINEAR) if whole else _cropped(rgb, size)
        array[n] = np.asarray(made, np.float32).transpose(2, 0, 1)
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (IMAGENET_MEAN, IMAGENET_STD))
    array /= 255.0
    array -= mean
    array /= std
    return Pixels(array)


def crop_of(width: int, height: int, size: int) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of what `prepare` cuts out of a picture of this size, in shares of its sides."""
    scaled, (left, top) = _placed(width, height, size)
    return left / scaled[0], top / scaled[1], (left + size) / scaled[0], (top + size) / scaled[1]


def _placed(width: int, height: int, size: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """The size a picture is scaled to, and the left upper corner of the crop in it."""
    shorter, short = size * 8 // 7, min(width, height)
    scaled = (shorter * width // short, shorter * height // short)
    return scaled, (round((scaled[0] - size) / 2), round((scaled[1] - size) / 2))


def _cropped(picture: Image.Image, size: int) -> Image.Image:
    scaled, (left, top) = _placed(*picture.size, size)
    if scaled != picture.size:
        picture = picture.resize(scaled, Image.Resampling.BILINEAR)
    return picture.crop((left, top, left + size, top + size))
