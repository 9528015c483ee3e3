"""What a search offers besides the plain order, each against its own definition over everything that is there."""

from __future__ import annotations

import json
import math
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from index_fakes import WORDS, FakeModel, keep_runs, some_pairs

from manymatch.calibration import Calibration, Curve
from manymatch.data.pairs import Item, Pairs
from manymatch.errors import DataError, UnknownName
from manymatch.index import Index, Results

N = 90


def curve(middle: float, slope: float = 12.0) -> Curve:
    """One line of log-odds, even at the middle."""
    facts = {"truth": "own captions", "queries": 9, "gallery": 9, "pairs": 81, "right": 9}
    return Curve("logistic", (middle - 0.1, middle + 0.1), (-0.1 * slope, 0.1 * slope), 0.99, **facts)


def described(count: int, start: int = 0) -> Pairs:
    """Images whose captions and metadata have words."""
    items = [
        Item(
            item.id,
            item.captions,
            labels=item.labels,
            metadata={**item.metadata, "place": ["lake", "café", "lake side"][int(item.id[1:]) % 3]},
            picture=item.picture,
            row=item.row,
        )
        for item in some_pairs(count, start=start)
    ]
    return Pairs(items, pictures=some_pairs(count).pictures)


def asking(kind: str = "sets", **settings: Any) -> FakeModel:
    """A run that knows how probable its scores make a right photo, whoever asks."""
    model = FakeModel(kind, d=32, **settings)
    points = kind == "points"
    # Hardly any photo of points is right for another, so that what a photo would expect of itself shows.
    ways = {
        ("caption", "image"): curve(0.3 if points else 0.55),
        ("image", "image"): curve(0.95, 60.0) if points else curve(0.6),
    }
    model.calibration = Calibration(ways, {("image", "caption"): "nobody judged captions"})  # type: ignore[attr-defined]
    return model


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with pytest.MonkeyPatch.context() as patch:
        keep_runs(patch)
        yield Index.build(asking(), described(N), tmp_path_factory.mktemp("answers") / "x", precision="float32")


