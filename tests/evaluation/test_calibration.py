"""Calibration: probabilities that hold, add up and keep the order, and refusals where nothing can be learnt."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_fakes import FakeModel, made_pairs, one_hot
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import manymatch as mm
from manymatch.calibration import Calibration, Curve
from manymatch.data.matches import Matches
from manymatch.data.pairs import Pairs
from manymatch.embeddings import Points
from manymatch.errors import CheckpointError, DataError, UnknownName
from manymatch.evaluation import calibrating
from manymatch.evaluation.calibrating import calibrate
from manymatch.evaluation.curves import Tally, fit_curve
from manymatch.evaluation.reliability import brier_score, calibration_error, cut_off
from manymatch.training import TrainConfig, train

SEEDS = st.integers(0, 2**32 - 1)
FEW = settings(max_examples=25)


def fitted(right: np.ndarray, wrong: np.ndarray, folds: int = 1, complete: bool = True) -> Curve:
    tally = Tally.of(*([side[n::folds] for n in range(folds)] for side in (right, wrong)))
    return fit_curve(tally, complete=complete)


# ---- reliability, against numbers worked out by hand


def test_calibration_error_by_hand() -> None:
    p, right = [0.1, 0.1, 0.6, 0.9], [False, True, True, True]
    # Two bins of two: means .1 and .75, shares .5 and 1.
    assert calibration_error(p, right, bins=2) == pytest.approx((0.4 + 0.25) / 2)
    # [0, .5) and [.5, 1] hold the same pairs; of four, [.5, .75) and [.75, 1] hold one each.
    assert calibration_error(p, right, bins=2, equal="width") == pytest.approx((0.4 + 0.25) / 2)
    assert calibration_error(p, right, bins=4, equal="width") == pytest.approx((2 * 0.4 + 0.4 + 0.1) / 4)


def test_equal_probabilities_stay_in_one_bin() -> None:
    p, right = np.full(100, 0.3), np.arange(100) < 30
    assert calibration_error(p, right, bins=10) == pytest.approx(0, abs=1e-12), "sorted by truth it would be large"


def test_brier_and_cut_off_by_hand() -> None:
    p, right = [0.2, 0.5, 0.8], [False, False, True]
    assert brier_score(p, right) == pytest.approx((0.04 + 0.25 + 0.04) / 3)
    cut = cut_off(p, right, 0.5)
    assert (cut.kept, cut.right, cut.of) == (2, 1, 1)
    assert (cut.precision, cut.recall, cut.promised) == (0.5, 1.0, pytest.approx(0.65))
    none = cut_off(p, right, 0.9)
    assert math.isnan(none.precision) and none.recall == 0


@FEW
@given(SEEDS, st.integers(1, 12))
def test_weights_are_repeats(seed: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    p, right, weight = rng.integers(0, 9, 20) / 8, rng.random(20) < 0.4, rng.integers(0, 4, 20)
    weight[0] = 1
    many = np.repeat(p, weight), np.repeat(right, weight)
    for equal in ("mass", "width"):
        assert calibration_error(p, right, weight, bins=bins, equal=equal) == pytest.approx(
            calibration_error(*many, bins=bins, equal=equal)
        )
    assert brier_score(p, right, weight) == pytest.approx(brier_score(*many))
    assert cut_off(p, right, 0.5, weight).kept == cut_off(*many, 0.5).kept


@pytest.mark.parametrize(
    ("p", "right", "said"),
    [
        ([], [], "no pair"),
        ([0.1], [True, False], "1 probabilities, 2 answers"),
        ([math.nan], [True], "NaN"),
        ([1.5], [True], "outside"),
    ],
)
def test_reliability_refuses(p: list[float], right: list[bool], said: str) -> None:
    for measure in (calibration_error, brier_score, lambda a, b: cut_off(a, b, 0.5)):
        with pytest.raises(DataError, match=said):
            measure(p, right)


def test_unknown_bins_refuse() -> None:
    with pytest.raises(DataError, match="mass or width"):
        calibration_error([0.5], [True], equal="depth")


# ---- curves


@pytest.mark.parametrize(("seed", "gap", "width"), [(420, 4.0, 1.0), (1279, 3.5, 0.6), (3, 8.0, 0.5)])
def test_sides_that_hardly_overlap_are_counted_as_well(seed: int, gap: float, width: float) -> None:
    """Newton's method in full steps leaps to certainty in the first, and stays: 782 expected where 491 are right."""
    rng = np.random.default_rng(seed)
    right, wrong = gap + width * rng.standard_normal(491), rng.standard_t(26, 15_505)
    curve = fitted(right, wrong)
    assert curve.expected_matches(np.concatenate([right, wrong])) == pytest.approx(491, abs=1)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores of right and of wrong answers: overlapping, few or many, perhaps rounded so that they tie."""
    rng = np.random.default_rng(draw(SEEDS))
    right, wrong = draw(st.integers(10, 1500)), draw(st.integers(200, 20_000))
    a = draw(st.floats(0.5, 6)) + draw(st.floats(0.3, 2)) * rng.standard_normal(right)
    b = rng.standard_t(draw(st.integers(3, 30)), wrong)
    digits = draw(st.sampled_from([1, 3, 12]))
    return a.round(digits), b.round(digits)


@FEW
@given(worlds())
def test_a_curve_keeps_the_order_and_adds_up(world: tuple[np.ndarray, np.ndarray]) -> None:
    right, wrong = world
    assume(right.mean() > wrong.mean() + 0.2 * right.std())  # or a fit rightly finds that nothing tells them apart
    curve = fitted(right, wrong)
    everything = np.sort(np.concatenate(world))
    spread = float(np.ptp(everything))
    grid = np.concatenate([[-1e9], np.linspace(everything[0] - 3 * spread, everything[-1] + 3 * spread, 500), [1e9]])
    p = curve.probability(grid)
    assert (p > 0).all() and (p < 1).all()
    assert (np.diff(p) >= 0).all()
    inside = curve.probability(np.linspace(curve.scores[0] - spread, curve.scores[-1], 300))
    assert (np.diff(inside[inside < 0.999 * curve.ceiling]) > 0).all(), "strictly, below what it can be sure of"
    targets = len(right) - len(right) / (len(right) + 2) + len(wrong) / (len(wrong) + 2)
    assert curve.expected_matches(everything) == pytest.approx(targets, abs=1), "Platt's targets, within a cell's width"
    assert np.array_equal(
        curve.probability(everything[::99, None])[:, 0], [curve.probability(one) for one in everything[::99]]
    )
    lowest = curve.scores[0]
    assert curve.probability(lowest - 100 * spread) < curve.probability(lowest) / 2, "no floor below the lowest knot"


@FEW
@given(worlds(), st.booleans())
def test_a_curve_is_kept_as_it_is(world: tuple[np.ndarray, np.ndarray], complete: bool) -> None:
    curve = fitted(*world, folds=3, complete=complete)
    kept = Calibration({("caption", "image"): curve}, {("image", "image"): "nobody knows"}, {"name": "x"}, 3, ("so",))
    read = Calibration.from_json(json.loads(json.dumps(kept.to_json(), allow_nan=False)))
    assert read == kept
    scores = np.linspace(-9, 9, 50)
    assert np.array_equal(read.curves["caption", "image"].probability(scores), curve.probability(scores))


@FEW
@given(worlds(), st.floats(0.01, 100), st.floats(-50, 50))
def test_units_of_the_score_do_not_matter(world: tuple[np.ndarray, np.ndarray], scale: float, shift: float) -> None:
    # A unit of another scale must not part scores that tie, so ties are made of what is exact in both.
    scale, shift = 2.0 ** round(math.log2(scale)), float(round(shift))
    world = tuple((side * 1024).round() / 1024 for side in world)
    plain, other = fitted(*world), fitted(*(side * scale + shift for side in world))
    scores = np.linspace(-6, 8, 100)
    odds = [np.log(curve.probability(at)) for curve, at in ((plain, scores), (other, scores * scale + shift))]
    assert np.allclose(*odds, atol=1e-4)


def known(scores: np.ndarray, bent: bool) -> np.ndarray:
    """A true probability: a line of log-odds, or one that is flat for a while and steep above."""
    return 1 / (1 + np.exp(-np.where(bent & (scores > 1), 4 * scores - 7, np.where(bent, scores - 4, 2 * scores - 4))))


@pytest.mark.parametrize("bent", [False, True])
def test_a_known_world_is_found(bent: bool) -> None:
    rng = np.random.default_rng(5)
    scores = rng.standard_normal(40_000)
    right = rng.random(len(scores)) < known(scores, bent)
    curve = fitted(scores[right], scores[~right], folds=5)
    assert curve.kind == "isotonic" and curve.ece is not None and curve.ece < 0.01
    fresh = rng.standard_normal(100_000)
    p, true = curve.probability(fresh), known(fresh, bent)
    assert np.abs(p - true).mean() < 0.005
    assert calibration_error(p, rng.random(len(p)) < true) < 0.01
    assert curve.expected_matches(fresh) == pytest.approx(true.sum(), rel=0.04)
    low = fresh < -1.5
    assert p[low].sum() == pytest.approx(true[low].sum(), rel=0.5), "the tail that most items lie in"


def test_few_right_answers_give_one_line() -> None:
    # Two scores: a line of log-odds goes through both shares, which are those of Platt's smoothed targets.
    curve = fitted(np.repeat([0.0, 1.0], [5, 20]), np.repeat([0.0, 1.0], [60, 15]))
    hit, miss = 26 / 27, 1 / 77
    assert curve.kind == "logistic" and len(curve.scores) == 2
    shares = [(5 * hit + 60 * miss) / 65, (20 * hit + 15 * miss) / 35]
    assert curve.probability([0.0, 1.0]) == pytest.approx(shares, rel=1e-5)


def test_where_odds_would_fall_neighbours_are_pooled() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(50_000)
    true = np.where(scores < 0.4, 0.05, np.where(scores < 0.7, 0.01, 0.2))
    right = rng.random(len(scores)) < true
    curve = fitted(scores[right], scores[~right])
    assert (np.diff(curve.log_odds) > 0).all()
    assert curve.expected_matches(scores) == pytest.approx(right.sum(), rel=0.01)
    flat = curve.probability([0.1, 0.6])
    assert flat[1] / flat[0] < 3


def test_right_answers_apart_from_wrong_ones_are_still_no_certainty() -> None:
    curve = fitted(np.linspace(2, 3, 40), np.linspace(0, 1, 500))
    p = curve.probability([0.5, 2.5, 1e6])
    assert p[0] < 0.01 and 0.9 < p[1] < 1 and p[2] == pytest.approx(41 / 42)


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ([math.nan] * 20, [0.0], "NaN"),
        ([0.5] * 20, [-math.inf], "infinity"),
        ([], [0.0, 1.0], "0 right and 2 wrong"),
        ([1.0] * 9, [0.0], "expected at least 10"),
        ([1.0] * 20, [], "20 right and 0 wrong"),
        ([1.0] * 20, [1.0] * 20, "all scores are equal"),
        ([0.0] * 20, [1.0] * 20, "no higher"),
    ],
)
def test_what_cannot_be_fitted_is_refused(right: list[float], wrong: list[float], said: str) -> None:
    with pytest.raises(DataError, match=said):
        fitted(np.array(right), np.array(wrong))


def test_a_score_that_is_none_has_no_probability() -> None:
    curve = fitted(np.linspace(0, 2, 30), np.linspace(-2, 1, 90))
    with pytest.raises(DataError, match="NaN"):
        curve.probability([0.0, math.nan])
    assert 0 < curve.probability(-math.inf) < 1e-300


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scores": (1.0, 1.0)}, "rising"),
        ({"log_odds": (0.0, math.inf)}, "finite"),
        ({"scores": (1.0,)}, "2 to 256 of each"),
        ({"kind": "guess"}, "guess"),
        ({"ceiling": 1.0}, "ceiling"),
        ({"named": 0.0}, "named"),
        ({"named": 1.1}, "named"),
        ({"named": math.nan}, "named"),
    ],
)
def test_a_curve_is_checked(change: dict[str, object], said: str) -> None:
    good = Curve("logistic", (0.0, 1.0), (-2.0, 0.0), 0.99, "own", 1, 1, 1, 1)
    assert good.probabilities == pytest.approx((1 / (1 + math.e**2), 0.5))
    with pytest.raises(DataError, match=said):
        replace(good, **change)


@pytest.mark.parametrize("value", [None, [], {}, {"format": 9}, {"format": 1}, {"format": 1, "curves": [{}]}])
def test_a_damaged_calibration_is_refused(value: object) -> None:
    with pytest.raises(DataError, match="calibrat"):
        Calibration.from_json(value)


# ---- a truth that names only some of what is right


def parts(*counts: tuple[float, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the named and of the others: (score, how many named, how many others)."""
    scores = np.array([score for score, _, _ in counts])
    return tuple(np.repeat(scores, [row[side] for row in counts]) for side in (1, 2))


