"""The one writer of a space: what is refused, and what is left when the disk fails."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import engram
from engram.errors import (
    DiskFull,
    LinkNotFound,
    MemoryExists,
    MemoryNotFound,
    OutcomeUnknown,
    TooLarge,
)
from engram.memory.decide import Associate, Command, Dissociate, Forget, Remember
from engram.memory.events import MemoryLinked, MemoryUnlinked
from engram.spaces.machine import Timed
from engram.spaces.requests import version_of
from tests.unit.conftest import CALLER, UNIT, at_once
from wal.log import Log
from wal.os_vfs import OsFile


def test_a_refused_batch_leaves_no_trace_in_what_is_decided_with_it(
    db: engram.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch too large for a record, and a forgetting of one of its memories, in one group."""
    space = db.create_space("alpha", embedding=CALLER)
    syncing, go_on, real = threading.Event(), threading.Event(), Log.sync

    def slow_sync(self: Log) -> None:
        syncing.set()
        go_on.wait()
        real(self)

    monkeypatch.setattr(Log, "sync", slow_sync)
    big = {"content": "x" * engram.limits.CONTENT_BYTES_MAX, "embedding": UNIT}
    calls: list[Callable[[], object]] = [
        lambda: space.remember("first", embedding=UNIT),
        lambda: space.remember_many([{"id": f"big{i}", **big} for i in range(33)]),
        lambda: space.forget("big0"),
        lambda: space.remember("small", id="big1", embedding=UNIT),
    ]
    store = space._entry.store()
    outcomes: list[object] = [None] * len(calls)

    def run(index: int) -> None:
        try:
            outcomes[index] = calls[index]()
        except Exception as error:
            outcomes[index] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    queue = store._committer._queue
    for index, thread in enumerate(threads):
        thread.start()
        if index == 0:
            syncing.wait()
        else:  # in this order, behind the group that is being synced
            while len(queue) < index:
                thread.join(0.001)
    go_on.set()
    for thread in threads:
        thread.join()
    assert [type(outcome) for outcome in outcomes] == [
        engram.Memory,
        TooLarge,
        engram.MemoryNotFound,
        engram.Memory,
    ]
    assert space.info().state == "active"
    db.close()
    with engram.open(db.path) as again:
        assert {m.content for m in again.space("alpha").list().memories} == {"first", "small"}


def test_links_are_decided_by_what_comes_before_them_in_their_group(db: engram.Database) -> None:
    space = db.create_space("alpha", embedding=CALLER)
    for memory_id in ("a", "b"):
        space.remember(memory_id, id=memory_id, embedding=UNIT)
    space.link("a", "b", relation="old")
    store = space._entry.store()
    machine, now_ns = store._machine, store.now_ns()
    new = version_of("", engram.NewMemory(content="anew", id="b"))
    vectors = np.array([UNIT], np.float32)

    def link(relation: str) -> Associate:
        return Associate(
            MemoryLinked(source="a", target="b", relation=relation, weight=1.0), now_ns
        )

    def unlink(relation: str) -> Dissociate:
        return Dissociate(MemoryUnlinked(source="a", target="b", relation=relation), now_ns)

    commands: list[tuple[Command, type[Exception] | None]] = [
        (unlink("new"), LinkNotFound),
        (link("new"), None),
        (unlink("new"), None),
        (unlink("new"), LinkNotFound),
        (unlink("old"), None),
        (unlink("old"), LinkNotFound),
        (link("old"), None),
        (link("more"), None),
        (Forget("b", now_ns), None),
        (link("new"), MemoryNotFound),
        (Remember([new], vectors, now_ns), None),
        (unlink("old"), LinkNotFound),
        (unlink("more"), LinkNotFound),
        (link("old"), None),
        (unlink("old"), None),
    ]

    def decide_all() -> list[type[Exception] | None]:
        outcomes: list[type[Exception] | None] = []
        for command, _ in commands:
            try:
                machine.decide(Timed(command, now_ns))
                outcomes.append(None)
            except engram.EngramError as error:
                outcomes.append(type(error))
        machine.abandon()
        return outcomes

    assert store.call(decide_all) == [refused for _, refused in commands]
    assert [link.relation for link in space.links("b").links] == ["old"]
    assert store.call(decide_all) == [refused for _, refused in commands]


