"""A frozen backbone and a tower on what it gives: pictures in, or features that a store has kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from ...data.features import Features, Pixels
from ...data.pairs import Images, Item, Pairs, Pictures
from ...embeddings import Encoded
from ...errors import DataError
from ..base import Head, ImageTower, Locals
from ..images import ImageInput, backbone_of
from ..noise import key_of_floats
from .base import Backbone

if TYPE_CHECKING:
    from PIL import Image

    from ...data.store import Where

__all__ = ["AsIs", "Backed", "Computed"]

_BATCH = 32
"""Pictures that go through a backbone at a time where nobody says."""


class AsIs(ImageTower):
    """The pooled vector as it is: nothing is learned."""

    reads = "features"

    def __init__(self, inputs: ImageInput, head: Head) -> None:
        super().__init__()
        if not inputs.pooled_width:
            raise DataError("this image tower takes a pooled vector as it is, and its backbone gives fragments alone")
        self.inputs, self.head = inputs, head
        # No weight of the tower says where it is; saved states do without.
        self.register_buffer("place", torch.zeros(0), persistent=False)

    place: Tensor

    def local(self, images: Features | Pixels) -> Locals:
        if isinstance(images, Pixels):
            raise DataError("this tower reads features, found pixels; give Features with a pooled vector")
        self.inputs.expect(images)
        if images.pooled is None:
            raise DataError("this run reads a pooled vector, found only fragments; give --pooled FILE")
        pooled = torch.as_tensor(images.pooled, dtype=torch.float32, device=self.place.device)
        local = Locals(pooled[:, None, :], torch.ones_like(pooled[:, :1], dtype=torch.bool), pooled)
        return replace(local, key=key_of_floats(pooled, None)) if self.head.keyed else local


class Backed(ImageTower):
    """A frozen backbone, and a tower on its features.

    The backbone's weights are no part of the run: they are in no state and no list of parameters, but follow the tower
    from device to device. What it gives is the same whether it was computed now or read from a store.

    Args:
        backbone: pictures to features.
        inner: features to embeddings; what is learned.
    """

    reads = "pixels"

    def __init__(self, backbone: Backbone, inner: ImageTower) -> None:
        super().__init__()
        # In a tuple, a module is not seen as a part.
        self._held = (backbone.eval().requires_grad_(False),)
        self.inner = inner

    @property
    def backbone(self) -> Backbone:
        return self._held[0]

    @property
    def head(self) -> Head:  # type: ignore[override]
        """The inner tower's."""
        return self.inner.head

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self.backbone._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def begin(self, source: str | None) -> str:
        """The source named the backbone, which is there already; what there is to know of it."""
        return self.backbone.note

    # ---- features that were computed before

    def takes(self, images: Images) -> bool:
        """Whether the stored features of these images are what the backbone gives."""
        return backbone_of(images.features) == self.backbone.key

    def supply(self, pairs: Pairs, store: Where = None, say: Callable[[str], None] | None = None) -> Pairs:
        """The pairs with the backbone's features from the store; missing ones are computed into it now, and said.

        Pictures that cannot be read are left out, each a problem of the pairs.

        Raises:
            DataError: no pictures, or none that can be read; the store cannot be written.
        """
        from .extract import supplied

        return pairs if self.takes(pairs.images) else supplied(store, self.backbone, pairs, say=say)

    def fit_input(self, images: Images) -> None:
        """Statistics of the training images; without stored features the backbone looks at every picture."""
        if not self.takes(images):
            images = Images(images.items, images.pictures, Computed(self.backbone, images.pictures))
        self.inner.fit_input(images)

    # ---- pictures

    def prepare(self, pictures: Iterable[Image.Image]) -> Pixels:
        return self.backbone.prepare(pictures)

    def grid(self, height: int, width: int) -> tuple[int, int] | None:
        return self.backbone.grid(height, width)

    def seen(self, width: int, height: int) -> tuple[float, float, float, float]:
        return self.backbone.seen(width, height)

    def features(self, images: Features | Pixels) -> Features:
        """What the backbone gives of pixels; features pass."""
        if isinstance(images, Features):
            return images
        # A run that trains in bfloat16 must see what a store would have given it.
        with torch.autocast(_device(self.backbone).type, enabled=False):
            return self.backbone.features(images)

    def local(self, images: Features | Pixels) -> Locals:
        return self.inner.local(self.features(images))

    def forward(self, images: Features | Pixels) -> Encoded:
        return self.inner(self.features(images))


class Computed:
    """Features of items as a backbone gives them, computed each time they are asked for (`FeatureRows`)."""

    def __init__(self, backbone: Backbone, pictures: Pictures | None) -> None:
        self.backbone, self.pictures, self.key = backbone, pictures, backbone.key

    def sizes(self) -> dict[str, int]:
        """As `FeatureRows.sizes`."""
        return sizes_of(self.backbone)

    def get(self, items: Sequence[Item]) -> Features:
        """Features of the items, from their pictures. Raises DataError at the first that cannot be read."""
        images = Images(items, self.pictures)
        blocks = [images[start : start + _BATCH].decode() for start in range(0, len(items), _BATCH)]
        return joined([self.backbone.features(self.backbone.prepare(block)) for block in blocks])


def sizes_of(backbone: Backbone) -> dict[str, int]:
    """`fragments` (f), `fragment_width` (c), `pooled_width` (p), each where the backbone gives it."""
    out = {"fragments": backbone.fragments, "fragment_width": backbone.fragment_width} if backbone.fragments else {}
    return {**out, "pooled_width": backbone.pooled_width} if backbone.pooled_width else out


def joined(parts: Sequence[Features]) -> Features:
    """Features one after the other. Parts without lengths among those with some have all of theirs."""
    import numpy as np

    def side(values: list[Any]) -> Any:
        return None if values[0] is None else np.concatenate(values)

    lengths = None
    if any(part.lengths is not None for part in parts):
        lengths = np.concatenate(
            [np.full(len(p), p.vectors.shape[1]) if p.lengths is None else p.lengths for p in parts]  # type: ignore[union-attr]
        )
    return Features(side([p.vectors for p in parts]), lengths, side([p.pooled for p in parts]))


def _device(module: nn.Module) -> torch.device:
    tensor = next(module.parameters(), next(module.buffers(), None))
    return torch.device("cpu") if tensor is None else tensor.device
