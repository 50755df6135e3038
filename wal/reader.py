"""Reading a log's history: what is durable, as an immutable snapshot, and the records in it.

Any thread may read while the one writer goes on: a snapshot names only bytes that never change.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from wal.codec import Record, SegmentHeader
from wal.errors import Damaged
from wal.manifest import SealedSegment
from wal.replay import LOG_DIR
from wal.segment import Chain, scan
from wal.vfs import Directory


@dataclass(frozen=True, slots=True)
class Durable:
    """What readers may see: sealed segments, and the active one up to `chain.offset`."""

    sealed: tuple[tuple[SegmentHeader, SealedSegment, tuple[Chain, ...]], ...]
    active: SegmentHeader
    seek: tuple[Chain, ...]
    chain: Chain


def read_records(log_dir: Directory, durable: Durable, from_position: int) -> Iterator[Record]:
    """The records from the one that holds `from_position` on; their payloads are views.

    Raises OSError, and :class:`wal.errors.Damaged` for bytes that no longer verify.
    """
    for header, segment, seek in durable.sealed:
        if segment.next_position > from_position:
            yield from _read_segment(log_dir, header, seek, segment.length, from_position, True)
    if durable.chain.next_position > from_position:
        length = durable.chain.offset
        yield from _read_segment(
            log_dir, durable.active, durable.seek, length, from_position, False
        )


def _read_segment(
    log_dir: Directory,
    header: SegmentHeader,
    seek: Sequence[Chain],
    length: int,
    from_position: int,
    sealed: bool,
) -> Iterator[Record]:
    first = max(bisect_right(seek, from_position, key=lambda chain: chain.next_position) - 1, 0)
    with closing(log_dir.open(header.name)) as file:
        if not sealed:
            # It may still be cut back, so it is not mapped; it is read piece by piece, and a slow
            # reader holds no more than one of them.
            ends = [chain.offset for chain in seek[first + 1 :]] + [length]
            for start, end in zip(seek[first:], ends, strict=True):
                piece = memoryview(file.read_at(start.offset, end - start.offset))
                yield from _read_piece(header, start, piece, from_position)
            return
        mapped = file.map()[seek[first].offset : length]
    yield from _read_piece(header, seek[first], mapped, from_position)


def _read_piece(
    header: SegmentHeader, start: Chain, piece: memoryview, from_position: int
) -> Iterator[Record]:
    for found in scan(piece, header, start._replace(offset=0)):
        if isinstance(found, Record):
            if found.next_position > from_position:
                yield found._replace(
                    offset=found.offset + start.offset, end=found.end + start.offset
                )
        elif found.offset != len(piece):
            reason = getattr(found, "reason", "zeros stand where a record was")
            raise Damaged(f"{LOG_DIR}/{header.name}", start.offset + found.offset, reason)
