"""A proxy that lies: it passes everything on, but repeats one event of every feed, once.

A feed comes in HTTP chunks; the chunk that holds an event's block is sent a second time, a moment
after the first, as a server would that had lost count of what it had told.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

CHUNK_BYTES = 64 << 10
REPEATED = b"event: memory.stored"


class Liar:
    """Listens on a port of its own from :meth:`start` on; `port` is that of the server."""

    def __init__(self) -> None:
        self.port = 0
        self.url = ""
        self.lies = 0
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._connect(reader, writer))
        self._running.add(task)
        await asyncio.wait({task})
        self._running.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError):
                async with _connected(self.port) as (from_server, to_server):
                    asking = asyncio.ensure_future(_pump(reader, to_server))
                    answering = asyncio.ensure_future(self._answer(from_server, writer))
                    await asyncio.wait({asking, answering}, return_when=asyncio.FIRST_COMPLETED)
                    for task in (asking, answering):
                        task.cancel()
                    await asyncio.gather(asking, answering, return_exceptions=True)
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while data := await reader.read(CHUNK_BYTES):
                head, ended, rest = data.partition(b"\r\n\r\n")
                if ended and b"text/event-stream" in head:
                    writer.write(head + ended)
                    await self._feed(rest, reader, writer)
                    return
                writer.write(data)
                await writer.drain()

    async def _feed(
        self, data: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        told = False
        while True:
            while b"\r\n" not in data or len(data) < _chunk_bytes(data):
                more = await reader.read(CHUNK_BYTES)
                if not more:
                    return
                data += more
            size = _chunk_bytes(data)
            chunk, data = data[:size], data[size:]
            writer.write(chunk)
            if REPEATED in chunk and not told:
                writer.write(chunk)
                told = True
                self.lies += 1
            await writer.drain()


def _chunk_bytes(data: bytes) -> int:
    """The size of the HTTP chunk that `data` begins with, its frame included."""
    line = data.partition(b"\r\n")[0]
    return len(line) + 2 + int(line, 16) + 2


@asynccontextmanager
async def _connected(
    port: int,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
