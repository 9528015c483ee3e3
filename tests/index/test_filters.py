"""Filters, facets and groups: against plain Python over the same metadata."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_fakes import caption, empty_store, image

from manymatch.errors import DataError, UnknownName
from manymatch.index.filters import Condition, Where, parse_where, read_where
from manymatch.index.store.changes import Transaction
from manymatch.index.store.store import Store

# ---- reading


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("year>=2000", Condition("year", "range", bounds=(("gte", 2000),))),
        (" year < -1.5e3 ", Condition("year", "range", bounds=(("lt", -1500.0),))),
        ("day<=2024-05-01", Condition("day", "range", bounds=(("lte", "2024-05-01"),))),
        ("a.b > x", Condition("a.b", "range", bounds=(("gt", "x"),))),
        ("tag=dog|cat", Condition("tag", "in", values=("dog", "cat"))),
        ("code=007", Condition("code", "in", values=("007", 7))),
        ("ok=true|no", Condition("ok", "in", values=("true", 1, "no"))),
        ("n=1e400", Condition("n", "in", values=("1e400",))),
        ("n=nan", Condition("n", "in", values=("nan",))),
        ("link=a=b", Condition("link", "in", values=("a=b",))),
        ("title~deep snow, Snow", Condition("title", "text", words=("deep", "snow"))),
        ("note", Condition("note", "exists")),
        ("!a note", Condition("a note", "exists", present=False)),
    ],
)
def test_forms_of_the_command_line(form: str, expected: Condition) -> None:
    assert parse_where([form]) == Where((expected,))


@pytest.mark.parametrize(
    ("form", "wrong"),
    [
        ("year>", "nothing after '>'"),
        ("year==2000", "found '=2000' after '='"),
        ("year=>2000", "found '>2000' after '='"),
        ("=2", "no condition of a known form"),
        ("", "no condition of a known form"),
        ("!", "no condition of a known form"),
        ("!year=2000", "no condition of a known form"),
        ("year!=2000", "no condition of a known form"),
        ("tag=dog|", r"nothing beside a '\|'"),
        ("title~ -!", "expected at least one word"),
        ("tag=\udcff", "not valid Unicode"),
    ],
)
def test_other_forms_teach(form: str, wrong: str) -> None:
    with pytest.raises(DataError, match=wrong) as told:
        parse_where([form])
    assert "word" in wrong or "Unicode" in wrong or "tag=dog|cat (one of)" in str(told.value)


def test_python_form() -> None:
    where = read_where(
        {"year": {"gte": 2000, "lt": 2010, "exists": True}, "tag": ["dog", 7], "ok": True, "t": {"text": "deep snow"}}
    )
    assert where.conditions == (
        Condition("year", "exists"),
        Condition("year", "range", bounds=(("gte", 2000), ("lt", 2010))),
        Condition("tag", "in", values=("dog", 7)),
        Condition("ok", "in", values=(1,)),
        Condition("t", "text", words=("deep", "snow")),
    )
    assert read_where(where) is where and not read_where(None) and not read_where({})
    assert read_where({"a": {"in": "dog"}}) == read_where({"a": "dog"}) == read_where({"a": {"dog"}})
    assert read_where({"a": [np.int64(3), np.float32(0.5)]}).conditions[0].values == (3, 0.5)
    assert where.fields == ("year", "tag", "ok", "t") and read_where({"a": {"exists": False}}).fields == ()


@pytest.mark.parametrize(
    ("where", "wrong"),
    [
        ("year>2000", "expected a mapping"),
        ({"": 1}, "expected a name that is not empty"),
        ({3: 1}, "expected a name that is not empty"),
        ({"a": None}, r'compared with None, .*write \{"exists": False\}'),
        ({"a": float("nan")}, "compared with nan"),
        ({"a": [b"x"]}, "compared with b'x'"),
        ({"a": {"gt": [1]}}, r"compared with \[1\]"),
        ({"a": {"gt": 1, "lt": "x"}}, "expected numbers only or text only"),
        ({"a": {"exists": 1}}, "expected True or False"),
        ({"a": {"text": 3}}, "expected at least one word"),
        ({"a": {}}, "expected at least one of gt, gte"),
        ({"a": "\ud800"}, "not valid Unicode"),
        ({"\ud800": 1}, "not valid Unicode"),
    ],
)
def test_what_python_may_not_ask(where: Any, wrong: str) -> None:
    with pytest.raises(DataError, match=wrong):
        read_where(where)


def test_an_unknown_operator() -> None:
    with pytest.raises(UnknownName, match="unknown operator of field 'year' 'getext': did you mean 'text'"):
        read_where({"year": {"getext": 2000}})


# ---- asking

_NAMES = ["a", "b", "labels"]
_WORDS = ["snow", "Snow", "schnee", "schnée", "dog", "2004", "", "snow dog", "Dog; SNOW-schnee", "2004-05-01", "z"]
_SCALARS = st.one_of(
    st.sampled_from(_WORDS),
    st.integers(-3, 3),
    st.sampled_from([2004, 2**62, 2**70, -(2**80), 0.5, 2004.0, -1.5, 1e300]),
    st.booleans(),
)
_LEAVES = st.one_of(_SCALARS, st.none(), st.lists(_SCALARS, max_size=3))
_METADATA = st.dictionaries(
    st.sampled_from(["a", "b", "b.a"]),
    st.one_of(_LEAVES, st.dictionaries(st.sampled_from("ab"), _LEAVES, max_size=2)),
    min_size=1,
)
_LABELS = st.lists(st.sampled_from(_WORDS), max_size=2)
_ITEM = st.tuples(_METADATA, _LABELS, st.integers(0, 2), st.booleans())

_NUMBERS = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, 2004, 2**70, 1e300]))
_BOUND = st.sampled_from(["gt", "gte", "lt", "lte"])
_OPERATORS = st.one_of(
    st.fixed_dictionaries({"in": st.lists(_SCALARS, max_size=3)}),
    st.dictionaries(_BOUND, _NUMBERS, min_size=1, max_size=2),
    st.dictionaries(_BOUND, st.sampled_from(_WORDS), min_size=1, max_size=2),
    st.fixed_dictionaries({"exists": st.booleans()}),
    st.fixed_dictionaries({"text": st.sampled_from([word for word in _WORDS if word])}),
)
_WHERE = st.dictionaries(st.sampled_from([*_NAMES, "b.a", "none"]), _OPERATORS, max_size=2)


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else key, inner)
    elif isinstance(value, list):
        for member in value:
            yield from _flat(name, member)
    elif value is not None:
        yield name, value


def _facts(metadata: Mapping[str, Any], labels: list[str]) -> dict[str, list[Any]]:
    out: dict[str, list[Any]] = {}
    for name, value in [*_flat("", dict(metadata)), *(("labels", label) for label in labels)]:
        held = out.setdefault(name, [])
        # What SQLite cannot hold as a whole number is a float.
        held += [
            v for v in [float(value) if not isinstance(value, str) and abs(value) >= 2**63 else value] if v not in held
        ]
    return out


def _folded(text: str) -> set[str]:
    plain = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if not unicodedata.combining(c))
    return set(re.findall(r"[a-z0-9]+", plain))


def _holds(operators: Mapping[str, Any], values: list[Any]) -> bool:
    def fits(name: str, wanted: Any, value: Any) -> bool:
        if name == "in":
            return value in wanted
        if name == "text":
            return isinstance(value, str) and _folded(wanted) <= _folded(value)
        if isinstance(wanted, str) != isinstance(value, str):
            return False
        return bool({"gt": value > wanted, "gte": value >= wanted, "lt": value < wanted, "lte": value <= wanted}[name])

    if "exists" in operators:
        return bool(values) == operators["exists"]
    return any(all(fits(name, wanted, value) for name, wanted in operators.items()) for value in values)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return empty_store(tmp_path_factory.mktemp("filters"))


class _Undone(Exception):
    pass


def _fill(change: Transaction, items: list[Any]) -> dict[int, tuple[str, dict[str, list[Any]]]]:
    """Images with captions, and captions alone; row -> modality and the facts that filters of it read."""
    subjects: dict[str, dict[str, list[Any]]] = {}
    for n, (metadata, labels, captions, alone) in enumerate(items):
        facts = _facts(metadata, labels)
        if alone:
            change.put("caption", [caption(f"c{n}", "red", None, metadata=metadata, labels=labels)])
            subjects[f"c{n}"] = facts
            continue
        change.put("image", [image(f"i{n}", metadata, labels=labels)])
        own = {"metadata": {"a": "of the caption"}, "labels": ["x"]}
        change.put("caption", [caption(f"i{n}#{c}", "blue", f"i{n}", **own) for c in range(captions)])
        subjects |= {f"i{n}": facts, **{f"i{n}#{c}": facts for c in range(captions)}}
    rows = {change.item(id).row: (change.item(id).modality, facts) for id, facts in subjects.items()}
    return dict(sorted(rows.items()))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(items=st.lists(_ITEM, min_size=3, max_size=8), asked=_WHERE, start=st.integers(0, 5))
def test_filters_facets_and_groups_are_those_of_plain_python(
    store: Store, items: list[Any], asked: dict[str, Any], start: int
) -> None:
    with pytest.raises(_Undone), store.writing() as change:
        rows = _fill(change, items)
        for modality in ("image", "caption"):
            of = {row: facts for row, (kind, facts) in rows.items() if kind == modality}
            where = read_where(asked)
            passing = change.passing(modality, where)
            right = [row for row, f in of.items() if all(_holds(ops, f.get(name, [])) for name, ops in asked.items())]
            assert passing.dtype == np.int64 and passing.tolist() == right
            assert change.fields(modality) == sorted({name for facts in of.values() for name in facts})
            for field in ("a", "labels", "b.a"):
                assert change.values(field, passing[::-1]) == [of[row].get(field, []) for row in right[::-1]]
                for chosen in (None, passing):
                    among = of if chosen is None else right
                    counted = Counter(value for row in among for value in of[row].get(field, []))
                    order = sorted(counted.items(), key=lambda p: (-p[1], isinstance(p[0], str), p[0]))
                    assert change.facet(modality, field, chosen, limit=3) == order[:3]
        raise _Undone


def test_many_captions_of_few_images(store: Store) -> None:
    with pytest.raises(_Undone), store.writing() as change:
        change.put("image", [image(f"i{n}", {"n": n}) for n in range(40)])
        change.put("caption", [caption(f"i{n}#{c}", None, f"i{n}") for n in range(40) for c in range(3)])
        change.put("caption", [caption("alone", None, metadata={"n": 0})])
        for most in (0, 39):
            rows = change.passing("caption", read_where({"n": {"lte": most}})).tolist()
            assert [item.id for item in change.items(rows)] == [
                *(f"i{n}#{c}" for n in range(most + 1) for c in range(3)),
                "alone",
            ]
        assert change.facet("caption", "n", limit=2) == [(0, 4), (1, 3)]
        assert len(change.passing("caption", read_where({"n": list(range(1, 2000))}))) == 39 * 3
        raise _Undone


def test_a_number_is_found_in_both_forms_from_the_command_line(store: Store) -> None:
    with pytest.raises(_Undone), store.writing() as change:
        codes: list[Any] = ["007", 7, 7.0, "7", True, "true", "TRUE"]
        change.put("image", [image(str(n), {"code": code}) for n, code in enumerate(codes)])

        def found(*forms: str) -> list[str]:
            return [item.id for item in change.items(change.passing("image", parse_where(forms)).tolist())]

        assert found("code=007") == ["0", "1", "2"] and found("code=7") == ["1", "2", "3"]
        assert found("code=true") == ["4", "5"]
        assert found("code>=7") == ["1", "2"] and found("code>=a") == ["5"]
        assert found("code", "!none") == ["0", "1", "2", "3", "4", "5", "6"]
        raise _Undone


def test_facts_go_with_their_items(tmp_path: Path) -> None:
    store = empty_store(tmp_path)
    with store.writing() as change:
        change.put("image", [image("a", {"t": "red"}), image("b", {"t": "red", "n": 1}), image("c", {"t": "red"})])
    with store.writing() as change:
        change.put("image", [image("a", {"t": "blue"})])
        change.delete(["b"])
    with store.reading() as snapshot:
        assert snapshot.facet("image", "t") == [("blue", 1), ("red", 1)] and snapshot.fields() == ["t"]
        rows = snapshot.passing("image", parse_where(["t~red"])).tolist()
        assert [item.id for item in snapshot.items(rows)] == ["c"]


def test_metadata_that_makes_no_fact_is_kept(tmp_path: Path) -> None:
    store = empty_store(tmp_path)
    metadata: dict[str, Any] = {
        "none": None,
        "empty": [],
        "deep": {"deeper": [{"x": 1}, {"x": 2}]},
        "": "named by nothing",
    }
    with store.writing() as change:
        change.put("image", [image("a", metadata)])
        with pytest.raises(DataError, match=r"metadata of 'b': .* expected what JSON can hold"):
            change.put("image", [image("b", {"bad": {1, 2}})])
        with pytest.raises(DataError, match="text of a new image is not valid Unicode"):
            change.put("image", [image("b", {"bad": "\ud800"})])
    with store.reading() as snapshot:
        assert snapshot.item("a").metadata == metadata and snapshot.fields() == ["", "deep.deeper.x"]
        assert snapshot.values("deep.deeper.x", [1]) == [[1, 2]]
