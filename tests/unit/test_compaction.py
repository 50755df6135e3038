"""Compacting a space: what is recalled stays, opening gets short, and nothing stops meanwhile."""

from __future__ import annotations

import errno
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engram
from engram.errors import DiskFull, EngramError, OutcomeUnknown, SpaceDamaged, Unavailable
from engram.memory.model import EmbeddingSpec, Filter
from engram.spaces import compactor
from engram.spaces.space import Space
from engram.spaces.verify import verify
from tests.format.golden import score_without_uses
from tests.unit.conftest import wait_until
from wal.live_set import plan_change

VECTORS = EmbeddingSpec(model="caller", dimensions=3)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[engram.Database]:
    with engram.open(tmp_path) as opened:
        yield opened


def filled(db: engram.Database) -> Space:
    alpha = db.create_space("alpha", embedding=VECTORS)
    for number in range(40):
        alpha.remember(
            f"memory number {number} about {'keys' if number % 2 else 'lunch'}",
            id=f"m{number}",
            tags=[f"t{number % 3}"],
            metadata={"n": number},
            embedding=[number, 1.0, 2.0],
        )
    alpha.revise("m3", engram.Changes(tags=["revised"]))
    alpha.forget("m4")
    alpha.forget("m5")
    alpha.remember("again", id="m5", embedding=[9, 9, 9])
    return alpha


def everything(space: Space, *, histories: bool = True) -> dict[str, object]:
    """All that can be asked of the space."""
    cue = np.array([3.0, 1.0, 2.0], np.float32)
    recalls = [
        space.recall(
            "memory about keys", embedding=cue, limit=20, record=False, mode=mode, explain=True
        )
        for mode in ("hybrid", "lexical", "similarity")
    ]
    listed = space.list(limit=100, include_embedding=True).memories
    filters = [Filter(tags_any=("t1",)), Filter(metadata={"n": {"$gt": 7}}), Filter(kind="fact")]
    return {
        "memories": [repr(memory) for memory in listed],
        "recalled": [
            [(hit.memory.id, score_without_uses(hit)) for hit in each] for each in recalls
        ],
        "filtered": [[m.id for m in space.list(each, limit=100).memories] for each in filters],
        "histories": [
            [event.position for event in space.history(f"m{n}")]
            for n in ((3, 4, 5, 6) if histories else ())
        ],
    }


def test_nothing_that_is_asked_for_changes(db: engram.Database, tmp_path: Path) -> None:
    alpha = filled(db)
    before = everything(alpha)
    done = alpha.compact()
    assert done.checkpoint_position == 45
    assert done.oldest_position == 1
    assert everything(alpha) == before
    db.close()
    with engram.open(tmp_path) as again:
        assert everything(again.space("alpha")) == before
        restored = again.space("alpha").restore("m4")
        assert (restored.id, restored.revision) == ("m4", 2)
        assert again.space("alpha").revise("m5", engram.Changes(tags=["x"])).revision == 3
        types = [event.type for event in again.space("alpha").history("m4")]
        assert types == ["memory.stored", "memory.forgotten", "memory.restored"]


def test_only_what_was_written_since_is_replayed(db: engram.Database, tmp_path: Path) -> None:
    alpha = filled(db)
    alpha.compact()
    alpha.remember("written since", embedding=[1, 1, 1])
    db.close()
    with engram.open(tmp_path) as again:
        space = again.space("alpha")
        opened = space._store().log.opened
        assert (opened.replayed_from, opened.records) == (46, 2)  # the compaction told is the other
        assert (
            space.recall("written since", mode="lexical", record=False).results[0].memory.position
            == 47
        )


def test_compacting_again_with_nothing_new_writes_nothing(db: engram.Database) -> None:
    alpha = filled(db)
    first = alpha.compact()
    second = alpha.compact()  # which finds that the first was told
    third = alpha.compact()
    assert first.checkpoint_position < second.checkpoint_position < third.checkpoint_position
    checkpoints = alpha._store().log.checkpoints
    assert [each.position for each in checkpoints] == [
        second.checkpoint_position,
        third.checkpoint_position,
    ], "the one before stays, and no other"


def test_a_compaction_is_told(db: engram.Database) -> None:
    alpha = filled(db)
    done = alpha.compact()
    *_, event = alpha.events()
    assert (event.type, event.checkpoint_position) == ("space.compacted", 45)
    assert event.checkpoint_bytes == done.checkpoint_bytes
    assert alpha.info().checkpoint_bytes == done.checkpoints_bytes


