"""`compare`: tests over images that mean what they say, seeds apart, every run on the same pairs."""

from __future__ import annotations

import itertools
import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_fakes import FakeModel, made_pairs, one_hot
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import manymatch as mm
from manymatch.data.pairs import Item, Pairs
from manymatch.embeddings import Points, Sets
from manymatch.errors import CheckpointError, DataError, UnknownName
from manymatch.evaluation import compare, evaluate
from manymatch.evaluation.measures import Mean, Median, interval, resampled
from manymatch.evaluation.seeds import seed_groups
from manymatch.evaluation.significance import Difference, holm, randomisation_test
from manymatch.runs import save_search
from manymatch.similarity import SmoothChamfer

IMAGES, CAPTIONS = 40, 5


def noisy(name: str, noise: float, seed: int, images: int = IMAGES) -> FakeModel:
    """Captions near their image; the more noise, the worse."""
    draw = torch.Generator().manual_seed(seed)
    base = torch.randn(images, 8, generator=torch.Generator().manual_seed(99))
    owner = torch.arange(images).repeat_interleave(CAPTIONS)
    sides = [near + noise * torch.randn(near.shape, generator=draw) for near in (base, base[owner])]
    return FakeModel(Points(sides[0]), Points(sides[1]), name=name)


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    return made_pairs([CAPTIONS] * IMAGES)


# ---- the randomisation test


def test_exact_equals_every_sign_by_hand():
    differences = np.array([[3.0, 1.0], [-1.0, 0.0], [2.0, -1.0], [0.0, 0.0]])
    # 3, -1, 2: sums of all signs are 6, 4, 2, 0 and their negatives; the sum is 4, and 4 of 8 are as far.
    # 1, -1: the sum is 0, and no sign comes nearer.
    assert randomisation_test(differences).tolist() == [0.5, 1.0]


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=9))
def test_exact_equals_brute_force(values: list[int]):
    signs = np.array(list(itertools.product((1, -1), repeat=len(values))))
    expected = np.mean(np.abs(signs @ values) >= abs(sum(values)))
    assert randomisation_test(np.array(values, float)[:, None]).item() == expected


def test_random_signs_come_near_the_exact_p():
    values = np.random.default_rng(5).normal(0.3, 1.0, (12, 1))
    exact = randomisation_test(values, times=2**12).item()
    assert randomisation_test(values, times=2**12 - 1).item() == pytest.approx(exact, abs=0.02)
    assert randomisation_test(values, times=2**12 - 1).item() != exact


def test_p_is_uniform_where_nothing_differs():
    """Five captions an image, alike within it as captions of one photo are; no system is better."""
    rng = np.random.default_rng(0)
    differences = (rng.normal(size=(50, 600)) * rng.exponential(1.0, (50, 1))).round(1)
    p = np.sort(randomisation_test(differences, times=499))
    assert np.abs(p - (np.arange(600) + 0.5) / 600).max() < 0.07
    assert np.mean(p <= 0.05) == pytest.approx(0.05, abs=0.025)


def test_a_difference_in_every_image_is_as_sure_as_the_swaps_allow():
    assert randomisation_test(np.full((100, 1), 0.1), times=999).item() == 1 / 1000
    assert randomisation_test(np.full((3, 1), 0.1)).item() == 2 / 8


def test_no_p_depends_on_what_else_is_tested():
    differences = np.random.default_rng(1).normal(size=(70, 4))
    together = randomisation_test(differences, times=500)
    assert [randomisation_test(differences[:, [n]], times=500).item() for n in range(4)] == together.tolist()


def test_holm_by_hand():
    # Sorted: .005 x 4 = .02, .01 x 3 = .03, .03 x 2 = .06, .04 x 1 = .04 but not below .06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0.0001, 1.0), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_none_and_bonferroni(p: list[float]):
    corrected = holm(p)
    assert all(one <= two <= min(1.0, len(p) * one) + 1e-12 for one, two in zip(p, corrected, strict=True))
    assert [corrected[n] for n in np.argsort(p)] == sorted(corrected)


# ---- the difference of two measures


def shares(seed: int, repeat: int = 1) -> Mean:
    values = np.random.default_rng(seed).random(30).round(1)
    return Mean(np.repeat(values, repeat), np.repeat(np.arange(30), repeat))


