"""Every method, found by its file: builds, learns a small world, saves, loads and indexes to the same answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import manymatch as mm
from manymatch.data.pairs import Pairs
from manymatch.embeddings import Embedding
from manymatch.errors import CheckpointError, DataError, UnknownName
from manymatch.evaluation.encoding import encode as encode_pairs
from manymatch.evaluation.scores import ModelScores
from manymatch.index import Results
from manymatch.methods import Model, method_class, methods
from manymatch.methods.composite import Composite
from manymatch.training import TrainConfig, train
from tiny_towers import tiny_clip

EACH = pytest.mark.parametrize("name", methods())
LEARNING = pytest.mark.parametrize("name", [name for name in methods() if method_class(name).learns])
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


def small(name: str, epochs: int = 2) -> dict[str, Any]:
    """The numbers of a small model, without those that do nothing for the method; of members, how they train too."""
    cls = method_class(name)
    numbers: dict[str, Any] = {field: value for field, value in SMALL.items() if field not in cls.fixed}
    if issubclass(cls, Composite):
        numbers |= {each: {**small(part), "epochs": epochs, "lr": 5e-3} for each, (part, _) in cls.parts.items()}
    return numbers


def config(name: str, epochs: int = 2) -> TrainConfig:
    """How a small model trains."""
    own: dict[str, Any] = {} if issubclass(method_class(name), Composite) else {"epochs": epochs, "lr": 5e-3}
    return TrainConfig(**own, precision="float32")


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP with random weights, as it is saved."""
    return tiny_clip(tmp_path_factory.mktemp("towers") / "clip")


def towers(name: str, clip: Path) -> dict[str, str]:
    """The towers of a method that takes pretrained ones as they are."""
    return {} if method_class(name).learns else {"image_tower": f"hf:{clip}", "text_tower": f"hf:{clip}"}


@pytest.fixture(scope="module")
def trained(featured: Pairs, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Model, Path]]:
    """Each method trained for a moment, on the features of 60 pictures."""
    out = {}
    few = featured.take(range(60))
    for name in methods():
        folder = tmp_path_factory.mktemp(name) / "run"
        model = mm.method(name, **small(name)).build(few, **towers(name, clip))
        out[name] = train(model, few, out=folder, config=config(name), say=None), folder
    return out


@pytest.mark.slow
@LEARNING
def test_it_learns_a_small_world(name: str, featured: Pairs, tmp_path: Path) -> None:
    few = featured.take(range(60))
    model = mm.method(name, **small(name, 25)).build(few)
    model = train(model, few, validate=few, out=tmp_path / "run", config=config(name, 25), say=None)
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


MODES = [(name, "paper") for name in methods()]
MODES += [(name, "released") for name in methods() if "mode" not in method_class(name).fixed]
SAME = 1e-6
"""Scores nearer than this, of the largest, are the same in float32."""


@pytest.fixture(scope="module")
def gallery(featured: Pairs) -> Pairs:
    """As many captions as pictures, so that all of them are one batch."""
    items = [replace(item, captions=item.captions[:1]) for item in featured.items]
    return Pairs(items, pictures=featured.pictures, features=featured.features)


@pytest.fixture(scope="module")
def runs_in(trained: dict[str, tuple[Model, Path]], gallery: Pairs) -> dict[tuple[str, str], Model]:
    """Method and mode -> run. The released form, where it is another one, as it begins."""
    return {
        (name, mode): trained[name][0] if mode == "paper" else mm.method(name, mode=mode, **small(name)).build(gallery)
        for name, mode in MODES
    }


def evaluated(model: Model, images: Embedding, texts: Embedding, direction: str) -> np.ndarray:
    """The scores that `evaluate` ranks (queries, gallery)."""
    return np.concatenate([scores for _, scores in ModelScores(model.similarity, images, texts).rows(direction)])


def rounded(embedding: Embedding, precision: str) -> Embedding:
    return embedding.to(getattr(torch, precision)).to(torch.float32)


def expect_order(found: Results, ids: list[str], scores: np.ndarray) -> None:
    """The first hundred of `scores`, swapped only where those are the same."""
    right, place = np.sort(scores)[::-1][:100], {id: n for n, id in enumerate(ids)}
    there = scores[[place[hit.id] for hit in found]]
    assert found.exact and len({hit.id for hit in found}) == len(right)
    slack = SAME * max(1.0, float(np.abs(scores).max()))
    np.testing.assert_allclose(there, right, rtol=0, atol=slack)
    np.testing.assert_allclose([hit.raw_score for hit in found], there, rtol=0, atol=2 * slack)


@pytest.mark.parametrize("precision", ["float16", "float32"])
@pytest.mark.parametrize(("name", "mode"), MODES)
def test_exact_search_ranks_what_is_evaluated(
    name: str, mode: str, precision: str, runs_in: dict[tuple[str, str], Model], gallery: Pairs, tmp_path: Path
) -> None:
    """Both ways. Queries are encoded in one batch: what released code makes of a text may depend on the others."""
    model, captions, some = runs_in[name, mode], gallery.captions[::4], range(0, len(gallery), 4)
    images, texts = encode_pairs(model, gallery, 256, None)
    stored = [rounded(e, precision) for e in (images, texts)]
    asked = model.encode_texts(captions)
    # Ranked are the scores of what is stored, and in float16 those are not far from the run's own.
    words, pictures = evaluated(model, stored[0], asked, "t2i"), evaluated(model, *stored, "i2t")
    own = evaluated(model, images, texts, "i2t")
    assert np.abs(pictures - own).max() <= (1e-3 if precision == "float16" else 0.0) * max(1.0, np.abs(own).max())
    with mm.Index.build(model, gallery, tmp_path / "x", engine="exact", precision=precision) as index:  # type: ignore[arg-type]
        for found, scores in zip(index.search_many(captions, 100), words, strict=True):
            expect_order(found, gallery.image_ids, scores)
        for n in some:
            found = index.search(like=gallery.image_ids[n], k=100, among="captions")
            expect_order(found, gallery.caption_ids, pictures[n])


