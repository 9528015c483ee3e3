"""Recipes in a run: a run killed at any step and resumed equals one that was not, whatever its recipe."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import manymatch as mm
from manymatch.data.pairs import Pairs
from manymatch.errors import CheckpointError, DataError
from manymatch.methods import Recipe, Stage
from manymatch.methods.vsepp import VSEpp
from manymatch.training import TrainConfig, train

RECIPES = {
    "stages": Recipe(
        epochs=3,
        lr=1e-2,
        average=0.0,
        stages=(
            Stage(epochs=1, frozen=("images.",)),
            Stage(epochs=1, restart=False, loss_ramp=True),
            Stage(epochs=1, lr=1e-3, frozen=("texts.words",), frozen_eval=True),
        ),
    ),
    "plateau": Recipe(epochs=4, lr=1e-2, schedule="plateau", patience=0, plateau_mode="min"),
    "mean of epochs": Recipe(epochs=3, lr=1e-2, average=0.0, average_from=0.4),
    "mean of steps": Recipe(epochs=3, lr=1e-2, average=0.0, average_from=0.4, average_every="step"),
    "adam": Recipe(epochs=2, lr=1e-2, optimiser="adam", amsgrad=True, weight_decay=1e-3, no_decay=(".bias",)),
}
SMALL = {"dim": 16, "word_dim": 12, "hidden": 8, "batch": 16, "captions": 2, "least_count": 1}

Run = Callable[..., dict[str, torch.Tensor]]


def use(monkeypatch: pytest.MonkeyPatch, recipe: Recipe) -> None:
    monkeypatch.setattr(VSEpp, "recipe", lambda self: recipe)


def rows(out: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


@pytest.mark.parametrize("name", RECIPES)
def test_resume_is_exact(featured: Pairs, tmp_path: Path, name: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    few, recipe = featured.take(range(32)), RECIPES[name]
    use(monkeypatch, recipe)
    whole = run("whole", few)
    for stop in range(1, 2 * recipe.epochs):
        cut = run(f"cut {stop}", few, stop=stop)
        assert whole.keys() == cut.keys()
        assert all(torch.equal(whole[k], cut[k]) for k in whole), f"killed before step {stop}"
        assert rows(tmp_path / "whole") == rows(tmp_path / f"cut {stop}")


def test_the_plateau_lowers_the_rate(
    featured: Pairs, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = featured.take(range(32))
    use(monkeypatch, RECIPES["plateau"])
    run("run", few)
    found = rows(tmp_path / "run")
    best, factor = found[0]["RSUM"], 1.0
    for row in found[1:]:
        assert row["lr"] == pytest.approx(1e-2 * factor)
        better, best = row["RSUM"] < best * 0.9999, min(best, row["RSUM"])
        factor *= 1.0 if better else 0.5
    assert factor < 1.0
    with pytest.raises(DataError, match="schedule 'plateau' reads validation RSUM"):
        train(mm.method("vsepp", **SMALL).build(few), few, out=tmp_path / "blind", say=None)


def test_stages_freeze_and_restart(featured: Pairs, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    few, told = featured.take(range(32)), list[str]()
    frozen = Recipe(
        epochs=2,
        lr=1e-2,
        average=0.0,
        weight_decay=0.5,
        stages=(Stage(epochs=1, frozen=("images.",)), Stage(epochs=1, frozen=("images.", "similarity."), lr=1e-3)),
        note="published with AdamP",
    )
    use(monkeypatch, frozen)
    model = mm.method("vsepp", **SMALL).build(few)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    best = train(model, few, out=tmp_path / "run", say=told.append)
    after = model.state_dict()
    names = [name for name, _ in model.named_parameters()]
    assert {n for n in names if torch.equal(before[n], after[n])} == {n for n in names if n.startswith("images.")}
    assert all(p.requires_grad for p in model.parameters()), "given back as it came"
    stages = [line for line in told if line.startswith("stage ")]
    assert "stage 1/2: 1 epochs, rate 0.01, 0.0" in stages[0] and "M parameters frozen (images.)" in stages[0]
    assert "stage 2/2: 1 epochs, rate 0.001" in stages[1]
    assert "note: published with AdamP" in told and best.notes["recipe"]["note"] == "published with AdamP"
    state = run("again", few)
    moments = [v for k, v in state.items() if k.startswith("optimiser.") and k.endswith(".step")]
    assert moments and all(float(v) == 2 for v in moments), "the second stage's own two steps"


def test_a_ramp_begins_with_nothing(featured: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = featured.take(range(16))
    ramp = Recipe(epochs=1, average=0.0, weight_decay=0.0, stages=(Stage(epochs=1, loss_ramp=True),))
    use(monkeypatch, ramp)
    model = mm.method("vsepp", **SMALL).build(few)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    train(model, few, out=tmp_path, say=None)
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    assert rows(tmp_path)[0]["loss"] > 0, "the log keeps the loss as it is"


def test_what_is_kept_is_the_mean(featured: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few, seen = featured.take(range(32)), list[torch.Tensor]()
    use(monkeypatch, RECIPES["mean of epochs"])
    model = mm.method("vsepp", **SMALL).build(few)

    def look(line: str) -> None:
        if line.startswith("epoch "):
            seen.append(model.texts.words.weight.detach().clone())  # type: ignore[union-attr, operator]

    best = train(model, few, out=tmp_path, say=look)
    torch.testing.assert_close(best.texts.words.weight.data, torch.stack(seen[1:]).mean(dim=0))  # type: ignore[union-attr, arg-type]


def test_resuming_says_what_changed(featured: Pairs, tmp_path: Path) -> None:
    few = featured.take(range(32))

    def go(pairs: Pairs = few, epochs: int = 1, margin: float = 0.2, **options: float) -> None:
        model = mm.method("vsepp", **SMALL, margin=margin).build(pairs)
        train(model, pairs, out=tmp_path, config=TrainConfig(epochs=epochs, **options), resume=True, say=None)  # type: ignore[arg-type]

    go()
    with pytest.raises(
        CheckpointError, match=r"other settings: margin \(0\.2, now 0\.3\), epochs \(1, now 4\); give the same"
    ):
        go(epochs=4, margin=0.3)
    with pytest.raises(CheckpointError, match=r"other settings: seed \(0, now 7\);"):
        go(seed=7)
    with pytest.raises(CheckpointError, match=r"other settings:.* training pairs, features;"):
        go(featured.take(range(40)))
    go(save_minutes=9.0)
