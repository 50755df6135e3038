"""All records of a log that verify, in order, and what is wrong in between.

Records come segment by segment and by their place in the file, whether or not they continue what
came before; where they do not, that is told beside them. What verifies is never left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from engram.inspect.sources import OpenLog, Segment
from wal import format as f
from wal.codec import Bad, Record
from wal.recovery import Later, Refuse, TailSeen, plan_tail
from wal.survey import Hole, Zeros, survey


class Found(NamedTuple):
    """A record that verifies, and the segment it stands in."""

    segment: Segment
    record: Record


class Room(NamedTuple):
    """Zeros reserved behind the last record of a segment."""

    segment: Segment
    offset: int
    end: int


class Lost(NamedTuple):
    """Bytes of a segment that cannot be read, and why."""

    segment: Segment
    offset: int
    end: int
    reason: str


class Torn(NamedTuple):
    """An unfinished tail, as a crash leaves it, or a writer that is at it right now. No damage:
    nobody was told that this was stored.
    """

    segment: Segment
    offset: int
    end: int
    reason: str


class Missing(NamedTuple):
    """Positions that no record has: they should stand in front of `offset`, or behind the end."""

    segment: Segment
    offset: int
    first: int
    last: int


class Repeated(NamedTuple):
    """A record at `offset` covers positions that one before it had already."""

    segment: Segment
    offset: int
    first: int
    last: int


Finding = Found | Room | Lost | Torn | Missing | Repeated


class _Reader:
    def __init__(self, log: OpenLog) -> None:
        self._log = log
        self._segments = [segment for segment in log.segments if segment.is_read]
        self._next: int | None = log.oldest_position if log.source.kind == "space" else None
        self._synced = 0

    def findings(self) -> Iterator[Finding]:
        for segment in self._segments:
            yield from self._segment(segment, active=segment is self._segments[-1])
        if self._segments:
            end, durable = self._next or 1, max(self._synced, self._log.watermark)
            if durable >= end:
                last = self._segments[-1]
                yield Missing(last, last.size, end, durable)

    def _segment(self, segment: Segment, *, active: bool) -> Iterator[Finding]:
        if segment.header is None:
            # That is a hole too, in every account of the file.
            end = min(segment.size, f.SEGMENT_HEADER_BYTES)
            yield Lost(segment, 0, end, segment.header_damage or "")
        if segment.seed is None:
            if segment.size > f.SEGMENT_HEADER_BYTES:
                yield Lost(
                    segment,
                    f.SEGMENT_HEADER_BYTES,
                    segment.size,
                    "without the header none of its records can be told from other bytes",
                )
            return
        if self._next is None and segment.header is not None:
            self._next = segment.header.first_position
        holes: list[Hole] = []
        before, later = (1, 0), Later(0, 0, 0)
        for piece in survey(segment.file, segment.seed):
            match piece:
                case Hole():
                    if not holes:
                        before = (self._next or 1, self._synced)
                    holes.append(piece)
                    if not active:
                        yield Lost(segment, *piece)
                case Zeros():
                    yield from self._zeros(segment, piece, active=active)
                case Record():
                    later = max(
                        later,
                        Later(piece.offset, piece.position, piece.synced_position),
                        key=lambda seen: seen.synced_position,
                    )
                    yield from self._record(segment, piece)
        if active and holes:
            yield from self._judged(segment, holes, before, later)

    def _zeros(self, segment: Segment, zeros: Zeros, *, active: bool) -> Iterator[Finding]:
        yield Room(segment, zeros.offset, zeros.end)
        if not active:
            # Sealing cuts them off; in front of records they are holes.
            reason = "zeros follow the last record of a sealed segment"
            yield Lost(segment, zeros.offset, zeros.end, reason)

    def _record(self, segment: Segment, record: Record) -> Iterator[Finding]:
        if self._next is not None and record.position > self._next:
            yield Missing(segment, record.offset, self._next, record.position - 1)
        elif self._next is not None and record.position < self._next:
            last = min(record.next_position, self._next) - 1
            yield Repeated(segment, record.offset, record.position, last)
        self._next = max(self._next or 1, record.next_position)
        self._synced = max(self._synced, record.synced_position)
        yield Found(segment, record)

    def _judged(
        self, segment: Segment, holes: list[Hole], before: tuple[int, int], later: Later
    ) -> Iterator[Finding]:
        """Whether holes in the last segment are what an interrupted write leaves.

        `before` is the position that should follow the records before them, and what those say
        was durable.
        """
        position, synced = before
        stop = Bad(holes[0].offset, holes[0].reason)
        durable = max(self._log.watermark, synced)
        plan = plan_tail(TailSeen(stop, position, durable, [later]))
        kind = Lost if isinstance(plan, Refuse) else Torn
        for hole in holes:
            yield kind(segment, *hole)


def read(log: OpenLog) -> Iterator[Finding]:
    """What is in the segments of a log, oldest first. Payloads are views; copy what is kept."""
    return _Reader(log).findings()


def told(finding: Finding) -> str:
    """What is wrong there, for people; empty for what is not wrong."""
    where = f"{finding.segment.shown} at byte "
    match finding:
        case Lost() if finding.reason:
            return f"{where}{finding.offset}: {finding.reason} ({_bytes(finding)} bytes)"
        case Torn():
            return (
                f"{where}{finding.offset}: {finding.reason} ({_bytes(finding)} bytes, unfinished)"
            )
        case Missing():
            return f"{where}{finding.offset}: {positions(finding.first, finding.last)} missing"
        case Repeated():
            return f"{where}{finding.offset}: {positions(finding.first, finding.last)} repeated"
        case _:
            return ""


def _bytes(finding: Lost | Torn) -> int:
    return finding.end - finding.offset


def positions(first: int, last: int) -> str:
    """`position 7`, or `positions 7 to 9`."""
    return f"position {first}" if first == last else f"positions {first} to {last}"