@pytest.fixture(scope="module")
def near(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """800 points, found by candidates."""
    with pytest.MonkeyPatch.context() as patch:
        keep_runs(patch)
        folder = tmp_path_factory.mktemp("near") / "x"
        yield Index.build(asking("points"), described(800), folder, precision="float32", engine="faiss")


def scores(index: Index, query: str, among: str = "images") -> dict[str, float]:
    """The run's similarity of every item with words."""
    model, pairs = index.model, described(N)
    gallery = model.encode_images(pairs.images) if among == "images" else model.encode_texts(pairs.captions)
    found = model.similarity(model.encode_texts([query]), gallery)[0].tolist()
    return dict(zip(pairs.image_ids if among == "images" else pairs.caption_ids, found, strict=True))


def ids(found: Results) -> list[str]:
    return [hit.id for hit in found]


def falling(values: dict[str, float]) -> list[str]:
    return sorted(values, key=lambda id: -values[id])


# ---- not like that


def test_half_of_the_likeness_to_an_unwanted_example_is_taken_off(index: Index) -> None:
    wanted, unwanted = scores(index, "red cat"), scores(index, "red dog")
    expected = {id: wanted[id] - 0.5 * unwanted[id] for id in wanted}
    found = index.search("red cat", N, unlike="red dog")
    assert ids(found) == falling(expected) and found.exact
    assert [hit.score for hit in found] == pytest.approx([expected[hit.id] for hit in found], abs=2e-6)
    assert [hit.raw_score for hit in found] == pytest.approx([wanted[hit.id] for hit in found], abs=2e-6)
    by_item = index.search("red cat", N, unlike_item="p3#1")
    unwanted = scores(index, described(N).items[3].captions[1])
    assert ids(by_item) == falling({id: wanted[id] - 0.5 * unwanted[id] for id in wanted})
    where = {"year": {"gte": 2005}}
    assert ids(index.search("red cat", N, unlike="red dog", where=where)) == [
        id for id in ids(found) if 2000 + int(id[1:]) % 20 >= 2005
    ]
    assert "p3" not in ids(index.search(like="p3", k=N, unlike_item="p4"))


def test_an_unwanted_example_is_one_example(index: Index) -> None:
    with pytest.raises(DataError, match="both of unlike and unlike_item given"):
        index.search("red", unlike="dog", unlike_item="p3")
    with pytest.raises(DataError, match="unlike is empty"):
        index.search("red", unlike=" ")
    with pytest.raises(UnknownName, match="'nobody'"):
        index.search("red", unlike_item="nobody")


def test_agreement_with_an_unwanted_example_is_unknown(near: Index) -> None:
    exact = near.search("red cat", 800, unlike="red dog", exact=True)
    found, true = near.search("red cat", unlike="red dog"), {hit.id: hit for hit in exact}
    assert not found.exact and found.agreement is None and exact.agreement is None
    assert all(hit.score == pytest.approx(true[hit.id].score, abs=2e-6) for hit in found)
    assert len(set(ids(found)) & set(ids(exact)[:10])) >= 8


# ---- words


def bm25(pairs: Pairs, words: Sequence[str], among: str) -> list[str]:
    """Okapi BM25 as SQLite has it (k1 = 1.2, b = 0.75) over every text of the index; an image by its best one."""
    texts: dict[str, list[str]] = {}
    for item in pairs:
        texts[item.id] = f"{item.metadata['place']} {' '.join(item.labels)}".replace("é", "e").lower().split()
    for id, text in zip(pairs.caption_ids, pairs.captions, strict=True):
        texts[id] = text.split()
    mean = sum(map(len, texts.values())) / len(texts)
    total = dict.fromkeys(texts, 0.0)
    for word in dict.fromkeys(words):
        has = [id for id, text in texts.items() if word in text]
        weight = max(1e-6, math.log((len(texts) - len(has) + 0.5) / (len(has) + 0.5))) if has else 0.0
        for id in has:
            often = texts[id].count(word)
            total[id] += weight * often * 2.2 / (often + 1.2 * (0.25 + 0.75 * len(texts[id]) / mean))
    best: dict[str, float] = {}
    for id, score in total.items():
        shown = id if among == "captions" else id.partition("#")[0]
        if score > 0 and (among == "images" or "#" in id):
            best[shown] = max(score, best.get(shown, 0.0))
    stored = pairs.image_ids if among == "images" else pairs.caption_ids
    return sorted(best, key=lambda id: (-round(best[id], 9), stored.index(id)))


def fused(first: Sequence[str], second: Sequence[str]) -> dict[str, float]:
    """Reciprocal rank fusion with k = 60."""
    out: Counter[str] = Counter()
    for order in (first, second):
        for rank, id in enumerate(order, 1):
            out[id] += 1 / (60 + rank)  # type: ignore[assignment]
    return dict(out)


@pytest.mark.parametrize("among", ["images", "captions"])
@pytest.mark.parametrize("query", ["red cat", "lake", "CAFÉ dog dog", "zzz", "nothing known"])
def test_words_are_fused_by_reciprocal_ranks(index: Index, query: str, among: Any) -> None:
    pairs, words = described(N), query.lower().replace("é", "e").split()
    plain = index.search(query, 1000, among=among)
    assert ids(plain) == falling(scores(index, query, among))
    expected = fused(ids(plain), bm25(pairs, words, among))
    found = index.search(query, 1000, among=among, hybrid=True)
    assert len(found) == len(expected) and found.exact
    assert [hit.score for hit in found] == pytest.approx(sorted(expected.values(), reverse=True), abs=1e-6)
    assert [hit.score for hit in found] == pytest.approx([expected[hit.id] for hit in found], abs=1e-6)
    raw = {hit.id: hit.raw_score for hit in plain}
    assert [hit.raw_score for hit in found] == pytest.approx([raw[hit.id] for hit in found], abs=2e-6)
    pages = [index.search(query, 20, among=among, hybrid=True, offset=start) for start in (0, 20, 40)]
    assert [id for page in pages for id in ids(page)] == ids(found)[:60]


ODD = ['"red', 'red" OR "cat', "red AND NOT cat*", "NEAR(red cat, 2) ^x:y -z", "'; DROP TABLE items;--", "🐈", "()"]


@pytest.mark.parametrize("query", ODD)
def test_any_text_may_be_searched_with_words(index: Index, query: str) -> None:
    found = index.search(query, 5, hybrid=True)
    assert len(found) == 5 and [hit.rank for hit in found] == [1, 2, 3, 4, 5]
    if not any(char.isalpha() for char in query):
        assert ids(found) == ids(index.search(query, 5)), "without a word the order is the plain one"


def test_words_that_only_metadata_or_captions_have_are_found(tmp_path: Path) -> None:
    index = Index.build(FakeModel(d=32), described(40), tmp_path / "x")
    far = index.model.encode_texts(["far", "away"])
    index.add_embeddings(["atlas"], far[:1], "image", [{"map": {"of": "Zanzibar 東京 tower"}}])
    index.add_embeddings(["cat"], far[1:], "caption", owners=["p9"], captions=["猫 ネコ 🐈 chat"])
    for words in ("zanzibar", "tower of babel", "東京"):
        found = index.search(words, 2, hybrid=True)
        assert "atlas" in ids(found), f"rank 1 by words outweighs any rank by likeness alone: {words}"
    assert "p9" in ids(index.search("ネコ", 2, hybrid=True))
    assert "cat" in ids(index.search("CHAT", 2, hybrid=True, among="captions"))
    assert "atlas" not in ids(index.search("zanzibar", 5, hybrid=True, where={"year": {"exists": True}}))


def test_an_item_asks_with_its_own_words(index: Index) -> None:
    plain = index.search(like="p3", k=N)
    assert ids(index.search(like="p3", k=N, hybrid=True)) == ids(plain), "an image has no words"
    text = described(N).items[3].captions[0]
    order = ids(index.search(like="p3#0", k=200, among="captions"))
    words = [id for id in bm25(described(N), text.split(), "captions") if id != "p3#0"]
    found = index.search(like="p3#0", k=200, among="captions", hybrid=True)
    assert "p3#0" not in ids(found)
    expected = fused(order, words)
    assert [hit.score for hit in found] == pytest.approx([expected[hit.id] for hit in found], abs=1e-6)


def test_approximate_hybrid_answers_have_true_scores(near: Index) -> None:
    exact = {hit.id: hit.raw_score for hit in near.search("red cat", 800, exact=True)}
    found = near.search("red cat", 10, hybrid=True)
    assert len(found) == 10 and all(hit.raw_score == pytest.approx(exact[hit.id], abs=2e-6) for hit in found)
    assert ids(found) == ids(near.search("red cat", 10, hybrid=True, exact=True))


# ---- where the right answers stop


def test_probabilities_are_those_of_raw_scores(index: Index) -> None:
    found = index.search("red cat", N)
    told = [hit.probability for hit in found]
    assert told == pytest.approx(curve(0.55).probability([hit.raw_score for hit in found]).tolist(), abs=1e-6)
    assert found.expected_matches == pytest.approx(sum(told), abs=1e-4)
    assert found.likely == sum(p >= 0.5 for p in told) > 0 and not found.notes
    by_picture = index.search(like="p3", k=N)
    assert [hit.probability for hit in by_picture] == pytest.approx(
        curve(0.6).probability([hit.raw_score for hit in by_picture]).tolist(), abs=1e-6
    )


@pytest.mark.parametrize("options", [{}, {"unlike": "dog"}, {"hybrid": True}, {"diverse": 0.3}, {"group_by": "year"}])
def test_confident_thins_the_list_without_reordering(index: Index, options: dict[str, Any]) -> None:
    plain = index.search("red cat", N, **{k: v for k, v in options.items() if k != "group_by"})
    cut = sorted(hit.probability or 0.0 for hit in plain)[-17]
    found = index.search("red cat", N, confident=cut, **options)
    kept = [hit for hit in plain if (hit.probability or 0.0) >= cut]
    assert found.likely == 17 == len(kept)
    if "group_by" in options:
        first = {hit.metadata["year"]: hit.id for hit in reversed(kept)}
        assert ids(found) == [hit.id for hit in kept if first[hit.metadata["year"]] == hit.id]
    elif "diverse" in options:
        assert set(ids(found)) == {hit.id for hit in kept} and ids(found)[0] == ids(plain)[0]
    else:
        assert ids(found) == [hit.id for hit in kept]
        assert [hit.rank for hit in found] == list(range(1, 18))
    page = index.search("red cat", 5, offset=15, confident=cut, **options)
    assert ids(page) == ids(found)[15:20]


def test_expected_matches_follow_the_filter(index: Index) -> None:
    whole = index.search("red cat", 3)
    parts = [index.search("red cat", 3, where={"place": place}) for place in ("lake", "café", "lake side")]
    assert whole.expected_matches == pytest.approx(sum(part.expected_matches or 0 for part in parts), abs=1e-4)
    assert whole.likely == sum(part.likely or 0 for part in parts)
    assert index.search("red cat", where={"place": "nowhere"}).expected_matches == 0.0
    facets = index.search("red cat", 3, confident=0.4, facets=["place"]).facets
    counted = Counter(hit.metadata["place"] for hit in index.search("red cat", N, confident=0.4))
    assert facets is not None and dict(facets["place"]) == counted


def test_approximate_expectations_are_close(near: Index) -> None:
    ratios = []
    for n in range(0, 60, 3):
        for options in ({}, {"where": {"place": {"text": "lake"}}}):
            query = described(60).items[n].captions[0]
            found, exact = near.search(query, **options), near.search(query, exact=True, **options)  # type: ignore[arg-type]
            assert exact.exact and exact.expected_matches is not None and found.expected_matches is not None
            ratios.append(found.expected_matches / exact.expected_matches)
            assert found.likely is not None and exact.likely is not None and found.likely <= exact.likely
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.02) and min(ratios) > 0.8 and max(ratios) < 1.25


