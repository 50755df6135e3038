"""Compacting a log: from its tail to a checkpoint, from old history to its base, and what is to be
purged out of both.

The stages, each of which may be the last before a crash; the same compaction then begins again:

    seal       the writer starts a new segment, and what the state is there is frozen
    base       if history begins later, or was purged: the state where it begins, as a checkpoint
    write      the frozen state as a checkpoint, written and read back while writes go on
    rewrite    if something is purged: copies of the segments that hold it
    publish    the writer publishes a manifest: the only commit point; what it let go of is removed,
               and with a purge all that lies in quarantine

Only `seal` and `publish` run in the writer's thread, and take as long as starting a segment does.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Sequence
from contextlib import closing, suppress
from typing import Final, NamedTuple, Protocol, TypeVar

import msgspec

from compaction.checkpoint import Columns, identity_of, remove_checkpoint, write_checkpoint
from compaction.rewrite import Redact, remove_copies, rewrite_segment
from wal.errors import DiskFull, WalError
from wal.live_set import LOG_DIR, Change, Sealed
from wal.log import NO_ROOM, Log
from wal.manifest import Checkpoint, SealedSegment
from wal.retire import clear_quarantine
from wal.vfs import Directory

T = TypeVar("T")
STAGES: Final = ("seal", "base", "write", "rewrite", "publish")
NONCE_BYTES: Final = 16


class Stopped(Exception):
    """The compaction was told to stop; nothing was changed."""


class Purge(NamedTuple):
    """What is to go from history: `positions` say where it is, `redact` takes it out of records."""

    positions: Collection[int]
    redact: Redact


class Frozen(NamedTuple):
    """A state that stays as it is. `columns` gives it without what is not needed once history
    begins behind a position; `purge` is what is to be purged with it.
    """

    columns: Callable[[int], Columns]
    purge: Purge | None = None


class Source(Protocol):
    """What is compacted: the state that the log adds up to."""

    def freeze(self) -> Frozen:
        """The state of now; called in the writer's thread."""

    def at(self, position: int) -> Columns:
        """The columns of the state at a position that the log still leads to, as those of a base
        there; without what is purged.
        """

    def floor(self, segments: Sequence[SealedSegment]) -> int:
        """The oldest position that has to be kept: that one of the segments begins with, or the
        next one behind them.
        """


class Access(Protocol):
    """How the log is reached."""

    def call(self, what: Callable[[], T]) -> T:
        """Run something in the writer's thread."""

    def check(self, stage: str) -> None:
        """Called before each stage; may raise :class:`Stopped`."""


class Compacted(NamedTuple):
    """What a compaction did. `written` are its new checkpoints; without any there was nothing to
    do. `position` is where the newest one stands, `oldest_position` where history begins now.
    """

    position: int
    oldest_position: int
    written: tuple[Checkpoint, ...] = ()
    retired_segments: int = 0
    rewritten: tuple[SealedSegment, ...] = ()


