"""Pretrained image networks: CLIP, SigLIP, SigLIP 2 (fixed size and NaFlex), DINOv2 and ViT, frozen or not.

Pixels to one fragment for each patch and one vector of the whole picture:

- CLIP: the last hidden states; the class token behind its norm, projected to the space shared with texts. A vision
  model saved without a projection gives it unprojected.
- SigLIP, SigLIP 2: the last hidden states behind the norm; what the attention pooling head makes of them.
- DINOv2, ViT: the last hidden states behind the norm; the class token's.

The class token is never among the fragments: every fragment is a patch, row by row.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from ...data.features import Features, Pixels
from ...errors import DataError
from .base import LARGEST_HALF, Backbone
from .hub import Found, find, weights
from .library import building, expect_finite, library, loaded
from .looking import CLASSES, PROJECTION, Looking, identity_of, read_vision

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["VisionBackbone", "VisionNetwork", "open_vision", "tensors_of"]

Array = np.ndarray[Any, Any]

_CLASS_TOKEN = ("clip", "dinov2", "vit")
_AT_A_TIME = 32
"""Pictures that go through a frozen network together, however many are asked for: memory stays what these take."""


class VisionNetwork(nn.Module):
    """Pixels to fragments and a pooled vector.

    Args:
        looking: what it is.
        found: where its weights are, which are then mapped from the disk; random ones without.

    Raises:
        DataError: no safetensors, or a weight is missing, of another shape, or not finite.
    """

    def __init__(self, looking: Looking, found: Found | None = None) -> None:
        super().__init__()
        self.looking = looking
        with building():
            self.body = _built(looking) if found is None else _read(looking, found)
            self.projection = nn.Linear(looking.width, looking.projection, bias=False) if looking.projection else None
        if found is not None and self.projection is not None:
            given, wanted = weights(found)[PROJECTION], tuple(self.projection.weight.shape)
            if tuple(given.shape) != wanted:
                raise DataError(
                    f"{found.folder}: weight {PROJECTION!r} has shape {tuple(given.shape)}, expected {wanted}"
                )
            self.projection.weight = nn.Parameter(given.float())
        if found is not None:
            expect_finite(self, str(found.folder))

    def load(self, found: Found) -> None:
        """Weights from the folder, each by its name, copied over its own. Raises DataError as the class."""
        self.load_state_dict(VisionNetwork(self.looking, found).state_dict())

    def forward(self, pixels: Tensor, grids: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor | None]:
        """(n, 3, h, w) -> fragments (n, f, c), valid (n, f), and a vector of each picture (n, p) where there is one.

        Args:
            pixels: as `Preprocessing.pixels` makes them.
            grids: (n, 2), where each picture has a grid of its own.
        """
        valid = None
        if self.looking.preprocessing.patch:
            assert grids is not None
            out, valid = self._flexible(pixels, grids)
        else:
            out = self.body(pixel_values=pixels)
        states = out.last_hidden_state
        pooled = states[:, 0] if self.looking.kind == "vit" else out.pooler_output
        if self.projection is not None:
            pooled = self.projection(pooled)
        fragments = states[:, 1:] if self.looking.kind in _CLASS_TOKEN else states
        if valid is None:
            valid = torch.ones(fragments.shape[:2], dtype=torch.bool, device=fragments.device)
        return fragments, valid, pooled

    def _flexible(self, strips: Tensor, grids: Tensor) -> tuple[Any, Tensor]:
        """Strips of patches (n, 3, p, p * m), each picture's own number of them real."""
        patch = self.looking.patch
        patches = strips.view(len(strips), 3, patch, -1, patch).permute(0, 3, 2, 4, 1).flatten(2)
        valid = torch.arange(patches.shape[1], device=strips.device)[None, :] < grids.prod(dim=1)[:, None]
        return self.body(pixel_values=patches, pixel_attention_mask=valid.int(), spatial_shapes=grids), valid


def _built(looking: Looking) -> nn.Module:
    """The library's network with random weights."""
    made, model, settings = _classes(looking)
    return model._from_config(made, dtype=torch.float32, **settings)


def _read(looking: Looking, found: Found) -> nn.Module:
    """The library's network with the folder's weights, as float32."""
    made, model, settings = _classes(looking)
    return loaded(model, made, weights(found), settings, str(found.folder))


