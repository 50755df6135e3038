"""Deciding about beliefs: what is formed, and that none outlives what it rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
import pytest

from engram.errors import MemoryNotFound
from engram.memory.believing import Consolidate, Formed, Overtaken
from engram.memory.decide import Command, Forget, Latest, Purge, Remember, Restore, Revise, decide
from engram.memory.events import Event, MemoryConsolidated, MemoryStored
from engram.memory.model import Vector

NOW = 1_000
VECTOR = np.array([1.0, 2.0], np.float32)


def version(memory_id: str, revision: int = 1, expires_us: int | None = None) -> MemoryStored:
    return MemoryStored(
        id=memory_id,
        revision=revision,
        kind="belief" if memory_id in {"x", "y"} else "episode",
        content="text",
        tags=(),
        metadata={},
        confidence=1.0,
        occurred_us=None,
        expires_us=expires_us,
        source=None,
    )


class Known:
    """A space of episodes a to d; `x` rests on a, b and c and once did on d; `y` once did on a."""

    deleted = False
    RESTS: Final = {"x": ("a", "b", "c")}
    ONCE: Final = {"x": ("a", "b", "c", "d"), "y": ("a",)}

    def __init__(self, *dead: str, revised: Sequence[str] = (), expired: Sequence[str] = ()):
        self._dead, self._revised, self._expired = dead, revised, expired

    def latest(self, memory_id: str) -> Latest | None:
        if memory_id not in {*"abcd", *self.ONCE}:
            return None
        expires_us = NOW if memory_id in self._expired else None
        found = version(memory_id, 1 + (memory_id in self._revised), expires_us)
        return Latest(found, memory_id not in {"y", *self._dead})

    def vector(self, memory_id: str) -> Vector:
        return VECTOR

    def linked(self, source: str, target: str, relation: str) -> bool:
        return False

    def resting_on(self, memory_id: str) -> Sequence[str]:
        found = [belief for belief, sources in self.RESTS.items() if memory_id in sources]
        return [belief for belief in found if belief not in self._dead]

    def derived_from(self, memory_id: str) -> Sequence[str]:
        return [belief for belief, sources in self.ONCE.items() if memory_id in sources]

    def cited(self, memory_id: str) -> Sequence[tuple[str, int]]:
        return [(source, 1) for source in self.RESTS.get(memory_id, ())]


def shape(events: Sequence[Event]) -> list[tuple[str, ...]]:
    return [
        (type(e).__name__.removeprefix("Memory"), e.id, getattr(e, "reason", ""))  # type: ignore[union-attr]
        for e in events
    ]


@pytest.mark.parametrize(
    ("command", "known", "expected"),
    [
        (
            Forget("a", NOW),
            Known(),
            [("Forgotten", "a", "request"), ("Forgotten", "x", "source-forgotten")],
        ),
        (
            Revise("b", {"tags": ("t",)}, None, NOW),
            Known(),
            [("Revised", "b", ""), ("Forgotten", "x", "source-revised")],
        ),
        (Forget("d", NOW), Known(), [("Forgotten", "d", "request")]),
        (Forget("a", NOW), Known("x"), [("Forgotten", "a", "request")]),
        (Forget("x", NOW), Known(), [("Forgotten", "x", "request")]),
        (Revise("x", {"tags": ("t",)}, None, NOW), Known(), [("Revised", "x", "")]),
        (
            Remember([version("a", 0)], VECTOR[None], NOW),
            Known(expired=["a"]),
            [
                ("Forgotten", "a", "expired"),
                ("Stored", "a", ""),
                ("Forgotten", "x", "source-forgotten"),
            ],
        ),
        (Purge(["b"]), Known(), [("Purged", "b", ""), ("Purged", "x", "")]),
        (Purge(["d"]), Known("x"), [("Purged", "d", ""), ("Purged", "x", "")]),
        (
            Purge(["a", "b"]),
            Known(),
            [("Purged", "a", ""), ("Purged", "x", ""), ("Purged", "y", ""), ("Purged", "b", "")],
        ),
        (
            Purge(["a", "x"]),
            Known(),
            [("Purged", "a", ""), ("Purged", "y", ""), ("Purged", "x", "")],
        ),
        (Restore("x", NOW), Known("x"), [("Restored", "x", "")]),
    ],
)
def test_what_happens_to_memories_happens_to_the_beliefs_that_rest_on_them(
    command: Command, known: Known, expected: list[tuple[str, ...]]
) -> None:
    batch = decide(known, command, "alpha")
    assert shape(batch.events) == expected
    versions = sum(isinstance(event, MemoryStored) for event in batch.events)
    assert len(batch.vectors) == versions + (
        "Revised" in str(expected) or "Restored" in str(expected)
    )


@pytest.mark.parametrize(
    "known", [Known("x", "a"), Known("x", revised=["c"]), Known("x", expired=["b"])]
)
def test_a_belief_is_not_restored_onto_what_is_gone(known: Known) -> None:
    with pytest.raises(MemoryNotFound, match="consolidate"):
        decide(known, Restore("x", NOW), "alpha")


def formed(memory_id: str, sources: str, based_on: int | None = None) -> Formed:
    event = MemoryConsolidated(
        id=memory_id,
        revision=0,
        sources=tuple(sources),
        revisions=(1,) * len(sources),
        strength=0.9,
        citations=((0, 0, 4),),
        summariser="extractive",
    )
    return Formed(version(memory_id, 0), event, based_on)


def consolidate(*beliefs: Formed) -> Consolidate:
    vectors = np.arange(len(beliefs), dtype=np.float32)[:, None].repeat(2, 1)
    return Consolidate(beliefs, vectors, NOW)


def test_a_belief_is_stored_and_told_of_in_one_record() -> None:
    batch = decide(Known("x"), consolidate(formed("z", "abc")), "alpha")
    assert shape(batch.events) == [("Stored", "z", ""), ("Consolidated", "z", "")]
    assert [event.revision for event in batch.events] == [1, 1]  # type: ignore[union-attr]


def test_the_id_of_one_that_was_withdrawn_goes_on() -> None:
    batch = decide(Known("x"), consolidate(formed("x", "abd")), "alpha")
    assert shape(batch.events) == [("Stored", "x", ""), ("Consolidated", "x", "")]
    assert [event.revision for event in batch.events] == [2, 2]  # type: ignore[union-attr]


def test_one_that_has_expired_is_forgotten_first() -> None:
    batch = decide(Known(expired=["x"]), consolidate(formed("x", "abd")), "alpha")
    assert shape(batch.events)[:2] == [("Forgotten", "x", "expired"), ("Stored", "x", "")]


def test_a_belief_formed_anew_is_a_revision() -> None:
    batch = decide(Known(), consolidate(formed("x", "abcd", 1)), "alpha")
    assert shape(batch.events) == [("Revised", "x", ""), ("Consolidated", "x", "")]
    assert [event.revision for event in batch.events] == [2, 2]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("known", "belief"),
    [
        (Known("x", "a"), formed("z", "abd")),
        (Known("x", revised=["a"]), formed("z", "abd")),
        (Known("x", expired=["d"]), formed("z", "abd")),
        (Known("x"), formed("z", "abe")),
        (Known(), formed("z", "bd")),
        (Known(), formed("a", "bcd")),
        (Known("x"), formed("x", "abcd", 1)),
        (Known(revised=["x"]), formed("x", "abcd", 1)),
    ],
    ids=[
        "a source was forgotten",
        "a source was revised",
        "a source has expired",
        "a source was never there",
        "another belief rests on one",
        "the id is taken",
        "the belief was forgotten",
        "the belief was revised",
    ],
)
def test_what_does_not_hold_any_more_is_left_out(known: Known, belief: Formed) -> None:
    with pytest.raises(Overtaken):
        decide(known, consolidate(belief), "alpha")
    if "a" not in known._dead and known._revised != ["a"]:
        return
    batch = decide(known, consolidate(belief, formed("w", "bcd")), "alpha")
    assert shape(batch.events) == [("Stored", "w", ""), ("Consolidated", "w", "")]
    assert batch.vectors.tolist() == [[1.0, 1.0]]


def test_two_beliefs_do_not_rest_on_one_memory() -> None:
    batch = decide(Known("x"), consolidate(formed("z", "ab"), formed("w", "bc")), "alpha")
    assert {name for _, name, _ in shape(batch.events)} == {"z"}


def test_what_is_formed_says_what_it_was_formed_from() -> None:
    belief = formed("z", "abc")
    _, event = decide(Known("x"), consolidate(belief), "alpha").events
    assert event == msgspec.structs.replace(belief.event, revision=1)
