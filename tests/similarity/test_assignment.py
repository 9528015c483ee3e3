"""The best one-to-one assignment: exactly the one that trying all of them finds."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from torch.nn import functional

from manymatch.embeddings import Sets
from manymatch.errors import DataError, UnknownName
from manymatch.similarity import Assignment
from manymatch.similarity.assignment import best_partners


def some(n: int, k: int, d: int = 8, seed: int = 0) -> Sets:
    draw = torch.Generator().manual_seed(seed)
    return Sets(functional.normalize(torch.randn(n, k, d, generator=draw, dtype=torch.float64), dim=-1))


def tried(closeness: torch.Tensor) -> torch.Tensor:
    """The largest sum of all one-to-one assignments (q, g)."""
    k, _, other, _ = closeness.shape
    chosen = torch.tensor(list(permutations(range(other), k)))
    return closeness[torch.arange(k), :, chosen].sum(dim=1).amax(dim=0)


@pytest.mark.parametrize(("k", "other"), [*((k, k) for k in range(1, 9)), (1, 4), (2, 5), (3, 8)])
def test_it_is_the_one_that_trying_all_finds(k: int, other: int) -> None:
    closeness = torch.randn(k, 4, other, 3, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
    partners = best_partners(closeness)
    assert partners.shape == (k, 4, 3) and int(partners.min()) >= 0 and int(partners.max()) < other
    assert all(len(set(column)) == k for column in partners.flatten(1).T.tolist()), "an element met twice"
    found = closeness.gather(2, partners[:, :, None]).squeeze(2).sum(0)
    torch.testing.assert_close(found, tried(closeness), rtol=0, atol=1e-12)


def test_score_of_the_matched_pairs() -> None:
    a, b = some(3, 4), some(5, 4, seed=1)
    cosines = torch.einsum("qkd,gld->kqlg", a.elements, b.elements)
    torch.testing.assert_close(Assignment("cosine")(a, b), tried(cosines) / 4)
    partners = best_partners(cosines)
    matched = cosines.gather(2, partners[:, :, None]).squeeze(2)
    torch.testing.assert_close(Assignment()(a, b), (matched.exp() - 1).mean(0))
    assert float(Assignment()(a, a).diagonal().min()) == pytest.approx(math.e - 1)


def test_only_matched_pairs_learn() -> None:
    a, b = some(1, 4), some(1, 4, seed=1)
    left, right = a.elements.clone().requires_grad_(), b.elements.clone()
    partners = best_partners(torch.einsum("qkd,gld->kqlg", a.elements, b.elements))[:, 0, 0]
    Assignment("cosine")(Sets(left), Sets(right)).sum().backward()
    torch.testing.assert_close(left.grad, right[:, partners] / 4)


@pytest.mark.parametrize("scale", ["exp", "cosine"])
def test_sets_of_different_sizes_match_all_of_the_smaller(scale: str) -> None:
    similarity, few, many = Assignment(scale), some(3, 2), some(4, 5, seed=1)  # type: ignore[arg-type]
    scores = similarity(few, many)
    torch.testing.assert_close(scores, similarity(many, few).T)
    if scale == "cosine":
        torch.testing.assert_close(scores, tried(torch.einsum("qkd,gld->kqlg", few.elements, many.elements)) / 2)


@pytest.mark.parametrize("scale", ["exp", "cosine"])
@pytest.mark.parametrize("sizes", [(4, 4), (2, 4)])
def test_the_proxy_is_never_too_high(scale: str, sizes: tuple[int, int]) -> None:
    similarity = Assignment(scale)  # type: ignore[arg-type]
    a, b = some(20, sizes[0], 4), some(30, sizes[1], 4, seed=1)
    least = similarity.proxy(a, "query") @ similarity.proxy(b, "gallery").T
    assert bool((similarity(a, b) >= least - 1e-12).all())


def test_blocks_are_the_whole() -> None:
    a, b = some(300, 5), some(400, 5, seed=1)
    with torch.inference_mode():
        blocks = Assignment()(a, b)
    whole = Assignment()(Sets(a.elements.clone().requires_grad_()), b).detach()
    torch.testing.assert_close(blocks, whole, rtol=0, atol=1e-12)


def test_what_it_refuses() -> None:
    with pytest.raises(DataError, match="sets of 9 and 4 elements, the exact one goes up to 8; train with elements=8"):
        Assignment()(some(2, 9), some(2, 4))
    with pytest.raises(UnknownName, match="scale of assignment"):
        Assignment("log")  # type: ignore[arg-type]
