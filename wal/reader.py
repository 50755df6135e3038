"""Reading a log's history: what is durable, as an immutable snapshot, and the records in it.

Any thread may read while the one writer goes on: a snapshot names only bytes that never change.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from wal.codec import Bad, End, Record, SegmentHeader
from wal.errors import Damaged, Truncated
from wal.live_set import LOG_DIR, Sealed
from wal.replay import SEEK_STEP_BYTES
from wal.segment import Chain, scan
from wal.vfs import Directory

Places = dict[int, tuple[Chain, ...]]
"""By segment id."""


@dataclass(frozen=True, slots=True)
class Durable:
    """What readers may see: sealed segments, and the active one up to `chain.offset`.

    History begins behind `base_position`. A sealed segment without places to start reading was not
    read yet.
    """

    sealed: tuple[Sealed, ...]
    active: SegmentHeader
    seek: tuple[Chain, ...]
    chain: Chain
    base_position: int = 0


def places_in(log_dir: Directory, header: SegmentHeader, length: int) -> tuple[Chain, ...]:
    """A place to start reading at every 256 KiB or so of a sealed segment, all of which verifies.

    Raises OSError and :class:`wal.errors.Damaged`.
    """
    chain = Chain.start(header, time_ns=0, synced_position=0)
    places = [chain]
    with closing(log_dir.open(header.name)) as file:
        view = file.map()[:length]
    for found in scan(view, header, chain):
        if not isinstance(found, Record):
            if found.offset != length:
                raise _damaged(header, found, found.offset)
            break
        chain = chain.after(found)
        if chain.offset - places[-1].offset >= SEEK_STEP_BYTES and chain.offset < length:
            places.append(chain)
    return tuple(places)


def read_on(
    log_dir: Directory, current: Callable[[], Durable], from_position: int, places: Places
) -> Iterator[Record]:
    """As :func:`read_records`, up to what is durable now, also while files are replaced and removed
    by a change of the live set. Raises :class:`wal.errors.Truncated` if it removes what comes next.
    """
    durable, position = current(), from_position
    end = durable.chain.next_position
    while position < end:
        try:
            for record in read_records(log_dir, durable, position, places):
                if record.position >= end:
                    return
                position = record.next_position
                yield record
            return
        except FileNotFoundError:
            before, durable = durable, current()
            if durable is before:
                raise
            if position <= durable.base_position:
                raise Truncated(position, durable.base_position + 1) from None


def read_records(
    log_dir: Directory, durable: Durable, from_position: int, places: Places
) -> Iterator[Record]:
    """The records from the one that holds `from_position` on; their payloads are views.

    `places` remembers where to start reading in segments that were not read when the log was
    opened. Raises OSError, and :class:`wal.errors.Damaged` for bytes that no longer verify.
    """
    for header, segment, seek in durable.sealed:
        if segment.next_position > from_position:
            if not seek:
                seek = places.get(header.segment_id, ())
            if not seek:
                seek = places[header.segment_id] = places_in(log_dir, header, segment.length)
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
            raise _damaged(header, found, start.offset + found.offset)


def _damaged(header: SegmentHeader, found: Bad | End, offset: int) -> Damaged:
    reason = found.reason if isinstance(found, Bad) else "zeros stand where a record was"
    return Damaged(f"{LOG_DIR}/{header.name}", offset, reason)
