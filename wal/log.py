"""The log of one space: created once, opened by one owner, appended to in groups.

Appending is two calls, `append` and `sync`, so that one sync can cover many records. What `append`
wrote is *staged*: it counts for the next append but is invisible to every reader until `sync` has
made it durable. When a write fails definitely (disk full) the file is cut back to the durable
length and nothing of the group remains. When anything leaves the disk's state unknown the log is
poisoned: nothing is retried, and only closing and recovering it helps.

Not thread-safe for writing (one writer, see :mod:`wal.commit`); reading is safe from any thread,
because readers see only an immutable :class:`wal.reader.Durable` snapshot.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Final

from wal import format as f
from wal.codec import Draft, Record, encode_record
from wal.errors import (
    Closed,
    Damaged,
    Decayed,
    DiskFull,
    NoDescriptor,
    OutcomeUnknown,
    Poisoned,
    PositionOutOfRange,
    ReadOnly,
    Truncated,
)
from wal.live_set import CHECKPOINT_DIR, LOG_DIR, Change, Sealed, plan_change, sealed_as
from wal.manifest import Checkpoint, Manifest
from wal.opened import DEFAULT_OPTIONS, Ack, LogOptions, Opened, opened_of
from wal.reader import Durable, Places, read_on
from wal.recovery import SetAside
from wal.replay import (
    SEEK_STEP_BYTES,
    LiveLog,
    Restore,
    Visit,
    from_the_log,
    may_stand,
    publish_manifest,
    read_checkpoint_only,
    read_live,
    set_aside_tail,
)
from wal.retire import remove_retired, set_aside_checkpoints
from wal.segment import (
    TMP_SUFFIX,
    Chain,
    next_header,
    prepare_segment,
    publish_segment,
    write_all,
)
from wal.vfs import Buffer, Directory, File, Lock
from wal.watermark import Watermark, write_watermark

LOCK_NAME: Final = "LOCK"
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE})

Nonce = Callable[[], bytes]


class Log:
    """See the module. Made by :meth:`open`."""

    def __init__(
        self,
        space_dir: Directory,
        log_dir: Directory,
        lock: Lock,
        live: LiveLog,
        file: File,
        opened: Opened,
        nonce: Nonce,
        options: LogOptions,
    ) -> None:
        self._space_dir = space_dir
        self._log_dir = log_dir
        self._lock = lock
        self._file = file
        self._nonce = nonce
        self._options = options
        self._manifest_number = live.manifest.number
        self._checkpoints = tuple(
            each for each in live.manifest.checkpoints if each.name not in live.start.unusable
        )
        unusable = [f"{CHECKPOINT_DIR}/{name}" for name in live.start.unusable]
        self._retired = (*live.manifest.retired, *unusable)
        self._segment_id_max = max(segment.header.segment_id for segment in live.segments)
        self._places: Places = {}
        self._watermark = live.watermark
        self._allocated = live.size
        self._staged = live.active.chain
        self._seek = list(live.active.seek)
        self._durable = Durable(
            tuple((s.header, s.sealed(), tuple(s.seek)) for s in live.segments[:-1]),
            live.active.header,
            tuple(live.active.seek),
            live.active.chain,
            live.manifest.base_position,
        )
        self._failure: Poisoned | Closed | None = None
        self.opened = opened

    @classmethod
    def open(
        cls,
        space_dir: Directory,
        *,
        space_uuid: bytes,
        owner: str,
        visit: Visit,
        nonce: Nonce,
        now_ns: int,
        options: LogOptions = DEFAULT_OPTIONS,
        restore: Restore = from_the_log,
        though_damaged: bool = False,
    ) -> Log:
        """Own the folder, recover it and hand records to `visit`, oldest first: those behind the
        checkpoint that `restore` took up, or all.

        Of a log that is damaged, `though_damaged` gives what a whole checkpoint stands for: its
        failure is `Decayed` from the start, and nothing on disk is touched.
        Raises :class:`wal.errors.Locked`, :class:`wal.errors.ReadOnly`,
        :class:`wal.errors.Damaged` (nothing was changed) or :class:`wal.errors.Unsupported`.
        """
        lock = space_dir.lock(LOCK_NAME, owner)
        doing = "read"
        try:
            live = read_live(space_dir, space_uuid, visit, fresh=True, restore=restore)
            doing = "written"
            return cls._take_over(space_dir, lock, live, nonce, now_ns, options)
        except Damaged as damage:
            held = read_checkpoint_only(space_dir, space_uuid, restore) if though_damaged else None
            if held is None:
                lock.release()
                raise
            return cls._of_checkpoint(space_dir, lock, held, damage)
        except OSError as error:
            lock.release()
            if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
                raise ReadOnly(f"{space_dir.path} cannot be {doing}: {error.strerror}") from error
            if error.errno in NO_ROOM:
                raise DiskFull(f"no room to open {space_dir.path}: {error.strerror}") from error
            raise
        except BaseException:
            lock.release()
            raise

    @classmethod
    def _of_checkpoint(cls, space_dir: Directory, lock: Lock, held: LiveLog, why: Damaged) -> Log:
        log_dir = space_dir.open_dir(LOG_DIR)
        file, opened = log_dir.open(held.active.name), opened_of(held, None, 0)
        log = cls(space_dir, log_dir, lock, held, file, opened, lambda: b"", DEFAULT_OPTIONS)
        held_to = held.start.position
        log._failure = Decayed(f"{why}. What was stored up to position {held_to} can be read")
        return log

    @classmethod
    def _take_over(
        cls,
        space_dir: Directory,
        lock: Lock,
        live: LiveLog,
        nonce: Nonce,
        now_ns: int,
        options: LogOptions,
    ) -> Log:
        """Mend the end, clear left-over temporaries, publish what the manifest lacks."""
        plan, quarantined, set_aside_bytes = live.plan, None, 0
        leftovers = live.leftovers
        with ExitStack() as undo:
            log_dir = space_dir.open_dir(LOG_DIR)
            undo.callback(log_dir.close)
            for directory in (log_dir, space_dir):
                for name in directory.names():
                    if name.endswith(TMP_SUFFIX) or (directory is log_dir and name in leftovers):
                        directory.remove(name)
                # A process that was killed may have left names that the disk does not have yet.
                # What is built on them must not outlive them.
                directory.sync()
            set_aside_checkpoints(space_dir, live.manifest, live.start.unusable)
            if isinstance(plan, SetAside):
                quarantined = set_aside_tail(space_dir, live, plan)
                set_aside_bytes, live.size = live.size - plan.offset, plan.offset
            file = log_dir.open(live.active.name, writable=True)
            opened = opened_of(live, quarantined, set_aside_bytes)
            log = cls(space_dir, log_dir, lock, live, file, opened, nonce, options)
            undo.callback(lambda: log._file.close())
            if quarantined is not None:
                log._rotate(now_ns)
            elif live.manifest.active != live.active.name or live.start.unusable:
                log._publish_if_there_is_room()
            undo.pop_all()
        return log

    @property
    def next_position(self) -> int:
        """The position the next staged event will take."""
        return self._staged.next_position

    @property
    def durable_position(self) -> int:
        return self._durable.chain.next_position - 1

    @property
    def manifest_number(self) -> int:
        """The number of the manifest that is current."""
        return self._manifest_number

    @property
    def oldest_position(self) -> int:
        """Where the history that is held begins."""
        return self._durable.base_position + 1

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """The checkpoints that stand for what the log holds, by ascending position."""
        return self._checkpoints

    @property
    def sealed(self) -> tuple[Sealed, ...]:
        """The sealed segments, oldest first."""
        return self._durable.sealed

    @property
    def time_ns(self) -> int:
        """The time of the last staged record; the next one's is at least this."""
        return self._staged.time_ns

    @property
    def size_bytes(self) -> int:
        """Durable bytes of the log, headers included, preallocation left out."""
        return sum(segment.length for _, segment, _ in self._durable.sealed) + self.active_bytes

    @property
    def active_bytes(self) -> int:
        """Durable bytes of the active segment."""
        return self._durable.chain.offset

    @property
    def failure(self) -> Poisoned | Closed | None:
        """Why the log takes no more writes, if it does not."""
        return self._failure

    def append(self, drafts: Sequence[Draft]) -> list[Ack]:
        """Write records behind each other, not yet durable; see :meth:`sync`.

        Raises :class:`wal.errors.RecordTooLarge` before anything is written,
        :class:`wal.errors.DiskFull` or `NoDescriptor` with the log cut back to what is durable, and
        :class:`wal.errors.OutcomeUnknown` with the log poisoned for any other failure.
        """
        self._check()
        if not drafts:
            return []
        at = self._staged
        if at == self._durable.chain and at.offset >= self._options.segment_bytes:
            self._guarded(lambda: self._rotate_or_go_on(drafts[0].time_ns))
            at = self._staged
        seed = self._durable.active.seed
        synced = self.durable_position
        start, buffers, acks = at.offset, list[Buffer](), list[Ack]()
        seek: list[Chain] = []
        for draft in drafts:
            time_ns = max(draft.time_ns, at.time_ns)
            encoded, length, crc = encode_record(
                draft,
                position=at.next_position,
                time_ns=time_ns,
                synced_position=synced,
                prev_crc=at.prev_crc,
                seed=seed,
            )
            if at.offset - (seek or self._seek)[-1].offset >= SEEK_STEP_BYTES:
                seek.append(at)
            buffers += encoded
            acks.append(Ack(at.next_position, draft.events, time_ns))
            at = Chain(at.next_position + draft.events, crc, time_ns, synced, at.offset + length)
        data = b"".join(buffers)
        self._guarded(lambda: self._write(start, data))
        self._staged = at
        self._seek += seek
        return acks

    def sync(self) -> None:
        """Make everything appended durable, and visible to readers.

        Raises :class:`wal.errors.OutcomeUnknown` and poisons the log if the sync fails.
        """
        self._check()
        if self._staged == self._durable.chain:
            return
        self._sync_file()
        durable = self._durable
        self._durable = replace(durable, seek=tuple(self._seek), chain=self._staged)

    def read(self, from_position: int) -> Iterator[Record]:
        """Durable records from the one that holds `from_position` on, as of this call.

        `from_position` may be one past the end (nothing is yielded). Payloads are views; copy
        what is to be kept. Raises :class:`wal.errors.PositionOutOfRange`, `Truncated` for what
        history no longer holds (also while iterating, when it is let go of meanwhile); and while
        iterating :class:`wal.errors.Closed`, or `Damaged` for bytes that decayed since they were
        verified.
        """
        durable = self._durable
        end = durable.chain.next_position
        if not 1 <= from_position <= end:
            raise PositionOutOfRange(f"position {from_position} is not within 1 to {end}")
        if from_position < self.oldest_position:
            raise Truncated(from_position, self.oldest_position)
        return self._read(from_position)

    def _read(self, from_position: int) -> Iterator[Record]:
        try:
            yield from read_on(self._log_dir, lambda: self._durable, from_position, self._places)
        except Damaged as damage:
            if self._failure is None:
                self._failure = Decayed(f"history no longer verifies: {damage}")
            raise
        except OSError:
            if isinstance(self._failure, Closed):
                raise Closed(str(self._failure)) from None
            raise

    def seal(self, now_ns: int) -> int:
        """Start a new segment, unless the active one is empty. Returns the last position before it.

        Like :meth:`append` it is for the one writer, with nothing staged, and raises as that does.
        """
        self._check()
        if self._staged.next_position > self._durable.active.first_position:
            self._guarded(lambda: self._rotate(now_ns))
        return self.durable_position

    def change(self, change: Change) -> None:
        """Publish other live files; :meth:`remove_retired` comes next. For the writer.

        Raises :class:`wal.errors.DiskFull` or `NoDescriptor` with nothing changed, `OutcomeUnknown`
        with the log poisoned, ValueError for a change that would lose history.
        """
        self._check()
        durable, before = self._durable, (self._durable, self._checkpoints, self._retired)
        changed = plan_change(durable.sealed, self._checkpoints, change)
        base = max((each.position for each in change.checkpoints if each.base), default=0)
        self._durable = replace(durable, sealed=changed.sealed, base_position=base)
        self._checkpoints, self._retired = change.checkpoints, (*self._retired, *changed.retired)
        try:
            self._publish()
        except OSError as error:
            refused = error.errno in NO_ROOM | NO_DESCRIPTOR
            if not refused or may_stand(self._space_dir, self._manifest_number + 1):
                raise self._poison("changing the live files", error) from error
            self._durable, self._checkpoints, self._retired = before
            kind = NoDescriptor if error.errno in NO_DESCRIPTOR else DiskFull
            raise kind(f"the live files stay as they were: {error.strerror}") from error

    def remove_retired(self) -> tuple[str, ...]:
        """Remove what was let go of; from any thread: it takes its time. Returns what stays."""
        self._retired = remove_retired(self._space_dir, self._log_dir, self._retired)
        return self._retired

    def reserve_segment_id(self) -> int:
        """An id for the copy of a segment, which no other segment gets. For the writer."""
        self._segment_id_max += 1
        return self._segment_id_max

    def mark(self) -> None:
        """Write the watermark, when there is time. It is a lower bound: failing is no harm."""
        position = self.durable_position
        if self._failure is not None or position <= self._watermark.position:
            return
        watermark = Watermark(self._watermark.number + 1, position)
        with suppress(OSError):  # the next has the same number then, so that the whole slot stays
            write_watermark(self._space_dir, self._durable.active.space_uuid, watermark)
            self._watermark = watermark

    def poison(self, reason: str, kind: type[Poisoned] = Poisoned) -> None:
        """Refuse all further writes: whoever uses the log can no longer vouch for its state."""
        if self._failure is None:
            self._failure = kind(reason)

    def close(self) -> None:
        """Release the folder; unless poisoned, trim the preallocated end first. Idempotent."""
        if isinstance(self._failure, Closed):
            return
        try:
            if self._failure is None and self._staged == self._durable.chain:
                self._trim()
                self.mark()
        except (OSError, Poisoned):
            pass  # all that was promised is durable, and zeros behind it are a clean end too
        finally:
            self._failure = Closed("the log is closed; open the space again")
            self._file.close()
            self._log_dir.close()
            self._lock.release()

    def _trim(self) -> None:
        if self._allocated > self._durable.chain.offset:
            self._file.truncate(self._durable.chain.offset)
            self._sync_file()
            self._allocated = self._durable.chain.offset

    def _rotate_or_go_on(self, now_ns: int) -> None:
        """Rotate; with no descriptor free, let the segment grow until the next group tries."""
        try:
            self._rotate(now_ns)
        except OSError as error:
            if error.errno not in NO_DESCRIPTOR:
                raise

    def _rotate(self, now_ns: int) -> None:
        """Seal the active segment, which is wholly durable, and start its successor."""
        self._trim()
        durable = self._durable
        old, chain = durable.active, durable.chain
        header = next_header(old, chain, self.reserve_segment_id(), self._nonce(), now_ns)
        file = prepare_segment(self._log_dir, header)
        try:
            publish_segment(self._log_dir, header)
        except OSError as error:
            file.close()
            if not self._log_dir.exists(header.name):
                raise  # a temporary file is all there is
            # The name may or may not be durable. To go on in the old segment could leave a
            # successor that contradicts it.
            raise self._poison("starting a segment", error) from error
        self._file.close()
        self._file = file
        self._allocated = f.SEGMENT_HEADER_BYTES
        sealed = sealed_as(old, chain)
        self._staged = Chain.start(
            header, time_ns=chain.time_ns, synced_position=chain.synced_position
        )
        self._seek = [self._staged]
        self._durable = replace(
            durable,
            sealed=(*durable.sealed, (old, sealed, durable.seek)),
            active=header,
            seek=(self._staged,),
            chain=self._staged,
        )
        self._publish()

    def _publish_if_there_is_room(self) -> None:
        """A full disk must not prevent reading: the chain proves what the manifest lacks."""
        try:
            self._publish()
            self.remove_retired()
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise

    def _publish(self) -> None:
        durable = self._durable
        manifest = Manifest(
            number=self._manifest_number + 1,
            space_uuid=durable.active.space_uuid.hex(),
            sealed=tuple(segment for _, segment, _ in durable.sealed),
            active=durable.active.name,
            checkpoints=self._checkpoints,
            retired=self._retired,
        )
        publish_manifest(self._space_dir, manifest)
        self._manifest_number = manifest.number

    def _write(self, start: int, data: bytes) -> None:
        end = start + len(data)
        if end > self._allocated:
            options = self._options
            step = min(max(start, options.allocate_bytes_min), options.allocate_bytes_max)
            target = -(-end // step) * step
            self._file.allocate(self._allocated, target - self._allocated)
            self._allocated = target
        write_all(self._file, start, data)

    def _guarded(self, effect: Callable[[], None]) -> None:
        """Run a write so that it fails either definitely (nothing remains) or by poisoning."""
        try:
            effect()
        except OSError as error:
            if error.errno not in NO_ROOM | NO_DESCRIPTOR:
                raise self._poison("a write", error) from error
            try:
                self._file.truncate(self._durable.chain.offset)
                self._file.sync_data()
            except OSError as second:
                raise self._poison("cutting back what was not stored", second) from second
            self._allocated = self._durable.chain.offset
            self._staged = self._durable.chain
            self._seek = list(self._durable.seek)
            kind = NoDescriptor if error.errno in NO_DESCRIPTOR else DiskFull
            raise kind(
                f"{kind.lack} for {self._space_dir.path}: {error.strerror}. Nothing of the "
                f"request was stored; {kind.advice} and repeat it"
            ) from error

    def _sync_file(self) -> None:
        try:
            self._file.sync_data()
        except OSError as error:
            raise self._poison("a sync", error) from error

    def _poison(self, what: str, error: OSError) -> OutcomeUnknown:
        message = f"{what} failed ({error.strerror or error}); close and reopen to see what is held"
        self._failure = Poisoned(message)
        return OutcomeUnknown(message)

    def _check(self) -> None:
        if self._failure is not None:
            raise type(self._failure)(str(self._failure))
