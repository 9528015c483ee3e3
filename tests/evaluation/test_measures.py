from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.evaluation.measures import Average, Correlation, Mean, Median, Sum, interval, resampled


@st.composite
def asked(draw):
    """Values of queries, each of one of n images; whole numbers, so that many tie."""
    images = draw(st.integers(1, 6))
    queries = draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    owner = rng.integers(0, images, queries)
    return images, owner, rng.integers(0, 5, queries).astype(float), rng


def bags(images: int, rng: np.random.Generator, times: int = 12) -> np.ndarray:
    """How often each image is drawn; some draws are empty."""
    weights = rng.integers(0, 4, (times, images)).astype(float)
    weights[0], weights[1] = 1, 0
    return weights


def again(values: np.ndarray, owner: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The values written out as often as their image was drawn."""
    return np.array([v for v, image in zip(values, owner, strict=True) for _ in range(int(weights[image]))])


def close(ours: np.ndarray, expected: list[float]) -> None:
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12, equal_nan=True)


@given(asked())
def test_mean_of_the_drawn_images_is_the_mean_of_their_queries(case):
    images, owner, values, rng = case
    weights = bags(images, rng)
    measure = Mean(values, owner)
    expected = [100 * np.mean(v) if len(v := again(values, owner, row)) else np.nan for row in weights]
    close(measure.drawn(weights), expected)
    assert measure.value == pytest.approx(100 * sum(values) / len(values), abs=1e-12)


@given(asked())
def test_weighted_mean(case):
    images, owner, values, rng = case
    shares = rng.integers(1, 4, len(values)).astype(float)
    measure, weights = Mean(values, owner, 1.0, shares), bags(images, rng)
    assert measure.value == pytest.approx(sum(shares * values) / sum(shares))
    expected = []
    for row in weights:
        counted = [(s * row[i], v) for s, i, v in zip(shares, owner, values, strict=True)]
        total = sum(s for s, _ in counted)
        expected.append(sum(s * v for s, v in counted) / total if total else np.nan)
    close(measure.drawn(weights), expected)


@given(asked())
def test_contributions_add_up_to_the_value(case):
    images, owner, values, rng = case
    plain, weighted = Mean(values, owner), Mean(values + 1, owner, 1.0, rng.integers(1, 4, len(values)).astype(float))
    for measure in (
        plain,
        weighted,
        Sum([plain, weighted]),
        Average([plain, weighted]),
        Sum([Average([plain]), plain]),
    ):
        found = measure.contributions(images)
        assert found.shape == (images,)
        assert found.sum() == pytest.approx(measure.value, abs=1e-9)
    assert np.count_nonzero(np.delete(plain.contributions(images), owner)) == 0
    median = Median(values, owner)
    assert median.contributions(images) is Average([plain, median]).contributions(images) is None
    assert Correlation(values, values, owner).contributions(images) is None


@given(asked())
def test_every_image_drawn_once_gives_the_value(case):
    images, owner, values, rng = case
    once, mean, median = np.ones((1, images)), Mean(values, owner), Median(values, owner)
    found = [
        mean,
        median,
        Sum([mean, mean]),
        Average([mean, median]),
        Correlation(values, rng.permutation(values), owner),
    ]
    for measure in found:
        close(measure.drawn(once), [measure.value])


@given(asked())
def test_sums_and_averages_are_those_of_their_parts(case):
    images, owner, values, rng = case
    parts, weights = [Mean(values, owner), Median(values, owner), Mean(values**2, owner, 1.0)], bags(images, rng)
    each = np.stack([part.drawn(weights) for part in parts])
    close(Sum(parts).drawn(weights), each.sum(axis=0))
    close(Average(parts).drawn(weights), each.sum(axis=0) / 3)
    assert Sum(parts).value == pytest.approx(sum(part.value for part in parts))
    assert Average(parts).value == pytest.approx(sum(part.value for part in parts) / 3)


def middle(values: np.ndarray) -> float:
    """The middle one; of two, their mean rounded down, unless they are equal."""
    ordered = sorted(values)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return low if low == high else (low + high) // 2


@given(asked())
def test_medians_of_drawn_images_are_those_of_their_queries(case):
    images, owner, values, rng = case
    values = values / 2
    weights = bags(images, rng)
    expected = [middle(v) if len(v := again(values, owner, row)) else np.nan for row in weights]
    close(Median(values, owner).drawn(weights), expected)
    assert Median(values, owner).value == middle(values)


def test_the_median_of_two_is_rounded_down_and_a_tied_middle_is_kept():
    owner = np.arange(2)
    assert Median(np.array([3.0, 6.0]), owner).value == 4
    assert Median(np.array([2.5, 2.5]), owner).value == 2.5
    assert Median(np.array([3.0, 6.0]), owner).drawn(np.array([[1.0, 1], [2, 1], [1, 2], [0, 3]])).tolist() == [
        4,
        3,
        6,
        6,
    ]


def place(values: np.ndarray) -> list[float]:
    """Rank of each from 1; equal ones share the mean of their ranks."""
    return [sum(v < own for v in values) + (1 + sum(v == own for v in values)) / 2 for own in values]


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's correlation of ranks, pair by pair; NaN where one side is constant."""
    a, b = place(first), place(second)
    pairs = [(a[i] - a[j], b[i] - b[j]) for i, j in product(range(len(a)), repeat=2)]
    top, left, right = (sum(x * y for x, y in pairs), sum(x * x for x, _ in pairs), sum(y * y for _, y in pairs))
    return top / np.sqrt(left * right) if left * right > 0 else float("nan")


@settings(max_examples=50)
@given(asked())
def test_spearman_is_the_correlation_of_mean_ranks(case):
    images, owner, first, rng = case
    second = rng.integers(0, 4, len(first)).astype(float)
    measure, weights = Correlation(first, second, owner), bags(images, rng, 6)
    close(np.array([measure.value]), [spearman(first, second)])
    expected = [
        spearman(a, again(second, owner, row)) if len(a := again(first, owner, row)) else np.nan for row in weights
    ]
    close(measure.drawn(weights), expected)
    bent = Correlation(np.exp(first), second, owner)
    close(np.array([bent.value]), [measure.value])


def test_spearman_of_known_orders():
    owner, up = np.arange(5), np.arange(5.0)
    assert Correlation(up, up**3, owner).value == pytest.approx(1)
    assert Correlation(up, -up, owner).value == pytest.approx(-1)
    # d = (0, 0, 1, 1): 1 - 6 * 2 / (4 * 15).
    assert Correlation(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 4, 3]), owner[:4]).value == pytest.approx(0.8)
    assert np.isnan(Correlation(up, np.ones(5), owner).value)


