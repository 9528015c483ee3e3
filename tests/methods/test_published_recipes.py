"""Presets of DivE, PCME and PCME++: which parameters learn at which rate, what is frozen, and for how long."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

import manymatch as mm
from manymatch.data.text import Vocabulary
from manymatch.encoders import ImageInput, TextInput
from manymatch.methods import Model
from manymatch.training.optimiser import make_optimiser, rate_factor

SMALL = {"dim": 8, "word_dim": 6, "hidden": 4}
WORDS = TextInput("bigru", Vocabulary(("a", "dog", "runs")))


def test_dive_learns_by_the_authors_four_groups() -> None:
    recipe = mm.method("dive", preset="published").recipe()
    rates = {
        "images.neck.projector.fc.weight": 1e-4,
        "images.head.slots.slots": 1e-4,
        "images.backbone.conv1.weight": 1e-3,
        "texts.words.weight": 1e-3,
        "texts.gru.weight_ih_l0": 1e-3,
        "texts.bert.embeddings.word_embeddings.weight": 1e-3,
        "texts.head.global_norm.weight": 1e-4,
        "texts.head.slots.query.weight": 1e-4,
    }
    assert {name: recipe.lr * rate_factor(recipe, name) for name in rates} == pytest.approx(rates)
    assert (recipe.epochs, recipe.weight_decay, recipe.clip, recipe.schedule) == (80, 1e-4, 1.0, "cosine")


def test_dives_presets_differ_as_their_trainings_did() -> None:
    coco, flickr, large = (mm.method("dive", preset=name) for name in ("published", "flickr30k", "resnext_bert"))
    assert (coco.batch, flickr.batch, large.batch) == (200, 128, 128)
    assert coco.recipe() == flickr.recipe()
    assert (coco.margin, large.margin) == (0.2, 0.1)
    assert (large.heads, large.head_width) == (8, 256)  # type: ignore[attr-defined]
    recipe = large.recipe()
    assert (recipe.epochs, recipe.schedule, recipe.milestones) == (50, "step", (20, 40))
    assert recipe.stages[0].frozen == ("images.backbone.",) and not recipe.stages[1].restart


@pytest.mark.parametrize("name", ["dive", "pcme", "pcmepp"])
def test_published_systems_take_features_as_they_are(name: str) -> None:
    for preset in type(mm.method(name)).presets:
        # The one of no author takes them as the default does.
        assert mm.method(name, preset=preset).standardise == (preset == "spread")


def test_pcme_trains_twice_the_second_time_with_everything() -> None:
    recipe = mm.method("pcme", preset="published").recipe()
    first, second = recipe.stages
    assert (first.epochs, second.epochs) == (30, 30) and second.restart and not second.frozen
    assert first.frozen == ("images.backbone.", "texts.words.")
    assert (recipe.lr, second.lr, recipe.weight_decay, recipe.clip) == (2e-4, 2e-5, 0.0, 2.0)


def test_pcmepp_decays_no_scalar_and_slows_bert_layer_by_layer() -> None:
    method = mm.method("pcmepp", preset="published", dim=8, word_dim=6, hidden=4, context_heads=1, objective="match")
    recipe = method.recipe()
    model = Model(method, ImageInput("features", fragments=3, fragment_width=5), WORDS)
    decays = {id(p): g["weight_decay"] for g in make_optimiser(model, recipe).param_groups for p in g["params"]}
    named = dict(model.named_parameters())
    assert {name for name, p in named.items() if not decays[id(p)]} == {"similarity.scale", "similarity.shift"}
    rates = [rate_factor(recipe, f"texts.bert.encoder.layer.{n}.output.dense.weight") for n in range(12)]
    assert rates[11] == pytest.approx(0.07)
    assert all(high == pytest.approx(low / 0.7) for low, high in pairwise(rates))
    assert [stage.epochs for stage in recipe.stages] == [2, 1, 22] and recipe.stages[1].loss_ramp
    assert recipe.stages[0].frozen == ("images.backbone.",)


def test_pcmes_uniform_term_is_there_only_with_a_weight() -> None:
    terms = [mm.method("pcme", uniform_weight=w).objective_terms().describe() for w in (0.0, 2.0)]
    assert "uniform" not in terms[0] and terms[1]["uniform"] == 2.0
    torch.manual_seed(0)
    model = Model(mm.method("pcme", uniform_weight=2.0, **SMALL), ImageInput("cnn", size=32), WORDS)
    assert "uniform" in model.objective_terms.terms