def test_an_item_that_asks_expects_nothing_of_itself(near: Index) -> None:
    """It lies outside of its own candidates, where a sample stands for all the others."""
    for n in range(0, 40):
        found, exact = near.search(like=f"p{n}"), near.search(like=f"p{n}", exact=True)
        assert found.expected_matches == pytest.approx(exact.expected_matches, abs=0.2)


def test_without_a_calibration_one_line_says_why(index: Index, tmp_path: Path) -> None:
    bare = Index.build(FakeModel(d=32), described(5), tmp_path / "x")
    found = bare.search("red")
    assert found.expected_matches is None is found.likely and {hit.probability for hit in found} == {None}
    assert [note for note in found.notes if "no calibration; learn one with: manymatch" in note] == list(found.notes)
    with pytest.raises(DataError, match=r"confident 0\.5 cannot cut: the index has no calibration; learn one with"):
        bare.search("red", confident=0.5)
    found = index.search(like="p3", among="captions")
    assert found.notes == ("no probabilities: image to caption: nobody judged captions",)
    assert found.expected_matches is None
    with pytest.raises(DataError, match=r"confident 0\.5 cannot cut: image to caption: nobody judged captions"):
        index.search(like="p3", among="captions", confident=0.5)


# ---- how ambiguous


def test_ambiguity_is_the_embedding_s_own(index: Index, near: Index) -> None:
    model = index.model
    for words in ("red", "red blue green circle"):
        told = float(model.encode_texts([words]).ambiguity()[0])  # type: ignore[index]
        assert index.search(words).ambiguity == pytest.approx(told, abs=1e-6)
    assert near.search("red").ambiguity is None, "one point leaves nothing open, so nothing is said"
    assert near.search("red").to_json()["ambiguity"] is None