@pytest.mark.parametrize(
    ("world", "share"),
    [
        # The fifty named ones that score highest are 1 in 4, whatever comes below.
        (parts((3, 50, 150), (1, 50, 0), (0, 0, 1000)), 1 / 4),
        # Of fewer than a hundred, half.
        (parts((3, 10, 10), (1, 10, 0), (0, 0, 1000)), 1 / 2),
        # Of many, three in a hundred: the hundred best and two hundred of the next.
        (parts((3, 100, 0), (2, 200, 300), (1, 9700, 0), (0, 0, 20_000)), 300 / 600),
        # Scores that tie are counted together, the named ones are not put first.
        (parts((3, 60, 40), (0, 0, 1000)), 60 / 100),
        # What cannot be all right, as 3 in 100 would say, is not taken to be.
        (parts((3, 60, 1940), (0, 20, 9000)), 1 / 10),
        (parts((3, 100, 0), (0, 0, 1000)), 1.0),
    ],
)
def test_the_share_that_is_named_by_hand(world: tuple[np.ndarray, np.ndarray], share: float) -> None:
    assert fitted(*world, complete=False).named == pytest.approx(share)
    assert fitted(*world).named == 1.0


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 1.0])
def test_named_at_random_gives_the_probability_of_all_that_is_right(share: float) -> None:
    rng = np.random.default_rng(0)
    scores, fresh = rng.standard_normal(200_000), rng.standard_normal(200_000)

    def true(at: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(9 - 6 * at))

    named = (rng.random(len(scores)) < true(scores)) & (rng.random(len(scores)) < share)
    curve = fitted(scores[named], scores[~named], complete=False)
    # The share is counted among a few hundred at most: three of its standard errors.
    counted = max(50, 0.03 * named.sum()) / share
    assert curve.named == pytest.approx(share, abs=3 * math.sqrt(share * (1 - share) / counted) + 0.01)
    right = rng.random(len(fresh)) < true(fresh)
    for each, error, miss in ((curve, 0.02, 0.25), (replace(curve, named=share), 0.01, 0.05)):
        p = each.probability(fresh)
        kept = cut_off(p, right, 0.5)
        assert calibration_error(p, right) < error
        assert p.sum() == pytest.approx(right.sum(), rel=miss)
        assert kept.precision == pytest.approx(kept.promised, abs=miss / 2) and kept.recall > 0.7
    if share < 0.6:
        plain = replace(curve, named=1.0).probability(fresh)
        assert calibration_error(plain, right) > 2 * calibration_error(curve.probability(fresh), right)


