"""One log, used by the book: appending, reading, rotating, reopening."""

from __future__ import annotations

import errno
import threading

import pytest

from tests.crash.histories import (
    FIRST,
    SMALL,
    SPACE,
    UUID,
    Books,
    Fact,
    check_facts,
    check_reads,
    draft,
    fresh_space,
    joined,
    open_log,
    recover,
)
from wal import format as f
from wal.codec import Draft
from wal.errors import (
    Closed,
    Damaged,
    DiskFull,
    Foreign,
    Locked,
    Poisoned,
    PositionOutOfRange,
    ReadOnly,
    RecordTooLarge,
)
from wal.log import Log
from wal.opened import DEFAULT_OPTIONS, Ack
from wal.replay import SEEK_STEP_BYTES, read_manifest
from wal.sim_vfs import SimDisk


def append(log: Log, *sizes: int, start: int = 100) -> list[Draft]:
    drafts = [draft(start + number, size) for number, size in enumerate(sizes)]
    log.append(drafts)
    log.sync()
    return drafts


def segment_names(disk: SimDisk) -> list[str]:
    return disk.root().open_dir(SPACE).open_dir("log").names()


def test_a_new_log_holds_the_record_it_was_born_with() -> None:
    disk = fresh_space()
    log, facts = recover(disk)
    assert facts == [Fact(1, FIRST.events, FIRST.time_ns, joined(FIRST))]
    assert (log.next_position, log.durable_position, log.time_ns) == (2, 1, FIRST.time_ns)
    assert (log.opened.records, log.opened.segments) == (1, 1)
    assert log.opened.quarantined is None


def test_an_append_says_where_each_record_went() -> None:
    log = open_log(fresh_space())
    acks = log.append([Draft([b"a"], 3, 5_000), Draft([b"b"], 1, 4_000), Draft([b"c"], 2, 6_000)])
    assert acks == [Ack(2, 3, 5_000), Ack(5, 1, 5_000), Ack(6, 2, 6_000)], "time stands, not back"
    assert [ack.last_position for ack in acks] == [4, 5, 7]
    assert log.next_position == 8


def test_nothing_is_visible_before_the_sync() -> None:
    log = open_log(fresh_space())
    log.append([draft(1, 10)])
    assert log.durable_position == 1
    assert [r.position for r in log.read(1)] == [1]
    with pytest.raises(PositionOutOfRange):
        log.read(3)
    log.sync()
    assert log.durable_position == 3
    assert [r.position for r in log.read(1)] == [1, 2]


def test_appending_nothing_is_nothing() -> None:
    disk = fresh_space()
    log = open_log(disk)
    append(log, 7_000)  # the next append rotates
    before = disk.mutations
    assert log.append([]) == []
    log.sync()
    assert disk.mutations == before


@pytest.mark.parametrize("position", [-1, 0, 10, 1 << 70])
def test_reading_outside_the_log_is_refused(position: int) -> None:
    log = open_log(fresh_space())
    append(log, 10)
    with pytest.raises(PositionOutOfRange):
        log.read(position)


def test_reading_starts_with_the_record_that_holds_the_position() -> None:
    disk = fresh_space()
    log = open_log(disk)
    for start in range(100, 160, 4):
        append(log, 900, 20, 3_000, 1, start=start)
    facts = [Fact.of(record) for record in log.read(1)]
    assert len(segment_names(disk)) > 5
    for index, fact in enumerate(facts):
        for position in range(fact.position, fact.position + fact.events):
            assert [Fact.of(r) for r in log.read(position)] == facts[index:]


def test_reading_from_far_into_a_long_segment_needs_no_reading_from_its_start() -> None:
    disk = fresh_space()
    log = open_log(disk, options=DEFAULT_OPTIONS)
    for start in range(100, 200, 5):
        append(log, *[20_000] * 5, start=start)
    facts = [Fact.of(record) for record in log.read(1)]
    log.close()
    log, found = recover(disk, DEFAULT_OPTIONS)
    assert found == facts
    assert len(log._seek) > 1_900_000 // SEEK_STEP_BYTES - 2
    for index in range(0, len(facts), 9):
        assert [Fact.of(r) for r in log.read(facts[index].position)] == facts[index:]


