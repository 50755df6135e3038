"""Forks that are embedded anew, over HTTP, by the clients and on the command line."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

import engram
from engram.embedding import openai
from engram.errors import EmbedderUnavailable, Invalid, SpaceExists
from engram.server.app import build_app
from engram.server.events import StreamOptions
from engram.server.forks import ForkCall
from tests.unit.test_embedding_openai import MODEL, Handler, embed, says, server, vector_of
from tests.unit.test_embedding_openai import Server as Embedding

from .command_line import ENGRAM, run_in_terminal
from .harness import LOCAL, Server
from .test_events import Serving, serving

__all__ = ["server"]
S = "/api/v1/spaces"
MINILM = {"model": "all-minilm-l6-v2-int8", "dimensions": 384}
OPENAI = {"model": MODEL.model, "dimensions": MODEL.dimensions}
MEMORIES = 300
PIECE = 128


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three pieces of work."""
    with engram.open(tmp_path / "data") as database:
        alpha = database.create_space("alpha")
        alpha.remember_many([{"id": f"m{n}", "content": f"word{n}"} for n in range(MEMORIES)])
    return tmp_path / "data"


@pytest.fixture
def db(root: Path) -> Iterator[engram.Database]:
    with engram.open(root) as database:
        yield database


@pytest.fixture
def http(db: engram.Database) -> Iterator[TestClient]:
    with TestClient(build_app(db), LOCAL) as client:
        yield client


@pytest.fixture
def served(root: Path) -> Iterator[Serving]:
    with serving(root, StreamOptions()) as found:
        yield found


def url_of(served: Serving) -> str:
    return f"http://127.0.0.1:{served.port}"


def check_whole(copy: Any) -> None:
    listed = copy.list(limit=1_000, include_embedding=True).memories
    assert [m.id for m in listed] == [f"m{n}" for n in range(MEMORIES)]
    for memory in listed:
        assert np.array_equal(memory.embedding, vector_of(memory.content))


class Stall:
    """Answers of an embedding server that wait, behind so many that do not."""

    def __init__(self, server: Embedding, behind: int) -> None:
        self.reached, self.released = threading.Event(), threading.Event()
        server.script = [embed] * behind
        server.always = self._wait

    def _wait(self, handler: Handler, body: Any) -> None:
        self.reached.set()
        self.released.wait(60)
        embed(handler, body)


def test_a_fork_is_embedded_anew(http: TestClient, db: engram.Database) -> None:
    made = http.post(f"{S}/alpha/fork", json={"memory_space_id": "copy", "embedding": MINILM})
    assert made.status_code == 201
    assert made.headers["location"] == f"{S}/copy"
    document = made.json()
    assert document["embedding"] == MINILM
    assert document["origin"]["reembedded"] == {**MINILM, "memories": MEMORIES, "resumed": 0}
    position = document["origin"]["position"]
    assert (document["position"], document["oldest_position"]) == (position, position + 1)
    gone = http.get(f"{S}/copy/events", params={"after": 0})
    assert gone.status_code == 410
    assert gone.json()["oldest_position"] == position + 1
    plain = http.post(
        "/api/v1/fork", json={"memory_space_id": "plain"}, headers={"X-Memory-Space": "alpha"}
    )
    assert plain.json()["origin"]["reembedded"] is None


@pytest.mark.parametrize(
    ("embedding", "status", "problem", "reason"),
    [
        ({"model": "wordllama-l2-256", "dimensions": 256}, 422, "invalid", "has already"),
        ({"model": "caller", "dimensions": 3}, 422, "invalid", "nothing to embed with"),
        ({"model": "word2vec", "dimensions": 3}, 422, "invalid", "use one of all-minilm"),
        ({**MINILM, "dimensions": 383}, 422, "invalid", "has 384 dimensions, not 383"),
        ({"model": "openai:x"}, 422, "invalid", "dimensions"),
        ({**MINILM, "normalise": True}, 422, "invalid", "normalise"),
        ("all-minilm-l6-v2-int8", 422, "invalid", "an object"),
        ({**OPENAI, "dimensions": 31}, 409, "embedder-mismatch", "32 dimensions, not 31"),
    ],
)
def test_what_cannot_be_embedded_anew_is_refused(
    http: TestClient,
    db: engram.Database,
    server: Embedding,
    embedding: Any,
    status: int,
    problem: str,
    reason: str,
) -> None:
    answer = http.post(f"{S}/alpha/fork", json={"memory_space_id": "copy", "embedding": embedding})
    assert answer.status_code == status
    assert answer.json()["type"].endswith(f"/{problem}")
    assert reason in answer.text
    assert [info.memory_space_id for info in db.spaces()] == ["alpha"]


