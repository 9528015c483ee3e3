"""Importers: names and options are accounted for; DivE's checkpoints become models with the recorded embeddings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from manymatch.data.features import Features, Pixels
from manymatch.encoders.resnet import IMAGENET_MEAN, IMAGENET_STD
from manymatch.errors import CheckpointError, UnknownName
from manymatch.methods import Model, methods
from manymatch.runs.importers import importer, systems
from manymatch.runs.official_files import OfficialCheckpoint, OfficialVocabulary, read_official, read_vocabulary


def test_every_system_is_a_method_of_ours() -> None:
    assert "dive" in systems() and set(systems()) <= set(methods())
    assert all(importer(name).system == name for name in systems())
    with pytest.raises(UnknownName, match="did you mean 'dive'"):
        importer("diver")


def test_the_longest_start_counts_and_unknown_names_are_refused() -> None:
    dive = importer("dive")
    assert dive.rename("img_enc.mlp.bn.bn.weight") == "images.neck.projector.norm.weight"
    assert dive.rename("txt_enc.spm.agg_block.layers.0.0.norm_context.bias") == "texts.head.slots.input_norm.bias"
    assert dive.rename("txt_enc.spm.agg_block.layers.3.0.norm.bias") is None
    with pytest.raises(CheckpointError, match=r"'text[.]rnn[.]weight' is no weight of dive"):
        dive.rename("text.rnn.weight")
    assert replace(dive, names={"a": "b.", "a.b": "c."}).rename("a.b.d") == "c..d"


def test_options_of_another_variant_are_refused() -> None:
    checkpoint = OfficialCheckpoint({"arch": "pvse"}, ({"a": torch.ones(1)},), {}, "c.pth")
    with pytest.raises(CheckpointError, match="trained with arch='pvse', only 'slot' is imported"):
        importer("dive").build(checkpoint, OfficialVocabulary(("<pad>", "<start>", "<end>", "<unk>")))
    empty = OfficialCheckpoint({}, ({"a": torch.ones(1)},), {}, "c.pth")
    with pytest.raises(CheckpointError, match="expected DivE with a BiGRU"):
        importer("dive").build(empty, OfficialVocabulary(("<pad>", "<start>", "<end>", "<unk>")))


def imported(folder: Path) -> Model:
    return importer("dive").build(read_official(folder / "checkpoint.pth"), read_vocabulary(folder / "vocab.pkl"))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["dive_butd_bigru", "dive_grid_resnet18"])
def test_dive_gives_the_recorded_embeddings(reference: Path, case: str) -> None:
    folder = reference / "parity" / case
    model, inputs, expected = imported(folder), np.load(folder / "inputs.npz"), np.load(folder / "expected.npz")
    images: Features | Pixels
    if "images_uint8" in inputs:
        pixels = (inputs["images_uint8"] / 255.0 - IMAGENET_MEAN) / IMAGENET_STD
        images = Pixels(pixels.astype(np.float32).transpose(0, 3, 1, 2))
    else:
        images = Features(inputs["image_features"], lengths=inputs["image_lengths"])
    captions = (folder / "captions.txt").read_text().splitlines()
    sets = model.encode_images(images)
    texts = model.encode_texts(captions, batch_size=int(inputs["eval_batch_size"]))
    np.testing.assert_allclose(sets.tensors()["elements"], expected["img_embs"], rtol=0, atol=5e-5)
    np.testing.assert_allclose(texts.tensors()["elements"], expected["txt_embs"], rtol=0, atol=5e-5)
    np.testing.assert_allclose(model.similarity(sets, texts).detach(), expected["scores"], rtol=0, atol=5e-5)


@pytest.mark.slow
def test_a_vocabulary_of_other_captions_is_refused(reference: Path) -> None:
    folder = reference / "parity" / "dive_butd_bigru"
    short = OfficialVocabulary(read_vocabulary(folder / "vocab.pkl").words[:-1])
    with pytest.raises(CheckpointError, match=r"vocabulary: 108 words, but .* was trained on 109"):
        importer("dive").build(read_official(folder / "checkpoint.pth"), short)
