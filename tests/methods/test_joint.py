"""Trained runs joined: what the elements are, what is refused, and that everything works on a joint as on any run."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

import manymatch as mm
from manymatch.data.pairs import Pairs
from manymatch.embeddings import Boxes, Gaussians, Points, Samples, Sets
from manymatch.encoders.joined import Joining, elements_of
from manymatch.errors import CheckpointError, DataError
from manymatch.evaluation import ModelScores
from manymatch.evaluation.encoding import seen
from manymatch.evaluation.joining import _held_out, _moves
from manymatch.methods import Model
from manymatch.methods.composite import JoinedRuns
from manymatch.methods.joint import Joint, named_members
from manymatch.training import TrainConfig, train
from manymatch.training.state import PLAN, STATE
from tiny_towers import tiny_clip

SMALL = {"dim": 16, "word_dim": 12, "hidden": 8, "batch": 32, "captions": 3, "least_count": 1}
NARROW = {"head_width": 8, "slot_hidden": 16, "heads": 2, "iterations": 1}
CONFIG = TrainConfig(epochs=2, lr=5e-3, precision="float32", bank=50)


@pytest.fixture(scope="module")
def splits(featured: Pairs) -> tuple[Pairs, Pairs, Pairs]:
    return featured.take(range(60)), featured.take(range(60, 90)), featured.take(range(90, 120))


def trained(name: str, pairs: Pairs, out: Path, towers: dict[str, str] | None = None, **fields: Any) -> Path:
    settings = {"dim": 12, "least_count": 1} if name == "cca" else SMALL
    settings = {**settings, **(NARROW if name == "dive" else {}), **fields}
    config = TrainConfig() if name == "cca" else CONFIG
    train(mm.method(name, **settings).build(pairs, **(towers or {})), pairs, out=out, config=config, say=None)
    return out


@pytest.fixture(scope="module")
def runs(splits: tuple[Pairs, Pairs, Pairs], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return {name: trained(name, splits[0], folder / f"{name}-0") for name in ("cca", "dive", "pcmepp", "pcme")}


@pytest.fixture(scope="module")
def joint(runs: dict[str, Path], splits: tuple[Pairs, Pairs, Pairs], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("joint") / "run"
    said: list[str] = []
    mm.join([runs["cca"], runs["dive"]], splits[0], validate=splits[1], out=out, dim=20, bank=50, say=said.append)
    assert said[0].startswith("validation RSUM: cca-0 ") and "ensemble of their scores" in said[0]
    assert said[1].startswith("joint with weights cca-0 0.") and "rotated" in said[1]
    assert "of the first 10 in common, Spearman of the scores 0." in said[2]
    assert said[-1].startswith("joint: cca-0 (cca) x 0.") and "28 rotated to 20" in said[-1]
    return out


def of(*models: Model, dim: int = 512) -> Joint:
    return Joint.of(JoinedRuns(dim=dim), named_members(models, [model.name for model in models]))


# ---- what the elements are


def test_a_cosine_is_the_weighted_mean_of_the_members(runs: dict[str, Path], splits: tuple[Pairs, ...]) -> None:
    linear, sets = (mm.load(runs[name]) for name in ("cca", "dive"))
    model, captions = of(linear, sets), splits[2].captions[:7]
    model.joining.weights.copy_(torch.tensor([0.3, 0.7]))
    assert model.joining.rotation is None and model.shape.dim == 28
    found = model.encode_texts(captions)
    assert isinstance(found, Sets) and found.elements.shape == (7, 4, 28)
    torch.testing.assert_close(found.elements.norm(dim=-1), torch.ones(7, 4))
    points = functional.normalize(linear.encode_texts(captions).vectors, dim=-1)
    elements = sets.encode_texts(captions).elements
    wanted = 0.3 * (points @ points.T)[:, None, :, None] + 0.7 * torch.einsum("nkd,mld->nkml", elements, elements)
    cosines = torch.einsum("nkd,mld->nkml", found.elements, found.elements)
    torch.testing.assert_close(cosines, wanted, rtol=0, atol=1e-5)
    assert model.similarity.alpha == sets.similarity.alpha == 16.0


def test_members_of_one_vector_make_points(runs: dict[str, Path], splits: tuple[Pairs, ...]) -> None:
    linear, gaussians = (mm.load(runs[name]) for name in ("cca", "pcmepp"))
    model, texts = of(linear, gaussians), splits[2].captions[:5]
    found = model.encode_texts(texts)
    assert isinstance(found, Points) and type(model.similarity).__name__ == "Cosine"
    sides = [elements_of(each.encode_texts(texts))[:, 0] for each in (linear, gaussians)]
    wanted = sum(side @ side.T for side in sides) / 2
    torch.testing.assert_close(found.vectors @ found.vectors.T, wanted, rtol=0, atol=1e-5)


def test_a_rotation_that_keeps_all_changes_no_cosine() -> None:
    torch.manual_seed(0)
    parts = [Points(torch.randn(9, 6)), Sets(functional.normalize(torch.randn(9, 3, 5), dim=-1))]
    parts = [part[torch.arange(9) % 4] for part in parts]
    plain, turned = Joining((6, 5), 3, 11), Joining((6, 5), 3, 10)
    whole = plain.concatenated(parts).flatten(0, 1)
    # Four different items of three elements span at most ten directions.
    span = torch.linalg.svd(whole, full_matrices=False)
    rank = int((span.S > 1e-5).sum())
    assert turned.rotation is not None and rank <= 10
    turned.rotation.copy_(span.Vh[:10])
    torch.testing.assert_close(
        *(each(parts).elements.flatten(1) @ each(parts).elements.flatten(1).T for each in (plain, turned))
    )


def test_an_untrained_rotation_is_seeded(runs: dict[str, Path]) -> None:
    members = {name: mm.load(runs[name]) for name in ("cca", "dive")}
    one, two, other = (Joint.of(JoinedRuns(dim=20), members, seed=seed).joining.rotation for seed in (0, 0, 1))
    assert one is not None and two is not None and other is not None
    assert torch.equal(one, two) and not torch.equal(one, other)
    torch.testing.assert_close(one @ one.T, torch.eye(20))


def test_a_model_is_left_as_it_was(runs: dict[str, Path], splits: tuple[Pairs, ...], tmp_path: Path) -> None:
    models = [mm.load(runs["cca"]), mm.load(runs["dive"]).train()]
    mm.join(models, splits[0], out=tmp_path / "run", bank=0, say=None)
    assert [model.training for model in models] == [False, True]
    assert [model.images.training for model in models] == [False, True]


@pytest.mark.parametrize("count", [2, 6, 7, 20])
def test_weights_of_many_members_are_chosen_too(count: int) -> None:
    moves = list(_moves((1.0 / count,) * count))
    assert len(moves) == count * (count - 1)
    assert all(min(each) > 0.3 / count and sum(each) == pytest.approx(1.0) for each in moves)
    assert max(moves[0]) - 1.0 / count == pytest.approx(0.1 if count < 7 else 1.0 / (1.5 * count))


# ---- what it can do


def test_it_comes_back_from_disk_without_its_members(joint: Path, splits: tuple[Pairs, ...], tmp_path: Path) -> None:
    model = mm.load(joint)
    (tmp_path / "copy").mkdir()
    for name in ("run.json", "model.safetensors", "bank.safetensors"):
        shutil.copy(joint / name, tmp_path / "copy" / name)
    again = mm.load(tmp_path / "copy")
    assert again.fingerprint() == model.fingerprint() and again.summary == model.summary
    texts = splits[2].captions
    assert torch.equal(again.encode_texts(texts).elements, model.encode_texts(texts).elements)
    assert again.calibration is not None and again.bank is not None
    rotation = again.joining.rotation
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(20), rtol=0, atol=1e-5)
    value = json.loads((joint / "run.json").read_text())
    assert value["notes"]["seconds of"]["join"] > 0 and value["finished"]
    assert value["notes"]["join"]["validation RSUM"].keys() == {
        "cca-0",
        "dive-0",
        "ensemble of scores",
        "joint unrotated",
        "joint",
    }
    assert [json.loads(line)["joint"] for line in (joint / "metrics.jsonl").read_text().splitlines()] == [True]


def test_it_is_measured_and_reported(
    joint: Path, runs: dict[str, Path], splits: tuple[Pairs, ...], tmp_path: Path
) -> None:
    report = mm.evaluate(mm.load(joint), splits[2], resamples=0)
    assert report.value("RSUM", "both", "own") > 0 and any("query bank" in note for note in report.notes)
    assert "x 0." in report.made[0]
    told = mm.compare([joint, runs["dive"]], splits[2])
    assert told.rows
    mm.write_report([joint], splits[2], tmp_path / "page.html")
    assert "28 rotated to 20" in (tmp_path / "page.html").read_text()
    (note,) = [n for n in mm.evaluate(mm.load(joint), splits[1], resamples=0).notes if "no test of it" in n][:1]
    assert "had its epoch chosen" in note or "chosen on these very pairs" in note


def test_it_knows_what_its_members_saw(runs: dict[str, Path], splits: tuple[Pairs, ...], tmp_path: Path) -> None:
    linear, sets = mm.load(runs["cca"]), mm.load(runs["dive"])
    sets.notes["seen"]["validation"] = splits[2].digest
    once = mm.join([linear, sets], splits[0], out=tmp_path / "run", bank=0, say=None)
    twice = mm.join([once, linear], splits[0], out=tmp_path / "again", bank=0, say=None)
    wanted = {once: "dive of joint had its epoch", twice: "dive of joint of joint had its epoch"}
    for model, said in wanted.items():
        assert [note for note in seen([model], [], splits[2]) if said in note]
        assert seen([model], [], splits[0]) == ["joint was trained on these very pairs: no test of it"]


def test_a_picture_that_cannot_be_read_is_of_no_account(
    world: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, few = world.image_ids[3], world.take(range(30))
    monkeypatch.setattr(
        "manymatch.training.feed.readable",
        lambda pairs: pairs.without([bad] if bad in pairs.image_ids else [], ["bad"]),
    )
    folders = [trained(name, few, tmp_path / name, longest_side=32) for name in ("vsepp", "dive")]
    said: list[str] = []
    model = mm.join(folders, few, out=tmp_path / "joint", bank=0, say=said.append)
    assert not any("trained on other pairs" in line for line in said)
    assert model.notes["seen"]["training"] == mm.load(folders[0]).notes["seen"]["training"] != few.digest
    with pytest.raises(DataError, match="vsepp was trained on the 29 images that shall choose the weights"):
        mm.join(folders, world.take(range(30, 60)), validate=few, out=tmp_path / "a", bank=0, say=None)


def test_search_orders_as_evaluate(joint: Path, splits: tuple[Pairs, ...], tmp_path: Path) -> None:
    model, test = mm.load(joint), splits[2]
    images, texts = model.encode_images(test.images), model.encode_texts(test.captions[::7])
    scores = next(iter(ModelScores(model.similarity, images, texts).rows("t2i")))[1]
    with mm.Index.build(model, test, tmp_path / "x", engine="exact", precision="float32") as index:
        for query, row in zip(test.captions[::7], scores, strict=True):
            found = index.search(query, k=len(test), bank=False)
            place = {id: n for n, id in enumerate(test.image_ids)}
            there = row[[place[hit.id] for hit in found]]
            assert abs(there - sorted(row, reverse=True)).max() < 1e-6
            assert found.hits[0].probability is not None
        assert index.elements(query="a red circle")["kind"] == "words"


def test_it_says_what_its_elements_attend_to(joint: Path, runs: dict[str, Path], splits: tuple[Pairs, ...]) -> None:
    model, sets = mm.load(joint), mm.load(runs["dive"])
    for one, other in (
        (model.attend_texts(["a red circle"]), sets.attend_texts(["a red circle"])),
        (model.attend_images(splits[2].images[:1]), sets.attend_images(splits[2].images[:1])),
    ):
        assert one[0].elements == 4 and one[0].words == other[0].words
        assert torch.equal(one[0].shares, other[0].shares)  # type: ignore[arg-type]
    assert model.knows("circle") and not model.knows("qqq")


def test_pictures_are_read_once_for_all(world: Pairs, tmp_path: Path) -> None:
    few, test = world.take(range(40)), world.take(range(40, 60))
    folders = [trained(name, few, tmp_path / name, longest_side=32) for name in ("vsepp", "dive")]
    model = mm.join(folders, few, validate=test, out=tmp_path / "joint", dim=24, bank=20, say=None)
    assert model.image_input == "pixels"
    pictures = [test.images[0], test.images[1]]
    found = model.encode_images(pictures)
    parts = [mm.load(folder).encode_images(pictures) for folder in folders]
    torch.testing.assert_close(found.elements, model.joining(parts).elements, rtol=0, atol=1e-5)
    with mm.Index.build(model, test, tmp_path / "x") as index:
        assert index.search("a red circle", k=3).hits and index.search(pictures[0], k=3).hits
        assert index.elements(test.image_ids[0])["kind"] == "grid"


def test_a_frozen_network_serves_all_members(world: Pairs, tmp_path: Path) -> None:
    clip = f"hf:{tiny_clip(tmp_path / 'clip')}"
    few, test = world.take(range(30)), world.take(range(30, 40))
    linear = trained("cca", few, tmp_path / "cca", {"image_tower": clip})
    sets = trained("dive", few, tmp_path / "dive", {"image_tower": clip})
    model = mm.join([linear, sets], few, validate=test, out=tmp_path / "joint", dim=64, bank=20, say=None)
    # As stored features, and as pictures.
    stored, looked = (
        model.encode_images(model.supply(test).images),
        model.encode_images([test.images[n] for n in range(10)]),
    )
    torch.testing.assert_close(stored.elements, looked.elements, rtol=0, atol=1e-4)
    parts = [mm.load(folder).encode_images([test.images[0]]) for folder in (linear, sets)]
    torch.testing.assert_close(looked.elements[:1], model.joining(parts).elements, rtol=0, atol=1e-4)
    assert mm.load(tmp_path / "joint").fingerprint() == model.fingerprint()
    assert not any("backbone" in key for key in model.search_state())


def test_three_members_and_weights_of_the_users_own(
    runs: dict[str, Path], splits: tuple[Pairs, ...], tmp_path: Path
) -> None:
    three = [runs[name] for name in ("cca", "dive", "pcmepp")]
    said: list[str] = []
    model = mm.join(
        three, splits[0], validate=splits[1], out=tmp_path / "a", weights=[2, 1, 1], bank=0, say=said.append
    )
    torch.testing.assert_close(model.joining.weights, torch.tensor([0.5, 0.25, 0.25]))
    assert model.bank is None and model.joining.rotation is None and "rotated" not in said[1]
    # A joint is a run like any other.
    twice = mm.join([tmp_path / "a", runs["dive"]], splits[0], out=tmp_path / "b", dim=30, say=None)
    assert twice.encode_texts(["a red circle"]).elements.shape == (1, 4, 30)
    assert mm.load(tmp_path / "b").fingerprint() == twice.fingerprint()
    assert twice.calibration is None


# ---- what it refuses


@pytest.mark.parametrize("kind", [Samples, Boxes])
def test_kinds_that_cosines_do_not_compare(kind: type) -> None:
    items = Samples(torch.zeros(1, 2, 3)) if kind is Samples else Boxes(torch.zeros(1, 3), torch.zeros(1, 3))
    with pytest.raises(DataError, match=f"embeds as {kind.kind}, expected points, sets or Gaussians"):
        elements_of(items)
    assert elements_of(Gaussians(torch.full((1, 4), 3.0), torch.zeros(1, 4))).norm() == pytest.approx(1.0)


def test_members_that_cannot_be_joined(
    runs: dict[str, Path],
    joint: Path,
    splits: tuple[Pairs, Pairs, Pairs],
    featured: Pairs,
    world: Pairs,
    tmp_path: Path,
) -> None:
    few, held, _ = splits
    with pytest.raises(DataError, match=r"join: pcme-0 \(pcme\) cannot be joined: it embeds as samples"):
        mm.join([runs["cca"], runs["pcme"]], few, out=tmp_path / "a", say=None)
    with pytest.raises(DataError, match="found 1 run, expected at least two"):
        mm.join([runs["cca"]], few, out=tmp_path / "a", say=None)
    with pytest.raises(CheckpointError, match="holds a run already"):
        mm.join([runs["cca"], runs["dive"]], few, out=joint, say=None)
    with pytest.raises(DataError, match="cca-0 was trained on the 60 images that shall choose the weights"):
        mm.join([runs["cca"], runs["dive"]], few, validate=few, out=tmp_path / "a", say=None)
    for weights in ([1.0], [1.0, 0.0], [1.0, float("nan")]):
        with pytest.raises(DataError, match="of 2 members, expected one positive number of each"):
            mm.join([runs["cca"], runs["dive"]], few, validate=held, weights=weights, out=tmp_path / "a", say=None)
    two = mm.method("dive", **SMALL, **NARROW, elements=2).build(few)
    with pytest.raises(DataError, match="sets dive of 4, dive-2 of 2 elements, expected as many"):
        of(mm.load(runs["dive"]), two)
    seeing = mm.method("vsepp", **SMALL).build(world.take(range(12)))
    with pytest.raises(DataError, match=r"cca reads 16 fragments of 12 and 48 pooled and vsepp reads pictures of 32"):
        of(mm.load(runs["cca"]), seeing)
    ordered = mm.method("vsepp", **SMALL, measure="order").build(few)
    with pytest.raises(DataError, match=r"vsepp \(vsepp\) cannot be joined: its points are compared by order"):
        of(mm.load(runs["cca"]), ordered)
    assert not (tmp_path / "a").exists()
    for name in (STATE, PLAN):
        begun = tmp_path / "begun" / name
        begun.parent.mkdir(parents=True)
        begun.write_bytes(b"")
        with pytest.raises(CheckpointError, match="holds a run already"):
            mm.join([runs["cca"], runs["dive"]], few, out=tmp_path / "begun", say=None)
        begun.unlink()


def test_images_without_captions_are_left_out_before_they_are_thinned(
    runs: dict[str, Path], splits: tuple[Pairs, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("manymatch.evaluation.joining._IMAGES", 3)
    held = splits[1]
    items = [replace(item, captions=()) if n < 20 else item for n, item in enumerate(held.items)]
    found = _held_out(of(mm.load(runs["cca"]), mm.load(runs["dive"])), Pairs(items, features=held.features))
    assert len(found) == 3 and all(item.captions for item in found.items)


def test_members_trained_on_other_features_of_equal_shape(
    runs: dict[str, Path], joint: Path, splits: tuple[Pairs, Pairs, Pairs]
) -> None:
    linear, sets, few = mm.load(runs["cca"]), mm.load(runs["dive"]), splits[0]
    sets.images.fragment_scale.mean += 0.5 * sets.images.fragment_scale.spread
    with pytest.raises(DataError, match=r"cca and dive were trained on the same pairs .* \(fragment_scale\.mean diff"):
        of(linear, sets)
    with pytest.raises(DataError, match=r"cca-0 of joint and dive were trained on the same pairs"):
        of(mm.load(joint), sets)
    sets.notes["seen"]["training"] = "of others"
    of(linear, sets)
    # What takes features as they are keeps nothing of them.
    of(linear, mm.method("vsepp", **SMALL, standardise=False).build(few))


def test_nested_members_are_used_with_their_first_elements(splits: tuple[Pairs, Pairs, Pairs]) -> None:
    few, texts = splits[0].take(range(30)), splits[0].captions[:3]
    four, more, one, plain = (
        mm.method("dive", **SMALL, **NARROW, **fields).build(few, seed=seed)
        for seed, fields in enumerate(
            ({"nested": True}, {"nested": True}, {"nested": True, "elements": 1}, {"elements": 4})
        )
    )
    assert of(four, more).prefixes == of(four, one).prefixes == (1, 2, 4) and of(four, plain).prefixes == ()
    model = of(four, one)
    whole = model.encode_texts(texts).elements
    assert torch.equal(model.first(2).encode_texts(texts).elements, whole[:, :2])
    assert model.summary.endswith("dive-2 (dive) x 0.5, elements 2 of 4")
    assert Model.from_description(model.describe()).elements == 2


@pytest.mark.parametrize("tuning", ["tuned", "lora"])
def test_networks_that_learn_read_pictures_in_the_same_way(tuning: str, world: Pairs, tmp_path: Path) -> None:
    few = world.take(range(12))
    made = [
        mm.method("vsepp", **SMALL, image_tuning=tuning).build(few, image_tower=f"hf:{folder}")
        for folder in (tiny_clip(tmp_path / "clip"), tiny_clip(tmp_path / "other", seed=1))
    ]
    pictures = [few.images[0]]
    parts = [model.encode_images(pictures) for model in made]
    model = of(*made)
    torch.testing.assert_close(model.encode_images(pictures).vectors, model.joining(parts).vectors)
    frozen = mm.method("vsepp", **SMALL).build(few, image_tower=f"hf:{tmp_path / 'clip'}", store=tmp_path / "store")
    with pytest.raises(DataError, match=rf"\({tuning}\) and vsepp-2 reads hf:.* \(frozen\)"):
        of(made[0], frozen)


def test_it_does_not_train(joint: Path, splits: tuple[Pairs, ...], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="joint: it was joined of trained runs; train those"):
        train(mm.load(joint), splits[0], out=tmp_path / "run", say=None)
    with pytest.raises(DataError, match="its members train apart"):
        mm.load(joint).training_step(None)  # type: ignore[arg-type]


def test_damaged_joints_are_refused_in_words(joint: Path, tmp_path: Path) -> None:
    shutil.copytree(joint, tmp_path / "run")
    value = json.loads((joint / "run.json").read_text())
    del value["joint"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(value))
    with pytest.raises(CheckpointError, match="written by another version"):
        mm.load(tmp_path / "run")


def test_names_that_members_are_filed_under(runs: dict[str, Path]) -> None:
    model = mm.load(runs["cca"])
    found = named_members([model] * 6, ["a.b", "a.b", "keys", "", "ö", "training"])
    assert list(found) == ["a-b", "a-b-2", "cca", "cca-2", "ö", "cca-3"]
    assert Joint.of(JoinedRuns(), found).encode_texts(["a red circle"]).vectors.shape == (1, 72)
    assert list(named_members([model] * 4, ["a-3", "a", "a", "a"])) == ["a-3", "a", "a-2", "a-4"]
