"""Inclusion: the sign of the gap, its closed form, its invariances, boxes, and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from manymatch.embeddings import Boxes, Encoded, Gaussians, Points
from manymatch.errors import DataError, UnknownName
from manymatch.losses import Inclusion
from manymatch.losses.inclusion import inclusion_gap, sticking_out

FEW = settings(max_examples=60)
MEANS, LOGS = st.floats(-2, 2), st.floats(-9, 7)


def tensors(*values: float) -> tuple[Tensor, ...]:
    return tuple(torch.tensor([[value]], dtype=torch.float64) for value in values)


def gaussians(seed: int, n: int = 4, d: int = 6, start: float = -1.0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    mean = torch.randn(n, d, generator=draw, dtype=torch.float64)
    return mean, start + torch.randn(n, d, generator=draw, dtype=torch.float64)


def encoded(mean: Tensor, log_variance: Tensor) -> Encoded:
    return Encoded(Gaussians(mean, log_variance))


def by_sum(first: tuple[float, float], second: tuple[float, float]) -> float:
    """Logarithm of the integral of p1^2 p2, from values on a fine grid."""
    x = torch.linspace(-60, 60, 600_001, dtype=torch.float64)

    def log_density(mean: float, h: float) -> Tensor:
        return -(x - mean).square() / (2 * math.exp(h)) - h / 2 - math.log(2 * math.pi) / 2

    logs = 2 * log_density(*first) + log_density(*second)
    return float(logs.logsumexp(0) + math.log(float(x[1] - x[0])))


@pytest.mark.parametrize(
    ("one", "other"), [((0.0, -1.0), (0.3, 1.0)), ((1.0, 0.5), (-0.5, 0.5)), ((0.0, 2.0), (2.0, -2.0))]
)
def test_the_gap_is_that_of_the_integrals(one: tuple[float, float], other: tuple[float, float]) -> None:
    found = inclusion_gap(tensors(*one), tensors(*other))  # type: ignore[arg-type]
    assert float(found) == pytest.approx(by_sum(one, other) - by_sum(other, one), abs=1e-6)


@FEW
@given(MEANS, LOGS, MEANS, LOGS, st.sampled_from(["paper", "released"]))
def test_changing_sides_changes_the_sign(m1: float, h1: float, m2: float, h2: float, mode: str) -> None:
    one, other = tensors(m1, h1), tensors(m2, h2)
    there = inclusion_gap(one, other, mode=mode)  # type: ignore[arg-type]
    back = inclusion_gap(other, one, mode=mode)  # type: ignore[arg-type]
    torch.testing.assert_close(there, -back, rtol=1e-9, atol=1e-9)


@FEW
@given(MEANS, MEANS, LOGS, st.floats(0.01, 4.0))
def test_the_sharper_one_lies_inside(m1: float, m2: float, h: float, wider: float) -> None:
    inner, outer = tensors(m1, h), tensors(m2, h + wider)
    assert float(inclusion_gap(inner, outer)) > 0 > float(inclusion_gap(outer, inner))  # type: ignore[arg-type]


@FEW
@given(MEANS, LOGS, MEANS, LOGS, st.floats(-5, 5), st.floats(0.2, 5.0))
def test_neither_place_nor_scale_matters(
    m1: float, h1: float, m2: float, h2: float, shift: float, scale: float
) -> None:
    def moved(mean: float, h: float) -> tuple[Tensor, ...]:
        return tensors(scale * mean + shift, h + 2 * math.log(scale))

    before = inclusion_gap(tensors(m1, h1), tensors(m2, h2))  # type: ignore[arg-type]
    after = inclusion_gap(moved(m1, h1), moved(m2, h2))  # type: ignore[arg-type]
    torch.testing.assert_close(before, after, rtol=1e-6, atol=1e-6)


def test_released_counts_the_determinants_twice_and_looks_at_variances_alone() -> None:
    one, other = gaussians(0), gaussians(1)
    twice = inclusion_gap(one, other, mode="released") - inclusion_gap(one, other)
    torch.testing.assert_close(twice, (other[1] - one[1]) / 2)
    released = Inclusion(mode="released")
    near = released(encoded(*one), encoded(one[0], other[1]))
    torch.testing.assert_close(released(encoded(*one), encoded(*other)), near, rtol=1e-3, atol=1e-3)
    paper = Inclusion()
    assert not torch.isclose(paper(encoded(*one), encoded(*other)), paper(encoded(*one), encoded(one[0], other[1])))


def test_extreme_variances_are_finite() -> None:
    for h in (-80.0, 0.0, 80.0):
        mean, logs = torch.zeros(2, 3), torch.full((2, 3), h)
        for other in (-80.0, 80.0):
            m2, h2 = torch.ones(2, 3, requires_grad=True), torch.full((2, 3), other, requires_grad=True)
            value = Inclusion()(encoded(mean, logs), encoded(m2, h2))
            value.backward()
            assert torch.isfinite(value) and m2.grad is not None and h2.grad is not None
            assert torch.isfinite(m2.grad).all() and torch.isfinite(h2.grad).all()


def test_samples_of_a_gaussian_are_read_by_their_moments() -> None:
    (m1, h1), (m2, h2) = gaussians(0), gaussians(1)
    whole = Encoded(Points(m1), tensors={"mean": m1, "log_sigma": h1 / 2})
    part = Encoded(Points(m2), tensors={"mean": m2, "log_sigma": h2 / 2})
    torch.testing.assert_close(Inclusion()(whole, part), Inclusion()(encoded(m1, h1), encoded(m2, h2)))
    with pytest.raises(DataError, match="inclusion: got points, expected gaussians, boxes"):
        Inclusion()(Encoded(Points(m1)), Encoded(Points(m2)))


def boxes(center: float, offset: float, d: int = 4) -> Boxes:
    return Boxes(torch.full((1, d), center / math.sqrt(d)), torch.full((1, d), offset / math.sqrt(d)))


@pytest.mark.parametrize(
    ("inner", "outer", "out"),
    [((0.0, 0.2), (0.0, 0.5), -0.3), ((0.3, 0.2), (0.0, 0.5), 0.0), ((-0.4, 0.2), (0.0, 0.5), 0.1)],
)
def test_how_far_a_box_sticks_out(inner: tuple[float, float], outer: tuple[float, float], out: float) -> None:
    for d in (4, 100):
        torch.testing.assert_close(sticking_out(boxes(*inner, d), boxes(*outer, d)), torch.full((1, d), out))


def test_a_box_inside_costs_less_than_one_that_sticks_out() -> None:
    costs = [float(Inclusion()(Encoded(boxes(c, 0.2)), Encoded(boxes(0.0, 0.5)))) for c in (0.0, 0.2, 0.4, 0.8)]
    assert costs == sorted(costs) and costs[0] < 0.06 < math.log(2) < costs[2]
    assert Inclusion()(Encoded(boxes(0, 0.5)), Encoded(boxes(0, 0.2))) > math.log(2)


@pytest.mark.parametrize("mode", ["paper", "released"])
def test_gradient_of_gaussians(mode: str) -> None:
    inputs = tuple(value.requires_grad_() for side in (gaussians(2), gaussians(3)) for value in side)
    term = Inclusion(mode=mode)  # type: ignore[arg-type]
    assert torch.autograd.gradcheck(lambda a, b, c, e: term(encoded(a, b), encoded(c, e)), inputs)


def test_gradient_of_boxes() -> None:
    draw = torch.Generator().manual_seed(0)
    made = [torch.rand(3, 5, generator=draw, dtype=torch.float64).requires_grad_() for _ in range(4)]

    def cost(a: Tensor, b: Tensor, c: Tensor, e: Tensor) -> Tensor:
        return Inclusion()(Encoded(Boxes(a, b)), Encoded(Boxes(c, e)))

    assert torch.autograd.gradcheck(cost, tuple(made))


def test_descent_makes_the_part_wider() -> None:
    mean, logs = gaussians(4)
    whole, part = logs.clone().requires_grad_(), (logs - 1).requires_grad_()
    Inclusion()(encoded(mean, whole), encoded(mean, part)).backward()
    assert whole.grad is not None and part.grad is not None
    assert (whole.grad > 0).all() and (part.grad < 0).all()


@pytest.mark.parametrize("wrong", [{"scale": 0.0}, {"chosen": 0.0}, {"left_out": 1.0}])
def test_wrong_numbers_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DataError, match=r"inclusion: scale .* expected"):
        Inclusion(**wrong)
    with pytest.raises(UnknownName):
        Inclusion(mode="draft")  # type: ignore[arg-type]
