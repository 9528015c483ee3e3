"""How sure a difference over images and seeds is, and what becomes of a claim."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from study_fakes import line, row

from manymatch.report.study.claims import bank_gains, paired_tests, verdicts
from manymatch.report.study.gaps import Spread, _Student, gap, spread_of
from manymatch.report.study.lines import Line
from manymatch.report.study.plan import Claim, DataFiles, Plan
from manymatch.report.study.quantities import Measured, Quantity, load_measured, save_measured


def claim(better: str = "good", worse: str | None = "poor", metric: str = "RSUM", **more: float) -> Claim:
    given = {"above": None, "margin": None, "within": None, **more}
    return Claim(
        f"{better}-{worse}", "t", "", better, worse, given["above"], metric, False, given["margin"], given["within"], ""
    )


def plan(*claims: Claim, against: str | None = None) -> Plan:
    rows = tuple(row(name) for name in ("good", "poor", "same"))
    return Plan(Path("x"), "t", "", DataFiles(Path("d")), rows, (), against, ("RSUM",), claims)


def of_seeds(name: str, values: Sequence[float], **more: Any) -> Line:
    """A row of which images say nothing."""
    return Line(row(name), "raw", tuple(range(len(values))), tuple({"x": Quantity(value)} for value in values), **more)


def answered(first: Line, second: Line, *others: Line, **more: float) -> tuple[str, str, float | None]:
    (found,) = verdicts(plan(claim(first.row.name, second.row.name, "x", **more)), [first, second, *others])
    return found.answer, found.why, found.corrected


@pytest.mark.parametrize(("freedom", "expected"), [(1, 12.706), (4, 2.7764), (10, 2.2281), (26, 2.0555), (1e9, 1.9609)])
def test_students_quantiles_are_those_of_the_books(freedom: float, expected: float) -> None:
    student = _Student(freedom)
    assert student.quantile(0.95) == pytest.approx(expected, rel=2e-3)
    assert student.outside(expected) == pytest.approx(0.05, abs=2e-4) and student.outside(0.0) == 1.0


def test_two_rows_of_seeds_alone_are_the_pooled_test_of_the_books() -> None:
    first, second = of_seeds("a", [10.0, 11.0, 12.0]), of_seeds("b", [7.0, 8.0, 9.0])
    spread = spread_of([first, second], "x", "raw")
    assert spread == Spread(1.0, 4)
    found = gap(first, second, "x", spread)
    # t = 3 / sqrt(1/3 + 1/3) = 3.674 of 4 degrees of freedom: p = 0.0213.
    assert found.value == 3.0 and found.images == 0.0 and found.p == pytest.approx(0.0213, abs=2e-4)
    assert (found.low, found.high) == pytest.approx(
        (3 - 2.7764 * math.sqrt(2 / 3), 3 + 2.7764 * math.sqrt(2 / 3)), rel=2e-3
    )


def test_a_row_whose_seeds_agree_by_chance_has_the_spread_of_all() -> None:
    close, wide = of_seeds("a", [10.0, 10.01, 10.02]), of_seeds("b", [0.0, 4.0, 8.0])
    spread = spread_of([close, wide], "x", "raw")
    assert spread is not None and spread.sd == pytest.approx(math.sqrt((0.01**2 + 4**2) / 2))
    assert gap(close, 9.0, "x", spread).seeds == pytest.approx(spread.sd / math.sqrt(3))
    assert gap(wide, 9.0, "x", spread).seeds == pytest.approx(4 / math.sqrt(3)), "its own where that is larger"


def test_what_every_seed_gives_alike_has_no_spread_and_gives_none() -> None:
    # The mean of three times 0.35 is another number.
    same = 0.35
    fixed, noisy = of_seeds("cca", [same] * 3, fixed=True), of_seeds("b", [1.0, 2.0, 3.0])
    spread = spread_of([fixed, noisy], "x", "raw")
    assert spread == Spread(1.0, 2), "a closed form says nothing of how far others' seeds lie apart"
    for alone in (fixed, of_seeds("cca", [same], fixed=True)):
        found = gap(alone, 0.25, "x", spread)
        assert found == gap(alone, 0.25, "x", None) and found.seeds == 0.0 and found.p is None and not found.doubt
    agreeing = of_seeds("a", [same] * 3)
    assert spread_of([agreeing, noisy], "x", "raw") == Spread(math.sqrt(0.5), 4), "trained, its seeds agree by chance"
    assert gap(agreeing, 0.25, "x", spread).seeds == pytest.approx(1 / math.sqrt(3))
    mean = replace(noisy, row=replace(noisy.row, method=None, ensemble=("a", "b")))
    assert spread_of([fixed, mean], "x", "raw") is None, "what is made of others shares runs with them"


@pytest.mark.parametrize(("noise", "most"), [(1.0, 0.06), (8.0, 0.10)])
def test_rows_that_do_not_differ_are_seldom_said_to(noise: float, most: float) -> None:
    """One of eleven rows has seeds farther apart than the others, and three seeds do not tell how far."""
    rng, wrong, times = np.random.default_rng(0), 0, 300
    for _ in range(times):
        loud, *others = [of_seeds(f"r{n}", ((n == 0) * (noise - 1) + 1) * rng.normal(size=3)) for n in range(11)]
        p = gap(loud, others[0], "x", spread_of([loud, *others], "x", "raw")).p
        wrong += p is not None and p < 0.05
    assert wrong <= most * times


def test_collapsed_sets_are_below_every_number_only_where_every_seed_is() -> None:
    spread = of_seeds("good", [-2.0, -2.1, -2.2])
    for first, second in ((spread, "poor"), ("poor", spread)):
        once, always = (
            [of_seeds(each, values) if isinstance(each, str) else each for each in (first, second)]
            for values in ([-math.inf, -2.1, -2.0], [-math.inf] * 3)
        )
        assert answered(*once) == ("not decided", "1 of 3 seeds of poor have no finite number", None)
        assert answered(*always)[0] == ("holds" if second == "poor" else "does not hold")
    assert answered(of_seeds("good", [-math.inf] * 3), of_seeds("poor", [-math.inf] * 3))[0] == "not decided"


def test_what_cannot_be_tested_is_said_plainly() -> None:
    one = "one seed of good, and no rows that say how far seeds lie apart"
    assert answered(of_seeds("good", [2.0]), of_seeds("poor", [1.0])) == ("not decided", one, None)
    assert answered(of_seeds("good", [2.0]), of_seeds("poor", [1.0]), of_seeds("c", [1.0, 1.1]))[2] is not None
    same = "the difference is in the claimed direction, the same in every seed"
    assert answered(of_seeds("good", [1.0] * 3), of_seeds("poor", [0.25] * 3)) == ("holds", same, None)
    assert answered(of_seeds("poor", [0.25] * 3), of_seeds("good", [1.0] * 3))[0] == "does not hold"
    assert answered(of_seeds("good", [1.0] * 3), of_seeds("poor", [0.25] * 3), within=0.5)[0] == "does not hold"
    apart = answered(of_seeds("good", [9.0, 10.0, 11.0]), of_seeds("poor", [1.0, 2.0, 3.0]))
    assert apart[1].endswith("more than seeds explain"), "images have no part in it"
    small = answered(of_seeds("good", [9.0, 9.1, 9.2]), of_seeds("poor", [8.0, 8.1, 8.2]), margin=4.0)
    assert small[:2] == (
        "holds",
        "the difference is in the claimed direction, and more than seeds explain; it is smaller than 4",
    )


def test_images_count_beside_seeds() -> None:
    first, second = (replace(line(name, [value], rng=n), fixed=True) for n, name, value in ((1, "a", 60), (2, "b", 40)))
    found = gap(first, second, "RSUM", None)
    both = [each.found[0]["RSUM"].contributions for each in (first, second)]
    exact = np.std(60 * (both[0] - both[1])) / math.sqrt(60)  # type: ignore[operator]
    assert found.value == pytest.approx(20.0) and found.seeds == 0.0 and found.images == pytest.approx(exact, rel=0.15)


def test_answers() -> None:
    lines = [
        line("good", [80.0, 82.0, 81.0], rng=1, more={"v": 1.0}),
        line("poor", [20.0, 22.0, 21.0], rng=2, more={"v": 3.0}),
        line("same", [81.0, 81.5, 80.0], rng=3),
    ]
    asked = [
        claim(),
        claim("poor", "good"),
        claim("good", "same"),
        claim("poor", "good", margin=5.0),
        claim("poor", "good", "v"),
        claim("good", None, above=50.0),
        claim("good", None, "v", above=1.5),
        claim("good", "other"),
        claim("good", "poor", "RSUMM"),
    ]
    found = verdicts(plan(*asked), lines)
    assert [each.answer for each in found] == [
        "holds",
        "does not hold",
        "not decided",
        "does not hold",
        "holds",
        "holds",
        "does not hold",
        "not measured",
        "not measured",
    ]
    assert found[7].why == "no run of other was measured"
    assert found[8].why == "good has no quantity 'RSUMM'; the nearest that it has is 'RSUM'"
    assert found[0].first == pytest.approx(81, abs=1.5) and found[0].corrected is not None
    assert all(each.corrected >= each.gap.p for each in found if each.gap is not None and each.corrected is not None)


def test_a_small_gap_is_no_gap_only_where_that_is_shown() -> None:
    wide = [of_seeds("good", [9.0, 10.0, 11.0]), of_seeds("poor", [9.1, 9.9, 11.0])]
    assert verdicts(plan(claim(metric="x")), wide)[0].answer == "not decided"
    assert verdicts(plan(claim(metric="x", margin=1.0)), wide)[0].answer == "not decided"
    assert verdicts(plan(claim(metric="x", margin=9.0)), wide)[0].answer == "does not hold"
    assert verdicts(plan(claim(metric="x", within=1.0)), wide)[0].answer == "not decided"
    assert verdicts(plan(claim(metric="x", within=9.0)), wide)[0].answer == "holds"
    far = [of_seeds("good", [19.0, 20.0, 21.0]), wide[1]]
    assert verdicts(plan(claim(metric="x", within=1.0)), far)[0].answer == "does not hold"


def test_rows_are_tested_in_their_own_state_and_corrected_together() -> None:
    lines = [
        line("good", [80.0, 82.0], rng=1),
        line("good", [90.0, 92.0], rng=1, state="bank"),
        line("poor", [40.0, 42.0], rng=2),
        line("same", [79.0, 83.0], rng=5),
    ]
    found = paired_tests(plan(against="good"), lines)
    assert [(each.row, each.other, each.state) for each in found] == [("poor", "good", "raw"), ("same", "good", "raw")]
    assert found[0].difference == pytest.approx(-40, abs=2) and found[0].corrected < 0.01 < found[1].corrected
    assert found[0].low is not None and found[0].high is not None and found[0].low < found[0].difference < found[0].high
    assert found[0].corrected == pytest.approx(2 * found[0].p)
    (gain,) = bank_gains(plan(), lines)
    assert (gain.row, gain.state) == ("good", "bank") and gain.difference == pytest.approx(10, abs=2)


def test_what_was_measured_is_read_again_as_it_was(tmp_path: Path) -> None:
    quantities = {**line("a", [50.0]).found[0], "v": Quantity(-math.inf), "w": Quantity(0.1)}
    save_measured(tmp_path / "m" / "x.npz", Measured("key", quantities, ("a note",)))
    found = load_measured(tmp_path / "m" / "x.npz", "key")
    assert found is not None and found.notes == ("a note",) and list(found.quantities) == list(quantities)
    for name, each in quantities.items():
        assert found.quantities[name].value == each.value
        for kind in ("contributions", "drawn"):
            np.testing.assert_equal(getattr(found.quantities[name], kind), getattr(each, kind))
    assert load_measured(tmp_path / "m" / "x.npz", "other") is None and load_measured(tmp_path / "no", "key") is None
    whole = (tmp_path / "m" / "x.npz").read_bytes()
    middle = len(whole) // 2
    for damaged in (b"damaged", b"", whole[:middle], whole[:200] + bytes(60) + whole[260:], whole[:-middle] + b"PK"):
        (tmp_path / "m" / "x.npz").write_bytes(damaged)
        assert load_measured(tmp_path / "m" / "x.npz", "key") is None
