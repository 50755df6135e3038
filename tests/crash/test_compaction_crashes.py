"""Crashes at every point of compacting, shortening and purging a log."""

from __future__ import annotations

import pytest

from tests.crash import compactions as c
from tests.crash.histories import Budget, Seen, draft, fresh_space, joined
from wal.errors import Truncated

SAMPLED = Budget(few=12, samples=6)
WITHIN_RECOVERY = Budget(few=8, samples=3)


@pytest.mark.parametrize("name", c.HISTORIES)
def test_a_crash_at_any_point_loses_nothing_and_brings_nothing_back(name: str) -> None:
    seen = Seen()
    for aftermath in c.crashes(name, c.HISTORIES[name], SAMPLED):
        if seen.is_new(aftermath):
            try:
                c.check(aftermath.disk.clone(), aftermath.books)  # type: ignore[arg-type]
            except Exception as error:
                raise AssertionError(f"{aftermath.path}: {error!r}") from error
    assert seen.checked > 100


@pytest.mark.parametrize("name", c.HISTORIES)
def test_without_a_crash(name: str) -> None:
    disk, books = fresh_space(), c.Books()
    c.play(disk, c.HISTORIES[name], books)
    books.purging = set()
    c.check(disk, books)


def test_what_is_let_go_of_is_gone_and_said_to_be() -> None:
    disk = fresh_space()
    c.play(disk, (*[c.GROUP] * 4, c.Compact(1), c.Append((9,))), c.Books())
    log, machine = c.open_machine(disk)
    assert log.oldest_position > 1
    with pytest.raises(Truncated) as refused:
        log.read(log.oldest_position - 1)
    assert refused.value.oldest_position == log.oldest_position
    assert len(machine.crcs) == 10


def test_no_byte_of_what_was_purged_is_in_any_file() -> None:
    disk, books = fresh_space(), c.Books()
    c.play(disk, (c.GROUP, c.GROUP, c.Compact(), c.GROUP), books)
    secret = joined(draft(3, 2_500))
    assert secret in c.live_bytes(disk)
    log, machine = c.open_machine(disk)
    position = machine.positions[3]
    machine.gone.add(position)
    done = c.compact(disk, log, machine, c.Purge([position], c.redact_at(position)))
    assert len(done.rewritten) == 1
    assert secret[:64] not in c.live_bytes(disk)
    assert [r.position for r in log.read(1)] == machine.positions
