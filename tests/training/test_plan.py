"""A recipe over steps: rates, stages, what other epochs and rates make of them, and the plateau."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from manymatch.errors import DataError
from manymatch.methods import Recipe, Stage, method
from manymatch.training import TrainConfig, split_settings
from manymatch.training.plan import Plan, Plateau

PCME = Recipe(
    epochs=60,
    lr=2e-4,
    warmup=0.0,
    average=0.0,
    stages=(Stage(epochs=30, frozen=("images.backbone.",)), Stage(epochs=30, lr=2e-5)),
)
VSE_INFTY = Recipe(
    epochs=25,
    lr=5e-4,
    warmup=0.0,
    schedule="step",
    milestones=(15,),
    stages=(
        Stage(epochs=1, frozen=("images.backbone.",)),
        Stage(epochs=1, loss_ramp=True, restart=False),
        Stage(epochs=23, restart=False),
    ),
)


@pytest.mark.parametrize("schedule", ["cosine", "step", "constant", "plateau"])
def test_rates(schedule: str) -> None:
    recipe = Recipe(epochs=10, warmup=0.1, schedule=schedule, milestones=(5,))  # type: ignore[arg-type]
    plan = Plan(recipe, epoch_steps=10)
    rates = [plan.rate(s) for s in range(plan.steps)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1.0) and min(rates) >= 0
    assert rates[-1] == pytest.approx({"cosine": 0.0, "step": 0.1}.get(schedule, 1.0), abs=0.01)


def test_each_training_of_two_has_its_own_cosine() -> None:
    plan = Plan(PCME, epoch_steps=4)
    rates = [plan.rate(step) for step in range(plan.steps)]
    assert rates[0] == 1.0 and rates[60] == pytest.approx(0.5) and rates[119] < 0.01
    assert rates[120:] == pytest.approx([0.1 * rate for rate in rates[:120]])
    assert [plan.at(step).number for step in (0, 119, 120, 239)] == [1, 1, 2, 2]


def test_stages_that_do_not_restart_share_one_schedule() -> None:
    plan = Plan(VSE_INFTY, epoch_steps=10)
    assert [plan.rate(step) for step in (0, 15, 149, 150, 249)] == pytest.approx([1, 1, 1, 0.1, 0.1])
    assert [plan.loss_weight(step) for step in (0, 9, 10, 15, 19, 20)] == pytest.approx([1, 1, 0, 0.5, 0.9, 1])


def test_stages_that_few_epochs_leave_out_are_said() -> None:
    assert VSE_INFTY.lasting(1).note == "1 epochs leave out the last 2 of 3 stages"
    assert VSE_INFTY.lasting(3).note == ""
    both = method("vse_infty", preset="published")
    assert TrainConfig(epochs=1).recipe(both).note.startswith(both.recipe().note)


def test_a_user_may_name_the_steps() -> None:
    _, given = split_settings("vsepp", {"schedule": "step", "milestones": "3, 5", "step_factor": "0.5"})
    plan = Plan(TrainConfig(**given).recipe(method("vsepp")), epoch_steps=10)
    assert [plan.rate(step) for step in (29, 30, 49, 50)] == [1.0, 0.5, 0.5, 0.25]
    with pytest.raises(DataError, match=r"milestones: found .*, expected a whole number, or several with commas"):
        split_settings("vsepp", {"milestones": "3,x"})


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(1, 120))
def test_other_epochs_keep_the_proportions(parts: list[int], total: int) -> None:
    recipe = Recipe(epochs=sum(parts), stages=tuple(Stage(epochs=n) for n in parts))
    found = [stage.epochs for stage in recipe.lasting(total).stages]
    assert sum(found) == total and min(found) >= 1
    if total >= len(parts):
        assert len(found) == len(parts)
        assert all(
            a <= b for (p, a) in zip(parts, found, strict=True) for (q, b) in zip(parts, found, strict=True) if p < q
        )
    assert recipe.lasting(sum(parts)) == recipe


def test_other_epochs_and_rates_by_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    dive = method("dive")
    monkeypatch.setattr(type(dive), "recipe", lambda self: VSE_INFTY)
    changed = TrainConfig(epochs=10, lr=1e-3).recipe(dive)
    assert [stage.epochs for stage in changed.stages] == [1, 1, 8] and changed.milestones == (6,)
    monkeypatch.setattr(type(dive), "recipe", lambda self: PCME)
    changed = TrainConfig(epochs=1, lr=2e-3).recipe(dive)
    assert [stage.epochs for stage in changed.stages] == [1] and changed.stages[0].frozen
    changed = TrainConfig(lr=2e-3).recipe(dive)
    assert changed.stages[1].lr == pytest.approx(2e-4)


def test_one_average_takes_the_place_of_the_other() -> None:
    dive = method("dive")
    assert TrainConfig(average_from=0.5).recipe(dive).average == 0
    with pytest.raises(DataError, match=r"two ways to average; set average=0"):
        TrainConfig(average_from=0.5, average=0.9).recipe(dive)


def test_recipes_are_checked() -> None:
    with pytest.raises(DataError, match=r"recipe\.epochs: found 12, expected the sum of its stages, 30 \+ 30"):
        Recipe(stages=(Stage(epochs=30), Stage(epochs=30)))
    with pytest.raises(DataError, match=r"recipe\.optimiser: found 'adamp'"):
        Recipe(optimiser="adamp")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"stage\.epochs: found 0"):
        Stage(epochs=0)


@given(st.lists(st.floats(0, 600), max_size=30), st.integers(0, 3), st.sampled_from(["max", "min"]))
def test_the_plateau_is_that_of_torch(scores: list[float], patience: int, mode: str) -> None:
    recipe = Recipe(schedule="plateau", patience=patience, plateau_mode=mode)  # type: ignore[arg-type]
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    official = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, mode, factor=0.5, patience=patience, eps=0.0)  # type: ignore[arg-type]
    ours = Plateau(recipe)
    for score in scores:
        official.step(score)
        ours.see(score)
        assert ours.factor == optimiser.param_groups[0]["lr"]
        again = Plateau(recipe)
        again.restore(ours.facts())
        ours = again


def test_a_growing_score_lowers_the_rate_in_the_released_mode() -> None:
    modes = {}
    for mode in ("max", "min"):
        plateau = Plateau(Recipe(schedule="plateau", patience=10, plateau_mode=mode))  # type: ignore[arg-type]
        for epoch in range(30):
            plateau.see(100.0 + 10 * epoch)
        modes[mode] = plateau.factor
    assert modes == {"max": 1.0, "min": 0.25}
