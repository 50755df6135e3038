"""The background scrub: what the open spaces have on disk is read again, slowly, and verified.

Opening a space passes over segments that a checkpoint stands for, and what was verified once may
decay. So one thread reads the sealed segments and checkpoints of the spaces that are open, round
after round, in small pieces. A space is pinned for one piece at a time, and no file stays open from
one to the next; what a compaction replaces meanwhile is left alone, and its successor's turn comes
in the next round. The system is asked to forget a file's pages first, so that the disk is what is
read; it keeps those that are mapped just now, as most of the newest checkpoint is.

Files are read rather than mapped: a sector that cannot be read is an error then, and no signal that
ends the process.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Final

from compaction.checkpoint import open_checkpoint
from compaction.columns import BLOCK_BYTES, PAGE_BYTES, ColumnFile
from engram.errors import EngramError
from engram.spaces.entry import Entry
from engram.spaces.store import Store
from wal import format as f
from wal.codec import Bad, End, Record, SegmentHeader
from wal.errors import Damaged, Decayed, WalError
from wal.live_set import CHECKPOINT_DIR, LOG_DIR
from wal.log import Log
from wal.manifest import Checkpoint, SealedSegment
from wal.segment import Chain, read_header, scan
from wal.vfs import Directory, File

PIECE_BYTES: Final = 4 * BLOCK_BYTES
"""How much is read at once, and then paid for with a pause."""
REST_S: Final = 600.0
"""How long a round is followed by none, so that a small space is not read all the time."""
RECORD_BYTES_MAX: Final = f.RECORD_HEADER_BYTES + f.padded(f.PAYLOAD_BYTES_MAX)

Pause = Callable[[threading.Event, float], object]
"""Waits for so many seconds, or until the event is set."""

_LOG: Final = logging.getLogger("engram.spaces")


class Scrub:
    """Scrubs the spaces that are `opened`, at `bytes_per_s` bytes a second on average."""

    def __init__(
        self,
        opened: Callable[[], Iterable[Entry]],
        bytes_per_s: int,
        pause: Pause = threading.Event.wait,
    ) -> None:
        self._opened = opened
        self._bytes_per_s = bytes_per_s
        self._pause = pause
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    def start(self) -> None:
        """Scrub in a thread of its own until stopped. Never raises."""
        thread = threading.Thread(target=self._run, name="engram-scrub", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            _LOG.warning("there is no background scrub: %s", error)
        else:
            self._thread = thread

    def stop(self) -> None:
        """Stop, behind the piece that is being read. Idempotent. A forked child has no thread to
        stop, and what it would be told with may be locked by one it does not have.
        """
        if self._pid != os.getpid():
            return
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self.round()
            self._pause(self._stopping, REST_S)

    def round(self) -> None:
        """Verify what the spaces that are open now have on disk, one after the other."""
        for entry in sorted(self._opened(), key=lambda entry: entry.identity.memory_space_id):
            with entry.pinned_if_open() as store:
                pieces = [] if store is None else list(_all_of(store))
            for each in pieces:
                self._verify(entry, each)

    def _verify(self, entry: Entry, each: _Pieces) -> None:
        while not (each.done or self._stopping.is_set()):
            with entry.pinned_if_open() as store:
                if store is None or store.log.failure is not None or not each.is_named(store.log):
                    return
                try:
                    taken = each.step(store.space_dir)
                except Damaged as damage:
                    _condemn(store, each, damage)
                    return
                except (WalError, OSError) as error:
                    # No descriptor is free, or the like: nothing is known to be wrong with the
                    # space itself. Whoever took the right to read its files away is to hear of it.
                    _LOG.warning("%s is left for the next round: %s", each.where, error)
                    return
            self._pause(self._stopping, taken / self._bytes_per_s)


def _condemn(store: Store, each: _Pieces, damage: Damaged) -> None:
    """Have the space refuse writes, unless the file is none of its own any more. That is told in
    the writer's thread, since a change of the live files may be under way, and yet be given up.
    """

    def condemn() -> None:
        if each.is_named(store.log):
            store.log.poison(f"what was verified once no longer is: {damage}", Decayed)

    try:
        store.call(condemn)
    except (EngramError, WalError):
        return  # it is being closed, or failed in another way
    if isinstance(store.log.failure, Decayed):
        _LOG.error("space %s is damaged: %s", store.identity.memory_space_id, damage)


def _all_of(store: Store) -> Iterator[_Pieces]:
    for header, segment, _ in store.log.sealed:
        yield _Segment(header, segment)
    for checkpoint in store.log.checkpoints:
        yield _Checkpoint(checkpoint, store.identity.uuid_bytes)


class _Pieces(ABC):
    """A file that is verified piece by piece. `done` once all of it was."""

    def __init__(self, folder: str, name: str) -> None:
        self.where = f"{folder}/{name}"
        self.done = False
        self._folder = folder
        self._name = name

    @abstractmethod
    def is_named(self, log: Log) -> bool:
        """Whether the file is still one of a log's."""

    @abstractmethod
    def step(self, space_dir: Directory) -> int:
        """Verify the next piece. Returns how many bytes were read.

        Raises :class:`wal.errors.Damaged`, also for what is missing or cannot be read, and OSError
        if the system cannot do it now.
        """

    @contextmanager
    def _open(self, space_dir: Directory) -> Iterator[File]:
        try:
            with (
                closing(space_dir.open_dir(self._folder)) as folder,
                closing(folder.open(self._name)) as file,
            ):
                yield file
        except FileNotFoundError:
            raise Damaged(self.where, 0, "it is missing") from None
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            raise Damaged(self.where, 0, f"it cannot be read: {error.strerror}") from error

    def _read(self, file: File, offset: int, length: int) -> memoryview:
        data = file.read_at(offset, length)
        if len(data) < length:
            raise Damaged(self.where, offset + len(data), "it was cut")
        return memoryview(data)


