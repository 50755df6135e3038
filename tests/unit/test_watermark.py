"""The watermark: what it proves, and that it never proves too much."""

from __future__ import annotations

import pytest

from tests.crash.histories import SPACE, UUID, fresh_space, open_log, recover
from tests.crash.machines import Recorder, Write
from wal.commit import GroupCommitter
from wal.errors import Damaged
from wal.sim_vfs import SimDisk, lose_everything
from wal.vfs import Directory
from wal.watermark import (
    NOTHING,
    SLOT_BYTES,
    WATERMARK_NAME,
    Watermark,
    decode_slots,
    encode_slot,
    read_watermark,
    write_watermark,
)


def space_dir(disk: SimDisk) -> Directory:
    return disk.root().open_dir(SPACE)


def test_two_slots_take_turns_and_the_newest_counts() -> None:
    disk = fresh_space()
    folder = space_dir(disk)
    for number in range(1, 6):
        write_watermark(folder, UUID, Watermark(number, number * 10))
        assert read_watermark(folder, UUID) == Watermark(number, number * 10)
    file = folder.open(WATERMARK_NAME)
    data = file.read_at(0, 2 * SLOT_BYTES)
    file.close()
    assert data == encode_slot(Watermark(4, 40), UUID) + encode_slot(Watermark(5, 50), UUID)


@pytest.mark.parametrize("at", range(44))
def test_a_flipped_bit_leaves_the_other_slot(at: int) -> None:
    newer = bytearray(encode_slot(Watermark(3, 30), UUID))
    newer[at] ^= 4
    older = encode_slot(Watermark(2, 20), UUID)
    assert decode_slots(older + bytes(newer), UUID) == Watermark(2, 20)
    assert decode_slots(bytes(newer), UUID) == NOTHING


def test_another_space_s_watermark_bounds_nothing() -> None:
    assert decode_slots(encode_slot(Watermark(3, 30), UUID), bytes(16)) == NOTHING
    assert decode_slots(b"", UUID) == NOTHING


def test_closing_marks_what_is_durable_and_a_crash_need_not() -> None:
    disk = fresh_space()
    log = open_log(disk)
    writer = GroupCommitter(log, Recorder(), name="writer")
    writer.submit(Write(b"a")).result()
    assert recovered_watermark(disk.clone().crash(lose_everything())) == 0
    writer.close()
    log.close()
    assert recovered_watermark(disk.clone().crash(lose_everything())) == log.durable_position


def recovered_watermark(disk: SimDisk) -> int:
    return read_watermark(space_dir(disk), UUID).position


def test_a_writer_that_falls_idle_marks_what_is_durable() -> None:
    disk = fresh_space()
    log = open_log(disk)
    writer = GroupCommitter(log, Recorder(), name="writer", idle_s=0.01)
    writer.submit(Write(b"a")).result()
    thread = writer._thread
    if thread is not None:
        thread.join()
    assert recovered_watermark(disk.clone().crash(lose_everything())) == log.durable_position
    writer.close()
    log.close()


@pytest.mark.parametrize("op", ["open", "create", "write_at", "sync_data", "sync"])
def test_a_watermark_that_cannot_be_written_hurts_nobody(op: str) -> None:
    disk = fresh_space()
    log = open_log(disk)
    GroupCommitter(log, Recorder(), name="writer").submit(Write(b"a")).result()
    disk.fail(op, 1, 5)
    log.mark()
    disk.heal()
    assert log.failure is None
    log.mark()
    assert read_watermark(space_dir(disk), UUID).position == log.durable_position
    log.close()


def test_what_a_watermark_knows_of_is_damage_and_not_a_torn_tail() -> None:
    disk = fresh_space()
    log = open_log(disk)
    GroupCommitter(log, Recorder(), name="writer").submit(Write(b"a")).result()
    end = log.size_bytes
    log.close()
    name = log._durable.active.name
    log_dir = space_dir(disk).open_dir("log")
    file = log_dir.open(name, writable=True)
    file.truncate(end - 8)
    file.sync_data()
    with pytest.raises(Damaged, match="was durable"):
        recover(disk)