def test_an_embedder_that_fails_is_told_and_the_same_request_goes_on(
    http: TestClient, server: Embedding
) -> None:
    server.script = [embed, embed]
    server.always = says(400, {"error": {"message": "out of order"}})
    body = {"memory_space_id": "copy", "embedding": OPENAI}
    failed = http.post(f"{S}/alpha/fork", json=body)
    assert failed.status_code == 503
    assert failed.json()["type"].endswith("/embedder-unavailable")
    assert f"{PIECE} of {MEMORIES} memories are embedded and kept" in failed.json()["detail"]
    assert http.get(f"{S}/copy").status_code == 404
    server.always = embed
    made = http.post(f"{S}/alpha/fork", json=body)
    assert made.json()["origin"]["reembedded"]["resumed"] == PIECE


def test_both_clients_wait_for_it_as_long_as_it_takes(served: Serving, server: Embedding) -> None:
    def slow(handler: Handler, body: Any) -> None:
        handler.server.released.wait(0.4)  # longer than the clients' limit, which is what it is for
        embed(handler, body)

    server.always = slow
    with engram.Client(url_of(served), timeout_s=0.3) as client:
        copy = client.space("alpha").fork("copy", embedding=MODEL)
        assert copy.origin is not None
        assert copy.origin.reembedded is not None
        assert copy.origin.reembedded.memories == MEMORIES
    with engram.Client(url_of(served)) as client:
        check_whole(client.space("copy"))
        with pytest.raises(SpaceExists):
            client.space("alpha").fork("copy", embedding=MODEL)
        with pytest.raises(Invalid, match="has already"):
            copy = client.space("copy").fork("third", embedding=MODEL)
        with pytest.raises(Invalid):
            client.space("alpha").fork("third", embedding="minilm")  # type: ignore[arg-type]

    async def main() -> None:
        async with engram.AsyncClient(url_of(served), timeout_s=0.3) as client:
            made = await client.space("alpha").fork("fourth", embedding=MODEL)
            assert made.origin == engram.Origin(
                memory_space_id="alpha",
                space_uuid=(await client.space("alpha").info()).uuid or "",
                position=MEMORIES + 1,
                reembedded=engram.Reembedded(
                    model=MODEL.model, dimensions=32, memories=MEMORIES, resumed=0
                ),
            )

    asyncio.run(main())


def request_of(port: int) -> socket.socket:
    body = json.dumps({"memory_space_id": "copy", "embedding": OPENAI})
    head = f"POST {S}/alpha/fork HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    caller = socket.create_connection(("127.0.0.1", port), timeout=60)
    caller.sendall((head + body).encode())
    return caller


