"""Pools against the authors' numbers, and what each must keep whatever the fragments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.encoders.base import Pool
from manymatch.encoders.context import ContextPool, FragmentContext
from manymatch.encoders.gpo import GPO
from manymatch.encoders.pooling import LastPool, MaxMeanPool, MaxPool, MeanPool, TopMeanPool, max_pool, mean_pool
from manymatch.errors import DataError, UnknownName
from official_names import CONTEXT

FEW = settings(max_examples=25, deadline=None)

PARITY = Path(__file__).parents[1] / "parity"
POOLS: dict[str, Callable[[int], Pool]] = {
    "max": lambda dim: MaxPool(),
    "mean": lambda dim: MeanPool(),
    "max_mean": lambda dim: MaxMeanPool(),
    "top2": lambda dim: TopMeanPool(2),
    "last": lambda dim: LastPool(),
    "gpo": lambda dim: GPO(),
    "context": lambda dim: ContextPool(dim),
}


def recorded(name: str) -> dict[str, torch.Tensor]:
    with np.load(PARITY / f"{name}.npz") as file:
        return {k: torch.from_numpy(file[k]) for k in file if file[k].dtype.kind in "fib"}


def prefix(lengths: torch.Tensor, longest: int) -> torch.Tensor:
    return torch.arange(longest) < lengths[:, None]


def made(name: str, dim: int = 16) -> Pool:
    torch.manual_seed(0)
    return POOLS[name](dim).eval()


@st.composite
def fragments(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, f, 16) and any mask (n, f) with something valid in each row."""
    n, f = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    torch.manual_seed(draw(st.integers(0, 10_000)))
    valid = torch.rand(n, f) > 0.4
    valid[torch.arange(n), torch.randint(f, (n,))] = True
    return torch.randn(n, f, 16), valid