@FEW
@given(worlds())
def test_the_share_raises_and_never_above_the_ceiling(world: tuple[np.ndarray, np.ndarray]) -> None:
    try:
        curve, plain = fitted(*world, complete=False), fitted(*world)
    except DataError as error:
        # A few right answers drawn among the wrong ones may tell nothing: that is refused, and another matter.
        assume("nothing tells them apart" not in str(error))
        raise
    assert replace(curve, named=1.0) == plain and 0.1 <= curve.named <= 1
    scores = np.concatenate([[-math.inf, -1e9, 1e9, math.inf], np.linspace(-9, 9, 200), *world])
    p, q = curve.probability(scores), plain.probability(scores)
    assert (p > 0).all() and (p <= curve.ceiling).all() and (p >= q).all()
    assert (np.diff(curve.probability(np.sort(scores))) >= 0).all()
    low = q / curve.named < curve.ceiling
    assert np.allclose(p[low], q[low] / curve.named, rtol=1e-12)
    items = np.concatenate(world)
    assert curve.expected_matches(items) <= plain.expected_matches(items) / curve.named * (1 + 1e-9)


def test_a_curve_written_without_a_share_names_all() -> None:
    curve = Curve("logistic", (0.0, 1.0), (-2.0, 0.0), 0.99, "own", 1, 1, 1, 1, named=0.25)
    kept = Calibration({("caption", "image"): curve}).to_json()
    assert Calibration.from_json(kept).curves["caption", "image"].named == 0.25
    del kept["curves"][0]["named"]
    assert Calibration.from_json(kept).curves["caption", "image"] == replace(curve, named=1.0)
    kept["curves"][0]["named"] = "most"
    with pytest.raises(DataError, match="calibrate again"):
        Calibration.from_json(kept)


