"""Deciding about beliefs: forming them, and that none outlives what it rests on. Pure.

Whoever forgets or revises a memory withdraws, in the same record, the beliefs that rest on it; who
purges one purges whatever was ever formed from it, since its words may be in there. What is to be
formed was worked out from an earlier state; of that, what does not hold any more is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec
import numpy as np

from engram.errors import Invalid
from engram.memory.events import (
    Event,
    MemoryConsolidated,
    MemoryForgotten,
    MemoryPurged,
    MemoryRevised,
    MemoryStored,
)
from engram.memory.model import Vector
from engram.memory.payload import Batch
from engram.memory.purges import is_husk
from engram.memory.times import NEVER_US, from_us

if TYPE_CHECKING:
    from engram.memory.decide import Known, Latest

SOURCE_FORGOTTEN: Final = "source-forgotten"
SOURCE_REVISED: Final = "source-revised"


class Formed(NamedTuple):
    """A belief to be stored or, with `based_on`, to be the next revision of the one of its id, if
    that is in this revision still. Revisions in `version` and `event` are 0; deciding gives them.
    """

    version: MemoryStored
    event: MemoryConsolidated
    based_on: int | None


class Consolidate(NamedTuple):
    """Store beliefs with what they rest on; `vectors` has a row for each."""

    beliefs: Sequence[Formed]
    vectors: Vector
    now_us: int


class Overtaken(Exception):
    """Nothing that was to be formed holds any more."""


def formed(known: Known, command: Consolidate) -> Batch:
    """The events of what still holds. Raises :class:`Overtaken` if nothing does."""
    events: list[Event] = []
    kept: list[int] = []
    cited: set[str] = set()
    for row, belief in enumerate(command.beliefs):
        latest = known.latest(belief.version.id)
        lives = latest is not None and latest.lives_at(command.now_us)
        revision = 0 if latest is None else latest.version.revision
        if belief.based_on is not None and not (lives and revision == belief.based_on):
            continue
        if belief.based_on is None and lives:
            continue
        if not _holds(known, belief, command.now_us) or not cited.isdisjoint(belief.event.sources):
            continue
        if latest is not None and latest.alive and not lives:
            events.append(
                MemoryForgotten(id=latest.version.id, revision=revision, reason="expired")
            )
        fields = {**msgspec.structs.asdict(belief.version), "revision": revision + 1}
        made = MemoryStored if belief.based_on is None else MemoryRevised
        events.append(made(**fields))
        events.append(msgspec.structs.replace(belief.event, revision=revision + 1))
        cited.update(belief.event.sources)
        kept.append(row)
    if not kept:
        raise Overtaken
    return Batch(events, command.vectors[np.array(kept)])


def _holds(known: Known, belief: Formed, now_us: int) -> bool:
    """Whether all that a belief rests on is as it was, and holds up no other."""
    event = belief.event
    for source, revision in zip(event.sources, event.revisions, strict=True):
        latest = known.latest(source)
        if latest is None or not latest.lives_at(now_us) or latest.version.revision != revision:
            return False
        holders = known.resting_on(source)
        if belief.based_on is not None and event.id in holders:
            continue  # as before, also where another one was restored beside it
        for other in holders:
            holder = known.latest(other)
            if other != event.id and holder is not None and holder.lives_at(now_us):
                return False
    return True


def withdrawn(known: Known, events: Sequence[Event]) -> Iterator[MemoryForgotten]:
    """The beliefs to be forgotten because of what happens to memories in these events."""
    gone = {event.id for event in events if isinstance(event, MemoryForgotten | MemoryPurged)}
    for event in events:
        if not isinstance(event, MemoryForgotten | MemoryRevised):
            continue
        forgotten = isinstance(event, MemoryForgotten)
        for belief in known.resting_on(event.id):
            latest = known.latest(belief)
            if belief in gone or latest is None or not latest.alive:
                continue
            gone.add(belief)
            yield MemoryForgotten(
                id=belief,
                revision=latest.version.revision,
                reason=SOURCE_FORGOTTEN if forgotten else SOURCE_REVISED,
            )


def with_derived(known: Known, memory_ids: Sequence[str]) -> Iterator[str]:
    """The memories to be purged: those that are named, and each belief ever formed from them."""
    named = set(memory_ids)
    told: set[str] = set()
    for memory_id in memory_ids:
        yield memory_id
        for belief in known.derived_from(memory_id):
            latest = known.latest(belief)
            if belief in named or belief in told or latest is None or is_husk(latest.version):
                continue
            told.add(belief)
            yield belief


def rests_no_more(known: Known, belief: str, now_us: int) -> str | None:
    """Of what a belief of that id rested on, one that is gone or has changed since, if any has."""
    for source, revision in known.cited(belief):
        latest = known.latest(source)
        if latest is None or not latest.lives_at(now_us) or latest.version.revision != revision:
            return source
    return None


def check_expiry(known: Known, memory_id: str, expires_us: int | None) -> None:
    """Refuse a time, None for never, by which what a belief of that id rests on would be gone."""
    sources = [known.latest(source) for source, _ in known.cited(memory_id)]
    expiries = [source.version.expires_us for source in sources if source is not None]
    first_us = min((each for each in expiries if each is not None), default=NEVER_US)
    if (NEVER_US if expires_us is None else expires_us) > first_us:
        raise Invalid.of(
            "expires_at",
            f"memory {memory_id!r} is a belief, and something it rests on expires at "
            f"{from_us(first_us).isoformat()}; it cannot outlive that",
        )


class Applied(Protocol):
    """What a state knows about beliefs, see :class:`engram.memory.decide.Known`."""

    def resting_on(self, memory_id: str) -> Sequence[str]: ...

    def derived_from(self, memory_id: str) -> Sequence[str]: ...

    def cited(self, memory_id: str) -> Sequence[tuple[str, int]]: ...


class Queued:
    """What was formed in a group that is not applied yet, on top of what a state knows."""

    def __init__(self) -> None:
        self._formed: dict[str, MemoryConsolidated] = {}
        self._ever: dict[str, set[str]] = {}

    def take(self, event: Event) -> None:
        if isinstance(event, MemoryStored):
            self._formed.pop(event.id, None)
        elif isinstance(event, MemoryPurged):
            self._formed.pop(event.id, None)
            self._ever.pop(event.id, None)
        elif isinstance(event, MemoryConsolidated):
            self._formed[event.id] = event
            self._ever.setdefault(event.id, set()).update(event.sources)

    def resting_on(
        self,
        state: Applied,
        memory_id: str,
        latest: Callable[[str], Latest | None],
        anew: Set[str],
    ) -> list[str]:
        """As :meth:`engram.memory.decide.Known.resting_on`, with what was decided since; the ids in
        `anew` were used again.
        """
        formed = {each.id for each in self._formed.values() if memory_id in each.sources}
        beliefs = formed.union(each for each in state.resting_on(memory_id) if each not in anew)
        known = [(belief, latest(belief)) for belief in sorted(beliefs)]
        return [belief for belief, found in known if found is not None and found.alive]

    def derived_from(self, state: Applied, memory_id: str) -> list[str]:
        """As :meth:`engram.memory.decide.Known.derived_from`, with what was decided since."""
        ever = {belief for belief, sources in self._ever.items() if memory_id in sources}
        return sorted({*state.derived_from(memory_id), *ever})

    def cited(self, state: Applied, memory_id: str, anew: bool) -> Sequence[tuple[str, int]]:
        """As :meth:`engram.memory.decide.Known.cited`; `anew` says that the id was used again."""
        event = self._formed.get(memory_id)
        if event is not None:
            return list(zip(event.sources, event.revisions, strict=True))
        return [] if anew else state.cited(memory_id)
