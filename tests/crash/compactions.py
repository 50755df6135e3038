"""Histories of a log that is compacted, shortened and purged, and what a crash in them may leave.

The state that the log adds up to is, here, the CRC of every payload by position: a checkpoint holds
those, a base what the log no longer has, and a purged record is one of zeros with the same place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from crc32c import crc32c

from compaction.checkpoint import Columns, begin_with_newest
from compaction.columns import ColumnFile
from compaction.compact import Compacted, Compaction, Frozen, Purge
from tests.crash.histories import (
    FIRST,
    SMALL,
    SPACE,
    UUID,
    Aftermath,
    Budget,
    aftermaths,
    draft,
    fresh_space,
    joined,
    new_nonce,
)
from wal.codec import Draft, Record
from wal.log import Log
from wal.manifest import SealedSegment
from wal.sim_vfs import SimCrash, SimDisk
from wal.vfs import Buffer


class Append(NamedTuple):
    """A synced group of records of these sizes."""

    sizes: tuple[int, ...]


class Compact(NamedTuple):
    """Compact, keeping the last `keep` segments of history (0: only what is in the checkpoint)."""

    keep: int = 99


class PurgeNth(NamedTuple):
    """Take the payload of the n-th record out of history."""

    number: int


class Reopen(NamedTuple):
    """Close the log and open it again."""


Step = Append | Compact | PurgeNth | Reopen
History = tuple[Step, ...]

GROUP: Final = Append((2_500, 30))
HISTORIES: Final[dict[str, History]] = {
    "compacted": (Append((10, 300)), Compact(), Append((20,)), Reopen(), Append((5,)), Compact()),
    "compacted over segments": (GROUP, GROUP, GROUP, Compact(), GROUP, Compact(), Reopen(), GROUP),
    "shortened": (
        *(GROUP, GROUP, GROUP, GROUP, Compact(1), Append((9,)), Reopen(), GROUP, GROUP),
        *(Compact(1), Append((9,)), Compact(0), Append((3,))),
    ),
    "purged": (GROUP, GROUP, GROUP, PurgeNth(2), Append((9,)), Reopen(), PurgeNth(5)),
    "purged behind a checkpoint": (
        *(GROUP, GROUP, Compact(), GROUP, GROUP, PurgeNth(1), Reopen()),
        *(Append((8,)), Compact(), PurgeNth(8), PurgeNth(4)),
    ),
    "purged in a base": (
        *(GROUP, GROUP, GROUP, GROUP, Compact(1), Append((4,)), PurgeNth(2)),
        *(PurgeNth(9), Append((8,))),
    ),
}


@dataclass
class Books:
    """What was submitted, how much of it is acknowledged, and what must be gone by now."""

    submitted: list[Draft] = field(default_factory=lambda: [FIRST])
    acknowledged: int = 1
    purging: set[int] = field(default_factory=set)
    purged: set[int] = field(default_factory=set)

    @property
    def key(self) -> tuple[object, ...]:
        return len(self.submitted), self.acknowledged, *self.purging, *self.purged


class Machine:
    """The state, as replayed: CRCs by the position of each record."""

    def __init__(self) -> None:
        self.positions: list[int] = []
        self.crcs: list[int] = []
        self.gone: set[int] = set()
        self.keep = 99
        self.purge: Purge | None = None
        self.log: Log | None = None

    def visit(self, record: Record) -> None:
        self.positions.append(record.position)
        self.crcs.append(crc32c(record.payload))

    def take(self, file: ColumnFile) -> None:
        self.positions = file.column("positions").tolist()
        self.crcs = file.column("crcs").tolist()

    def freeze(self) -> Frozen:
        positions, crcs = list(self.positions), list(self.crcs)
        purge, self.purge = self.purge, None
        return Frozen(lambda drop_to: self._columns(positions, crcs), purge)

    def at(self, position: int) -> Columns:
        assert self.log is not None
        before = [i for i, each in enumerate(self.positions) if each <= position]
        return self._columns([self.positions[i] for i in before], [self.crcs[i] for i in before])

    def _columns(self, positions: list[int], crcs: list[int]) -> Columns:
        values = [
            crc32c(b"") if p in self.gone else c for p, c in zip(positions, crcs, strict=True)
        ]
        yield "positions", np.array(positions, np.int64)
        yield "crcs", np.array(values, np.int64)

    def floor(self, segments: Sequence[SealedSegment]) -> int:
        assert self.log is not None
        if self.keep >= len(segments):
            return 1
        kept = segments[len(segments) - self.keep :]
        return kept[0].first_position if kept else segments[-1].next_position


class Direct:
    """The writer's thread is this one."""

    def call(self, what):  # type: ignore[no-untyped-def]
        return what()

    def check(self, stage: str) -> None:
        pass


def open_machine(disk: SimDisk, nonce: Callable[[], bytes] | None = None) -> tuple[Log, Machine]:
    machine, space_dir = Machine(), disk.root().open_dir(SPACE)
    log = Log.open(
        space_dir,
        space_uuid=UUID,
        owner="a test",
        visit=machine.visit,
        nonce=nonce or new_nonce(),
        now_ns=2_000,
        options=SMALL,
        restore=lambda manifest: begin_with_newest(space_dir, manifest, UUID, machine.take),
    )
    machine.log = log
    return log, machine


