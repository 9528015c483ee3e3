"""DivE whole against recorded outputs of the official implementation, from its own checkpoints through the importer."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from official_case import Case, check_norms, check_ranks, close, pixels, seen, still
from torch import Tensor

from manymatch.data.features import Features
from manymatch.data.text import Tokens
from manymatch.embeddings import Sets
from manymatch.encoders import SetHead
from manymatch.methods import Batch, Model
from manymatch.runs.importers import importer
from manymatch.similarity import Chamfer, Mil, SmoothChamfer
from manymatch.training.plan import Plan
from manymatch.training.stepper import Stepper

pytestmark = pytest.mark.slow

VOCABULARIES = {"dive_butd_bigru": "vocab.pkl", "dive_butd_bert": "vocab.txt", "dive_grid_resnet18": "vocab.pkl"}
REGIONS = [name for name in VOCABULARIES if "butd" in name]
regions = pytest.mark.parametrize("case", REGIONS, indirect=True)
EMBEDDING = {"dive_grid_resnet18": 5e-5}
"""Tolerance of embeddings and scores where it is not 1e-5."""


@pytest.fixture(scope="module", params=sorted(VOCABULARIES))
def case(request: pytest.FixtureRequest, reference: Path) -> Case:
    return Case.read(reference, request.param, "dive", VOCABULARIES[request.param])


def tolerance(case: Case) -> float:
    return EMBEDDING.get(case.name, 1e-5)


def batch_of(case: Case) -> Batch:
    train, rows = case.train, case.train["recovery"]
    tokens = Tokens(train["token_ids_sorted"][rows], train["caption_lengths_sorted"][rows])
    images = train["image_index"]
    matches = torch.arange(len(images))[:, None] == torch.arange(len(rows))[None] // 5
    if "images_uint8" in case.inputs:
        return Batch(pixels(case.inputs["images_uint8"][images]), tokens, matches)
    return Batch(Features(train["image_features"], lengths=train["image_lengths"]), tokens, matches)


def our_name(name: str) -> str:
    found = importer("dive").rename(name)
    assert found is not None
    return found


# ---- as searched


def test_sets_scores_and_ranks(case: Case) -> None:
    model, expected, allowed = case.model, case.expected, tolerance(case)
    images, texts = model.encode_images(case.images()), case.texts()
    close(images.tensors()["elements"], expected["img_embs"], allowed)
    close(texts.tensors()["elements"], expected["txt_embs"], allowed)
    close(model.similarity(images, texts), expected["scores"], allowed)
    check_ranks(model.similarity, images, texts, case.inputs["caption_image_index"], expected)
    ids = model.texts.tokens(case.captions)
    close(ids.ids, case.inputs["token_ids"][:, : ids.ids.shape[1]], 0)


@regions
def test_every_recorded_similarity_and_captions_alone(case: Case) -> None:
    model, expected = case.model, case.expected
    images, texts, alone = model.encode_images(case.images()), case.texts(), case.texts(alone=True)
    close(alone.tensors()["elements"], expected["txt_embs_alone"])
    close(model.similarity(images, alone), expected["scores_alone"])
    assert np.abs(expected["txt_embs_alone"] - expected["txt_embs"]).max() > 1e-3, "padding shows, as released"
    similarities = {"chamfer": Chamfer(), "max": Mil(), "smooth_chamfer": SmoothChamfer(16.0)}
    for name, similarity in similarities.items():
        close(similarity(images, texts), expected[f"scores_{name}"])


@regions
def test_images_of_different_region_counts(case: Case) -> None:
    vectors, lengths = case.train["image_features"], case.train["image_lengths"]
    together = case.model.encode_images(Features(vectors, lengths=lengths))
    close(together.tensors()["elements"], case.expected["varlen_img_embs"])
    alone = [case.model.encode_images(Features(v[None, :n])) for v, n in zip(vectors, lengths, strict=True)]
    close(Sets.concat(alone).elements, case.expected["varlen_img_embs_alone"])  # type: ignore[arg-type]


@regions
def test_attention_and_residuals(case: Case) -> None:
    head = case.model.images.head
    assert isinstance(head, SetHead)
    given, residual = seen(case.model, "images.head.slots", case.images())
    with torch.inference_mode():
        shares = head.slots.attend(*given)[1]
    close(shares[:2].flatten(0, 1), case.expected["img_attn_last"])
    close(residual[:2], case.expected["img_residual_first2"])


@pytest.mark.parametrize("case", ["dive_grid_resnet18"], indirect=True)
def test_the_grid(case: Case) -> None:
    for model, images, name in (
        (case.model, case.images(), "img_grid"),
        (still(case.model), batch_of(case).images, "train_img_grid"),
    ):
        close(seen(model, "images.backbone", images)[1], case.expected[name], 1e-4)


# ---- as trained


def test_a_training_batch_before_the_losses(case: Case) -> None:
    model, batch, expected, allowed = still(case.model), batch_of(case), case.expected, tolerance(case)
    sides = {"img": model.images(batch.images), "txt": model.texts(batch.texts)}
    for short, side in sides.items():
        close(side.embedding.tensors()["elements"], expected[f"train_{short}_embs"], allowed)
        if f"train_{short}_residual" in expected:
            close(side.tensor("residual"), expected[f"train_{short}_residual"], allowed)
    if "bn_mean_after" in expected:
        # The projector runs twice, so the statistics have moved twice.
        state = model.state_dict()
        close(state["images.neck.projector.norm.running_mean"], expected["bn_mean_after"])
        close(state["images.neck.projector.norm.running_var"], expected["bn_var_after"])


def test_losses_and_every_gradient(case: Case) -> None:
    model, expected = still(case.model), case.expected
    coarse = case.name not in REGIONS
    terms = model.training_step(batch_of(case))
    wanted = {
        "loss": expected["loss"],
        "triplet": expected["loss_i2t"] + expected["loss_t2i"],
        "mmd": expected["loss_mmd"],
        "diversity": expected["loss_unif"],
    }
    assert set(terms) == set(wanted)
    for name, value in wanted.items():
        close(terms[name], value, 0, share=2e-4 if coarse else 1e-4)
    terms["loss"].backward()  # type: ignore[no-untyped-call]
    names = [our_name(name) for name in expected["grad_names"].tolist()]
    check_norms(gradients(model), names, expected["grad_norms"], 1e-6, 3e-3 if coarse else 1e-3)


def test_each_direction_of_the_triplet(case: Case) -> None:
    model, batch, expected = still(case.model), batch_of(case), case.expected
    scores = model.similarity(model.images(batch.images).embedding, model.texts(batch.texts).embedding).detach()
    positive, wrong = scores[batch.matches.nonzero(as_tuple=True)], scores.masked_fill(batch.matches, -torch.inf)
    own = batch.matches.nonzero()[:, 0]
    i2t = (0.2 + wrong.amax(dim=1)[own] - positive).relu().mean()
    t2i = (0.2 + wrong.amax(dim=0) - positive).relu().mean()
    close(i2t, expected["loss_i2t"], 0, share=2e-4)
    close(t2i, expected["loss_t2i"], 0, share=2e-4)


def gradients(model: Model) -> dict[str, Tensor]:
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    return {name: grad for name, grad in found.items() if grad is not None}


@pytest.mark.parametrize("case", ["dive_butd_bigru"], indirect=True)
def test_six_steps_of_the_optimiser(case: Case) -> None:
    model, batch, expected = still(case.model), batch_of(case), case.expected
    # Recorded over 24 steps, which stand for the run's 80 epochs.
    plan = Plan(model.method.recipe().lasting(24), 1)
    stepper = Stepper(model, plan, seed=0, precision="float32", tell=lambda _: None)
    assert plan.steps == 24
    applied: list[Tensor] = []
    # As the optimiser is given them: after the update they are let go of.
    stepper.optimiser.register_step_pre_hook(
        lambda *_: applied.append(torch.stack([g.norm() for g in gradients(model).values()]).norm())
    )
    for step in range(6):
        close(total_norm(model, batch), expected["steps_total_grad_norm"][step], 0, share=1e-3)
        values = stepper(step, batch)
        close(values["loss"], expected["steps_loss"][step], 0, share=1e-4)
        assert len(applied) == step + 1
        close(applied[-1], 1.0, 1e-5)
        check_rates(stepper, model, expected["steps_lr"][step])
    names = [our_name(name) for name in expected["steps_param_names"].tolist()]
    check_norms(dict(model.named_parameters()), names, expected["steps_param_norms"], 1e-3, 0)


def total_norm(model: Model, batch: Batch) -> float:
    """Of the gradient before it is clipped; leaves the model as it is."""
    probe = deepcopy(model)
    probe.zero_grad()
    probe.training_step(batch)["loss"].backward()  # type: ignore[no-untyped-call]
    return float(torch.stack([g.norm() for g in gradients(probe).values()]).norm())


def check_rates(stepper: Stepper, model: Model, recorded: np.ndarray[Any, Any]) -> None:
    """Image encoder, backbone, text encoder without its set module, and that module."""
    rates = {id(p): group["lr"] for group in stepper.optimiser.param_groups for p in group["params"]}
    starts = {"images.": 0, "images.backbone.": 1, "texts.": 2, "texts.head.": 3}
    for name, parameter in model.named_parameters():
        group = starts[max((start for start in starts if name.startswith(start)), key=len)]
        close(rates[id(parameter)], recorded[group], 0, share=1e-6)


def test_what_training_on_would_use(case: Case) -> None:
    method = case.model.method
    grid = case.name not in REGIONS
    fields = {"mode": "released", "margin": 0.2, "alpha": 16.0, "batch": 200, "captions": 5, "word_drop": 0.2}
    fields |= {"region_drop": 0.0 if grid else 0.2, "dropout": 0.1, "all_until": 0.0, "objective": "triplet"}
    fields |= {"bert_pooling": "cls" if "bert" in case.name else "max", "grid": grid, "preset": "published"}
    assert {name: getattr(method, name) for name in fields} == fields
    assert method.recipe().lr == 1e-3 and method.recipe().epochs == 80
