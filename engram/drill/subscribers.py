"""Those who follow the feeds, and check that each position comes once, in order, and as logged.

Where history does not lead on from their position any more, they have to be told so, and begin
where it begins.

There are three kinds. One reads `engram.AsyncClient`'s feed, which connects again by itself for as
long as the drill lasts. The other reads the bare stream and hides nothing: what a server sends
twice, it sees twice. The third does so for a few events after each start, and stays away until the
next. All are compared with the log at every look.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Final

import aiohttp

from engram.client.answers import Answer, error_of, event_of
from engram.client.asynchronous import AsyncClient
from engram.client.sse import SseParser
from engram.drill.effects import COMPACTED, REDACTED, UNKNOWN, Mark, Violation, mark_of
from engram.drill.model import SpaceModel
from engram.drill.server import Server
from engram.errors import EngramError, HistoryGone, ServerUnreachable
from engram.memory.model import Event

_SILENCE_S_MAX: Final = 45.0
_RETRY_S: Final = 0.02
_EVENTS_AT_ONCE: Final = 2


class Subscriber(ABC):
    """Follows one space from its first event on. `kind` is how it reads."""

    kind = ""

    def __init__(self, space: str, server: Server) -> None:
        self.space = space
        self.last = 0
        self.told = 0
        self.gone = 0
        """How often it was told that what follows its position is gone."""
        self.oldest = 1
        """Where history began when it was told so last."""
        self.violations: list[Violation] = []
        self._server = server
        self._unchecked: deque[tuple[int, Mark]] = deque()
        self._moved = asyncio.Event()
        self.stays = asyncio.Event()
        """Set once it has to keep up to the end."""

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
            except HistoryGone as error:
                self.begin_again(error)
            except EngramError as error:
                self._report("refused", f"{error.problem}, {error.detail}", self.last)

    async def reaches(self, position: int) -> None:
        """Wait until it was told `position`, or cannot be any more; it stays from now on."""
        self.stays.set()
        while self.last < position and not self.violations:
            self._moved.clear()
            await self._moved.wait()

    def check(self, model: SpaceModel) -> Iterator[Violation]:
        """What it was told since the last time is what the log holds. To be called after a look,
        before anything new is written.
        """
        yield from self.violations
        if self.oldest > model.oldest:
            detail = f"it was told that history begins at {self.oldest}; it does at {model.oldest}"
            yield self._violation("refused", f"a subscriber ({self.kind}): {detail}", self.oldest)
        while self._unchecked:
            position, told = self._unchecked.popleft()
            if position > len(model.marks):
                if told.label == COMPACTED:  # by itself, after the look: it is there at the next
                    self._unchecked.appendleft((position, told))
                    return
                holds = f"it ends at {len(model.marks)}"
            elif not self._agrees(model, position, told):
                holds = f"it has {model.marks[position - 1].label} there"
            else:
                continue
            detail = f"it was told {told.label} at {position}; the log does not say so, {holds}"
            yield self._violation("told what is not logged", detail, position)

    def _agrees(self, model: SpaceModel, position: int, told: Mark) -> bool:
        """Whether it was told what stands there, or stood there before that was purged. What was
        let go of unread is as it was told first.
        """
        mark = model.marks[position - 1]
        if mark == UNKNOWN:
            model.marks[position - 1] = told
            return True
        if REDACTED in {mark.label, told.label}:
            gone, whole = (mark, told) if mark.label == REDACTED else (told, mark)
            purged = position < model.purged_at.get(whole.id, 0) and gone.id in {"", whole.id}
            return purged or whole.label == REDACTED
        return told.digest == mark.digest or (not mark.digest and told.label == mark.label)

    def begin_again(self, error: HistoryGone) -> None:
        """Go on where history begins now; that it does has to be so at the next look."""
        oldest = error.oldest_position
        if oldest is None or oldest <= self.last + 1:
            what = f"it was told that what follows {self.last} is gone, with history from {oldest}"
            self._report("refused", what, self.last)
        else:
            self.gone += 1
            self.oldest = oldest
            self.last = oldest - 1
            self._moved.set()

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
            self.told += 1
            self._unchecked.append((event.position, mark_of(event)))
        self._moved.set()

    def _report(self, kind: str, detail: str, position: int) -> None:
        self.violations.append(self._violation(kind, detail, position))
        self._moved.set()

    def _violation(self, kind: str, detail: str, position: int) -> Violation:
        detail = f"a subscriber ({self.kind}): {detail}"
        return Violation(kind=kind, detail=detail, space=self.space, position=position)

    @abstractmethod
    def _events(self) -> AsyncGenerator[Event, None]:
        """The events behind the last one that it was told."""


class ByClient(Subscriber):
    """One feed of one client, through every kill."""

    kind = "engram.AsyncClient"

    async def _events(self) -> AsyncGenerator[Event, None]:
        async with (
            AsyncClient(self._server.url, retry_s=0) as client,
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
            if response.status != 200:
                asked, kind = f"GET {url}", response.content_type
                body = await response.read()
                raise error_of(Answer(asked, False, response.status, kind, body))
            async for chunk in response.content.iter_any():
                for block in parser.feed(chunk):
                    if block.data is not None:
                        yield event_of(block.data, f"GET {url}", self.space)


class NowAndThen(ByStream):
    """The bare stream for a few events, and then away, so that history may not lead on."""

    kind = "bare stream, now and then"

    async def _events(self) -> AsyncGenerator[Event, None]:
        told = 0
        async with aclosing(super()._events()) as events:
            async for event in events:
                yield event
                told += 1
                if told >= _EVENTS_AT_ONCE and not self.stays.is_set():
                    break
            else:
                return
        waiting = [asyncio.create_task(one.wait()) for one in (self._server.down, self.stays)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()


KINDS: Final[tuple[type[Subscriber], ...]] = (ByClient, ByStream, NowAndThen)