def test_swapping_the_runs_mirrors_the_difference():
    weights = resampled(30, 400)
    one, other = Difference(shares(1), shares(2)), Difference(shares(2), shares(1))
    assert one.value == -other.value
    assert interval(one, weights) == pytest.approx([-end for end in interval(other, weights)[::-1]])
    p = [randomisation_test(each.contributions(30)[:, None], times=300).item() for each in (one, other)]
    assert p[0] == p[1]


def test_captions_of_one_image_add_no_certainty():
    """The same answer five times an image is no more than once."""
    weights = resampled(30, 400)
    once, often = (Difference(shares(1, n), shares(2, n)) for n in (1, 5))
    assert interval(often, weights) == pytest.approx(interval(once, weights))
    p = [randomisation_test(each.contributions(30)[:, None], times=300).item() for each in (once, often)]
    assert p[0] == p[1]


def test_a_paired_interval_is_narrower_than_the_difference_of_two_apart():
    weights = resampled(30, 400)
    base = shares(1)
    better = Mean(np.minimum(base.values + 0.1, 1.1), base.images)
    low, high = interval(Difference(better, base), weights)
    assert (low, high) == pytest.approx((10, 10))


def test_what_is_no_sum_has_no_contributions():
    ranks = Median(np.array([1.0, 2.0, 9.0]), np.arange(3))
    assert Difference(ranks, ranks).contributions(3) is None
    assert interval(Difference(ranks, ranks), resampled(3, 50)) == (0, 0)


# ---- compare


def test_every_run_against_the_first(pairs):
    models = [noisy("a", 1.0, 1), noisy("b", 0.3, 2), noisy("c", 1.0, 3)]
    found = compare(models, pairs, swaps=999)
    tested = [(row["run"], row["other"], row["direction"], row["metric"]) for row in found.rows]
    metrics = [("i2t", "R@1"), ("t2i", "R@1"), ("both", "RSUM")]
    assert tested == [(run, "a", *metric) for run in "bc" for metric in metrics]
    assert {row["comparisons"] for row in found.rows} == {6}
    assert {row["images"] for row in found.rows} == {IMAGES}
    assert [row["p_corrected"] for row in found.rows] == holm([row["p"] for row in found.rows])
    for row in found.rows:
        assert row["difference"] == row["value"] - row["other_value"]
        assert row["low"] <= row["difference"] <= row["high"]
    best, same = found.rows[2], found.rows[5]
    assert best["difference"] > 20 and best["low"] > 0 and best["p"] == 1 / 1000
    assert same["low"] < 0 < same["high"] and same["p"] > 0.05


def test_measured_rows_are_those_of_evaluate(pairs):
    models = [noisy("a", 0.5, 1), noisy("b", 0.3, 2)]
    alone = [row for model in models for row in evaluate(model, pairs, resamples=200).rows]
    assert compare(models, pairs, resamples=200).measured.rows == alone


def test_the_order_of_runs_mirrors_the_table(pairs):
    one, two = noisy("a", 0.6, 1), noisy("b", 0.5, 2)
    there, back = (compare(each, pairs, swaps=300).rows for each in ([one, two], [two, one]))
    for first, second in zip(there, back, strict=True):
        assert (first["run"], first["other"]) == (second["other"], second["run"])
        assert first["difference"] == -second["difference"] and first["p"] == second["p"]
        assert (first["low"], first["high"]) == pytest.approx((-second["high"], -second["low"]))


def test_all_pairs_are_corrected_for_all(pairs):
    models = [noisy(name, 0.5, n) for n, name in enumerate("abc")]
    found = compare(models, pairs, all_pairs=True, metric="RSUM", swaps=99)
    assert [(row["run"], row["other"]) for row in found.rows] == [("b", "a"), ("c", "a"), ("c", "b")]
    assert {row["comparisons"] for row in found.rows} == {3}
    assert "c - b" in str(found) and "for 3 comparisons (Holm)" in str(found)


def test_metrics_are_chosen(pairs):
    models = [noisy("a", 0.5, 1), noisy("b", 0.3, 2)]
    chosen = compare(models, pairs, metric=["t2i R@5", "median rank"], swaps=99)
    assert [(r["direction"], r["metric"]) for r in chosen.rows] == [
        ("t2i", "R@5"),
        ("i2t", "median rank"),
        ("t2i", "median rank"),
    ]
    assert [row["p"] is None for row in chosen.rows] == [False, True, True]
    assert [row["comparisons"] for row in chosen.rows] == [1, None, None]
    assert str(chosen).count("no p of median rank") == 1
    assert len(compare(models, pairs, metric="all", swaps=99).rows) == 11
    with pytest.raises(UnknownName, match=r"unknown metric 'median': did you mean 'median rank'"):
        compare(models, pairs, metric="median")


