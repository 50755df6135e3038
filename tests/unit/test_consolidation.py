"""Consolidation through a space: what becomes a belief, what does not, and when beliefs go."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import engram
from engram.cognition import consolidation
from engram.cognition.consolidation import plan
from engram.errors import Invalid, MemoryNotFound, Unavailable
from engram.memory.beliefs import Consolidation
from engram.memory.times import from_us
from engram.spaces import consolidator
from engram.spaces.database import Database
from engram.spaces.registry import Registry
from engram.spaces.space import Space
from engram.spaces.sweeper import Sweeper
from tests.unit.conftest import START_NS, SetClock, at_once, wait_until
from wal.os_vfs import open_root

DIMENSIONS = 16
CALLER = engram.EmbeddingSpec(model="caller", dimensions=DIMENSIONS)
TOPICS = {
    "coffee": (
        "Alice drinks coffee every morning",
        "Alice had coffee again this morning",
        "This morning Alice ordered a coffee",
    ),
    "build": (
        "The nightly build failed on the integration tests",
        "Integration tests failed again in the nightly build",
        "Nightly build is red: the integration tests fail",
    ),
}
ALONE = ("The deploy key is rotated every Monday", "Bananas are yellow")


def near(topic: int, number: int, *, alike: float = 0.9) -> list[float]:
    """A vector of a topic; those of one have about that cosine with one another."""
    random = np.random.default_rng([topic, number])
    own = random.standard_normal(DIMENSIONS)
    middle = np.eye(DIMENSIONS)[topic]
    return list(np.sqrt(alike) * middle + np.sqrt(1 - alike) * own / np.linalg.norm(own))


def tell(space: Space, topic: int, *numbers: int, **fields: Any) -> list[str]:
    """Remember episodes of a topic; their ids are the topic and the number."""
    made = [
        space.remember(
            f"Topic {topic}, number {number}.",
            id=f"{topic}-{number}",
            embedding=near(topic, number),
            **fields,
        )
        for number in numbers
    ]
    return [memory.id for memory in made]


def resting(done: Consolidation) -> set[tuple[str, ...]]:
    return {tuple(source.id for source in belief.sources) for belief in done}


def beliefs(space: Space) -> list[engram.Memory]:
    return list(space.list(engram.Filter(kind="belief")).memories)


@pytest.fixture
def space(db: Database) -> Space:
    return db.create_space("space", embedding=CALLER)


@pytest.fixture
def tended(tmp_path: Path, clock: SetClock) -> Iterator[Space]:
    """A space of a database that looks after its spaces by itself."""
    sweeper = Sweeper()
    registry = Registry(open_root(tmp_path), owner="a test", clock=clock, sweeper=sweeper)
    with Database(registry, tmp_path, 0, sweeper) as db:
        yield db.create_space("tended", embedding=CALLER)


def test_what_recurs_becomes_a_belief_with_its_sources(alpha: Space) -> None:
    ids = {
        topic: [
            alpha.remember(text, id=f"{topic}-{number}", tags=["day", topic]).id
            for number, text in enumerate(texts)
        ]
        for topic, texts in TOPICS.items()
    }
    for text in ALONE:
        alpha.remember(text)
    done = alpha.consolidate()
    assert resting(done) == {tuple(sorted(each)) for each in ids.values()}
    assert (done.episodes, done.left, done.dry_run) == (8, 2, False)
    assert done.position == alpha.info().position
    for belief in done:
        (topic,) = (t for t, each in ids.items() if each[0] in {s.id for s in belief.sources})
        memory = alpha.get(belief.id)
        assert (memory.kind, memory.revision, belief.revision) == ("belief", 1, 1)
        assert memory.content == belief.content == "\n".join(TOPICS[topic])
        assert memory.tags == ("day", topic)
        assert 0.65 <= belief.strength <= 1
        assert memory.confidence == belief.strength
        cited = {c.id: belief.content[c.start : c.end] for c in belief.citations}
        assert cited == dict(zip(ids[topic], TOPICS[topic], strict=True))
        told = alpha.history(belief.id)
        assert [event.type for event in told] == ["memory.stored", "memory.consolidated"]
        assert (told[1].sources, told[1].citations) == (belief.sources, belief.citations)
        assert (told[1].strength, told[1].summariser) == (belief.strength, "extractive")
        assert told[1].id == belief.id
    assert alpha.history(ids["build"][0])[-1].type == "memory.consolidated"
    hit = alpha.recall("what does Alice drink in the morning?", filter=engram.Filter(kind="belief"))
    assert "coffee" in hit.results[0].memory.content


def test_its_vector_is_the_centroid_of_its_sources(space: Space) -> None:
    tell(space, 0, 1, 2, 3)
    (belief,) = space.consolidate()
    vectors = np.array([near(0, number) for number in (1, 2, 3)])
    mean = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).mean(0)
    memory = space.get(belief.id, include_embedding=True)
    assert memory.embedding is not None
    assert np.allclose(memory.embedding, mean / np.linalg.norm(mean), atol=1e-6)
    assert belief.strength == pytest.approx(float(np.linalg.norm(mean)), abs=1e-5)


def test_again_it_changes_nothing(space: Space) -> None:
    for topic in range(4):
        tell(space, topic, *range(topic + 2))
    assert len(space.consolidate()) == 3
    position = space.info().position
    for _ in range(2):
        again = space.consolidate()
        assert (again.beliefs, again.position) == ((), position)
    assert space.info().position == position


def test_the_order_of_storing_makes_no_difference(db: Database) -> None:
    pairs = [(topic, number) for topic in range(5) for number in range(2 + topic)]
    outcomes = []
    for seed in range(3):
        space = db.create_space(f"order-{seed}", embedding=CALLER)
        for at in np.random.default_rng(seed).permutation(len(pairs)).tolist():
            tell(space, pairs[at][0], pairs[at][1], occurred_at=from_us(pairs[at][1]))
        outcomes.append(space.consolidate().beliefs)
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert len(outcomes[0]) == 4


def test_new_episodes_join_the_belief_they_are_like(space: Space) -> None:
    tell(space, 0, 1, 2, 3)
    (formed,) = space.consolidate()
    tell(space, 0, 4)
    tell(space, 1, 1, 2)
    (joined,) = space.consolidate()
    assert (joined.id, joined.action, joined.revision) == (formed.id, "revised", 2)
    assert resting(space.consolidate(dry_run=True)) == set()
    assert [source.id for source in joined.sources] == ["0-1", "0-2", "0-3", "0-4"]
    tell(space, 1, 3)
    assert resting(space.consolidate()) == {("1-1", "1-2", "1-3")}
    types = [event.type for event in space.history(formed.id)]
    assert types == [
        "memory.stored",
        "memory.consolidated",
        "memory.revised",
        "memory.consolidated",
    ]


def test_looking_only_at_what_is_new_comes_to_the_same(space: Space) -> None:
    """What was left over before comes together with what came later, and by the same rules."""
    random = np.random.default_rng(3)
    settled = None
    for step in range(12):
        for topic in random.integers(0, 6, 4).tolist():
            number = int(random.integers(1 << 30))
            vector = near(topic, number, alike=0.6)
            space.remember(f"{number}.", id=f"{topic}-{number}", embedding=vector)
        view, now_us = space._store().state.view, START_NS // 1_000
        some, whole = plan(view, now_us, settled), plan(view, now_us)
        assert [(g.belief, g.rows.tolist()) for g in some.groups] == [
            (g.belief, g.rows.tolist()) for g in whole.groups
        ]
        assert some.settled.tolist() == whole.settled.tolist()
        settled = some.settled
        if step % 3 == 2:
            space.consolidate()
    assert beliefs(space)


def test_a_dry_run_says_what_would_be_formed_and_changes_nothing(space: Space) -> None:
    tell(space, 0, 1, 2, 3)
    before = space.info().position
    would = space.consolidate(dry_run=True)
    assert (would.dry_run, would.position, space.info().position) == (True, before, before)
    (belief,) = would
    assert belief.revision is None
    (done,) = space.consolidate()
    assert (done.id, done.content, done.sources) == (belief.id, belief.content, belief.sources)


@pytest.mark.parametrize("value", [0, 1, None, "yes"])
def test_whether_it_is_a_dry_run_is_true_or_false(space: Space, value: Any) -> None:
    with pytest.raises(Invalid, match="dry_run"):
        space.consolidate(dry_run=value)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_episodes_make_no_belief(space: Space, count: int) -> None:
    tell(space, 0, *range(count))
    done = space.consolidate()
    assert (done.beliefs, done.episodes, done.left) == ((), count, count)


@pytest.mark.parametrize("kind", ["fact", "belief"])
def test_only_episodes_make_beliefs(space: Space, kind: Any) -> None:
    tell(space, 0, 1, 2, 3, kind=kind)
    assert space.consolidate().beliefs == ()


def test_equal_texts_make_one_belief_that_says_it_once(alpha: Space) -> None:
    ids = [alpha.remember("Lunch is at noon", id=f"lunch-{number}").id for number in range(50)]
    (belief,) = alpha.consolidate()
    assert [source.id for source in belief.sources] == sorted(ids)
    assert (belief.content, belief.strength) == ("Lunch is at noon", 1.0)


def test_a_large_cluster_makes_several_beliefs(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consolidation, "SOURCES_MAX", 4)
    tell(space, 0, *range(9))
    done = space.consolidate()
    assert sorted(len(belief.sources) for belief in done) == [4, 4]
    assert done.left == 1
    tell(space, 0, 9, 10)
    (third,) = space.consolidate()
    assert (third.action, len(third.sources)) == ("formed", 3)


def test_many_beliefs_take_several_records(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consolidator, "BELIEFS_PER_RECORD_MAX", 2)
    for topic in range(5):
        tell(space, topic, 1, 2, 3)
    assert len(space.consolidate()) == len(beliefs(space)) == 5


@pytest.mark.parametrize("how", ["forget", "revise", "expire"])
def test_a_belief_goes_with_what_it_rests_on_and_is_formed_anew_of_the_rest(
    space: Space, clock: SetClock, how: str
) -> None:
    last = from_us(START_NS // 1_000) + timedelta(hours=1)
    tell(space, 0, 1, 2, 3)
    tell(space, 0, 4, expires_at=last)
    (belief,) = space.consolidate()
    assert space.get(belief.id).expires_at == last
    match how:
        case "forget":
            space.forget("0-4")
        case "revise":
            space.revise("0-4", engram.Changes(content="Else.", embedding=near(1, 1)))
        case "expire":
            clock.go_on(7_200)
    with pytest.raises(MemoryNotFound):
        space.get(belief.id)
    if how != "expire":
        event = space.history(belief.id)[-1]
        reason = {"forget": "source-forgotten", "revise": "source-revised"}[how]
        assert (event.type, event.reason) == ("memory.forgotten", reason)
        with pytest.raises(MemoryNotFound, match="consolidate"):
            space.restore(belief.id)
    (anew,) = space.consolidate()
    assert [source.id for source in anew.sources] == ["0-1", "0-2", "0-3"]
    assert beliefs(space) == [space.get(anew.id)]


def test_too_few_that_still_hold_make_none(space: Space) -> None:
    tell(space, 0, 1, 2, 3)
    (belief,) = space.consolidate()
    space.forget("0-1")
    assert space.consolidate().beliefs == ()
    space.restore("0-1")
    (anew,) = space.consolidate()
    assert (anew.id, anew.action, anew.revision) == (belief.id, "formed", 2)


def test_a_belief_forgotten_by_hand_is_not_formed_again_of_the_same(space: Space) -> None:
    tell(space, 0, 1, 2, 3, 4)
    (belief,) = space.consolidate()
    space.forget(belief.id)
    for _ in range(2):
        assert space.consolidate().beliefs == ()
        space.compact()
    tell(space, 0, 5)
    (anew,) = space.consolidate()
    assert len(anew.sources) == 5
    assert anew.id != belief.id


def test_an_id_that_somebody_uses_for_something_else_keeps_nothing_from_being_formed(
    space: Space,
) -> None:
    tell(space, 0, 1, 2, 3)
    (asked,) = space.consolidate(dry_run=True)
    mine = space.remember("Mine.", id=asked.id, embedding=near(5, 1))
    (belief,) = space.consolidate()
    assert belief.id != mine.id
    assert space.get(mine.id) == mine
    assert space.consolidate().episodes == 1


def test_a_belief_revised_by_hand_is_left_as_it_is(space: Space) -> None:
    tell(space, 0, 1, 2, 3)
    (belief,) = space.consolidate()
    mine = space.revise(belief.id, engram.Changes(content="In my words.", embedding=near(0, 9)))
    tell(space, 0, 4)
    assert space.consolidate().beliefs == ()
    assert space.get(belief.id) == mine
    tell(space, 0, 5, 6)
    assert resting(space.consolidate()) == {("0-4", "0-5", "0-6")}
    space.forget("0-2")
    with pytest.raises(MemoryNotFound):
        space.get(belief.id)


def test_one_restored_by_hand_rests_on_the_same(space: Space) -> None:
    tell(space, 0, 1, 2, 3)
    (belief,) = space.consolidate()
    space.forget(belief.id)
    space.restore(belief.id)
    assert space.consolidate().beliefs == ()
    space.forget("0-3")
    assert beliefs(space) == []


def test_purging_a_source_purges_what_was_formed_from_it(space: Space) -> None:
    tell(space, 0, 1, 2, 3, 4)
    tell(space, 1, 1, 2, 3)
    done = space.consolidate()
    (belief,) = (each for each in done if each.sources[0].id == "0-1")
    receipt = space.purge("0-4")
    assert receipt.count == 1
    with pytest.raises(MemoryNotFound):
        space.get(belief.id)
    assert [event.type for event in space.history(belief.id)] == ["memory.purged"]
    assert [event.type for event in space.history("0-1")] == ["memory.stored"]
    (anew,) = space.consolidate()
    assert [source.id for source in anew.sources] == ["0-1", "0-2", "0-3"]
    assert len(beliefs(space)) == 2


def test_a_purge_takes_an_earlier_life_of_a_belief_out_of_the_base_too(tmp_path: Path) -> None:
    with engram.open(tmp_path) as db:
        space = db.create_space("alpha", embedding=CALLER)
        tell(space, 0, 1, 2, 3)
        (belief,) = space.consolidate()
        space.remember("A secret.", id="secret", embedding=near(0, 4))
        space.consolidate()
        before = space.compact().checkpoint_position
        space.revise("secret", engram.Changes(content="Nothing.", embedding=near(7, 1)))
        (anew,) = space.consolidate()
        assert anew.id == belief.id
        space.configure(retention=f"positions:{space.info().position - before}")
        assert space.compact().oldest_position == before + 1
        assert any(b"A secret." in file.read_bytes() for file in tmp_path.rglob("*.ckpt"))
        space.purge("secret")
        assert [event.type for event in space.history(belief.id)] == ["memory.purged"]
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert [file for file in files if b"A secret." in file.read_bytes()] == []


def test_a_belief_that_shares_its_sources_with_a_restored_one_goes_on(space: Space) -> None:
    tell(space, 0, 1, 2, 3)
    (belief,) = space.consolidate()
    space.forget(belief.id)
    tell(space, 0, 4)
    (other,) = space.consolidate()
    space.restore(belief.id)
    tell(space, 0, 5)
    (anew,) = space.consolidate()
    assert (anew.id, anew.action, len(anew.sources)) == (other.id, "revised", 5)
    assert space.consolidate().episodes == 0


def test_a_belief_cannot_be_made_to_outlive_what_it_rests_on(space: Space, clock: SetClock) -> None:
    tell(space, 0, 1, 2)
    until = from_us(START_NS // 1_000 + 1_000_000)
    tell(space, 0, 3, expires_at=until)
    (belief,) = space.consolidate()
    for later in (None, until + timedelta(microseconds=1)):
        with pytest.raises(Invalid, match="cannot outlive"):
            space.revise(belief.id, engram.Changes(expires_at=later))
    earlier = until - timedelta(seconds=0.5)
    assert space.revise(belief.id, engram.Changes(expires_at=earlier)).expires_at == earlier
    assert space.revise(belief.id, engram.Changes(expires_at=until)).expires_at == until
    clock.go_on(1)
    assert beliefs(space) == []


def test_what_a_space_holds_of_beliefs_outlives_its_process(tmp_path: Path) -> None:
    with engram.open(tmp_path) as db:
        space = db.create_space("alpha", embedding=CALLER)
        tell(space, 0, 1, 2, 3)
        tell(space, 1, 1, 2, 3)
        one, other = space.consolidate()
        space.compact()
        space.forget(one.id)
    for _ in range(2):
        with engram.open(tmp_path) as db:
            space = db.space("alpha")
            assert space.consolidate().beliefs == ()
            assert [memory.id for memory in beliefs(space)] == [other.id]
            assert space.history(other.id)[-1].sources == other.sources
            space.compact()
    with engram.open(tmp_path) as db:
        space = db.space("alpha")
        space.forget(other.sources[0].id)
        assert beliefs(space) == []


def test_the_past_has_its_beliefs_and_a_copy_keeps_them(db: Database, space: Space) -> None:
    tell(space, 0, 1, 2, 3)
    (belief,) = space.consolidate()
    before = space.info().position
    space.forget("0-1")
    assert space.get(belief.id, as_of=before).content == belief.content
    copy = space.fork("copy", before)
    assert copy.consolidate().beliefs == ()
    copy.forget("0-2")
    assert beliefs(copy) == []


def test_spaces_with_the_same_memories_do_not_share_beliefs(db: Database) -> None:
    one, other = (db.create_space(name, embedding=CALLER) for name in ("one", "other"))
    for each in (one, other):
        tell(each, 0, 1, 2, 3)
    (belief,) = one.consolidate()
    assert beliefs(other) == []
    assert one.forget("0-1")
    assert resting(other.consolidate()) == {("0-1", "0-2", "0-3")}
    assert beliefs(one) == []
    assert other.get(belief.id).content == belief.content


def test_what_is_forgotten_while_it_is_worked_out_holds_up_nothing(
    space: Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(space, 0, 1, 2, 3, 4)
    tell(space, 1, 1, 2, 3)

    def meanwhile(*given: Any) -> Any:
        planned = plan(*given)
        space.forget("0-2")
        return planned

    monkeypatch.setattr(consolidator, "plan", meanwhile)
    done = space.consolidate()
    monkeypatch.undo()
    assert resting(done) == {("1-1", "1-2", "1-3")}
    assert resting(space.consolidate()) == {("0-1", "0-3", "0-4")}


def test_a_second_call_waits_for_the_first(space: Space) -> None:
    for topic in range(6):
        tell(space, topic, *range(5))
    outcomes = at_once(4, lambda _: space.consolidate())
    assert sorted(len(each) for each in outcomes if isinstance(each, Consolidation)) == [0, 0, 0, 6]
    assert len(beliefs(space)) == 6


def test_it_runs_by_itself_after_so_many_new_episodes(tended: Space) -> None:
    assert tended.configure(consolidation="after:4").consolidation == engram.Rhythm(after=4)
    tell(tended, 0, 1, 2, 3)
    assert tended._store().consolidator.due_s() is None
    tell(tended, 1, 1)
    wait_until(lambda: len(beliefs(tended)) == 1)
    wait_until(lambda: not tended._store().consolidator.runs)
    tell(tended, 1, 2, 3)
    assert tended._store().consolidator.due_s() is None
    tended.configure(consolidation="after:2")
    wait_until(lambda: len(beliefs(tended)) == 2)


def test_it_runs_by_itself_once_a_new_episode_has_waited(tended: Space, clock: SetClock) -> None:
    tended.configure(consolidation=engram.Rhythm(every_s=3_600))
    tell(tended, 0, 1, 2, 3)
    assert tended._store().consolidator.due_s() == 3_600
    clock.go_on(3_599)
    assert tended._store().consolidator.due_s() == 1
    clock.go_on(2)
    tell(tended, 1, 1)
    wait_until(lambda: len(beliefs(tended)) == 1)
    wait_until(lambda: not tended._store().consolidator.runs)
    assert tended._store().consolidator.due_s() is None
    tended.forget("0-1")
    assert tended._store().consolidator.due_s() is None


def test_nothing_runs_by_itself_unless_it_is_told_to(tended: Space) -> None:
    assert tended.info().consolidation == engram.Rhythm()
    tell(tended, 0, *range(10))
    assert tended._store().consolidator.due_s() is None
    tended.configure(consolidation="after:1")
    wait_until(lambda: len(beliefs(tended)) == 1)
    tended.configure(consolidation="off")
    tell(tended, 1, *range(3))
    assert tended._store().consolidator.due_s() is None


def test_what_is_due_when_a_space_is_opened_is_run_then(tmp_path: Path) -> None:
    with engram.open(tmp_path) as db:
        space = db.create_space("alpha", embedding=CALLER)
        tell(space, 0, 1, 2, 3)
    with engram.open(tmp_path) as db:
        db.space("alpha").configure(consolidation="after:3")
        wait_until(lambda: len(beliefs(db.space("alpha"))) == 1)
        tell(db.space("alpha"), 1, 1, 2)
    with engram.open(tmp_path) as db:
        assert db.space("alpha")._store().consolidator.due_s() is None
        tell(db.space("alpha"), 1, 3)
        wait_until(lambda: len(beliefs(db.space("alpha"))) == 2)


def test_closing_has_it_give_up(tended: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    space = tended
    tell(space, 0, 1, 2, 3)
    planned, closing = threading.Event(), threading.Event()

    def slowly(*given: Any) -> Any:
        planned.set()
        while not space._store().consolidator._stopping:
            closing.wait(0.01)
        return plan(*given)

    monkeypatch.setattr(consolidator, "plan", slowly)
    store = space._store()
    space.configure(consolidation="after:1")
    assert planned.wait(30)
    store.consolidator.stop()
    assert not store.consolidator.runs
    assert beliefs(space) == []
    with pytest.raises(Unavailable, match="closed"):
        space.consolidate()


def test_writes_beside_it_never_leave_a_belief_that_rests_on_what_is_gone(space: Space) -> None:
    stop, failed = threading.Event(), list[BaseException]()

    def write() -> None:
        random = np.random.default_rng(5)
        try:
            for number in range(150):
                memory_id = tell(space, number % 3, number)[0]
                if random.random() < 0.4:
                    space.forget(memory_id)
                elif random.random() < 0.3:
                    space.revise(memory_id, engram.Changes(tags=("t",)))
        except BaseException as error:
            failed.append(error)
        finally:
            stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not stop.is_set():
        space.consolidate()
    writer.join()
    assert failed == []
    space.consolidate()
    assert beliefs(space)
    check_nothing_rests_on_what_is_gone(space)


def check_nothing_rests_on_what_is_gone(space: Space) -> None:
    cited: Sequence[str] = []
    for belief in beliefs(space):
        event = next(e for e in reversed(space.history(belief.id)) if e.sources is not None)
        assert event.sources is not None
        for source in event.sources:
            assert space.get(source.id).revision == source.revision
        cited = [*cited, *(source.id for source in event.sources)]
    assert len(cited) == len(set(cited))
