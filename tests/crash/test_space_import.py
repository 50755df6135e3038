"""Importing a bundle with a crash, or a failing call, at any point: a whole space or none, and
nothing half made left behind.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from functools import cache
from itertools import count
from typing import Any

import pytest

from engram.errors import DiskFull, EngramError, SpaceExists, SpaceNotFound
from engram.memory.columns import compact
from engram.spaces.registry import Registry
from engram.spaces.space import Space
from tests.crash.histories import Books, Budget, aftermaths
from tests.crash.test_space_creation import NEW, OTHER, SPEC, folder, opened
from wal import sim_vfs
from wal.opened import LogOptions
from wal.sim_vfs import SimCrash, SimDisk, lose_everything

BUDGET = Budget(few=12, samples=4)
SMALL = LogOptions(segment_bytes=4_600, allocate_bytes_min=512, allocate_bytes_max=512)
"""So that the imported log has several segments."""


def memories_of(space: Space) -> dict[str, Any]:
    named = compact(space._store().state.freeze()).named()
    return {name: (values.dtype.str, values.tobytes()) for name, values in named}


def filled(registry: Registry) -> Space:
    space = registry.create(OTHER, SPEC)
    for number in range(6):
        space.remember(f"memory {number}", id=f"m{number}", embedding=[1.0, number])
    space.forget("m1")
    return space


def whole_history(registry: Registry) -> Space:
    return filled(registry)


def history_behind_a_base(registry: Registry) -> Space:
    space = filled(registry)
    space.configure(retention="positions:1")
    for number in (7, 8):
        space.compact()
        space.remember("later", id=f"m{number}", embedding=[1.0, number])
    assert int(space.info().oldest_position or 0) > 1
    return space


Fill = Callable[[Registry], Space]


@cache
def bundle_of(fill: Fill) -> tuple[SimDisk, tuple[bytes, ...], dict[str, Any]]:
    """A disk with the source on it, its bundle, and what a copy has to add up to."""
    disk = SimDisk()
    with opened(disk, SMALL) as registry:
        space = fill(registry)
        chunks = tuple(space.outgoing().chunks())
        state = memories_of(space)
    return disk.clone(), chunks, state


class Process:
    """Imports a bundle; `acknowledged` is set once it was told that it is there."""

    def __init__(self, chunks: tuple[bytes, ...]) -> None:
        self._chunks = chunks
        self.acknowledged = False

    def run(self, disk: SimDisk) -> None:
        with opened(disk, SMALL) as registry:
            registry.receive(NEW, iter(self._chunks))
            self.acknowledged = True


def crash_states(fill: Fill) -> Iterator[tuple[str, SimDisk, bool]]:
    start, chunks, _ = bundle_of(fill)
    for point in count(1):
        for after in (False, True):
            disk, process = start.clone(), Process(chunks)
            disk.crash_at(point, after=after)
            try:
                process.run(disk)
            except (SimCrash, EngramError):
                pass
            else:
                return
            for found in aftermaths(disk, Books(), f"{point}{'-+'[after]}", BUDGET):
                yield found.path, found.disk, process.acknowledged


def check_boot(disk: SimDisk, fill: Fill, acknowledged: bool) -> None:
    """The next process finds all of it or none, and can import it then."""
    _, chunks, state = bundle_of(fill)
    with opened(disk, SMALL) as registry:
        assert folder(disk, ".engram")["tmp"] == {}, "what was half made is still there"
        try:
            space = registry.space(NEW)
        except SpaceNotFound:
            assert not acknowledged, "a space that was imported is gone"
            assert NEW not in disk.contents(), "half a space lies in the root"
            space = registry.receive(NEW, iter(chunks))
        else:
            with pytest.raises(SpaceExists):
                registry.receive(NEW, iter(chunks))
        assert memories_of(space) == state
        space.remember("after the crash", id="m99", embedding=[0.0, 1.0])
        disk = disk.crash(lose_everything())
    with opened(disk, SMALL) as registry:
        assert registry.space(NEW).get("m99").content == "after the crash"
    assert not disk.misuses


FILLS = [whole_history, history_behind_a_base]


@pytest.mark.parametrize("fill", FILLS)
def test_a_crash_leaves_a_whole_space_or_none(fill: Fill) -> None:
    other = bundle_of(fill)[0].contents()[OTHER]
    states = 0
    for path, disk, acknowledged in crash_states(fill):
        states += 1
        try:
            check_boot(disk, fill, acknowledged)
            assert disk.contents()[OTHER] == other, "the source was touched"
        except Exception as error:
            raise AssertionError(f"{fill.__name__}, crash {path}: {error!r}") from error
    assert states > 200


@pytest.mark.parametrize(
    ("code", "persistent"),
    [(errno.EIO, False), (errno.ENOSPC, False), (errno.ENOSPC, True), (errno.EMFILE, False)],
    ids=["EIO once", "ENOSPC once", "ENOSPC for good", "EMFILE once"],
)
@pytest.mark.parametrize("op", sorted(sim_vfs._OPERATIONS))
def test_whatever_call_fails_a_space_is_whole_or_can_be_made_again(
    op: str, persistent: bool, code: int
) -> None:
    fill = history_behind_a_base
    start, chunks, _ = bundle_of(fill)
    for nth in count(1):
        disk, process, error = start.clone(), Process(chunks), None
        disk.fail(op, nth, code, persistent=persistent)
        try:
            process.run(disk)
        except EngramError as refusal:
            error = refusal
        if error is None and disk._failures[0].calls_left > 0:
            break
        disk.heal()
        where = f"{op} #{nth}: {error!r}"
        if isinstance(error, DiskFull):
            assert NEW not in disk.contents(), f"{where}, and yet it is there"
        try:
            check_boot(disk.crash(lose_everything()), fill, process.acknowledged)
        except Exception as wrong:
            raise AssertionError(where) from wrong
