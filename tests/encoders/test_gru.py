from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from manymatch.encoders.gru import GRU


def by_torch(gru: nn.GRU, words: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
    packed = pack_padded_sequence(words, lengths, batch_first=True, enforce_sorted=False)
    states, final = nn.GRU.forward(gru, packed)
    outputs, _ = pad_packed_sequence(states, batch_first=True)
    return list(outputs.split(gru.hidden_size, dim=-1)), final


def by_us(gru: GRU, words: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
    outputs, final = gru.read(words, lengths)
    assert outputs[0].grad_fn is not None and "_Read" in type(outputs[0].grad_fn).__name__
    return list(outputs), final


def a_case(
    counts: list[int], directions: int, inputs: int = 5, width: int = 4, dtype: torch.dtype = torch.float32
) -> tuple[GRU, Tensor, Tensor]:
    torch.manual_seed(3)
    words = torch.randn(len(counts), max(counts), inputs, dtype=dtype, requires_grad=True)
    return GRU(inputs, width, directions=directions).to(dtype), words, torch.tensor(counts)


def all_of(read: object, gru: GRU, words: Tensor, lengths: Tensor, cast: bool = False) -> list[Tensor]:
    """Outputs, final states, and the gradients of the words and of every parameter."""
    with torch.autocast("cpu", torch.bfloat16, enabled=cast):
        outputs, final = read(gru, words, lengths)  # type: ignore[operator]
    draw = torch.Generator().manual_seed(4)
    made = [*outputs, final]
    loss = sum((one.double() * torch.randn(one.shape, generator=draw, dtype=torch.float64)).sum() for one in made)
    return [*made, *torch.autograd.grad(loss, [words, *gru.parameters()])]


@settings(deadline=None, max_examples=40)
@given(
    counts=st.lists(st.integers(1, 7), min_size=1, max_size=9),
    directions=st.sampled_from([1, 2]),
    inputs=st.integers(1, 6),
    width=st.integers(1, 5),
)
def test_it_is_torchs_gru(counts: list[int], directions: int, inputs: int, width: int) -> None:
    case = a_case(counts, directions, inputs, width)
    for ours, theirs in zip(all_of(by_us, *case), all_of(by_torch, *case), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("directions", [1, 2])
def test_gradients_are_those_of_differences(directions: int) -> None:
    gru, words, lengths = a_case([2, 4, 1, 4], directions, 3, 2, torch.float64)
    parameters = list(gru.parameters())

    def read(words: Tensor, *_: Tensor) -> tuple[Tensor, ...]:
        outputs, final = by_us(gru, words, lengths)
        return *outputs, final

    assert torch.autograd.gradcheck(read, (words, *parameters))
    assert torch.autograd.gradgradcheck(read, (words, *parameters))


@pytest.mark.parametrize("directions", [1, 2])
def test_in_bfloat16_it_is_as_near_as_torchs(directions: int) -> None:
    counts = [int(n) for n in torch.randint(3, 16, (64,), generator=torch.Generator().manual_seed(0))]
    case = a_case(counts, directions, 48, 64)
    exact, ours, theirs = all_of(by_torch, *case), all_of(by_us, *case, cast=True), all_of(by_torch, *case, cast=True)
    for true, mine, other in zip(exact, ours, theirs, strict=True):
        assert mine.dtype == true.dtype == other.dtype
        assert float((mine - true).detach().norm()) <= 1.02 * float((other - true).detach().norm())


def test_parameters_and_their_start_are_torchs() -> None:
    torch.manual_seed(0)
    ours, after = GRU(6, 4).state_dict(), torch.rand(1)
    torch.manual_seed(0)
    theirs = nn.GRU(6, 4, batch_first=True, bidirectional=True).state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert torch.equal(after, torch.rand(1))


def test_reading_draws_no_random_numbers() -> None:
    gru, words, lengths = a_case([3, 1], 2)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    all_of(by_us, gru, words, lengths)
    assert torch.equal(torch.rand(1), expected)


def test_without_gradients_it_is_torchs_to_the_bit() -> None:
    gru, words, lengths = a_case([3, 1, 5], 2)
    with torch.no_grad():
        ours, theirs = gru.read(words, lengths), by_torch(gru, words, lengths)
    assert all(torch.equal(one, other) for one, other in zip(ours[0], theirs[0], strict=True))
    assert torch.equal(ours[1], theirs[1])


def test_frozen_parts_get_no_gradient() -> None:
    gru, words, lengths = a_case([3, 1, 5], 2)
    gru.requires_grad_(False)
    by_us(gru, words, lengths)[1].sum().backward()
    assert words.grad is not None and all(one.grad is None for one in gru.parameters())
    gru.requires_grad_(True)
    final = by_us(gru, words.detach(), lengths)[1]
    final.sum().backward()
    assert all(one.grad is not None for one in gru.parameters())


def test_the_way_back_can_be_gone_twice() -> None:
    gru, words, lengths = a_case([3, 1, 5], 2)
    final = by_us(gru, words, lengths)[1]
    first = torch.autograd.grad(final.sum(), words, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(final.sum(), words)[0])
