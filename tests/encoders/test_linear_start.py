"""A linear start: what it moves of each kind of embedding, what it leaves alone, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import manymatch as mm
from backbone_fakes import GridBackbone
from manymatch.data.features import Features
from manymatch.data.pairs import Pairs
from manymatch.embeddings import Boxes, Embedding, Encoded, Fragments, Gaussians, Points, Samples, Sets
from manymatch.encoders import ImageInput, LinearFeatures, PointHead
from manymatch.encoders.linear import term_weights, terms_known
from manymatch.encoders.linear_start import LinearStart
from manymatch.errors import DataError
from manymatch.methods import Model
from manymatch.training import TrainConfig, train
from manymatch.training.optimiser import rate_factor, tower_rates

SMALL = {"dim": 16, "word_dim": 12, "hidden": 8, "least_count": 1, "batch": 16}
N, D = 5, 6


def embeddings() -> list[tuple[Embedding, str, tuple[str, ...]]]:
    """Each kind, the field that is moved, and those that are not."""
    draw = torch.Generator().manual_seed(0)

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(N, *shape, generator=draw)

    real = torch.ones(N, 3, dtype=torch.bool)
    return [
        (Points(some(D)), "vectors", ()),
        (Sets(some(4, D)), "elements", ()),
        (Samples(some(7, D)), "vectors", ()),
        (Gaussians(some(D), some(D)), "mean", ("log_variance",)),
        (Boxes(some(D), some(D).abs()), "center", ("offset",)),
        (Fragments(some(3, D), real, some(D)), "pooled", ("vectors", "valid")),
    ]


@pytest.fixture
def start() -> tuple[LinearStart, Features]:
    """A map of pooled vectors to two of six coordinates, and some vectors."""
    linear = LinearFeatures(ImageInput("features", pooled_width=3), PointHead(), dim=2)
    vectors = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)
    return LinearStart(linear, D, 0.1), Features(None, pooled=vectors)


@pytest.mark.parametrize(("embedding", "moved", "kept"), embeddings(), ids=lambda value: getattr(value, "kind", None))
def test_every_kind_begins_at_the_linear_vector(
    embedding: Embedding, moved: str, kept: tuple[str, ...], start: tuple[LinearStart, Features]
) -> None:
    begun, given = start
    out = begun(Encoded(embedding), begun.whole(given)).embedding
    assert type(out) is type(embedding)
    vectors = getattr(out, moved)
    whole = torch.nn.functional.normalize(begun.linear.local(given).pooled, dim=-1)
    wanted = torch.cat([whole, torch.zeros(N, D - 2)], dim=1)
    while wanted.ndim < vectors.ndim:
        wanted = wanted[:, None]
    torch.testing.assert_close(vectors, wanted.expand_as(vectors))
    assert all(getattr(out, name) is getattr(embedding, name) for name in kept)


def test_what_the_head_says_enters_through_the_matrix(start: tuple[LinearStart, Features]) -> None:
    begun, given = start
    sets, shift = Sets(torch.randn(N, 4, D)), torch.randn(D, D)
    with torch.no_grad():
        begun.turn.weight.copy_(shift)
    out = begun(Encoded(sets), begun.whole(given)).embedding.elements
    whole = torch.nn.functional.pad(begun.linear.local(given).pooled, (0, D - 2))
    torch.testing.assert_close(out, torch.nn.functional.normalize(whole[:, None] + sets.elements @ shift.T, dim=-1))
    assert out.std(dim=1).max() > 0.01, "elements part"


def test_terms_of_a_loss_see_the_moved_mean_and_samples(start: tuple[LinearStart, Features]) -> None:
    begun, given = start
    mean, spread = torch.randn(N, D), torch.randn(N, D)
    encoded = Encoded(Samples(torch.randn(N, 7, D)), tensors={"mean": mean, "log_sigma": spread})
    out = begun(encoded, begun.whole(given))
    torch.testing.assert_close(out.tensor("mean"), out.embedding.vectors[:, 0])
    assert out.tensor("log_sigma") is spread


def test_it_reads_features_before_a_tower_writes_over_them(featured: Pairs) -> None:
    few = featured.take(range(40))
    still = {"dropout": 0.0, "feature_dropout": 0.0, "region_drop": 0.0}
    tower = mm.method("dive", **SMALL, **still, start="linear").build(few).images.train()
    features = few.images.read_features()
    assert features.vectors is not None
    wanted = tower(features).embedding.elements
    found = tower(replace(features, vectors=features.vectors.copy(), once=True)).embedding.elements
    assert torch.equal(found, wanted)


def test_the_learned_rest_is_that_of_a_random_start(featured: Pairs) -> None:
    few = featured.take(range(40))
    plain = mm.method("dive", **SMALL).build(few).state_dict()
    begun = mm.method("dive", **SMALL, start="linear").build(few)
    rest = {k: v for k, v in begun.state_dict().items() if ".start." not in k}
    assert rest.keys() == plain.keys() and all(torch.equal(rest[k], plain[k]) for k in plain)
    assert float(begun.images.start.turn.weight.detach().abs().max()) == 0.0  # type: ignore[union-attr]


def test_it_has_a_length_of_one_and_a_rate_of_its_own(featured: Pairs) -> None:
    said: list[str] = []
    method = mm.method("vsepp", **SMALL, start="linear", start_rate=0.25)
    model = method.build(featured, say=said.append)
    for tower, given in (
        (model.images, featured.images.read_features()),
        (model.texts, model.texts.prepare(featured.captions).terms),
    ):
        assert tower.start is not None and given is not None
        tower.eval()
        length = tower.start.linear.local(given).pooled.detach().square().sum(dim=1).mean().sqrt()
        assert float(length) == pytest.approx(1.0, abs=0.02)
    assert any(line.startswith("linear start: ") and line.endswith(" s") for line in said)
    rates = tower_rates(model)
    assert rate_factor(method.recipe(), "texts.start.turn.weight", rates) == 0.25
    assert rate_factor(method.recipe(), "texts.words.weight", rates) == 1.0


def test_a_start_is_no_wider_than_the_embedding(featured: Pairs) -> None:
    few = featured.take(range(40))
    narrow = mm.method("vsepp", **SMALL, start="linear", start_dim=5).build(few)
    vectors = narrow.encode_texts(few.captions).vectors  # type: ignore[attr-defined]
    assert vectors.shape[1] == 16 and float(vectors[:, 5:].abs().max()) == 0.0


def test_words_and_attention_stay_those_of_the_tower(featured: Pairs) -> None:
    few = featured.take(range(40))
    plain, begun = (mm.method("dive", **SMALL, start=start).build(few) for start in ("random", "linear"))
    text = few.captions[0]
    assert begun.texts.cut(text) == plain.texts.cut(text) and begun.knows(text) and not begun.knows("xylophone")
    ours, theirs = begun.attend_texts([text])[0], plain.attend_texts([text])[0]
    assert ours.shares is not None and theirs.shares is not None and torch.equal(ours.shares, theirs.shares)
    with pytest.raises(DataError, match="found words alone; give it what `prepare` gives"):
        begun.texts(begun.texts.tokens([text]))


def test_a_run_without_these_fields_is_read(featured: Pairs) -> None:
    about = mm.method("vsepp", **SMALL).build(featured.take(range(12))).describe()
    old = {**about, "fields": {k: v for k, v in about["fields"].items() if not k.startswith("start")}}
    assert "terms" not in about["texts"]
    again = Model.from_description(old)
    assert again.method.start == "random" and again.describe() == old


def test_a_frozen_network_begins_it_too(featured: Pairs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(
        "manymatch.encoders.pretrained.open_backbone", lambda source, fragments=True: GridBackbone(fragments=fragments)
    )
    few = featured.take(range(40))
    model = mm.method("vse_infty", **SMALL, start="linear").build(few, image_tower="hf:grid", store=tmp_path / "store")
    model = train(model, few, out=tmp_path / "run", config=TrainConfig(epochs=1), say=None, store=tmp_path / "store")
    again = mm.load(tmp_path / "run")
    pictures = few.images[:3].decode()
    torch.testing.assert_close(again.encode_images(pictures).vectors, model.encode_images(pictures).vectors)  # type: ignore[attr-defined]


def test_many_fragments_enter_by_their_mean() -> None:
    inputs = ImageInput("features", fragments=40, fragment_width=512)
    tower = LinearFeatures(inputs, PointHead(), dim=4)
    assert tower.linear.in_features == 512
    vectors = np.random.default_rng(0).normal(size=(2, 40, 512)).astype(np.float32)
    lengths = np.array([40, 3])
    found = tower.inputs(Features(vectors, lengths))
    torch.testing.assert_close(found[1], torch.from_numpy(vectors[1, :3].mean(axis=0)), atol=1e-5, rtol=1e-5)
    fewer = tower.inputs(Features(vectors[1:, :3]))
    torch.testing.assert_close(fewer[0], found[1], atol=1e-5, rtol=1e-5)


def test_weights_of_terms_are_those_of_their_captions() -> None:
    captions = ["a red dog", "a red cat", "a blue dog runs", "the end"]
    known = terms_known(captions, least=2, least_pairs=2)
    assert set(known.words) == {"a", "red", "dog", "a red"}
    weights = term_weights(known, captions)
    numbers = {word: float(weights[number]) for word, number in known.numbers.items()}
    assert numbers["red"] == pytest.approx(np.log(4 / 3)) and numbers["a red"] == pytest.approx(np.log(4 / 3) / 2)
    assert numbers["a"] == pytest.approx(1e-3), "a word of nearly every caption says nothing"
    assert float(weights[:3].abs().max()) == 0.0


def test_order_embeddings_have_no_linear_start(featured: Pairs) -> None:
    with pytest.raises(DataError, match=r"vsepp\.start=linear: .*measure=order"):
        mm.method("vsepp", **SMALL, start="linear", measure="order")
