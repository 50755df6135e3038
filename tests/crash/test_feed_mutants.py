"""Bugs of the feed, planted one at a time: each must be caught by the check it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

import engram.feed.feed
import engram.feed.reader
from engram.errors import EngramError
from engram.feed.cursor import Behind, Live, Skip, Snapshot, Wait, plan
from engram.feed.feed import Feed
from engram.feed.reader import Page, Reader, check_after
from engram.memory.model import Changes, Event
from engram.spaces import machine
from engram.spaces.space import Space
from tests.crash.test_space_creation import SPEC, opened
from wal.sim_vfs import SimDisk, lose_everything

Patch = pytest.MonkeyPatch
VECTOR = [1.0, 2.0]
TAIL = 6
ROUNDS = 12
FILTERS: tuple[tuple[str, ...], ...] = (
    (),
    ("memory.stored",),
    ("memory.revised", "memory.forgotten"),
)


def take_all(reader: Reader) -> list[Event]:
    """Everything a reader can have now."""
    taken: list[Event] = []
    for _ in range(1_000):
        page = reader.history() if reader.behind else reader.live()
        if page is None:
            return taken
        taken += [entry.event for entry in page.entries]
    raise AssertionError("a reader that never gets to the end")


def write(space: Space, number: int) -> Iterator[str]:
    """A few writes; gives the type of each event they made, before the next is made."""
    ids = [f"{number}-{letter}" for letter in "abc"]
    space.remember_many([{"id": i, "content": i, "embedding": VECTOR} for i in ids])
    yield from ["memory.stored"] * 3
    space.revise(ids[0], Changes(content="revised", embedding=VECTOR))
    yield "memory.revised"
    space.forget(ids[1])
    yield "memory.forgotten"


class Follower:
    """Looks at every `pace`-th chance, and comes back with a new reader at every third look."""

    def __init__(self, space: Space, types: Sequence[str], pace: int) -> None:
        self.told: list[tuple[int, str]] = []
        self._types = types
        self._pace = pace
        self._chances = 0
        self._reader = space.reader(0, types)

    def may_look(self, space: Space) -> None:
        self._chances += 1
        if self._chances % self._pace == 0:
            self.look()
        if self._chances % (3 * self._pace) == 0:
            self.come_back(space)

    def look(self) -> None:
        self.told += [(event.position, event.type) for event in take_all(self._reader)]

    def come_back(self, space: Space) -> None:
        self._reader = space.reader(self._reader.position, self._types)


def everyone_is_told_everything_once_and_in_order() -> None:
    """With a short tail, readers of every pace, and the space opened anew in between."""
    disk = SimDisk()
    with opened(disk) as registry:
        registry.create("s", SPEC)
    happened = ["space.created"]
    followers: list[Follower] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engram.feed.feed, "TAIL_EVENTS_MAX", TAIL)
        for part in range(2):
            with opened(disk) as registry:
                space = registry.space("s")
                for follower in followers:
                    follower.come_back(space)
                followers = followers or [
                    Follower(space, types, pace) for types in FILTERS for pace in (1, 2, 7, 30)
                ]
                unsubscribe = space.reader(0, ()).feed.subscribe(lambda: None)
                for number in range(ROUNDS):
                    for name in write(space, part * ROUNDS + number):
                        happened.append(name)
                        for follower in followers:
                            follower.may_look(space)
                for follower in followers:
                    follower.look()
                unsubscribe()
    for follower, types in zip(followers, (t for t in FILTERS for _ in range(4)), strict=True):
        wanted = [(p, name) for p, name in enumerate(happened, 1) if not types or name in types]
        assert follower.told == wanted


def nothing_is_told_before_the_disk_has_it() -> None:
    disk = SimDisk()
    too_early: list[Event] = []
    with opened(disk) as registry:
        space = registry.create("s", SPEC)
        reader = space.reader(None, ())

        def look() -> None:
            with opened(disk.clone().crash(lose_everything())) as after_a_crash:
                durable = after_a_crash.space("s").info().position
            assert durable is not None
            too_early.extend(event for event in take_all(reader) if event.position > durable)

        unsubscribe = reader.feed.subscribe(look)
        for _ in write(space, 1):
            pass
        unsubscribe()
        assert reader.position == space.info().position
    assert too_early == []


def who_reads_the_log_while_it_is_written_can_come_back() -> None:
    """Between a sync and the publication of what was synced, the log is ahead of the feed."""
    real = machine.Machine.commit
    looks = 0
    with opened(SimDisk()) as registry, pytest.MonkeyPatch.context() as patch:
        space = registry.create("s", SPEC)

        def commit(machine: Any, decided: Any) -> Any:
            nonlocal looks
            looks += 1
            space.reader(take_all(space.reader(0, ()))[-1].position, ())
            return real(machine, decided)

        patch.setattr(machine.Machine, "commit", commit)
        for _ in write(space, 1):
            pass
    assert looks == 3


def publishes_before_the_sync(patch: Patch) -> None:
    real = machine.Machine.decide

    def decide(self: Any, timed: Any) -> Any:
        decided = real(self, timed)
        end = self._feed.snapshot.durable
        self._feed.publish([(decided.staged.record.batch, end + 1, timed.time_ns)])
        return decided

    def commit(self: Any, decided: Any) -> Any:
        with pytest.MonkeyPatch.context() as late:
            late.setattr(self._feed, "publish", lambda records: None)
            return real_commit(self, decided)

    real_commit = machine.Machine.commit
    patch.setattr(machine.Machine, "decide", decide)
    patch.setattr(machine.Machine, "commit", commit)


def tells_what_the_log_has_and_the_feed_has_not(patch: Patch) -> None:
    def history(self: Reader) -> Page:
        entries = [entry for entry in self._read_log(self.position + 1) if self._wants(entry)]
        self.position = entries[-1].position if entries else self.position
        return Page(entries, self.position)

    patch.setattr(Reader, "history", history)


def planning(patch: Patch, change: Callable[..., Any]) -> None:
    """Have readers go by `change(scanned, types, snapshot, most)`."""
    patch.setattr(engram.feed.reader, "plan", change)


def skips_what_the_tail_has_dropped(patch: Patch) -> None:
    def change(scanned: int, types: Any, snapshot: Snapshot[Any], most: int) -> Any:
        step = plan(scanned, types, snapshot, most)
        if not isinstance(step, Behind):
            return step
        stop = min(len(snapshot.tail), most)
        return Live(0, stop, snapshot.first + stop - 1) if stop else Skip(snapshot.durable)

    planning(patch, change)


def believes_that_no_type_has_come(patch: Patch) -> None:
    planning(patch, lambda s, types, snapshot, m: plan(s, types, snapshot._replace(newest={}), m))


def looks_at_one_type_of_several(patch: Patch) -> None:
    def change(scanned: int, types: Any, snapshot: Snapshot[Any], most: int) -> Any:
        step = plan(scanned, sorted(types)[:1], snapshot, most)
        return step if isinstance(step, Skip) else plan(scanned, types, snapshot, most)

    planning(patch, change)


def counts_the_tail_from_the_wrong_end(patch: Patch) -> None:
    def change(scanned: int, types: Any, snapshot: Snapshot[Any], most: int) -> Any:
        return plan(scanned, types, snapshot._replace(first=snapshot.first + 1), most)

    planning(patch, change)


def waits_one_event_too_early(patch: Patch) -> None:
    def change(scanned: int, types: Any, snapshot: Snapshot[Any], most: int) -> Any:
        last = scanned == snapshot.durable - 1
        return Wait() if last else plan(scanned, types, snapshot, most)

    planning(patch, change)


def reads_the_log_from_what_it_has_already_told(patch: Patch) -> None:
    real = Reader.__init__

    def begin(self: Reader, feed: Feed, read_log: Any, *rest: Any) -> None:
        real(self, feed, lambda position: read_log(max(1, position - 1)), *rest)

    patch.setattr(Reader, "__init__", begin)


def resuming(patch: Patch, by: int) -> None:
    def check(after: Any, durable: int) -> int:
        return max(0, min(check_after(after, durable) + by, durable))

    patch.setattr(engram.feed.reader, "check_after", check)


def resumes_one_too_far(patch: Patch) -> None:
    resuming(patch, 1)


def resumes_one_too_early(patch: Patch) -> None:
    resuming(patch, -1)


def takes_a_reopened_space_for_an_empty_one(patch: Patch) -> None:
    real = Feed.begin
    patch.setattr(Feed, "begin", lambda self, position: real(self, 0))


def tells_only_the_first_event_of_a_record(patch: Patch) -> None:
    real = engram.feed.feed.tell

    def tell(*args: Any) -> list[Event]:
        return list(real(*args))[:1]

    patch.setattr(engram.feed.feed, "tell", tell)


MUTANTS: list[tuple[Callable[[Patch], None], Callable[[], None]]] = [
    (publishes_before_the_sync, nothing_is_told_before_the_disk_has_it),
    (
        tells_what_the_log_has_and_the_feed_has_not,
        who_reads_the_log_while_it_is_written_can_come_back,
    ),
    (skips_what_the_tail_has_dropped, everyone_is_told_everything_once_and_in_order),
    (believes_that_no_type_has_come, everyone_is_told_everything_once_and_in_order),
    (looks_at_one_type_of_several, everyone_is_told_everything_once_and_in_order),
    (counts_the_tail_from_the_wrong_end, everyone_is_told_everything_once_and_in_order),
    (waits_one_event_too_early, everyone_is_told_everything_once_and_in_order),
    (reads_the_log_from_what_it_has_already_told, everyone_is_told_everything_once_and_in_order),
    (resumes_one_too_far, everyone_is_told_everything_once_and_in_order),
    (resumes_one_too_early, everyone_is_told_everything_once_and_in_order),
    (takes_a_reopened_space_for_an_empty_one, everyone_is_told_everything_once_and_in_order),
    (tells_only_the_first_event_of_a_record, everyone_is_told_everything_once_and_in_order),
]
CHECKS = list(dict.fromkeys(check for _, check in MUTANTS))


@pytest.mark.parametrize("holds", CHECKS, ids=lambda check: check.__name__)
def test_the_check_holds_for_the_feed_as_it_is(holds: Callable[[], None]) -> None:
    holds()


@pytest.mark.parametrize(
    ("mutate", "holds"), MUTANTS, ids=[mutate.__name__ for mutate, _ in MUTANTS]
)
def test_the_check_catches_a_feed_that(
    mutate: Callable[[Patch], None], holds: Callable[[], None], monkeypatch: Patch
) -> None:
    mutate(monkeypatch)
    with pytest.raises((AssertionError, EngramError)):
        holds()
