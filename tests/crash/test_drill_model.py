"""What the drill's model takes for right and for wrong, one promise at a time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from engram.drill.effects import (
    FORGOTTEN,
    PURGED,
    RECALLED,
    REVISED,
    SPREAD,
    STORED,
    Effect,
    Seen,
    Write,
    effect_of_memory,
)
from engram.drill.ledger import DELETED, GONE, LIVE, Ledger
from engram.drill.model import SpaceModel
from engram.drill.server import Server
from engram.drill.subscribers import ByStream
from engram.memory.model import Activated, Event, Forgotten, Memory, Recalled

SPACE = "words-1"
UUID = "0" * 32
TIME = datetime(2026, 1, 1, tzinfo=UTC)


def event(position: int, kind: str, **fields: Any) -> Event:
    given = {"memory_space_id": SPACE, "space_uuid": UUID, "time": TIME, **fields}
    return Event(position=position, type=kind, **given)


def memory(number: int, position: int, revision: int = 1, **fields: Any) -> Memory:
    given = {
        "id": f"{SPACE}.c1.{number}",
        "memory_space_id": SPACE,
        "kind": "episode",
        "content": f"{SPACE} c1 {number}.{revision}",
        "tags": (),
        "metadata": {},
        "confidence": 1.0,
        "occurred_at": None,
        "expires_at": None,
        "stored_at": TIME,
        "source": None,
        **fields,
    }
    return Memory(revision=revision, position=position, **given)


def stored(number: int, position: int, revision: int = 1, **fields: Any) -> Event:
    kind = STORED if revision == 1 else REVISED
    return event(position, kind, memory=memory(number, position, revision, **fields))


def forgotten(number: int, position: int) -> Event:
    return event(position, FORGOTTEN, id=f"{SPACE}.c1.{number}")


CREATED = event(1, "space.created")


def write(*events: Event) -> Write:
    effects = []
    for one in events:
        if one.memory is not None:
            effects.append(effect_of_memory(one.type, one.memory))
        else:
            effects.append(Effect(one.type, str(one.id)))
    return Write(SPACE, "a write", tuple(effects))


def acknowledge(model: SpaceModel, *events: Event) -> list[str]:
    """Announce these events as one write, and answer it; returns the kinds of violations."""
    made = write(*events)
    model.open.append(made)
    answers = [one.memory or Forgotten(id=str(one.id), position=one.position) for one in events]
    return [violation.kind for violation in model.acknowledge(made, answers)]


def settle(model: SpaceModel, *events: Event, listed: list[Memory] | None = None) -> list[str]:
    """Show these events behind the creation, and what they give; returns what is wrong."""
    living: dict[str, Memory] = {}
    for one in events:
        if one.memory is not None:
            living[one.memory.id] = one.memory
        elif one.type in {FORGOTTEN, PURGED}:
            living.pop(str(one.id), None)
    seen = Seen([CREATED, *events], list(living.values()) if listed is None else listed)
    return [violation.kind for violation in model.settle(seen)]


def test_what_was_acknowledged_and_is_there_is_right() -> None:
    model = SpaceModel(SPACE)
    assert acknowledge(model, stored(1, 2), stored(2, 3)) == []
    assert acknowledge(model, stored(1, 4, revision=2)) == []
    assert acknowledge(model, forgotten(2, 5)) == []
    history = [stored(1, 2), stored(2, 3), stored(1, 4, revision=2), forgotten(2, 5)]
    assert settle(model, *history) == []
    assert list(model.living) == [f"{SPACE}.c1.1"]
    assert model.forgotten == [f"{SPACE}.c1.2"]
    assert settle(model, *history) == []


def test_what_was_acknowledged_and_is_not_there_is_lost() -> None:
    model = SpaceModel(SPACE)
    acknowledge(model, stored(1, 2))
    acknowledge(model, stored(2, 3))
    found = list(model.settle(Seen([CREATED, stored(1, 2)], [memory(1, 2)])))
    assert [(one.kind, one.memory_id, one.position) for one in found] == [
        ("lost", f"{SPACE}.c1.2", 3)
    ]


BATCH = (stored(1, 2), stored(2, 3), stored(3, 4))


@pytest.mark.parametrize(
    ("there", "expected"),
    [(BATCH, []), ((), []), (BATCH[:1], ["half a batch"]), (BATCH[:2], ["half a batch"])],
)
def test_what_was_not_answered_is_there_whole_or_not_at_all(
    there: tuple[Event, ...], expected: list[str]
) -> None:
    model = SpaceModel(SPACE)
    model.open.append(write(*BATCH))
    assert settle(model, *there) == expected
    assert model.found_unanswered == bool(there)


def test_what_was_settled_stays() -> None:
    model = SpaceModel(SPACE)
    model.open.append(write(*BATCH))
    assert settle(model) == []
    assert set(settle(model, *BATCH)) == {"phantom"}
    other = SpaceModel(SPACE)
    other.open.append(write(*BATCH))
    assert settle(other, *BATCH) == []
    assert set(settle(other)) == {"lost"}


@pytest.mark.parametrize(
    ("strange", "expected"),
    [
        (stored(9, 3), "phantom"),
        (forgotten(1, 3), "phantom"),
        (event(3, "space.created"), "phantom"),
        (event(3, "space.exploded"), "phantom"),
        (event(3, RECALLED, recall_id="r", results=()), "phantom"),
        (stored(9, 3, id="words-2.c1.9"), "foreign"),
        (stored(9, 3, content="words-2 c1 9"), "foreign"),
        (stored(1, 4, revision=2), "position not dense"),
        (stored(1, 2, revision=2), "position not dense"),
    ],
)
def test_what_nobody_asked_for_is_found(strange: Event, expected: str) -> None:
    model = SpaceModel(SPACE)
    acknowledge(model, stored(1, 2))
    assert expected in settle(model, stored(1, 2), strange)


def test_an_event_of_another_space_or_incarnation_is_foreign() -> None:
    for fields in ({"memory_space_id": "words-2"}, {"space_uuid": "1" * 32}):
        model = SpaceModel(SPACE, uuid=UUID)
        model.recalls_unanswered = 1
        assert "foreign" in settle(model, event(2, RECALLED, recall_id="r", results=(), **fields))


CHANGES: list[Callable[[Event], Event]] = [
    lambda one: stored(1, 2, content=f"{SPACE} c1 other"),
    lambda one: stored(1, 2, tags=("other",)),
    lambda one: stored(1, 2, metadata={"n": 2}),
    lambda one: stored(2, 2),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_position_that_means_something_else_is_found(change: Callable[[Event], Event]) -> None:
    model = SpaceModel(SPACE)
    acknowledge(model, stored(1, 2))
    assert "lost" in settle(model, change(stored(1, 2)))
    read_before = SpaceModel(SPACE)
    acknowledge(read_before, stored(1, 2))
    assert settle(read_before, stored(1, 2)) == []
    assert "history changed" in settle(read_before, change(stored(1, 2)))


def test_a_position_that_is_given_twice_is_found() -> None:
    model = SpaceModel(SPACE)
    acknowledge(model, stored(1, 2))
    assert acknowledge(model, stored(2, 2)) == ["position reused"]
    settle(model, stored(1, 2))
    assert acknowledge(model, stored(3, 2)) == ["position reused"]


def test_a_revision_continues() -> None:
    model = SpaceModel(SPACE)
    acknowledge(model, stored(1, 2))
    acknowledge(model, forgotten(1, 3))
    again = event(4, STORED, memory=memory(1, 4, revision=2))
    acknowledge(model, again)
    assert settle(model, stored(1, 2), forgotten(1, 3), again) == []
    skipped = SpaceModel(SPACE)
    acknowledge(skipped, stored(1, 2))
    acknowledge(skipped, stored(1, 3, revision=3))
    assert "wrong revision" in settle(skipped, stored(1, 2), stored(1, 3, revision=3))


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ([], "lost"),
        ([memory(1, 2), memory(1, 2)], "phantom"),
        ([memory(1, 2), memory(2, 3)], "phantom"),  # it was forgotten
        ([memory(1, 2), memory(7, 9)], "phantom"),
        ([memory(1, 2), memory(7, 9, content="words-2 c1 7")], "foreign"),
        ([memory(1, 2, content=f"{SPACE} c1 other")], "changed"),
        ([memory(1, 2, tags=("other",))], "changed"),
        ([memory(1, 2, metadata={"n": 2})], "changed"),
        ([memory(1, 2, revision=2, content=f"{SPACE} c1 1.1")], "changed"),
        ([memory(1, 4)], "changed"),
    ],
)
def test_a_list_that_does_not_agree_with_the_log_is_found(
    listed: list[Memory], expected: str
) -> None:
    model = SpaceModel(SPACE)
    history = (stored(1, 2), stored(2, 3), forgotten(2, 4))
    for one in history:
        acknowledge(model, one)
    assert settle(model, *history, listed=listed) == [expected]


def test_a_recall_is_on_record_once_and_of_what_was_here() -> None:
    def recalled(position: int, memory_id: str = f"{SPACE}.c1.1") -> Event:
        found = (Recalled(memory_id, 0.5),)
        return event(position, RECALLED, recall_id="r", results=found)

    for found, expected in (
        ([recalled(3)], []),
        ([], []),  # the last of them may be lost
        ([recalled(3), recalled(4)], ["phantom"]),
        ([recalled(3, "words-2.c1.1")], ["phantom"]),
    ):
        model = SpaceModel(SPACE)
        acknowledge(model, stored(1, 2))
        model.recalls_answered.add("r")
        assert settle(model, stored(1, 2), *found) == expected


def test_what_a_recall_lit_stands_behind_it() -> None:
    def spread(position: int, recall_id: str = "r", memory_id: str = f"{SPACE}.c1.1") -> Event:
        lit = (Activated(memory_id, 0.5, 1),)
        return event(position, SPREAD, recall_id=recall_id, activated=lit)

    recall = event(3, RECALLED, recall_id="r", results=())
    for found, expected in (
        ([recall, spread(4)], []),
        ([spread(3)], ["phantom"]),
        ([recall, spread(4, recall_id="other")], ["phantom"]),
        ([recall, spread(4), spread(5)], ["phantom"]),
        ([recall, spread(4, memory_id="words-2.c1.1")], ["phantom"]),
    ):
        model = SpaceModel(SPACE)
        acknowledge(model, stored(1, 2))
        model.recalls_answered.add("r")
        assert settle(model, stored(1, 2), *found) == expected


def test_an_answer_that_says_something_else_is_found() -> None:
    model = SpaceModel(SPACE)
    made = write(stored(1, 2), stored(2, 3))
    model.open.append(made)
    found = list(model.acknowledge(made, [memory(1, 2, content=f"{SPACE} c1 other")]))
    assert [one.kind for one in found] == ["wrong answer", "wrong answer"]


def test_spaces_are_in_a_state_that_was_asked_for() -> None:
    ledger = Ledger()
    for name in ("words-1", "words-2", "words-ending-c1"):
        ledger.announce(name, LIVE)
        ledger.settle_state(name, LIVE)
    ledger.announce("words-3", LIVE)
    ledger.announce("words-4", LIVE)
    ledger.announce("words-ending-c1", DELETED)
    ledger.settle_spaces(["words-1", "words-2", "words-3"], ["words-ending-c1"])
    assert ledger.violations == []
    assert ledger.shared == ["words-1", "words-2", "words-3"]
    assert ledger.found_unanswered == 2
    ledger.settle_spaces(["words-1", "words-4", "words-5", "words-ending-c1"], ["words-3"])
    assert {(one.kind, one.space) for one in ledger.violations} == {
        ("lost", "words-2"),
        ("lost", "words-3"),  # deleted by nobody
        ("phantom", "words-4"),  # found not to be there before
        ("phantom", "words-5"),
        ("phantom", "words-ending-c1"),  # restored by nobody
    }


def test_a_purged_space_begins_anew() -> None:
    ledger = Ledger()
    ledger.announce(SPACE, LIVE)
    ledger.settle_state(SPACE, LIVE)
    assert acknowledge(ledger.models[SPACE], stored(1, 2)) == []
    assert settle(ledger.models[SPACE], stored(1, 2)) == []
    ledger.models[SPACE].uuid = UUID
    for state in (DELETED, GONE):
        ledger.announce(SPACE, state)
        ledger.settle_state(SPACE, state)
    ledger.announce(SPACE, LIVE)
    assert ledger.models[SPACE].former == {UUID}
    assert set(settle(ledger.models[SPACE], stored(1, 2))) == {"phantom"}


@pytest.mark.parametrize(
    ("asked", "types", "expected"),
    [
        (2, ["space.deleted", "space.restored"], []),
        (0, ["space.deleted", "space.restored"], ["phantom", "phantom"]),
        (2, ["space.deleted"], ["impossible event"]),
        (2, ["space.restored"], ["impossible event"]),
    ],
)
def test_a_deletion_is_followed_by_its_restoration(
    asked: int, types: list[str], expected: list[str]
) -> None:
    model = SpaceModel(SPACE, endings=asked)
    assert settle(model, *(event(n, kind) for n, kind in enumerate(types, 2))) == expected


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ((CREATED, stored(1, 2)), []),
        ((CREATED, stored(1, 2), stored(1, 2)), ["position repeated"]),
        ((CREATED, stored(1, 3)), ["position skipped"]),
        ((CREATED, stored(2, 2)), ["told what is not logged"]),
        ((CREATED, stored(1, 2), stored(2, 3)), ["told what is not logged"]),
        ((event(1, "space.created", memory_space_id="words-2"),), ["foreign"]),
    ],
)
def test_a_subscriber_is_told_the_log(
    told: tuple[Event, ...], expected: list[str], tmp_path: Any
) -> None:
    model = SpaceModel(SPACE)
    acknowledge(model, stored(1, 2))
    settle(model, stored(1, 2))
    subscriber = ByStream(SPACE, Server(tmp_path))
    for one in told:
        subscriber.take(one)
    assert [one.kind for one in subscriber.check(model)] == expected
