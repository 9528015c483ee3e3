"""Every ablation of the three papers is one field of the method: it builds, learns a step, and changes what it says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import manymatch as mm
from manymatch.data.batches import ShuffledPairs
from manymatch.data.neighbours import NeighbourBatches
from manymatch.data.pairs import Pairs
from manymatch.embeddings import Encoded, Gaussians
from manymatch.encoders import ContextPool, PIEHead, SetHead
from manymatch.methods import Batch, Model, method_class
from manymatch.relations import Hypergraph
from manymatch.relations.association import Association, AssociationGraph
from manymatch.relations.interaction import Standalone
from manymatch.similarity import Chamfer, ElementProbability, Mahalanobis, Mil, SmoothChamfer
from manymatch.training import TrainConfig
from manymatch.training.optimiser import rate_factor

SMALL: dict[str, Any] = {
    "dim": 32,
    "word_dim": 8,
    "hidden": 8,
    "batch": 12,
    "least_count": 1,
    "dropout": 0.0,
    "feature_dropout": 0.0,
    "region_drop": 0.0,
    "word_drop": 0.0,
}
NARROW: dict[str, dict[str, Any]] = {
    "dive": {"head_width": 4, "slot_hidden": 16},
    "hrem": {"context_dropout": 0.0},
    "msrm": {"graph_hidden": 8},
}
HREM_FULL = {
    "distance_weighted",
    "image-enhanced caption distance_weighted",
    "enhanced image-caption distance_weighted",
}
HREM_FULL |= {"enhanced distance_weighted", "relevance", "loss"}


@pytest.fixture(scope="module")
def few(featured: Pairs) -> Pairs:
    return featured.take(range(36))


def built(name: str, pairs: Pairs, **fields: Any) -> Model:
    published = method_class(name).published_objective
    return mm.method(name, **{**SMALL, **NARROW[name], "objective": published, **fields}).build(pairs)


def first_batch(model: Model, pairs: Pairs) -> Batch:
    rows = next(iter(model.method.sampler().epoch(pairs, seed=0, epoch=0)))
    return model.batch(pairs, rows.images, rows.captions, rows.matches)


def learned(model: Model, pairs: Pairs) -> dict[str, torch.Tensor]:
    """The terms of a step late in a run, when every relation acts; its gradients are left on the model."""
    torch.manual_seed(0)
    model.advance(9, 10)
    terms = model.training_step(first_batch(model, pairs))
    terms["loss"].backward()  # type: ignore[no-untyped-call]
    assert all(bool(torch.isfinite(term).all()) for term in terms.values())
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())
    return terms


def graph_of(model: Model, pairs: Pairs) -> tuple[AssociationGraph, Association, Encoded, Encoded]:
    model.eval()
    batch = first_batch(model, pairs)
    images, texts = model.images(batch.images), model.texts(batch.texts)
    assert isinstance(model.relation, AssociationGraph)
    return model.relation, model.relation.graph(images, texts), images, texts


# ---- HREM


def test_full_hrem(few: Pairs) -> None:
    model = built("hrem", few)
    assert set(learned(model, few)) == HREM_FULL
    _, graph, _, _ = graph_of(model, few)
    assert bool(graph.connected.any(1).all()) and not bool(graph.connected.all())


@pytest.mark.parametrize("side", ["image", "text"])
def test_hrem_without_fragment_relations_of_a_side(side: str, few: Pairs) -> None:
    model = built("hrem", few, **{f"{side}_context": False})
    assert set(learned(model, few)) == HREM_FULL
    pools = {name: m for name, m in model.named_modules() if isinstance(m, ContextPool)}
    assert len(pools) == 2
    for name, pool in pools.items():
        assert (pool.context is None) == name.startswith(side), name
    assert not any(f"{side}s." in name and ".context." in name for name, _ in model.named_parameters())


@pytest.mark.parametrize("blocks", ["intra", "inter"])
def test_hrem_within_or_across_the_sides_only(blocks: str, few: Pairs) -> None:
    model = built("hrem", few, blocks=blocks)
    assert set(learned(model, few)) == HREM_FULL
    _, graph, _, _ = graph_of(model, few)
    i, connected = graph.images, graph.connected
    across, inside = (connected[:i, i:], connected[i:, :i]), (connected[:i, :i], connected[i:, i:])
    if blocks == "intra":
        assert not any(bool(block.any()) for block in across) and all(int(b.sum()) > len(b) for b in inside)
    else:
        assert all(torch.equal(b, torch.eye(len(b)).bool()) for b in inside) and all(bool(b.any()) for b in across)


def test_hrem_without_instance_relations(few: Pairs) -> None:
    model = built("hrem", few, graph=False)
    assert model.relation is None and set(learned(model, few)) == {"distance_weighted", "loss"}


def test_hrem_without_the_connection_matrix(few: Pairs) -> None:
    model = built("hrem", few, connections=False)
    assert set(learned(model, few)) == HREM_FULL
    _, graph, _, _ = graph_of(model, few)
    assert bool(graph.connected.all())


def test_hrem_without_the_relevance_matrix(few: Pairs) -> None:
    enhanced = {}
    for relevance in (0.0, 1.0):
        model = built("hrem", few, relevance=relevance)
        assert set(learned(model, few)) == HREM_FULL
        relation, graph, images, texts = graph_of(model, few)
        assert not bool(graph.connected.all()), "connections stay"
        before = relation(images, texts, torch.zeros(0)).pairs[-1][1].tensors()["vectors"]
        with torch.no_grad():
            for weight in [*relation.relevance_i2t.parameters(), *relation.relevance_t2i.parameters()]:
                weight.add_(torch.randn_like(weight))
        after = relation(images, texts, torch.zeros(0)).pairs[-1][1].tensors()["vectors"]
        enhanced[relevance] = torch.equal(before, after)
    assert enhanced == {0.0: True, 1.0: False}, "what is learned of relevance reaches nobody"


def test_hrem_without_cross_consistency(few: Pairs) -> None:
    terms = learned(built("hrem", few, cross_consistency=False), few)
    assert set(terms) == {"distance_weighted", "enhanced distance_weighted", "relevance", "loss"}


def test_hrem_without_relevance_regularisation(few: Pairs) -> None:
    model = built("hrem", few, regularisation=0.0)
    assert set(learned(model, few)) == HREM_FULL - {"relevance"}


def test_hrem_with_and_without_neighbour_batches(few: Pairs) -> None:
    kinds = {"pairs": ShuffledPairs, "neighbours": NeighbourBatches}
    for sampling, kind in kinds.items():
        model = built("hrem", few, sampling=sampling)
        assert isinstance(model.method.sampler(), kind) and set(learned(model, few)) == HREM_FULL
    assert mm.method("hrem", preset="published").sampling == "neighbours"


def test_standalone_hrem(few: Pairs) -> None:
    model = built("hrem", few, interaction="standalone")
    assert set(learned(model, few)) == HREM_FULL
    assert isinstance(model.relation, AssociationGraph) and isinstance(model.relation.interaction, Standalone)


# ---- DivE


@pytest.mark.parametrize(
    ("fields", "similarity", "head"),
    [
        ({}, SmoothChamfer, "slots"),
        ({"compare": "mil"}, Mil, "slots"),
        ({"compare": "probability"}, ElementProbability, "slots"),
        ({"compare": "chamfer"}, Chamfer, "slots"),
        ({"set_head": "pie"}, SmoothChamfer, "pie"),
        ({"set_head": "transformer"}, SmoothChamfer, "inputs"),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else None,
)
def test_dives_ablations(fields: dict[str, str], similarity: type, head: str, few: Pairs) -> None:
    model = built("dive", few, **fields)
    assert set(learned(model, few)) == {"triplet", "mmd", "diversity", "loss"}
    assert type(model.similarity) is similarity
    for tower in (model.images, model.texts):
        if head == "pie":
            assert isinstance(tower.head, PIEHead)
            continue
        assert isinstance(tower.head, SetHead)
        slots: Any = tower.head.slots
        valid = torch.ones(2, 5, dtype=torch.bool)
        _, shares = slots.attend(torch.randn(2, 5, slots.key.in_features), valid)
        # (n, heads, slots, inputs): the axis the softmax runs over sums to 1.
        assert torch.allclose(shares.sum(dim=2 if head == "slots" else 3), torch.ones(()), atol=1e-5)
        assert not torch.allclose(shares.sum(dim=3 if head == "slots" else 2), torch.ones(()), atol=1e-2)


def test_a_residual_drops_nothing_out_unless_published(few: Pairs) -> None:
    for name in ("dive", "pvse"):
        more = {"set_head": "pie"} if name == "dive" else {}
        for pooling, rate in (("max_mean", 0.0), ("published", 0.3)):
            model = mm.method(name, **{**SMALL, **more, "dropout": 0.3, "pooling": pooling}).build(few)
            assert isinstance(model.images.head, PIEHead)
            assert model.images.head.net.dropout.p == rate


@pytest.mark.parametrize(("field", "term"), [("mmd_weight", "mmd"), ("diversity_weight", "diversity")])
def test_dive_without_a_regulariser(field: str, term: str, few: Pairs) -> None:
    assert set(learned(built("dive", few, **{field: 0.0}), few)) == {"triplet", "mmd", "diversity", "loss"} - {term}


# ---- MSRM

MSRM_FULL = {"triplet", "distribution", "hyperedge", "smoothing", "loss"}


def hypergraph_of(model: Model) -> Hypergraph:
    assert isinstance(model.relation, Hypergraph)
    return model.relation


def test_full_msrm(few: Pairs) -> None:
    assert set(learned(built("msrm", few), few)) == MSRM_FULL


def test_msrm_without_the_distribution_loss(few: Pairs) -> None:
    assert set(learned(built("msrm", few, distribution_weight=0.0), few)) == MSRM_FULL - {"distribution"}


def test_msrm_without_the_hypergraph(few: Pairs) -> None:
    model = built("msrm", few, hyperedge_weight=0.0)
    assert model.relation is None and set(learned(model, few)) == {"triplet", "distribution", "loss"}


def test_msrm_with_identity_covariance(few: Pairs) -> None:
    model = built("msrm", few, covariance="identity")
    assert set(learned(model, few)) == MSRM_FULL
    assert isinstance(model.similarity, Mahalanobis)
    q, g = model.eval().encode_images(few.images[:4]), model.encode_texts(few.captions[:5])
    assert isinstance(q, Gaussians) and isinstance(g, Gaussians)
    squared = torch.cdist(q.mean, g.mean).square()
    torch.testing.assert_close(model.similarity(q, g), -squared, rtol=0, atol=1e-5)
    torch.testing.assert_close(hypergraph_of(model).distances(q, g).T, squared, rtol=0, atol=1e-5)
    spread = [p for n, p in model.named_parameters() if "uncertainty" in n]
    assert spread and all(p.grad is None or not bool(p.grad.any()) for p in spread), "no variance is learned"


def test_msrm_with_a_label_free_incidence(few: Pairs) -> None:
    model = built("msrm", few, incidence="free")
    assert set(learned(model, few)) == MSRM_FULL
    relation, d2 = hypergraph_of(model), torch.rand(4, 4)
    none, every = torch.zeros(4, 4, dtype=torch.bool), torch.ones(4, 4, dtype=torch.bool)
    assert torch.equal(relation.incidences(d2, none), relation.incidences(d2, every))
    labelled = hypergraph_of(built("msrm", few))
    assert not torch.equal(labelled.incidences(d2, none), labelled.incidences(d2, every))


@pytest.mark.parametrize(
    "settings",
    [
        {"compare": "match"},
        {"compare": "mean"},
        {"base": "match", "samples": 3},
        {"refined": "places"},
        {"refined": "match"},
        {"incidence": "top", "nearest": 2},
        {"bound": "softplus"},
        {"orientation": "candidates"},
        {"shared": True},
    ],
    ids=str,
)
def test_msrms_alternatives_learn_and_search(settings: dict[str, Any], few: Pairs) -> None:
    model = built("msrm", few, **settings)
    assert {"distribution", "hyperedge"} <= set(learned(model, few))
    scores = model.similarity(model.encode_texts(few.captions[:3]), model.encode_images(few.images[:4]))
    assert scores.shape == (3, 4) and bool(torch.isfinite(scores).all())


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_msrm_with_so_many_convolutions(layers: int, few: Pairs) -> None:
    model = built("msrm", few, layers=layers)
    assert set(learned(model, few)) == MSRM_FULL
    maps = [n for n, _ in model.named_parameters() if n.startswith("relation.") and "maps" in n and "weight" in n]
    assert len(maps) == 2 * layers, "in each direction"


def test_msrms_hypergraph_learns_at_a_rate_of_its_own() -> None:
    for preset in ("", "published"):
        recipe = TrainConfig().recipe(mm.method("msrm", preset=preset, graph_rate=3.0))
        assert rate_factor(recipe, "relation.networks.0.maps.0.weight") == 3.0
        assert rate_factor(recipe, "images.head.mean.linear.weight") == 1.0
