"""A process to make system calls fail in: a script over the embedded API, under strace.

Run as a module, it takes one job a line on stdin, as JSON: a data root, a file for the report, and
arguments for strace. A child, forked when everything is imported (so that no call of Python's own
is hit), waits until strace has attached to it, and then goes through :data:`STEPS`, writing what it
is about to do and what came of it. The answer, one line, is how the child ended.

The books (:class:`Books`) are for the process that compares a data root with a report.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import engram
from engram.errors import DataRootUnusable, EngramError, OutcomeUnknown, SpaceNotFound
from engram.spaces.database import Database
from engram.spaces.registry import Registry
from wal.opened import LogOptions
from wal.os_vfs import open_root

CALLER = engram.EmbeddingSpec(model="caller", dimensions=2)
# A segment takes a few memories, an allocation one: what is rare in life happens all the time.
OPTIONS = LogOptions(segment_bytes=6_000, allocate_bytes_min=512, allocate_bytes_max=1_024)
VECTOR: Any = [1.0, 2.0]


class Step(NamedTuple):
    """One request: to a space's life (`create`, `delete`, `purge`, `restore`), to its memories
    (`remember`, `revise`, `forget`), or `reopen` for the whole database.
    """

    verb: str
    space: str = ""
    ids: tuple[str, ...] = ()
    bytes: int = 30


STEPS: tuple[Step, ...] = (
    Step("create", "a"),
    Step("remember", "a", ("1",)),
    Step("remember", "a", ("2", "3"), 900),
    Step("revise", "a", ("2",)),
    Step("create", "b"),
    Step("remember", "b", ("1",), 400),
    Step("remember", "a", ("4",), 2_500),
    Step("forget", "a", ("3",)),
    Step("reopen"),
    Step("remember", "a", ("5",), 2_500),
    Step("remember", "b", ("2",)),
    Step("delete", "b"),
    Step("remember", "a", ("6", "7"), 700),
    Step("restore", "b"),
    Step("remember", "b", ("3",)),
    Step("delete", "b"),
    Step("purge", "b"),
    Step("create", "b"),
    Step("remember", "b", ("4",)),
    Step("forget", "a", ("6",)),
    Step("reopen"),
    Step("revise", "a", ("5",), 1_200),
    Step("remember", "b", ("5",)),
)
LIFE = ("create", "delete", "restore", "purge")


def content(number: int, memory_id: str) -> str:
    """What the step of this number gives a memory: no two are the same."""
    step = STEPS[number]
    return f"{number} {step.space} {memory_id} ".ljust(step.bytes, "猫")


def events_of(number: int) -> list[tuple[str, str, str]]:
    """Type, memory id and content of the events that a step on memories leaves in the log."""
    step = STEPS[number]
    name = {"remember": "stored", "revise": "revised", "forget": "forgotten"}[step.verb]
    kept = step.verb != "forget"
    return [(f"memory.{name}", i, content(number, i) if kept else "") for i in step.ids]


def open_small(root: Path) -> Database:
    """As `engram.open` does it, but with small segments."""
    try:
        directory = open_root(root)
    except OSError as error:
        raise DataRootUnusable(str(error)) from error
    try:
        registry = Registry(directory, owner="a victim", options=OPTIONS)
    except BaseException:
        directory.close()
        raise
    return Database(registry, root)


def take(db: Database, number: int) -> None:
    step = STEPS[number]
    match step.verb:
        case "create":
            db.create_space(step.space, embedding=CALLER)
        case "delete":
            db.delete_space(step.space)
        case "restore":
            db.restore_space(step.space)
        case "purge":
            db.purge_space(step.space)
        case "remember":
            db.space(step.space).remember_many(
                [{"id": i, "content": content(number, i), "embedding": VECTOR} for i in step.ids]
            )
        case "revise":
            new = engram.Changes(content=content(number, step.ids[0]), embedding=VECTOR)
            db.space(step.space).revise(step.ids[0], new)
        case _:
            db.space(step.space).forget(step.ids[0])


def writer_to(report: int) -> Callable[..., None]:
    """Something to tell what happens: it is in the report before it returns."""

    def tell(**line: Any) -> None:
        data = json.dumps(line).encode() + b"\n"
        while data:
            data = data[os.write(report, data) :]

    return tell


def go_through(root: Path, tell: Callable[..., None]) -> None:
    """All steps; whatever an `EngramError` says, the next one is tried."""
    db: Database | None = None
    for number, step in enumerate(STEPS):
        try:
            if step.verb == "reopen" and db is not None:
                db.close()
                db = None
            if db is None:
                db = open_small(root)
            if step.verb != "reopen":
                tell(begun=number)
                take(db, number)
                tell(done=number)
        except OutcomeUnknown as error:
            tell(unknown=number, error=repr(error))
        except EngramError as error:
            tell(refused=number, error=repr(error))
    if db is not None:
        db.close()
    tell(ended=True)


class Books:
    """What a report says of each step: begun, done, refused or unknown."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.fate: dict[int, str] = {}
        self.errors: list[str] = []
        self.ended = False
        for line in lines:
            if not line.endswith("\n"):
                break  # killed in the middle of a line
            told = json.loads(line)
            self.errors += [told["error"]] if "error" in told else []
            self.ended |= "ended" in told
            if "crashed" in told:
                raise AssertionError(told["crashed"])
            for fate in ("begun", "done", "unknown", "refused"):
                if fate in told:
                    self.fate[told[fate]] = fate

    @classmethod
    def of(cls, report: Path) -> Books:
        return cls(report.read_text().splitlines(keepends=True))

    def check(self, root: Path) -> None:
        """Hold a data root against the books, use it, and see that what it showed stays."""
        first = dict(self._look(root))
        assert dict(self._look(root)) == first, "a second look shows something else"

    def _look(self, root: Path) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
        with open_small(root) as db:
            for name in ("a", "b"):
                numbers = [n for n, step in enumerate(STEPS) if step.space == name]
                state, events = state_of(db, name)
                incarnations = [start for found, start in self._lives(numbers) if found == state]
                assert incarnations, f"{name} is {state} after {self.fate}"
                if state == "gone":
                    continue
                problems = [self._history_wrong(numbers, start, events) for start in incarnations]
                assert None in problems, f"{name}: {problems}"
                yield name, events

    def _lives(self, numbers: Sequence[int]) -> set[tuple[str, int]]:
        """The states a space may be in, each with the step that made it."""
        states = {("gone", -1)}
        legal = {
            "create": ("gone", "alive"),
            "delete": ("alive", "deleted"),
            "restore": ("deleted", "alive"),
            "purge": ("deleted", "gone"),
        }
        for number in numbers:
            fate = self.fate.get(number)
            if STEPS[number].verb not in LIFE or fate in (None, "refused"):
                continue
            source, target = legal[STEPS[number].verb]
            moved = {
                (target, number if source == "gone" else start)
                for state, start in states
                if state == source
            }
            states = moved if fate == "done" else states | moved
            assert states, f"step {number} was acknowledged, though it was impossible"
        return states

    def _history_wrong(
        self, numbers: Sequence[int], start: int, events: list[tuple[str, str, str]]
    ) -> str | None:
        """Why these events cannot be the history of the space that step `start` made."""
        at = 1
        for number in numbers:
            if number <= start or STEPS[number].verb in LIFE:
                continue
            wanted = events_of(number)
            there = events[at : at + len(wanted)] == wanted
            fate = self.fate.get(number)
            if there and fate in (None, "refused"):
                return f"step {number} is there, which was {fate or 'never begun'}"
            if not there and fate == "done":
                return f"step {number} was acknowledged and is not there: {events[at:]}"
            at += len(wanted) if there else 0
        return None if at == len(events) else f"nobody asked for {events[at:]}"


