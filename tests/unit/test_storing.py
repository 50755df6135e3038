"""Remembering where ids may live, and changing only what is as it was: decided, as tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engram.errors import EngramError, Invalid, MemoryExists, Stale
from engram.memory.decide import (
    Forget,
    ForgetMatching,
    Latest,
    Purge,
    Remember,
    Restore,
    Revise,
    decide,
)
from engram.memory.etags import etag_of, expected_of
from engram.memory.events import MemoryForgotten, MemoryRevised, MemoryStored
from engram.memory.forgetting import NothingLeft
from engram.memory.storing import left_standing
from tests.unit.test_decide import NOW, Fake, version

UUID = "0123456789abcdef0123456789abcdef"
LIVES = Latest(version("lives", revision=3), True, 7, 70)
DEAD = Latest(version("dead", revision=2), False, 8, 80)
OVER = Latest(version("over", revision=5, expires_us=NOW), True, 9, 90)
HUSK = Latest(version("husk", revision=4, content=""), False, 10, 100)
SPACE = Fake(LIVES, DEAD, OVER, HUSK)


def batch(*ids: str, on_conflict: Any, **fields: Any) -> Remember:
    vectors = np.arange(len(ids) * 2, dtype=np.float32).reshape(-1, 2)
    return Remember([version(each, **fields) for each in ids], vectors, NOW, on_conflict)


def told(events: Any) -> list[tuple[type, str, int]]:
    return [(type(event), event.id, event.revision) for event in events]


@pytest.mark.parametrize(
    ("on_conflict", "of_lives", "rows"),
    [("skip", [], [0, 2, 3, 4]), ("replace", [(MemoryRevised, "lives", 4)], [0, 1, 2, 3, 4])],
)
def test_only_what_lives_is_in_the_way(on_conflict: str, of_lives: Any, rows: list[int]) -> None:
    command = batch("new", "lives", "dead", "over", "husk", on_conflict=on_conflict)
    decided = decide(SPACE, command, "alpha")
    assert told(decided.events) == [
        (MemoryStored, "new", 1),
        *of_lives,
        (MemoryStored, "dead", 3),
        (MemoryForgotten, "over", 5),
        (MemoryStored, "over", 6),
        (MemoryStored, "husk", 5),
    ]
    assert decided.vectors.tolist() == command.vectors[rows].tolist()
    standing = left_standing(SPACE, command, decided.events)
    assert standing == ((LIVES,) if on_conflict == "skip" else ())


def test_what_is_replaced_is_replaced_whole_but_keeps_its_kind() -> None:
    fields = {"content": "new", "tags": (), "metadata": {}, "source": None, "occurred_us": None}
    (event,) = decide(SPACE, batch("lives", on_conflict="replace", **fields), "alpha").events
    assert event == MemoryRevised(
        id="lives", revision=4, kind="episode", confidence=0.5, expires_us=None, **fields
    )
    with pytest.raises(Invalid, match=r"memories\[1\].kind: is 'fact'"):
        decide(SPACE, batch("new", "lives", on_conflict="replace", kind="fact"), "alpha")


def test_a_batch_that_is_skipped_whole_causes_nothing() -> None:
    decided = decide(SPACE, batch("lives", on_conflict="skip"), "alpha")
    assert (list(decided.events), len(decided.vectors)) == ([], 0)


@pytest.mark.parametrize("on_conflict", ["error", "skip", "replace"])
def test_an_id_stands_once_in_a_batch_whatever_is_to_be_done(on_conflict: str) -> None:
    with pytest.raises(Invalid, match="stands twice"):
        decide(SPACE, batch("new", "new", on_conflict=on_conflict), "alpha")


def test_by_default_one_that_lives_refuses_all() -> None:
    with pytest.raises(MemoryExists):
        decide(SPACE, batch("new", "lives", on_conflict="error"), "alpha")


class Believed(Fake):
    """`b` is a belief that rests on `a`."""

    def resting_on(self, memory_id: str) -> list[str]:
        return ["b"] if memory_id == "a" else []


def test_a_belief_is_not_replaced_beside_what_it_rests_on() -> None:
    known = Believed(Latest(version("a", revision=1), True), Latest(version("b", revision=1), True))
    with pytest.raises(Invalid, match="'b' is a belief"):
        decide(known, batch("a", "b", on_conflict="replace"), "alpha")
    decided = decide(known, batch("a", on_conflict="replace"), "alpha")
    assert told(decided.events) == [(MemoryRevised, "a", 2), (MemoryForgotten, "b", 1)]


CHANGES: list[Any] = [
    (lambda expected: Revise("lives", {"source": None}, None, NOW, expected), 7),
    (lambda expected: Forget("lives", NOW, expected), 7),
    (lambda expected: Restore("dead", NOW, expected), 8),
    (lambda expected: Purge(("dead",), expected), 8),
]


@pytest.mark.parametrize(("command", "position"), CHANGES)
def test_only_what_is_expected_is_changed(command: Any, position: int) -> None:
    for good in (None, frozenset({position}), frozenset({1, position})):
        assert decide(SPACE, command(good), "alpha").events
    for bad in (frozenset(), frozenset({position + 1})):
        with pytest.raises(Stale) as caught:
            decide(SPACE, command(bad), "alpha")
        assert caught.value.memory_space_id == "alpha"


def test_what_is_not_there_is_said_to_be_missing_before_it_is_stale() -> None:
    with pytest.raises(EngramError, match="there is no memory"):
        decide(SPACE, Forget("none", NOW, frozenset()), "alpha")


def test_of_what_matched_only_that_goes_which_is_still_the_same() -> None:
    matched = [("lives", 3), ("dead", 2), ("over", 5), ("none", 1)]
    decided = decide(SPACE, ForgetMatching(matched, NOW), "alpha")
    assert told(decided.events) == [(MemoryForgotten, "lives", 3)]
    with pytest.raises(NothingLeft):
        decide(SPACE, ForgetMatching([("lives", 2)], NOW), "alpha")


def test_an_etag_is_of_one_revision_of_one_incarnation() -> None:
    other = UUID[::-1]
    etags = [etag_of(UUID, 7), etag_of(UUID, 8), etag_of(other, 9), "7", "", "x" * 33 + "-7"]
    assert expected_of("if_match", etags[:4] + etags[5:], UUID) == {7, 8}
    assert expected_of("if_match", etags[2], UUID) == frozenset()
    assert expected_of("if_match", (), UUID) == frozenset()
    assert expected_of("if_match", "*", UUID) is None
    assert expected_of("if_match", None, UUID) is None
    for wrong in (7, b"7", ["a", 1], "", [""]):
        with pytest.raises(Invalid):
            expected_of("if_match", wrong, UUID)
