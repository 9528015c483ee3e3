"""What must be equal for two trainings to be one and the same run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..data.pairs import Pairs
from ..errors import CheckpointError
from ..methods import Model

__all__ = ["expect_same", "fingerprint_of", "identity_of"]

_FREE = ("save_minutes", "device", "precision")


def fingerprint_of(pairs: Pairs) -> dict[str, Any]:
    """Name, counts, and a digest of ids and captions."""
    digest = hashlib.sha256()
    for item in pairs.items:
        digest.update(json.dumps([item.id, *item.captions]).encode())
    return {"name": pairs.name, "images": len(pairs), "captions": len(pairs.captions), "sha256": digest.hexdigest()}


def identity_of(
    model: Model, pairs: Pairs, validate: Pairs | None, config: Mapping[str, Any], precision: str | None
) -> str:
    """SHA-256 of method, inputs, both splits, config, precision, and what was measured of the features."""
    told = json.dumps(
        [
            model.describe(),
            fingerprint_of(pairs)["sha256"],
            None if validate is None else fingerprint_of(validate)["sha256"],
            {k: v for k, v in config.items() if k not in _FREE},
            precision,
        ],
        sort_keys=True,
    )
    digest = hashlib.sha256(told.encode())
    for name, buffer in model.images.named_buffers():
        # Means and spreads of the training features: another feature file gives others.
        if name.startswith(("fragment_scale.", "pooled_scale.")):
            digest.update(buffer.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def expect_same(out: Path, found: str, wanted: str) -> None:
    """Raises CheckpointError unless the two identities are equal."""
    if found != wanted:
        raise CheckpointError(
            f"resume: {str(out)!r} was trained on other data or with other settings; give the same command as before, "
            "or another --out"
        )
