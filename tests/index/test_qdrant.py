"""A collection on Qdrant gives what a folder gives: in the client's memory, and on a server where QDRANT_URL is set."""

from __future__ import annotations

import http.server
import importlib
import json
import os
import socket
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from index_fakes import FakeModel

pytest.importorskip("qdrant_client")

from manymatch.errors import DataError, IndexMismatch, UnknownName
from manymatch.index.add import embedded_records
from manymatch.index.filters import Where, read_where
from manymatch.index.local.candidates import asking_proxies
from manymatch.index.local.collection import LocalCollection
from manymatch.index.qdrant import QdrantCollection, connect, measure, pool
from manymatch.index.qdrant.filters import term, value_of_term
from manymatch.index.qdrant.server import KEY, MEMORY
from manymatch.index.qdrant.words import folded
from manymatch.index.store.rows import Added
from manymatch.index.store.store import Store
from manymatch.index.store.words import TOKENS

WORDS = ["red", "blue", "circle", "Snöw", "cat", "dog", "hat", "tree", "house", "star"]

METADATA: list[dict[str, Any]] = [
    {"year": 2000, "tag": ["dog", "cat"], "place": {"city": "Gävle", "zip": "80320"}, "taken": "2001-02-03"},
    {"year": 2000.0, "tag": "dog", "title": "Snow on a hat", "taken": "2001-12-31"},
    {"year": 2001.5, "title": ["snow", "a hat"], "ok": True, "taken": "2002-01-01"},
    {"year": "2000", "tag": [], "note": None, "a.b": 1, 'quo"te%': "x", "": 3},
    {"ok": False, "code": "007", "big": 2**60, "title": "SNOW, hat and on", "place": {"city": "gavle"}},
    {},
]

FILTERS: list[dict[str, Any]] = [
    {"year": 2000},
    {"year": "2000"},
    {"year": 2001.5},
    {"year": {"gte": 2000, "lt": 2001}},
    {"year": {"gt": 2000}},
    {"tag": ["dog", "bird"]},
    {"tag": []},
    {"tag": {"exists": True}},
    {"tag": {"exists": False}},
    {"note": {"exists": False}, "ok": [True, False]},
    {"ok": True},
    {"ok": 0},
    {"title": {"text": "hat snow"}},
    {"title": {"text": "snow"}, "year": {"exists": True}},
    {"place.city": {"text": "gavle"}},
    {"place.city": "Gävle"},
    {"taken": {"gte": "2001-06", "lte": "2002-01-01"}},
    {"taken": {"gt": "2002"}},
    {"a.b": 1},
    {'quo"te%': "x"},
    {"big": 2**60},
    {"code": 7},
    {"code": ["007"]},
    {"labels": "snow"},
    {"labels": {"exists": False}, "tag": "dog"},
    {"nothing": 1},
]


@pytest.fixture(params=["memory", "server"])
def url(request: pytest.FixtureRequest) -> str:
    if request.param == "memory":
        return MEMORY
    found = os.environ.get("QDRANT_URL")
    if not found:
        pytest.skip("QDRANT_URL names no Qdrant server")
    return found


def settings(url: str, **more: Any) -> dict[str, Any]:
    given = {"fingerprint": "f" * 64, "similarity": "SmoothChamfer", "model": "fake", "precision": "float16"}
    return {**given, "engine": "qdrant", "agreement": 0.99, "url": url, **more}


