"""From logged events to the events that users are told. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from engram.memory.events import Event as Logged
from engram.memory.events import (
    MemoryForgotten,
    MemoryRecalled,
    MemoryRevised,
    MemoryStored,
    SpaceCreated,
    SpaceDeleted,
    SpaceRestored,
    event_type,
)
from engram.memory.model import EmbeddingSpec, Event, Recalled
from engram.memory.payload import Batch
from engram.memory.state import memory_of
from engram.memory.times import from_us


class SpaceName(NamedTuple):
    """Which space and which incarnation of it an event belongs to."""

    memory_space_id: str
    space_uuid: str


def tell(batch: Batch, space: SpaceName, position: int, time_ns: int) -> Iterator[Event]:
    """The events of a record whose first one is at `position`, as the feed tells them."""
    for index, event in enumerate(batch.events):
        yield _told(event, space, position + index, time_ns // 1_000)


def _told(event: Logged, space: SpaceName, position: int, time_us: int) -> Event:
    common = {
        **space._asdict(),
        "position": position,
        "type": event_type(event),
        "time": from_us(time_us),
    }
    match event:
        case MemoryStored() | MemoryRevised():
            memory = memory_of(space.memory_space_id, event, position=position, stored_us=time_us)
            return Event(**common, memory=memory)
        case MemoryForgotten():
            return Event(**common, id=event.id, revision=event.revision, reason=event.reason)
        case MemoryRecalled():
            return Event(
                **common,
                recall_id=event.recall_id,
                mode=event.mode,
                query_digest=event.query_digest,
                results=tuple(map(Recalled, event.ids, event.scores)),
            )
        case SpaceCreated():
            spec = EmbeddingSpec(model=event.embedding_model, dimensions=event.dimensions)
            return Event(**common, generation=event.generation, embedding=spec)
        case SpaceDeleted():
            return Event(**common, purge_after=from_us(event.purge_after_us))
        case SpaceRestored():
            return Event(**common)
