"""DivE's fields that keep a set a set, and a nested run used with its first elements alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import manymatch as mm
from manymatch.cli import app
from manymatch.data.pairs import Pairs
from manymatch.embeddings import Sets
from manymatch.errors import DataError
from manymatch.losses import GlobalDiscriminative, Nested
from manymatch.methods import Model, method_class
from manymatch.similarity import Assignment
from manymatch.training import TrainConfig, train

SMALL: dict[str, Any] = {
    "dim": 32,
    "word_dim": 24,
    "hidden": 16,
    "head_width": 8,
    "slot_hidden": 32,
    "iterations": 2,
    "dropout": 0.0,
    "feature_dropout": 0.0,
    "region_drop": 0.0,
    "word_drop": 0.0,
    "batch": 30,
    "captions": 3,
    "least_count": 1,
}
KEEPING = {"discriminative_weight": 0.1, "divergence_weight": 0.5, "ramp": 0.3}
FIELDS: list[dict[str, Any]] = [
    {"discriminative_weight": 0.25, "divergence_weight": 0.25},
    {"compare": "assignment"},
    {"nested": True},
]
TOGETHER: list[dict[str, Any]] = [
    {"variance": True, "nested": True, **KEEPING},
    {"set_head": "pie", "nested": True, **KEEPING},
    {"compare": "assignment", "elements": 6, "objective": "triplet", "nested": True, **KEEPING},
]


@pytest.fixture(scope="module")
def few(featured: Pairs) -> Pairs:
    return featured.take(range(60))


def learned(pairs: Pairs, out: Path, *, epochs: int = 8, **fields: Any) -> Model:
    model = mm.method("dive", **{**SMALL, **fields}).build(pairs)
    config = TrainConfig(epochs=epochs, lr=5e-3, average=0.0, precision="float32")
    return train(model, pairs, out=out, config=config, say=None)


@pytest.mark.parametrize(
    "fields",
    [*FIELDS, *(pytest.param(fields, marks=pytest.mark.slow) for fields in TOGETHER)],
    ids=lambda f: "-".join(f"{k}={v}" for k, v in f.items()),
)
def test_each_field_builds_learns_saves_loads_and_indexes_to_the_same_order(
    fields: dict[str, Any], few: Pairs, tmp_path: Path
) -> None:
    model = learned(few, tmp_path / "run", epochs=20 if "variance" in fields else 8, **fields)
    # Chance is about 55; the many vague toy captions keep it far from 600.
    assert mm.evaluate(model, few, protocol="own").value("RSUM", "both") > 90
    again = mm.load(tmp_path / "run")
    assert again.fingerprint() == model.fingerprint()
    words = few.captions[:20]
    asked, images = again.encode_texts(words), again.encode_images(few.images)
    scores = again.similarity(asked, images.to(torch.float16).to(torch.float32))
    assert torch.equal(model.similarity(model.encode_texts(words), images), again.similarity(asked, images))
    place = {id: n for n, id in enumerate(few.image_ids)}
    with mm.Index.build(again, few, tmp_path / "x", engine="exact") as index:
        for found, row in zip(index.search_many(words, 10), scores, strict=True):
            there = row[[place[hit.id] for hit in found]]
            slack = 1e-6 * max(1.0, float(scores.abs().max()))
            torch.testing.assert_close(there, row.sort(descending=True).values[:10], rtol=0, atol=slack)


def test_the_objective_says_what_is_on() -> None:
    plain = mm.method("dive", objective="infonce")
    assert set(plain.objective_terms().weights) == {"infonce", "mmd", "diversity"}
    assert plain.prefixes() == ()
    nested = mm.method("dive", objective="infonce", nested=True, compare="assignment", **KEEPING)
    terms = nested.objective_terms()
    assert terms.weights == {"infonce": 1.0, "mmd": 0.01, "diversity": 0.01, "discriminative": 0.1, "divergence": 0.5}
    assert isinstance(terms.terms["infonce"], Nested) and isinstance(nested.similarity(), Assignment)
    discriminative = terms.terms["discriminative"]
    assert isinstance(discriminative, GlobalDiscriminative)
    assert (discriminative.exempt, discriminative.ramp) == (1, 0.3) and nested.prefixes() == (1, 2, 4)
    with pytest.raises(DataError, match=r"dive.elements: found 9, expected at most 8 with compare=assignment"):
        mm.method("dive", elements=9, compare="assignment")


def test_what_is_off_changes_no_starting_weight(few: Pairs) -> None:
    plain, kept = (mm.method("dive", **SMALL, **fields).build(few) for fields in ({}, {**KEEPING, "nested": True}))
    mine = kept.search_state()
    assert all(torch.equal(value, mine[name]) for name, value in plain.search_state().items())


def test_the_terms_keep_sets_apart(few: Pairs, tmp_path: Path) -> None:
    spread = {}
    for name, fields in (("plain", {}), ("kept", {"divergence_weight": 2.0, "discriminative_weight": 0.25})):
        images = learned(few, tmp_path / name, epochs=6, **fields).encode_images(few.images)
        assert isinstance(images, Sets)
        spread[name] = images.log_circular_variance()
    assert spread["kept"] > spread["plain"] + 0.2, spread


@pytest.mark.parametrize("preset", [p for p in method_class("dive").presets if p.startswith("spread")])
def test_presets_that_keep_sets_apart_train_as_the_default_does(preset: str) -> None:
    method = mm.method("dive", preset=preset)
    assert method.recipe() == mm.method("dive").recipe()
    assert method.divergence_weight > 0  # type: ignore[attr-defined]


# ---- the first elements alone


@pytest.fixture(scope="module")
def nested(few: Pairs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nested") / "run"
    model = mm.method("dive", **SMALL, nested=True).build(few)
    config = TrainConfig(epochs=3, lr=5e-3, precision="float32")
    train(model, few, validate=few.take(range(40)), out=folder, config=config, say=None)
    return folder


@pytest.mark.parametrize("elements", [1, 2])
def test_a_nested_run_is_used_with_its_first_elements(elements: int, nested: Path, few: Pairs, tmp_path: Path) -> None:
    whole, cut = mm.load(nested), mm.load(nested, elements=elements)
    assert cut.fingerprint() != whole.fingerprint() and cut.describe()["elements"] == elements
    assert f"elements {elements} of 4" in cut.summary and "elements" not in whole.summary
    assert cut.calibration is None and whole.calibration is not None
    for all_of_them, first in (
        (whole.encode_images(few.images), cut.encode_images(few.images)),
        (whole.encode_texts(few.captions[:9]), cut.encode_texts(few.captions[:9])),
    ):
        assert isinstance(all_of_them, Sets) and isinstance(first, Sets)
        assert torch.equal(first.elements, all_of_them.elements[:, :elements])
    attended = cut.attend_texts(few.captions[:1])[0]
    assert attended.elements == elements and attended.shares is not None and len(attended.shares) == elements
    with mm.Index.build(cut, few, tmp_path / "x") as index:
        assert len(index.search(few.captions[0], k=3).hits) == 3
    copy = mm.load(tmp_path / "x" / "run")
    assert copy.fingerprint() == cut.fingerprint() and copy.elements == elements
    assert mm.load(tmp_path / "x" / "run", elements=4).fingerprint() == whole.fingerprint()


def test_all_elements_are_the_run_itself(nested: Path) -> None:
    whole = mm.load(nested, elements=4)
    assert whole.fingerprint() == mm.load(nested).fingerprint() and whole.calibration is not None
    assert "elements" not in whole.describe()


def test_the_bank_is_cut_too(nested: Path, few: Pairs) -> None:
    whole, cut = mm.load(nested), mm.load(nested, elements=2)
    if whole.bank is None:
        pytest.skip("the run has no bank")
    assert cut.bank is not None and cut.bank.digest != whole.bank.digest
    for asking in ("image", "caption"):
        queries = cut.bank.queries[asking].embedding(slice(0, 5))
        other = whole.bank.queries[asking].embedding(slice(0, 5))
        assert isinstance(queries, Sets) and isinstance(other, Sets)
        assert torch.equal(queries.elements, other.elements[:, :2])
        assert cut.bank.bias(cut.similarity, cut.encode_images(few.images), asking).shape == (60,)


def test_numbers_it_was_not_trained_for_are_refused(nested: Path, few: Pairs, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"run '.*': elements 3: expected 1 or 2 or 4, as trained"):
        mm.load(nested, elements=3)
    learned(few, tmp_path / "plain", epochs=1)
    with pytest.raises(DataError, match="elements 2: dive was not trained to be used with fewer"):
        mm.load(tmp_path / "plain", elements=2)


def test_on_the_command_line(nested: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    refused = run(
        app, ["index", str(tmp_path), "--model", str(nested), "--elements", "3", "--out", str(tmp_path / "x")]
    )
    assert isinstance(refused.exception, DataError) and "expected 1 or 2 or 4" in str(refused.exception)
    for command in ("evaluate", "index"):
        assert "--elements" in run(app, [command, "--help"], env={"COLUMNS": "200"}).output
