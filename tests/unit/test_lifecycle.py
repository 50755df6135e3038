"""The life of a space: deleted, restored, purged; by whom, when, and what its handles see."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import engram
from engram.errors import (
    EngramError,
    Invalid,
    OutcomeUnknown,
    SpaceDamaged,
    SpaceDeleted,
    SpaceExists,
    SpaceInvalid,
    SpaceLocked,
    SpaceNotFound,
)
from engram.spaces.lifecycle import DELETE_GRACE_S
from engram.spaces.registry import Registry
from tests.unit.conftest import CALLER, UNIT, SetClock, at_once
from wal.os_vfs import OsDirectory, open_root

SECRET = "nobody may read this again"


def opened(root: Path, clock: SetClock, **options: Any) -> engram.Database:
    return engram.Database(
        Registry(open_root(str(root)), owner="a test", clock=clock, **options), root
    )


def made(db: engram.Database, name: str = "alpha") -> engram.Space:
    space = db.create_space(name, embedding=CALLER)
    space.remember(SECRET, id="one", embedding=UNIT)
    return space


def grave(db: engram.Database, name: str = "alpha") -> Path:
    (found,) = (p for p in (db.path / ".engram" / "trash").glob(f"{name}.*") if p.is_dir())
    return found


def everything_below(root: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in root.rglob("*") if path.is_file())


def test_a_deleted_space_is_gone_for_all_but_who_asks_for_it(
    db: engram.Database, clock: SetClock
) -> None:
    alpha = made(db)
    info = alpha.info()
    deleted = db.delete_space("alpha")
    until = datetime.fromtimestamp(clock.now_ns / 1e9, UTC) + timedelta(seconds=DELETE_GRACE_S)
    assert deleted == engram.DeletedSpace(memory_space_id="alpha", purge_after=until)
    assert db.spaces() == []
    for ask in (db.space, db.space_info, db.delete_space):
        with pytest.raises(SpaceNotFound) as caught:
            ask("alpha")
        assert caught.value.memory_space_id == "alpha"
    for make in (db.create_space, db.ensure_space):
        with pytest.raises(SpaceDeleted, match="Restore it, purge it"):
            make("alpha", embedding=CALLER)
    (shown,) = db.spaces(deleted=True)
    assert shown == db.space_info("alpha", deleted=True)
    assert (shown.state, shown.uuid, shown.generation) == ("deleted", info.uuid, 1)
    assert (shown.created_at, shown.embedding) == (info.created_at, CALLER)
    assert (shown.purge_after, shown.position, shown.detail) == (until, None, None)


def test_a_restored_space_is_as_it_was(db: engram.Database) -> None:
    alpha = made(db)
    before = alpha.info()
    db.delete_space("alpha")
    again = db.restore_space("alpha")
    assert again.get("one").content == SECRET
    after = again.info()
    assert (after.uuid, after.generation, after.state) == (before.uuid, 1, "active")
    again.remember("two", id="two", embedding=UNIT)
    told = [(event.position, event.type) for event in again.events()]
    assert told == [
        (1, "space.created"),
        (2, "memory.stored"),
        (3, "space.deleted"),
        (4, "space.restored"),
        (5, "memory.stored"),
    ]
    assert list((db.path / ".engram" / "trash").iterdir()) == []
    assert db.spaces(deleted=True) == db.spaces()


def test_lists_have_deleted_spaces_in_order_only_if_asked(db: engram.Database) -> None:
    for name in ("a", "b", "c", "d"):
        made(db, name)
    for name in ("b", "d"):
        db.delete_space(name)
    assert [i.memory_space_id for i in db.spaces()] == ["a", "c"]
    all_of_them = db.spaces(deleted=True)
    assert [(i.memory_space_id, i.state == "deleted") for i in all_of_them] == [
        *[("a", False), ("b", True), ("c", False), ("d", True)]
    ]
    page = db.spaces(deleted=True, limit=2, after="a")
    assert [i.memory_space_id for i in page] == ["b", "c"]


def every_verb(space: engram.Space) -> dict[str, Callable[[], object]]:
    return {
        "remember": lambda: space.remember("late", embedding=UNIT),
        "remember_many": lambda: space.remember_many([{"content": "late", "embedding": UNIT}]),
        "get": lambda: space.get("one"),
        "list": space.list,
        "revise": lambda: space.revise("one", engram.Changes(tags=("late",))),
        "forget": lambda: space.forget("one"),
        "restore": lambda: space.restore("one"),
        "recall": lambda: space.recall(embedding=UNIT),
        "history": lambda: space.history("one"),
        "events": lambda: list(space.events()),
        "info": space.info,
        "configure": lambda: space.configure(retention="all"),
    }


def refused_by_all(space: engram.Space) -> None:
    for verb, call in every_verb(space).items():
        try:
            call()
        except SpaceNotFound:
            continue
        raise AssertionError(f"{verb} works")


def test_a_handle_from_before_finds_nothing_until_the_space_is_restored(
    db: engram.Database,
) -> None:
    alpha = made(db)
    db.delete_space("alpha")
    refused_by_all(alpha)
    db.restore_space("alpha")
    for verb, call in every_verb(alpha).items():
        if verb not in {"get", "revise", "forget", "restore"}:
            call()


def test_a_handle_from_before_never_reaches_a_space_made_anew(db: engram.Database) -> None:
    old = made(db)
    db.delete_space("alpha")
    db.purge_space("alpha")
    refused_by_all(old)
    new = db.create_space("alpha", embedding=CALLER)
    refused_by_all(old)
    assert [event.type for event in new.events()] == ["space.created"]
    refused_by_all(old)
    new.remember("mine", id="one", embedding=UNIT)
    assert db.space("alpha").get("one").content == "mine"
    info = new.info()
    assert (info.generation, info.memories) == (2, 1)


def test_a_purge_leaves_no_byte_and_a_receipt(db: engram.Database, clock: SetClock) -> None:
    made(db)
    made(db, "beta").forget("one")
    uuid = db.space("alpha").info().uuid
    db.delete_space("alpha")
    clock.go_on(60)
    held = [path for path in grave(db).rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in held)
    receipt = db.purge_space("alpha")
    shutil.rmtree(db.path / "beta")
    assert SECRET.encode() not in everything_below(db.path)
    assert list((db.path / ".engram" / "trash").iterdir()) == []
    assert (receipt.memory_space_id, receipt.uuid, receipt.generation) == ("alpha", uuid, 1)
    assert receipt.deleted_at is not None
    assert receipt.purged_at - receipt.deleted_at == timedelta(seconds=60)
    assert (receipt.files, receipt.bytes) == (len(held), size)
    clock.go_on(60)
    assert db.purge_space("alpha") == receipt
    with pytest.raises(SpaceNotFound, match="no deleted space"):
        db.restore_space("alpha")
    made(db)
    db.delete_space("alpha")
    second = db.purge_space("alpha")
    assert second.generation == 2
    assert second.uuid != uuid
    kept = sorted(path.name for path in (db.path / ".engram" / "receipts").iterdir())
    assert kept == ["alpha-1.json", "alpha-2.json"]


def test_only_what_is_past_its_grace_is_purged_at_a_start(tmp_path: Path, clock: SetClock) -> None:
    root = tmp_path / "data"
    root.mkdir()
    with opened(root, clock, delete_grace_s=100) as db:
        made(db)
        made(db, "beta")
        db.delete_space("alpha")
        clock.go_on(50)
        db.delete_space("beta")
    clock.go_on(49)
    with opened(root, clock) as db:
        assert len(db.spaces(deleted=True)) == 2
        clock.go_on(1)
        assert len(db.spaces(deleted=True)) == 2, "nobody looked for it"
    with opened(root, clock) as db:
        assert [i.memory_space_id for i in db.spaces(deleted=True)] == ["beta"]
        assert db.purge_space("alpha").generation == 1
        with pytest.raises(SpaceNotFound):
            db.restore_space("alpha")
        db.restore_space("beta")


def test_without_a_readable_tombstone_nothing_is_purged_by_itself(
    tmp_path: Path, clock: SetClock
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    with opened(root, clock, delete_grace_s=0) as db:
        made(db)
        db.delete_space("alpha")
        Path(f"{grave(db)}.json").write_text("nothing")
    with opened(root, clock) as db:
        (shown,) = db.spaces(deleted=True)
        assert (shown.state, shown.purge_after) == ("deleted", None)
        with pytest.raises(SpaceDeleted):
            db.create_space("alpha")
        assert db.restore_space("alpha").get("one").content == SECRET
        db.delete_space("alpha")
        Path(f"{grave(db)}.json").unlink()
        assert db.purge_space("alpha").deleted_at is None


def test_a_space_that_another_has_open_cannot_be_deleted(root: Path) -> None:
    with engram.open(root) as here, engram.open(root) as there:
        space = there.space("good")
        space.remember("three", id="three", embedding=UNIT)
        before = sorted(p for p in root.rglob("*") if p.is_file())
        with pytest.raises(SpaceLocked):
            here.delete_space("good")
        assert sorted(p for p in root.rglob("*") if p.is_file()) == before
        space.remember("four", id="four", embedding=UNIT)
    with engram.open(root) as db:
        assert len(db.space("good").list().memories) == 4


def test_what_another_process_deletes_and_makes_anew_is_noticed(root: Path) -> None:
    with engram.open(root) as here:
        old = here.space("good")
        assert len(here.spaces()) == 2
        with engram.open(root) as there:
            there.delete_space("good")
            refused_by_all(old)
            with pytest.raises(SpaceNotFound):
                here.space("good")
            with pytest.raises(SpaceDeleted):
                here.create_space("good")
            assert [i.memory_space_id for i in here.spaces()] == ["bad"]
            assert here.restore_space("good").get("one").content == "good one"
        assert len(old.list().memories) == 2
    with engram.open(root) as here:
        old = here.space("good")
        with engram.open(root) as there:
            there.delete_space("good")
            there.purge_space("good")
            there.create_space("good", embedding=CALLER)
        assert here.space("good").list().memories == ()
        refused_by_all(old)


def break_manifest(folder: Path) -> None:
    (manifest,) = folder.glob("MANIFEST-*")
    manifest.write_text("nonsense")


def break_identity(folder: Path) -> None:
    (folder / "space.json").write_text("nonsense")


@pytest.mark.parametrize("damage", [break_manifest, break_identity])
def test_a_damaged_space_can_be_deleted_restored_and_purged(
    root: Path, damage: Callable[[Path], None]
) -> None:
    damage(root / "bad")
    with engram.open(root) as db:
        db.delete_space("bad")
        (shown,) = (info for info in db.spaces(deleted=True) if info.memory_space_id == "bad")
        assert shown.state == "deleted"
        assert shown.detail is not None
        assert "damaged" in shown.detail
        if damage is break_identity:
            with pytest.raises(SpaceDamaged, match="was restored"):
                db.restore_space("bad")
        else:
            assert db.restore_space("bad").info().state == "damaged"
        with pytest.raises(SpaceDamaged):
            db.space("bad").list()
        db.delete_space("bad")
        assert db.purge_space("bad").files > 0
        assert db.create_space("bad").info().memories == 0
        assert (db.space_info("bad").generation or 0) > 1


def test_a_damaged_space_in_use_elsewhere_cannot_be_deleted(root: Path) -> None:
    with engram.open(root) as there:
        there.space("bad").list()
        break_identity(root / "bad")
        with engram.open(root) as here, pytest.raises(SpaceLocked):
            here.delete_space("bad")
    assert (root / "bad").exists()


def test_a_poisoned_space_is_recovered_to_be_deleted(db: engram.Database) -> None:
    alpha = made(db)
    alpha._store().log.poison("the disk is gone")
    with pytest.raises(OutcomeUnknown):
        alpha.remember("two", embedding=UNIT)
    db.delete_space("alpha")
    assert [m.id for m in db.restore_space("alpha").list().memories] == ["one"]


def fail_moving(patch: pytest.MonkeyPatch) -> None:
    real = OsDirectory.rename

    def rename(self: OsDirectory, name: str, target: OsDirectory, new_name: str) -> None:
        if "." in new_name and not new_name.endswith((".tmp", ".json", ".seg")):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(self, name, target, new_name)

    patch.setattr(OsDirectory, "rename", rename)


@pytest.mark.parametrize("look", ["space", "list", "create", "restore", "purge", "delete"])
def test_a_deletion_that_could_not_be_finished_is_finished_at_the_next_look(
    db: engram.Database, monkeypatch: pytest.MonkeyPatch, look: str
) -> None:
    made(db)
    with monkeypatch.context() as patch:
        fail_moving(patch)
        with pytest.raises(OutcomeUnknown, match="finished when it is next looked at"):
            db.delete_space("alpha")
    assert (db.path / "alpha").exists()
    match look:
        case "list":
            assert db.spaces() == []
        case "create":
            with pytest.raises(SpaceDeleted):
                db.create_space("alpha")
        case "restore":
            assert db.restore_space("alpha").get("one").content == SECRET
            return
        case "purge":
            assert db.purge_space("alpha").files
            return
        case _:
            with pytest.raises(SpaceNotFound):
                db.space("alpha") if look == "space" else db.delete_space("alpha")
    assert not (db.path / "alpha").exists()
    assert len(db.spaces(deleted=True)) == 1


def test_a_deleted_log_put_back_by_hand_is_deleted_at_the_second_look(db: engram.Database) -> None:
    made(db)
    db.delete_space("alpha")
    shutil.copytree(grave(db), db.path / "alpha")
    (db.path / ".engram" / "trash").rename(db.path / ".engram" / "elsewhere")
    with pytest.raises(SpaceNotFound):
        db.space("alpha").list()
    with pytest.raises(SpaceNotFound):
        db.space("alpha")
    assert db.restore_space("alpha").get("one").content == SECRET


def test_a_taken_id_is_not_restored_onto(db: engram.Database) -> None:
    made(db)
    db.delete_space("alpha")
    (db.path / "alpha").mkdir()
    with pytest.raises(SpaceExists, match="taken meanwhile"):
        db.restore_space("alpha")
    (db.path / "alpha").rmdir()
    db.restore_space("alpha")


def test_of_a_hundred_writers_each_comes_before_the_deletion_or_is_refused(
    db: engram.Database,
) -> None:
    alpha = made(db)
    started = threading.Semaphore(0)
    acknowledged: list[str] = []

    def write(index: int) -> object:
        if index == 0:
            for _ in range(200):
                started.acquire()
            return db.delete_space("alpha")
        for number in range(1_000):
            memory = alpha.remember("x", id=f"{index}-{number}", embedding=UNIT)
            acknowledged.append(memory.id)
            started.release()
        return None

    results = at_once(101, write)
    assert isinstance(results[0], engram.DeletedSpace)
    assert {type(result) for result in results[1:]} == {SpaceNotFound}
    events = list(db.restore_space("alpha").events())
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    assert [event.type for event in events[-2:]] == ["space.deleted", "space.restored"]
    stored = {event.memory.id for event in events if event.memory is not None}
    assert stored == {"one", *acknowledged}


def test_of_many_who_delete_one_space_exactly_one_does(db: engram.Database) -> None:
    made(db)
    results = at_once(20, lambda _: db.delete_space("alpha"))
    assert sum(isinstance(result, engram.DeletedSpace) for result in results) == 1
    assert sum(isinstance(result, SpaceNotFound) for result in results) == 19
    results = at_once(20, lambda _: db.restore_space("alpha"))
    assert sum(isinstance(result, engram.Space) for result in results) == 1
    assert sum(isinstance(result, SpaceExists) for result in results) == 19
    db.delete_space("alpha")
    results = at_once(20, lambda _: db.purge_space("alpha"))
    assert len({str(result) for result in results}) == 1
    assert isinstance(results[0], engram.Receipt)


def test_who_deletes_too_late_does_not_put_the_purge_off(tmp_path: Path) -> None:
    seconds = count(1_700_000_000)
    root = tmp_path / "data"
    root.mkdir()
    registry = Registry(
        open_root(str(root)), owner="a test", clock=lambda: next(seconds) * 1_000_000_000
    )
    with engram.Database(registry, root) as db:
        made(db)
        results = at_once(20, lambda _: db.delete_space("alpha"))
        (deleted,) = [r for r in results if isinstance(r, engram.DeletedSpace)]
        assert db.space_info("alpha", deleted=True).purge_after == deleted.purge_after
        assert len(list((root / ".engram" / "trash").iterdir())) == 2


def test_who_follows_a_space_hears_of_its_end_as_the_last_event(db: engram.Database) -> None:
    alpha = made(db)
    heard: list[str] = []
    came = threading.Event()
    ends: list[Exception | None] = []

    def follow(types: tuple[str, ...]) -> None:
        try:
            for event in alpha.events(0, types=types, follow=True):
                heard.append(event.type)
                came.set()
            ends.append(None)
        except Exception as error:
            ends.append(error)

    threads = [threading.Thread(target=follow, args=(types,)) for types in ((), ("memory.stored",))]
    for thread in threads:
        thread.start()
    came.wait()
    db.delete_space("alpha")
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()
    assert heard.count("space.deleted") == 1
    assert [type(end) for end in sorted(ends, key=str)] == [type(None), SpaceNotFound]


@pytest.mark.parametrize("space_id", ["..", ".engram", "A", "", 7])
def test_an_impossible_id_is_refused_by_every_verb(db: engram.Database, space_id: Any) -> None:
    for verb in (db.delete_space, db.restore_space, db.purge_space):
        with pytest.raises(SpaceInvalid):
            verb(space_id)
    assert not (db.path / ".engram" / "trash").exists()


def test_the_wrong_state_is_told_and_changes_nothing(db: engram.Database) -> None:
    made(db)
    for verb in (db.restore_space, db.purge_space):
        with pytest.raises(SpaceExists, match="not deleted"):
            verb("alpha")
        with pytest.raises(SpaceNotFound, match="no deleted space"):
            verb("nobody")
    with pytest.raises(SpaceNotFound, match="Create it first"):
        db.delete_space("nobody")
    assert db.space("alpha").get("one").content == SECRET


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "7", True, None])
def test_a_grace_must_be_a_number_of_seconds(tmp_path: Path, seconds: Any) -> None:
    with pytest.raises(Invalid, match="delete_grace_s"):
        engram.open(tmp_path / "data", delete_grace_s=seconds)


def test_what_is_asked_for_must_be_yes_or_no(db: engram.Database) -> None:
    for ask in (lambda: db.spaces(deleted="no"), lambda: db.space_info("a", deleted=1)):  # type: ignore[arg-type]
        with pytest.raises(Invalid, match="deleted"):
            ask()


def test_a_closed_database_ends_nothing(db: engram.Database) -> None:
    made(db)
    db.close()
    for verb in (db.delete_space, db.restore_space, db.purge_space):
        with pytest.raises(EngramError, match="closed"):
            verb("alpha")
    assert (db.path / "alpha").exists()


@pytest.mark.usefixtures("nothing_left_open")
def test_nothing_is_left_open(root: Path) -> None:
    with engram.open(root) as db:
        for _ in range(3):
            db.space("good").list()
            db.delete_space("good")
            db.restore_space("good")
        db.delete_space("good")
        db.purge_space("good")
        break_manifest(root / "bad")
        db.delete_space("bad")
        db.restore_space("bad")