def test_the_share_is_said() -> None:
    curve = Curve("logistic", (0.0, 1.0), (-2.0, 0.0), 0.99, "own captions", 1, 1, 1, 1, named=0.244)
    assert curve.meaning == "own captions, taken to be 1 in 4.1 of what fits"
    assert replace(curve, named=0.99).meaning == "own captions"
    said = str(Calibration({("caption", "image"): curve}, data={"name": "photos"}, notes=("beware",)))
    assert said == "calibrated on photos: caption to image (own captions, taken to be 1 in 4.1 of what fits); beware"


# ---- calibrate


def noisy(captions: list[int], noise: float = 0.6, **more: object) -> tuple[FakeModel, Pairs]:
    """Every caption lies near its image."""
    pairs = made_pairs(captions, **more)
    draw = torch.Generator().manual_seed(0)
    images = torch.nn.functional.normalize(torch.randn(len(pairs), 8, generator=draw), dim=-1)
    texts = images[torch.from_numpy(pairs.owner)]
    return FakeModel(Points(images), Points(texts + noise * torch.randn(texts.shape, generator=draw))), pairs


class Listed:
    """A truth that says these pairs (i, c) match, or knows none of them."""

    problems = ()

    def __init__(self, dense: np.ndarray | None) -> None:
        self.dense = dense

    def matches(self, pairs: Pairs) -> Matches:
        if self.dense is None:
            raise DataError("truth: of another split")
        return Matches.from_dense(self.dense)

    def positives(self, pairs: Pairs) -> tuple[Matches, Matches]:
        return self.matches(pairs), self.matches(pairs)

    def grades(self, pairs: Pairs) -> tuple[Matches, np.ndarray]:
        found = self.matches(pairs)
        return found, np.where(np.arange(len(found)) % 2, 3.0, 2.9)


