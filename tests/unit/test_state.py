"""The state against a dict that does the same the slow way, and views while a writer goes on."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from hashlib import blake2b
from itertools import product
from typing import Any, NamedTuple
from unittest import mock

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compaction.columns import ColumnFile, Identity, write_columns
from engram.indexes.uses import RECENT_USES
from engram.memory import state as state_module
from engram.memory.answering import held_by
from engram.memory.columns import compact, from_named
from engram.memory.decay import Decay
from engram.memory.difference import difference
from engram.memory.events import (
    Event,
    HistoryRedacted,
    MemoryForgotten,
    MemoryLinked,
    MemoryPurged,
    MemoryRecalled,
    MemoryRestored,
    MemoryRevised,
    MemoryStored,
    MemoryUnlinked,
    MemoryVersion,
    RequestAnswered,
    SpaceCompacted,
    SpaceConfigured,
    SpaceCreated,
    SpaceDeleted,
    SpaceRestored,
)
from engram.memory.model import Filter
from engram.memory.payload import Batch
from engram.memory.purges import is_husk, is_purged, redacted
from engram.memory.quotas import Quotas
from engram.memory.retention import KEEP_ALL, Retention
from engram.memory.rhythm import Rhythm
from engram.memory.settings import Settings
from engram.memory.state import State, StateError
from engram.memory.times import from_us
from engram.memory.view import View
from wal.sim_vfs import SimDisk

DIMENSIONS = 2
IDS = ("a", "b", "c", "ä", "d")
WORDS = ("deploy", "key", "monday", "vault", "猫")


def stored(memory_id: str, revision: int, **fields: Any) -> MemoryStored:
    return MemoryStored(**_fields(memory_id, revision, fields))


def revised(memory_id: str, revision: int, **fields: Any) -> MemoryRevised:
    return MemoryRevised(**_fields(memory_id, revision, fields))


def restored(memory_id: str, revision: int, **fields: Any) -> MemoryRestored:
    return MemoryRestored(**_fields(memory_id, revision, fields))


def _fields(memory_id: str, revision: int, fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": memory_id,
        "revision": revision,
        "kind": "episode",
        "content": f"{memory_id} {revision}",
        "tags": (),
        "metadata": {},
        "confidence": 1.0,
        "occurred_us": None,
        "expires_us": None,
        "source": None,
        **fields,
    }


def recalled(ids: tuple[str, ...]) -> MemoryRecalled:
    return MemoryRecalled(
        recall_id="r", mode="hybrid", query_digest=None, ids=ids, scores=(0.5,) * len(ids)
    )


def batch_of(*events: Event) -> Batch:
    """The events with a vector of (revision, length of the content) for each version; and, where
    some request may have asked for them, what it was answered, which also names another memory.
    """
    rows = [(e.revision, len(e.content)) for e in events if isinstance(e, MemoryVersion)]
    vectors = np.array(rows, np.float32).reshape(len(rows), DIMENSIONS)
    if not all(isinstance(e, MemoryVersion | MemoryForgotten | MemoryLinked) for e in events):
        return Batch(events, vectors)
    told = repr(events).encode()
    answered = RequestAnswered(
        key=blake2b(told, digest_size=16).digest(),
        request=b"r",
        status=200,
        headers=(("location", "x"),),
        body=told,
        ids=tuple(sorted({"a", *held_by(Batch(events, vectors))})),
    )
    return Batch(events, vectors, answered)


def fresh() -> State:
    state = State("alpha", DIMENSIONS)
    created = SpaceCreated(
        memory_space_id="alpha", generation=1, embedding_model="caller", dimensions=DIMENSIONS
    )
    state.apply(Batch([created], np.empty((0, 0), np.float32)), 1, 0)
    state.publish()
    return state


class Step(NamedTuple):
    """One record: which ids it touches, and what their versions carry."""

    ids: tuple[str, ...]
    forget: bool
    restore: bool
    purge: bool
    word: str
    expires_us: int | None
    link: int
    recalls: int
    occurred_us: int | None


steps = st.lists(
    st.builds(
        Step,
        st.lists(st.sampled_from(IDS), min_size=1, max_size=3, unique=True).map(tuple),
        st.booleans(),
        st.booleans(),
        st.integers(0, 3).map(lambda chance: chance == 0),
        st.sampled_from(WORDS),
        st.none() | st.integers(1, 50),
        st.integers(0, 3),
        st.sampled_from([0, 0, 0, 1, 4]),
        st.none() | st.integers(-5, 40),
    ),
    max_size=25,
)


class Model:
    """What lives, by id, as (event, position, time in microseconds); the last version of each id,
    living or not; the links, as (weight, position) by source, target and relation; the times of
    the uses of each id's last life, and behind the first of them who was used along, as (id, which
    life of it); and the positions of all that happened to each id.
    """

    def __init__(self) -> None:
        self.alive: dict[str, tuple[MemoryVersion, int, int]] = {}
        self.last: dict[str, MemoryVersion] = {}
        self.links: dict[tuple[str, str, str], tuple[float, int]] = {}
        self.linked: dict[int, tuple[str, str]] = {}
        self.uses: dict[str, list[int]] = {}
        self.lives: Counter[str] = Counter()
        self.company: dict[str, list[set[tuple[str, int]]]] = {}
        self.history: dict[str, list[int]] = {}
        self.position = 1

    def events(self, step: Step) -> list[Event]:
        """Events that fit, maybe none: a step purges what was not purged yet; or it forgets or
        revises what lives, and what does not it restores, if that was forgotten, or stores. Of two
        that live it may link one to the other, or end that. Or it recalls its ids, and others.
        """
        if step.recalls:
            ids = tuple(dict.fromkeys((*step.ids, *IDS)))
            return [recalled(ids)] * step.recalls
        if step.link >= 2 and len(step.ids) >= 2 and self.alive.keys() >= {*step.ids[:2]}:
            source, target = step.ids[:2]
            key = {"source": source, "target": target, "relation": step.word}
            if step.link == 3 and (source, target, step.word) in self.links:
                return [MemoryUnlinked(**key)]
            return [MemoryLinked(**key, weight=(self.position % 10 + 1) / 10)]
        if step.purge:
            last = {memory_id: self.last.get(memory_id) for memory_id in step.ids}
            return [
                MemoryPurged(id=memory_id, revision=version.revision)
                for memory_id, version in last.items()
                if version is not None and not is_husk(version)
            ]
        events: list[Event] = []
        for memory_id in step.ids:
            revision = self.revision(memory_id)
            fields = {
                "content": f"{step.word} {memory_id}",
                "expires_us": step.expires_us,
                "occurred_us": step.occurred_us,
            }
            last_version = self.last.get(memory_id)
            gone = memory_id not in self.alive
            if gone and step.restore and last_version is not None and not is_husk(last_version):
                old = msgspec.structs.asdict(last_version)
                events.append(MemoryRestored(**{**old, "revision": revision + 1}))
            elif gone:
                events.append(stored(memory_id, revision + 1, tags=(step.word,), **fields))
            elif step.forget:
                events.append(MemoryForgotten(id=memory_id, revision=revision, reason="request"))
            else:
                events.append(revised(memory_id, revision + 1, tags=(step.word,), **fields))
        return events

    def revision(self, memory_id: str) -> int:
        """The last one of an id; 0 if it never was there."""
        return self.last[memory_id].revision if memory_id in self.last else 0

    def apply(self, events: Sequence[Event], time_us: int) -> None:
        for event in events:
            self.position += 1
            if isinstance(event, MemoryLinked | MemoryUnlinked):
                self._link(event)
            if isinstance(event, MemoryRecalled):
                used = [memory_id for memory_id in event.ids[:3] if memory_id in self.alive]
                for memory_id in used:
                    self.uses[memory_id].append(time_us)
                    others = {(other, self.lives[other]) for other in used if other != memory_id}
                    self.company[memory_id].append(others)
            if isinstance(event, MemoryStored):
                occurred_us = time_us if event.occurred_us is None else event.occurred_us
                self.uses[event.id] = [min(occurred_us, time_us)]
                self.lives[event.id] += 1
                self.company[event.id] = []
            if isinstance(event, MemoryRestored):
                self.uses[event.id].append(time_us)
                self.company[event.id].append(set())
            if isinstance(event, MemoryPurged | MemoryStored):
                self.links = {k: v for k, v in self.links.items() if event.id not in k[:2]}
            if isinstance(event, MemoryPurged):
                for position in [p for p, ends in self.linked.items() if event.id in ends]:
                    for end in self.linked.pop(position):
                        # Unless its own history went meanwhile.
                        self.history[end] = [p for p in self.history[end] if p != position]
                self.history[event.id] = [self.position]
                self.last[event.id] = stored(event.id, event.revision, content="", confidence=0.0)
                self.alive.pop(event.id, None)
            if isinstance(event, MemoryVersion | MemoryForgotten):
                self.history.setdefault(event.id, []).append(self.position)
            if isinstance(event, MemoryVersion):
                self.alive[event.id] = (event, self.position, time_us)
                self.last[event.id] = event
            elif isinstance(event, MemoryForgotten):
                del self.alive[event.id]

    def _link(self, event: MemoryLinked | MemoryUnlinked) -> None:
        key = event.source, event.target, event.relation
        self.links.pop(key, None)
        if isinstance(event, MemoryLinked):
            self.links[key] = event.weight, self.position
        self.linked[self.position] = key[:2]
        for end in key[:2]:
            self.history[end].append(self.position)

    def links_of(self, memory_id: str) -> list[tuple[str, str, str, float, int]]:
        """By position; none to what does not live."""
        found = [
            (*key, *value)
            for key, value in self.links.items()
            if memory_id in key[:2] and self.alive.keys() >= {*key[:2]}
        ]
        return sorted(found, key=lambda link: link[-1])

    def company_of(self, memory_id: str) -> dict[str, int]:
        """Who lives that was used along in the last sixteen uses of what lives, and how often."""
        living = {(each, self.lives[each]) for each in self.alive}
        recent = self.company[memory_id][-16:]
        return Counter(other for others in recent for other, _ in sorted(others & living))

    def shown(self, now_us: int) -> list[tuple[MemoryVersion, int, int]]:
        visible = [
            item
            for item in self.alive.values()
            if item[0].expires_us is None or item[0].expires_us > now_us
        ]
        return sorted(visible, key=lambda item: item[1])


def contents(view: View, now_us: int) -> list[tuple[Any, ...]]:
    return [
        (
            m.id,
            m.content,
            m.tags,
            m.revision,
            m.position,
            m.stored_at,
            m.expires_at,
            () if m.embedding is None else tuple(m.embedding.tolist()),
            uses_of(view, m.id),
        )
        for m in (
            view.memory(int(row), include_embedding=True)
            for row in np.flatnonzero(view.visible(now_us))
        )
    ]


def uses_of(view: View, memory_id: str) -> list[int]:
    """The first use, how many there were, and the last of the others."""
    (row,) = (r for r in np.flatnonzero(view.live) if view.version(int(r)).id == memory_id)
    used = view.uses.of([row])
    count = int(used.counts[0])
    recent = used.recent_us[0, : min(count, RECENT_USES)]
    return [int(used.begun_us[0]), count, *recent.tolist()[::-1]]


def company_of(state: State, memory_id: str) -> dict[str, int]:
    found = state.find(memory_id, 0)
    assert found is not None
    view, row = found
    which, roots = view.uses.company(np.array([row]))
    assert not which.any()
    rows = view.links.newest(roots)
    return Counter(view.version(each).id for each in rows[view.live[rows]].tolist())


def links_of(state: State, memory_id: str) -> list[tuple[str, str, str, float, int]]:
    found = state.find(memory_id, 0)
    if found is None:
        return []
    view, row = found
    around = view.links.around([row])
    told = []
    for other, weight, relation, outward, position in zip(
        around.rows.tolist(),
        around.exact.tolist(),
        around.relations.tolist(),
        around.outward.tolist(),
        around.positions.tolist(),
        strict=True,
    ):
        ends = (memory_id, view.version(other).id)
        source, target = ends if outward else ends[::-1]
        told.append((source, target, view.links.relations[relation], weight, position))
    return told


def expected(model: Model, now_us: int) -> list[tuple[Any, ...]]:
    return [
        (
            event.id,
            event.content,
            event.tags,
            event.revision,
            position,
            from_us(time_us),
            None if event.expires_us is None else from_us(event.expires_us),
            (float(event.revision), float(len(event.content))),
            [model.uses[event.id][0], len(used := model.uses[event.id][1:]), *used[-8:]],
        )
        for event, position, time_us in model.shown(now_us)
    ]


def through_a_file(state: State, drop_to: int = 0) -> State:
    """The state as somebody has it who begins with its checkpoint."""
    file = SimDisk().root().create("checkpoint")
    identity = Identity(bytes(16), state.view.position, 0, bytes(16))
    write_columns(file, identity, compact(state.freeze(), drop_to).named())
    opened = ColumnFile("checkpoint", file.map(), bytes(16))
    columns = from_named({name: opened.column(name) for name in opened.names})
    return State.of("alpha", DIMENSIONS, columns)


def run(
    history: list[Step], publish_at: set[int], checkpoint_at: AbstractSet[int] = frozenset()
) -> tuple[State, Model]:
    state, model = fresh(), Model()
    for number, step in enumerate(history):
        if events := model.events(step):
            state.apply(batch_of(*events), model.position + 1, number * 1_000)
            model.apply(events, number)
        if number in publish_at | checkpoint_at:
            state.publish()
        if number in checkpoint_at:
            state = through_a_file(state)
    state.publish()
    return state, model


numbers = st.sets(st.integers(0, 24))


@given(steps, numbers, numbers, st.integers(0, 60))
def test_the_state_is_what_a_dict_would_hold(
    history: list[Step], publish_at: set[int], checkpoint_at: set[int], now_us: int
) -> None:
    state, model = run(history, publish_at, checkpoint_at)
    check_all(state, model, now_us)


def check_all(state: State, model: Model, now_us: int = 0) -> None:
    """Everything that can be asked of a state is as the model has it."""
    assert state.view.position == model.position
    assert contents(state.view, now_us) == expected(model, now_us)
    assert state.view.live_count(now_us) == len(model.shown(now_us))
    shown = {event.id for event, _, _ in model.shown(now_us)}
    for memory_id in IDS:
        found = state.find(memory_id, now_us)
        assert (found is not None) == (memory_id in shown)
        if found is not None:
            assert found[0].memory(found[1]).id == memory_id
        latest = state.latest(memory_id)
        assert (0 if latest is None else latest.version.revision) == model.revision(memory_id)
        assert (latest is not None and latest.alive) == (memory_id in model.alive)
        assert state.history(memory_id) == model.history.get(memory_id, [])
        assert links_of(state, memory_id) == model.links_of(memory_id)
        if state.find(memory_id, 0) is not None:
            assert company_of(state, memory_id) == model.company_of(memory_id)
    for source, target, word in product(IDS, IDS, WORDS):
        if source != target and model.alive.keys() >= {source, target}:
            assert state.linked(source, target, word) == ((source, target, word) in model.links)
    for memory_id in IDS:
        latest = state.latest(memory_id)
        if latest is not None:
            assert latest.version == model.last[memory_id]


@given(steps, numbers, st.integers(0, 24))
def test_a_history_redacted_as_compaction_does_gives_the_same_state(
    history: list[Step], checkpoint_at: set[int], purged_up_to: int
) -> None:
    """What was purged up to a step is taken out of all records, and one of them says it is done."""
    log: list[tuple[Batch, int, int]] = []
    model = Model()
    for number, step in enumerate(history):
        if events := model.events(step):
            log.append((batch_of(*events), model.position + 1, number))
            model.apply(events, number)
    purged_at = {
        event.id: position
        for batch, first, number in log
        for position, event in enumerate(batch.events, first)
        if isinstance(event, MemoryPurged) and number <= purged_up_to
    }
    shorter = [
        (redacted(batch, first, purged_at), batch, first, number) for batch, first, number in log
    ]
    state = fresh()
    for changed, batch, first, number in shorter:
        state.apply(batch if changed is None else changed, first, number * 1_000)
        if number in checkpoint_at:
            state.publish()
            state = through_a_file(state)
    state.publish()
    check_all(state, model)
    told = [e for changed, batch, _, _ in shorter for e in (changed or batch).events]
    for position, event in enumerate(told, 2):
        if isinstance(event, MemoryVersion | MemoryForgotten):
            assert position > purged_at.get(event.id, 0)
        elif isinstance(event, MemoryLinked | MemoryUnlinked):
            assert position > max(purged_at.get(end, 0) for end in (event.source, event.target))
    assert [i for i, e in enumerate(told) if not isinstance(e, HistoryRedacted)] == [
        i
        for i, e in enumerate(event for batch, _, _ in log for event in batch.events)
        if not is_purged(e, i + 2, purged_at)
    ]


def test_a_purge_is_pending_until_it_is_said_to_be_done() -> None:
    state = fresh()
    state.apply(batch_of(stored("a", 1), stored("b", 1), stored("c", 1)), 2, 0)
    purged = [MemoryPurged(id=memory_id, revision=1) for memory_id in ("a", "b")]
    state.apply(batch_of(*purged), 5, 0)
    state.apply(batch_of(MemoryPurged(id="c", revision=1)), 7, 0)
    state.publish()
    for _ in range(2):  # in memory, and as a checkpoint has it
        assert sorted(state.purges.pending) == [5, 6, 7]
        assert [state.purges.completed_at(position) for position in (5, 6, 7)] == [None] * 3
        state = through_a_file(state)
    compacted = SpaceCompacted(
        checkpoint_position=6, oldest_position=1, checkpoint_bytes=1, purged_to=6
    )
    state.apply(batch_of(compacted), 8, 0)
    state.publish()
    for _ in range(2):
        assert sorted(state.purges.pending) == [7]
        assert [state.purges.completed_at(position) for position in (4, 5, 6, 7)] == [
            *(None, 8, 8, None)
        ]
        state = through_a_file(state)


@given(steps, st.sets(st.integers(0, 24)))
def test_when_rows_are_published_makes_no_difference(
    history: list[Step], publish_at: set[int]
) -> None:
    some, _ = run(history, publish_at)
    always, _ = run(history, set(range(len(history))))
    with mock.patch.object(state_module, "PUBLISH_ROWS", 2):
        forced, _ = run(history, set())
    assert contents(some.view, 0) == contents(always.view, 0) == contents(forced.view, 0)
    query = " ".join(WORDS)
    scores = [
        (
            state.view.lexicon.score(query, state.view.live).scores.tobytes(),
            state.view.vectors.cosine(np.array([1, 2], np.float32)).tobytes(),
            state.view.matching(Filter(tags_any=WORDS[:2]), state.view.live).tobytes(),
        )
        for state in (some, always, forced)
    ]
    assert scores[0] == scores[1] == scores[2]


@given(steps, numbers, st.integers(0, 60))
def test_what_a_checkpoint_holds_does_not_depend_on_the_ones_before(
    history: list[Step], checkpoint_at: set[int], drop_to: int
) -> None:
    held = [
        compact(run(history, set(), at)[0].freeze(), drop_to)
        for at in (frozenset[int](), checkpoint_at)
    ]
    assert difference(*held) is None
    assert np.array_equal(held[0].restored, held[1].restored)


@given(steps, numbers, st.integers(0, 24))
def test_a_base_leads_to_the_same_state(
    history: list[Step], checkpoint_at: set[int], base_at: int
) -> None:
    """What was forgotten before the base and restored behind it has the links that it had."""
    before, model = run(history[:base_at], set(), checkpoint_at)
    whole, log = before, list[tuple[Batch, int]]()
    for step in history[base_at:]:
        if events := model.events(step):
            log.append((batch_of(*events), model.position + 1))
            model.apply(events, 0)
    later = [event for batch, _ in log for event in batch.events]
    gone = [event.id for event in later if isinstance(event, MemoryPurged)]
    back = [event.id for event in later if isinstance(event, MemoryRestored)]
    drop_to = before.view.position
    file = SimDisk().root().create("base")
    columns = compact(before.freeze(), drop_to, gone, back)
    write_columns(file, Identity(bytes(16), drop_to, 0, bytes(16)), columns.named())
    opened = ColumnFile("base", file.map(), bytes(16))
    base = State.of(
        "alpha", DIMENSIONS, from_named({name: opened.column(name) for name in opened.names})
    )
    purged_at = {
        event.id: position
        for batch, first in log
        for position, event in enumerate(batch.events, first)
        if isinstance(event, MemoryPurged)
    }
    for batch, first in log:
        whole.apply(batch, first, 0)
        base.apply(redacted(batch, first, purged_at) or batch, first, 0)
    for state in (whole, base):
        state.publish()
    held = [compact(state.freeze(), drop_to) for state in (whole, base)]
    assert difference(*held) is None
    assert np.array_equal(held[0].restored, held[1].restored)


@given(steps, numbers)
def test_a_checkpoint_makes_no_difference_to_what_is_recalled(
    history: list[Step], checkpoint_at: set[int]
) -> None:
    query, cue = " ".join(WORDS), np.array([1, 2], np.float32)
    answers = []
    for state in (run(history, set())[0], run(history, set(), checkpoint_at)[0]):
        live = np.flatnonzero(state.view.live)
        lexical = state.view.lexicon.score(query, state.view.live)
        chosen = state.view.matching(Filter(tags_any=WORDS[:2]), state.view.live)
        answers.append(
            (
                lexical.scores[live].tobytes(),
                lexical.coverage[live].tobytes(),
                state.view.vectors.cosine(cue)[live].tobytes(),
                chosen[live].tobytes(),
                [
                    int(state.view.positions[row])
                    for row in state.view.timeline.between(None, None)
                    if state.view.live[row]
                ],
            )
        )
    assert answers[0] == answers[1]


@given(steps, st.integers(0, 24))
def test_a_checkpoint_holds_no_more_rows_than_there_are_ids(history: list[Step], at: int) -> None:
    state, model = run(history, set(), {at, len(history) - 1})
    assert state.view.rows == len(model.history)


@given(steps, st.integers(1, 60), steps)
def test_what_was_forgotten_before_history_begins_leaves_nothing(
    history: list[Step], drop_to: int, later: list[Step]
) -> None:
    """Everything else is as if history were whole, and so is all that comes behind."""
    whole, model = run(history, set())
    drop_to = min(drop_to, model.position)
    state = through_a_file(whole, drop_to)
    for memory_id, positions in model.history.items():
        if memory_id not in model.alive and positions[-1] <= drop_to:
            assert state.latest(memory_id) is None
            assert state.history(memory_id) == []
            del model.last[memory_id]
            model.history[memory_id] = []
        else:
            held = [position for position in positions if position > drop_to]
            newest = state.history(memory_id)
            # The version that is held in a row stays, however old it is, and so do its links.
            assert [p for p in newest if p > drop_to] == held
            links = {position for _, position in model.links.values()}
            assert sum(p not in links for p in newest if p <= drop_to) in {0, 1}
    assert contents(state.view, 0) == expected(model, 0)
    for step in later:
        if events := model.events(step):
            state.apply(batch_of(*events), model.position + 1, 0)
            model.apply(events, 0)
        state.publish()
    assert contents(state.view, 0) == expected(model, 0)


@given(steps)
def test_a_view_never_changes(history: list[Step]) -> None:
    state, model = fresh(), Model()
    kept = []
    for step in history:
        if events := model.events(step):
            state.apply(batch_of(*events), model.position + 1, 0)
            model.apply(events, 0)
        state.publish()
        kept.append((state.view, contents(state.view, 10), expected(model, 10)))
    for view, then, right in kept:
        assert contents(view, 10) == then == right


@pytest.mark.parametrize(
    "events",
    [
        [stored("lives", 2)],
        [revised("unheard-of", 1)],
        [MemoryForgotten(id="unheard-of", revision=1, reason="request")],
        [MemoryForgotten(id="gone", revision=1, reason="request")],
        [revised("gone", 2)],
        [restored("unheard-of", 1)],
        [restored("lives", 2)],
        [restored("gone", 2), restored("gone", 3)],
        [restored("gone", 2), stored("gone", 3)],
        [stored("new", 1), stored("new", 2)],
        [stored("new", 1), MemoryPurged(id="gone", revision=1)],
        [MemoryForgotten(id="lives", revision=1, reason="request")] * 2,
        [SpaceCreated(memory_space_id="alpha", generation=1, embedding_model="m", dimensions=2)],
        [SpaceRestored()],
        [SpaceDeleted(purge_after_us=1), stored("new", 1)],
        [SpaceDeleted(purge_after_us=1), SpaceConfigured(retention=KEEP_ALL)],
        [SpaceDeleted(purge_after_us=1), SpaceDeleted(purge_after_us=1)],
        [SpaceDeleted(purge_after_us=1), SpaceRestored(), SpaceRestored()],
    ],
    ids=lambda events: "+".join(type(event).__name__ for event in events),
)
@pytest.mark.parametrize("published", [False, True])
def test_events_that_no_decider_would_write_are_refused(
    events: list[Event], published: bool
) -> None:
    state = fresh()
    state.apply(batch_of(stored("lives", 1), stored("gone", 1)), 2, 0)
    forgotten = MemoryForgotten(id="gone", revision=1, reason="request")
    state.apply(batch_of(forgotten), 4, 0)
    if published:
        state.publish()
    with pytest.raises(StateError, match="position"):
        state.apply(batch_of(*events), 5, 0)


def test_only_a_restoration_lets_a_space_go_on() -> None:
    state = fresh()
    state.apply(batch_of(stored("a", 1), SpaceDeleted(purge_after_us=7)), 2, 0)
    assert (state.deleted, state.purge_after_us) == (True, 7)
    state.apply(batch_of(SpaceRestored(), stored("b", 1)), 4, 0)
    state.publish()
    assert (state.deleted, state.view.position) == (False, 5)
    assert state.view.live_count(0) == 2


def test_the_last_configuration_holds() -> None:
    state = fresh()
    assert state.settings == Settings()
    hourly = Decay(family="exponential", half_life_s=3_600, weight=0.25)
    for position, settings in enumerate(
        (
            Settings(retention=Retention(positions=7)),
            Settings(retention=Retention(age_s=60), decay=hourly),
            Settings(decay=Decay(family="none", weight=0)),
            Settings(decay=Decay(exponent=0.1)),
            Settings(consolidation=Rhythm(after=5, every_s=60)),
            Settings(quotas=Quotas(memories=3, bytes=4, subscribers=0)),
            Settings(),
        )
    ):
        event = SpaceConfigured(**msgspec.structs.asdict(settings))
        state.apply(batch_of(event), position + 2, 0)
        state.publish()
        assert state.settings == settings
        state = through_a_file(state)
        assert state.settings == settings


def test_the_first_event_must_create_this_space() -> None:
    created = SpaceCreated(
        memory_space_id="beta", generation=1, embedding_model="caller", dimensions=2
    )
    with pytest.raises(StateError, match="'beta'"):
        State("alpha", DIMENSIONS).apply(Batch([created], np.empty((0, 0), np.float32)), 1, 0)


@pytest.mark.parametrize("dimensions", [0, 1, 3])
def test_vectors_of_another_length_are_refused(dimensions: int) -> None:
    batch = Batch([stored("a", 1)], np.zeros((1, dimensions), np.float32))
    with pytest.raises(StateError, match=f"{dimensions} dimensions"):
        fresh().apply(batch, 2, 0)


def test_nothing_is_seen_before_it_is_published() -> None:
    state = fresh()
    state.apply(batch_of(stored("a", 1)), 2, 0)
    assert state.find("a", 0) is None
    assert state.view.rows == 0
    assert state.view.position == 1


def test_several_ids_are_found_in_one_view() -> None:
    state = fresh()
    state.apply(batch_of(stored("a", 1), stored("b", 1, expires_us=5), stored("c", 1)), 2, 0)
    state.publish()
    view, rows = state.find_all(["c", "unheard-of", "b", "a", "a"], 5)
    assert view is state.view
    assert rows == [2, None, None, 0, 0]


def test_find_pairs_an_id_with_the_view_that_shows_it() -> None:
    """A writer revises two ids without end; readers must always find both, of one revision."""
    state = fresh()
    state.apply(batch_of(stored("a", 1), stored("b", 1)), 2, 0)
    state.publish()
    last = 1_000
    reading = threading.Barrier(3)
    wrong: list[str] = []

    def read() -> None:
        reading.wait()
        seen = 0
        while seen < last:
            view, rows = state.find_all(["a", "b"], 0)
            if None in rows:
                wrong.append("a living id was not found")
                return
            versions = [view.version(row) for row in rows if row is not None]
            if [v.id for v in versions] != ["a", "b"]:
                wrong.append(f"found {versions}")
                return
            if versions[0].revision != versions[1].revision:
                wrong.append("half of a batch was seen")
                return
            if versions[0].revision < seen:
                wrong.append("went back in time")
                return
            seen = versions[0].revision

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    reading.wait()
    for revision in range(2, last + 1):
        state.apply(batch_of(revised("a", revision), revised("b", revision)), 2 * revision, 0)
        state.publish()
    for reader in readers:
        reader.join()
    assert wrong == []
