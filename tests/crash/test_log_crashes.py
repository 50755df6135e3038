"""Crashes at every point of a log's life, recovery included."""

from __future__ import annotations

import pytest

from tests.crash.histories import (
    HISTORIES,
    Books,
    Budget,
    History,
    Seen,
    check,
    check_aftermath,
    crashes,
    crashes_in_recovery,
    fresh_space,
    play,
    random_history,
    repeat,
)

THOROUGH = Budget(few=250, samples=40)
WITHIN_RECOVERY = Budget(few=30, samples=6)
SAMPLED = Budget(few=12, samples=5)
RANDOM_HISTORIES = 40


def crash_everywhere(name: str, history: History, budget: Budget, again: Budget | None) -> int:
    """Check every crash of a history and, with `again`, every crash of each first recovery.

    Returns how many different states were checked.
    """
    seen = Seen()
    for aftermath in crashes(name, history, budget):
        if not seen.is_new(aftermath):
            continue
        check_aftermath(aftermath)
        for second in crashes_in_recovery(aftermath, again) if again else ():
            if seen.is_new(second):
                check_aftermath(second)
    return seen.checked


@pytest.mark.parametrize("name", HISTORIES)
def test_a_crash_at_any_point_loses_nothing_acknowledged(name: str) -> None:
    assert crash_everywhere(name, HISTORIES[name], THOROUGH, None) > 30


@pytest.mark.parametrize("name", HISTORIES)
def test_a_crash_while_recovering_from_a_crash_is_just_another_crash(name: str) -> None:
    assert crash_everywhere(name, HISTORIES[name], SAMPLED, WITHIN_RECOVERY) > 30


@pytest.mark.parametrize("seed", range(RANDOM_HISTORIES))
def test_a_crash_in_a_random_history_loses_nothing_acknowledged(seed: int) -> None:
    crash_everywhere(f"random{seed}", random_history(seed), SAMPLED, None)


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_without_a_crash_keeps_everything(name: str) -> None:
    disk, books = fresh_space(), Books()
    play(disk, HISTORIES[name], books)
    books.acknowledged = len(books.submitted)
    check(disk, books)


@pytest.mark.parametrize("how", ["lost", "kept", "killed", "outcome1", "sample2"])
def test_a_failure_s_path_leads_back_to_the_same_state(how: str) -> None:
    repeat(f"groups@5+{how}")
    repeat(f"groups@5+sample1@3-{how}")