class Two:
    """The same index twice: on Qdrant and in a folder."""

    def __init__(self, folder: Path, url: str, kind: str = "sets") -> None:
        self.model = FakeModel(kind)
        self.folder, self.url = folder, url
        self.store = Store.create(folder / "index.sqlite", settings(url))
        self.remote = QdrantCollection(folder, self.store, lambda: self.model.similarity)
        (folder / "local").mkdir()
        local = Store.create(folder / "local" / "index.sqlite", {**settings(url), "engine": "exact"})
        self.local = LocalCollection(folder / "local", local, lambda: self.model.similarity)

    def both(self) -> tuple[QdrantCollection, LocalCollection]:
        return self.remote, self.local

    def images(self, ids: list[str], metadata: list[dict[str, Any]] | None = None, **more: Any) -> list[Added]:
        embedding = self.model.encode_texts([f"image {id}" for id in ids])
        batch = embedded_records(ids, embedding, "image", metadata, None, None, None, None, None, "float16")
        for name, values in more.items():
            records = [type(r)(**{**vars(r), name: value}) for r, value in zip(batch.parts[0][2], values, strict=True)]
            batch = type(batch)([(*batch.parts[0][:2], records)], batch.pictures)
        return [collection.put(batch) for collection in self.both()]

    def captions(self, ids: list[str], texts: list[str], owners: list[str | None] | None = None) -> list[Added]:
        embedding = self.model.encode_texts(texts)
        owners = [id.split("#")[0] for id in ids] if owners is None else owners
        batch = embedded_records(ids, embedding, "caption", None, owners, texts, None, None, None, "float16")
        return [collection.put(batch) for collection in self.both()]

    def close(self) -> None:
        with self.store.reading() as snapshot:
            name = f"manymatch-{snapshot.setting('identity')}"
        client = connect(self.url, os.environ.get(KEY))
        client.delete_collection(name)
        self.remote.close()
        self.local.close()


@pytest.fixture
def two(tmp_path: Path, url: str, request: pytest.FixtureRequest) -> Iterator[Two]:
    both = Two(tmp_path, url, getattr(request, "param", "sets"))
    yield both
    both.close()


@pytest.fixture
def filled(two: Two) -> Two:
    """Six images with two captions each, and a caption of its own."""
    ids = [f"p{n}" for n in range(6)]
    labels = [["snow"], [], ["dog", "tree"], [], [], []]
    two.images(ids, METADATA, labels=labels, bias_caption=[0.1 * n for n in range(6)])
    texts = [f"{WORDS[n]} {WORDS[n + 1]} {WORDS[n]} in the {WORDS[(3 * n) % 10]}" for n in range(6)]
    two.captions([f"p{n}#0" for n in range(6)], texts)
    two.captions([f"p{n}#1" for n in range(6)], [f"a {WORDS[9 - n]} without" for n in range(6)])
    two.captions(["alone"], ["a lone hat"], [None])
    return two


def ids_of(pool: Any, handles: Any) -> list[str]:
    return [item.id for item in pool.items(handles)]


def test_items_come_back_as_from_a_folder(filled: Two) -> None:
    with filled.remote.reading() as remote, filled.local.reading() as local:
        for modality in (None, "image", "caption"):
            assert remote.count(modality) == local.count(modality) > 0
        for id in ("p0", "p3", "p4", "p5", "p2#1", "alone"):
            mine, theirs = remote.item(id), local.item(id)
            assert {**vars(mine), "row": 0} == {**vars(theirs), "row": 0}
            assert np.array_equal(*(r.embedding(i).elements.numpy() for r, i in ((remote, mine), (local, theirs))))
        assert remote.item("p1").row < remote.item("p2").row < remote.item("p0#0").row
        assert remote.captions("p3") == local.captions("p3") and len(remote.captions("p3")) == 2
        ids = ["p9", "p3", "p0", "nobody"]
        assert remote.first_captions(ids) == local.first_captions(ids)
        assert remote.fields() == local.fields()
        assert sorted(remote.examples(100, 0)) == sorted(local.examples(100, 0))
        assert remote.examples(3, 1) == remote.examples(3, 1) and len(set(remote.examples(3, 1))) == 3
        with pytest.raises(UnknownName, match=r"id in this index 'p77'.*p"):
            remote.item("p77")


