"""Compacting an open space: its state as checkpoints, and the state begun again from the newest.

Compactions of a space run one at a time, in the thread that asks or in one of their own, beside
reads and writes; in the writer's thread they take no longer than starting a segment does. Of one
process they run one at a time too, so that they leave the machine to its users.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from compaction.checkpoint import Columns, begin_with_newest, open_checkpoint
from compaction.columns import ColumnFile
from compaction.compact import Compacted, Compaction, Frozen, Purge, Stopped
from engram.errors import EngramError
from engram.memory.columns import compact, from_named
from engram.memory.decide import NoteCompaction
from engram.memory.events import MemoryRestored, SpaceCompacted
from engram.memory.payload import PayloadError, decode_batch, encode_batch
from engram.memory.purges import redacted
from engram.memory.retention import floor as oldest_to_keep
from engram.memory.state import Frozen as FrozenState
from engram.memory.state import State, StateError
from engram.spaces.identity import Identity
from wal.codec import Record
from wal.errors import Damaged, Decayed, WalError
from wal.live_set import CHECKPOINT_DIR, LOG_DIR
from wal.manifest import Manifest, SealedSegment
from wal.replay import Start
from wal.vfs import Buffer, Directory

if TYPE_CHECKING:
    from engram.spaces.machine import Committed
    from engram.spaces.store import Store

T = TypeVar("T")
TAIL_BYTES_MAX: Final = 16 << 20
"""A longer tail behind the newest checkpoint is compacted by itself, unless that is much larger."""
TAIL_SHARE: Final = 0.5
CLOSING_TAIL_BYTES_MIN: Final = 4 << 20
"""A tail this long is compacted when the space is closed, so that it opens at once."""

NOTICED_BYTES: Final = 1 << 20
"""How much is written before the length of the tail is looked at again."""

NOTED_MAX: Final = 16
"""Events of the last compactions that are remembered, for the receipts of purges."""

STOPPED_WITHIN_S: Final = 0.1
"""A compaction that waits for another space's looks so often whether its own is being closed."""

_LOG: Final = logging.getLogger("engram.spaces")
_ONE_AT_A_TIME = threading.Semaphore()


def _begin_anew() -> None:
    """In a forked child nobody would ever release what a thread of its parent held."""
    global _ONE_AT_A_TIME
    _ONE_AT_A_TIME = threading.Semaphore()


os.register_at_fork(after_in_child=_begin_anew)


def state_of(identity: Identity, file: ColumnFile) -> State:
    """The state that a checkpoint holds. Raises :class:`wal.errors.Damaged`."""
    try:
        columns = from_named({name: file.column(name) for name in file.names})
        return State.of(identity.memory_space_id, identity.embedding.dimensions, columns)
    except (KeyError, ValueError, StateError) as error:
        raise Damaged(file.where, 0, f"its columns make no state: {error}") from error


def begin(
    identity: Identity, space_dir: Directory, take: Callable[[State], None]
) -> Callable[[Manifest], Start]:
    """What has the log begin with the newest checkpoint that can be used."""
    return lambda manifest: begin_with_newest(
        space_dir,
        manifest,
        identity.uuid_bytes,
        lambda file: take(state_of(identity, file)),
    )


