"""What the fields of an index hold, against plain Python over the same metadata."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_fakes import FakeModel, some_pairs
from store_fakes import caption, image

from manymatch.index import Index
from manymatch.index.store.changes import Transaction
from manymatch.index.store.facts import facts_of
from manymatch.index.store.overview import MOST_FIELDS
from manymatch.index.store.store import _SCHEMA, _statements


def told(about: Sequence[Mapping[str, Any]], lone: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Field -> what is said of it, of images with this metadata and captions without an image."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for statement in _statements(_SCHEMA):
            connection.execute(statement)
        change = Transaction(connection)
        change.put("image", [image(f"i{n}", metadata) for n, metadata in enumerate(about)])
        change.put("caption", [caption(f"c{n}", "words", metadata=metadata) for n, metadata in enumerate(lone)])
        found = [field.to_json() for field in change.overview()]
    assert [field["name"] for field in found] == sorted(field["name"] for field in found)
    return {field.pop("name"): field for field in found}


def values(*counted: tuple[Any, int]) -> list[dict[str, Any]]:
    return [{"value": value, "count": count} for value, count in counted]


def test_each_kind_of_field() -> None:
    about = [
        {"year": 1999, "tag": ["dog", "cat"], "seen": True, "size": {"width": 2.5}, "odd": 1},
        {"year": 2005, "tag": "dog", "seen": False, "size": {"width": -1}, "odd": "one"},
        {"year": 2005, "seen": True, "none": None, "bit": 1, "odd": [True, 2]},
    ]
    assert told(about) == {
        "bit": {"kind": "number", "items": 1, "low": 1, "high": 1, "values": values((1, 1))},
        "odd": {"kind": "mixed", "items": 3, "low": None, "high": None, "values": values((1, 2), (2, 1), ("one", 1))},
        "seen": {"kind": "boolean", "items": 3, "low": None, "high": None, "values": values((True, 2), (False, 1))},
        "size.width": {"kind": "number", "items": 2, "low": -1, "high": 2.5, "values": values((-1, 1), (2.5, 1))},
        "tag": {"kind": "text", "items": 2, "low": None, "high": None, "values": values(("dog", 2), ("cat", 1))},
        "year": {"kind": "number", "items": 3, "low": 1999, "high": 2005, "values": values((2005, 2), (1999, 1))},
    }


@pytest.mark.parametrize(
    ("held", "kind"),
    [
        ([True, False], "boolean"),
        ([False, False], "boolean"),
        ([0, 1], "number"),
        ([True, 0], "number"),
        ([[True, 1], False], "number"),
        ([True, 2], "number"),
        ([1.0, True], "number"),
        ([0, 0.5, 1], "number"),
        ([True, "yes"], "mixed"),
    ],
)
def test_truths_are_told_from_numbers(held: list[Any], kind: str) -> None:
    found = told([{"a": {"b": value}} for value in held])["a.b"]
    assert found["kind"] == kind
    assert any(isinstance(one["value"], bool) for one in found["values"]) == (kind != "number")


def test_captions_without_an_image_are_not_counted() -> None:
    found = told([{"year": 2000}], [{"year": 1000, "alone": "x"}, {"year": [2000, 3000]}, {"year": "text"}])
    assert found == {"year": {"kind": "number", "items": 1, "low": 2000, "high": 2000, "values": values((2000, 1))}}


def test_of_very_many_fields_those_with_most_to_tell() -> None:
    found = told([{f"f{n}": n for n in range(MOST_FIELDS + 50)}, {f"f{n}": n for n in range(100, 130)}])
    assert len(found) == MOST_FIELDS and {f"f{n}" for n in range(100, 130)} <= set(found)


PLAIN = st.one_of(st.integers(-3, 3), st.sampled_from(["a", "b", "", "7"]), st.booleans(), st.floats(-1, 1))
METADATA = st.dictionaries(st.sampled_from("xyz"), st.one_of(PLAIN, st.lists(PLAIN, max_size=3)), max_size=3)


@given(about=st.lists(METADATA, min_size=1, max_size=12), lone=st.lists(METADATA, max_size=3))
@settings(max_examples=40, derandomize=True, deadline=None)
def test_they_are_those_of_plain_python(about: list[dict[str, Any]], lone: list[dict[str, Any]]) -> None:
    found = told(about, lone)
    counts: dict[str, Counter[Any]] = {}
    holders: Counter[str] = Counter()
    for metadata in about:
        facts = list(facts_of(metadata, ()))
        holders.update({name for name, _ in facts})
        for name, value in facts:
            counts.setdefault(name, Counter())[value] += 1
    assert {name: field["items"] for name, field in found.items()} == dict(holders)
    for name, field in found.items():
        ordered = sorted(counts[name].items(), key=lambda pair: (-pair[1], isinstance(pair[0], str), pair[0]))
        assert [(one["value"], one["count"]) for one in field["values"]] == ordered[:30]
        numbers = [value for value in counts[name] if not isinstance(value, str)]
        if field["kind"] == "number":
            assert (field["low"], field["high"]) == (min(numbers), max(numbers))
        else:
            assert field["low"] is field["high"] is None
        mixed = 0 < len(numbers) < len(counts[name])
        assert (field["kind"] == "mixed") == mixed and (field["kind"] == "text") == (not numbers)


# ---- of an index


def test_fields_follow_the_items_and_are_found_once_a_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Index.build(FakeModel(), some_pairs(30), tmp_path / "x")
    before = index.fields()
    assert [field["name"] for field in before] == ["labels", "year"]
    assert before[1] | {"values": None} == {
        **{"name": "year", "kind": "number", "items": 30, "low": 2000, "high": 2019, "values": None}
    }
    assert before[1]["values"][0] == {"value": 2000, "count": 2} and len(before[1]["values"]) == 20
    looked = []
    overview = "manymatch.index.store.rows.overview"
    monkeypatch.setattr(overview, lambda connection: looked.append(1) or [])  # type: ignore[func-returns-value]
    before[1]["values"].clear()
    assert index.fields()[1]["values"] and not looked, "what is given away is the reader's own"
    index.delete(["p0"])
    assert index.fields() == [] and index.fields() == [] and len(looked) == 1


def test_hits_say_whether_there_is_a_picture(tmp_path: Path) -> None:
    index = Index.build(FakeModel(), some_pairs(5), tmp_path / "x")
    index.add(some_pairs(5, start=5, pictures=False))
    for among in ("images", "captions"):
        for hit in index.search("red", 30, among=among, group_by="year"):  # type: ignore[arg-type]
            assert hit.has_picture == index.item(hit.id)["has_picture"] == hit.to_json()["has_picture"]
            assert hit.has_picture == (int((hit.owner or hit.id)[1:]) < 5)
