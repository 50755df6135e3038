"""A drill: writers that announce what they are about to do and what was acknowledged, and a ledger
that, after the process was killed, compares both with what the data root holds.

Run as a module, it is the process to kill: it writes to every space of a data root through the
embedded API, from several threads a space, and reports on stdout, one JSON line an event. A line is
written by one call before the next step is taken, so whatever was acknowledged has been reported.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import engram
from engram.memory.events import MemoryForgotten, MemoryVersion
from engram.memory.payload import decode_batch
from engram.spaces.database import Database
from engram.spaces.registry import Registry
from wal.codec import Record
from wal.opened import LogOptions
from wal.os_vfs import open_root
from wal.replay import read_live

DIMENSIONS = 4
CALLER = engram.EmbeddingSpec(model="caller", dimensions=DIMENSIONS)
SPACES: dict[str, engram.EmbeddingSpec | None] = {"north": CALLER, "south": CALLER, "east": None}
WORKERS_PER_SPACE = 3
BATCH = 7
STARTED = "started"
# Small, so that a drill passes through many segments.
OPTIONS = LogOptions(segment_bytes=48 << 10, allocate_bytes_min=16 << 10)


class Op(NamedTuple):
    """One request. `contents` belong to `ids`; forgetting has none."""

    kind: str
    ids: tuple[str, ...]
    contents: tuple[str, ...] = ()


def embedding_of(content: str) -> list[float]:
    """A vector that shows whether a memory still has its own."""
    return [float(crc32(f"{content}{i}".encode()) % 1_000 + 1) for i in range(DIMENSIONS)]


def open_small(root: Path) -> Database:
    """The data root, with segments so short that they are sealed all the time."""
    return Database(Registry(open_root(root), owner="a drill", options=OPTIONS), root)


def lay_out(root: Path) -> None:
    """A data root with the drill's spaces, and a bystander that nobody will write to."""
    with engram.open(root) as db:
        for name, embedding in SPACES.items():
            db.create_space(name, embedding=embedding)
        db.create_space("bystander").remember_many([f"undisturbed {i}" for i in range(20)])


class Writer:
    """Chooses what one worker does next. Only it touches its ids: their history is sequential."""

    def __init__(
        self, space: str, worker: int, boot: int, seed: int, living: Iterable[str]
    ) -> None:
        self.space = space
        self.worker = worker
        self._prefix = f"w{worker}-"
        self._boot = boot
        self._random = random.Random(f"{seed} {space} {worker} {boot}")
        self._number = 0
        self._living = [memory_id for memory_id in living if memory_id.startswith(self._prefix)]
        self._forgotten: list[str] = []

    def next(self) -> Op:
        dice = self._random.random()
        if dice < 0.3 and self._living:
            memory_id = self._random.choice(self._living)
            return Op("revise", (memory_id,), (self._content(memory_id),))
        if dice < 0.45 and self._living:
            return Op("forget", (self._random.choice(self._living),))
        count = BATCH if dice > 0.8 else 1
        ids = [self._new_id() for _ in range(count)]
        if self._forgotten and self._random.random() < 0.3:
            ids[-1] = self._random.choice(self._forgotten)
        return Op("remember", tuple(ids), tuple(self._content(i) for i in ids))

    def done(self, op: Op) -> None:
        for memory_id in op.ids:
            if op.kind == "forget":
                self._living.remove(memory_id)
                self._forgotten.append(memory_id)
            elif op.kind == "remember":
                self._living.append(memory_id)
                with suppress(ValueError):
                    self._forgotten.remove(memory_id)

    def _new_id(self) -> str:
        self._number += 1
        return f"{self._prefix}b{self._boot}-{self._number}"

    def _content(self, memory_id: str) -> str:
        filler = "".join(self._random.choices("abc déf猫🙂 ", k=self._random.randint(0, 400)))
        return f"{memory_id} {self._random.getrandbits(40):x} {filler}|"


def perform(space: engram.Space, op: Op) -> list[int]:
    """Do it through the embedded API; returns the positions that were acknowledged."""
    own_vectors = SPACES[space.id] is not None
    if op.kind == "forget":
        return [space.forget(op.ids[0]).position]
    if op.kind == "revise":
        changes = engram.Changes(content=op.contents[0])
        if own_vectors:
            vector: Any = embedding_of(op.contents[0])
            changes = engram.Changes(content=op.contents[0], embedding=vector)
        return [space.revise(op.ids[0], changes).position]
    items = [
        {"id": i, "content": c, **({"embedding": embedding_of(c)} if own_vectors else {})}
        for i, c in zip(op.ids, op.contents, strict=True)
    ]
    if len(items) == 1:
        return [space.remember(**items[0]).position]  # type: ignore[arg-type]
    return [memory.position for memory in space.remember_many(items).memories]


class _Known(NamedTuple):
    content: str
    revision: int
    alive: bool


