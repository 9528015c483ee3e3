"""The search page's API over a real index of drawn pictures."""

import io

import pytest
from PIL import Image
from web_fakes import Client, encoded

import manymatch as mm
from manymatch.data.pairs import Item, Pairs
from manymatch.data.pictures import FolderPictures
from manymatch.index import Index
from manymatch.web.app import create_app

COLOURS = ["red", "green", "blue", "black", "white", "orange", "purple", "gray"]


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Index:
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "by colour").mkdir()
    for colour in COLOURS:
        (folder / "by colour" / f"{colour}.png").write_bytes(encoded(colour, (64, 64)))
    items = [
        Item(f"by colour/{c}.png", (f"a {c} wall", f"{c} paint"), "train", ("wall",), {"n": n}, f"by colour/{c}.png")
        for n, c in enumerate(COLOURS)
    ]
    pairs = Pairs(items, pictures=FolderPictures(folder), name="walls")
    model = mm.method("vsepp").build(pairs, image_tower="cnn", text_tower="bigru")
    return Index.build(model, pairs, tmp_path_factory.mktemp("index") / "walls")


@pytest.fixture(scope="module")
def client(index) -> Client:
    return Client(create_app(index))


def test_words_come_in_the_order_of_the_index(client, index):
    answer = client.get("/api/search?q=a%20red%20wall&k=5").json()
    expected = index.search("a red wall", 5)
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in expected]
    assert answer["exact"] is True and answer["agreement"] is None and answer["searched"] == len(COLOURS)
    assert all(hit["has_picture"] and hit["caption"].endswith("wall") for hit in answer["hits"])


def test_a_picture_finds_itself_first(client):
    files = {"image": ("mine.png", encoded("green", (64, 64)), "image/png")}
    assert client.post("/api/search/image?k=1", files=files).json()["hits"][0]["id"] == "by colour/green.png"


def test_an_item_with_its_captions_and_its_neighbours(client):
    found = client.get("/api/items/by%20colour%2Fred.png").json()
    assert found["item"]["captions"] == ["a red wall", "red paint"] and found["item"]["labels"] == ["wall"]
    own = {hit["id"]: hit["own"] for hit in found["captions"]["hits"]}
    assert sum(own.values()) <= 2 and all(id.startswith("by colour/red.png#") for id, mine in own.items() if mine)
    assert len(found["like"]["hits"]) == len(COLOURS) - 1


def test_a_caption_is_an_item_too(client):
    found = client.get("/api/items/by%20colour%2Fred.png%231").json()
    assert found["item"]["captions"] == ["red paint"] and found["item"]["owner"] == "by colour/red.png"


def test_pictures_come_by_id(client):
    answer = client.get("/api/items/by%20colour%2Fblue.png/picture")
    assert answer.content == encoded("blue", (64, 64)) and answer.headers["content-type"] == "image/png"
    thumbnail = client.get("/api/items/by%20colour%2Fblue.png/thumbnail").content
    assert Image.open(io.BytesIO(thumbnail)).size == (64, 64)


def test_what_the_index_refuses_is_told_as_it_says_it(client):
    for path in ("/api/items/by%20colour", "/api/items/..%2Findex.sqlite/picture", "/api/search?like=nobody"):
        answer = client.get(path)
        assert answer.status_code == 404 and answer.json()["error"]["type"] == "UnknownName"


def test_info(client):
    info = client.get("/api/info").json()
    assert (info["images"], info["captions"], info["method"]) == (len(COLOURS), 2 * len(COLOURS), "vsepp")
    assert info["image_input"] == "pixels" and set(info["examples"]) <= {
        text for c in COLOURS for text in (f"a {c} wall", f"{c} paint")
    }
