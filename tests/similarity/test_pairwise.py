"""Blocks bound what is held, and leave scores and gradients as they were."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.similarity import pairwise
from manymatch.similarity.pairwise import in_blocks, mean_log_odds, squared_distances


@given(q=st.integers(1, 90), g=st.integers(1, 90), numbers=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_blocks_cover_the_matrix_once_and_stay_small(q: int, g: int, numbers: int) -> None:
    table, biggest = torch.arange(q * g).view(q, g), 0

    def score(rows: slice, columns: slice) -> torch.Tensor:
        nonlocal biggest
        biggest = max(biggest, table[rows, columns].numel() * numbers)
        return table[rows, columns]

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(pairwise, "_NUMBERS", 20_000)
        assert torch.equal(in_blocks(score, (q, g), numbers), table)
    assert biggest <= 20_000


def test_a_wide_table_is_never_held_whole_while_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairwise, "_NUMBERS", 1 << 14)
    left = torch.randn(48, 64, dtype=torch.float64, requires_grad=True)
    right = torch.randn(80, 64, dtype=torch.float64, requires_grad=True)
    kept = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept = max(kept, tensor.numel())
        return tensor

    def score(rows: slice, columns: slice) -> torch.Tensor:
        return (left[rows, None] - right[columns]).abs().sum(-1)

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        found = in_blocks(score, (48, 80), 64)
    assert kept < 48 * 80 * 64 / 4
    grads = torch.autograd.grad(found.square().sum(), (left, right))
    whole = torch.autograd.grad((left[:, None] - right).abs().sum(-1).square().sum(), (left, right))
    for mine, right_one in zip(grads, whole, strict=True):
        torch.testing.assert_close(mine, right_one, rtol=0, atol=1e-9)


def test_nothing_is_nothing() -> None:
    assert in_blocks(lambda r, c: torch.zeros(0, 5)[r, c], (0, 5), 7).shape == (0, 5)
    assert squared_distances(torch.zeros(0, 3), torch.zeros(2, 3)).shape == (0, 2)


def test_squared_distances_are_never_negative() -> None:
    points = 1e3 + torch.rand(50, 8)
    assert bool((squared_distances(points, points) >= 0).all())


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_log_odds_of_a_mean(logits: list[float]) -> None:
    table = torch.tensor(logits, dtype=torch.float64)[:, None, None]
    expected = torch.logit(table.sigmoid().mean())
    torch.testing.assert_close(mean_log_odds(table, (0, 2))[0], expected, rtol=1e-6, atol=1e-9)
