"""The hypergraph operator's algebra, and what MSRM's hyperedge loss keeps whatever the batch."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from manymatch.embeddings import Encoded, Gaussians, Points
from manymatch.errors import DataError, UnknownName
from manymatch.losses import InfoNCE, Rescored, Triplet
from manymatch.relations.hypergraph import Hypergraph, node_classification, operator, over_smoothing
from manymatch.similarity import Cosine

SIZES = {"nodes": st.integers(1, 9), "edges": st.integers(1, 9), "seed": st.integers(0, 999)}
quick = settings(max_examples=40, deadline=None)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some_incidence(nodes: int, edges: int, seed: int) -> tuple[Tensor, Tensor]:
    """Incidence (n, e) with a third of it zero, and weights (e,): nodes and edges with nothing in them occur."""
    values = drawn(seed, nodes, edges)
    return values.masked_fill(drawn(seed + 1, nodes, edges) < 1 / 3, 0.0), drawn(seed + 2, edges) + 0.1


def gaussians(n: int, d: int, seed: int) -> Gaussians:
    """Unit means and variances between 1 and e^6, as MSRM's heads give them; float32."""
    draw = torch.Generator().manual_seed(seed)
    mean = functional.normalize(torch.randn(n, d, generator=draw), dim=-1)
    return Gaussians(mean, functional.relu6(3 * torch.randn(n, d, generator=draw)))


def batch(i: int = 5, c: int = 8, d: int = 6, seed: int = 0) -> tuple[Encoded, Encoded, Tensor]:
    """i images and c captions, caption n of image n modulo i: siblings occur when c > i."""
    matches = torch.arange(c)[None, :] % i == torch.arange(i)[:, None]
    return Encoded(gaussians(i, d, seed)), Encoded(gaussians(c, d, seed + 1)), matches


def hypergraph(**fields: Any) -> Hypergraph:
    torch.manual_seed(0)
    return Hypergraph(6, **{"hidden": 7, **fields})


def penalty(relation: Hypergraph, images: Encoded, texts: Encoded, matches: Tensor) -> Tensor:
    return relation(images, texts, matches).penalties["hyperedge"][1]


# ---- the operator


@given(**SIZES)
@quick
def test_the_operator_is_symmetric_within_0_and_1_and_keeps_the_root_of_the_degrees(
    nodes: int, edges: int, seed: int
) -> None:
    incidence, weights = some_incidence(nodes, edges, seed)
    g = operator(incidence, weights)
    torch.testing.assert_close(g, g.T)
    eigenvalues = torch.linalg.eigvalsh(g)
    assert eigenvalues.min() > -1e-9 and eigenvalues.max() < 1 + 1e-9
    root = (incidence @ weights).sqrt()
    torch.testing.assert_close(g @ root, root)
    torch.testing.assert_close(operator(incidence * 37.5, weights), g)
    torch.testing.assert_close(operator(incidence, weights * 0.01), g)


@given(**SIZES)
@quick
def test_it_is_what_the_formula_says(nodes: int, edges: int, seed: int) -> None:
    h, w = drawn(seed, nodes, edges) + 0.01, drawn(seed + 1, edges) + 0.01
    node, edge = torch.diag((h * w).sum(1) ** -0.5), torch.diag(1 / h.sum(0))
    torch.testing.assert_close(operator(h, w), node @ h @ torch.diag(w) @ edge @ h.T @ node)
    torch.testing.assert_close(operator(h), operator(h, torch.ones(edges, dtype=torch.float64)))


@given(**SIZES)
@quick
def test_permuting_nodes_conjugates_it_and_edges_have_no_order(nodes: int, edges: int, seed: int) -> None:
    incidence, weights = some_incidence(nodes, edges, seed)
    draw = torch.Generator().manual_seed(seed)
    rows, columns = torch.randperm(nodes, generator=draw), torch.randperm(edges, generator=draw)
    g = operator(incidence, weights)
    torch.testing.assert_close(operator(incidence[rows], weights), g[rows][:, rows])
    torch.testing.assert_close(operator(incidence[:, columns], weights[columns]), g)


def test_identity_keeps_every_node_and_one_edge_of_all_is_their_mean() -> None:
    torch.testing.assert_close(operator(torch.eye(4)), torch.eye(4))
    values = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    mean = operator(torch.ones(5, 1)) @ values
    torch.testing.assert_close(mean, values.mean(dim=0).expand(5, 3))


def test_nodes_and_edges_with_nothing_in_them_add_nothing_and_stay_finite() -> None:
    incidence = torch.tensor([[0.5, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.2]], requires_grad=True)
    weights = torch.tensor([1.0, 2.0, 0.0], requires_grad=True)
    g = operator(incidence, weights)
    assert (g[1] == 0).all() and (g[:, 1] == 0).all()
    torch.testing.assert_close(g[::2, ::2], operator(incidence[::2, :1]))
    g.sum().backward()
    assert torch.isfinite(incidence.grad).all() and torch.isfinite(weights.grad).all()  # type: ignore[arg-type]
    assert (operator(torch.zeros(3, 2)) == 0).all()


