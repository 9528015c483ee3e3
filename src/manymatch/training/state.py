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

__all__ = ["STATE", "RunningAverage", "make_optimiser", "read_facts", "read_state", "write_state"]


STATE = "training/state.safetensors"
"""Where it lies in a run folder."""


class RunningAverage:
    """Exponential average of every floating-point tensor of the model; the others are copied."""

    def __init__(self, model: Model) -> None:
        self.values = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: Model, decay: float) -> None:
        """`average = decay * average + (1 - decay) * now`."""
        now = model.state_dict()
        floating = [k for k, v in self.values.items() if v.is_floating_point()]
        torch._foreach_lerp_([self.values[k] for k in floating], [now[k] for k in floating], 1.0 - decay)
        for key, value in self.values.items():
            if not value.is_floating_point():
                value.copy_(now[key])

    def swap(self, model: Model) -> None:
        """Exchange the model's tensors with the average's; calling it twice changes nothing."""
        with torch.no_grad():
            for key, tensor in model.state_dict().items():
                held = self.values[key].clone()
                self.values[key].copy_(tensor)
                tensor.copy_(held)


def make_optimiser(
    model: Model, lr: float, weight_decay: float, betas: tuple[float, float], factors: Mapping[str, float]
) -> torch.optim.AdamW:
    """AdamW with one group per learning-rate factor, in the order of the parameters' names.

    Args:
        factors: parameter name -> factor on `lr`.
    """
    groups: dict[float, list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault(factors[name], []).append(parameter)
    return torch.optim.AdamW(
        [{"params": params, "lr": lr * factor, "base": lr * factor} for factor, params in groups.items()],
        lr=lr,
        weight_decay=weight_decay,
        betas=betas,
    )


def write_state(
    path: Path, model: Model, average: RunningAverage | None, optimiser: torch.optim.Optimizer, facts: Mapping[str, Any]
) -> None:
    """Weights, running average, optimiser moments and `facts` (JSON: step, best, ...) in one safetensors file."""
    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
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


def read_state(path: Path, model: Model, average: RunningAverage | None, optimiser: torch.optim.Optimizer) -> None:
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
        model.load_state_dict(parts["model"])
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
