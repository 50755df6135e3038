"""Every call to the disk that can fail, failing: once or for good, in every place of a history.

Whatever fails, nothing acknowledged is lost, nothing that failed definitely comes back, and the
only errors are those the log documents.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import pytest

from tests.crash.histories import (
    SPACE,
    Books,
    Budget,
    Fact,
    aftermaths,
    check,
    check_reads,
    draft,
    fresh_space,
    joined,
    make_space,
    new_nonce,
    open_log,
    recover,
)
from wal import sim_vfs
from wal.codec import Draft
from wal.errors import DiskFull, NoDescriptor, OutcomeUnknown, Poisoned, WalError
from wal.log import NO_ROOM, Log
from wal.sim_vfs import SimCrash, SimDisk, keep_everything, lose_everything

OPERATIONS = sorted(sim_vfs._OPERATIONS)
CODES = (errno.EIO, errno.ENOSPC, errno.EMFILE)
GROUPS = [(400, 30), (2_500, 3_000), (60,), (1_000, 5), (6_000,), (8,)]
LIVES = 2


class Failure(NamedTuple):
    op: str
    nth: int
    code: int
    persistent: bool

    def __str__(self) -> str:
        often = "for good" if self.persistent else "once"
        return f"{self.op} #{self.nth} {errno.errorcode[self.code]} {often}"


class Owner:
    """Somebody who uses a log by the book, over two openings, whatever its calls say."""

    def __init__(self, disk: SimDisk) -> None:
        self.disk = disk
        self.books = Books()
        self.refused: set[bytes] = set()
        self.errors: list[Exception] = []
        self._nonce = new_nonce()
        self._number = 0

    def live(self) -> None:
        for _ in range(LIVES):
            found: list[Fact] = []
            handles = opened_handles(self.disk)
            try:
                log = open_log(self.disk, lambda r: found.append(Fact.of(r)), nonce=self._nonce)  # noqa: B023
            except (WalError, OSError) as error:
                self.errors.append(error)
                assert opened_handles(self.disk) == handles, "a failed opening leaves files open"
                continue
            self._took_over(found)
            for sizes in GROUPS:
                self._group(log, sizes)
            log.close()

    def _took_over(self, found: list[Fact]) -> None:
        """What an opening shows is settled: the rest of what was submitted is gone for good."""
        payloads = [fact.payload for fact in found]
        expected = [joined(submitted) for submitted in self.books.submitted]
        assert payloads == expected[: len(payloads)]
        assert len(payloads) >= self.books.acknowledged
        self.refused.update(expected[len(payloads) :])
        del self.books.submitted[len(payloads) :]
        self.books.acknowledged = len(payloads)

    def _group(self, log: Log, sizes: tuple[int, ...]) -> None:
        drafts = []
        for size in sizes:
            self._number += 1
            drafts.append(unique_draft(self._number, size))
        poisoned = log.failure is not None
        if not poisoned:
            self.books.submitted += drafts
        try:
            log.append(drafts)
            log.sync()
        except (DiskFull, NoDescriptor) as error:
            self.errors.append(error)
            assert log.failure is None, "a full disk is not the end of a log"
            self.refused.update(map(joined, drafts))
            del self.books.submitted[-len(drafts) :]
        except Poisoned as error:
            self.errors.append(error)
            assert log.failure is not None
        else:
            assert not poisoned
            self.books.acknowledged = len(self.books.submitted)


def unique_draft(number: int, size: int) -> Draft:
    """A record whose payload no other has, however small."""
    made = draft(number, size)
    return made._replace(payload=[b"%06d" % number, *made.payload])


def opened_handles(disk: SimDisk) -> int:
    return sum(handle._is_open for handle in disk.handles)  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def handles_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each disk lists the handles that were opened on it, in `handles`."""
    first = sim_vfs._Handle.__init__

    def init(self: sim_vfs._Handle, disk: SimDisk, path: str) -> None:
        first(self, disk, path)
        if path not in ("sim:", f"sim:/{SPACE}"):  # those are the test's own
            disk.__dict__.setdefault("handles", []).append(self)

    monkeypatch.setattr(sim_vfs._Handle, "__init__", init)