def test_own_captions_are_counted_each_way() -> None:
    model, pairs = noisy([4] * 40 + [1])
    found = calibrate(model, pairs)
    facts = {way: (c.queries, c.gallery, c.pairs, c.right, c.truth) for way, c in found.curves.items()}
    assert facts == {
        ("caption", "image"): (161, 41, 161 * 41, 161, "own captions"),
        ("image", "caption"): (41, 161, 41 * 161, 161, "own captions"),
        # The lone caption has no other of its image, and nothing meets itself.
        ("caption", "caption"): (160, 161, 160 * 160, 160 * 3, "captions of the same image"),
    }
    assert "do not say which images match" in found.why_not("image", "image")
    assert found.why_not("caption", "image") == "" and found.curve("image", "image") is None
    assert found.data == pairs.describe() and "made" in str(found)
    with pytest.raises(UnknownName, match="did you mean 'image'"):
        found.curve("images", "caption")


def test_the_sum_over_all_items_is_what_was_seen() -> None:
    model, pairs = noisy([5] * 120)
    curve = calibrate(model, pairs).curve("caption", "image")
    assert curve is not None and curve.kind == "isotonic" and curve.ece is not None and curve.ece < 0.01
    scores = model.similarity(model.kept["texts"], model.kept["images"]).numpy()
    expected = replace(curve, named=1.0).expected_matches(scores)
    assert expected.shape == (600,) and expected.mean() == pytest.approx(1, rel=0.01)


def test_where_own_captions_are_all_that_fits_they_are_taken_to_be() -> None:
    model, pairs = noisy([5] * 120, noise=0.1)
    model.kept["images"], texts = one_hot(pairs.owner, len(pairs))
    draw = torch.Generator().manual_seed(0)
    model.kept["texts"] = Points(texts.vectors + 0.1 * torch.randn(texts.vectors.shape, generator=draw))
    found = calibrate(model, pairs)
    assert {curve.named for curve in found.curves.values()} == {1.0} and not found.notes