def test_a_protocol_without_the_usual_metrics_is_compared_by_its_first(pairs, monkeypatch):
    from manymatch.evaluation.protocols import PROTOCOLS, own

    class Middle(own.Own):
        name = "middle"

        def measure(self, found):
            for direction in (found.i2t, found.t2i):
                yield from direction.precisions()

    monkeypatch.setitem(PROTOCOLS, "middle", Middle())
    found = compare([noisy("a", 0.5, 1), noisy("b", 0.3, 2)], pairs, protocol="middle", swaps=99)
    assert [(r["direction"], r["metric"]) for r in found.rows] == [("i2t", "R-precision"), ("t2i", "R-precision")]


def test_what_one_run_lacks_is_said(pairs, monkeypatch):
    from manymatch.evaluation.protocols import PROTOCOLS, own

    class OfSets(own.Own):
        name = "of sets"

        def measure(self, found):
            yield from found.i2t.hits(1)
            if isinstance(found.images, Sets):
                yield from found.t2i.hits(1)

    monkeypatch.setitem(PROTOCOLS, "of sets", OfSets())
    point = noisy("a", 0.5, 1)
    a_set = [Sets(torch.nn.functional.normalize(point.kept[s].vectors, dim=-1)[:, None]) for s in ("images", "texts")]
    found = compare([point, FakeModel(*a_set, SmoothChamfer(), name="b")], pairs, protocol="of sets", swaps=99)
    assert [row["direction"] for row in found.rows] == ["i2t"]
    assert "a is not compared by of sets t2i R@1, which it does not have" in found.notes


def test_json_is_flat_rows_of_every_table(pairs):
    found = compare([noisy("a", 0.5, 1), noisy("b", 0.3, 2)], pairs, swaps=99)
    rows = json.loads(found.json())
    assert {row["table"] for row in rows} == {"measured", "compared"}
    assert [{k: v for k, v in row.items() if k != "table"} for row in rows if row["table"] == "compared"] == found.rows
    fields = (
        "run other protocol direction metric value other_value difference low high p p_corrected comparisons images"
    )
    assert list(found.rows[0]) == fields.split()


def test_no_resamples_no_intervals(pairs):
    found = compare([noisy("a", 0.5, 1), noisy("b", 0.3, 2)], pairs, resamples=0, swaps=99)
    assert {(row["low"], row["high"]) for row in found.rows} == {(None, None)}
    assert "95 %" not in str(found) and "p: paired" in str(found)


def test_slips_are_told(pairs):
    a, b = noisy("a", 0.5, 1), noisy("b", 0.3, 2)
    with pytest.raises(DataError, match="found 1 runs, expected at least two"):
        compare([a], pairs)
    with pytest.raises(DataError, match="'a' is there twice, expected every run once"):
        compare([a, a], pairs)
    assert compare([a, a], pairs, labels=["x", "y"], swaps=9).rows[0]["p"] == 1
    with pytest.raises(DataError, match="1 labels of 2 runs"):
        compare([a, b], pairs, labels=["x"])
    with pytest.raises(UnknownName, match="unknown ties 'fair'"):
        compare([a, b], pairs, ties="fair")
    with pytest.raises(DataError, match="0 swaps, expected at least 1"):
        compare([a, b], pairs, swaps=0)
    with pytest.raises(CheckpointError, match="no such folder"):
        compare([a, "nowhere"], pairs)
    b.kept["texts"].vectors[2, 0] = np.nan
    with pytest.raises(DataError, match="b: caption 'i0#2': its embedding holds a NaN"):
        compare([a, b], pairs)


def test_pairs_a_run_has_seen_are_said(pairs):
    a, b = noisy("a", 0.5, 1), noisy("b", 0.3, 2)
    b.notes = {"seen": {"training": pairs.digest}}
    assert "b was trained on these very pairs: no test of it" in compare([a, b], pairs, swaps=9).notes


class OneBad:
    """Pictures, one of which does not decode."""

    def read(self, name: str) -> bytes:
        out = BytesIO()
        Image.new("RGB", (4, 4), (int(name[0]), 0, 0)).save(out, "PNG")
        return b"no picture" if name == "1.png" else out.getvalue()


