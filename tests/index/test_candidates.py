"""Candidates: the wanted agreement is reached and told, or the search is exact and says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from index_fakes import FakeModel, keep_runs, some_pairs

from manymatch.calibration import Calibration, Curve
from manymatch.embeddings import Sets
from manymatch.errors import UnknownName
from manymatch.index import Index
from manymatch.index.local.candidates import First, expected
from manymatch.index.local.engines.faiss import Faiss
from manymatch.index.local.gallery import best
from manymatch.index.store.store import Store

Array = np.ndarray[Any, Any]


def clustered(n: int, spread: float, seed: int = 0, *, clusters: int = 60, k: int = 4, d: int = 32) -> Sets:
    """n sets around a few topics; with a large spread the elements of a set have nothing in common."""
    centers = torch.randn(clusters, 1, d, generator=torch.Generator().manual_seed(99))
    draw = torch.Generator().manual_seed(seed)
    topics = centers[torch.randint(clusters, (n,), generator=draw)]
    return Sets(torch.nn.functional.normalize(topics + spread * torch.randn(n, k, d, generator=draw), dim=-1))


def built(folder: Path, engine: str, spread: float, n: int = 3000) -> Index:
    model = FakeModel(d=32)
    index = Index.build(model, some_pairs(1, captions=1), folder, engine=engine)
    index.delete(["p0"])
    index.add_embeddings([f"i{x}" for x in range(n)], clustered(n, spread), "image")
    ids, words = [f"c{x}" for x in range(300)], [f"caption {x}" for x in range(300)]
    index.add_embeddings(ids, clustered(300, spread, seed=1), "caption", captions=words)
    index.refresh()
    return index


@pytest.fixture(scope="module")
def coherent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with pytest.MonkeyPatch.context() as patch:
        keep_runs(patch)
        yield built(tmp_path_factory.mktemp("coherent") / "x", "faiss", spread=0.3)


def test_agreement_is_reached_on_clustered_sets(coherent: Index) -> None:
    index = coherent
    told = index.info()["agreement"]["image"]
    assert told["caption"] >= 0.99 and told["image"] >= 0.99
    shared = []
    for n in range(1, 300, 6):
        near, exact = index.search(like=f"c{n}", among="images"), index.search(like=f"c{n}", among="images", exact=True)
        assert not near.exact and near.agreement == told["caption"] and exact.exact and exact.agreement is None
        shared.append(len({hit.id for hit in near} & {hit.id for hit in exact}))
        scores = {hit.id: hit.score for hit in exact}
        assert all(hit.score == pytest.approx(scores[hit.id], abs=1e-6) for hit in near if hit.id in scores)
    assert np.mean(shared) >= 9.7


def test_deep_pages_get_more_candidates_and_go_on_from_each_other(coherent: Index) -> None:
    index = coherent
    first = [hit.id for page in range(5) for hit in index.search(like="i3", offset=10 * page)]
    assert len(first) == 50 and len(set(first)) == 50 and "i3" not in first
    assert index.search(like="i3", k=3000).exact, "asking for everything scores everything"
    assert len(index.search(like="i3", k=3000)) == 2999


def test_where_agreement_is_out_of_reach_the_search_is_exact(tmp_path: Path) -> None:
    index = built(tmp_path / "x", "faiss", spread=50.0, n=400)
    assert index.info()["agreement"]["image"] == {}
    found = index.search(like="c5", among="images")
    assert found.exact and found.agreement is None
    assert found.to_json() == index.search(like="c5", among="images", exact=True).to_json()


def test_the_engine_follows_the_size_unless_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = built(tmp_path / "x", "exact", spread=0.3, n=50)
    assert few.info()["engine"] == {"image": "exact", "caption": "exact"}
    monkeypatch.setattr("manymatch.index.local.view.EXACT_UP_TO", 100)
    model = FakeModel(d=32)
    index = Index.build(model, some_pairs(60), tmp_path / "y")
    assert index.info()["engine"] == {"image": "exact", "caption": "faiss"}
    index = Index.build(model, some_pairs(1), tmp_path / "y", engine="exact")
    assert index.info()["engine"]["caption"] == "exact"
    with pytest.raises(UnknownName, match="did you mean 'faiss'"):
        Index.build(model, some_pairs(1), tmp_path / "z", engine="fais")  # type: ignore[arg-type]


def test_without_captions_words_are_answered_exactly(tmp_path: Path) -> None:
    index = Index.build(FakeModel("points", d=32), some_pairs(200, captions=0), tmp_path / "x", engine="faiss")
    assert list(index.info()["agreement"]["image"]) == ["image"]
    assert index.search("red cat").exact and not index.search(like="p3").exact


def test_agreement_counts_hits_among_the_first_candidates() -> None:
    right = First([np.arange(12)], top=10)
    found = np.array([0, 50, 11, -1])
    assert right.agreement([found])[:1] == pytest.approx(0.1)
    assert right.agreement([found]).tolist() == pytest.approx([0.1, 0.1, 0.2, 0.2])
    right = First([np.arange(12), np.arange(12)], top=10)
    assert right.agreement([found, np.array([], np.int64)]) == pytest.approx(np.array([0.05, 0.05, 0.1, 0.1]))


@pytest.mark.parametrize("scores", [[1.0, 3.0, 3.0, 2.0, 3.0], [0.0, 0.0, 0.0], [], [5.0]])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 10])
def test_best_is_a_stable_sort(scores: list[float], count: int) -> None:
    expected: Any = sorted(range(len(scores)), key=lambda n: -scores[n])[:count]
    assert best(np.array(scores, np.float32), count).tolist() == expected


def test_items_that_came_and_went_since_are_taken_into_account(tmp_path: Path) -> None:
    index = built(tmp_path / "x", "faiss", spread=0.3, n=1500)

    def both(id: str) -> tuple[list[str], list[str]]:
        near, exact = (index.search(like=id, k=10, exact=exact) for exact in (None, True))
        assert exact.exact and not near.exact, "nothing was refreshed, and the old structure still serves"
        return [hit.id for hit in near], [hit.id for hit in exact]

    before, _ = both("i7")
    index.delete(before)
    new = index.search(like="i7", k=1, exact=True)
    near, exact = both("i7")
    assert near == exact and not set(near) & set(before) and near[0] == new[0].id
    index.add_embeddings(
        ["twin", "far"], Sets(torch.stack([clustered(8, 0.3).elements[7], -torch.ones(4, 32) / 32**0.5])), "image"
    )
    near, exact = both("i7")
    assert near == exact and near[0] == "twin" and "far" not in near
    index.delete([f"i{n}" for n in range(8, 1500) if n % 3 and f"i{n}" not in before])
    near, exact = both("i7")
    assert len(near) == 10 and len(set(near) & set(exact)) >= 9


def test_filters_hold_for_candidates_and_for_what_came_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manymatch.index.local.collection.EXACT_UP_TO", 100)
    index = built(tmp_path / "x", "faiss", spread=0.3, n=1200)
    odd = [{"odd": n % 2} for n in range(1200)]
    index.add_embeddings([f"i{n}" for n in range(1200)], clustered(1200, 0.3), "image", metadata=odd)
    index.refresh()
    late = [{"odd": n % 2} for n in range(20)]
    index.add_embeddings([f"t{n}" for n in range(20)], clustered(1200, 0.3)[:20], "image", metadata=late)
    for n in range(1, 20, 4):
        near, exact = (index.search(like=f"i{n}", where={"odd": 1}, exact=exact) for exact in (None, True))
        assert not near.exact and near[0].id == f"t{n}" == exact[0].id
        assert all(hit.metadata["odd"] == 1 for hit in near) and near.searched == exact.searched == 610
        assert len({hit.id for hit in near} & {hit.id for hit in exact}) >= 9


def test_expected_matches_of_candidates_are_those_of_all(coherent: Index) -> None:
    deep = [hit.score for hit in coherent.search(like="c1", among="images", k=200, exact=True)]
    facts = {"truth": "made up", "queries": 9, "gallery": 3000, "pairs": 90, "right": 9}
    curve = Curve("logistic", (deep[199], deep[30]), (-8.0, 0.0), 0.99, **facts)
    kept = Calibration({("caption", "image"): curve}).to_json()
    try:
        with Store(coherent.path / "index.sqlite").writing() as change:
            change.set("calibration", kept)
        for n in range(1, 40, 4):
            near, exact = (coherent.search(like=f"c{n}", among="images", exact=exact) for exact in (None, True))
            assert exact.exact and not near.exact
            assert near.expected_matches == pytest.approx(exact.expected_matches, rel=0.1)
            assert near.likely == exact.likely
    finally:
        with Store(coherent.path / "index.sqlite").writing() as change:
            change.set("calibration", {})


@pytest.mark.parametrize("largest, bytes_each", [(1.0, 2), (1e6, 4)])
def test_proxies_are_halved_unless_they_are_too_large(largest: float, bytes_each: int, tmp_path: Path) -> None:
    given = np.random.default_rng(0).standard_normal((500, 30)).astype(np.float32)
    given[3, 0] = largest
    rows = np.arange(500) * 3 + 1

    def proxies() -> Iterator[tuple[Array, Array]]:
        yield from ((rows[start : start + 70], given[start : start + 70]) for start in range(0, 500, 70))

    engine = Faiss.build(500, proxies)
    with open(tmp_path / "x", "wb") as file:
        file.write(b"before it")
        engine.write(file)
    read = Faiss.read(tmp_path / "x", 9)
    assert read is not None and bytes_each * 500 * 32 < (tmp_path / "x").stat().st_size < (bytes_each + 2) * 500 * 32
    for one in (engine, read):
        found, scores = one.search_scored(given[:40], 5, engine.efforts()[-1])
        right = given[:40] @ given.T
        order = np.argsort(-right, axis=1)[:, :5]
        assert np.mean(found == rows[order]) > 0.97
        np.testing.assert_allclose(scores, np.take_along_axis(right, order, 1), rtol=2e-3, atol=2e-2)
        some, _ = one.search_scored(given[:2], 9, engine.efforts()[-1], among=rows[:4])
        assert all(sorted(each[each >= 0]) == sorted(rows[:4]) for each in some)


def test_a_plan_leaves_room_for_chance() -> None:
    """Queries that differ much promise less: the same mean, and a lower bound further below it."""
    same, different = np.full((50, 1), 0.99), np.where(np.arange(50) == 0, 0.5, 1.0)[:, None]
    ((mean,), (safe,)), ((other,), (lower,)) = expected(same), expected(different)
    assert mean == pytest.approx(0.99) and other == pytest.approx(0.99) and safe == pytest.approx(mean)
    assert lower == pytest.approx(0.98, abs=1e-3)