# ---- other orders


@pytest.mark.parametrize("among", ["images", "captions"])
def test_diverse_pages_go_on_without_repeats(index: Index, among: Any) -> None:
    plain = index.search("red cat", 300, among=among)
    for balance in (0.0, 0.5, 0.9):
        whole = index.search("red cat", 300, among=among, diverse=balance)
        assert ids(whole)[0] == ids(plain)[0] and set(ids(whole)) == set(ids(plain)) and len(whole) == len(plain)
        pages = [index.search("red cat", 23, offset=23 * n, among=among, diverse=balance) for n in range(13)]
        assert [id for page in pages for id in ids(page)] == ids(whole)
        assert {hit.id: hit.score for hit in whole} == pytest.approx({hit.id: hit.score for hit in plain})
    assert ids(index.search("red cat", 300, among=among, diverse=1.0)) == ids(plain)


def test_diverse_shows_copies_late(tmp_path: Path) -> None:
    index = Index.build(FakeModel(d=32), described(30), tmp_path / "x")
    copies = index.model.encode_texts(["red cat"] * 8)
    index.add_embeddings([f"copy{n}" for n in range(8)], copies, "image")
    assert all(id.startswith("copy") for id in ids(index.search("red cat", 8)))
    found = [ids(index.search("red cat", 8, diverse=balance)) for balance in (0.0, 0.3, 0.9)]
    assert {each[0] for each in found} == {"copy0"}
    copies = [sum(id.startswith("copy") for id in each) for each in found]
    assert copies[0] == 1 and copies == sorted(copies) and copies[2] == 8


