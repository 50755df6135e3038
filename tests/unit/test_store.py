"""The one writer of a space: what is refused, and what is left when the disk fails."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import engram
from engram.errors import (
    OutcomeUnknown,
    TooLarge,
)
from tests.unit.conftest import CALLER, UNIT
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
