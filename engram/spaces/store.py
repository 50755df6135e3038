"""One open space: its log, the state replayed from it, and the one writer that joins them.

The store is where bytes become memories and back. Commands go through the group committer; what it
has made durable is applied to the state, and readers see only that. :class:`engram.spaces.space`
is the public face; nothing else holds a store.
"""

from __future__ import annotations

import os
import secrets
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Final, TypeVar

from compaction.compact import Stopped
from engram.errors import (
    EngramError,
    SpaceDamaged,
    SpaceLocked,
    SpaceNotFound,
    Unavailable,
)
from engram.feed.feed import Feed
from engram.feed.telling import Told, tell
from engram.memory.answering import Keyed
from engram.memory.decide import Command, Observe
from engram.memory.model import Compaction, Event, SpaceState
from engram.memory.payload import PayloadError, decode_batch
from engram.memory.quotas import NO_QUOTAS, Quotas
from engram.memory.state import State, StateError
from engram.memory.view import View
from engram.spaces.compactor import Compactor, begin
from engram.spaces.consolidator import Consolidator
from engram.spaces.footprint import Footprint, footprint
from engram.spaces.forgetting import Forgetter
from engram.spaces.identity import Identity
from engram.spaces.log_errors import REOPEN, error_for
from engram.spaces.machine import Committed, Machine, Timed
from engram.spaces.past import PastStates
from engram.spaces.room import Room
from engram.spaces.sweeper import Sweeper
from wal import errors as wal_errors
from wal.codec import Record
from wal.commit import GroupCommitter
from wal.log import NO_DESCRIPTOR, Log
from wal.opened import DEFAULT_OPTIONS, Ack, LogOptions
from wal.vfs import Directory

NONCE_BYTES: Final = 16
T = TypeVar("T")
Clock = Callable[[], int]
"""Nanoseconds since the epoch."""
_OPEN_HERE: Final[dict[str, int]] = {}
"""Uuids of the spaces open in this process, each with its pid: a forked child has none of them."""


class StoreClosed(Unavailable):
    """This store was closed before it took what it was asked to do. Another one may take it."""


