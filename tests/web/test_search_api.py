"""Searching over HTTP: by words, from an item on, by a picture, many at once; every option and every refusal."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from web_fakes import ODD_IDS, Client, FakeIndex, FakeItem, encoded, error_of

from manymatch.errors import DataError
from manymatch.index.filters import Where, parse_where
from manymatch.web.app import create_app
from manymatch.web.routes.conditions import CONDITION
from manymatch.web.settings import Settings

# ---- searching


def test_words_find_photos_with_what_the_page_shows(client):
    answer = client.get("/api/search", params={"q": "red paint", "k": 3}).json()
    assert answer["query"] == "red paint" and answer["exact"] is False and answer["agreement"] == 0.99
    assert answer["milliseconds"] == 1.234 and answer["searched"] == 4 + len(ODD_IDS)
    first = answer["hits"][0]
    assert len(answer["hits"]) == 3
    assert first | {"score": 0, "raw_score": 0} == {
        "rank": 1,
        "id": "red.png",
        "modality": "image",
        "score": 0,
        "raw_score": 0,
        "probability": None,
        "metadata": {"year": 2001, "tag": "wall"},
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
    for path in ("/api/search?q=red&colour=red", "/api/info?q=1", "/api/items/a?x", "/api/items/a/picture?size=9"):
        assert "unknown parameter" in error_of(client.get(path), 422)[1]
    assert "unknown parameter 'q'" in error_of(client.post("/api/search?q=red", json={"query": "red"}), 422)[1]


def test_a_parameter_given_twice_is_refused_unless_it_is_a_list(client, index):
    assert "q: given twice" in error_of(client.get("/api/search?q=red&q=blue"), 422)[1]
    assert client.get("/api/search?q=red&where=year%3E2000&where=tag%3Dwall").json()["searched"] == 1


def test_conditions_are_as_few_and_as_short_in_json_as_in_a_query_string(client):
    for where in (dict.fromkeys(map(str, range(33)), 1), {"tag": {"text": "a " * 501}}):
        assert "at most" in error_of(client.post("/api/search", json={"query": "red", "where": where}), 422)[1]
    form = {"files": {"image": encoded("red")}, "data": {"where": " " * 1_000_001}}
    assert error_of(client.post("/api/search/image", **form), 413)[0] == "TooLarge"


def test_exact_is_passed_on(client, index):
    assert client.get("/api/search?q=wall&exact=true").json()["exact"] is True
    assert index.calls[-1]["exact"] is True


@pytest.mark.parametrize("reference", ["red.png", "none"])
def test_a_photo_without_a_picture_is_said(client, reference):
    hits = client.get("/api/search?q=wall").json()["hits"]
    assert {hit["id"]: hit["has_picture"] for hit in hits}[reference] is (reference != "none")


def test_search_needs_words_or_an_item_not_both(client):
    kind, message = error_of(client.get("/api/search"), 422)
    assert kind == "DataError" and re.search("neither of q and like given, expected one", message)
    for path in ("/api/search?q=", "/api/search?q=%20%20"):
        assert error_of(client.get(path), 422)[1].startswith("q: ")
    assert "both of q and like" in error_of(client.get("/api/search?q=a&like=a"), 422)[1]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("q=a&k=0", "k: .*greater than or equal to 1"),
        ("q=a&k=201", "k: .*less than or equal to 200"),
        ("q=a&k=many", "k: .*integer"),
        ("q=a&k=1_0", "k: .*integer"),
        ("q=a&k=%D9%A3", "k: .*integer"),
        ("q=a&offset=10001", "offset: "),
        ("q=a&confident=1.1", "confident: "),
        ("q=a&confident=nan", "confident: .*number"),
        ("q=a&exact=yes", "exact: .*boolean"),
        ("q=a&diverse=-1", "diverse: "),
        ("q=a&per_group=0", "per_group: "),
        ("q=a&group_by=", "group_by: "),
        ("like=", "like: "),
        ("q=a&where=", "where ''"),
        ("q=a&where=year%3E", "where 'year>': nothing after '>'"),
        ("q=a&where=a%3D%3Db", "where 'a==b'"),
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
    assert error_of(client.post("/api/search/image"), 415)[0] == "UnsupportedMedia"
    assert error_of(client.post("/api/search/image", data={"image": "words"}), 415)[0] == "UnsupportedMedia"
    for sent in ({"files": {"other": b"x"}}, {"files": {"image": (None, b"words")}}):
        assert "image" in error_of(client.post("/api/search/image", **sent), 422)[1]


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


def test_conditions_come_with_a_picture_as_parameters_or_in_the_form(client, index):
    image = {"image": ("a.png", encoded("red"), "image/png")}
    for sent in ({"params": {"where": ["year>=2000"]}}, {"data": {"where": '{"year": {"gte": 2000}}'}}):
        assert client.post("/api/search/image", files=image, **sent).json()["searched"] == 1
    both = {"params": {"where": ["year>=2000"]}, "data": {"where": "{}"}}
    assert "expected it once" in error_of(client.post("/api/search/image", files=image, **both), 422)[1]
    for where in ("year>=2000", '{"year": {}}', '{}, "k": 3', "[" * 10_000, '{"year": NaN}'):
        answer = client.post("/api/search/image", files=image, data={"where": where})
        assert error_of(answer, 422)[1].startswith("where")


# ---- options


EVERYTHING = {
    "unlike": "blue paint",
    "unlike_item": "a",
    "among": "images",
    "k": 5,
    "offset": 1,
    "exact": True,
    "bank": False,
    "hybrid": True,
    "diverse": 0.5,
    "per_group": 2,
    "facets": ["tag", "year"],
    "meanings": True,
    "explain": True,
}


def test_every_option_reaches_the_index_by_parameter_and_by_body(client, index):
    sent = {name: str(value).lower() if isinstance(value, bool) else value for name, value in EVERYTHING.items()}
    assert client.get("/api/search", params=sent | {"q": "red"}).status_code == 200
    by_parameter = index.calls[-1]
    assert client.post("/api/search", json=EVERYTHING | {"query": "red"}).status_code == 200
    assert by_parameter == index.calls[-1] == EVERYTHING | {"query": "red", "like": None, "where": None}


def test_a_search_without_options_says_no_more_than_the_usual(client, index):
    client.get("/api/search?q=red")
    nothing = dict.fromkeys(("like", "among", "where"))
    usual = {"k": 24, "offset": 0, "per_group": 3, "facets": [], "hybrid": False, "meanings": False, "explain": False}
    assert index.calls[-1] == {"query": "red"} | nothing | usual


def test_conditions_come_as_text_or_as_json(client, index):
    client.get("/api/search", params={"q": "red", "where": ["year>=2000", "tag=wall|dog", "!note", "tag~wall"]})
    by_text = index.calls[-1]["where"]
    where = {"year": {"gte": 2000}, "tag": {"in": ["wall", "dog"], "text": "wall"}, "note": {"exists": False}}
    assert client.post("/api/search", json={"query": "red", "where": where}).json()["searched"] == 1
    assert isinstance(by_text, Where) and set(by_text.conditions) == set(index.calls[-1]["where"].conditions)


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ({"year": {"over": 3}}, "unknown operator"),
        ({"year": {}}, "at least one of"),
        ({"year": None}, "exists"),
        ({"year": {"gt": 1, "lt": "a"}}, "numbers only or text only"),
        ({"": 1}, "not empty"),
        ({"title": {"text": "..."}}, "at least one word"),
        ({"year": {"gt": [1]}}, "compared with"),
        ([], "where: "),
    ],
)
def test_conditions_that_cannot_be_are_refused(client, where, said):
    kind, message = error_of(client.post("/api/search", json={"query": "red", "where": where}), 422)
    assert kind == "DataError" and said in message


@given(st.lists(st.sampled_from([*"aZ0 _.é雪\x1c\n|=<>~!&", "and", "\u0301"]), max_size=9).map("".join))
def test_the_pattern_in_the_schema_is_what_the_index_takes(form):
    try:
        parse_where([form])
        taken = True
    except DataError:
        taken = False
    assert bool(re.search(CONDITION, form)) == taken


def test_groups_meanings_facets_and_reasons_are_in_the_answer(client):
    asked = {"q": "red", "group_by": "year", "facets": ["tag"], "meanings": "true", "explain": "true", "k": 1}
    answer = client.get("/api/search", params=asked).json()
    assert answer["groups"][0] == {"value": 2001, "hits": answer["hits"]} and answer["hits"][0]["has_picture"]
    assert answer["meanings"][0]["words"] == ["red"] and answer["meant_by"]
    assert answer["facets"] == {"tag": [{"value": "wall", "count": 1}]}
    assert answer["hits"][0]["why"][0]["share"] == 1.0


def test_an_unknown_field_is_404(client):
    for asked in ("group_by=yaer", "facets=yaer"):
        assert error_of(client.get(f"/api/search?q=red&{asked}"), 404) == (
            "UnknownName",
            "unknown field 'yaer': did you mean 'year'? known: tag, year",
        )


# ---- JSON bodies


def test_many_queries_are_answered_in_their_order(client, index):
    answer = client.post("/api/search/many", json={"queries": ["red paint", "blue"], "k": 2}).json()
    assert [found["query"] for found in answer["results"]] == ["red paint", "blue"]
    assert [len(found["hits"]) for found in answer["results"]] == [2, 2]
    assert answer["results"][0] == client.post("/api/search", json={"query": "red paint", "k": 2}).json()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "neither of query and like"),
        ({"query": "a", "like": "a"}, "both of query and like"),
        ({"q": "a"}, "q: no such field"),
        ({"query": "a", "k": "3"}, "k: .*integer"),
        ({"query": "a", "k": 2.5}, "k: .*integer"),
        ({"query": "a", "k": True}, "k: .*integer"),
        ({"query": "a", "k": None}, "k: .*integer"),
        ({"query": "a", "exact": "true"}, "exact: .*boolean"),
        ({"query": "a", "facets": "year"}, "facets: .*array"),
        ({"query": ["a"]}, "query: .*string"),
        ([], "body: .*object"),
    ],
)
def test_bodies_are_held_to_their_schema(client, body, said):
    kind, message = error_of(client.post("/api/search", json=body), 422)
    assert kind == "DataError" and re.search(said, message)


def test_whole_numbers_may_be_written_with_a_point(client):
    assert len(client.post("/api/search", json={"query": "a", "k": 2.0}).json()["hits"]) == 2


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"[" * 100_000, b'{"query": "\\ud800"}', b'{"a":' * 100_000, b'{"k": ' + b"9" * 5000 + b"}"],
)
def test_what_is_no_json_is_400(client, body):
    answer = client.post("/api/search", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422) and answer.json()["error"]["type"] in ("BadRequest", "DataError")


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-1e999", b"1e999"])
def test_numbers_that_are_none_are_refused(client, number):
    for body in (
        b'{"query": "a", "confident": %s}',
        b'{"query": "a", "where": {"year": %s}}',
        b'{"query": "a", "k": %s}',
    ):
        answer = client.post("/api/search", content=body % number, headers={"content-type": "application/json"})
        assert error_of(answer, 422)[0] == "DataError"


@pytest.mark.parametrize("sent", [None, "text/plain", "application/xml", "multipart/form-data; boundary=b"])
def test_other_content_types_are_415(client, sent):
    headers = {"content-type": sent} if sent else {}
    for path in ("/api/search", "/api/search/many", "/api/session"):
        assert error_of(client.post(path, content=b"{}", headers=headers), 415)[0] == "UnsupportedMedia"


def test_a_batch_has_a_limit(client):
    said = error_of(client.post("/api/search/many", json={"queries": ["a"] * 65}), 422)[1]
    assert said.startswith("queries: ") and "64" in said
    assert error_of(client.post("/api/search/many", json={"queries": []}), 422)


def test_bodies_have_a_limit(client):
    body = json.dumps({"query": "a", "facets": ["x" * 250] * 5000}).encode()
    headers = {"content-type": "application/json"}
    assert error_of(client.post("/api/search", content=body, headers=headers), 413)[0] == "TooLarge"


def test_the_limits_are_the_settings(index):
    client = Client(create_app(index, settings=Settings(most=2, deepest=3, query_length=4, queries=1, body_bytes=40)))
    assert client.get("/api/search?q=abcd&k=2&offset=3").status_code == 200
    assert len(client.get("/api/search?q=abcd").json()["hits"]) == 2
    for asked in ("q=abcde", "q=a&k=3", "q=a&offset=4", "q=a&k=1&unlike=abcde"):
        assert client.get(f"/api/search?{asked}").status_code == 422
    assert client.post("/api/search/many", json={"queries": ["a", "b"], "k": 1}).status_code == 422
    assert client.post("/api/search", json={"query": "a", "among": "captions", "exact": True}).status_code == 413


def test_a_query_string_that_is_not_utf8_is_400(client):
    for query in ("q=%ff", "q=%ED%A0%80"):
        assert error_of(client.get(f"/api/search?{query}"), 400)[0] == "BadRequest"
    assert error_of(client.get("/api/search?" + "facets=a&" * 300), 400)[0] == "BadRequest"


def test_characters_of_every_sort_are_words(client):
    for text in ("\x00", "雪\U0001f600", "\u202e\ufeff", "'; DROP TABLE items; --"):
        assert client.get("/api/search", params={"q": text + "a"}).json()["query"] == text + "a"


# ---- elements


def test_what_the_elements_of_a_query_attend_to(client):
    found = client.get("/api/elements?q=red%20wall").json()
    assert found["words"] == ["red", "wall"] and found["kind"] == "words"
    assert error_of(client.get("/api/elements"), 422)[1].startswith("q: ")


# ---- two indexes


def test_a_second_index_is_read_below_compare():
    one, two = FakeIndex({"a": FakeItem(["red"])}), FakeIndex({"b": FakeItem(["red"])}, path="two.index")
    client = Client(create_app(one, two))
    assert [hit["id"] for hit in client.get("/api/search?q=red").json()["hits"]] == ["a"]
    assert [hit["id"] for hit in client.get("/api/compare/search?q=red").json()["hits"]] == ["b"]
    assert client.post("/api/compare/search", json={"query": "red"}).json()["hits"][0]["id"] == "b"
    assert client.get("/api/compare/items/b").json()["item"]["id"] == "b"
    assert client.get("/api/compare/items/a").status_code == 404
    assert client.get("/api/info").json()["compare"] == {"title": "two", "method": "dive"}
    assert client.get("/api/compare/info").json()["compare"] is None


def test_the_second_index_is_only_read(client):
    two = Client(create_app(FakeIndex({}), FakeIndex({"b": FakeItem(["red"])})))
    assert error_of(two.delete("/api/compare/items/b"), 405)[0] == "MethodNotAllowed"
    for path in ("/api/compare/search?q=red", "/api/compare/info", "/api/compare/items/red.png"):
        assert error_of(client.get(path), 404)[0] == "NotFound"


def test_a_batch_lets_others_have_their_turn(client, index):
    """It is asked in parts, and answered whole and in order."""
    queries = [f"red {n}" for n in range(20)]
    before = len(index.batches)
    found = client.post("/api/search/many", json={"queries": queries, "k": 1}).json()["results"]
    assert [one["query"] for one in found] == queries
    assert index.batches[before:] == [8, 8, 4]
