"""What a space was: its state as of an earlier position or time, out of checkpoint and log.

It is built from the newest checkpoint that does not lie behind it and from what the log has until
there, beside reads and writes: the space is pinned in short steps only. What compacting replaces
meanwhile is looked for in its new place. What is being purged by now, and may still be in files, is
purged from it too.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from compaction.checkpoint import open_checkpoint
from compaction.columns import ColumnFile
from engram.errors import HistoryGone, PositionBeyondEnd, Unavailable
from engram.memory.events import MemoryPurged
from engram.memory.payload import NO_VECTORS, Batch, PayloadError, decode_batch
from engram.memory.purges import is_husk
from engram.memory.state import State, StateError
from engram.memory.times import from_us, to_us
from engram.spaces.compactor import state_of
from engram.spaces.footprint import footprint
from engram.spaces.past import Built
from engram.spaces.reading import end_of_whole, pinned_to_read, read_in_steps
from engram.spaces.store import translated
from wal.errors import Damaged, Truncated

if TYPE_CHECKING:
    from engram.spaces.entry import Entry
    from engram.spaces.store import Store
    from wal.log import Log

ATTEMPTS_MAX: Final = 5
_NS_PER_US: Final = 1_000


class Moment(NamedTuple):
    """A state, and the time at which it is looked at: what has expired by then is not shown."""

    state: State
    now_us: int


def moment(entry: Entry, when: int | datetime) -> Moment:
    """What a space was once a position was applied, or at a time. Where a position falls inside a
    batch, or on a deletion that was undone since, it is what the space was before that.

    Raises :class:`engram.errors.PositionBeyondEnd`, also for a time that has not come yet;
    `HistoryGone` for what history does not lead to any more; `SpaceDamaged` and `Unavailable`.
    """
    with pinned_to_read(entry) as store:
        if isinstance(when, datetime):
            now_us = to_us(when)
            position = _position_at(store, when, now_us)
        else:
            position, now_us = _whole_at(store, when)
        mark, pasts = store.state.purges.mark, store.pasts
    key = (entry.identity.uuid, position)
    return Moment(pasts.state_at(key, mark, lambda: _build(entry, position)), now_us)


def _whole_at(store: Store, asked: int) -> tuple[int, int]:
    """The last position up to `asked` where a batch ends, and the time of its record."""
    last = store.log.durable_position
    if asked > last:
        raise PositionBeyondEnd(
            f"as_of {asked} lies behind position {last}, the last of space "
            f"{store.identity.memory_space_id!r}. Leave it out for what is there now",
            memory_space_id=store.identity.memory_space_id,
        )
    _check_held(store, asked, f"position {asked}")
    if asked == store.log.oldest_position - 1:
        return asked, _base_time_us(store)
    position = end_of_whole(store, asked)
    if position == store.log.oldest_position - 1:
        _check_held(store, position, f"position {asked}")
        return position, _base_time_us(store)
    return position, next(store.log.read(position)).time_ns // _NS_PER_US


def _position_at(store: Store, time: datetime, time_us: int) -> int:
    """The last position up to a time where a batch ends."""
    if time_us > max(store.now_ns(), store.log.time_ns) // _NS_PER_US:
        raise PositionBeyondEnd(
            f"as_of {time.isoformat()} lies in the future. Leave it out for what is there now",
            memory_space_id=store.identity.memory_space_id,
        )
    base = store.log.oldest_position - 1
    # Users see microseconds, cut off: a record is as old as they are told.
    position = _last_position_at(store.log, time_us * _NS_PER_US + _NS_PER_US - 1)
    if position > base:
        return end_of_whole(store, position)
    # Nothing says how old that is which a base stands for; but a copy that holds nothing else has
    # been so since it was made.
    if base == store.log.durable_position and time_us >= store.identity.created_us:
        return base
    raise _gone(store, time.isoformat())


def _last_position_at(log: Log, time_ns: int) -> int:
    """The position that the last record not later than a time ends with, or the one before the
    oldest that is held.
    """
    low, high = log.oldest_position, log.durable_position
    for _, segment, _ in log.sealed:
        if segment.time_ns > time_ns:
            high = segment.next_position - 1
            break
        low = segment.next_position
    while low <= high:  # times never run backwards
        record = next(log.read((low + high) // 2))
        if record.time_ns > time_ns:
            high = record.position - 1
        else:
            low = record.next_position
    return low - 1


def _base_time_us(store: Store) -> int:
    """When history begins that is held: nothing says how old the last of what went is."""
    record = next(store.log.read(store.log.oldest_position), None)
    return store.identity.created_us if record is None else record.time_ns // _NS_PER_US


def _check_held(store: Store, position: int, asked: str) -> None:
    if position < max(store.log.oldest_position - 1, 1):
        raise _gone(store, asked)


def _gone(store: Store, asked: str) -> HistoryGone:
    space_id, oldest = store.identity.memory_space_id, store.log.oldest_position
    record = next(store.log.read(oldest), None)
    since = "" if record is None else f", of {from_us(record.time_ns // _NS_PER_US).isoformat()}"
    return HistoryGone(
        f"nothing that is held says what space {space_id!r} was at {asked}: its history begins "
        f"with position {oldest}{since}",
        memory_space_id=space_id,
        oldest_position=oldest,
        position=store.log.durable_position,
        space_uuid=store.identity.uuid,
    )


def _build(entry: Entry, position: int) -> Built:
    """The state at a position where a batch ends, without what is purged by now."""
    space_id = entry.identity.memory_space_id
    unusable: set[str] = set()
    for _ in range(ATTEMPTS_MAX):
        with pinned_to_read(entry) as store:
            _check_held(store, position, f"position {position}")
            purges = store.state.purges
            mark, purged = purges.mark, [each.id for each in list(purges.pending.values())]
            checkpoint = _checkpoint_for(store, position, unusable)
        try:
            with translated(space_id):
                state = _replayed(entry, checkpoint, position)
        except _Unusable as error:
            unusable.add(error.name)
            continue
        except HistoryGone:
            continue  # a compaction let go of it; if a way is left, it begins elsewhere
        _purge(state, purged)
        with entry.pinned() as store:
            if store.state.purges.mark == mark:
                return Built(state, mark, footprint(state).held)
    raise Unavailable(
        f"space {space_id!r} was compacted or purged again and again while its past was read. Try "
        "again",
        memory_space_id=space_id,
    )


class _Unusable(Exception):
    """A checkpoint does not verify; an older one, or the log, holds what it stands for."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def _checkpoint_for(store: Store, position: int, unusable: Container[str]) -> _Beginning | None:
    """The newest checkpoint up to a position; None if all of history is to be read.

    Its file is mapped, and so outlives its name. Raises :class:`wal.errors.Damaged`.
    """
    base = store.log.oldest_position - 1
    for checkpoint in reversed(store.log.checkpoints):
        needed = bool(base) and checkpoint.position == base
        if checkpoint.position > position or (checkpoint.name in unusable and not needed):
            continue
        try:
            file = open_checkpoint(store.space_dir, checkpoint, store.identity.uuid_bytes)
        except Damaged:
            if needed and checkpoint in store.log.checkpoints:
                raise
            if needed:
                break  # a compaction put another one in its place
        else:
            return _Beginning(checkpoint.name, file, needed)
    if base:
        raise Truncated(position, base + 1)
    return None


