"""Which space a request means: the resolver itself, and that every route goes through it."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.routing import Route
from starlette.testclient import TestClient

from engram.errors import EngramError, SpaceConflict, SpaceInvalid, SpaceRequired
from engram.server.app import build_app
from engram.server.resolver import SPACE_HEADER, agree, named_space, resolve

from .harness import OTHER, SPACE, Api

NAMED = [
    ("alpha", [], "alpha"),
    (None, ["alpha"], "alpha"),
    ("alpha", ["alpha"], "alpha"),
]
REFUSED: list[tuple[str | None, list[str], type[EngramError]]] = [
    (None, [], SpaceRequired),
    (None, ["alpha", "alpha"], SpaceConflict),
    (None, ["alpha", "beta"], SpaceConflict),
    (None, ["alpha, beta"], SpaceConflict),
    (None, ["alpha,alpha"], SpaceConflict),
    ("alpha", ["alpha", "alpha"], SpaceConflict),
    ("alpha", ["beta"], SpaceConflict),
    (None, [""], SpaceInvalid),
    ("alpha", [""], SpaceInvalid),
    ("", [], SpaceInvalid),
    ("", ["alpha"], SpaceInvalid),
    (None, ["Alpha"], SpaceInvalid),
    ("alpha", ["Alpha"], SpaceInvalid),
    (None, ["é"], SpaceInvalid),
    (None, ["con"], SpaceInvalid),
    ("-a", [], SpaceInvalid),
    ("..", [], SpaceInvalid),
    (".engram", [], SpaceInvalid),
    ("alpha\n", [], SpaceInvalid),
    ("a" * 65, [], SpaceInvalid),
    ("lpt1", ["lpt1"], SpaceInvalid),
]


@pytest.mark.parametrize(("path", "header", "expected"), NAMED)
def test_the_named_space_is_found(path: str | None, header: list[str], expected: str) -> None:
    assert resolve(path, header) == expected


@pytest.mark.parametrize(("path", "header", "error"), REFUSED)
def test_what_names_no_single_valid_space_is_refused(
    path: str | None, header: list[str], error: type[EngramError]
) -> None:
    with pytest.raises(error):
        resolve(path, header)


def test_a_request_on_the_spaces_themselves_may_name_none() -> None:
    assert named_space(None, []) is None


@pytest.mark.parametrize(
    ("header", "body", "agrees"),
    [
        (None, "a", True),
        (None, None, True),
        ("a", "a", True),
        ("a", "b", False),
        ("a", None, False),
    ],
)
def test_a_header_must_agree_with_the_body(
    header: str | None, body: str | None, agrees: bool
) -> None:
    if agrees:
        agree(header, body)
    else:
        with pytest.raises(SpaceConflict):
            agree(header, body)


# Every route and method inside a space, by the path below `/api/v1/spaces/{space}` and `/api/v1`.
# The body is one that the route accepts.
ROUTES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/memories"): {"json": {"content": "something to remember"}},
    ("GET", "/memories"): {},
    ("GET", "/memories/{id}"): {},
    ("PATCH", "/memories/{id}"): {"json": {"tags": ["seen"]}},
    ("DELETE", "/memories/{id}"): {},
    ("DELETE", "/memories"): {"json": {"filter": {"tags_all": ["unused"]}, "purge": True}},
    ("POST", "/memories/{id}/restore"): {},
    ("POST", "/consolidate"): {},
    ("POST", "/forgetting"): {"json": {"dry_run": True}},
    ("POST", "/compact"): {},
    ("GET", "/export"): {},
    ("POST", "/fork"): {"json": {"memory_space_id": "a-copy"}},
    ("GET", "/memories/{id}/history"): {},
    ("POST", "/links"): {"json": {"source": "one", "target": "two", "weight": 0.5}},
    ("GET", "/links"): {"params": {"memory_id": "one"}},
    ("DELETE", "/links/{source}/{target}"): {},
    ("POST", "/recall"): {"json": {"query": "something"}},
    ("POST", "/complete"): {"json": {"query": "something"}},
    ("POST", "/reopen"): {},
}
SPACE_PREFIX = "/api/v1/spaces/{space}"
NOT_INSIDE_A_SPACE = {
    ("POST", "/api/v1/spaces"),
    ("GET", "/api/v1/spaces"),
    ("GET", SPACE_PREFIX),
    ("PUT", SPACE_PREFIX),
    ("PATCH", SPACE_PREFIX),
    ("DELETE", SPACE_PREFIX),
    ("POST", f"{SPACE_PREFIX}/restore"),
    ("POST", f"{SPACE_PREFIX}/purge"),
    ("POST", f"{SPACE_PREFIX}/import"),
    ("GET", "/healthz"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
}
# Answers without an end: which space they mean is tested in test_events.
STREAMS = {("GET", f"{SPACE_PREFIX}/events"), ("GET", "/api/v1/events")}


def test_the_table_of_routes_is_complete(api: Api) -> None:
    served = {
        (method, route.path.replace(":segment", ""))
        for route in build_app(api.db).routes
        if isinstance(route, Route)
        for method in (route.methods or ())
        if method != "HEAD"
    }
    expected = {
        (method, prefix + path) for method, path in ROUTES for prefix in (SPACE_PREFIX, "/api/v1")
    }
    assert served == expected | NOT_INSIDE_A_SPACE | STREAMS


def call(
    client: TestClient, method: str, url: str, headers: list[tuple[str, str]], **kw: Any
) -> Any:
    return client.request(method, url, headers=headers, **kw)


CASES = [
    # name, space in the path (None: the route without it), headers, status, problem
    ("right path", SPACE, [], None, None),
    ("right header", None, [SPACE], None, None),
    ("both, the same", SPACE, [SPACE], None, None),
    ("none", None, [], 400, "memory-space-required"),
    ("unknown in path", "nowhere", [], 404, "space-not-found"),
    ("unknown in header", None, ["nowhere"], 404, "space-not-found"),
    ("malformed in path", "No%20Where", [], 400, "memory-space-invalid"),
    ("malformed in header", None, ["No Where"], 400, "memory-space-invalid"),
    ("reserved", "con", [], 400, "memory-space-invalid"),
    ("over-long", "a" * 65, [], 400, "memory-space-invalid"),
    ("empty in path", "", [], 400, "memory-space-invalid"),
    ("empty header", None, [""], 400, "memory-space-invalid"),
    ("control folder", ".engram", [], 400, "memory-space-invalid"),
    ("two different", SPACE, [OTHER], 400, "memory-space-conflict"),
    ("malformed header beside a right path", SPACE, ["Beta!"], 400, "memory-space-invalid"),
    ("header twice", None, [SPACE, OTHER], 400, "memory-space-conflict"),
    ("header twice, the same", None, [SPACE, SPACE], 400, "memory-space-conflict"),
    ("header twice beside a right path", SPACE, [SPACE, SPACE], 400, "memory-space-conflict"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    ("space", "header", "status", "problem"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_every_route_resolves_its_space_alike(
    api: Api,
    method: str,
    path: str,
    space: str | None,
    header: list[str],
    status: int | None,
    problem: str | None,
) -> None:
    given = ROUTES[method, path]
    alpha = api.db.space(SPACE)
    memory = alpha.remember("for this request")
    if path.endswith("/restore"):
        alpha.forget(memory.id)
    if "{source}" in path:
        alpha.link(memory.id, "one")
        path = path.replace("{source}", memory.id).replace("{target}", "one")
    before = api.everything()
    prefix = "/api/v1" if space is None else f"/api/v1/spaces/{space}"
    url = prefix + path.replace("{id}", memory.id)
    headers = [(SPACE_HEADER, value) for value in header]
    answer = call(api.client, method, url, headers, **given)
    if problem is None:
        assert answer.is_success, answer.text
        if path == "/fork":  # so that the next one finds room
            api.db.delete_space("a-copy")
            api.db.purge_space("a-copy")
        return
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"].endswith("/" + problem)
    assert answer.json()["detail"]
    assert api.everything() == before


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", ""), ("PUT", ""), ("PATCH", ""), ("DELETE", "")),
        *(("POST", "/restore"), ("POST", "/purge"), ("POST", "/import")),
    ],
)
@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ([OTHER], "memory-space-conflict"),
        ([SPACE, SPACE], "memory-space-conflict"),
        (["Alpha"], "memory-space-invalid"),
        ([""], "memory-space-invalid"),
    ],
)
def test_the_header_must_not_contradict_a_space_s_own_route(
    unchanged: Api, method: str, path: str, header: list[str], problem: str
) -> None:
    headers = [(SPACE_HEADER, value) for value in header]
    answer = call(unchanged.client, method, f"/api/v1/spaces/{SPACE}{path}", headers)
    assert answer.status_code == 400
    assert answer.json()["type"].endswith(problem)


@pytest.mark.parametrize(
    ("header", "body"),
    [
        (OTHER, {"memory_space_id": "fresh"}),
        ("fresh", {}),
        ("fresh", None),
        ("fresh", {"memory_space_id": None}),
    ],
)
def test_creating_a_space_must_not_name_two(unchanged: Api, header: str, body: Any) -> None:
    answer = unchanged.client.post("/api/v1/spaces", headers={SPACE_HEADER: header}, json=body)
    assert answer.status_code == 400
    assert answer.json()["type"].endswith("memory-space-conflict")
    assert "memory_space_id" not in answer.json()


def test_the_header_of_a_client_that_always_sends_it_does_no_harm_to_the_list(api: Api) -> None:
    assert api.client.get("/api/v1/spaces", headers={SPACE_HEADER: SPACE}).status_code == 200
    twice = call(api.client, "GET", "/api/v1/spaces", [(SPACE_HEADER, SPACE)] * 2)
    assert twice.json()["type"].endswith("memory-space-conflict")
