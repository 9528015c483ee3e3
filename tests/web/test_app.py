"""The search page's API: every route, every refusal, and that nothing but the collection is ever served."""

import io
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from web_fakes import Client, FakeIndex, FakeItem, encoded

import manymatch.web
from manymatch.web.app import create_app

STATIC = Path(manymatch.web.__file__).parent / "static"

ODD_IDS = [
    "a/picture",
    "a/thumbnail/",
    "deep/er/one.jpg",
    "snö & ice?.png#3",
    "100%25 %2F",
    " lead",
    'quo"te\\',
    "数/写真",
    "../../etc/passwd",
    "/abs",
    "a//b",
    ".",
]


@pytest.fixture(scope="module")
def index() -> FakeIndex:
    items = {
        "red.png": FakeItem(["a red wall", "red paint"], encoded("red"), {"year": 2001}),
        "blue.jpg": FakeItem(["a blue wall"], encoded("blue", (1200, 800), "JPEG")),
        "none": FakeItem(["a wall nobody photographed"]),
        "a": FakeItem(["the letter a"], encoded("green")),
    }
    return FakeIndex(items | {odd: FakeItem([f"odd {n}"], encoded("gray")) for n, odd in enumerate(ODD_IDS)})


@pytest.fixture(scope="module")
def client(index: FakeIndex) -> Client:
    return Client(create_app(index))


def error_of(answer, status: int) -> tuple[str, str]:
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"} and set(answer.json()["error"]) == {"type", "message"}
    return answer.json()["error"]["type"], answer.json()["error"]["message"]


def item_path(id: str, part: str = "") -> str:
    """As `encodeURIComponent` in the page makes it."""
    return f"/api/items/{quote(id, safe='-_.!~*()')}{part}"


# ---- searching


def test_words_find_photos_with_what_the_page_shows(client):
    answer = client.get("/api/search", params={"q": "red paint", "k": 3}).json()
    assert answer["query"] == "red paint" and answer["exact"] is False and answer["agreement"] == 0.99
    assert answer["milliseconds"] == 1.23 and answer["searched"] == 4 + len(ODD_IDS)
    first = answer["hits"][0]
    assert len(answer["hits"]) == 3
    assert first | {"score": 0, "raw_score": 0} == {
        "rank": 1,
        "id": "red.png",
        "modality": "image",
        "score": 0,
        "raw_score": 0,
        "probability": None,
        "metadata": {"year": 2001},
        "caption": "a red wall",
        "owner": None,
        "has_picture": True,
    }


def test_pages_of_results_join_without_overlap(client):
    whole = client.get("/api/search?q=wall&k=6").json()["hits"]
    parts = [client.get(f"/api/search?q=wall&k=2&offset={start}").json()["hits"] for start in (0, 2, 4)]
    assert [hit for part in parts for hit in part] == whole
    assert client.get("/api/search?q=wall&offset=1000").json()["hits"] == []


def test_like_searches_the_modality_asked_for(client):
    images = client.get("/api/search?like=red.png&among=images").json()
    captions = client.get("/api/search?like=red.png&among=captions&k=2").json()
    assert {hit["modality"] for hit in images["hits"]} == {"image"}
    assert "red.png" not in [hit["id"] for hit in images["hits"]]
    assert [hit["owner"] for hit in captions["hits"]] == ["red.png", "red.png"]


def test_a_parameter_that_does_not_exist_is_refused(client):
    answer = client.get("/api/search?q=red&where=year%3E2000")
    assert answer.status_code == 422 and "unknown parameter 'where'" in answer.json()["error"]["message"]


def test_exact_is_passed_on(client, index):
    assert client.get("/api/search?q=wall&exact=true").json()["exact"] is True
    assert index.calls[-1]["exact"] is True


@pytest.mark.parametrize("reference", ["red.png", "none"])
def test_a_photo_without_a_picture_is_said(client, reference):
    hits = client.get("/api/search?q=wall").json()["hits"]
    assert {hit["id"]: hit["has_picture"] for hit in hits}[reference] is (reference != "none")


def test_search_needs_words_or_an_item_not_both(client):
    for path in ("/api/search", "/api/search?q=", "/api/search?q=%20%20"):
        kind, message = error_of(client.get(path), 422)
        assert kind == "DataError" and re.search("neither of q and like given, expected one", message)
    assert "both of q and like" in error_of(client.get("/api/search?q=a&like=a"), 422)[1]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("q=a&k=0", "k: .*greater than or equal to 1"),
        ("q=a&k=201", "k: .*less than or equal to 200"),
        ("q=a&k=many", "k: .*integer"),
        ("q=a&offset=-1", "offset: "),
        ("q=" + "a" * 1001, "q: .*1000 characters"),
        ("q=a&among=sounds", "among: .*'images' or 'captions'"),
    ],
)
def test_limits_name_the_argument(client, query, named):
    kind, message = error_of(client.get(f"/api/search?{query}"), 422)
    assert kind == "DataError" and re.search(named, message)


def test_the_limits_themselves_are_allowed(client):
    assert client.get("/api/search", params={"q": "a" * 1000, "k": 200}).status_code == 200


def test_unknown_like_is_404_and_offers_names(client):
    kind, message = error_of(client.get("/api/search?like=red.pgn"), 404)
    assert kind == "UnknownName" and "unknown id in this index 'red.pgn'" in message


# ---- searching with a picture


def upload(client: Client, data: bytes, name: str = "mine.png", query: str = ""):
    return client.post(f"/api/search/image{query}", files={"image": (name, data, "image/png")})


