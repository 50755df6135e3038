"""The OpenAPI document: valid, of all that is served, and true of what is taken and answered."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR
from starlette.routing import Route
from starlette.testclient import TestClient

import engram
from engram.server.app import build_app
from engram.server.openapi.described import DESCRIBED
from engram.server.openapi.document import Served, encoded_document, served_operations

from .harness import LOCAL, SPACE, VECTORS, Api

DOCUMENT = msgspec.json.decode(encoded_document())
SERVED = {item.id: item for item in served_operations()}
ALPHA = f"/api/v1/spaces/{SPACE}"


def test_it_is_what_openapi_says_it_is() -> None:
    OPENAPI_31_VALIDATOR.validate(DOCUMENT)
    with pytest.raises(jsonschema_rs.ValidationError):
        OPENAPI_31_VALIDATOR.validate({**DOCUMENT, "paths": {"no-slash": {}}})


def test_it_is_served_as_it_is(api: Api) -> None:
    answer = api.client.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == DOCUMENT


def test_every_route_is_in_it_and_the_reverse(api: Api) -> None:
    served = {
        (method, route.path.replace(":segment", ""))
        for route in build_app(api.db).routes
        if isinstance(route, Route)
        for method in (route.methods or ())
        if method != "HEAD"
    }
    told = {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}
    assert told == served
    assert {i.described.name for i in SERVED.values()} == {d.name for d in DESCRIBED.values()}
    assert len(SERVED) == len(told)


def test_every_reference_leads_somewhere_and_nothing_is_left_over() -> None:
    named = set(re.findall(r'"#/components/([^"]+)"', msgspec.json.encode(DOCUMENT).decode()))
    there = {f"{kind}/{name}" for kind, items in DOCUMENT["components"].items() for name in items}
    # An event of a stream is text to OpenAPI, and a scheme of keys is not named by a reference.
    assert there - named <= {"schemas/Event", "securitySchemes/key"}
    assert named <= there


def send(api: Api, item: Served, **given: Any) -> Any:
    path = item.path.replace("{space}", SPACE).replace("{id}", "one")
    path = path.replace("{source}", "one").replace("{target}", "two")
    headers = {"X-Memory-Space": SPACE} if item.header else {}
    return api.client.request(item.method, path, headers=headers, **given)


@pytest.mark.parametrize(
    "item", [item for item in SERVED.values() if item.described.bodies], ids=lambda item: item.id
)
def test_a_body_is_decoded_into_what_the_document_says(api: Api, item: Served) -> None:
    """What is known at the place of a field that is not, in the words of the decoder."""
    answer = send(api, item, json={"no such field": 1})
    assert answer.status_code == 422
    known = answer.json()["errors"][0]["message"].partition("known are: ")[2].split(", ")
    struct = item.described.bodies[0]
    assert known == list(struct.__struct_encode_fields__)


@pytest.mark.parametrize("item", SERVED.values(), ids=lambda item: item.id)
def test_the_parameters_are_those_of_the_document(api: Api, item: Served) -> None:
    problem = send(api, item, params={"no-such-parameter": "1"}).json()
    known = re.search(r"known are: (.*)", problem["detail"])
    told = (
        [p["name"] for p in operation(item)["parameters"] if p["in"] == "query"]
        if ("parameters" in operation(item))
        else []
    )
    assert (known[1].split(", ") if known else []) == told


def operation(item: Served) -> Any:
    return DOCUMENT["paths"][item.path][item.method.lower()]


class Closed:
    """Validates answers by the document, in which no object may have more than it names."""

    def __init__(self) -> None:
        document = msgspec.json.decode(encoded_document())
        for schema in document["components"]["schemas"].values():
            if "properties" in schema:
                schema["additionalProperties"] = False
        self._document = document

    def check(self, item: Served, answer: Any) -> None:
        told = self._document["paths"][item.path][item.method.lower()]["responses"]
        response = told[str(answer.status_code)]
        if "$ref" in response:
            response = self._document["components"]["responses"][response["$ref"].split("/")[-1]]
        media_type = answer.headers["content-type"].partition(";")[0]
        schema = response["content"][media_type].get("schema")
        if media_type.endswith("json") and schema is not None:
            whole = {**schema, "components": self._document["components"]}
            jsonschema_rs.validator_for(whole, validate_formats=True).validate(answer.json())


CLOSED = Closed()


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    root = tmp_path_factory.mktemp("journey")
    with engram.open(root) as db, TestClient(build_app(db), LOCAL) as client:
        yield Api(root, db, client)


# In this order: an operation, its path, and what is sent. All of them are done, none refused.
JOURNEY: list[tuple[str, str, dict[str, Any]]] = [
    ("healthz", "/healthz", {}),
    ("docs", "/docs", {}),
    ("openapi", "/openapi.json", {}),
    ("create_space", "/api/v1/spaces", {"json": {"memory_space_id": "made"}}),
    ("ensure_space", "/api/v1/spaces/ensured", {}),
    ("ensure_space", "/api/v1/spaces/ensured", {"json": {}}),
    ("list_spaces", "/api/v1/spaces?limit=1", {}),
    ("show_space", ALPHA, {}),
    (
        "configure_space",
        ALPHA,
        {
            "json": {
                "retention": {"positions": 1000},
                "decay": "power:0.5",
                "forgetting": {"capacity": 1000, "spare_kinds": ["fact"], "spare_tags": ["x"]},
                "consolidation": {"after": 50},
            }
        },
    ),
    ("remember", f"{ALPHA}/memories", {"json": {"id": "three", "content": "Rain all night"}}),
    (
        "remember",
        f"{ALPHA}/memories",
        {
            "json": {
                "memories": [
                    {
                        "id": "four",
                        "content": "It rained all night",
                        "tags": ["weather"],
                        "metadata": {"mm": 12, "at": [1, None]},
                        "occurred_at": "2026-05-01T09:00:00+02:00",
                        "expires_at": "2096-05-01T09:00:00Z",
                        "source": "diary",
                        "kind": "fact",
                        "confidence": 0.5,
                    }
                ]
            }
        },
    ),
    ("list", f"{ALPHA}/memories?limit=1&include=embedding", {}),
    ("get", f"{ALPHA}/memories/four", {}),
    ("revise", f"{ALPHA}/memories/four", {"json": {"tags": None}}),
    ("link", f"{ALPHA}/links", {"json": {"source": "one", "target": "two", "weight": 1}}),
    ("links", f"{ALPHA}/links?memory_id=one", {}),
    (
        "recall",
        f"{ALPHA}/recall",
        {"json": {"query": "rain key", "explain": True, "mode": "spreading"}},
    ),
    ("recall", f"{ALPHA}/recall", {"json": {"query": "rain"}}),
    (
        "complete",
        f"{ALPHA}/complete?include=embedding",
        {"json": {"query": "rain", "known": {"kind": "fact"}}},
    ),
    ("complete", f"/api/v1/spaces/{VECTORS}/complete", {"json": {"embedding": [1, None, 0, 0]}}),
    ("unlink", f"{ALPHA}/links/one/two", {}),
    ("forget", f"{ALPHA}/memories/four", {}),
    ("restore", f"{ALPHA}/memories/four/restore", {}),
    ("history", f"{ALPHA}/memories/four/history", {}),
    ("forget", f"{ALPHA}/memories/four?purge=true", {}),
    ("forget_matching", f"{ALPHA}/memories", {"json": {"filter": {"source": "x"}, "purge": True}}),
    ("forget_matching", f"{ALPHA}/memories", {"json": {"filter": {"source": "x"}}}),
    ("consolidate", f"{ALPHA}/consolidate", {"json": {"dry_run": True}}),
    ("apply_forgetting", f"{ALPHA}/forgetting", {"json": {"dry_run": True}}),
    ("compact", f"{ALPHA}/compact", {}),
    ("reopen", f"{ALPHA}/reopen", {}),
    ("export", f"{ALPHA}/export", {}),
    ("import", "/api/v1/spaces/imported/import", {"content": "the export"}),
    ("fork", f"{ALPHA}/fork", {"json": {"memory_space_id": "forked"}}),
    ("delete_space", "/api/v1/spaces/made", {}),
    ("list_spaces", "/api/v1/spaces?deleted=true", {}),
    ("show_space", "/api/v1/spaces/made?deleted=true", {}),
    ("restore_space", "/api/v1/spaces/made/restore", {}),
    ("delete_space", "/api/v1/spaces/made", {}),
    ("purge_space", "/api/v1/spaces/made/purge", {}),
]
BESIDE = {  # what every answer may have, or what its media type says
    "content-length",
    "content-type",
    "content-security-policy",
    "x-request-id",
    "x-content-type-options",
}
STREAMS = {"events", "events_of_several"}  # without an end: test_events reads them


def test_what_a_server_answers_is_what_the_document_says(journey: Api) -> None:
    headers = {"Content-Type": "application/vnd.engram.bundle"}
    bundle = b""
    for name, path, given in JOURNEY:
        item = SERVED[name]
        if "content" in given:
            given = {"content": bundle, "headers": headers}
        answer = journey.client.request(item.method, path, **given)
        assert answer.status_code in item.described.answers, (name, answer.text)
        told = operation(item)["responses"][str(answer.status_code)].get("headers", {})
        sent = set(answer.headers) - BESIDE
        assert sent <= {header.lower() for header in told}, name
        CLOSED.check(item, answer)
        bundle = answer.content if name == "export" else bundle
    described = {item.described.name for item in SERVED.values()}
    assert described - STREAMS == {name for name, _, _ in JOURNEY}


@pytest.mark.parametrize("item", SERVED.values(), ids=lambda item: item.id)
@pytest.mark.parametrize(
    "given",
    [
        {"content": b"{"},
        {"headers": {"X-Memory-Space": "not-there"}},
        {"headers": {"X-Memory-Space": "Not An Id"}},
        {"headers": {"Host": "elsewhere.example"}},
        {"headers": {"Content-Type": "text/plain"}, "content": b"text"},
    ],
    ids=["broken body", "other space", "no id", "other host", "media type"],
)
def test_refusals_are_what_the_document_says(api: Api, item: Served, given: Any) -> None:
    path = item.path.replace("{space}", "nowhere").replace("{id}", "one")
    answer = api.client.request(item.method, path, **given)
    if answer.status_code >= 400:
        CLOSED.check(item, answer)


def test_conditions_are_in_it(api: Api) -> None:
    item = SERVED["get_by_header"]
    headers = {"X-Memory-Space": SPACE}
    tag = api.client.get("/api/v1/memories/one", headers=headers).headers["ETag"]
    held = api.client.get("/api/v1/memories/one", headers={**headers, "If-None-Match": tag})
    assert str(held.status_code) in operation(item)["responses"]
    stale = api.client.patch(
        f"{ALPHA}/memories/one", json={"tags": []}, headers={"If-Match": '"no"'}
    )
    assert stale.status_code == 412
    CLOSED.check(SERVED["revise"], stale)


def test_where_a_default_space_stands_in_the_header_is_not_required() -> None:
    document = msgspec.json.decode(encoded_document(explicit=False))
    OPENAPI_31_VALIDATOR.validate(document)
    required = {
        method + path
        for path, item in document["paths"].items()
        for method, described in item.items()
        for parameter in described.get("parameters", ())
        if parameter["in"] == "header" and parameter.get("required")
    }
    assert required == {"post/api/v1/fork"}


def test_an_answer_beside_the_document_is_noticed(api: Api) -> None:
    item = SERVED["show_space"]
    answer = api.client.get(ALPHA)
    changed = {**answer.json(), "more": 1}
    answer.json = lambda: changed
    with pytest.raises(jsonschema_rs.ValidationError):
        CLOSED.check(item, answer)


@pytest.mark.parametrize("name", [n for n, i in SERVED.items() if i.described.example is not None])
def test_the_examples_are_what_their_schema_says(name: str) -> None:
    schema = operation(SERVED[name])["requestBody"]["content"]["application/json"]
    whole = {**schema["schema"], "components": DOCUMENT["components"]}
    jsonschema_rs.validator_for(whole).validate(schema["example"])


def test_the_page_asks_nobody_else_for_anything(api: Api) -> None:
    answer = api.client.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert not re.findall(
        r"https?:|//[a-z]|@import|url\(", re.sub(r"^\s*//.*$", "", answer.text, flags=re.M)
    )
    for tag in ("style", "script"):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
