"""What keeps a set a set, and what trains its first elements as sets of their own."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from manymatch.embeddings import Encoded, GaussianSets, Points, Sets
from manymatch.errors import DataError
from manymatch.losses import (
    GlobalDiscriminative,
    InfoNCE,
    IntraSetDivergence,
    Nested,
    Objective,
    Triplet,
    prefixes_of,
    score,
)
from manymatch.similarity import ElementProbability, SmoothChamfer


def encoded(n: int, k: int, d: int = 6, seed: int = 0) -> Encoded:
    draw = torch.Generator().manual_seed(seed)
    elements = torch.randn(n, k, d, generator=draw, dtype=torch.float64)
    whole = torch.randn(n, d, generator=draw, dtype=torch.float64)
    return Encoded(Sets(functional.normalize(elements, dim=-1)), tensors={"global": whole})


def test_global_discriminative_by_hand() -> None:
    images, texts = encoded(2, 3), encoded(4, 3, seed=1)
    sides = []
    for items in (images, texts):
        assert isinstance(items.embedding, Sets)
        found = []
        for elements, whole in zip(items.embedding.elements, items.tensor("global"), strict=True):
            cosines = [float(e @ whole) / float(whole.norm()) for e in elements]
            found += [math.exp(0.5 * (c - 0.7)) for c in cosines]
        sides.append(sum(found) / len(found))
    assert float(GlobalDiscriminative()(images, texts)) == pytest.approx(sum(sides) / 2)


def test_intra_set_divergence_by_hand() -> None:
    images, texts = encoded(2, 3), encoded(4, 3, seed=1)
    sides = []
    for items in (images, texts):
        assert isinstance(items.embedding, Sets)
        found = [
            math.exp(2.0 * (float(elements[j] @ elements[k]) - 0.5))
            for elements in items.embedding.elements
            for j in range(3)
            for k in range(3)
            if j != k
        ]
        sides.append(sum(found) / len(found))
    assert float(IntraSetDivergence(2.0, 0.5)(images, texts)) == pytest.approx(sum(sides) / 2)


def test_they_pull_elements_apart_and_off_the_global_vector() -> None:
    elements = torch.tensor([[[1.0, 0.0, 0.0], [0.9, 0.1, 0.0]]], requires_grad=True)
    whole = torch.tensor([[1.0, 0.5, 0.0]])
    for term in (IntraSetDivergence(), GlobalDiscriminative()):
        elements.grad = None
        items = Encoded(Sets(functional.normalize(elements, dim=-1)), tensors={"global": whole})
        before = term(items, items)
        before.backward()
        moved = functional.normalize(elements.detach() - 0.1 * elements.grad, dim=-1)
        after = Encoded(Sets(moved), tensors={"global": whole})
        assert term(after, after) < before


def test_the_first_element_may_be_exempt() -> None:
    elements = torch.randn(2, 4, 6, requires_grad=True)
    items = Encoded(Sets(functional.normalize(elements, dim=-1)), tensors={"global": torch.randn(2, 6)})
    GlobalDiscriminative(exempt=1)(items, items).backward()
    assert elements.grad is not None and not elements.grad[:, 0].any() and bool(elements.grad[:, 1:].any())
    alone = encoded(3, 1)
    assert float(GlobalDiscriminative(exempt=1)(alone, alone)) == 0 == float(IntraSetDivergence()(alone, alone))


@pytest.mark.parametrize("term", [GlobalDiscriminative, IntraSetDivergence])
def test_they_come_in_over_the_ramp(term: type) -> None:
    images, texts = encoded(2, 3), encoded(4, 3, seed=1)
    whole, ramped = float(term()(images, texts)), term(ramp=0.5)
    assert float(ramped(images, texts)) == pytest.approx(whole), "nobody said that this is a run"
    for step, share in ((0, 0.2), (1, 0.4), (4, 1.0), (9, 1.0)):
        ramped.advance(step, 10)
        assert float(ramped(images, texts)) == pytest.approx(share * whole)
    always = term()
    always.advance(0, 10)
    assert float(always(images, texts)) == pytest.approx(whole)


@pytest.mark.parametrize("term", [GlobalDiscriminative, IntraSetDivergence])
def test_what_they_refuse(term: type) -> None:
    with pytest.raises(DataError, match=r"ramp 1.5, expected a share"):
        term(ramp=1.5)
    with pytest.raises(DataError, match=r"scale 0.0, expected a positive"):
        term(0.0)
    points = Encoded(Points(torch.ones(2, 3)), tensors={"global": torch.ones(2, 3)})
    with pytest.raises(DataError, match="got points, expected sets or samples"):
        term()(points, points)


def test_a_head_without_a_global_vector_is_named() -> None:
    items = Encoded(Sets(torch.ones(2, 3, 4)), tensors={"residual": torch.ones(2, 3, 4)})
    with pytest.raises(DataError, match=r"the tower gave no 'global': found .'residual'."):
        GlobalDiscriminative()(items, items)


# ---- nested


def test_prefixes() -> None:
    assert [prefixes_of(k) for k in (1, 2, 3, 4, 6, 8)] == [
        (1,),
        (1, 2),
        (1, 2, 3),
        (1, 2, 4),
        (1, 2, 4, 6),
        (1, 2, 4, 8),
    ]


@pytest.mark.parametrize("similarity", [SmoothChamfer(), ElementProbability()])
def test_nested_is_the_mean_over_the_prefixes(similarity: SmoothChamfer | ElementProbability) -> None:
    images, texts, loss = encoded(3, 4), encoded(6, 4, seed=1), InfoNCE()
    matches = torch.arange(3)[:, None] == torch.arange(6)[None] // 2
    similarity = similarity.double()
    sides = images.embedding, texts.embedding
    assert isinstance(sides[0], Sets) and isinstance(sides[1], Sets)
    each = [loss(score(similarity, sides[0].first(n), sides[1].first(n)), matches) for n in (1, 2, 4)]
    objective = Objective({"infonce": (2.0, Nested(loss, (1, 2, 4)))})
    terms = objective(score(similarity, *sides), matches, images, texts, similarity=similarity)
    torch.testing.assert_close(terms["infonce"], sum(each) / 3)
    torch.testing.assert_close(terms["loss"], 2 * terms["infonce"])


def test_nested_passes_the_step_on_and_refuses_other_sets() -> None:
    loss = Triplet(all_until=0.5)
    nested = Nested(loss, (1, 2))
    nested.advance(0, 10, 5)
    early = [vars(loss).copy()]
    nested.advance(9, 10, 5)
    assert vars(loss) != early[0], "the triplet was not told"
    images, texts = encoded(3, 4), encoded(3, 4, seed=1)
    scores = score(SmoothChamfer(), images.embedding, texts.embedding)
    with pytest.raises(DataError, match=r"nested: got sets .*expected sets of 2 elements"):
        nested(SmoothChamfer(), scores, torch.eye(3).bool(), images, texts)


def test_the_first_elements_keep_what_is_told_of_each() -> None:
    unsure = GaussianSets(functional.normalize(torch.randn(3, 4, 5), dim=-1), torch.randn(3, 4))
    first = unsure.first(2)
    assert isinstance(first, GaussianSets) and first.layout() == {"k": 2, "d": 5}
    assert torch.equal(first.elements, unsure.elements[:, :2]) and torch.equal(
        first.log_variance, unsure.log_variance[:, :2]
    )
