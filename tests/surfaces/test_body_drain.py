"""A refused body is read to its end, within bounds of bytes and of time."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from engram.limits import BODY_BYTES_MAX
from engram.server.middleware import BodyDrain

from .harness import Server
from .test_serve import connect, head, read_to_end

CHUNK = b"x" * (1 << 20)
ANSWER_S_MAX = 5.0


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 413, "headers": []})
    await send({"type": "http.response.body", "body": b"no"})


class Sender:
    """Sends `chunks` pieces of a body (None: without end), then nothing more, ever."""

    def __init__(self, chunks: int | None) -> None:
        self.left = chunks
        self.taken = 0
        self.answers: list[Message] = []

    async def receive(self) -> Message:
        if self.left == 0:
            await anyio.sleep_forever()
        if self.left is not None:
            self.left -= 1
        self.taken += len(CHUNK)
        return {"type": "http.request", "body": CHUNK, "more_body": True}

    async def send(self, message: Message) -> None:
        self.answers.append(message)

    def run(self) -> float:
        """Have it refused; returns the seconds that took."""
        started = time.monotonic()

        async def talk() -> None:
            await BodyDrain(refuse)({"type": "http", "headers": []}, self.receive, self.send)

        anyio.run(talk)
        assert [message["type"] for message in self.answers] == [
            "http.response.start",
            "http.response.body",
        ]
        return time.monotonic() - started


def test_an_endless_body_is_read_so_far_and_no_further() -> None:
    sender = Sender(None)
    assert sender.run() < ANSWER_S_MAX
    # Far enough for who sends somewhat too much, and is to read the answer.
    assert 2 * BODY_BYTES_MAX <= sender.taken <= 8 * BODY_BYTES_MAX


@pytest.mark.parametrize("chunks", [0, 3])
def test_a_sender_that_stops_is_not_waited_for(chunks: int) -> None:
    sender = Sender(chunks)
    assert 0.5 < sender.run() < ANSWER_S_MAX
    assert sender.taken == chunks * len(CHUNK)


@pytest.mark.parametrize("path", ["/api/v1/spaces/alpha/memories", "/nowhere"])
def test_a_declared_body_that_never_comes_is_refused_within_seconds(
    tmp_path: Path, start_server: Callable[..., Server], path: str
) -> None:
    server = start_server(tmp_path / "data")
    lines = (f"Content-Length: {1 << 40}", "Connection: close")
    with closing(connect(server)) as connection:
        started = time.monotonic()
        connection.sendall(head("POST", path, *lines) + b'{"content": "')
        answer = connection.recv(1 << 16).decode()
        assert time.monotonic() - started < ANSWER_S_MAX
    assert answer.startswith("HTTP/1.1 4")


def test_a_server_that_drained_in_vain_goes_on(
    tmp_path: Path, start_server: Callable[..., Server]
) -> None:
    server = start_server(tmp_path / "data")
    with closing(connect(server)) as stalled:
        stalled.sendall(head("POST", "/nowhere", f"Content-Length: {1 << 40}"))
        with closing(connect(server)) as other:
            other.sendall(head("GET", "/healthz", "Connection: close"))
            assert "200" in read_to_end(other).split("\r\n")[0]
    assert server.stop()[0] == 0
