"""Waiting for events on the event loop: from one writer thread to any number of subscribers.

A writer's commit costs one call into the loop, however many subscribe, and not even that while an
earlier one is still to run, or where nobody waits for what came: a stream that is being sent
something is not waiting. Subscribers are grouped by what they want, so those whose types have not
come are not touched.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol

from engram.access.gate import Access
from engram.access.principal import Principal
from engram.errors import QuotaExceeded
from engram.feed.feed import Feed

STREAMS_MAX: Final = 10_000
STREAMS_PER_KEY_MAX: Final = 2_000
STREAMS_PER_SPACE_MAX: Final = 5_000
"""One key, or one space, is not to take all the room that there is."""


class Room(NamedTuple):
    """How many streams there may be at once: in this process, with one key, of one space. A stream
    of several spaces counts for each of them. Those who need no key share the process's alone.
    """

    streams: int = STREAMS_MAX
    per_key: int = STREAMS_PER_KEY_MAX
    per_space: int = STREAMS_PER_SPACE_MAX


DEFAULT_ROOM: Final = Room()


class Seated(Protocol):
    """A stream, as far as counting it goes."""

    @property
    def principal(self) -> Principal: ...

    @property
    def space_ids(self) -> Sequence[str]: ...

    @property
    def seats(self) -> Mapping[str, int]:
        """Of spaces that have a quota of subscribers, how many that is."""


class Audience:
    """Those in this loop who wait for one feed."""

    def __init__(self, feed: Feed, loop: asyncio.AbstractEventLoop) -> None:
        self._feed = feed
        self._loop = loop
        self.members = 0
        self._armed: dict[frozenset[str], set[asyncio.Event]] = {}
        # What the writer's thread reads: replaced, never changed.
        self._wanted: tuple[frozenset[str], ...] = ()
        self._asked = self._told = feed.snapshot.durable
        self._scheduled = False
        self._unsubscribe = feed.subscribe(self._wake)

    def arm(self, types: frozenset[str], came: asyncio.Event) -> None:
        """Set `came` for what is published from here on."""
        group = self._armed.get(types)
        if group is None:
            group = self._armed[types] = set()
            self._wanted = tuple(self._armed)
        group.add(came)

    def disarm(self, types: frozenset[str], came: asyncio.Event) -> None:
        group = self._armed.get(types, set())
        group.discard(came)
        if not group and self._armed.pop(types, None) is not None:
            self._wanted = tuple(self._armed)

    def end(self) -> None:
        self._unsubscribe()

    def _wake(self) -> None:
        """In the writer's thread, so it reads no more than what is replaced as a whole."""
        if self._scheduled:
            return
        if not self._feed.over:
            since, self._asked = self._asked, self._feed.snapshot.durable
            if not any(self._came(types, since) for types in self._wanted):
                return
        self._scheduled = True
        with contextlib.suppress(RuntimeError):  # the loop has ended, and all streams with it
            self._loop.call_soon_threadsafe(self._notify)

    def _notify(self) -> None:
        self._scheduled = False  # first: what is published from here on wakes again
        over = self._feed.over
        since, self._told = self._told, self._feed.last.durable
        for types, group in self._armed.items():
            if over or self._came(types, since):
                for came in group:
                    came.set()

    def _came(self, types: frozenset[str], since: int) -> bool:
        """Whether something of these types came behind a position."""
        last = self._feed.last
        if not types or since < last.since:  # of what came before `since` no types are known
            return last.durable > since
        return any(last.newest.get(name, 0) > since for name in types)


class Listener:
    """One stream's ear. `came` is set when something came since it was last armed."""

    def __init__(self, audiences: Sequence[tuple[Audience, frozenset[str]]]) -> None:
        self.came = asyncio.Event()
        self.ended = False
        self._audiences = audiences

    def end(self) -> None:
        """Nothing more is to be sent, whatever comes."""
        self.ended = True
        self.came.set()

    def arm(self) -> None:
        """From here on be told of what comes. What came before has to be looked for, behind this
        call: so nothing falls between the two.
        """
        self.came.clear()
        for audience, types in self._audiences:
            audience.arm(types, self.came)

    def disarm(self) -> None:
        """Be told of nothing: a stream that is sending looks again anyway, and need not make the
        writer wake the loop for every group of commits.
        """
        for audience, types in self._audiences:
            audience.disarm(types, self.came)


class Audiences:
    """All audiences of one server. Used in its event loop only."""

    def __init__(self, access: Access, room: Room = DEFAULT_ROOM) -> None:
        self._access = access
        self._room = room
        self._streams = 0
        self._of_key: Counter[str] = Counter()
        self._of_space: Counter[str] = Counter()
        self._audiences: dict[Feed, Audience] = {}
        self._waiting: set[Listener] = set()
        self.closing = False

    def check_room(self, stream: Seated) -> None:
        """Refuse a stream for which there is no room. Raises QuotaExceeded."""
        if self._streams >= self._room.streams:
            raise QuotaExceeded(
                f"this server sends {self._streams} streams of events, as many as it may. Close "
                "some, or take several spaces in one; more files allowed (ulimit -n) allow more"
            )
        key_id = stream.principal.key_id
        if key_id is not None and self._of_key[key_id] >= self._room.per_key:
            raise QuotaExceeded(
                f"{self._of_key[key_id]} streams of events are sent with the key {key_id}, as many "
                "as one may have. Close some, or take several spaces in one"
            )
        for space_id in stream.space_ids:
            most = min(self._room.per_space, stream.seats.get(space_id, self._room.per_space))
            if self._of_space[space_id] >= most:
                raise QuotaExceeded(
                    f"{self._of_space[space_id]} streams of events of the space {space_id!r} are "
                    "sent, as many as there may be. Close some, or raise its quota of subscribers",
                    memory_space_id=space_id,
                )

    @contextmanager
    def seat(self, stream: Seated) -> Iterator[None]:
        """Count a stream while it is being sent."""
        self._count(stream, 1)
        try:
            yield
        finally:
            self._count(stream, -1)

    def _count(self, stream: Seated, step: int) -> None:
        self._streams += step
        for counter, names in (
            (self._of_key, [stream.principal.key_id or ""]),
            (self._of_space, stream.space_ids),
        ):
            for name in names:
                counter[name] += step
                if not counter[name]:
                    del counter[name]

    @contextmanager
    def while_allowed(self, principal: Principal, ended: Callable[[], None]) -> Iterator[None]:
        """Have `ended` called in this loop once `principal` may not go on."""
        loop = asyncio.get_running_loop()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and all streams with it
                loop.call_soon_threadsafe(ended)

        stop = self._access.watch(principal, tell)
        try:
            yield
        finally:
            stop()

    @contextmanager
    def listening(self, feeds: Sequence[tuple[Feed, frozenset[str]]]) -> Iterator[Listener]:
        """An ear, not yet armed, for what the feeds tell of those types."""
        loop = asyncio.get_running_loop()
        for feed, _ in feeds:
            if feed not in self._audiences:
                self._audiences[feed] = Audience(feed, loop)
            self._audiences[feed].members += 1
        listener = Listener([(self._audiences[feed], types) for feed, types in feeds])
        self._waiting.add(listener)
        try:
            yield listener
        finally:
            self._waiting.discard(listener)
            listener.disarm()
            for feed, _ in feeds:
                self._audiences[feed].members -= 1
                if not self._audiences[feed].members:
                    self._audiences.pop(feed).end()

    def close(self) -> None:
        """The server stops: every stream ends as soon as it has sent what it is sending."""
        self.closing = True
        for listener in self._waiting:
            listener.came.set()