class Store:
    """See the module. `clock` is the only source of time."""

    def __init__(
        self,
        space_dir: Directory,
        identity: Identity,
        *,
        feed: Feed,
        owner: str,
        pasts: PastStates,
        sweeper: Sweeper | None = None,
        quotas: Quotas = NO_QUOTAS,
        clock: Clock = time.time_ns,
        options: LogOptions = DEFAULT_OPTIONS,
        though_damaged: bool = False,
    ) -> None:
        """Own, recover and replay the folder. Of one that is damaged, `though_damaged` serves, for
        reading, what a checkpoint holds. Raises what :func:`translated` turns errors into.
        """
        self.identity = identity
        self.pasts = pasts
        self._space_dir = space_dir
        self.state = State(identity.memory_space_id, identity.embedding.dimensions)
        with _told_of_ourselves(identity), translated(identity.memory_space_id):
            self.log = Log.open(
                space_dir,
                space_uuid=identity.uuid_bytes,
                owner=owner,
                visit=self._replay,
                nonce=lambda: secrets.token_bytes(NONCE_BYTES),
                now_ns=clock(),
                options=options,
                restore=begin(identity, space_dir, self._take),
                though_damaged=though_damaged,
            )
        try:
            self.state.publish()
        except BaseException:
            self.log.close()
            raise
        self.opened_damaged = self.log.failure is not None
        feed.begin(self.log.durable_position)
        self._name = feed.space
        self._feed = feed
        # Not held by its compactor: a cycle would keep the memory of a closed space for a while.
        self.compactor = Compactor(weakref.proxy(self), space_dir)
        self.consolidator = Consolidator(self, sweeper)
        self.forgetter = Forgetter(self, sweeper)
        noticing = (self.compactor.notice, self.forgetter.notice, self.consolidator.notice)
        log = self.log
        self.default_quotas = quotas
        room = Room(identity.memory_space_id, log, quotas)
        self._machine = Machine(
            identity.memory_space_id, self.state, feed, noticing, lambda: log.time_ns, room
        )
        self._committer = GroupCommitter(
            self.log, self._machine, name=f"engram-writer-{identity.memory_space_id}"
        )
        self._clock = clock
        self._measured: tuple[View, Footprint] | None = None
        self.closing = False
        _OPEN_HERE[identity.uuid] = os.getpid()
        if self.state.purges.pending and not self.opened_damaged:
            self.compactor.start()  # what a crash or a full disk has interrupted
        self.forgetter.notice()
        self.consolidator.notice()

    @property
    def quotas(self) -> Quotas:
        """Those that hold, with the defaults where the space has none of its own."""
        return self.state.settings.quotas.over(self.default_quotas)

    def now_ns(self) -> int:
        return self._clock()

    @property
    def space_dir(self) -> Directory:
        """The space's folder, to read from while the store is pinned."""
        return self._space_dir

    def commit(self, command: Command | Keyed) -> Committed:
        """Run `command` and return once its events are durable and applied.

        Raises what :func:`engram.memory.decide.decide` refuses with, and
        :class:`engram.errors.DiskFull`, `OutcomeUnknown` or `Unavailable`; :class:`StoreClosed` if
        it came too late, and was not so much as looked at.
        """
        with self._translated():
            try:
                ticket = self._committer.submit(Timed(command, self._clock()))
            except wal_errors.Closed as error:
                raise self._too_late(error) from error
            return ticket.result()

    def _too_late(self, error: wal_errors.Closed) -> Exception:
        failure = self.log.failure
        if failure is not None and not isinstance(failure, wal_errors.Closed):
            return type(failure)(str(failure))  # which kept it from being closed
        return StoreClosed(str(error), memory_space_id=self.identity.memory_space_id)

    def observe(self, command: Observe) -> bool:
        """Have `command` recorded without waiting for it; whether it will be, but for a crash."""
        return self._committer.observe(Timed(command, self._clock()))

    def events(self, from_position: int) -> Generator[Told, None, None]:
        """The durable events from a position on, as of this call, as the feed tells them."""
        with self._translated():
            self.check_history()
            try:
                for record in self.log.read(from_position):
                    batch = decode_batch(record.payload)
                    for entry in tell(batch, self._name, record.position, record.time_ns):
                        if entry.position >= from_position:
                            yield entry
            except OSError as error:
                raise self._unreadable(error) from error

    @property
    def condition(self) -> tuple[SpaceState, str | None]:
        """The space's state, and what is wrong if it is not `active`."""
        failure = self.log.failure
        if isinstance(failure, wal_errors.Decayed):
            return "damaged", str(failure)
        if isinstance(failure, wal_errors.Poisoned):
            return "poisoned", f"{failure}. {REOPEN}"
        if self._committer.no_room:
            return "read_only", "no room was left on the disk; writes work again once there is some"
        return "active", None

    def check_history(self) -> None:
        """Raise :class:`engram.errors.SpaceDamaged` if history is known not to verify any more."""
        failure = self.log.failure
        if isinstance(failure, wal_errors.Decayed):
            raise error_for(failure, self.identity.memory_space_id)

    def check_readable(self) -> None:
        """Read all of a history that did not verify once more, from the disk. Raises
        :class:`engram.errors.SpaceDamaged` if it still does not.
        """
        if isinstance(self.log.failure, wal_errors.Decayed):
            with translated(self.identity.memory_space_id):
                try:
                    for _ in self.log.read(self.log.oldest_position):
                        pass
                except OSError as error:
                    raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> EngramError:
        space_id = self.identity.memory_space_id
        if error.errno in NO_DESCRIPTOR:
            return Unavailable(
                f"the log of space {space_id!r} cannot be read now: {error.strerror}. Raise the "
                "limit (ulimit -n), or open fewer streams at once",
                memory_space_id=space_id,
            )
        return SpaceDamaged(
            f"the log of space {space_id!r} cannot be read: {error.strerror or error}",
            memory_space_id=space_id,
        )

    def record(self, position: int) -> Committed:
        """The durable record that holds a position."""
        with self._translated():
            record = next(self.log.read(position))
            batch = decode_batch(record.payload)
            return Committed(batch, Ack(record.position, record.events, record.time_ns))

    def event(self, position: int) -> Event:
        """The durable event at a position."""
        with closing(self.events(position)) as events:
            return next(events).event

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """As :func:`translated`; whoever comes too late for a deleted space is told just that."""
        try:
            with translated(self.identity.memory_space_id):
                yield
        except Unavailable as error:
            if self.state.deleted:
                raise was_deleted(self.identity.memory_space_id) from error
            raise

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the space takes, about, with past states of it that are kept; files
        mapped into it left out.
        """
        return self.footprint.held + self.pasts.nbytes_of(self.identity.uuid)

    @property
    def footprint(self) -> Footprint:
        """What the state takes in memory, as of the last publication."""
        measured, view = self._measured, self.state.view
        if measured is None or measured[0] is not view:
            measured = self._measured = (view, footprint(self.state))
        return measured[1]

    def retire(self) -> bool:
        """Close a space that is well, with all that is queued stored; whether it was closed. One
        that is not stays as it is, and so does one whose last writes fail now.
        """
        if self.condition[0] != "active" or self.compactor.runs or self.consolidator.runs:
            return False
        self.closing = True
        self.consolidator.stop()
        self.compactor.stop()
        self._committer.close()
        if self.log.failure is not None:
            return False
        self._shut()
        return True

    def close(self) -> None:
        self.consolidator.stop()
        if self.condition[0] == "active" and not self.state.deleted:
            self.compactor.close()
        self.compactor.stop()
        self._shut()

    def _shut(self) -> None:
        self.closing = True
        self._committer.close()
        self.pasts.let_go(self.identity.uuid)
        _OPEN_HERE.pop(self.identity.uuid, None)
        try:
            self.log.close()
        finally:
            self._space_dir.close()

    def call(self, what: Callable[[], T]) -> T:
        """Run something in the writer's thread, between two groups."""
        return self._committer.call(what)

    def compact(self) -> Compaction:
        """Compact now, in this thread. Raises :class:`engram.errors.DiskFull`, `SpaceDamaged`,
        `OutcomeUnknown` and `Unavailable` (the space is being closed).
        """
        started = time.perf_counter()
        self.forgetter.sweep_if_possible()
        with self._translated():
            try:
                done = self.compactor.run()
            except Stopped as error:
                raise wal_errors.Closed(str(error)) from error
            except OSError as error:
                raise self._unreadable(error) from error
        checkpoints = self.log.checkpoints
        return Compaction(
            memory_space_id=self.identity.memory_space_id,
            checkpoint_position=done.position,
            oldest_position=self.log.oldest_position,
            checkpoint_bytes=checkpoints[-1].length,
            checkpoints_bytes=sum(each.length for each in checkpoints),
            log_bytes=self.log.size_bytes,
            segments_retired=done.retired_segments,
            took_ms=round((time.perf_counter() - started) * 1_000, 3),
        )

    def take_over(self, state: State) -> None:
        """Go on with another state that holds the same. For the writer's thread."""
        self.state = state
        self._machine.state = state
        self._feed.trim()

    def _take(self, state: State) -> None:
        self.state = state

    def _replay(self, record: Record) -> None:
        try:
            batch = decode_batch(record.payload)
            self.state.apply(batch, record.position, record.time_ns)
        except (PayloadError, StateError) as error:
            raise wal_errors.Damaged("log", record.offset, str(error)) from error


def was_deleted(memory_space_id: str) -> SpaceNotFound:
    return SpaceNotFound(
        f"space {memory_space_id!r} was deleted. Restore it to use it again, if it was not purged",
        memory_space_id=memory_space_id,
    )


@contextmanager
def _told_of_ourselves(identity: Identity) -> Iterator[None]:
    """Say so where it is this very process that has a space open."""
    try:
        yield
    except SpaceLocked as error:
        if _OPEN_HERE.get(identity.uuid) == os.getpid():
            raise SpaceLocked(
                f"space {identity.memory_space_id!r} is already open in this process, by another "
                "Database. Use that one, or close it first",
                memory_space_id=identity.memory_space_id,
            ) from error
        raise


@contextmanager
def translated(memory_space_id: str) -> Iterator[None]:
    """Turn the log's errors into those that users meet."""
    try:
        yield
    except EngramError:
        raise
    except wal_errors.WalError as error:
        raise error_for(error, memory_space_id) from error