def test_who_hangs_up_ends_it_and_can_go_on(
    served: Serving, server: Embedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    noticed, given_up = threading.Event(), threading.Event()
    watch, progress = ForkCall._watch, ForkCall.progress

    async def watched(self: ForkCall) -> None:
        await watch(self)
        noticed.set()

    def told(self: ForkCall, done: int, total: int) -> None:
        try:
            progress(self, done, total)
        except engram.Unavailable:
            given_up.set()
            raise

    monkeypatch.setattr(ForkCall, "_watch", watched)
    monkeypatch.setattr(ForkCall, "progress", told)
    stall = Stall(server, behind=2)
    with request_of(served.port):
        assert stall.reached.wait(60)
    assert noticed.wait(60)
    stall.released.set()
    assert given_up.wait(60)
    assert [info.memory_space_id for info in served.db.spaces()] == ["alpha"]
    with engram.Client(url_of(served)) as client:
        while True:
            try:
                copy = client.space("alpha").fork("copy", embedding=MODEL)
            except engram.SpaceLocked:
                continue  # it is just being given back
            break
        assert copy.origin is not None
        assert copy.origin.reembedded is not None
        assert copy.origin.reembedded.resumed == 2 * PIECE
        check_whole(copy)


def test_a_server_that_stops_says_so_and_the_next_one_goes_on(
    root: Path, server: Embedding, start_server: Callable[..., Server]
) -> None:
    stall = Stall(server, behind=2)
    first = start_server(root)
    port = int(first.url.rpartition(":")[2])
    with request_of(port) as caller:
        assert stall.reached.wait(60)
        first.process.send_signal(signal.SIGTERM)
        answer = caller.makefile("rb").read()
        stall.released.set()
    _, errors = first.process.communicate(timeout=60)
    assert first.process.returncode == 0
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"goes on with what was embedded" in answer
    assert "Traceback" not in errors
    second = start_server(root)
    status, made = second.request(
        "POST", f"{S}/alpha/fork", {"memory_space_id": "copy", "embedding": OPENAI}
    )
    assert status == 201
    assert made["origin"]["reembedded"]["resumed"] >= PIECE
    with engram.Client(second.url) as client:
        check_whole(client.space("copy"))


FORK = ["space", "fork", "alpha", "copy", "--embedding", MODEL.model, "--dimensions", "32"]


def test_a_command_that_is_killed_is_gone_on_with(
    root: Path, server: Embedding, cli: Callable[..., Any]
) -> None:
    stall = Stall(server, behind=2)
    environment = {**os.environ, "ENGRAM_DATA_ROOT": str(root)}
    with subprocess.Popen([*ENGRAM, *FORK], env=environment) as process:
        assert stall.reached.wait(60)
        process.kill()
    stall.released.set()
    assert json.loads(cli("space", "list", "--json").stdout)["memory_space_id"] == "alpha"
    server.always = embed
    done = cli(*FORK)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "forked copy from alpha, up to position 301; 300 memories embedded anew with "
        "openai:test-model, 128 of them by an attempt before\n"
    )
    with engram.open(root) as db:
        check_whole(db.space("copy"))
    assert list((root / ".engram" / "staged").iterdir()) == []


def test_a_terminal_shows_progress_and_an_interruption_says_what_is_kept(
    root: Path, server: Embedding
) -> None:
    where = {"ENGRAM_DATA_ROOT": str(root), openai.BASE_URL_VARIABLE: server.url}
    stall = Stall(server, behind=2)
    code, shown = run_in_terminal(FORK, where, until=f"{PIECE}/{MEMORIES}", then=b"\x03")
    stall.released.set()
    assert code == 130
    assert "embedding" in shown
    assert "the same command goes on from there" in shown
    server.always = embed
    code, shown = run_in_terminal(FORK, where)
    assert code == 0
    assert "128 of them by an attempt before" in " ".join(shown.split())


def test_commands_embed_anew_also_on_a_server(
    served: Serving, cli: Callable[..., Any], tmp_path: Path
) -> None:
    there = ("--server", url_of(served))
    made = cli("space", "fork", "alpha", "copy", "--embedding", MINILM["model"], "--json", *there)
    assert made.returncode == 0
    assert json.loads(made.stdout)["origin"]["reembedded"] == {
        **MINILM,
        "memories": MEMORIES,
        "resumed": 0,
    }
    for options, code, reason in (
        (["--dimensions", "3"], 2, "--dimensions needs --embedding"),
        (["--embedding", "word2vec"], 2, "is not known here; use one of all-minilm"),
        (["--embedding", "openai:x"], 2, "needs --dimensions"),
        (["--embedding", "word2vec", "--dimensions", "3"], 2, "use one of all-minilm"),
        (["--embedding", "caller", "--dimensions", "3"], 2, "nothing to embed with"),
        (["--embedding", "wordllama-l2-256"], 2, "has already"),
        (["--embedding", str(MINILM["model"]), "--dimensions", "4"], 2, "384 dimensions, not 4"),
    ):
        refused = cli("space", "fork", "alpha", "other", *options, *there)
        assert (refused.returncode, refused.stdout) == (code, "")
        assert reason in refused.stderr


def test_an_embedder_that_cannot_be_reached_is_told(root: Path, cli: Callable[..., Any]) -> None:
    away = {openai.BASE_URL_VARIABLE: "http://127.0.0.1:9"}
    done = cli(*FORK, **away)
    assert done.returncode == EmbedderUnavailable.exit_code
    assert "is not available" in done.stderr
