"""A data root belongs to the process that opened it; a forked child is refused and does no harm."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import engram
from engram.errors import SpaceLocked, Unavailable
from engram.spaces.verify import verify
from tests.unit.conftest import CHILD_S_MAX, in_child, refusal

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork"),
    # Python 3.12 and newer warn of what is tested here.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

USES: dict[str, Callable[[engram.Database, engram.Space], object]] = {
    "remember": lambda db, space: space.remember("from the child", id="child"),
    "remember_many": lambda db, space: space.remember_many(["from the child"]),
    "revise": lambda db, space: space.revise("one", engram.Changes(content="other")),
    "forget": lambda db, space: space.forget("one"),
    "restore": lambda db, space: space.restore("one"),
    "configure": lambda db, space: space.configure(retention="all"),
    "recall": lambda db, space: space.recall("key"),
    "list": lambda db, space: space.list(),
    "as_of": lambda db, space: space.list(as_of=1),
    "get": lambda db, space: space.get("one"),
    "info": lambda db, space: space.info(),
    "history": lambda db, space: space.history("one"),
    "events": lambda db, space: list(space.events()),
    "space_info": lambda db, space: db.space_info("alpha"),
    "spaces": lambda db, space: db.spaces(),
    "space": lambda db, space: db.space("alpha"),
    "unopened": lambda db, space: db.space("idle").list(),
    "create_space": lambda db, space: db.create_space("gamma"),
    "ensure_space": lambda db, space: db.ensure_space("alpha"),
}


@pytest.fixture
def opened(tmp_path: Path) -> engram.Database:
    db = engram.open(tmp_path / "data")
    db.create_space("alpha").remember("The deploy key is rotated", id="one")
    db.create_space("idle")
    return db


def test_a_forked_child_is_refused_everything(opened: engram.Database) -> None:
    with opened as db:
        space = db.space("alpha")
        refused = in_child(
            lambda: {name: refusal(lambda u=use: u(db, space)) for name, use in USES.items()}
        )
    why = f"the database was opened by another process (pid {os.getpid()}); open it again in this "
    assert refused == {name: [Unavailable.__name__, f"{why}one"] for name in USES}


def test_a_child_refuses_though_a_thread_of_the_parent_held_every_lock(
    opened: engram.Database,
) -> None:
    with opened as db:
        registry = db._registry
        entry = registry._entries["alpha"]
        with registry._guard, entry._lock:
            uses = [
                lambda: db.create_space("gamma"),
                lambda: db.space("alpha"),
                lambda: db.delete_space("alpha"),
                lambda: db.restore_space("alpha"),
                lambda: db.purge_space("alpha"),
                lambda: db.spaces(deleted=True),
                db.close,
            ]
            names = in_child(lambda: [refusal(use)[0] for use in uses])
    assert names == [*["Unavailable"] * 6, "done"]


def test_closing_in_a_child_leaves_the_parent_its_files_and_locks(
    opened: engram.Database, tmp_path: Path
) -> None:
    def leave() -> str:
        with opened:
            pass
        opened.close()
        return "left"

    with opened as db:
        before = sorted((p.name, p.stat().st_size) for p in (tmp_path / "data").rglob("*.seg"))
        assert in_child(leave) == "left"
        after = sorted((p.name, p.stat().st_size) for p in (tmp_path / "data").rglob("*.seg"))
        assert after == before
        alpha = db.space("alpha")
        alpha.remember("from the parent", id="two")
        with engram.open(tmp_path / "data") as other, pytest.raises(SpaceLocked):
            other.space("alpha").list()
        alpha.remember("from the parent still", id="three")
        assert [m.id for m in alpha.list().memories] == ["one", "two", "three"]
    reports = verify(tmp_path / "data")
    assert [(r.memory_space_id, r.ok, r.memories) for r in reports] == [
        ("alpha", True, 3),
        ("idle", True, 0),
    ]


def test_a_child_that_opens_for_itself_works(opened: engram.Database, tmp_path: Path) -> None:
    def work() -> list[str]:
        with engram.open(tmp_path / "data") as db:
            space = db.create_space("own")
            return [space.remember("mine", id="mine").id]

    with opened as db:
        assert in_child(work) == ["mine"]
        assert db.space("own").get("mine").content == "mine"


def _in_pool(connection: object, db: engram.Database) -> None:
    connection.send(refusal(lambda: db.space("alpha").remember("lost")))  # type: ignore[attr-defined]
    db.close()


def test_multiprocessing_by_fork_is_refused_too(opened: engram.Database, tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    with opened as db:
        here, there = fork.Pipe()
        process = fork.Process(target=_in_pool, args=(there, db))
        process.start()
        assert here.poll(CHILD_S_MAX)
        assert here.recv()[0] == "Unavailable"
        process.join(CHILD_S_MAX)
        assert process.exitcode == 0
        db.space("alpha").remember("kept", id="kept")
    assert [(r.ok, r.memories) for r in verify(tmp_path / "data")] == [(True, 2), (True, 0)]
