"""Quotas on every surface: how they are set and shown, and what a server says beyond them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import engram
from engram.errors import QuotaExceeded, RateLimited, SpaceExists
from engram.memory.quotas import NO_QUOTAS, Quotas
from engram.server.app import build_app
from engram.server.rest import CHARGES, SPACE_OPERATIONS
from engram.spaces.rates import Rates

from .command_line import CommandLine
from .harness import LOCAL, Server

A = "/api/v1/spaces/alpha"
NONE = dict.fromkeys(Quotas.__struct_fields__)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Served:
    """A space behind an app in this process, whose rates go by a clock of the test's."""

    def __init__(self, db: engram.Database, client: TestClient) -> None:
        self.db = db
        self.client = client
        self.space = db.create_space("alpha")
        self.space.remember("something", id="one")
        self.clock = Clock()
        self.space._entry.rates = Rates(self.clock)

    def ask(self, method: str, path: str, **more: Any) -> Any:
        return self.client.request(method, f"{A}{path}", **more)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with engram.open(tmp_path) as db, TestClient(build_app(db), LOCAL) as client:
        yield Served(db, client)


def problem(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].rpartition("/")[2]


def test_they_are_given_shown_and_told_over_rest(served: Served) -> None:
    client = served.client
    body = {"memory_space_id": "beta", "quotas": {"memories": 2, "bytes": None}}
    made = client.post("/api/v1/spaces", json=body)
    assert (made.status_code, made.json()["quotas"]) == (201, {**NONE, "memories": 2})
    assert made.json()["position"] == 2
    path = "/api/v1/spaces/beta"
    again = client.put(path, json={"quotas": "memories:2"})
    assert (again.status_code, client.put(path).status_code) == (200, 200)
    other = client.put(path, json={"quotas": {"memories": 3}})
    assert problem(other) == (409, "space-exists")
    changed = client.patch(path, json={"quotas": {"recalls_per_second": 7}})
    assert changed.json()["quotas"] == {**NONE, "recalls_per_second": 7}  # as a whole
    (event,) = served.db.space("beta").events(after=2)
    assert (event.type, event.quotas) == ("space.configured", Quotas(recalls_per_second=7))
    refused = client.put("/api/v1/spaces/gamma", json={"quotas": {"memories": -1}})
    assert problem(refused) == (422, "invalid")
    assert client.get("/api/v1/spaces/gamma").status_code == 404


def test_too_much_is_refused_whole_and_says_what_to_do(served: Served) -> None:
    served.space.configure(quotas="memories:2")
    before = served.space.info()
    two = {"memories": [{"content": "a"}, {"content": "b"}]}
    answer = served.ask("POST", "/memories", json=two)
    assert problem(answer) == (429, "quota-exceeded")
    assert "raise the quota" in answer.json()["detail"]
    assert answer.json()["memory_space_id"] == "alpha"
    assert "retry-after" not in answer.headers  # waiting helps nobody
    assert served.space.info() == before
    assert served.ask("POST", "/memories", json={"content": "a"}).status_code == 201


WRITE = ("POST", "/memories", {"json": {"content": "a"}})
RECALL = ("POST", "/recall", {"json": {"query": "something"}})


@pytest.mark.parametrize(
    ("quotas", "charged", "free"),
    [("writes_per_second:2", WRITE, RECALL), ("recalls_per_second:2", RECALL, WRITE)],
)
def test_a_rate_bounds_what_it_names_and_nothing_else(
    served: Served, quotas: str, charged: Any, free: Any
) -> None:
    served.space.configure(quotas=quotas)
    for request, times in ((charged, 2), (free, 3)):
        for _ in range(times):
            assert served.ask(request[0], request[1], **request[2]).status_code < 300
    before = served.space.info().memories  # a recall may still be put on record behind it
    answer = served.ask(charged[0], charged[1], **charged[2])
    assert problem(answer) == (429, "rate-limited")
    assert (answer.headers["retry-after"], answer.json()["retry_after_s"]) == ("1", 1)
    # What is wrong with a request is found out behind its rate; that a space is not there, before.
    assert problem(served.ask(charged[0], charged[1], content=b"{"))[0] == 429
    nowhere = served.client.request(charged[0], f"/api/v1/spaces/nowhere{charged[1]}", json={})
    assert problem(nowhere) == (404, "space-not-found")
    assert served.space.info().memories == before
    # What gives something up, reads or sets up goes on.
    assert served.ask("GET", "/memories").status_code == 200
    assert served.ask("DELETE", "/memories/one").status_code == 200
    served.clock.now_s += 0.5
    assert served.ask(charged[0], charged[1], **charged[2]).status_code < 300
    assert served.client.patch(A, json={"quotas": "none"}).status_code == 200
    assert served.ask(charged[0], charged[1], **charged[2]).status_code < 300


