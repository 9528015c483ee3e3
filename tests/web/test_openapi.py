"""The description of the API: whole, precise, and what the answers are."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from web_fakes import Client, FakeIndex, encoded, error_of, item_path, small_index

from manymatch.web import schemas
from manymatch.web.app import create_app
from manymatch.web.keys import new_key
from manymatch.web.metrics import Metrics
from manymatch.web.problems import TYPES
from manymatch.web.settings import Settings


@pytest.fixture(scope="module")
def client() -> Client:
    index = small_index()
    return Client(create_app(index, index, metrics=Metrics()))


@pytest.fixture(scope="module")
def told(client) -> dict[str, Any]:
    return client.get("/openapi.json").json()


def operations(told: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_every_route_of_the_api_is_described(told):
    read = {"search", "search/many", "search/image", "elements", "info", "items/{id}", "items/{id}/picture"}
    read |= {"items/{id}/thumbnail", "items/{id}/elements"}
    wanted = {f"{root}/{path}" for root in ("/api", "/api/compare") for path in read}
    assert set(told["paths"]) == wanted | {"/health", "/ready", "/metrics", "/api/session"}
    assert set(told["paths"]["/api/items/{id}"]) == {"get", "put", "delete"}
    assert set(told["paths"]["/api/compare/items/{id}"]) == {"get"}


def test_what_is_not_there_is_not_described():
    told = Client(create_app(small_index())).get("/openapi.json").json()
    assert not [path for path in told["paths"] if "compare" in path] and "/metrics" not in told["paths"]


def test_names_of_operations_differ(told):
    names = [operation["operationId"] for _, _, operation in operations(told)]
    assert len(set(names)) == len(names)


def test_every_parameter_and_field_is_bounded(told):
    for path, method, operation in operations(told):
        for parameter in operation.get("parameters", ()):
            schema = parameter["schema"]
            kind = schema["type"]
            if kind == "string":
                assert "maxLength" in schema or "enum" in schema, (path, method, parameter["name"])
            elif kind in ("integer", "number"):
                assert {"minimum", "maximum"} <= set(schema), (path, method, parameter["name"])
            elif kind == "array":
                assert "maxItems" in schema and "maxLength" in schema["items"]
        for content in operation.get("requestBody", {}).get("content", {}).values():
            assert content["schema"]["additionalProperties"] is False, (path, method)


def test_every_refusal_is_described_with_its_types(told):
    for path, method, operation in operations(told):
        refusals = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
        assert {"400", "422", "429", "500", "503"} <= set(refusals)
        if "requestBody" in operation:
            assert {"408", "413", "415"} <= set(refusals), (path, method)
        for status, answer in refusals.items():
            assert answer["content"] == {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
            assert all(kind in answer["description"] for kind in TYPES[int(status)])


def test_keys_are_asked_for_only_where_they_are_needed(told, tmp_path):
    new_key(tmp_path / "keys.json")
    shut = Settings(keys=tmp_path / "keys.json")
    public = Settings(keys=tmp_path / "keys.json", public=True)

    def needing(settings: Settings) -> set[str]:
        app = create_app(small_index(), settings=settings)
        key = new_key(tmp_path / "keys.json")[1] if settings.keys else ""
        told = Client(app, headers={"Authorization": f"Bearer {key}"} if key else {}).get("/openapi.json").json()
        return {f"{method} {path}" for path, method, operation in operations(told) if operation.get("security")}

    writing = {"put /api/items/{id}", "delete /api/items/{id}"}
    assert needing(Settings()) == needing(public) == writing
    assert writing | {"get /api/search", "get /api/info", "get /api/items/{id}/picture"} <= needing(shut)
    assert not {"get /health", "get /ready", "post /api/session"} & needing(shut)


def test_a_stranger_is_given_something_to_try(told, client):
    parameters = {p["name"]: p for p in told["paths"]["/api/search"]["get"]["parameters"]}
    words = parameters["q"]["example"]
    assert client.get("/api/search", params={"q": words}).json()["hits"]
    item = told["paths"]["/api/items/{id}"]["get"]["parameters"][0]["example"]
    assert client.get(item_path(item)).status_code == 200
    for method in ("put", "delete"):
        other = told["paths"]["/api/items/{id}"][method]["parameters"][0]["example"]
        assert client.get(item_path(other)).status_code == 404
    body = told["paths"]["/api/search"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert client.post("/api/search", json=body["examples"][0]).status_code == 200


def test_an_empty_index_is_described_without_examples():
    told = Client(create_app(FakeIndex({}))).get("/openapi.json").json()
    assert "example" not in json.dumps(told["paths"]["/api/items/{id}"]["get"])


ANSWERS = [
    ("GET", "/api/search?q=red", schemas.Results),
    ("GET", "/api/search?q=red&explain=true&meanings=true&group_by=year&facets=tag&k=3", schemas.Results),
    ("GET", "/api/search?like=red.png%230&among=captions", schemas.Results),
    ("GET", "/api/items/red.png", schemas.Item),
    ("GET", "/api/items/red.png%231", schemas.Item),
    ("GET", "/api/items/red.png/elements", schemas.Elements),
    ("GET", "/api/elements?q=red%20wall", schemas.Elements),
    ("GET", "/api/info", schemas.Info),
    ("GET", "/api/compare/info", schemas.Info),
    ("GET", "/health", schemas.Liveness),
    ("GET", "/ready", schemas.Readiness),
    ("GET", "/nowhere", schemas.Problem),
]


@pytest.mark.parametrize(("method", "path", "model"), ANSWERS)
def test_answers_are_what_the_schema_says(client, method, path, model):
    answer = client.request(method, path)
    assert answer.headers["content-type"] == "application/json"
    model.model_validate_json(answer.content)


def test_answers_to_bodies_are_what_the_schema_says(client):
    schemas.Results.model_validate_json(client.post("/api/search", json={"query": "red"}).content)
    schemas.Many.model_validate_json(client.post("/api/search/many", json={"queries": ["red"]}).content)
    upload = {"image": ("a.png", encoded("red"), "image/png")}
    schemas.Results.model_validate_json(client.post("/api/search/image", files=upload).content)


def test_numbers_that_are_none_never_reach_json():
    index = small_index()
    index.items["red.png"].metadata |= {"odd": float("nan"), "far": [float("inf")]}
    found = Client(create_app(index)).get("/api/search?q=red%20paint&k=1")
    assert found.json()["hits"][0]["metadata"]["odd"] is None and found.json()["hits"][0]["metadata"]["far"] == [None]
    assert b"NaN" not in found.content and b"Infinity" not in found.content


def test_text_that_is_no_unicode_is_answered():
    index = small_index()
    index.items["red.png"].metadata["broken"] = "\ud800"
    found = Client(create_app(index)).get("/api/search?q=red%20paint&k=1")
    assert found.status_code == 200 and "\\ud800" in found.text
    assert error_of(Client(create_app(index)).get("/api/items/%ED%A0%80"), 404)[0] == "UnknownName"
