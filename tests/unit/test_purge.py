"""Purging memories: out of reach at once, and out of every file before it is said to be done."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

import engram
from engram.errors import DiskFull, EngramError, Invalid, MemoryNotFound, SpaceDamaged, Unavailable
from engram.memory.decide import Command
from engram.memory.model import EmbeddingSpec, Filter, PurgeReceipt
from engram.spaces import compactor, purging
from engram.spaces.space import Space
from engram.spaces.store import Store
from tests.unit.conftest import wait_until
from wal.errors import DiskFull as LogFull
from wal.os_vfs import OsDirectory

VECTORS = EmbeddingSpec(model="caller", dimensions=3)
SECRET = "xylophone"
OTHER = "marmalade"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[engram.Database]:
    with engram.open(tmp_path) as opened:
        yield opened


def filled(db: engram.Database) -> Space:
    alpha = db.create_space("alpha", embedding=VECTORS)
    alpha.remember("before", id="before", embedding=[1, 2, 3])
    alpha.remember_many(
        [
            {"content": "kept beside it", "id": "beside", "embedding": [4, 5, 6]},
            {
                "content": f"the {SECRET} is in the attic",
                "id": "secret",
                "tags": [f"tag-{SECRET}"],
                "metadata": {"about": SECRET, SECRET: 1},
                "source": f"source-{SECRET}",
                "embedding": [0.123456, 0.654321, 0.777777],
            },
        ]
    )
    alpha.revise("secret", engram.Changes(source=f"again {SECRET}"))
    alpha.remember("after", id="after", embedding=[7, 8, 9])
    return alpha


def files_with(root: Path, *needles: bytes) -> list[str]:
    return [
        str(path)
        for path in root.rglob("*")
        if path.is_file() and any(needle in path.read_bytes() for needle in needles)
    ]


def bytes_of(vector: list[float]) -> bytes:
    import numpy as np

    return np.array(vector, np.float32).tobytes()


NEEDLES = (SECRET.encode(), bytes_of([0.123456, 0.654321, 0.777777]))


@pytest.mark.parametrize("compacted", ["never", "before", "twice", "shortened"])
@pytest.mark.parametrize("withdrawn", ["", "revised", "forgotten", "by hand"])
def test_no_byte_is_left_in_any_belief(
    db: engram.Database, tmp_path: Path, compacted: str, withdrawn: str
) -> None:
    """Nor in one that was formed anew since without it, under the same id."""
    alpha = db.create_space("alpha", embedding=VECTORS)
    for name in ("a", "b", "c", "secret"):
        about = SECRET if name == "secret" else name
        alpha.remember(f"Often {about} again.", id=name, embedding=[1, 2, 3])
    (belief,) = alpha.consolidate()
    assert SECRET in belief.content
    if compacted != "never":
        alpha.compact()
    if withdrawn == "revised":
        alpha.revise("secret", engram.Changes(content="Nothing.", embedding=[-1, 0, 0]))
    elif withdrawn:
        alpha.forget("secret" if withdrawn == "forgotten" else belief.id)
    alpha.remember("Often d again.", id="d", embedding=[1, 2, 3])
    assert withdrawn == "by hand" or len(alpha.consolidate()) == 1
    if compacted in {"twice", "shortened"}:
        if compacted == "shortened":
            alpha.configure(retention="positions:3")
        alpha.compact()
    assert files_with(tmp_path, SECRET.encode())
    try:
        alpha.purge("secret")
    except MemoryNotFound:  # its history is gone, and it with that
        assert (compacted, withdrawn) == ("shortened", "forgotten")
    assert files_with(tmp_path, SECRET.encode()) == []
    assert SECRET not in str(list(alpha.events()))
    alpha.consolidate()
    db.close()
    assert files_with(tmp_path, SECRET.encode()) == []
    with engram.open(tmp_path) as again:
        assert again.space("alpha").get("a").content == "Often a again."


@pytest.mark.parametrize("compacted", ["never", "before", "twice", "shortened"])
@pytest.mark.parametrize("forgotten", [False, True])
def test_no_byte_is_left_in_any_file(
    db: engram.Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compacted: str,
    forgotten: bool,
) -> None:
    alpha = filled(db)
    if forgotten:
        alpha.forget("secret")
    for _ in range({"never": 0, "before": 1, "twice": 2, "shortened": 1}[compacted]):
        alpha.compact()
    if compacted == "shortened":
        alpha.remember("more", id="more", embedding=[1, 1, 1])
        alpha.compact()
        alpha.remember("still more", id="still", embedding=[1, 1, 1])
        alpha.configure(retention="positions:1")
        assert alpha.compact().oldest_position > 1
    (tmp_path / "alpha" / "quarantine" / "old.torn").write_bytes(SECRET.encode())
    assert files_with(tmp_path, *NEEDLES)
    if forgotten and compacted == "shortened":
        with pytest.raises(MemoryNotFound):  # its history is gone, and it with that
            alpha.purge("secret")
        assert files_with(tmp_path / "alpha" / "log", *NEEDLES) == []
        assert files_with(tmp_path / "alpha" / "checkpoints", *NEEDLES) == []
        return
    receipt = alpha.purge("secret")
    assert files_with(tmp_path, *NEEDLES) == []
    assert (receipt.id, receipt.count) == ("secret", 1)
    for file in receipt.files:
        assert (tmp_path / "alpha" / file.name).exists()
    db.close()
    assert files_with(tmp_path, *NEEDLES) == []
    with engram.open(tmp_path) as again:
        space = again.space("alpha")
        assert space.purge("secret") == receipt
        kept = {memory.id: memory.content for memory in space.list().memories}
        assert kept["before"] == "before"
        assert kept["beside"] == "kept beside it"
        assert "secret" not in kept
        positions = [event.position for event in space.events()]
        first = space.info().oldest_position
        assert positions == list(range(first, first + len(positions)))


def test_what_was_purged_is_out_of_reach_and_history_says_so(db: engram.Database) -> None:
    alpha = filled(db)
    following = alpha.events(after=0, follow=True)
    assert SECRET in str([next(following) for _ in range(6)])
    receipt = alpha.purge("secret")
    with pytest.raises(MemoryNotFound):
        alpha.get("secret")
    with pytest.raises(MemoryNotFound, match="purged"):
        alpha.restore("secret")
    assert not alpha.recall(SECRET, mode="lexical", record=False).results
    assert SECRET not in str(list(alpha.events()))
    types = [event.type for event in alpha.events()]
    assert types == [
        *("space.created", "memory.stored", "memory.stored"),
        *("history.redacted", "history.redacted", "memory.stored"),
        *("memory.purged", "space.compacted"),
    ]
    redacted = list(alpha.events())[3]
    assert (redacted.redacted_from, redacted.redacted_to) == (4, 4)
    assert [event.type for event in alpha.history("secret")] == ["memory.purged"]
    told = [next(following), next(following)]
    assert [event.type for event in told] == ["memory.purged", "space.compacted"]
    assert told[1].purged_to == receipt.position == 7
    assert receipt.completed_position == 8


def test_a_purged_id_may_be_used_again_and_purged_again(
    db: engram.Database, tmp_path: Path
) -> None:
    alpha = filled(db)
    first = alpha.purge("secret")
    again = alpha.remember(f"{OTHER} now", id="secret", embedding=[3, 2, 1])
    assert again.revision == 3
    assert [e.type for e in alpha.history("secret")] == ["memory.purged", "memory.stored"]
    alpha.compact()
    assert alpha.get("secret").content == f"{OTHER} now"
    second = alpha.purge("secret")
    assert second.position > first.completed_position
    assert files_with(tmp_path, OTHER.encode()) == []
    assert alpha.remember("third", id="secret", embedding=[1, 1, 1]).revision == 4


def test_the_same_receipt_after_compactions(db: engram.Database) -> None:
    alpha = filled(db)
    receipt = alpha.purge("secret")
    alpha.compact()
    alpha.compact()
    assert alpha.purge("secret") == receipt


@pytest.mark.parametrize("memory_id", ["nobody", "space.created"])
def test_what_never_was_cannot_be_purged(db: engram.Database, memory_id: str) -> None:
    alpha = filled(db)
    before = alpha.info().position
    with pytest.raises(MemoryNotFound):
        alpha.purge(memory_id)
    assert alpha.info().position == before


def test_all_that_matches_a_filter(db: engram.Database, tmp_path: Path) -> None:
    alpha = filled(db)
    alpha.remember(f"{OTHER} one", id="one", tags=["x"], embedding=[1, 0, 0])
    alpha.remember(f"{OTHER} two", id="two", tags=["x", "y"], embedding=[1, 0, 0])
    alpha.forget("two")
    receipt = alpha.purge_matching(Filter(tags_any=("x",)))
    assert receipt is not None
    assert (receipt.count, receipt.id) == (2, None)
    assert files_with(tmp_path, OTHER.encode()) == []
    assert files_with(tmp_path, SECRET.encode())
    assert alpha.purge_matching(Filter(tags_any=("x",))) is None
    with pytest.raises(Invalid):
        alpha.purge_matching(Filter())


def test_a_purge_that_finds_no_room_is_completed_later(
    db: engram.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = filled(db)
    with monkeypatch.context() as full:

        def no_room(self: object) -> None:
            raise LogFull("no room")

        full.setattr(compactor.Compaction, "run", no_room)
        with pytest.raises(DiskFull):
            alpha.purge("secret")
    with pytest.raises(MemoryNotFound):
        alpha.get("secret")
    assert files_with(tmp_path, SECRET.encode())
    alpha.purge("secret")
    assert files_with(tmp_path, SECRET.encode()) == []


def test_a_purge_that_was_interrupted_goes_on_when_the_space_is_opened(
    db: engram.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = filled(db)
    with monkeypatch.context() as full:

        def no_room(self: object) -> None:
            raise LogFull("no room")

        full.setattr(compactor.Compaction, "run", no_room)
        with pytest.raises(DiskFull):
            alpha.purge("secret")
        db.close()
    assert files_with(tmp_path, SECRET.encode())
    with engram.open(tmp_path) as again:
        following = again.space("alpha").events(after=0, follow=True, types=["space.compacted"])
        assert next(following).purged_to == 7
        assert files_with(tmp_path, SECRET.encode()) == []


def test_what_was_forgotten_before_a_base_and_restored_behind_it_is_there(
    db: engram.Database, tmp_path: Path
) -> None:
    alpha = filled(db)
    alpha.forget("before")
    alpha.compact()
    alpha.restore("before")
    alpha.configure(retention="positions:1")
    assert alpha.compact().oldest_position > 7
    db.close()
    newest = max((tmp_path / "alpha" / "checkpoints").iterdir())
    data = bytearray(newest.read_bytes())
    data[5_000] ^= 1
    newest.write_bytes(data)  # so that it begins with the base, and replays the restoring
    with engram.open(tmp_path) as again:
        assert again.space("alpha").get("before").revision == 2


def test_a_segment_that_no_longer_verifies_is_told_and_stops_all_writing(
    db: engram.Database, tmp_path: Path
) -> None:
    alpha = filled(db)
    alpha.compact()
    segment = min((tmp_path / "alpha" / "log").glob("*.seg"))
    data = bytearray(segment.read_bytes())
    data[data.index(b"kept beside it")] ^= 1
    segment.write_bytes(data)
    with pytest.raises(SpaceDamaged, match="log/"):
        alpha.purge("secret")
    info = alpha.info()
    assert info.state == "damaged"
    assert segment.name in (info.detail or "")
    with pytest.raises(SpaceDamaged):
        alpha.remember("more", embedding=[1, 1, 1])
    assert alpha.get("beside").content == "kept beside it"
    with pytest.raises(MemoryNotFound):
        alpha.get("secret")


def test_a_subscriber_who_is_behind_is_not_told_what_was_purged(db: engram.Database) -> None:
    alpha = filled(db)
    following = alpha.events(after=0, follow=True)
    assert next(following).type == "space.created"
    alpha.remember(f"another {SECRET}", id="tail", embedding=[1, 2, 3])
    alpha.purge("secret")
    alpha.purge("tail")
    alpha.remember("the last", id="last", embedding=[1, 2, 3])
    told: list[engram.Event] = []
    while not told or told[-1].memory is None or told[-1].memory.id != "last":
        told.append(next(following))
    # What had been taken as one page before the purge is the subscriber's.
    assert "another" not in str(told)
    assert [event.position for event in told] == list(range(2, told[-1].position + 1))


def test_a_purge_asked_for_while_another_is_carried_out_is_not_taken_for_done(
    db: engram.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = filled(db)
    alpha.remember(f"an {OTHER}", id="other", embedding=[1, 2, 3])
    began, go_on = threading.Event(), threading.Event()
    real = compactor.Compactor.check

    def check(self: compactor.Compactor, stage: str) -> None:
        if stage == "write" and not began.is_set():
            began.set()
            assert go_on.wait(10)
        real(self, stage)

    monkeypatch.setattr(compactor.Compactor, "check", check)
    receipts: dict[str, PurgeReceipt] = {}

    def purge(memory_id: str) -> None:
        receipts[memory_id] = alpha.purge(memory_id)

    first = threading.Thread(target=purge, args=("secret",))
    first.start()
    assert began.wait(10)
    second = threading.Thread(target=purge, args=("other",))
    second.start()
    wait_until(lambda: "other" not in {memory.id for memory in alpha.list().memories})
    go_on.set()
    first.join()
    second.join()
    assert receipts["other"].completed_position > receipts["secret"].completed_position
    assert files_with(tmp_path, SECRET.encode(), OTHER.encode()) == []


def test_a_receipt_is_given_though_its_history_was_let_go_of_at_once(
    db: engram.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = filled(db)
    alpha.configure(retention="positions:1")
    real = purging._complete

    def and_more(store: Store) -> None:
        real(store)
        for number in range(3):
            alpha.remember(f"later {number}", embedding=[1, 1, 1])
            alpha.compact()

    monkeypatch.setattr(purging, "_complete", and_more)
    receipt = alpha.purge("secret")
    assert alpha.info().oldest_position > receipt.completed_position
    assert receipt.files


def test_recalls_on_record_keep_ids_and_no_text(db: engram.Database, tmp_path: Path) -> None:
    alpha = filled(db)
    assert alpha.recall(SECRET, mode="lexical").recorded
    alpha.purge("secret")
    recalled = [event for event in alpha.events() if event.type == "memory.recalled"]
    assert [result.id for result in recalled[0].results or ()] == ["secret"]
    assert files_with(tmp_path, SECRET.encode()) == []


@pytest.mark.parametrize(
    "stage",
    [
        "compaction.rewrite.write_all",
        "compaction.rewrite.publish_segment",
        "compaction.checkpoint.write_columns",
        "compaction.checkpoint.open_checkpoint",
    ],
)
def test_what_a_failed_purge_had_begun_is_no_hiding_place(
    db: engram.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """It holds what is purged later."""
    alpha = filled(db)
    with monkeypatch.context() as full:
        fails_after(full, stage)
        with pytest.raises(EngramError):
            alpha.purge("before")
    alpha.purge("before")
    alpha.purge("secret")
    assert files_with(tmp_path, *NEEDLES) == []


def fails_after(patch: pytest.MonkeyPatch, what: str) -> None:
    """Have a function fail once it has done what it does."""
    module, _, name = what.rpartition(".")
    real: Callable[..., object] = getattr(sys.modules[module], name)

    def fail(*args: object) -> None:
        real(*args)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    patch.setattr(what, fail)


@pytest.mark.parametrize("kept", [".seg", ".ckpt"])
def test_a_purge_is_not_complete_before_the_old_files_are_gone(
    db: engram.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    alpha = filled(db)
    alpha.compact()
    with monkeypatch.context() as stuck:
        real = OsDirectory.remove

        def remove(self: OsDirectory, name: str) -> None:
            if name.endswith(kept):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(self, name)

        stuck.setattr(OsDirectory, "remove", remove)
        with pytest.raises(Unavailable, match="cannot be removed"):
            alpha.purge("secret")
    assert files_with(tmp_path, *NEEDLES)
    alpha.remember("meanwhile", embedding=[1, 1, 1])
    receipt = alpha.purge("secret")
    assert files_with(tmp_path, *NEEDLES) == []
    db.close()
    with engram.open(tmp_path) as again:
        assert again.space("alpha").purge("secret") == receipt


def test_a_retired_file_that_could_not_be_removed_is_not_forgotten(
    db: engram.Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment that no manifest accounts for would refuse the space."""
    alpha = filled(db)
    alpha.compact()
    alpha.remember("more", embedding=[1, 1, 1])
    alpha.compact()
    alpha.configure(retention="positions:1")
    with monkeypatch.context() as stuck:
        stuck.setattr("wal.log.remove_retired", lambda space, log, retired: tuple(retired))
        assert alpha.compact().segments_retired
    alpha.compact()
    db.close()
    with engram.open(tmp_path) as again:
        assert again.space("alpha").get("after").content == "after"


