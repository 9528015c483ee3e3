"""Pretrained networks as towers: from a folder, the Hugging Face hub's cache, or an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import CheckpointError, UnknownName

if TYPE_CHECKING:
    from ..base import ImageTower
    from ..images import ImageInput
    from .base import Backbone

__all__ = ["is_pretrained", "on_backbone", "open_backbone", "pooled_alone", "settled"]

_KINDS = ("hf", "onnx")


def is_pretrained(tower: str | None) -> bool:
    """Whether a tower is named as a pretrained network, "hf:..." or "onnx:..."."""
    kind, colon, _ = (tower or "").partition(":")
    return bool(colon) and kind in _KINDS


def settled(source: str) -> str:
    """The source as it is found again from any working directory: a path becomes absolute, a name stays."""
    kind, _, name = source.partition(":")
    path = Path(name).expanduser()
    return f"{kind}:{path.resolve()}" if name and path.exists() else source


def open_backbone(source: str, *, fragments: bool = True) -> Backbone:
    """A frozen image network: "hf:NAME", "hf:FOLDER" or "onnx:FILE".

    Args:
        source: as `--image-tower` takes it.
        fragments: give patches too, where it has some, or the pooled vector alone.

    Raises:
        UnknownName: another kind of source.
        DataError: it is not found, not an image network, or its library is not installed.
    """
    kind = source.partition(":")[0]
    if kind == "hf":
        from .vision import open_vision

        return open_vision(source, fragments=fragments)
    if kind == "onnx":
        from .onnx import open_onnx

        return open_onnx(source, fragments=fragments)
    raise UnknownName("kind of pretrained image tower", kind, ["hf:NAME", "hf:FOLDER", "onnx:FILE"])


def pooled_alone(inputs: ImageInput) -> ImageInput:
    """The same input without the fragments of its frozen network, for a tower that reads none; others as they are.

    Nor are they then computed, or kept in a feature store. A network without a pooled vector keeps its fragments.
    """
    facts = inputs.backbone
    if facts is None or facts["tuning"] != "frozen" or not (inputs.fragments and inputs.pooled_width):
        return inputs
    from .hub import pinned

    identity = dict(open_backbone(pinned(facts), fragments=False).identity)
    return replace(inputs, fragments=0, fragment_width=0, backbone={**facts, "fragments": False, "identity": identity})


def on_backbone(inputs: ImageInput, inner: ImageTower, *, rate: float, decay: float) -> ImageTower:
    """The tower over the pretrained network of `inputs.backbone`.

    Args:
        inputs: as `look_at` gives them for a pretrained network.
        inner: the tower on features of these sizes.
        rate, decay: of the layers of a network that is tuned whole; see `layer_rates`.

    Raises:
        CheckpointError: what is found under its name gives other features than the run was trained on.
        DataError, UnknownName: as `open_backbone`.
    """
    facts = inputs.backbone
    assert facts is not None
    if facts["tuning"] != "frozen":
        from ..regions import FeatureTower
        from .images import TunedTower

        assert isinstance(inner, FeatureTower)
        return TunedTower(inputs, inner, rate=rate, decay=decay)
    from .backed import Backed
    from .hub import pinned

    # A method may leave out what it does not read of the inputs; what the network was asked for stands in the facts.
    backbone = open_backbone(pinned(facts), fragments=facts.get("fragments", bool(inputs.fragments)))
    backbone.source = facts["source"]
    if odd := _differs(facts["identity"], backbone.identity):
        raise CheckpointError(
            f"image tower {facts['source']!r}: another {odd} than the run was trained on; get that again, or put its "
            "folder into the one that MANYMATCH_TOWERS names"
        )
    return Backed(backbone, inner)


def _differs(trained: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first fact that differs; empty where none does."""
    return next((name for name in sorted({*trained, *now}) if trained.get(name) != now.get(name)), "")
