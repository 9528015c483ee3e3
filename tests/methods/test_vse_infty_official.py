"""VSE-infinity whole, with a BiGRU and with BERT, against recorded outputs of the official implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from official_case import Case, check_norms, check_ranks, close, still
from torch import Tensor

from manymatch.data.features import Features
from manymatch.data.text import Tokens
from manymatch.encoders import GPO
from manymatch.errors import CheckpointError
from manymatch.methods import Batch, Model
from manymatch.runs.importers import importer
from manymatch.runs.official_files import OfficialCheckpoint, OfficialVocabulary

VOCABULARIES = {"vse_infty_region_bigru": "coco_precomp_vocab.json", "vse_infty_region_bert": "vocab.txt"}
WORDS = OfficialVocabulary(("<pad>", "<start>", "<end>", "<unk>", "dog"))


@pytest.fixture(scope="module", params=sorted(VOCABULARIES))
def case(request: pytest.FixtureRequest, reference: Path) -> Case:
    return Case.read(reference, request.param, "vse_infty", VOCABULARIES[request.param])


def batch(case: Case) -> Batch:
    train = case.train
    # Recorded after words and regions were dropped, so that no caption gives these numbers. Some pairs share an image.
    image = case.inputs["caption_image_index"][train["caption_ids"]]
    matches = torch.from_numpy(image[:, None] == image[None])
    assert int(matches.sum()) > len(image)
    return Batch(fewer(case), Tokens(train["token_ids"], train["caption_lengths"]), matches)


def fewer(case: Case) -> Features:
    """The images of the training batch, each with its own number of regions."""
    return Features(case.train["image_features"], lengths=case.train["image_lengths"].astype(np.int64))


@pytest.mark.slow
def test_embeddings_scores_and_ranks(case: Case) -> None:
    images, texts, expected = case.model.encode_images(case.images()), case.texts(), case.expected
    close(images.tensors()["vectors"], expected["img_embs"])
    close(texts.tensors()["vectors"], expected["cap_embs"])
    close(case.model.similarity(images, texts), expected["scores"])
    close(case.model.encode_images(fewer(case)).tensors()["vectors"], expected["varlen_img_embs"])
    check_ranks(case.model.similarity, images, texts, case.inputs["caption_image_index"], expected)


@pytest.mark.slow
def test_captions_become_the_recorded_numbers(case: Case) -> None:
    tokens = case.model.texts.tokens(case.captions)
    np.testing.assert_array_equal(tokens.lengths, case.inputs["caption_lengths"])
    np.testing.assert_array_equal(tokens.ids, case.inputs["token_ids"][:, : tokens.ids.shape[1]])


@pytest.mark.slow
def test_the_training_batch(case: Case) -> None:
    model, given, expected = still(case.model), batch(case), case.expected
    images, texts = model.images(given.images).embedding, model.texts(given.texts).embedding
    close(images.tensors()["vectors"], expected["train_img_embs"])
    close(texts.tensors()["vectors"], expected["train_cap_embs"])
    for name, pool, lengths in (
        ("img", model.images.neck.pool, case.train["image_lengths"]),  # type: ignore[union-attr]
        ("cap", model.texts.pool, case.train["caption_lengths"]),
    ):
        assert isinstance(pool, GPO)
        weights = pool.weights(torch.from_numpy(lengths.astype(np.int64)))
        close(weights[:2], expected[f"{name}_pool_weights"])
    terms = model.training_step(given)
    close(terms["loss"], expected["loss"], 0, share=1e-4)
    terms["loss"].backward()
    names = [importer("vse_infty").rename(n.replace(".module.", ".")) for n in expected["grad_names"].tolist()]
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    # Biases before a batch norm and of BERT's keys have no gradient but rounding.
    check_norms(found, names, expected["grad_norms"], 2e-6, 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("epochs", [25, 4, 60])
def test_the_first_epoch_counts_every_negative(case: Case, epochs: int) -> None:
    model, given = still(case.model), batch(case)
    every = max(1, round(epochs / 25)) * 7
    for step, loss in ((0, "loss_sum"), (every - 1, "loss_sum"), (every, "loss")):
        model.advance(step, 7 * epochs, epochs)
        close(model.training_step(given)["loss"], case.expected[loss], 0, share=1e-4)


@pytest.mark.slow
def test_it_goes_on_as_it_was_trained(case: Case) -> None:
    method = case.model.method
    bert = case.model.input_of_texts.tower == "bert"
    assert (method.mode, method.margin, method.reduction, method.batch) == ("released", 0.2, "sum", 128)
    assert (method.region_drop, method.word_drop, method.all_until) == (0.2, 0.2, 0.04)
    assert method.recipe().weight_decay == (1e-4 if bert else 0.01)


def grid(**options: object) -> OfficialCheckpoint:
    given = {
        "precomp_enc_type": "backbone",
        "backbone_source": "wsl",
        "input_scale_factor": 2.0,
        "margin": 0.2,
        "batch_size": 128,
        "vse_mean_warmup_epochs": 1,
        "num_epochs": 25,
        **options,
    }
    image = {"image_encoder.fc.weight": torch.rand(8, 2048), "image_encoder.fc.bias": torch.rand(8)}
    gru = torch.nn.GRU(6, 8, bidirectional=True).state_dict()
    words = {"embed.weight": torch.rand(6, 6), **{f"rnn.{k}": v for k, v in gru.items()}}
    return OfficialCheckpoint(given, (image | pool(), words | pool("")), {}, "grid.pth")


def pool(start: str = "image_encoder.") -> dict[str, Tensor]:
    return {f"{start}gpool.{name}": value for name, value in GPO().state_dict().items()}


def test_grids(monkeypatch: pytest.MonkeyPatch) -> None:
    from manymatch.encoders import pixels

    class NoBackbone(torch.nn.Module):
        """A ResNeXt has 350 MB of weights."""

        def forward(self, images: Tensor) -> Tensor:
            return images.new_ones(len(images), 2048, 16, 16)

    monkeypatch.setattr(pixels, "resnet", lambda name: NoBackbone())
    model = importer("vse_infty").build(grid(), WORDS)
    assert isinstance(model, Model) and model.input_of_images.tower == "resnext101_32x8d"
    assert model.input_of_images.size == 512 and model.images.whole  # type: ignore[union-attr]
    first, second, rest = model.method.recipe().all_stages
    assert first.frozen == ("images.backbone.",) and second.loss_ramp and not second.restart and not rest.restart
    assert (first.epochs, second.epochs, rest.epochs) == (1, 1, 23) and model.method.recipe().weight_decay == 1e-4


def test_what_is_left_out_of_a_backbone() -> None:
    rename = importer("vse_infty").rename
    assert rename("img_enc.backbone.resnet.layer4.2.bn3.weight") == "images.backbone.layer4.2.bn3.weight"
    assert rename("img_enc.backbone.resnet.fc.weight") is None
    assert rename("img_enc.backbone.base.0.weight") is None and rename("img_enc.backbone.top.0.0.bn1.bias") is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backbone_source": "detector"}, "reads pictures by backbone_source='detector', only 'wsl'"),
        ({"precomp_enc_type": "selfattention"}, "precomp_enc_type='selfattention', only 'basic'"),
        ({"no_imgnorm": True}, "no_imgnorm=True, only False"),
        ({"no_txtnorm": True}, "no_txtnorm=True, only False"),
    ],
)
def test_what_is_not_imported_is_named(options: dict[str, object], said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        importer("vse_infty").build(grid(**options), WORDS)
