"""Reading a bundle from a space that goes on being used: what it was at one durable position.

The space is pinned in short steps (:mod:`engram.spaces.reading`).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from compaction.checkpoint import open_checkpoint
from compaction.columns import ColumnFile
from engram.bundles.codec import (
    BASE_PART_BYTES,
    NONCE_BYTES,
    BundleDocument,
    BundledRecord,
    BundleEncoder,
)
from engram.errors import HistoryGone, Invalid, PositionBeyondEnd, Unavailable
from engram.memory.model import ExportReport
from engram.spaces.reading import end_of_whole, read_in_steps
from engram.spaces.store import Store, translated
from wal.errors import Damaged, Truncated

if TYPE_CHECKING:
    from engram.spaces.entry import Entry

ATTEMPTS_MAX: Final = 3


class _Base(NamedTuple):
    """Where the history that is held begins: behind a position, and what stands for it until there.
    The file is mapped, and so outlives its name.
    """

    position: int
    file: ColumnFile | None


class Outgoing:
    """One bundle to be taken, once. `position` is where it ends."""

    def __init__(self, entry: Entry, as_of: int | None = None) -> None:
        """Decide what the bundle holds.

        `as_of` leaves out what came behind it; where it falls inside a record, that too. Raises
        :class:`engram.errors.Invalid`, `PositionBeyondEnd` and `HistoryGone`, `DiskFull` where a
        purge is still to be completed first, and what opening the space raises.
        """
        self._entry = entry
        self._report: ExportReport | None = None
        _check_as_of(as_of)
        with entry.pinned() as store, translated(self.memory_space_id):
            store.check_history()
            if store.state.purges.pending:
                store.compact()  # it found no room: what it is about must not leave in a bundle
            self._base = _base_of(store)
            self.position = store.log.durable_position
            if as_of is not None:
                self.position = self._rounded(store, as_of)
            self._exported_us = store.now_ns() // 1_000

    @property
    def memory_space_id(self) -> str:
        return self._entry.identity.memory_space_id

    @property
    def report(self) -> ExportReport:
        """What was taken, once all of it was."""
        if self._report is None:
            raise RuntimeError("the bundle was not taken to its end")
        return self._report

    def chunks(self) -> Iterator[bytes]:
        """All bytes of the bundle, in order. What goes wrong on the way leaves it without an end,
        so that nobody takes it for a whole one: raises :class:`engram.errors.SpaceDamaged`,
        `SpaceNotFound` (it was deleted) and `Unavailable`.
        """
        identity = self._entry.identity
        encoder = BundleEncoder(secrets.token_bytes(NONCE_BYTES))
        data = memoryview(b"") if self._base.file is None else self._base.file.data
        yield encoder.begin(
            BundleDocument(
                memory_space_id=identity.memory_space_id,
                space_uuid=identity.uuid,
                generation=identity.generation,
                created_us=identity.created_us,
                exported_us=self._exported_us,
                embedding=identity.embedding,
                base_position=self._base.position,
                base_bytes=len(data),
                position=self.position,
            )
        )
        if self._base.file is not None:
            with translated(self.memory_space_id):
                self._base.file.verify()
        for start in range(0, len(data), BASE_PART_BYTES):
            yield encoder.base(data[start : start + BASE_PART_BYTES])
        for record in self._records():
            yield encoder.record(record)
        yield (end := encoder.end())
        totals = encoder.totals
        if totals is None:
            raise RuntimeError("an encoder that has ended has its totals")
        self._report = ExportReport(
            memory_space_id=identity.memory_space_id,
            space_uuid=identity.uuid,
            oldest_position=self._base.position + 1,
            position=self.position,
            records=totals.records,
            events=totals.events,
            bytes=totals.bytes + len(end),
            digest=totals.digest,
        )

    def _records(self) -> Iterator[BundledRecord]:
        try:
            for record in read_in_steps(self._entry, self._base.position + 1, self.position):
                yield BundledRecord(
                    record.position,
                    record.time_ns,
                    record.events,
                    record.type,
                    record.flags,
                    bytes(record.payload),
                )
        except HistoryGone as error:
            raise Unavailable(
                f"space {self.memory_space_id!r} let go of history while it was read: a compaction "
                "put its retention into force. Do it again",
                memory_space_id=self.memory_space_id,
            ) from error

    def _rounded(self, store: Store, as_of: int) -> int:
        """The last position up to `as_of` behind which the space can end."""
        if as_of > self.position:
            raise PositionBeyondEnd(
                f"as_of {as_of} lies behind position {self.position}, the last of space "
                f"{self.memory_space_id!r}",
                memory_space_id=self.memory_space_id,
            )
        if as_of < self._base.position or as_of < 1:
            raise HistoryGone(
                f"history up to position {self._base.position} was let go of, so nothing says what "
                f"space {self.memory_space_id!r} was at {as_of}",
                memory_space_id=self.memory_space_id,
                oldest_position=self._base.position + 1,
                position=self.position,
                space_uuid=self._entry.identity.uuid,
            )
        if as_of == self._base.position:
            return as_of
        return end_of_whole(store, as_of)


def _base_of(store: Store) -> _Base:
    """The base of a log whose history a compaction may be letting go of just now."""
    for attempt in range(ATTEMPTS_MAX):
        position = store.log.oldest_position - 1
        if not position:
            return _Base(0, None)
        for checkpoint in store.log.checkpoints:
            if checkpoint.position != position or not checkpoint.base:
                continue
            try:
                uuid = store.identity.uuid_bytes
                return _Base(position, open_checkpoint(store.space_dir, checkpoint, uuid))
            except Damaged:
                if attempt == ATTEMPTS_MAX - 1:
                    raise  # else it was made anew meanwhile, under another name
    raise Truncated(1, store.log.oldest_position)


def _check_as_of(as_of: object) -> None:
    if as_of is None:
        return
    if isinstance(as_of, bool) or not isinstance(as_of, int) or as_of < 1:
        raise Invalid.of("as_of", "must be a position: a whole number from 1 on")
