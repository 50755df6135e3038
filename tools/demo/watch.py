"""The subscriber: it follows the feeds of both spaces, from their first event on."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from typing import Final

import engram
from engram import EngramError, Event

CATCH_UP_S_MAX: Final = 60.0
RECENT_MAX: Final = 50
_CLIENT_LOG: Final = logging.getLogger("engram.client")


class WatchFailed(Exception):
    """A feed ended, or did not bring what it should have brought by now."""


class Watcher:
    """All events of some spaces as the feeds give them, unsorted and unfiltered."""

    def __init__(self, url: str, spaces: tuple[str, ...]) -> None:
        self.events: dict[str, list[Event]] = {space: [] for space in spaces}
        self.recent: deque[Event] = deque(maxlen=RECENT_MAX)
        self.lost_at: dict[str, int] = {}
        """The last position seen, of each feed whose connection is lost at present."""
        self._client = engram.AsyncClient(url)
        self._tasks: list[asyncio.Task[None]] = []
        self._failure: EngramError | None = None
        self._changed = asyncio.Event()
        self._reconnects = _Reconnects(self)

    async def __aenter__(self) -> Watcher:
        _CLIENT_LOG.addHandler(self._reconnects)
        _CLIENT_LOG.propagate = False  # what it tells is shown in the panel
        self._tasks = [asyncio.create_task(self._follow(space)) for space in self.events]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()
        _CLIENT_LOG.removeHandler(self._reconnects)
        _CLIENT_LOG.propagate = True

    def seen(self, space: str) -> int:
        """The highest position seen of a space."""
        return max((event.position for event in self.events[space]), default=0)

    async def reach(self, positions: dict[str, int]) -> None:
        """Wait until both feeds have come that far."""
        what = ", ".join(f"{space} position {at}" for space, at in positions.items())
        await self._until(
            lambda: all(self.seen(space) >= at for space, at in positions.items()),
            f"the feeds did not reach {what}",
        )

    async def lose(self) -> None:
        """Wait until every feed has noticed that its connection is lost."""
        await self._until(
            lambda: len(self.lost_at) == len(self.events), "the feeds noticed no lost connection"
        )

    def note_loss(self, space: str, position: int) -> None:
        self.lost_at[space] = position
        self._changed.set()

    async def _follow(self, space: str) -> None:
        try:
            async with aclosing(self._client.space(space).events(after=0)) as feed:
                async for event in feed:
                    self.lost_at.pop(space, None)
                    self.events[space].append(event)
                    self.recent.append(event)
                    self._changed.set()
        except EngramError as error:
            self._failure = error
            self._changed.set()

    async def _until(self, reached: Callable[[], bool], else_what: str) -> None:
        try:
            async with asyncio.timeout(CATCH_UP_S_MAX):
                while not reached():
                    if self._failure is not None:
                        raise WatchFailed(f"a feed ended: {self._failure.detail}")
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise WatchFailed(f"{else_what} within {CATCH_UP_S_MAX:g} s") from None


class _Reconnects(logging.Handler):
    """Feeds connect again by themselves; the client's log is where they say so."""

    def __init__(self, watcher: Watcher) -> None:
        super().__init__(logging.WARNING)
        self._watcher = watcher

    def emit(self, record: logging.LogRecord) -> None:
        match record.args:
            case (str(space), int(position), *_) if space in self._watcher.events:
                self._watcher.note_loss(space, position)
