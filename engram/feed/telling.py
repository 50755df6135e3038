"""From logged events to the events that users are told. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from engram.memory.beliefs import cited_of, sources_of
from engram.memory.events import (
    ActivationSpread,
    HistoryRedacted,
    MemoryConsolidated,
    MemoryForgotten,
    MemoryLinked,
    MemoryPurged,
    MemoryRecalled,
    MemoryUnlinked,
    MemoryVersion,
    RequestAnswered,
    SpaceCompacted,
    SpaceConfigured,
    SpaceCreated,
    SpaceDeleted,
    SpaceRestored,
    event_type,
)
from engram.memory.events import Event as Logged
from engram.memory.model import Activated, EmbeddingSpec, Event, Recalled
from engram.memory.payload import Batch
from engram.memory.times import from_us
from engram.memory.view import memory_of

_EVENT_BYTES: Final = 512  # what an event takes beside its content, about
_SOURCE_BYTES: Final = 256  # and each source or citation of a belief


class SpaceName(NamedTuple):
    """Which space and which incarnation of it an event belongs to."""

    memory_space_id: str
    space_uuid: str


class Told:
    """One event on its way to subscribers.

    What is told of it is made when the first of them takes it, so that a writer pays for nothing
    that nobody reads. `encoded` is for the surface that sends it: what it made of the event, so
    that a thousand subscribers cost one encoding.
    """

    __slots__ = ("_event", "_logged", "_space", "_time_us", "bytes", "encoded", "position", "type")

    def __init__(self, logged: Logged, space: SpaceName, position: int, time_us: int) -> None:
        self._logged = logged
        self._event: Event | None = None
        self._space = space
        self._time_us = time_us
        self.position = position
        self.type = event_type(logged)
        self.encoded: bytes | None = None
        self.bytes = _size(logged)

    @property
    def event(self) -> Event:
        """What is told. Two threads that are first at once make the same twice."""
        if self._event is None:
            self._event = _event(self._logged, self._space, self.position, self._time_us)
        return self._event


def _size(event: Logged) -> int:
    """What an event takes in memory, about: its content and metadata, as values and encoded."""
    if isinstance(event, MemoryLinked | MemoryUnlinked):
        return _EVENT_BYTES + 2 * len(event.source + event.target + event.relation)
    if isinstance(event, MemoryConsolidated):
        return _EVENT_BYTES + _SOURCE_BYTES * (len(event.sources) + len(event.citations))
    if not isinstance(event, MemoryVersion):
        return _EVENT_BYTES
    metadata = len(msgspec.msgpack.encode(event.metadata)) if event.metadata else 0
    return _EVENT_BYTES + 2 * (len(event.content.encode()) + metadata)


def tell(batch: Batch, space: SpaceName, position: int, time_ns: int) -> Iterator[Told]:
    """The events of a record whose first one is at `position`, as the feed tells them."""
    for index, event in enumerate(batch.events):
        yield Told(event, space, position + index, time_ns // 1_000)


def _event(event: Logged, space: SpaceName, position: int, time_us: int) -> Event:
    common = {
        **space._asdict(),
        "position": position,
        "type": event_type(event),
        "time": from_us(time_us),
    }
    match event:
        case MemoryVersion():
            memory = memory_of(space.memory_space_id, event, position=position, stored_us=time_us)
            return Event(**common, memory=memory)
        case MemoryPurged():
            return Event(**common, id=event.id, revision=event.revision)
        case HistoryRedacted():
            return Event(**common, redacted_from=position, redacted_to=position)
        case MemoryForgotten():
            return Event(**common, **msgspec.structs.asdict(event))
        case MemoryLinked() | MemoryUnlinked():
            return Event(**common, **msgspec.structs.asdict(event))
        case MemoryConsolidated():
            return Event(
                **common,
                id=event.id,
                revision=event.revision,
                sources=sources_of(event),
                strength=event.strength,
                citations=cited_of(event),
                summariser=event.summariser,
            )
        case MemoryRecalled():
            return Event(
                **common,
                recall_id=event.recall_id,
                mode=event.mode,
                query_digest=event.query_digest,
                results=tuple(map(Recalled, event.ids, event.scores)),
            )
        case ActivationSpread():
            lit = zip(event.ids, event.activations, event.hops, strict=True)
            activated = tuple(Activated(*each) for each in lit)
            return Event(**common, recall_id=event.recall_id, activated=activated)
        case SpaceCreated():
            spec = EmbeddingSpec(model=event.embedding_model, dimensions=event.dimensions)
            return Event(**common, generation=event.generation, embedding=spec)
        case SpaceConfigured():
            return Event(**common, **msgspec.structs.asdict(event))
        case SpaceDeleted():
            return Event(**common, purge_after=from_us(event.purge_after_us))
        case SpaceCompacted():
            return Event(
                **common,
                checkpoint_position=event.checkpoint_position,
                oldest_position=event.oldest_position,
                checkpoint_bytes=event.checkpoint_bytes,
                purged_to=event.purged_to or None,
            )
        case SpaceRestored() | RequestAnswered():
            return Event(**common)
