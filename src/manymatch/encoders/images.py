"""Image towers: precomputed fragments with an optional pooled vector, or a small CNN on pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..data.features import Features, Pixels
from ..data.pairs import Images, Pairs
from ..embeddings import Encoded
from ..errors import DataError, UnknownName
from .base import Head, ImageTower, Locals, lengths_to_valid
from .pooling import max_mean_pool, max_pool
from .standardise import Standardise

__all__ = [
    "FeatureTower",
    "ImageInput",
    "PixelTower",
    "RegionProjector",
    "SmallCNN",
    "feature_blocks",
    "look_at",
    "real_fragments",
]

_BLOCK = 512
_LOOKED_AT = 32


@dataclass(frozen=True)
class ImageInput:
    """What an image tower will be given: written into the run, enough to build the tower again.

    Attributes:
        tower: "features" or "cnn".
        fragments, fragment_width: f and c of precomputed fragments, 0 without.
        pooled_width: p of a precomputed pooled vector, 0 without.
        size: side in pixels that pictures are scaled to ("cnn").
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


def look_at(pairs: Pairs, tower: str | None, *, longest_side: int) -> ImageInput:
    """Choose the tower the data allow ("features" where there are some, else "cnn") and measure its input.

    Raises:
        UnknownName: a tower that does not exist.
        DataError: the data do not hold what the tower reads.
    """
    chosen = tower or ("features" if pairs.features is not None else "cnn")
    if chosen not in ("features", "cnn"):
        raise UnknownName("image tower", chosen, ("features", "cnn"))
    if chosen == "features":
        if pairs.features is None:
            raise DataError("image tower 'features': the pairs have no features; give --features FILE or --pooled FILE")
        sizes = pairs.features.sizes()
        return ImageInput(
            "features", sizes.get("fragments", 0), sizes.get("fragment_width", 0), sizes.get("pooled_width", 0)
        )
    if pairs.pictures is None:
        raise DataError("image tower 'cnn': the pairs have no pictures; give --images PATH (a folder or a tar)")
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


class RegionProjector(nn.Module):
    """Fragments to the joint width, residually (authors' code of VSE-infinity and DivE).

        r = fc(x) + mlp(y),  mlp = Linear -> norm -> ReLU -> Linear,  y = x ("vse_infty") or fc(x) ("dive")

    Args:
        inputs, dim, hidden: widths c, d and of the mlp.
        form: which `y`.
        norm: "batch" as published (padding enters its statistics while training), or "layer".
    """

    def __init__(
        self,
        inputs: int,
        dim: int,
        hidden: int,
        *,
        form: Literal["dive", "vse_infty"] = "dive",
        norm: Literal["batch", "layer"] = "batch",
    ) -> None:
        super().__init__()
        self.form = form
        self.fc = nn.Linear(inputs, dim)
        self.inner = nn.Linear(dim if form == "dive" else inputs, hidden)
        self.norm: nn.Module = nn.BatchNorm1d(hidden) if norm == "batch" else nn.LayerNorm(hidden)
        self.outer = nn.Linear(hidden, dim)

    def forward(self, vectors: Tensor) -> Tensor:
        """(n, f, c) -> (n, f, d)."""
        wide = self.fc(vectors)
        inner = self.inner(wide if self.form == "dive" else vectors)
        inner = self.norm(inner.flatten(0, 1)).view_as(inner)
        return wide + self.outer(inner.relu())


