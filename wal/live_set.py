"""Changing which files of a log are live: what a compaction or a purge asks for, as a plan. Pure.

The manifest that results is the only commit point. It names what it let go of, so that whoever
opens the log next removes what a crash left behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from wal.codec import SegmentHeader
from wal.manifest import Checkpoint, SealedSegment
from wal.segment import Chain

LOG_DIR: Final = "log"
CHECKPOINT_DIR: Final = "checkpoints"

Sealed = tuple[SegmentHeader, SealedSegment, tuple[Chain, ...]]
"""A sealed segment, and places to start reading it, none if it was not read yet."""


def sealed_as(header: SegmentHeader, end: Chain) -> SealedSegment:
    """What a manifest says of a segment that ends at `end`."""
    return SealedSegment(
        name=header.name,
        segment_id=header.segment_id,
        first_position=header.first_position,
        next_position=end.next_position,
        length=end.offset,
        final_crc=end.prev_crc,
        time_ns=end.time_ns,
    )


class Change(NamedTuple):
    """The checkpoints from now on, by ascending position, and by segment id the copies that take
    the place of segments. Segments wholly up to `drop_to` are let go of; a base checkpoint has to
    stand there.
    """

    checkpoints: tuple[Checkpoint, ...]
    rewritten: Mapping[int, Sealed]
    drop_to: int = 0


class Changed(NamedTuple):
    """What is live after a change, and the paths of the files that are not any more."""

    sealed: tuple[Sealed, ...]
    retired: tuple[str, ...]


def plan_change(
    sealed: Sequence[Sealed], checkpoints: Sequence[Checkpoint], change: Change
) -> Changed:
    """Apply a change to what is live. Raises ValueError for one that would lose history."""
    kept = [
        change.rewritten.get(header.segment_id, (header, segment, seek))
        for header, segment, seek in sealed
        if segment.next_position > change.drop_to + 1
    ]
    ids = {header.segment_id for header, _, _ in sealed}
    if not ids.issuperset(change.rewritten):
        raise ValueError("a segment that is not sealed cannot be replaced")
    by_id = {header.segment_id: segment for header, segment, _ in sealed}
    for segment_id, (_, copy, _) in change.rewritten.items():
        of = by_id[segment_id]
        if (copy.first_position, copy.next_position) != (of.first_position, of.next_position):
            raise ValueError(f"the copy of segment {segment_id} holds other positions")
    base = max((each.position for each in change.checkpoints if each.base), default=0)
    if change.drop_to and base != change.drop_to:
        raise ValueError(f"no base stands at position {change.drop_to}, up to which history goes")
    if kept and kept[0][1].first_position > base + 1:
        raise ValueError("history would begin behind its base")
    live = {segment.name for _, segment, _ in kept}
    named = {each.name for each in change.checkpoints}
    retired = [f"{LOG_DIR}/{s.name}" for _, s, _ in sealed if s.name not in live]
    retired += [f"{CHECKPOINT_DIR}/{c.name}" for c in checkpoints if c.name not in named]
    return Changed(tuple(kept), tuple(retired))
