"""Importers: every name and option is accounted for, and a checkpoint of another variant is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from manymatch.errors import CheckpointError, UnknownName
from manymatch.methods import methods
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
    with pytest.raises(CheckpointError, match=r"no weight 'img_enc[.]fc[.]weight'; expected a checkpoint of dive"):
        importer("dive").build(empty, OfficialVocabulary(("<pad>", "<start>", "<end>", "<unk>")))


WORDS = OfficialVocabulary(("<pad>", "<start>", "<end>", "<unk>"))
DIVE = {
    "spm_depth": 4,
    "dropout": 0.1,
    "img_1x1_dropout": 0.1,
    "butd_drop_prob": 0.2,
    "caption_drop_prob": 0.2,
    "data_name": "coco_butd",
    "txt_pooling": "rnn",
    "loss": "smooth_chamfer",
    "eval_similarity": "smooth_chamfer",
}
DIVE_SHAPES = {
    "img_enc.fc.weight": (8, 16),
    "img_enc.mlp.fc1.weight": (4, 8),
    "img_enc.spm.agg_block.latents": (4, 8),
    "img_enc.spm.agg_block.layers.0.0.fn.to_q.weight": (16, 8),
    "img_enc.spm.agg_block.layers.0.2.fn.net.0.weight": (32, 8),
    "txt_enc.embed.weight": (5, 6),
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"txt_pooling": "cls"}, r"trained with a GRU and txt_pooling='cls', expected \['rnn'\]"),
        ({"img_1x1_dropout": 0.5}, "'img_1x1_dropout': 0.5}, only one number for both"),
        ({"loss": "chamfer"}, "loss='chamfer' and eval_similarity='smooth_chamfer', expected twice the same of"),
        ({"loss": "order", "eval_similarity": "order"}, "loss='order' and eval_similarity='order'"),
    ],
)
def test_options_of_dive_that_ours_has_not_are_refused(changed: dict[str, object], message: str) -> None:
    state = {name: torch.zeros(shape) for name, shape in DIVE_SHAPES.items()}
    with pytest.raises(CheckpointError, match=message):
        importer("dive").build(OfficialCheckpoint({**DIVE, **changed}, (state,), {}, "c.pth"), WORDS)


PCME: dict[str, dict[str, object]] = {
    "dataloader": {"batch_size": 128, "crop_size": 224},
    "model": {"name": "pcme", "cnn_type": "resnet18", "n_samples_inference": 7},
    "criterion": {"name": "pcme", "num_samples": 7},
}


@pytest.mark.parametrize(
    ("part", "changed", "message"),
    [
        ("model", {**PCME["model"], "name": "pvse"}, r"trained with model\.name='pvse', only 'pcme' is imported"),
        ("criterion", {**PCME["criterion"], "num_samples": 5}, r"trained and searched with \[5, 7\] samples"),
        ("dataloader", 3, r"option 'dataloader' is 3, expected options by name"),
    ],
)
def test_options_of_pcme_that_ours_has_not_are_refused(part: str, changed: object, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        importer("pcme").build(OfficialCheckpoint({**PCME, part: changed}, ({},), {}, "c.pth"), WORDS)


@pytest.mark.slow
def test_a_vocabulary_of_other_captions_is_refused(reference: Path) -> None:
    folder = reference / "parity" / "dive_butd_bigru"
    short = OfficialVocabulary(read_vocabulary(folder / "vocab.pkl").words[:-1])
    with pytest.raises(CheckpointError, match=r"vocabulary: 108 words, but .* was trained on 109"):
        importer("dive").build(read_official(folder / "checkpoint.pth"), short)
