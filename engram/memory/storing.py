"""Deciding what becomes of memories that are to be remembered, where their ids may live. Pure.

`error` refuses a batch of which an id lives. `skip` leaves what lives as it is, and `replace` makes
it a revision: the given memory as a whole, but for the id and the kind, which a revision keeps.
What has expired, or was forgotten or purged, does not live, and its id is free.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from engram.errors import Invalid, MemoryExists
from engram.memory.believing import check_expiry
from engram.memory.events import Event, MemoryForgotten, MemoryRevised, MemoryStored
from engram.memory.forgetting import EXPIRED
from engram.memory.payload import NO_VECTORS, Batch

if TYPE_CHECKING:
    from engram.memory.decide import Known, Latest, Remember


def remembered(known: Known, command: Remember, memory_space_id: str) -> Batch:
    """The events of what is to be stored or revised; none where all of it is skipped."""
    events: list[Event] = []
    rows: list[int] = []
    seen: set[str] = set()
    for row, version in enumerate(command.versions):
        if version.id in seen:
            raise Invalid.of(f"memories[{row}].id", f"{version.id!r} stands twice in one batch")
        seen.add(version.id)
        latest = known.latest(version.id)
        if latest is not None and latest.lives_at(command.now_us):
            if command.on_conflict == "skip":
                continue
            if command.on_conflict == "error":
                raise MemoryExists(
                    f"memory {version.id!r} exists already in space {memory_space_id!r}; nothing "
                    "was stored. Revise it, or choose another id",
                    memory_space_id=memory_space_id,
                )
            events.append(_replaced(known, latest, version, row))
        else:
            events.extend(_stored(latest, version))
        rows.append(row)
    return Batch(events, command.vectors[np.array(rows)] if rows else NO_VECTORS)


def _stored(latest: Latest | None, version: MemoryStored) -> Iterator[Event]:
    """A memory under an id that is free."""
    revision = 1
    if latest is not None:
        if latest.alive:
            revision = latest.version.revision
            yield MemoryForgotten(id=version.id, revision=revision, reason=EXPIRED)
        revision = latest.version.revision + 1
    yield msgspec.structs.replace(version, revision=revision)


def _replaced(known: Known, latest: Latest, version: MemoryStored, row: int) -> MemoryRevised:
    old = latest.version
    if version.kind != old.kind:
        raise Invalid.of(
            f"memories[{row}].kind",
            f"is {version.kind!r}, but memory {old.id!r} is of kind {old.kind!r}, which a revision "
            "keeps. Give that kind, or forget the memory first",
        )
    check_expiry(known, version.id, version.expires_us)
    fields = {**msgspec.structs.asdict(version), "revision": old.revision + 1}
    return MemoryRevised(**fields)


def left_standing(known: Known, command: Remember, events: Sequence[Event]) -> tuple[Latest, ...]:
    """What was skipped, as it is, in the order of the batch."""
    if command.on_conflict != "skip":
        return ()
    stored = {event.id for event in events if isinstance(event, MemoryStored)}
    found = (known.latest(each.id) for each in command.versions if each.id not in stored)
    return tuple(latest for latest in found if latest is not None)


def check_not_withdrawn(events: Sequence[Event], withdrawn: Sequence[MemoryForgotten]) -> None:
    """Refuse a batch that replaces a belief beside something it rests on, and so would end it."""
    replaced = {event.id for event in events if isinstance(event, MemoryRevised)}
    for belief in withdrawn:
        if belief.id in replaced:
            raise Invalid(
                f"memory {belief.id!r} is a belief that rests on another memory of the batch, and "
                "is forgotten when that is replaced; nothing was stored. Leave one of them out"
            )
