"""The self-expanding loss: the authors' blocks, several captions of an image, and its warm-up."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.errors import DataError, UnknownName
from manymatch.losses import Expanding, Scores


def table(rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.rand(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(n=st.integers(2, 5), h=st.integers(1, 3), seed=st.integers(0, 99), warm=st.booleans())
@settings(max_examples=40, deadline=None)
def test_blocks_of_views_are_the_authors(n: int, h: int, seed: int, warm: bool) -> None:
    """A row against the least of its own block of h columns, and the hardest outside it; summed, both directions."""
    scores, total = table(n * h, n * h, seed), 0.0
    for side in (scores, scores.T):
        for row in range(n * h):
            own = range(row // h * h, row // h * h + h)
            least = min(float(side[row, c]) for c in own)
            hinges = [max(0.0, 0.2 + float(side[row, c]) - least) for c in range(n * h) if c not in own]
            total += sum(hinges) if warm else max(hinges)
    loss = Expanding(reduction="sum", all_until=1.0 if warm else 0.0, positives="diagonal", siblings="negatives")
    found = loss(Scores.of(scores), torch.eye(n, dtype=torch.bool))
    assert float(found) == pytest.approx(total, abs=1e-9)


def test_all_matches_of_a_row_must_rank() -> None:
    scores = torch.tensor([[0.9, 0.3, 0.5, 0.0], [0.1, 0.2, 0.8, 0.7]], dtype=torch.float64)
    matches = torch.tensor([[True, True, False, False], [False, False, True, True]])
    # Rows: 0.2 + 0.5 - 0.3, 0.2 + 0.2 - 0.7; columns: 0.1 against 0.9, 0.2 against 0.3, 0.5 against 0.8, 0 against 0.7.
    expected = 0.4 / 2 + (0.0 + 0.1 + 0.0 + 0.0) / 4
    assert float(Expanding()(Scores.of(scores), matches)) == pytest.approx(expected)


def test_views_of_several_captions_count_for_their_image() -> None:
    matches = torch.arange(3)[:, None] == torch.arange(6) // 2
    scores = table(6, 12, 1)
    wide = matches.repeat_interleave(2, 0).repeat_interleave(2, 1)
    torch.testing.assert_close(Expanding()(Scores.of(scores), matches), Expanding()(Scores.of(scores), wide))
    with pytest.raises(DataError, match=r"scores of shape \(6, 11\) for matches of \(3, 6\)"):
        Expanding()(Scores.of(scores[:, :11]), matches)


def test_only_the_worst_positive_and_the_hardest_negative_learn() -> None:
    matches = torch.arange(2)[:, None] == torch.arange(6) // 3
    scores = table(2, 6, 3).requires_grad_()
    Expanding(margin=5.0)._direction(scores, matches).backward()
    assert scores.grad is not None
    for row in range(2):
        own, other = scores.detach()[row].clone(), scores.detach()[row].clone()
        own[~matches[row]], other[matches[row]] = 9.0, -9.0
        hit = scores.grad[row].nonzero()[:, 0].tolist()
        assert hit == sorted([int(own.argmin()), int(other.argmax())])


def test_warm_up_ends_with_the_first_epoch() -> None:
    loss, scores = Expanding(all_until=0.04, reduction="sum"), Scores.of(table(4, 4, 0))
    matches = torch.eye(4, dtype=torch.bool)
    values = []
    for step in (0, 9, 10, 200):
        loss.advance(step, 250, 25)
        values.append(float(loss(scores, matches)))
    assert values[0] == values[1] > values[2] == values[3]


def test_wrong_settings_are_named() -> None:
    with pytest.raises(DataError, match="all_until 2"):
        Expanding(all_until=2.0)
    with pytest.raises(UnknownName, match="expanding reduction"):
        Expanding(reduction="total")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="as many images as captions"):
        Expanding(positives="diagonal")(Scores.of(table(2, 3, 0)), torch.ones(2, 3, dtype=torch.bool))
