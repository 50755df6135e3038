"""Access keys through every door: who is let in, to what, and that nobody else learns anything."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from starlette.routing import Route
from starlette.testclient import TestClient

import engram
from engram.access.gate import Access
from engram.access.key_file import KEYS_NAME, KeyFile, open_key_file
from engram.access.keys import SCOPES
from engram.access.principal import NEEDS, Need
from engram.server.app import build_app
from engram.server.audience import Room
from engram.server.events import STREAM_OPERATIONS, StreamOptions
from engram.server.forks import FORK
from engram.server.rest import REGISTRY_OPERATIONS, SPACE_OPERATIONS
from engram.server.transfers import EXPORT, IMPORT
from tests.unit.conftest import wait_until

from .command_line import CommandLine, run_in_terminal
from .harness import LOCAL, Server
from .test_events import Serving, Stream, serving
from .test_resolver import ROUTES, SPACE_PREFIX

Start = Callable[..., Server]
EVENTS = "/api/v1/spaces/{}/events"
OPERATIONS = [*SPACE_OPERATIONS, *REGISTRY_OPERATIONS, *STREAM_OPERATIONS, EXPORT, IMPORT, FORK]


class Guarded(NamedTuple):
    """A server in this process with the spaces alpha and beta, and keys of all kinds."""

    db: engram.Database
    client: TestClient
    keys: KeyFile

    def key(self, spaces: Any, *scopes: str) -> dict[str, str]:
        """The header with a new key."""
        made = self.keys.create(spaces=spaces, scopes=scopes)
        return {"Authorization": f"Bearer {made.text}"}

    def ask(self, method: str, path: str, key: dict[str, str] | None = None, **kw: Any) -> Any:
        # Answers can be compared where they name the same request.
        headers = {**(key or {}), "X-Request-Id": "asked"}
        return self.client.request(method, path, headers=headers, **kw)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    root = tmp_path_factory.mktemp("guarded")
    with (
        engram.open(root) as db,
        closing(open_key_file(root)) as keys,
        closing(Access(keys)) as access,
        # Not a name of this machine: with keys, a server may have any.
        TestClient(build_app(db, access=access), "http://memory.example") as client,
    ):
        for name in ("alpha", "beta"):
            db.create_space(name).remember_many(
                [{"id": memory, "content": f"{memory} of {name}"} for memory in ("one", "two")]
            )
        keys.create(spaces="*", scopes=["admin"])
        yield Guarded(db, client, keys)


def problem(answer: Any) -> tuple[int, str]:
    document = answer.json()
    return answer.status_code, document["type"].rpartition("/")[2]


NOT_AUTHENTICATED = (401, "unauthenticated")
FORBIDDEN = (403, "forbidden")
NOT_FOUND = (404, "space-not-found")


def requests() -> Iterator[tuple[str, str, dict[str, Any], Need]]:
    """Every operation inside a space, by method, path behind the space, body, and what it takes."""
    needs = {(o.method, o.path): o.need for o in (*SPACE_OPERATIONS, EXPORT, FORK)}
    for (method, path), given in ROUTES.items():
        inner = path.replace("{id}", "one").replace("{source}", "one").replace("{target}", "two")
        yield method, inner, given, needs[method, path]
    for method, path, body in (("GET", "", {}), ("PATCH", "", {"json": {}}), ("DELETE", "", {})):
        (need,) = (
            o.need for o in REGISTRY_OPERATIONS if (o.method, o.path) == (method, "/spaces/{space}")
        )
        yield method, path, body, need
    for action in ("/restore", "/purge"):
        yield "POST", action, {}, NEEDS["purge_space"]


REQUESTS = list(requests())
NAMES = [f"{method} {path}" for method, path, _, _ in REQUESTS]


def test_every_operation_says_what_it_takes(guarded: Guarded) -> None:
    for operation in OPERATIONS:
        assert operation.need in NEEDS.values(), operation.path
    unscoped = {(o.method, o.path) for o in OPERATIONS if not o.need.scopes}
    assert unscoped == {("GET", "/spaces"), ("GET", "/spaces/{space}")}
    inside = {(o.method, o.path) for o in (*SPACE_OPERATIONS, EXPORT, FORK)}
    routes = {
        (method, route.path.replace(":segment", "").removeprefix("/api/v1"))
        for route in build_app(guarded.db).routes
        if isinstance(route, Route) and route.path.startswith("/api/v1")
        for method in (route.methods or ())
        if method != "HEAD"
    }
    others = {(o.method, o.path) for o in OPERATIONS} - inside
    assert routes == others | inside | {(m, f"/spaces/{{space}}{path}") for m, path in inside}


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
def test_without_a_key_nothing_is_told_but_that_one_is_needed(
    guarded: Guarded, method: str
) -> None:
    wrong = guarded.key("*", "admin")["Authorization"][:-3] + "aaa"
    answers = set()
    for path in ("/api/v1/spaces", "/api/v1/spaces/alpha", "/api/v1/spaces/nowhere/memories"):
        for inside in (path, "/api/v1/spaces/No%20Id", "/api/v1/events", "/nothing", "/a%2Fb"):
            for given in ({}, {"Authorization": wrong}):
                answer = guarded.ask(method, inside, given)
                assert answer.status_code == 401
                challenge = answer.headers["WWW-Authenticate"]
                assert challenge.startswith('Bearer realm="engram"')
                assert ("invalid_token" in challenge) == bool(given)
                answers.add((bool(given), answer.content))
    assert len(answers) == 2
    health = guarded.ask("GET", "/healthz")
    assert (health.status_code, health.json()) == (200, {"status": "ok"})


def test_who_has_a_key_may_come_from_a_page_of_any_site(guarded: Guarded) -> None:
    key = guarded.key(["alpha"], "read")
    headers = {**key, "Origin": "https://somewhere.example"}
    assert guarded.ask("GET", "/api/v1/spaces/alpha/memories", headers).status_code == 200


@pytest.mark.parametrize(("method", "path", "given", "need"), REQUESTS, ids=NAMES)
def test_a_foreign_space_answers_as_one_that_is_not_there(
    guarded: Guarded, method: str, path: str, given: dict[str, Any], need: Need
) -> None:
    for scopes in (["read"], list(SCOPES)):
        key = guarded.key(["alpha", "granted"], *scopes)
        for prefix, header in ((SPACE_PREFIX, False), ("/api/v1", True)):
            if header and path in {"", "/restore", "/purge"}:
                continue
            told = []
            # To those who may restore them, it is said that no deleted space is there.
            spaces = ("beta", "nowhere", *(() if path in {"/restore", "/purge"} else ("granted",)))
            for space in spaces:
                headers = {**key, "X-Memory-Space": space} if header else key
                answer = guarded.ask(method, prefix.format(space=space) + path, headers, **given)
                assert problem(answer) == NOT_FOUND
                told.append((answer.text.replace(space, "…"), list(answer.headers)))
            assert told == told[:1] * len(spaces)
    assert guarded.db.space("beta").info().memories == 2


@pytest.mark.parametrize(("method", "path", "given", "need"), REQUESTS, ids=NAMES)
def test_an_operation_takes_its_scopes_and_no_more(
    guarded: Guarded, method: str, path: str, given: dict[str, Any], need: Need
) -> None:
    guarded.db.ensure_space("gamma")
    url = SPACE_PREFIX.format(space="gamma") + path
    others = [scope for scope in SCOPES if scope not in need.scopes and scope != "admin"]
    for missing in need.scopes:
        rest = [scope for scope in need.scopes if scope != missing]
        key = guarded.key(["gamma"], *rest, *others) if rest or others else {}
        answer = guarded.ask(method, url, key, **given)
        assert problem(answer) == FORBIDDEN
        assert answer.json()["memory_space_id"] == "gamma"
        broken = guarded.ask(method, url + "?no=parameter", key, content=b"{")
        assert problem(broken) == FORBIDDEN, "what is wrong with the rest comes last"
    enough = guarded.key("*" if need.everywhere else ["gamma"], *(need.scopes or ["subscribe"]))
    answer = guarded.ask(method, url, enough, **given)
    assert answer.status_code not in {401, 403}, answer.text
    assert answer.is_success or problem(answer)[0] != 404 or "space" not in problem(answer)[1]
    if guarded.db.spaces(deleted=True):
        for made in ("a-copy", "gamma"):
            if any(info.memory_space_id == made for info in guarded.db.spaces()):
                guarded.db.delete_space(made)
            if any(info.memory_space_id == made for info in guarded.db.spaces(deleted=True)):
                guarded.db.purge_space(made)


def test_writing_alone_reads_nothing(guarded: Guarded) -> None:
    key, url = guarded.key(["alpha"], "write"), "/api/v1/spaces/alpha/memories"
    for given in (
        {"memories": [{"id": "one", "content": "x"}], "on_conflict": "skip"},
        {"memories": [{"id": "one", "content": "x"}]},
        {"id": "one", "content": "x"},
    ):
        answer = guarded.ask("POST", url, key, json=given)
        assert answer.status_code in {403, 409}
        assert "of alpha" not in answer.text
    for method, path in (("PATCH", "/one"), ("POST", "/one/restore"), ("GET", "/one")):
        assert problem(guarded.ask(method, url + path, key, json={"tags": []})) == FORBIDDEN


def test_making_a_space_takes_admin_on_all_and_nothing_else_is_told(guarded: Guarded) -> None:
    bundle = guarded.ask("GET", "/api/v1/spaces/alpha/export", guarded.key("*", "admin")).content
    few = guarded.key(["alpha", "new"], "admin")
    others = guarded.key("*", "read", "write", "subscribe")
    told = set()
    for key in (few, others):
        for space in ("alpha", "beta", "new"):
            for answer in (
                guarded.ask("PUT", f"/api/v1/spaces/{space}", key, json={}),
                guarded.ask("POST", "/api/v1/spaces", key, json={"memory_space_id": space}),
                guarded.ask("POST", f"/api/v1/spaces/{space}/import", key, content=bundle),
            ):
                assert problem(answer) == FORBIDDEN
                told.add(answer.json()["detail"])
    assert len(told) == 1
    copy = guarded.ask("POST", "/api/v1/spaces/alpha/fork", few, json={"memory_space_id": "new"})
    assert problem(copy) == FORBIDDEN
    assert [info.memory_space_id for info in guarded.db.spaces()] == ["alpha", "beta"]
    admin = guarded.key("*", "admin")
    assert guarded.ask("PUT", "/api/v1/spaces/made", admin).status_code == 201
    assert guarded.ask("DELETE", "/api/v1/spaces/made", admin).status_code == 200
    assert guarded.ask("POST", "/api/v1/spaces/made/purge", admin).status_code == 200


def test_the_list_shows_the_spaces_one_may_see_and_pages_over_no_others(guarded: Guarded) -> None:
    def listed(key: dict[str, str], query: str = "") -> Any:
        page = guarded.ask("GET", f"/api/v1/spaces{query}", key).json()
        return [space["memory_space_id"] for space in page["spaces"]], page["next"]

    for name in ("a1", "a2", "zz"):
        guarded.db.create_space(name)
    guarded.db.delete_space("a2")
    try:
        some = guarded.key(["a2", "beta", "nowhere", "zz"], "subscribe")
        assert listed(some) == (["beta", "zz"], None)
        assert listed(some, "?limit=1") == (["beta"], "beta")
        assert listed(some, "?limit=1&after=beta") == (["zz"], None)
        assert listed(some, "?after=zz") == ([], None)
        assert listed(some, "?deleted=true") == (["beta", "zz"], None)
        ruler = guarded.key(["a2", "beta"], "admin")
        assert listed(ruler, "?deleted=true") == (["a2", "beta"], None)
        assert listed(ruler) == (["beta"], None)
        everywhere = listed(guarded.key("*", "read"))[0]
        assert everywhere == ["a1", "alpha", "beta", "zz"]
        for key, status in ((some, 404), (ruler, 200)):
            url = "/api/v1/spaces/a2?deleted=true"
            assert guarded.ask("GET", url, key).status_code == status
        missing = guarded.ask("GET", "/api/v1/spaces/nowhere?deleted=true&x=1", some)
        buried = guarded.ask("GET", "/api/v1/spaces/a2?deleted=true&x=1", some)
        assert buried.text.replace("a2", "nowhere") == missing.text
    finally:
        for name in ("a1", "zz"):
            guarded.db.delete_space(name)
        for name in ("a1", "a2", "zz"):
            guarded.db.purge_space(name)


def test_the_checks_are_made_in_the_order_of_the_contract(guarded: Guarded) -> None:
    key = guarded.key(["alpha"], "read")

    def said(space: str, given: dict[str, str], **kw: Any) -> tuple[int, str]:
        return problem(guarded.ask("POST", f"/api/v1/spaces/{space}/memories", given, **kw))

    bad: dict[str, Any] = {"content": b"{", "params": {"x": "1"}}
    assert said("No%20Id", {}, **bad) == NOT_AUTHENTICATED
    assert said("No%20Id", key, **bad) == (400, "memory-space-invalid")
    assert said("beta", {**key, "X-Memory-Space": "alpha"}, **bad) == (400, "memory-space-conflict")
    assert said("beta", key, **bad) == NOT_FOUND
    assert said("alpha", key, **bad) == FORBIDDEN
    assert said("alpha", guarded.key(["alpha"], "write"), **bad) == (400, "malformed")


def test_a_key_elsewhere_than_in_its_header_is_no_key(guarded: Guarded) -> None:
    text = guarded.key("*", "admin")["Authorization"].removeprefix("Bearer ")
    url = "/api/v1/spaces/alpha/memories"
    for given in (
        {"params": {"api_key": text}},
        {"params": {"access_token": text}},
        {"headers": {"Cookie": f"Authorization=Bearer {text}"}},
        {"headers": {"X-API-Key": text, "Proxy-Authorization": f"Bearer {text}"}},
    ):
        answer = guarded.client.get(url, **given)
        assert problem(answer) == NOT_AUTHENTICATED
        assert text[-20:] not in answer.text


def test_a_damaged_file_of_keys_lets_nobody_in(tmp_path: Path) -> None:
    with engram.open(tmp_path) as db, closing(open_key_file(tmp_path)) as keys:
        made = keys.create(spaces="*", scopes=["admin"])
        with closing(Access(keys)) as access, TestClient(build_app(db, access=access)) as client:
            header = {"Authorization": f"Bearer {made.text}"}
            assert client.get("/api/v1/spaces", headers=header).status_code == 200
            (tmp_path / ".engram" / KEYS_NAME).write_text("ENGRAM-KEYS")
            answer = client.get("/api/v1/spaces", headers=header)
            assert problem(answer) == (503, "keys-damaged")
            assert str(tmp_path) not in answer.text
            assert client.get("/healthz").status_code == 200


class Streaming(NamedTuple):
    served: Serving
    keys: KeyFile

    def stream(self, path: str, *scopes: str, spaces: Any = "*") -> Stream:
        made = self.keys.create(spaces=spaces, scopes=scopes)
        return self.served.stream(path, Authorization=f"Bearer {made.text}")


@pytest.fixture(scope="module")
def streaming(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Streaming]:
    root = tmp_path_factory.mktemp("streaming")
    engram.open(root).close()
    options = StreamOptions(heartbeat_s=600.0, write_s=600.0)  # neither is what ends a stream
    with closing(open_key_file(root)) as keys, closing(Access(keys)) as access:
        room = Room(per_key=2, per_space=3)
        with serving(root, options, access=access, room=room) as served:
            for name in ("alpha", "beta", "gamma"):
                served.db.create_space(name)
            yield Streaming(served, keys)


def test_a_stream_takes_the_scope_and_every_one_of_its_spaces(streaming: Streaming) -> None:
    def said(path: str, *scopes: str, spaces: Any = "*") -> Any:
        stream = streaming.stream(path, *scopes, spaces=spaces)
        if stream.status == 200:
            stream.close()
            return 200
        document = stream.problem()
        return stream.status, document["type"].rpartition("/")[2], document.get("memory_space_id")

    several = "/api/v1/events?space=alpha&space={}"
    assert said(EVENTS.format("alpha"), "read", "write") == (*FORBIDDEN, "alpha")
    assert said(EVENTS.format("alpha"), "subscribe", spaces=["alpha"]) == 200
    assert said(EVENTS.format("beta"), "subscribe", spaces=["alpha"]) == (*NOT_FOUND, "beta")
    assert said(several.format("beta"), "subscribe", spaces=["alpha", "beta"]) == 200
    for other in ("beta", "nowhere"):
        found = said(several.format(other), "subscribe", spaces=["alpha", "nowhere"])
        assert found == (*NOT_FOUND, other)
    assert said(several.format("beta"), "read") == (*FORBIDDEN, "alpha")
    assert said(several.format("No"), "read", spaces=["x"])[:2] == (400, "memory-space-invalid")


def test_streams_end_with_their_key_and_others_go_on(streaming: Streaming) -> None:
    made = streaming.keys.create(spaces=["gamma"], scopes=["subscribe"])
    header = {"Authorization": f"Bearer {made.text}"}
    goes_on = streaming.stream(EVENTS.format("gamma"), "subscribe")
    ends = streaming.served.stream(EVENTS.format("gamma"), **header)
    assert (ends.status, goes_on.status) == (200, 200)
    ends.block(), goes_on.block()
    streaming.keys.revoke(made.record.id)
    assert ends.rest() == [], "it ends as a stream does, long before the next heartbeat"
    again = streaming.served.stream(EVENTS.format("gamma"), **header)
    assert (again.status, again.problem()["type"].rpartition("/")[2]) == NOT_AUTHENTICATED
    streaming.served.db.space("gamma").remember("seen by whoever is left")
    assert goes_on.events(1)[0]["type"] == "memory.stored"
    goes_on.close()


def test_a_reader_that_takes_nothing_ends_with_its_key_too(streaming: Streaming) -> None:
    db = streaming.served.db
    space = db.create_space(embedding=engram.EmbeddingSpec(model="caller", dimensions=1))
    batch = [{"content": "x" * 100_000, "embedding": [1.0]}] * 50
    for _ in range(4):
        space.remember_many(batch)
    made = streaming.keys.create(spaces=[space.id], scopes=["subscribe"])
    url = EVENTS.format(space.id)
    for _ in range(2):
        stuck = streaming.served.stream(f"{url}?after=0", Authorization=f"Bearer {made.text}")
        assert stuck.status == 200
    assert streaming.stream(url, "subscribe").status == 200
    assert streaming.stream(url, "subscribe").status == 429, "all the room of a space is taken"
    streaming.keys.revoke(made.record.id)

    def there_is_room() -> bool:
        with closing(streaming.stream(url, "subscribe")) as stream:
            return stream.status == 200

    wait_until(there_is_room)


def test_one_key_and_one_space_have_room_for_so_many_streams(streaming: Streaming) -> None:
    url, several = EVENTS.format("alpha"), "/api/v1/events?space=beta&space=alpha"
    made = streaming.keys.create(spaces="*", scopes=["subscribe"])
    header = {"Authorization": f"Bearer {made.text}"}
    taken = [streaming.served.stream(path, **header) for path in (url, several)]
    refused = streaming.served.stream(EVENTS.format("gamma"), **header)
    document = refused.problem()
    assert (refused.status, document["type"].rpartition("/")[2]) == (429, "quota-exceeded")
    assert made.record.id in document["detail"]
    taken.append(streaming.stream(url, "subscribe"))
    assert [stream.status for stream in taken] == [200, 200, 200]
    full = streaming.stream("/api/v1/events?space=gamma&space=alpha", "subscribe")
    document = full.problem()
    assert (full.status, document["memory_space_id"]) == (429, "alpha")
    for stream in taken:
        stream.close()

    def there_is_room() -> bool:
        with closing(streaming.served.stream(url, **header)) as stream:
            return stream.status == 200

    wait_until(there_is_room)


def test_a_real_server_with_keys_and_its_commands(
    tmp_path: Path,
    start_server: Start,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From no key to one revoked, on an address that others can reach; no secret is ever said."""
    root = str(tmp_path / "data")
    run = CommandLine(capsys, monkeypatch, tmp_path).set(ENGRAM_DATA_ROOT=root)
    refused = run("serve", "--host", "0.0.0.0", "--port", "0")
    assert refused.code == 2
    assert f"engram keys create --data-root {root}" in refused.err
    assert not Path(root).exists()
    brief = run("keys", "create", "--all-spaces", "--scope", "read", "--expires", "2999-01-01")
    assert run("keys", "revoke", brief.out.split("_")[1]).out.startswith("revoked")
    assert run("serve", "--host", "0.0.0.0", "--port", "0").code == 2, "no key is left"

    admin = run("keys", "create", "--all-spaces", "--scope", "admin", "--name", "me").out.strip()
    server = start_server(Path(root), "--host", "0.0.0.0")
    url = server.url.replace("0.0.0.0", "127.0.0.1")
    for name in ("alpha", "beta"):
        with engram.Client(url, admin) as client:
            client.create_space(name).remember("The deploy key is rotated every Monday", id="one")
    made = run("keys", "create", "--space", "alpha", "--scope", "read", "--json")
    agent = made.documents[0]["key"]
    secrets = [admin, agent]
    answers = []
    monkeypatch.delenv("ENGRAM_DATA_ROOT")
    run.set(ENGRAM_SERVER=url, ENGRAM_SPACE="alpha")
    without = run("recall", "deploy key")
    assert (without.code, "ENGRAM_API_KEY" in without.err) == (1, True)
    run.set(ENGRAM_API_KEY=agent)
    assert "rotated" in run("recall", "deploy key").out
    assert run("remember", "x").code == 1
    assert run("get", "one", "--space", "beta").code == 3
    assert [line["memory_space_id"] for line in run("space", "list", "--json").documents] == [
        "alpha"
    ]
    with engram.Client(url, agent) as client, engram.Client(url, agent[:-4] + "aaaa") as wrong:
        for attempt, kind in (
            (lambda: client.space("alpha").remember("x"), engram.Forbidden),
            (lambda: client.create_space("new"), engram.Forbidden),
            (lambda: client.space("beta").get("one"), engram.SpaceNotFound),
            (lambda: next(iter(client.space("alpha").events(after=0))), engram.Forbidden),
            (lambda: wrong.space("alpha").get("one"), engram.Unauthenticated),
            (lambda: next(iter(wrong.space("alpha").events(after=0))), engram.Unauthenticated),
        ):
            with pytest.raises(kind) as caught:
                attempt()  # type: ignore[no-untyped-call]
            answers.append(repr(caught.value) + str(caught.value) + repr(caught.value.__dict__))
            answers.append(repr(client) + repr(wrong))
        run("keys", "revoke", agent, "--data-root", root)
        with pytest.raises(engram.Unauthenticated):
            client.space("alpha").get("one")
    for headers in ({"Authorization": f"Bearer {agent}"}, {"Authorization": f"Basic {admin}"}, {}):
        for path in (f"/api/v1/spaces/{agent}", f"/api/v1/spaces/alpha?key={admin}", "/x"):
            answers.append(json.dumps(server.request("GET", path, headers=headers)[1]))
    status, errors = server.stop()
    assert status == 0
    for said in (*answers, errors, without.err, Path(root, ".engram", KEYS_NAME).read_text()):
        for secret in secrets:
            assert secret[18:] not in said


