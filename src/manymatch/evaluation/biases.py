"""What is taken off scores before they rank: one number an item, for either modality that asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Biases"]

Floats = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Biases:
    """Of a query bank.

    Attributes:
        captions: (c,), of captions when images ask (image to text).
        images: (i,), of images when captions ask (text to image).
    """

    captions: Floats
    images: Floats

    def of(self, direction: str) -> Floats:
        """Those of what "i2t" or "t2i" ranks."""
        return self.captions if direction == "i2t" else self.images
