"""What the numbers of a network's configuration may be: far beyond any network, and still nothing a machine dies of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import DataError

__all__ = ["check_numbers"]

_MOST = {
    "hidden_size": 2**16,
    "intermediate_size": 2**18,
    "num_hidden_layers": 1000,
    "num_attention_heads": 2**12,
    "vocab_size": 2**24,
    "max_position_embeddings": 2**20,
    "projection_dim": 2**16,
    "projection_size": 2**16,
    "image_size": 2**14,
    "patch_size": 2**12,
    "num_channels": 2**10,
}
"""From 1 to so many. The library would build a network of a billion layers, layer by layer."""

_HALVES = ("text_config", "vision_config")
_TOKEN = "eos_token_id"


def check_numbers(said: Mapping[str, Any], path: Path, inside: str = "") -> None:
    """Raises DataError naming the field where a number is none, or is beyond all networks; fields may be missing."""
    for name, most in _MOST.items():
        given = said.get(name, 1)
        # A side may be given once or for both directions.
        for number in given if isinstance(given, list) and name.endswith(("image_size", "patch_size")) else [given]:
            if type(number) is not int or not 1 <= number <= most:
                raise DataError(f"{path}: {inside}{name} is {ascii(given)[:60]}, expected a whole number to {most}")
    token = said.get(_TOKEN)
    if token is not None and (type(token) is not int or token < 0):
        raise DataError(f"{path}: {inside}{_TOKEN} is {ascii(token)[:60]}, expected the number of one token")
    for name in _HALVES:
        half = said.get(name)
        if isinstance(half, Mapping):
            check_numbers(half, path, f"{inside}{name}.")
        elif half is not None:
            raise DataError(f"{path}: {inside}{name} is {ascii(half)[:60]}, expected an object")