def test_revoking_asks_on_a_terminal(tmp_path: Path) -> None:
    engram.open(tmp_path).close()
    with closing(open_key_file(tmp_path)) as keys:
        made = keys.create(spaces=["alpha"], scopes=["read"], name="planner")
        arguments = ["keys", "revoke", made.record.id, "--data-root", str(tmp_path)]
        code, shown = run_in_terminal(arguments, os.environ, typed="n\n")
        assert (code, "planner, read in alpha" in shown) == (1, True)
        assert made.record.id in (keys.read() or {})


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["create"], 2),
        (["create", "--all-spaces"], 2),
        (["create", "--all-spaces", "--space", "alpha", "--scope", "read"], 2),
        (["create", "--space", "Alpha", "--scope", "read"], 2),
        (["create", "--space", "alpha", "--scope", "root"], 2),
        (["create", "--all-spaces", "--scope", "read", "--expires", "1y"], 2),
        (["create", "--all-spaces", "--scope", "read", "--expires", "0s"], 2),
        (["create", "--all-spaces", "--scope", "read", "--expires", "2020-01-01"], 2),
        (["create", "--all-spaces", "--scope", "read", "--name", "a\nb"], 2),
        (["list", "--server", "http://localhost:1"], 2),
        (["revoke", "zzzzzzzzzz"], 3),
    ],
)
def test_a_command_about_keys_that_cannot_be_meant_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
) -> None:
    run = CommandLine(capsys, monkeypatch, tmp_path).set(ENGRAM_DATA_ROOT=str(tmp_path / "data"))
    engram.open(tmp_path / "data").close()
    done = run("keys", *arguments)
    assert (done.code, done.out, done.err.count("\n")) == (code, "", 1)
    monkeypatch.delenv("ENGRAM_DATA_ROOT")
    run.set(ENGRAM_SERVER=LOCAL)
    over_there = run("keys", "list")
    assert (over_there.code, "on the machine of the server" in over_there.err) == (2, True)


def test_a_redirect_never_leads_a_key_elsewhere() -> None:
    """What a client was told to go to, it does not, let alone with its key."""
    asked: list[tuple[str, str | None]] = []

    class Redirecting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(307)
            self.send_header("Location", f"http://localhost:{self.server.server_address[1]}/there")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Redirecting) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_address[1]}"
            with engram.Client(url, "engram_key") as client:
                for ask in (
                    lambda: client.space("alpha").get("one"),
                    lambda: next(iter(client.space("alpha").events(after=0))),
                ):
                    with pytest.raises(engram.EngramError) as caught:
                        ask()
                    assert "engram_key" not in repr(caught.value)
        finally:
            server.shutdown()
            thread.join()
    assert {key for _, key in asked} == {"Bearer engram_key"}
    assert not any(path == "/there" for path, _ in asked)