class _Segment(_Pieces):
    """A sealed segment."""

    def __init__(self, header: SegmentHeader, segment: SealedSegment) -> None:
        super().__init__(LOG_DIR, segment.name)
        self._header = header
        self._segment = segment
        self._chain: Chain | None = None
        self._length = PIECE_BYTES

    def is_named(self, log: Log) -> bool:
        return any(segment == self._segment for _, segment, _ in log.sealed)

    def step(self, space_dir: Directory) -> int:
        with self._open(space_dir) as file:
            return self._begin(file) if self._chain is None else self._go_on(file, self._chain)

    def _begin(self, file: File) -> int:
        file.drop_cache()
        size, length = file.size(), self._segment.length
        if size != length:
            reason = f"it has {size} bytes; the manifest says {length}"
            raise Damaged(self.where, min(size, length), reason)
        page = file.read_at(0, f.SEGMENT_HEADER_BYTES)
        if read_header(self.where, page, self._header.space_uuid) != self._header:
            raise Damaged(self.where, 0, "this is not the segment that was here")
        self._end_or_go_on(Chain.start(self._header, time_ns=0, synced_position=0))
        return len(page)

    def _go_on(self, file: File, start: Chain) -> int:
        piece = self._read(
            file, start.offset, min(self._length, self._segment.length - start.offset)
        )
        chain = start._replace(offset=0)
        stop: End | Bad = End(0)
        for found in scan(piece, self._header, chain):
            if isinstance(found, Record):
                chain = chain.after(found)
            else:
                stop = found
        last = start.offset + len(piece) == self._segment.length
        too_long = not chain.offset and len(piece) == RECORD_BYTES_MAX
        if chain.offset < len(piece) and (last or too_long):
            reason = stop.reason if isinstance(stop, Bad) else "zeros stand where a record was"
            raise Damaged(self.where, start.offset + stop.offset, reason)
        # What stops in front of the piece's end may go on behind it, and a long record does.
        self._length = PIECE_BYTES if chain.offset else min(2 * self._length, RECORD_BYTES_MAX)
        self._end_or_go_on(chain._replace(offset=start.offset + chain.offset))
        return len(piece)

    def _end_or_go_on(self, chain: Chain) -> None:
        self._chain = chain
        self.done = chain.offset == self._segment.length
        ends = (self._segment.next_position, self._segment.final_crc)
        if self.done and (chain.next_position, chain.prev_crc) != ends:
            raise Damaged(self.where, chain.offset, "it does not end as the manifest says")


class _Checkpoint(_Pieces):
    """A checkpoint, block by block."""

    def __init__(self, checkpoint: Checkpoint, space_uuid: bytes) -> None:
        super().__init__(CHECKPOINT_DIR, checkpoint.name)
        self._checkpoint = checkpoint
        self._space_uuid = space_uuid
        self._columns: ColumnFile | None = None
        self._at = PAGE_BYTES

    def is_named(self, log: Log) -> bool:
        return self._checkpoint in log.checkpoints

    def step(self, space_dir: Directory) -> int:
        with self._open(space_dir) as file:
            if self._columns is None:
                return self._begin(file, space_dir)
            data = self._read(file, self._at, min(PIECE_BYTES, self._columns.end - self._at))
        self._columns.check(self._at, data)
        self._at += len(data)
        self.done = self._at >= self._columns.end
        return len(data)

    def _begin(self, file: File, space_dir: Directory) -> int:
        """Header, table and checks are used where they are mapped, so they are read beforehand."""
        file.drop_cache()
        head = file.read_at(0, PAGE_BYTES)
        tail = file.read_at(max(self._checkpoint.length - PIECE_BYTES, 0), PIECE_BYTES)
        self._columns = open_checkpoint(space_dir, self._checkpoint, self._space_uuid)
        self.done = self._at >= self._columns.end
        return len(head) + len(tail)
