"""Embedding a space anew into a copy with a crash, or a failing call, at any point: a whole copy or
none, the source as it was, and what was embedded is gone on with.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from functools import cache
from itertools import count
from typing import Any

import pytest

from engram.embedding.registry import DEFAULT
from engram.errors import DiskFull, EngramError, SpaceExists, SpaceNotFound
from engram.spaces import reembedding
from engram.spaces.registry import Registry
from engram.spaces.space import Space
from tests.crash.histories import Books, Budget, aftermaths
from tests.crash.test_space_creation import NEW, OTHER, SPEC, folder, opened
from tests.crash.test_space_import import SMALL, memories_of
from wal import sim_vfs
from wal.sim_vfs import SimCrash, SimDisk, lose_everything

BUDGET = Budget(few=8, samples=2)
MEMORIES = 7


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reembedding, "PIECE_MEMORIES_MAX", 3)


def filled(registry: Registry) -> Space:
    space = registry.create(OTHER, SPEC)
    for number in range(MEMORIES):
        space.remember(f"memory {number}", id=f"m{number}", embedding=[1.0, number])
    space.link("m0", "m2", weight=0.5)
    space.forget("m1")
    space.compact()
    return space


@cache
def start() -> tuple[SimDisk, dict[str, Any], dict[str, Any]]:
    """A disk with the source, what that adds up to, and what the copy has to."""
    disk = SimDisk()
    with opened(disk, SMALL) as registry:
        source = memories_of(filled(registry))
    other = disk.clone()
    with opened(other, SMALL) as registry:
        copy = memories_of(registry.space(OTHER).fork(NEW, embedding=DEFAULT))
    return disk.clone(), source, copy


class Process:
    """Embeds the source anew; `staged` is how many memories it was told are done, `acknowledged`
    is set once it was told that the copy is there.
    """

    def __init__(self) -> None:
        self.staged = 0
        self.acknowledged = False

    def run(self, disk: SimDisk) -> None:
        with opened(disk, SMALL) as registry:
            registry.space(OTHER).fork(NEW, embedding=DEFAULT, progress=self._progress)
            self.acknowledged = True

    def _progress(self, done: int, total: int) -> None:
        assert total == MEMORIES
        self.staged = done


def crash_states() -> Iterator[tuple[str, SimDisk, Process]]:
    for point in count(1):
        for after in (False, True):
            disk, process = start()[0].clone(), Process()
            disk.crash_at(point, after=after)
            try:
                process.run(disk)
            except (SimCrash, EngramError):
                pass
            else:
                return
            for found in aftermaths(disk, Books(), f"{point}{'-+'[after]}", BUDGET):
                yield found.path, found.disk, process


def check_boot(disk: SimDisk, process: Process) -> int:
    """The next process finds all of it or none, and can go on with it; returns how many memories
    need not be embedded again then.
    """
    _, source, copy = start()
    resumed = 0
    with opened(disk, SMALL) as registry:
        assert folder(disk, ".engram")["tmp"] == {}, "what was half made is still there"
        assert memories_of(registry.space(OTHER)) == source, "the source was touched"
        try:
            space = registry.space(NEW)
        except SpaceNotFound:
            assert not process.acknowledged, "a space that was made is gone"
            assert NEW not in disk.contents(), "half a space lies in the root"
            space = registry.space(OTHER).fork(NEW, embedding=DEFAULT)
            assert space.origin is not None
            assert space.origin.reembedded is not None
            resumed = space.origin.reembedded.resumed
            assert resumed >= process.staged, "what was embedded durably was embedded again"
        else:
            with pytest.raises(SpaceExists):
                registry.space(OTHER).fork(NEW, embedding=DEFAULT)
        assert memories_of(space) == copy
        assert folder(disk, ".engram").get("staged", {}) == {}, "what nobody needs is still there"
        space.remember("after the crash", id="m99")
        disk = disk.crash(lose_everything())
    with opened(disk, SMALL) as registry:
        assert registry.space(NEW).get("m99").content == "after the crash"
    assert not disk.misuses
    return resumed


def test_a_crash_leaves_a_whole_copy_or_none_and_what_was_embedded() -> None:
    states, resumed = 0, set[int]()
    for path, disk, process in crash_states():
        states += 1
        try:
            resumed.add(check_boot(disk, process))
        except Exception as error:
            raise AssertionError(f"crash {path}: {error!r}") from error
    assert states > 200
    assert resumed >= {0, 3, 6, MEMORIES}


@pytest.mark.parametrize(
    ("code", "persistent"),
    [(errno.EIO, False), (errno.ENOSPC, False), (errno.ENOSPC, True), (errno.EMFILE, False)],
    ids=["EIO once", "ENOSPC once", "ENOSPC for good", "EMFILE once"],
)
@pytest.mark.parametrize("op", sorted(sim_vfs._OPERATIONS))
def test_whatever_call_fails_a_copy_is_whole_or_can_be_made_again(
    op: str, persistent: bool, code: int
) -> None:
    for nth in count(1):
        disk, process, error = start()[0].clone(), Process(), None
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
            check_boot(disk.crash(lose_everything()), process)
        except Exception as wrong:
            raise AssertionError(where) from wrong