def test_gpo_equals_the_official_implementation() -> None:
    given_ = recorded("gpo_pooling")
    pool = GPO()
    pool.load_state_dict({k.removeprefix("in.w."): v for k, v in given_.items() if k.startswith("in.w.")})
    assert sum(p.numel() for p in pool.parameters()) == 12_704
    vectors = given_["in.x"].requires_grad_()
    lengths = given_["in.lengths"]
    torch.testing.assert_close(pool.weights(lengths), given_["out.weights"][:, : int(lengths.max())], rtol=0, atol=1e-6)
    out = pool(vectors, prefix(lengths, vectors.shape[1]))
    torch.testing.assert_close(out, given_["out.y"], rtol=0, atol=1e-5)
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    torch.testing.assert_close(vectors.grad, given_["out.dx"], rtol=1e-4, atol=1e-5)
    for name, weight in pool.named_parameters():
        torch.testing.assert_close(weight.grad, given_[f"out.grad.{name}"], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_top_mean_equals_the_official_implementation(k: int) -> None:
    given_ = recorded("hrem_pooling")
    vectors, valid = given_["in.x"], prefix(given_["in.lengths"], given_["in.x"].shape[1])
    released = TopMeanPool(k, mode="released")(vectors, valid)
    torch.testing.assert_close(released, given_[f"out.maxk{k}"], rtol=0, atol=1e-6)
    torch.testing.assert_close(MeanPool()(vectors, valid), given_["out.avg"], rtol=0, atol=1e-6)


def test_released_top_mean_remembers_a_short_item_and_paper_does_not() -> None:
    vectors = torch.tensor([[5.0, 3.0, 1.0], [7.0, 0.0, 0.0], [5.0, 3.0, 1.0]])[..., None]
    valid = prefix(torch.tensor([3, 1, 3]), 3)
    assert TopMeanPool(2)(vectors, valid).flatten().tolist() == [4.0, 7.0, 4.0]
    assert TopMeanPool(2, mode="released")(vectors, valid).flatten().tolist() == [4.0, 7.0, 5.0]


@pytest.mark.parametrize("name", POOLS)
@FEW
@given(case=fragments(), extra=st.integers(1, 4))
def test_padding_and_the_rest_of_the_batch_change_nothing(
    name: str, case: tuple[torch.Tensor, torch.Tensor], extra: int
) -> None:
    vectors, valid = case
    pool = made(name)
    out = pool(vectors, valid)
    junk = torch.full((len(vectors), extra, 16), 9.0)
    more = torch.cat([vectors, junk], 1), torch.cat([valid, torch.zeros(len(valid), extra, dtype=torch.bool)], 1)
    torch.testing.assert_close(pool(*more), out, rtol=0, atol=1e-5)
    for n in range(len(vectors)):
        alone = vectors[n][valid[n]][None]
        torch.testing.assert_close(pool(alone, torch.ones(alone.shape[:2]).bool())[0], out[n], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", [p for p in POOLS if p != "last"])
@FEW
@given(case=fragments(), seed=st.integers(0, 1000))
def test_order_is_free(name: str, case: tuple[torch.Tensor, torch.Tensor], seed: int) -> None:
    vectors, valid = case
    order = torch.randperm(vectors.shape[1], generator=torch.Generator().manual_seed(seed))
    pool = made(name)
    torch.testing.assert_close(pool(vectors[:, order], valid[:, order]), pool(vectors, valid), rtol=0, atol=1e-5)


@FEW
@given(case=fragments())
def test_top_mean_lies_between_mean_and_maximum(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    top = TopMeanPool(2)(*case)
    assert (top <= max_pool(*case) + 1e-6).all() and (top >= mean_pool(*case) - 1e-6).all()


@FEW
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6), seed=st.integers(0, 1000))
def test_gpo_weights_are_shares_that_depend_on_the_length_only(lengths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    pool, counts = GPO(), torch.tensor(lengths)
    weights = pool.weights(counts)
    assert (weights >= 0).all() and (weights[~prefix(counts, weights.shape[1])] == 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(len(lengths)), rtol=0, atol=1e-5)
    for n, length in enumerate(lengths):
        torch.testing.assert_close(pool.weights(counts[n : n + 1])[0], weights[n, :length], rtol=0, atol=1e-5)


@FEW
@given(case=fragments())
def test_gpo_holds_maximum_and_mean(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    class First(GPO):
        def weights(self, lengths: torch.Tensor) -> torch.Tensor:
            return torch.eye(int(lengths.max()))[0].expand(len(lengths), -1)

    class Even(GPO):
        def weights(self, lengths: torch.Tensor) -> torch.Tensor:
            return prefix(lengths, int(lengths.max())) / lengths[:, None]

    torch.testing.assert_close(First()(*case), max_pool(*case), rtol=0, atol=1e-6)
    torch.testing.assert_close(Even()(*case), mean_pool(*case), rtol=0, atol=1e-5)


def test_gpo_gradients_are_finite_beside_padding() -> None:
    vectors = torch.randn(3, 5, 4, requires_grad=True)
    GPO()(vectors, prefix(torch.tensor([5, 1, 3]), 5)).sum().backward()
    assert vectors.grad is not None and torch.isfinite(vectors.grad).all()
    assert (vectors.grad[1, 1:] == 0).all()


def test_last_is_the_last_valid_one_even_behind_a_gap() -> None:
    valid = torch.tensor([[True, False, True, False], [True, True, True, True]])
    vectors = torch.arange(8.0).view(2, 4, 1)
    assert LastPool()(vectors, valid).flatten().tolist() == [2.0, 7.0]


def context_pair(heads: int = 4) -> tuple[FragmentContext, torch.nn.TransformerEncoderLayer]:
    torch.manual_seed(1)
    mine = FragmentContext(16, heads=heads, dropout=0.0)
    theirs = torch.nn.TransformerEncoderLayer(16, heads, 16, dropout=0.0, batch_first=True)
    weights = theirs.state_dict().items()
    mine.load_state_dict({next(CONTEXT[n] + k[len(n) :] for n in CONTEXT if k.startswith(n)): t for k, t in weights})
    return mine, theirs


def test_context_is_torchs_encoder_layer_and_eval_is_train() -> None:
    mine, theirs = context_pair()
    vectors, valid = torch.randn(3, 6, 16), prefix(torch.tensor([6, 2, 4]), 6)
    expected = theirs(vectors, src_key_padding_mask=~valid)[valid]
    torch.testing.assert_close(mine(vectors, valid)[valid], expected, rtol=0, atol=1e-6)
    with torch.inference_mode():
        torch.testing.assert_close(mine.eval()(vectors, valid)[valid], expected, rtol=0, atol=1e-6)


def test_context_drops_only_while_training() -> None:
    context = FragmentContext(16, dropout=0.5)
    vectors, valid = torch.randn(1, 4, 16), torch.ones(1, 4).bool()
    assert (context(vectors, valid) - context(vectors, valid)).abs().max() > 1e-3
    context.eval()
    assert torch.equal(context(vectors, valid), context(vectors, valid))


def test_context_pool_mixes_by_beta_and_needs_no_layer_at_one() -> None:
    torch.manual_seed(0)
    vectors, valid = torch.randn(2, 5, 16), prefix(torch.tensor([5, 3]), 5)
    pool = ContextPool(16).eval()
    assert pool.context is not None
    expected = 0.8 * TopMeanPool(2)(vectors, valid) + 0.2 * mean_pool(pool.context(vectors, valid), valid)
    torch.testing.assert_close(pool(vectors, valid), expected)
    bare = ContextPool(16, beta=1.0)
    assert not list(bare.parameters())
    torch.testing.assert_close(bare(vectors, valid), TopMeanPool(2)(vectors, valid))


def test_what_pools_refuse() -> None:
    with pytest.raises(UnknownName, match="did you mean 'released'"):
        TopMeanPool(2, mode="release")  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"width 24 cannot be split over 16 heads.* such as 12"):
        FragmentContext(24)
    with pytest.raises(DataError, match=r"beta 1\.2, expected a share"):
        ContextPool(16, beta=1.2)
    with pytest.raises(DataError, match="k 0, expected at least 1"):
        TopMeanPool(0)


def test_the_gradient_of_a_maximum_is_torchs_to_the_last_bit() -> None:
    torch.manual_seed(0)
    values = torch.randint(-3, 3, (6, 5, 7)).float()  # many are equally large
    valid = torch.arange(5) < torch.tensor([5, 4, 3, 2, 1, 0])[:, None]
    weights, found = torch.randn(6, 7), []
    for pool in (max_pool, lambda v, real: v.masked_fill(~real[..., None], -torch.inf).amax(dim=1)):
        leaf = values.clone().requires_grad_()
        out = pool(leaf, valid)
        found.append((out.detach(), *torch.autograd.grad(out, leaf, weights)))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
