"""Reports on a log's folder; tests/crash/test_damage.py holds them against what opening does."""

from __future__ import annotations

from contextlib import closing
from itertools import count
from typing import Any

import msgspec
import pytest

from tests.crash.histories import SPACE, UUID, draft, fresh_space, open_log, recover
from wal.codec import Record
from wal.errors import Damaged, Unsupported
from wal.inspect import Check, Damage, LogReport, inspect_log
from wal.manifest import Manifest
from wal.replay import publish_manifest, read_manifest
from wal.sim_vfs import SimDisk
from wal.still import held_still
from wal.vfs import Directory, File


def full_disk(*, closed: bool = True) -> SimDisk:
    """A log of several segments."""
    disk = fresh_space()
    log = open_log(disk)
    for number in range(100, 109):
        log.append([draft(number, 2_500)])
        log.sync()
    if closed:
        log.close()
    return disk


def space(disk: SimDisk) -> Directory:
    return disk.root().open_dir(SPACE)


def segment_names(disk: SimDisk) -> list[str]:
    return space(disk).open_dir("log").names()


def segment(disk: SimDisk, index: int) -> File:
    return space(disk).open_dir("log").open(segment_names(disk)[index], writable=True)


def inspect(disk: SimDisk) -> LogReport:
    before = disk.contents()
    report = inspect_log(space(disk), UUID)
    assert disk.contents() == before
    return report


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "in use"])
def test_a_healthy_log_is_described(closed: bool) -> None:
    disk = full_disk(closed=closed)
    report = inspect(disk)
    assert (report.damage, report.torn, report.strangers, report.quarantined) == ([], None, [], [])
    assert report.space_uuid == UUID.hex()
    assert [s.name for s in report.segments] == segment_names(disk)
    assert [s.sealed for s in report.segments] == [True] * (len(report.segments) - 1) + [False]
    assert report.records == 10
    for before, after in zip(report.segments, report.segments[1:], strict=False):
        assert after.first_position == before.last_position + 1
    if closed:
        assert report.last_position == recover(disk)[0].durable_position


def test_a_sealed_segment_is_held_to_the_manifest_even_as_the_last_one_left() -> None:
    disk = full_disk()
    *_, last_sealed, active = segment_names(disk)
    space(disk).open_dir("log").remove(active)
    assert [damage.file for damage in inspect(disk).damage] == [f"log/{active}"]
    file = segment(disk, -1)
    file.truncate(inspect(disk).segments[-1].bytes - 8)
    assert f"log/{last_sealed}" in {damage.file for damage in inspect(disk).damage}
    file.truncate(4_096)
    assert ("it does not end as the manifest says") in {d.reason for d in inspect(disk).damage}


def test_inspecting_takes_no_lock_and_needs_no_uuid() -> None:
    disk = fresh_space()
    log = open_log(disk)
    assert inspect_log(space(disk)).damage == []
    log.close()


def test_every_damage_is_reported_not_only_the_first() -> None:
    disk = full_disk()
    segment(disk, 0).write_at(4_200, b"decayed")
    segment(disk, 1).write_at(10, b"decayed")
    space(disk).open_dir("log").remove(segment_names(disk)[2])
    names = segment_names(disk)
    report = inspect(disk)
    files = [damage.file for damage in report.damage]
    assert f"log/{names[0]}" in files
    assert f"log/{names[1]}" in files
    assert len(files) >= 3


def test_a_torn_tail_is_told_from_damage() -> None:
    disk = full_disk(closed=False)
    log_end = inspect(disk).segments[-1].bytes
    file = segment(disk, -1)
    file.write_at(log_end, b"half a record")
    report = inspect(disk)
    assert report.damage == []
    assert report.torn is not None
    assert (report.torn.file, report.torn.offset) == (f"log/{segment_names(disk)[-1]}", log_end)
    assert report.torn_bytes == file.size() - log_end


def test_what_was_set_aside_and_what_does_not_belong_is_listed() -> None:
    disk = full_disk()
    segment(disk, -1).write_at(segment(disk, -1).size(), b"torn")
    space(disk).open_dir("log").create("notes.txt")
    log, _ = recover(disk)
    log.close()
    report = inspect(disk)
    assert report.quarantined == [log.opened.quarantined]
    assert report.strangers == ["log/notes.txt"]
    assert log.opened.strangers == ("notes.txt",)


def test_a_check_sees_every_record_and_its_damage_gets_a_place() -> None:
    disk = full_disk()
    seen: list[object] = []

    class Looks(Check):
        def begin(self, space_dir: Directory, manifest: Manifest) -> list[Damage]:
            seen[:] = [manifest.active]
            return [Damage("checkpoints/x", 9, "broken")]

        def record(self, record: Record) -> None:
            seen.append(record.position)
            if record.position == 2:
                raise Damaged("log", 0, "makes no sense")

        def end(self) -> list[Damage]:
            return [Damage("checkpoints/y", 0, "differs")]

    report = inspect_log(space(disk), UUID, Looks)
    assert seen[0] == segment_names(disk)[-1]
    assert len(seen) == 11
    assert [(d.file, d.reason) for d in report.damage] == [
        ("checkpoints/x", "broken"),
        (f"log/{segment_names(disk)[0]}", "makes no sense"),
        ("checkpoints/y", "differs"),
    ]


