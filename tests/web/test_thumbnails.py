"""Thumbnails in memory: bounded, the least recently used goes first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from web_fakes import FakeIndex, FakeItem, encoded

import manymatch.web.pictures as pictures
from manymatch.data.decoding import PictureError
from manymatch.web.desk import Desk
from manymatch.web.pictures import Thumbnails
from manymatch.web.settings import Settings

COLOURS = ["red", "green", "blue", "gray", "white"]
DATA = {colour: encoded(colour) for colour in COLOURS}
SIZES = {colour: len(Thumbnails().of(data, colour).data) for colour, data in DATA.items()}


def counting(monkeypatch) -> list[str]:
    made: list[str] = []
    decode = pictures.decode
    monkeypatch.setattr(pictures, "decode", lambda data, name, most: made.append(name) or decode(data, name, most))
    return made


def test_a_thumbnail_is_made_once(monkeypatch):
    made, kept = counting(monkeypatch), Thumbnails()
    assert [kept.of(DATA["red"], "red") for _ in range(3)].count(kept.of(DATA["red"], "red")) == 3
    assert made == ["red"]


def test_the_least_recently_used_goes_first(monkeypatch):
    made, kept = counting(monkeypatch), Thumbnails(max_bytes=2 * max(SIZES.values()))
    for colour in ("red", "green", "red", "blue", "red", "green"):
        kept.of(DATA[colour], colour)
    assert made == ["red", "green", "blue", "green"]


@given(st.lists(st.sampled_from(COLOURS), max_size=30), st.integers(0, 3000))
def test_never_more_is_kept_than_allowed(asked, max_bytes):
    kept = Thumbnails(max_bytes=max_bytes)
    for colour in asked:
        assert len(kept.of(DATA[colour], colour).data) == SIZES[colour]
        assert kept._size == sum(len(served.data) for served in kept._kept.values()) <= max_bytes


def test_pictures_are_as_large_as_the_index_allows():
    index = FakeIndex({"a": FakeItem(["red"], encoded("red"))})
    desk = Desk(index, Settings())
    width, height = desk.index.items["a"].picture and pictures.Image.open(pictures.io.BytesIO(encoded("red"))).size
    index.most_pixels = width * height - 1
    with pytest.raises(PictureError, match=f"at most {index.most_pixels} are read"):
        desk.thumbnail(encoded("red"), "a")
    index.most_pixels = width * height
    assert desk.thumbnail(encoded("red"), "a").media_type == "image/jpeg"
