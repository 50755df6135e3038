"""Where a subscriber reads next: in the shared tail, in the log, or nowhere yet. Pure.

A cursor is the position up to which a subscriber has scanned. What comes next follows from it, its
filter and a snapshot of the feed alone, so history and live events cannot come apart or overlap.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Snapshot(NamedTuple, Generic[T]):
    """The feed at one moment.

    `durable` is the last position. `tail[i]` is the event at position `first + i`, up to `durable`;
    what was appended behind that belongs to a later snapshot. `newest` has the last position of
    each type among those after `since`.
    """

    durable: int
    first: int
    tail: list[T]
    since: int
    newest: Mapping[str, int]


class Wait(NamedTuple):
    """Nothing has come yet."""


class Skip(NamedTuple):
    """Nothing up to `position` passes the filter: scanned without being read."""

    position: int


class Live(NamedTuple):
    """Take the events `tail[start:stop]`; `position` is the last of them."""

    start: int
    stop: int
    position: int


class Behind(NamedTuple):
    """The tail no longer holds what comes next: read the log."""


def plan(
    scanned: int, types: Collection[str], snapshot: Snapshot[T], most: int
) -> Wait | Skip | Live | Behind:
    """The next step of a subscriber that has scanned up to `scanned`; `types` empty takes all.

    `most` bounds how many events one step takes.
    """
    if scanned >= snapshot.durable:
        return Wait()
    if types and scanned >= snapshot.since:
        nothing_new = all(snapshot.newest.get(name, 0) <= scanned for name in types)
        if nothing_new:
            return Skip(snapshot.durable)
    if scanned + 1 < snapshot.first:
        return Behind()
    start = scanned + 1 - snapshot.first
    stop = min(start + most, snapshot.durable + 1 - snapshot.first)
    return Live(start, stop, snapshot.first + stop - 1)
