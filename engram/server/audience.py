"""Waiting for events on the event loop: from one writer thread to any number of subscribers.

A writer's commit costs one call into the loop, however many subscribe, and not even that while an
earlier one is still to run. In the loop, subscribers are grouped by what they want, so those whose
types have not come are not touched.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from engram.errors import Unavailable
from engram.feed.feed import Feed

STREAMS_MAX: Final = 10_000


class Audience:
    """Those in this loop who wait for one feed."""

    def __init__(self, feed: Feed, loop: asyncio.AbstractEventLoop) -> None:
        self._feed = feed
        self._loop = loop
        self._groups: dict[frozenset[str], set[asyncio.Event]] = {}
        self._noted: dict[frozenset[str], int] = {}
        self._scheduled = False
        self._unsubscribe = feed.subscribe(self._wake)

    def add(self, types: frozenset[str], came: asyncio.Event) -> None:
        self._groups.setdefault(types, set()).add(came)

    def remove(self, types: frozenset[str], came: asyncio.Event) -> bool:
        """Forget a subscriber; whether anybody is left."""
        group = self._groups[types]
        group.discard(came)
        if not group:
            del self._groups[types]
            self._noted.pop(types, None)
        return bool(self._groups)

    def end(self) -> None:
        self._unsubscribe()

    def _wake(self) -> None:
        """In the writer's thread."""
        if not self._scheduled:
            self._scheduled = True
            with contextlib.suppress(RuntimeError):  # the loop has ended, and all streams with it
                self._loop.call_soon_threadsafe(self._notify)

    def _notify(self) -> None:
        self._scheduled = False  # first: what is published from here on wakes again
        try:
            snapshot = self._feed.snapshot
            over = self._feed.ended
        except Unavailable:
            over = True
        if over:
            for group in self._groups.values():
                for came in group:
                    came.set()
            return
        for types, group in self._groups.items():
            newest = snapshot.durable
            if types:
                newest = max(snapshot.newest.get(name, 0) for name in types)
            if newest > self._noted.get(types, 0):
                self._noted[types] = newest
                for came in group:
                    came.set()


class Audiences:
    """All audiences of one server. Used in its event loop only."""

    def __init__(self, streams_max: int = STREAMS_MAX) -> None:
        self._streams_max = streams_max
        self._streams = 0
        self._audiences: dict[Feed, Audience] = {}
        self._waiting: set[asyncio.Event] = set()
        self.closing = False

    def check_room(self) -> None:
        """Refuse a stream for which there is no room. Raises Unavailable."""
        if self._streams >= self._streams_max:
            raise Unavailable(
                f"this server sends {self._streams} streams of events, as many as it may. Close "
                "some, or take several spaces in one; more files allowed (ulimit -n) allow more"
            )

    @contextmanager
    def seat(self) -> Iterator[None]:
        """Count a stream while it is being sent."""
        self._streams += 1
        try:
            yield
        finally:
            self._streams -= 1

    @contextmanager
    def listening(self, feeds: list[tuple[Feed, frozenset[str]]]) -> Iterator[asyncio.Event]:
        """An event that is set whenever one of the feeds has something new of those types."""
        came = asyncio.Event()
        self._waiting.add(came)
        for feed, types in feeds:
            audience = self._audiences.get(feed)
            if audience is None:
                audience = self._audiences[feed] = Audience(feed, asyncio.get_running_loop())
            audience.add(types, came)
        try:
            yield came
        finally:
            self._waiting.discard(came)
            for feed, types in feeds:
                if not self._audiences[feed].remove(types, came):
                    self._audiences.pop(feed).end()

    def close(self) -> None:
        """The server stops: every stream ends as soon as it has sent what it is sending."""
        self.closing = True
        for came in self._waiting:
            came.set()
