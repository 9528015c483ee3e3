"""What whole models keep without any training: invariants 7, 11 and 17, through `mm.method`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from invariant_worlds import alone, farthest, features, model_of
from torch.nn import functional

from manymatch.data.pairs import Pairs
from manymatch.embeddings import Samples
from manymatch.methods import Batch, Model

METHODS = ("hrem", "dive", "pvse", "pcme", "vse_infty", "pcmepp", "msrm", "p2rm")
EACH = pytest.mark.parametrize("name", METHODS)
FORMS = pytest.mark.parametrize("preset", ["", "published"])
FEW = settings(max_examples=6, deadline=None)
LENGTHS = st.lists(st.integers(1, 6), min_size=1, max_size=4)
SEEDS = st.integers(0, 999)
TEXTS = ("a red circle", "two small blue stars above a large green square", "circle", "a square left of a star")
LONG = "a large red circle above a small blue square to the left of two green stars and a yellow triangle"


@pytest.fixture(scope="module")
def few(featured: Pairs) -> Pairs:
    return featured.take(range(24))


@pytest.fixture(scope="module")
def built(few: Pairs) -> Callable[..., Model]:
    """(method, preset, fields) -> a model of it, made once."""
    return cache(lambda name, preset="", **fields: model_of(name, few, preset=preset, **fields))


# ---- 7: padding


@EACH
@FORMS
def test_padding_and_company_never_change_an_image(name: str, preset: str, built: Callable[..., Model]) -> None:
    model = built(name, preset)

    @given(lengths=LENGTHS, seed=SEEDS, extra=st.integers(1, 4))
    @FEW
    def holds(lengths: list[int], seed: int, extra: int) -> None:
        images = features(lengths, seed)
        here = model.encode_images(images)
        assert farthest(here, model.encode_images(features(lengths, seed, extra))) < 1e-5
        for row in range(len(lengths)):
            assert farthest(here[row], model.encode_images(alone(images, row))) < 1e-5

    holds()


@EACH
@FORMS
def test_padding_and_company_never_change_a_text(name: str, preset: str, built: Callable[..., Model]) -> None:
    model = built(name, preset)

    @given(texts=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=4))
    @FEW
    def holds(texts: list[str]) -> None:
        padded = model.encode_texts([*texts, LONG])[: len(texts)]
        assert farthest(padded, model.encode_texts(texts, batch_size=1)) < 1e-5

    holds()


def test_released_dive_captions_change_with_padding(built: Callable[..., Model]) -> None:
    released = built("dive", "published", mode="released")
    texts = ["a red circle", "two stars"]
    assert farthest(released.encode_texts([*texts, LONG])[:2], released.encode_texts(texts, batch_size=1)) > 1e-3


# ---- 11: HREM at inference


@FORMS
def test_hrem_embeds_an_item_alone_as_in_any_batch(preset: str, built: Callable[..., Model]) -> None:
    model = built("hrem", preset)

    @given(rows=st.lists(st.integers(0, 5), min_size=1, max_size=6), seed=SEEDS)
    @FEW
    def holds(rows: list[int], seed: int) -> None:
        images = features([3, 1, 6, 2, 5, 4], seed)
        each = [model.encode_images(alone(images, row)) for row in range(6)]
        mixed = features([3, 1, 6, 2, 5, 4], seed)
        assert mixed.vectors is not None and mixed.lengths is not None and mixed.pooled is not None
        chosen = type(mixed)(mixed.vectors[rows], mixed.lengths[rows], mixed.pooled[rows])
        assert farthest(model.encode_images(chosen), type(each[0]).concat([each[row] for row in rows])) < 1e-5

    holds()


def test_the_relations_weights_change_no_score_of_hrem(few: Pairs) -> None:
    model = model_of("hrem", few)
    images, texts = few.images[:6], few.captions[:6]

    def scores() -> torch.Tensor:
        return model.similarity(model.encode_images(images), model.encode_texts(texts))

    before, mark = scores(), model.fingerprint()
    relation = model.relation
    assert relation is not None

    @given(seed=SEEDS)
    @FEW
    def holds(seed: int) -> None:
        torch.manual_seed(seed)
        with torch.no_grad():
            for weight in relation.parameters():
                weight.copy_(torch.randn_like(weight))
        assert torch.equal(scores(), before)

    holds()
    assert model.fingerprint() == mark, "nothing of it is stored with what searches"


# ---- 17: PCME


def pcme(few: Pairs, **fields: object) -> Model:
    return model_of("pcme", few, objective="match", reduction="sum", **fields)


def in_float64(model: Model, few: Pairs) -> tuple[Samples, Samples]:
    images, texts = model.encode_images(few.images[:5]), model.encode_texts(few.captions[:7])
    assert isinstance(images, Samples) and isinstance(texts, Samples)
    return images.to(torch.float64), texts.to(torch.float64)


@FORMS
def test_pcme_gives_probabilities_and_both_directions_agree(preset: str, few: Pairs) -> None:
    model = pcme(few, preset=preset)

    @given(scale=st.floats(0.5, 15), shift=st.floats(-5, 15))
    @FEW
    def holds(scale: float, shift: float) -> None:
        with torch.no_grad():
            model.similarity.scale.fill_(scale)  # type: ignore[operator]
            model.similarity.shift.fill_(shift)  # type: ignore[operator]
            images, texts = in_float64(model, few)
            scores = model.similarity(images, texts)
            probability = model.similarity.probability(scores)  # type: ignore[operator]
        # Where the log-odds pass 36 the next float64 below 1 is 1.
        assert bool((probability > 0).all() and (probability[scores < 36] < 1).all())
        torch.testing.assert_close(model.similarity(texts, images).detach().T, scores, rtol=0, atol=1e-9)

    holds()


def test_pcme_without_variance_is_the_point_formula(few: Pairs) -> None:
    model = pcme(few)
    with torch.no_grad():
        for tower in (model.images, model.texts):
            uncertainty = tower.head.uncertainty  # type: ignore[union-attr]
            for layer in (uncertainty.linear, uncertainty.second):  # type: ignore[union-attr]
                layer.weight.zero_()  # type: ignore[union-attr, operator]
                layer.bias.fill_(-40.0)  # type: ignore[union-attr, operator]
        images, texts = in_float64(model, few)
        for side in (images, texts):
            torch.testing.assert_close(side.vectors, side.vectors[:, :1].expand_as(side.vectors), rtol=0, atol=1e-6)
        distance = torch.cdist(images.vectors[:, 0], texts.vectors[:, 0])

        @given(scale=st.floats(0.5, 15), pair=st.tuples(st.integers(0, 4), st.integers(0, 6)))
        @FEW
        def holds(scale: float, pair: tuple[int, int]) -> None:
            shift = scale * float(distance[pair])
            model.similarity.scale.fill_(scale)  # type: ignore[operator]
            model.similarity.shift.fill_(shift)  # type: ignore[operator]
            scores = model.similarity(images, texts)
            expected = 2 * (shift - scale * (distance.square() + 1e-6).sqrt())
            torch.testing.assert_close(scores, expected, rtol=0, atol=1e-4)
            assert float(model.similarity.probability(scores)[pair]) == pytest.approx(0.5, abs=1e-4)  # type: ignore[operator]
            order = distance.flatten().argsort()
            assert bool((scores.flatten()[order].diff() <= 1e-9).all()), "the farther, the less likely"

        holds()


def test_pcmes_loss_of_one_sample_is_a_logistic_loss_with_doubled_scalars(few: Pairs) -> None:
    model = pcme(few, samples=1)

    @given(seed=SEEDS, images=st.integers(2, 4), more=st.integers(0, 3))
    @FEW
    def holds(seed: int, images: int, more: int) -> None:
        torch.manual_seed(seed)
        noise = {"image noise.0": torch.randn(images, 1, 32), "text noise.0": torch.randn(images + more, 1, 32)}
        matches = torch.arange(images + more)[None, :] % images == torch.arange(images)[:, None]
        tokens = model.texts.tokens([TEXTS[n % 4] for n in range(images + more)])
        batch = Batch(features([3] * images, seed), tokens, matches)
        term = float(model.train().training_step(batch, noise)["match"].detach())
        logits = logits_of_one_sample(model.eval(), batch, *(n[:, 0] for n in noise.values()))
        logistic = functional.binary_cross_entropy_with_logits(logits, matches.double(), reduction="sum")
        assert term == pytest.approx(2 * float(logistic), rel=1e-4), "both directions coincide"

    holds()


@torch.no_grad()
def logits_of_one_sample(model: Model, batch: Batch, *noise: torch.Tensor) -> torch.Tensor:
    """Doubled shift less doubled scale times distance, float64."""
    sides = zip((model.images(batch.images), model.texts(batch.texts)), noise, strict=True)
    points = [(s.tensor("mean") + s.tensor("log_sigma").exp() * n).double() for s, n in sides]
    a, b = (float(getattr(model.similarity, name)) for name in ("scale", "shift"))
    return 2 * b - 2 * a * (torch.cdist(*points).square() + 1e-6).sqrt()