class Compactor:
    """Compacts one open space. Thread-safe."""

    def __init__(self, store: Store, space_dir: Directory) -> None:
        self._store = store
        self._space_dir = space_dir
        self._running = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._counting = threading.Lock()
        self.waiting = 0
        self._began = 0
        self._noticed = 0
        self.noted: dict[int, Committed] = {}
        self._purging: Mapping[str, int] = {}
        self._restored: Sequence[int] = ()
        self._last: tuple[int, Compacted] | None = None

    @property
    def tail_bytes(self) -> int:
        """Bytes of the log behind the newest checkpoint: what opening replays."""
        log = self._store.log
        stands = log.checkpoints[-1].position if log.checkpoints else 0
        covered = sum(s.length for _, s, _ in log.sealed if s.next_position <= stands + 1)
        return log.size_bytes - covered

    @property
    def due(self) -> bool:
        """Whether the tail is so long that it should be compacted."""
        checkpoints = self._store.log.checkpoints
        size = checkpoints[-1].length if checkpoints else 0
        return self.tail_bytes > max(TAIL_BYTES_MAX, TAIL_SHARE * size)

    def run(self) -> Compacted:
        """Compact now. Who comes while a compaction runs gets the result of the next one, together
        with all others who wait.
        """
        with self._counting:
            began = self._began
            self.waiting += 1
        with self._running:
            with self._counting:
                self.waiting -= 1
            if self._last is not None and self._last[0] > began:
                return self._last[1]  # it began after we asked
            turn = _ONE_AT_A_TIME
            while not turn.acquire(timeout=STOPPED_WITHIN_S):
                self.check("seal")
            try:
                self._began += 1
                self._last = self._began, self._compact()
            finally:
                turn.release()
            return self._last[1]

    def notice(self) -> None:
        """Compact in a thread of its own once the tail is long. For the writer, after a group."""
        size = self._store.log.active_bytes
        if 0 <= size - self._noticed < NOTICED_BYTES:
            return
        self._noticed = size
        if self.due:
            self.start()

    def start(self) -> None:
        """Compact in a thread of its own, unless one does. Never raises. Called where the space is
        opened, or in the writer's thread.
        """
        if self._thread is not None or self._stopping:
            return
        name = f"engram-compactor-{self._store.identity.memory_space_id}"
        thread = threading.Thread(target=self._in_background, name=name, daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError:
            self._thread = None

    @property
    def runs(self) -> bool:
        return self._running.locked() or self._thread is not None

    def close(self) -> None:
        """Compact a long tail, so that the space opens at once; no failure of that matters."""
        if not self._stopping and self.tail_bytes > CLOSING_TAIL_BYTES_MIN:
            try:
                self.run()
            except (EngramError, WalError, Stopped, OSError) as error:
                self._warn(error)

    def stop(self) -> None:
        """Have a running compaction give up, and wait for it."""
        self._stopping = True
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        with self._running:
            pass

    def _in_background(self) -> None:
        try:
            self.run()
        except (EngramError, WalError, Stopped, OSError) as error:
            self._warn(error)
        finally:
            self._thread = None

    def _warn(self, error: Exception) -> None:
        space_id = self._store.identity.memory_space_id
        _LOG.warning("compacting space %s did not succeed: %s", space_id, error)

    def _compact(self) -> Compacted:
        store = self._store
        compaction = Compaction(
            store.log,
            self._space_dir,
            store.identity.uuid_bytes,
            self,
            self,
            now_ns=store.now_ns(),
        )
        try:
            done = compaction.run()
            if done.written:
                store.pasts.let_go(store.identity.uuid)  # they may be mapped from files that go
                self._adopt()
        except Damaged as error:
            store.log.poison(f"what was verified once no longer is: {error}", Decayed)
            raise
        if done.written:
            noted = store.commit(NoteCompaction(self._told(done)))
            # Another compaction may let go of the event before it is read.
            self.noted = {**dict(list(self.noted.items())[-NOTED_MAX:]), noted.ack.position: noted}
        return done

    def _told(self, done: Compacted) -> SpaceCompacted:
        """The event; with a purge in it, what has been made for that."""
        pending = [p for p in self._store.state.purges.pending if p <= done.position]
        files = [(f"{CHECKPOINT_DIR}/{each.name}", each.crc) for each in done.written]
        files += [(f"{LOG_DIR}/{each.name}", each.final_crc) for each in done.rewritten]
        return SpaceCompacted(
            checkpoint_position=done.position,
            oldest_position=done.oldest_position,
            checkpoint_bytes=self._store.log.checkpoints[-1].length,
            purged_to=max(pending, default=0),
            files=tuple(files) if pending else (),
        )

    def _adopt(self) -> None:
        """Go on with the state that the newest checkpoint holds, so that its rows need no memory
        of their own and what was dropped is gone from it too.
        """
        store = self._store
        checkpoint = store.log.checkpoints[-1]
        file = open_checkpoint(self._space_dir, checkpoint, store.identity.uuid_bytes)
        state = state_of(store.identity, file)
        self._replay(state, store.log.durable_position)

        def take_over() -> None:
            self._replay(state, store.log.durable_position)
            store.take_over(state)

        self.call(take_over)

    def _replay(self, state: State, position: int) -> None:
        """Apply what the log has behind a state, up to a position, and publish it."""
        for record in self._store.log.read(state.view.position + 1):
            if record.position > position:
                break
            try:
                state.apply(decode_batch(record.payload), record.position, record.time_ns)
            except (PayloadError, StateError) as error:
                raise Damaged("log", record.offset, str(error)) from error
        state.publish()

    # What a compaction asks for: see compaction.compact.Access and Source.

    def call(self, what: Callable[[], T]) -> T:
        return self._store.call(what)

    def check(self, stage: str) -> None:
        if self._stopping:
            raise Stopped(f"the space is being closed; stopped before stage {stage!r}")

    def freeze(self) -> Frozen:
        if self._store.state.deleted:
            # A checkpoint does not say so, and nothing may follow the deletion.
            raise Stopped("the space was deleted")
        frozen = self._store.state.freeze()
        self._restored = frozen.restored.tolist()
        pending = frozen.purges.pending
        self._purging = {each.id: position for position, each in sorted(pending.items()) if each.id}
        return Frozen(
            lambda drop_to: self._columns(frozen, drop_to),
            self._purge(frozen, self._purging) if pending else None,
        )

    def _columns(self, frozen: FrozenState, drop_to: int) -> Columns:
        """What rows are mapped from may have decayed since it was opened: copied into a checkpoint
        of its own, that would look whole. Raises :class:`wal.errors.Damaged`.
        """
        store = self._store
        for checkpoint in store.log.checkpoints[-1:]:
            open_checkpoint(self._space_dir, checkpoint, store.identity.uuid_bytes).verify()
        return compact(frozen, drop_to, ended_to=self._ended_to(drop_to)).named()

    def _purge(self, frozen: FrozenState, purged_at: Mapping[str, int]) -> Purge:
        rows = [each.row for each in frozen.purges.pending.values() if each.row is not None]
        positions = {position for row in rows for position in frozen.view.history(row)}
        positions |= frozen.answers.stripped

        def redact(record: Record) -> Sequence[Buffer] | None:
            try:
                batch = redacted(decode_batch(record.payload), record.position, purged_at)
            except PayloadError as error:
                raise Damaged("log", record.offset, str(error)) from error
            return None if batch is None else encode_batch(batch)

        return Purge(positions, redact)

    def at(self, position: int) -> Columns:
        store = self._store
        state = State(store.identity.memory_space_id, store.identity.embedding.dimensions)
        for checkpoint in reversed(store.log.checkpoints):
            if checkpoint.position <= position:
                file = open_checkpoint(self._space_dir, checkpoint, store.identity.uuid_bytes)
                state = state_of(store.identity, file)
                break
        self._replay(state, position)
        purged = [each for each, at in self._purging.items() if at > position]
        back = self._restored_behind(position)
        ended_to = self._ended_to(position)
        return compact(state.freeze(), position, purged, back, ended_to).named()

    def _ended_to(self, drop_to: int) -> int:
        """Up to where what ended leaves no row: where history is going to begin, unless it begins
        there already. What ended before that and is still there has come along with a copy.
        """
        return drop_to if drop_to >= self._store.log.oldest_position else 0

    def _restored_behind(self, position: int) -> Iterator[str]:
        """The ids of what was restored behind a position. A restoration holds the memory whole, but
        not its links.
        """
        positions = {each for each in self._restored if each > position}
        for record in self._store.log.read(min(positions)) if positions else ():
            if record.position > max(positions):
                return
            try:
                events = decode_batch(record.payload).events
            except PayloadError as error:
                raise Damaged("log", record.offset, str(error)) from error
            for each in events:
                if isinstance(each, MemoryRestored):  # it may be redacted by now
                    yield each.id

    def floor(self, segments: Sequence[SealedSegment]) -> int:
        store = self._store
        held = [(each.first_position, each.next_position, each.time_ns) for each in segments]
        retention = store.state.settings.retention
        return oldest_to_keep(retention, store.log.durable_position, store.now_ns(), held)
