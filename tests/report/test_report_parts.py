"""Markup, scales, charts, standings, marks, what is chosen, and what elements attend to."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from report_fakes import Checked, small

from manymatch.data.matches import Matches
from manymatch.data.pairs import Item, Pairs
from manymatch.evaluation import MatrixScores
from manymatch.report.axes import scale_of, short
from manymatch.report.charts import Interval, Series, bars, heat, histogram, intervals, line_chart, scatter
from manymatch.report.choosing import choose, different, worst
from manymatch.report.element_map import flatten
from manymatch.report.markup import Html, join, tag
from manymatch.report.right import Right
from manymatch.report.standing import standing
from manymatch.report.times import query_time

NUMBERS = st.floats(-1e9, 1e9, allow_nan=False)


@given(st.text(), st.text())
def test_no_text_becomes_markup(inside: str, value: str) -> None:
    made = tag("p", inside, tag("b", "x"), title=value)
    assert Checked(made).names == {"p", "b"}
    made.encode("utf-8")


def test_markup() -> None:
    assert tag("td", None, 3, class_="a b", colspan=None, hidden=True) == '<td class="a b" hidden>3</td>'
    assert tag("line", x1=1, stroke_width=2) == '<line x1="1" stroke-width="2"/>'
    assert tag("meta", charset="utf-8") == '<meta charset="utf-8">'
    assert join(["<", Html("<b>"), None], ", ") == "&lt;, <b>"


@given(st.lists(NUMBERS, max_size=8), st.booleans(), st.booleans())
def test_a_scale_holds_its_values(values: list[float], zero: bool, whole: bool) -> None:
    scale = scale_of(values, zero=zero, whole=whole)
    edge = 1e-6
    assert scale.low < scale.high and all(-edge <= scale(value) <= 1 + edge for value in values)
    assert all(-edge <= scale(tick) <= 1 + edge for tick in scale.ticks)
    assert len(scale.ticks) <= 12


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=8))
def test_a_logarithmic_scale_holds_its_values(values: list[float]) -> None:
    scale = scale_of(values, log=True)
    assert all(-1e-6 <= scale(value) <= 1 + 1e-6 for value in values)
    assert 2 <= len(scale.ticks) <= 14


def test_numbers_as_people_write_them() -> None:
    assert [short(v) for v in (0.0, 0.25, -1.5, 1234.6, 1e-5, -math.inf)] == [
        "0",
        "0.25",
        "−1.5",
        "1,235",
        "1e−5",
        "−∞",
    ]


def test_charts_are_pictures_with_a_name() -> None:
    points = [(1.0, 2.0), (2.0, math.nan), (3.0, 4.0)]
    series = [Series("a & b", points, 0), Series("none", [], 1), Series("c", [(2.0, 2.0)], 2)]
    pictures = [
        line_chart("curves", series, "epoch", "loss"),
        line_chart("curves", series, "epoch", "loss", small=True),
        scatter("points", series, "x", "y", log_x=True, named=True, trend=[(1.0, 2.0), (3.0, 4.0)]),
        histogram("counts", series, "x"),
        intervals("rows", [Interval("a", 1.0, 0.5, 1.5), Interval("b", 2.0, None, None, 1)], "RSUM"),
        bars("bars", [0.0, 0.2], ["0", "1"]),
        heat("cells", [[0.1, 0.9], [0.0, 0.2]], (["1", "2"], ["1", "2"]), ("captions", "images")),
    ]
    for picture in pictures:
        assert {"svg", "title"} <= Checked(picture).names
        assert 'role="img"' in picture and "nan" not in picture and "inf" not in picture


@given(st.integers(1, 5), st.integers(1, 7), st.integers(0, 10**6))
def test_standing_is_what_sorting_says(queries: int, gallery: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, (queries, gallery)).astype(np.float32)
    truth = Matches.from_dense(rng.random((queries, gallery)) < 0.4)
    found = standing(MatrixScores({"i2t": scores}), "i2t", truth, 3)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :3]
    assert (found.top == order).all() and (found.scores == np.take_along_axis(scores, order, 1)).all()
    right = truth.dense()
    for q in range(queries):
        if not right[q].any():
            assert found.rank[q] == 0 and found.first[q] == -1
            continue
        best = scores[q][right[q]].max()
        assert right[q, found.first[q]] and scores[q, found.first[q]] == best
        wrong = int(((scores[q] == best) & ~right[q]).sum())
        assert found.rank[q] == 1 + int((scores[q] > best).sum()) + wrong // 2


def test_marks_say_whose_and_how_far() -> None:
    items = [Item("a", ("1", "2"), labels=("x", "y")), Item("b", ("3",), labels=("y", "z", "w")), Item("c", ("4",))]

    class Truth:
        def matches(self, pairs: Pairs) -> Matches:
            return Matches.of([0, 1], [2, 2], (3, 4))

    class Grades:
        def grades(self, pairs: Pairs) -> tuple[Matches, np.ndarray]:
            return Matches.of([2], [0], (3, 4)), np.array([3.25])

    right = Right(Pairs(items, truth=Truth(), truths={"graded": Grades()}))
    assert right.truth == "matches" and right.counts("t2i").tolist() == [1, 1, 2, 1]
    assert right.counts("i2t").tolist() == [3, 1, 1] and right.listed("i2t").tolist() == [1, 1, 0]
    assert right.mark("t2i", 0, 0).sign == right.mark("i2t", 0, 0).sign == "own"
    for mark in (right.mark("t2i", 2, 0), right.mark("i2t", 0, 2)):
        assert (mark.sign, mark.notes) == ("match", ("ζ 3",))
    assert right.mark("t2i", 0, 2).notes == ("grade 3.2",) and right.mark("t2i", 0, 2).sign == ""
    assert right.mark("t2i", 0, 1).sign == "" and "grade" in right.explained and "ζ" in right.explained
    plain = Right(Pairs(items[2:]))
    assert plain.truth == "" and plain.explained == "“own” marks a caption and its own image."


def test_queries_are_chosen_for_a_reason() -> None:
    first, second = np.array([1, 50, 3, 9, 0, 2, 2, 2]), np.array([40, 1, 3, 9, 1, 2, 2, 2])
    images, spread = np.arange(8), np.array([0, 0, 0, 0, 9, 0, 5, 0.0])
    found = choose([first, second], [(spread, "ambiguous")], ["a", "b"], images, 6, 0)
    assert [(c.query, c.why) for c in found[:3]] == [(0, "a is ahead"), (1, "b is ahead"), (6, "ambiguous")]
    assert len(found) == 6 and 4 not in {c.query for c in found}, "a query without a right answer is not shown"
    assert len({c.query for c in found}) == 6
    same = choose([first, first], [], ["a", "b"], images, 4, 0)
    assert {c.why for c in same} == {"drawn at random"}
    assert [c.query for c in choose([first], [], ["a"], np.zeros(8, np.int64), 5, 0)] == [same[0].query]
    assert worst(first, images, 3) == [1, 3, 2] and worst(np.ones(3, np.int64), images, 3) == []
    assert different([2, 0, 1], ["x", "y", "x"], 5) == [2, 1]


def test_a_map_keeps_what_two_directions_can_hold() -> None:
    flat = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]], [[-1.0, 0.0, 0.0], [0.0, -2.0, 0.0]]])
    found = flatten(flat)
    assert found.kept == pytest.approx(1.0)
    pairwise = torch.cdist(torch.from_numpy(found.places).flatten(0, 1), torch.from_numpy(found.places).flatten(0, 1))
    assert torch.allclose(pairwise.float(), torch.cdist(flat.flatten(0, 1), flat.flatten(0, 1)), atol=1e-5)
    same = flatten(torch.ones(2, 2, 3))
    assert same.kept == 1.0 and np.abs(same.places).max() == 0


def test_time_is_the_median_query(world: Pairs) -> None:
    model = small(world, "vsepp").eval()
    few = world.take(range(4))
    ticks = iter(np.arange(1000.0))
    assert query_time(model, few.captions, model.encode_images(few.images), clock=lambda: float(next(ticks))) == 1.0