def test_all_that_is_charged_is_served(served: Served) -> None:
    assert CHARGES.keys() <= {operation.run for operation in SPACE_OPERATIONS}


def test_all_handles_have_them(db: Any) -> None:
    space = db.create_space(quotas="memories:1")
    assert space.info().quotas == Quotas(memories=1)
    space.remember("the only one")
    with pytest.raises(QuotaExceeded, match="its quota is 1"):
        space.remember("one more")
    assert space.configure(quotas={"memories": 2}).quotas == Quotas(memories=2)
    assert db.ensure_space(space.id, quotas=Quotas(memories=2))[1] is False
    with pytest.raises(SpaceExists):
        db.ensure_space(space.id, quotas=Quotas(memories=3))
    assert space.configure(quotas="none").quotas == NO_QUOTAS


def test_a_client_is_told_when_to_come_again(server: Server) -> None:
    with engram.Client(server.url, retry_s=0) as client:
        space = client.create_space(quotas="recalls_per_second:1")
        space.remember("something")

        def hurry() -> None:
            while True:
                space.recall("something")

        with pytest.raises(RateLimited) as caught:
            hurry()
        assert (caught.value.retry_after_s, caught.value.memory_space_id) == (1, space.id)


def test_streams_are_bounded_by_the_quota_of_subscribers(server: Server) -> None:
    with engram.Client(server.url, retry_s=0) as client, ExitStack() as streams:
        space, other = client.create_space(quotas="subscribers:1"), client.create_space()
        first = space.events(after=0)
        streams.callback(first.close)
        next(first)
        query = f"space={other.id}&space={space.id}&after=0"
        for path in (f"/api/v1/spaces/{space.id}/events", f"/api/v1/events?{query}"):
            code, document = server.request("GET", path)
            assert (code, document["memory_space_id"]) == (429, space.id)
            assert document["type"].endswith("/quota-exceeded")
        space.configure(quotas="subscribers:2")
        second = space.events(after=0)
        streams.callback(second.close)
        assert next(second).type == "space.created"


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> CommandLine:
    return CommandLine(capfd, monkeypatch, tmp_path).set(ENGRAM_DATA_ROOT=str(tmp_path / "data"))


def test_commands_set_them_and_end_beyond_them(run: CommandLine) -> None:
    create = ("space", "create", "alpha", "--quota", "memories:1")
    made = run(*create, "--json")
    assert (made.code, made.documents[0]["quotas"]) == (0, {**NONE, "memories": 1})
    assert run(*create, "--if-not-exists").code == 0
    other = run("space", "create", "alpha", "--if-not-exists", "--quota", "memories:2")
    assert (other.code, "memories:1" in other.err) == (4, True)
    assert run("remember", "one", "--space", "alpha").code == 0
    full = run("remember", "two", "--space", "alpha")
    assert (full.code, "its quota is 1" in full.err) == (1, True)
    done = run("space", "configure", "alpha", "--quota", "memories:2,bytes:100000")
    assert done.out.endswith("quotas memories:2,bytes:100000\n")
    assert run("remember", "two", "--space", "alpha").code == 0
    run.set(ENGRAM_QUOTAS="memories:3,bytes:1")
    assert run("space", "create", "beta").code == 0
    assert run("remember", "one", "--space", "beta").code == 1
    wrong = run("space", "configure", "alpha", "--quota", "memories:many")
    assert (wrong.code, "--quota" in wrong.err) == (2, True)
    run.set(ENGRAM_QUOTAS="many")
    wrong = run("list", "--space", "alpha")
    assert (wrong.code, "ENGRAM_QUOTAS" in wrong.err) == (2, True)


def test_a_server_has_defaults_for_them(
    start_server: Callable[..., Server], tmp_path: Path
) -> None:
    server = start_server(tmp_path / "data", "--quota", "memories:1")
    assert server.request("PUT", "/api/v1/spaces/alpha")[1]["quotas"] == NONE
    codes = [server.request("POST", f"{A}/memories", {"content": "a"})[0] for _ in range(2)]
    assert codes == [201, 429]
