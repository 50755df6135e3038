"""Purging memories of an open space: the event, the files made anew without them, the receipt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from engram.errors import DiskFull, MemoryNotFound
from engram.memory.decide import Purge
from engram.memory.etags import Expected, check_expected
from engram.memory.events import SpaceCompacted
from engram.memory.model import Filter, PurgedFile, PurgeReceipt
from engram.memory.purges import is_husk
from engram.memory.state import StateError
from engram.memory.times import from_us

if TYPE_CHECKING:
    from engram.spaces.machine import Committed
    from engram.spaces.store import Store

PURGED_PER_RECORD_MAX: Final = 10_000


def purge_one(store: Store, memory_id: str, expected: Expected = None) -> PurgeReceipt:
    """Purge one memory, complete a purge that was interrupted, or give its receipt again.

    What was purged already is none of the revisions that are expected.
    """
    latest = store.state.latest(memory_id)
    if latest is None:
        space_id = store.identity.memory_space_id
        raise MemoryNotFound(
            f"there never was a memory {memory_id!r} in space {space_id!r}, or its history is gone",
            memory_space_id=space_id,
        )
    if is_husk(latest.version):
        check_expected(expected, -1, memory_id, store.identity.memory_space_id)
        position = store.state.history(memory_id)[-1]
    else:
        try:
            purged = store.commit(Purge((memory_id,), expected))
        except MemoryNotFound:  # it was there: somebody else has purged it in between
            return purge_one(store, memory_id, expected)
        return _receipt(store, purged.ack.position, 1, memory_id, purged)
    return _receipt(store, position, 1, memory_id, None)


def purge_matching(store: Store, filter: Filter) -> PurgeReceipt | None:
    """Purge what matches: several records, but one compaction. Where nothing does, the files may
    still hold what a purge before this one found no room to take out of them.
    """
    ids = _matching(store, filter)
    position = count = 0
    purged: Committed | None = None
    for first in range(0, len(ids), PURGED_PER_RECORD_MAX):
        wanted = ids[first : first + PURGED_PER_RECORD_MAX]
        while wanted:
            try:
                purged = store.commit(Purge(wanted))
            except MemoryNotFound:  # they were there: somebody else has purged some in between
                wanted = [memory_id for memory_id in wanted if _can_be_purged(store, memory_id)]
            else:
                position, count = purged.ack.last_position, count + len(wanted)
                break
    if not count:
        _complete(store)
        return None
    return _receipt(store, position, count, None, purged)


def _can_be_purged(store: Store, memory_id: str) -> bool:
    latest = store.state.latest(memory_id)
    return latest is not None and not is_husk(latest.version)


def _matching(store: Store, filter: Filter) -> Sequence[str]:
    """The ids whose newest version matches, living or forgotten."""
    view = store.state.view
    found = []
    for row in np.flatnonzero(view.matching(filter, view.newest())).tolist():
        version = view.version(row)
        latest = store.state.latest(version.id)
        if not is_husk(version) and latest is not None and latest.version == version:
            found.append(version.id)
    return found


def _complete(store: Store) -> None:
    """Make anew all files that hold what is being purged. Raises what compacting raises."""
    if not store.state.purges.pending:
        return
    try:
        store.compact()
    except DiskFull as error:
        space_id = store.identity.memory_space_id
        raise DiskFull(
            f"space {space_id!r} has no room to make its files anew without what is purged. That "
            "is out of reach by now, but may still be on the disk; free some space and purge it "
            "again",
            memory_space_id=space_id,
        ) from error


def _receipt(
    store: Store, position: int, count: int, memory_id: str | None, purged: Committed | None
) -> PurgeReceipt:
    """The receipt of the purge at `position`, which is the record `purged` if that was just made.

    Raises :class:`engram.errors.HistoryGone` for one that history no longer tells of.
    """
    if store.state.purges.completed_at(position) is None:
        _complete(store)
    completed = store.state.purges.completed_at(position)
    if completed is None:  # a compaction completes all that was purged before it
        raise StateError(f"the purge at position {position} was not completed")
    purged = purged or store.record(position)
    told = store.compactor.noted.get(completed) or store.record(completed)
    event = told.batch.events[0]
    if not isinstance(event, SpaceCompacted):
        raise StateError(f"position {completed} does not say that a purge is complete")
    return PurgeReceipt(
        memory_space_id=store.identity.memory_space_id,
        id=memory_id,
        count=count,
        position=position,
        purged_at=from_us(purged.ack.time_ns // 1_000),
        completed_position=completed,
        completed_at=from_us(told.ack.time_ns // 1_000),
        files=tuple(PurgedFile(name, f"{crc:08x}") for name, crc in event.files),
    )
