"""Build, open and search: the answers are those of the run's own similarity over everything."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from index_fakes import FakeModel, brute, same_order, some_pairs
from PIL import Image

from manymatch.errors import DataError, IndexMismatch, UnknownName
from manymatch.index import Added, Index

WITHIN = {"float16": 5e-5, "float32": 1e-6}


@pytest.fixture
def built(tmp_path: Path) -> tuple[FakeModel, Index]:
    model = FakeModel(d=128)
    return model, Index.build(model, some_pairs(40), tmp_path / "x")


@pytest.mark.parametrize("precision", ["float16", "float32"])
@pytest.mark.parametrize("kind", ["sets", "points"])
def test_search_is_the_order_of_the_similarity(tmp_path: Path, kind: str, precision: str) -> None:
    model, pairs = FakeModel(kind, d=512), some_pairs(60)
    index = Index.build(model, pairs, tmp_path / "x", precision=precision)
    images, captions = model.encode_images(pairs.images), model.encode_texts(pairs.captions)
    for words in ("red cat", "a small house", "tree"):
        query = model.encode_texts([words])
        expected = brute(model, query, images, pairs.image_ids)
        assert not list(same_order(index.search(words, 60).hits, expected, WITHIN[precision]))
        expected = brute(model, query, captions, pairs.caption_ids)
        assert not list(same_order(index.search(words, 10, among="captions").hits, expected, WITHIN[precision]))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n=st.integers(1, 25),
    k=st.integers(1, 5),
    d=st.sampled_from([64, 96]),
    want=st.integers(1, 30),
    skip=st.integers(0, 30),
)
def test_any_size_any_page(
    tmp_path_factory: pytest.TempPathFactory, n: int, k: int, d: int, want: int, skip: int
) -> None:
    model, pairs = FakeModel(k=k, d=d), some_pairs(n, seed=n)
    index = Index.build(model, pairs, tmp_path_factory.mktemp("any") / "x", precision="float32")
    found = index.search("red dog", want, offset=skip)
    expected = brute(model, model.encode_texts(["red dog"]), model.encode_images(pairs.images), pairs.image_ids)
    assert not list(same_order(found.hits, expected[skip : skip + want], 1e-6))
    assert [hit.rank for hit in found] == list(range(skip + 1, min(n, skip + want) + 1))


def test_ties_keep_the_order_of_the_store(tmp_path: Path) -> None:
    model = FakeModel(d=64)
    index = Index.build(model, some_pairs(3), tmp_path / "x")
    same = model.encode_texts(["one and the same"] * 30)
    index.add_embeddings([f"same{n}" for n in range(30)], same, "image")
    hits = index.search("one and the same", 7, offset=2).hits
    assert [hit.id for hit in hits] == [f"same{n}" for n in range(2, 9)]


def test_like_never_finds_itself_and_reaches_captions(built: tuple[FakeModel, Index]) -> None:
    _, index = built
    hits = index.search(like="p7", k=100).hits
    assert len(hits) == 39 and "p7" not in {hit.id for hit in hits}
    own = index.captions_of("p7", 2).hits
    assert {hit.id for hit in own} == {"p7#0", "p7#1"} and own[0].owner == "p7"
    others = index.search(like="p7#0", k=100, among="captions").hits
    assert len(others) == 79 and "p7#0" not in {hit.id for hit in others}
    assert index.search(like="p7#0", k=1).hits[0].id == "p7"


def test_picture_queries(built: tuple[FakeModel, Index], tmp_path: Path) -> None:
    model, index = built
    picture = Image.new("RGB", (4, 4), (9, 0, 0))
    picture.save(tmp_path / "q.png")
    by_path, by_picture = index.search(tmp_path / "q.png"), index.search(picture)
    assert [hit.id for hit in by_path] == [hit.id for hit in by_picture]
    index.search(str(tmp_path / "q.png"))
    assert model.encoded[-1] == [str(tmp_path / "q.png")], "a str is words even when a picture has that name"


def test_features_run_says_how_to_ask(tmp_path: Path) -> None:
    index = Index.build(FakeModel(reads="features"), some_pairs(5), tmp_path / "x")
    with pytest.raises(DataError, match=r"precomputed features and has no backbone .*; use like=ID \(--like ID\)"):
        index.search(Image.new("RGB", (4, 4)))
    assert len(index.search(like="p1")) == 4


def test_bad_questions(built: tuple[FakeModel, Index]) -> None:
    _, index = built
    for wrong, message in [
        ({"query": "  "}, "query is empty"),
        ({"query": "red", "k": 0}, "k is 0, expected a whole number of at least 1"),
        ({"query": "red", "offset": -1}, "offset is -1"),
        ({}, "neither of query and like"),
        ({"query": "red", "like": "p1"}, "both of query and like"),
        ({"query": 3}, "query is int, expected words"),
    ]:
        with pytest.raises(DataError, match=message):
            index.search(**wrong)
    with pytest.raises(UnknownName, match="did you mean 'p1"):
        index.search(like="p1x")
    with pytest.raises(UnknownName, match="did you mean 'images'"):
        index.search("red", among="image")


def test_empty_index_answers_nothing(tmp_path: Path) -> None:
    index = Index.build(FakeModel(), some_pairs(2), tmp_path / "x")
    index.delete(["p0", "p1"])
    found = index.search("red")
    assert not found.hits and found.exact and found.searched == 0 and len(index) == 0
    with pytest.raises(DataError, match="no images, so nothing to index"):
        Index.build(FakeModel(), some_pairs(2).take([]), tmp_path / "y")


def test_adding_again_replaces_images_with_their_captions(built: tuple[FakeModel, Index]) -> None:
    _, index = built
    newer = some_pairs(2, seed=9, captions=1, start=39)
    assert index.add(newer) == Added(added=1, replaced=1)
    assert index.count("image") == 41 and index.count("caption") == 80
    assert index.item("p39")["captions"] == list(newer.items[0].captions)
    with pytest.raises(UnknownName):
        index.item("p39#1")
    assert index.search(newer.items[0].captions[0], among="captions").hits[0].id == "p39#0"


def test_deleted_items_are_gone_with_their_captions(built: tuple[FakeModel, Index]) -> None:
    _, index = built
    assert index.delete(["p0", "p1#0"]) == 4
    assert index.count("image") == 39 and index.count("caption") == 77
    found = {hit.id for among in ("images", "captions") for hit in index.search("red", 200, among=among)}
    assert not found & {"p0", "p0#0", "p0#1", "p1#0"} and "p1#1" in found
    before = index.info()["generation"]
    with pytest.raises(UnknownName):
        index.delete(["p2", "nothing"])
    assert index.item("p2") and index.info()["generation"] == before


def test_what_is_known_of_an_item(built: tuple[FakeModel, Index]) -> None:
    _, index = built
    caption = index.item("p3")["captions"][1]
    assert index.item("p3#1") == {
        "id": "p3#1",
        "modality": "caption",
        "captions": [caption],
        "metadata": {"year": 2003},
        "labels": index.item("p3")["labels"],
        "has_picture": True,
        "owner": "p3",
    }
    hit = index.search(caption, 1, among="captions").hits[0]
    assert (hit.caption, hit.metadata) == (caption, {"year": 2003})
    assert len(index.examples(5)) == 5 and index.examples(5, seed=1) == index.examples(5, seed=1)
    assert len(index.examples(10_000)) <= 80


def test_json_has_the_agreed_keys(built: tuple[FakeModel, Index]) -> None:
    body = built[1].search("red", 2).to_json()
    agreed = ["query", "exact", "agreement", "bank", "ambiguity", "expected_matches"]
    assert list(body) == [*agreed, "likely", "searched", "hits", "notes"]
    assert (body["query"], body["exact"], body["agreement"], body["bank"]) == ("red", True, None, False)
    agreed = ["rank", "id", "modality", "score", "raw_score", "probability", "metadata"]
    assert list(body["hits"][0]) == [*agreed, "caption", "owner", "has_picture"]


def test_another_run_is_refused(built: tuple[FakeModel, Index], tmp_path: Path) -> None:
    other = FakeModel(d=128, seed=1)
    with pytest.raises(IndexMismatch, match="built with another run"):
        Index.open(tmp_path / "x", other)
    with pytest.raises(IndexMismatch, match="built with another run"):
        Index.build(other, some_pairs(3), tmp_path / "x")
    with pytest.raises(IndexMismatch, match="similarity SmoothChamfer, the run has Cosine"):
        Index.open(tmp_path / "x", FakeModel("points", d=128))
    with pytest.raises(IndexMismatch, match="stored in float16, asked for float32"):
        Index.build(FakeModel(d=128), some_pairs(3), tmp_path / "x", precision="float32")
    (tmp_path / "x" / "run" / "run.json").write_text(
        (tmp_path / "x" / "run" / "run.json").read_text().replace("0", "1")
    )
    with pytest.raises(IndexMismatch):
        Index.open(tmp_path / "x").search("red")


def test_interrupted_build_can_be_called_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manymatch.index.growing._BATCH", 4)

    def stop(so_far: Added, total: int) -> None:
        if so_far.added == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Index.build(FakeModel(), some_pairs(20), tmp_path / "x", progress=stop)
    assert Index.open(tmp_path / "x").count("image") == 8
    told: list[tuple[Added, int]] = []
    index = Index.build(FakeModel(), some_pairs(20), tmp_path / "x", progress=lambda *now: told.append(now))
    assert told[-1] == (Added(12, 0), 12) and len(told) == 3 and index.count("caption") == 40


def test_index_can_be_moved(built: tuple[FakeModel, Index], tmp_path: Path) -> None:
    _, index = built
    before = index.search("red cat").to_json()
    index.close()
    shutil.copytree(tmp_path / "x", tmp_path / "y")
    shutil.rmtree(tmp_path / "x")
    with Index.open(tmp_path / "y") as moved:
        assert moved.search("red cat").to_json() == before


def test_embeddings_are_checked_before_anything_is_stored(built: tuple[FakeModel, Index]) -> None:
    model, index = built
    two = model.encode_texts(["one", "two"])
    before = index.info()["generation"]
    for arguments, error, message in [
        ((["a"], two, "image"), DataError, "1 ids for 2 items"),
        ((["a", "a"], two, "image"), DataError, "'a' is given twice"),
        ((["a", "p0#0"], two, "image"), DataError, "'p0#0' of a new image is already that of the caption of 'p0'"),
        ((["a", ""], two, "image"), DataError, "id ''"),
        ((["a", "b"], two, "text"), UnknownName, "modality 'text'"),
        ((["a", "b"], two, "caption", None, ["p0", "nobody"]), DataError, "owner 'nobody'"),
        ((["a", "b"], two, "image", [{}, {"x": float("nan")}]), DataError, "metadata of 'b'"),
        ((["a", "b"], type(two)(two.elements * np.nan), "image"), DataError, "embedding 0 of 2 has a NaN"),
        ((["a", "b"], type(two)(two.elements * 1e6), "image"), DataError, "too large for float16"),
        (
            (["a", "b"], type(two)(two.elements[:, :2]), "image"),
            IndexMismatch,
            "holds sets .*'k': 4.*got sets .*'k': 2",
        ),
    ]:
        with pytest.raises(error, match=message):
            index.add_embeddings(*arguments)
    assert index.info()["generation"] == before and index.count("image") == 40
    assert index.add_embeddings(["a", "b"], two, "caption", None, ["p0", None], ["one", None]) == Added(2, 0)
    assert index.item("p0")["captions"][-1] == "one"
