"""One subscription to one space: pages of events in order, from the tail or from the log."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from typing import Final, NamedTuple, Protocol

from engram.errors import HistoryGone, Invalid, PositionBeyondEnd, SpaceNotFound
from engram.feed.cursor import Behind, Skip, Wait, plan
from engram.feed.feed import Feed
from engram.feed.telling import Told
from engram.memory.event_types import EVENT_TYPES
from engram.memory.model import Event

PAGE_EVENTS_MAX: Final = 256
HISTORY_EVENTS_MAX: Final = 1_024
"""More than of the tail: each page from the log begins with finding the place."""
PAGE_BYTES_MAX: Final = 512 << 10
SCANNED_MAX: Final = 8_192
"""Events that one page may pass over, so that a filter does not hold a thread for long."""

ReadLog = Callable[[int], Generator[Told, None, None]]
"""The durable events from a position on, as of the call."""


class Source(Protocol):
    """A space that closes when nobody needs it, and opens again."""

    @property
    def opened(self) -> object | None: ...

    def store(self) -> object: ...


class Page(NamedTuple):
    """What was read: the events that pass the filter, and the position up to which was scanned."""

    entries: Sequence[Told]
    position: int


class Reader:
    """A cursor on a feed. Not thread-safe: one subscriber uses it, one call at a time."""

    def __init__(
        self,
        feed: Feed,
        read_log: ReadLog,
        after: int | None,
        types: Sequence[str],
        source: Source | None = None,
    ) -> None:
        """Start behind position `after`, or at the end for None; take only `types`, if any.
        `source` is the space, where it may be closed between two uses.

        Raises :class:`engram.errors.PositionBeyondEnd` and `Invalid` for a type there is not.
        """
        durable = feed.snapshot.durable
        self.position = durable if after is None else check_after(after, durable)
        self.feed = feed
        self.types = check_types(types)
        self._read_log = read_log
        self._source = source

    @property
    def resting(self) -> bool:
        """Whether the space was closed meanwhile: call :meth:`attend` then, once subscribed."""
        return self._source is not None and self._source.opened is None

    def attend(self) -> None:
        """Open the space again, which then stays open for as long as it is followed. Blocks while
        it opens, and raises what opening it raises.
        """
        if self._source is not None and not self.feed.ended:
            with suppress(SpaceNotFound):  # its end is told as its last event
                self._source.store()

    @property
    def behind(self) -> bool:
        """Whether the log has to be read, which blocks: call :meth:`history` then."""
        return isinstance(plan(self.position, self.types, self.feed.snapshot, 1), Behind)

    def live(self) -> Page | None:
        """The next page without blocking; None if nothing new has come."""
        snapshot = self.feed.snapshot
        step = plan(self.position, self.types, snapshot, PAGE_EVENTS_MAX)
        if isinstance(step, Wait | Behind):
            return None
        self.position = step.position
        if isinstance(step, Skip):
            return Page((), self.position)
        entries: list[Told] = []
        size = 0
        for entry in snapshot.tail[step.start : step.stop]:
            if self._wants(entry):
                entries.append(entry)
                size += entry.bytes
            if size >= PAGE_BYTES_MAX:
                self.position = entry.position
                break
        return Page(entries, self.position)

    def history(self) -> Page:
        """The next page from the log. Raises what reading the log raises.

        No file stays open between pages: a subscriber may take any time to ask for the next.
        """
        # The log is ahead of the feed between a sync and the publication of what was synced.
        end = self.feed.snapshot.durable
        entries: list[Told] = []
        size = 0
        with closing(self._read_log(self.position + 1)) as log:
            for scanned, entry in enumerate(log, 1):
                if entry.position > end:
                    break
                self.position = entry.position
                if self._wants(entry):
                    entries.append(entry)
                    size += entry.bytes
                full = len(entries) >= HISTORY_EVENTS_MAX or size >= PAGE_BYTES_MAX
                if full or scanned >= SCANNED_MAX:
                    break
        return Page(entries, self.position)

    def _wants(self, entry: Told) -> bool:
        return not self.types or entry.type in self.types


def check_after(after: object, durable: int) -> int:
    """The position to start behind, if there is one like it."""
    if isinstance(after, bool) or not isinstance(after, int) or after < 0:
        raise Invalid.of("after", "must be a position: 0 for all of history, or one that was told")
    if after > durable:
        raise PositionBeyondEnd(
            f"position {after} lies beyond the end; the last one is {durable}. Start from a "
            "position this space has told, or leave it out to see only what comes"
        )
    return after


def check_held(after: object, oldest: int, feed: Feed) -> None:
    """Refuse to begin behind a position whose next one history no longer holds."""
    if isinstance(after, int) and 0 <= after < oldest - 1:
        space = feed.space
        raise HistoryGone(
            f"space {space.memory_space_id!r} holds its history from position {oldest} on; what "
            f"follows position {after} is gone. Start behind position {oldest - 1}",
            memory_space_id=space.memory_space_id,
            oldest_position=oldest,
            position=feed.snapshot.durable,
            space_uuid=space.space_uuid,
        )


def check_types(types: object) -> frozenset[str]:
    """The types to take, if all of them are event types."""
    if isinstance(types, str) or not isinstance(types, Sequence | frozenset | set):
        raise Invalid.of("types", "must be a list of event types")
    unknown = [name for name in types if name not in EVENT_TYPES]
    if unknown:
        raise Invalid.of(
            "types", f"{unknown[0]!r} is no event type; there are {', '.join(EVENT_TYPES)}"
        )
    return frozenset(types)


def check_incarnation(given: str | None, feed: Feed) -> None:
    """Refuse to go on with the feed of a space that has been replaced since."""
    space = feed.space
    if given is not None and given != space.space_uuid:
        raise HistoryGone(
            f"space {space.memory_space_id!r} is another incarnation than the one asked for; its "
            "positions mean something else. Start again from position 0",
            memory_space_id=space.memory_space_id,
            oldest_position=1,
            position=feed.snapshot.durable,
            space_uuid=space.space_uuid,
        )


def follow(reader: Reader, *, until: int | None) -> Iterator[Event]:
    """The events a reader gets, blocking; ends once `until` was scanned. For None it ends with the
    space alone: behind `space.deleted`, or where that is filtered out, with
    :class:`engram.errors.SpaceNotFound`.
    """
    import threading

    came = threading.Event()
    unsubscribe = reader.feed.subscribe(came.set)
    last: str | None = None
    try:
        if reader.resting:
            reader.attend()
        while until is None or reader.position < until:
            came.clear()
            ended = reader.feed.ended
            page = reader.history() if reader.behind else reader.live()
            if page is None:
                if ended and last == "space.deleted":
                    return
                if ended:
                    space_id = reader.feed.space.memory_space_id
                    raise SpaceNotFound(
                        f"space {space_id!r} was deleted while its events were read",
                        memory_space_id=space_id,
                    )
                came.wait()
                continue
            for entry in page.entries:
                if until is not None and entry.position > until:
                    return
                last = entry.type
                yield entry.event
    finally:
        unsubscribe()
