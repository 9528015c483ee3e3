"""The optimiser of a recipe, and which parameters it leaves alone in a stage."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..encoders import ImageTower, TextTower
from ..encoders.linear_start import LinearStart
from ..errors import DataError
from ..methods import Model, Recipe, Stage

__all__ = ["Freezer", "make_optimiser", "rate_factor", "tower_rates"]


def rate_factor(recipe: Recipe, parameter: str, towers: Mapping[str, float] | None = None) -> float:
    """Factor on the learning rate of a parameter: that of the longest start that fits its name.

    Starts are those of `recipe.groups`, and under them those of the towers' layers (`tower_rates`).
    """
    groups = {**(towers or {}), **recipe.groups}
    start = max((g for g in groups if parameter.startswith(g)), key=len, default="")
    return groups[start] if start else 1.0


def tower_rates(model: nn.Module) -> dict[str, float]:
    """Start of a parameter's name -> factor on the learning rate, as the model's towers say of their layers."""
    towers = ((side, getattr(model, side, None)) for side in ("images", "texts"))
    layers = {
        f"{side}.{start}": factor
        for side, tower in towers
        if isinstance(tower, ImageTower | TextTower)
        for start, factor in tower.rates().items()
    }
    return layers | {f"{name}.": part.rate for name, part in model.named_modules() if isinstance(part, LinearStart)}


def make_optimiser(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over every parameter that trains, with a group per rate and weight decay.

    Groups come in the order of the parameters' names and carry their full rate as `base`, so that a saved state finds
    its parameters again.
    """
    _expect_tuned(model, recipe)
    layers = tower_rates(model)
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = 0.0 if any(part in name for part in recipe.no_decay) else recipe.weight_decay
            groups.setdefault((rate_factor(recipe, name, layers), decay), []).append(parameter)
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


def _expect_tuned(model: nn.Module, recipe: Recipe) -> None:
    """Raises DataError where an image network is to be tuned that no stage lets learn."""
    tuning = model.method.image_tuning if isinstance(model, Model) else "frozen"
    if tuning != "frozen" and all("images.backbone.".startswith(stage.frozen) for stage in recipe.all_stages):
        raise DataError(
            f"training: image_tuning={tuning}, but every stage of the recipe freezes the image network; set "
            "train_backbone=true, or leave image_tuning out"
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
