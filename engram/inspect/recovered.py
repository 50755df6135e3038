"""What checkpoints know of events whose records are lost, or were let go of.

A checkpoint has the newest version of each memory, and where it was forgotten. So behind a base all
memories are there although their records are not; and of a range that cannot be read, whatever a
later checkpoint still holds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from engram.inspect.checkpoints import HeldCheckpoint
from engram.inspect.sources import OpenLog
from engram.memory.events import Event, MemoryForgotten
from engram.memory.model import Vector
from engram.memory.purges import is_husk

Covered = Sequence[tuple[int, int]]
"""Positions (first, one past the last) that records have, ascending."""


class Recovered(NamedTuple):
    """An event that a checkpoint knows of. The time of a forgetting is not known, hence 0."""

    position: int
    time_us: int
    held: HeldCheckpoint
    row: int
    forgotten: bool

    @property
    def event(self) -> Event:
        state = self.held.state
        if state is None:
            raise ValueError(f"{self.held.shown} makes no state")
        version: Any = state.view.version(self.row)
        if self.forgotten:
            return MemoryForgotten(id=version.id, revision=version.revision, reason="request")
        event: Event = version
        return event

    @property
    def vector(self) -> Vector | None:
        state = self.held.state
        return None if self.forgotten or state is None else state.view.vectors.row(self.row)


def recovered(log: OpenLog, covered: Covered, purged: Mapping[str, int]) -> list[Recovered]:
    """What the checkpoints of a log know of positions that are not covered, ascending.

    Nothing of a memory is recovered that was `purged` at a later position.
    """
    starts = [first for first, _ in covered]
    found: dict[int, Recovered] = {}

    def take(each: Recovered, memory_id: str) -> None:
        at = bisect_right(starts, each.position) - 1
        if at >= 0 and each.position < covered[at][1]:
            return
        if each.position >= purged.get(memory_id, 0):
            found.setdefault(each.position, each)

    for held in log.checkpoints:
        file, state = held.file, held.state
        if not held.whole or held.standing == "leftover" or file is None or state is None:
            continue
        if log.uuid is not None and file.identity.space_uuid != log.uuid:
            continue
        view = state.view
        forgotten: dict[int, int] = dict(view.forgotten.tolist())
        for row in range(view.rows):
            if not view.live[row] and row not in forgotten:
                continue
            version = view.version(row)
            if is_husk(version):
                continue
            position, time_us = int(view.positions[row]), int(view.stored_us[row])
            take(Recovered(position, time_us, held, row, False), version.id)
            if row in forgotten:
                take(Recovered(forgotten[row], 0, held, row, True), version.id)
    return [found[position] for position in sorted(found)]
