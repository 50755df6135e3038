"""One contract, three doors: embedded, `Client` and `AsyncClient` on a real server.

Every test here runs against all three, so that what one of them does differently is seen.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import engram
from engram import Changes, EmbeddingSpec, Event, Filter, NewMemory, errors
from engram.client.asynchronous import AsyncSpace
from engram.client.synchronous import ClientSpace

from .doors import CALLER
from .harness import Server

EMBEDDED_ONLY = {"answering", "charge", "keyed", "outgoing", "quotas", "reader"}
"""What `Space` has for the surfaces, not for users."""
NOON = datetime(2026, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))


VARYING = {
    *("memory_space_id", "stored_at", "recall_id", "took_ms", "recorded"),
    *("score", "recency", "frequency"),
}


def plain(value: Any) -> Any:
    """A model without what two runs cannot have in common."""
    document = msgspec.to_builtins(value, enc_hook=lambda array: array.tolist())

    def strip(item: Any) -> Any:
        if isinstance(item, dict):
            return {k: strip(v) for k, v in item.items() if k not in VARYING}
        return [strip(v) for v in item] if isinstance(item, list | tuple) else item

    return strip(document)


@pytest.mark.parametrize("door", [ClientSpace, AsyncSpace])
def test_every_verb_takes_what_the_embedded_one_takes(door: type) -> None:
    verbs = {
        name: verb for kind in engram.Space.__mro__[-2::-1] for name, verb in vars(kind).items()
    }
    assert {"fork", "link", "recall"} <= verbs.keys()
    for name, verb in verbs.items():
        if name.startswith("_") or isinstance(verb, property) or name in EMBEDDED_ONLY:
            continue
        here = [str(p) for p in inspect.signature(getattr(door, name)).parameters.values()][1:]
        there = [str(p) for p in inspect.signature(verb).parameters.values()][1:]
        if name == "events":
            # Over a network one follows; the embedded feed is read to its end unless told.
            assert (here[-1], there[-1]) == ("follow: 'bool' = True", "follow: 'bool' = False")
            here, there = here[:-1], there[:-1]
        # Embedded, no connection is lost on the way.
        here = [parameter for parameter in here if not parameter.startswith("idempotency_key:")]
        if name == "fork":  # nothing is told over HTTP until it is there
            assert there.pop().startswith("progress:")
        assert here == there, name


@pytest.mark.parametrize("door", [engram.Client, engram.AsyncClient])
def test_every_verb_on_spaces_takes_what_the_embedded_one_takes(door: type) -> None:
    for name in ("create_space", "ensure_space", "space", "spaces", "space_info", "close"):
        here = inspect.signature(getattr(door, name)).parameters
        there = inspect.signature(getattr(engram.Database, name)).parameters
        assert [str(p) for p in here.values()] == [str(p) for p in there.values()], name


def test_a_memory_keeps_all_it_was_given(space: Any) -> None:
    given = {
        "id": "a?b#c%2F +ü",
        "kind": "fact",
        "tags": ["one", "two", "one"],
        "metadata": {"n": 1, "x": 1.5, "deep": {"list": [None, True, "ü"]}},
        "confidence": 0.25,
        "occurred_at": NOON,
        "expires_at": NOON.replace(year=2999),
        "source": "a test",
    }
    stored = space.remember("The deploy key is rotated", **given)
    assert type(stored) is engram.Memory
    assert stored.memory_space_id == space.id
    assert (stored.id, stored.kind, stored.tags) == ("a?b#c%2F +ü", "fact", ("one", "two"))
    assert stored.metadata == given["metadata"]
    assert stored.occurred_at == NOON
    assert stored.occurred_at.tzinfo is UTC
    assert stored.stored_at.tzinfo is UTC
    assert (stored.confidence, stored.source) == (0.25, "a test")
    assert (stored.revision, stored.position, stored.embedding) == (1, 2, None)
    assert space.get(stored.id) == stored
    assert space.list().memories == (stored,)


def test_a_batch_takes_models_mappings_and_texts(space: Any) -> None:
    batch = iter([NewMemory(content="a", id="1"), {"content": "b", "tags": {"t"}}, "c"])
    remembered = space.remember_many(batch)
    assert type(remembered) is engram.Remembered
    assert remembered.memory_space_id == space.id
    assert [m.content for m in remembered.memories] == ["a", "b", "c"]
    assert [m.position for m in remembered.memories] == [2, 3, 4]
    assert remembered.position == 4


def test_revising_replaces_and_clears(space: Any) -> None:
    space.remember("old", id="m", tags=["t"], metadata={"k": 1}, source="s", occurred_at=NOON)
    changes = Changes(content="new", tags=None, metadata={"j": 2}, source=None, occurred_at=None)
    revised = space.revise("m", changes)
    assert (revised.content, revised.tags, revised.metadata) == ("new", (), {"j": 2})
    assert (revised.source, revised.occurred_at, revised.revision) == (None, None, 2)
    assert space.get("m") == revised


def test_forgetting(space: Any) -> None:
    space.remember("x", id="m")
    assert space.forget("m") == engram.Forgotten(id="m", position=3)
    for verb in (space.get, space.forget):
        with pytest.raises(errors.MemoryNotFound):
            verb("m")


def test_what_was_forgotten_is_restored_as_it_was(space: Any) -> None:
    space.remember("The deploy key is rotated every Monday", id="m", tags=["t"], metadata={"k": 1})
    old = space.revise("m", Changes(source="memo", occurred_at=NOON))
    space.forget("m")
    assert not space.recall("deploy key", record=False).results
    back = space.restore("m")
    expected = msgspec.structs.replace(old, revision=3, position=5, stored_at=back.stored_at)
    assert back == expected
    assert space.get("m") == back
    assert [hit.memory for hit in space.recall("deploy key", record=False)] == [back]
    types = [event.type.removeprefix("memory.") for event in space.history("m")]
    assert types == ["stored", "revised", "forgotten", "restored"]
    assert list(space.events(follow=False))[-1].memory == back
    space.forget("m")
    space.remember("something else", id="m")
    space.forget("m")
    assert space.restore("m").content == "something else"


def test_what_was_purged_leaves_a_receipt(space: Any) -> None:
    for number in range(4):
        space.remember(f"secret {number}", id=f"m{number}", tags=["even" if number % 2 else "odd"])
    space.forget("m1")
    receipt = space.purge("m0")
    assert receipt == engram.PurgeReceipt(
        memory_space_id=space.id,
        id="m0",
        count=1,
        position=7,
        purged_at=receipt.purged_at,
        completed_position=8,
        completed_at=receipt.completed_at,
        files=receipt.files,
    )
    assert {file.name.partition("/")[0] for file in receipt.files} == {"checkpoints", "log"}
    assert all(len(file.crc32c) == 8 for file in receipt.files)
    assert space.purge("m0") == receipt
    with pytest.raises(errors.MemoryNotFound):
        space.get("m0")
    with pytest.raises(errors.MemoryNotFound, match="purged"):
        space.restore("m0")
    assert [event.type for event in space.history("m0")] == ["memory.purged"]
    even = space.purge_matching(Filter(tags_any=("even",)))
    assert (even.id, even.count, even.position) == (None, 2, 10)
    assert space.purge_matching(Filter(tags_any=("even",))) is None
    assert space.purge_matching(Filter(metadata={"n": {"$gt": 1}})) is None
    assert [memory.id for memory in space.list().memories] == ["m2"]
    assert space.remember("again", id="m0").revision == 2
    told = list(space.events(after=0, follow=False))[1:]
    assert [event.type for event in told] == [
        *("history.redacted", "history.redacted", "memory.stored", "history.redacted"),
        *("history.redacted", "memory.purged", "space.compacted", "memory.purged"),
        *("memory.purged", "space.compacted", "memory.stored"),
    ]
    assert [(event.redacted_from, event.redacted_to) for event in told[:2]] == [(2, 2), (3, 3)]
    assert [event.purged_to for event in told if event.type == "space.compacted"] == [7, 10]


def test_links_are_made_listed_and_removed(space: Any) -> None:
    for name in ("rain", "off", "ü?#%"):
        space.remember(name, id=name)
    made = space.link("rain", "off", weight=0.8, relation="causes")
    assert type(made) is engram.Link
    assert plain(made) == {
        "source": "rain",
        "target": "off",
        "relation": "causes",
        "weight": 0.8,
        "position": made.position,
    }
    plainly = space.link("ü?#%", "rain")
    assert (plainly.relation, plainly.weight) == ("related", 1.0)
    page = space.links("rain")
    assert type(page) is engram.LinksPage
    assert (page.links, page.next) == ((made, plainly), None)
    page = space.links("rain", limit=1)
    assert (page.links, page.next) == ((made,), made.position)
    assert space.links("rain", limit=1, after=page.next).links == (plainly,)
    assert space.links("off").links == (made,)
    heavier = space.link("rain", "off", weight=0.9, relation="causes")
    assert space.links("off").links == (heavier,)
    removed = space.unlink("ü?#%", "rain")
    assert type(removed) is engram.Unlinked
    assert (removed.relation, removed.position) == ("related", heavier.position + 1)
    assert space.links("ü?#%").links == ()
    told = [e for e in space.history("rain") if e.type != "memory.stored"]
    assert [(e.type, e.position, e.source, e.target, e.relation, e.weight) for e in told] == [
        ("memory.linked", made.position, "rain", "off", "causes", 0.8),
        ("memory.linked", plainly.position, "ü?#%", "rain", "related", 1.0),
        ("memory.linked", heavier.position, "rain", "off", "causes", 0.9),
        ("memory.unlinked", removed.position, "ü?#%", "rain", "related", None),
    ]
    fed = space.events(after=0, types=["memory.linked", "memory.unlinked"], follow=False)
    assert [(e.type, e.position) for e in fed] == [(e.type, e.position) for e in told]


def test_links_are_there_while_both_ends_live(space: Any) -> None:
    for name in ("a", "b", "c"):
        space.remember(name, id=name)
    kept = space.link("a", "b")
    space.link("b", "c")
    space.revise("b", Changes(tags=["seen"]))
    assert len(space.links("b").links) == 2
    space.forget("b")
    assert space.links("a").links == space.links("c").links == ()
    for verb in (space.link, space.unlink):
        with pytest.raises(errors.MemoryNotFound):
            verb("a", "b")
    with pytest.raises(errors.MemoryNotFound):
        space.links("b")
    space.restore("b")
    assert space.links("a").links == (kept,)
    space.forget("c")
    space.remember("anew", id="c")
    assert space.links("c").links == ()
    with pytest.raises(errors.LinkNotFound):
        space.unlink("b", "c")
    space.purge("a")
    assert space.links("b").links == ()
    assert [e.type for e in space.history("b") if e.position == kept.position] == []


def test_a_vector_comes_back_with_its_memory(vectors: Any) -> None:
    vectors.remember("x", id="restored", embedding=[0.0, 3.0, 4.0])
    vectors.forget("restored")
    vectors.restore("restored")
    assert vectors.get("restored", include_embedding=True).embedding.tolist() == [0.0, 3.0, 4.0]


def test_listing_by_pages_and_filters(space: Any) -> None:
    space.remember_many(
        [
            {"content": str(i), "tags": ["even" if i % 2 == 0 else "odd", "all"], "source": "s"}
            for i in range(5)
        ]
    )
    first = space.list(limit=2)
    rest = space.list(limit=10, after=first.next)
    assert [m.content for m in first.memories] == ["0", "1"]
    assert [m.content for m in rest.memories] == ["2", "3", "4"]
    assert rest.next is None
    wanted = Filter(tags_all=("odd", "all"), kind="episode", source="s", until=datetime.now(UTC))
    assert [m.content for m in space.list(wanted).memories] == ["1", "3"]
    later = Filter(since=datetime.now(UTC) + timedelta(hours=1))
    assert space.list(later).memories == ()


def test_vectors_come_back_as_they_were_given(vectors: Any) -> None:
    vectors.remember("north", id="n", embedding=[1, 0, 0.1])
    vectors.remember_many([{"content": "up", "id": "u", "embedding": np.array([0.0, 0.3, 1.0])}])
    vectors.revise("u", Changes(embedding=np.array([0, 1 / 3, 1], dtype=np.float32)))
    north = vectors.get("n", include_embedding=True).embedding
    assert north.dtype == np.float32
    assert np.array_equal(north, np.array([1, 0, 0.1], dtype=np.float32))
    listed = vectors.list(include_embedding=True).memories[1].embedding
    assert np.array_equal(listed, np.array([0, 1 / 3, 1], dtype=np.float32))
    assert vectors.get("n").embedding is None
    hits = vectors.recall(embedding=[0, 0.2, 1], limit=1)
    assert [hit.memory.id for hit in hits] == ["u"]
    assert [hit.memory.id for hit in vectors.recall(memory_ids=["u"], limit=1)] == ["n"]


MEMORIES = [
    {"id": "key", "content": "The deploy key is rotated every Monday", "tags": ["ops"]},
    {"id": "lunch", "content": "Lunch is at noon", "metadata": {"place": "kitchen", "n": 3}},
    {"id": "fact", "content": "Monday comes before Tuesday", "kind": "fact", "confidence": 0.5},
]
RECALLS: dict[str, dict[str, Any]] = {
    "words": {"query": "when is the key rotated?", "explain": True},
    "lexical": {"query": "Monday", "mode": "lexical", "explain": True},
    "similarity": {"query": "weekday", "mode": "similarity", "limit": 2},
    "hybrid": {"query": "Monday", "mode": "hybrid", "min_confidence": 0.1},
    "a memory": {"memory_ids": ("key",)},
    "words and a memory": {"query": "food", "memory_ids": ["key"], "explain": True},
    "tags": {"query": "Monday", "filter": Filter(tags_any=("ops", "x"))},
    "metadata": {"query": "Monday", "filter": Filter(metadata={"n": {"$gte": 2}})},
    "kind": {"query": "Monday", "filter": Filter(kind="fact")},
    "times": {"query": "Monday", "filter": Filter(until=NOON)},
    "nothing there": {"query": "xylophone", "mode": "lexical"},
}


@pytest.mark.parametrize("asked", RECALLS.values(), ids=RECALLS.keys())
def test_a_recall_answers_the_same(
    db: Any, asked: dict[str, Any], tmp_path: Path, space: Any
) -> None:
    with engram.open(tmp_path / "data") as reference:
        same = reference.create_space("same")
        for door in (space, same):
            door.remember_many(MEMORIES)
        answer, expected = space.recall(**asked), same.recall(**asked)
        assert type(answer) is engram.Recall
        assert answer.memory_space_id == space.id
        assert plain(answer) == plain(expected)
        scores = [hit.score for hit in expected]  # which what was stored when has a part in
        assert [hit.score for hit in answer] == pytest.approx(scores, abs=1e-4)


def test_spaces_are_made_shown_and_listed(db: Any) -> None:
    a, b = (f"listed-{letter}-{type(db).__name__.lower()}" for letter in "ab")
    alpha = db.create_space(a, embedding=CALLER)
    assert alpha.id == a
    same, created = db.ensure_space(a, embedding=CALLER)
    assert (same.id, created) == (a, False)
    made, created = db.ensure_space(b)
    assert (made.id, created) == (b, True)
    alpha.remember("x", embedding=[1, 0, 0])
    info = db.space_info(a)
    assert info == alpha.info()
    assert (info.state, info.memories, info.position, info.generation) == ("active", 1, 2, 1)
    assert info.embedding == CALLER
    assert info.created_at is not None
    names = [found.memory_space_id for found in db.spaces()]
    assert names == sorted(names)
    assert {a, b} <= set(names)
    following = [found.memory_space_id for found in db.spaces(after=a, limit=2)]
    assert following == names[names.index(a) + 1 :][:2]
    assert db.spaces(limit=0) == []


def test_a_space_is_told_how_much_history_to_keep(space: Any) -> None:
    assert space.info().retention == engram.Retention()
    space.remember("stays", id="m")
    info = space.configure(retention=engram.Retention(positions=10_000))
    assert info == space.info()
    assert (info.retention, info.position) == (engram.Retention(positions=10_000), 3)
    assert str(space.configure(retention="age:30d").retention) == "age:30d"
    *_, event = space.events(types=["space.configured"], follow=False)
    assert (event.position, event.retention) == (4, engram.Retention(age_s=30 * 24 * 3_600))
    assert space.configure(retention="all").retention == engram.Retention()
    assert space.get("m").content == "stays"


def test_a_space_is_told_how_its_memories_fade(space: Any) -> None:
    assert space.info().decay == engram.Decay()
    law = engram.Decay(family="exponential", half_life_s=60, weight=0.25)
    info = space.configure(decay=law, retention="age:1d")
    assert info == space.info()
    assert (info.decay, str(info.retention)) == (law, "age:1d")
    assert str(space.configure(decay="none,weight:0.5").decay) == "none,weight:0.5"
    *_, event = space.events(types=["space.configured"], follow=False)
    assert (str(event.decay), str(event.retention)) == ("none,weight:0.5", "age:1d")


def test_a_space_is_told_what_to_forget(space: Any) -> None:
    assert space.info().forgetting == engram.Forgetting()
    for name in ("old", "older", "new"):
        space.remember(name, id=name, occurred_at=NOON.replace(year=2000 + len(name)))
    policy = engram.Forgetting(capacity=2, spare_kinds=("belief",), spare_tags=("a,b",))
    info = space.configure(forgetting=policy)
    assert (info.forgetting, str(info.retention)) == (policy, "all")
    assert space.info().forgetting == policy
    planned = space.apply_forgetting(dry_run=True)
    done = space.apply_forgetting()
    assert (planned.dry_run, done.dry_run, done.forgetting) == (True, False, policy)
    lapsed = [(m.id, m.reason, m.bound) for m in (*planned.memories, *done.memories)]
    # What is looked after by itself may have been faster.
    assert lapsed in ([("new", "capacity", 2.0)] * n for n in range(3))
    *_, event = space.events(types=["memory.forgotten"], follow=False)
    assert (event.id, event.reason, event.bound) == ("new", "capacity", 2.0)
    assert event.base_level < 0
    assert space.restore("new").content == "new"
    assert space.configure(forgetting="none").forgetting == engram.Forgetting()


REFUSED: dict[str, tuple[type[Exception], Callable[[Any], Any]]] = {
    "no such memory": (errors.MemoryNotFound, lambda s: s.get("nope")),
    "no such memory to revise": (
        errors.MemoryNotFound,
        lambda s: s.revise("nope", Changes(source="x")),
    ),
    "no such memory to forget": (errors.MemoryNotFound, lambda s: s.forget("nope")),
    "no such memory to restore": (errors.MemoryNotFound, lambda s: s.restore("nope")),
    "a living one to restore": (errors.MemoryExists, lambda s: s.restore("key")),
    "no such memory to purge": (errors.MemoryNotFound, lambda s: s.purge("nope")),
    "an id to purge that is none": (errors.Invalid, lambda s: s.purge("a/b")),
    "to purge nothing": (errors.Invalid, lambda s: s.purge_matching(None)),
    "to purge everything": (errors.Invalid, lambda s: s.purge_matching(Filter())),
    "to purge by an id": (errors.Invalid, lambda s: s.purge_matching("key")),
    "to purge by no operator": (
        errors.Invalid,
        lambda s: s.purge_matching(Filter(metadata={"n": {"$near": 1}})),
    ),
    "an id to restore that is none": (errors.Invalid, lambda s: s.restore("a/b")),
    "a retention that is none": (errors.Invalid, lambda s: s.configure(retention="much")),
    "a retention of nothing": (errors.Invalid, lambda s: s.configure(retention=None)),
    "no settings": (errors.Invalid, lambda s: s.configure()),
    "what is no setting": (TypeError, lambda s: s.configure(colour="red")),
    "a decay that is none": (errors.Invalid, lambda s: s.configure(decay="fast")),
    "a decay of too much weight": (
        errors.Invalid,
        lambda s: s.configure(retention="all", decay=engram.Decay(weight=1.5)),
    ),
    "a retention of no positions": (
        errors.Invalid,
        lambda s: s.configure(retention=engram.Retention(positions=0)),
    ),
    "no such cue": (errors.MemoryNotFound, lambda s: s.recall(memory_ids=["nope"])),
    "an id that lives": (errors.MemoryExists, lambda s: s.remember("x", id="key")),
    "one id twice": (errors.EngramError, lambda s: s.remember_many([MEMORIES[0]] * 2)),
    "no content": (errors.Invalid, lambda s: s.remember(" ")),
    "no text": (errors.Invalid, lambda s: s.remember(5)),
    "a lone surrogate": (errors.Invalid, lambda s: s.remember("\ud800")),
    "too long": (errors.TooLarge, lambda s: s.remember("x" * ((1 << 20) + 1))),
    "an id that is none": (errors.Invalid, lambda s: s.get("a/b")),
    "an id of dots": (errors.Invalid, lambda s: s.forget("..")),
    "an id that is a number": (errors.Invalid, lambda s: s.get(7)),
    "tags that are text": (errors.Invalid, lambda s: s.remember("x", tags="abc")),
    "not a number": (errors.Invalid, lambda s: s.remember("x", metadata={"n": float("nan")})),
    "bytes": (errors.Invalid, lambda s: s.remember("x", metadata={"n": b"x"})),
    "a time in metadata": (errors.Invalid, lambda s: s.remember("x", metadata={"n": NOON})),
    "a huge number": (errors.Invalid, lambda s: s.remember("x", metadata={"n": 1 << 64})),
    "no zone": (errors.Invalid, lambda s: s.remember("x", occurred_at=datetime(2026, 5, 1))),
    "no such kind": (errors.Invalid, lambda s: s.remember("x", kind="rumour")),
    "too certain": (errors.Invalid, lambda s: s.remember("x", confidence=2)),
    "a vector where none goes": (
        errors.EmbedderMismatch,
        lambda s: s.remember("x", embedding=[1.0, 2.0]),
    ),
    "an empty batch": (errors.Invalid, lambda s: s.remember_many([])),
    "a batch that is text": (errors.Invalid, lambda s: s.remember_many("abc")),
    "a batch too long": (errors.TooLarge, lambda s: s.remember_many(["x"] * 1001)),
    "an unknown field": (errors.Invalid, lambda s: s.remember_many([{"content": "x", "y": 1}])),
    "no changes": (errors.Invalid, lambda s: s.revise("key", Changes())),
    "changes that are none": (errors.Invalid, lambda s: s.revise("key", {"source": "x"})),
    "content cleared": (errors.Invalid, lambda s: s.revise("key", Changes(content=None))),
    "no cue": (errors.Invalid, lambda s: s.recall()),
    "an empty cue": (errors.Invalid, lambda s: s.recall("")),
    "a limit of none": (errors.Invalid, lambda s: s.recall("x", limit=0)),
    "nothing to complete": (errors.Invalid, lambda s: s.complete()),
    "no field to complete by": (errors.Invalid, lambda s: s.complete(known={"colour": "red"})),
    "gaps alone": (errors.Invalid, lambda s: s.complete(embedding=[None] * 3)),
    "a vector to complete of the wrong length": (
        errors.Invalid,
        lambda s: s.complete(embedding=[1.0, None]),
    ),
    "a sharpness of none": (errors.Invalid, lambda s: s.complete("x", beta=0)),
    "an inclusion that is none": (
        errors.Invalid,
        lambda s: s.complete("x", include_embedding="embedding"),
    ),
    "no such mode": (errors.Invalid, lambda s: s.recall("x", mode="guess")),
    "a vector that is none": (errors.Invalid, lambda s: s.recall(embedding="abc")),
    "a vector of the wrong length": (errors.Invalid, lambda s: s.recall(embedding=[1.0])),
    "a vector without end": (errors.Invalid, lambda s: s.recall(embedding=[float("inf")] * 3)),
    "an operator that is none": (
        errors.Invalid,
        lambda s: s.recall("x", filter=Filter(metadata={"n": {"$near": 1}})),
    ),
    "a filter that is none": (errors.Invalid, lambda s: s.list({"kind": "fact"})),
    "a list too long": (errors.Invalid, lambda s: s.list(limit=1001)),
    "after nothing": (errors.Invalid, lambda s: s.list(after="2")),
}


@pytest.mark.parametrize(("kind", "verb"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_is_the_same_error(
    space: Any, kind: type[Exception], verb: Callable[[Any], Any]
) -> None:
    space.remember_many(MEMORIES)
    before = space.info().position
    with pytest.raises(kind) as caught:
        verb(space)
    if kind is not errors.EngramError:
        assert type(caught.value) is kind
    assert space.info().position == before


FIELDS = {
    "content": lambda s: s.remember(""),
    "retention": lambda s: s.configure(retention="age:30"),
    "decay": lambda s: s.configure(decay="power:fast"),
    "decay.weight": lambda s: s.configure(decay=engram.Decay(weight=float("inf"))),
    "forgetting": lambda s: s.configure(forgetting="capacity:none"),
    "forgetting.capacity": lambda s: s.configure(forgetting=engram.Forgetting(capacity=0)),
    "forgetting.threshold": lambda s: s.configure(forgetting="threshold:1e99"),
    "forgetting.spare_kinds[0]": lambda s: s.configure(forgetting="capacity:5,spare:rumour"),
    "dry_run": lambda s: s.apply_forgetting(dry_run="yes"),
    "retention.age_s": lambda s: s.configure(retention=engram.Retention(age_s=-1)),
    "memories[1].tags[0]": lambda s: s.remember_many(["x", {"content": "y", "tags": [""]}]),
    "filter": lambda s: s.purge_matching(Filter(tags_all=())),
    "filter.source": lambda s: s.purge_matching(Filter(source="")),
    "filter.kind": lambda s: s.recall("x", filter=Filter(kind="rumour")),  # type: ignore[arg-type]
    "memory_ids[1]": lambda s: s.recall(memory_ids=["a", "a/b"]),
    "occurred_at": lambda s: s.revise("key", Changes(occurred_at=datetime(2026, 5, 1))),
}


@pytest.mark.parametrize(("field", "verb"), FIELDS.items(), ids=FIELDS.keys())
def test_a_refusal_names_the_same_field(space: Any, field: str, verb: Callable[[Any], Any]) -> None:
    space.remember_many(MEMORIES)
    with pytest.raises(errors.Invalid) as caught:
        verb(space)
    assert [item.field for item in caught.value.errors] == [field]


def written(space: Any) -> Any:
    """A space with one event of each kind that a caller can cause by a write: positions 1 to 6."""
    space.remember_many(MEMORIES[:2])
    space.revise("key", Changes(content="The key is rotated on Tuesdays", source="memo"))
    space.forget("lunch")
    space.restore("lunch")
    return space


FEEDS: dict[str, tuple[dict[str, Any], list[int]]] = {
    "all": ({}, [1, 2, 3, 4, 5, 6]),
    "after zero": ({"after": 0}, [1, 2, 3, 4, 5, 6]),
    "after some": ({"after": 3}, [4, 5, 6]),
    "after all": ({"after": 6}, []),
    "what was restored": ({"types": ["memory.restored"]}, [6]),
    "one type": ({"types": ["memory.stored"]}, [2, 3]),
    "two types": ({"types": ["memory.forgotten", "space.created"]}, [1, 5]),
    "a type that did not happen": ({"types": ["memory.recalled"]}, []),
    "a type after some": ({"types": ["memory.stored"], "after": 2}, [3]),
}


@pytest.mark.parametrize(("asked", "positions"), FEEDS.values(), ids=FEEDS.keys())
@pytest.mark.timeout(10)  # a feed that waits for a heartbeat before it ends is late
def test_a_feed_tells_the_same(
    space: Any, asked: dict[str, Any], positions: list[int], tmp_path: Path
) -> None:
    events = list(written(space).events(**asked, follow=False))
    assert [event.position for event in events] == positions
    assert {type(event) for event in events} <= {Event}
    assert {event.memory_space_id for event in events} <= {space.id}
    assert {event.space_uuid for event in events} <= {space.info().uuid}
    with engram.open(tmp_path / "data") as reference:
        same = written(reference.create_space("same"))
        told = plain(list(same.events(**asked, follow=False)))
    varying = {"time", "space_uuid"}
    for event, expected in zip(plain(events), told, strict=True):
        assert {k: v for k, v in event.items() if k not in varying} == {
            k: v for k, v in expected.items() if k not in varying
        }


def test_a_feed_goes_on_with_what_is_written(space: Any) -> None:
    with closing(space.events(0, follow=True)) as events:
        assert next(events).type == "space.created"
        for number in range(5):
            stored = space.remember(f"memory {number}")
            event = next(events)
            assert (event.type, event.position) == ("memory.stored", stored.position)
            assert event.memory == stored


CUES: dict[str, dict[str, Any]] = {
    "a vector": {"embedding": [0.1, 0.9, 0.2], "include_embedding": True},
    "a partial vector": {"embedding": [None, 1, None], "beta": 5, "limit": 2},
    "an array with gaps": {"embedding": np.array([np.nan, 1.0, 0.5], np.float32)},
    "a text": {"query": "noon in the kitchen"},
    "fields": {
        "known": engram.Known(
            content="noon", tags=("a",), kind="fact", source="s", since=NOON, until=NOON
        )
    },
    "fields as a mapping": {"known": {"metadata": {"n": {"$gte": 2}}}, "beta": 0.5},
    "all of it": {"query": "n", "embedding": [1.0, 0, 0], "known": {"tags": ["b"]}},
}


@pytest.mark.parametrize("cue", CUES.values(), ids=CUES.keys())
def test_a_completion_answers_the_same(vectors: Any, tmp_path: Path, cue: dict[str, Any]) -> None:
    memories = [
        NewMemory(
            id=f"m{n}",
            content=f"{n} at noon",
            kind="fact" if n % 2 else "episode",
            tags=("a", "b")[: n % 3],
            source="s" if n else None,
            metadata={"n": n, "in": {"the": ["kitchen", n % 2]}},
            occurred_at=NOON + timedelta(hours=n),
            embedding=np.eye(3, dtype=np.float32)[n % 3] + np.float32(n / 10),
        )
        for n in range(6)
    ]
    vectors.remember_many(memories)
    with engram.open(tmp_path / "beside") as beside:
        same = beside.create_space("same", embedding=CALLER)
        same.remember_many(memories)
        answer, expected = vectors.complete(**cue), same.complete(**cue)
        assert plain(answer) == plain(expected)
        assert answer.memory_space_id == vectors.id
        assert type(answer) is engram.Completion
        assert answer.occurred_at is None or type(answer.occurred_at.value) is datetime
        assert answer.took_ms > 0
    if answer.embedding is not None:
        assert answer.embedding.dtype == np.float32


def test_every_door_completes_alike() -> None:
    shapes = []
    for door in (engram.Space, ClientSpace, AsyncSpace):
        _, *parameters = inspect.signature(door.complete).parameters.values()
        shapes.append([str(parameter) for parameter in parameters])
    assert shapes[0] == shapes[1] == shapes[2]


def test_a_recall_is_put_on_record_unless_told_otherwise(space: Any) -> None:
    space.remember_many(MEMORIES)
    with closing(space.events(0, types=["memory.recalled"], follow=True)) as events:
        unseen = space.recall("Monday", record=False)
        seen = space.recall("Monday", limit=1)
        assert (unseen.recorded, seen.recorded) == (False, True)
        event = next(events)
        assert (event.recall_id, event.mode) == (seen.recall_id, seen.mode)
        [hit] = seen.results
        assert event.results == (engram.Recalled(id=hit.memory.id, score=hit.score),)


def test_a_memory_has_a_history(space: Any) -> None:
    history = written(space).history("key")
    assert type(history) is tuple
    assert [(e.position, e.type) for e in history] == [(2, "memory.stored"), (4, "memory.revised")]
    assert history[1].memory == space.get("key")
    lunch = [event.type.removeprefix("memory.") for event in space.history("lunch")]
    assert lunch == ["stored", "forgotten", "restored"]
    with pytest.raises(errors.MemoryNotFound):
        space.history("nope")


FEED_REFUSED: dict[str, tuple[type[Exception], dict[str, Any]]] = {
    "beyond the end": (errors.PositionBeyondEnd, {"after": 9}),
    "before the beginning": (errors.Invalid, {"after": -1}),
    "not a position": (errors.Invalid, {"after": "2"}),
    "no such type": (errors.Invalid, {"types": ["memory.imagined"]}),
    "types that are text": (errors.Invalid, {"types": "memory.stored"}),
}


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize(("kind", "asked"), FEED_REFUSED.values(), ids=FEED_REFUSED.keys())
def test_a_refused_feed_is_the_same_error(
    space: Any, kind: type[Exception], asked: dict[str, Any], follow: bool
) -> None:
    with pytest.raises(kind) as caught:
        next(written(space).events(**asked, follow=follow))
    assert type(caught.value) is kind


def test_a_feed_outlives_its_server(tmp_path: Path, start_server: Callable[..., Server]) -> None:
    first = start_server(tmp_path / "data")
    with engram.Client(first.url) as client:
        space = written(client.ensure_space("alpha")[0])
        with space.events(0) as events:
            assert [next(events).position for _ in range(6)] == [1, 2, 3, 4, 5, 6]
            first.stop()
            second = start_server(tmp_path / "data", "--port", first.url.rpartition(":")[2])
            assert second.url == first.url
            stored = space.remember("after the pause")
            assert next(events).memory == stored


SPACE_REFUSED: dict[str, tuple[type[Exception], Callable[[Any], Any]]] = {
    "exists": (
        errors.SpaceExists,
        lambda db: [db.create_space(f"twice-{type(db).__name__.lower()}") for _ in range(2)],
    ),
    "another embedding": (
        errors.SpaceExists,
        lambda db: [db.ensure_space("two-minds", embedding=e) for e in (None, CALLER)],
    ),
    "no such space": (errors.SpaceNotFound, lambda db: db.space("nowhere").info()),
    "no such space to show": (errors.SpaceNotFound, lambda db: db.space_info("nowhere")),
    "nor to write to": (errors.SpaceNotFound, lambda db: db.space("nowhere").remember("x")),
    "an id that is none": (errors.SpaceInvalid, lambda db: db.space("Not An Id")),
    "an id to create that is none": (errors.SpaceInvalid, lambda db: db.create_space("a/b")),
    "an id that is a number": (errors.SpaceInvalid, lambda db: db.ensure_space(5)),
    "a reserved id": (errors.SpaceInvalid, lambda db: db.space_info("con")),
    "no such embedder": (
        errors.Invalid,
        lambda db: db.create_space(embedding=EmbeddingSpec(model="nope", dimensions=3)),
    ),
    "no dimensions": (
        errors.Invalid,
        lambda db: db.create_space(embedding=EmbeddingSpec(model="caller", dimensions=0)),
    ),
    "an embedding that is none": (errors.Invalid, lambda db: db.create_space(embedding="x")),
}


@pytest.mark.parametrize(("kind", "verb"), SPACE_REFUSED.values(), ids=SPACE_REFUSED.keys())
def test_a_refusal_about_spaces_is_the_same_error(
    db: Any, kind: type[Exception], verb: Callable[[Any], Any]
) -> None:
    with pytest.raises(kind) as caught:
        verb(db)
    assert type(caught.value) is kind


def test_threads_share_a_door(db: Any, space: Any) -> None:
    with ThreadPoolExecutor(8) as pool:
        stored = list(pool.map(lambda n: space.remember(f"memory {n}"), range(40)))
    assert sorted(m.position for m in stored) == list(range(2, 42))
    assert {m.content for m in space.list(limit=100).memories} == {m.content for m in stored}


def test_a_closed_client_says_so(server: Server) -> None:
    client = engram.Client(server.url)
    space = client.ensure_space("closed")[0]
    client.close()
    client.close()
    for verb in (client.spaces, space.info, lambda: next(space.events(0))):
        with pytest.raises(errors.Unavailable, match="closed"):
            verb()


def test_a_server_that_speaks_no_https_is_told_that_it_may_speak_http(server: Server) -> None:
    url = server.url.replace("http:", "https:")
    hint = pytest.raises(errors.ServerUnreachable, match="give its URL with http://")
    with engram.Client(url) as client, hint:
        client.spaces()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system has no /proc")
def test_a_client_that_is_let_go_of_is_missed_and_closed(server: Server) -> None:
    def held() -> tuple[int, int]:
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    before = held()
    client = engram.Client(server.url)
    client.spaces()
    assert held() != before
    with pytest.warns(ResourceWarning, match="not closed"):
        del client
    assert held() == before


def test_what_cannot_be_listed_by_over_http_is_refused(server: Server) -> None:
    with engram.Client(server.url) as client:
        space = client.ensure_space("filters")[0]
        for wanted in (Filter(tags_any=("a",)), Filter(metadata={"a": 1})):
            with pytest.raises(errors.Invalid, match="recall can"):
                space.list(wanted)
