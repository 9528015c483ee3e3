"""PVSE whole against recorded outputs of the official implementation, from its own checkpoint through the importer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from official_case import Case, check_norms, check_ranks, close, pixels, seen, still

from manymatch.data.text import Tokens
from manymatch.embeddings import Encoded
from manymatch.errors import CheckpointError
from manymatch.methods import Batch
from manymatch.runs.importers import importer
from manymatch.runs.official_files import OfficialCheckpoint, read_official, read_vocabulary

pytestmark = pytest.mark.slow

CLOSE, GRIDS = 5e-5, 1e-4


@pytest.fixture(scope="module")
def folder(reference: Path) -> Path:
    return reference / "parity" / "pvse_coco_k2"


@pytest.fixture(scope="module")
def case(reference: Path) -> Case:
    return Case.read(reference, "pvse_coco_k2", "pvse", "vocab.pkl")


def batch(case: Case) -> Batch:
    rows = case.expected["train_order"]
    images = pixels(case.inputs["images_uint8"][case.inputs["caption_image_index"][rows]])
    tokens = Tokens(case.inputs["token_ids"][rows], case.inputs["caption_lengths"][rows])
    return Batch(images, tokens, torch.eye(len(rows), dtype=torch.bool))


def test_embeddings_scores_and_ranks(case: Case) -> None:
    images, texts, expected = case.model.encode_images(case.images()), case.texts(), case.expected
    close(images.tensors()["elements"], expected["img_embs"], CLOSE)
    close(texts.tensors()["elements"], expected["txt_embs"], CLOSE)
    close(case.model.similarity(images, texts), expected["scores"], CLOSE)
    check_ranks(case.model.similarity, images, texts, case.inputs["caption_image_index"], expected)


def test_grid_attention_and_residual(case: Case) -> None:
    expected = case.expected
    close(seen(case.model, "images.backbone", case.images())[1], expected["img_grid"], GRIDS)
    (cells, valid), _ = seen(case.model, "images.head.net.attention", case.images())
    with torch.inference_mode():
        weights = case.model.get_submodule("images.head.net.attention").attend(cells, valid)[1]  # type: ignore[operator]
        residual = case.model.images(case.images()).tensor("residual")
    close(weights, expected["img_attn"], CLOSE)
    close(residual, expected["img_residual"], CLOSE)


def test_captions_become_the_recorded_numbers(case: Case) -> None:
    tokens = case.model.texts.tokens(case.captions)
    np.testing.assert_array_equal(tokens.lengths, case.inputs["caption_lengths"])
    np.testing.assert_array_equal(tokens.ids, case.inputs["token_ids"][:, : tokens.ids.shape[1]])


def test_the_training_batch(case: Case) -> None:
    model, given, expected = still(case.model), batch(case), case.expected
    sides: dict[str, Encoded] = {"img": model.images(given.images), "txt": model.texts(given.texts)}
    for name, side in sides.items():
        close(side.embedding.tensors()["elements"], expected[f"train_{name}_embs"], CLOSE)
        close(side.tensor("residual"), expected[f"train_{name}_residual"], CLOSE)
    close(seen(model, "images.backbone", given.images)[1], expected["train_img_grid"], GRIDS)
    wanted = {"loss": "loss", "triplet": "loss_ranking", "diversity": "loss_div", "mmd": "loss_mmd"}
    terms = model.training_step(given)
    assert set(terms) == set(wanted)
    for ours, theirs in wanted.items():
        close(terms[ours], expected[theirs], 0, share=2e-4)
    terms["loss"].backward()
    names = [importer("pvse").rename(name) for name in expected["grad_names"].tolist()]
    frozen = model.method.recipe().all_stages[0].frozen
    found = {n: p.grad for n, p in model.named_parameters() if p.grad is not None and not n.startswith(frozen)}
    check_norms(found, names, expected["grad_norms"], 0, 2e-3)


def test_weights_alone(case: Case, folder: Path) -> None:
    whole = read_official(folder / "checkpoint.pth")
    words = read_vocabulary(folder / "vocab.pkl")
    alone = OfficialCheckpoint({}, whole.parts, {}, "coco_pvse.pth")
    model = importer("pvse").build(alone, words)
    assert all(torch.equal(value, case.model.state_dict()[name]) for name, value in model.state_dict().items())
    assert model.input_of_images == case.model.input_of_images and model.method.text_global == "final"  # type: ignore[attr-defined]
    assert "--option legacy=true" in model.notes["import"] and "import" not in case.model.notes
    published = importer("pvse").build(replace(alone, options={"legacy": True}), words)
    assert published.method.text_global == "last_step" and not published.notes  # type: ignore[attr-defined]
    ours, theirs = published.encode_texts(case.captions[:4]), case.model.encode_texts(case.captions[:4])
    assert float((ours.tensors()["elements"] - theirs.tensors()["elements"]).abs().max()) > 1e-3
    cut = {name: value for name, value in whole.parts[0].items() if "layer4" not in name}
    with pytest.raises(CheckpointError, match=r"has no options, and 90 weights under .* of none of resnet18,"):
        importer("pvse").build(replace(alone, parts=(cut,)), words)


def test_weights_of_many_devices(case: Case, folder: Path, tmp_path: Path) -> None:
    state = {f"module.{name}": value for name, value in read_official(folder / "checkpoint.pth").parts[0].items()}
    torch.save(state, tmp_path / "coco_pvse.pth")
    model = importer("pvse").build(read_official(tmp_path / "coco_pvse.pth"), read_vocabulary(folder / "vocab.pkl"))
    assert all(torch.equal(value, case.model.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"order": True}, "order=True, only False"),
        ({"max_violation": False}, "max_violation=False, only True"),
        ({"max_video_length": 8}, "max_video_length=8, only 1"),
        ({"txt_attention": False}, "txt_attention=False, only True"),
        ({"cnn_type": "vgg19"}, "reads pictures by 'vgg19', only resnet18, "),
    ],
)
def test_what_is_not_imported_is_named(folder: Path, options: dict[str, object], said: str) -> None:
    checkpoint = read_official(folder / "checkpoint.pth")
    with pytest.raises(CheckpointError, match=said):
        importer("pvse").build(
            replace(checkpoint, options={**checkpoint.options, **options}), read_vocabulary(folder / "vocab.pkl")
        )


def test_it_goes_on_as_it_was_trained(case: Case) -> None:
    method, recipe = case.model.method, case.model.method.recipe()
    assert (method.mode, method.margin, method.reduction, method.batch) == ("released", 0.1, "mean", 256)
    assert recipe.amsgrad and recipe.plateau_mode == "min"
    assert recipe.all_stages[0].frozen == ("images.backbone.", "texts.words.")
