"""A space's forgetting policy: what it has go, when, and that it can be explained and undone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engram
from engram.cognition.fading import beyond, strengths
from engram.errors import Invalid
from engram.memory.decay import Decay
from engram.memory.decide import Forget, Restore, Sweep
from engram.memory.forgetting import Forgetting, NothingLeft
from engram.memory.model import Kind
from engram.spaces import forgetting
from engram.spaces.database import Database
from engram.spaces.forgetting import Pace
from engram.spaces.machine import Timed
from engram.spaces.registry import Registry
from engram.spaces.sweeper import Sweeper
from tests.unit.conftest import CALLER, START_NS, UNIT, SetClock, wait_until
from wal.os_vfs import open_root
from wal.sim_vfs import SimDisk

START = datetime.fromtimestamp(START_NS / 1e9, UTC)
DAY_S = 24 * 3_600


def remember(space: engram.Space, *ids: str, **fields: object) -> None:
    for memory_id in ids:
        space.remember(memory_id, id=memory_id, embedding=UNIT, **fields)  # type: ignore[arg-type]


def ids(space: engram.Space, **asked: object) -> list[str]:
    return [m.id for m in space.list(limit=1_000, **asked).memories]  # type: ignore[arg-type]


def gone(space: engram.Space) -> list[tuple[str | None, str | None]]:
    return [(e.id, e.reason) for e in space.events(types=["memory.forgotten"])]


def aged(space: engram.Space, clock: SetClock, *ids: str, seconds: float = 60) -> None:
    """Remember one after the other, so that the first is the weakest."""
    for memory_id in ids:
        remember(space, memory_id)
        clock.go_on(seconds)


def test_the_weakest_beyond_the_capacity_go(vectors: engram.Space, clock: SetClock) -> None:
    aged(vectors, clock, *"abcde")
    vectors.configure(forgetting="capacity:3")
    report = vectors.apply_forgetting()
    assert (report.count, report.dry_run) == (2, False)
    assert report.forgetting == Forgetting(capacity=3)
    assert [(m.id, m.reason, m.bound) for m in report.memories] == [
        ("a", "capacity", 3.0),
        ("b", "capacity", 3.0),
    ]
    weaker, stronger = (m.base_level for m in report.memories)
    assert weaker is not None
    assert stronger is not None
    assert weaker < stronger < 0
    assert report.memories[1].position == report.position == vectors.info().position
    assert ids(vectors) == ["c", "d", "e"]
    event = vectors.history("a")[-1]
    assert (event.reason, event.base_level, event.bound) == ("capacity", weaker, 3.0)
    assert vectors.apply_forgetting().count == 0


def test_a_dry_run_says_what_would_go_and_changes_nothing(
    vectors: engram.Space, clock: SetClock
) -> None:
    aged(vectors, clock, *"abcde")
    remember(vectors, "late", expires_at=START + timedelta(seconds=301))
    vectors.configure(forgetting="capacity:3")
    clock.go_on(10)
    position = vectors.info().position
    planned = vectors.apply_forgetting(dry_run=True)
    assert (planned.count, planned.dry_run, planned.position) == (3, True, position)
    assert vectors.info().position == position
    assert [(m.id, m.reason) for m in planned.memories] == [
        ("late", "expired"),
        ("a", "capacity"),
        ("b", "capacity"),
    ]
    done = vectors.apply_forgetting()
    assert [(m.id, m.reason, m.base_level, m.bound) for m in done.memories] == [
        (m.id, m.reason, m.base_level, m.bound) for m in planned.memories
    ]
    with pytest.raises(Invalid, match="dry_run"):
        vectors.apply_forgetting(dry_run=1)  # type: ignore[arg-type]


def test_what_has_faded_goes_once_its_grace_is_over(vectors: engram.Space, clock: SetClock) -> None:
    remember(vectors, "a")
    clock.go_on(60)
    remember(vectors, "b")
    # By this law the base level is -2 some 58 s after the only use.
    vectors.configure(decay="exponential:20s", forgetting="threshold:-2,grace:100s")
    for seconds, left in ((0, ["a", "b"]), (39, ["a", "b"]), (2, ["b"]), (58, ["b"]), (2, [])):
        clock.go_on(seconds)
        vectors.apply_forgetting()
        assert ids(vectors) == left
    assert gone(vectors) == [("a", "faded"), ("b", "faded")]
    assert vectors.history("a")[-1].bound == -2.0


def test_what_is_spared_counts_but_stays(vectors: engram.Space, clock: SetClock) -> None:
    clock.go_on(1)
    remember(vectors, "fact", kind="fact")
    remember(vectors, "belief", kind="belief")
    remember(vectors, "pinned", tags=["pinned"])
    aged(vectors, clock, *"abc")
    vectors.configure(forgetting="capacity:4,spare:fact,spare:belief,spare-tag:pinned")
    vectors.apply_forgetting()
    assert ids(vectors) == ["fact", "belief", "pinned", "c"]
    vectors.configure(forgetting="capacity:1,spare:fact,spare-tag:pinned")
    report = vectors.apply_forgetting()
    assert [m.id for m in report.memories] == ["belief", "c"]
    assert ids(vectors) == ["fact", "pinned"]  # one more than may be, but nothing else is left


def test_what_was_restored_does_not_go_again_at_once(
    vectors: engram.Space, clock: SetClock
) -> None:
    aged(vectors, clock, *"abcd")
    vectors.configure(decay="exponential:20s", forgetting="capacity:3,threshold:-9,grace:10s")
    assert [m.id for m in vectors.apply_forgetting().memories] == ["a"]
    assert vectors.restore("a").revision == 2
    report = vectors.apply_forgetting()
    assert [(m.id, m.reason) for m in report.memories] == [("b", "capacity")]
    assert "a" in ids(vectors)


def test_what_a_spared_belief_rests_on_stays(alpha: engram.Space, clock: SetClock) -> None:
    for number in range(4):
        alpha.remember("The deploy key is rotated on Mondays", id=f"key{number}")
        clock.go_on(60)
    (belief,) = alpha.consolidate().beliefs
    alpha.remember("Lunch is at noon", id="lunch")
    clock.go_on(60)
    held = {memory.id for memory in alpha.list().memories} - {"lunch"}
    alpha.configure(forgetting="capacity:2,spare:belief")
    alpha.apply_forgetting()
    assert set(ids(alpha)) == held
    alpha.configure(forgetting="capacity:4")
    report = alpha.apply_forgetting()
    assert [(m.id, m.reason) for m in report.memories] == [
        ("key0", "capacity"),
        (belief.id, "source-forgotten"),
    ]


def test_what_is_recalled_stays(vectors: engram.Space, clock: SetClock) -> None:
    aged(vectors, clock, *"abcd")
    vectors.configure(forgetting="capacity:3")
    position = vectors.info().position
    assert [hit.memory.id for hit in vectors.recall("a", limit=1)] == ["a"]
    wait_until(lambda: vectors.info().position == (position or 0) + 1)  # it is on record
    assert [m.id for m in vectors.apply_forgetting().memories] == ["b"]


def test_equals_go_in_the_order_of_ids(vectors: engram.Space, clock: SetClock) -> None:
    names = [f"m{number:02}" for number in range(20)]
    vectors.remember_many(
        [{"content": name, "id": name, "embedding": UNIT} for name in reversed(names)]
    )
    clock.go_on(60)
    vectors.configure(forgetting="capacity:12")
    assert [m.id for m in vectors.apply_forgetting().memories] == names[:8]


def test_a_report_names_the_first_of_many(vectors: engram.Space, clock: SetClock) -> None:
    for _ in range(3):
        vectors.remember_many([{"content": "x", "embedding": UNIT} for _ in range(500)])
        clock.go_on(60)
    vectors.configure(forgetting="capacity:1")
    planned = vectors.apply_forgetting(dry_run=True)
    done = vectors.apply_forgetting()
    assert planned.count == done.count == 1_499
    assert len(planned.memories) == len(done.memories) == 1_000
    assert [m.id for m in planned.memories] == [m.id for m in done.memories]


def test_without_a_policy_only_the_expired_go(vectors: engram.Space, clock: SetClock) -> None:
    remember(vectors, "a")
    remember(vectors, "b", expires_at=START + timedelta(seconds=1))
    clock.go_on(10_000 * DAY_S)
    assert vectors.apply_forgetting(dry_run=True).count == 1
    assert [m.reason for m in vectors.apply_forgetting().memories] == ["expired"]
    assert ids(vectors) == ["a"]


def test_the_past_is_as_it_was(vectors: engram.Space, clock: SetClock) -> None:
    aged(vectors, clock, *"abc")
    vectors.configure(forgetting="capacity:1")
    before = vectors.info().position
    vectors.apply_forgetting()
    assert before is not None
    assert ids(vectors) == ["c"]
    assert ids(vectors, as_of=before) == ["a", "b", "c"]
    assert ids(vectors, as_of=before + 1) == ["a", "b", "c"]  # inside of the record: before it
    assert ids(vectors, as_of=before + 2) == ["c"]


def test_a_policy_survives_all_that_a_space_does(db: Database, clock: SetClock) -> None:
    policy = Forgetting(capacity=2, threshold=-9.0, spare_tags=("pinned",))
    space = db.create_space("s", embedding=CALLER)
    aged(space, clock, *"abc")
    assert space.configure(forgetting=policy).forgetting == policy
    space.configure(decay="none")  # which leaves it as it is
    assert [e.forgetting for e in space.events(types=["space.configured"])] == [policy, policy]
    space.apply_forgetting()
    space.compact()
    bundle = BytesIO()
    space.export(bundle)
    bundle.seek(0)
    for copy in (space.fork("t"), db.import_space("u", bundle)):
        assert (copy.info().forgetting, ids(copy)) == (policy, ["b", "c"])
        assert gone(copy) == [("a", "capacity")]
        assert copy.restore("a").content == "a"
    db.close()
    with engram.open(db.path) as again:
        assert again.space("s").info().forgetting == policy
        assert gone(again.space("s"))[:1] == [("a", "capacity")]


def test_a_write_between_judging_and_deciding_is_counted(
    vectors: engram.Space, clock: SetClock
) -> None:
    aged(vectors, clock, *"abcde")
    vectors.configure(forgetting="capacity:3")
    store = vectors._entry.store()
    now_us, policy = clock() // 1_000, Forgetting(capacity=3)
    judged = beyond(store.state.view, policy, Decay(), now_us, 10).judged
    assert [each.id for each in judged] == ["a", "b"]
    vectors.revise("a", engram.Changes(tags=("used",)))
    vectors.forget("e")
    store.commit(Sweep(judged, now_us, policy))
    assert ids(vectors) == ["c", "d", "a"]
    remember(vectors, "f")
    with pytest.raises(NothingLeft):
        store.commit(Sweep(judged, now_us, policy))  # a and b are no longer what they were


def test_changing_the_policy_in_the_midst_stops_it(vectors: engram.Space, clock: SetClock) -> None:
    aged(vectors, clock, *"abc")
    vectors.configure(forgetting="capacity:1")
    store = vectors._entry.store()
    now_us, policy = clock() // 1_000, Forgetting(capacity=1)
    judged = beyond(store.state.view, policy, Decay(), now_us, 10).judged
    vectors.configure(forgetting="none")
    with pytest.raises(NothingLeft):
        store.commit(Sweep(judged, now_us, policy))
    assert ids(vectors) == ["a", "b", "c"]


def test_what_a_group_did_before_is_counted(vectors: engram.Space, clock: SetClock) -> None:
    """Several commands in one group are decided against each other."""
    aged(vectors, clock, *"abcd")
    vectors.configure(forgetting="capacity:3")
    store = vectors._entry.store()
    now_us = clock() // 1_000
    vectors.remember("brief", id="x", embedding=UNIT, expires_at=START + timedelta(days=9))

    def decide_all() -> list[int]:
        machine = store._machine
        counted = [machine.living(now_us)]
        for command in (Forget("a", now_us), Forget("x", now_us), Restore("a", now_us)):
            machine.decide(Timed(command, clock()))
            counted.append(machine.living(now_us))
        machine.abandon()
        return [*counted, machine.living(now_us)]

    assert store.call(decide_all) == [5, 4, 3, 4, 5]


@pytest.fixture
def swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[engram.Space]:
    """A space that is looked after without any delay."""
    monkeypatch.setattr(forgetting, "PACE", Pace(0.0, 0.0, 0.0, 0.01))
    with engram.open(tmp_path / "data") as db:
        yield db.create_space("s", embedding=CALLER)


def test_it_happens_by_itself_and_is_told(swept: engram.Space) -> None:
    swept.configure(forgetting="capacity:3")
    events = swept.events(types=["memory.forgotten"], follow=True)
    for memory_id in "abcdef":
        remember(swept, memory_id)
    assert [(e.id, e.reason) for _, e in zip("abc", events, strict=False)] == [
        (memory_id, "capacity") for memory_id in "abc"
    ]
    assert ids(swept) == ["d", "e", "f"]


def test_it_happens_when_a_policy_is_set_and_when_memories_fade(swept: engram.Space) -> None:
    remember(swept, *"abc")
    events = swept.events(types=["memory.forgotten"], follow=True)
    swept.configure(forgetting="threshold:5,grace:0s")  # above what any memory is
    assert {next(iter(events)).id for _ in range(3)} == {"a", "b", "c"}
    remember(swept, "d")
    assert next(iter(events)).reason == "faded"


def test_it_happens_when_a_space_is_opened(tmp_path: Path, clock: SetClock) -> None:
    root = tmp_path / "data"
    root.mkdir()
    registry = Registry(open_root(root), owner="a test", clock=clock)
    with Database(registry, root) as db:
        space = db.create_space("s", embedding=CALLER)
        aged(space, clock, *"abc")
        space.configure(forgetting="capacity:2")
        assert ids(space) == ["a", "b", "c"]  # nobody looks after it here
    with engram.open(root) as db:
        events = db.space("s").events(after=0, types=["memory.forgotten"], follow=True)
        assert next(iter(events)).id == "a"


def test_spared_memories_beyond_the_capacity_are_not_looked_for_again_and_again(
    vectors: engram.Space, clock: SetClock
) -> None:
    vectors.configure(forgetting="capacity:2,spare:fact")
    remember(vectors, *"abc", kind="fact")
    forgetter = vectors._entry.store().forgetter
    assert forgetter.due_s() == 0.0
    forgetter.tend()
    forgetter._not_before_s = 0.0
    due_s = forgetter.due_s()
    assert due_s is not None
    assert due_s > 100
    remember(vectors, "d", kind="episode")
    assert forgetter.due_s() == 0.0
    forgetter.tend()
    assert ids(vectors) == ["a", "b", "c"]


def test_writers_go_on_while_much_is_forgotten(swept: engram.Space) -> None:
    """As many as there may be are left in the end, and all that was written last among them."""
    written: list[str] = []
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            remember(swept, f"new{len(written)}")
            written.append(f"new{len(written)}")

    swept.remember_many([{"content": "old", "embedding": UNIT} for _ in range(1_000)])
    swept.remember_many([{"content": "old", "embedding": UNIT} for _ in range(1_000)])
    swept.configure(forgetting="capacity:500")
    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_until(lambda: len(ids(swept)) < 1_000 and len(written) > 10)
    finally:
        stop.set()
        writer.join()
    wait_until(lambda: swept.info().memories == 500)
    position = swept.info().position
    assert set(written[-10:]) <= set(ids(swept))
    assert all(event.reason == "capacity" for event in swept.events(types=["memory.forgotten"]))
    assert len(gone(swept)) == 1_500 + len(written)
    assert swept.info().position == position


def test_what_follows_is_the_same_after_a_replay(db: Database, clock: SetClock) -> None:
    space = db.create_space("s", embedding=CALLER)
    aged(space, clock, *"abcdef")
    space.configure(forgetting="capacity:3")
    space.apply_forgetting()
    space.restore("b")
    space.apply_forgetting()
    told = list(space.events())
    shown = space.list().memories
    planned = space.apply_forgetting(dry_run=True)
    for compacted in (False, True):
        if compacted:
            space.compact()
        space._entry.let_go()
        assert list(space.events())[: len(told)] == told
        assert space.list().memories == shown
        again = space.apply_forgetting(dry_run=True)
        assert (again.count, again.memories) == (planned.count, planned.memories)


KIND: dict[str, Kind] = {"e": "episode", "b": "belief", "f": "fact"}
histories = st.lists(
    st.tuples(st.sampled_from("ebf"), st.booleans(), st.integers(0, 3)), min_size=1, max_size=30
)


@given(
    histories,
    st.none() | st.integers(1, 20),
    st.none() | st.floats(-9.0, 0.0),
    st.integers(0, 40),
    st.sets(st.sampled_from("ebf")),
    st.booleans(),
    st.integers(1, 40),
)
@settings(deadline=None, max_examples=40)
def test_what_goes_is_what_a_plain_reading_says(
    history: list[tuple[str, bool, int]],
    capacity: int | None,
    threshold: float | None,
    grace_s: int,
    spare: set[str],
    pins: bool,
    most: int,
) -> None:
    clock = SetClock()
    with closing(Registry(SimDisk().root(), owner="a test", clock=clock)) as registry:
        space = registry.create("s", CALLER)
        for number, (kind, pinned, seconds) in enumerate(history):
            tags = ["pinned"] if pinned else []
            remember(space, f"{number % 7}-{number}", kind=KIND[kind], tags=tags)
            clock.go_on(seconds)
        policy = Forgetting(
            capacity=capacity,
            threshold=threshold,
            grace_s=None if threshold is None else grace_s,
            spare_kinds=tuple(KIND[kind] for kind in sorted(spare)),
            spare_tags=("pinned",) if pins else (),
        )
        view, now_us = space._entry.store().state.view, clock() // 1_000
        law = Decay(family="exponential", half_life_s=4)
        levels = strengths(view, np.arange(view.rows), law, now_us).tolist()
        candidates = []
        for row, level in enumerate(levels):
            memory = view.memory(row)
            if memory.kind in policy.spare_kinds or set(memory.tags) & set(policy.spare_tags):
                continue
            age_s = (now_us - int(view.stored_us[row])) / 1e6
            candidates.append((level, memory.id, age_s >= grace_s))
        faded = sorted(
            (level, memory_id)
            for level, memory_id, ripe in candidates
            if threshold is not None and ripe and level < threshold
        )
        left = sorted((level, i) for level, i, _ in candidates if (level, i) not in faded)
        excess = 0 if capacity is None else max(view.rows - len(faded) - capacity, 0)
        expected = faded + left[:excess]
        verdict = beyond(view, policy, law, now_us, most)
        assert [(each.base_level, each.id) for each in verdict.judged] == expected[:most]
        assert verdict.total == len(expected)


def test_the_sweeper_looks_after_others_when_one_fails() -> None:
    done = threading.Event()

    class Broken:
        def due_s(self) -> float:
            raise ValueError("broken")

        def tend(self) -> None: ...

    class Well:
        def due_s(self) -> float | None:
            return None if done.is_set() else 0.0

        def tend(self) -> None:
            done.set()

    sweeper, broken, well = Sweeper(), Broken(), Well()
    sweeper.expect(broken, 0.0)
    sweeper.expect(well, 0.0)
    assert done.wait(30)
    sweeper.stop()
    sweeper.expect(well, 0.0)  # too late, and no harm
