"""Searching and keeping an index, as a user types it: every option once, and what is told when something is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from index_fakes import FakeModel, some_pairs
from typer.testing import CliRunner

from manymatch import runs
from manymatch.cli import app
from manymatch.errors import DataError, UnknownName
from manymatch.index import Index


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """60 images with two captions each; years 2000 to 2019, and a label each."""
    Index.build(FakeModel(), some_pairs(60), tmp_path / "x").close()
    return tmp_path / "x"


@pytest.fixture
def more(tmp_path: Path) -> Path:
    """Two captions each of three images, one of them in the index already; without pictures."""
    runs.save_search(FakeModel(reads="features"), tmp_path / "run")  # type: ignore[arg-type]
    rows = [{"image": id, "captions": ["red cat", "blue dog"], "year": 1999} for id in ("p0", "new1", "new2")]
    (tmp_path / "more.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return tmp_path / "more.jsonl"


def call(*words: object) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def asked(index: Path, *words: object) -> Any:
    return json.loads(call("search", index, *words, "--json"))


def test_filters_facets_and_groups(index: Path) -> None:
    body = asked(index, "red", "--where", "year>=2010", "--where", "year<2012", "--facet", "year", "-k", 50)
    years = [hit["metadata"]["year"] for hit in body["hits"]]
    assert body["searched"] == len(years) == 6 and set(years) == {2010, 2011}
    assert body["facets"] == {"year": [{"value": 2010, "count": 3}, {"value": 2011, "count": 3}]}
    groups = asked(index, "red", "--group-by", "year", "-k", 3)["groups"]
    assert [len(group["hits"]) for group in groups] == [3, 3, 3] and len({group["value"] for group in groups}) == 3
    told = call("search", index, "red", "--where", "year=2003|2004", "--facet", "year", "--group-by", "year", "-k", 2)
    assert "2003" in told.splitlines() and told.splitlines()[-1] == "year: 2003 (3), 2004 (3)"


def test_a_field_nobody_has_is_told_with_the_nearest(index: Path) -> None:
    result = CliRunner().invoke(app, ["search", str(index), "red", "--where", "yeer>2000"])
    assert "nothing found: no item has a field 'yeer'; nearest: 'year'" in result.stdout
    assert result.exit_code == 0


def test_several_queries_are_several_answers(index: Path) -> None:
    bodies = asked(index, "red cat", "blue dog")
    assert [body["query"] for body in bodies] == ["red cat", "blue dog"]
    assert bodies[1]["hits"] == asked(index, "blue dog")["hits"]
    assert call("search", index, "red cat", "blue dog", "-k", 1).split("\n\n")[1].startswith("blue dog\nexact; 60")
    with pytest.raises(DataError, match="--not and --not-like go with one query"):
        call("search", index, "red", "blue", "--not", "cat")


def test_unlike_hybrid_diverse_meanings_and_why(index: Path) -> None:
    plain = [hit["id"] for hit in asked(index, "red cat", "-k", 60)["hits"]]
    away = [hit["id"] for hit in asked(index, "red cat", "--not-like", plain[0], "-k", 60)["hits"]]
    assert sorted(plain) == sorted(away) and away.index(plain[0]) > 0
    assert away != [hit["id"] for hit in asked(index, "red cat", "--not", "blue", "-k", 60)["hits"]]
    assert asked(index, "red cat", "--diverse", "-k", 60)["hits"][0]["id"] == plain[0]
    hybrid = asked(index, "red cat", "--hybrid", "-k", 1)["hits"][0]
    assert 1 / 61 <= hybrid["score"] <= 2 / 61 and hybrid["score"] != hybrid["raw_score"]
    body = asked(index, "red cat", "--meanings", "--explain", "-k", 2)
    assert sum(meant["count"] for meant in body["meanings"]) == 60 and body["meant_by"]
    assert len(body["hits"][0]["why"]) == 4
    told = call("search", index, "red cat", "--meanings", "--explain", "-k", 2)
    assert "it could mean" in told and "~ item element" in told


def test_cutting_needs_a_calibration_and_says_so(index: Path) -> None:
    with pytest.raises(DataError, match=r"confident 0\.5 cannot cut: .*index-calibrate"):
        call("search", index, "red", "--confident", 0.5)
    with pytest.raises(DataError, match=r"confident is 7\.0, expected a number from 0 to 1"):
        call("search", index, "red", "--confident", 7)
    result = CliRunner().invoke(app, ["search", str(index), "red"])
    assert result.stderr.startswith("no probabilities: the index has no calibration")
    assert result.stdout.splitlines()[2].endswith("  caption")


def test_items_come_and_go(index: Path, more: Path) -> None:
    told = call("index-add", index, more).splitlines()
    assert told[0] == "stored 3 of 3 images (2 added, 1 replaced)"
    assert told[1] == "2 added, 1 changed, 0 moved, 0 gone, 0 as before"
    assert told[2].startswith("62 images and 124 captions in ")
    assert asked(index, "red", "--where", "year=1999")["searched"] == 3
    assert call("index-delete", index, "new1", "new2#0") == "deleted 4 items\n"
    assert asked(index, "red")["searched"] == 61
    with pytest.raises(UnknownName, match="'new1'"):
        call("index-delete", index, "new1", "p1")
    assert asked(index, "red")["searched"] == 61, "all of them or none"


def test_a_server_is_named_by_engine_and_url(tmp_path: Path, more: Path) -> None:
    words = ["index", more, "--model", tmp_path / "run", "--out", tmp_path / "y"]
    with pytest.raises(DataError, match="no --url with --engine qdrant"):
        call(*words, "--engine", "qdrant")
    with pytest.raises(DataError, match="--url http://a:6333 with --engine auto"):
        call(*words, "--url", "http://a:6333")
    with pytest.raises(DataError, match="--placement is of a Qdrant collection"):
        call(*words, "--placement", "shards=2")
    with pytest.raises(DataError, match="shards is 'x', expected a whole number"):
        call(*words, "--placement", "shards=x")
    with pytest.raises(UnknownName, match="shard"):
        call(*words, "--placement", "shard=2")
    assert not (tmp_path / "y").exists()
