"""Every method, found by its file: builds, learns a small world, saves, loads and indexes to the same answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import manymatch as mm
from manymatch.data.pairs import Pairs
from manymatch.errors import CheckpointError, DataError, UnknownName
from manymatch.methods import Model, method_class, methods
from manymatch.training import TrainConfig, train

EACH = pytest.mark.parametrize("name", methods())
SMALL = {
    "dim": 32,
    "word_dim": 24,
    "hidden": 16,
    "dropout": 0.0,
    "feature_dropout": 0.0,
    "region_drop": 0.0,
    "word_drop": 0.0,
    "batch": 32,
    "captions": 3,
    "least_count": 1,
}


def small(name: str) -> dict[str, float]:
    """The numbers of a small model, without those that do nothing for the method."""
    return {field: value for field, value in SMALL.items() if field not in method_class(name).fixed}


@pytest.fixture(scope="module")
def trained(featured: Pairs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Model, Path]]:
    """Each method trained for a moment, on the features of 60 pictures."""
    out = {}
    few = featured.take(range(60))
    for name in methods():
        folder = tmp_path_factory.mktemp(name) / "run"
        model = mm.method(name, **small(name)).build(few)
        config = TrainConfig(epochs=2, lr=5e-3, precision="float32")
        out[name] = train(model, few, out=folder, config=config, say=None), folder
    return out


@pytest.mark.slow
@EACH
def test_it_learns_a_small_world(name: str, featured: Pairs, tmp_path: Path) -> None:
    few = featured.take(range(60))
    config = TrainConfig(epochs=25, lr=5e-3, precision="float32")
    model = train(
        mm.method(name, **small(name)).build(few), few, validate=few, out=tmp_path / "run", config=config, say=None
    )
    report = mm.evaluate(model, few, protocol="own")
    # Many toy captions are vague and fit several pictures, so 600 is out of reach; chance is about 55.
    assert report.value("RSUM", "both") > 200


@EACH
def test_load_gives_equal_scores(name: str, trained: dict[str, tuple[Model, Path]], featured: Pairs) -> None:
    model, folder = trained[name]
    again = mm.load(folder)
    test = featured.take(range(60, 80))
    scores = [m.similarity(m.encode_texts(test.captions), m.encode_images(test.images)) for m in (model, again)]
    assert torch.equal(scores[0], scores[1])
    assert again.fingerprint() == model.fingerprint()


def test_a_run_of_an_older_version_keeps_its_fingerprint(
    trained: dict[str, tuple[Model, Path]], featured: Pairs, tmp_path: Path
) -> None:
    import json
    import shutil

    shutil.copytree(trained["dive"][1], tmp_path / "old")
    value = json.loads((tmp_path / "old" / "run.json").read_text())
    del value["fields"]["standardise"], value["fields"]["alpha"]
    (tmp_path / "old" / "run.json").write_text(json.dumps(value))
    few = featured.take(range(5))
    mm.Index.build(mm.load(tmp_path / "old"), few, tmp_path / "x").close()
    with mm.Index.open(tmp_path / "x") as index:
        assert len(index.search("a red circle", k=3).hits) == 3
    assert mm.load(tmp_path / "x" / "run").fingerprint() == mm.load(tmp_path / "old").fingerprint()


@EACH
def test_the_run_holds_no_training_part_that_search_needs(name: str, trained: dict[str, tuple[Model, Path]]) -> None:
    folder = trained[name][1]
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert not [k for k in file.keys() if k.startswith(("objective", "relation"))]  # noqa: SIM118


@EACH
def test_batch_size_changes_no_embedding(name: str, trained: dict[str, tuple[Model, Path]], featured: Pairs) -> None:
    model = trained[name][0]
    test = featured.take(range(60, 75))
    for encode, items in ((model.encode_images, test.images), (model.encode_texts, test.captions)):
        one, many = encode(items, batch_size=1), encode(items, batch_size=64)
        for key, value in one.tensors().items():
            torch.testing.assert_close(value, many.tensors()[key], rtol=0, atol=1e-5)


@EACH
def test_search_is_what_was_evaluated(
    name: str, trained: dict[str, tuple[Model, Path]], featured: Pairs, tmp_path: Path
) -> None:
    model, _ = trained[name]
    test = featured.take(range(60, 120))
    index = mm.Index.build(model, test, tmp_path / "x.index", precision="float32")
    scores = model.similarity(model.encode_texts(test.captions), model.encode_images(test.images)).numpy()
    for n in range(0, len(test.captions), 17):
        hits = list(index.search(test.captions[n], k=10))
        rows = [test.image_ids.index(h.id) for h in hits]
        best = np.sort(scores[n])[::-1][:10]
        np.testing.assert_allclose(scores[n][rows], best, rtol=0, atol=2e-6)
    index.close()


@EACH
def test_what_does_nothing_is_refused_and_not_listed(name: str, featured: Pairs) -> None:
    cls, row = method_class(name), next(row for row in mm.methods_table() if row["name"] == name)
    assert not set(cls.fixed) & set(row["fields"])
    others = {"mode": "released", "objective": "triplet", "dropout": 0.5}
    for field in set(cls.fixed) & set(others):
        with pytest.raises(DataError, match=f"{name}.{field}: found .*{cls.fixed[field]}; leave it out"):
            mm.method(name, **{field: others[field]})
    # A run that was written with such a value is still read.
    about = mm.method(name, **small(name)).build(featured.take(range(12))).describe()
    about["fields"] |= {field: others[field] for field in set(cls.fixed) & set(others)}
    assert Model.from_description(about).name == name


def test_methods_without_a_released_code_or_a_trained_part() -> None:
    assert {"mode"} == set(method_class("msrm").fixed) == set(method_class("p2rm").fixed)
    assert {"dim", "least_count"}.isdisjoint(method_class("cca").fixed) and "dropout" in method_class("cca").fixed


@EACH
def test_same_seed_same_weights(name: str, featured: Pairs) -> None:
    method = mm.method(name, **small(name))
    one, two, other = (method.build(featured, seed=s).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert any(not torch.equal(one[k], other[k]) for k in one)


@EACH
def test_it_says_what_it_is(name: str) -> None:
    cls = method_class(name)
    assert cls.name == name and cls.paper and cls.summary
    assert name in {row["name"] for row in mm.methods_table()}
    for preset in cls.presets:
        assert mm.method(name, preset=preset).preset == preset


PRESETS = [(name, preset) for name in methods() for preset in method_class(name).presets]


@pytest.mark.parametrize(("name", "preset"), PRESETS)
@pytest.mark.parametrize("tower", ["features", "cnn"])
def test_every_preset_takes_a_step(name: str, preset: str, tower: str, featured: Pairs) -> None:
    slots = {"head_width": 8, "slot_hidden": 16} if name == "dive" else {}
    model = mm.method(name, preset=preset, **{**SMALL, **slots, "mode": "paper"}).build(featured, image_tower=tower)
    rows = next(model.method.sampler().epoch(featured, seed=0, epoch=0))
    model.advance(9, 10)
    terms = model.training_step(model.batch(featured, rows.images, rows.captions, rows.matches))
    terms["loss"].backward()
    # The published PCME++ reads tokens alone, so nothing asks for the small CNN's global vector.
    global_vector = ("images.whole.", "images.squeeze.") if name == "pcmepp" else ()
    trained = [(k, p) for k, p in model.named_parameters() if p.requires_grad and not k.startswith(global_vector)]
    idle = [k for k, p in trained if p.grad is None]
    assert torch.isfinite(terms["loss"]) and not idle, f"parameters that nothing trains: {idle}"


def test_unknown_names_offer_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'dive'"):
        mm.method("dyve")
    with pytest.raises(UnknownName, match="did you mean 'elements'"):
        mm.method("dive", element=3)
    with pytest.raises(UnknownName, match="did you mean 'published'"):
        mm.method("dive", preset="publishd")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("elements", "four", "expected a whole number"),
        ("elements", 2.5, "expected a whole number"),
        ("alpha", "sharp", "expected a number"),
        ("use_pooled", "maybe", "expected true or false"),
        ("objective", "hinge", "expected one of 'auto', 'infonce', 'triplet'"),
    ],
)
def test_wrong_types_are_named(field: str, value: object, said: str) -> None:
    with pytest.raises(DataError, match=rf"dive\.{field}: found .*{said}"):
        mm.method("dive", **{field: value})


def test_texts_become_values() -> None:
    method = mm.method("dive", elements="8", alpha="4", use_pooled="no")
    assert (method.elements, method.alpha, method.use_pooled) == (8, 4.0, False)  # type: ignore[attr-defined]


def test_auto_objective_is_decided_by_the_data_and_written_down(featured: Pairs) -> None:
    model = mm.method("dive", **SMALL).build(featured)
    assert model.method.objective == "infonce"
    assert model.describe()["fields"]["objective"] == "infonce"
    assert mm.method("dive", **SMALL, objective="triplet").build(featured).method.objective == "triplet"


def test_published_dive_trains(featured: Pairs) -> None:
    small = {**SMALL, "preset": "published", "head_width": 8, "slot_hidden": 16}
    model = mm.method("dive", **small).build(featured)
    assert model.method.objective == "triplet"
    rows = next(model.method.sampler().epoch(featured, seed=0, epoch=0))
    terms = model.training_step(model.batch(featured, rows.images, rows.captions, rows.matches))
    assert set(terms) == {"triplet", "mmd", "diversity", "loss"}
    assert not any("pooled" in k for k in model.state_dict()), "the published form reads fragments only"


def test_a_step_refuses_draws_nobody_asked_for(featured: Pairs) -> None:
    model = mm.method("vsepp", **SMALL).build(featured)
    rows = next(model.method.sampler().epoch(featured, seed=0, epoch=0))
    batch = model.batch(featured, rows.images, rows.captions, rows.matches)
    with pytest.raises(DataError, match="nothing in the step draws"):
        model.training_step(batch, {"noise": torch.zeros(1)})


def test_pictures_for_a_run_on_features(trained: dict[str, tuple[Model, Path]], world: Pairs) -> None:
    with pytest.raises(DataError, match="has no backbone to look at a picture"):
        trained["dive"][0].encode_images([world.images[0]])
    with pytest.raises(DataError, match=r"texts\[0\]: found int"):
        trained["dive"][0].encode_texts([3])
    with pytest.raises(DataError, match="nothing to encode"):
        trained["dive"][0].encode_texts([])


def test_damaged_runs_are_refused_in_words(trained: dict[str, tuple[Model, Path]], tmp_path: Path) -> None:
    import json
    import shutil

    with pytest.raises(CheckpointError, match="no such folder"):
        mm.load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"no run\.json"):
        mm.load(tmp_path / "empty")
    folder = tmp_path / "run"
    shutil.copytree(trained["dive"][1], folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(CheckpointError, match="cannot be read"):
        mm.load(folder)
    shutil.copy(trained["vsepp"][1] / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"missing from|unknown in"):
        mm.load(folder)
    value = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**value, "format": 99}))
    with pytest.raises(CheckpointError, match="format 99, expected 1"):
        mm.load(folder)
    (folder / "run.json").write_text("{half")
    with pytest.raises(CheckpointError, match="is not JSON"):
        mm.load(folder)
