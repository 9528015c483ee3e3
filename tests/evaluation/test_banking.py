"""Rankings that are corrected by a query bank, and fitting one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_fakes import Dot, FakeModel, made_pairs

import manymatch as mm
from manymatch.bank import Bank, Queries, Setting, item_keys, owner_keys
from manymatch.data.matches import Matches
from manymatch.data.pairs import Item, Pairs
from manymatch.embeddings import Points
from manymatch.errors import DataError
from manymatch.evaluation import PROTOCOLS, ModelScores, fit_bank, judge, rank_scores
from manymatch.evaluation.banking import biases_of
from manymatch.evaluation.biases import Biases
from manymatch.evaluation.folds import Folds

SMALL = {"dim": 16, "word_dim": 12, "hidden": 8, "batch": 32, "least_count": 1}


def points(count: int, seed: int, d: int = 6) -> Points:
    return Points(torch.from_numpy(np.random.default_rng(seed).integers(-9, 9, (count, d)).astype(np.float32)))


def biases(images: int, captions: int) -> Biases:
    rng = np.random.default_rng(5)
    return Biases(*(rng.integers(-40, 40, size).astype(np.float32) / 4 for size in (captions, images)))


def bank_of(pairs: Pairs, count: int = 20, alpha: float = 0.5, k: int = 4, seed: int = 7) -> Bank:
    some = Queries.of([points(count, seed)], owner_keys(f"train {n}" for n in range(count)))
    held = torch.from_numpy(np.sort(item_keys(pairs)[0]))
    setting = Setting(alpha, k)
    return Bank({"caption": some, "image": some}, {"caption": setting, "image": setting}, held)


ELSEWHERE = made_pairs([2] * 20)
OTHERS = Pairs([Item(f"other {n}", ("words",)) for n in range(20)])


def model_of(pairs: Pairs, bank: Bank | None = None, **more: object) -> FakeModel:
    model = FakeModel(points(len(pairs), 1), points(len(pairs.captions), 2), **more)
    model.bank = bank
    return model


@pytest.mark.parametrize("lean", [0.0, 2.0])
@pytest.mark.parametrize("kept", [False, True])
def test_ranks_are_those_of_scores_less_biases_and_scores_stay_raw(lean: float, kept: bool) -> None:
    pairs = made_pairs([3] * 40)
    images, texts, taken, similarity = points(40, 1), points(120, 2), biases(40, 120), Dot(lean)
    right = pairs.matches()
    i2t, t2i = similarity(images, texts).numpy(), similarity(texts, images).numpy()
    source = ModelScores(similarity, images, texts, biases=taken)
    source = source.kept() if kept else source
    folds = Folds.of(pairs.owner, 40, 10)
    found = source.ranking(right, right.transpose(), folds=folds, best=True)
    wanted = rank_scores(i2t - taken.captions, t2i - taken.images, right)
    for way, ranks, raw, off in (
        ("i2t", found.i2t, i2t, taken.captions),
        ("t2i", found.t2i, t2i, taken.images),
    ):
        expected = wanted[0] if way == "i2t" else wanted[1]
        assert np.array_equal(ranks.above, expected.above) and np.array_equal(ranks.tied, expected.tied)
        assert np.array_equal(ranks.scores, raw[ranks.query, ranks.items])
        order = raw - off
        first = [set(row[ordered == ordered.max()]) for row, ordered in zip(raw, order, strict=True)]
        assert all(best in some for best, some in zip(ranks.best, first, strict=True))
        whole = np.concatenate([rows for _, rows in source.rows(way)])
        assert np.array_equal(whole, order)
    for (rows, columns), (one, other) in zip(zip(folds.images, folds.captions, strict=True), found.folds, strict=True):
        part = Matches.of(np.arange(10).repeat(3), np.arange(30), (10, 30))
        off = i2t[rows, columns] - taken.captions[columns], t2i[columns, rows] - taken.images[rows]
        for ranks, expected in zip((one, other), rank_scores(*off, part), strict=True):
            assert np.array_equal(ranks.above, expected.above) and np.array_equal(ranks.tied, expected.tied)


def test_items_of_one_modality_are_ranked_raw() -> None:
    images, texts = points(20, 1), points(20, 2)
    right = Matches.of([0, 1], [1, 0], (20, 20))
    for kept in (False, True):
        sources = [ModelScores(Dot(), images, texts, biases=given) for given in (biases(20, 20), None)]
        found = [(source.kept() if kept else source).within("t2t", right) for source in sources]
        assert np.array_equal(found[0].above, found[1].above)


def test_evaluate_uses_the_bank_of_a_run_and_says_so() -> None:
    pairs = made_pairs([2] * 30)
    bank = bank_of(OTHERS)
    model, plain = model_of(pairs, bank), model_of(pairs)
    found, raw = mm.evaluate(model, pairs), mm.evaluate(plain, pairs)
    assert "with the query bank (i2t alpha 0.5 of 4, t2i alpha 0.5 of 4)" in found.notes
    assert mm.evaluate(model, pairs, bank=True).rows == found.rows != raw.rows
    without = mm.evaluate(model, pairs, bank=False)
    assert without.rows == raw.rows and without.notes == ("raw scores, without the query bank",)
    assert raw.notes == mm.evaluate(plain, pairs, bank=False).notes == ()
    for report, used in ((found, True), (raw, False)):
        assert {row["bank"] for row in report.rows} == {used}
    off = biases_of([model], [(model.kept["images"], model.kept["texts"])], pairs, [bank])
    i2t = (model.kept["images"].vectors @ model.kept["texts"].vectors.T).numpy()
    expected = mm.evaluate({"i2t": i2t - off.captions, "t2i": i2t.T - off.images}, pairs, run="fake")
    for row, wanted in zip(found.rows, expected.rows, strict=False):
        assert {**row, "bank": False} == wanted
    model.bank = bank_of(OTHERS, alpha=0.0)
    assert [row["value"] for row in mm.evaluate(model, pairs).rows] == [row["value"] for row in raw.rows]


def test_a_bank_of_what_is_evaluated_is_never_used() -> None:
    pairs = made_pairs([2] * 30)
    model = model_of(pairs, bank_of(pairs.take([3, 4])))
    found = mm.evaluate(model, pairs, run="r")
    assert found.rows[0]["value"] == mm.evaluate(model_of(pairs), pairs).rows[0]["value"]
    why = "raw scores: the query bank of r holds 2 of these 30 images, and correcting by it would be peeking"
    assert found.notes == (why,)
    with pytest.raises(DataError, match=r"the query bank of r holds 2 of the 30 images that are evaluated.*--no-bank"):
        mm.evaluate(model, pairs, run="r", bank=True)
    # Others may be corrected by it.
    assert "with the query bank" in mm.evaluate(model, pairs.take(range(5, 20)), run="r").notes[0]
    with pytest.raises(DataError, match="fake has no query bank; fit one with: manymatch bank RUN --data DATA"):
        mm.evaluate(model_of(pairs), pairs, bank=True)
    with pytest.raises(DataError, match="scores from elsewhere have no query bank"):
        mm.evaluate(np.zeros((30, 60)), pairs, bank=True)


def test_an_ensemble_is_corrected_by_the_mean_where_all_have_a_bank() -> None:
    pairs = made_pairs([2] * 30)
    one, other = model_of(pairs, bank_of(OTHERS)), model_of(pairs, bank_of(OTHERS, seed=8), name="other")
    encoded = [(m.kept["images"], m.kept["texts"]) for m in (one, other)]
    both = biases_of([one, other], encoded, pairs, [one.bank, other.bank])
    alone = [biases_of([m], [e], pairs, [m.bank]) for m, e in zip((one, other), encoded, strict=True)]
    np.testing.assert_allclose(both.images, (alone[0].images + alone[1].images) / 2)
    notes = mm.evaluate([one, other], pairs).notes
    assert sum(note.startswith("with the query bank of ") for note in notes) == 2
    other.bank = None
    notes = mm.evaluate([one, other], pairs).notes
    assert "raw scores: other has no query bank, and others have" in notes
    with pytest.raises(DataError, match="other has no query bank"):
        mm.evaluate([one, other], pairs, bank=True)


def test_protocols_that_read_scores_read_raw_ones() -> None:
    """Spearman with grades, true and false sentences, and confidence by the score of what came first."""
    labels = [True, False] * 10
    items = [Item(f"i{n}", ("same",), metadata={"label": label}) for n, label in enumerate(labels)]
    pairs = Pairs(items)
    images, texts, off = points(20, 1), points(20, 2), biases(20, 20)
    raw, corrected = (ModelScores(Dot(), images, texts, biases=given) for given in (None, off))
    asked = [judge(source, pairs, ["true-false"], "expected").measured["true-false"] for source in (raw, corrected)]
    assert [one.measure.value for one in asked[0]] == [one.measure.value for one in asked[1]]
    right = Matches.of(np.arange(20), (np.arange(20) * 7) % 20, (20, 20))
    found = corrected.ranking(right, right.transpose(), best=True)
    scores = (images.vectors @ texts.vectors.T).numpy()
    assert np.array_equal(found.i2t.scores, scores[right.images, right.captions])
    first = (scores - off.captions).argmax(axis=1)
    assert np.array_equal(found.i2t.best, scores[np.arange(20), first])
    assert not np.array_equal(found.i2t.best, scores.max(axis=1))
    assert PROTOCOLS["true-false"].name == "true-false"


@pytest.fixture(scope="module")
def model(featured: Pairs) -> mm.Model:
    return mm.method("vsepp", **SMALL).build(featured.take(range(60)), seed=1).eval()


def test_what_fitting_found_is_what_evaluation_measures(model: mm.Model, featured: Pairs) -> None:
    training, validation, test = (featured.take(rows) for rows in (range(60), range(60, 90), range(90, 120)))
    told: list[str] = []
    bank = fit_bank(model, training, validation, most=70, say=told.append)
    assert len(bank.queries["caption"]) == 70 and len(bank.queries["image"]) == 60
    assert len(told) == 1 and told[0].startswith("query bank of 70 training captions and 60 images: i2t alpha")
    assert "validation RSUM" in told[0]
    again = fit_bank(model, training, validation, most=70)
    assert again.digest == bank.digest and bank.holds(training) == 60 and not bank.holds(test)
    model.bank = bank
    try:
        # Equal captions tie, and of a tie half is counted there, the expected value here.
        for given, name in ((None, "biased"), (False, "raw")):
            found = mm.evaluate(model, validation, bank=given, resamples=0, protocol="own")
            for way, asking in (("i2t", "image"), ("t2i", "caption")):
                measured = sum(found.value(f"R@{k}", way) for k in (1, 5, 10))
                assert getattr(bank.settings[asking], name) == pytest.approx(measured, abs=12)
            if given is None:
                assert any("had its alpha and k chosen on these very pairs" in note for note in found.notes)
        assert all(s.biased >= s.raw for s in bank.settings.values())
        assert any("holds 60 of these 60 images" in n for n in mm.evaluate(model, training, resamples=0).notes)
        some = mm.evaluate(model, featured.take(range(80, 120)), resamples=0)
        assert any("chosen on 10 of these 40 images: no test of it" in note for note in some.notes)
        assert any(n.startswith("with the query bank (") for n in mm.evaluate(model, test, resamples=0).notes)
    finally:
        model.bank = None
    with pytest.raises(DataError, match="query bank: 0 queries, expected at least 1"):
        fit_bank(model, training, validation, most=0)


def test_images_that_cannot_be_read_are_left_out_and_only_those_drawn_are_looked_at(world: Pairs) -> None:
    opened = list[str]()

    class Damaged:
        def __getattr__(self, name: str) -> object:
            return getattr(world.pictures, name)

        def read(self, name: str) -> bytes:
            opened.append(name)
            return b"nothing" if name == world.items[0].picture else world.pictures.read(name)  # type: ignore[union-attr]

    model = mm.method("vsepp", **SMALL).build(world.take(range(60)), image_tower="cnn", seed=1).eval()
    training = Pairs(world.items[:60], pictures=Damaged())  # type: ignore[arg-type]
    told = list[str]()
    bank = fit_bank(model, training, world.take(range(60, 90)), most=6, say=told.append)
    assert len(set(opened)) == 6 and len(bank.queries["image"]) == 5 and len(bank.queries["caption"]) == 6
    assert bank.holds(training) == 6 and len(told) == 1


def test_what_chooses_and_is_drawn_from_is_told(model: mm.Model, featured: Pairs) -> None:
    told = list[str]()
    fit_bank(model, featured.take(range(10)), featured.take(range(5, 20)), most=10, say=told.append)
    assert "5 of the 15 images that chose alpha and k are among those it was drawn from" in told[0]


def test_hubs_are_found_and_corrected() -> None:
    """Images that score high with every caption win until what they get from training captions is taken off."""
    rng = np.random.default_rng(0)
    concepts = rng.standard_normal((220, 8)).astype(np.float32)
    lift = np.where(np.arange(220) % 10 == 0, 4.0, 0.0).astype(np.float32)
    pairs = Pairs([Item(f"p{n}", (f"c{n}",)) for n in range(220)])

    class Lifted(FakeModel):
        """Captions all point along one more axis, along which some images lie far out."""

        def encode_images(self, images, **how):  # type: ignore[no-untyped-def]
            rows = [int(item.id[1:]) for item in images.items]
            return Points(torch.from_numpy(np.column_stack([concepts[rows], lift[rows]])))

        def encode_texts(self, texts, **how):  # type: ignore[no-untyped-def]
            rows = [int(text[1:]) for text in texts]
            return Points(torch.from_numpy(np.column_stack([concepts[rows], np.ones(len(rows), np.float32)])))

    hubby = Lifted(points(1, 0), points(1, 0))
    training, validation, test = (pairs.take(rows) for rows in (range(100), range(100, 160), range(160, 220)))
    hubby.bank = fit_bank(hubby, training, validation)
    assert hubby.bank.settings["caption"].alpha > 0
    raw, found = (mm.evaluate(hubby, test, bank=given, resamples=0) for given in (False, None))
    assert found.value("R@1", "t2i") > raw.value("R@1", "t2i") + 3


def test_compare_takes_banks_too() -> None:
    pairs = made_pairs([2] * 30)
    one, other = model_of(pairs, bank_of(OTHERS)), model_of(pairs)
    found = mm.compare([one, other], pairs, labels=["a", "b"], resamples=0, swaps=10)
    assert "a: with the query bank (i2t alpha 0.5 of 4, t2i alpha 0.5 of 4)" in found.notes
    assert any(row["difference"] for row in found.rows)
    assert "b: raw scores, it has no query bank, and others have" in found.notes
    raw = mm.compare([one, other], pairs, labels=["a", "b"], resamples=0, swaps=10, bank=False)
    assert not any("and others have" in note for note in raw.notes)
    with pytest.raises(DataError, match="b: evaluate: b has no query bank"):
        mm.compare([one, other], pairs, labels=["a", "b"], resamples=0, swaps=10, bank=True)


def test_training_ends_with_a_bank_that_is_kept_with_the_run(featured: Pairs, tmp_path: Path) -> None:
    few, validation = featured.take(range(60)), featured.take(range(60, 80))
    told: list[str] = []
    config = {"epochs": 1, "precision": "float32"}
    folder = tmp_path / "run"
    model = mm.train(
        mm.method("vsepp", **SMALL).build(few), few, validate=validation, out=folder,
        config=mm.TrainConfig(**config, bank=50), say=told.append,
    )  # fmt: skip
    assert model.bank is not None and any(line.startswith("query bank of 50 training captions") for line in told)
    again = mm.load(folder)
    assert again.bank.digest == model.bank.digest and again.bank.to_json() == model.bank.to_json()
    items = again.encode_images(featured.take(range(80, 120)).images)
    for asking in ("caption", "image"):
        one, other = (m.bank.bias(m.similarity, items, asking) for m in (model, again))
        assert np.array_equal(one, other)
    plain = mm.train(
        mm.method("vsepp", **SMALL).build(few), few, validate=validation, out=tmp_path / "plain",
        config=mm.TrainConfig(**config, bank=0), say=None,
    )  # fmt: skip
    assert plain.bank is None and not (tmp_path / "plain" / "bank.safetensors").exists()
    # It is no part of what the run is.
    assert plain.fingerprint() == model.fingerprint()
    with pytest.raises(DataError, match="bank: found -1, expected"):
        mm.TrainConfig(bank=-1)