def test_an_incidence_that_is_none_is_refused() -> None:
    with pytest.raises(DataError, match=r"incidence \(3, 2\) and weights \(3,\), expected \(nodes, edges\)"):
        operator(torch.ones(3, 2), torch.ones(3))
    with pytest.raises(DataError, match=r"incidence \(3,\)"):
        operator(torch.ones(3))
    with pytest.raises(DataError, match="below 0"):
        operator(torch.tensor([[1.0, -0.1]]))


def test_over_smoothing_is_0_for_the_identity_and_1_of_n_for_the_mean() -> None:
    assert over_smoothing(torch.eye(4)) == 0 and over_smoothing(operator(torch.ones(1, 3))) == 0
    assert float(over_smoothing(operator(torch.ones(4, 1)))) == pytest.approx(1 / 4)


# ---- distance and incidence


@given(g=st.integers(1, 6), q=st.integers(1, 6), d=st.integers(2, 9), seed=st.integers(0, 99))
@quick
def test_distances_are_mahalanobis_and_at_most_4(g: int, q: int, d: int, seed: int) -> None:
    queries, candidates = gaussians(q, d, seed), gaussians(g, d, seed + 1)
    apart = candidates.mean[:, None] - queries.mean
    inverse = (-queries.log_variance).exp()
    for fields, expected in (
        ({}, (apart**2 * inverse).sum(-1)),
        ({"covariance": "identity"}, (apart**2).sum(-1)),
        ({"distance": "mean"}, (apart**2 * inverse).mean(-1)),
    ):
        d2 = Hypergraph(d, hidden=2, **fields).distances(queries, candidates)  # type: ignore[arg-type]
        torch.testing.assert_close(d2, expected, rtol=1e-5, atol=1e-5)
        assert d2.min() >= 0 and d2.max() <= 4 + 1e-5
    tenfold = Gaussians(queries.mean, queries.log_variance + math.log(10))
    whole, tenth = (Hypergraph(d, hidden=2).distances(x, candidates) for x in (queries, tenfold))
    torch.testing.assert_close(tenth, whole / 10, rtol=1e-5, atol=1e-5)


def test_incidences() -> None:
    d2 = torch.tensor([[0.0, 3.0], [1.0, 2.0], [4.0, 0.5]])
    matches = torch.tensor([[False, True], [True, False], [False, True]])
    kernel = (-2 * d2).exp()
    torch.testing.assert_close(hypergraph().incidences(d2, matches), torch.where(matches, 1.0, kernel))
    torch.testing.assert_close(hypergraph(incidence="free").incidences(d2, matches), kernel)
    nearest = torch.tensor([[True, False], [True, True], [False, True]])
    found = hypergraph(incidence="top", top=2).incidences(d2, matches)
    torch.testing.assert_close(found, kernel * nearest)
    torch.testing.assert_close(hypergraph(incidence="top", top=9).incidences(d2, matches), kernel)


@pytest.mark.parametrize(("incidence", "sees"), [("matches", True), ("free", False), ("top", False)])
def test_a_label_free_incidence_does_not_see_the_labels(incidence: str, sees: bool) -> None:
    relation = hypergraph(incidence=incidence).eval()
    images, texts, matches = batch()
    told = [float(relation(images, texts, m).penalties["smoothing"][1]) for m in (matches, matches.roll(1, 0))]
    assert (told[0] != told[1]) == sees


# ---- the loss


def test_node_classification() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 0.0, 0.0], [9.0, 9.0, 9.0]])
    matches = torch.tensor([[True, False, True], [False, True, False], [False, False, False]])
    p = logits.softmax(dim=1)
    expected = -(math.log(float(p[0, 0] + p[0, 2])) + math.log(1 / 3)) / 2
    assert float(node_classification(logits, matches)) == pytest.approx(expected)
    with pytest.raises(DataError, match="no match among"):
        node_classification(logits, torch.zeros(3, 3, dtype=torch.bool))
    far = torch.tensor([[200.0, -200.0]], requires_grad=True)
    node_classification(far, torch.tensor([[False, True]])).backward()
    assert torch.isfinite(far.grad).all()  # type: ignore[arg-type]


