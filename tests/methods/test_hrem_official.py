"""HREM whole against recorded outputs of the official implementation, from its own checkpoint through the importer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from manymatch.data.features import Features
from manymatch.data.matches import Matches
from manymatch.data.text import Tokens
from manymatch.embeddings import Encoded
from manymatch.evaluation import hit_rate, mean_rank, median_rank, rank
from manymatch.methods import Batch, Model
from manymatch.relations.association import AssociationGraph
from manymatch.runs.importers import importer
from manymatch.runs.official_files import read_official, read_vocabulary

pytestmark = pytest.mark.slow

Values = dict[str, Any]
TERMS = {"hrem_region_bert": "distance_weighted", "hrem_region_bert_vse": "triplet"}


def load(path: Path) -> Values:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


@dataclass
class Case:
    """A recorded case, and the model its checkpoint becomes."""

    name: str
    model: Model
    inputs: Values
    train: Values
    expected: Values
    captions: list[str]

    def still(self) -> Model:
        """The model in training, everything that drops set to 0."""
        value = self.model.describe()
        fields = {**value["fields"], "context_dropout": 0.0, "region_drop": 0.0, "word_drop": 0.0}
        config = {**value["texts"]["config"], "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        model = Model.from_description({**value, "fields": fields, "texts": {**value["texts"], "config": config}})
        model.load_state_dict(self.model.state_dict())
        return model.train()

    def batch(self) -> Batch:
        images = Features(self.train["image_features"], lengths=self.train["image_lengths"])
        # Recorded after words were dropped and masked, so that no caption gives these numbers.
        tokens = Tokens(self.train["token_ids"], self.train["caption_lengths"])
        ids = torch.from_numpy(self.train["image_ids"])
        return Batch(images, tokens, ids[:, None] == ids[None])

    def draws(self) -> dict[str, Tensor]:
        start = "neg_draw_"
        return {
            f"negatives.{name.removeprefix(start)}": torch.from_numpy(value)
            for name, value in self.expected.items()
            if name.startswith(start)
        }


@pytest.fixture(scope="module", params=sorted(TERMS))
def case(request: pytest.FixtureRequest, reference: Path) -> Case:
    folder = reference / "parity" / request.param
    model = importer("hrem").build(
        read_official(folder / "checkpoint.pth"),
        read_vocabulary(folder / "vocab.txt"),
        read_official(folder / "criterion_state.pth"),
    )
    files = [load(folder / f"{name}.npz") for name in ("inputs", "train_batch", "expected")]
    return Case(request.param, model, *files, (folder / "captions.txt").read_text().splitlines())


def close(ours: Any, theirs: Any, tolerance: float = 1e-5) -> None:
    ours = ours.detach().numpy() if isinstance(ours, Tensor) else ours
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


def test_embeddings_scores_and_ranks(case: Case) -> None:
    model, inputs, expected = case.model, case.inputs, case.expected
    images = model.encode_images(Features(inputs["image_features"], lengths=inputs["image_lengths"]))
    texts = model.encode_texts(case.captions, batch_size=int(inputs["eval_batch_size"]))
    close(images.tensors()["vectors"], expected["img_embs"])
    close(texts.tensors()["vectors"], expected["cap_embs"])
    close(model.similarity(images, texts), expected["scores"])
    varying = Features(case.train["image_features"], lengths=case.train["image_lengths"])
    close(model.encode_images(varying).tensors()["vectors"], expected["varlen_img_embs"])
    owner = inputs["caption_image_index"]
    matches = Matches.of(images=owner, captions=np.arange(len(owner)), shape=(len(images), len(texts)))
    measures: list[Callable[..., float]] = [median_rank, mean_rank]
    for name, ranks in zip(("i2t", "t2i"), rank(model.similarity, images, texts, matches), strict=True):
        found = [*(hit_rate(ranks, k) * 100 for k in (1, 5, 10)), *(measure(ranks) for measure in measures)]
        np.testing.assert_allclose(found, expected[name], rtol=1e-6, err_msg=name)


def test_a_training_batch_before_the_losses(case: Case) -> None:
    model, batch, expected = case.still(), case.batch(), case.expected
    sides = {"img": model.images(batch.images), "cap": model.texts(batch.texts)}
    for short, side in sides.items():
        assert side.fragments is not None
        close(side.embedding.tensors()["vectors"], expected[f"train_{short}_embs"])
        close(side.tensors["raw"], expected[f"train_{short}_notnorm"])
        close(side.fragments.vectors, expected[f"train_{short}_prepool"])
    _graph(model, sides["img"], sides["cap"], expected)


def _graph(model: Model, images: Encoded, texts: Encoded, expected: Values) -> None:
    relation = model.relation
    assert isinstance(relation, AssociationGraph)
    graph, n = relation.graph(images, texts), len(images.embedding)
    parts = {"i": slice(0, n), "t": slice(n, None)}
    for row in parts:
        for column in parts:
            block, name = (parts[row], parts[column]), f"{row}2{column}"
            np.testing.assert_array_equal(graph.connected[block], expected[f"connect_{name}"])
            close(graph.relevance[block], expected[f"relation_{name}"])
    bias = (relation.bias * graph.relevance).masked_fill(~graph.connected, float("-inf"))
    nodes = torch.cat([images.embedding.tensors()["vectors"], texts.embedding.tensors()["vectors"]])
    close(relation.interaction(nodes, bias, n), expected["gnn_out"])


def test_losses_and_every_gradient(case: Case) -> None:
    model, batch, expected, term = case.still(), case.batch(), case.expected, TERMS[case.name]
    draws, steps = case.draws(), 40_000
    model.advance(7_999, steps)
    before = model.training_step(batch, {name: draws[name] for name in list(draws)[:2]})
    model.zero_grad()
    model.advance(8_000, steps)
    terms = model.training_step(batch, draws)
    wanted = {term: expected["base_loss"], "relevance": expected["reg_loss"], "loss": expected["loss"]}
    kinds = ("image-enhanced caption", "enhanced image-caption", "enhanced")
    wanted |= {f"{kind} {term}": value for kind, value in zip(kinds, expected["gnn_losses"], strict=True)}
    assert set(terms) == set(wanted) and set(before) == {term, "loss"}
    for name, value in wanted.items():
        # Both sides round: relevance near 1e-3 is held to 1e-6, as float32 on another processor moves it by 1e-7.
        np.testing.assert_allclose(terms[name].detach(), value, rtol=1e-4, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(before["loss"].detach(), expected["loss_before_warmup"], rtol=1e-4)
    terms["loss"].backward()
    ours = dict(model.named_parameters())
    assert len(expected["grad_names"]) == 75 == len(ours)
    for theirs, norm in zip(expected["grad_names"].tolist(), expected["grad_norms"].tolist(), strict=True):
        grad = ours[our_name(theirs)].grad
        assert grad is not None
        # A bias before batch normalisation has no gradient; both sides hold the rounding of one, near 2e-7.
        np.testing.assert_allclose(grad.norm(), norm, rtol=2e-3, atol=1e-6, err_msg=theirs)


def our_name(theirs: str) -> str:
    hrem, inside = importer("hrem"), theirs.removeprefix("criterion.")
    if inside == theirs:
        return str(hrem.rename(theirs))
    start = max((start for start in hrem.criterion if inside.startswith(start)), key=len)
    return hrem.criterion[start] + inside[len(start) :]


def test_what_training_on_would_use(case: Case) -> None:
    method = case.model.method
    fields = {"sampling": "pairs", "margin": 0.2, "graph_start_steps": 8000, "word_drop": 0.2, "mode": "released"}
    fields |= {"objective": TERMS[case.name], "batch": 64 if case.name.endswith("_vse") else 16}
    assert {name: getattr(method, name) for name in fields} == fields
    assert method.recipe().lr == 5e-4 and method.recipe().milestones == (15, 25)
