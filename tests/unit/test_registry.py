"""The registry: who wins a creation, what is found, and what is listed."""

from __future__ import annotations

import errno
import multiprocessing
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import engram
from engram.errors import (
    DiskFull,
    EngramError,
    SpaceDamaged,
    SpaceExists,
    SpaceInvalid,
    SpaceNotFound,
)
from engram.spaces import identity as identity_module
from engram.spaces.identity import Identity
from tests.unit.conftest import CALLER, UNIT, at_once
from wal.os_vfs import OsDirectory, OsFile

CREATORS = 100


def test_of_a_hundred_creators_of_one_space_exactly_one_wins(db: engram.Database) -> None:
    results = at_once(CREATORS, lambda _: db.create_space("alpha", embedding=CALLER))
    won = [result for result in results if isinstance(result, engram.Space)]
    lost = [result for result in results if isinstance(result, SpaceExists)]
    assert (len(won), len(lost)) == (1, CREATORS - 1)
    assert [info.memory_space_id for info in db.spaces()] == ["alpha"]
    assert list((db.path / ".engram" / "tmp").iterdir()) == []


def test_of_a_hundred_who_ensure_one_space_exactly_one_made_it(db: engram.Database) -> None:
    results = at_once(CREATORS, lambda _: db.ensure_space("alpha", embedding=CALLER))
    made = [created for _, created in results]  # type: ignore[misc,attr-defined]
    assert made.count(True) == 1
    for space, _ in results:  # type: ignore[misc,attr-defined]
        space.remember("x", embedding=UNIT)
    assert db.space("alpha").info().memories == CREATORS


def test_a_hundred_spaces_can_be_made_at_once(db: engram.Database) -> None:
    def create(index: int) -> engram.Space:
        space = db.create_space(f"s{index:03}", embedding=CALLER)
        space.remember(f"in {index}", embedding=UNIT)
        return space

    results = at_once(CREATORS, create)
    assert [r for r in results if not isinstance(r, engram.Space)] == []
    infos = db.spaces()
    assert [info.memory_space_id for info in infos] == [f"s{i:03}" for i in range(CREATORS)]
    assert len({info.uuid for info in infos}) == CREATORS
    for index in range(CREATORS):
        (memory,) = db.space(f"s{index:03}").list().memories
        assert memory.content == f"in {index}"


def create_in_process(path: str, start: Any, results: Any) -> None:
    """One of several processes on one data root: creates a space they share, and one of its own."""
    with engram.open(path) as db:
        start.wait()
        own = db.create_space(f"p{os.getpid()}", embedding=CALLER)
        try:
            _, created = db.ensure_space("shared", embedding=CALLER)
            results.put((created, own.id, None))
        except EngramError as error:
            results.put((False, own.id, repr(error)))


def test_processes_create_beside_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    path, count = tmp_path / "data", 4  # the data root itself is laid out by all of them at once
    start, results = context.Barrier(count), context.Queue()
    processes = [
        context.Process(target=create_in_process, args=(str(path), start, results))
        for _ in range(count)
    ]
    for process in processes:
        process.start()
    outcomes = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    assert [error for _, _, error in outcomes if error] == []
    assert [created for created, _, _ in outcomes].count(True) == 1
    with engram.open(path) as db:
        there = [info.memory_space_id for info in db.spaces()]
        assert there == sorted([own for _, own, _ in outcomes] + ["shared"])
        assert db.space("shared").remember("x", embedding=UNIT).position == 2


def test_an_empty_folder_is_laid_out_once_by_all_who_open_it(tmp_path: Path) -> None:
    path = tmp_path / "data"
    with ExitStack() as stack:
        results = at_once(20, lambda _: stack.enter_context(engram.open(path)))
        assert [r for r in results if not isinstance(r, engram.Database)] == []


def test_a_space_made_by_another_process_is_found(root: Path) -> None:
    with engram.open(root) as first:
        assert len(first.spaces()) == 2
        with engram.open(root) as second:
            second.create_space("later")
        assert first.space("later").info().memories == 0
        with pytest.raises(SpaceExists):
            first.create_space("later")


def test_ensuring_with_another_embedding_is_refused(db: engram.Database) -> None:
    db.create_space("alpha", embedding=CALLER)
    assert db.ensure_space("alpha", embedding=CALLER)[1] is False
    assert db.ensure_space("alpha")[1] is False
    other = engram.EmbeddingSpec(model="caller", dimensions=4)
    with pytest.raises(SpaceExists, match="cannot be changed"):
        db.ensure_space("alpha", embedding=other)