def test_filters_pass_what_a_folder_passes(filled: Two) -> None:
    query = filled.model.encode_texts(["red cat", "a hat"])
    with filled.remote.reading() as remote, filled.local.reading() as local:
        for where in FILTERS:
            for modality in ("image", "caption"):
                mine, theirs = (reading.pool(modality, read_where(where)) for reading in (remote, local))
                assert len(mine) == len(theirs), where
                handles, scores = mine.scan(query)
                rows, expected = theirs.scan(query)
                assert ids_of(mine, handles) == ids_of(theirs, rows), where
                assert np.allclose(scores, expected, atol=1e-6)


def test_facets_and_values_are_those_of_a_folder(filled: Two) -> None:
    query = filled.model.encode_texts(["red"])
    with filled.remote.reading() as remote, filled.local.reading() as local:
        for modality in ("image", "caption"):
            mine, theirs = remote.pool(modality, Where()), local.pool(modality, Where())
            handles, rows = mine.scan(query)[0], theirs.scan(query)[0]
            for field in (*local.fields(), "nothing"):
                for limit in (1, 2, 20):
                    assert mine.facet(field, None, limit) == theirs.facet(field, None, limit), field
                assert mine.facet(field, handles[1:5], 20) == theirs.facet(field, rows[1:5], 20), field
                assert mine.values(field, handles) == theirs.values(field, rows), field


def test_biases_and_the_asked_item(filled: Two) -> None:
    with filled.remote.reading() as remote, filled.local.reading() as local:
        mine, theirs = remote.pool("image", Where()), local.pool("image", Where())
        handles, rows = (p.scan(filled.model.encode_texts(["red"]))[0] for p in (mine, theirs))
        for asking in ("caption", "image"):
            assert np.allclose(mine.bias(handles, asking), theirs.bias(rows, asking))
        for modality in ("image", "caption"):
            for asking in ("caption", "image"):
                pools = (reading.pool(modality, Where()) for reading in (remote, local))
                assert len({pool.biased(asking) for pool in pools}) == 1
        assert mine.biased("caption") and not remote.pool("caption", Where()).biased("caption")
        assert list(mine.handle(remote.item("p2"))) == [handles[2]]
        assert len(mine.handle(remote.item("p2#0"))) == 0
        narrow = remote.pool("image", read_where({"ok": True}))
        assert len(narrow.handle(remote.item("p2"))) == 1 and len(narrow.handle(remote.item("p1"))) == 0
        assert np.array_equal(mine.take(handles[[3, 1]]).elements.numpy(), theirs.take(rows[[3, 1]]).elements.numpy())
        assert set(mine.sample(4)) <= set(handles) and len(mine.sample(4)) == 4 and len(mine.sample(99)) == 6


def test_words_find_by_captions_and_labels(filled: Two) -> None:
    with filled.remote.reading() as remote, filled.local.reading() as local:
        for modality in ("image", "caption"):
            mine, theirs = remote.pool(modality, Where()), local.pool(modality, Where())
            for text in ("snow", "TREE house", "gävle", "red", "zzz", "", "in the"):
                found, expected = ids_of(mine, mine.words(text, 50)), ids_of(theirs, theirs.words(text, 50))
                assert sorted(found) == sorted(expected), text
        pool = remote.pool("image", Where())
        assert ids_of(pool, pool.words("red blue", 1)) == ["p0"]
        narrow = remote.pool("image", read_where({"year": {"exists": True}}))
        assert set(ids_of(narrow, narrow.words("a hat in the", 50))) <= {"p0", "p1", "p2", "p3"}


def test_replacing_an_image_takes_its_captions(filled: Two) -> None:
    assert filled.images(["p1", "new"], [{"year": 1}, {}]) == [Added(1, 1)] * 2
    assert filled.captions(["p1#5"], ["other words"]) == [Added(1, 0)] * 2
    with filled.remote.reading() as remote, filled.local.reading() as local:
        assert remote.captions("p1") == local.captions("p1") == ["other words"]
        assert remote.count() == local.count() == 6 + 1 + 10 + 1 + 1
        assert remote.item("p1#5").metadata == {"year": 1}
        assert remote.item("p1").row > remote.item("alone").row


