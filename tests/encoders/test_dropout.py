"""Our dropout is torch's: the same shares, scale and gradient, replayed by the same seed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from manymatch.encoders.dropout import Dropout


@pytest.mark.parametrize("p", [0.05, 0.1, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shares_and_scale(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    ones = torch.ones(400, 1001, dtype=dtype)
    out = Dropout(p)(ones)
    kept = out != 0
    assert out.dtype == dtype and torch.equal(out[kept], torch.full_like(out[kept], 1 / (1 - p)))
    for axis in (0, 1):
        # Every row and column of so many keeps its share, within five standard deviations.
        share, count = kept.double().mean(dim=axis), kept.shape[axis]
        assert float((share - (1 - p)).abs().max()) < 5.5 * (p * (1 - p) / count) ** 0.5
    assert float(kept.double().mean()) == pytest.approx(1 - p, abs=5 * (p * (1 - p) / kept.numel()) ** 0.5)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(0, 99))
def test_any_shape_and_the_same_seed_the_same_mask(shape: list[int], seed: int) -> None:
    layer, out = Dropout(0.5), []
    for _ in range(2):
        torch.manual_seed(seed)
        out.append((layer(torch.ones(shape)), layer(torch.ones(shape))))
    assert out[0][0].shape == torch.Size(shape)
    assert torch.equal(out[0][0], out[1][0]) and torch.equal(out[0][1], out[1][1])


def test_two_masks_differ_and_the_gradient_is_the_mask() -> None:
    torch.manual_seed(0)
    layer, x = Dropout(0.25), torch.randn(50, 40, requires_grad=True)
    one, two = layer(x), layer(x)
    assert not torch.equal(one != 0, two != 0)
    (gradient,) = torch.autograd.grad(one.sum(), x)
    torch.testing.assert_close(gradient * x, one)


def test_nothing_happens_at_rest_and_the_ends_are_torchs() -> None:
    x = torch.randn(8, 9)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(1.0)(x), torch.zeros_like(x))


def test_in_place_and_strided_tensors_get_the_same_mask() -> None:
    layer, x = Dropout(0.25), torch.randn(700, 801)
    out = []
    for one in (layer, layer.drop):
        torch.manual_seed(0)
        out.append(one(x.clone()))
    assert torch.equal(out[0], out[1])
    strided = x.T.contiguous().T.requires_grad_()
    torch.manual_seed(0)
    again = layer(strided)
    assert not strided.is_contiguous() and torch.equal(again, out[0])
    (gradient,) = torch.autograd.grad(again, strided, torch.ones_like(x).T.contiguous().T)
    assert torch.equal(gradient, (out[0] != 0) * torch.tensor(1 / 0.75))