def test_a_reader_sees_the_log_as_it_was_when_it_began() -> None:
    log = open_log(fresh_space())
    append(log, 10, 20)
    reading = log.read(1)
    assert next(reading).position == 1
    append(log, 8_000)
    append(log, 30)  # in a new segment
    assert len(list(reading)) == 2
    assert len(list(log.read(1))) == 5


def test_readers_on_other_threads_see_whole_prefixes_while_segments_come_and_go() -> None:
    disk = fresh_space()
    log = open_log(disk)
    started, done = threading.Barrier(3), threading.Event()
    problems: list[object] = []

    def read() -> None:
        started.wait()
        last = 0
        while not done.is_set():
            end = log.durable_position
            found = [Fact.of(record) for record in log.read(1)]
            positions = [fact.position for fact in found]
            following = [fact.position + fact.events for fact in found]
            if positions[1:] != following[:-1] or following[-1] - 1 < max(end, last):
                problems.append(positions)
            last = following[-1] - 1

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    started.wait()
    refused = 0
    for number in range(60):
        if number % 10 == 3:
            disk.fail("write_at", 1, errno.ENOSPC)  # cut back under the readers
        try:
            append(log, 10, 700, 1_500, start=100 + 3 * number)
        except DiskFull:
            refused += 1
    done.set()
    for thread in threads:
        thread.join()
    assert problems == []
    assert refused == 6
    assert len(segment_names(disk)) > 10


def test_segments_are_sealed_by_size_and_named_in_the_manifest() -> None:
    disk = fresh_space()
    log = open_log(disk)
    for start in range(100, 110):
        append(log, 1_500, start=start)
    names = segment_names(disk)
    manifest = read_manifest(disk.root().open_dir(SPACE))
    assert [segment.name for segment in manifest.sealed] == names[:-1]
    assert manifest.active == names[-1]
    log.close()
    sizes = [
        disk.root().open_dir(SPACE).open_dir("log").open(name).size()
        for name in segment_names(disk)
    ]
    assert sizes[:-1] == [segment.length for segment in manifest.sealed]
    assert all(SMALL.segment_bytes <= size < SMALL.segment_bytes + 1_600 for size in sizes[:-1])
    log, _ = recover(disk)
    assert log.size_bytes == log.opened.bytes == sum(sizes), "closing trims the preallocation"


def test_five_boots_lose_nothing() -> None:
    disk = fresh_space()
    books = Books()
    for boot in range(5):
        log, facts = recover(disk)
        check_facts(facts, books)
        assert len(facts) == len(books.submitted)
        books.submitted += append(log, 600, 2_500, start=100 + 2 * boot)
        books.acknowledged = len(books.submitted)
        log.close()
    log, facts = recover(disk)
    check_facts(facts, books)
    check_reads(log, facts)


def test_a_second_owner_is_told_who_the_first_is() -> None:
    disk = fresh_space()
    log = open_log(disk)
    with pytest.raises(Locked, match="a test"):
        open_log(disk)
    log.close()
    open_log(disk).close()


def test_a_closed_log_is_closed() -> None:
    log = open_log(fresh_space())
    append(log, 10)
    reading = log.read(1)
    log.close()
    log.close()
    assert isinstance(log.failure, Closed)
    for use in (lambda: log.append([draft(1, 1)]), log.sync, lambda: list(log.read(1))):
        with pytest.raises(Closed):
            use()
    with pytest.raises(Closed):
        next(reading)


@pytest.mark.parametrize(
    "too_large",
    [Draft([bytes(f.PAYLOAD_BYTES_MAX + 1)], 1, 0), Draft([], f.EVENTS_PER_RECORD_MAX + 1, 0)],
    ids=["bytes", "events"],
)
def test_a_record_too_large_leaves_nothing_of_its_group(too_large: Draft) -> None:
    disk = fresh_space()
    log = open_log(disk)
    before = disk.contents()
    with pytest.raises(RecordTooLarge):
        log.append([draft(1, 10), too_large])
    log.sync()
    assert disk.contents() == before
    assert log.next_position == 2
    append(log, 10)
    check_reads(log, recover(disk.clone())[1])


