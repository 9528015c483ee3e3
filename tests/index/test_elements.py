"""What elements of stored items attend to, asked of an index: pictures, captions, queries, and why there is nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import manymatch as mm
from manymatch.data.pairs import Item, Pairs
from manymatch.data.pictures import FolderPictures
from manymatch.errors import DataError, UnknownName
from manymatch.index import Index

SMALL = {"dim": 16, "word_dim": 12, "hidden": 8, "least_count": 1, "batch": 32, "longest_side": 64}
KEYS = {"elements", "kind", "rows", "columns", "boxes", "words", "shares", "why"}


@pytest.fixture(autouse=True)
def _fake_runs() -> None:
    """Here runs are real."""


def built(pairs: Pairs, name: str, folder: Path) -> Index:
    model = mm.method(name, **SMALL).build(pairs)
    return Index.build(model.eval(), pairs, folder)


@pytest.fixture(scope="module")
def dive(world: Pairs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    with built(world.take(range(8)), "dive", tmp_path_factory.mktemp("dive") / "x") as index:
        yield index


def none(told: dict[str, Any], elements: int, why: str) -> None:
    assert set(told) == KEYS
    assert (told["elements"], told["kind"], told["shares"], told["words"]) == (elements, None, [], None)
    assert why in told["why"]


def test_an_image_by_its_picture(dive: Index, world: Pairs) -> None:
    told = dive.elements(world.items[0].id)
    assert set(told) == KEYS and json.loads(json.dumps(told, allow_nan=False)) == told
    assert (told["elements"], told["kind"], told["rows"], told["columns"]) == (4, "grid", 2, 2)
    assert told["boxes"] is told["words"] is told["why"] is None
    assert np.shape(told["shares"]) == (4, 4)
    np.testing.assert_allclose(np.sum(told["shares"], axis=1), 1.0, rtol=0, atol=1e-9)
    (own,) = dive.model.attend_images([world.images[0]])
    assert own.shares is not None
    np.testing.assert_allclose(told["shares"], own.shares, rtol=0, atol=1e-6)


def test_captions_and_queries_by_their_words(dive: Index, world: Pairs) -> None:
    caption = world.captions[0]
    told = dive.elements(world.caption_ids[0])
    assert (told["elements"], told["kind"], told["rows"], told["boxes"], told["why"]) == (4, "words", None, None, None)
    assert " ".join(told["words"]) in caption.lower() and np.shape(told["shares"]) == (4, len(told["words"]))
    assert dive.elements(query=caption) == told
    assert dive.elements(query="red zebra")["words"][1] == "[zebra]"


def test_what_cannot_be_asked(dive: Index, world: Pairs) -> None:
    with pytest.raises(UnknownName, match="unknown id in this index 'nothing'"):
        dive.elements("nothing")
    for given in ({}, {"id": world.items[0].id, "query": "red"}):
        with pytest.raises(DataError, match="of id and query given, expected one"):
            dive.elements(**given)  # type: ignore[arg-type]
    for query in ("", " \n", 7):
        with pytest.raises(DataError, match="expected at least one word"):
            dive.elements(query=query)  # type: ignore[arg-type]


def test_features_are_not_in_an_index(featured: Pairs, tmp_path: Path) -> None:
    with built(featured.take(range(12)), "dive", tmp_path / "x") as index:
        none(index.elements(featured.items[0].id), 4, "precomputed features")
        assert index.elements(query="red")["kind"] == "words", "its words are"


def test_a_head_without_attention(world: Pairs, tmp_path: Path) -> None:
    few = world.take(range(12))
    with built(few, "vsepp", tmp_path / "x") as index:
        for told in (index.elements(few.items[0].id), index.elements(query="a red circle")):
            none(told, 1, "attends to no fragment")


def test_a_picture_that_is_gone(world: Pairs, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    items = []
    for n in range(8):
        world.images[n].save(tmp_path / "photos" / f"{n}.png")
        items.append(Item(f"p{n}", (world.captions[5 * n],), picture=f"{n}.png"))
    pairs = Pairs(items, pictures=FolderPictures(tmp_path / "photos"))
    with built(pairs, "dive", tmp_path / "x") as index:
        assert index.elements("p1")["kind"] == "grid"
        shutil.rmtree(tmp_path / "photos")
        told = index.elements("p1")
        none(told, 4, "cannot be read any more")
        assert str(tmp_path) not in told["why"], "where things lie is told to nobody"
        index.add_embeddings(["bare"], index.model.encode_texts(["red"]), "image")
        none(index.elements("bare"), 4, "not in reach of the index")
        index.add_embeddings(["mute"], index.model.encode_texts(["red"]), "caption", owners=["p1"])
        none(index.elements("mute"), 4, "its words are not in the index")
