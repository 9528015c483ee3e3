"""ESA: views of the published objective, one view otherwise, and its pooling under every method."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import manymatch as mm
from manymatch.data.pairs import Pairs
from manymatch.encoders import AttentionPool, BiGRUTower, FeatureTower, ViewsHead, WordDrop
from manymatch.losses import Expanding, Rescored
from manymatch.methods import Model, method_class, methods

SMALL: dict[str, Any] = {"dim": 32, "word_dim": 24, "hidden": 16, "batch": 12, "least_count": 1}
QUIET: dict[str, Any] = {"dropout": 0.0, "feature_dropout": 0.0, "region_drop": 0.0, "word_drop": 0.0, "view_drop": 0.0}


def step(model: Model, pairs: Pairs) -> dict[str, torch.Tensor]:
    rows = next(model.method.sampler().epoch(pairs, seed=0, epoch=0))
    return model.training_step(model.batch(pairs, rows.images, rows.captions, rows.matches))


def test_small_data_has_one_view(featured: Pairs) -> None:
    model = mm.method("esa", **SMALL).build(featured)
    assert model.method.objective == "infonce" and set(step(model, featured)) == {"infonce", "loss"}
    assert isinstance(model.texts.head, ViewsHead) and model.texts.head.views == 1


def test_the_published_objective_has_two(featured: Pairs) -> None:
    model = mm.method("esa", **{**SMALL, "objective": "expanding"}).build(featured)
    rows = next(model.method.sampler().epoch(featured, seed=0, epoch=0))
    batch = model.batch(featured, rows.images, rows.captions, rows.matches)
    images, texts = model.images(batch.images), model.texts(batch.texts)
    assert images.tensor("views").shape == (12, 2, 32) and texts.tensor("views").shape == (24, 2, 32)
    for side in (images, texts):
        views = side.tensor("views")
        assert not torch.allclose(views[:, 0], views[:, 1])
    assert set(model.training_step(batch)) == {"expanding", "loss"}
    assert (
        isinstance(model.texts, BiGRUTower) and isinstance(model.texts.drop, WordDrop) and model.texts.drop.views == 2
    )
    assert len(model.encode_texts(["a red circle"])) == 1


def test_views_that_leave_nothing_out_are_the_item(featured: Pairs) -> None:
    """The loss is then that of single views, four times over in its sum: h rows and h columns each."""
    fields = {**SMALL, **QUIET, "objective": "expanding", "reduction": "mean", "all_until": 0.0}
    one, two = (mm.method("esa", **{**fields, "views": views}).build(featured, seed=2) for views in (1, 2))
    assert all(torch.equal(v, two.state_dict()[k]) for k, v in one.state_dict().items())
    assert isinstance(one.objective_terms.terms["expanding"], Expanding)
    assert isinstance(two.objective_terms.terms["expanding"], Rescored)
    torch.testing.assert_close(step(one, featured)["loss"], step(two, featured)["loss"])


def test_published_numbers() -> None:
    method = mm.method("esa", preset="published")
    recipe = method.recipe()
    assert (method.dim, method.batch, method.margin, method.reduction) == (1024, 128, 0.2, "sum")  # type: ignore[attr-defined]
    assert (recipe.lr, recipe.epochs, recipe.milestones, recipe.optimiser) == (5e-4, 25, (15,), "adamw")
    assert (recipe.clip, recipe.weight_decay) == (2.0, 0.01)
    assert mm.method("esa", preset="bert").recipe().weight_decay == 1e-4


def test_released_pairs_are_the_diagonal(featured: Pairs) -> None:
    model = mm.method("esa", **{**SMALL, "preset": "published", "mode": "released"}).build(featured)
    term = model.objective_terms.terms["expanding"]
    assert isinstance(term, Rescored) and isinstance(term.loss, Expanding)
    assert (term.loss.pairing.positives, term.loss.pairing.siblings) == ("diagonal", "negatives")
    assert torch.isfinite(step(model, featured)["loss"])


def test_it_says_what_it_looked_at(featured: Pairs) -> None:
    model = mm.method("esa", **SMALL).build(featured)
    (seen,) = model.attend_texts(["a red circle above a square"])
    assert seen.shares is not None and seen.shares.shape[0] == 1
    assert float(seen.shares.sum()) == pytest.approx(1.0)


POOLED = [
    name
    for name in methods()
    if method_class(name).learns and not method_class(name).fitted and "pooling" not in method_class(name).fixed
]


@pytest.mark.parametrize("name", POOLED)
def test_every_method_may_pool_by_attention(name: str, featured: Pairs) -> None:
    small = {k: v for k, v in SMALL.items() if k not in method_class(name).fixed}
    model = mm.method(name, **small, pooling="attention").build(featured)
    assert isinstance(model.images, FeatureTower)
    for tower in (model.images, model.texts):
        assert any(isinstance(module, AttentionPool) for module in tower.modules())
    step(model, featured)["loss"].backward()
    pools = [p for k, p in model.named_parameters() if ".score." in k]
    assert pools and all(p.grad is not None for p in pools)
