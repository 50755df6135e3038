"""Sweeping with a crash at any point: what has to go is forgotten once or not at all, and nothing
else is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest

from engram.errors import EngramError
from engram.memory.model import Changes
from engram.spaces import forgetting
from engram.spaces.registry import Registry
from engram.spaces.space import Space
from tests.crash.histories import Books, Budget, aftermaths
from tests.crash.test_space_creation import SPEC
from wal.opened import LogOptions
from wal.sim_vfs import SimCrash, SimDisk

START_NS = 1_700_000_000_000_000_000
START = datetime.fromtimestamp(START_NS / 1e9, UTC)
END_S = 100
SMALL = LogOptions(segment_bytes=4_700, allocate_bytes_min=512, allocate_bytes_max=1_024)
BUDGET = Budget(few=12, samples=5)


class Clock:
    """Goes on by a second whenever a request is made, so that a space is as old everywhere."""

    def __init__(self) -> None:
        self.seconds = 0

    def __call__(self) -> int:
        return START_NS + self.seconds * 1_000_000_000


@contextmanager
def opened(disk: SimDisk, clock: Clock) -> Iterator[Registry]:
    registry = Registry(disk.root(), owner="a test", clock=clock, options=SMALL)
    try:
        yield registry
    finally:
        with suppress(SimCrash):
            registry.close()


def remember(memory_id: str, expires_s: int | None) -> Callable[[Space], object]:
    expires_at = None if expires_s is None else START + timedelta(seconds=expires_s)
    return lambda space: space.remember(
        memory_id * 200, id=memory_id, embedding=[1.0, 0.0], expires_at=expires_at
    )


def postpone(memory_id: str, expires_s: int) -> Callable[[Space], object]:
    changes = Changes(expires_at=START + timedelta(seconds=expires_s))
    return lambda space: space.revise(memory_id, changes)


def sweep(space: Space) -> object:
    return space.apply_forgetting()


# Each request takes a second, so the first is made at 1. With each, what is on record as forgotten
# behind it.
REQUESTS: list[tuple[Callable[[Space], object], set[str]]] = [
    (remember("a", 3), set()),
    (remember("b", 4), set()),
    (remember("c", None), set()),  # a is no longer shown from here on
    (sweep, {"a", "b"}),
    (remember("a", END_S + 1), {"a", "b"}),
    (remember("d", 8), {"a", "b"}),
    (postpone("d", 10), {"a", "b"}),
    (sweep, {"a", "b"}),
    (remember("e", 10), {"a", "b"}),
    (sweep, {"a", "b", "d", "e"}),
    (lambda space: space.configure(forgetting="capacity:1"), {"a", "b", "d", "e"}),
    (sweep, {"a", "b", "c", "d", "e"}),  # of a and c, c is the weaker
]


def run(disk: SimDisk, clock: Clock, acknowledged: list[int]) -> None:
    for part in (REQUESTS[:6], REQUESTS[6:]):
        with opened(disk, clock) as registry:
            space = registry.space("s")
            for request, _ in part:
                clock.seconds += 1
                request(space)
                acknowledged[0] += 1


def on_record(space: Space) -> list[str]:
    events = list(space.events(types=["memory.forgotten"]))
    assert {event.id for event in events if event.reason != "expired"} <= {"c"}
    return [event.id or "" for event in events]


def check(disk: SimDisk, clock: Clock, acknowledged: int) -> None:
    for seconds in (clock.seconds, END_S):
        clock.seconds = seconds
        with opened(disk, clock) as registry:
            space = registry.space("s")
            found = on_record(space)
            assert len(found) == len(set(found)), "one was forgotten twice"
            if seconds != END_S:
                behind = REQUESTS[max(acknowledged - 1, 0)][1] if acknowledged else set()
                ahead = REQUESTS[min(acknowledged, len(REQUESTS) - 1)][1]
                # A sweep may be cut off between two of its records, but not inside of one.
                assert behind <= set(found) <= ahead, found
                assert forgetting.FORGOTTEN_PER_RECORD_MAX == 1 or set(found) in (behind, ahead)
            shown = {memory.id for memory in space.list().memories}
            gone = space.apply_forgetting().memories
            shown -= {lapsed.id for lapsed in gone if lapsed.reason == "capacity"}
            assert {memory.id for memory in space.list().memories} == shown
            store = space._entry.store()
            assert not len(store.state.view.expired(clock() // 1_000))
    with opened(disk, clock) as registry:
        assert {m.id for m in registry.space("s").list().memories} == shown


@pytest.mark.parametrize("per_record", [1_000, 1])
def test_a_crash_at_any_point_forgets_what_expired_once_or_not_at_all(
    per_record: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "FORGOTTEN_PER_RECORD_MAX", per_record)
    start, states = SimDisk(), 0
    with opened(start, Clock()) as registry:
        registry.create("s", SPEC)
    for point in count(1):
        disk, clock, acknowledged = start.clone(), Clock(), [0]
        disk.crash_at(point, after=point % 2 == 0)
        try:
            run(disk, clock, acknowledged)
        except (SimCrash, EngramError):
            pass  # the writer's thread turns a crash into an error for its callers
        else:
            break
        seconds = clock.seconds
        for aftermath in aftermaths(disk, Books(), f"{point}", BUDGET):
            clock.seconds = seconds
            try:
                check(aftermath.disk, clock, acknowledged[0])
            except Exception as error:
                raise AssertionError(f"crash {aftermath.path}: {error!r}") from error
            states += 1
    assert acknowledged == [len(REQUESTS)]
    assert states > 100
