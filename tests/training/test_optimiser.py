"""Optimiser, frozen parts and averages of a recipe, on a model small enough to see through."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import manymatch as mm
from manymatch.data.pairs import Pairs
from manymatch.methods import Recipe, Stage
from manymatch.training.averaging import RunningAverage, UniformMean, make_average
from manymatch.training.optimiser import Freezer, make_optimiser, rate_factor
from manymatch.training.plan import Plan
from manymatch.training.stepper import Stepper


class Tiny(nn.Module):
    """Two towers of a few numbers, one with batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.images = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
        self.texts = nn.Linear(3, 3)
        self.fixed = nn.Parameter(torch.ones(1), requires_grad=False)


def learn(model: Tiny, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad(set_to_none=True)
    x = torch.randn(8, 3)
    (model.images(x) - model.texts(x)).square().sum().backward()
    optimiser.step()


def test_rates_and_weight_decay_by_name() -> None:
    recipe = Recipe(groups={"images.": 0.1, "images.1": 1.0}, weight_decay=0.5, no_decay=(".bias", "images.1"))
    model = Tiny()
    optimiser = make_optimiser(model, recipe)
    names = {id(p): n for n, p in model.named_parameters()}
    found = {names[id(p)]: (g["base"], g["weight_decay"]) for g in optimiser.param_groups for p in g["params"]}
    assert found == {
        "images.0.weight": (1e-4, 0.5),
        "images.0.bias": (1e-4, 0.0),
        "images.1.weight": (1e-3, 0.0),
        "images.1.bias": (1e-3, 0.0),
        "texts.weight": (1e-3, 0.5),
        "texts.bias": (1e-3, 0.0),
    }
    assert rate_factor(recipe, "images.10") == 1.0 and rate_factor(recipe, "texts.x") == 1.0


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_it_is_the_optimiser_of_that_name(name: str) -> None:
    recipe = Recipe(optimiser=name, amsgrad=True, weight_decay=0.1, lr=0.01)  # type: ignore[arg-type]
    ours, theirs = Tiny(), Tiny()
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    official = kind(theirs.parameters(), lr=0.01, weight_decay=0.1, betas=recipe.betas, amsgrad=True)
    for model, optimiser in ((ours, make_optimiser(ours, recipe)), (theirs, official)):
        torch.manual_seed(1)
        for _ in range(4):
            learn(model, optimiser)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("frozen_eval", [False, True])
def test_frozen_parts_stay_as_they_are(frozen_eval: bool) -> None:
    model, recipe = Tiny(), Recipe(weight_decay=0.5, lr=0.1)
    freezer, optimiser = Freezer(model), make_optimiser(model, recipe)
    stage = Stage(epochs=1, frozen=("images.",), frozen_eval=frozen_eval)
    learn(model, optimiser)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    assert freezer.freeze(stage) == 18
    freezer.settle(stage)
    for _ in range(3):
        learn(model, optimiser)
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    statistics = {"images.1.running_mean", "images.1.running_var", "images.1.num_batches_tracked"}
    assert moved == {"texts.weight", "texts.bias"} | (set() if frozen_eval else statistics)
    freezer.release()
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["fixed"]


def test_the_plain_mean_is_that_of_torch() -> None:
    model = Tiny()
    optimiser = make_optimiser(model, Recipe(lr=0.1))
    ours, official = UniformMean(first=4, every=2), torch.optim.swa_utils.AveragedModel(model, use_buffers=True)
    for step in range(10):
        learn(model, optimiser)
        ours.follow(model, step)
        if step in (5, 7, 9):
            official.update_parameters(model)
        assert bool(ours.values) == (step >= 5)
    assert ours.count == 3
    for key, value in official.module.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(ours.values[key], value)


def test_swapping_twice_changes_nothing() -> None:
    model = Tiny()
    average = RunningAverage(model, 0.9)
    learn(model, make_optimiser(model, Recipe(lr=0.1)))
    average.follow(model, 0)
    now = {k: v.clone() for k, v in model.state_dict().items()}
    average.swap(model)
    assert not torch.equal(model.texts.weight, now["texts.weight"])
    average.swap(model)
    assert all(torch.equal(v, now[k]) for k, v in model.state_dict().items())


def test_a_stage_that_begins_forgets_the_plateau(featured: Pairs) -> None:
    model = mm.method("vsepp", dim=8, word_dim=8, hidden=8, batch=16, least_count=1).build(featured)
    recipe = Recipe(epochs=4, warmup=0.0, schedule="plateau", stages=(Stage(epochs=2), Stage(epochs=2, lr=1e-4)))
    rows = next(iter(model.method.sampler().epoch(featured, seed=0, epoch=0)))
    batch = model.batch(featured, rows.images, rows.captions, rows.matches)
    for step, rate in ((1, 0.25), (2, 0.1), (3, 0.025)):
        stepper = Stepper(model, Plan(recipe, epoch_steps=1), seed=0, precision="float32", tell=lambda line: None)
        stepper.plateau.factor = 0.25
        stepper(step, batch)
        assert stepper.rate(step) == pytest.approx(rate), "kept within a stage, forgotten where one begins"
        assert stepper.optimiser.param_groups[0]["lr"] == pytest.approx(1e-3 * rate)


@pytest.mark.parametrize(("share", "epochs", "first"), [(0.64, 25, 16), (0.28, 25, 7), (0.64, 1, 0), (0.999, 10, 9)])
def test_where_the_plain_mean_begins(share: float, epochs: int, first: int) -> None:
    recipe = Recipe(epochs=epochs, average=0.0, average_from=share)
    for every, steps in (("epoch", 5), ("step", 1)):
        plan = Plan(Recipe(**{**vars(recipe), "average_every": every}), epoch_steps=5)
        mean = make_average(Tiny(), plan)
        assert isinstance(mean, UniformMean) and (mean.first, mean.every) == (5 * first, steps)
