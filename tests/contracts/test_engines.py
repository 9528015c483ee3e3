"""Every engine gives the same answers: those of the run's own similarity over everything that is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_worlds import (
    SERVER,
    Known,
    Truth,
    World,
    built,
    drop_collections,
    found_of_first,
    keep_worlds,
    lower_limits,
    missing_qdrant,
    passes,
    same_order,
    seen,
    some_items,
    true_scores,
    values_of,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.data.pairs import Pairs
from manymatch.errors import DataError, IndexMismatch, UnknownName
from manymatch.index import Added, Index

ENGINES = [
    "exact",
    "faiss",
    pytest.param(
        "qdrant",
        marks=[
            # Its in-memory mode compares item by item in Python.
            pytest.mark.slow,
            pytest.mark.skipif(bool(missing_qdrant()), reason=missing_qdrant() or "it is there"),
        ],
    ),
]
if SERVER:
    ENGINES.append("qdrant server")
ON_EACH = pytest.mark.parametrize("engine", ENGINES)

Setup = tuple[str, Index, Truth]


def sized(engine: str, count: int) -> int:
    """How many items: the server's stand-in goes through all of them in Python for every request."""
    return count if engine != "qdrant" else (count + 1) // 2


def chosen(truth: Truth, engine: str) -> list[Known]:
    """Items of both modalities that ask."""
    return list(truth.items.values())[:: max(1, len(truth.items) // sized(engine, 100))]


@pytest.fixture(autouse=True, scope="module")
def _small_worlds() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        keep_worlds(patch)
        lower_limits(patch)
        yield
        drop_collections()


@pytest.fixture(scope="module", params=ENGINES)
def there(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    """Images with captions that nobody changes."""
    world, items = World(), some_items(sized(request.param, 300))
    index = built(world, tmp_path_factory.mktemp("there") / "x", request.param, items, precision="float32")
    return request.param, index, Truth.of(world, items)


# ---- the order


KINDS = ["cosine", "smooth_chamfer", "match_probability", "mahalanobis", "box_distance", "sampled_match_probability"]
STORED = [*((similarity, "float16") for similarity in KINDS), ("smooth_chamfer", "float32")]


@ON_EACH
@pytest.mark.parametrize(("similarity", "precision"), STORED)
def test_exact_is_the_order_of_the_similarity(engine: str, similarity: str, precision: str, tmp_path: Path) -> None:
    world, items = World(similarity), some_items(40)
    index = built(world, tmp_path / "x", engine, items, precision=precision)
    truth = Truth.of(world, items, precision)
    for modality, among in (("image", "images"), ("caption", "captions")):
        found = index.search("some words", 1000, among=among, exact=True)
        same_order(found, truth.order("some words", modality))
        assert found.exact and found.agreement is None and found.searched == len(truth.of_modality(modality))
        for id in ("p7", "p7#1"):
            same_order(index.search(like=id, k=1000, among=among, exact=True), truth.like(id, modality))
    index.close()


def test_approximate_answers_have_true_scores_and_the_promised_agreement(there: Setup) -> None:
    engine, index, truth = there
    for modality, among in (("image", "images"), ("caption", "captions")):
        told = index.info()["agreement"][modality]
        assert (engine == "exact") == (not told)
        shares: dict[str, list[float]] = {"caption": [], "image": []}
        exact = 0
        for item in chosen(truth, engine):
            found, expected = index.search(like=item.id, among=among), truth.like(item.id, modality)
            true_scores(found, expected)
            assert len(found) == 10 and found.agreement == (None if found.exact else told[item.modality])
            shares[item.modality].append(found_of_first(found, expected))
            exact += found.exact
        # Where too few candidates are found, everything is scored.
        assert engine == "exact" or exact < 0.2 * len(chosen(truth, engine))
        for asking, share in shares.items():
            # A part of the queries that agreement was measured with, so that chance has a little room.
            assert np.mean(share) >= told.get(asking, 1.0) - 0.02
            assert told.get(asking, 1.0) >= 0.99


def test_pages_go_on_from_each_other(there: Setup) -> None:
    _, index, truth = there
    expected = truth.order("pages")
    n = len(expected)
    pages = [index.search("pages", 37, offset=start, exact=True) for start in range(0, n + 20, 37)]
    same_order([hit for page in pages for hit in page], expected)
    assert [hit.rank for page in pages for hit in page] == list(range(1, n + 1))
    assert len(index.search("pages", 10_000)) == n, "so many can only be had by scoring everything"
    assert not index.search("pages", 5, offset=n).hits and index.search("pages", 10_000, offset=n - 1)[0].rank == n
    assert len(index.search(like="p0", k=10_000)) == n - 1


# ---- filters, facets, groups


CONDITIONS: list[Mapping[str, Any]] = [
    {"year": 2003},
    {"year": [1990, 1991, 2010]},
    {"year": {"gte": 2000}},
    {"year": {"gt": 1995, "lte": 2005.5}},
    {"tag": "dog"},
    {"tag": ["7", "snow"]},
    {"tag": 7},
    {"tag": {"text": "SNOW"}},
    {"shot.lens": {"lt": 1}},
    {"shot.on": True},
    {"shot.on": {"in": [0]}},
    {"note": {"exists": True}},
    {"note": {"exists": False}},
    {"note": 3},
    {"note": {"text": "night taken"}},
    {"title": {"text": "uber lake"}},
    {"title": {"gte": "Über hill", "lt": "Über i"}},
    {"labels": ["group 1", "group 4"]},
    {"labels": {"exists": True}},
    {"yaer": {"exists": True}},
    {"yaer": {"exists": False}},
]


@given(data=st.data(), count=st.integers(1, 3), among=st.sampled_from(["images", "captions"]))
@settings(max_examples=25, derandomize=True)
def test_filters_pass_what_they_say(there: Setup, data: st.DataObject, count: int, among: Any) -> None:
    _, index, truth = there
    chosen = data.draw(st.lists(st.sampled_from(CONDITIONS), min_size=count, max_size=count))
    where = {name: condition for each in chosen for name, condition in each.items()}
    expected = truth.order("filtered", among[:-1], where)
    found = index.search("filtered", 1000, among=among, where=where, exact=True)
    same_order(found, expected)
    assert found.searched == len(expected)
    near = index.search("filtered", among=among, where=where)
    true_scores(near, expected)
    assert len(near) == min(10, len(expected)) and near.searched == len(expected)


@pytest.mark.parametrize("where", CONDITIONS, ids=str)
def test_every_sort_of_condition(there: Setup, where: Mapping[str, Any]) -> None:
    _, index, truth = there
    for among in ("images", "captions"):
        found = index.search("x", 1000, among=among, where=where)  # type: ignore[arg-type]
        assert {hit.id for hit in found} == {known.id for known in truth.of_modality(among[:-1], where)}
        assert all(passes(truth.items[hit.id], where) for hit in found)


def test_filtered_approximate_answers_are_nearly_the_exact_ones(there: Setup) -> None:
    engine, index, truth = there
    where, shares = {"year": {"gte": 1996}}, []
    for n in range(0, sized(engine, 300), 6):
        found = index.search(f"caption 0 of p{n} v0", where=where)
        expected = truth.order(f"caption 0 of p{n} v0", where=where)
        true_scores(found, expected)
        assert len(found) == 10 and (found.exact or engine != "exact")
        shares.append(found_of_first(found, expected))
    assert np.mean(shares) >= 0.97


def test_an_item_that_does_not_pass_may_ask(there: Setup) -> None:
    _, index, truth = there
    where = {"tag": "cat"}
    assert not passes(truth.items["p3"], where) and passes(truth.items["p1"], where)
    for id in ("p3", "p1", "p1#0"):
        same_order(index.search(like=id, k=500, where=where), truth.like(id, "image", where))


@pytest.mark.parametrize("among", ["images", "captions"])
def test_facets_count_what_passes(there: Setup, among: Any) -> None:
    _, index, truth = there
    fields = ["year", "tag", "shot.on", "note", "labels"]
    for where in (None, {"shot.on": True}):
        found = index.search("x", 3, among=among, where=where, facets=fields).facets
        assert found is not None and list(found) == fields
        for name in fields:
            counts: dict[Any, int] = {}
            for known in truth.of_modality(among[:-1], where):
                for value in values_of(known.about, name):
                    counts[value] = counts.get(value, 0) + 1
            in_order = sorted(counts.items(), key=lambda pair: (-pair[1], isinstance(pair[0], str), pair[0]))
            assert [tuple(pair) for pair in found[name]] == in_order[:50]


@pytest.mark.parametrize("by", ["tag", "year", "note", "owner"])
@pytest.mark.parametrize("among", ["images", "captions"])
def test_groups_follow_the_order(there: Setup, by: str, among: Any) -> None:
    _, index, truth = there
    groups: dict[Any, list[str]] = {}
    for scored in truth.order("grouped", among[:-1]):
        known = truth.items[scored.id]
        own = [known.owner or known.id] if by == "owner" else values_of(known.about, by)
        for value in own or [None]:
            groups.setdefault(value, []).append(scored.id)
    wanted = list(groups.items())
    found = index.search("grouped", 4, offset=1, among=among, group_by=by, per_group=2, exact=True)
    assert found.groups is not None
    shown = [(group.value, [hit.id for hit in group.hits]) for group in found.groups]
    assert shown == [(value, ids[:2]) for value, ids in wanted[1:5]]
    assert [(hit.id, hit.rank) for hit in found] == [(ids[0], n) for n, (_, ids) in enumerate(wanted[1:5], 2)]
    whole = index.search("grouped", 1000, among=among, group_by=by, per_group=1000, exact=True).groups or ()
    assert [(group.value, [hit.id for hit in group.hits]) for group in whole] == wanted


def test_owners_as_groups_show_each_image_once(there: Setup) -> None:
    _, index, truth = there
    found = index.search("owned", 20, among="captions", group_by="owner")
    owners = [hit.owner for hit in found]
    assert len(set(owners)) == 20 and all(truth.items[hit.id].owner == hit.owner for hit in found)


# ---- what is not there


def test_unknown_names_are_told(there: Setup) -> None:
    _, index, _ = there
    with pytest.raises(UnknownName, match="did you mean 'p1"):
        index.search(like="p1x")
    with pytest.raises(UnknownName, match="id in this index 'p0#9'"):
        index.search("x", unlike_item="p0#9")
    with pytest.raises(UnknownName, match="did you mean 'year'"):
        index.search("x", group_by="yaer")
    with pytest.raises(UnknownName, match="did you mean 'tag'"):
        index.search("x", facets=["tags"])
    with pytest.raises(UnknownName):
        index.delete(["p0", "nobody"])
    assert index.item("p0")["metadata"]["year"] == 1990
    found = index.search("x", where={"yaer": 2000})
    assert not found.hits and any("no item has a field 'yaer'; nearest: 'year'" in note for note in found.notes)


@ON_EACH
def test_an_index_without_items_answers_nothing(engine: str, tmp_path: Path) -> None:
    index = built(World(), tmp_path / "x", engine, some_items(2))
    assert index.delete(["p0", "p1"]) == 5
    index.refresh()
    for among in ("images", "captions"):
        found = index.search("x", among=among, group_by="owner", meanings=True)  # type: ignore[arg-type]
        assert not found.hits and found.exact and found.searched == 0 and found.groups == () == found.meanings
    assert len(index) == 0 and index.info()["images"] == 0
    with pytest.raises(UnknownName):
        index.search(like="p0")
    index.add(Pairs(some_items(1)))
    assert [hit.id for hit in index.search("x")] == ["p0"]


@ON_EACH
def test_another_kind_of_embedding_is_refused(engine: str, tmp_path: Path) -> None:
    index = built(World(), tmp_path / "x", engine, some_items(2))
    before = index.search("x", among="captions").to_json()["hits"]
    with pytest.raises(IndexMismatch, match="the index holds sets"):
        index.add_embeddings(["a"], World("cosine").embed(["a"]), "image")
    with pytest.raises(DataError, match="'nobody' of a caption is not an image"):
        index.add_embeddings(["a"], World().embed(["a"]), "caption", owners=["nobody"])
    assert index.search("x", among="captions").to_json()["hits"] == before and index.count("image") == 2


# ---- changes


@ON_EACH
def test_changes_are_seen_at_once_and_counted(engine: str, tmp_path: Path) -> None:
    world, items = World(), some_items(sized(engine, 160))
    index, truth = built(world, tmp_path / "x", engine, items, precision="float32"), Truth.of(world, items)
    other = Index.open(tmp_path / "x", world)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)

    def agree() -> None:
        for modality, among in (("image", "images"), ("caption", "captions")):
            assert index.count(modality) == len(truth.of_modality(modality))  # type: ignore[arg-type]
            for where in (None, {"version": {"lt": 3}}):
                expected = truth.order("changing", modality, where)
                options: dict[str, Any] = {"among": among, "where": where}
                for one in (index, other):
                    same_order(one.search("changing", 1000, exact=True, **options), expected)
                    true_scores(one.search("changing", **options), expected)

    for step in range(sized(engine, 12)):
        start = int(rng.integers(0, 180))
        if step % 3 == 0:
            some = some_items(10, start=start, version=step)
            known = sum(item.id in truth.items for item in some)
            assert (index if step % 2 else other).add(Pairs(some)) == Added(10 - known, known)
            truth.add(some)
        elif step % 3 == 1:
            there = [id for id in (f"p{n}" for n in range(start, start + 25)) if id in truth.items]
            captions = [k.id for k in truth.items.values() if k.owner == "p2"][:1]
            assert index.delete([*there, *captions]) == truth.delete([*there, *captions])
        else:
            ids = [f"p{n}" for n in range(start, start + 5) if f"p{n}" in truth.items][:1] or ["p2"]
            extra = [f"extra {step} {n}" for n in range(3)]
            owners = [ids[0] if ids[0] in truth.items else None, None, None]
            index.add_embeddings(extra, world.embed(extra), "caption", owners=owners, captions=extra)
            for id, owner in zip(extra, owners, strict=True):
                about = truth.items[owner].about if owner else {}
                truth.put(Known(id, "caption", world.embed([id]), about, owner, id))
        if step == 4:
            index.refresh()
        agree()
    with pytest.raises(UnknownName):
        other.search(like="p9999")


@ON_EACH
def test_what_was_added_last_is_found(engine: str, tmp_path: Path) -> None:
    world = World()
    index = built(world, tmp_path / "x", engine, some_items(sized(engine, 200)))
    index.add_embeddings(["new"], world.embed(["the very same"]), "image")
    found = index.search("the very same", 1)
    assert found[0].id == "new" and (found.exact or engine != "exact")
    index.delete(["new"])
    assert index.search("the very same", 1)[0].id != "new"
    index.add_embeddings(["p0"], world.embed(["the very same"]), "image")
    assert index.search("the very same", 1)[0].id == "p0" and index.count("caption") == sized(engine, 300) - 1


@ON_EACH
def test_candidates_outlive_many_deletions(engine: str, tmp_path: Path) -> None:
    """What engines still hold of items that are gone is never taken for another item."""
    world, count = World(), sized(engine, 400)
    items = some_items(count)
    index, truth = built(world, tmp_path / "x", engine, items, precision="float32"), Truth.of(world, items)
    gone = [f"p{n}" for n in range(count) if n % 3 == 1]
    assert index.delete(gone) == truth.delete(gone)
    for n in range(0, count, 13):
        words = f"caption 0 of p{n} v0"
        found = index.search(words)
        true_scores(found, truth.order(words))
        assert len(found) == 10
    index.close()
    again = Index.open(tmp_path / "x", world)  # type: ignore[arg-type]
    shares = []
    for n in range(0, count, 13):
        words = f"caption 0 of p{n} v0"
        true_scores(again.search(words), truth.order(words))
        shares.append(found_of_first(again.search(words), truth.order(words)))
    assert np.mean(shares) >= 0.97


@ON_EACH
def test_opened_again_it_answers_the_same(engine: str, tmp_path: Path) -> None:
    world = World()
    index = built(world, tmp_path / "x", engine, some_items(sized(engine, 200)))
    index.add(Pairs(some_items(20, start=190, version=1)))
    asked: list[dict[str, Any]] = [
        {"query": "again"},
        {"like": "p5", "among": "captions", "where": {"year": {"gte": 2000}}},
        {"query": "again", "hybrid": True, "diverse": 0.5, "facets": ["tag"], "exact": True},
    ]
    before = [index.search(**each).to_json() for each in asked]
    index.close()
    assert [index.search(**each).to_json() for each in asked] == before, "closed, it opens what it needs"
    again = Index.open(tmp_path / "x")
    assert [again.search(**each).to_json() for each in asked] == before
    again.refresh()
    whole = [again.search(**each, **{"exact": True} if "exact" not in each else {}).to_json()["hits"] for each in asked]
    assert whole == [index.search(**{**each, "exact": True}).to_json()["hits"] for each in asked]


# ---- biases


@ON_EACH
@pytest.mark.parametrize("similarity", ["cosine", "match_probability", "smooth_chamfer"])
def test_biases_order_and_raw_scores_stay(engine: str, similarity: str, tmp_path: Path) -> None:
    world, rng = World(similarity), np.random.default_rng(1)
    index = built(world, tmp_path / "x", engine, some_items(1), precision="float32")
    index.delete(["p0"])
    truth, spread = Truth(world), {"cosine": 0.5, "match_probability": 5.0, "smooth_chamfer": 0.05}[similarity]
    for modality, count in (("image", sized(engine, 320)), ("caption", sized(engine, 200))):
        names = [f"{modality} {n}" for n in range(count)]
        biases = {asking: spread * rng.standard_normal(count).astype(np.float32) for asking in ("caption", "image")}
        index.add_embeddings(names, world.embed(names), modality, biases=biases)  # type: ignore[arg-type]
        for n, name in enumerate(names):
            bias = {asking: float(given[n]) for asking, given in biases.items()}
            truth.put(Known(name, modality, world.embed([name]), bias=bias))
    index.refresh()
    for id in ("image 3", "caption 5"):
        for modality, among in (("image", "images"), ("caption", "captions")):
            for bank in (None, True, False):
                expected = truth.like(id, modality, bank=bank is not False)
                found = index.search(like=id, k=40, among=among, bank=bank, exact=True)  # type: ignore[arg-type]
                same_order(found, expected[:40], expected)
                assert found.bank == (bank is not False)
    shares: dict[Any, list[float]] = {None: [], False: []}
    for n in range(0, sized(engine, 200), 5):
        for bank, share in shares.items():
            expected = truth.like(f"caption {n}", "image", bank=bank is not False)
            found = index.search(like=f"caption {n}", bank=bank)
            true_scores(found, expected)
            share.append(found_of_first(found, expected))
    told = index.info()["agreement"]["image"]
    assert np.mean(shares[None]) >= told.get("caption", 1.0) - 0.02
    if engine == "exact" or world.similarity.proxy_is_exact:
        assert told or engine == "exact"
        assert np.mean(shares[None]) >= 0.97 and np.mean(shares[False]) >= 0.97


@ON_EACH
def test_without_biases_a_bank_is_refused(engine: str, tmp_path: Path) -> None:
    index = built(World("cosine"), tmp_path / "x", engine, some_items(3))
    with pytest.raises(DataError, match="no image of this index has a bias for when a caption or words ask"):
        index.search("x", bank=True)
    assert index.search("x").bank is False
    index.add_embeddings(["b"], World("cosine").embed(["x"]), "image", biases={"caption": [3.0]})
    assert index.search("x").bank and index.search("x")[3].id == "b" and index.search("x", bank=False)[0].id == "b"
    index.delete(["b"])
    assert index.search("x").bank is False, "with the item its bias went"


def test_versions_look_different() -> None:
    one, two = some_items(1)[0], some_items(1, version=1)[0]
    assert not torch.equal(*(World("cosine").embed([seen(item)]).vectors for item in (one, two)))  # type: ignore[attr-defined]
