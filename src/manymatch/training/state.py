"""Everything a run needs to go on as if it had never stopped, in one file written whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ..errors import CheckpointError
from ..methods import Model
from ..runs import save_tensors
from .averaging import Average, own_state

__all__ = ["PLAN", "STATE", "has_members", "holds_run", "read_facts", "read_state", "write_state"]


STATE = "training/state.safetensors"
"""Where it lies in a run folder."""

PLAN = "members/plan.json"
"""What members are trained, in the run folder of a composite."""


def has_members(out: Path) -> bool:
    """Whether the training of a composite began there."""
    return (out / PLAN).is_file()


def holds_run(out: Path) -> bool:
    """Whether there is a run, or the beginning of one."""
    return any((out / name).is_file() for name in ("run.json", STATE, PLAN))


def write_state(
    path: Path, model: Model, average: Average | None, optimiser: torch.optim.Optimizer, facts: Mapping[str, Any]
) -> None:
    """Weights, their average, optimiser moments and `facts` (JSON: step, best, ...) in one safetensors file."""
    tensors = {f"model.{k}": v for k, v in own_state(model).items()}
    if average is not None:
        tensors |= {f"average.{k}": v for k, v in average.values.items()}
    for index, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{k}": torch.as_tensor(v) for k, v in moments.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(path, tensors, {"facts": json.dumps(facts)})


def read_facts(path: Path) -> dict[str, Any]:
    """The `facts` of a saved state, nothing else read. Raises CheckpointError."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(json.loads((file.metadata() or {})["facts"]))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"resume: {str(path)!r} cannot be read ({error}); train again into another --out"
        ) from None


def read_state(path: Path, model: Model, average: Average | None, optimiser: torch.optim.Optimizer) -> None:
    """Put a saved state back into the three objects.

    Raises:
        CheckpointError: unreadable, or of another model.
    """
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"resume: {str(path)!r} cannot be read ({error}); train again into another --out"
        ) from None
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimiser": {}}
    for key, tensor in tensors.items():
        part, _, rest = key.partition(".")
        parts[part][rest] = tensor
    try:
        theirs = {k: v for k, v in model.state_dict().items() if model.borrowed(k)}
        model.load_state_dict({**theirs, **parts["model"]})
    except RuntimeError as error:
        why = str(error).splitlines()[-1].strip()
        raise CheckpointError(f"resume: {str(path)!r} is of another model ({why})") from None
    if average is not None:
        average.values = {k: v.to(model.device) for k, v in parts["average"].items()}
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in parts["optimiser"].items():
        index, _, name = key.partition(".")
        moments.setdefault(int(index), {})[name] = tensor
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
