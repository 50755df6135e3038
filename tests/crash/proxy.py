"""A TCP proxy that breaks connections at chosen bytes of what the server sends.

Every connection takes the next of the cuts it was given and carries it out once so many bytes have
come from the server: it ends the connection politely or by a reset, in the middle of whatever was
being sent, or goes silent and keeps it open. A cut whose connection ended before by itself is left
to the next one. When all are used up, everything passes.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from typing import Literal, NamedTuple

CHUNK_BYTES = 64 << 10
_LINGER_NOT_AT_ALL = struct.pack("ii", 1, 0)

Kind = Literal["end", "reset", "stall"]


class Cut(NamedTuple):
    """What happens to a connection, once `after` bytes have come from the server."""

    kind: Kind
    after: int


class Proxy:
    """`on_cut` is called as each cut is made."""

    def __init__(self, port: int, cuts: Iterable[Cut], on_cut: Callable[[Cut], None]) -> None:
        self.url = ""
        self._port = port
        self._cuts = deque(cuts)
        self._on_cut = on_cut

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        reset = True  # as a server that is not there does
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                reset = await self._forward(reader, writer, from_server, to_server)
            finally:
                to_server.transport.abort()
        except OSError:
            pass
        finally:
            if reset:
                _reset(writer)
            writer.close()
        try:
            await writer.wait_closed()
        except OSError:
            pass
        finally:
            writer.transport.abort()

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        from_server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> bool:
        """Both ways, until one of them ends; whether the connection shall be reset."""
        asking = asyncio.ensure_future(_pump(reader, to_server))
        answering = asyncio.ensure_future(self._answer(from_server, writer, asking))
        try:
            await asyncio.wait({asking, answering}, return_when=asyncio.FIRST_COMPLETED)
            return answering.done() and answering.result()
        finally:
            for task in (asking, answering):
                task.cancel()
            await asyncio.gather(asking, answering, return_exceptions=True)

    async def _answer(
        self,
        from_server: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        asking: asyncio.Future[None],
    ) -> bool:
        """Forward until the end or the cut; whether the connection shall be reset."""
        cut = self._cuts.popleft() if self._cuts else None
        left = None if cut is None else cut.after
        try:
            while left is None or left > 0:
                data = await from_server.read(CHUNK_BYTES if left is None else left)
                if not data:
                    return False
                writer.write(data)
                await writer.drain()
                left = None if left is None else left - len(data)
            if cut is None:
                return False
            made, cut = cut, None
        except OSError:
            return False
        finally:
            if cut is not None:
                self._cuts.appendleft(cut)
        self._on_cut(made)
        if made.kind == "stall":
            await asyncio.wait({asking})  # until the client gives up
        return made.kind == "reset"


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(CHUNK_BYTES):
            writer.write(data)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT_AT_ALL)
    writer.transport.abort()


@asynccontextmanager
async def proxy(
    port: int, cuts: Iterable[Cut], on_cut: Callable[[Cut], None]
) -> AsyncIterator[Proxy]:
    """A proxy of the server on `port`, on a port of its own."""
    made = Proxy(port, cuts, on_cut)
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(made.serve(reader, writer))
        running.add(task)
        await asyncio.wait({task})
        running.discard(task)
        if not task.cancelled():
            task.result()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await server.wait_closed()