@given(i=st.integers(2, 6), c=st.integers(2, 9), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_the_order_of_the_batch_does_not_matter(i: int, c: int, seed: int) -> None:
    images, texts, matches = batch(i, max(c, i), seed=seed)
    draw = torch.Generator().manual_seed(seed)
    rows, columns = torch.randperm(i, generator=draw), torch.randperm(matches.shape[1], generator=draw)
    moved = Encoded(images.embedding[rows]), Encoded(texts.embedding[columns]), matches[rows][:, columns]
    for fields in ({}, {"incidence": "top", "top": 2}, {"use": "match", "match": Rescored(Mean(), InfoNCE(0.1))}):
        relation = hypergraph(**fields).double()
        as_float64 = [Encoded(e.embedding.to(torch.float64)) for e in (images, texts, *moved[:2])]
        before = penalty(relation, *as_float64[:2], matches)
        torch.testing.assert_close(before, penalty(relation, *as_float64[2:], moved[2]), rtol=1e-6, atol=1e-6)


def test_places_mind_the_order() -> None:
    relation = hypergraph(use="places", places=8)
    images, texts, matches = batch()
    rows = torch.tensor([1, 0, 2, 3, 4])
    before = penalty(relation, images, texts, matches)
    after = penalty(relation, Encoded(images.embedding[rows]), texts, matches[rows])
    assert not torch.isclose(before, after, rtol=1e-4)
    with pytest.raises(DataError, match="8 queries in a batch, but 7 places"):
        penalty(hypergraph(use="places", places=7), images, texts, matches)


class Mean(Cosine):
    """The cosine of the means of Gaussians."""

    kinds = ("gaussians",)

    def forward(self, queries: Gaussians, gallery: Gaussians) -> Tensor:
        return super().forward(*(Points(functional.normalize(x.mean, dim=-1)) for x in (queries, gallery)))

    def expect(self, *embeddings: Any) -> None:
        return None


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"incidence": "free"},
        {"incidence": "top", "top": 1},
        {"covariance": "identity"},
        {"distance": "mean"},
        {"use": "places", "places": 9},
        {"use": "match", "match": Rescored(Mean(), Triplet())},
    ],
    ids=lambda f: "-".join(map(str, f)) or "default",
)
def test_every_switch_trains(layers: int, fields: dict[str, Any]) -> None:
    relation = hypergraph(layers=layers, **fields)
    sides = [
        Gaussians(x.mean.requires_grad_(), x.log_variance.requires_grad_())
        for x in (gaussians(4, 6, 0), gaussians(7, 6, 1))
    ]
    matches = torch.arange(7)[None, :] % 4 == torch.arange(4)[:, None]
    related = relation(*map(Encoded, sides), matches)
    assert not related.pairs and set(related.penalties) == {"hyperedge", "smoothing"}
    weight, value = related.penalties["hyperedge"]
    assert weight == 1.0 and torch.isfinite(value) and value > 0
    value.backward()
    own = [p for n, p in relation.named_parameters() if not n.startswith("match")]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in own)
    assert all(torch.isfinite(x.mean.grad).all() and x.mean.grad.any() for x in sides)  # type: ignore[union-attr]
    learned = fields.get("covariance") != "identity"
    assert all((x.log_variance.grad is not None and bool(x.log_variance.grad.any())) == learned for x in sides)


def test_it_learns_which_belong_together() -> None:
    relation, (images, texts, matches) = hypergraph(alpha=8.0), batch(6, 12)
    optimiser = torch.optim.Adam(relation.parameters(), lr=0.02)
    first = float(penalty(relation, images, texts, matches).detach())
    for _ in range(60):
        optimiser.zero_grad()
        value = penalty(relation, images, texts, matches)
        value.backward()
        optimiser.step()
    assert float(value.detach()) < 0.2 * first


def test_smoothing_tells_sharp_from_blunt() -> None:
    images, texts, matches = batch(6, 6)
    blunt, sharp = (hypergraph(alpha=a)(images, texts, matches).penalties["smoothing"] for a in (0.01, 1000.0))
    assert blunt[0] == sharp[0] == 0.0 and not blunt[1].requires_grad
    assert float(blunt[1]) == pytest.approx(1 / 6, rel=0.05) and float(sharp[1]) < 0.01


def test_directions_share_their_network_only_when_told() -> None:
    images, texts, matches = batch(5, 5)
    count = {shared: sum(p.numel() for p in hypergraph(shared=shared).parameters()) for shared in (True, False)}
    assert count[False] == 2 * count[True]
    relation = hypergraph(shared=True)
    torch.testing.assert_close(
        penalty(relation, images, texts, matches), penalty(relation, texts, images, matches.T), rtol=1e-5, atol=1e-5
    )
    assert not torch.isclose(
        penalty(hypergraph(), images, texts, matches), penalty(hypergraph(), texts, images, matches.T), rtol=1e-4
    )


def test_a_weight_of_0_trains_nothing() -> None:
    images, texts, matches = batch()
    assert hypergraph(weight=0.0)(images, texts, matches).penalties["hyperedge"][0] == 0.0


def test_what_cannot_be_is_refused_in_words() -> None:
    images, texts, matches = batch()
    with pytest.raises(DataError, match="images are points, expected gaussians"):
        hypergraph()(Encoded(Points(torch.ones(5, 6))), texts, matches)
    with pytest.raises(DataError, match="1 candidate in a batch, expected at least 2"):
        hypergraph()(Encoded(images.embedding[:1]), texts, matches[:1])
    with pytest.raises(UnknownName, match="did you mean 'matches'"):
        hypergraph(incidence="match")
    with pytest.raises(DataError, match="layers 0"):
        hypergraph(layers=0)
    with pytest.raises(DataError, match="use 'match' without a match loss"):
        hypergraph(use="match")
