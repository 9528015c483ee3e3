"""The optimiser of a recipe, and which parameters it leaves alone in a stage."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import DataError
from ..methods import Recipe, Stage

__all__ = ["Freezer", "make_optimiser", "rate_factor"]


def rate_factor(recipe: Recipe, parameter: str) -> float:
    """Factor on the learning rate of a parameter: that of the longest start in `recipe.groups` that fits its name."""
    return recipe.groups[start] if (start := _start(recipe, parameter)) else 1.0


def _start(recipe: Recipe, parameter: str) -> str:
    return max((g for g in recipe.groups if parameter.startswith(g)), key=len, default="")


def make_optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over every parameter that trains, with a group per rate and weight decay.

    Groups come in the order of the parameters' names and carry their full rate as `base`, so that a saved state finds
    its parameters again.
    """
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = 0.0 if any(part in name for part in recipe.no_decay) else recipe.weight_decay
            groups.setdefault((rate_factor(recipe, name), decay), []).append(parameter)
    if not groups:
        raise DataError(
            "training: no parameter of the model trains; a loaded run is for searching, to train it on call "
            "model.requires_grad_() first"
        )
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[recipe.optimiser]
    return kind(
        [
            {"params": params, "lr": recipe.lr * factor, "base": recipe.lr * factor, "weight_decay": decay}
            for (factor, decay), params in groups.items()
        ],
        lr=recipe.lr,
        betas=recipe.betas,
        amsgrad=recipe.amsgrad,
    )


class Freezer:
    """Takes gradients away from the parts a stage freezes, and gives them back.

    Args:
        model: parameters that need no gradient now never get one.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]

    def freeze(self, stage: Stage) -> int:
        """From now on only what `stage.frozen` leaves out gets a gradient; how many numbers are frozen."""
        held = 0
        for name, parameter in self.trainable:
            frozen = name.startswith(stage.frozen)
            parameter.requires_grad_(not frozen)
            held += parameter.numel() if frozen else 0
        return held

    def settle(self, stage: Stage) -> None:
        """Put a model in training mode, its frozen parts in evaluation mode where the stage says so."""
        self.model.train()
        if stage.frozen_eval:
            for name, module in self.model.named_modules():
                if f"{name}.".startswith(stage.frozen):
                    module.eval()

    def release(self) -> None:
        """Every parameter trains again."""
        for _, parameter in self.trainable:
            parameter.requires_grad_(True)
