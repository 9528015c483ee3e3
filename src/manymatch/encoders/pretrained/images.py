"""Image towers over a pretrained network that learns: whole, each layer at a rate of its own, or by LoRA."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from ...data.features import Features, Pixels
from ...errors import CheckpointError
from ..base import Head, ImageTower, Locals
from ..images import ImageInput
from ..noise import key_of_floats
from ..regions import FeatureTower
from .hub import Found, digest, find, pinned, weight_files
from .looking import Looking, read_vision
from .lora import adapt, is_own
from .rates import layer_rates
from .vision import VisionNetwork, tensors_of

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["TunedTower", "look_at_tuned"]


def look_at_tuned(source: str, tuning: str, rank: int) -> ImageInput:
    """What a tower that learns is given: the network's sizes, and all that it is built again from.

    Raises:
        DataError, UnknownName: as `read_vision`.
    """
    found = find(source)
    looking = read_vision(found)
    facts: dict[str, Any] = {"source": source, "tuning": tuning, "looking": looking.to_json()}
    facts |= {"revision": found.revision} if found.revision else {}
    if tuning == "lora":
        facts |= {"rank": rank, "weights": _digest(found)}
    return ImageInput("hf", looking.cells, looking.width, looking.pooled_width, backbone=facts)


class TunedTower(ImageTower):
    """A pretrained network that learns, and what a tower on features makes of its patches and its pooled vector.

    Tuned whole, its weights are the run's. Under LoRA the network's own weights stay in its folder: the run holds the
    matrices beside them, and the digest of the file they belong to. Under LoRA the network runs as in evaluation;
    tuned whole, with the dropout its configuration says.

    Args:
        inputs: as `look_at_tuned` gives them.
        inner: the tower on features; where it would standardise them by the training split, they go through a norm
            that learns instead, as they change while the network does.
        rate, decay: as `layer_rates`, tuned whole. LoRA's matrices learn at the full rate.

    Raises:
        CheckpointError: LoRA, and the folder holds other weights than the run was trained on.
        DataError: LoRA, and the folder is not found.
    """

    reads = "pixels"

    def __init__(self, inputs: ImageInput, inner: FeatureTower, *, rate: float, decay: float) -> None:
        super().__init__()
        assert inputs.backbone is not None
        facts = inputs.backbone
        self.source, self.by_lora = str(facts["source"]), facts["tuning"] == "lora"
        self.looking = Looking.from_json(facts["looking"])
        self.rate, self.decay = rate, decay
        if self.by_lora:
            self.backbone = VisionNetwork(self.looking, _same(facts))
            adapt(self.backbone, rank=int(facts["rank"]))
        else:
            self.backbone = VisionNetwork(self.looking)
        self.inner = inner
        inner.norm_instead()

    @property
    def head(self) -> Head:  # type: ignore[override]
        """The inner tower's."""
        return self.inner.head

    def begin(self, source: str | None) -> str:
        """Start from the weights in the network's folder."""
        if not self.by_lora:
            self.backbone.load(find(self.source))
        own = sum(p.numel() for name, p in self.backbone.named_parameters() if p.requires_grad)
        return f"{self.source}: {own:,} numbers of it {'are added and ' if self.by_lora else ''}tuned"

    def rates(self) -> Mapping[str, float]:
        if self.by_lora:
            return {}
        found = layer_rates(self.backbone.body, rate=self.rate, decay=self.decay)
        out = {f"backbone.body.{start}": factor for start, factor in found.items()}
        return {**out, "backbone.projection.": self.rate}

    def borrowed(self, name: str) -> bool:
        return self.by_lora and name.startswith("backbone.") and not is_own(name)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.by_lora:
            self.backbone.eval()
        return self

    def prepare(self, pictures: Iterable[Image.Image]) -> Pixels:
        return self.looking.preprocessing.pixels(pictures)

    def grid(self, height: int, width: int) -> tuple[int, int] | None:
        return self.looking.grid(height, width)

    def seen(self, width: int, height: int) -> tuple[float, float, float, float]:
        return self.looking.seen(width, height)

    def local(self, images: Features | Pixels) -> Locals:
        array, grids = tensors_of(images, self.looking, next(self.inner.parameters()).device)
        local = self.inner.read(*self.backbone(array, grids))
        if self.training or not self.head.keyed:
            return local
        return replace(local, key=key_of_floats(array))


def _digest(found: Found) -> str:
    return digest(found, *(path.name for path in weight_files(found.folder)))


def _same(facts: Mapping[str, Any]) -> Found:
    """The folder that LoRA's matrices belong to."""
    found = find(pinned(facts))
    if (now := _digest(found)) != facts["weights"]:
        raise CheckpointError(
            f"image tower {facts['source']!r}: {found.folder} holds other weights (SHA-256 {now[:12]}...) than the run "
            f"was trained on ({facts['weights'][:12]}...); get those again"
        )
    return found