class _Beginning(NamedTuple):
    """The checkpoint that a replay begins with; `needed` if nothing can take its place."""

    name: str
    file: ColumnFile
    needed: bool


def _replayed(entry: Entry, checkpoint: _Beginning | None, position: int) -> State:
    identity = entry.identity
    state = State(identity.memory_space_id, identity.embedding.dimensions)
    if checkpoint is not None:
        try:
            checkpoint.file.verify()
            state = state_of(identity, checkpoint.file)
        except Damaged:
            if checkpoint.needed:
                raise
            raise _Unusable(checkpoint.name) from None
    for record in read_in_steps(entry, state.view.position + 1, position):
        try:
            state.apply(decode_batch(record.payload), record.position, record.time_ns)
        except (PayloadError, StateError) as error:
            raise Damaged("log", record.offset, str(error)) from error
    state.publish()
    return state


def _purge(state: State, ids: Iterable[str]) -> None:
    """Purge from a state what was purged later, where files may still hold it."""
    position = state.view.position
    for memory_id in ids:
        latest = state.latest(memory_id)
        if latest is not None and not is_husk(latest.version):
            event = MemoryPurged(id=memory_id, revision=latest.version.revision)
            state.apply(Batch([event], NO_VECTORS), position, 0)
            state.publish()
