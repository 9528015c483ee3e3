"""The association graph against recorded outputs of the official implementation of HREM."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graph_worlds import ours, recorded
from torch import Tensor

from manymatch.embeddings import Encoded
from manymatch.relations import Related
from manymatch.relations.association import AssociationGraph

COMPONENT = Path(__file__).parents[1] / "parity" / "hrem_adjacency.npz"
CASES = ["hrem_region_bert", "hrem_region_bert_vse"]


def load(path: Path) -> dict[str, Any]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def tensors(values: dict[str, Any], names: tuple[str, ...]) -> list[Tensor]:
    return [torch.from_numpy(values[name]) for name in names]


def blocks(images: int) -> Iterator[tuple[str, slice, slice]]:
    parts = {"i": slice(0, images), "t": slice(images, None)}
    for row in "it":
        for column in "it":
            yield f"{row}2{column}", parts[row], parts[column]


@pytest.mark.parametrize("case", [0, 1])
def test_connections_relevance_and_regulariser(case: int) -> None:
    values = load(COMPONENT)
    options = json.loads(str(values["options"]))["cases"][case]
    relation = AssociationGraph(
        16, top=options["topk"], share=options["threshold"], mode="released" if options["scan"] else "paper"
    )
    start = f"in.w.{case}."
    weights = {f"adj_model.{k.removeprefix(start)}": v for k, v in values.items() if k.startswith(start)}
    relation.load_state_dict({**relation.state_dict(), **ours(weights)})
    images = recorded(*tensors(values, ("in.img_emb", "in.img_regions", "in.img_len")))
    texts = recorded(*tensors(values, ("in.cap_emb", "in.cap_words", "in.cap_len")))
    found = relation.graph(images, texts)
    for name, rows, columns in blocks(len(images.embedding)):
        assert np.array_equal(found.connected[rows, columns], values[f"out.connect_{name}{case}"])
        wanted = values[f"out.relation_{name}{case}"]
        np.testing.assert_allclose(found.relevance[rows, columns].detach(), wanted, rtol=0, atol=1e-5)
    value = found.regulariser()
    np.testing.assert_allclose(value.detach(), values[f"out.reg_loss{case}"], rtol=1e-4)
    value.backward()
    grads = {k: v for k, v in values.items() if k.startswith(f"out.grad{case}.")}
    for key, wanted in ours({f"adj_model.{k.split('.', 2)[2]}": v for k, v in grads.items()}).items():
        np.testing.assert_allclose(relation.get_parameter(key).grad, wanted, rtol=1e-4, atol=1e-5)
    assert len(grads) == 8


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, reference: Path) -> Path:
    return reference / "parity" / str(request.param)


def batch(case: Path, values: dict[str, Any]) -> tuple[Encoded, Encoded]:
    lengths = load(case / "train_batch.npz")
    sides = []
    for short, long in (("img", "image"), ("cap", "caption")):
        points, vectors = tensors(values, (f"train_{short}_embs", f"train_{short}_prepool"))
        sides.append(recorded(points, vectors, torch.from_numpy(lengths[f"{long}_lengths"])))
    return sides[0], sides[1]


def official(case: Path, width: int) -> AssociationGraph:
    relation = AssociationGraph(width, mode="released", dropout=0.0)
    relation.load_state_dict(ours(torch.load(case / "criterion_state.pth", weights_only=True)))
    return relation.train()


def scores_of(related: Related) -> list[Tensor]:
    return [a.tensors()["vectors"] @ b.tensors()["vectors"].T for _, a, b in related.pairs]


def drawn(scores: Tensor, matches: Tensor, negatives: np.ndarray[Any, Any]) -> Tensor:
    """Triplets of every match with its recorded negative, summed."""
    rows, columns = matches.nonzero(as_tuple=True)
    return (0.2 + scores[rows, torch.from_numpy(negatives)] - scores[rows, columns]).clamp(min=0).sum()


def hardest(scores: Tensor, matches: Tensor) -> Tensor:
    """Triplets of every diagonal entry with the hardest of the others, summed."""
    own = scores.diagonal()[:, None]
    return (0.2 + scores - own).masked_fill(matches, 0.0).clamp(min=0).amax(1).sum()


def graph_losses(scores: list[Tensor], matches: Tensor, values: dict[str, Any]) -> list[Tensor]:
    if "neg_draw_2" not in values:
        return [hardest(s, matches) + hardest(s.T, matches.T) for s in scores]
    draws = [values[f"neg_draw_{n}"] for n in range(2, 8)]
    both = zip(scores, draws[::2], draws[1::2], strict=True)
    return [drawn(s, matches, i2t) + drawn(s.T, matches.T, t2i) for s, i2t, t2i in both]


@pytest.mark.slow
def test_graph_of_a_whole_batch(case: Path) -> None:
    values = load(case / "expected.npz")
    images, texts = batch(case, values)
    found = official(case, values["train_img_embs"].shape[1]).graph(images, texts)
    for name, rows, columns in blocks(len(images.embedding)):
        assert np.array_equal(found.connected[rows, columns], values[f"connect_{name}"])
        np.testing.assert_allclose(
            found.relevance[rows, columns].detach(), values[f"relation_{name}"], rtol=0, atol=1e-5
        )
    np.testing.assert_allclose(found.regulariser().detach(), values["reg_loss"], rtol=1e-4)


@pytest.mark.slow
def test_enhanced_embeddings_losses_and_gradients(case: Path) -> None:
    values = load(case / "expected.npz")
    images, texts = batch(case, values)
    relation = official(case, values["train_img_embs"].shape[1])
    ids = torch.from_numpy(load(case / "train_batch.npz")["image_ids"])
    matches = ids[:, None] == ids[None]
    related = relation(images, texts, matches)
    _, vbar, ubar = related.pairs[-1]
    nodes = torch.cat([vbar.tensors()["vectors"], ubar.tensors()["vectors"]]).detach()
    wanted = torch.nn.functional.normalize(torch.from_numpy(values["gnn_out"]), dim=-1)
    torch.testing.assert_close(nodes, wanted, rtol=0, atol=1e-5)
    losses = graph_losses(scores_of(related), matches, values)
    np.testing.assert_allclose([float(v.detach()) for v in losses], values["gnn_losses"], rtol=1e-4)
    weight, penalty = related.penalties["relevance"]
    total = sum(losses, weight * penalty)
    np.testing.assert_allclose(float(total.detach()) + values["base_loss"], values["loss"], rtol=1e-4)
    total.backward()
    norms = dict(zip(values["grad_names"].tolist(), values["grad_norms"].tolist(), strict=True))
    for key, norm in norms.items():
        if key.startswith("criterion."):
            (name,) = ours({key.removeprefix("criterion."): 0})
            grad = relation.get_parameter(name).grad
            assert grad is not None
            np.testing.assert_allclose(grad.norm(), norm, rtol=2e-3)
    assert sum(key.startswith("criterion.") for key in norms) == len(list(relation.parameters()))
