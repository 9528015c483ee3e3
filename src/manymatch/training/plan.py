"""A recipe laid out over steps: rates, stages and loss weights are functions of a step's number alone."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..methods import Recipe, Stage

__all__ = ["Plan", "Plateau", "Stretch"]


@dataclass(frozen=True)
class Stretch:
    """A stage laid out: its steps, and those its schedule runs over (its own, or also those of stages that go on).

    Attributes:
        stage: what it changes.
        number: which stage, from 1.
        first, steps: of the stage.
        schedule_first, schedule_steps: of the schedule it is part of.
    """

    stage: Stage
    number: int
    first: int
    steps: int
    schedule_first: int
    schedule_steps: int


@dataclass(frozen=True)
class Plan:
    """A recipe over steps.

    Attributes:
        recipe: with the config's changes.
        epoch_steps: steps of an epoch.
    """

    recipe: Recipe
    epoch_steps: int

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.epoch_steps * self.recipe.epochs

    @cached_property
    def stretches(self) -> tuple[Stretch, ...]:
        """The stages, one after the other."""
        stages = self.recipe.all_stages
        ends = [self.epoch_steps * sum(s.epochs for s in stages[: n + 1]) for n in range(len(stages))]
        firsts = [0, *ends[:-1]]
        restarts = [n for n, stage in enumerate(stages) if stage.restart or n == 0]
        out = []
        for n, stage in enumerate(stages):
            begin = max(r for r in restarts if r <= n)
            end = min((firsts[r] for r in restarts if r > n), default=self.steps)
            out.append(Stretch(stage, n + 1, firsts[n], ends[n] - firsts[n], firsts[begin], end - firsts[begin]))
        return tuple(out)

    def at(self, step: int) -> Stretch:
        """The stage that a step lies in."""
        return self.stretches[bisect_right([s.first for s in self.stretches], step) - 1]

    def rate(self, step: int) -> float:
        """Factor on every group's learning rate at this step; a plateau's factor comes on top."""
        stretch, lr = self.at(step), self.recipe.lr
        share = 1.0 if stretch.stage.lr is None else stretch.stage.lr / lr
        return share * self._shape(step - stretch.schedule_first, stretch.schedule_steps)

    def _shape(self, step: int, steps: int) -> float:
        r = self.recipe
        warm = round(r.warmup * steps)
        if step < warm:
            return (step + 1) / warm
        if r.schedule == "step":
            return float(r.step_factor ** sum(step // self.epoch_steps >= m for m in r.milestones))
        if r.schedule == "cosine":
            return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1)))
        return 1.0

    def loss_weight(self, step: int) -> float:
        """Factor on the loss: the share of the stage that is done where it ramps, else 1."""
        stretch = self.at(step)
        return (step - stretch.first) / stretch.steps if stretch.stage.loss_ramp else 1.0


class Plateau:
    """Lowers the rate when a score stands still, as torch's ReduceLROnPlateau with its relative threshold of 1e-4.

    Args:
        recipe: its `plateau_factor`, `patience` and `plateau_mode`.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.restart()

    def restart(self) -> None:
        """Forget every score: a stage begins anew."""
        self.factor, self.still = 1.0, 0
        self.best: float | None = None

    def see(self, score: float) -> None:
        """One epoch's score; after more than `patience` epochs without a better one `factor` shrinks."""
        higher = self.recipe.plateau_mode == "max"
        if self.best is None or (score > self.best * 1.0001 if higher else score < self.best * 0.9999):
            self.best, self.still = score, 0
            return
        self.still += 1
        if self.still > self.recipe.patience:
            self.factor, self.still = self.factor * self.recipe.plateau_factor, 0

    def facts(self) -> dict[str, Any]:
        """What `restore` needs, as JSON."""
        return {"factor": self.factor, "best": self.best, "still": self.still}

    def restore(self, facts: dict[str, Any]) -> None:
        """Go on where `facts` were written."""
        self.factor, self.best, self.still = facts["factor"], facts["best"], facts["still"]