@pytest.mark.parametrize("call", ["write_at", "sync_data"])
def test_a_creation_that_fails_leaves_no_space_and_may_be_repeated(
    db: engram.Database, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(self: OsFile, *_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(OsFile, call, refuse)
        with pytest.raises(DiskFull, match="no room"):
            db.create_space("alpha", embedding=CALLER)
    assert db.spaces() == []
    with pytest.raises(SpaceNotFound):
        db.space("alpha")
    assert db.create_space("alpha", embedding=CALLER).info().position == 1
    db.close()
    with engram.open(db.path) as again:  # what was left half made is cleared away
        assert [info.memory_space_id for info in again.spaces()] == ["alpha"]
    assert list((db.path / ".engram" / "tmp").iterdir()) == []


def test_an_id_is_minted_where_none_is_given(db: engram.Database) -> None:
    first, second = db.create_space(), db.create_space()
    assert first.id != second.id
    assert [info.memory_space_id for info in db.spaces()] == sorted([first.id, second.id])


@pytest.mark.parametrize("space_id", ["nobody", "lost-found", "m-0123456789abcdef"])
def test_asking_for_an_unknown_space_makes_no_folder(db: engram.Database, space_id: str) -> None:
    before = sorted(db.path.rglob("*"))
    for ask in (db.space, db.space_info):
        with pytest.raises(SpaceNotFound, match="Create it first") as caught:
            ask(space_id)
        assert caught.value.memory_space_id == space_id
    assert sorted(db.path.rglob("*")) == before


@pytest.mark.parametrize("space_id", ["..", ".engram", "../data", "/etc", "A", ""])
def test_asking_for_an_impossible_space_touches_nothing(db: engram.Database, space_id: str) -> None:
    before = sorted(db.path.parent.rglob("*"))
    for ask in (db.space, db.space_info, db.create_space, db.ensure_space):
        with pytest.raises(SpaceInvalid):
            ask(space_id)
    assert sorted(db.path.parent.rglob("*")) == before


def test_listing_opens_nothing(root: Path) -> None:
    with engram.open(root) as db:
        infos = db.spaces()
        assert [(i.memory_space_id, i.state, i.position) for i in infos] == [
            ("bad", None, None),
            ("good", None, None),
        ]
        with engram.open(root) as other:  # nothing is locked
            assert other.space("good").info().memories == 2
            assert db.spaces()[1].position is None
        db.space("good").info()
        assert [info.position for info in db.spaces()] == [None, 3]


def test_listing_pages_by_id(db: engram.Database) -> None:
    names = ["0", "a", "a-", "a_", "aa", "b"]
    for name in names:
        db.create_space(name, embedding=CALLER)
    assert [info.memory_space_id for info in db.spaces()] == names
    assert [info.memory_space_id for info in db.spaces(limit=2, after="a")] == ["a-", "a_"]
    assert db.spaces(limit=0) == []
    assert db.spaces(after="zzz") == []


def test_what_is_no_space_is_not_listed_and_not_touched(root: Path) -> None:
    (root / "notes.txt").write_text("mine")
    (root / "Upper").mkdir()
    (root / "empty").mkdir()
    (root / "file").write_text("not a folder")
    (root / "link").symlink_to(root / "good")
    with engram.open(root) as db:
        listed = {info.memory_space_id: info.state for info in db.spaces()}
        assert {"good", "bad"} <= set(listed)
        assert listed.get("link") != "active"
        for name in ("empty", "file"):
            assert name not in listed
            with pytest.raises(SpaceNotFound):
                db.space(name)
            with pytest.raises(SpaceExists, match="not a space"):
                db.create_space(name)
    assert (root / "file").read_text() == "not a folder"


def test_a_link_never_leads_to_a_space(root: Path) -> None:
    (root / "link").symlink_to(root / "good")
    with engram.open(root) as db, pytest.raises(EngramError) as caught:
        db.space("link")
    assert caught.type in {SpaceNotFound, SpaceDamaged}


def test_an_identity_is_read_back_as_written(root: Path) -> None:
    with engram.open(root) as db:
        info = db.space_info("good")
    directory = OsDirectory(os.open(root / "good", os.O_RDONLY), "good")
    try:
        held = identity_module.read_identity(directory, "good")
    finally:
        directory.close()
    assert isinstance(held, Identity)
    assert (held.uuid, held.generation, held.embedding) == (info.uuid, 1, CALLER)
    assert held.uuid_bytes.hex() == info.uuid
