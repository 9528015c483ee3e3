"""Element variances beside a set head: what they begin at, what they read, and what they leave as it is."""

from __future__ import annotations

import math

import pytest
import torch

from manymatch.embeddings import GaussianSets, Sets
from manymatch.encoders import ElementGaussians, Head, Locals, PIEHead, PointHead, SetHead, SlotAttention
from manymatch.errors import DataError
from manymatch.losses import KLPrior

D = 12


def local(n: int = 3, f: int = 4) -> Locals:
    torch.manual_seed(0)
    return Locals(torch.randn(n, f, D), torch.arange(f) < torch.tensor([[4], [2], [1]]), torch.randn(n, D))


def heads() -> list[Head]:
    torch.manual_seed(1)
    slots = SlotAttention(D, D, elements=3, iterations=1, heads=2, head_width=4, hidden=8, dropout=0.0)
    return [SetHead(slots, D), PIEHead(D, D, elements=3)]


@pytest.mark.parametrize("inner", heads(), ids=["slots", "pie"])
def test_it_begins_with_one_variance_and_the_head_as_it_was(inner: Head) -> None:
    head = ElementGaussians(inner, D, start=-5.0)
    plain, made = inner(local()), head(local())
    assert isinstance(plain.embedding, Sets) and isinstance(made.embedding, GaussianSets)
    assert torch.equal(made.embedding.elements, plain.embedding.elements)
    # D dimensions of variance e^-5 each.
    torch.testing.assert_close(made.embedding.log_variance.exp(), torch.full((3, 3), D * math.exp(-5.0)))
    torch.testing.assert_close(made.embedding.ambiguity(), torch.full((3,), D * math.exp(-5.0)))
    assert torch.equal(made.tensor("residual"), plain.tensor("residual"))
    shares = head.attend(local())
    assert shares is not None and torch.equal(shares, inner.attend(local()))  # type: ignore[arg-type]


@pytest.mark.parametrize("inner", heads(), ids=["slots", "pie"])
def test_what_an_element_says_depends_on_it_and_on_its_item(inner: Head) -> None:
    head = ElementGaussians(inner, D)
    head(local()).tensor("log_variance").sum().backward()
    for layer in (head.element, head.whole):
        assert layer.weight.grad is not None and bool(layer.weight.grad.abs().sum() > 0)
    with torch.no_grad():
        head.element.weight.normal_()
    # Of the item with several fragments: those of PIE-Net are otherwise one element thrice.
    by_element = head(local()).tensor("log_variance").detach()
    assert float(by_element[0].std()) > 0
    with torch.no_grad():
        head.element.weight.zero_()
        head.whole.weight.normal_()
    by_item = head(local()).tensor("log_variance").detach()
    assert float(by_item.std(dim=0).min()) > 0
    torch.testing.assert_close(by_item, by_item[:, :1].expand_as(by_item))


def test_the_prior_spreads_a_total_variance_over_the_dimensions() -> None:
    """It is least where every dimension has a variance of one, whatever the total says."""
    inner = heads()[0]
    values = {}
    for start in (-7.0, -1.0, 0.0, 1.0):
        items = ElementGaussians(inner, D, start=start)(local())
        values[start] = float(KLPrior(reduction="mean")(items, items).detach())
        mean = 2 * ((1 / D) + math.exp(start) - 1 - start) / 2
        assert values[start] == pytest.approx(mean, rel=1e-5)
    assert min(values, key=lambda start: values[start]) == 0.0


def test_other_heads_are_refused() -> None:
    with pytest.raises(DataError, match="the head makes points, expected sets"):
        ElementGaussians(PointHead(), D)(local())
