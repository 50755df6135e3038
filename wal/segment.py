"""One segment file: creating it, and reading it record by record while checking the chain.

A record is accepted when its checksums match and it continues what came before: the position is
the next one, its `prev_crc` is the previous record's stored CRC (the seed for the first), and its
time does not run backwards. A record that verifies but does not continue is as bad as one that
does not verify.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from wal import format as f
from wal.codec import (
    Bad,
    End,
    Record,
    SegmentHeader,
    decode_record,
    decode_segment_header,
    encode_segment_header,
)
from wal.errors import Damaged, Foreign
from wal.vfs import Buffer, Directory, File

TMP_SUFFIX: Final = ".tmp"


class Chain(NamedTuple):
    """Where a segment's records have got to: what the next one must continue."""

    next_position: int
    prev_crc: int
    time_ns: int
    synced_position: int
    offset: int

    @classmethod
    def start(cls, header: SegmentHeader, *, time_ns: int, synced_position: int) -> Chain:
        return cls(
            header.first_position, header.seed, time_ns, synced_position, f.SEGMENT_HEADER_BYTES
        )

    def after(self, record: Record) -> Chain:
        return Chain(
            record.next_position,
            record.payload_crc,
            record.time_ns,
            max(self.synced_position, record.synced_position),
            record.end,
        )


def next_header(
    old: SegmentHeader, end: Chain, segment_id: int, nonce: bytes, now_ns: int
) -> SegmentHeader:
    """The header of the segment that follows one which ends at `end`, and proves that it does."""
    return SegmentHeader(
        old.space_uuid,
        segment_id,
        end.next_position,
        nonce,
        old.segment_id,
        end.offset,
        end.prev_crc,
        now_ns,
    )


def write_all(file: File, offset: int, data: Buffer) -> None:
    """Write all of `data` at `offset`, going on after short writes."""
    view = memoryview(data)
    while len(view):
        taken = file.write_at(offset, view)
        offset += taken
        view = view[taken:]


def prepare_segment(log_dir: Directory, header: SegmentHeader, records: bytes = b"") -> File:
    """Write header page and records under a temporary name, durably, and return the file open.

    A failure here leaves nothing that anybody would read; :func:`publish_segment` comes next.
    """
    temporary = header.name + TMP_SUFFIX
    if log_dir.exists(temporary):
        log_dir.remove(temporary)
    file = log_dir.create(temporary)
    try:
        write_all(file, 0, encode_segment_header(header) + records)
        file.sync_data()
    except BaseException:
        file.close()
        raise
    return file


def publish_segment(log_dir: Directory, header: SegmentHeader) -> None:
    """Give a prepared segment its final name, durably: what has that name has a whole header."""
    log_dir.rename(header.name + TMP_SUFFIX, log_dir, header.name)
    log_dir.sync()


def read_header(where: str, page: Buffer, space_uuid: bytes | None) -> SegmentHeader:
    """The header of a segment that must belong to this space (to any, if that is None).

    `where` is for messages.

    Raises :class:`wal.errors.Damaged`, :class:`wal.errors.Foreign` for another space's segment.
    """
    header = decode_segment_header(page)
    if isinstance(header, Bad):
        raise Damaged(where, header.offset, header.reason)
    if space_uuid is not None and header.space_uuid != space_uuid:
        raise Foreign(
            where,
            0,
            f"this segment belongs to another space (uuid {header.space_uuid.hex()}). Move the "
            "file out of this folder, and put back what it may have replaced",
        )
    return header


def scan(view: memoryview, header: SegmentHeader, chain: Chain) -> Iterator[Record | End | Bad]:
    """The records of a segment from `chain` on, then exactly one End or Bad."""
    seed = header.seed
    next_position, prev_crc, time_ns, _, offset = chain
    while True:
        found = decode_record(view, offset, seed)
        if not isinstance(found, Record):
            yield found
            return
        if found.position != next_position or found.prev_crc != prev_crc:
            yield Bad(
                offset,
                f"a record of position {found.position} stands where {next_position} must follow",
            )
            return
        if found.time_ns < time_ns:
            yield Bad(offset, "a record's time lies before the one in front of it")
            return
        yield found
        next_position = found.position + found.events
        prev_crc = found.payload_crc
        time_ns = found.time_ns
        offset = found.end