class FeatureTower(ImageTower):
    """Precomputed fragments and pooled vector to an embedding.

    The global vector is the pooled fragments plus, where a pooled vector is given, a linear and a two-layer map of it.

    Args:
        inputs: sizes of what comes in.
        head: makes the embedding.
        dim: joint width d.
        hidden: width of the projector's inner layer.
        pooling: "max" (published) or "max_mean".
        norm: of the projector.
        use_pooled: read the pooled vector when there is one.
        standardise: bring features to one scale first; False takes them as they are.
        dropout, feature_dropout: after the projector; on the standardised input.
        drop: probability with which a fragment is left out while training (VSE-infinity: 0.2).
    """

    reads = "features"

    def __init__(
        self,
        inputs: ImageInput,
        head: Head,
        *,
        dim: int,
        hidden: int,
        pooling: Literal["max", "max_mean"] = "max_mean",
        norm: Literal["batch", "layer"] = "batch",
        use_pooled: bool = True,
        standardise: bool = True,
        dropout: float = 0.1,
        feature_dropout: float = 0.0,
        drop: float = 0.2,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.drop, self.pool = drop, max_pool if pooling == "max" else max_mean_pool
        self.head = head
        self.dropout = nn.Dropout(dropout)
        self.fragment_dropout, self.pooled_dropout = nn.Dropout(feature_dropout / 2), nn.Dropout(feature_dropout)
        if inputs.fragments:
            self.fragment_scale = Standardise(inputs.fragment_width, power=0.5) if standardise else nn.Identity()
            self.projector = RegionProjector(inputs.fragment_width, dim, hidden, norm=norm)
        self.has_fragments = bool(inputs.fragments)
        self.has_pooled = bool(inputs.pooled_width) and (use_pooled or not inputs.fragments)
        if self.has_pooled:
            self.pooled_scale = Standardise(inputs.pooled_width) if standardise else nn.Identity()
            self.pooled_linear = nn.Linear(inputs.pooled_width, dim)
            self.pooled_mlp = nn.Sequential(
                nn.Linear(inputs.pooled_width, dim), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dim, dim)
            )

    def fit_input(self, images: Images) -> None:
        """Statistics of the training images, streamed."""
        if self.has_fragments and isinstance(self.fragment_scale, Standardise):
            self.fragment_scale.fit(lambda: (real_fragments(f) for f in feature_blocks(images)))
        if self.has_pooled and isinstance(self.pooled_scale, Standardise):
            self.pooled_scale.fit(lambda: (f.pooled for f in feature_blocks(images) if f.pooled is not None))

    def forward(self, images: Features | Pixels) -> Encoded:
        if isinstance(images, Pixels):
            raise DataError("this run reads precomputed features and has no backbone to look at a picture; use like=ID")
        self.inputs.expect(images)
        pooled = self._pooled(images) if self.has_pooled else None
        if not self.has_fragments:
            assert pooled is not None
            return self.head(Locals(pooled[:, None, :], torch.ones_like(pooled[:, :1], dtype=torch.bool), pooled))
        if images.vectors is None:
            raise DataError("this run reads fragments, found only pooled vectors; give --features FILE")
        vectors, valid = self._fragments(images)
        whole = self.pool(vectors, valid)
        return self.head(Locals(vectors, valid, whole if pooled is None else whole + pooled))

    def _fragments(self, images: Features) -> tuple[Tensor, Tensor]:
        device = self.projector.fc.weight.device
        raw = torch.as_tensor(images.vectors, dtype=torch.float32, device=device)
        valid = torch.ones(raw.shape[:2], dtype=torch.bool, device=device)
        if images.lengths is not None:
            valid = lengths_to_valid(torch.as_tensor(images.lengths, device=device), raw.shape[1])
        if self.training and self.drop:
            kept = valid & (torch.rand(valid.shape, device=device) > self.drop)
            valid = torch.where(kept.any(dim=1, keepdim=True), kept, valid)
        vectors = self.fragment_dropout(self.fragment_scale(raw)).masked_fill(~valid[..., None], 0.0)
        return self.dropout(self.projector(vectors)), valid

    def _pooled(self, images: Features) -> Tensor:
        if images.pooled is None:
            raise DataError("this run reads a pooled vector, found only fragments; give --pooled FILE")
        raw = torch.as_tensor(images.pooled, dtype=torch.float32, device=self.pooled_linear.weight.device)
        scaled = self.pooled_dropout(self.pooled_scale(raw))
        out: Tensor = self.pooled_linear(scaled) + self.pooled_mlp(scaled)
        return out


def real_fragments(features: Features) -> np.ndarray[Any, Any]:
    """The valid fragments only, (m, c)."""
    assert features.vectors is not None
    if features.lengths is None:
        return features.vectors.reshape(-1, features.vectors.shape[-1])
    return features.vectors[np.arange(features.vectors.shape[1])[None, :] < features.lengths[:, None]]


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

    def __init__(self, inputs: ImageInput, head: Head, *, dim: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.size, self.head = inputs.size, head
        self.cnn = SmallCNN(dim)
        cells = (-(-inputs.size // 16)) ** 2
        self.place = nn.Parameter(torch.randn(cells, dim) * 0.02)
        narrow = max(1, dim // 8)
        self.whole = nn.Sequential(nn.Linear(cells * narrow, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.squeeze = nn.Linear(dim, narrow)
        self.dropout = nn.Dropout(dropout)

    def prepare(self, pictures: Iterable[Image.Image]) -> Pixels:
        """RGB pictures to (n, 3, size, size) in [-1, 1]; the aspect ratio is squashed, nothing is cropped away."""
        side = (self.size, self.size)
        scaled = [np.asarray(p.convert("RGB").resize(side, Image.Resampling.BILINEAR)) for p in pictures]
        array = np.stack(scaled) if scaled else np.zeros((0, *side, 3), np.uint8)
        return Pixels(array.transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1.0)

    def forward(self, images: Features | Pixels) -> Encoded:
        if isinstance(images, Features):
            raise DataError("this run reads pixels, found precomputed features; give pictures (--images PATH)")
        pixels = torch.as_tensor(images.array, dtype=torch.float32, device=self.place.device)
        if tuple(pixels.shape[2:]) != (self.size, self.size):
            raise DataError(f"pixels: {tuple(pixels.shape[2:])}, but the run reads {self.size} x {self.size}")
        if self.training:
            pixels = _shifted(pixels, self.size // 16)
        vectors = self.dropout(self.cnn(pixels) + self.place)
        valid = torch.ones(vectors.shape[:2], dtype=torch.bool, device=vectors.device)
        whole = max_mean_pool(vectors, valid) + self.whole(self.squeeze(vectors).flatten(1))
        return self.head(Locals(vectors, valid, whole))


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