def test_every_run_sees_the_same_pairs():
    items = [Item(f"i{n}", (f"caption {n}",), picture=f"{n}.png") for n in range(4)]
    pairs = Pairs(items, pictures=OneBad(), name="folder")
    sides = one_hot(np.arange(3), 3)
    features, pixels = FakeModel(*sides, name="f"), FakeModel(*sides, name="p", reads="pixels")
    found = compare([features, pixels], pairs, swaps=9)
    assert features.seen == pixels.seen == {"images": 3, "texts": 3}
    assert sum("1 of 4 images could not be read" in note for note in found.notes) == 1


# ---- seeds


def test_groups_are_runs_that_differ_in_the_seed_alone():
    identity = {"method": "dive", "dim": 8, "training pairs": "x"}
    identities = {
        "dive-10": {**identity, "seed": 0},
        "dive-11": {**identity, "seed": 1},
        "wide-0": {**identity, "dim": 9, "seed": 0},
        "other": None,
        "again": {**identity, "seed": 1},
        "b_seed1": {**identity, "epochs": 3, "seed": 1},
        "b_seed2": {**identity, "epochs": 3, "seed": 2},
    }
    groups, notes = seed_groups(identities)
    assert [(group.name, group.runs) for group in groups] == [
        ("dive", ("dive-10", "dive-11")),
        ("b", ("b_seed1", "b_seed2")),
    ]
    assert notes == ["again is dive-11 once more, seed and all: in the spread over seeds one of them counts"]


SMALL = {"dim": 8, "word_dim": 6, "hidden": 4, "least_count": 1}


@pytest.fixture(scope="module")
def folders(featured: Pairs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Untrained runs: a-0, a-1, a-2 and b-0, b-1 differ within each letter in the seed alone."""
    out = {}
    top = tmp_path_factory.mktemp("runs")
    for name in ("a-0", "a-1", "a-2", "b-0", "b-1"):
        method = mm.method("vsepp" if name[0] == "a" else "dive", **SMALL)
        model = method.build(featured, seed=int(name[2]))
        out[name] = top / name
        identity = {"method": model.name, "seed": int(name[2])}
        save_search(model, out[name], {"identity": identity, "finished": name != "b-1"})
    return out


def test_the_spread_over_seeds_is_apart(folders, featured):
    some = featured.take(range(30))
    found = compare(list(folders.values()), some, protocol="own", swaps=99)
    assert [row["run"] for row in found.rows] == [name for name in list(folders)[1:] for _ in range(3)]
    assert [(row["group"], row["metric"], row["seeds"]) for row in found.seeds[::3]] == [
        ("a", "R@1", 3),
        ("b", "R@1", 2),
    ]
    sums = {row["run"]: row["value"] for row in found.measured.rows if row["metric"] == "RSUM"}
    a, b = ([value for run, value in sums.items() if run[0] == letter] for letter in "ab")
    spread = next(row for row in found.seeds if (row["group"], row["metric"]) == ("a", "RSUM"))
    assert spread["mean"] == pytest.approx(np.mean(a)) and spread["sd"] == pytest.approx(np.std(a, ddof=1))
    assert (spread["min"], spread["max"]) == (min(a), max(a))
    between = next(row for row in found.groups if row["metric"] == "RSUM")
    assert (between["group"], between["other"]) == ("b", "a")
    assert between["difference"] == pytest.approx(np.mean(b) - np.mean(a))
    assert between["standard_error"] == pytest.approx(np.sqrt(np.var(a, ddof=1) / 3 + np.var(b, ddof=1) / 2))
    assert {row["table"] for row in json.loads(found.json())} == {"measured", "compared", "seeds", "groups"}
    shown = str(found)
    assert shown.index("compared with a-0") < shown.index("over training seeds") < shown.index("means over seeds")
    assert "say nothing about other seeds" in shown and "says nothing about other images" in shown
    assert "b-1 is not trained to its end" in found.notes


def test_without_two_seeds_that_is_said(folders, featured):
    found = compare([folders["a-0"], folders["b-0"]], featured.take(range(20)), protocol="own", swaps=99)
    assert found.seeds == found.groups == []
    assert "no two runs differ in the seed alone" in str(found)


def test_folders_of_one_name_are_told_apart(folders, tmp_path, featured):
    for name, run in (("x", "a-0"), ("y", "a-1")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run").symlink_to(folders[run])
    moved = [tmp_path / name / "run" for name in "xy"]
    found = compare(moved, featured.take(range(10)), protocol="own", metric="RSUM", swaps=9).rows[0]
    assert (found["run"], found["other"]) == ("y/run", "x/run")
