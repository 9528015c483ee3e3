"""Candidates: the wanted agreement is reached and told, or the search is exact and says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from index_fakes import FakeModel, keep_runs, some_pairs

from manymatch.embeddings import Sets
from manymatch.errors import UnknownName
from manymatch.index import Index
from manymatch.index.candidates import First
from manymatch.index.gallery import best


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
    monkeypatch.setattr("manymatch.index.view.EXACT_UP_TO", 100)
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
