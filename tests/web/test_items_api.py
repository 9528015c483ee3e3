"""Items over HTTP: odd ids, pictures and thumbnails, and that nothing but the collection is ever served."""

import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from web_fakes import ODD_IDS, Client, FakeIndex, FakeItem, encoded, error_of, item_path

from manymatch.web.app import create_app

# ---- items


def test_an_item_tells_its_captions_and_marks_its_own(client):
    found = client.get(item_path("red.png")).json()
    assert found["item"]["captions"] == ["a red wall", "red paint"]
    own = {hit["id"]: hit["own"] for hit in found["captions"]["hits"]}
    assert own["red.png#0"] and own["red.png#1"] and not own["blue.jpg#0"]
    assert all(hit["caption"] for hit in found["captions"]["hits"])
    like = found["like"]["hits"]
    assert like and {hit["modality"] for hit in like} == {"image"} and "red.png" not in {hit["id"] for hit in like}


@pytest.mark.parametrize("id", [odd for odd in ODD_IDS if odd != "."])
def test_odd_ids_are_told_from_the_routes_below_an_item(client, id):
    assert client.get(item_path(id)).json()["item"]["id"] == id
    assert client.get(item_path(id, "/picture")).headers["content-type"] == "image/png"
    assert client.get(item_path(id, "/thumbnail")).headers["content-type"] == "image/jpeg"


def test_the_picture_of_a_is_not_the_item_a_slash_picture(client, index):
    assert client.get("/api/items/a/picture").content == index.items["a"].picture
    assert client.get("/api/items/a%2Fpicture").json()["item"]["id"] == "a/picture"
    assert client.get("/api/items/deep/er/one.jpg").json()["item"]["id"] == "deep/er/one.jpg"


@pytest.mark.parametrize("part", ["", "/picture", "/thumbnail"])
def test_unknown_ids_are_404(client, part):
    kind, message = error_of(client.get(item_path("nobody", part)), 404)
    assert kind == "UnknownName" and "'nobody'" in message


@pytest.mark.parametrize("part", ["/picture", "/thumbnail"])
def test_an_item_without_a_picture_is_404_where_the_picture_is_asked(client, part):
    assert client.get(item_path("none")).status_code == 200
    kind, message = error_of(client.get(item_path("none", part)), 404)
    assert kind == "NotFound" and "has no picture" in message and "/home" not in message


def test_bytes_that_are_not_utf8_are_no_id(client):
    assert "not UTF-8" in error_of(client.get("/api/items/%FF/picture"), 404)[1]


TRAVERSALS = ["..%2f..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "../../pyproject.toml", "....//x", "file:///etc/passwd"]


@pytest.mark.parametrize("path", TRAVERSALS)
def test_paths_lead_nowhere(client, path):
    for start in ("/api/items/", "/static/", "/"):
        for end in ("", "/picture"):
            answer = client.get(f"{start}{path}{end}")
            assert b"root:" not in answer.content and b"[project]" not in answer.content
            assert answer.status_code == 404


@given(st.text(max_size=40), st.sampled_from(["", "/picture", "/thumbnail"]))
@example("../../../etc/passwd", "/picture")
@example("\x00", "/picture")
@example("none", "/picture")
def test_any_text_is_a_known_id_or_404(client, index, id, part):
    # A client removes path segments that are only dots before it sends them.
    if id in (".", "..") or not id:
        return
    there = id in index.items and (not part or index.items[id].picture is not None)
    assert client.get(item_path(id, part)).status_code == (200 if there else 404)


def test_an_id_has_a_length(client):
    assert error_of(client.get(item_path("x" * 4097)), 404)[0] == "UnknownName"
    assert error_of(client.get("/api/items/"), 404)[0] == "UnknownName"


def test_what_the_elements_of_an_item_attend_to(client):
    assert client.get(item_path("deep/er/one.jpg", "/elements")).json()["why"] == "one vector an item"
    assert error_of(client.get(item_path("nobody", "/elements")), 404)[0] == "UnknownName"


# ---- pictures


def test_pictures_are_the_stored_bytes_under_their_own_type(client, index):
    answer = client.get(item_path("blue.jpg", "/picture"))
    assert answer.content == index.items["blue.jpg"].picture and answer.headers["content-type"] == "image/jpeg"
    assert client.get(item_path("red.png", "/picture")).headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    ("form", "served"),
    [("WEBP", "image/webp"), ("GIF", "image/gif"), ("BMP", "image/bmp"), ("TIFF", "image/jpeg"), ("PPM", "image/jpeg")],
)
def test_the_type_comes_from_the_bytes_not_from_the_name(form, served):
    client = Client(create_app(FakeIndex({"a.html": FakeItem(["a"], encoded("red", form=form))})))
    answer = client.get(item_path("a.html", "/picture"))
    assert answer.headers["content-type"] == served
    assert Image.open(io.BytesIO(answer.content)).convert("RGB").getpixel((1, 1))[0] > 250


def test_what_is_too_long_for_a_jpeg_is_shown_smaller():
    client = Client(create_app(FakeIndex({"a": FakeItem(["a"], encoded("red", (70_000, 20), "TIFF"))})))
    answer = client.get(item_path("a", "/picture"))
    assert answer.headers["content-type"] == "image/jpeg" and Image.open(io.BytesIO(answer.content)).width == 65_500


def test_stored_bytes_that_are_no_picture_are_never_served():
    client = Client(create_app(FakeIndex({"a.png": FakeItem(["a"], b"<html><script>alert(1)</script>")})))
    for part in ("/picture", "/thumbnail"):
        assert b"script" not in client.get(item_path("a.png", part)).content
        assert client.get(item_path("a.png", part)).status_code == 404


def test_thumbnails_are_jpeg_of_480_at_most_and_never_enlarged(client):
    sizes = {
        id: Image.open(io.BytesIO(client.get(item_path(id, "/thumbnail")).content)) for id in ("blue.jpg", "red.png")
    }
    assert {picture.format for picture in sizes.values()} == {"JPEG"}
    assert sizes["blue.jpg"].size == (480, 320) and sizes["red.png"].size == (60, 40)


@pytest.mark.parametrize("part", ["/picture", "/thumbnail"])
def test_a_picture_unchanged_is_not_sent_again_and_a_replaced_one_is(part):
    index = FakeIndex({"a": FakeItem(["a"], encoded("red"))})
    client = Client(create_app(index))
    tag = client.get(item_path("a", part)).headers["etag"]
    again = client.get(item_path("a", part), headers={"if-none-match": tag})
    assert again.status_code == 304 and not again.content
    for sent in (f'"other", {tag}', f"W/{tag}", "*"):
        assert client.get(item_path("a", part), headers={"if-none-match": sent}).status_code == 304
    index.items["a"].picture = encoded("blue")
    fresh = client.get(item_path("a", part), headers={"if-none-match": tag})
    assert fresh.status_code == 200
    assert Image.open(io.BytesIO(fresh.content)).convert("RGB").getpixel((5, 5))[2] > 250