def test_two_who_purge_a_memory_at_once_get_the_same_receipt(
    db: engram.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = filled(db)
    real, receipts = Store.commit, list[PurgeReceipt]()

    def beaten(self: Store, command: Command) -> object:
        monkeypatch.undo()
        receipts.append(alpha.purge("secret"))
        return real(self, command)

    monkeypatch.setattr(Store, "commit", beaten)
    assert alpha.purge("secret") == receipts[0]


def test_what_somebody_else_purges_in_between_is_not_counted(
    db: engram.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = filled(db)
    for memory_id in ("one", "two"):
        alpha.remember(OTHER, id=memory_id, tags=["x"], embedding=[1, 0, 0])
    found = purging._matching

    def overtaken(store: Store, filter: Filter) -> Sequence[str]:
        ids = found(store, filter)
        assert list(ids) == ["one", "two"]
        purging.purge_one(store, "one")
        return ids

    monkeypatch.setattr(purging, "_matching", overtaken)
    receipt = alpha.purge_matching(Filter(tags_any=("x",)))
    assert receipt is not None
    assert receipt.count == 1
    assert [event.id for event in alpha.events(types=["memory.purged"])] == ["one", "two"]


def test_a_receipt_is_given_again_where_another_purge_finds_no_room(
    db: engram.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = filled(db)
    receipt = alpha.purge("secret")

    def no_room(self: object) -> None:
        raise LogFull("no room")

    monkeypatch.setattr(compactor.Compaction, "run", no_room)
    with pytest.raises(DiskFull, match="purge it again"):
        alpha.purge("before")
    assert alpha.purge("secret") == receipt