@pytest.mark.parametrize(("name", "mode"), MODES)
def test_approximate_search_reaches_what_it_promises_or_is_exact(
    name: str,
    mode: str,
    runs_in: dict[tuple[str, str], Model],
    gallery: Pairs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("local.view", "local.collection"):
        monkeypatch.setattr(f"manymatch.index.{module}.EXACT_UP_TO", 20)
    model = runs_in[name, mode]
    stored = [rounded(e, "float16") for e in encode_pairs(model, gallery, 256, None)]
    with mm.Index.build(model, gallery, tmp_path / "x", engine="faiss") as index:
        told = index.info()["agreement"]
        for asking, searched, ids, way in (
            ("image", "caption", gallery.image_ids, "i2t"),
            ("caption", "image", gallery.caption_ids, "t2i"),
        ):
            promised, shares = told[searched].get(asking), []
            tenth = np.sort(evaluated(model, *stored, way), axis=1)[:, -10]
            for id, least in zip(ids, tenth - 5e-5 * np.maximum(1.0, np.abs(tenth)), strict=True):
                found = index.search(like=id, among=f"{searched}s")  # type: ignore[arg-type]
                assert found.exact or (promised is not None and found.agreement == promised >= 0.99)
                shares.append(sum(hit.score >= least for hit in found) / 10)
            # These are the very queries that it was measured with.
            assert np.mean(shares) >= (1.0 if promised is None else promised) - 1e-6


@EACH
def test_what_does_nothing_is_refused_and_not_listed(name: str, featured: Pairs, clip: Path) -> None:
    cls, row = method_class(name), next(row for row in mm.methods_table() if row["name"] == name)
    assert not set(cls.fixed) & set(row["fields"])
    others = {"mode": "released", "objective": "triplet", "dropout": 0.5}
    for field in set(cls.fixed) & set(others):
        with pytest.raises(DataError, match=f"{name}.{field}: found .*{cls.fixed[field]}; leave it out"):
            mm.method(name, **{field: others[field]})
    # A run that was written with such a value is still read.
    about = mm.method(name, **small(name)).build(featured.take(range(12)), **towers(name, clip)).describe()
    about["fields"] |= {field: others[field] for field in set(cls.fixed) & set(others)}
    assert Model.from_description(about).name == name


def test_methods_without_a_released_code_or_a_trained_part() -> None:
    assert {"mode"} == set(method_class("msrm").fixed) == set(method_class("p2rm").fixed)
    assert {"dim", "least_count"}.isdisjoint(method_class("cca").fixed) and "dropout" in method_class("cca").fixed


@LEARNING
def test_same_seed_same_weights(name: str, featured: Pairs) -> None:
    method = mm.method(name, **small(name))
    one, two, other = (method.build(featured, seed=s).state_dict() for s in (0, 0, 1))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert any(not torch.equal(one[k], other[k]) for k in one)


STARTED = pytest.mark.parametrize(
    "name", [n for n in methods() if "start" not in method_class(n).fixed and not mm.method(n).members()]
)


@pytest.fixture(scope="module")
def linear(featured: Pairs, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The closed form alone, on the pictures that the methods below begin at."""
    few = featured.take(range(60))
    model = mm.method("cca", dim=32, least_count=1).build(few)
    return train(model, few, out=tmp_path_factory.mktemp("linear") / "run", say=None)


def scores_of(model: Model, pairs: Pairs) -> torch.Tensor:
    return model.similarity(model.encode_texts(pairs.captions), model.encode_images(pairs.images))


@STARTED
def test_a_linear_start_begins_where_cca_ends_and_trains(
    name: str, linear: Model, featured: Pairs, tmp_path: Path
) -> None:
    few, other = featured.take(range(60)), featured.take(range(60, 80))
    model = mm.method(name, **small(name), start="linear").build(few)
    wanted, begun = scores_of(linear, other), scores_of(model, other)
    if model.encode_texts(["a red circle"]).kind in ("points", "sets", "samples"):
        # What these compare by grows with the cosine.
        found = wanted.gather(1, begun.argsort(dim=1, descending=True))
        assert float(found.diff(dim=1).max()) < 1e-4
    else:
        ranks = torch.stack([wanted, begun]).argsort(dim=2).argsort(dim=2).double()
        assert float(torch.corrcoef(ranks.flatten(1))[0, 1]) > 0.8
    trained = train(model, few, out=tmp_path / "run", config=config(name, 3), say=None)
    assert not torch.allclose(scores_of(trained, other), begun, atol=1e-3)
    again = mm.load(tmp_path / "run")
    assert torch.equal(scores_of(again, other), scores_of(trained, other))
    assert again.fingerprint() == trained.fingerprint() and again.knows("red")
    assert len(again.attend_texts(["a red circle"])) == len(again.attend_images(other.images[:1])) == 1
    rsum = mm.evaluate(trained, few, protocol="own").value("RSUM", "both")
    assert rsum > mm.evaluate(linear, few, protocol="own").value("RSUM", "both") - 60


@STARTED
def test_a_linear_start_of_pictures_is_refused(name: str, world: Pairs) -> None:
    with pytest.raises(DataError, match="a closed form needs features that stay, and the image tower 'cnn' reads"):
        mm.method(name, **small(name), start="linear").build(world.take(range(12)))


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
