"""PCME whole against recorded outputs of the official implementation, from its own checkpoint through the importer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from official_case import Case, Values, check_norms, check_ranks, close, pixels, seen, still
from torch import Tensor

from manymatch.data.text import Tokens
from manymatch.draws import recorded
from manymatch.embeddings import Encoded, Points, Samples
from manymatch.encoders.pie import LocalAttention
from manymatch.losses import KLPrior, MatchNLL, score
from manymatch.methods import Batch, Model
from manymatch.runs.importers import importer
from manymatch.similarity import SampledMatchProbability, SampleProducts

pytestmark = pytest.mark.slow

GRID = {"img_grid": False, "train_img_grid": True}


@pytest.fixture(scope="module")
def case(reference: Path) -> Case:
    return Case.read(reference, "pcme_coco", "pcme", None)


def noise(expected: Values, start: str = "") -> dict[str, Tensor]:
    """The recorded draws of one batch."""
    return {f"{ours}.0": torch.from_numpy(expected[f"{start}{theirs}_eps"]) for ours, theirs in SIDES.items()}


SIDES = {"image noise": "img", "text noise": "cap"}


def encoded(case: Case) -> dict[str, Encoded]:
    """All images, and all captions in one batch, with the recorded draws."""
    with recorded(noise(case.expected)), torch.inference_mode():
        texts = case.model.texts(case.model.texts.tokens(case.captions))
        return {"img": case.model.images(case.images()), "cap": texts}


def batch_of(case: Case) -> Batch:
    inputs = case.inputs
    rows = case.expected["train_order"]
    tokens = Tokens(inputs["token_ids"][rows], inputs["caption_lengths"][rows])
    images = pixels(inputs["images_uint8"][inputs["caption_image_index"][rows]])
    return Batch(images, tokens, torch.eye(len(rows)).bool())


# ---- as searched


def test_means_spreads_and_samples(case: Case) -> None:
    expected = case.expected
    np.testing.assert_array_equal(case.model.texts.tokens(case.captions).ids, case.inputs["token_ids"])
    for short, side in encoded(case).items():
        close(side.tensor("mean"), expected[f"{short}_mu"], 5e-5)
        close(side.tensor("log_sigma"), expected[f"{short}_logsigma"], 5e-5)
        close(side.embedding.tensors()["vectors"], expected[f"{short}_samples"], 5e-5)


def test_scores_and_ranks(case: Case) -> None:
    model, expected, inputs = case.model, case.expected, case.inputs
    size = int(inputs["eval_batch_size"])
    chunks = torch.from_numpy(expected["cap_eps"]).split(size)
    with recorded({"image noise.0": torch.from_numpy(expected["img_eps"])}):
        images = model.encode_images(case.images())
    with recorded({f"text noise.{n}": chunk for n, chunk in enumerate(chunks)}):
        texts = case.texts()
    assert isinstance(model.similarity, SampledMatchProbability)
    found = model.similarity.probability(model.similarity(images, texts))
    close(found, expected["scores_matching_prob"], 1e-4)
    close(SampleProducts()(images, texts), expected["scores_matmul"], 1e-4)
    for similarity, name in ((model.similarity, "_matching_prob"), (SampleProducts(), "_matmul")):
        check_ranks(similarity, images, texts, inputs["caption_image_index"], expected, name)


def test_attention_over_the_grid(case: Case) -> None:
    for head, name in (("mean", "img_attention"), ("uncertainty", "img_unc_attention")):
        module = case.model.get_submodule(f"images.head.{head}.attention")
        assert isinstance(module, LocalAttention)
        given, _ = seen(case.model, f"images.head.{head}.attention", case.images())
        with torch.inference_mode():
            close(module.attend(*given)[1], case.expected[name], 5e-5)


@pytest.mark.parametrize("name", GRID)
def test_the_grid(case: Case, name: str) -> None:
    model, images = case.model, case.images()
    if GRID[name]:
        model, images = still(model), batch_of(case).images
    close(seen(model, "images.backbone", images)[1], case.expected[name], 1e-4)


def test_samples_repeat_without_recorded_draws(case: Case) -> None:
    once, alone = case.texts(), case.texts(alone=True)
    assert isinstance(once, Samples) and isinstance(alone, Samples)
    close(alone.vectors, once.vectors, 5e-5)
    assert np.abs(once.vectors.numpy() - case.expected["cap_samples"]).max() > 0.1, "but they are others"


def test_the_mean_alone(case: Case) -> None:
    value = case.model.describe()
    model = Model.from_description({**value, "fields": {**value["fields"], "compare": "mean"}}).eval()
    weights = {k: v for k, v in case.model.search_state().items() if not k.startswith("similarity.")}
    model.load_search_state(weights)
    images, texts = model.encode_images(case.images()), model.encode_texts(case.captions)
    assert isinstance(images, Points) and isinstance(texts, Points)
    means = {short: torch.from_numpy(case.expected[f"{short}_mu"]) for short in ("img", "cap")}
    close(images.vectors, means["img"], 5e-5)
    close(model.similarity(images, texts), means["img"] @ means["cap"].T, 1e-4)


# ---- as trained


def test_a_training_batch_before_the_losses(case: Case) -> None:
    model, batch, expected = still(case.model), batch_of(case), case.expected
    with recorded(noise(expected, "train_")):
        sides = {"img": model.images(batch.images), "cap": model.texts(batch.texts)}
    for short, side in sides.items():
        close(side.tensor("log_sigma"), expected[f"train_{short}_logsigma"], 5e-5)
        close(side.tensor("samples"), expected[f"train_{short}_samples"], 5e-5)
    scores = score(model.similarity, sides["img"].embedding, sides["cap"].embedding)
    rows = dict(zip(("i2t", "t2i"), MatchNLL(positives="diagonal").of_pairs(scores, batch.matches), strict=True))
    wanted = {f"loss_{way}": value.sum() for way, value in rows.items()}
    wanted |= {f"loss_{way}_pos": value.diagonal().sum() for way, value in rows.items()}
    wanted |= {f"loss_{way}_neg": value[~batch.matches].sum() for way, value in rows.items()}
    wanted["loss_vib"] = KLPrior(mode="released")(sides["img"], sides["cap"])
    for name, value in wanted.items():
        close(value, expected[name], 0, share=2e-4)


def test_losses_and_every_gradient(case: Case) -> None:
    model, expected = still(case.model), case.expected
    terms = model.training_step(batch_of(case), noise(expected, "train_"))
    wanted = {
        "loss": expected["loss"],
        "match": expected["loss_i2t"] + expected["loss_t2i"],
        "kl": expected["loss_vib"],
    }
    assert set(terms) == set(wanted)
    for name, value in wanted.items():
        close(terms[name], value, 0, share=2e-4)
    terms["loss"].backward()  # type: ignore[no-untyped-call]
    ours = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    names = [our_name(name) for name in expected["grad_names"].tolist()]
    assert len(names) == 103
    check_norms(ours, names, expected["grad_norms"], 1e-6, 2e-3)


def test_the_uniform_term_joins_the_loss_where_it_has_a_weight(case: Case) -> None:
    assert case.expected["loss_uniform"] == 0.0 == case.model.method.uniform_weight  # type: ignore[attr-defined]
    terms = still(case.model, uniform_weight=0.5).training_step(batch_of(case), noise(case.expected, "train_"))
    assert float(terms["uniform"].detach()) < -1.0
    close(terms["loss"] - 0.5 * terms["uniform"], case.expected["loss"], 0, share=2e-4)


def our_name(name: str) -> str:
    pcme = importer("pcme")
    if name.startswith("criterion."):
        return pcme.criterion[name.removeprefix("criterion.")]
    found = pcme.rename(name.removeprefix("model."))
    assert found is not None
    return found


def test_what_training_on_would_use(case: Case) -> None:
    method = case.model.method
    fields = {"mode": "released", "sampling": "pairs", "batch": 128, "word_drop": 0.1, "objective": "match"}
    fields |= {"kl_weight": 1e-5, "uniform_weight": 0.0, "samples": 7, "scale": 15, "shift": 15, "reduction": "sum"}
    assert {name: getattr(method, name) for name in fields} == fields
    first, second = method.recipe().stages
    assert (method.recipe().lr, first.lr, second.lr) == (2e-4, None, 2e-5)
    assert first.frozen == ("images.backbone.", "texts.words.")
