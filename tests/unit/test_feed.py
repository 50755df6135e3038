"""The feed: a cursor over history and live events, and what happens when a subscriber is slow."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import engram
from engram.errors import HistoryGone, Invalid, PositionBeyondEnd, SpaceDamaged, Unavailable
from engram.feed import feed as feed_module
from engram.feed.cursor import Behind, Live, Skip, Snapshot, Wait, plan
from engram.feed.feed import Feed
from engram.feed.reader import HISTORY_EVENTS_MAX, PAGE_BYTES_MAX, Reader
from engram.feed.telling import SpaceName, Told, tell
from engram.memory.events import Event as Logged
from engram.memory.events import MemoryForgotten, MemoryRecalled, MemoryStored, SpaceCreated
from engram.memory.payload import NO_VECTORS, Batch

NAMES = ("memory.stored", "memory.forgotten", "memory.recalled")
SPACE = SpaceName("alpha", "0" * 32)


def logged(name: str, number: int) -> Logged:
    if name == "memory.stored":
        return MemoryStored(
            id=str(number),
            revision=1,
            kind="episode",
            content="x" * (number % 50),
            tags=(),
            metadata={},
            confidence=1.0,
            occurred_us=None,
            expires_us=None,
            source=None,
        )
    if name == "space.created":
        return SpaceCreated(
            memory_space_id="alpha", generation=1, embedding_model="caller", dimensions=1
        )
    if name == "memory.forgotten":
        return MemoryForgotten(id=str(number), revision=1, reason="request")
    return MemoryRecalled(
        recall_id=str(number), mode="lexical", query_digest=None, ids=(), scores=()
    )


class Space:
    """A log in memory and its feed, written as a store would."""

    def __init__(self, names: list[str]) -> None:
        self.log: list[str] = ["space.created", *names]
        self.feed = Feed(SPACE)
        self.feed.begin(len(self.log))
        self.readings = 0

    def write(self, names: list[str]) -> None:
        position = len(self.log) + 1
        events = [logged(name, position + i) for i, name in enumerate(names)]
        self.log += names
        self.feed.publish([(Batch(events, NO_VECTORS), position, 1_000)])

    def read(self, from_position: int) -> Generator[Told, None, None]:
        self.readings += 1
        for position, name in list(enumerate(self.log, 1))[from_position - 1 :]:
            yield from tell(Batch([logged(name, position)], NO_VECTORS), SPACE, position, 1_000)

    def reader(self, after: int | None = 0, types: tuple[str, ...] = ()) -> Reader:
        return Reader(self.feed, self.read, after, types)


def take_all(reader: Reader) -> list[tuple[int, str]]:
    """Everything a reader can have now."""
    taken: list[tuple[int, str]] = []
    while True:
        page = reader.history() if reader.behind else reader.live()
        if page is None:
            return taken
        taken += [(entry.event.position, entry.event.type) for entry in page.entries]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.lists(st.sampled_from(NAMES), min_size=1, max_size=5)),
        st.tuples(st.sampled_from(["take", "join", "leave"]), st.integers(0, 3)),
    ),
    max_size=40,
)


@given(
    before=st.lists(st.sampled_from(NAMES), max_size=6),
    script=steps,
    types=st.lists(st.sampled_from(NAMES), max_size=2).map(tuple),
    tail_max=st.sampled_from([1, 2, 8, 1_024]),
)
def test_whatever_happens_each_subscriber_gets_each_position_once_and_in_order(
    before: list[str], script: list[tuple[str, object]], types: tuple[str, ...], tail_max: int
) -> None:
    """Subscribers come, go and fall behind while the space is written, with any size of tail."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed_module, "TAIL_EVENTS_MAX", tail_max)
        space = Space(before)
        reader = space.reader(0, types)
        taken: list[tuple[int, str]] = []
        others: list[object] = []
        for verb, argument in script:
            if verb == "write":
                assert isinstance(argument, list)
                space.write(argument)
            elif verb == "take":
                taken += take_all(reader)
            elif verb == "join":
                others.append(space.feed.subscribe(lambda: None))
            elif others:
                others.pop()()  # type: ignore[operator]
        taken += take_all(reader)
        wanted = [(p, n) for p, n in enumerate(space.log, 1) if not types or n in types]
        assert taken == wanted
        assert reader.position == len(space.log)


