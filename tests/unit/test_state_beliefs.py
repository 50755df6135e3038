"""What a state knows of beliefs, against plain Python, over histories that were decided."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engram.errors import EngramError
from engram.feed.feed import Feed
from engram.feed.telling import SpaceName
from engram.memory.believing import Consolidate, Formed, Overtaken
from engram.memory.columns import compact
from engram.memory.decide import Command, Forget, Purge, Remember, Restore, Revise, decide
from engram.memory.difference import difference
from engram.memory.events import (
    Event,
    MemoryConsolidated,
    MemoryForgotten,
    MemoryPurged,
    MemoryStored,
    MemoryVersion,
)
from engram.memory.payload import Batch
from engram.memory.purges import redacted
from engram.memory.state import State, StateError
from engram.spaces.machine import Machine, Timed
from engram.spaces.room import Room
from tests.unit.test_state import batch_of, fresh, stored, through_a_file

EPISODES = "abcd"
BELIEFS = "xy"
NOW = 1_000
VECTOR = np.array([[1.0, 2.0]], np.float32)


class Step(NamedTuple):
    what: str
    id: str
    sources: tuple[str, ...]


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from(("remember", "revise", "forget", "restore", "purge", *["form"] * 3)),
        st.sampled_from(EPISODES + BELIEFS),
        st.lists(st.sampled_from(EPISODES), min_size=1, unique=True).map(tuple),
    ),
    max_size=40,
)


class Entry(NamedTuple):
    belief: str
    life: int
    source: str
    revision: int
    position: int


class Model:
    """All that was ever formed, but for what a purge of either end has taken; which life of its id
    each belief is in; what lives; and the positions of what happened to each id.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.lives: dict[str, int] = {}
        self.alive: set[str] = set()
        self.own: dict[str, list[int]] = {}
        self.begun: dict[tuple[str, int], int] = {}

    def apply(self, events: Sequence[Event], position: int) -> None:
        for at, event in enumerate(events, position):
            match event:
                case MemoryVersion():
                    if isinstance(event, MemoryStored):
                        self.lives[event.id] = self.lives.get(event.id, 0) + 1
                        self.begun[event.id, self.lives[event.id]] = at
                    self.alive.add(event.id)
                    self.own.setdefault(event.id, []).append(at)
                case MemoryForgotten():
                    self.alive.remove(event.id)
                    self.own[event.id].append(at)
                case MemoryPurged():
                    self.entries = [e for e in self.entries if event.id not in (e.belief, e.source)]
                    self.alive.discard(event.id)
                    self.own[event.id] = [at]
                    self.lives[event.id] += 1
                case MemoryConsolidated():
                    life = self.lives[event.id]
                    known = {e.source for e in self.of(event.id)}
                    pairs = list(zip(event.sources, event.revisions, strict=True))
                    for source, revision in [p for p in pairs if p[0] not in known] or pairs:
                        self.entries.append(Entry(event.id, life, source, revision, at))

    def of(self, belief: str) -> list[Entry]:
        """What the newest life of a belief was formed from."""
        return [e for e in self.entries if (e.belief, e.life) == (belief, self.lives[belief])]

    def held(self, source: str, drop_to: int) -> set[str]:
        """The beliefs of which a base at a position, or what came behind it, may hold a text that
        was formed from a memory.
        """
        ends = ((e, self.begun.get((e.belief, e.life + 1))) for e in self.entries)
        return {
            e.belief for e, end in ends if e.source == source and (end or drop_to + 1) > drop_to
        }

    def history(self, memory_id: str) -> list[int]:
        formed = {e.position for e in self.entries if memory_id in (e.belief, e.source)}
        return sorted({*self.own.get(memory_id, []), *formed})


