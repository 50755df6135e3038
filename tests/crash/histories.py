"""Histories of a log on the simulated disk, and what must hold after a crash anywhere in one.

A history is a list of steps. :func:`play` runs it and keeps the books: what was submitted, in
order, and how much of it was acknowledged (a sync returned). :func:`check` opens what a crash left
and compares. A crash is tried at every call that changes something, before and after its effect;
of the states it can leave, all where they are few, else a seeded sample (:func:`aftermaths`).

A failure prints one line that repeats it: `python -m tests.crash.histories 'segments@16+killed'`
plays the history `segments` into a crash after its 16th change and checks what `kill -9` leaves.
Further parts, `'segments@16+killed@3-lost'`, are crashes while recovering from the one before.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from operator import ge
from random import Random
from typing import Final, NamedTuple

from wal import format as f
from wal.codec import Draft, Record
from wal.create import create_log
from wal.log import Log
from wal.opened import LogOptions
from wal.sim_vfs import (
    Contents,
    SimCrash,
    SimDisk,
    every_outcome,
    keep_everything,
    lose_everything,
    sample,
)
from wal.vfs import Directory

UUID: Final = bytes(range(16))
SPACE: Final = "space"
FIRST: Final = Draft([b"the record a log is born with"], 1, 1_000)
# A segment holds a few small records, an allocation a fraction of a large one.
SMALL: Final = LogOptions(segment_bytes=6_000, allocate_bytes_min=1_024, allocate_bytes_max=4_096)


class Append(NamedTuple):
    """Write a record of each size behind each other; durable with the next sync only."""

    sizes: tuple[int, ...]


class Sync(NamedTuple):
    """Make what was appended durable."""


class Reopen(NamedTuple):
    """Close the log, cleanly, and open it again."""


Step = Append | Sync | Reopen
History = tuple[Step, ...]


def appends(*sizes: int) -> History:
    """One synced group."""
    return (Append(sizes), Sync())


HISTORIES: Final[dict[str, History]] = {
    "one record after the other": appends(10) + appends(1) + appends(0) + appends(300),
    "groups": appends(10, 700, 3) + appends(5, 5, 5, 5) + appends(600, 40),
    "records larger than an allocation": appends(5_000) + appends(3, 9_000, 3) + appends(20),
    "segments": (appends(2_500, 30) + appends(1_000)) * 4,
    "reopened again and again": (*appends(400, 30), Reopen()) * 4,
    "reopened where segments end": (*appends(2_500, 30), Reopen()) * 3 + appends(9),
    "several writes to one sync": (
        *(Append((90, 10)), Append((700,)), Append((5,)), Sync()),
        *(Append((2_000,)), Append((2_000, 1)), Sync(), Append((8,)), Reopen(), *appends(4)),
    ),
    "closed with a group unsynced": (*appends(50), Append((600, 20)), Reopen(), *appends(7)),
}


def random_history(seed: int) -> History:
    """A longer history drawn from a seed."""
    rng = Random(seed)
    steps: list[Step] = []
    for _ in range(rng.randrange(6, 16)):
        sizes = (0, 1, 7, 8, 60, 440, 448, 512, 1_000, 3_000, 7_000)
        steps.append(Append(tuple(rng.choice(sizes) for _ in range(rng.randrange(1, 5)))))
        if rng.random() < 0.8:
            steps.append(Sync())
        if rng.random() < 0.15:
            steps.append(Reopen())
    return tuple(steps)


def payload(number: int, size: int) -> bytes:
    """Contents of the `number`-th record: noise, zeros, or what looks like records."""
    match number % 4:
        case 0:
            return bytes(size)
        case 1:
            return (f.RECORD_MAGIC + b"\0\0\0\0" * 15)[: f.RECORD_HEADER_BYTES] * (size // 64 + 1)
        case _:
            return Random(number).randbytes(size)


def draft(number: int, size: int) -> Draft:
    """The `number`-th record of a history; now and then the clock goes back."""
    data = payload(number, size)[:size]
    cut = size // 3
    time_ns = 1_000 * number - (1_500 if number % 3 == 0 else 0)
    return Draft([data[:cut], data[cut:]], 1 + number % 3, max(0, time_ns))


def joined(draft: Draft) -> bytes:
    return b"".join(draft.payload)


def new_nonce(salt: bytes = b"") -> Callable[[], bytes]:
    """Nonces that repeat themselves from run to run."""
    numbers = count(1)
    return lambda: (b"%d " % next(numbers) + salt).ljust(16, b".")


@dataclass
class Books:
    """What was submitted, in order, and how many records of it were acknowledged."""

    submitted: list[Draft] = field(default_factory=lambda: [FIRST])
    acknowledged: int = 1

    @property
    def key(self) -> tuple[int, int]:
        return len(self.submitted), self.acknowledged


class Fact(NamedTuple):
    """A record as recovered, copied."""

    position: int
    events: int
    time_ns: int
    payload: bytes

    @classmethod
    def of(cls, record: Record) -> Fact:
        return cls(record.position, record.events, record.time_ns, bytes(record.payload))


def make_space(disk: SimDisk, uuid: bytes = UUID, name: str = SPACE, salt: bytes = b"") -> None:
    """A new log in a folder of the root, durably."""
    root = disk.root()
    space_dir = root.make_dir(name)
    nonce = (b"the first" + salt).ljust(16, b".")
    create_log(space_dir, space_uuid=uuid, nonce=nonce, now_ns=1_000, first=FIRST)
    root.sync()


def open_log(
    disk: SimDisk,
    visit: Callable[[Record], None] = lambda record: None,
    *,
    nonce: Callable[[], bytes] | None = None,
    options: LogOptions = SMALL,
    space_dir: Directory | None = None,
) -> Log:
    return Log.open(
        space_dir or disk.root().open_dir(SPACE),
        space_uuid=UUID,
        owner="a test",
        visit=visit,
        nonce=nonce or new_nonce(),
        now_ns=2_000,
        options=options,
    )


def recover(
    disk: SimDisk, options: LogOptions = SMALL, nonce: Callable[[], bytes] | None = None
) -> tuple[Log, list[Fact]]:
    """Open the log; also what opening handed out."""
    facts: list[Fact] = []
    log = open_log(disk, lambda r: facts.append(Fact.of(r)), nonce=nonce, options=options)
    return log, facts


def play(
    disk: SimDisk,
    history: Sequence[Step],
    books: Books,
    options: LogOptions = SMALL,
    nonce: Callable[[], bytes] | None = None,
) -> None:
    """Run a history. On a crash, `books` say what had been submitted and acknowledged."""
    nonce = nonce or new_nonce()
    log = open_log(disk, nonce=nonce, options=options)
    for step in history:
        match step:
            case Append(sizes):
                first = len(books.submitted)
                drafts = [draft(first + i, size) for i, size in enumerate(sizes)]
                books.submitted += drafts
                log.append(drafts)
            case Sync():
                log.sync()
                books.acknowledged = len(books.submitted)
            case Reopen():
                log.close()
                log, found = recover(disk, options, nonce)
                # What is served is a promise too.
                books.acknowledged = len(found)
    log.close()


def _fresh_space() -> SimDisk:
    disk = SimDisk()
    make_space(disk)
    return disk


_FRESH: Final = _fresh_space()


def fresh_space() -> SimDisk:
    """A disk with a durable, empty space on it and a count of changes that starts at 0."""
    return _FRESH.clone()


class Budget(NamedTuple):
    """How many outcomes of one crash to try: all if they are at most `few`, else `samples`."""

    few: int
    samples: int


class Aftermath(NamedTuple):
    """A disk as the next boot finds it, what had been promised, and how to get there."""

    path: str
    disk: SimDisk
    books: Books


def aftermaths(dead: SimDisk, books: Books, path: str, budget: Budget) -> Iterator[Aftermath]:
    """What a crash may leave: nothing, everything, and what `kill -9` leaves (everything, but not
    durable yet); then other outcomes as the budget allows.
    """
    yield Aftermath(f"{path}lost", dead.crash(lose_everything()), books)
    yield Aftermath(f"{path}kept", dead.crash(keep_everything()), books)
    yield Aftermath(f"{path}killed", dead.clone(), books)
    everything = list(islice(every_outcome(dead.crash), budget.few + 1))
    if len(everything) <= budget.few:
        for number, disk in enumerate(everything):
            yield Aftermath(f"{path}outcome{number}", disk, books)
        return
    for number in range(budget.samples):
        choice = sample(Random(f"{path}{number}"))
        yield Aftermath(f"{path}sample{number}", dead.crash(choice), books)


def crashes(name: str, history: History, budget: Budget) -> Iterator[Aftermath]:
    """Every crash point of a history, with outcomes."""
    for point, after in _points():
        disk, books = fresh_space(), Books()
        disk.crash_at(point, after=after)
        try:
            play(disk, history, books)
        except SimCrash:
            yield from aftermaths(disk, books, f"{name}@{point}{'-+'[after]}", budget)
        else:
            return


def crashes_in_recovery(start: Aftermath, budget: Budget) -> Iterator[Aftermath]:
    """Every crash point of opening what a crash left, with outcomes."""
    for point, after in _points():
        disk = start.disk.clone()
        disk.crash_at(point, after=after)
        try:
            open_log(disk)
        except SimCrash:
            yield from aftermaths(disk, start.books, f"{start.path}@{point}{'-+'[after]}", budget)
        else:
            return


def _points() -> Iterator[tuple[int, bool]]:
    return ((point, after) for point in count(1) for after in (False, True))


class Seen:
    """States that were checked already. A kill leaves more than contents and is never one."""

    def __init__(self) -> None:
        self._states: set[object] = set()
        self.checked = 0

    def is_new(self, aftermath: Aftermath) -> bool:
        if not aftermath.path.endswith("killed"):
            state = (_frozen(aftermath.disk.contents()), aftermath.books.key)
            if state in self._states:
                return False
            self._states.add(state)
        self.checked += 1
        return True


def check_aftermath(aftermath: Aftermath) -> None:
    """:func:`check`, naming the line that repeats a failure."""
    try:
        check(aftermath.disk.clone(), aftermath.books)
    except Exception as error:
        again = f"python -m tests.crash.histories {aftermath.path!r}"
        raise AssertionError(f"{error!r}\nrepeat with: {again}") from error


def named_history(name: str) -> History:
    return random_history(int(name[6:])) if name.startswith("random") else HISTORIES[name]


def repeat(path: str) -> None:
    """Go to one aftermath and check it."""
    name, *steps = path.split("@")
    disk, books = fresh_space(), Books()
    for index, step in enumerate(steps):
        match = re.fullmatch(r"(\d+)([-+])(\w+)", step)
        if match is None:
            raise ValueError(f"{step!r} is not a point, - or +, and an outcome")
        disk.crash_at(int(match[1]), after=match[2] == "+")
        try:
            play(disk, named_history(name), books) if index == 0 else open_log(disk)
        except SimCrash:
            pass
        here = "@".join([name, *steps[:index], match[1] + match[2]])
        disk = _outcome(disk, books, here, match[3])
    check(disk, books)


def _outcome(dead: SimDisk, books: Books, path: str, how: str) -> SimDisk:
    kind = re.fullmatch(r"([a-z]+)(\d*)", how)
    if kind is None:
        raise ValueError(f"{how!r} is not an outcome")
    number = int(kind[2] or 0)
    if kind[1] == "outcome":
        return next(islice(every_outcome(dead.crash), number, None))
    budget = Budget(few=0, samples=number + 1)
    return next(a.disk for a in aftermaths(dead, books, path, budget) if a.path == path + how)


def _frozen(contents: Contents) -> object:
    return tuple(
        (name, _frozen(inner) if isinstance(inner, dict) else hash(inner))
        for name, inner in contents.items()
        if name != "LOCK"
    )


def check(disk: SimDisk, books: Books) -> None:
    """Open what a crash left and hold it against the books; then use it, and lose power again."""
    log, found = recover(disk)
    check_facts(found, books)
    check_reads(log, found)

    # What was served once has to stay, though nobody appended or closed.
    disk = _power_cut(disk)
    log, again = recover(disk)
    assert again == found, "recovery run twice gives something else than once"
    assert log.opened.quarantined is None, "the second recovery had something to mend"
    extra = [draft(900, 70), draft(901, 3_000)]
    log.append(extra)
    log.sync()
    disk = _power_cut(disk)

    log, longer = recover(disk)
    check_continued(longer, found, extra)
    log.append([draft(902, 5_000)])
    log.sync()
    log.append([draft(903, 1)])
    log.sync()
    log.close()
    log, last = recover(disk)
    assert last[:-2] == longer, "a clean close changed history"
    check_reads(log, last)
    log.close()
    assert not disk.misuses, disk.misuses


def check_facts(found: Sequence[Fact], books: Books) -> None:
    """A prefix of what was submitted, whole, with all that was acknowledged; dense; monotone."""
    expected = [joined(draft) for draft in books.submitted]
    payloads = [fact.payload for fact in found]
    assert payloads == expected[: len(payloads)], "what was recovered was never submitted so"
    assert len(payloads) >= books.acknowledged, (
        f"{books.acknowledged} records were acknowledged, {len(payloads)} are left"
    )
    next_position = 1
    for fact, submitted in zip(found, books.submitted, strict=False):
        assert fact.position == next_position, "positions are not dense"
        assert fact.events == submitted.events, "a record has another number of events"
        next_position += fact.events
    times = [fact.time_ns for fact in found]
    assert times == sorted(times), "time runs backwards"
    given = [submitted.time_ns for submitted in books.submitted[: len(found)]]
    assert all(map(ge, times, given)), "a time lies before the one that was given"


def check_continued(found: Sequence[Fact], before: Sequence[Fact], extra: Sequence[Draft]) -> None:
    """`found` is `before` and then the acknowledged `extra`, nothing else."""
    assert found[: len(before)] == list(before), "appending after recovery changed history"
    payloads = [fact.payload for fact in found[len(before) :]]
    assert payloads == [joined(d) for d in extra], "what was appended after recovery is not there"


def check_reads(log: Log, found: Sequence[Fact]) -> None:
    """Reading gives what replay visited, from the start and from within."""
    assert [Fact.of(r) for r in log.read(1)] == list(found), "reading differs from replay"
    assert list(log.read(log.durable_position + 1)) == [], "something stands behind the end"
    if found:
        middle = found[len(found) // 2]
        position = middle.position + middle.events - 1
        tail = [Fact.of(r) for r in log.read(position)]
        assert tail == list(found[len(found) // 2 :]), "reading from within differs"


def _power_cut(disk: SimDisk) -> SimDisk:
    return disk.crash(lose_everything())


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        repeat(argument)
        print(f"{argument}: holds")
