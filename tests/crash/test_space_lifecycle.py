"""Deleting, restoring and purging a space, with a crash at any point: one or the other, never half.

A process that does all three is crashed at every call that changes something; whatever the disk may
hold then, the next start finds the space alive as before, deleted as a whole, or gone.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Any, NamedTuple

import msgspec
import pytest

import wal.sim_vfs
from engram.errors import (
    DiskFull,
    EngramError,
    MemoryNotFound,
    SpaceDeleted,
    SpaceExists,
    SpaceNotFound,
)
from engram.memory.decide import DeleteSpace
from engram.memory.model import DeletedSpace
from engram.spaces import lifecycle, trash
from engram.spaces.entry import Entry
from engram.spaces.lifecycle import Lifecycle
from engram.spaces.registry import Registry
from engram.spaces.space import Space
from engram.spaces.store import Store
from engram.spaces.trash import Trash
from tests.crash.histories import Books, Budget, aftermaths
from tests.crash.test_space_creation import OTHER, SPEC, folder, opened
from wal.log import Log
from wal.sim_vfs import Contents, SimCrash, SimDisk, lose_everything
from wal.vfs import Directory

BUDGET = Budget(few=30, samples=8)
NAME = "mortal"
SECRET = "what nobody may ever read again"


class Promised(NamedTuple):
    """What the process had been told before it died: the last step that was acknowledged."""

    step: str
    memories: tuple[str, ...]
    generation: int = 1


class Process:
    """Runs some steps on a data root; keeps what it was promised, and what it is about to do."""

    def __init__(self, steps: tuple[str, ...], promised: Promised) -> None:
        self._steps = steps
        self.promised = promised
        self.doing = promised

    def run(self, disk: SimDisk) -> None:
        with opened(disk) as registry:
            for step in self._steps:
                self.doing = after(self.promised, step)
                take(registry, step, self.promised)
                self.promised = self.doing


def after(before: Promised, step: str) -> Promised:
    match step:
        case "remember":
            return before._replace(step="alive", memories=(*before.memories, memory_id(before)))
        case "delete":
            return before._replace(step="deleted")
        case "restore":
            return before._replace(step="alive")
        case "purge":
            return before._replace(step="purged")
        case _:
            return Promised("alive", (), before.generation + 1)


def memory_id(promised: Promised) -> str:
    return f"g{promised.generation}m{len(promised.memories)}"


def take(registry: Registry, step: str, before: Promised) -> None:
    match step:
        case "remember":
            content = SECRET if before.generation == 1 else "harmless"
            where = registry.space(NAME)
            where.remember(content, id=memory_id(before), embedding=[1.0, 0.0])
        case "delete":
            registry.delete(NAME)
        case "restore":
            registry.restore(NAME)
        case "purge":
            registry.purge(NAME)
        case _:
            registry.create(NAME, SPEC)


def disk_after(*steps: str) -> tuple[SimDisk, Promised]:
    """A data root with another space, and one that has come so far."""
    disk = SimDisk()
    process = Process(steps, Promised("alive", ()))
    with opened(disk) as registry:
        registry.create(OTHER, SPEC).remember("not yours", id="x", embedding=[1.0, 0.0])
        registry.create(NAME, SPEC)
    process.run(disk)
    # As after a clean stop of the machine: all names are durable.
    return disk.clone().crash(wal.sim_vfs.keep_everything()), process.promised


class Crash(NamedTuple):
    path: str
    disk: SimDisk
    promised: Promised
    doing: Promised


def crashes(start: SimDisk, steps: tuple[str, ...], promised: Promised) -> Iterator[Crash]:
    """Every crash of a process, with what each may leave."""
    for point in count(1):
        for later in (False, True):
            disk, process = start.clone(), Process(steps, promised)
            disk.crash_at(point, after=later)
            try:
                process.run(disk)
            except (SimCrash, EngramError):
                pass  # the writer's thread turns a crash into an error for its callers
            else:
                return
            path = f"{point}{'-+'[later]}"
            for found in aftermaths(disk, Books(), path, BUDGET):
                yield Crash(found.path, found.disk, process.promised, process.doing)


def bytes_of(contents: Contents) -> bytes:
    return b"\n".join(
        bytes_of(inner) if isinstance(inner, dict) else bytes(inner) for inner in contents.values()
    )


def state_of(registry: Registry) -> str:
    """alive, deleted or gone; anything in between is an error of its own."""
    listed = {info.memory_space_id: info.state for info in registry.list(limit=None, after=None)}
    ended = registry.list(limit=None, after=None, deleted=True)
    deleted = [info for info in ended if info.state == "deleted"]
    try:
        registry.space(NAME).get("nothing")
    except MemoryNotFound:
        assert NAME in listed
        assert deleted == []
        return "alive"
    except SpaceNotFound:
        assert NAME not in listed, "it is listed, but not there"
        return "deleted" if deleted else "gone"
    raise AssertionError("a memory nobody stored")


def held(space: Space) -> list[str]:
    events = list(space.events())
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    return [memory.id for memory in space.list().memories]


def expected_states(crash: Crash) -> set[str]:
    """The states that keep every promise: what was acknowledged, or what was being done."""
    names = {"alive": "alive", "deleted": "deleted", "purged": "gone"}
    return {names[crash.promised.step], names[crash.doing.step]}


def check_boot(crash: Crash) -> None:
    disk, promised, doing = crash.disk, crash.promised, crash.doing
    receipts = disk.contents().get(".engram", {}).get("receipts", {})  # type: ignore[union-attr]
    if any(name.endswith("-1.json") for name in receipts):
        assert SECRET.encode() not in bytes_of(disk.contents()), "the receipt is not true"
    with opened(disk) as registry:
        state = state_of(registry)
        assert state in expected_states(crash), f"{state} after {promised}, while {doing}"
        control = folder(disk, ".engram")
        names = list(control.get("trash", {}))
        assert not [name for name in names if name.endswith((".purging", ".tmp"))]
        if state == "alive":
            check_alive(registry, promised, doing)
        elif state == "deleted":
            check_deleted(registry, promised, doing)
        else:
            check_gone(registry, disk, promised)
        ids = held(registry.space(NAME))
        uuid = registry.info(NAME).uuid
        disk = disk.crash(lose_everything())

    with opened(disk) as registry:
        assert held(registry.space(NAME)) == ids, "what was served did not outlive the power"
        assert registry.info(NAME).uuid == uuid


def check_alive(registry: Registry, promised: Promised, doing: Promised) -> None:
    space = registry.space(NAME)
    assert tuple(held(space)) in {promised.memories, doing.memories}
    assert registry.info(NAME).generation in {promised.generation, doing.generation}
    with pytest.raises(SpaceExists):
        registry.create(NAME, SPEC)
    space.remember("after the crash", id="later", embedding=[0.0, 1.0])


def check_deleted(registry: Registry, promised: Promised, doing: Promised) -> None:
    with pytest.raises(SpaceDeleted):
        registry.create(NAME, SPEC)
    damaged = registry.info(NAME, deleted=True).detail is not None
    space = registry.restore(NAME)
    assert tuple(held(space)) == promised.memories
    if not damaged:
        types = [event.type for event in space.events()]
        assert "space.deleted" in types, "it was moved before its last event was durable"
        assert types[-1] == "space.restored"
    registry.delete(NAME)
    registry.restore(NAME).remember("after the crash", id="later", embedding=[0.0, 1.0])


def check_gone(registry: Registry, disk: SimDisk, promised: Promised) -> None:
    assert SECRET.encode() not in bytes_of(disk.contents()), "a purged space left bytes behind"
    assert registry.purge(NAME).generation == promised.generation
    assert registry.create(NAME, SPEC).info().memories == 0
    assert registry.info(NAME).generation == promised.generation + 1


SCENARIOS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "delete": (("remember",), ("remember", "delete")),
    "delete again": (("remember", "delete", "restore"), ("delete",)),
    "restore": (("remember", "delete"), ("restore", "remember")),
    "purge": (("remember", "delete"), ("purge",)),
    "a whole life": (("remember",), ("delete", "purge", "create", "remember")),
}


def crash_everywhere(scenario: str) -> int:
    before, steps = SCENARIOS[scenario]
    start, promised = disk_after(*before)
    other = start.contents()[OTHER]
    checked = 0
    for crash in crashes(start, steps, promised):
        checked += 1
        try:
            assert crash.disk.contents()[OTHER] == other, "another space was touched"
            check_boot(crash)
            assert crash.disk.contents()[OTHER] == other, "another space was touched"
        except Exception as error:
            raise AssertionError(f"{scenario}, crash {crash.path}: {error!r}") from error
    return checked


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_crash_leaves_a_space_alive_deleted_or_gone(scenario: str) -> None:
    assert crash_everywhere(scenario) > 100


def outcome(disk: SimDisk, step: str, before: Promised) -> EngramError | None:
    """Take the data root into use and one step with it; the error, if there is one."""
    try:
        with opened(disk) as registry:
            take(registry, step, before)
    except EngramError as error:
        return error
    return None


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EMFILE], ids=errno.errorcode.get)
@pytest.mark.parametrize("persistent", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("op", sorted(wal.sim_vfs._OPERATIONS))
@pytest.mark.parametrize("step", ["delete", "restore", "purge"])
def test_whatever_call_fails_a_space_is_in_one_state(
    step: str, op: str, persistent: bool, code: int
) -> None:
    begin, before = disk_after("remember", *(() if step == "delete" else ("delete",)))
    for nth in count(1):
        disk = begin.clone()
        disk.fail(op, nth, code, persistent=persistent)
        error = outcome(disk, step, before)
        if error is None and disk._failures[0].calls_left > 0:
            break
        disk.heal()
        done = after(before, step)
        if error is None:
            promised = doing = done
        elif isinstance(error, DiskFull):
            promised = doing = before  # a definite refusal
        else:
            promised, doing = before, done
        where = f"{op} #{nth}: {error!r}"
        for how, found in (("left", disk.clone()), ("cut", disk.crash(lose_everything()))):
            try:
                check_boot(Crash(how, found, promised, doing))
            except Exception as wrong:
                raise AssertionError(f"{where}, {how}: {wrong!r}") from wrong
            assert found.contents()[OTHER] == begin.contents()[OTHER], where


def test_a_full_disk_refuses_a_deletion_and_keeps_the_space_whole() -> None:
    refused = 0
    for room in [*range(0, 2_000, 64), *range(2_000, 100_000, 4_000)]:
        disk, before = disk_after("remember")
        disk.capacity = disk.used() + room
        with opened(disk) as registry:
            try:
                registry.delete(NAME)
            except DiskFull:
                refused += 1
                assert held(registry.space(NAME)) == list(before.memories)
                with suppress(DiskFull):
                    registry.space(NAME).remember("on", id="on", embedding=[1.0, 0.0])
            else:
                break
    assert refused > 2
    with opened(disk) as registry:
        assert state_of(registry) == "deleted"


def test_a_purge_makes_room_on_a_full_disk() -> None:
    disk, _ = disk_after("remember", "delete")
    disk.capacity = disk.used()
    with opened(disk) as registry:
        assert registry.purge(NAME).bytes > 0
        assert state_of(registry) == "gone"


# The mutants: what is wrong with each is its name.

Patch = pytest.MonkeyPatch


def does_not_sync_the_generation(patch: Patch) -> None:
    real = trash.write_document

    def write(folder: Directory, name: str, magic: str, document: msgspec.Struct) -> None:
        if magic != "ENGRAM-GENERATION":
            return real(folder, name, magic, document)
        file = folder.create(name)
        trash.write_all(file, 0, trash.encode_framed(magic, 1, document))
        return file.close()

    patch.setattr(trash, "write_document", write)


def does_not_raise_the_generation(patch: Patch) -> None:
    patch.setattr(Trash, "raise_generation", lambda self, space_id, generation: None)


def moves_before_the_last_event_is_durable(patch: Patch) -> None:
    real = Lifecycle.delete

    def delete(self: Lifecycle, entry: Entry) -> DeletedSpace:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Log, "_sync_file", lambda log: None)
            return real(self, entry)

    patch.setattr(Lifecycle, "delete", delete)


def does_not_log_the_deletion(patch: Patch) -> None:
    real = Store.commit

    def commit(self: Store, command: Any) -> Any:
        return None if isinstance(command, DeleteSpace) else real(self, command)

    patch.setattr(Store, "commit", commit)


def does_not_sync_a_restored_name(patch: Patch) -> None:
    real = Lifecycle.restore

    def restore(self: Lifecycle, space_id: str) -> None:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(wal.sim_vfs.SimDirectory, "sync", lambda directory: None)
            real(self, space_id)

    patch.setattr(Lifecycle, "restore", restore)


def leaves_no_tombstone(patch: Patch) -> None:
    patch.setattr(Trash, "write_tombstone", lambda self, tombstone: None)


def finishes_nothing(patch: Patch) -> None:
    patch.setattr(Lifecycle, "settle", lambda self, space_id=None: None)


def purges_without_a_name_of_its_own(patch: Patch) -> None:
    """A crash leaves a part of the folder in the trash, as if it could be restored."""

    def purge(self: Lifecycle, space_id: str) -> Any:
        (whose,) = self._trash.names(space_id).graves
        target = self._trash.folder(trash.TRASH_DIR)
        target.remove_tree(trash.grave_name(*whose))
        target.sync()
        receipt = trash.ReceiptFile(
            memory_space_id=space_id,
            uuid=whose[1],
            generation=self._trash.generation(space_id),
            deleted_us=None,
            purged_us=0,
            files=1,
            bytes=1,
        )
        self._trash.write_receipt(receipt)
        self._drop(*whose)
        return receipt.receipt()

    patch.setattr(Lifecycle, "purge", purge)


def gives_a_receipt_before_the_bytes_are_gone(patch: Patch) -> None:
    patch.setattr(lifecycle, "_remove", lambda folder, name: None)


def forgets_to_purge_a_file(patch: Patch) -> None:
    """It moves the log away, and takes an empty folder for a purged one."""
    real = lifecycle._remove

    def remove(folder: Directory, name: str) -> None:
        if name == "log":
            inner = folder.open_dir("log")
            for segment in inner.names():
                inner.rename(segment, folder._disk.root(), segment)  # type: ignore[attr-defined]
        real(folder, name)

    patch.setattr(lifecycle, "_remove", remove)


MUTANTS: dict[Callable[[Patch], None], str] = {
    does_not_sync_the_generation: "a whole life",
    does_not_raise_the_generation: "a whole life",
    moves_before_the_last_event_is_durable: "delete",
    does_not_log_the_deletion: "delete",
    does_not_sync_a_restored_name: "restore",
    leaves_no_tombstone: "delete",
    finishes_nothing: "purge",
    purges_without_a_name_of_its_own: "purge",
    gives_a_receipt_before_the_bytes_are_gone: "purge",
    forgets_to_purge_a_file: "purge",
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_mutant_is_caught(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        crash_everywhere(MUTANTS[mutant])
