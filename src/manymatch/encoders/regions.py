"""The image tower on precomputed features: fragments, a pooled vector, or both."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ..data.features import Features, Pixels
from ..data.pairs import Images
from ..draws import draw
from ..errors import DataError
from .base import Head, ImageTower, Locals, lengths_to_valid
from .dropout import Dropout
from .images import ImageInput, feature_blocks, real_fragments
from .necks import Neck
from .noise import key_of_floats
from .standardise import Standardise

__all__ = ["FeatureTower"]


class FeatureTower(ImageTower):
    """Precomputed fragments and pooled vector to an embedding.

    The global vector is the neck's plus, where a pooled vector is given, a linear (and a two-layer) map of it.

    Args:
        inputs: sizes of what comes in.
        neck: fragments to the head; None where there are no fragments.
        head: makes the embedding.
        dim: joint width d.
        use_pooled: read the pooled vector when there is one.
        pooled_form: "linear" (VSE++, Xavier uniform at the start as there), or "linear_mlp" for a two-layer map beside
            it.
        standardise: bring features to one scale first; False takes them as they are.
        dropout, feature_dropout: in the map of the pooled vector; on the standardised input.
        drop: probability with which a fragment is left out while training (VSE-infinity: 0.2).
    """

    reads = "features"

    def __init__(
        self,
        inputs: ImageInput,
        neck: Neck | None,
        head: Head,
        *,
        dim: int,
        use_pooled: bool = True,
        pooled_form: Literal["linear_mlp", "linear"] = "linear_mlp",
        standardise: bool = True,
        dropout: float = 0.1,
        feature_dropout: float = 0.0,
        drop: float = 0.2,
    ) -> None:
        super().__init__()
        self.inputs, self.drop = inputs, drop
        self.fragment_dropout, self.pooled_dropout = Dropout(feature_dropout / 2), Dropout(feature_dropout)
        self.neck, self.head = neck, head
        if neck is not None:
            self.fragment_scale = Standardise(inputs.fragment_width, power=0.5) if standardise else nn.Identity()
        self.has_pooled = bool(inputs.pooled_width) and (use_pooled or neck is None)
        if self.has_pooled:
            self.pooled_scale = Standardise(inputs.pooled_width) if standardise else nn.Identity()
            self.pooled_linear = nn.Linear(inputs.pooled_width, dim)
            self.pooled_mlp = None
            if pooled_form == "linear":
                nn.init.xavier_uniform_(self.pooled_linear.weight)
                nn.init.zeros_(self.pooled_linear.bias)
            else:
                self.pooled_mlp = nn.Sequential(
                    nn.Linear(inputs.pooled_width, dim), nn.ReLU(), Dropout(dropout), nn.Linear(dim, dim)
                )

    def fit_input(self, images: Images) -> None:
        """Statistics of the training images, streamed."""
        if self.neck is not None and isinstance(self.fragment_scale, Standardise):
            self.fragment_scale.fit(lambda: (real_fragments(f) for f in feature_blocks(images)))
        if self.has_pooled and isinstance(self.pooled_scale, Standardise):
            self.pooled_scale.fit(lambda: (f.pooled for f in feature_blocks(images) if f.pooled is not None))

    def local(self, images: Features | Pixels) -> Locals:
        if isinstance(images, Pixels):
            raise DataError("this run reads precomputed features and has no backbone to look at a picture; use like=ID")
        self.inputs.expect(images)
        pooled = self._pooled(images) if self.has_pooled else None
        if self.neck is None:
            assert pooled is not None
            one = torch.ones_like(pooled[:, :1], dtype=torch.bool)
            return self._keyed(Locals(pooled[:, None, :], one, pooled), images)
        if images.vectors is None:
            raise DataError("this run reads fragments, found only pooled vectors; give --features FILE")
        vectors, valid = self._fragments(images)
        return self._keyed(self.neck(vectors, valid, pooled), images)

    def _keyed(self, local: Locals, images: Features) -> Locals:
        if self.training or not self.head.keyed:
            return local
        source = images.pooled if self.has_pooled else images.vectors
        lengths = None if self.has_pooled or images.lengths is None else torch.as_tensor(images.lengths)
        values = torch.as_tensor(source, dtype=torch.float32)
        valid = None if lengths is None else lengths_to_valid(lengths, values.shape[1])
        return replace(local, key=key_of_floats(values, valid).to(local.pooled.device))

    def _fragments(self, images: Features) -> tuple[Tensor, Tensor]:
        assert self.neck is not None
        device = next(self.neck.parameters()).device
        raw = torch.as_tensor(images.vectors, dtype=torch.float32, device=device)
        valid = torch.ones(raw.shape[:2], dtype=torch.bool, device=device)
        if images.lengths is not None:
            valid = lengths_to_valid(torch.as_tensor(images.lengths, device=device), raw.shape[1])
        if self.training and self.drop:
            kept = valid & (draw("region drop", lambda: torch.rand(valid.shape, device=device)) > self.drop)
            valid = torch.where(kept.any(dim=1, keepdim=True), kept, valid)
        return self.fragment_dropout(self.fragment_scale(raw)).masked_fill(~valid[..., None], 0.0), valid

    def _pooled(self, images: Features) -> Tensor:
        if images.pooled is None:
            raise DataError("this run reads a pooled vector, found only fragments; give --pooled FILE")
        raw = torch.as_tensor(images.pooled, dtype=torch.float32, device=self.pooled_linear.weight.device)
        scaled = self.pooled_dropout(self.pooled_scale(raw))
        out: Tensor = self.pooled_linear(scaled)
        return out if self.pooled_mlp is None else out + self.pooled_mlp(scaled)
