"""Images of the gallery that are one picture are found by their bytes, else by their features, and said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_fakes import FakeModel, made_pairs

from manymatch.data.features import Features
from manymatch.data.pairs import Item, Pairs
from manymatch.embeddings import Points
from manymatch.errors import DataError
from manymatch.evaluation import duplicates, evaluate


class Bytes:
    """Pictures whose bytes are known; None cannot be read."""

    def __init__(self, stored: dict[str, bytes | None]) -> None:
        self.stored, self.asked = stored, 0

    def read(self, name: str) -> bytes:
        self.asked += 1
        found = self.stored[name]
        if found is None:
            raise DataError(f"{name}: gone")
        return found


class Rows:
    """Two fragments an image, the second padding where `lengths` says 1, and a pooled vector."""

    def __init__(self, vectors: object, lengths: object, pooled: object) -> None:
        self.values = [None if v is None else np.array(v) for v in (vectors, lengths, pooled)]

    def get(self, items: Sequence[Item]) -> Features:
        rows = [item.row for item in items]
        return Features(*(None if v is None else v[rows] for v in self.values))


def pictured(stored: Sequence[bytes | None], **more: object) -> Pairs:
    items = [Item(f"i{n}", (f"caption {n}",), picture=f"{n}.png", row=n) for n in range(len(stored))]
    return Pairs(items, pictures=Bytes({f"{n}.png": each for n, each in enumerate(stored)}), **more)


def test_equal_bytes_are_one_picture():
    found = duplicates(pictured([b"x", b"y", b"x", b"z", b"y", b"x", b"w"]))
    assert found.groups == (("i0", "i2", "i5"), ("i1", "i4")) and found.same == "picture"
    assert found.notes() == [
        "3 images are one picture: i0 = i2 = i5; 2 such groups; "
        "a right answer's twin counts as wrong unless the truth says otherwise"
    ]


def test_nothing_is_said_where_all_differ():
    assert duplicates(pictured([b"x", b"y"])).notes() == []
    assert duplicates(made_pairs([1, 1])).groups == ()


def test_pictures_that_cannot_be_read_are_like_no_other():
    assert duplicates(pictured([None, b"x", None, b"x"])).groups == (("i1", "i3"),)


def test_features_tell_where_there_are_no_pictures():
    rows = Rows([[[1.0], [2.0]], [[1.0], [9.0]], [[1.0], [2.0]], [[-0.0], [0.0]], [[0.0], [0.0]]], None, None)
    items = [Item(f"i{n}", ("c",), row=n) for n in range(5)]
    found = duplicates(Pairs(items, features=rows))
    assert found.groups == (("i0", "i2"), ("i3", "i4")) and found.same == "features"
    assert found.notes()[0].startswith("2 images have the same features: i0 = i2; 2 such groups;")


def test_padding_is_not_compared_and_pooled_vectors_are():
    vectors = [[[1.0], [2.0]], [[1.0], [9.0]], [[1.0], [5.0]], [[1.0], [2.0]]]
    rows = Rows(vectors, [1, 1, 1, 2], [[3.0], [3.0], [4.0], [3.0]])
    items = [Item(f"i{n}", ("c",), row=n) for n in range(4)]
    assert duplicates(Pairs(items, features=rows)).groups == (("i0", "i1"),)


def test_pictures_go_before_features():
    same = Rows(None, None, [[1.0], [1.0]])
    assert duplicates(pictured([b"x", b"y"], features=same)).groups == ()
    assert duplicates(pictured([None, None], features=same)).groups == (("i0", "i1"),)


def test_many_images_are_read_in_blocks():
    pooled = np.arange(600.0)[:, None]
    pooled[599] = pooled[3]
    told: list[tuple[int, int]] = []
    items = [Item(f"i{n}", ("c",), row=n) for n in range(600)]
    pairs = Pairs(items, features=Rows(None, None, pooled))
    found = duplicates(pairs, lambda done, total: told.append((done, total)))
    assert found.groups == (("i3", "i599"),)
    assert told[-1] == (600, 600)


def test_evaluate_says_it_and_the_twin_counts_as_wrong():
    pairs = pictured([b"x", b"x", b"y"])
    points = Points(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    report = evaluate(FakeModel(points, points), pairs)
    assert report.notes == tuple(duplicates(pairs).notes()) and "i0 = i1" in str(report)
    assert report.value("R@1", "t2i") == pytest.approx(100 * (0.5 + 0.5 + 1) / 3)


def test_it_can_be_left_out():
    pairs = pictured([b"x", b"x", b"y"])
    points = Points(torch.eye(3))
    assert evaluate(FakeModel(points, points), pairs, find_duplicates=False).notes == ()
    assert pairs.pictures.asked == 0


def test_real_photographs(reference: Path):
    folder = reference / "data" / "flickr8k"
    pairs = Pairs.read(folder / "captions.jsonl", images=folder / "images_160.tar")
    same = ("2851198725_37b6027625.jpg", "3050606344_af711c726c.jpg")
    assert [sorted(ids) for ids in duplicates(pairs).groups] == [sorted(same)]
    assert duplicates(pairs.split("test")).groups == ()


def test_of_very_many_images_of_one_picture_a_few_are_named():
    pairs = Pairs(
        [Item(f"i{n}", ("x",), picture=f"{n}") for n in range(40)], pictures=Bytes({f"{n}": b"" for n in range(40)})
    )
    assert duplicates(pairs).notes()[0].startswith("40 images are one picture: i0 = i1 = i2 = i3 = i4 = ...; a right")
