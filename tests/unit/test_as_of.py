"""What a space was at an earlier position or time: nothing later counts, but what was purged."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import engram
from engram.errors import (
    HistoryGone,
    Invalid,
    MemoryExists,
    MemoryNotFound,
    PositionBeyondEnd,
    SpaceDamaged,
    Unavailable,
)
from engram.memory.model import AsOf, Changes, Event, Memory
from engram.memory.state import State
from engram.memory.times import from_us, to_us
from engram.spaces import as_of as as_of_module
from engram.spaces import reading
from engram.spaces.compactor import Compactor
from engram.spaces.past import ASKED_FOR_MAX, Built, PastStates
from engram.spaces.registry import Registry
from engram.spaces.space import Space
from tests.unit.conftest import CALLER, START_NS, UNIT, SetClock, at_once, wait_until
from wal.errors import DiskFull as NoRoom
from wal.opened import LogOptions
from wal.os_vfs import open_root
from wal.sim_vfs import SimDisk

SMALL = LogOptions(segment_bytes=3_000, allocate_bytes_min=512, allocate_bytes_max=512)


def at(seconds: float) -> datetime:
    """A time after the clock's start."""
    return from_us(START_NS // 1_000) + timedelta(seconds=seconds)


def ids(space: Space, as_of: AsOf | None) -> list[str]:
    return [memory.id for memory in space.list(as_of=as_of).memories]


def kept(space: Space) -> list[int]:
    """The positions of the past states that are kept."""
    return [position for _, position in space._store().pasts.kept]


@pytest.fixture
def small(tmp_path: Path, clock: SetClock) -> Iterator[engram.Database]:
    """A data root with small segments, so that compactions have something to let go of."""
    root = tmp_path / "small"
    root.mkdir()
    registry = Registry(open_root(root), owner="a test", clock=clock, options=SMALL)
    with engram.Database(registry, root) as database:
        yield database


@pytest.fixture
def lived(vectors: Space, clock: SetClock) -> Space:
    """One a second: created at 1, a (2), b (3), a revised (4), b forgotten (5), c (6)."""
    clock.go_on(1)
    vectors.remember("the key is under the mat", id="a", embedding=UNIT)
    clock.go_on(1)
    vectors.remember("the key is lost", id="b", embedding=[0, 1, 0])
    clock.go_on(1)
    vectors.revise("a", Changes(content="the key hangs by the door", embedding=[0, 0, 1]))
    clock.go_on(1)
    vectors.forget("b")
    clock.go_on(1)
    vectors.remember("the key was copied", id="c", embedding=UNIT)
    return vectors


def test_a_position_shows_what_was_there_once_it_was_applied(lived: Space) -> None:
    assert [ids(lived, position) for position in range(1, 7)] == [
        [],
        ["a"],
        ["a", "b"],
        ["b", "a"],
        ["a"],
        ["a", "c"],
    ]
    assert lived.get("a", as_of=3).content == "the key is under the mat"
    assert lived.get("a", as_of=4).revision == 2
    assert lived.get("b", as_of=4).content == "the key is lost"
    with pytest.raises(MemoryNotFound, match="was no memory 'b'"):
        lived.get("b", as_of=5)
    with pytest.raises(MemoryNotFound, match="was no memory 'c'"):
        lived.get("c", as_of=5)
    vector = lived.get("a", as_of=3, include_embedding=True).embedding
    assert vector is not None
    assert vector.tolist() == UNIT


def test_a_time_shows_what_the_last_record_not_later_left(lived: Space) -> None:
    assert ids(lived, at(0)) == []
    assert ids(lived, at(1)) == ["a"]
    assert ids(lived, at(1.999999)) == ["a"]
    assert ids(lived, at(2)) == ["a", "b"]
    assert ids(lived, at(5)) == ["a", "c"]
    elsewhere = at(2).astimezone(timezone(timedelta(hours=-7)))
    assert ids(lived, elsewhere) == ["a", "b"]


def test_the_times_that_users_are_told_show_what_happened_then(
    vectors: Space, clock: SetClock
) -> None:
    clock.now_ns += 999  # of which users see nothing
    memory = vectors.remember("now", embedding=UNIT)
    clock.go_on(1)
    assert [m.id for m in vectors.list(as_of=memory.stored_at).memories] == [memory.id]


def test_a_recall_answers_as_the_space_would_have(lived: Space, clock: SetClock) -> None:
    then = lived.recall("key lost", as_of=4, explain=True)
    assert (then.position, then.recorded) == (4, False)
    assert [hit.memory.id for hit in then.results] == ["b", "a"]
    clock.go_on(60)
    for number in range(20):
        lived.remember(f"lost key {number}", embedding=[0, 1, number])
    later = lived.recall("key lost", as_of=4, explain=True)
    assert later.results == then.results, "nothing that came later has any influence"
    assert lived.recall("key lost", as_of=4, memory_ids=["b"]).results[0].memory.id == "a"
    with pytest.raises(MemoryNotFound):
        lived.recall(memory_ids=["c"], as_of=4)


def test_a_recall_of_the_past_is_not_put_on_record(lived: Space) -> None:
    position = lived.info().position
    assert not lived.recall("key", as_of=3, record=True).recorded
    lived.remember("next", id="next", embedding=UNIT)
    assert lived.get("next").position == (position or 0) + 1


def test_what_expired_by_then_is_not_shown(vectors: Space, clock: SetClock) -> None:
    vectors.remember("soon gone", id="a", embedding=UNIT, expires_at=at(10))
    clock.go_on(9)
    vectors.remember("later", id="b", embedding=UNIT)
    clock.go_on(11)
    vectors.remember("last", id="c", embedding=UNIT)
    assert ids(vectors, None) == ["b", "c"]
    assert ids(vectors, 3) == ["a", "b"]
    assert ids(vectors, 4) == ["b", "c"]
    assert ids(vectors, at(9.5)) == ["a", "b"]
    assert ids(vectors, at(10)) == ["b"]
    assert kept(vectors) == [4, 3], "times that mean the same position share what is kept"


def test_a_position_inside_a_batch_is_that_before_it(vectors: Space) -> None:
    vectors.remember("one", id="one", embedding=UNIT)
    batch = [{"content": f"of a batch {n}", "id": f"b{n}", "embedding": UNIT} for n in range(3)]
    vectors.remember_many(batch)  # positions 3 to 5
    assert [ids(vectors, p) for p in (2, 3, 4)] == [["one"]] * 3
    assert ids(vectors, 5) == ["one", "b0", "b1", "b2"]
    assert [vectors.recall("batch", as_of=p).position for p in (2, 3, 4, 5)] == [2, 2, 2, 5]


def test_pages_are_of_one_past(lived: Space) -> None:
    page = lived.list(limit=1, as_of=4)
    assert [m.id for m in page.memories] == ["b"]
    rest = lived.list(limit=1, after=page.next, as_of=4)
    assert ([m.id for m in rest.memories], rest.next) == (["a"], None)
    assert lived.list(engram.Filter(tags_all=("none",)), as_of=4).memories == ()


@pytest.mark.parametrize(
    "when",
    [0, -1, True, False, 1.0, float("nan"), "5", "2026-05-01T09:00:00Z", b"1", [1], object()],
    ids=repr,
)
def test_what_is_no_moment_is_refused(lived: Space, when: Any) -> None:
    for use in uses(lived):
        with pytest.raises(Invalid, match="as_of"):
            use(when)


def uses(space: Space) -> list[Callable[[Any], object]]:
    return [
        lambda when: space.get("a", as_of=when),
        lambda when: space.list(as_of=when),
        lambda when: space.recall("key", as_of=when),
    ]


def test_a_time_without_a_zone_is_refused(lived: Space) -> None:
    for use in uses(lived):
        with pytest.raises(Invalid, match="as_of: must say its time zone"):
            use(datetime(2026, 5, 1))


def test_what_has_not_come_yet_is_refused(lived: Space) -> None:
    for use in uses(lived):
        for when in (7, 1 << 80, at(5.000001), datetime.max.replace(tzinfo=UTC)):
            with pytest.raises(PositionBeyondEnd, match="Leave it out") as caught:
                use(when)
            assert caught.value.memory_space_id == "vectors"


def test_before_there_was_a_space_there_is_nothing_to_show(lived: Space) -> None:
    for when in (at(-1), datetime.min.replace(tzinfo=UTC)):
        with pytest.raises(HistoryGone, match="begins with position 1, of 2023-11-14") as caught:
            lived.list(as_of=when)
        error = caught.value
        assert (error.oldest_position, error.position) == (1, 6)
        assert error.space_uuid == lived.info().uuid


def test_what_was_purged_is_gone_from_the_past(lived: Space) -> None:
    assert lived.get("b", as_of=4).content == "the key is lost"
    assert 4 in kept(lived)
    lived.purge("b")
    assert kept(lived) == []
    assert ids(lived, 4) == ["a"]
    with pytest.raises(MemoryNotFound):
        lived.get("b", as_of=4)
    lived.purge("a")
    assert [ids(lived, position) for position in range(1, 7)] == [[]] * 5 + [["c"]]


def test_what_is_being_purged_is_gone_from_the_past_too(
    small: engram.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    alpha = small.create_space("alpha", embedding=CALLER)
    for number in range(4):
        alpha.remember(f"memory {number}", id=f"m{number}", embedding=[1, number, 0])
    alpha.compact()
    alpha.forget("m2")
    assert ids(alpha, 5) == ["m0", "m1", "m2", "m3"]

    def full(self: Compactor) -> None:
        raise NoRoom("no room left")

    with monkeypatch.context() as patched:
        patched.setattr(Compactor, "run", full)
        for name in ("m1", "m2"):
            with pytest.raises(engram.DiskFull):
                alpha.purge(name)
    for _ in range(2):
        assert ids(alpha, 3) == ["m0"]
        assert ids(alpha, 5) == ["m0", "m3"]  # both live in the checkpoint that this begins with
        hits = alpha.recall("memory", as_of=5).results
        assert sorted(hit.memory.id for hit in hits) == ["m0", "m3"]
    alpha.purge("m1")
    assert kept(alpha) == []
    assert ids(alpha, 5) == ["m0", "m3"]


def test_an_id_that_was_used_again_after_a_purge(lived: Space) -> None:
    lived.purge("b")
    again = lived.remember("found", id="b", embedding=UNIT)
    assert ids(lived, again.position) == ["a", "c", "b"]
    assert ids(lived, again.position - 1) == ["a", "c"]
    lived.purge("b")
    assert ids(lived, again.position) == ["a", "c"]


def test_a_purge_while_the_past_is_read_counts(
    lived: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, times = as_of_module._replayed, list[int]()

    def replayed(*given: Any) -> Any:
        state = real(*given)
        times.append(1)
        if len(times) == 1:
            lived.purge("b")
        return state

    monkeypatch.setattr(as_of_module, "_replayed", replayed)
    assert ids(lived, 4) == ["a"]
    assert len(times) == 2


def test_a_deletion_that_was_undone_shows_what_was_before_it(
    db: engram.Database, lived: Space, clock: SetClock
) -> None:
    clock.go_on(1)
    db.delete_space("vectors")  # position 7
    clock.go_on(5)
    space = db.restore_space("vectors")
    assert [ids(space, p) for p in (6, 7, 8)] == [["a", "c"]] * 3
    assert [space.recall("key", as_of=p).position for p in (6, 7, 8)] == [6, 6, 8]
    assert space.recall("key", as_of=at(8)).position == 6


def test_history_that_was_let_go_of_is_gone_also_from_what_is_kept(
    small: engram.Database, clock: SetClock
) -> None:
    alpha = small.create_space("alpha", embedding=CALLER)
    for number in range(60):
        clock.go_on(1)
        brief = from_us(clock() // 1_000) + timedelta(seconds=0.5)
        alpha.remember(f"memory {number}", id=f"m{number}", embedding=[1, number, 0])
        alpha.remember("brief", id="brief", embedding=UNIT, expires_at=brief)
    assert ids(alpha, 3) == ["m0", "brief"]
    alpha.configure(retention="positions:5")
    alpha.compact()
    oldest = int(alpha.info().oldest_position or 0)
    assert oldest > 10
    begins = next(alpha.events()).time
    for when in (1, 3, oldest - 2, at(1), begins - timedelta(microseconds=1)):
        with pytest.raises(HistoryGone, match=f"position {oldest}") as caught:
            alpha.list(as_of=when)
        assert caught.value.oldest_position == oldest
    for when in (oldest - 1, oldest, begins):
        found = alpha.list(limit=1_000, as_of=when).memories
        names = [memory.id for memory in found if memory.id != "brief"]
        assert names == [f"m{number}" for number in range(len(names))]
        assert all(m.expires_at is None or m.expires_at > begins for m in found)
        assert max(memory.position for memory in found) >= oldest - 4
        alpha.recall("memory", as_of=when)


def test_a_history_that_begins_between_a_deletion_and_its_undoing(
    clock: SetClock,
) -> None:
    options = SMALL._replace(segment_bytes=1)  # so that each record has a segment of its own
    with closing(Registry(SimDisk().root(), owner="a test", options=options, clock=clock)) as made:
        made.create("alpha", CALLER).remember("one", id="one", embedding=UNIT)
        made.delete("alpha")  # position 3
        alpha = made.restore("alpha")
        alpha.remember_many([{"content": "two", "id": "two", "embedding": UNIT}])
        alpha.configure(retention="positions:3")
        alpha.compact()
        assert alpha.info().oldest_position == 4
        assert [ids(alpha, position) for position in (3, 4, 5)] == [
            ["one"],
            ["one"],
            ["one", "two"],
        ]
        assert ids(alpha.fork("copy", as_of=4), None) == ["one"]
        (newest,) = [each for each in alpha._store().log.checkpoints if not each.base]
        with closing(alpha._store().space_dir.open_dir("checkpoints")) as folder:
            folder.remove(newest.name)
        alpha._entry.let_go()
        assert ids(alpha, None) == ["one", "two"]


def test_a_copy_that_holds_no_history_is_what_it_was_made_as(
    small: engram.Database, clock: SetClock
) -> None:
    alpha = small.create_space("alpha", embedding=CALLER)
    for number in range(60):
        alpha.remember(f"memory {number}", id=f"m{number}", embedding=[1, number, 0])
    alpha.configure(retention="positions:5")
    alpha.compact()
    base = int(alpha.info().oldest_position or 0) - 1
    clock.go_on(10)
    copy = alpha.fork("copy", as_of=base)
    clock.go_on(10)
    for when in (base, at(10), at(20)):
        assert len(copy.list(limit=1_000, as_of=when).memories) == base - 1
    with pytest.raises(HistoryGone):
        copy.list(as_of=at(9))


def test_a_checkpoint_that_decayed_is_passed_over(lived: Space, db: engram.Database) -> None:
    lived.compact()
    assert [ids(lived, 6), ids(lived, 7)] == [["a", "c"]] * 2
    (checkpoint,) = (db.path / "vectors" / "checkpoints").iterdir()
    data = bytearray(checkpoint.read_bytes())
    data[5_000] ^= 1
    checkpoint.write_bytes(data)
    lived._store().pasts.let_go(lived.info().uuid or "")
    assert ids(lived, 6) == ["a", "c"]
    checkpoint.unlink()
    lived._store().pasts.let_go(lived.info().uuid or "")
    assert ids(lived, 6) == ["a", "c"]


def test_a_base_that_decayed_is_damage(small: engram.Database) -> None:
    alpha = small.create_space("alpha", embedding=CALLER)
    for number in range(60):
        alpha.remember(f"memory {number}", embedding=[1, number, 0])
    alpha.configure(retention="positions:5")
    alpha.compact()
    oldest = int(alpha.info().oldest_position or 0)
    (base, _) = sorted((small.path / "alpha" / "checkpoints").iterdir())
    data = bytearray(base.read_bytes())
    data[5_000] ^= 1
    base.write_bytes(data)
    with pytest.raises(SpaceDamaged, match=base.name):
        alpha.list(as_of=oldest)


@pytest.mark.parametrize("retention", ["all", "positions:45", "positions:1"])
def test_a_compaction_while_the_past_is_read(
    small: engram.Database, monkeypatch: pytest.MonkeyPatch, retention: str
) -> None:
    alpha = small.create_space("alpha", embedding=CALLER)
    for number in range(60):
        alpha.remember(f"memory {number}", id=f"m{number}", embedding=[1, number, 0])
    alpha.configure(retention=retention)
    monkeypatch.setattr(reading, "STEP_BYTES", 1)  # one record each time it is pinned
    real, steps = reading._step, list[int]()

    def step(entry: Any, position: int, last: int) -> Any:
        steps.append(position)
        if position == 4:
            alpha.compact()
        return real(entry, position, last)

    monkeypatch.setattr(reading, "_step", step)
    if retention != "positions:1":
        assert len(ids(alpha, 20)) == 19
        oldest = int(alpha.info().oldest_position or 0)
        assert oldest == 1 if retention == "all" else 5 < oldest <= 20
        assert kept(alpha) == [], "what was begun before may be mapped from files that are gone"
        return
    with pytest.raises(HistoryGone) as caught:
        ids(alpha, 20)
    assert caught.value.oldest_position == alpha.info().oldest_position
    assert len(ids(alpha, 61)) == 50


def test_two_who_ask_at_once_have_it_built_once(
    lived: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, built, asked = as_of_module._build, list[int](), list[int]()
    real_state_at = PastStates.state_at

    def state_at(self: PastStates, key: Any, *given: Any) -> Any:
        asked.append(key)
        return real_state_at(self, key, *given)

    def build(entry: Any, position: int) -> Any:
        built.append(position)
        wait_until(lambda: len(asked) == 8)
        return real(entry, position)

    monkeypatch.setattr(PastStates, "state_at", state_at)
    monkeypatch.setattr(as_of_module, "_build", build)
    answers = at_once(8, lambda index: ids(lived, 4 if index % 2 else at(3)))
    assert answers == [["b", "a"]] * 8
    assert built == [4]


def test_one_too_many_is_refused_and_not_kept_waiting() -> None:
    pasts, refused = PastStates(0), threading.Event()
    built = Built(State("alpha", 2), (0, 0), 0)

    def build() -> Built:
        assert refused.wait(60)
        return built

    def ask(position: int) -> object:
        try:
            return pasts.state_at(("uuid", position), (0, 0), build)
        except Unavailable:
            refused.set()
            raise

    answers = at_once(ASKED_FOR_MAX + 1, ask)
    told = [answer for answer in answers if isinstance(answer, Unavailable)]
    assert len(told) == 1
    assert answers.count(built.state) == ASKED_FOR_MAX
    assert ask(99) is built.state


def test_an_error_reaches_all_who_wait_and_none_who_come_later(
    lived: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(entry: Any, position: int) -> Any:
        raise SpaceDamaged("broken")

    with monkeypatch.context() as patched:
        patched.setattr(as_of_module, "_build", fail)
        answers = at_once(4, lambda index: ids(lived, 4))
        assert [type(answer) for answer in answers] == [SpaceDamaged] * 4
    assert ids(lived, 4) == ["b", "a"]


def test_what_is_kept_stays_within_its_bound(tmp_path: Path) -> None:
    with engram.open(tmp_path / "data") as db:
        size = _filled(db, 40)
    with engram.open(tmp_path / "data", past_bytes_max=3 * size) as db:
        alpha = db.space("alpha")
        pasts = alpha._store().pasts
        for position in (30, 31, 32, 30, 33, 34):
            assert len(ids(alpha, position)) == position - 1
            assert 0 < pasts.nbytes <= 3 * size
        assert 31 not in kept(alpha), "used least recently"
        assert kept(alpha)[-1] == 34
        before = alpha._store().footprint.held
        assert alpha._entry.nbytes == before + pasts.nbytes
    with engram.open(tmp_path / "data", past_bytes_max=0) as db:
        alpha = db.space("alpha")
        assert len(ids(alpha, 30)) == 29
        assert kept(alpha) == []


def _filled(db: engram.Database, count: int) -> int:
    """What a past state of a space of that many memories takes."""
    alpha = db.create_space("alpha", embedding=CALLER)
    for number in range(count):
        alpha.remember(f"memory {number}", id=f"m{number}", embedding=[1, number, 0])
    ids(alpha, count)
    return alpha._store().pasts.nbytes


def test_however_small_they_are_no_more_than_a_few_are_kept(
    lived: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engram.spaces.past.PAST_STATES_MAX", 2)
    for position in (2, 3, 4, 3, 5):
        ids(lived, position)
    assert kept(lived) == [3, 5]


def test_they_go_when_the_space_is_closed_or_deleted(db: engram.Database, lived: Space) -> None:
    pasts = lived._store().pasts
    ids(lived, 4)
    assert pasts.nbytes_of(lived.info().uuid or "") > 0
    assert lived._entry.rest()
    assert pasts.kept == []
    assert ids(lived, 4) == ["b", "a"]
    db.delete_space("vectors")
    assert pasts.kept == []


@pytest.mark.parametrize("value", [-1, 1.5, True, "many", None])
def test_the_bound_must_be_a_whole_number(tmp_path: Path, value: Any) -> None:
    with pytest.raises(Invalid, match="past_bytes_max"):
        engram.open(tmp_path / "data", past_bytes_max=value)


STEP = st.one_of(
    st.tuples(
        st.sampled_from(["remember", "brief", "revise", "forget", "restore", "purge"]),
        st.integers(0, 5),
    ),
    st.tuples(st.just("batch"), st.integers(1, 4)),
    st.tuples(st.just("wait"), st.integers(1, 5)),
    st.tuples(st.just("retain"), st.integers(1, 12)),
    st.tuples(st.sampled_from(["recall", "compact", "reopen", "delete"]), st.just(0)),
)


def do(registry: Registry, clock: SetClock, step: tuple[str, int], number: int) -> None:
    what, which = step
    space, name, vector = registry.space("alpha"), f"m{which}", [1.0, number, which]
    with suppress(MemoryExists, MemoryNotFound):
        match what:
            case "remember":
                space.remember(f"text {number}", id=name, embedding=vector)
            case "brief":
                expires = from_us(clock() // 1_000) + timedelta(seconds=3)
                space.remember(f"brief {number}", id=name, embedding=vector, expires_at=expires)
            case "revise":
                space.revise(name, Changes(tags=[f"t{number}"]))
            case "forget":
                space.forget(name)
            case "restore":
                space.restore(name)
            case "purge":
                space.purge(name)
            case "batch":
                space.remember_many(
                    [{"content": f"b {number} {n}", "embedding": vector} for n in range(which)]
                )
            case "wait":
                clock.go_on(which)
            case "retain":
                space.configure(retention=f"positions:{which}")
            case "recall":
                space.recall("text")
            case "compact":
                space.compact()
            case "reopen":
                space._entry.let_go()
            case _:
                registry.delete("alpha")
                registry.restore("alpha")


class Told:
    """The model: all that was ever told of a space, in plain Python."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def listen(self, space: Space) -> None:
        after = self.events[-1].position if self.events else 0
        self.events += space.events(max(after, int(space.info().oldest_position or 1) - 1))

    def at(self, position: int, now: datetime) -> list[Memory]:
        """What lived at a position, by ascending position, but for what was purged later."""
        living: dict[str, Memory] = {}
        for event in self.events[:position]:
            if event.memory is not None:
                living[event.memory.id] = event.memory
            elif event.type in ("memory.forgotten", "memory.purged"):
                living.pop(str(event.id), None)
        purged = {e.id for e in self.events[position:] if e.type == "memory.purged"}
        found = [m for m in living.values() if m.id not in purged]
        found = [m for m in found if m.expires_at is None or m.expires_at > now]
        return sorted(found, key=lambda memory: memory.position)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STEP, max_size=30), st.data())
def test_whatever_happened_the_past_is_what_it_was(
    steps: list[tuple[str, int]], data: st.DataObject
) -> None:
    clock, told = SetClock(), Told()
    with closing(
        Registry(SimDisk().root(), owner="a test", options=SMALL, clock=clock)
    ) as registry:
        space = registry.create("alpha", CALLER)
        for number, step in enumerate(steps):
            do(registry, clock, step, number)
            told.listen(space)
        space.remember("the last", id="last", embedding=UNIT)  # behind all that was observed
        told.listen(space)
        assert [event.position for event in told.events] == list(range(1, len(told.events) + 1))
        check_positions(space, told)
        check_times(space, told, data)
        check_recall(space, clock, data)


def ends(space: Space) -> dict[int, datetime]:
    """The positions that records end with, and when, but for deletions."""
    store = space._store()
    return {
        record.next_position - 1: from_us(record.time_ns // 1_000)
        for record in store.log.read(store.log.oldest_position)
    }


def check_positions(space: Space, told: Told) -> None:
    held, oldest = ends(space), int(space.info().oldest_position or 1)
    deleted = {event.position for event in told.events if event.type == "space.deleted"}
    first = told.events[oldest - 1].time
    for position in range(1, len(told.events) + 1):
        if position < oldest - 1:
            with pytest.raises(HistoryGone):
                space.list(as_of=position)
            continue
        end = max((p for p in held if p <= position and p not in deleted), default=oldest - 1)
        now = held.get(end, first)
        found = space.list(limit=1_000, as_of=position).memories
        assert list(found) == told.at(end, now)
        assert space.recall("text", as_of=position).position == end
        for memory in found:
            assert space.get(memory.id, as_of=position) == memory


def check_times(space: Space, told: Told, data: st.DataObject) -> None:
    held, oldest = ends(space), int(space.info().oldest_position or 1)
    last = told.events[-1].time
    span = int((last - told.events[0].time).total_seconds())
    time = last - timedelta(seconds=data.draw(st.integers(-1, span + 1)))
    if time > last:
        with pytest.raises(PositionBeyondEnd):
            space.list(as_of=time)
        return
    position = max((p for p, when in held.items() if when <= time), default=None)
    if position is None:
        with pytest.raises(HistoryGone) as caught:
            space.list(as_of=time)
        assert caught.value.oldest_position == oldest
        return
    assert list(space.list(limit=1_000, as_of=time).memories) == told.at(position, time)


def check_recall(space: Space, clock: SetClock, data: st.DataObject) -> None:
    """A past recall is what a fresh space answers that was replayed up to there."""
    held = ends(space)
    position = data.draw(st.sampled_from(sorted(held)))
    cue: dict[str, Any] = {"embedding": [1.0, 2.0, 3.0], "explain": True, "record": False}
    then = space.recall("text b", as_of=position, **cue)
    fresh = space.fork("fresh", position)
    assert fresh.info().position == then.position
    clock.now_ns = to_us(held.get(then.position, held[min(held)])) * 1_000
    assert answered(then) == answered(fresh.recall("text b", **cue))


def answered(recall: engram.Recall) -> list[tuple[object, ...]]:
    return [
        (hit.memory.id, hit.memory.position, round(hit.score, 6), hit.why, hit.confidence)
        for hit in recall.results
    ]


def test_the_past_holds_still_while_the_present_does_not(
    small: engram.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "STEP_BYTES", 400)
    alpha = small.create_space("alpha", embedding=CALLER)
    for number in range(60):
        alpha.remember(f"memory {number}", id=f"m{number}", embedding=[1, number, 0])
    gone, done = list[str](), threading.Event()

    def change() -> None:
        try:
            for number in range(0, 60, 4):
                alpha.forget(f"m{number}")
                alpha.revise(f"m{number + 1}", Changes(tags=["revised"]))
                if number % 8 == 0:
                    alpha.purge(f"m{number + 2}")
                    gone.append(f"m{number + 2}")
                elif number % 12 == 0:
                    alpha.compact()
        finally:
            done.set()

    def look(position: int) -> int:
        looks, whole = 0, [f"m{number}" for number in range(position - 1)]
        while not done.is_set() or not looks:
            purged = set(gone)
            found = ids_of(alpha.list(limit=100, as_of=position))
            assert not purged & set(found)
            assert found == [name for name in whole if name in found], "in order, none twice"
            missing = set(whole) - set(found)
            assert all(int(name[1:]) % 8 == 2 for name in missing), "nothing else is missing"
            looks += 1
        return looks

    answers = at_once(4, lambda index: change() if index == 0 else look(10 + 15 * index))
    assert [type(answer) for answer in answers] == [type(None), int, int, int], answers
    assert len(ids_of(alpha.list(limit=100, as_of=61))) == 60 - len(gone)


def ids_of(page: engram.Page) -> list[str]:
    return [memory.id for memory in page.memories]