def test_own_captions_of_the_toy_world_tell_of_all_that_fits() -> None:
    pairs = Pairs.toy(200)
    matches = pairs.truth.matches(pairs).dense()
    draw = torch.Generator().manual_seed(0)
    texts = torch.from_numpy(matches.T.astype(np.float32))
    model = FakeModel(Points(torch.eye(200)), Points(texts + 0.2 * torch.randn(texts.shape, generator=draw)))
    own, every = (calibrate(model, pairs, truth=name) for name in ("own", "matches"))
    for way in (("caption", "image"), ("image", "caption")):
        assert own.curves[way].named == pytest.approx(1000 / matches.sum(), rel=0.25)
        assert every.curves[way].named == 1.0
        grid = np.linspace(-0.5, 1.5, 50)
        told, true = (each.curves[way].probability(grid) for each in (own, every))
        assert np.abs(told - true).mean() < 0.1
    scores = model.similarity(model.kept["texts"], model.kept["images"]).numpy()
    expected = own.curves["caption", "image"].expected_matches(scores)
    assert expected.mean() == pytest.approx(matches.sum() / 1000, rel=0.25)


def test_a_poor_run_is_told_that_its_probabilities_are_too_high() -> None:
    model, pairs = noisy([5] * 120, noise=6.0)
    found = calibrate(model, pairs)
    curve = found.curves["caption", "image"]
    assert curve.named == 0.1
    assert any(note.startswith("caption to image: of the highest scores at most 1 in 10") for note in found.notes)
    scores = model.similarity(model.kept["texts"], model.kept["images"]).numpy()
    assert curve.expected_matches(scores).mean() == pytest.approx(10, rel=0.02), "and no more than so much too high"


def test_queries_and_images_are_drawn_by_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrating, "_QUERIES", 50)
    monkeypatch.setattr(calibrating, "_ENOUGH", 50 * 60)
    model, pairs = noisy([3] * 60)
    first, again, other = (calibrate(model, pairs, seed=seed) for seed in (0, 0, 1))
    assert first == again and first.curves != other.curves
    assert {curve.queries for curve in first.curves.values()} == {50}
    monkeypatch.setattr(calibrating, "_CAPTIONS", 100)
    fewer = calibrate(model, pairs).curve("image", "caption")
    assert fewer is not None and (fewer.queries, fewer.gallery) == (33, 99)
    monkeypatch.setattr(calibrating, "_SCORES", 99 * 20)
    fewer = calibrate(model, pairs).curve("image", "caption")
    assert fewer is not None and fewer.queries == 20


def test_every_match_and_judgments_go_before_own_captions() -> None:
    wide = made_pairs([2] * 30).matches().dense()
    wide[np.arange(29), 2 * np.arange(1, 30)] = True
    model, pairs = noisy([2] * 30, truth=Listed(wide))
    found = calibrate(model, pairs)
    assert {way: (c.truth, c.right) for way, c in found.curves.items()} == {
        ("caption", "image"): ("every match", 89),
        ("image", "caption"): ("every match", 89),
        ("caption", "caption"): ("captions of the same image", 60),
    }
    assert calibrate(model, pairs, truth="own").curves["caption", "image"].right == 60
    extra = wide & ~pairs.matches().dense()
    for truths, right in (({"crowd": Listed(extra)}, 89), ({"graded": Listed(extra)}, 60 + 14)):
        model, pairs = noisy([2] * 30, truths=truths)
        curve = calibrate(model, pairs).curves["image", "caption"]
        assert (curve.truth, curve.right) == ("own captions and what people judged right", right)


def test_a_truth_of_another_split_is_passed_over_unless_named() -> None:
    model, pairs = noisy([2] * 30, truth=Listed(None), truths={"crowd": Listed(None)})
    assert calibrate(model, pairs).curves["caption", "image"].truth == "own captions"
    for name in ("matches", "judged"):
        with pytest.raises(DataError, match="of another split"):
            calibrate(model, pairs, truth=name)
    with pytest.raises(DataError, match="nobody judged"):
        calibrate(*noisy([2] * 30), truth="judged")
    with pytest.raises(UnknownName, match="truth of a calibration 'mine'"):
        calibrate(model, pairs, truth="mine")