def command_of(step: Step, state: State | Machine) -> Command:
    match step.what:
        case "remember":
            kind: Any = "belief" if step.id in BELIEFS else "episode"
            return Remember([stored(step.id, 0, kind=kind)], VECTOR, NOW)
        case "revise":
            return Revise(step.id, {"tags": ("t",)}, None, NOW)
        case "forget":
            return Forget(step.id, NOW)
        case "restore":
            return Restore(step.id, NOW)
        case "purge":
            return Purge([step.id])
    belief = "x" if step.id in "abx" else "y"
    latest = state.latest(belief)
    lives = latest is not None and latest.alive
    sources = {*step.sources, *(source for source, _ in state.cited(belief) if lives)}
    known = [state.latest(source) for source in sorted(sources)]
    event = MemoryConsolidated(
        id=belief,
        revision=0,
        sources=tuple(sorted(sources)),
        revisions=tuple(0 if found is None else found.version.revision for found in known),
        strength=0.9,
        citations=(),
        summariser="extractive",
    )
    version = stored(belief, 0, kind="belief")
    based_on = latest.version.revision if lives and latest is not None else None
    return Consolidate([Formed(version, event, based_on)], VECTOR, NOW)


Log = list[tuple[Batch, int]]


def run(
    history: Sequence[Step], checkpoint_at: AbstractSet[int] = frozenset()
) -> tuple[State, Model, Log]:
    state, model, log = fresh(), Model(), Log()
    for number, step in enumerate(history):
        try:
            batch = decide(state, command_of(step, state), "alpha")
        except (EngramError, Overtaken):
            continue
        position = state.view.position + 1
        state.apply(batch, position, position * 1_000)
        model.apply(batch.events, position)
        log.append((batch, position))
        state.publish()
        if number in checkpoint_at:
            state = through_a_file(state)
    return state, model, log


def check(state: State, model: Model) -> None:
    for memory_id in EPISODES + BELIEFS:
        living = [entry for b in BELIEFS if b in model.alive for entry in model.of(b)]
        holding = {entry.belief for entry in living if entry.source == memory_id}
        assert set(state.resting_on(memory_id)) == holding
        once = {e.belief for e in model.entries if e.source == memory_id}
        assert set(state.derived_from(memory_id)) == once
        assert state.history(memory_id) == model.history(memory_id)
        if memory_id in model.lives:
            rests = {(e.source, e.revision) for e in model.of(memory_id)}
            assert set(state.cited(memory_id)) == rests
            if memory_id in model.alive:
                # Never a belief that rests on what is gone, or on what was changed since.
                for source, revision in rests:
                    latest = state.latest(source)
                    assert latest is not None
                    assert (latest.alive, latest.version.revision) == (True, revision)
    visible = state.view.live
    cited = {state.view.version(row).id for row in state.view.beliefs.cited(visible).tolist()}
    assert cited == {e.source for b in BELIEFS if b in model.alive for e in model.of(b)}


numbers = st.sets(st.integers(0, 39))


@given(steps, numbers)
def test_a_state_knows_what_beliefs_rest_on(history: list[Step], checkpoint_at: set[int]) -> None:
    state, model, _ = run(history, checkpoint_at)
    check(state, model)
    check(through_a_file(state), model)


@given(steps, numbers, st.integers(0, 60))
def test_what_a_checkpoint_holds_does_not_depend_on_the_ones_before(
    history: list[Step], checkpoint_at: set[int], drop_to: int
) -> None:
    held = [
        compact(run(history, at)[0].freeze(), drop_to) for at in (frozenset[int](), checkpoint_at)
    ]
    assert difference(*held) is None


@given(steps, numbers)
def test_a_redacted_history_gives_the_same_state(
    history: list[Step], checkpoint_at: set[int]
) -> None:
    """And nothing is left in it of what was purged, nor of a belief that was formed from it."""
    whole, model, log = run(history)
    purged_at = {
        event.id: at
        for batch, first in log
        for at, event in enumerate(batch.events, first)
        if isinstance(event, MemoryPurged)
    }
    state = fresh()
    for number, (batch, first) in enumerate(log):
        told = redacted(batch, first, purged_at) or batch
        for at, event in enumerate(told.events, first):
            if isinstance(event, MemoryConsolidated):
                assert all(at > purged_at.get(each, 0) for each in (event.id, *event.sources))
        state.apply(told, first, first * 1_000)
        state.publish()
        if number in checkpoint_at:
            state = through_a_file(state)
    check(state, model)
    assert difference(compact(whole.freeze()), compact(state.freeze())) is None


