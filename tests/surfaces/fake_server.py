"""A server that answers as a test tells it to: raw bytes on a real loopback socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

ABORT = b"\0abort"
"""Instead of bytes: end the connection by a reset."""
CLOSE = b"\0close"
"""Behind bytes: end the connection, even if the server keeps them."""


class Request(NamedTuple):
    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes


Answer = Callable[[Request], AsyncIterator[bytes]]


class FakeServer:
    """`requests` are those that came, `connections` how many connections they came over.

    Every connection is closed after one answer, unless `keeps` is set. `left` is set when a caller
    hangs up while it is being answered.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.connections = 0
        self.keeps = False
        self.left = asyncio.Event()
        self.url = ""
        self._came = asyncio.Event()

    def on(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    async def asked(self, times: int, path: str | None = None) -> None:
        """Wait until so many requests came, on `path` if it is given."""
        while len(self.requests if path is None else self.on(path)) < times:
            self._came.clear()
            await self._came.wait()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while (request := await _read(reader)) is not None:
                self.requests.append(request)
                self._came.set()
                await self._answer(request, reader, writer)
                if not self.keeps or writer.is_closing():
                    break
        except ConnectionError:
            self.left.set()
        finally:
            writer.close()

    async def _answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        answering = asyncio.ensure_future(self._write(request, writer))
        hung_up = asyncio.ensure_future(_end_of(reader) if not self.keeps else asyncio.sleep(3600))
        try:
            await asyncio.wait({answering, hung_up}, return_when=asyncio.FIRST_COMPLETED)
            if hung_up.done():
                self.left.set()
        finally:
            for task in (answering, hung_up):
                task.cancel()
            await asyncio.gather(answering, hung_up, return_exceptions=True)

    async def _write(self, request: Request, writer: asyncio.StreamWriter) -> None:
        async for part in self.answer(request):
            if part == ABORT:
                writer.transport.abort()
                return
            writer.write(part.removesuffix(CLOSE))
            await writer.drain()
            if part.endswith(CLOSE):
                writer.close()
                return


@asynccontextmanager
async def fake_server(answer: Answer, port: int = 0) -> AsyncIterator[FakeServer]:
    fake = FakeServer(answer)
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(fake.serve(reader, writer))
        running.add(task)
        await asyncio.wait({task})

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    fake.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield fake
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await server.wait_closed()


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    parts = urlsplit(target)
    return Request(method, parts.path, parse_qs(parts.query), headers, body)


async def _end_of(reader: asyncio.StreamReader) -> None:
    while await reader.read(1 << 16):
        pass


def http(
    status: int,
    body: bytes = b"",
    media_type: str = "application/json",
    *headers: str,
    length: int | None = None,
    keep: bool = False,
) -> bytes:
    lines = [f"HTTP/1.1 {status} Something", *headers]
    lines += [] if keep else ["Connection: close"]
    lines += [f"Content-Type: {media_type}"] if media_type else []
    lines += [f"Content-Length: {len(body) if length is None else length}", "", ""]
    return "\r\n".join(lines).encode() + body


def document(value: Any, status: int = 200, *, keep: bool = False) -> bytes:
    return http(status, json.dumps(value).encode(), keep=keep)


def problem(status: int, name: str, **fields: Any) -> bytes:
    value = {"type": f"https://engram.dev/problems/{name}", "status": status, **fields}
    return http(status, json.dumps(value).encode(), "application/problem+json")


def always(*parts: bytes) -> Answer:
    """The same answer to every request."""

    async def answer(request: Request) -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    return answer


def in_turn(*answers: bytes) -> Answer:
    """One answer after the other; the last one again and again."""
    left = list(answers)

    async def answer(request: Request) -> AsyncIterator[bytes]:
        yield left.pop(0) if len(left) > 1 else left[0]

    return answer


async def _silence(request: Request) -> AsyncIterator[bytes]:
    await asyncio.Event().wait()
    yield b""


silence: Answer = _silence
