"""Deleting, restoring and purging a space over HTTP, by the clients, on the command line, and what
those hear of it who follow the space.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import engram
from engram.errors import SpaceDeleted, SpaceExists, SpaceNotFound
from engram.server.app import build_app
from engram.server.events import StreamOptions

from .command_line import CommandLine, run_in_terminal
from .harness import LOCAL
from .test_events import Serving, serving
from .test_resolver import ROUTES, SPACE_HEADER

S = "/api/v1/spaces"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[engram.Database]:
    with engram.open(tmp_path / "data") as database:
        database.create_space("alpha").remember("a secret", id="one")
        database.create_space("beta")
        yield database


@pytest.fixture
def http(db: engram.Database) -> Iterator[TestClient]:
    with TestClient(build_app(db), LOCAL) as client:
        yield client


def problem(answer: Any, status: int, name: str) -> str:
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (status, name)
    assert answer.json()["memory_space_id"] == "alpha"
    return str(answer.json()["detail"])


def test_a_space_s_end_over_http(http: TestClient) -> None:
    before = http.get(f"{S}/alpha").json()
    deleted = http.delete(f"{S}/alpha")
    assert deleted.status_code == 200
    assert set(deleted.json()) == {"memory_space_id", "purge_after"}
    problem(http.get(f"{S}/alpha"), 404, "space-not-found")
    problem(http.delete(f"{S}/alpha"), 404, "space-not-found")
    problem(http.put(f"{S}/alpha"), 409, "space-deleted")
    answer = http.post(S, json={"memory_space_id": "alpha"})
    assert answer.json()["type"].endswith("space-deleted")
    assert [s["memory_space_id"] for s in http.get(S).json()["spaces"]] == ["beta"]
    listed = http.get(f"{S}?deleted=true").json()["spaces"]
    assert [(s["memory_space_id"], s["state"] == "deleted") for s in listed] == [
        ("alpha", True),
        ("beta", False),
    ]
    shown = http.get(f"{S}/alpha?deleted=true").json()
    assert shown == listed[0]
    assert shown["purge_after"] == deleted.json()["purge_after"]
    assert "purge_after" not in listed[1]
    restored = http.post(f"{S}/alpha/restore")
    assert restored.status_code == 200
    assert restored.json()["uuid"] == before["uuid"]
    assert http.get(f"{S}/alpha/memories/one").json()["content"] == "a secret"
    problem(http.post(f"{S}/alpha/restore"), 409, "space-exists")
    problem(http.post(f"{S}/alpha/purge"), 409, "space-exists")
    http.delete(f"{S}/alpha")
    purged = http.post(f"{S}/alpha/purge")
    assert (purged.status_code, set(purged.json())) == (200, {"receipt"})
    assert purged.json()["receipt"]["uuid"] == before["uuid"]
    assert http.post(f"{S}/alpha/purge").content == purged.content
    problem(http.post(f"{S}/alpha/restore"), 404, "space-not-found")
    problem(http.get(f"{S}/alpha?deleted=true"), 404, "space-not-found")
    anew = http.put(f"{S}/alpha")
    assert (anew.status_code, anew.json()["generation"]) == (201, 2)
    assert http.get(f"{S}/alpha/memories").json()["memories"] == []


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_of_a_deleted_space_is_a_404(
    db: engram.Database, http: TestClient, method: str, path: str
) -> None:
    db.delete_space("alpha")
    filled = path.replace("{id}", "one")
    for url, headers in (
        (f"{S}/alpha{filled}", {}),
        (f"/api/v1{filled}", {SPACE_HEADER: "alpha"}),
    ):
        answer = http.request(method, url, headers=headers, **ROUTES[method, path])
        problem(answer, 404, "space-not-found")


def test_the_streams_of_a_deleted_space_are_a_404(db: engram.Database, http: TestClient) -> None:
    db.delete_space("alpha")
    problem(http.get(f"{S}/alpha/events"), 404, "space-not-found")
    problem(http.get("/api/v1/events?space=beta&space=alpha"), 404, "space-not-found")


@pytest.mark.parametrize("path", ["", "/restore", "/purge"])
def test_a_body_where_none_belongs_changes_nothing(http: TestClient, path: str) -> None:
    method = "POST" if path else "DELETE"
    answer = http.request(method, f"{S}/alpha{path}", json={})
    assert problem(answer, 400, "malformed") == "this request takes no body; send none"
    assert http.get(f"{S}/alpha").json()["state"] == "active"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path, StreamOptions(heartbeat_s=0.2, write_s=1.0, retry_ms=20)) as server:
        server.db.create_space("alpha").remember("one", id="one")
        server.db.create_space("beta")
        yield server


def test_a_stream_ends_with_the_deletion_as_its_last_event(served: Serving) -> None:
    stream = served.stream(f"{S}/alpha/events?after=0")
    filtered = served.stream(f"{S}/alpha/events?type=memory.stored")
    filtered.block()
    stream.events(2)
    deleted = served.db.delete_space("alpha")
    (last,) = stream.events(1)
    assert (last["type"], last["position"]) == ("space.deleted", 3)
    assert last["purge_after"] == deleted.purge_after.isoformat().replace("+00:00", "Z")
    assert [block.data for block in stream.rest()] == []
    assert {block.data for block in filtered.rest()} <= {None}
    served.db.restore_space("alpha")
    again = served.stream(f"{S}/alpha/events?after=3&incarnation={last['space_uuid']}")
    assert [event["type"] for event in again.events(1)] == ["space.restored"]


def test_a_stream_of_several_spaces_goes_on_with_the_others(served: Serving) -> None:
    stream = served.stream("/api/v1/events?space=alpha&space=beta&after=0")
    stream.events(3)
    served.db.delete_space("alpha")
    (last,) = stream.events(1)
    assert (last["memory_space_id"], last["type"]) == ("alpha", "space.deleted")
    served.db.space("beta").remember("still here", id="x")
    (event,) = stream.events(1)
    assert (event["memory_space_id"], event["type"]) == ("beta", "memory.stored")
    served.db.delete_space("beta")
    assert [event["type"] for event in stream.events(1)] == ["space.deleted"]
    assert [block.data for block in stream.rest()] == []


def test_the_clients_have_the_same_verbs(served: Serving) -> None:
    url = f"http://localhost:{served.port}"
    with engram.Client(url) as client:
        uuid = client.space_info("alpha").uuid
        feed = client.space("alpha").events(0)
        heard = [next(feed).type]
        follower = threading.Thread(target=lambda: heard.extend(event.type for event in feed))
        follower.start()
        deleted = client.delete_space("alpha")
        follower.join(timeout=30)
        assert heard == ["space.created", "memory.stored", "space.deleted"]
        assert client.space_info("alpha", deleted=True).purge_after == deleted.purge_after
        assert [info.memory_space_id for info in client.spaces()] == ["beta"]
        assert next(info.state for info in client.spaces(deleted=True)) == "deleted"
        with pytest.raises(SpaceDeleted):
            client.create_space("alpha")
        with pytest.raises(SpaceNotFound):
            client.space("alpha").get("one")
        assert client.restore_space("alpha").get("one").content == "one"
        with pytest.raises(SpaceExists):
            client.purge_space("alpha")
        client.delete_space("alpha")
        receipt = client.purge_space("alpha")
        assert (receipt.uuid, receipt.generation) == (uuid, 1)
        assert client.purge_space("alpha") == receipt
        with pytest.raises(SpaceNotFound):
            client.restore_space("alpha")


def test_a_client_that_filters_the_end_out_is_told_that_the_space_is_gone(served: Serving) -> None:
    async def follow() -> None:
        async with engram.AsyncClient(f"http://localhost:{served.port}") as client:
            feed = client.space("alpha").events(0, types=["memory.stored"])
            assert (await anext(feed)).position == 2
            await client.delete_space("alpha")
            with pytest.raises(SpaceNotFound):
                await anext(feed)

    asyncio.run(follow())


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> CommandLine:
    return CommandLine(capfd, monkeypatch, tmp_path).set(ENGRAM_DATA_ROOT=str(tmp_path / "data"))


@pytest.mark.parametrize("place", ["data root", "server"])
def test_a_space_s_end_on_the_command_line(
    run: CommandLine, tmp_path: Path, place: str, request: pytest.FixtureRequest
) -> None:
    if place == "server":
        server = request.getfixturevalue("start_server")(tmp_path / "data")
        run.set(ENGRAM_SERVER=server.url)
    assert run("space", "create", "alpha").code == 0
    assert run("remember", "a secret", "--id", "one", "--space", "alpha").code == 0
    asked = run("space", "delete", "alpha")
    assert (asked.code, asked.out) == (2, "")
    assert "add --yes" in asked.err
    deleted = run("space", "delete", "alpha", "--yes", "--json")
    (document,) = deleted.documents
    assert set(document) == {"memory_space_id", "purge_after"}
    assert run("get", "one", "--space", "alpha").code == 3
    assert run("space", "list").out == ""
    assert "deleted" in run("space", "list", "--deleted").out
    (listed,) = run("space", "list", "--deleted", "--json").documents
    assert (listed["state"], listed["purge_after"]) == ("deleted", document["purge_after"])
    assert run("space", "show", "alpha").code == 3
    assert "deleted" in run("space", "show", "alpha", "--deleted").out
    assert run("space", "create", "alpha").code == 4
    assert run("space", "create", "alpha", "--if-not-exists").code == 4
    assert run("space", "restore", "alpha") == (0, "restored alpha\n", "")
    assert "a secret" in run("get", "one", "--space", "alpha").out
    assert run("space", "delete", "alpha", "-y").out.startswith("deleted alpha, which can be")
    assert run("space", "purge", "alpha").code == 2
    (purged,) = run("space", "purge", "alpha", "--yes", "--json").documents
    assert purged["receipt"]["generation"] == 1
    assert run("space", "purge", "alpha", "--yes").out.startswith("purged alpha, generation 1, ")
    assert run("space", "restore", "alpha").code == 3
    assert run("space", "create", "alpha").code == 0
    assert run("list", "--space", "alpha").out == ""


@pytest.mark.parametrize(
    ("typed", "deleted"), [("y\n", True), ("n\n", False), ("\n", False)], ids=["yes", "no", "enter"]
)
def test_a_terminal_is_asked(run: CommandLine, tmp_path: Path, typed: str, deleted: bool) -> None:
    environment = {"ENGRAM_DATA_ROOT": str(tmp_path / "data")}
    run("space", "create", "alpha")
    run("remember", "a secret", "--space", "alpha")
    status, shown = run_in_terminal(["space", "delete", "alpha"], environment, typed=typed)
    assert "Delete the space alpha with its 1 memories?" in shown
    assert status == (0 if deleted else 1)
    assert run("space", "show", "alpha").code == (3 if deleted else 0)
    if deleted:
        status, shown = run_in_terminal(["space", "purge", "alpha"], environment, typed=typed)
        assert "Purge the deleted space alpha for good?" in shown
        assert run("space", "restore", "alpha").code == 3


def test_watching_a_space_ends_with_it(run: CommandLine, tmp_path: Path) -> None:
    run("space", "create", "alpha")
    run("space", "delete", "alpha", "--yes")
    run("space", "restore", "alpha")
    told = run("watch", "--after", "0", "--no-follow", "--space", "alpha").out.splitlines()
    assert [line.split()[2:4] for line in told] == [
        ["1", "space.created"],
        ["2", "space.deleted"],
        ["3", "space.restored"],
    ]
    assert "can be restored until" in told[1]
