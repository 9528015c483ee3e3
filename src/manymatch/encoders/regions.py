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
            self.fragment_scale: nn.Module = (
                Standardise(inputs.fragment_width, power=0.5) if standardise else nn.Identity()
            )
        self.has_pooled = bool(inputs.pooled_width) and (use_pooled or neck is None)
        if self.has_pooled:
            self.pooled_scale: nn.Module = Standardise(inputs.pooled_width) if standardise else nn.Identity()
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

    def norm_instead(self) -> None:
        """Norms that learn in place of statistics of the training split, for features that change while it trains."""
        if self.neck is not None and isinstance(self.fragment_scale, Standardise):
            self.fragment_scale = nn.LayerNorm(self.inputs.fragment_width)
        if self.has_pooled and isinstance(self.pooled_scale, Standardise):
            self.pooled_scale = nn.LayerNorm(self.inputs.pooled_width)

    def local(self, images: Features | Pixels) -> Locals:
        if isinstance(images, Pixels):
            raise DataError("this run reads precomputed features and has no backbone to look at a picture; use like=ID")
        self.inputs.expect(images)
        vectors, valid, pooled = self._tensors(images)
        spare = vectors is not None and (
            (images.once and self.training) or vectors.data_ptr() != torch.as_tensor(images.vectors).data_ptr()
        )
        return self._keyed(self.read(vectors, valid, pooled, spare=spare), images)

    def read(
        self, vectors: Tensor | None, valid: Tensor | None, pooled: Tensor | None, *, spare: bool = False
    ) -> Locals:
        """Of tensors on its device: fragments (n, f, c), which of them are real (n, f), and a pooled vector (n, p).

        `spare` says that nobody else holds the fragments, so that what the neck is given may be written over them.
        """
        further = self._pooled(pooled) if self.has_pooled else None
        if self.neck is None:
            assert further is not None
            one = torch.ones_like(further[:, :1], dtype=torch.bool)
            return Locals(further[:, None, :], one, further)
        if vectors is None or valid is None:
            raise DataError("this run reads fragments, found only pooled vectors; give --features FILE")
        return self.neck(*self._fragments(vectors, valid, spare), further)

    def _keyed(self, local: Locals, images: Features) -> Locals:
        if self.training or not self.head.keyed:
            return local
        source = images.pooled if self.has_pooled else images.vectors
        lengths = None if self.has_pooled or images.lengths is None else torch.as_tensor(images.lengths)
        values = torch.as_tensor(source, dtype=torch.float32)
        valid = None if lengths is None else lengths_to_valid(lengths, values.shape[1])
        return replace(local, key=key_of_floats(values, valid).to(local.pooled.device))

    def _tensors(self, images: Features) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """What `read` is given of features; only what it reads."""
        device = next(self.parameters()).device
        pooled = vectors = valid = None
        if self.has_pooled and images.pooled is not None:
            pooled = torch.as_tensor(images.pooled, dtype=torch.float32, device=device)
        if self.neck is not None and images.vectors is not None:
            vectors = torch.as_tensor(images.vectors, dtype=torch.float32, device=device)
            valid = torch.ones(vectors.shape[:2], dtype=torch.bool, device=device)
            if images.lengths is not None:
                valid = lengths_to_valid(torch.as_tensor(images.lengths, device=device), vectors.shape[1])
        return vectors, valid, pooled

    def _fragments(self, vectors: Tensor, valid: Tensor, spare: bool) -> tuple[Tensor, Tensor]:
        if self.training and self.drop:
            fate = draw("region drop", lambda: torch.rand(valid.shape, device=valid.device))
            kept = valid & (fate > self.drop)
            valid = torch.where(kept.any(dim=1, keepdim=True), kept, valid)
        scale = self.fragment_scale
        if vectors.requires_grad or not isinstance(scale, Standardise | nn.Identity):
            return self.fragment_dropout(scale(vectors)).masked_fill(~valid[..., None], 0.0), valid
        # Without a gradient one buffer takes it all, the batch's own where it is spare: at 36 x 2,048 a batch of
        # features is as large as all that a small model keeps for the way back.
        out = vectors if spare else torch.empty_like(vectors)
        if isinstance(scale, Standardise):
            scale.into(vectors, out)
        elif not spare:
            out.copy_(vectors)
        return self.fragment_dropout.drop(out).masked_fill_(~valid[..., None], 0.0), valid

    def _pooled(self, pooled: Tensor | None) -> Tensor:
        if pooled is None:
            raise DataError("this run reads a pooled vector, found only fragments; give --pooled FILE")
        scaled = self.pooled_dropout(self.pooled_scale(pooled))
        out: Tensor = self.pooled_linear(scaled)
        return out if self.pooled_mlp is None else out + self.pooled_mlp(scaled)