class Ledger:
    """What was announced and acknowledged, over all boots of one data root. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, _Known]] = {space: {} for space in SPACES}
        self._positions: dict[str, dict[int, str]] = {space: {} for space in SPACES}
        self._open: dict[tuple[str, int], Op] = {}
        self.acknowledged = 0
        self.unanswered = 0
        self.unanswered_but_stored = 0

    def announce(self, space: str, worker: int, op: Op) -> None:
        with self._lock:
            assert (space, worker) not in self._open
            self._open[space, worker] = op

    def acknowledge(self, space: str, worker: int, positions: list[int]) -> None:
        with self._lock:
            op = self._open.pop((space, worker))
            self._fold(space, op)
            assert len(positions) == len(op.ids)
            for position, memory_id in zip(positions, op.ids, strict=True):
                assert self._positions[space].setdefault(position, memory_id) == memory_id
            self.acknowledged += 1

    def living(self, space: str) -> list[str]:
        return [memory_id for memory_id, known in self._known[space].items() if known.alive]

    def _fold(self, space: str, op: Op) -> None:
        self._known[space].update(self._after(space, op))

    def _after(self, space: str, op: Op) -> dict[str, _Known]:
        after = {}
        for index, memory_id in enumerate(op.ids):
            old = self._known[space].get(memory_id, _Known("", 0, False))
            if op.kind == "forget":
                after[memory_id] = old._replace(alive=False)
            else:
                after[memory_id] = _Known(op.contents[index], old.revision + 1, True)
        return after

    def verify(self, root: Path) -> None:
        """Compare with the data root, which nobody has open. What was announced and not answered
        must be there whole or not at all; which it was is then taken as given.
        """
        with open_small(root) as db:
            for space in SPACES:
                self._verify_contents(db.space(space))
        for space in SPACES:
            self._verify_log(root / space)

    def _verify_contents(self, space: engram.Space) -> None:
        held, after = {}, 0
        while True:
            page = space.list(limit=1_000, after=after, include_embedding=True)
            held.update({memory.id: memory for memory in page.memories})
            if page.next is None:
                break
            after = page.next
        shown = {i: _Known(m.content, m.revision, True) for i, m in held.items()}
        known = self._known[space.id]
        for key in [key for key in self._open if key[0] == space.id]:
            self._settle(space.id, self._open.pop(key), shown)
        assert shown == {i: k for i, k in known.items() if k.alive}
        for memory in held.values():
            assert memory.embedding is not None
            if SPACES[space.id] is not None:
                assert memory.embedding.tolist() == embedding_of(memory.content)
        for memory in list(held.values())[-5:]:
            vector = memory.embedding if SPACES[space.id] is not None else None
            # By itself: what it stands beside may be brought up before it.
            answer = space.recall(memory.content, embedding=vector, mode="hybrid", limit=1)
            best = answer.results[0]
            assert best.memory.id == memory.id

    def _settle(self, space: str, op: Op, shown: dict[str, _Known]) -> None:
        """Find out whether an unanswered request was carried out."""
        self.unanswered += 1
        after = self._after(space, op)
        before = {i: self._known[space].get(i, _Known("", 0, False)) for i in op.ids}
        now = {i: shown.get(i) for i in op.ids}
        if now == {i: k if k.alive else None for i, k in after.items()}:
            self.unanswered_but_stored += 1
            self._fold(space, op)
        else:
            assert now == {i: k if k.alive else None for i, k in before.items()}, f"half of {op}"

    def _verify_log(self, folder: Path) -> None:
        """Positions are dense, acknowledged ones hold what they held, and events give the state."""
        uuid = bytes.fromhex(json.loads(_body(folder / "space.json"))["uuid"])
        at: dict[int, str] = {}
        replayed: dict[str, _Known] = {}
        expected = 1

        def visit(record: Record) -> None:
            nonlocal expected
            events = decode_batch(record.payload).events
            assert record.position == expected
            assert len(events) == record.events
            for position, event in enumerate(events, expected):
                if isinstance(event, MemoryVersion):
                    at[position] = event.id
                    replayed[event.id] = _Known(event.content, event.revision, True)
                elif isinstance(event, MemoryForgotten):
                    at[position] = event.id
                    replayed[event.id] = replayed[event.id]._replace(alive=False)
            expected = record.next_position

        directory = open_root(folder)
        try:
            read_live(directory, uuid, visit)
        finally:
            directory.close()
        assert replayed == self._known[folder.name]
        assert self._positions[folder.name].items() <= at.items()


def _body(framed: Path) -> bytes:
    return framed.read_bytes().partition(b"\n")[2]


def write_without_end(
    writer: Writer,
    act: Callable[[Op], list[int]],
    announce: Callable[[Op], None],
    acknowledge: Callable[[list[int]], None],
) -> None:
    while True:
        op = writer.next()
        announce(op)
        acknowledge(act(op))
        writer.done(op)


def report(line: dict[str, Any]) -> None:
    """One line, whole, before anything else happens in this thread."""
    data = json.dumps(line).encode() + b"\n"
    with _reporting:
        while data:
            data = data[os.write(1, data) :]


_reporting = threading.Lock()


def run(root: Path, seed: int, boot: int) -> None:
    """The process to kill: writes to every space until it is."""

    def work(space: engram.Space, worker: int) -> None:
        living = [m.id for m in _all(space)]
        writer = Writer(space.id, worker, boot, seed, living)
        who = {"space": space.id, "worker": worker}
        write_without_end(
            writer,
            lambda op: perform(space, op),
            lambda op: report({**who, "op": op}),
            lambda positions: report({**who, "positions": positions}),
        )

    def guarded(space: engram.Space, worker: int) -> None:
        try:
            work(space, worker)
        except BaseException as error:
            report({"error": repr(error)})
            os._exit(1)

    with open_small(root) as db:
        threads = [
            threading.Thread(target=guarded, args=(db.space(space), worker))
            for space in SPACES
            for worker in range(WORKERS_PER_SPACE)
        ]
        report({STARTED: boot})
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _all(space: engram.Space) -> list[engram.Memory]:
    memories: list[engram.Memory] = []
    after: int | None = 0
    while after is not None:
        page = space.list(limit=1_000, after=after)
        memories += page.memories
        after = page.next
    return memories


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
