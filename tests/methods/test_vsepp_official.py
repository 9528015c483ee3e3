"""VSE++ whole against recorded outputs of the official implementation, from its own checkpoint through the importer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from official_case import Case, check_norms, check_ranks, close, still

from manymatch.data.features import Features, Pixels
from manymatch.data.text import Tokens
from manymatch.encoders.resnet import resnet
from manymatch.errors import CheckpointError
from manymatch.methods import Batch, Model
from manymatch.runs.importers import importer
from manymatch.runs.official_files import OfficialCheckpoint, OfficialVocabulary, read_official, read_vocabulary
from manymatch.similarity import Order

pytestmark = pytest.mark.slow

VOCABULARY = "coco_precomp_vocab.pkl"


@pytest.fixture(scope="module")
def folder(reference: Path) -> Path:
    return reference / "parity" / "vsepp_precomp_gru"


@pytest.fixture(scope="module")
def case(reference: Path) -> Case:
    return Case.read(reference, "vsepp_precomp_gru", "vsepp", VOCABULARY)


def features(case: Case) -> Features:
    return Features(None, pooled=case.inputs["image_features"])


def batch(case: Case) -> Batch:
    rows = case.expected["train_order"]
    pooled = case.inputs["image_features"][case.inputs["caption_image_index"][rows]]
    tokens = Tokens(case.inputs["token_ids"][rows], case.inputs["caption_lengths"][rows])
    return Batch(Features(None, pooled=pooled), tokens, torch.eye(len(rows), dtype=torch.bool))


def test_embeddings_scores_and_ranks(case: Case) -> None:
    images, texts, expected = case.model.encode_images(features(case)), case.texts(), case.expected
    close(images.tensors()["vectors"], expected["img_embs"])
    close(texts.tensors()["vectors"], expected["cap_embs"])
    close(case.model.similarity(images, texts), expected["scores"])
    check_ranks(case.model.similarity, images, texts, case.inputs["caption_image_index"], expected)


def test_captions_become_the_recorded_numbers(case: Case) -> None:
    tokens = case.model.texts.tokens(case.captions)
    np.testing.assert_array_equal(tokens.lengths, case.inputs["caption_lengths"])
    np.testing.assert_array_equal(tokens.ids, case.inputs["token_ids"][:, : tokens.ids.shape[1]])


def test_the_training_batch(case: Case) -> None:
    model, given, expected = still(case.model), batch(case), case.expected
    images, texts = model.images(given.images).embedding, model.texts(given.texts).embedding
    close(images.tensors()["vectors"], expected["train_img_embs"])
    close(texts.tensors()["vectors"], expected["train_cap_embs"])
    close(model.similarity(images, texts), expected["train_scores"])
    terms = model.training_step(given)
    close(terms["loss"], expected["loss"], 0, share=1e-4)
    close(terms["triplet"], expected["loss_max"], 0, share=1e-4)
    terms["loss"].backward()
    names = [importer("vsepp").rename(name) for name in expected["grad_names"].tolist()]
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    check_norms(found, names, expected["grad_norms"], 0, 1e-3)


def test_all_negatives(case: Case, folder: Path) -> None:
    sums = imported(folder, max_violation=False)
    assert sums.method.all_until == 1.0
    close(sums.train().training_step(batch(case))["loss"], case.expected["loss_sum"], 0, share=1e-4)


def imported(folder: Path, **options: object) -> Model:
    checkpoint = read_official(folder / "checkpoint.pth")
    changed = replace(checkpoint, options={**checkpoint.options, **options})
    return importer("vsepp").build(changed, read_vocabulary(folder / VOCABULARY))


def test_order_is_what_the_caption_says_beyond_the_image(case: Case, folder: Path) -> None:
    model = imported(folder, measure="order", use_abs=True)
    assert isinstance(model.similarity, Order)
    scores = model.similarity(model.encode_images(features(case)), model.encode_texts(case.captions)).detach()
    images, captions = np.abs(case.expected["img_embs"]), np.abs(case.expected["cap_embs"])
    excess = np.maximum(0, captions[None] - images[:, None])
    close(scores, -np.sqrt((excess**2).sum(axis=-1)))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"no_imgnorm": True}, "trained with no_imgnorm=True, only False is imported"),
        ({"use_abs": True}, "measure='cosine' and use_abs=True, expected 'cosine' without"),
        ({"measure": "order"}, "measure='order' and use_abs=False"),
        ({"num_layers": 2}, "trained with num_layers=2"),
    ],
)
def test_what_is_not_imported_is_named(folder: Path, options: dict[str, object], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        imported(folder, **options)


def on_pictures(cnn: str) -> OfficialCheckpoint:
    grid = {f"cnn.{k}": v for k, v in resnet("resnet18").state_dict().items() if "num_batches" not in k}
    linear, gru = torch.nn.Linear(512, 8), torch.nn.GRU(6, 8)
    words = {"embed.weight": torch.rand(6, 6), **{f"rnn.{k}": v for k, v in gru.state_dict().items()}}
    options = {"cnn_type": cnn, "crop_size": 64, "margin": 0.2, "batch_size": 128, "max_violation": True}
    parts = ({**grid, **{f"fc.{k}": v for k, v in linear.state_dict().items()}}, words)
    return OfficialCheckpoint(options, parts, {}, "f30k.pth")


def test_a_backbone_is_pooled_scaled_and_mapped() -> None:
    words = OfficialVocabulary(("<pad>", "<start>", "<end>", "<unk>", "dog", "cat"))
    model = importer("vsepp").build(on_pictures("resnet18"), words)
    pixels = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        pooled = model.images.backbone(pixels).mean(dim=(2, 3))  # type: ignore[operator, union-attr]
        wanted = model.images.neck.fc(torch.nn.functional.normalize(pooled))  # type: ignore[operator, union-attr]
        found = model.images(Pixels(pixels.numpy())).embedding.tensors()["vectors"]
    torch.testing.assert_close(found, torch.nn.functional.normalize(wanted))
    (stage,) = model.method.recipe().all_stages
    assert stage.frozen == ("images.backbone.",) and stage.epochs == 30
    with pytest.raises(CheckpointError, match=r"'f30k[.]pth' reads pictures by 'vgg19', only resnet18, "):
        importer("vsepp").build(on_pictures("vgg19"), words)
