"""DivE with element variances: where it begins, what it trains, and that everything which reads sets reads it too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import manymatch as mm
from manymatch.data.pairs import Pairs
from manymatch.embeddings import Gaussians, GaussianSets, Sets
from manymatch.errors import DataError
from manymatch.evaluation.health import health
from manymatch.index.answers.explain import explain
from manymatch.index.answers.meanings import meanings
from manymatch.methods import Model
from manymatch.similarity import GaussianChamfer, MatchProbability
from manymatch.training import TrainConfig, train

SMALL: dict[str, Any] = {"dim": 32, "word_dim": 24, "hidden": 16, "batch": 24, "least_count": 1, "slot_hidden": 32}


def built(pairs: Pairs, **fields: Any) -> Model:
    return mm.method("dive", **{**SMALL, **fields}).build(pairs, seed=1)


@pytest.fixture(scope="module")
def trained(featured: Pairs, tmp_path_factory: pytest.TempPathFactory) -> Model:
    few = featured.take(range(48))
    config = TrainConfig(epochs=3, lr=5e-3, precision="float32")
    folder = tmp_path_factory.mktemp("variance") / "run"
    train(built(few, variance=True), few, out=folder, config=config, say=None)
    return mm.load(folder)


def test_it_begins_at_the_ranking_of_the_plain_set(featured: Pairs) -> None:
    plain, unsure = built(featured), built(featured, variance=True)
    shared = {k: v for k, v in plain.state_dict().items() if not k.startswith("objective_terms.")}
    names = {k.replace("head.head.", "head."): v for k, v in unsure.state_dict().items()}
    assert all(torch.equal(names[k], v) for k, v in shared.items()), "the same seed gives the same weights"
    few = featured.take(range(12))
    scores = [m.similarity(m.encode_texts(few.captions), m.encode_images(few.images)).detach() for m in (plain, unsure)]
    # Log-odds of scale 10 move 20 where Smooth-Chamfer moves 1, and the same for all pairs.
    gaps = scores[1] - 20 * scores[0]
    assert float(gaps.max() - gaps.min()) < 2e-4


def test_its_objective(featured: Pairs) -> None:
    model = built(featured, variance=True, match_weight=20.0)
    rows = next(model.method.sampler().epoch(featured, seed=0, epoch=0))
    terms = model.training_step(model.batch(featured, rows.images, rows.captions, rows.matches))
    assert set(terms) == {"infonce", "match", "kl", "mmd", "diversity", "loss"}
    terms["loss"].backward()
    variances = [p for k, p in model.named_parameters() if "head.element" in k or "head.whole" in k]
    assert len(variances) == 6 and all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in variances)
    assert model.similarity.scale.grad is not None and model.similarity.shift.grad is not None  # type: ignore[union-attr]
    # The same loss as without variances at the start: the temperature is in units of the cosine.
    plain = built(featured)
    alone = plain.eval().training_step(plain.batch(featured, rows.images, rows.captions, rows.matches))
    beside = model.eval().training_step(model.batch(featured, rows.images, rows.captions, rows.matches))
    torch.testing.assert_close(beside["infonce"], alone["infonce"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("start", "weight"), [("random", 0.0), ("linear", 20.0)])
def test_pseudo_positives_wait_for_pairs_that_rank(start: str, weight: float) -> None:
    assert mm.method("dive", variance=True, start=start).terms()["match"][0] == weight
    assert mm.method("dive", variance=True, start=start, match_weight=3.0).terms()["match"][0] == 3.0


def test_what_cannot_go_with_it_is_said() -> None:
    with pytest.raises(DataError, match=r"dive.compare: found 'mil', but variance"):
        mm.method("dive", variance=True, compare="mil")
    with pytest.raises(DataError, match=r"dive.objective: found 'triplet', but variance"):
        mm.method("dive", variance=True, preset="published")
    assert mm.method("dive", variance=True, preset="published", objective="infonce").name == "dive"


def test_prefixes_keep_their_variances(featured: Pairs) -> None:
    model = built(featured, variance=True, nested=True)
    rows = next(model.method.sampler().epoch(featured, seed=0, epoch=0))
    terms = model.training_step(model.batch(featured, rows.images, rows.captions, rows.matches))
    assert bool(torch.isfinite(terms["loss"]))
    items = model.encode_images(featured.take(range(3)).images)
    assert isinstance(items, GaussianSets)
    assert items.first(2).elements.shape == (3, 2, 32) and items.first(2).log_variance.shape == (3, 2)


def test_what_reads_sets_reads_them(trained: Model, featured: Pairs) -> None:
    test = featured.take(range(60, 90))
    texts, images = trained.encode_texts(test.captions), trained.encode_images(test.images)
    assert isinstance(texts, GaussianSets) and isinstance(images, Sets)
    assert {row["metric"] for row in health(images, texts)} == {"log circular variance"}
    matches = explain(texts[0], images[0])
    assert len(matches) == 4 and all(set(match.parts) == {"distance", "uncertainty"} for match in matches)
    first = matches[0]
    row, column = first.query_element, first.item_element
    total = texts.log_variance[0, row].exp() + images.log_variance[0, column].exp()  # type: ignore[attr-defined]
    assert first.parts["uncertainty"] == pytest.approx(float(total))
    assert first.parts["distance"] == pytest.approx(2 - 2 * first.cosine, abs=1e-5)
    assert meanings(texts[0], images).groups
    again = GaussianSets.concat([texts[:5], texts[5:]])
    torch.testing.assert_close(again.log_variance, texts.log_variance)


def test_it_trains_loads_indexes_and_says_how_sure_it_is(trained: Model, featured: Pairs, tmp_path: Path) -> None:
    test = featured.take(range(60, 90))
    texts, images = trained.encode_texts(test.captions), trained.encode_images(test.images)
    assert isinstance(texts, GaussianSets)
    assert float(texts.log_variance.std()) > 0, "it learned to tell them apart"
    scores = trained.similarity(texts, images).detach()
    with mm.Index.build(trained, test, tmp_path / "x", engine="exact", precision="float32") as index:
        for n in (0, 7, 60):
            found = index.search(test.captions[n], k=30, bank=False)
            there = [test.image_ids.index(hit.id) for hit in found]
            best = scores[n].sort(descending=True).values
            torch.testing.assert_close(scores[n][there], best, rtol=0, atol=1e-4)
            assert found.ambiguity == pytest.approx(float(texts[n].ambiguity()), rel=1e-4)
    report = mm.evaluate(trained, test, protocol="own")
    assert report.value("RSUM", "both") > 0


@pytest.mark.parametrize("name", ["pcmepp", "cca_tuned"])
def test_variances_of_points_go_through_the_same_distance(name: str) -> None:
    """One element is a point: what differs between them is the head, and not what a variance does to a score."""
    similarity = mm.method(name).similarity()
    assert isinstance(similarity, MatchProbability) and similarity.measure == "csd"
    of_sets = GaussianChamfer(*(float(s.detach()) for s in (similarity.scale, similarity.shift)))
    draw = torch.Generator().manual_seed(0)
    means = torch.nn.functional.normalize(torch.randn(5, 6, generator=draw), dim=-1)
    logs = torch.randn(5, 6, generator=draw) - 3
    points, sets = Gaussians(means, logs), GaussianSets(means[:, None], logs.logsumexp(dim=-1, keepdim=True))
    torch.testing.assert_close(of_sets(sets, sets), similarity(points, points), rtol=1e-5, atol=1e-5)
