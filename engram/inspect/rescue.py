"""From the events that are left of a log to ones that a new log may hold. Pure.

Events lean on each other: a revision needs that its memory lives, a storing that it does not.
Where what they leaned on is lost, they become the nearest event that keeps what they say:

    a revision of a memory that does not live     is stored: it holds the memory's whole state
    a storing of one that lives (its forgetting
    is lost)                                      revises it: the later state wins, as it did
    a restoration of one that lives               revises it, for the same reason
    a restoration of one never stored             is stored: it holds the memory's whole state
    a forgetting of one that does not live        is left out: there is nothing to forget
    what a belief was formed from, where one of
    them or the belief does not live              is left out: the belief rests on nothing then
    a link of one that does not live, the end of
    a link that is not there                      is left out: there is nothing to link, or to end
    what the space itself went through, but for
    its settings                                  is left out: it happened to another space
    a memory whose vector has another length      is left out: no search could compare it
    what a memory was before it was purged        is left out, and not told: it is to be gone

So a memory may live again whose forgetting lies in a lost range; nothing that is left can tell.
Revisions, times and recalls are kept as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec
import numpy as np

from engram.memory.events import (
    ActivationSpread,
    Event,
    HistoryRedacted,
    MemoryConsolidated,
    MemoryForgotten,
    MemoryLinked,
    MemoryPurged,
    MemoryRecalled,
    MemoryRestored,
    MemoryRevised,
    MemoryStored,
    MemoryUnlinked,
    MemoryVersion,
    RequestAnswered,
    SpaceCompacted,
    SpaceConfigured,
    SpaceCreated,
    event_type,
)
from engram.memory.model import Vector
from engram.memory.payload import NO_VECTORS, Batch
from engram.memory.purges import is_purged


@dataclass(frozen=True, slots=True)
class Change:
    """What became of an event that could not stay as it was. `position` is the old one."""

    position: int
    type: str
    id: str | None
    became: str | None
    reason: str


class Rescue:
    """Translates records in order, and remembers which memories live. `changes` says what was
    turned into something else, or left out (`became` None).
    """

    def __init__(self, dimensions: int, purged: Mapping[str, int] | None = None) -> None:
        """`purged` has the positions of purges, by the ids of the memories."""
        self._dimensions = dimensions
        self._purged = purged or {}
        self._living: set[str] = set()
        self._forgotten: set[str] = set()
        self._links: dict[str, set[tuple[str, str, str]]] = {}
        self._beliefs: dict[str, int] = {}
        self.changes: list[Change] = []

    @property
    def memories(self) -> int:
        return len(self._living)

    def translate(self, batch: Batch, position: int) -> Batch:
        """What the new log gets of a record whose first event was at `position`; may be empty."""
        events: list[Event] = []
        rows: list[Vector] = []
        for index, (event, vector) in enumerate(_with_vectors(batch)):
            kept = self._event(event, vector, position + index)
            if kept is not None:
                self._believe(kept)
                events.append(kept)
                if vector is not None:
                    rows.append(vector)
        return Batch(events, np.stack(rows) if rows else NO_VECTORS)

    def recover(self, event: Event, vector: Vector | None) -> Batch:
        """What the new log gets of what a checkpoint knows of: a memory, a link, or that a memory
        was forgotten; may be empty.
        """
        if isinstance(event, MemoryLinked):
            return Batch([event] if self._link(event) else [], NO_VECTORS)
        if isinstance(event, MemoryForgotten):
            if event.id not in self._living:
                return Batch([], NO_VECTORS)
            self._living.remove(event.id)
            self._forgotten.add(event.id)
            return Batch([event], NO_VECTORS)
        if not isinstance(event, MemoryVersion):
            raise ValueError(f"a checkpoint knows nothing of {event_type(event)}")
        lives = event.id in self._living
        if not lives:
            self._begin(event.id)
        self._believe(event)
        made = MemoryRevised if lives else MemoryStored
        rows = NO_VECTORS if vector is None else vector[np.newaxis]
        return Batch([made(**msgspec.structs.asdict(event))], rows)

    def _event(self, event: Event, vector: Vector | None, position: int) -> Event | None:
        match event:
            case _ if is_purged(event, position, self._purged):
                return None
            case MemoryVersion() if vector is not None and len(vector) != self._dimensions:
                reason = f"its vector has {len(vector)} dimensions, the space {self._dimensions}"
                self._left_out(event, position, reason)
                return None
            case MemoryStored():
                if event.id in self._living:
                    return self._as_revised(event, position)
                self._begin(event.id)
            case MemoryRevised():
                if event.id not in self._living:
                    self._begin(event.id)
                    return self._as_stored(event, position)
            case MemoryRestored():
                if event.id in self._living:
                    return self._as_revised(event, position)
                if event.id not in self._forgotten:
                    self._begin(event.id)
                    return self._as_stored(event, position)
                self._living.add(event.id)
            case MemoryForgotten():
                if event.id not in self._living:
                    self._left_out(event, position, "what it forgets is lost, or gone")
                    return None
                self._living.remove(event.id)
                self._forgotten.add(event.id)
            case MemoryConsolidated():
                if not self._holds(event):
                    self._left_out(event, position, "what it was formed from is lost, or gone")
                    return None
            case MemoryLinked():
                if not self._link(event):
                    self._left_out(event, position, "what it links is lost, or gone")
                    return None
            case MemoryUnlinked():
                if not self._unlink(event):
                    self._left_out(event, position, "the link it ends is lost, or gone")
                    return None
            case MemoryRecalled() | ActivationSpread() | SpaceConfigured():
                pass
            case SpaceCreated() if position == 1:
                return None  # the new space has its own
            case SpaceCompacted() | HistoryRedacted() | MemoryPurged() | RequestAnswered():
                # Of files that the new space does not have; of what is to be gone; for whoever
                # sends a request to the old one again.
                return None
            case _:
                self._left_out(event, position, "it happened to the space, not in it")
                return None
        return event

    def _believe(self, event: Event) -> None:
        """Remember in which revision a belief lives."""
        if isinstance(event, MemoryVersion) and event.kind == "belief":
            self._beliefs[event.id] = event.revision
        elif isinstance(event, MemoryVersion):
            self._beliefs.pop(event.id, None)

    def _holds(self, event: MemoryConsolidated) -> bool:
        told = 1 <= len(event.sources) == len(event.revisions) and min(event.revisions) >= 1
        ends = {event.id, *event.sources}
        distinct = len(ends) == 1 + len(event.sources)
        lives = distinct and ends <= self._living
        return told and lives and self._beliefs.get(event.id) == event.revision

    def _begin(self, memory_id: str) -> None:
        """A memory lives from here on, without the links of what its id led to before."""
        self._living.add(memory_id)
        for key in self._links.pop(memory_id, ()):
            for end in key[:2]:
                self._links.get(end, set()).discard(key)

    def _link(self, event: MemoryLinked) -> bool:
        if not {event.source, event.target} <= self._living:
            return False
        for end in (event.source, event.target):
            key = (event.source, event.target, event.relation)
            self._links.setdefault(end, set()).add(key)
        return True

    def _unlink(self, event: MemoryUnlinked) -> bool:
        key = (event.source, event.target, event.relation)
        if not {event.source, event.target} <= self._living or key not in self._links.get(
            event.source, ()
        ):
            return False
        for end in (event.source, event.target):
            self._links[end].remove(key)
        return True

    def _as_revised(self, event: MemoryStored | MemoryRestored, position: int) -> MemoryRevised:
        reason = "the memory lives already; that it was forgotten is lost"
        self._note(event, position, "memory.revised", reason)
        return MemoryRevised(**msgspec.structs.asdict(event))

    def _as_stored(self, event: MemoryRevised | MemoryRestored, position: int) -> MemoryStored:
        does = "restores" if isinstance(event, MemoryRestored) else "revises"
        reason = f"what it {does} is lost; it holds the memory whole"
        self._note(event, position, "memory.stored", reason)
        return MemoryStored(**msgspec.structs.asdict(event))

    def _left_out(self, event: Event, position: int, reason: str) -> None:
        self._note(event, position, None, reason)

    def _note(self, event: Event, position: int, became: str | None, reason: str) -> None:
        memory_id = getattr(event, "id", None)
        self.changes.append(Change(position, event_type(event), memory_id, became, reason))


def _with_vectors(batch: Batch) -> Iterator[tuple[Event, Vector | None]]:
    vectors = iter(batch.vectors)
    for event in batch.events:
        yield event, next(vectors) if isinstance(event, MemoryVersion) else None
