"""Those who follow the feeds, and check that each position comes once, in order, and as logged.

There are two kinds. One reads `engram.AsyncClient`'s feed, which connects again by itself for as
long as the drill lasts. The other reads the bare stream and hides nothing: what a server sends
twice, it sees twice. Both are compared with the log at every look.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Final

import aiohttp

from engram.client.answers import event_of
from engram.client.asynchronous import AsyncClient
from engram.client.sse import SseParser
from engram.drill.model import Mark, SpaceModel, Violation, mark_of
from engram.drill.server import Server
from engram.errors import EngramError, ServerUnreachable
from engram.memory.model import Event

_SILENCE_S_MAX: Final = 45.0
_RETRY_S: Final = 0.02


class Subscriber:
    """Follows one space from its first event on. `kind` is how it reads."""

    kind = ""

    def __init__(self, space: str, server: Server) -> None:
        self.space = space
        self.last = 0
        self.violations: list[Violation] = []
        self._server = server
        self._unchecked: deque[tuple[int, Mark]] = deque()
        self._moved = asyncio.Event()

    async def follow(self) -> None:
        """Until it is cancelled, or was told what cannot be."""
        while not self.violations:
            await self._server.up.wait()
            try:
                async with aclosing(self._events()) as events:
                    async for event in events:
                        self.take(event)
                        if self.violations:
                            return
            except (ServerUnreachable, aiohttp.ClientError, OSError, TimeoutError):
                # Killed, most likely; if it runs, it is asked again, but not without a pause.
                await asyncio.sleep(_RETRY_S)
            except EngramError as error:
                self._report("refused", f"{error.problem}, {error.detail}", self.last)

    async def reaches(self, position: int) -> None:
        """Wait until it was told `position`, or cannot be any more."""
        while self.last < position and not self.violations:
            self._moved.clear()
            await self._moved.wait()

    def check(self, model: SpaceModel) -> Iterator[Violation]:
        """What it was told since the last time is what the log holds. To be called after a look,
        before anything new is written.
        """
        yield from self.violations
        while self._unchecked:
            position, told = self._unchecked.popleft()
            if position > len(model.marks):
                holds = f"it ends at {len(model.marks)}"
            elif model.marks[position - 1] != told:
                holds = f"it has {model.marks[position - 1].label} there"
            else:
                continue
            detail = f"it was told {told.label} at {position}; the log does not say so, {holds}"
            yield self._violation("told what is not logged", detail, position)

    def take(self, event: Event) -> None:
        if event.memory_space_id != self.space:
            self._report("foreign", f"it was told of {event.memory_space_id!r}", event.position)
        elif event.position <= self.last:
            what = f"it was told position {event.position} again, after {self.last}"
            self._report("position repeated", what, event.position)
        elif event.position > self.last + 1:
            what = f"position {event.position} came after {self.last}"
            self._report("position skipped", what, event.position)
        else:
            self.last = event.position
            self._unchecked.append((event.position, mark_of(event)))
        self._moved.set()

    def _report(self, kind: str, detail: str, position: int) -> None:
        self.violations.append(self._violation(kind, detail, position))
        self._moved.set()

    def _violation(self, kind: str, detail: str, position: int) -> Violation:
        detail = f"a subscriber ({self.kind}): {detail}"
        return Violation(kind=kind, detail=detail, space=self.space, position=position)

    def _events(self) -> AsyncGenerator[Event, None]:
        """The events behind the last one that it was told."""
        raise NotImplementedError("each kind of subscriber reads in its own way")


class ByClient(Subscriber):
    """One feed of one client, through every kill."""

    kind = "engram.AsyncClient"

    async def _events(self) -> AsyncGenerator[Event, None]:
        async with (
            AsyncClient(self._server.url) as client,
            aclosing(client.space(self.space).events(after=self.last)) as events,
        ):
            async for event in events:
                yield event


class ByStream(Subscriber):
    """The bare stream; a new connection after every kill, with `Last-Event-ID`."""

    kind = "bare stream"

    async def _events(self) -> AsyncGenerator[Event, None]:
        url = f"{self._server.url}/api/v1/spaces/{self.space}/events"
        timeout = aiohttp.ClientTimeout(total=None, sock_read=_SILENCE_S_MAX)
        parser = SseParser()
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, headers={"Last-Event-ID": str(self.last)}) as response,
        ):
            response.raise_for_status()
            async for chunk in response.content.iter_any():
                for block in parser.feed(chunk):
                    if block.data is not None:
                        yield event_of(block.data, f"GET {url}", self.space)


KINDS: Final[tuple[type[Subscriber], ...]] = (ByClient, ByStream)
