"""What a server takes on at once, how long it waits for a request, and what it does not speak."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send
from uvicorn.server import ServerState

from engram.errors import RequestTimeout
from engram.server import protocol
from engram.server.app import build_app
from engram.server.load import Bounds, Load

from .harness import LOCAL, SPACE, Api
from .test_serve import head

MEMORIES = f"/api/v1/spaces/{SPACE}/memories"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    import engram

    root = tmp_path_factory.mktemp("limited")
    with (
        engram.open(root) as db,
        TestClient(build_app(db, bounds=Bounds(grace_s=0.1)), LOCAL) as client,
    ):
        yield Api(root, db, client)


@asynccontextmanager
async def connected(app: Any) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the protocol that `engram serve` speaks, in this loop."""
    config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None, server_header=False)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: protocol.EngramProtocol(config, state, {}), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield reader, writer
    finally:
        writer.close()
        server.close()
        await asyncio.gather(*state.tasks, return_exceptions=True)


def answer_to(app: Any, *pieces: bytes) -> bytes:
    """All that comes until the server closes, after `pieces` were sent and nothing more."""

    async def ask() -> bytes:
        async with connected(app) as (reader, writer):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await reader.read()

    return asyncio.run(ask())


def problem_in(answer: bytes) -> tuple[int, str]:
    lines, _, body = answer.decode().partition("\r\n\r\n")
    assert "application/problem+json" in lines
    assert "connection: close" in lines.lower()
    return int(lines.split()[1]), json.loads(body)["type"].rpartition("/")[2]


@pytest.mark.parametrize(
    "pieces",
    [
        [b"G"],
        [b"GET /healthz HTTP/1.1\r\nHost: loc"],
        [b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", b"GET /healthz HTT"],
    ],
    ids=["method", "headers", "the second request"],
)
def test_a_head_that_does_not_come_is_not_waited_for(
    served: Api, monkeypatch: pytest.MonkeyPatch, pieces: list[bytes]
) -> None:
    monkeypatch.setattr(protocol, "HEAD_S_MAX", 0.1)
    *done, last = answer_to(served.client.app, *pieces).split(b"HTTP/1.1 ")[1:]
    assert [answer[:3] for answer in done] == [b"200"] * (len(pieces) - 1)
    assert problem_in(b"HTTP/1.1 " + last) == (408, "request-timeout")


def test_a_connection_on_which_nothing_comes_is_closed(
    served: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_S_MAX", 0.1)
    assert answer_to(served.client.app) == b""
    assert answer_to(served.client.app, b"\r\n") == b""


def test_a_body_that_does_not_come_is_not_waited_for(served: Api) -> None:
    before = served.db.space(SPACE).info().position
    request = head("POST", MEMORIES, "Content-Length: 100", "Content-Type: application/json")
    answer = answer_to(served.client.app, request, b'{"content": ')
    assert problem_in(answer) == (408, "request-timeout")
    assert served.db.space(SPACE).info().position == before


def test_a_refused_body_does_not_hold_its_connection(
    served: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that is given before all of the body has come; then the sender only dribbles."""
    monkeypatch.setattr(protocol, "HEAD_S_MAX", 0.1)
    request = head("POST", "/nowhere", "Content-Length: 100")

    async def ask() -> bytes:
        async with connected(served.client.app) as (reader, writer):
            writer.write(request)
            answered = await reader.readuntil(b"\r\n\r\n")
            while not reader.at_eof():
                writer.write(b"x")
                await asyncio.sleep(0)
                try:
                    async with asyncio.timeout(0.01):
                        await reader.read(1 << 10)
                except TimeoutError:
                    continue
                except ConnectionError:
                    break
            return answered

    assert asyncio.run(ask()).startswith(b"HTTP/1.1 404")


class Calls:
    """Requests to an ASGI application, each with its own messages to receive."""

    def __init__(self, bounds: Bounds) -> None:
        self.free = asyncio.Event()
        self.load = Load(self.work, bounds)
        self.refused: list[str] = []

    async def work(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            while (await receive()).get("more_body"):
                pass
        except RequestTimeout as error:
            self.refused.append(error.detail)
        await self.free.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def call(self, receive: Callable[[], Any], path: str = "/") -> int:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        await self.load({"type": "http", "path": path, "headers": []}, receive, send)
        assert sent[0]["status"] != 503 or dict(sent[0]["headers"])[b"retry-after"] == b"1"
        return int(sent[0]["status"])


def body_of(size: int) -> Callable[[], Any]:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"x" * size, "more_body": False}

    return receive


@pytest.mark.parametrize(
    "bounds", [Bounds(requests=2), Bounds(body_bytes=20)], ids=["requests", "bytes"]
)
def test_what_is_too_much_is_refused_until_some_of_it_is_done(bounds: Bounds) -> None:
    async def ask() -> None:
        calls = Calls(bounds)
        async with asyncio.TaskGroup() as group:
            first = [group.create_task(calls.call(body_of(10))) for _ in range(2)]
            await asyncio.sleep(0)  # they have begun
            await asyncio.sleep(0)
            assert await calls.call(body_of(10)) == 503
            imported = group.create_task(calls.call(body_of(10), "/api/v1/spaces/new/import"))
            calls.free.set()
        assert [task.result() for task in (*first, imported)] == [200] * 3
        assert await calls.call(body_of(10)) == 200

    asyncio.run(ask())


def test_a_body_is_given_time_by_what_has_come_of_it() -> None:
    async def ask() -> None:
        calls = Calls(Bounds(grace_s=0.05, bytes_per_s=100))
        calls.free.set()
        pieces = [b"x" * 1_000] * 3

        async def steady() -> Message:
            if pieces:
                return {"type": "http.request", "body": pieces.pop(), "more_body": True}
            await asyncio.sleep(0.1)  # more than the grace, less than what has come allows
            return {"type": "http.request", "body": b"", "more_body": False}

        assert await calls.call(steady) == 200
        assert calls.refused == []

        async def silent() -> Message:
            await asyncio.Event().wait()
            raise AssertionError("it never comes")

        assert await calls.call(silent) == 200
        assert [text.partition(":")[0] for text in calls.refused] == ["the body came too slowly"]

    asyncio.run(ask())


def test_an_encoded_body_is_told_what_would_be_understood(api: Api) -> None:
    for path in (MEMORIES, "/api/v1/spaces/new/import"):
        answer = api.client.post(path, content=b"x", headers={"Content-Encoding": "gzip"})
        assert answer.status_code == 415
        assert answer.headers["Accept-Encoding"] == "identity"
    other = api.client.post(MEMORIES, content=b"x", headers={"Content-Type": "text/plain"})
    assert other.status_code == 415
    assert "Accept-Encoding" not in other.headers


UPGRADE = ["Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA=="]


@pytest.mark.parametrize("path", ["/healthz", MEMORIES, f"/api/v1/spaces/{SPACE}/events"])
def test_a_websocket_is_refused(served: Api, path: str) -> None:
    request = head("GET", path, *UPGRADE, "Connection: upgrade, close")
    assert problem_in(answer_to(served.client.app, request)) == (400, "malformed")


def test_http_2_is_told_that_it_is_not_spoken(served: Api) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
    answer = answer_to(served.client.app, preface)
    assert problem_in(answer) == (400, "malformed")
    assert b"HTTP/1.1" in answer.partition(b"\r\n\r\n")[2]