def test_deleting(filled: Two) -> None:
    for collection in filled.both():
        with pytest.raises(UnknownName, match="'gone'"):
            collection.delete(["p0", "gone"])
        with collection.reading() as reading:
            assert reading.count() == 19
        assert collection.delete(["p0", "p0#1", "p2#0", "alone", "alone"]) == 5
        with collection.reading() as reading:
            assert reading.count("image") == 5 and reading.captions("p0") == [] and len(reading.captions("p2")) == 1


@pytest.mark.parametrize(
    ("kind", "ids", "owners", "told"),
    [
        ("image", ["q", "q"], None, "given twice"),
        ("image", ["p0#0"], None, "already that of the caption of 'p0'; rename"),
        ("caption", ["p0"], [None], "already that of the image; rename"),
        ("caption", ["p0#0"], ["p1"], "already that of the caption of 'p0'"),
        ("caption", ["c"], ["nobody"], "owner 'nobody' of a caption is not an image"),
        ("caption", ["c"], ["p0#0"], "owner 'p0#0' of a caption is not an image"),
    ],
)
def test_what_a_folder_refuses(filled: Two, kind: str, ids: list[str], owners: Any, told: str) -> None:
    embedding = filled.model.encode_texts(ids)
    batch = embedded_records(ids, embedding, kind, None, owners, None, None, None, None, "float16")
    for collection in filled.both():
        with pytest.raises(DataError, match=told):
            collection.put(batch)
        with collection.reading() as reading:
            assert reading.count() == 19


def test_what_cannot_be_stored(two: Two) -> None:
    with pytest.raises(DataError, match=r"metadata of 'a'.*JSON"):
        two.images(["a"], [{"x": float("nan")}])
    odd = embedded_records(["\ud800"], two.model.encode_texts(["a"]), "image", *[None] * 6, "float16")
    with pytest.raises(DataError, match="not valid Unicode"):
        two.remote.put(odd)
    with pytest.raises(DataError, match="not valid Unicode"):
        two.images(["a"], [{"x": "\ud800"}])
    with two.remote.reading() as reading:
        assert reading.count() == 0 and reading.pool("image", Where()) is None
        with pytest.raises(UnknownName):
            reading.item("a")
    two.images(["a"])
    points = FakeModel("points").encode_texts(["b"])
    with pytest.raises(IndexMismatch, match="holds sets"):
        two.remote.put(embedded_records(["b"], points, "image", *[None] * 6, "float16"))


