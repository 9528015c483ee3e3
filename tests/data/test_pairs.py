"""Pairs: views by split and row, captions and their owners, images that are read when asked for."""

import numpy as np
import pytest
from PIL import Image

from manymatch.data.features import Features, Pixels
from manymatch.data.matches import Matches
from manymatch.data.pairs import Images, Item, Pairs, Problem
from manymatch.errors import DataError, UnknownName

ITEMS = (
    Item("a", ("a0", "a1"), split="train", picture="a.png", row=0),
    Item("b", ("b0",), split="val", picture="b.png", row=1),
    Item("c", ("c0", "c1", "c2"), split="train", row=2),
    Item("d", ("d0",), row=4),
)


class Reds:
    """Pictures whose red says which they are."""

    def open(self, name: str) -> Image.Image:
        return Image.new("RGB", (2, 2), (ord(name[0]), 0, 0))


class Rows:
    """Features that say their row."""

    def get(self, items: list[Item]) -> Features:
        return Features(None, pooled=np.array([[item.row] for item in items], np.float32))


class Everything:
    """A truth in which every caption fits every image."""

    def matches(self, pairs: Pairs) -> Matches:
        return Matches.from_dense(np.ones((len(pairs), len(pairs.captions))))


def pairs() -> Pairs:
    return Pairs(ITEMS, pictures=Reds(), features=Rows(), truth=Everything(), problems=[Problem("f", 4, "k", "d")])


def test_captions_their_ids_and_owners_go_together() -> None:
    assert pairs().captions == ["a0", "a1", "b0", "c0", "c1", "c2", "d0"]
    assert pairs().caption_ids == ["a#0", "a#1", "b#0", "c#0", "c#1", "c#2", "d#0"]
    np.testing.assert_array_equal(pairs().owner, [0, 0, 1, 2, 2, 2, 3])
    np.testing.assert_array_equal(pairs().matches().images, pairs().owner)


def test_splits_are_counted_in_order_and_taken() -> None:
    assert pairs().splits == {"train": 2, "val": 1}
    train = pairs().split("train")
    assert (train.image_ids, train.name) == (["a", "c"], "pairs:train")
    assert train.problems == pairs().problems
    with pytest.raises(UnknownName, match=r"unknown split of pairs 'tran': did you mean 'train'"):
        pairs().split("tran")


def test_rows_can_be_taken_renamed_and_left_out() -> None:
    assert pairs().take([2, 0]).image_ids == ["c", "a"]
    fewer = pairs().without(["a", "d"], [Problem("f", 1, "gone", "x")])
    assert (fewer.image_ids, [p.kind for p in fewer.problems]) == (["b", "c"], ["k", "gone"])
    assert pairs().problems[1:] == ()
    assert pairs().with_splits({"d": "test", "a": "val"}).splits == {"val": 2, "train": 1, "test": 1}


def test_a_repeated_id_is_refused() -> None:
    with pytest.raises(DataError, match="id 'a' is there twice"):
        Pairs([*ITEMS, ITEMS[0]])


def test_images_open_one_by_one_and_stay_unread_in_slices() -> None:
    images = pairs().images
    assert len(images) == 4
    assert images[1].getpixel((0, 0)) == (ord("b"), 0, 0)
    part = images[:2]
    assert isinstance(part, Images)
    assert [image.getpixel((0, 0))[0] for image in part.decode()] == [ord("a"), ord("b")]
    assert [item.id for item in images.take([3, 1]).items] == ["d", "b"]
    with pytest.raises(DataError, match="image 'c': no picture"):
        images[2]
    with pytest.raises(IndexError):
        images[4]


def test_features_are_read_for_the_items_asked_for() -> None:
    pooled = pairs().split("train").images.read_features().pooled
    np.testing.assert_array_equal(pooled, [[0], [2]])
    with pytest.raises(DataError, match="give --features"):
        Pairs(ITEMS).images.read_features()


def test_truth_is_asked_about_the_very_pairs_and_absent_is_none() -> None:
    exhaustive = pairs().split("val").exhaustive()
    assert exhaustive is not None and exhaustive.shape == (1, 1)
    assert Pairs(ITEMS).exhaustive() is None


def test_no_items_are_no_captions() -> None:
    empty = pairs().take([])
    assert (len(empty), empty.captions, empty.owner.dtype) == (0, [], np.int64)
    assert empty.matches().shape == (0, 0)


def test_problems_read_as_one_line() -> None:
    assert str(Problem("p.jsonl", 3, "not JSON", "half")) == "p.jsonl:3: not JSON: half"
    assert str(Problem("t.tar", None, "damaged file", "cut")) == "t.tar: damaged file: cut"


def test_features_and_pixels_check_their_shapes() -> None:
    both = Features(np.zeros((3, 2, 4)), np.ones(3, int), np.zeros((3, 5)))
    assert len(both) == 3
    assert both[1:].pooled is not None and len(both[1:]) == 2
    for arguments, reason in [
        ((np.zeros((3, 2)),), "features.vectors: 2 axes"),
        ((np.zeros((3, 2, 4)), None, np.zeros((2, 5))), "expected as many in each"),
        ((None, np.ones(3, int)), "neither vectors nor pooled"),
    ]:
        with pytest.raises(DataError, match=reason):
            Features(*arguments)
    assert len(Pixels(np.zeros((4, 3, 8, 8)))[:3]) == 3
    with pytest.raises(DataError, match=r"expected \(n, 3, h, w\)"):
        Pixels(np.zeros((4, 8, 8, 3)))
