"""What parts keep without any training, where the tests of their own rooms hold one example and not every case."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from manymatch.embeddings import Gaussians, Sets
from manymatch.encoders import SlotAttention
from manymatch.losses import SemanticDistribution, score
from manymatch.losses.distance_weighted import distance_weights
from manymatch.relations.hypergraph import operator
from manymatch.similarity import Chamfer, Mahalanobis, SmoothChamfer, element_cosines

FEW = settings(max_examples=20, deadline=None)
SEEDS = st.integers(0, 9999)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(seed: int, *shape: int) -> Tensor:
    return functional.normalize(drawn(seed, *shape), dim=-1)


# ---- 3: Smooth-Chamfer's limits


@given(k=st.integers(1, 4), other=st.integers(1, 4), d=st.integers(2, 8), seed=SEEDS)
@FEW
def test_sharp_smooth_chamfer_is_chamfer_and_blunt_the_mean_cosine(k: int, other: int, d: int, seed: int) -> None:
    a, b = Sets(unit(seed, 3, k, d)), Sets(unit(seed + 1, 4, other, d))
    # Whatever the sets, the difference is at most log(k other) / (2 alpha).
    torch.testing.assert_close(SmoothChamfer(1e5)(a, b), Chamfer()(a, b), rtol=0, atol=1e-4)
    slack = (math.log(k) + math.log(other)) / (2 * 1e-4)
    torch.testing.assert_close(SmoothChamfer(1e-4)(a, b) - slack, element_cosines(a, b).mean((0, 2)), rtol=0, atol=1e-3)


@given(seed=SEEDS)
@FEW
def test_at_alpha_100_sets_without_near_ties_are_within_1e_4_of_chamfer(seed: int) -> None:
    # Elements on axes and others near them: the best cosine leads the next by far, as in generic sets.
    axes = torch.eye(4, dtype=torch.float64)
    near = functional.normalize(axes + 0.05 * drawn(seed, 4, 4), dim=-1)
    a, b = Sets(axes[None]), Sets(near[None])
    torch.testing.assert_close(SmoothChamfer(100.0)(a, b), Chamfer()(a, b), rtol=0, atol=1e-4)


# ---- 6: slot attention


@given(seed=SEEDS, n=st.integers(1, 6), elements=st.integers(1, 4))
@FEW
def test_slots_permute_with_their_start_and_inputs_have_no_order(seed: int, n: int, elements: int) -> None:
    torch.manual_seed(seed)
    module = SlotAttention(6, 8, elements=elements, head_width=4, hidden=8, dropout=0.0).eval()
    vectors, valid = torch.randn(2, n, 6), torch.ones(2, n, dtype=torch.bool)
    inputs, slots = torch.randperm(n), torch.randperm(elements)
    with torch.no_grad():
        out = module(vectors, valid)
        torch.testing.assert_close(module(vectors[:, inputs], valid), out, rtol=0, atol=1e-5)
        module.slots.copy_(module.slots[slots])
        torch.testing.assert_close(module(vectors, valid), out[:, slots], rtol=0, atol=1e-5)


@given(seed=SEEDS, n=st.integers(1, 6), times=st.integers(1, 4))
@FEW
def test_one_slot_reads_the_plain_mean_of_the_values(seed: int, n: int, times: int) -> None:
    torch.manual_seed(seed)
    module = SlotAttention(6, 8, elements=1, iterations=1, head_width=4, hidden=8, dropout=0.0).eval()
    vectors = torch.randn(1, n, 6)
    with torch.no_grad():
        once = module(vectors, torch.ones(1, n, dtype=torch.bool))
        # A mean does not mind how often all of it is said, and a sum would.
        again = module(vectors.repeat(1, times, 1), torch.ones(1, n * times, dtype=torch.bool))
    torch.testing.assert_close(again, once, rtol=0, atol=1e-5)


# ---- 13: distance-weighted sampling


@given(seed=SEEDS, near=st.integers(1, 6))
@FEW
def test_negatives_nearer_than_the_cut_off_are_equally_likely(seed: int, near: int) -> None:
    # Cosines above 0.875 are distances below 0.5.
    cosines = 0.876 + 0.124 * torch.rand(1, near, generator=torch.Generator().manual_seed(seed))
    scores = torch.cat([torch.tensor([[0.3]]), cosines], dim=1)
    matches = torch.arange(1 + near)[None, :] == 0
    weights = distance_weights(scores, matches)
    torch.testing.assert_close(weights, torch.tensor([[0.0] + near * [1 / near]]), rtol=0, atol=1e-5)


# ---- 14: Mahalanobis


@given(seed=SEEDS, q=st.integers(1, 4), g=st.integers(1, 4), d=st.integers(1, 8))
@FEW
def test_mahalanobis_of_variance_1_at_equal_means_and_as_one_product(seed: int, q: int, g: int, d: int) -> None:
    means, others, spread = unit(seed, q, d), unit(seed + 1, g, d), drawn(seed + 2, q, d).abs()
    candidates = Gaussians(others, torch.zeros_like(others))
    plain = -Mahalanobis()(Gaussians(means, torch.zeros_like(means)), candidates)
    torch.testing.assert_close(plain, torch.cdist(means, others).square(), rtol=0, atol=1e-9)
    queries, similarity = Gaussians(means, spread), Mahalanobis()
    own = similarity(queries, queries).diagonal()
    assert bool((own.abs() <= 1e-9).all())
    moved = similarity(queries, Gaussians(means + 0.1, spread)).diagonal()
    assert bool((moved < -1e-6).all())
    left, right = similarity.proxy(queries, "query"), similarity.proxy(candidates, "gallery")
    assert left is not None and right is not None and left.shape[1] == 2 * d
    constant = (means.square() / spread.exp()).sum(-1, keepdim=True)
    torch.testing.assert_close(left @ right.T - constant, similarity(queries, candidates), rtol=0, atol=1e-9)


# ---- 15: the hypergraph operator


@given(seed=SEEDS, nodes=st.integers(1, 8), factor=st.floats(1e-3, 1e3))
@FEW
def test_own_edges_keep_and_one_edge_averages(seed: int, nodes: int, factor: float) -> None:
    own = torch.eye(nodes, dtype=torch.float64) * factor
    torch.testing.assert_close(operator(own), torch.eye(nodes, dtype=torch.float64))
    values = drawn(seed, nodes, 3)
    mean = operator(torch.full((nodes, 1), factor, dtype=torch.float64)) @ values
    torch.testing.assert_close(mean, values.mean(dim=0).expand(nodes, 3))


# ---- 16: the semantic distribution loss


@given(seed=SEEDS, n=st.integers(2, 6), tau=st.floats(8, 32))
@FEW
def test_candidates_on_their_own_query_far_from_all_others_cost_nothing(seed: int, n: int, tau: float) -> None:
    means = 5 * torch.linalg.qr(drawn(seed, n, n)).Q
    at = Gaussians(means, torch.zeros_like(means))
    assert float(SemanticDistribution(tau)(score(Mahalanobis(), at, at), torch.eye(n).bool())) < 1e-6