def test_a_put_that_broke_is_made_whole(filled: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [f"p{n}" for n in range(300)]
    embedding = filled.model.encode_texts(ids)
    batch = embedded_records(ids, embedding, "image", None, None, None, None, None, None, "float16")
    server = filled.remote._connected()
    calls = []

    def breaks(method: str, **arguments: Any) -> Any:
        calls.append(method)
        if calls.count("upsert") == 2:
            raise DataError("broken")
        return type(server).call(server, method, **arguments)

    monkeypatch.setattr(server, "call", breaks)
    with pytest.raises(DataError, match="broken"):
        filled.remote.put(batch)
    monkeypatch.undo()
    filled.remote.put(batch)
    with filled.remote.reading() as reading:
        assert reading.count("image") == 300 and reading.count("caption") == 1


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few items are already too many to score all."""
    monkeypatch.setattr(pool, "EXACT_UP_TO", 20)
    monkeypatch.setattr(measure, "EXACT_UP_TO", 20)
    monkeypatch.setattr(measure, "_QUERIES", 24)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("two", ["points"], indirect=True)
def test_candidates_agree_as_measured(two: Two) -> None:
    ids = [f"p{n}" for n in range(260)]
    two.images(ids, [{"half": n % 2} for n in range(260)])
    two.captions([f"{id}#0" for id in ids], [f"image {id} seen" for id in ids])
    with two.remote.reading() as reading:
        query = two.model.encode_texts(["image p7"])
        proxy = asking_proxies(two.model.similarity, query, "caption", False)[0]
        assert reading.pool("image", Where()).near(proxy, "caption", 10) is None
    said: list[str] = []
    assert two.remote.due()
    two.remote.refresh(said.append)
    assert not two.remote.due() and any("agreement" in line for line in said)
    told = two.remote.about()
    assert told["engine"]["image"] == "qdrant" and told["agreement"]["image"]["caption"] >= 0.99
    with two.remote.reading() as reading:
        images = reading.pool("image", Where())
        near = images.near(proxy, "caption", 10)
        assert near is not None and near.agreement == told["agreement"]["image"]["caption"]
        assert len(near.handles) < len(images)
        orders = [item.row for item in images.items(near.handles)]
        assert orders == sorted(orders)
        scores = images.scores(query, near.handles)
        assert ids_of(images, near.handles[[int(np.argmax(scores))]]) == ["p7"]
        everything, all_scores = images.scan(query)
        assert np.array_equal(scores, all_scores[0][np.isin(everything, near.handles)])
        part = reading.pool("image", read_where({"half": 0}))
        narrow = part.near(proxy, "caption", 10)
        assert narrow is None or narrow.agreement is None
        assert images.near(proxy, "caption", 10_000) is None
    with two.store.writing() as change:
        change.set("agreement", 0.5)
    assert two.remote.due()
    two.remote.refresh()
    assert not two.remote.due()


def test_near_counts_biases(two: Two) -> None:
    two.images([f"p{n}" for n in range(30)], bias_caption=[5.0] + [0.0] * 29, bias_image=[0.0] * 29 + [5.0])
    query = two.model.encode_texts(["image p0"])
    with two.remote.reading() as reading:
        images = reading.pool("image", Where())
        for asking, last in (("caption", "p0"), ("image", "p29")):
            proxy = asking_proxies(two.model.similarity, query, asking, True)[0]
            found = images._nearest(proxy, 30, 64)
            assert found[-1].payload["id"] == last


def test_fetched_once(filled: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    with filled.remote.reading() as reading:
        images = reading.pool("image", Where())
        query = filled.model.encode_texts(["red"])
        found = images._nearest(asking_proxies(filled.model.similarity, query, "caption", False)[0], 4, 64)
        handles = pool.handles_of(found)
        images._keep(handles, [point.payload for point in found], pool._FOUND)
        monkeypatch.setattr(images._server, "fetch", lambda points, payload: {} if not points else pytest.fail("asked"))
        images.scores(query, handles), images.items(handles), images.bias(handles, "image")


def test_a_page_costs_few_requests(filled: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    server, calls = filled.remote._connected(), []

    def counted(method: str, **arguments: Any) -> Any:
        calls.append(method)
        return type(server).call(server, method, **arguments)

    monkeypatch.setattr(server, "call", counted)
    for expected in (["scroll", "retrieve", "scroll"], ["retrieve", "scroll"]):
        calls.clear()
        with filled.remote.reading() as reading:
            images = reading.pool("image", Where())
            images.scores(filled.model.encode_texts(["red"]), drawn := images.sample(4))
            assert len(reading.first_captions([item.id for item in images.items(drawn)])) == 4
        assert calls == expected, "a sample is kept for the next search, captions come together"


def test_fields_are_told_as_in_a_folder(two: Two) -> None:
    about = [{"year": 2000 + n % 3, "seen": n % 2 > 0, "tag": ["a", "b"][: n % 3], "size": n / 2} for n in range(40)]
    about[3] |= {"year": "2003"}
    for some in two.both():
        with some.reading() as reading:
            assert reading.overview() == []
    two.images([f"p{n}" for n in range(40)], about)
    two.captions(["p0#0", "alone"], ["of an image", "alone"], ["p0", None])
    with two.remote.reading() as remote, two.local.reading() as local:
        mine, theirs = remote.overview(), list(local.overview())
        assert [field.name for field in mine] == ["seen", "size", "tag", "year"]
        assert [field.kind for field in mine] == ["boolean", "number", "text", "mixed"]
        # What more than thirty different numbers lie between is not looked for.
        assert (mine[1].low, mine[1].high, theirs[1].low, theirs[1].high) == (None, None, 0, 19.5)
        assert [{**vars(f), "low": 0, "high": 0} for f in mine] == [{**vars(f), "low": 0, "high": 0} for f in theirs]
    two.images(["new"], [{"fresh": 3}])
    with two.remote.reading() as remote, two.local.reading() as local:
        assert remote.overview()[0] == local.overview()[0] and local.overview()[0].high == 3


def test_reopened_and_of_another_index(filled: Two, tmp_path: Path) -> None:
    again = QdrantCollection(filled.folder, filled.store, lambda: filled.model.similarity)
    with again.reading() as reading:
        assert reading.count() == 19
    with filled.store.reading() as snapshot:
        name = f"manymatch-{snapshot.setting('identity')}"
    (tmp_path / "other").mkdir()
    store = Store.create(tmp_path / "other" / "index.sqlite", settings(filled.url, collection=name))
    other = QdrantCollection(tmp_path / "other", store, lambda: filled.model.similarity)
    batch = embedded_records(["x"], filled.model.encode_texts(["x"]), "image", *[None] * 6, "float16")
    with pytest.raises(IndexMismatch, match=r"collection 'manymatch-.*' is of the index .* expected the index"):
        other.put(batch)


def test_a_lost_collection_is_said(filled: Two) -> None:
    server = filled.remote._connected()
    server.client.delete_collection(server.name)
    again = QdrantCollection(filled.folder, filled.store, lambda: filled.model.similarity)
    with pytest.raises(DataError, match=r"collection 'manymatch-.*' .* is gone; restore it"), again.reading():
        pass


def test_a_server_too_old_for_us(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    server = two.remote._connected()
    monkeypatch.setattr(server, "metadata", dict)
    with pytest.raises(DataError, match=r"no metadata of collections, expected version 1\.16 or later"):
        two.images(["a"])
    monkeypatch.undo()
    assert not server.exists()


def test_sources_of_pictures(two: Two) -> None:
    class Pictures:
        def describe(self) -> dict[str, Any]:
            return {"kind": "folder", "path": "here"}

    embedding = two.model.encode_texts(["a", "b"])
    batch = embedded_records(
        ["a", "b"], embedding, "image", None, None, None, ["a.jpg", None], Pictures(), None, "float16"
    )
    two.remote.put(batch)
    with two.remote.reading() as reading:
        item = reading.item("a")
        assert item.picture == "a.jpg" and reading.source(item.source) == {"kind": "folder", "path": "here"}
        assert reading.item("b").source is None


def test_terms_are_equal_where_values_are() -> None:
    values = ["a", "", "1", "n:1", 1, 1.5, -2, 2**62, 1e300, 0.1]
    assert [value_of_term(term(value)) for value in values] == values
    assert term(1.0) == term(1) != term("1") and term(-0.0) == term(0)


def test_words_are_told_apart_as_by_fts5() -> None:
    texts = ["Ünïcode Ga\u0308vle", "мой МОИ Ёлка", "Σίσυφος ΣΊΣΥΦΟΣ", "straße STRASSE", "İstanbul ﬁne ſo 2nd_x a-b"]
    with sqlite3.connect(":memory:") as connection:
        connection.execute(f"CREATE VIRTUAL TABLE said USING fts5 (text, {TOKENS})")
        connection.executemany("INSERT INTO said VALUES (?)", [(text,) for text in texts])
        connection.execute("CREATE VIRTUAL TABLE vocabulary USING fts5vocab (said, row)")
        expected = {term for (term,) in connection.execute("SELECT term FROM vocabulary")}
    connection.close()
    assert {word for text in texts for word in folded(text)} == expected


def test_rarer_words_weigh_more(two: Two) -> None:
    two.images([f"p{n}" for n in range(6)])
    texts = ["snow", "snow cat", "dog snow", "cat and a very long tale of snow", "cat cat", "tree"]
    two.captions([f"p{n}#0" for n in range(6)], texts)
    with two.remote.reading() as reading:
        captions, images = reading.pool("caption", Where()), reading.pool("image", Where())
        found = ids_of(captions, captions.words("dog snow", 9))
        assert found[0] == "p2#0" and found[-1] == "p3#0" and len(found) == 4
        assert ids_of(captions, captions.words("cat", 2)) == ["p4#0", "p1#0"]
        assert ids_of(images, images.words("dog snow", 9))[:2] == ["p2", "p0"]


def test_too_many_texts_to_compare(filled: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    from manymatch.index.qdrant import facets

    monkeypatch.setattr(facets, "_MOST", 3)
    with filled.remote.reading() as reading, pytest.raises(DataError, match="'taken' is bounded by text and has 3"):
        reading.pool("image", read_where({"taken": {"gt": "2001"}}))


# ---- reaching a server


class Refusing(http.server.BaseHTTPRequestHandler):
    """A server that knows no key and answers nothing else."""

    def do_GET(self) -> None:
        refused = self.headers.get("api-key") != "right"
        body = json.dumps({"status": {"error": "wrong" if refused else "disk is full"}}).encode()
        self.send_response(401 if refused else 507)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def at(folder: Path, url: str) -> QdrantCollection:
    store = Store.create(folder / "index.sqlite", settings(url))
    return QdrantCollection(folder, store, lambda: FakeModel().similarity)


def one() -> Any:
    return embedded_records(["x"], FakeModel().encode_texts(["x"]), "image", *[None] * 6, "float16")


def test_a_refused_key(tmp_path: Path, refusing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "wrong")
    collection = at(tmp_path, refusing)
    with pytest.raises(DataError, match=r"Qdrant at http://127\.0\.0\.1:\d+: the key was refused .*QDRANT_API_KEY"):
        collection.put(one())
    collection.close()
    assert b"wrong" not in (tmp_path / "index.sqlite").read_bytes(), "the key is not stored"
    monkeypatch.setenv(KEY, "right")
    with pytest.raises(DataError, match=r"answered with 507 \(disk is full\); see to the server"):
        collection.put(one())
    collection.close()


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    collection = at(tmp_path, url)
    with pytest.raises(DataError, match=rf"Qdrant at {url}: no answer to .*; start the server, or correct the url"):
        collection.put(one())
    collection.close()


@pytest.mark.parametrize("url", ["localhost:6333", "ftp://host", "http://", ""])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(DataError, match="expected http://host:6333"):
        connect(url)


def test_no_url_with_a_password() -> None:
    with pytest.raises(DataError, match="found a user or password in it") as refused:
        connect("http://someone:secret@localhost:6333")
    assert "secret" not in str(refused.value)


def test_the_package_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    name = "manymatch.index.qdrant.api"
    monkeypatch.delitem(sys.modules, name)
    with pytest.raises(DataError, match=r'pip install "manymatch\[qdrant\]"'):
        importlib.import_module(name)


def test_examples_need_no_luck(two: Two) -> None:
    """The draw starts at a hash; what lies before it is drawn too."""
    two.images(["i"])
    two.captions(["i#0", "i#1", "i#2"], ["one", "two", "three"])
    with two.remote.reading() as reading:
        for seed in range(8):
            assert sorted(reading.examples(3, seed)) == ["one", "three", "two"]
