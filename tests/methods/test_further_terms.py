"""Soft labels and inclusion beside a method's objective: off they change nothing, on they act and can be resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import manymatch as mm
from manymatch.data.batches import Rows
from manymatch.data.features import Features
from manymatch.data.pairs import Pairs
from manymatch.errors import DataError
from manymatch.losses import Inclusion, SoftLabels
from manymatch.methods import Batch, Model, method_class, methods
from manymatch.methods.batch import part_of_captions, part_of_images
from manymatch.training import TrainConfig, train
from manymatch.training.feed import batches
from manymatch.training.plan import Plan

SMALL: dict[str, Any] = {"dim": 16, "word_dim": 12, "hidden": 8, "batch": 16, "captions": 2, "least_count": 1}
TRAINED = [name for name in methods() if "soft_weight" not in method_class(name).fixed]
INCLUDING = ["msrm", "p2rm", "pcme", "pcmepp"]


def built(name: str, pairs: Pairs, **fields: Any) -> Model:
    kept = {key: value for key, value in SMALL.items() if key not in method_class(name).fixed}
    return mm.method(name, **{**kept, **fields}).build(pairs)


def first_rows(model: Model, pairs: Pairs) -> Rows:
    return next(iter(model.method.sampler().epoch(pairs, seed=0, epoch=0)))


def first_batch(model: Model, pairs: Pairs, seed: tuple[int, ...] = (0,)) -> Batch:
    rows = first_rows(model, pairs)
    return model.batch(pairs, rows.images, rows.captions, rows.matches, seed=seed)


@pytest.fixture(scope="module")
def few(featured: Pairs) -> Pairs:
    return featured.take(range(40))


# ---- off


def test_by_default_nothing_stands_beside_the_objective(few: Pairs) -> None:
    for name in TRAINED:
        assert not {"soft", "inclusion"} & set(built(name, few).objective_terms.terms)
    assert [name for name in methods() if hasattr(method_class(name), "inclusion_weight")] == INCLUDING


@pytest.mark.parametrize("name", INCLUDING)
def test_the_terms_change_no_starting_weight_and_nothing_that_searches(name: str, few: Pairs) -> None:
    plain, both = built(name, few), built(name, few, soft_weight=0.1, inclusion_weight=0.1)
    mine, theirs = plain.search_state(), both.search_state()
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)
    assert set(both.training_state()) - set(plain.training_state()) == {"objective_terms.terms.soft.student"}
    batch = first_batch(plain, few)
    assert batch.image_part is None and batch.caption_part is None


# ---- on


@pytest.mark.parametrize("name", TRAINED)
def test_every_trained_method_takes_soft_labels(name: str, few: Pairs) -> None:
    model = built(name, few, soft_weight=0.05)
    model.objective_terms.prepare(few, seed=0, say=print)
    model.advance(9, 10)
    terms = model.training_step(first_batch(model, few))
    terms["loss"].backward()
    soft = model.objective_terms.terms["soft"]
    assert isinstance(soft, SoftLabels) and soft.student.grad is not None
    assert 0 < float(terms["soft"].detach()) < 3, "scores are taken in units of a cosine"
    assert model.objective_terms.weights["soft"] == pytest.approx(0.05 * 64)


@pytest.mark.parametrize("name", INCLUDING)
def test_inclusion_acts_on_both_sides(name: str, few: Pairs) -> None:
    model = built(name, few, inclusion_weight=0.3)
    batch = first_batch(model, few)
    assert batch.image_part is not None and batch.caption_part is not None
    terms = model.training_step(batch)
    terms["inclusion"].backward()
    for tower in (model.images, model.texts):
        assert any(p.grad is not None and p.grad.any() for p in tower.head.parameters())
    assert isinstance(model.objective_terms.terms["inclusion"], Inclusion)
    assert bool(torch.isfinite(terms["loss"]))


def test_released_inclusion_is_the_released_one(few: Pairs) -> None:
    for mode in ("paper", "released"):
        term = built("pcmepp", few, inclusion_weight=0.3, mode=mode).objective_terms.containment()
        assert isinstance(term, Inclusion) and term.mode == mode


def test_what_is_left_out_depends_on_seed_and_step_alone(few: Pairs) -> None:
    model = built("pcmepp", few, inclusion_weight=0.3)
    plan = Plan(TrainConfig(epochs=2).recipe(model.method), model.method.sampler().steps(few))

    def parts(seed: int, start: int) -> list[tuple[np.ndarray, np.ndarray]]:
        fed = batches(model, few, model.method.sampler(), plan, seed=seed, start=start)
        seen = [(batch.caption_part, batch.image_part) for _, batch in fed]
        return [(c.inputs.ids, i.inputs.vectors) for c, i in seen]  # type: ignore[union-attr]

    def same(one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...]) -> bool:
        return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))

    whole, late, other = parts(0, 0), parts(0, 2), parts(1, 0)
    assert len(late) == len(whole) - 2 and all(same(a, b) for a, b in zip(whole[2:], late, strict=True))
    assert not same(whole[0], whole[1]) and not same(whole[0], other[0])


def test_parts_are_parts(few: Pairs) -> None:
    model, wanted = built("pcmepp", few), Inclusion(chosen=0.5, left_out=0.75)
    features = model.prepare_images(few.images)
    assert isinstance(features, Features) and features.vectors is not None
    lengths = 1 + np.arange(40) % 16
    short = Features(features.vectors, lengths, features.pooled)
    part = part_of_images(short, wanted, np.random.default_rng(0))
    assert part is not None and len(part.rows) == 20 and isinstance(part.inputs, Features)
    assert part.inputs.vectors is not None and part.inputs.lengths is not None
    np.testing.assert_array_equal(part.inputs.lengths, np.maximum(1, np.rint(lengths[part.rows] / 4)))
    for row, vectors, count in zip(part.rows, part.inputs.vectors, part.inputs.lengths, strict=True):
        there = [bytes(v) for v in features.vectors[row][: lengths[row]]]
        places = [there.index(bytes(v)) for v in vectors[:count]]
        assert places == sorted(places) and not vectors[count:].any()
    said = part_of_captions(few.captions, model.texts, wanted, np.random.default_rng(0))
    assert said is not None and len(said.rows) == len(few.captions) // 2
    whole = model.texts.tokens([few.captions[row] for row in said.rows])
    for ids, length, all_ids, all_of_it in zip(
        said.inputs.ids,
        said.inputs.lengths,
        whole.ids,
        whole.lengths,
        strict=True,  # type: ignore[union-attr]
    ):
        assert set(ids[:length]) <= set(all_ids[:all_of_it]) and length == max(1, round(all_of_it / 4))


def test_pictures_have_no_fragments_to_leave_out(world: Pairs) -> None:
    few = world.take(range(24))
    model = built("pcmepp", few, inclusion_weight=0.3)
    batch = first_batch(model, few)
    assert batch.image_part is None and batch.caption_part is not None
    assert float(model.training_step(batch)["inclusion"].detach()) > 0


def test_soft_labels_without_a_teacher_are_refused(few: Pairs) -> None:
    model = built("vsepp", few, soft_weight=0.1)
    with pytest.raises(DataError, match="no teacher yet"):
        model.training_step(first_batch(model, few))


def test_a_run_goes_on_as_if_it_had_never_stopped(few: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def go(out: Path, resume: bool = False) -> dict[str, torch.Tensor]:
        model = built("pcmepp", few, soft_weight=0.1, soft_teacher="shuffled", inclusion_weight=0.3)
        config = TrainConfig(epochs=2, save_minutes=0.0, seed=4)
        train(model, few, out=out, config=config, resume=resume, say=None)
        return load_file(out / "model.safetensors") | load_file(out / "training" / "state.safetensors")

    whole = go(tmp_path / "whole")
    step_of, seen = Model.training_step, 0

    def dying(self: Model, *args: object) -> object:
        nonlocal seen
        seen += 1
        if seen > 4:
            raise RuntimeError("gone")
        return step_of(self, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Model, "training_step", dying)
        with pytest.raises(RuntimeError, match="gone"):
            go(tmp_path / "cut")
    again = go(tmp_path / "cut", resume=True)
    assert whole.keys() == again.keys() and all(torch.equal(whole[key], again[key]) for key in whole)
    assert "model.objective_terms.terms.soft.student" in whole
    assert not [key for key in whole if key.endswith((".images", ".texts", ".owner"))]
    loaded = mm.load(tmp_path / "cut")
    assert loaded.method.soft_weight == 0.1 and loaded.notes["terms"]["soft"] == pytest.approx(6.4)
