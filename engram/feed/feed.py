"""What a space's writer tells and its subscribers take: the newest durable events, and wake-ups.

The writer publishes immutable snapshots, so subscribers read without a lock. Nothing is kept while
nobody subscribes; the tail is bounded in events and in bytes of content.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

from engram.errors import Unavailable
from engram.feed.cursor import Snapshot
from engram.feed.telling import SpaceName, Told, tell
from engram.memory.events import event_type
from engram.memory.payload import Batch

TAIL_EVENTS_MAX: Final = 1_024
TAIL_BYTES_MAX: Final = 4 << 20

Wake = Callable[[], None]


class Feed:
    """The feed of one space in this process. One writer publishes; any thread subscribes.

    It has `ended` once the space was deleted: what :attr:`snapshot` holds then is the last. To be
    sure that nothing is missed, look at `ended` before looking for what is new.
    """

    def __init__(self, space: SpaceName) -> None:
        self.space = space
        self._guard = threading.Lock()
        self._wakes: dict[object, Wake] = {}
        self._newest: dict[str, int] = {}
        self._tail_bytes = 0
        self._closed = False
        self.ended = False
        self._snapshot: Snapshot[Told] = Snapshot(0, 1, [], 0, self._newest)

    @property
    def over(self) -> bool:
        """Whether nothing more will come: the space was deleted, or the database closed."""
        return self.ended or self._closed

    @property
    def last(self) -> Snapshot[Told]:
        """As :attr:`snapshot`, also once it is closed."""
        return self._snapshot

    @property
    def snapshot(self) -> Snapshot[Told]:
        """The feed now. Raises :class:`engram.errors.Unavailable` once it is closed."""
        if self._closed:
            raise Unavailable("the database was closed", memory_space_id=self.space.memory_space_id)
        return self._snapshot

    @property
    def followed(self) -> bool:
        """Whether anybody subscribes."""
        return bool(self._wakes)

    def begin(self, position: int) -> None:
        """The space was opened: everything up to `position` is in its log.

        That may be more than was told before: what a failed sync left in doubt, or what another
        process wrote while the space was closed here. So who waits is woken.
        """
        self._newest = {}
        self._tail_bytes = 0
        self.ended = False
        self._snapshot = Snapshot(position, position + 1, [], position, self._newest)
        for wake in self._wakes.values():
            wake()

    def rest(self) -> None:
        """The space was closed for a while, and nobody follows it: keep nothing of it."""
        durable = self._snapshot.durable
        self._newest = {}
        self._tail_bytes = 0
        self._snapshot = Snapshot(durable, durable + 1, [], durable, self._newest)

    def publish(self, records: Sequence[tuple[Batch, int, int]]) -> None:
        """Tell durable records: (events, position of the first, time in ns), in order.

        Called by the space's writer alone, once readers can see what the events did.
        """
        before = self._snapshot
        heard = bool(self._wakes)
        # Older snapshots may share this list: they do not look behind their own end.
        tail = before.tail
        if not heard:
            tail, self._tail_bytes = [], 0
        durable = before.durable
        for batch, position, time_ns in records:
            for index, event in enumerate(batch.events):
                self._newest[event_type(event)] = position + index
            durable = position + len(batch.events) - 1
            if heard:
                entries = list(tell(batch, self.space, position, time_ns))
                self._tail_bytes += sum(entry.bytes for entry in entries)
                tail += entries
        if len(tail) > TAIL_EVENTS_MAX or self._tail_bytes > TAIL_BYTES_MAX:
            tail = _newest_half(tail)
            self._tail_bytes = sum(entry.bytes for entry in tail)
        first = durable + 1 - len(tail)
        self._snapshot = Snapshot(durable, first, tail, before.since, self._newest)
        # Who subscribes from here on sees the new snapshot; who did before is among these.
        for wake in self._wakes.values():
            wake()

    def trim(self) -> None:
        """Keep no event: what was purged is in the log's files no more, nor shall it be here. Who
        reads on reads the log. For the one who publishes.
        """
        before = self._snapshot
        self._tail_bytes = 0
        self._snapshot = before._replace(first=before.durable + 1, tail=[])

    def subscribe(self, wake: Wake) -> Callable[[], None]:
        """Call `wake` after each publication, from the writer's thread: it must only signal.

        Returns what ends the subscription.
        """
        key = object()
        with self._guard:
            self._wakes = {**self._wakes, key: wake}

        def unsubscribe() -> None:
            with self._guard:
                self._wakes = {k: w for k, w in self._wakes.items() if k is not key}

        return unsubscribe

    def end(self) -> None:
        """The space was deleted, and its last event published: who waits is woken."""
        self.ended = True
        for wake in self._wakes.values():
            wake()

    def close(self) -> None:
        """End all subscriptions: who waits is woken, and told so by :attr:`snapshot`."""
        self._closed = True
        for wake in self._wakes.values():
            wake()


def _newest_half(tail: list[Told]) -> list[Told]:
    """The last entries, within half of both bounds, so that trimming is rare."""
    start, size = len(tail), 0
    while start and len(tail) - start < TAIL_EVENTS_MAX // 2:
        size += tail[start - 1].bytes
        if size > TAIL_BYTES_MAX // 2:
            break
        start -= 1
    return tail[start:]
