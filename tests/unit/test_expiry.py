"""What has expired is forgotten for real: by itself, soon, on record, and once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import engram
from engram.cognition.fading import expired
from engram.errors import MemoryNotFound, OutcomeUnknown, SpaceNotFound
from engram.memory.decide import Sweep
from engram.memory.forgetting import NothingLeft
from engram.memory.times import NEVER_US
from engram.spaces import forgetting
from engram.spaces.forgetting import Pace
from tests.unit.conftest import CALLER, START_NS, UNIT, SetClock, wait_until
from wal import errors as wal_errors
from wal.log import Log
from wal.os_vfs import OsFile

START = datetime.fromtimestamp(START_NS / 1e9, UTC)
WAIT_S = 30.0


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "PACE", Pace(0.0, 0.0, 0.0, 0.01))


def forgotten(space: engram.Space) -> list[tuple[str | None, str | None]]:
    return [(e.id, e.reason) for e in space.events(types=["memory.forgotten"])]


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(milliseconds=300)


def past() -> datetime:
    return datetime.now(UTC) - timedelta(days=1)


def sweepers() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "engram-sweeper"]


def test_compacting_forgets_what_has_expired(vectors: engram.Space, clock: SetClock) -> None:
    for name, seconds in (("a", 5), ("b", 60), ("c", 6)):
        expires_at = START + timedelta(seconds=seconds)
        vectors.remember(name, id=name, embedding=UNIT, expires_at=expires_at)
    vectors.remember("d", id="d", embedding=UNIT)
    clock.go_on(10)
    assert forgotten(vectors) == []
    vectors.compact()
    assert forgotten(vectors) == [("a", "expired"), ("c", "expired")]
    assert [m.id for m in vectors.list().memories] == ["b", "d"]
    assert [event.type for event in vectors.history("a")] == ["memory.stored", "memory.forgotten"]
    with pytest.raises(MemoryNotFound, match="has expired"):
        vectors.restore("a")
    assert [m.id for m in vectors.list(as_of=START).memories] == ["a", "b", "c", "d"]
    assert vectors.remember("again", id="a", embedding=UNIT).revision == 2


def test_it_is_forgotten_by_itself_and_told(tmp_path: Path, at_once: None) -> None:
    with engram.open(tmp_path / "data") as db:
        space = db.create_space("s", embedding=CALLER)
        position = space.remember("stays", id="stays", embedding=UNIT).position
        space.remember("goes", id="goes", embedding=UNIT, expires_at=soon())
        events = space.events(after=position, types=["memory.forgotten"], follow=True)
        event = next(iter(events))
        assert (event.id, event.reason, event.revision) == ("goes", "expired", 1)
        assert [m.id for m in space.list().memories] == ["stays"]


def test_it_is_forgotten_when_the_space_is_opened(tmp_path: Path, at_once: None) -> None:
    with closing(engram.open(tmp_path / "data")) as db:
        space = db.create_space("s", embedding=CALLER)
        space.remember("later", id="later", embedding=UNIT, expires_at=soon())
        expires_at = space.get("later").expires_at
    assert expires_at is not None
    wait_until(lambda: datetime.now(UTC) > expires_at)
    with engram.open(tmp_path / "data") as db:
        space = db.space("s")
        assert [e.id for e in _first(space, 1)] == ["later"]


def _first(space: engram.Space, count: int) -> list[engram.Event]:
    """The first forgettings of a space, as soon as they are there."""
    events = space.events(after=0, types=["memory.forgotten"], follow=True)
    return [next(iter(events)) for _ in range(count)]


def test_many_go_with_a_few_records(tmp_path: Path, at_once: None) -> None:
    count = 2 * forgetting.FORGOTTEN_PER_RECORD_MAX + 7
    with engram.open(tmp_path / "data") as db:
        space = db.create_space("s", embedding=CALLER)
        expires_at = soon() + timedelta(seconds=1)
        items = [
            {"content": str(i), "embedding": UNIT, "expires_at": expires_at} for i in range(count)
        ]
        space.remember_many(items)
        events = _first(space, count)
        assert len({event.id for event in events}) == count
        assert len({event.time for event in events}) == 3
        assert db.space_info("s").memories == 0


def test_where_nothing_expires_there_is_no_thread(tmp_path: Path) -> None:
    with engram.open(tmp_path / "data") as db:
        space = db.create_space("s", embedding=CALLER)
        space.remember("stays", embedding=UNIT)
        assert sweepers() == []
        space.remember("goes", embedding=UNIT, expires_at=datetime(2999, 1, 1, tzinfo=UTC))
        assert len(sweepers()) == 1
    assert sweepers() == []


def test_the_thread_ends_when_nothing_is_left_to_wait_for(
    tmp_path: Path, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engram.spaces.sweeper.LINGER_S", 0.01)
    with engram.open(tmp_path / "data") as db:
        space = db.create_space("s", embedding=CALLER)
        for _ in range(2):
            space.remember("goes", embedding=UNIT, expires_at=past())
            wait_until(lambda: not sweepers())
        assert len(forgotten(space)) == 2


def test_a_space_is_closed_to_make_room_whatever_expires_in_it(tmp_path: Path) -> None:
    with engram.open(tmp_path / "data") as db:
        space = db.create_space("s", embedding=CALLER)
        later = datetime.now(UTC) + timedelta(hours=1)
        space.remember("goes", embedding=UNIT, expires_at=later)
        assert space._entry.rest()
        assert space._entry.opened is None
        assert space.list().memories[0].content == "goes"


@pytest.fixture
def ill(tmp_path: Path, at_once: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[engram.Space]:
    """A poisoned space that holds a memory which expires soon."""

    def refuse(self: OsFile) -> None:
        raise OSError(5, "Input/output error")

    with engram.open(tmp_path / "data") as db:
        space = db.create_space("s", embedding=CALLER)
        space.remember("goes", id="goes", embedding=UNIT, expires_at=soon())
        with monkeypatch.context() as patched:
            patched.setattr(OsFile, "sync_data", refuse)
            with pytest.raises(OutcomeUnknown):
                space.remember("unknown", embedding=UNIT)
        yield space


def test_a_poisoned_space_is_left_alone_until_it_is_reopened(ill: engram.Space) -> None:
    store = ill._entry.store()
    assert store.forgetter.due_s() is None
    store.forgetter.tend()
    assert forgotten(ill) == []
    ill.reopen()
    assert [e.id for e in _first(ill, 1)] == ["goes"]


def test_a_deleted_space_is_left_alone(db: engram.Database, clock: SetClock) -> None:
    space = db.create_space("s", embedding=CALLER)
    space.remember("goes", embedding=UNIT, expires_at=START + timedelta(seconds=1))
    store = space._entry.store()
    db.delete_space("s")
    clock.go_on(2)
    assert store.forgetter.due_s() is None
    store.forgetter.tend()
    with pytest.raises(SpaceNotFound):
        space.list()


def test_a_full_disk_is_tried_again_later(
    tmp_path: Path, at_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = threading.Event()
    real = Log.append

    def refuse(self: Log, drafts: object) -> object:
        refused.set()
        raise wal_errors.DiskFull("no room")

    with engram.open(tmp_path / "data") as db:
        space = db.create_space("s", embedding=CALLER)
        space.remember("goes", id="goes", embedding=UNIT, expires_at=soon())
        monkeypatch.setattr(Log, "append", refuse)
        assert refused.wait(WAIT_S)
        monkeypatch.setattr(Log, "append", real)
        assert [e.id for e in _first(space, 1)] == ["goes"]


def test_what_is_used_anew_meanwhile_stays(vectors: engram.Space, clock: SetClock) -> None:
    """It was found in a view, and its id remembered again before the writer looked at it."""
    vectors.remember("old", id="m", embedding=UNIT, expires_at=START + timedelta(seconds=1))
    clock.go_on(2)
    store = vectors._entry.store()
    judged, total = expired(store.state.view, clock() // 1_000, 10)
    assert total == 1
    assert [each.id for each in judged] == ["m"]
    vectors.remember("new", id="m", embedding=UNIT, expires_at=START + timedelta(seconds=3))
    clock.go_on(2)
    with pytest.raises(NothingLeft):
        store.commit(Sweep(judged, clock() // 1_000))
    assert forgotten(vectors) == [("m", "expired")]  # for its old life, when it was used anew


def test_the_earliest_expiry_is_that_of_what_lives(vectors: engram.Space, clock: SetClock) -> None:
    def earliest() -> float | None:
        us = vectors._entry.store().state.view.earliest_expiry_us
        return None if us == NEVER_US else (us - START_NS // 1_000) / 1e6

    assert earliest() is None
    for name, seconds in (("a", 10), ("b", 30), ("c", 20)):
        expires_at = START + timedelta(seconds=seconds)
        vectors.remember(name, id=name, embedding=UNIT, expires_at=expires_at)
    assert earliest() == 10
    vectors.revise("a", engram.Changes(expires_at=START + timedelta(seconds=25)))
    assert earliest() == 20
    vectors.compact()
    assert earliest() == 20
    vectors.forget("c")
    assert earliest() == 25
    vectors.compact()
    assert earliest() == 25
    clock.go_on(60)
    vectors.compact()
    assert earliest() is None