@given(steps, st.integers(1, 60))
def test_beliefs_that_live_rest_on_the_same_when_history_goes(
    history: list[Step], drop_to: int
) -> None:
    whole, model, _ = run(history)
    state = through_a_file(whole, min(drop_to, whole.view.position))
    for belief in BELIEFS:
        if belief in model.alive:
            assert sorted(state.cited(belief)) == sorted(whole.cited(belief))
    for memory_id in EPISODES:
        assert sorted(state.resting_on(memory_id)) == sorted(whole.resting_on(memory_id))
        there = {b for b in BELIEFS if state.latest(b) is not None}
        gone = state.latest(memory_id) is None
        held = set() if gone else model.held(memory_id, drop_to) & there
        assert set(state.derived_from(memory_id)) == held


class Empty:
    size_bytes = 0


def told(words: str) -> list[Step]:
    return [Step(what, memory_id, ("a",)) for what, memory_id in map(str.split, words.split(", "))]


@given(steps, st.integers(1, 10))
@example(told("remember a, form x, remember b, forget x, remember x, forget a"), 3)
@example(told("remember a, form x, forget a, remember x, purge a"), 5)
@example(told("remember a, form x, purge a, remember x, remember a, purge a"), 6)
def test_a_group_is_decided_like_one_command_at_a_time(history: list[Step], size: int) -> None:
    state = fresh()
    grouped, one = (
        Machine("alpha", each, Feed(SpaceName("alpha", "u")), (), lambda: 0, Room("alpha", Empty()))
        for each in (state, fresh())
    )
    group = Log()
    for number, step in enumerate(history, 1):
        batches: list[Batch | None] = []
        for machine in (grouped, one):
            try:
                decided = machine.decide(Timed(command_of(step, one), 0))
            except (EngramError, Overtaken):
                batches.append(None)
            else:
                batches.append(decided.staged.record.batch)
        assert [b and b.events for b in batches[:1]] == [b and b.events for b in batches[1:]]
        if batches[1] is not None:
            position = one.state.view.position + 1
            one.state.apply(batches[1], position, 0)
            one.state.publish()
            one.abandon()
            group.append((batches[1], position))
        if number % size == 0:
            for batch, position in group:
                state.apply(batch, position, 0)
            state.publish()
            grouped.abandon()
            group.clear()


@given(steps)
def test_a_view_never_changes(history: list[Step]) -> None:
    state, views = fresh(), []
    for number, step in enumerate(history):
        try:
            batch = decide(state, command_of(step, state), "alpha")
        except (EngramError, Overtaken):
            continue
        state.apply(batch, state.view.position + 1, number * 1_000)
        state.publish()
        views.append((state.view, state.view.beliefs.cited(state.view.live).tolist()))
    for view, cited in views:
        assert view.beliefs.cited(view.live).tolist() == cited


def consolidated(memory_id: str, sources: Sequence[str], **fields: Any) -> MemoryConsolidated:
    said: dict[str, Any] = {
        "id": memory_id,
        "revision": 1,
        "sources": tuple(sources),
        "revisions": (1,) * len(sources),
        "strength": 0.9,
        "citations": (),
        "summariser": "extractive",
    }
    return MemoryConsolidated(**{**said, **fields})


@pytest.mark.parametrize(
    "event",
    [
        consolidated("x", ["unheard-of"]),
        consolidated("x", ["a", "gone"]),
        consolidated("x", ["a", "a"]),
        consolidated("x", ["a", "x"]),
        consolidated("x", []),
        consolidated("x", ["a"], revisions=()),
        consolidated("x", ["a"], revisions=(0,)),
        consolidated("x", ["a"], revision=2),
        consolidated("a", ["b"]),
        consolidated("unheard-of", ["a"]),
        consolidated("gone", ["a"]),
    ],
)
@pytest.mark.parametrize("published", [False, True])
def test_what_no_decider_would_have_formed_is_refused(
    event: MemoryConsolidated, published: bool
) -> None:
    state = fresh()
    versions = [stored("a", 1), stored("b", 1), stored("gone", 1), stored("x", 1, kind="belief")]
    gone = MemoryForgotten(id="gone", revision=1, reason="request")
    state.apply(batch_of(*versions, gone), 2, 0)
    if published:
        state.publish()
    with pytest.raises(StateError, match="position"):
        state.apply(batch_of(event), 7, 0)
    state.apply(batch_of(consolidated("x", ["a", "b"])), 7, 0)