def test_who_keeps_up_never_reads_the_log() -> None:
    space = Space([])
    unsubscribe = space.feed.subscribe(lambda: None)
    reader = space.reader(None)
    for _ in range(3_000):
        space.write(["memory.stored"])
        assert len(take_all(reader)) == 1
    assert space.readings == 0
    unsubscribe()


def test_who_falls_behind_goes_back_to_the_log_and_misses_nothing() -> None:
    space = Space([])
    space.feed.subscribe(lambda: None)
    reader = space.reader(None)
    for _ in range(feed_module.TAIL_EVENTS_MAX * 3):
        space.write(["memory.recalled"])
    assert reader.behind
    positions = [position for position, _ in take_all(reader)]
    assert positions == list(range(2, len(space.log) + 1))
    assert space.readings == -(-len(positions) // HISTORY_EVENTS_MAX)


def test_the_tail_is_bounded_in_events_and_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    space = Space([])
    space.feed.subscribe(lambda: None)
    for _ in range(feed_module.TAIL_EVENTS_MAX + 1):
        space.write(["memory.recalled"])
    assert len(space.feed.snapshot.tail) == feed_module.TAIL_EVENTS_MAX // 2
    monkeypatch.setattr(feed_module, "TAIL_BYTES_MAX", 10_000)
    for _ in range(100):
        space.write(["memory.stored"])
        assert sum(entry.bytes for entry in space.feed.snapshot.tail) <= 10_000


def test_nothing_is_kept_for_nobody() -> None:
    space = Space([])
    unsubscribe = space.feed.subscribe(lambda: None)
    space.write(["memory.stored"])
    assert len(space.feed.snapshot.tail) == 1
    unsubscribe()
    space.write(["memory.stored"])
    assert space.feed.snapshot.tail == []


def test_a_filter_that_matches_nothing_new_costs_no_reading() -> None:
    space = Space(["memory.stored"] * 10)
    reader = space.reader(None, ("memory.forgotten",))
    for _ in range(5_000):
        space.write(["memory.stored"])
    assert take_all(reader) == []
    assert reader.position == len(space.log)
    assert space.readings == 0


@given(
    scanned=st.integers(0, 30),
    durable=st.integers(1, 30),
    kept=st.integers(0, 30),
    since=st.integers(0, 30),
    newest=st.dictionaries(st.sampled_from(NAMES), st.integers(1, 30)),
    types=st.lists(st.sampled_from(NAMES), max_size=2),
    most=st.integers(1, 5),
)
def test_a_step_takes_what_follows_and_nothing_else(
    scanned: int,
    durable: int,
    kept: int,
    since: int,
    newest: dict[str, int],
    types: list[str],
    most: int,
) -> None:
    kept = min(kept, durable)
    first = durable + 1 - kept
    snapshot = Snapshot(durable, first, list(range(first, durable + 1)), since, newest)
    match plan(scanned, types, snapshot, most):
        case Wait():
            assert scanned >= durable
        case Skip(position):
            assert types
            assert position == durable > scanned >= since
            assert all(newest.get(name, 0) <= scanned for name in types)
        case Live(start, stop, position):
            taken = snapshot.tail[start:stop]
            assert taken == list(range(scanned + 1, position + 1))
            assert 1 <= len(taken) <= most
        case Behind():
            assert scanned + 1 < first


@pytest.fixture
def alpha(tmp_path: Path) -> Iterator[engram.Space]:
    with engram.open(tmp_path) as db:
        yield db.create_space("alpha")


def test_history_is_told_as_it_was(alpha: engram.Space) -> None:
    one = alpha.remember("first", id="one", tags=["x"], metadata={"n": 1})
    alpha.revise("one", engram.Changes(content="second"))
    alpha.forget("one")
    answer = alpha.recall("second")
    alpha.remember("third", id="two")
    created, stored, revised, forgotten, recalled, _ = alpha.events()
    assert created.type == "space.created"
    assert created.embedding == alpha.info().embedding
    assert stored.memory == one
    assert revised.memory is not None
    assert (revised.memory.content, revised.memory.revision) == ("second", 2)
    assert (forgotten.id, forgotten.revision, forgotten.reason) == ("one", 2, "request")
    assert (recalled.recall_id, recalled.results) == (answer.recall_id, ())
    assert recalled.query_digest is not None
    assert "second" not in recalled.query_digest
    assert {event.space_uuid for event in alpha.events()} == {alpha.info().uuid}


def test_a_configuration_is_told_and_outlives_the_process(tmp_path: Path) -> None:
    with engram.open(tmp_path) as db:
        alpha = db.create_space("alpha")
        assert alpha.info().retention == engram.Retention()
        info = alpha.configure(retention=engram.Retention(positions=5))
        assert (info, info.position) == (alpha.info(), 2)
        alpha.configure(retention="age:30d")
    with engram.open(tmp_path) as db:
        assert [info.retention for info in db.spaces()] == [None]  # nothing was opened for it
        alpha = db.space("alpha")
        told = list(alpha.events(types=["space.configured"]))
        assert [event.retention for event in told] == [
            engram.Retention(positions=5),
            engram.Retention(age_s=30 * 24 * 3_600),
        ]
        assert alpha.info().retention == told[-1].retention


def test_one_memory_s_history_survives_its_forgetting_and_reuse(alpha: engram.Space) -> None:
    alpha.remember("other", id="other")
    alpha.remember("first", id="one")
    alpha.revise("one", engram.Changes(tags=("x",)))
    alpha.forget("one")
    alpha.remember("again", id="one")
    alpha.forget("one")
    alpha.restore("one")
    types = [event.type.removeprefix("memory.") for event in alpha.history("one")]
    assert types == ["stored", "revised", "forgotten", "stored", "forgotten", "restored"]
    assert all(a.position < b.position for a, b in pairwise(alpha.history("one")))
    assert [event.type for event in alpha.history("other")] == ["memory.stored"]
    with pytest.raises(engram.MemoryNotFound):
        alpha.history("never")


def test_history_is_the_same_after_reopening(tmp_path: Path) -> None:
    with engram.open(tmp_path) as db:
        alpha = db.create_space("alpha")
        for number in range(300):
            alpha.remember(f"memory {number}", id=f"m{number % 7}")
            alpha.forget(f"m{number % 7}")
            if number % 3 == 0:
                alpha.restore(f"m{number % 7}")
                alpha.forget(f"m{number % 7}")
        before = list(alpha.events()), alpha.history("m3")
    with engram.open(tmp_path) as db:
        alpha = db.space("alpha")
        assert (list(alpha.events()), alpha.history("m3")) == before


def test_following_sees_what_other_threads_write_without_a_gap(alpha: engram.Space) -> None:
    total = 400
    writers = [
        threading.Thread(target=lambda: [alpha.remember("x") for _ in range(total // 4)])
        for _ in range(4)
    ]
    following = alpha.events(after=0, follow=True)
    for writer in writers:
        writer.start()
    positions = [next(following).position for _ in range(total + 1)]
    assert positions == list(range(1, total + 2))
    for writer in writers:
        writer.join()


def test_following_from_the_end_is_live_only(alpha: engram.Space) -> None:
    alpha.remember("before")
    following = alpha.events(follow=True, types=["memory.stored"])
    alpha.remember("after")
    event = next(following)
    assert event.memory is not None
    assert event.memory.content == "after"


def test_a_follower_is_told_when_the_database_closes(tmp_path: Path) -> None:
    db = engram.open(tmp_path)
    alpha = db.create_space("alpha")
    following = alpha.events(follow=True)
    closing = threading.Thread(target=db.close)
    closing.start()
    with pytest.raises(Unavailable):
        next(following)
    closing.join()


def test_a_start_that_cannot_be_is_refused(alpha: engram.Space) -> None:
    with pytest.raises(PositionBeyondEnd, match="the last one is 1"):
        alpha.events(after=2)
    for after in (-1, True, "1", 1.0):
        with pytest.raises(Invalid):
            alpha.events(after=after)  # type: ignore[arg-type]
    for types in (["memory.eaten"], "memory.stored", 5):
        with pytest.raises(Invalid):
            alpha.events(types=types)  # type: ignore[arg-type]
    with pytest.raises(HistoryGone) as refused:
        alpha.reader(99, (), incarnation="f" * 32)
    assert (refused.value.oldest_position, refused.value.position) == (1, 1)
    assert refused.value.space_uuid == alpha.info().uuid


def test_a_recall_can_be_left_off_the_record(alpha: engram.Space) -> None:
    alpha.remember("x")
    assert not alpha.recall("x", record=False).recorded
    assert alpha.recall("x").recorded
    alpha.remember("y")
    assert [event.type for event in alpha.events()].count("memory.recalled") == 1


def test_what_a_recall_answered_is_bounded_on_record(alpha: engram.Space) -> None:
    alpha.remember_many([f"note {n}" for n in range(80)])
    answer = alpha.recall("note", limit=80)
    assert len(answer) == 80
    alpha.remember("x")
    (event,) = alpha.events(types=["memory.recalled"])
    assert event.results is not None
    noted = [(item.id, item.score) for item in event.results]
    assert noted == [(hit.memory.id, hit.score) for hit in answer][:50]


def test_who_subscribes_in_the_middle_of_a_publication_is_woken(
    alpha: engram.Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks, finds nothing yet, and waits: the publication that was under way must wake it."""
    publishing, go_on = threading.Event(), threading.Event()
    name_of = feed_module.event_type

    def held(event: Logged) -> str:
        publishing.set()
        go_on.wait()
        return name_of(event)

    monkeypatch.setattr(feed_module, "event_type", held)
    writer = threading.Thread(target=lambda: alpha.remember("hello"))
    writer.start()
    publishing.wait()
    following = alpha.events(follow=True)
    told: list[int] = []
    follower = threading.Thread(target=lambda: told.append(next(following).position))
    feed = alpha._entry.feed
    follower.start()
    while not feed._wakes:
        threading.Event().wait(0.001)
    go_on.set()
    follower.join(10)
    writer.join()
    assert told == [2]


def test_metadata_counts_in_what_a_tail_and_a_page_may_hold(alpha: engram.Space) -> None:
    feed = alpha._entry.feed
    reader = alpha.reader(None, ())
    unsubscribe = feed.subscribe(lambda: None)
    for _ in range(12):
        alpha.remember_many([{"content": "x", "metadata": {"blob": "y" * 60_000}}] * 10)
        held = sum(entry.bytes for entry in feed.snapshot.tail)
        assert len(feed.snapshot.tail) * 60_000 < held <= feed_module.TAIL_BYTES_MAX
    reader = alpha.reader(feed.snapshot.first - 1, ())
    positions: list[int] = []
    while (page := reader.live()) is not None:
        assert sum(entry.bytes for entry in page.entries) < 2 * PAGE_BYTES_MAX
        positions += [entry.event.position for entry in page.entries]
    assert positions == list(range(feed.snapshot.first, feed.snapshot.durable + 1))
    unsubscribe()


def test_no_file_stays_open_between_two_pages_of_history(alpha: engram.Space) -> None:
    for _ in range(3):
        alpha.remember_many([f"memory {n}" for n in range(1_000)])
    reader = alpha.reader(0, ())
    alpha.remember("x")  # the writer has opened what it opens
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert reader.behind
    assert len(reader.history().entries) < 3_000
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_damaged_history_is_told_as_damage_and_refused_from_then_on(
    alpha: engram.Space, tmp_path: Path
) -> None:
    for number in range(60):
        alpha.remember(f"memory {number}")
    (segment,) = (tmp_path / "alpha" / "log").glob("*.seg")
    with segment.open("r+b") as file:
        file.seek(4_096 + 5_000)
        byte = file.read(1)
        file.seek(4_096 + 5_000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(SpaceDamaged):
        list(alpha.events())
    with pytest.raises(SpaceDamaged, match="log verify"):
        alpha.events()
    with pytest.raises(SpaceDamaged):
        alpha.remember("more")
    assert alpha.info().state == "damaged"
    assert len(alpha.list(limit=100).memories) == 60, "what is in memory is served"