def test_damage_that_is_gone_when_looked_at_again_was_a_writer_at_work() -> None:
    readings: list[None] = []

    class Looks(Check):
        def record(self, record: Record) -> None:
            if len(readings) == 1:
                raise Damaged("log", 0, "in flux")

    def new_check() -> Check:
        readings.append(None)
        return Looks()

    assert inspect_log(space(full_disk()), UUID, new_check).damage == []
    assert len(readings) == 2


def test_what_goes_while_it_is_read_is_read_as_it_was() -> None:
    disk = full_disk()
    readings, seen = list[None](), list[int]()

    class Looks(Check):
        def begin(self, space_dir: Directory, manifest: Manifest) -> list[Damage]:
            for name in segment_names(disk):
                space(disk).open_dir("log").remove(name)
            space(disk).remove(manifest.name)
            return []

        def record(self, record: Record) -> None:
            seen.append(record.position)

    def new_check() -> Check:
        readings.append(None)
        return Looks()

    report = inspect_log(space(disk), UUID, new_check)
    assert (report.damage, report.torn, len(readings)) == ([], None, 1)
    assert len(seen) == report.records == 10


def test_what_changes_while_it_is_being_held_is_held_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest and what it names may be replaced between any two calls."""
    enter = SimDisk._enter
    for step in count():
        disk = full_disk()
        calls = 0

        def enter_behind_a_change(self: SimDisk, *args: Any) -> bool:
            nonlocal calls
            calls += 1
            if calls - 1 == step:  # noqa: B023
                directory = space(disk)  # noqa: B023
                manifest = read_manifest(directory)
                publish_manifest(
                    directory, msgspec.structs.replace(manifest, number=manifest.number + 1)
                )
            return enter(self, *args)

        with monkeypatch.context() as patch:
            patch.setattr(SimDisk, "_enter", enter_behind_a_change)
            with held_still(space(disk)) as held:
                assert read_manifest(held).name in held.names(), f"changed before call {step}"
                assert held.open_dir("log").names() == segment_names(disk)
        if calls <= step:
            break
    assert step > 10


def test_what_is_held_still_is_only_read() -> None:
    with held_still(space(full_disk())) as held:
        with pytest.raises(PermissionError):
            held.sync()
        with closing(held.open_dir("log")) as log_dir:
            name = log_dir.names()[0]
            with pytest.raises(PermissionError):
                log_dir.open(name).truncate(0)
            assert log_dir.open(name).size() == len(log_dir.open(name).map())


def test_a_log_of_another_space_is_damage() -> None:
    report = inspect_log(space(full_disk()), bytes(16))
    assert report.damage


def test_a_log_without_one_readable_segment_is_reported() -> None:
    disk = fresh_space()
    name = segment_names(disk)[0]
    segment(disk, 0).write_at(100, b"decayed")
    report = inspect(disk)
    assert [(damage.file, damage.offset) for damage in report.damage] == [(f"log/{name}", 0)]
    assert report.segments == []
    space(disk).open_dir("log").remove(name)
    assert [damage.file for damage in inspect(disk).damage] == [f"log/{name}"]


def test_without_a_manifest_the_segments_are_still_looked_at() -> None:
    disk = full_disk()
    for name in space(disk).names():
        if name.startswith("MANIFEST"):
            space(disk).remove(name)
    report = inspect(disk)
    assert [damage.file for damage in report.damage] == ["MANIFEST"]
    assert report.records == 10


def test_a_folder_without_a_log_is_not_one() -> None:
    disk = SimDisk()
    disk.root().make_dir(SPACE)
    with pytest.raises(FileNotFoundError):
        inspect_log(space(disk), UUID)


def test_a_newer_format_is_unsupported() -> None:
    disk = full_disk()
    name = next(name for name in space(disk).names() if name.startswith("MANIFEST"))
    file = space(disk).open(name, writable=True)
    file.write_at(len("ENGRAM-MANIFEST "), b"2")
    with pytest.raises(Unsupported):
        inspect_log(space(disk), UUID)


@pytest.mark.parametrize("sizes", [(30,), (30, 900, 30), (7_000, 7_000), (7_000, 7_000, 7_000, 9)])
@pytest.mark.parametrize("staged", [False, True], ids=["synced", "last group not synced yet"])
def test_a_writer_at_work_is_never_taken_for_damage(
    sizes: tuple[int, ...], staged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two calls that inspecting makes, a writer may append, rotate and publish."""
    enter = SimDisk._enter
    for step in count():
        disk = fresh_space()
        log = open_log(disk)
        log.append([draft(1, 100)])
        log.sync()
        calls = 0

        def enter_behind_a_writer(self: SimDisk, *args: Any) -> bool:
            nonlocal calls
            calls += 1
            if calls - 1 == step:  # noqa: B023
                for number, size in enumerate(sizes, start=100):
                    log.append([draft(number, size), draft(number + 50, 10)])  # noqa: B023
                    if not staged or number < 99 + len(sizes):
                        log.sync()  # noqa: B023
            return enter(self, *args)

        with monkeypatch.context() as patch:
            patch.setattr(SimDisk, "_enter", enter_behind_a_writer)
            report = inspect_log(space(disk), UUID)
        assert report.damage == [], f"written before call {step}"
        log.close()
        if calls <= step:
            assert step > 10
            return
