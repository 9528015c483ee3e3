"""A frozen pretrained network as a source of features: pictures in, fragments and a pooled vector out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ...data.features import Features, Pixels

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["LARGEST_HALF", "Backbone"]

LARGEST_HALF = 65504.0
"""What is beyond the range of float16 becomes this, with its sign."""


class Backbone(nn.Module):
    """Pictures to features, with weights that do not change.

    Features are what float16 holds, so that those read from a feature store and those computed now are the same
    numbers.

    Attributes:
        source: as the user named it, "hf:NAME", "hf:FOLDER" or "onnx:FILE".
        identity: JSON that changes when and only when the features of a picture may: digest of weights and
            configuration, preprocessing, what is read of the network (fragments too, or the pooled vector alone).
            Neither paths nor names nor revisions.
        fragments, fragment_width, pooled_width: f, c and p of what it gives; 0 for what it does not give.
        revision: the hub's commit it was found at; empty elsewhere.
        note: what a user should know of it, in one line.
    """

    source: str
    identity: Mapping[str, Any]
    fragments: int
    fragment_width: int
    pooled_width: int
    revision: str = ""
    note: str = ""

    @property
    def key(self) -> str:
        """SHA-256 of the identity, hex: what a feature store files features under."""
        return hashlib.sha256(json.dumps(dict(self.identity), sort_keys=True).encode()).hexdigest()

    def prepare(self, pictures: Iterable[Image.Image]) -> Pixels:
        """Pictures as the network reads them."""
        raise NotImplementedError

    def grid(self, height: int, width: int) -> tuple[int, int] | None:
        """Rows and columns of the fragments, row by row; None where they are no grid."""
        return None

    def seen(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of what `prepare` keeps of a picture of this size, in shares of its sides."""
        return 0.0, 0.0, 1.0, 1.0

    @torch.inference_mode()
    def features(self, pixels: Pixels) -> Features:
        """Features of n pictures, float32 arrays of values that float16 holds."""
        raise NotImplementedError
