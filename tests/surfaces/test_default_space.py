"""The default space: what stands in for a space that nobody named, where a server lets it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import engram
from engram.server.app import build_app
from engram.server.default_space import DEPRECATION, DefaultSpace

from .harness import LOCAL, Server

MAIN = "main"
NEW = {"content": "something to remember"}


class Legacy:
    """A server that takes requests which name no space, in this process."""

    def __init__(self, db: engram.Database, client: TestClient, default: DefaultSpace) -> None:
        self.db = db
        self.client = client
        self.default = default


@pytest.fixture
def legacy(tmp_path: Path) -> Iterator[Legacy]:
    with engram.open(tmp_path) as db:
        default = DefaultSpace(MAIN)
        default.prepare(db)
        db.create_space("alpha").remember("of alpha", id="one")
        with TestClient(build_app(db, default_space=default), LOCAL) as client:
            yield Legacy(db, client, default)


def test_a_request_that_names_no_space_is_served_from_the_default_space(legacy: Legacy) -> None:
    stored = legacy.client.post("/api/v1/memories", json=NEW)
    assert (stored.status_code, stored.json()["memory_space_id"]) == (201, MAIN)
    assert stored.headers["deprecation"] == DEPRECATION
    (memory,) = stored.json()["memories"]
    one = legacy.client.get(f"/api/v1/memories/{memory['id']}")
    assert (one.status_code, one.headers["deprecation"]) == (200, DEPRECATION)
    recalled = legacy.client.post("/api/v1/recall", json={"query": "something"})
    assert [hit["memory"]["memory_space_id"] for hit in recalled.json()["results"]] == [MAIN]
    assert legacy.client.get("/api/v1/memories/one").status_code == 404  # which is alpha's
    assert legacy.default.fallbacks == 4


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "problem"),
    [
        ("GET", "/memories", {"headers": {"X-Memory-Space": "alpha"}}, 200, None),
        ("GET", "/spaces/alpha/memories", {}, 200, None),
        # Whoever tried to name one, in whatever way, does not mean the default space.
        ("GET", "/memories", {"headers": {"X-Memory-Space": ""}}, 400, "memory-space-invalid"),
        (
            "GET",
            "/memories",
            {"headers": {"X-Memory-Space-Id": "alpha"}},
            400,
            "memory-space-required",
        ),
        ("GET", "/memories", {"params": {"space": "alpha"}}, 400, "memory-space-required"),
        ("GET", "/memories?memory%5Fspace=", {}, 400, "memory-space-required"),
        # What makes spaces, and what is no operation inside one.
        ("POST", "/fork", {"json": {"memory_space_id": "copy"}}, 400, "memory-space-required"),
        ("POST", "/spaces", {"json": {}}, 201, None),
        ("GET", "/spaces", {}, 200, None),
        ("DELETE", "/spaces/", {}, 400, "memory-space-invalid"),
        ("GET", "/memoriesque", {}, 404, "not-found"),
        ("GET", "/nothing", {}, 404, "not-found"),
    ],
)
def test_where_one_is_named_or_none_is_needed_it_does_not_stand_in(
    legacy: Legacy, method: str, path: str, more: dict[str, Any], status: int, problem: str | None
) -> None:
    answer = legacy.client.request(method, f"/api/v1{path}", **more)
    assert (answer.status_code, "deprecation" in answer.headers) == (status, False)
    if problem is not None:
        assert answer.json()["type"].endswith(f"/{problem}")
    assert (legacy.default.fallbacks, legacy.db.space(MAIN).list().memories) == (0, ())


def test_a_space_in_the_body_is_refused_rather_than_overlooked(legacy: Legacy) -> None:
    answer = legacy.client.post("/api/v1/memories", json={**NEW, "memory_space_id": "alpha"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "memory_space_id")
    assert legacy.db.space(MAIN).list().memories == ()


def test_a_stream_may_be_of_the_default_space_too(legacy: Legacy) -> None:
    answer = legacy.client.get("/api/v1/events?after=99")
    assert answer.json()["type"].endswith("/position-beyond-end")
    assert answer.json()["memory_space_id"] == MAIN
    both = legacy.client.get("/api/v1/events?space=alpha&space=nowhere")
    assert (both.status_code, both.json()["memory_space_id"]) == (404, "nowhere")
    assert legacy.default.fallbacks == 1


def test_a_deleted_default_space_is_gone_and_is_never_made_by_a_request(legacy: Legacy) -> None:
    legacy.db.delete_space(MAIN)
    for method, path in (("GET", "/memories"), ("POST", "/memories")):
        answer = legacy.client.request(method, f"/api/v1{path}", json=NEW)
        assert (answer.status_code, answer.json()["memory_space_id"]) == (404, MAIN)
    assert [info.memory_space_id for info in legacy.db.spaces()] == ["alpha"]
    legacy.default.prepare(legacy.db)  # as at the next start, which it does not stop either
    assert [info.memory_space_id for info in legacy.db.spaces()] == ["alpha"]


def test_without_leave_nothing_stands_in(tmp_path: Path) -> None:
    with engram.open(tmp_path) as db, TestClient(build_app(db), LOCAL) as client:
        db.create_space(MAIN)
        answer = client.post("/api/v1/memories", json=NEW)
        assert answer.json()["type"].endswith("/memory-space-required")


def test_the_log_speaks_of_each_client_once_an_hour(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    default = DefaultSpace(MAIN, clock=lambda: now[0])
    with caplog.at_level(logging.WARNING, "engram.server"):
        for client in ("a", "a", "b", "a"):
            assert default.stand_in(client) == MAIN
        now[0] = 3_600.0
        default.stand_in("a")
    said = [record.getMessage().split("client=")[1].split()[0] for record in caplog.records]
    assert (said, default.fallbacks) == (["a", "b", "a"], 5)


def test_a_server_makes_the_space_it_is_started_with(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    file = tmp_path / "engram.toml"
    file.write_text('default_space = "main"\nrequire_explicit_space = false\n')
    server = start_server(tmp_path / "data", "--config", str(file))
    assert server.request("POST", "/api/v1/memories", NEW)[0] == 201
    code, page = server.request("GET", "/api/v1/spaces/main/memories")
    assert (code, len(page["memories"])) == (200, 1)
    status, errors = server.stop()
    assert status == 0
    assert "named no memory space" in errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--no-require-explicit-space"], ["--default-space"]),
        (["--default-space", "No Space", "--port", "0"], ["No Space"]),
    ],
)
def test_a_server_that_could_not_mean_any_space_does_not_start(
    cli: Any, arguments: list[str], words: list[str]
) -> None:
    done = cli("serve", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert [word for word in words if word not in done.stderr] == []