def state_of(db: Database, name: str) -> tuple[str, list[tuple[str, str, str]]]:
    """alive, deleted or gone, and the memory events, behind that of the creation."""
    try:
        space = db.space(name)
        space.list()
        state = "alive"
    except SpaceNotFound:
        if not any(i.memory_space_id == name for i in db.spaces(deleted=True)):
            return "gone", []
        space = db.restore_space(name)
        state = "deleted"
    events = list(space.events())
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    told = [event for event in events if event.type.startswith(("memory.", "space.created"))]
    assert told[0].type == "space.created"
    living: dict[str, str] = {}
    found = []
    for event in told:
        memory = event.memory
        memory_id = memory.id if memory else event.id or ""
        found.append((event.type, memory_id, memory.content if memory else ""))
        if memory:
            living[memory_id] = memory.content
        else:
            living.pop(memory_id, None)
    assert {m.id: m.content for m in space.list(limit=1_000).memories} == living
    if state == "deleted":
        db.delete_space(name)
    return state, found


def child(root: Path, report: int, start: int) -> None:
    """Never returns."""
    try:
        os.read(start, 1)
        go_through(root, writer_to(report))
    except BaseException:
        line = json.dumps({"crashed": traceback.format_exc()})
        os.write(report, line.encode() + b"\n")
        os._exit(1)
    os._exit(0)


def carry_out(job: dict[str, Any]) -> int:
    """One job, in a forked child; how it ended, as `subprocess` says it."""
    root, begin = Path(job["root"]), os.pipe()
    report = os.open(job["report"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    pid = os.fork()
    if pid == 0:
        child(root, report, begin[0])
    try:
        with subprocess.Popen(
            ["strace", "-f", "-o", job["trace"], *job["strace"], "-p", str(pid)],
            stderr=subprocess.PIPE,
            text=True,
        ) as tracer:
            assert tracer.stderr is not None
            said = tracer.stderr.readline()
            if "attached" not in said:
                os.kill(pid, 9)
                os.waitpid(pid, 0)
                raise RuntimeError(said)
            os.write(begin[1], b"g")
            _, status = os.waitpid(pid, 0)
            tracer.stderr.read()
    finally:
        for fd in (report, *begin):
            os.close(fd)
    return os.waitstatus_to_exitcode(status)


def warm_up(folder: Path) -> None:
    """Import and compute whatever is done late, so that the children need no files for it."""
    folder.mkdir()
    report = os.open(folder / "report", os.O_WRONLY | os.O_CREAT, 0o600)
    (folder / "data").mkdir()
    go_through(folder / "data", writer_to(report))
    os.close(report)
    books = Books.of(folder / "report")
    assert set(books.fate.values()) == {"done"}, books.errors
    books.check(folder / "data")


if __name__ == "__main__":
    warm_up(Path(sys.argv[1]))
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            print(json.dumps({"exit": carry_out(json.loads(line))}), flush=True)
        except Exception as error:
            print(json.dumps({"error": repr(error)}), flush=True)