@pytest.mark.parametrize("images", [1, 7, 300])
def test_bootstrap_weights_are_how_often_each_image_was_drawn(images):
    weights = resampled(images, 400)
    assert weights.shape == (400, images)
    assert np.array_equal(weights, weights.astype(int)) and weights.min() >= 0
    assert (weights.sum(axis=1) == images).all()
    assert np.array_equal(weights, resampled(images, 400))
    assert images == 1 or not np.array_equal(weights, resampled(images, 400, seed=1))
    # Each image is as likely as another, and drawing is with replacement: a draw misses 1 / e of many images.
    assert weights.mean(axis=0) == pytest.approx(np.ones(images), abs=0.3)
    assert images < 300 or (weights == 0).mean() == pytest.approx(np.exp(-1), abs=0.01)


def test_the_interval_holds_the_middle_of_the_resamples():
    values, owner = (np.arange(400) % 4 == 0).astype(float), np.arange(400) // 2
    low, high = interval(Mean(values, owner), resampled(200, 2000))
    # Of 200 images half have one hit among two captions: 25 % with a standard error of 25 % / sqrt(200).
    assert low == pytest.approx(25 - 1.96 * 25 / np.sqrt(200), abs=0.5)
    assert high == pytest.approx(25 + 1.96 * 25 / np.sqrt(200), abs=0.5)
    assert interval(Mean(values, owner), None) == (None, None)
    assert interval(Correlation(values, values * 0, owner), resampled(200, 5)) == (None, None)


def test_captions_of_one_image_come_and_go_together():
    """Five equal captions an image are one draw, not five: the interval is that of the images alone."""
    hit = (np.arange(60) % 3 == 0).astype(float)
    weights = resampled(60, 1000)
    alone, five = (
        interval(Mean(hit, np.arange(60)), weights),
        interval(Mean(hit.repeat(5), np.arange(60).repeat(5)), weights),
    )
    assert five == pytest.approx(alone)
