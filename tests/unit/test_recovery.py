"""The recovery plan as a table; docs/FORMAT.md has the same one."""

from __future__ import annotations

import pytest

from wal.codec import Bad, End
from wal.recovery import Append, Later, Plan, Refuse, SetAside, TailSeen, plan_tail

# The first missing position is 7; what does not verify begins at byte 5000.
END, BAD = End(5_000), Bad(5_000, "it does not verify")


def later(*synced: int) -> list[Later]:
    return [Later(6_000 + i, 8 + i, position) for i, position in enumerate(synced)]


@pytest.mark.parametrize(
    ("stop", "durable", "behind", "expected"),
    [
        # a clean end
        (END, 0, [], Append),
        (END, 6, [], Append),
        (END, 7, [], Refuse),  # a position known durable is missing
        (END, 900, [], Refuse),
        # bytes that do not verify, and nothing that proves they were synced
        (BAD, 0, [], SetAside),
        (BAD, 6, [], SetAside),
        (BAD, 6, later(6), SetAside),  # the rest of the same unsynced group
        (BAD, 6, later(6, 6, 5), SetAside),
        # proof, from in front or from behind
        (BAD, 7, [], Refuse),
        (BAD, 6, later(7), Refuse),
        (BAD, 6, later(6, 7), Refuse),
        (BAD, 6, later(100), Refuse),
        (BAD, 7, later(7), Refuse),
    ],
)
def test_the_plan_for_the_end_of_a_log(
    stop: End | Bad, durable: int, behind: list[Later], expected: type[Plan]
) -> None:
    plan = plan_tail(TailSeen(stop, 7, durable, behind))
    assert type(plan) is expected
    assert plan.offset == 5_000


def test_a_refusal_says_what_proves_the_damage() -> None:
    plan = plan_tail(TailSeen(BAD, 7, 0, later(6, 7)))
    assert isinstance(plan, Refuse)
    assert "it does not verify" in plan.reason
    assert "6001" in plan.reason
    assert "position 7 " in plan.reason


def test_a_torn_tail_keeps_its_reason() -> None:
    assert plan_tail(TailSeen(BAD, 7, 6, [])) == SetAside(5_000, "it does not verify")
