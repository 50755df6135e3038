"""What to do about the end of a log: from observations to a plan. Pure.

docs/FORMAT.md has the same decisions as a table. The question is always whether the bytes that do
not verify can be explained by a crash in the middle of a write that nobody was told had succeeded
(torn: set aside and truncate), or whether they were durable once (damaged: touch nothing).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from wal.codec import Bad, End


class Later(NamedTuple):
    """A record that verifies somewhere behind the bytes that do not."""

    offset: int
    position: int
    synced_position: int


class TailSeen(NamedTuple):
    """The end of the last segment as read.

    `next_position` is the position the first missing record would have; `durable_position` the
    highest position known from anywhere to have been synced (0: none).
    """

    stop: End | Bad
    next_position: int
    durable_position: int
    later: Sequence[Later]


class Append(NamedTuple):
    """A clean end: go on in place at `offset`."""

    offset: int


class SetAside(NamedTuple):
    """A torn tail: copy from `offset` to quarantine, truncate there, seal, start a new segment."""

    offset: int
    reason: str


class Refuse(NamedTuple):
    """Durable bytes are damaged at `offset`: change nothing, serve nothing from here."""

    offset: int
    reason: str


Plan = Append | SetAside | Refuse


def plan_tail(seen: TailSeen) -> Plan:
    """Decide about the last segment's end.

    Unverifiable bytes are torn unless something proves that their position had been synced: a
    later record written after that sync (it carries the position known durable when it was
    written), or a watermark. A clean end short of a position known durable is lost data.
    """
    if isinstance(seen.stop, End):
        if seen.durable_position >= seen.next_position:
            return Refuse(
                seen.stop.offset,
                f"the log ends before position {seen.durable_position}, which was durable",
            )
        return Append(seen.stop.offset)
    if seen.durable_position >= seen.next_position:
        return Refuse(
            seen.stop.offset,
            f"{seen.stop.reason}; position {seen.durable_position} was durable, so this is "
            "damage and not an interrupted write",
        )
    for record in seen.later:
        if record.synced_position >= seen.next_position:
            return Refuse(
                seen.stop.offset,
                f"{seen.stop.reason}; the record at byte {record.offset} proves that position "
                f"{seen.next_position} was durable, so this is damage and not an interrupted write",
            )
    return SetAside(seen.stop.offset, seen.stop.reason)