def test_meanings_put_each_answer_in_one_group(index: Index, near: Index) -> None:
    for one in (index, near):
        for query in ("red cat", "small"):
            found = one.search(query, 5, meanings=True, per_group=1000)
            assert found.meanings is not None and found.meant_by
            shown = [hit.id for meant in found.meanings for hit in meant.hits]
            assert sorted(shown) == sorted(ids(one.search(query, 100))), "all that were looked at, each once"
            assert sum(meant.share for meant in found.meanings) == pytest.approx(1.0)
            assert all(meant.count == len(meant.hits) for meant in found.meanings)
            ranks = {hit.id: hit.rank for hit in one.search(query, 100)}
            assert all(ranks[hit.id] == hit.rank for meant in found.meanings for hit in meant.hits)
            assert all(a.rank < b.rank for meant in found.meanings for a, b in pairwise(meant.hits))
            shown = one.search(query, 5, meanings=True, per_group=2).meanings or ()
            assert all(len(meant.hits) == min(2, meant.count) for meant in shown)
    assert index.search("red").meanings is None


def test_why_an_answer_was_found(index: Index, near: Index) -> None:
    query = index.model.encode_texts(["red cat"])
    for hit in index.search("red cat", 3, explain=True):
        item = index.model.encode_images(described(N).images.take([int(hit.id[1:])]))
        cosines = (query.elements[0] @ item.elements[0].T).numpy()
        assert hit.why is not None and len(hit.why) == 4
        assert sorted(match["query_element"] for match in hit.why) == [0, 1, 2, 3]
        for match in hit.why:
            row = cosines[match["query_element"]]
            assert match["item_element"] == row.argmax() and match["cosine"] == pytest.approx(row.max(), abs=1e-5)
        assert sum(match["share"] for match in hit.why) == pytest.approx(1.0)
    hit = near.search("red cat", 1, explain=True)[0]
    assert hit.why is not None and hit.why[0]["cosine"] == pytest.approx(hit.raw_score, abs=1e-5)
    assert index.search("red cat", 1)[0].why is None


# ---- several at once


EVERYTHING: list[dict[str, Any]] = [
    {},
    {"among": "captions", "offset": 3, "k": 4},
    {"where": {"year": {"gte": 2010}}, "facets": ["place", "year"]},
    {"hybrid": True},
    {"diverse": 0.4, "explain": True},
    {"group_by": "place", "per_group": 2},
    {"meanings": True},
    {"confident": 0.3},
    {"exact": True, "bank": False},
]


