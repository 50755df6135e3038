"""Spaces that make room for each other, with a crash at any point and any call failing.

Only one space may be open, so that every request closes one and opens another. What was
acknowledged is there afterwards, once; what was refused definitely is not; and a space whose sync
failed is reopened by who uses it, and by nobody else.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count

import pytest

from engram.errors import DiskFull, EngramError, OutcomeUnknown
from engram.spaces.registry import Registry
from engram.spaces.residency import Bounds
from tests.crash.histories import Books, Budget, aftermaths
from tests.crash.test_space_creation import SPEC
from wal import sim_vfs
from wal.opened import LogOptions
from wal.sim_vfs import SimCrash, SimDisk, lose_everything

NAMES = ("a", "b")
ROUNDS = 2
OPTIONS = LogOptions(segment_bytes=4_096, allocate_bytes_min=512, allocate_bytes_max=1_024)
BUDGET = Budget(few=8, samples=3)
CODES = (errno.EIO, errno.ENOSPC, errno.EMFILE)


@contextmanager
def opened(disk: SimDisk, spaces_max: int = 1) -> Iterator[Registry]:
    registry = Registry(
        disk.root(),
        owner="a test",
        clock=lambda: 1_700_000_000_000_000_000,
        options=OPTIONS,
        bounds=Bounds(spaces=spaces_max),
    )
    try:
        yield registry
    finally:
        with suppress(SimCrash, OSError):
            registry.close()


class User:
    """Uses all spaces in turn; keeps what was acknowledged, and what was refused for certain."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, int] = {}  # position by id, which begins with its space
        self.refused: set[str] = set()
        self.errors: list[EngramError] = []
        self.reopened = 0

    def run(self, disk: SimDisk) -> None:
        with opened(disk) as registry:
            for number in range(ROUNDS):
                for name in NAMES:
                    try:
                        self._use(registry, name, f"{name}{number}")
                    except EngramError as error:
                        self.errors.append(error)

    def _use(self, registry: Registry, name: str, memory_id: str) -> None:
        space = registry.space(name)
        if space.info().state == "poisoned":
            space.reopen()
            self.reopened += 1
        try:
            memory = space.remember(memory_id, id=memory_id, embedding=[1.0, 0.0])
        except DiskFull:
            self.refused.add(memory_id)
            raise
        except OutcomeUnknown:
            assert space.info().state == "poisoned", "it was reopened behind the user's back"
            raise
        self.acknowledged[memory_id] = memory.position
        space.recall(embedding=[1.0, 0.0])  # queued, to be written when the space is closed


def check(disk: SimDisk, user: User) -> None:
    with opened(disk, len(NAMES)) as registry:
        for name in NAMES:
            space = registry.space(name)
            found = {memory.id: memory.position for memory in space.list().memories}
            due = {k: v for k, v in user.acknowledged.items() if k[0] == name}
            assert due.items() <= found.items(), f"lost in {name}: {due} of {found}"
            assert user.refused.isdisjoint(found)
            assert all(memory_id[0] == name for memory_id in found)
            events = [(e.position, e.memory.id if e.memory else None) for e in space.events()]
            assert [position for position, _ in events] == list(range(1, len(events) + 1))
            stored = [memory_id for _, memory_id in events if memory_id is not None]
            assert sorted(stored) == sorted(found), "something was done twice"
            assert space.remember("after", embedding=[1.0, 0.0]).position == len(events) + 1
    assert not disk.misuses


def both_spaces() -> SimDisk:
    disk = SimDisk()
    with opened(disk) as registry:
        for name in NAMES:
            registry.create(name, SPEC)
    return disk


def test_a_crash_at_any_point_loses_nothing_acknowledged() -> None:
    start, states = both_spaces(), 0
    for point in count(1):
        disk, user = start.clone(), User()
        disk.crash_at(point, after=point % 2 == 0)
        try:
            user.run(disk)
        except SimCrash:
            pass
        else:
            if not user.errors:
                break
        for aftermath in aftermaths(disk, Books(), f"{point}", BUDGET):
            try:
                check(aftermath.disk, user)
            except Exception as error:
                raise AssertionError(f"crash {aftermath.path}: {error!r}") from error
            states += 1
    assert len(user.acknowledged) == ROUNDS * len(NAMES)
    assert states > 100


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize("op", sorted(sim_vfs._OPERATIONS))
def test_whatever_call_fails_nothing_acknowledged_is_lost_and_nothing_done_twice(
    op: str, code: int
) -> None:
    start, reopened = both_spaces(), 0
    for nth in count(1):
        disk, user = start.clone(), User()
        disk.fail(op, nth, code)
        with suppress(EngramError):  # the data root itself may be what cannot be opened
            user.run(disk)
        if disk._failures[0].calls_left > 0:
            break
        reopened += user.reopened
        disk.heal()
        for how, left in (
            ("same boot", disk.clone()),
            ("power cut, nothing more written", disk.crash(lose_everything())),
        ):
            try:
                check(left, user)
            except Exception as error:
                raise AssertionError(f"{op} #{nth}, then {how}: {error!r}") from error
    assert reopened or op != "sync_data" or code != errno.EIO, "no space was ever poisoned"
