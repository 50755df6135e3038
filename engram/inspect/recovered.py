"""What checkpoints know of events whose records are lost, or were let go of.

A checkpoint has the newest version of each memory, where it was forgotten, and its links. So behind
a base all memories are there although their records are not; and of a range that cannot be read,
whatever a later checkpoint still holds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from engram.inspect.checkpoints import HeldCheckpoint
from engram.inspect.sources import OpenLog
from engram.memory.events import Event, MemoryForgotten, MemoryLinked
from engram.memory.model import Vector
from engram.memory.purges import is_husk
from engram.memory.view import View

Covered = Sequence[tuple[int, int]]
"""Positions (first, one past the last) that records have, ascending."""


class Recovered(NamedTuple):
    """An event that a checkpoint knows of. Times of forgettings and links are not known, hence 0.

    The `position` of a link is the first at which the checkpoint has both of its ends.
    """

    position: int
    time_us: int
    held: HeldCheckpoint
    row: int
    forgotten: bool
    link: MemoryLinked | None = None

    @property
    def event(self) -> Event:
        if self.link is not None:
            return self.link
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
        if self.forgotten or self.link is not None or state is None:
            return None
        return state.view.vectors.row(self.row)


def recovered(log: OpenLog, covered: Covered, purged: Mapping[str, int]) -> list[Recovered]:
    """What the checkpoints of a log know of positions that are not covered, ascending.

    Nothing of a memory is recovered that was `purged` at a later position.
    """
    starts = [first for first, _ in covered]
    found: dict[int, Recovered] = {}
    links: dict[int, Recovered] = {}

    def is_lost(position: int, *memory_ids: str) -> bool:
        at = bisect_right(starts, position) - 1
        if at >= 0 and position < covered[at][1]:
            return False
        return all(position >= purged.get(memory_id, 0) for memory_id in memory_ids)

    def take(each: Recovered, memory_id: str) -> None:
        if is_lost(each.position, memory_id):
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
        for position, each in _links(held, view):
            if each.link is not None and is_lost(position, each.link.source, each.link.target):
                links.setdefault(position, each)
    # Memories first, where both stand at the same position.
    return sorted([*found.values(), *links.values()], key=lambda each: each.position)


def _links(held: HeldCheckpoint, view: View) -> Iterator[tuple[int, Recovered]]:
    """The links of a checkpoint, with the positions at which they were made."""
    names, links = view.links.relations, view.links.entries()
    sources, targets = (view.links.newest(ends) for ends in (links.sources, links.targets))
    there = np.maximum(view.positions[sources], view.positions[targets])
    for at in np.argsort(links.positions).tolist():
        link = MemoryLinked(
            source=view.version(int(sources[at])).id,
            target=view.version(int(targets[at])).id,
            relation=names[links.relations[at]],
            weight=float(links.weights[at]),
        )
        position = int(links.positions[at])
        placed = max(position, int(there[at]))
        yield position, Recovered(placed, 0, held, int(sources[at]), False, link)
