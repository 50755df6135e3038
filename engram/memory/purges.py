"""Which memories are being purged, which have been, and what takes their place in history.

A purge begins with an event for each memory: from there on nobody recalls it, and its id leads to a
*husk*, a dead version without content that carries the revision on. It is complete once no file
holds its bytes, which an event says too. What lies between is *pending*, and is taken up again
after a crash.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engram.memory.events import (
    Event,
    HistoryRedacted,
    MemoryConsolidated,
    MemoryForgotten,
    MemoryLinked,
    MemoryPurged,
    MemoryStored,
    MemoryUnlinked,
    MemoryVersion,
    RequestAnswered,
)
from engram.memory.payload import NO_VECTORS, Batch

Int64Array = npt.NDArray[np.int64]


class Pending(NamedTuple):
    """A memory whose bytes may still be there: `row` is the newest row of its id before the purge,
    None where a checkpoint has let go of it already.
    """

    id: str
    row: int | None


class Purges:
    """The purges of a space, by the positions of their events."""

    def __init__(self) -> None:
        self.pending: dict[int, Pending] = {}
        self._done: list[tuple[int, int, int]] = []

    @classmethod
    def of(cls, pending: Int64Array, done: Int64Array) -> Purges:
        """What `columns` gave: of those pending, a checkpoint holds nothing any more."""
        purges = cls()
        purges.pending = {position: Pending("", None) for position in pending.tolist()}
        purges._done = [(first, last, at) for first, last, at in done.tolist()]
        return purges

    def columns(self) -> tuple[Int64Array, Int64Array]:
        """Positions of what is pending, int64 (n,), and what is done as (first, last, position of
        the event that says so), int64 (m, 3).
        """
        done = np.array(self._done, np.int64).reshape(-1, 3)
        return np.array(sorted(self.pending), np.int64), done

    def copy(self) -> Purges:
        copied = Purges()
        copied.pending, copied._done = dict(self.pending), list(self._done)
        return copied

    @property
    def mark(self) -> tuple[int, int]:
        """Another one whenever a purge has begun or was completed. Safe to ask for beside the
        thread that applies.
        """
        pending, done = list(self.pending), self._done[-1:]
        begun = max([*pending, *(last for _, last, _ in done)], default=0)
        return begun, max((at for _, _, at in done), default=0)

    def begin(self, position: int, memory_id: str, row: int | None) -> None:
        self.pending[position] = Pending(memory_id, row)

    def complete(self, up_to: int, position: int) -> None:
        """All that was pending up to a position is done, as the event at `position` says."""
        done = [each for each in self.pending if each <= up_to]
        if done:
            self._done.append((min(done), max(done), position))
        self.pending = {p: each for p, each in self.pending.items() if p > up_to}

    def completed_at(self, position: int) -> int | None:
        """The position of the event that says the purge begun at `position` is done, if it is."""
        return next((at for first, last, at in self._done if first <= position <= last), None)


def husk(event: MemoryPurged) -> MemoryStored:
    """What an id leads to once its memory was purged."""
    return MemoryStored(
        id=event.id,
        revision=event.revision,
        kind="episode",
        content="",
        tags=(),
        metadata={},
        confidence=0.0,
        occurred_us=None,
        expires_us=None,
        source=None,
    )


def is_husk(version: MemoryVersion) -> bool:
    return not version.content


def is_purged(event: Event, position: int, purged_at: Mapping[str, int]) -> bool:
    """Whether an event tells of a memory that was purged later, by the positions of purges.
    Beliefs that were formed from it are purged with it.
    """
    match event:
        case MemoryVersion() | MemoryForgotten():
            return position < purged_at.get(event.id, 0)
        case MemoryConsolidated():
            return any(position < purged_at.get(each, 0) for each in (event.id, *event.sources))
        case MemoryLinked() | MemoryUnlinked():
            return any(position < purged_at.get(end, 0) for end in (event.source, event.target))
    return False


def redacted(batch: Batch, position: int, purged_at: Mapping[str, int]) -> Batch | None:
    """A record's events without those of memories purged later, and of their links, and its answer
    without what names them; None if it holds none of that.

    `position` is that of the first event; `purged_at` has the positions of the purges by id.
    """
    events: list[Event] = []
    rows: list[Any] = []
    vectors = iter(batch.vectors)
    for at, event in enumerate(batch.events, position):
        vector = next(vectors) if isinstance(event, MemoryVersion) else None
        if isinstance(event, RequestAnswered) and _names_purged(event, at, purged_at):
            events.append(stripped(event))
            continue
        if is_purged(event, at, purged_at):
            events.append(HistoryRedacted())
            continue
        events.append(event)
        if vector is not None:
            rows.append(vector)
    answered = batch.answered
    if answered is not None and _names_purged(answered, position, purged_at):
        answered = stripped(answered)
    if events == list(batch.events) and answered == batch.answered:
        return None
    return Batch(events, np.stack(rows) if rows else NO_VECTORS, answered)


def stripped(answered: RequestAnswered, key: bytes | None = None) -> RequestAnswered:
    """Of an answer, nothing but its key, or another one."""
    key = answered.key if key is None else key
    return RequestAnswered(key=key, request=b"", status=0, headers=(), body=b"", ids=())


def without_answers(batch: Batch) -> Batch:
    """A record for a space that was made from this one, where no request was answered."""
    events = [
        stripped(event, b"") if isinstance(event, RequestAnswered) else event
        for event in batch.events
    ]
    return batch._replace(events=events, answered=None)


def _names_purged(answered: RequestAnswered, position: int, purged_at: Mapping[str, int]) -> bool:
    return any(position < purged_at.get(each, 0) for each in answered.ids)
