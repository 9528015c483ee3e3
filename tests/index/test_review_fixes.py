"""What an answer gives away is its reader's own, pages go on from each other, what would spoil an index is refused."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from index_fakes import FakeModel, some_pairs
from store_fakes import SETTINGS

from manymatch.embeddings import Boxes, Fragments, Gaussians, Points, Samples, Sets
from manymatch.errors import DataError, UnknownName
from manymatch.index import Index
from manymatch.index.store.packed import Packed
from manymatch.index.store.store import Store

EVERY_KIND = [
    Points(torch.rand(2, 3)),
    Sets(torch.rand(2, 4, 3)),
    Samples(torch.rand(2, 5, 3)),
    Gaussians(torch.rand(2, 3), torch.rand(2, 3)),
    Boxes(torch.rand(2, 3), torch.rand(2, 3)),
    Fragments(torch.rand(2, 2, 3), torch.tensor([[True, True], [True, False]]), torch.rand(2, 3)),
]


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index.build(FakeModel(), some_pairs(40), tmp_path / "x.index")


def test_facets_given_away_are_not_those_kept(index: Index) -> None:
    first = index.search("red", facets=["year"])
    assert first.facets
    expected = list(first.facets["year"])
    first.facets["year"].clear()  # type: ignore[attr-defined]
    again = index.search("red", facets=["year"])
    assert again.facets and again.facets["year"] == expected


def test_numbers_of_other_libraries_become_json(index: Index) -> None:
    found = index.search("red", np.int64(3), offset=np.int64(2))
    assert [hit["rank"] for hit in json.loads(json.dumps(found.to_json()))["hits"]] == [3, 4, 5]


def test_hits_of_groups_have_their_ranks_among_all(index: Index) -> None:
    ranks = {hit.id: hit.rank for hit in index.search("red", 40)}
    found = index.search("red", 3, offset=1, group_by="year", per_group=2)
    assert found.groups
    assert all(ranks[hit.id] == hit.rank for group in found.groups for hit in group.hits)
    assert [hit.rank for hit in found] == [2, 3, 4]


@pytest.mark.parametrize("size", [30, 250])
def test_pages_of_a_hybrid_search_go_on_from_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    # More items than are fused.
    monkeypatch.setattr("manymatch.index.answers.answer._FUSED", 60)
    index = Index.build(FakeModel(), some_pairs(300, captions=1), tmp_path / "x.index")
    whole = [hit.id for hit in index.search("red cat", 300, hybrid=True)]
    pages = [hit.id for n in range(0, 300, size) for hit in index.search("red cat", size, offset=n, hybrid=True)]
    assert pages == whole and len(set(whole)) == 300


def test_hybrid_takes_any_number_of_results(index: Index) -> None:
    assert len(index.search("red", 10**30, hybrid=True)) == 40


# ---- what is refused


@pytest.mark.parametrize("embedding", EVERY_KIND, ids=lambda embedding: embedding.kind)
def test_packed_embeddings_of_every_kind_are_taken(embedding: Any) -> None:
    packed = Packed.of(embedding)
    assert Packed(packed.kind, packed.layout, packed.rows).blobs("float32")


@pytest.mark.parametrize("embedding", EVERY_KIND, ids=lambda embedding: embedding.kind)
def test_rows_of_another_length_are_refused(embedding: Any) -> None:
    packed = Packed.of(embedding)
    longer = [np.append(row, 0.0) for row in packed.rows]
    with pytest.raises(DataError, match=f"{packed.kind}: a row of .* numbers, expected"):
        Packed(packed.kind, packed.layout, longer)
    with pytest.raises(DataError, match=f"{packed.kind}: a row of 0 numbers"):
        Packed(packed.kind, packed.layout, np.empty((2, 0)))


def test_layouts_of_another_kind_are_refused() -> None:
    with pytest.raises(DataError, match="points: layout with the axes k, d, expected d"):
        Packed("points", {"k": 4, "d": 3}, np.zeros((1, 12)))
    with pytest.raises(DataError, match="rows of shape"):
        Packed("points", {"d": 3}, np.zeros(3))
    with pytest.raises(UnknownName, match="kind of embedding"):
        Packed("sticks", {"d": 3}, np.zeros((1, 3)))


def test_a_string_is_no_list_of_ids(index: Index) -> None:
    with pytest.raises(DataError, match="ids is the string 'abc'"):
        index.add_embeddings("abc", FakeModel().encode_texts(["a", "b", "c"]), "image")


def test_metadata_is_a_mapping(index: Index) -> None:
    with pytest.raises(DataError, match="expected a mapping"):
        index.add_embeddings(["new"], FakeModel().encode_texts(["a"]), "image", metadata=[["a"]])  # type: ignore[list-item]


def test_metadata_without_an_end_is_refused(index: Index) -> None:
    endless: dict[str, Any] = {}
    endless["inner"] = endless
    with pytest.raises(DataError, match="too deep in each other"):
        index.add_embeddings(["new"], FakeModel().encode_texts(["a"]), "image", metadata=[endless])
    assert len(index.search("red", 100)) == 40


# ---- several at once


def test_of_several_that_make_an_index_one_does(tmp_path: Path) -> None:
    told: list[str] = []
    start = threading.Barrier(4)

    def make() -> None:
        start.wait()
        try:
            Store.create(tmp_path / "index.sqlite", SETTINGS).close()
        except DataError as error:
            told.append(str(error))

    makers = [threading.Thread(target=make) for _ in range(4)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    words = ("has just made an index here", "is writing to this index")
    assert len(told) == 3 and all(any(word in line for word in words) for line in told)


def test_keeping_up_survives_a_disk_that_fails(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    mended = threading.Event()

    def refresh(told: Any = None, *, wait: bool = True) -> None:
        tried.append(1)
        if len(tried) == 1:
            raise OSError(5, "Input/output error")
        mended.set()

    monkeypatch.setattr(index._collection, "refresh", refresh)
    monkeypatch.setattr("manymatch.index.index.warnings.warn", lambda *said, **how: None)
    index.keep_up(0.01)
    assert mended.wait(10)
    index.close()


def test_another_agreement_is_measured_anew(tmp_path: Path) -> None:
    model = FakeModel()
    index = Index.build(model, some_pairs(240, captions=1), tmp_path / "x", engine="faiss", agreement=0.5)
    assert index.info()["agreement"]["image"]
    index.close()
    again = Index.open(tmp_path / "x", model)
    with again._store.writing() as change:
        change.set("agreement", 0.999)
    assert again.info()["agreement"]["image"] == {} and again.search("red cat").exact, "not what was asked for"
    again.refresh()
    assert all(share >= 0.999 for share in again.info()["agreement"]["image"].values())


def test_captions_that_go_leave_the_images_alone(tmp_path: Path) -> None:
    index = Index.build(FakeModel(), some_pairs(5), tmp_path / "x")
    with index._store.reading() as snapshot:
        before = snapshot.generation
    index.delete(["p0#0", "p1#1"])
    with index._store.reading() as snapshot:
        gone = {m: len(found.gone) for m in ("image", "caption") if (found := snapshot.changes_since(before, m))}
        everything = snapshot.changes_since(before)
    assert gone == {"image": 0, "caption": 2} and everything is not None and len(everything.gone) == 2