def test_bytes_that_decay_under_a_reader_stop_it_and_all_writing() -> None:
    disk = fresh_space()
    log = open_log(disk)
    append(log, 100)
    append(log, 100, start=200)
    name = segment_names(disk)[0]
    file = disk.root().open_dir(SPACE).open_dir("log").open(name, writable=True)
    record = list(log.read(1))[1]
    file.write_at(record.offset + 80, b"decayed")
    with pytest.raises(Damaged) as caught:
        list(log.read(1))
    assert (caught.value.file, caught.value.offset) == (f"log/{name}", record.offset)
    with pytest.raises(Poisoned, match="no longer verifies"):
        append(log, 10)


def test_the_folder_of_another_space_is_refused_untouched() -> None:
    disk = fresh_space()
    before = disk.contents()
    with pytest.raises(Damaged, match="uuid"):
        Log.open(
            disk.root().open_dir(SPACE),
            space_uuid=bytes(16),
            owner="",
            visit=lambda record: None,
            nonce=lambda: bytes(16),
            now_ns=0,
        )
    space = disk.contents()[SPACE]
    assert isinstance(space, dict)
    space.pop("LOCK")
    assert {SPACE: space} == before


def test_a_segment_of_another_space_is_foreign_and_named() -> None:
    disk, other = fresh_space(), SimDisk()
    from tests.crash.histories import make_space

    make_space(other, uuid=bytes(16))
    name = segment_names(disk)[0]
    data = other.root().open_dir(SPACE).open_dir("log").open(name)
    log_dir = disk.root().open_dir(SPACE).open_dir("log")
    log_dir.remove(name)
    log_dir.create(name).write_at(0, data.read_at(0, data.size()))
    with pytest.raises(Foreign) as caught:
        open_log(disk)
    assert caught.value.file == f"log/{name}"
    assert UUID.hex() not in str(caught.value)


@pytest.mark.parametrize(
    ("op", "code"),
    [
        (op, code)
        for op in ("lock", "open", "sync")
        for code in (errno.EROFS, errno.EACCES, errno.EPERM)
        if (op, code) != ("lock", errno.EPERM)  # the simulated lock knows only the other two
    ],
)
def test_a_folder_that_cannot_be_written_is_read_only(op: str, code: int) -> None:
    disk = fresh_space()
    disk.fail(op, 1, code)
    with pytest.raises(ReadOnly):
        open_log(disk)
    open_log(disk).close()


def test_opening_on_a_full_disk_says_so_and_can_be_repeated() -> None:
    disk = fresh_space()
    log = open_log(disk)
    log.append([draft(2, 3_000)])
    disk = disk.clone()
    file = disk.root().open_dir(SPACE).open_dir("log").open(segment_names(disk)[0], writable=True)
    file.truncate(file.size() - 1_800)  # torn
    disk.capacity = disk.used()
    for _ in range(2):
        with pytest.raises(DiskFull):
            open_log(disk)
    disk.capacity = None
    log, facts = recover(disk)
    assert len(facts) == 1
    assert log.opened.quarantined is not None


def test_a_full_disk_does_not_prevent_reading_what_the_manifest_does_not_name_yet() -> None:
    disk = fresh_space()
    log = open_log(disk)
    append(log, 7_000)
    disk.fail("create", 2, errno.ENOSPC, persistent=True)  # the new segment, then the manifest
    with pytest.raises(DiskFull):
        append(log, 5, start=200)
    append(log, 5, start=200)
    log.close()
    disk.heal()
    disk.capacity = disk.used()
    log, facts = recover(disk)
    assert len(facts) == 3
    assert log.opened.segments == 2
    check_reads(log, facts)
    with pytest.raises(DiskFull):
        append(log, 500, start=300)
    disk.capacity = None
    append(log, 6_000, start=300)
    append(log, 5, start=400)
    assert read_manifest(disk.root().open_dir(SPACE)).active == segment_names(disk)[-1]
    log.close()
    assert len(recover(disk)[1]) == 5


def test_damage_that_only_the_visitor_sees_names_the_segment() -> None:
    disk = fresh_space()
    log = open_log(disk)
    append(log, 7_000)
    append(log, 5, start=200)
    record = list(log.read(1))[-1]
    log.close()

    def visit(found: object) -> None:
        if found.position == record.position:  # type: ignore[attr-defined]
            raise Damaged("log", 0, "it makes no sense")

    with pytest.raises(Damaged, match="no sense") as caught:
        open_log(disk, visit)
    assert caught.value.file == f"log/{segment_names(disk)[-1]}"
    assert caught.value.offset == record.offset
    open_log(disk).close()
