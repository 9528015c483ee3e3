"""Averages of the weights over the steps: what is validated and kept instead of the last weights."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ..methods import Model
from .plan import Plan

__all__ = ["Average", "RunningAverage", "UniformMean", "make_average", "own_state"]


def own_state(model: nn.Module) -> dict[str, Tensor]:
    """A model's state without the weights that it reads from a folder of their own each time, and never changes."""
    borrowed = model.borrowed if isinstance(model, Model) else lambda name: False
    return {name: value for name, value in model.state_dict().items() if not borrowed(name)}


class Average(ABC):
    """Base of both: a copy of the model's tensors that follows it.

    Floating-point tensors are averaged, statistics of batch normalisation among them; the others are copied.

    Attributes:
        values: the averaged tensors by name; empty while there is nothing to keep yet.
        count: how often the model was taken in.
    """

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}
        self.count = 0

    @abstractmethod
    def follow(self, model: nn.Module, step: int) -> None:
        """Told after each step, from 0."""

    @torch.no_grad()
    def take_in(self, model: nn.Module, weight: float) -> None:
        """`average = (1 - weight) * average + weight * now`."""
        now = own_state(model)
        self.count += 1
        if not self.values:
            self.values = {k: v.detach().clone() for k, v in now.items()}
            return
        floating = [k for k, v in self.values.items() if v.is_floating_point()]
        torch._foreach_lerp_([self.values[k] for k in floating], [now[k] for k in floating], weight)
        for key, value in self.values.items():
            if not value.is_floating_point():
                value.copy_(now[key])

    @torch.no_grad()
    def swap(self, model: nn.Module) -> None:
        """Exchange the model's tensors with the average's, if there is one; calling it twice changes nothing."""
        if self.values:
            for key, tensor in own_state(model).items():
                held = self.values[key].clone()
                self.values[key].copy_(tensor)
                tensor.copy_(held)


class RunningAverage(Average):
    """Exponential average, from the starting weights on.

    Args:
        decay: share of the past that a step keeps; shorter at first, so that the start is forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.take_in(model, 1.0)

    def follow(self, model: nn.Module, step: int) -> None:
        self.take_in(model, 1.0 - min(self.decay, (1 + step) / (10 + step)))


class UniformMean(Average):
    """Plain mean of the weights from a step on, as torch.optim.swa_utils takes it.

    Args:
        first: steps before it begins.
        every: taken in whenever this many steps more are done.
    """

    def __init__(self, first: int, every: int) -> None:
        super().__init__()
        self.first, self.every = first, every

    def follow(self, model: nn.Module, step: int) -> None:
        done = step + 1
        if done > self.first and done % self.every == 0:
            self.take_in(model, 1.0 / (self.count + 1))


def make_average(model: nn.Module, plan: Plan) -> Average | None:
    """What the recipe keeps instead of the last weights, if anything."""
    recipe = plan.recipe
    if recipe.average_from is not None:
        # A hair more, so that 0.28 of 25 epochs is 7 and not 6.
        first = int(recipe.average_from * recipe.epochs + 1e-6)
        return UniformMean(first * plan.epoch_steps, plan.epoch_steps if recipe.average_every == "epoch" else 1)
    return RunningAverage(model, recipe.average) if recipe.average else None
