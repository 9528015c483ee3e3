"""A backbone that needs no library and no weights: a fixed random linear map of a grid of mean colours."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from manymatch.data.features import Features, Pixels
from manymatch.encoders.pretrained.base import Backbone


class GridBackbone(Backbone):
    """Fragments (side x side, width) and a pooled vector (2 x width) of pictures brought to 4 x side pixels.

    Attributes:
        looked: how many pictures went through it.
    """

    def __init__(self, *, seed: int = 0, side: int = 4, width: int = 12, fragments: bool = True) -> None:
        super().__init__()
        self.source, self.side = f"fake:grid-{seed}", side
        self.identity: dict[str, Any] = {"fake": seed, "side": side, "width": width, "fragments": fragments}
        draw = torch.Generator().manual_seed(seed)
        self.cells = nn.Parameter(torch.randn(3, width, generator=draw))
        self.whole = nn.Parameter(torch.randn(3 * side * side, 2 * width, generator=draw))
        self.fragments = side * side if fragments else 0
        self.fragment_width = width if fragments else 0
        self.pooled_width = 2 * width
        self.looked = 0

    def prepare(self, pictures: Iterable[Image.Image]) -> Pixels:
        side = (4 * self.side, 4 * self.side)
        arrays = [np.asarray(picture.resize(side), np.float32) / 127.5 - 1 for picture in pictures]
        return Pixels(np.stack(arrays).transpose(0, 3, 1, 2))

    def grid(self, height: int, width: int) -> tuple[int, int]:
        return self.side, self.side

    @torch.inference_mode()
    def features(self, pixels: Pixels) -> Features:
        given = torch.as_tensor(pixels.array, device=self.cells.device)
        self.looked += len(given)
        grid = nn.functional.avg_pool2d(given, 4).permute(0, 2, 3, 1).flatten(1, 2)
        cells = (grid @ self.cells).half().float().cpu().numpy() if self.fragments else None
        whole = (grid.flatten(1) @ self.whole).half().float().cpu().numpy()
        return Features(cells, pooled=whole)