def relabelled(pairs: Pairs, **change: Iterator[object]) -> Pairs:
    rows = [dict(zip(change, values, strict=True)) for values in zip(*change.values(), strict=True)]
    return Pairs([replace(item, **row) for item, row in zip(pairs, rows, strict=True)], name="made")


def test_images_match_by_their_class() -> None:
    model, pairs = noisy([1] * 24)
    labels = relabelled(pairs, labels=((("a", "b", "c", "d")[n % 4],) if n else () for n in range(24)))
    # Images of one class lie together.
    centres = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))
    model.kept["images"] = Points(centres[torch.arange(24) % 4] + 0.3 * model.kept["images"].vectors)
    curve = calibrate(model, labels).curve("image", "image")
    assert curve is not None
    # One of "a" has no label: it asks nothing, and is a wrong answer.
    assert (curve.truth, curve.queries, curve.pairs, curve.right) == ("a shared label", 23, 23 * 23, 5 * 4 + 18 * 5)


def test_false_sentences_are_no_right_answers() -> None:
    model, pairs = noisy([1] * 30)
    found = calibrate(model, relabelled(pairs, metadata=({"label": n % 2 == 0} for n in range(30))))
    assert not found.curves
    assert "false of their image" in found.why_not("caption", "image")
    assert "no image has two captions" in found.why_not("caption", "caption")
    assert "nothing, some captions are false" in str(found)


def test_what_cannot_be_learnt_is_said() -> None:
    model, pairs = noisy([1] * 30)
    model.kept = {side: Points(torch.ones(30, 4)) for side in model.kept}
    assert calibrate(model, pairs).why_not("caption", "image").startswith("all scores are equal")
    model, pairs = noisy([2, 2])
    assert "4 right and 4 wrong answers, expected at least 10" in calibrate(model, pairs).why_not("image", "caption")


def test_nothing_and_no_numbers_refuse() -> None:
    with pytest.raises(DataError, match="0 images"):
        calibrate(noisy([2] * 3)[0], Pairs([]))
    model, pairs = noisy([2] * 20)
    model.kept["texts"].vectors[7, 0] = math.nan
    with pytest.raises(DataError, match="'i3#1'"):
        calibrate(model, pairs)


def test_the_pairs_it_was_trained_on_are_noted() -> None:
    model, pairs = noisy([2] * 20)
    model.notes = {"seen": {"training": pairs.digest}}
    assert "trained on" in calibrate(model, pairs).notes[0]


# ---- in a run


SMALL = {"dim": 16, "word_dim": 12, "hidden": 8, "batch": 16, "captions": 2, "least_count": 1}


@pytest.mark.parametrize("name", ["cca", "vsepp"])
def test_a_run_keeps_the_calibration_of_its_validation_pairs(name: str, featured: Pairs, tmp_path: Path) -> None:
    training, held = featured.take(range(48)), featured.take(range(80, 100))
    settings = {} if name == "cca" else SMALL
    lines: list[str] = []
    model = mm.method(name, **settings).build(training)
    config = TrainConfig(epochs=None if name == "cca" else 1)
    model = train(model, training, validate=held, out=tmp_path / "run", config=config, say=lines.append)
    assert model.calibration is not None and model.calibration.data == held.describe()
    assert model.calibration == mm.load(tmp_path / "run").calibration
    assert model.calibration == calibrate(model, held)
    assert sum(line.startswith("calibrated on") for line in lines) == 1
    fingerprint, model.calibration = model.fingerprint(), None
    assert model.fingerprint() == fingerprint
    path = tmp_path / "run" / "run.json"
    run = json.loads(path.read_text())
    kept = run.pop("calibration")
    path.write_text(json.dumps(run))
    assert mm.load(tmp_path / "run").calibration is None
    kept["curves"] = 3
    path.write_text(json.dumps({**run, "calibration": kept}))
    with pytest.raises(CheckpointError, match=r"run\.json.*calibration"):
        mm.load(tmp_path / "run")


def test_without_validation_pairs_there_is_none(featured: Pairs, tmp_path: Path) -> None:
    few = featured.take(range(80))
    model = train(mm.method("cca").build(few), few, out=tmp_path / "run", say=None)
    assert model.calibration is None and "calibration" not in json.loads((tmp_path / "run" / "run.json").read_text())