def test_a_picture_finds_photos(client, index):
    answer = upload(client, encoded("blue", form="JPEG", quality=100, subsampling=0), query="?k=1")
    assert answer.json()["query"] == "mine.png" and len(answer.json()["hits"]) == 1
    assert isinstance(index.calls[-1]["query"], Image.Image)


def test_a_picture_reaches_the_index_upright_and_rgb(client, index):
    exif = Image.Exif()
    exif[0x0112] = 6
    upload(client, encoded("red", (60, 40), "JPEG", exif=exif))
    assert index.calls[-1]["query"].size == (40, 60) and index.calls[-1]["query"].mode == "RGB"


def test_a_run_that_reads_features_refuses_pictures_plainly():
    answer = upload(Client(create_app(FakeIndex({"a": FakeItem(["a"])}, reads="features"))), encoded("red"))
    kind, message = error_of(answer, 422)
    assert kind == "DataError" and "reads precomputed features" in message


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"hello", "not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (encoded("red", (300, 300))[:200], "damaged or cut short"),
    ],
)
def test_what_is_no_picture_is_refused(client, data, said):
    kind, message = error_of(upload(client, data), 422)
    assert kind == "PictureError" and "'mine.png'" in message and said in message


def test_an_upload_without_a_file_is_refused(client):
    assert "image" in error_of(client.post("/api/search/image"), 422)[1]
    assert "image" in error_of(client.post("/api/search/image", data={"image": "words"}), 422)[1]


def test_uploads_over_20_mb_are_refused_announced_or_not(client):
    big = b"x" * 20_000_001
    assert error_of(upload(client, big), 413)[0] == "TooLarge"

    async def in_parts():
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
        for _ in range(21):
            yield b"x" * 1_000_000
        yield b"\r\n--b--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=b"}
    kind, message = error_of(client.post("/api/search/image", content=in_parts(), headers=headers), 413)
    assert kind == "TooLarge" and "larger than 20 MB" in message


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
    assert "has no picture" in error_of(client.get(item_path("none", part)), 404)[1]


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
    index.items["a"].picture = encoded("blue")
    fresh = client.get(item_path("a", part), headers={"if-none-match": tag})
    assert fresh.status_code == 200
    assert Image.open(io.BytesIO(fresh.content)).convert("RGB").getpixel((5, 5))[2] > 250


# ---- the page, and what holds for every answer


def test_info_says_what_is_here_and_not_where(client):
    info = client.get("/api/info").json()
    assert info["images"] == 4 + len(ODD_IDS) and info["captions"] == 5 + len(ODD_IDS)
    assert (info["method"], info["engine"], info["image_input"]) == ("dive", "exact", "pixels")
    assert 1 <= len(info["examples"]) <= 6 and "secret" not in str(info)


def test_health(client):
    assert client.get("/health").json() == {"status": "ok"}


class Links(HTMLParser):
    """What a page loads, and whether anything in it would need `unsafe-inline`."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        if tag in ("script", "link", "img"):
            self.loads.append(named.get("src") or named.get("href") or "")
        if tag == "style" or (tag == "script" and "src" not in named):
            self.inline.append(tag)
        self.inline += [name for name in named if name.startswith("on") or name == "style"]


def test_the_page_loads_only_its_own_packaged_files(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    links = Links()
    links.feed(page.text)
    assert not links.inline
    assert set(links.loads) == {"static/style.css", "static/app.js", "static/mark.svg"}
    for path in links.loads:
        assert client.get(f"/{path}").content == (STATIC / path.removeprefix("static/")).read_bytes()


def test_scripts_import_and_styles_load_nothing_from_elsewhere(client):
    for file in STATIC.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|url\(", text), file.name
        for name in re.findall(r'from "\./([^"]+)"', text):
            assert client.get(f"/static/{name}").headers["content-type"].startswith("text/javascript")


EVERY = [
    "/",
    "/static/app.js",
    "/api/info",
    "/health",
    "/api/search?q=red",
    "/api/items/red.png",
    "/api/items/red.png/picture",
    "/api/items/red.png/thumbnail",
    "/nowhere",
    "/api/items/nobody",
]


@pytest.mark.parametrize("path", EVERY)
def test_head_is_get_without_the_body(client, path):
    got, head = client.get(path), client.head(path)
    assert head.status_code == got.status_code and head.content == b""
    assert head.headers["content-type"] == got.headers["content-type"]
    assert head.headers["content-length"] == got.headers["content-length"] == str(len(got.content))


@pytest.mark.parametrize("path", EVERY)
def test_safety_headers_are_on_every_answer(client, path):
    headers = client.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["script-src"] == "'self'" and policy["style-src"] == "'self'"
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_errors_of_routing_have_the_same_shape(client):
    assert error_of(client.get("/nowhere"), 404)[0] == "NotFound"
    assert error_of(client.post("/api/search"), 405)[0] == "MethodNotAllowed"
    assert client.head("/api/search/image").status_code == 405


def test_our_own_faults_are_500_without_their_trace():
    index = FakeIndex({"a": FakeItem(["a"])})
    index.search = lambda *args, **options: 1 / 0
    with pytest.raises(ZeroDivisionError):
        Client(create_app(index)).get("/api/search?q=a")
    kind, message = error_of(Client(create_app(index), quiet=True).get("/api/search?q=a"), 500)
    assert kind == "InternalError" and "division" not in message


def test_two_apps_share_nothing():
    one, two = (Client(create_app(FakeIndex({id: FakeItem([id])}))) for id in ("one", "two"))
    assert one.get("/api/items/one").status_code == 200 and two.get("/api/items/one").status_code == 404


def test_the_openapi_description_is_whole(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/api/search", "/api/search/image", "/api/items/{id}", "/api/items/{id}/picture"} <= set(paths)
