"""Which files of a log are live, when that changes: what is refused, and what readers see of it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from compaction.checkpoint import open_checkpoint
from compaction.compact import Purge
from tests.crash import compactions as c
from tests.crash.histories import SPACE, UUID, draft, fresh_space, joined
from tests.crash.test_damage import disk_of
from wal.codec import SegmentHeader
from wal.errors import Damaged, DiskFull, NoDescriptor, Poisoned, Truncated
from wal.live_set import Change, Sealed, plan_change, sealed_as
from wal.log import Log
from wal.manifest import Checkpoint
from wal.replay import Start
from wal.segment import Chain
from wal.sim_vfs import SimDisk


def sealed(segment_id: int, first: int, after: int) -> Sealed:
    header = SegmentHeader(UUID, segment_id, first, b"n" * 16, segment_id - 1, 0, 0, 0)
    return header, sealed_as(header, Chain(after, 7, 0, 0, 5_000)), ()


def checkpoint(position: int, *, base: bool = False) -> Checkpoint:
    return Checkpoint(name=f"{position}.ckpt", position=position, length=1, crc=1, base=base)


LOG = (sealed(1, 1, 5), sealed(2, 5, 9), sealed(3, 9, 12))


def test_what_is_let_go_of_is_retired_and_nothing_else() -> None:
    before = (checkpoint(4), checkpoint(8))
    change = Change((checkpoint(4, base=True), checkpoint(11)), {2: sealed(7, 5, 9)}, drop_to=4)
    changed = plan_change(LOG, before, change)
    assert [segment.segment_id for _, segment, _ in changed.sealed] == [7, 3]
    names = [f"log/{LOG[0][1].name}", f"log/{LOG[1][1].name}", "checkpoints/8.ckpt"]
    assert sorted(changed.retired) == sorted(names)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (Change((), {9: sealed(9, 5, 9)}), "not sealed"),
        (Change((), {2: sealed(7, 5, 8)}), "other positions"),
        (Change((), {2: sealed(7, 4, 9)}), "other positions"),
        (Change((checkpoint(4),), {}, drop_to=4), "no base"),
        (Change((checkpoint(4, base=True),), {}, drop_to=8), "no base"),
        (Change((checkpoint(6, base=True),), {}, drop_to=6), "begin behind"),
    ],
)
def test_a_change_that_would_lose_history_is_refused(change: Change, why: str) -> None:
    log = LOG if "behind" not in why else (sealed(2, 8, 9), sealed(3, 9, 12))
    with pytest.raises(ValueError, match=why):
        plan_change(log, (), change)


def compacted(*steps: c.Step) -> SimDisk:
    disk = fresh_space()
    c.play(disk, steps, c.Books())
    return disk


def test_history_that_a_checkpoint_stands_for_is_read_as_any_other() -> None:
    disk = compacted(c.GROUP, c.GROUP, c.GROUP, c.Compact(), c.Append((7,)))
    log, machine = c.open_machine(disk)
    positions = machine.positions
    assert log.opened.replayed_from > 1
    assert [r.position for r in log.read(1)] == positions
    for start in positions:
        assert [r.position for r in log.read(start)] == [p for p in positions if p >= start]
    log.close()


@pytest.mark.parametrize("cut", [False, True])
def test_damage_in_what_was_passed_over_is_found_by_who_reads_it(cut: bool) -> None:
    disk = compacted(c.GROUP, c.GROUP, c.Compact(), c.Append((7,)))
    contents: Any = disk.contents()[SPACE]
    name = min(contents["log"])
    data = bytearray(contents["log"][name])
    data[5_000] ^= 1
    contents["log"][name] = bytes(data[:-8] if cut else data)
    if cut:
        # Its length is known without reading it.
        with pytest.raises(Damaged, match="bytes; the manifest says"):
            Log.open(
                disk_of(contents).root().open_dir(SPACE),
                space_uuid=UUID,
                owner="a test",
                visit=lambda record: None,
                nonce=lambda: b"n" * 16,
                now_ns=1,
                restore=lambda manifest: Start(manifest.checkpoints[-1].position),
            )
        return
    log, _ = c.open_machine(disk_of(contents))
    with pytest.raises(Damaged):
        list(log.read(1))
    assert log.failure is not None, "nobody goes on as if nothing were wrong"
    log.close()


def test_who_reads_while_files_are_replaced_reads_on_in_the_new_ones() -> None:
    disk = compacted(c.GROUP, c.GROUP, c.GROUP)
    log, machine = c.open_machine(disk)
    reading = log.read(1)
    first = next(reading)
    position = machine.positions[4]
    machine.gone.add(position)
    c.compact(disk, log, machine, Purge([position], c.redact_at(position)))
    rest = list(reading)
    assert [first.position, *(r.position for r in rest)] == machine.positions
    assert {r.position: bytes(r.payload) for r in rest}[position] == b""
    log.close()


def test_who_reads_what_is_let_go_of_meanwhile_is_told_where_history_begins() -> None:
    disk = compacted(c.GROUP, c.GROUP, c.GROUP, c.GROUP)
    log, machine = c.open_machine(disk)
    reading = log.read(1)
    next(reading)
    machine.keep = 1
    c.compact(disk, log, machine)
    with pytest.raises(Truncated) as told:
        list(reading)
    assert told.value.oldest_position == log.oldest_position > 1
    log.close()


def test_a_purge_of_a_segment_that_no_longer_verifies_changes_nothing() -> None:
    disk = compacted(c.GROUP, c.GROUP, c.Compact())
    contents: Any = disk.contents()[SPACE]
    name = min(contents["log"])
    data = bytearray(contents["log"][name])
    data[-100] ^= 1
    contents["log"][name] = bytes(data)
    log, machine = c.open_machine(damaged := disk_of(contents))
    before = damaged.contents()
    position = machine.positions[1]
    with pytest.raises(Damaged):
        c.compact(damaged, log, machine, Purge([position], c.redact_at(position)))
    after: Any = damaged.contents()[SPACE]
    assert after["log"][name] == before[SPACE]["log"][name]  # type: ignore[index,call-overload]
    assert len(after["checkpoints"]) == 1
    log.close()


def missing(folder: dict[str, Any]) -> None:
    folder.clear()


def shorter(folder: dict[str, Any]) -> None:
    name = min(folder)
    folder[name] = folder[name][:-1]


def another(folder: dict[str, Any]) -> None:
    other = compacted(c.Append((9, 9, 9)), c.Compact()).contents()
    source: Any = other[SPACE]
    folder[min(folder)] = source["checkpoints"][min(source["checkpoints"])]


@pytest.mark.parametrize("change", [missing, shorter, another])
def test_only_the_checkpoint_that_is_named_is_taken(change: Callable[[Any], None]) -> None:
    disk = compacted(c.Append((7, 7, 7)), c.Compact())
    contents: Any = disk.contents()[SPACE]
    log, _ = c.open_machine(disk_of(contents))
    (named,) = log.checkpoints
    log.close()
    change(contents["checkpoints"])
    changed = disk_of(contents)
    with pytest.raises(Damaged, match="checkpoints/"):
        open_checkpoint(changed.root().open_dir(SPACE), named, UUID).verify()
    log, machine = c.open_machine(changed)
    assert log.checkpoints == ()
    assert len(machine.positions) == 4
    log.close()


OPS = ("write_at", "sync_data", "sync", "create", "rename", "remove", "open", "exists", "map")


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EMFILE])
@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("steps", [(), (c.Compact(), c.GROUP)], ids=["first", "again"])
def test_whatever_call_fails_while_compacting_nothing_is_lost(
    op: str, code: int, steps: tuple[c.Step, ...]
) -> None:
    for number in range(1, 60):
        disk = compacted(c.GROUP, c.GROUP, *steps)
        log, machine = c.open_machine(disk)
        wanted, positions = list(machine.crcs), list(machine.positions)
        disk.fail(op, number, code)
        try:
            c.compact(disk, log, machine)
        except (OSError, Poisoned, DiskFull, NoDescriptor, Damaged):
            failed = True
        else:
            failed = False
        log.close()
        log, machine = c.open_machine(disk.clone())
        assert machine.crcs == wanted
        assert [r.position for r in log.read(1)] == positions
        log.append([draft(5, 10)])
        log.sync()
        assert bytes(list(log.read(log.durable_position))[-1].payload) == joined(draft(5, 10))
        log.close()
        if not failed and number > 8:
            break