class Compaction:
    """One compaction of one log, to be run once."""

    def __init__(
        self,
        log: Log,
        space_dir: Directory,
        space_uuid: bytes,
        access: Access,
        source: Source,
        *,
        now_ns: int,
    ) -> None:
        self._log = log
        self._space_dir = space_dir
        self._space_uuid = space_uuid
        self._access = access
        self._source = source
        self._now_ns = now_ns
        self._written: list[Checkpoint] = []
        self._begun: list[str] = []
        self._copies: list[Sealed] = []
        self._published = False

    def run(self) -> Compacted:
        """Raises :class:`Stopped`, :class:`wal.errors.DiskFull`, `Damaged` and OSError, all with
        nothing changed; `OutcomeUnknown` with the log poisoned; and WalError if a file that holds
        what is purged is still there, though no part of the log any more.
        """
        try:
            return self._run()
        except OSError as error:
            if self._published:
                raise
            self._discard()
            if error.errno in NO_ROOM:
                raise DiskFull(
                    f"no room to compact: {error.strerror}. Everything is as it was; free some "
                    "space and try again"
                ) from error
            raise
        except (WalError, Stopped):
            if self._log.failure is None and not self._published:
                self._discard()
            raise

    def _run(self) -> Compacted:
        log = self._log
        self._access.check("seal")
        # What is sealed from here on lies behind the frozen state, and has to stay.
        position, frozen, before = self._access.call(
            lambda: (log.seal(self._now_ns), self._source.freeze(), log.sealed)
        )
        purge = frozen.purge
        sealed = [segment for _, segment, _ in before]
        oldest = log.oldest_position
        drop_to = max(self._source.floor(sealed), oldest) - 1
        newest = max(log.checkpoints, key=lambda each: each.position, default=None)
        up_to_date = newest is not None and newest.position == position
        if up_to_date and drop_to < oldest and purge is None:
            return Compacted(position, oldest)
        base = self._base(drop_to, position, anew=purge is not None)
        self._access.check("write")
        checkpoint = self._write(position, frozen.columns(drop_to), base=drop_to == position)
        # The one before the newest stays, but where it holds what is let go of.
        let_go = purge is not None or drop_to >= oldest
        kept = [] if let_go or newest is None else [newest]
        change = Change(
            _named(drop_to, *kept, *([base] if base else []), checkpoint),
            {} if purge is None else self._rewritten(purge, drop_to),
            drop_to,
        )
        self._access.check("publish")
        self._access.call(lambda: log.change(change))
        self._published = True
        left = log.remove_retired()
        if purge is not None:
            if left:
                raise WalError(f"{left[0]} cannot be removed; it holds what is purged. Try again")
            clear_quarantine(self._space_dir)
        gone = [segment for segment in sealed if segment.next_position <= drop_to + 1]
        return Compacted(
            position,
            log.oldest_position,
            tuple(self._written),
            len(gone),
            tuple(segment for _, segment, _ in self._copies),
        )

    def _base(self, drop_to: int, position: int, *, anew: bool) -> Checkpoint | None:
        """The checkpoint that history is to begin behind, if that is not the frozen state."""
        if drop_to in {0, position}:
            return None
        for checkpoint in self._log.checkpoints:
            if checkpoint.position == drop_to and checkpoint.base and not anew:
                return checkpoint
        self._access.check("base")
        return self._write(drop_to, self._source.at(drop_to), base=True)

    def _write(self, position: int, columns: Columns, *, base: bool) -> Checkpoint:
        number = self._log.manifest_number + 1
        identity = identity_of(self._space_uuid, position, self._now_ns, number)
        written = write_checkpoint(self._space_dir, identity, number, columns, base=base)
        self._written.append(written)
        return written

    def _rewritten(self, purge: Purge, drop_to: int) -> dict[int, Sealed]:
        """Copies of the segments that hold something to be purged, by the ids of the originals."""
        rewritten: dict[int, Sealed] = {}
        with closing(self._space_dir.open_dir(LOG_DIR)) as log_dir:
            for original in self._log.sealed:
                header, segment, _ = original
                held = range(max(segment.first_position, drop_to + 1), segment.next_position)
                if not any(position in held for position in purge.positions):
                    continue
                self._access.check("rewrite")
                nonce = secrets.token_bytes(NONCE_BYTES)
                segment_id = self._access.call(self._log.reserve_segment_id)
                self._begun.append(header._replace(segment_id=segment_id).name)
                copy = rewrite_segment(log_dir, original, segment_id, nonce, purge.redact)
                self._copies.append(copy)
                rewritten[header.segment_id] = copy
        return rewritten

    def _discard(self) -> None:
        """Remove what was made and will not be used. What remains goes when the log is opened."""
        with suppress(OSError):
            for checkpoint in self._written:
                remove_checkpoint(self._space_dir, checkpoint.name)
        with suppress(OSError), closing(self._space_dir.open_dir(LOG_DIR)) as log_dir:
            remove_copies(log_dir, self._begun)


def _named(drop_to: int, *checkpoints: Checkpoint) -> tuple[Checkpoint, ...]:
    """One checkpoint a position, ascending, from where history begins on; the later given win."""
    by_position = {each.position: each for each in checkpoints if each.position >= drop_to}
    return tuple(
        msgspec.structs.replace(each, base=bool(drop_to) and each.position == drop_to)
        for _, each in sorted(by_position.items())
    )
