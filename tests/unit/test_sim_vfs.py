"""A simulated process on the simulated disk: where it can be made to crash, and what can fail."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable

import pytest

from wal.errors import ReadOnly
from wal.sim_vfs import (
    KEPT,
    LOST,
    Contents,
    Fate,
    Pending,
    SimCrash,
    SimDisk,
    SimMisuse,
    every_outcome,
    keep_everything,
    lose_everything,
)
from wal.vfs import Directory, File


def outcomes(disk: SimDisk) -> list[Contents]:
    """What every crash now can leave, without repetitions."""
    found: list[Contents] = []
    for after in every_outcome(disk.crash):
        if after.contents() not in found:
            found.append(after.contents())
    return found


def durable_file(disk: SimDisk, content: bytes) -> File:
    file = disk.root().create("a")
    file.write_at(0, content)
    file.sync_data()
    disk.root().sync()
    return file


def history(root: Directory) -> None:
    inner = root.make_dir("d")
    file = inner.create("tmp")
    file.allocate(0, 10)
    file.write_at(0, b"hello")
    file.truncate(5)
    file.sync_data()
    inner.rename("tmp", inner, "a")
    inner.create("b")
    inner.remove("b")
    inner.sync()
    root.lock("LOCK", "me").release()
    root.make_dir("e")
    root.remove_tree("e")
    root.sync()


def test_every_change_is_a_crash_point_before_and_after() -> None:
    whole = SimDisk()
    history(whole.root())
    assert whole.mutations == 13
    seen = [SimDisk().contents()]
    for n in range(1, whole.mutations + 1):
        for after in (False, True):
            disk = SimDisk()
            disk.crash_at(n, after=after)
            with pytest.raises(SimCrash, match=f"mutation {n}"):
                history(disk.root())
            assert disk.mutations == n
            state = disk.crash(keep_everything()).contents()
            state.pop("LOCK", None)  # appears between two crash points
            assert state == seen[-1] or after
        seen.append(state)
    assert {**seen[-1], "LOCK": b"me"} == whole.crash(lose_everything()).contents()


def test_after_the_crash_nothing_works_and_no_handler_hides_it() -> None:
    disk = SimDisk()
    root, file = disk.root(), durable_file(disk, b"x")
    lock = root.lock("LOCK", "me")
    after = disk.crash(lose_everything())
    for act in (root.names, root.sync, file.size, file.map, lambda: root.lock("LOCK", "me")):
        with pytest.raises(SimCrash):
            act()
    assert not issubclass(SimCrash, Exception)
    for end in (file.close, root.close, lock.release):
        end()
    after.root().lock("LOCK", "the next boot").release()


def test_who_waits_for_a_lock_dies_with_the_machine() -> None:
    disk = SimDisk()
    disk.root().lock("LOCK", "me")
    fates: list[str] = []

    def wait() -> None:
        try:
            disk.root().lock("LOCK", "other", wait_s=60)
        except SimCrash as crash:
            fates.append(str(crash))

    waiter = threading.Thread(target=wait)
    waiter.start()
    disk.crash(lose_everything())
    waiter.join(60)
    assert fates == ["lock after the crash"]


def test_one_crash_has_many_outcomes_that_do_not_touch_each_other() -> None:
    disk = SimDisk()
    durable_file(disk, b"x").write_at(1, b"y")
    one, two = disk.crash(lose_everything()), disk.crash(lose_everything())
    one.root().open("a", writable=True).write_at(0, b"changed")
    assert two.contents() == {"a": b"x"}
    assert disk.crash(keep_everything()).contents() == {"a": b"xy"}


def test_a_choice_sees_what_it_decides_about() -> None:
    disk = SimDisk()
    inner = disk.root().make_dir("d")
    inner.create("a").write_at(500, b"x" * 600)
    asked: list[Pending] = []

    def choice(op: Pending) -> Fate:
        asked.append(op)
        return KEPT if op.kind != "write" else LOST

    disk.crash(choice)
    asked.sort(key=lambda op: op.seq)
    assert [(op.kind, op.path) for op in asked] == [
        ("make_dir", "sim:/d"),
        ("create", "sim:/d/a"),
        ("write", "sim:/d/a"),
    ]
    assert list(asked[2].sectors) == [0, 1, 2]


def test_a_killed_process_leaves_the_page_cache() -> None:
    disk = SimDisk()
    durable_file(disk, b"x").write_at(1, b"y")
    disk.root().create("b")
    disk.root().make_dir("d").create("c")
    disk.root().lock("LOCK", "the dead")
    disk.crash_at(disk.mutations + 1)
    with pytest.raises(SimCrash):
        disk.root().sync()
    twin = disk.clone()
    twin.root().lock("LOCK", "the living")
    assert twin.contents() == {"LOCK": b"the living", "a": b"xy", "b": b"", "d": {"c": b""}}
    assert twin.clone().crash(lose_everything()).contents() == {"a": b"x"}
    twin.root().open("a").sync_data()
    twin.root().sync()
    assert twin.crash(lose_everything()).contents() == {
        "LOCK": b"the living",
        "a": b"xy",
        "b": b"",
        "d": {},
    }


def test_a_failed_sync_loses_what_reads_still_show_and_the_next_one_succeeds() -> None:
    disk = SimDisk()
    file = durable_file(disk, b"old")
    file.write_at(0, b"new")
    disk.fail("sync_data", 1, errno.EIO)
    with pytest.raises(OSError, match="sync_data") as caught:
        file.sync_data()
    assert caught.value.errno == errno.EIO
    assert file.read_at(0, 9) == b"new"
    file.write_at(3, b"er")
    file.sync_data()
    assert disk.root().open("a").read_at(0, 9) == b"newer"
    assert disk.clone().contents() == {"a": b"newer"}
    assert outcomes(disk.clone()) == [{"a": b"older"}]
    file.drop_cache()
    assert file.read_at(0, 9) == b"older"


def test_dropping_the_cache_keeps_what_is_pending() -> None:
    disk = SimDisk()
    file = durable_file(disk, b"old")
    file.truncate(2)
    disk.fail("sync_data", 1, errno.EIO)
    with pytest.raises(OSError, match="sync_data"):
        file.sync_data()
    file.write_at(2, b"!")
    file.drop_cache()
    assert file.read_at(0, 9) == b"ol!"
    assert {"a": b"old"} in outcomes(disk)


def test_a_failed_sync_may_leave_the_changes_pending() -> None:
    disk = SimDisk()
    file = durable_file(disk, b"old")
    file.write_at(0, b"new")
    disk.fail("sync_data", 1, errno.EIO, drop_pending=False)
    with pytest.raises(OSError, match="sync_data"):
        file.sync_data()
    file.sync_data()
    assert outcomes(disk) == [{"a": b"new"}]


def test_failures_are_counted_by_operation_and_path() -> None:
    disk = SimDisk()
    root = disk.root()
    one, two = root.create("one.seg"), root.create("two.tmp")
    disk.fail("write_at", 2, errno.EIO, on="*.seg")
    disk.fail("sync", 2, errno.EIO, persistent=True)
    two.write_at(0, b"x")
    two.write_at(1, b"x")
    one.write_at(0, b"x")
    with pytest.raises(OSError, match=r"write_at.*one\.seg"):
        one.write_at(1, b"x")
    assert one.write_at(1, b"x") == 1
    root.sync()
    for _ in range(3):
        with pytest.raises(OSError, match="sync"):
            root.sync()
    with pytest.raises(ValueError, match="no such operation"):
        disk.fail("fsync", 1, errno.EIO)


@pytest.mark.parametrize(
    ("op", "act"),
    [
        ("create", lambda root: root.create("b")),
        ("make_dir", lambda root: root.make_dir("b")),
        ("rename", lambda root: root.rename("a", root, "b")),
        ("remove", lambda root: root.remove("a")),
        ("remove_tree", lambda root: root.remove_tree("d")),
        ("open", lambda root: root.open("a")),
        ("names", lambda root: root.names()),
        ("truncate", lambda root: root.open("a", writable=True).truncate(0)),
        ("allocate", lambda root: root.open("a", writable=True).allocate(0, 9)),
        ("read_at", lambda root: root.open("a").read_at(0, 1)),
        ("map", lambda root: root.open("a").map()),
    ],
)
def test_what_fails_has_no_effect(op: str, act: Callable[[Directory], object]) -> None:
    disk = SimDisk()
    durable_file(disk, b"x")
    disk.root().make_dir("d")
    before = disk.contents()
    disk.fail(op, 1, errno.EACCES)
    with pytest.raises(PermissionError):
        act(disk.root())
    assert disk.contents() == before
    act(disk.root())


def test_a_lock_on_a_read_only_disk_says_so() -> None:
    disk = SimDisk()
    disk.fail("lock", 1, errno.EROFS)
    with pytest.raises(ReadOnly):
        disk.root().lock("LOCK", "me")


def test_writes_may_be_short() -> None:
    disk = SimDisk()
    file = durable_file(disk, b"")
    disk.short_writes(3)
    assert file.write_at(0, b"hello") == 3
    disk.short_writes(None)
    assert file.write_at(3, b"lo") == 2
    assert file.read_at(0, 9) == b"hello"


def test_a_full_disk_takes_what_fits_and_recovers_when_there_is_room() -> None:
    disk = SimDisk(capacity=10)
    file = durable_file(disk, b"1234567")
    assert file.write_at(7, b"89abc") == 3
    for act in (lambda: file.write_at(10, b"x"), lambda: file.allocate(0, 11)):
        with pytest.raises(OSError, match="No room") as caught:
            act()
        assert caught.value.errno == errno.ENOSPC
    assert file.write_at(8, b"in") == 2
    file.truncate(4)
    with pytest.raises(OSError, match="No room"):
        disk.root().make_dir("d").create("b").allocate(0, 7)
    assert disk.used() == 10
    disk.root().open_dir("d").remove("b")
    assert file.write_at(4, b"x" * 9) == 6
    disk.capacity = 11
    assert file.write_at(10, b"x" * 9) == 1
    assert disk.crash(keep_everything()).capacity == 11


def test_changing_what_is_mapped_is_a_mistake_of_the_caller() -> None:
    disk = SimDisk()
    file = durable_file(disk, b"hello")
    file.map()
    file.write_at(5, b" there")
    file.truncate(5)
    for misuse in (lambda: file.write_at(4, b"x"), lambda: file.truncate(4)):
        with pytest.raises(SimMisuse, match="mapped"):
            misuse()
    assert disk.misuses == ["write to sim:/a", "truncation of sim:/a"]
    disk.root().rename("a", disk.root(), "b")
    disk.root().remove("b")


def test_two_disks_are_two_file_systems() -> None:
    disk = SimDisk()
    durable_file(disk, b"x")
    with pytest.raises(OSError, match="Another disk") as caught:
        disk.root().rename("a", SimDisk().root(), "a")
    assert caught.value.errno == errno.EXDEV