def test_a_broken_checkpoint_is_set_aside_and_the_log_replayed(
    db: engram.Database, tmp_path: Path
) -> None:
    alpha = filled(db)
    before = everything(alpha)
    alpha.compact()
    db.close()
    (path,) = (tmp_path / "alpha" / "checkpoints").iterdir()
    data = bytearray(path.read_bytes())
    data[5_000] ^= 1
    path.write_bytes(data)
    with engram.open(tmp_path) as again:
        assert everything(again.space("alpha")) == before
        opened = again.space("alpha")._store().log.opened
        assert opened.unusable_checkpoints == (path.name,)
    aside = [each.name for each in (tmp_path / "alpha" / "quarantine").iterdir()]
    assert any(path.name in name for name in aside)
    assert not list((tmp_path / "alpha" / "checkpoints").iterdir())


def test_writes_and_recalls_go_on_while_a_space_is_compacted(
    db: engram.Database, tmp_path: Path
) -> None:
    alpha = filled(db)
    stop = threading.Event()
    written: list[str] = []

    def write() -> None:
        while not stop.is_set():
            written.append(alpha.remember("meanwhile", embedding=[1, 2, 3]).id)
            assert alpha.recall("meanwhile", mode="lexical", limit=1, record=False).results

    writers = [threading.Thread(target=write) for _ in range(3)]
    for writer in writers:
        writer.start()
    for _ in range(8):
        alpha.compact()
    stop.set()
    for writer in writers:
        writer.join()
    found = {m.id for m in alpha.list(limit=1_000).memories if m.content == "meanwhile"}
    assert written
    assert found <= set(written)
    db.close()
    with engram.open(tmp_path) as again:
        for memory_id in written:
            assert again.space("alpha").get(memory_id).content == "meanwhile"
        positions = [event.position for event in again.space("alpha").events()]
        assert positions == list(range(1, len(positions) + 1))


def test_who_asks_while_one_runs_joins_the_next(
    db: engram.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = filled(db)
    began, go_on = threading.Event(), threading.Event()
    real, runs = compactor.Compactor._compact, list[int]()

    def slow(self: compactor.Compactor) -> object:
        runs.append(1)
        began.set()
        assert go_on.wait(10)
        return real(self)

    monkeypatch.setattr(compactor.Compactor, "_compact", slow)
    threads = [threading.Thread(target=alpha.compact)]
    threads[0].start()
    assert began.wait(10)
    threads += [threading.Thread(target=alpha.compact) for _ in range(5)]
    for thread in threads[1:]:
        thread.start()
    waiting = alpha._store().compactor
    wait_until(lambda: waiting.waiting == 5)
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(runs) == 2


def test_a_long_tail_is_compacted_by_itself(
    db: engram.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compactor, "TAIL_BYTES_MAX", 4_000)
    monkeypatch.setattr(compactor, "NOTICED_BYTES", 100)
    alpha = db.create_space("alpha", embedding=VECTORS)
    following = alpha.events(follow=True, types=["space.compacted"])
    for number in range(40):
        alpha.remember(f"memory {number}", embedding=[1, 2, 3])
    assert next(following).checkpoint_position is not None


def test_a_long_tail_is_compacted_at_closing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compactor, "CLOSING_TAIL_BYTES_MIN", 1_000)
    with engram.open(tmp_path) as db:
        filled(db)
    with engram.open(tmp_path) as db:
        assert db.space("alpha")._store().log.opened.replayed_from == 46