def test_a_failed_sync_poisons_one_space_until_it_is_reopened(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: OsFile) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with engram.open(root) as db:
        bad, good = db.space("bad"), db.space("good")
        bad.info()
        good.info()
        with monkeypatch.context() as patched:
            patched.setattr(OsFile, "sync_data", refuse)
            with pytest.raises(OutcomeUnknown):
                bad.remember("unknown", id="unknown", embedding=UNIT)
        for _ in range(2):
            with pytest.raises(OutcomeUnknown, match="reopen"):
                bad.remember("more", embedding=UNIT)
        assert (bad.info().state, good.info().state) == ("poisoned", "active")
        assert bad.get("one").content == "bad one"  # what is durable is still served
        with pytest.raises(engram.MemoryNotFound):
            bad.get("unknown")
        good.remember("three", embedding=UNIT)
    with engram.open(root) as db:
        assert db.space("bad").info().state == "active"
        assert db.space("bad").remember("more", embedding=UNIT).position in {4, 5}


def test_no_revision_is_lost_among_many_writers(vectors: engram.Space) -> None:
    vectors.remember("x", id="x", embedding=UNIT)
    writers, each = 8, 25

    def revise(index: int) -> list[int]:
        return [
            vectors.revise("x", engram.Changes(tags=(f"{index}",), metadata={"n": n})).revision
            for n in range(each)
        ]

    results = at_once(writers, revise)
    seen = [revision for revisions in results for revision in revisions]
    assert sorted(seen) == list(range(2, 2 + writers * each))
    assert all(revisions == sorted(revisions) for revisions in results)
    assert vectors.get("x").revision == 1 + writers * each
    assert vectors.info().memories == 1


def test_of_many_who_remember_one_id_exactly_one_wins(vectors: engram.Space) -> None:
    results = at_once(
        16,
        lambda index: vectors.remember_many(
            [{"id": i, "content": f"from {index}", "embedding": UNIT} for i in ("a", "b")]
        ),
    )
    (won,) = [result for result in results if isinstance(result, engram.Remembered)]
    assert sum(isinstance(result, MemoryExists) for result in results) == 15
    assert vectors.list().memories == won.memories


def test_of_many_who_forget_one_memory_exactly_one_does(vectors: engram.Space) -> None:
    vectors.remember("x", id="x", embedding=UNIT)
    results = at_once(16, lambda _: vectors.forget("x"))
    assert sum(isinstance(result, engram.Forgotten) for result in results) == 1
    assert sum(isinstance(result, MemoryNotFound) for result in results) == 15
    assert vectors.info().position == 3


def test_a_mixed_crowd_leaves_the_log_and_the_memory_of_it_alike(
    db: engram.Database, vectors: engram.Space
) -> None:
    """Everybody remembers, revises and forgets the same few ids; what was answered must add up."""

    def crowd(index: int) -> int:
        done = 0
        for number in range(40):
            memory_id = f"m{(index + number) % 3}"
            try:
                match (index * 7 + number) % 3:
                    case 0:
                        vectors.remember(f"{index} {number}", id=memory_id, embedding=UNIT)
                    case 1:
                        vectors.revise(memory_id, engram.Changes(tags=(f"{index}.{number}",)))
                    case _:
                        vectors.forget(memory_id)
            except (MemoryExists, MemoryNotFound):
                continue
            done += 1
        return done

    results = at_once(8, crowd)
    before = (vectors.info(), vectors.list(include_embedding=False).memories)
    assert before[0].position == 1 + sum(results)
    db.close()
    with engram.open(db.path) as again:
        space = again.space("vectors")
        assert space.list().memories == before[1]
        assert (space.info().position, space.info().memories) == (
            before[0].position,
            before[0].memories,
        )


@pytest.mark.parametrize("call", ["write_at", "allocate"])
def test_a_full_disk_refuses_the_write_and_nothing_else(
    db: engram.Database, vectors: engram.Space, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(self: OsFile, *_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    vectors.remember("before", id="before", embedding=UNIT)
    big = {"content": "x" * (1 << 20), "embedding": UNIT}  # more than is allocated ahead
    with monkeypatch.context() as patched:
        patched.setattr(OsFile, call, refuse)
        for _ in range(2):
            with pytest.raises(DiskFull, match="free some space"):
                vectors.remember_many([big, big])
        assert vectors.get("before").content == "before"
        assert vectors.info().state == "read_only"
    assert vectors.remember("after", embedding=UNIT).position == 3
    assert vectors.info().state == "active"
    db.close()
    with engram.open(db.path) as again:
        held = again.space("vectors").list().memories
        assert [memory.content for memory in held] == ["before", "after"]
