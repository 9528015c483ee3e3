"""Where a model computes, by name."""

from __future__ import annotations

import torch

from ..errors import Error

__all__ = ["device_named"]


def device_named(name: str) -> torch.device:
    """The device; "auto" takes a GPU when there is one. Raises Error for a device that cannot be used."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise Error(f"device {name!r} cannot be used ({why}); leave it at auto") from None