def failures(op: str, code: int, persistent: bool) -> Iterator[tuple[Failure, Owner]]:
    """Each place where that operation can fail, and what became of its owner."""
    for nth in count(1):
        disk = fresh_space()
        disk.__dict__["handles"] = []
        failure = Failure(op, nth, code, persistent)
        disk.fail(op, nth, code, persistent=persistent)
        owner = Owner(disk)
        try:
            owner.live()
        except Exception as error:
            raise AssertionError(f"{failure}: {error!r}") from error
        if not owner.errors and disk._failures[0].calls_left > 0:
            return
        yield failure, owner


def check_what_is_left(failure: Failure, owner: Owner) -> None:
    disk, books = owner.disk, owner.books
    disk.heal()
    for how, found in [
        ("same boot", disk.clone()),
        ("power cut, nothing more written", disk.crash(lose_everything())),
        ("power cut, everything written", disk.crash(keep_everything())),
    ]:
        try:
            check(found.clone(), books)
            _, facts = recover(found)
            assert owner.refused.isdisjoint(fact.payload for fact in facts)
        except Exception as error:
            raise AssertionError(f"{failure}, then {how}: {error!r}") from error
    assert not disk.misuses


@pytest.mark.parametrize("persistent", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize("op", OPERATIONS)
def test_whatever_call_fails_nothing_acknowledged_is_lost(
    op: str, code: int, persistent: bool
) -> None:
    for failure, owner in failures(op, code, persistent):
        check_what_is_left(failure, owner)


def logged(disk: SimDisk) -> list[bytes]:
    """What the log holds after the power was cut."""
    log, facts = recover(disk.crash(lose_everything()))
    log.close()
    return [fact.payload for fact in facts]


@pytest.mark.parametrize("persistent", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize(
    ("op", "sizes"),
    [
        ("write_at", (20,)),
        ("allocate", (20,)),
        ("create", (5_000,)),  # the new segment, or else the manifest
        ("rename", (5_000,)),
    ],
)
@pytest.mark.parametrize("code", sorted(NO_ROOM), ids=errno.errorcode.get)
@pytest.mark.parametrize("nth", [1, 2])
def test_a_full_disk_refuses_definitely_and_needs_no_reopening(
    op: str, sizes: tuple[int, ...], nth: int, code: int, persistent: bool
) -> None:
    disk = fresh_space()
    log = open_log(disk)
    before = [unique_draft(n, size) for n, size in enumerate(sizes)]
    log.append(before)
    log.sync()
    disk.fail(op, nth, code, persistent=persistent)
    refused: list[bytes] = []
    for number in range(10, 40):  # until a group fails; large ones, so that each rotates
        group = [unique_draft(number, 6_000), unique_draft(number + 100, 3)]
        try:
            log.append(group)
            log.sync()
        except DiskFull:
            refused += map(joined, group)
            break
        before += group
    assert refused, "the failure was never met"
    assert log.failure is None
    disk.heal()
    after = unique_draft(50, 700)
    log.append([after])
    log.sync()
    check_reads(log, recover(disk.clone())[1])
    assert logged(disk)[1:] == [joined(made) for made in [*before, after]]


@pytest.mark.parametrize("room", [0, 1, 511, 1_500, 5_000, 9_000, 20_000])
def test_a_disk_that_fills_up_and_is_freed_again_loses_nothing(room: int) -> None:
    disk = fresh_space()
    log = open_log(disk)
    disk.capacity = disk.used() + room
    stored, refused = [joined(draft(0, 0))][:0], 0
    for number in range(30):
        group = [unique_draft(number, 300), unique_draft(number + 100, 1_100)]
        if number == 20:
            disk.capacity = None
        try:
            log.append(group)
            log.sync()
        except DiskFull:
            refused += 1
        else:
            stored += map(joined, group)
        assert [bytes(r.payload) for r in log.read(1)][1:] == stored
    assert refused >= 5
    assert logged(disk)[1:] == stored


@pytest.mark.parametrize("limit", [1, 7, 512, 4_095])
def test_short_writes_are_continued(limit: int) -> None:
    disk = SimDisk()
    disk.short_writes(limit)
    make_space(disk)
    log = open_log(disk)
    drafts = [unique_draft(n, 2_500) for n in range(4)]
    for made in drafts:
        log.append([made])
        log.sync()
    assert logged(disk)[1:] == [joined(made) for made in drafts]


@pytest.mark.parametrize("op", ["write_at", "allocate", "sync_data"])
def test_an_error_that_leaves_the_disk_unknown_stops_all_writing(op: str) -> None:
    disk = fresh_space()
    log = open_log(disk)
    log.append([unique_draft(1, 10)])
    log.sync()
    disk.fail(op, 1, errno.EIO)
    with pytest.raises(OutcomeUnknown):
        _append_and_sync(log, unique_draft(2, 9_000))
    for _ in range(2):  # the disk is well again, which proves nothing
        with pytest.raises(Poisoned):
            _append_and_sync(log, unique_draft(3, 10))
        with pytest.raises(Poisoned):
            log.sync()
    assert [bytes(record.payload) for record in log.read(2)] == [joined(unique_draft(1, 10))]
    log.close()
    assert logged(disk)[1] == joined(unique_draft(1, 10))


def _append_and_sync(log: Log, made: Draft) -> None:
    log.append([made])
    log.sync()


@pytest.mark.parametrize("op", ["create", "rename"])
@pytest.mark.parametrize("nth", [1, 2])
def test_without_a_free_descriptor_a_segment_grows_instead(op: str, nth: int) -> None:
    disk = fresh_space()
    log = open_log(disk)
    disk.fail(op, nth, errno.EMFILE)
    drafts = [unique_draft(n, 6_000) for n in range(4)]
    for made in drafts:
        _append_and_sync(log, made)
    assert log.failure is None
    assert logged(disk)[1:] == [joined(made) for made in drafts]


@pytest.mark.parametrize("op", ["truncate", "sync_data"])
def test_a_log_whose_end_cannot_be_trimmed_closes_all_the_same(op: str) -> None:
    disk = fresh_space()
    log = open_log(disk)
    _append_and_sync(log, unique_draft(1, 10))
    disk.fail(op, 1, errno.EIO)
    log.close()
    log.close()
    assert logged(disk)[1:] == [joined(unique_draft(1, 10))]


def test_a_torn_tail_is_set_aside_though_the_quarantine_was_removed() -> None:
    disk = fresh_space()
    _append_and_sync(open_log(disk), unique_draft(1, 10))
    disk = disk.crash(lose_everything())
    space_dir = disk.root().open_dir(SPACE)
    space_dir.remove_tree("quarantine")
    log_dir = space_dir.open_dir("log")
    file = log_dir.open(log_dir.names()[0], writable=True)
    file.write_at(file.size() - 9, b"garbage")
    log, facts = recover(disk)
    assert log.opened.quarantined is not None
    assert facts[1].payload == joined(unique_draft(1, 10))
    assert space_dir.open_dir("quarantine").names() == [log.opened.quarantined]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize(
    ("op", "nth"), [("write_at", 2), ("write_at", 5), ("allocate", 2), ("create", 1), ("sync", 3)]
)
def test_a_crash_while_a_failure_is_being_dealt_with_is_just_another_crash(
    op: str, nth: int, code: int
) -> None:
    """Cutting back, poisoning, going on and reopening, each cut short by the loss of power."""
    failures_met = 0
    for point in count(1):
        disk = fresh_space()
        disk.__dict__["handles"] = []
        disk.fail(op, nth, code)
        disk.crash_at(point, after=point % 2 == 0)
        owner = Owner(disk)
        try:
            owner.live()
        except SimCrash:
            failures_met += bool(owner.errors)
        else:
            break
        for aftermath in aftermaths(disk, owner.books, f"{point}", Budget(few=10, samples=4)):
            try:
                check(aftermath.disk, owner.books)
            except Exception as error:
                where = f"{op} #{nth} {errno.errorcode[code]}, crash {aftermath.path}"
                raise AssertionError(f"{where}: {error!r}") from error
    assert failures_met > 5
