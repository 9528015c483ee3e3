"""The toy world: seeded, its captions true of their pictures, its truth what a slow reader of the scenes finds."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manymatch.data.pairs import Item, Pairs
from manymatch.data.pictures import open_pictures
from manymatch.data.toy import ToyPictures, toy_pairs, write_toy
from manymatch.data.toy_scenes import COLOURS, COLUMNS, ROWS, SHAPES, SIZES, Scene, Thing, render, scene_at
from manymatch.errors import DataError


def slow_truth(text: str, scene: Scene) -> bool:
    """Read the caption's words again and ask the scene, one object at a time."""
    numbers = {"no": 0, "one": 1, "two": 2, "three": 3}
    first, _, rest = text.partition(" ")
    if first in numbers and " on " in text:
        return len(scene.things) == numbers[first] and text.endswith(f" on {scene.background}")
    if first in numbers:
        return sum(fits(rest, t) for t in scene.things) == numbers[first]
    for relation in ("above", "below", "left of", "right of"):
        if f" {relation} " in text:
            one, other = text.split(f" {relation} ")
            return any(
                fits(one, a) and fits(other, b) and lies(a, relation, b)
                for a in scene.things
                for b in scene.things
                if a is not b
            )
    if " and " in text:
        one, other = text.split(" and ")
        return any(fits(one, a) and fits(other, b) for a in scene.things for b in scene.things if a is not b)
    return any(fits(text, t) for t in scene.things)


def lies(a: Thing, relation: str, b: Thing) -> bool:
    return {
        "above": ROWS.index(a.row) < ROWS.index(b.row),
        "below": ROWS.index(a.row) > ROWS.index(b.row),
        "left of": COLUMNS.index(a.column) < COLUMNS.index(b.column),
        "right of": COLUMNS.index(a.column) > COLUMNS.index(b.column),
    }[relation]


def fits(phrase: str, thing: Thing) -> bool:
    look, _, place = phrase.partition(" at the ") if " at the " in phrase else phrase.partition(" on the ")
    look = look.partition(" in the middle")[0]
    words = look.replace("crosses", "cross").split()
    for word in words:
        word = word if word in SHAPES or word in COLOURS else word.removesuffix("s")
        if word in SHAPES and word != thing.shape:
            return False
        if word in COLOURS and word != thing.colour:
            return False
        if word in SIZES and word != thing.size:
            return False
    if " in the middle" in phrase:
        kind = phrase.partition(" in the middle")[2].strip()
        return {"": (thing.column, thing.row) == ("middle", "middle"), "row": thing.row == "middle"}.get(
            kind, thing.column == "middle"
        )
    named = place.split()
    if len(named) == 2:
        return (thing.row, thing.column) == (named[0], named[1])
    return not named or named[0] in (thing.row if " at the " in phrase else thing.column,)


@given(seed=st.integers(0, 10**6), images=st.integers(5, 40))
@settings(max_examples=25, deadline=None)
def test_truth_is_what_the_scenes_say(seed: int, images: int) -> None:
    pairs = toy_pairs(images, seed=seed)
    exhaustive = pairs.exhaustive()
    assert exhaustive is not None
    dense = exhaustive.dense()
    slow = [[slow_truth(text, scene_at(seed, n)) for text in pairs.captions] for n in range(images)]
    np.testing.assert_array_equal(dense, np.array(slow))
    own = pairs.matches()
    assert dense[own.images, own.captions].all(), "a caption is true of its own picture"


@given(seed=st.integers(0, 10**6), number=st.integers(0, 10**4))
@settings(max_examples=50, deadline=None)
def test_objects_keep_clear_of_each_other_and_of_the_edge(seed: int, number: int) -> None:
    things = scene_at(seed, number).things
    assert 1 <= len(things) <= 3
    for n, thing in enumerate(things):
        assert thing.radius <= min(thing.x, thing.y, 1 - thing.x, 1 - thing.y)
        for other in things[:n]:
            assert np.hypot(thing.x - other.x, thing.y - other.y) > thing.radius + other.radius


def test_a_world_is_its_seed_and_a_larger_one_begins_with_the_smaller() -> None:
    small, large, other = toy_pairs(30, seed=1), toy_pairs(60, seed=1), toy_pairs(30, seed=2)
    assert small.items == large.items[:30] and small.items != other.items
    assert small.images[7].tobytes() == large.images[7].tobytes() != other.images[7].tobytes()


def test_five_different_captions_from_few_words() -> None:
    pairs = toy_pairs(2000, seed=0)
    assert all(len(set(item.captions)) == 5 for item in pairs.items)
    assert len({word for caption in pairs.captions for word in caption.split()}) < 80
    assert pairs.splits == {"train": 1600, "val": 200, "test": 200}


def test_vagueness_varies() -> None:
    test = toy_pairs(3000, seed=0).split("test")
    truth = test.exhaustive()
    assert truth is not None
    answers = np.bincount(truth.captions, minlength=len(test.captions)) / len(test)
    assert np.quantile(answers, 0.25) < 0.01 and 0.1 < answers.max() < 0.4


@pytest.mark.parametrize("size", [16, 64, 111])
def test_pictures_show_their_objects(size: int) -> None:
    for n in range(40):
        scene = scene_at(5, n)
        picture = render(scene, size)
        assert picture.size == (size, size) and picture.mode == "RGB"
        for thing in scene.things:
            if thing.shape in ("ring", "moon") or size < 64:
                continue
            seen = np.array(picture.getpixel((int(thing.x * size), int(thing.y * size))))
            nearest = min(COLOURS, key=lambda c: float(np.abs(np.array(COLOURS[c]) - seen).sum()))
            assert nearest == thing.colour


def test_truth_knows_its_own_pictures_only() -> None:
    pairs = toy_pairs(3)
    with pytest.raises(DataError, match="'holiday' is not one of its pictures"):
        Pairs([Item("holiday", ("a red circle",))], truth=pairs.truth).exhaustive()


def test_pictures_open_again_from_their_description() -> None:
    pictures = ToyPictures(5, seed=3, size=32)
    again = open_pictures(pictures.describe())
    name = pictures.names()[4]
    assert again.open(name).tobytes() == pictures.open(name).tobytes()
    with pytest.raises(DataError, match=r"no picture 'toy-00005\.png'"):
        pictures.open("toy-00005.png")
    with pytest.raises(DataError, match="expected at least 1 of at least 16"):
        ToyPictures(0)


def test_written_files_are_the_same_world(tmp_path: Path) -> None:
    path = write_toy(tmp_path / "a", 40, seed=2, size=32)
    other = write_toy(tmp_path / "b", 40, seed=2, size=32)
    for name in ("captions.jsonl", "truth.jsonl", "images.tar"):
        assert path.with_name(name).read_bytes() == other.with_name(name).read_bytes()
    read = Pairs.read(path, truth=path.with_name("truth.jsonl"))
    made = toy_pairs(40, seed=2, size=32)
    assert read.captions == made.captions and read.splits == made.splits and not read.problems
    assert read.images[3].tobytes() == made.images[3].tobytes()
    for split in ("val", "test"):
        ours, theirs = read.split(split).exhaustive(), made.split(split).exhaustive()
        assert ours is not None and theirs is not None
        np.testing.assert_array_equal(ours.dense(), theirs.dense())
    with tarfile.open(tmp_path / "a" / "images.tar") as tar:
        assert len(tar.getnames()) == 40
    assert {json.loads(line)["split"] for line in path.read_text().splitlines()} == {"train", "val", "test"}
