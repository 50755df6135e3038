"""Random histories of a log, each crashed everywhere: as many states as one likes, from a seed on.

Every seed is a history of its own (:func:`tests.crash.histories.random_history`). Each state that
a crash may leave is recovered, compared with the books, and recovered once more after a loss of
power; every so manieth one is also written to, closed and opened again, and crashed in recovery.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from tests.crash.histories import (
    Aftermath,
    Books,
    Budget,
    Fact,
    Seen,
    check,
    check_facts,
    crashes,
    crashes_in_recovery,
    random_history,
    recover,
)
from wal.sim_vfs import SimDisk, lose_everything

BUDGET: Final = Budget(few=60, samples=30)
IN_RECOVERY: Final = Budget(few=12, samples=3)
THOROUGH_EVERY: Final = 10
RECOVERY_EVERY: Final = 40


class Explored(NamedTuple):
    """What came of one seed. `failure` says what is wrong, and how to see it again."""

    seed: int
    states: int
    failure: str | None


def check_briefly(disk: SimDisk, books: Books) -> None:
    """What recovery finds is right, and stays what it is when the power fails behind it."""
    log, found = recover(disk)
    check_facts(found, books)
    assert [Fact.of(r) for r in log.read(1)] == found, "reading differs from replay"
    log, again = recover(disk.crash(lose_everything()))
    assert again == found, "recovery run twice gives something else than once"
    assert log.opened.quarantined is None, "the second recovery had something to mend"
    assert not disk.misuses, disk.misuses


def states_of(seed: int, seen: Seen) -> Iterator[Aftermath]:
    """The states of a history that are not like one before, some of crashed recoveries among them.

    `seen.checked` counts them.
    """
    for first in crashes(f"random{seed}", random_history(seed), BUDGET):
        if not seen.is_new(first):
            continue
        count = seen.checked
        yield first
        if count % RECOVERY_EVERY == 0:
            yield from filter(seen.is_new, crashes_in_recovery(first, IN_RECOVERY))


def explore(seed: int) -> Explored:
    """Check every state of one seed; ends at the first that breaks a promise."""
    seen = Seen()
    for state in states_of(seed, seen):
        thorough = seen.checked % THOROUGH_EVERY == 0
        holds: Callable[[SimDisk, Books], None] = check if thorough else check_briefly
        try:
            holds(state.disk.clone(), state.books)
        except Exception as error:
            again = (
                f"python tools/simulate.py --seed {seed} --states 1, or this one state: "
                f"python -m tests.crash.histories {state.path!r}"
            )
            return Explored(seed, seen.checked, f"{error!r}\nrepeat with: {again}")
    return Explored(seed, seen.checked, None)
