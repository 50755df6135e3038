"""Creating a space, and laying out a data root, with a crash at any point: whole or not at all."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import NamedTuple

import pytest

from engram.errors import DiskFull, EngramError, SpaceExists, SpaceNotFound
from engram.memory.model import EmbeddingSpec
from engram.spaces.registry import Registry
from tests.crash.histories import Books, Budget, aftermaths
from wal import sim_vfs
from wal.opened import DEFAULT_OPTIONS, LogOptions
from wal.sim_vfs import Contents, SimCrash, SimDisk, lose_everything

SPEC = EmbeddingSpec(model="caller", dimensions=2)
BUDGET = Budget(few=60, samples=25)
NEW, OTHER = "new", "other"


class Promised(NamedTuple):
    """What the process had been told before it died."""

    created: bool = False
    remembered: int = 0


class Process:
    """Takes a data root into use, creates a space and remembers two things in it."""

    def __init__(self) -> None:
        self.promised = Promised()

    def run(self, disk: SimDisk) -> None:
        with opened(disk) as registry:
            space = registry.create(NEW, SPEC)
            self.promised = Promised(created=True)
            for number in (1, 2):
                space.remember(f"memory {number}", id=f"m{number}", embedding=[1.0, number])
                self.promised = Promised(created=True, remembered=number)


def new_registry(disk: SimDisk, options: LogOptions = DEFAULT_OPTIONS) -> Registry:
    def clock() -> int:
        return 1_700_000_000_000_000_000

    return Registry(disk.root(), owner="a test", clock=clock, options=options)


@contextmanager
def opened(disk: SimDisk, options: LogOptions = DEFAULT_OPTIONS) -> Iterator[Registry]:
    """A registry; closing it ends its writer threads even if the disk has died."""
    registry = new_registry(disk, options)
    try:
        yield registry
    finally:
        with suppress(SimCrash):
            registry.close()


def empty_disk() -> SimDisk:
    return SimDisk()


def disk_with_another_space() -> SimDisk:
    disk = SimDisk()
    with opened(disk) as registry:
        registry.create(OTHER, SPEC).remember("not yours", id="x", embedding=[1.0, 0.0])
    return disk.clone()


def crash_states(start: SimDisk) -> list[tuple[str, SimDisk, Promised]]:
    """Each crash of :class:`Process`, with what each may leave."""
    states: list[tuple[str, SimDisk, Promised]] = []
    for point in count(1):
        for after in (False, True):
            disk, process = start.clone(), Process()
            disk.crash_at(point, after=after)
            try:
                process.run(disk)
            except (SimCrash, EngramError):
                pass  # the writer's thread turns a crash into an error for its callers
            else:
                return states
            path = f"{point}{'-+'[after]}"
            for found in aftermaths(disk, Books(), path, BUDGET):
                states.append((found.path, found.disk, process.promised))
    raise AssertionError("unreachable")


def folder(disk: SimDisk, name: str) -> Contents:
    inner = disk.contents().get(name)
    assert isinstance(inner, dict), f"{name} is not there"
    return inner


def memories(registry: Registry) -> list[str]:
    space = registry.space(NEW)
    return [m for m in ("m1", "m2") if _has(space, m)]


def _has(space: object, memory_id: str) -> bool:
    try:
        return space.get(memory_id) is not None  # type: ignore[attr-defined]
    except EngramError:
        return False


def check_boot(disk: SimDisk, promised: Promised) -> None:
    """The next process finds a whole space or none, and can go on in either case."""
    with opened(disk) as registry:
        assert folder(disk, ".engram")["tmp"] == {}, "what was half made is still there"
        try:
            found = memories(registry)
        except SpaceNotFound:
            assert not promised.created, "a space that was created is gone"
            assert NEW not in disk.contents(), "half a space lies in the root"
            found = []
            registry.create(NEW, SPEC)
        else:
            assert found == ["m1", "m2"][: len(found)]
            assert len(found) >= promised.remembered
            with pytest.raises(SpaceExists):
                registry.create(NEW, SPEC)
        registry.space(NEW).remember("after the crash", id="m3", embedding=[0.0, 1.0])
        disk = disk.crash(lose_everything())

    with opened(disk) as registry:
        assert memories(registry) == found, "what was served did not outlive the power"
        assert registry.space(NEW).get("m3").content == "after the crash"


@pytest.mark.parametrize("start", [empty_disk, disk_with_another_space])
def test_a_crash_leaves_a_whole_space_or_none(start: Callable[[], SimDisk]) -> None:
    begin = start()
    other = begin.contents().get(OTHER)
    states = crash_states(begin)
    for path, disk, promised in states:
        try:
            assert disk.contents().get(OTHER) == other, "another space was touched"
            check_boot(disk, promised)
            assert disk.contents().get(OTHER) == other, "another space was touched"
        except Exception as error:
            raise AssertionError(f"{start.__name__}, crash {path}: {error!r}") from error
    assert len(states) > 100


def created(disk: SimDisk) -> EngramError | None:
    """Take the data root into use and create the space; the error, if there is one."""
    try:
        with opened(disk) as registry:
            registry.create(NEW, SPEC)
    except EngramError as error:
        return error
    return None


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EMFILE], ids=errno.errorcode.get)
@pytest.mark.parametrize("persistent", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("op", sorted(sim_vfs._OPERATIONS))
def test_whatever_call_fails_a_space_is_whole_or_can_be_made_again(
    op: str, persistent: bool, code: int
) -> None:
    for nth in count(1):
        disk = disk_with_another_space()
        other = disk.contents()[OTHER]
        disk.fail(op, nth, code, persistent=persistent)
        error = created(disk)
        if error is None and disk._failures[0].calls_left > 0:
            break
        disk.heal()
        where = f"{op} #{nth}: {error!r}"
        if not persistent:
            assert folder(disk, ".engram")["tmp"] == {}, f"{where} leaves something half made"
        if isinstance(error, DiskFull):
            assert NEW not in disk.contents(), f"{where}, and yet it is there"
        for found in (disk.clone(), disk.crash(lose_everything())):
            check_boot(found, Promised(created=error is None))
            assert found.contents()[OTHER] == other, where