def alike(one: Any, other: Any) -> bool:
    """Equal but for rounding of fractions: several queries at once are one matrix product of another shape."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=0, abs_tol=5e-5)
    return bool(one == other)


@pytest.mark.parametrize("options", EVERYTHING, ids=lambda options: ",".join(options) or "plain")
def test_several_queries_at_once_are_answered_as_one_by_one(index: Index, near: Index, options: dict[str, Any]) -> None:
    queries = ["red cat", "small house", "red cat", *WORDS, "tree above snow"]
    for one in (index, near):
        many = one.search_many(queries, **options)
        assert [found.query for found in many] == queries
        for query, found in zip(queries, many, strict=True):
            assert alike(found.to_json(), one.search(query, **options).to_json())


def test_several_queries_are_texts(index: Index) -> None:
    assert index.search_many([]) == []
    assert len(index.search_many(["red"])) == 1
    with pytest.raises(DataError, match="expected a list of texts"):
        index.search_many("red cat")
    with pytest.raises(DataError, match=r"a query is (Posix|Windows)Path, expected texts"):
        index.search_many(["red", Path("cat.png")])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="unexpected argument 'like'"):
        index.search_many(["red"], like="p3")


# ---- how an answer is told


def test_answers_are_told_as_agreed(index: Index) -> None:
    body = index.search("red cat", 2, where={"year": {"gte": 2001}}).to_json()
    assert list(body)[:6] == ["query", "exact", "agreement", "bank", "ambiguity", "expected_matches"] and "hits" in body
    assert (body["query"], body["exact"], body["agreement"], body["bank"]) == ("red cat", True, None, False)
    agreed = ["rank", "id", "modality", "score", "raw_score", "probability", "metadata"]
    for hit in body["hits"]:
        assert list(hit)[:7] == agreed and hit["modality"] == "image" and set(hit["metadata"]) == {"year", "place"}
    everything = index.search(
        "red cat", 3, facets=["place"], meanings=True, explain=True, group_by="year", confident=0.2, unlike="dog"
    )
    assert json.loads(json.dumps(everything.to_json(), allow_nan=False)) == everything.to_json()
    assert {"groups", "meanings", "meant_by", "facets"} <= set(everything.to_json())


def test_a_field_that_no_item_has_is_told_with_the_nearest(index: Index) -> None:
    found = index.search("red", where={"yeer": {"gte": 1}})
    assert not found.hits and found.searched == 0
    assert "no item has a field 'yeer'; nearest: 'year'" in found.notes
    assert "no item has a field 'qqq'; there are: labels, place, year" in index.search("red", where={"qqq": 1}).notes
    assert not index.search("red", where={"year": 1850}).notes, "the field is there, the value is not"
    for options in ({"group_by": "yeer"}, {"facets": ["year", "yeer"]}):
        with pytest.raises(UnknownName, match="did you mean 'year'"):
            index.search("red", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": 0}, "k is 0, expected a whole number of at least 1"),
        ({"k": 2.0}, r"k is 2\.0, expected a whole number"),
        ({"k": True}, "k is True, expected a whole number"),
        ({"k": "3"}, "k is '3', expected a whole number"),
        ({"offset": -1}, "offset is -1, expected a whole number of at least 0"),
        ({"per_group": 0}, "per_group is 0, expected a whole number of at least 1"),
        ({"confident": 1.5}, r"confident is 1\.5, expected a number from 0 to 1"),
        ({"confident": float("nan")}, "confident is nan, expected a number from 0 to 1"),
        ({"confident": True}, "confident is True, expected a number from 0 to 1"),
        ({"diverse": -0.1}, r"diverse is -0\.1, expected a number from 0 to 1"),
        ({"diverse": "much"}, "diverse is 'much', expected a number from 0 to 1"),
        ({"diverse": 0.5, "group_by": "year"}, "diverse and group_by both change the order; choose one"),
        ({"facets": "year"}, "facets is the string 'year', expected a list of fields"),
        ({"where": "year>=2000"}, "where is 'year>=2000', expected a mapping"),
        ({"where": {"year": None}}, "'year' is compared with None, expected text, a number or a bool"),
        ({"bank": True}, "no image of this index has a bias for when a caption or words ask"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_with_what_can(index: Index, options: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        index.search("red", **options)


def test_numpy_numbers_are_numbers(index: Index) -> None:
    numbers: dict[str, Any] = {"offset": np.int32(2), "confident": np.float32(0), "diverse": np.float64(1)}
    assert len(index.search("red", np.int64(4), **numbers)) == 4


# ---- many at once


def test_many_threads_see_whole_generations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("local.view", "local.collection"):
        monkeypatch.setattr(f"manymatch.index.{module}.EXACT_UP_TO", 30)
    monkeypatch.setattr("manymatch.index.local.view._FEW", 20)
    model = FakeModel("points", d=32)
    index = Index.build(model, described(160), tmp_path / "x", precision="float32", engine="faiss")
    states = [frozenset(f"p{n}" for n in range(160))]
    seen: list[tuple[Results, Results]] = []
    failures: list[BaseException] = []
    stop = threading.Event()

    def ask(number: int) -> None:
        try:
            while not stop.is_set():
                whole = index.search(WORDS[number], 1000, facets=["year"], group_by="year", per_group=1000)
                seen.append((whole, index.search(f"{WORDS[number]} cat", 10, hybrid=number % 2 == 0)))
        except BaseException as error:
            failures.append(error)

    def change() -> None:
        for n in range(5):
            added = [f"p{m}" for m in range(200 + 10 * n, 210 + 10 * n)]
            index.add(described(10, start=200 + 10 * n))
            states.append(states[-1] | set(added))
            gone = sorted(states[-1])[n::9]
            index.delete(gone)
            states.append(states[-1] - set(gone))
            if n == 2:
                index.refresh()

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    try:
        change()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failures and len(seen) >= 16
    for whole, first in seen:
        grouped = [hit.id for group in whole.groups or () for hit in group.hits]
        assert frozenset(grouped) in states and len(grouped) == len(set(grouped)) == whole.searched
        counts = {value: count for value, count in (whole.facets or {})["year"]}
        assert counts == {group.value: len(group.hits) for group in whole.groups or ()}
        assert len(first) == 10 and any(set(ids(first)) <= state for state in states)
    assert torch.get_num_threads() >= 1 and frozenset(ids(index.search("red", 1000))) == states[-1]