def compact(disk: SimDisk, log: Log, machine: Machine, purge: Purge | None = None) -> Compacted:
    space_dir = disk.root().open_dir(SPACE)
    machine.purge = purge
    return Compaction(log, space_dir, UUID, Direct(), machine, now_ns=3_000).run()


def redact_at(position: int) -> Callable[[Record], Sequence[Buffer] | None]:
    return lambda record: [] if record.position == position else None


def play(disk: SimDisk, history: Sequence[Step], books: Books) -> None:
    """Run a history. On a crash, `books` say what had been promised."""
    nonce = new_nonce()
    log, machine = open_machine(disk, nonce)
    for step in history:
        match step:
            case Append(sizes):
                first = len(books.submitted)
                drafts = [draft(first + i, size) for i, size in enumerate(sizes)]
                books.submitted += drafts
                acks = log.append(drafts)
                log.sync()
                machine.positions += [ack.position for ack in acks]
                machine.crcs += [crc32c(joined(each)) for each in drafts]
                books.acknowledged = len(books.submitted)
            case Compact(keep):
                machine.keep = keep
                compact(disk, log, machine)
            case PurgeNth(number):
                position = machine.positions[number]
                books.purging.add(number)
                machine.gone.add(position)
                machine.keep = 99
                compact(disk, log, machine, Purge([position], redact_at(position)))
                machine.crcs[number] = crc32c(b"")
                books.purged.add(number)
            case Reopen():
                gone = machine.gone
                log.close()
                log, machine = open_machine(disk, nonce)
                machine.gone = gone
    log.close()


def crashes(name: str, history: History, budget: Budget) -> Iterator[Aftermath]:
    """Every crash point of a history, with outcomes."""
    point = 0
    while True:
        point += 1
        for after in (False, True):
            disk, books = fresh_space(), Books()
            disk.crash_at(point, after=after)
            try:
                play(disk, history, books)
            except SimCrash:
                path = f"{name}@{point}{'-+'[after]}"
                yield from aftermaths(disk, books, path, budget)  # type: ignore[arg-type,misc]
            else:
                return


def check(disk: SimDisk, books: Books) -> None:
    """Open what a crash left, hold it against the books, and go on from there."""
    log, machine = open_machine(disk)
    check_state(machine, books)
    check_history(log, machine)
    check_nothing_is_left_over(disk, log)
    held, oldest = list(machine.crcs), log.oldest_position
    log.close()
    log, again = open_machine(disk)
    assert again.crcs == held, "opening twice gives something else than once"
    assert log.oldest_position == oldest
    extra = [draft(900, 70), draft(901, 3_000)]
    log.append(extra)
    log.sync()
    again.positions += [0, 0]
    again.crcs += [crc32c(joined(each)) for each in extra]
    compact(disk, log, again)
    log.close()
    log, last = open_machine(disk)
    assert last.crcs == [*held, *(crc32c(joined(each)) for each in extra)]
    log.close()
    assert not disk.misuses, disk.misuses


def check_state(machine: Machine, books: Books) -> None:
    """Everything acknowledged, in order; and what was purged is gone, if that was said."""
    whole = [crc32c(joined(each)) for each in books.submitted]
    found = machine.crcs
    assert len(found) >= books.acknowledged, "an acknowledged record is lost"
    assert len(found) <= len(whole)
    for number, crc in enumerate(found):
        if number in books.purged:
            assert crc == crc32c(b""), f"record {number} was purged and is there"
        elif number in books.purging:
            assert crc in {crc32c(b""), whole[number]}
        else:
            assert crc == whole[number], f"record {number} is not what was submitted"


def check_history(log: Log, machine: Machine) -> None:
    """What the log still holds is what the state says, up to its end."""
    read = [(r.position, crc32c(r.payload)) for r in log.read(log.oldest_position)]
    known = list(zip(machine.positions, machine.crcs, strict=True))
    assert read == [each for each in known if each[0] >= log.oldest_position]


def check_nothing_is_left_over(disk: SimDisk, log: Log) -> None:
    """Files are live, or gone: nothing that was let go of takes room, or keeps purged bytes."""
    space_dir = disk.root().open_dir(SPACE)
    with closing(space_dir.open_dir("log")) as folder:
        live = {segment.name for _, segment, _ in log.sealed}
        assert len(folder.names()) == len(live) + 1
        assert live <= set(folder.names())
    if space_dir.exists("checkpoints"):
        with closing(space_dir.open_dir("checkpoints")) as folder:
            assert folder.names() == sorted(each.name for each in log.checkpoints)


def live_bytes(disk: SimDisk) -> bytes:
    """All bytes of all files of the space."""

    def walk(contents: object) -> Iterator[bytes]:
        if isinstance(contents, dict):
            for each in contents.values():
                yield from walk(each)
        elif isinstance(contents, bytes):
            yield contents

    return b"\0".join(walk(disk.contents()))