def _classes(looking: Looking) -> tuple[Any, Any, dict[str, Any]]:
    """The library's configuration, its class of network, and what that is called with."""
    code = library(f"image tower {looking.kind}")
    of_config, of_model = (getattr(code, name) for name in CLASSES[looking.kind])
    # Attention and type are said here: a configuration might name code of somebody else's.
    settings: dict[str, Any] = {"attn_implementation": "sdpa"}
    if looking.kind == "vit":
        settings["add_pooling_layer"] = False
    return of_config(**looking.network), of_model, settings


class VisionBackbone(Backbone):
    """A pretrained image network, frozen.

    Args:
        found: where its folder is.
        fragments: give the patches too, or the pooled vector alone.

    Raises:
        DataError, UnknownName: as `read_vision`, or weights that do not fit.
    """

    def __init__(self, found: Found, *, fragments: bool = True) -> None:
        super().__init__()
        self.looking = read_vision(found)
        if not fragments and not self.looking.pooled_width:
            raise DataError(f"tower {found.source!r}: it has no pooling head, and fragments are not asked for")
        self.network = VisionNetwork(self.looking, found)
        self.eval().requires_grad_(False)
        self.source, self.revision = found.source, found.revision
        self.identity = identity_of(found, self.looking, fragments=fragments)
        self.fragments = self.looking.cells if fragments else 0
        self.fragment_width = self.looking.width if fragments else 0
        self.pooled_width = self.looking.pooled_width

    def prepare(self, pictures: Iterable[Image.Image]) -> Pixels:
        return self.looking.preprocessing.pixels(pictures)

    def grid(self, height: int, width: int) -> tuple[int, int] | None:
        return self.looking.grid(height, width)

    def seen(self, width: int, height: int) -> tuple[float, float, float, float]:
        return self.looking.seen(width, height)

    @torch.inference_mode()
    def features(self, pixels: Pixels) -> Features:
        array, grids = tensors_of(pixels, self.looking, next(self.network.parameters()).device)
        vectors = np.zeros((len(array), self.fragments, self.fragment_width), np.float32)
        pooled = np.zeros((len(array), self.pooled_width), np.float32)
        for start in range(0, len(array), _AT_A_TIME):
            part = slice(start, start + _AT_A_TIME)
            found, valid, whole = self.network(array[part], None if grids is None else grids[part])
            if self.fragments:
                # Behind a picture's own patches the network leaves what it made of padding.
                vectors[part] = _half_precise(found.masked_fill(~valid[..., None], 0.0))
            if whole is not None:
                pooled[part] = _half_precise(whole)
        lengths = None if pixels.grids is None or not self.fragments else pixels.grids.prod(axis=1)
        return Features(vectors if self.fragments else None, lengths, pooled if self.pooled_width else None)


def tensors_of(pixels: Pixels | Features, looking: Looking, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Pixels and grids on the device. Raises DataError where they are not what the network reads."""
    if isinstance(pixels, Features):
        raise DataError("this run reads pixels, found precomputed features; give pictures (--images PATH)")
    prepare = looking.preprocessing
    height, width = prepare.fixed or (prepare.patch, prepare.patch * prepare.most_patches)
    if (prepare.patch > 0) != (pixels.grids is not None) or tuple(pixels.array.shape[2:]) != (height, width):
        form = f"{pixels.array.shape[2:]} {'without' if pixels.grids is None else 'with'} grids"
        raise DataError(f"pixels: {form}, but the network reads ({height}, {width}); prepare pictures with its tower")
    array = torch.as_tensor(pixels.array, dtype=torch.float32, device=device)
    return array, None if pixels.grids is None else torch.as_tensor(pixels.grids, device=device)


def _half_precise(values: Tensor) -> Array:
    """float32 of what float16 holds; what is beyond its range becomes its largest."""
    out: Array = values.float().clamp(-LARGEST_HALF, LARGEST_HALF).half().float().cpu().numpy()
    return out


def open_vision(source: str, *, fragments: bool = True) -> VisionBackbone:
    """The frozen network of "hf:NAME" or "hf:FOLDER"; see `hub.find`."""
    return VisionBackbone(find(source), fragments=fragments)
