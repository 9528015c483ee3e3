"""What must be equal for two trainings to be one and the same run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..data.pairs import Pairs
from ..encoders.standardise import feature_statistics
from ..errors import CheckpointError
from ..methods import Model

__all__ = ["expect_same", "identity_of"]

_FREE = ("save_minutes", "device", "precision", "note", "bank")

_LOOKED_AT = 8
"""Images whose features are told apart by their numbers."""

_LONG, _DIGEST = 60, 64
"""Characters of JSON up to which a value is kept as it is, and those of a SHA-256."""


def identity_of(
    model: Model, pairs: Pairs, validate: Pairs | None, settings: Mapping[str, Any], precision: str | None
) -> dict[str, Any]:
    """Everything the run depends on, by the name a user knows it under; long values as their SHA-256.

    Args:
        settings: seed and recipe of the run.
        precision: that its towers compute in.
    """
    described = model.essence()
    own = described["fields"]
    told = {
        "method": described["method"],
        **own,
        **{f"image tower's {k}": v for k, v in described["images"].items()},
        **{f"text tower's {k}": v for k, v in described["texts"].items()},
        **{f"training's {k}" if k in own else k: v for k, v in settings.items() if k not in _FREE},
        "precision": precision,
        "training pairs": pairs.digest,
        "validation pairs": None if validate is None else validate.digest,
        "features": _digest_of_features(model, pairs),
    }
    return {key: _short(value) for key, value in told.items()}


def _digest_of_features(model: Model, pairs: Pairs) -> str:
    digest, known = hashlib.sha256(), feature_statistics(model.images)
    for buffer in known.values():
        digest.update(buffer.detach().cpu().numpy().tobytes())
    if not known and model.image_input == "features":
        # A tower that takes features as they are keeps nothing of them: those of a few images stand for all.
        rows = [n for n, item in enumerate(pairs.items) if item.captions]
        features = pairs.images.take(rows[:: max(1, len(rows) // _LOOKED_AT)]).read_features()
        for values in (features.vectors, features.pooled):
            digest.update(b"" if values is None else np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _short(value: Any) -> Any:
    text = json.dumps(value, sort_keys=True)
    return json.loads(text) if len(text) <= _LONG else hashlib.sha256(text.encode()).hexdigest()


def expect_same(out: Path, found: Any, wanted: Mapping[str, Any]) -> None:
    """Raises CheckpointError unless the two identities are equal; it names what differs."""
    if found == wanted:
        return
    if isinstance(found, dict):
        odd = [key for key in {**wanted, **found} if found.get(key) != wanted.get(key)]
        what = ", ".join(_difference(key, found.get(key), wanted.get(key)) for key in odd)
    else:
        what = "written by another version"
    raise CheckpointError(
        f"resume: {str(out)!r} was trained on other data or with other settings: {what}; give the same command as "
        "before, or another --out"
    )


def _difference(key: str, found: Any, wanted: Any) -> str:
    if any(isinstance(value, str) and len(value) == _DIGEST for value in (found, wanted)):
        return key
    return f"{key} ({json.dumps(found)}, now {json.dumps(wanted)})"
