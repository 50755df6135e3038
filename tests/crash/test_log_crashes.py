"""Crashes at every point of a log's life, recovery included."""

from __future__ import annotations

import pytest

from tests.crash.histories import (
    HISTORIES,
    SPACE,
    Books,
    Budget,
    History,
    Seen,
    check,
    check_aftermath,
    crashes,
    crashes_in_recovery,
    fresh_space,
    open_log,
    play,
    random_history,
    repeat,
)
from wal.sim_vfs import SimDisk

THOROUGH = Budget(few=250, samples=40)
WITHIN_RECOVERY = Budget(few=30, samples=6)
SAMPLED = Budget(few=12, samples=5)
RANDOM_HISTORIES = 30


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


def check_torn_bytes_are_kept(name: str) -> int:
    """A torn tail is in its segment or, as a whole, in quarantine, whenever recovery crashes.

    Returns how many torn tails were met.
    """
    torn = 0
    for start in crashes(name, HISTORIES[name], SAMPLED):
        disk = start.disk.clone()
        log = open_log(disk)
        log.close()
        if log.opened.quarantined is None:
            continue
        torn += 1
        tail = _files(disk, "quarantine")[log.opened.quarantined]
        assert len(tail) == log.opened.quarantined_bytes
        segment = log.opened.quarantined.split(".")[0] + ".seg"
        for crash in crashes_in_recovery(start, WITHIN_RECOVERY):
            kept = tail in _files(crash.disk, "quarantine").values()
            assert kept or _files(crash.disk, "log")[segment].endswith(tail), crash.path
    return torn


def _files(disk: SimDisk, name: str) -> dict[str, bytes]:
    space = disk.contents()[SPACE]
    assert isinstance(space, dict)
    inner = space[name]
    assert isinstance(inner, dict)
    return {name: data for name, data in inner.items() if isinstance(data, bytes)}


@pytest.mark.parametrize("name", ["groups", "records larger than an allocation"])
def test_a_torn_tail_is_never_lost_while_it_is_set_aside(name: str) -> None:
    assert check_torn_bytes_are_kept(name) > 5


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_without_a_crash_keeps_everything(name: str) -> None:
    disk, books = fresh_space(), Books()
    play(disk, HISTORIES[name], books)
    books.acknowledged = len(books.submitted)
    check(disk, books)


@pytest.mark.parametrize("path", ["lost", "kept", "killed", "outcome1", "sample2"])
def test_a_failure_s_path_leads_back_to_its_state(path: str) -> None:
    repeat(f"groups@5+{path}")
    repeat(f"groups@5+{path}@3-killed")
