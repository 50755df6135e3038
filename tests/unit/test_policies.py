"""The forms of a forgetting policy, what is refused, and what a decider lets it do."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.errors import Invalid
from engram.memory.decide import Latest, Sweep, decide
from engram.memory.durations import DURATION_S_MAX
from engram.memory.events import MemoryForgotten, MemoryStored
from engram.memory.forgetting import (
    CAPACITY_MAX,
    FORGET_NOTHING,
    GRACE_S_DEFAULT,
    LEVEL_MAX,
    Forgetting,
    Judged,
    NothingLeft,
)
from engram.memory.kinds import KINDS
from engram.memory.model import Vector
from engram.memory.policies import check_forgetting, checked_forgetting, parse_forgetting
from engram.memory.settings import Settings
from tests.unit.test_decide import NOW, version

tags = st.text(st.sampled_from("ab ,%:é"), min_size=1, max_size=8)
policies = st.builds(
    Forgetting,
    capacity=st.integers(1, CAPACITY_MAX),
    threshold=st.none(),
    spare_kinds=st.sets(st.sampled_from(KINDS)).map(
        lambda kinds: tuple(kind for kind in KINDS if kind in kinds)
    ),
    spare_tags=st.lists(tags, max_size=3, unique=True).map(tuple),
) | st.builds(
    Forgetting,
    capacity=st.none() | st.integers(1, CAPACITY_MAX),
    threshold=st.floats(-LEVEL_MAX, LEVEL_MAX),
    grace_s=st.none() | st.integers(0, DURATION_S_MAX),
    spare_tags=st.lists(tags, max_size=3, unique=True).map(tuple),
)


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("none", FORGET_NOTHING),
        ("capacity:50000", Forgetting(capacity=50_000)),
        ("threshold:-7.5", Forgetting(threshold=-7.5, grace_s=GRACE_S_DEFAULT)),
        ("threshold:-1e2,grace:0s", Forgetting(threshold=-100.0, grace_s=0)),
        (
            "grace:30d,spare:fact,spare-tag:pinned,threshold:1,spare:belief,capacity:1",
            Forgetting(
                capacity=1,
                threshold=1.0,
                grace_s=30 * 24 * 3_600,
                spare_kinds=("belief", "fact"),
                spare_tags=("pinned",),
            ),
        ),
        ("capacity:2,spare-tag:a%2Cb%252C", Forgetting(capacity=2, spare_tags=("a,b%2C",))),
    ],
)
def test_the_textual_forms(text: str, policy: Forgetting) -> None:
    assert check_forgetting("forgetting", text) == policy
    assert parse_forgetting("forgetting", str(policy)) == policy
    assert bool(policy) == (text != "none")


@given(policies)
def test_every_policy_comes_back_from_its_forms(policy: Forgetting) -> None:
    # What is stored is what is checked, in its textual form too.
    assert parse_forgetting("forgetting", str(policy)) == policy
    assert check_forgetting("forgetting", policy) == policy
    assert msgspec.json.decode(msgspec.json.encode(policy), type=Forgetting) == policy
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(policy), type=Forgetting) == policy


@pytest.mark.parametrize(
    "text",
    [
        *("", "all", "capacity", "capacity:", "capacity:-1", "capacity:1.5", "capacity:0"),
        *("capacity:1000000001", "capacity:99999999999999999999", "capacity:1,capacity:2"),
        *("threshold:", "threshold:nan", "threshold:inf", "threshold:low", "threshold:1e300"),
        *("grace:1d", "capacity:1,grace:1d", "threshold:1,grace:1w", "threshold:1,grace:-1d"),
        *("threshold:1,grace:99999999d", "spare:belief", "capacity:1,spare:beliefs"),
        *("capacity:1,spare-tag:", "capacity:1,spare-tag:" + 129 * "x", "spare-tag:a"),
        *("none,capacity:1", "capacity:1,", "Capacity:1", "capacity: 1"),
    ],
)
def test_what_is_no_policy_as_text(text: str) -> None:
    with pytest.raises(Invalid, match="forgetting"):
        check_forgetting("forgetting", text)


NO_PARTS: dict[str, Any] = {
    "capacity": None,
    "threshold": None,
    "grace_s": None,
    "spare_kinds": [],
    "spare_tags": [],
}


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ({"capacity": 0}, "forgetting.capacity"),
        ({"capacity": -5}, "forgetting.capacity"),
        ({"capacity": True}, "forgetting.capacity"),
        ({"capacity": 1.0}, "forgetting.capacity"),
        ({"capacity": "5"}, "forgetting.capacity"),
        ({"capacity": CAPACITY_MAX + 1}, "forgetting.capacity"),
        ({"threshold": math.nan}, "forgetting.threshold"),
        ({"threshold": -math.inf}, "forgetting.threshold"),
        ({"threshold": 10**400}, "forgetting.threshold"),
        ({"threshold": False}, "forgetting.threshold"),
        ({"threshold": -7.5, "grace_s": -1}, "forgetting.grace_s"),
        ({"threshold": -7.5, "grace_s": 1.5}, "forgetting.grace_s"),
        ({"threshold": -7.5, "grace_s": DURATION_S_MAX + 1}, "forgetting.grace_s"),
        ({"capacity": 5, "grace_s": 5}, "forgetting.grace_s"),
        ({"spare_kinds": ["belief"]}, "forgetting"),
        ({"spare_tags": ["a"]}, "forgetting"),
        ({"capacity": 5, "spare_kinds": ["beliefs"]}, "forgetting.spare_kinds[0]"),
        ({"capacity": 5, "spare_kinds": "belief"}, "forgetting.spare_kinds"),
        ({"capacity": 5, "spare_kinds": None}, "forgetting.spare_kinds"),
        ({"capacity": 5, "spare_tags": ["a", ""]}, "forgetting.spare_tags[1]"),
        ({"capacity": 5, "spare_tags": 65 * ["a"]}, "forgetting.spare_tags"),
    ],
)
def test_what_is_no_policy_in_parts(parts: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        checked_forgetting("forgetting", **{**NO_PARTS, **parts})
    assert [error.field for error in refused.value.errors] == [field]


@pytest.mark.parametrize("value", [None, 5, {"capacity": 5}, Forgetting])
def test_only_a_policy_or_text_is_taken(value: object) -> None:
    with pytest.raises(Invalid, match=r"must be engram\.Forgetting or text"):
        check_forgetting("forgetting", value)


@pytest.mark.parametrize(
    "stored",
    [
        {"threshold": math.nan},
        {"capacity": 0},
        {"capacity": 5, "grace_s": 5},
        {"capacity": 5, "spare_kinds": ["beliefs"]},
        {"threshold": 2e9},
        {"threshold": -(10**10)},
    ],
)
def test_a_file_cannot_hold_what_is_no_policy(stored: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(stored), type=Forgetting)


class Known:
    """A space of these memories, and how many live beside them."""

    deleted = False

    def __init__(self, *known: Latest, others: int, policy: Forgetting) -> None:
        self._known = {latest.version.id: latest for latest in known}
        self._others = others
        self.settings = Settings(forgetting=policy)
        self.beliefs: dict[str, list[str]] = {}

    def latest(self, memory_id: str) -> Latest | None:
        return self._known.get(memory_id)

    def vector(self, memory_id: str) -> Vector:
        raise KeyError(memory_id)

    def linked(self, source: str, target: str, relation: str) -> bool:
        return False

    def resting_on(self, memory_id: str) -> list[str]:
        return self.beliefs.get(memory_id, [])

    def derived_from(self, memory_id: str) -> list[str]:
        return []

    def cited(self, memory_id: str) -> list[tuple[str, int]]:
        return []

    def living(self, now_us: int) -> int:
        return self._others + sum(latest.lives_at(now_us) for latest in self._known.values())


def lives(memory_id: str, revision: int = 1, **fields: Any) -> Latest:
    return Latest(version(memory_id, revision=revision, **fields), True)


def judged(*named: tuple[str, str], policy: Forgetting) -> Sweep:
    return Sweep([Judged(i, 1, reason, -2.5) for i, reason in named], NOW, policy)


BOTH = Forgetting(capacity=10, threshold=-2.0)


def gone(known: Known, *named: tuple[str, str], policy: Forgetting = BOTH) -> list[str]:
    try:
        events = decide(known, judged(*named, policy=policy), "alpha").events
    except NothingLeft:
        return []
    assert all(isinstance(event, MemoryForgotten) for event in events)
    return [event.id for event in events if isinstance(event, MemoryForgotten)]


def test_a_policy_says_why() -> None:
    known = Known(lives("a"), lives("b"), lives("c", expires_us=NOW), others=10, policy=BOTH)
    sweep = judged(("c", "expired"), ("a", "faded"), ("b", "capacity"), policy=BOTH)
    expired, faded, beyond = decide(known, sweep, "alpha").events
    assert expired == MemoryForgotten(id="c", revision=1, reason="expired", base_level=-2.5)
    assert faded == MemoryForgotten(id="a", revision=1, reason="faded", base_level=-2.5, bound=-2.0)
    assert beyond == MemoryForgotten(
        id="b", revision=1, reason="capacity", base_level=-2.5, bound=10.0
    )


@pytest.mark.parametrize(("others", "left"), [(7, 0), (8, 0), (9, 1), (10, 2), (50, 2)])
def test_no_more_go_than_are_too_many_when_it_is_decided(others: int, left: int) -> None:
    known = Known(lives("a"), lives("b"), others=others, policy=BOTH)
    assert gone(known, ("a", "capacity"), ("b", "capacity")) == ["a", "b"][:left]


def test_what_has_faded_makes_room() -> None:
    known = Known(lives("a"), lives("b"), lives("c"), others=9, policy=BOTH)  # two too many
    assert gone(known, ("c", "faded"), ("a", "capacity"), ("b", "capacity")) == ["c", "a"]


def test_what_a_spared_belief_rests_on_stays_and_other_beliefs_count() -> None:
    beliefs = [lives("x", kind="belief"), lives("y", kind="belief", tags=("pinned",))]
    policy = Forgetting(capacity=10, threshold=-2.0, spare_tags=("pinned",))
    known = Known(*map(lives, "abc"), *beliefs, others=7, policy=policy)  # two too many
    known.beliefs = {"a": ["y"], "b": ["x"]}
    named = [("a", "capacity"), ("b", "capacity"), ("c", "capacity")]
    # With b goes x, so that c may stay; a holds up what is spared.
    events = decide(known, judged(*named, policy=policy), "alpha").events
    told = [(e.id, e.reason) for e in events if isinstance(e, MemoryForgotten)]
    assert told == [("b", "capacity"), ("x", "source-forgotten")]
    assert gone(known, ("a", "faded"), policy=policy) == []


def test_what_was_changed_since_it_was_judged_stays() -> None:
    dead = Latest(version("d", revision=1), False)
    late = lives("e", expires_us=NOW)
    known = Known(lives("a", 2), lives("b"), dead, late, others=50, policy=BOTH)
    for reason in ("faded", "capacity"):
        assert gone(known, *[(memory_id, reason) for memory_id in "abcde"]) == ["b"]


@pytest.mark.parametrize(
    "holds", [FORGET_NOTHING, Forgetting(capacity=60, threshold=-2.0), Forgetting(capacity=10)]
)
def test_a_policy_that_holds_no_more_has_nothing_go(holds: Forgetting) -> None:
    known = Known(lives("a"), lives("b"), lives("c", expires_us=NOW), others=50, policy=holds)
    named = [("a", "faded"), ("b", "capacity"), ("c", "expired")]
    assert gone(known, *named) == ["c"]


def test_a_memory_is_stored_as_ever() -> None:
    """Old logs have events without the fields that say why."""
    old = msgspec.msgpack.encode(["memory.forgotten", "a", 1, "request"])
    decoded = msgspec.msgpack.decode(old, type=MemoryForgotten | MemoryStored)
    assert decoded == MemoryForgotten(id="a", revision=1, reason="request")