def test_closing_stops_a_compaction_that_runs(
    db: engram.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = filled(db)
    began, refused = threading.Event(), list[BaseException]()
    real = compactor.Compactor.check

    def check(self: compactor.Compactor, stage: str) -> None:
        if stage == "write":
            began.set()
            wait_until(lambda: self._stopping)
        real(self, stage)

    monkeypatch.setattr(compactor.Compactor, "check", check)

    def compact() -> None:
        try:
            alpha.compact()
        except Unavailable as error:
            refused.append(error)

    thread = threading.Thread(target=compact)
    thread.start()
    assert began.wait(10)
    db.close()
    thread.join()
    assert len(refused) == 1


def test_a_base_that_is_broken_refuses_the_space(
    db: engram.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = filled(db)
    monkeypatch.setattr(
        compactor.Compactor, "floor", lambda self, segments: segments[-1].next_position
    )
    done = alpha.compact()
    assert done.oldest_position == 46
    db.close()
    (path,) = (tmp_path / "alpha" / "checkpoints").iterdir()
    data = bytearray(path.read_bytes())
    data[5_000] ^= 1
    path.write_bytes(data)
    with engram.open(tmp_path) as again, pytest.raises(SpaceDamaged, match="checkpoints/"):
        again.space("alpha").get("m3")


def damaged_behind_its_checkpoint(tmp_path: Path) -> tuple[dict[str, object], dict[Path, bytes]]:
    """A closed data root; what its space held at the checkpoint, and its files."""
    with engram.open(tmp_path) as db:
        alpha = filled(db)
        alpha.compact()
        before = everything(alpha, histories=False)
        alpha.remember("lost to damage", id="lost", embedding=[1, 1, 1])
        alpha.remember("and this proves it was durable", embedding=[1, 1, 1])
        db.create_space("beta", embedding=VECTORS).remember("well", embedding=[1, 1, 1])
    segment = max((tmp_path / "alpha" / "log").glob("*.seg"))
    data = bytearray(segment.read_bytes())
    data[data.index(b"lost to damage")] ^= 1
    segment.write_bytes(data)
    files = {path: path.read_bytes() for path in (tmp_path / "alpha").rglob("*") if path.is_file()}
    return before, files


def test_a_damaged_space_serves_what_its_checkpoint_holds_and_takes_no_writes(
    tmp_path: Path,
) -> None:
    before, files = damaged_behind_its_checkpoint(tmp_path)
    with engram.open(tmp_path) as db:
        alpha = db.space("alpha")
        assert everything(alpha, histories=False) == before
        info = alpha.info()
        assert (info.state, info.position) == ("damaged", 45)
        assert "log/" in (info.detail or "")
        assert "up to position 45" in (info.detail or "")
        for write in (
            lambda: alpha.remember("x", embedding=[1, 1, 1]),
            lambda: alpha.forget("m3"),
            lambda: alpha.purge("m3"),
            alpha.compact,
        ):
            with pytest.raises(SpaceDamaged):
                write()
        assert not alpha.recall("memory", mode="lexical").recorded
        for look in (alpha.events, lambda: alpha.history("m3")):
            with pytest.raises(SpaceDamaged):
                look()
        assert db.space("beta").recall("well", mode="lexical").results
    kept = {path: path.read_bytes() for path in (tmp_path / "alpha").rglob("*") if path.is_file()}
    del files[tmp_path / "alpha" / "LOCK"], kept[tmp_path / "alpha" / "LOCK"]
    assert kept == files, "nothing of a damaged space is touched"


def test_a_space_that_serves_its_checkpoint_can_be_deleted(tmp_path: Path) -> None:
    damaged_behind_its_checkpoint(tmp_path)
    with engram.open(tmp_path) as db:
        assert db.space("alpha").get("m3").id == "m3"
        db.delete_space("alpha")
        assert [info.memory_space_id for info in db.spaces()] == ["beta"]
        assert db.purge_space("alpha").files > 0


def test_a_deleted_space_is_not_compacted(
    db: engram.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint behind the deletion would have the space live on, and its log contradict it."""
    alpha = filled(db)
    before = everything(alpha)
    began, deleted, refused = threading.Event(), threading.Event(), list[EngramError]()
    real = compactor.Compactor._compact

    def late(self: compactor.Compactor) -> object:
        began.set()
        assert deleted.wait(10)
        return real(self)

    monkeypatch.setattr(compactor.Compactor, "_compact", late)

    def compact() -> None:
        try:
            alpha.compact()
        except EngramError as error:
            refused.append(error)

    store = alpha._store()
    threads = [threading.Thread(target=compact)]
    threads[0].start()
    assert began.wait(10)
    threads.append(threading.Thread(target=db.delete_space, args=("alpha",)))
    threads[1].start()
    wait_until(lambda: store.state.deleted)
    deleted.set()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    db.restore_space("alpha")
    types = [event.type for event in db.space("alpha").events()]
    assert types[-2:] == ["space.deleted", "space.restored"]
    assert everything(db.space("alpha")) == before


def test_without_a_descriptor_nothing_is_compacted_and_the_space_goes_on(
    db: engram.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = filled(db)
    with monkeypatch.context() as exhausted:

        def none_free(*args: object) -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        exhausted.setattr("wal.log.prepare_segment", none_free)
        with pytest.raises(Unavailable, match=r"Too many open files.*ulimit"):
            alpha.compact()
    assert alpha.info().state == "active"
    alpha.remember("afterwards", embedding=[1, 1, 1])
    assert alpha.compact().checkpoint_position == 46


@pytest.mark.parametrize(
    ("code", "error", "state"),
    [
        (errno.ENOSPC, DiskFull, "active"),
        (errno.EMFILE, Unavailable, "active"),
        (errno.EIO, OutcomeUnknown, "poisoned"),
    ],
)
def test_a_manifest_that_cannot_be_written_changes_nothing(
    db: engram.Database,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    error: type[EngramError],
    state: str,
) -> None:
    """And a disk that fails is not taken for one that is full."""
    alpha = filled(db)
    before = everything(alpha)

    def fail(*args: object) -> None:
        raise OSError(code, os.strerror(code))

    def plan(*args: Any) -> Any:
        failing.setattr("wal.log.Log._publish", fail)
        return plan_change(*args)

    with monkeypatch.context() as failing:
        failing.setattr("wal.log.plan_change", plan)
        with pytest.raises(error):
            alpha.compact()
        assert alpha.info().state == state
    assert alpha.reopen().state == "active"
    assert everything(alpha) == before
    assert alpha.compact().checkpoint_position > 40


def test_a_deletion_does_not_wait_for_the_compaction_of_another_space(
    db: engram.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = filled(db)
    db.create_space("beta", embedding=VECTORS).remember("one", embedding=[1, 1, 1])
    began, go_on = threading.Event(), threading.Event()
    real = compactor.Compactor._compact

    def slow(self: compactor.Compactor) -> object:
        began.set()
        assert go_on.wait(10)
        return real(self)

    monkeypatch.setattr(compactor.Compactor, "_compact", slow)
    thread = threading.Thread(target=alpha.compact)
    thread.start()
    assert began.wait(10)
    waiting = db.space("beta")._store().compactor
    waiting.start()
    wait_until(waiting._running.locked)
    db.delete_space("beta")
    assert not go_on.is_set()
    go_on.set()
    thread.join()


def test_a_forked_child_does_not_wait_for_a_compaction_of_its_parent(tmp_path: Path) -> None:
    def child() -> None:
        with engram.open(tmp_path) as db:
            filled(db).compact()

    forked = multiprocessing.get_context("fork").Process(target=child, daemon=True)
    with compactor._ONE_AT_A_TIME:  # as a thread that is lost by forking
        forked.start()
    forked.join(20)
    ended = forked.exitcode
    if ended is None:
        forked.kill()
        forked.join()
    assert ended == 0


def test_segments_sealed_meanwhile_stay(
    db: engram.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = filled(db)
    alpha.configure(retention="positions:1")
    alpha.compact()
    store = alpha._store()
    real, first = compactor.Compactor.call, [True]

    def call(self: compactor.Compactor, what: Callable[[], object]) -> object:
        result = real(self, what)
        if first.pop() if first else False:
            for _ in range(2):
                alpha.remember("meanwhile", embedding=[1, 1, 1])
                real(self, lambda: store.log.seal(store.now_ns()))
        return result

    monkeypatch.setattr(compactor.Compactor, "call", call)
    done = alpha.compact()
    assert done.oldest_position <= done.checkpoint_position + 1
    named = {each.name for each in store.log.checkpoints}
    assert {each.name for each in (tmp_path / "alpha" / "checkpoints").iterdir()} == named


def test_what_decayed_since_it_was_mapped_is_not_copied(
    db: engram.Database, tmp_path: Path
) -> None:
    alpha = filled(db)
    before = everything(alpha)
    alpha.compact()
    (path,) = (tmp_path / "alpha" / "checkpoints").iterdir()
    at = path.read_bytes().index(np.array([7.0, 1.0, 2.0], np.float32).tobytes())
    with path.open("r+b") as file:
        file.seek(at)
        file.write(np.array([70.0, 1.0, 2.0], np.float32).tobytes())
    with pytest.raises(SpaceDamaged, match="checkpoints/"):
        alpha.compact()
    db.close()
    with engram.open(tmp_path) as again:
        assert everything(again.space("alpha")) == before


def test_a_memory_may_be_restored_while_what_was_forgotten_is_let_go_of(
    db: engram.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = filled(db)
    alpha.compact()
    alpha.configure(retention="positions:1")
    real = compactor.Compactor.check

    def check(self: compactor.Compactor, stage: str) -> None:
        if stage == "write":  # the state is frozen, and leaves out what was forgotten before
            alpha.restore("m4")
        real(self, stage)

    monkeypatch.setattr(compactor.Compactor, "check", check)
    assert alpha.compact().oldest_position == 46
    assert alpha.get("m4").revision == 2
    db.close()
    assert all(report.ok for report in verify(tmp_path))
    with engram.open(tmp_path) as again:
        assert again.space("alpha").get("m4").revision == 2


def test_a_memory_may_be_restored_behind_where_history_begins(
    db: engram.Database, tmp_path: Path
) -> None:
    alpha = filled(db)
    alpha.compact()
    assert alpha.restore("m4").position > 45
    alpha.remember("more", embedding=[1, 1, 1])
    alpha.configure(retention="positions:1")
    assert alpha.compact().oldest_position == 46
    assert alpha.get("m4").revision == 2
    db.close()
    assert all(report.ok for report in verify(tmp_path))
    (newest,) = sorted((tmp_path / "alpha" / "checkpoints").iterdir())[1:]
    newest.write_bytes(b"unusable, so that opening begins with the base")
    with engram.open(tmp_path) as again:
        assert again.space("alpha").get("m4").revision == 2
