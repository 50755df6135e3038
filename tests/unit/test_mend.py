"""Mending a log: what can be put right is, and opens; what cannot is left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from random import Random

import pytest

from tests.crash.histories import SPACE, UUID, Fact, draft, fresh_space, open_log, recover
from wal.codec import SegmentHeader, encode_segment_header
from wal.errors import Damaged
from wal.mend import AcceptEnd, MoveAside, RestoreManifest, Step, mend, plan_mending
from wal.segment import prepare_segment, publish_segment
from wal.sim_vfs import SimCrash, SimDisk, keep_everything, lose_everything, sample
from wal.vfs import Directory, File


def full_disk() -> SimDisk:
    """A closed log of several segments, with a watermark at its end."""
    disk = fresh_space()
    log = open_log(disk)
    for number in range(100, 109):
        log.append([draft(number, 2_500)])
        log.sync()
    log.close()
    assert space(disk).exists("WATERMARK")
    return disk


def space(disk: SimDisk) -> Directory:
    return disk.root().open_dir(SPACE)


def log_dir(disk: SimDisk) -> Directory:
    return space(disk).open_dir("log")


def names(disk: SimDisk) -> list[str]:
    return [name for name in log_dir(disk).names() if name.endswith(".seg")]


def segment(disk: SimDisk, index: int) -> File:
    return log_dir(disk).open(names(disk)[index], writable=True)


def manifest_of(disk: SimDisk) -> str:
    return next(name for name in space(disk).names() if name.startswith("MANIFEST"))


def facts(disk: SimDisk) -> list[Fact]:
    log, found = recover(disk.clone())
    log.close()
    return found


def copy_segment(disk: SimDisk, index: int, name: str) -> None:
    file = segment(disk, index)
    data = file.read_at(0, file.size())
    log_dir(disk).create(name).write_at(0, data)


def lose_manifest(disk: SimDisk) -> None:
    space(disk).remove(manifest_of(disk))


def break_manifest(disk: SimDisk) -> None:
    space(disk).open(manifest_of(disk), writable=True).write_at(60, b"?")


def add_notes(disk: SimDisk) -> None:
    log_dir(disk).create("notes.txt").write_at(0, b"hello")


def add_copy(disk: SimDisk) -> None:
    copy_segment(disk, 1, f"{77:020d}-{77:010d}.seg")


def add_foreign(disk: SimDisk) -> None:
    header = SegmentHeader(bytes(16), 50, 500, bytes(16), 0, 0, 0, 0)
    log_dir(disk).create(header.name).write_at(0, encode_segment_header(header))


def break_last(disk: SimDisk) -> None:
    file = segment(disk, -1)
    file.write_at(file.size() - 20, b"decay")


def cut_last(disk: SimDisk) -> None:
    file = segment(disk, -1)
    file.truncate(file.size() - 9)


def blank_last(disk: SimDisk) -> None:
    file = segment(disk, -1)
    file.write_at(4_096, bytes(file.size() - 4_096))


def everything(disk: SimDisk) -> None:
    for breaking in (break_last, break_manifest, add_notes, add_copy, add_foreign):
        breaking(disk)


MENDABLE: dict[str, tuple[Callable[[SimDisk], None], list[type[Step]], int]] = {
    "no manifest": (lose_manifest, [RestoreManifest], 0),
    "a broken manifest": (break_manifest, [RestoreManifest], 0),
    "a text file": (add_notes, [MoveAside], 0),
    "a copy": (add_copy, [MoveAside], 0),
    "another space's segment": (add_foreign, [MoveAside], 0),
    "a broken last record": (break_last, [AcceptEnd], 1),
    "a last record cut off": (cut_last, [AcceptEnd], 1),
    "zeros for the last record": (blank_last, [AcceptEnd], 1),
    "all at once": (everything, [MoveAside] * 3 + [RestoreManifest, AcceptEnd], 1),
}
MENDING = pytest.mark.parametrize("name", MENDABLE)


def damaged(name: str) -> SimDisk:
    disk = full_disk()
    MENDABLE[name][0](disk)
    return disk.crash(keep_everything())


def check(disk: SimDisk, name: str) -> None:
    """It opens, with all but the records whose loss was accepted, and needs nothing more."""
    whole = facts(full_disk())
    assert plan_mending(space(disk), UUID) == []
    assert facts(disk) == whole[: len(whole) - MENDABLE[name][2]]


def test_a_sound_log_needs_nothing() -> None:
    assert plan_mending(space(full_disk()), UUID) == []
    assert plan_mending(space(fresh_space()), UUID) == []


@MENDING
def test_what_can_be_mended_is_and_opens(name: str) -> None:
    disk = damaged(name)
    before = disk.contents()
    steps = plan_mending(space(disk), UUID)
    assert disk.contents() == before, "planning changed something"
    assert [type(step) for step in steps] == MENDABLE[name][1]
    kept = mend(space(disk), steps)
    assert set(kept) <= set(space(disk).open_dir("quarantine").names())
    assert len(kept) >= len([s for s in steps if not isinstance(s, RestoreManifest)])
    check(disk.crash(lose_everything()), name)
    assert not disk.misuses


@MENDING
def test_no_byte_is_lost_by_mending(name: str) -> None:
    disk = damaged(name)
    files = log_dir(disk)
    contents = {n: (f := files.open(n)).read_at(0, f.size()) for n in files.names()}
    kept = mend(space(disk), plan_mending(space(disk), UUID))
    quarantine = space(disk).open_dir("quarantine")
    aside = {n: (f := quarantine.open(n)).read_at(0, f.size()) for n in kept}
    for file_name, data in contents.items():
        if not files.exists(file_name):
            assert data in aside.values()
            continue
        file = files.open(file_name)
        now = file.read_at(0, file.size())
        assert data.startswith(now)
        assert len(now) == len(data) or data[len(now) :] in aside.values()


@MENDING
def test_a_crash_anywhere_is_mended_by_going_on(name: str) -> None:
    start = damaged(name)
    for point in count(1):
        for after in (False, True):
            disk = start.clone()
            disk.crash_at(point, after=after)
            try:
                mend(space(disk), plan_mending(space(disk), UUID))
            except SimCrash:
                for left in outcomes(disk, f"{name}{point}{after}"):
                    mend(space(left), plan_mending(space(left), UUID))
                    check(left.crash(lose_everything()), name)
            else:
                return


def outcomes(disk: SimDisk, seed: str) -> Iterator[SimDisk]:
    yield disk.crash(lose_everything())
    yield disk.crash(keep_everything())
    for number in range(3):
        yield disk.crash(sample(Random(f"{seed}{number}")))


def in_the_middle(disk: SimDisk) -> None:
    segment(disk, 1).write_at(4_300, b"decay")


def without_one(disk: SimDisk) -> None:
    log_dir(disk).remove(names(disk)[1])


def without_one_nor_manifest(disk: SimDisk) -> None:
    without_one(disk)
    lose_manifest(disk)


def with_a_broken_header(disk: SimDisk) -> None:
    segment(disk, -1).write_at(30, b"decay")


def with_a_renamed_one(disk: SimDisk) -> None:
    copy_segment(disk, -1, f"{77:020d}-{77:010d}.seg")
    log_dir(disk).remove(names(disk)[-2])


def early_in_the_active_one(disk: SimDisk) -> None:
    log = open_log(disk)
    for number in (200, 203):
        log.append([draft(number, 40)])
        log.sync()
    log.close()
    segment(disk, -1).write_at(4_170, b"decay")


@pytest.mark.parametrize(
    "breaking",
    [
        *(in_the_middle, without_one, without_one_nor_manifest, with_a_broken_header),
        *(with_a_renamed_one, early_in_the_active_one),
    ],
)
def test_what_cannot_be_mended_is_refused(breaking: Callable[[SimDisk], None]) -> None:
    disk = full_disk()
    breaking(disk)
    before = disk.contents()
    with pytest.raises(Damaged):
        plan_mending(space(disk), UUID)
    assert disk.contents() == before


def test_a_log_that_begins_behind_a_base_gets_no_manifest_without_it() -> None:
    """As a log that was made behind a checkpoint: its first segment has no predecessor."""
    disk = fresh_space()
    directory = space(disk)
    log_dir = directory.open_dir("log")
    (name,) = log_dir.names()
    header = SegmentHeader(UUID, 1, 40, bytes(16), 0, 0, 0, 0)
    prepare_segment(log_dir, header).close()
    publish_segment(log_dir, header)
    log_dir.remove(name)
    for each in directory.names():
        if each.startswith("MANIFEST"):
            directory.remove(each)
    with pytest.raises(Damaged, match="history begins at position 40"):
        plan_mending(directory, UUID)
