"""The live feed of one space: events in order, each once, over as many connections as it takes.

Theory of operation. A feed knows the last position it has seen, of an event given out or of a block
that only says how far the server has looked. Before its first connection it asks for the space's
description: the uuid goes with every connection as `incarnation`, so that a space made anew under
the same id is refused (`HistoryGone`) and not taken for a continuation; the position is where a
live-only feed starts, and where one without `follow` ends. Every connection asks for what lies
behind the last position seen, and whatever arrives at or below it is dropped, so neither a cut
connection nor a server that sends too much can skip or repeat one.

The first connection must succeed. Later ones are tried for ever, at growing and jittered intervals,
unless the server refuses for a reason that stays: for a space that was deleted, behind its last
event, the feed just ends. A connection that is silent for longer than the
heartbeat allows counts as lost.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from typing import Final

from engram.client.answers import event_of, read
from engram.client.requests import Parameters, space_path
from engram.client.sse import Block, SseParser
from engram.client.transport import Scopes, Stream, Transport
from engram.errors import (
    EngramError,
    HistoryGone,
    ServerAnswerInvalid,
    SpaceDamaged,
    SpaceNotFound,
)
from engram.memory.model import Event, SpaceInfo

RECONNECT_S: Final = 0.5
"""Before the first attempt to reconnect, unless the server says otherwise (`retry:`)."""
RECONNECT_S_MAX: Final = 5.0

_LOG: Final = logging.getLogger("engram.client")


class EventFeed:
    """An asynchronous iterator over events. Use it in `contextlib.aclosing` to end it at once.

    A cancelled `anext` loses nothing: the feed goes on where it was.
    """

    def __init__(
        self,
        transport: Transport,
        space_id: str,
        *,
        after: int | None,
        types: tuple[str, ...],
        follow: bool,
        silence_s: float,
    ) -> None:
        self._transport = transport
        self._space_id = space_id
        self._path = f"{space_path(space_id)}/events"
        self._types = types
        self._follow = follow
        self._silence_s = silence_s
        self._seen = after
        self._end: int | None = None
        self._uuid: str | None = None
        self._begun = False
        self._connected_once = False
        self._last_type: str | None = None
        self._failures = 0
        self._retry_s = RECONNECT_S
        self._stream: Stream | None = None
        self._parser = SseParser()
        self._failure: EngramError | None = None
        self._over = False
        self._ready: deque[Event] = deque()
        self._one_reader = asyncio.Lock()
        self._scopes = Scopes()

    def __aiter__(self) -> EventFeed:
        return self

    async def __anext__(self) -> Event:
        event = self.ready() if await self.wait() else None
        if event is None:
            raise StopAsyncIteration
        return event

    def ready(self) -> Event | None:
        """The next of the events that have arrived, from any thread."""
        try:
            return self._ready.popleft()
        except IndexError:
            return None

    async def wait(self) -> bool:
        """Wait until an event is ready; False once the feed has ended."""
        async with self._one_reader:
            with self._scopes.scope():
                try:
                    while not self._ready and not self._ended():
                        await self._step()
                except EngramError:
                    self._over = True
                    raise
                finally:
                    if self._ended():
                        self._disconnect()
        return bool(self._ready)

    async def aclose(self) -> None:
        """End the feed and its connection, also while another task waits for an event."""
        self._scopes.close()
        self._ready.clear()
        self._disconnect()

    def __del__(self) -> None:
        stream = getattr(self, "_stream", None)
        if stream is not None:
            self._transport.drop_stream(stream)

    def _ended(self) -> bool:
        if self._over or self._scopes.closed:
            return True
        reached = self._end is not None and self._seen is not None and self._seen >= self._end
        return reached and self._connected_once

    async def _step(self) -> None:
        """Come one step further: begin, connect, or read what has arrived."""
        if self._failure is not None:
            raise self._failure
        if not self._begun:
            await self._begin()
        elif self._stream is None:
            await self._connect()
        elif chunk := await self._transport.next_chunk(self._stream, self._silence_s):
            self._take(chunk)
        else:
            self._disconnect()
            await self._pause("the connection was lost or silent for too long")

    async def _begin(self) -> None:
        path = space_path(self._space_id)
        answer = await self._transport.request("GET", path)
        info = read(answer, SpaceInfo, self._space_id)
        if info.uuid is None or info.position is None:
            raise SpaceDamaged(
                info.detail or f"space {self._space_id!r} cannot be read",
                memory_space_id=self._space_id,
            )
        self._uuid = info.uuid
        if self._seen is None:
            self._seen = info.position if self._follow else (info.oldest_position or 1) - 1
        if not self._follow:
            self._end = info.position
        self._begun = True

    async def _connect(self) -> None:
        headers = {} if self._seen is None else {"Last-Event-ID": str(self._seen)}
        try:
            opened = await self._transport.open_stream(self._path, self._parameters(), headers)
        except SpaceNotFound:
            if self._last_type != "space.deleted":
                raise
            self._over = True  # and its last event has been given
            return
        if isinstance(opened, EngramError):
            if not self._connected_once or isinstance(opened, SpaceDamaged):
                raise opened  # damage does not mend itself
            await self._pause(opened.detail)
            return
        self._stream = opened
        self._parser = SseParser()
        self._connected_once = True

    def _parameters(self) -> Parameters:
        parameters: Parameters = [("type", name) for name in self._types]
        if self._seen is not None:
            parameters.append(("after", str(self._seen)))
        if self._uuid is not None:
            parameters.append(("incarnation", self._uuid))
        return parameters

    async def _pause(self, why: str) -> None:
        """Wait before reconnecting: twice as long each time, never the same for two readers."""
        delay_s = min(RECONNECT_S_MAX, self._retry_s * 2 ** min(self._failures, 16))
        self._failures += 1
        _LOG.warning("feed of %s reconnects: position=%s why=%s", self._space_id, self._seen, why)
        await self._transport.pause(delay_s * random.uniform(0.5, 1.0))

    def _disconnect(self) -> None:
        if self._stream is not None:
            self._transport.close_stream(self._stream)
            self._stream = None

    def _take(self, chunk: bytes) -> None:
        """Keep the new events of a chunk. What is wrong behind them is raised by the next step."""
        try:
            for block in self._parser.feed(chunk):
                if block.id is not None:
                    self._failures = 0
                event = self._accepted(block)
                if event is not None:
                    self._ready.append(event)
                if self._ended():
                    break
        except (ServerAnswerInvalid, HistoryGone) as error:
            self._failure = error

    def _accepted(self, block: Block) -> Event | None:
        """The event of a block, if it has one that was not seen before."""
        if block.retry_ms is not None:
            self._retry_s = min(RECONNECT_S_MAX, max(0.001, block.retry_ms / 1_000))
        asked = f"GET {self._transport.url} (events of {self._space_id})"
        event = None if block.data is None else event_of(block.data, asked, self._space_id)
        position = self._position_of(block, event)
        if position is None or (self._seen is not None and position <= self._seen):
            return None
        if event is not None and event.space_uuid != self._uuid:
            raise HistoryGone(
                f"space {self._space_id!r} was made anew while its events were read; begin again "
                "with after=0",
                memory_space_id=self._space_id,
                space_uuid=event.space_uuid,
            )
        self._seen = position
        if event is not None:
            self._last_type = event.type
        return event

    def _position_of(self, block: Block, event: Event | None) -> int | None:
        if block.id is None:
            return None if event is None else event.position
        if not (block.id.isascii() and block.id.isdigit() and len(block.id) < 20):
            raise ServerAnswerInvalid(
                f"the events of {self._space_id!r} at {self._transport.url} have the id "
                f"{block.id[:40]!r}, which is not a position. Check that the server is Engram's, "
                "of a version that fits this client"
            )
        return int(block.id)
