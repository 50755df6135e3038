"""Reading the log of a space that goes on being used: in steps that pin it briefly, so that neither
its writers nor a deletion wait for whoever reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from engram.errors import SpaceDamaged, Unavailable
from engram.memory.events import SpaceDeleted
from engram.memory.payload import PayloadError, decode_batch
from engram.spaces.store import translated
from wal.errors import Damaged
from wal.log import NO_DESCRIPTOR

if TYPE_CHECKING:
    from engram.spaces.entry import Entry
    from engram.spaces.store import Store
    from wal.codec import Record

STEP_BYTES: Final = 4 << 20
"""How much is read while the space is pinned once, or one record, if that is more."""


def read_in_steps(entry: Entry, position: int, last: int) -> Iterator[Record]:
    """The durable records from `position` on, where one begins, up to `last`, where one ends.

    Their payloads are copies. Raises :class:`engram.errors.HistoryGone` if a compaction lets go of
    what comes next, `SpaceDamaged`, `SpaceNotFound` (it was deleted) and `Unavailable`.
    """
    while position <= last:
        for record in _step(entry, position, last):
            yield record
            position = record.next_position


def _step(entry: Entry, position: int, last: int) -> list[Record]:
    found: list[Record] = []
    size = 0
    with pinned_to_read(entry) as store:
        for record in store.log.read(position):
            if record.position > last or size >= STEP_BYTES:
                break
            payload = memoryview(bytes(record.payload))
            found.append(record._replace(payload=payload))
            size += len(payload)
    return found


@contextmanager
def pinned_to_read(entry: Entry) -> Iterator[Store]:
    """The store, pinned, whose files are read; what goes wrong with them is told to users."""
    space_id = entry.identity.memory_space_id
    try:
        with entry.pinned() as store, translated(space_id):
            store.check_history()
            yield store
    except OSError as error:
        kind = Unavailable if error.errno in NO_DESCRIPTOR else SpaceDamaged
        raise kind(
            f"the log of space {space_id!r} cannot be read: {error.strerror or error}",
            memory_space_id=space_id,
        ) from error


def end_of_whole(store: Store, position: int) -> int:
    """The last position up to a durable one behind which the space is whole: not inside a batch,
    and not behind a deletion, for there is nothing then that anybody could see.
    """
    record = next(store.log.read(position))
    if record.next_position > position + 1:
        return record.position - 1
    try:
        last = decode_batch(record.payload).events[-1]
    except PayloadError as error:
        raise Damaged("log", record.offset, str(error)) from error
    return record.position - 1 if isinstance(last, SpaceDeleted) else position
