"""What the recipes of VSE++, VSE-infinity and PVSE freeze and warm up, and for how long, over any number of epochs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

import manymatch as mm
from manymatch.data.pairs import Pairs
from manymatch.losses import Scores, Triplet
from manymatch.methods import Model
from manymatch.training import TrainConfig, train

SMALL = {"dim": 8, "word_dim": 6, "hidden": 8, "batch": 8, "least_count": 1}


def weights(model: Model, start: str) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items() if name.startswith(start)}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_grid_warms_up_before_its_backbone(world: Pairs, tmp_path: Path) -> None:
    pairs = world.take(range(6))
    model = mm.method("vse_infty", preset="grid", grid_side=64, **SMALL).build(pairs, image_tower="resnet18")
    assert model.input_of_images.size == 64
    seen, told = [weights(model, "images.backbone.")], list[str]()

    def look(line: str) -> None:
        told.append(line)
        if line.startswith("epoch "):
            seen.append(weights(model, "images.backbone."))

    train(model, pairs, out=tmp_path, config=TrainConfig(epochs=3, lr=1e-2), say=look)
    assert equal(seen[0], seen[1]) and not equal(seen[1], seen[2]) and not equal(seen[2], seen[3])
    statistics = [{n: v for n, v in state.items() if "running_" in n} for state in seen]
    assert statistics[0] and equal(statistics[0], statistics[-1]), "its batch norms are fixed, frozen or not"
    assert any(line.startswith("note: published with random crops") for line in told)


def test_pictures_of_a_grid_are_squashed(world: Pairs) -> None:
    few, wide = world.take(range(4)), Image.new("RGB", (128, 32), "green")
    wide.paste("red", (0, 0, 32, 32))
    method = mm.method("vse_infty", preset="grid", grid_side=64, **SMALL)
    square = method.build(few, image_tower="resnet18").images.prepare([wide]).array
    cut = mm.method("vsepp", **SMALL).build(few, image_tower="resnet18").images.prepare([wide]).array
    assert square.shape == (1, 3, 64, 64) and cut.shape == (1, 3, 224, 224)
    assert abs(square[..., 0] - square[..., -1]).max() > 1, "both ends are there"
    assert abs(cut[..., 0] - cut[..., -1]).max() == 0, "the centre alone"


@pytest.mark.parametrize(
    ("name", "preset", "frozen"),
    [
        ("vsepp", "published", [("images.backbone.",)]),
        ("vsepp", "finetuned", [("images.backbone.",), ()]),
        ("pvse", "published", [("images.backbone.", "texts.words.")]),
        ("vse_infty", "grid", [("images.backbone.",), (), ()]),
        ("vse_infty", "published", [()]),
    ],
)
def test_what_is_frozen(name: str, preset: str, frozen: list[tuple[str, ...]]) -> None:
    method = mm.method(name, preset=preset)
    for recipe in (method.recipe(), TrainConfig(epochs=9).recipe(method)):
        assert [stage.frozen for stage in recipe.all_stages] == frozen


def test_what_learns_is_a_field() -> None:
    assert mm.method("pvse", preset="published", train_words=True, train_backbone=True).recipe().stages == ()
    (stage,) = mm.method("pvse", train_words=False).recipe().stages
    assert stage.frozen == ("texts.words.",) and stage.epochs == mm.method("pvse").recipe().epochs
    assert mm.method("vsepp", preset="published", train_backbone=True).recipe().stages == ()


def test_a_run_says_what_it_freezes(featured: Pairs, tmp_path: Path) -> None:
    few, told = featured.take(range(6)), list[str]()
    model = mm.method("pvse", train_words=False, **SMALL).build(few)
    train(model, few, out=tmp_path, config=TrainConfig(epochs=1), say=told.append)
    words = model.texts.words.weight.numel() / 1e6  # type: ignore[union-attr]
    assert f"stage 1/1: 1 epochs, rate 0.001, {words:.2f} M parameters frozen (texts.words.)" in told


@pytest.mark.parametrize(("epochs", "warm"), [(25, 1), (10, 1), (1, 1), (30, 1), (75, 3)])
def test_all_negatives_last_whole_epochs(epochs: int, warm: int) -> None:
    scores, matches = Scores.of(torch.rand(5, 5)), torch.eye(5, dtype=torch.bool)
    hardest, every = Triplet(0.5)(scores, matches), Triplet(0.5, negatives="all")(scores, matches)
    term, steps = Triplet(0.5, all_until=0.04), 7
    for step in range(epochs * steps):
        term.advance(step, epochs * steps, epochs)
        assert term(scores, matches) == (every if step < warm * steps else hardest)


def test_all_negatives_for_ever() -> None:
    scores, matches = Scores.of(torch.rand(5, 5)), torch.eye(5, dtype=torch.bool)
    term, every = Triplet(0.5, all_until=1.0), Triplet(0.5, negatives="all")(scores, matches)
    assert term(scores, matches) == every, "before any run"
    term.advance(69, 70, 10)
    assert term(scores, matches) == every


def test_the_decay_that_the_bigru_branch_forgot() -> None:
    found = {
        (mode, preset): mm.method("vse_infty", preset=preset, mode=mode).recipe().weight_decay
        for mode in ("paper", "released")
        for preset in ("published", "bert", "grid")
    }
    assert found.pop(("released", "published")) == 0.01 and set(found.values()) == {1e-4}


def test_marks_are_dropped_as_words_where_the_authors_do(featured: Pairs) -> None:
    few = featured.take(range(4))
    published = mm.method("vse_infty", preset="published", **SMALL).build(few).texts
    assert published.drop.fixed == [] and published.drop.p == 0.2  # type: ignore[union-attr]
    assert mm.method("vse_infty", mode="released", **SMALL).build(few).texts.drop.fixed  # type: ignore[union-attr]


def test_a_part_that_never_learns_and_knows_nothing_is_said(world: Pairs, tmp_path: Path) -> None:
    lines: list[str] = []
    small = {"dim": 8, "word_dim": 4, "batch": 8, "least_count": 1}
    few = world.take(range(16))
    model = mm.method("pvse", preset="published", **small).build(few, image_tower="cnn")
    train(model, few, validate=few, out=tmp_path / "run", config=TrainConfig(epochs=1), say=lines.append)
    assert any("texts.words. is frozen in the whole run and begins from random weights" in line for line in lines)
    assert not any("images.backbone." in line and "random" in line for line in lines), "the small CNN has no backbone"
