"""Segment headers and records to bytes and back. Pure.

The reader's contract is three-valued, because recovery has to tell them apart: a record that
verifies, nothing but zeros (:class:`End`), or bytes that do not verify (:class:`Bad`). A length is
never used before the checksum of the header that holds it has matched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from crc32c import crc32c

from wal import format as f
from wal.errors import RecordTooLarge, Unsupported
from wal.vfs import Buffer

_ZEROS: Final = bytes(f.RECORD_ALIGN)


class SegmentHeader(NamedTuple):
    """Identity of one segment and proof of its predecessor."""

    space_uuid: bytes
    segment_id: int
    first_position: int
    nonce: bytes
    prev_segment_id: int
    prev_len: int
    prev_final_crc: int
    created_ns: int
    kind: int = f.KIND_LOG

    @property
    def name(self) -> str:
        return f.SEGMENT_NAME.format(first_position=self.first_position, segment_id=self.segment_id)

    @property
    def seed(self) -> int:
        """Start value of every record checksum: binds a record to this segment alone."""
        return crc32c(f.SEED_INPUT.pack(self.space_uuid, self.segment_id, self.nonce))


class Draft(NamedTuple):
    """A record that waits to be written: everything but its place in the log."""

    payload: Sequence[Buffer]
    events: int
    time_ns: int
    type: int = f.RECORD_EVENTS
    flags: int = 0
    batch_id: int = 0
    epoch: int = 0


class Record(NamedTuple):
    """A verified record. It covers positions `position` to `position + events - 1`."""

    position: int
    events: int
    time_ns: int
    synced_position: int
    type: int
    flags: int
    epoch: int
    batch_id: int
    prev_crc: int
    payload_crc: int
    offset: int
    end: int
    payload: memoryview

    @property
    def next_position(self) -> int:
        return self.position + self.events


class End(NamedTuple):
    """Only zeros, or nothing, from `offset` on."""

    offset: int


class Bad(NamedTuple):
    """Bytes at `offset` that are neither a record nor zeros up to the end."""

    offset: int
    reason: str


def encode_segment_header(header: SegmentHeader) -> bytes:
    """The segment's first page, 4096 bytes, checksum included."""
    page = bytearray(f.SEGMENT_HEADER_BYTES)
    f.SEGMENT_HEADER.pack_into(
        page,
        0,
        f.SEGMENT_MAGIC,
        f.FORMAT_MAJOR,
        f.FORMAT_MINOR,
        f.SEGMENT_HEADER_BYTES,
        header.space_uuid,
        header.segment_id,
        header.first_position,
        header.nonce,
        header.prev_segment_id,
        header.prev_len,
        header.prev_final_crc,
        header.kind,
        header.created_ns,
        0,
        0,
    )
    crc = crc32c(memoryview(page)[: -f.CRC.size])
    f.CRC.pack_into(page, f.SEGMENT_HEADER_BYTES - f.CRC.size, f.mask(crc))
    return bytes(page)


def decode_segment_header(page: Buffer) -> SegmentHeader | Bad:
    """The header in a segment's first page, or why there is none.

    Raises :class:`wal.errors.Unsupported` for a page that verifies but is from a newer version.
    """
    view = memoryview(page)[: f.SEGMENT_HEADER_BYTES]
    if len(view) < f.SEGMENT_HEADER_BYTES:
        return Bad(0, f"the file ends inside its header page ({len(view)} of 4096 bytes)")
    if bytes(view[:8]) != f.SEGMENT_MAGIC:
        return Bad(0, "not a segment: the magic bytes are missing")
    (stored,) = f.CRC.unpack_from(view, f.SEGMENT_HEADER_BYTES - f.CRC.size)
    if stored != f.mask(crc32c(view[: -f.CRC.size])):
        return Bad(0, "the segment header's checksum does not match")
    fields = f.SEGMENT_HEADER.unpack_from(view)
    _, major, minor, _, uuid, segment_id, first, nonce, prev_id, prev_len, prev_crc = fields[:11]
    kind, created_ns, incompat, _ = fields[11:]
    if major != f.FORMAT_MAJOR or incompat & ~f.INCOMPAT_KNOWN or kind not in f.KINDS:
        raise Unsupported(
            f"segment {segment_id} has format {major}.{minor}, kind {kind}, features "
            f"{incompat:#x}; this version reads format {f.FORMAT_MAJOR}. Upgrade Engram to open it"
        )
    return SegmentHeader(
        uuid, segment_id, first, nonce, prev_id, prev_len, prev_crc, created_ns, kind
    )


def check_draft(draft: Draft) -> int:
    """The draft's payload length in bytes.

    Raises :class:`wal.errors.RecordTooLarge` when the length or the event count is over the
    format's bound.
    """
    length = sum(memoryview(part).nbytes for part in draft.payload)
    if length > f.PAYLOAD_BYTES_MAX:
        raise RecordTooLarge(
            f"one record would take {length} bytes; at most {f.PAYLOAD_BYTES_MAX} fit. Split it"
        )
    if not 1 <= draft.events <= f.EVENTS_PER_RECORD_MAX:
        raise RecordTooLarge(
            f"{draft.events} events in one record; 1 to {f.EVENTS_PER_RECORD_MAX} fit. Split it"
        )
    return length


def encode_record(
    draft: Draft, *, position: int, time_ns: int, synced_position: int, prev_crc: int, seed: int
) -> tuple[list[Buffer], int, int]:
    """The buffers of one record in order, their total length, and its stored payload CRC.

    Raises what :func:`check_draft` raises.
    """
    length = check_draft(draft)
    parts = [memoryview(part).cast("B") for part in draft.payload]
    header = bytearray(f.RECORD_HEADER_BYTES)
    f.RECORD_HEADER.pack_into(
        header,
        0,
        f.RECORD_MAGIC,
        length,
        position,
        time_ns,
        synced_position,
        prev_crc,
        draft.events,
        draft.epoch,
        draft.type,
        draft.flags,
        draft.batch_id,
        0,
        0,
    )
    header_crc = crc32c(memoryview(header)[: f.RECORD_HEADER_CRC_OFFSET], seed)
    crc = header_crc
    for part in parts:
        crc = crc32c(part, crc)
    payload_crc = f.mask(crc)
    f.CRC.pack_into(header, f.RECORD_HEADER_CRC_OFFSET, f.mask(header_crc))
    f.CRC.pack_into(header, f.RECORD_HEADER_CRC_OFFSET + f.CRC.size, payload_crc)
    padding = f.padded(length) - length
    buffers: list[Buffer] = [header, *parts, _ZEROS[:padding]]
    return buffers, f.RECORD_HEADER_BYTES + f.padded(length), payload_crc


def decode_record(view: memoryview, offset: int, seed: int) -> Record | End | Bad:
    """What stands at `offset` of a segment's bytes, `view` reaching to the end of the file."""
    body = offset + f.RECORD_HEADER_BYTES
    if body > len(view) or view[offset] == 0:
        return _end_or_bad(view, offset)
    (
        magic,
        length,
        position,
        time_ns,
        synced,
        prev_crc,
        events,
        epoch,
        type_,
        flags,
        batch_id,
        stored_header_crc,
        payload_crc,
    ) = f.RECORD_HEADER.unpack_from(view, offset)
    if magic != f.RECORD_MAGIC:
        return Bad(offset, "neither a record nor the zeros that end a log")
    crc = crc32c(view[offset : offset + f.RECORD_HEADER_CRC_OFFSET], seed)
    if stored_header_crc != f.mask(crc):
        return Bad(offset, "a record header's checksum does not match")
    end = body + f.padded(length)
    if length > f.PAYLOAD_BYTES_MAX or not 1 <= events <= f.EVENTS_PER_RECORD_MAX:
        return Bad(offset, "a record header holds impossible sizes")
    if end > len(view):
        return Bad(offset, f"the file ends inside a record ({end - len(view)} bytes are missing)")
    payload = view[body : body + length]
    if payload_crc != f.mask(crc32c(payload, crc)):
        return Bad(offset, "a record's payload checksum does not match")
    if view[body + length : end] != _ZEROS[: end - body - length]:
        return Bad(offset, "a record's padding is not zero")
    return Record(
        position,
        events,
        time_ns,
        synced,
        type_,
        flags,
        epoch,
        batch_id,
        prev_crc,
        payload_crc,
        offset,
        end,
        payload,
    )


def _end_or_bad(view: memoryview, offset: int) -> End | Bad:
    rest = view[offset:]
    if bytes(rest).count(0) == len(rest):
        return End(offset)
    if len(rest) < f.RECORD_HEADER_BYTES:
        return Bad(offset, "the file ends inside a record header")
    return Bad(offset, "neither a record nor the zeros that end a log")


def find_records(view: memoryview, start: int, seed: int) -> Iterator[Record]:
    """Every record that verifies at an aligned offset from `start` on, whatever lies between."""
    data = bytes(view)
    at = data.find(f.RECORD_MAGIC, start)
    while at != -1:
        step = 1
        if at % f.RECORD_ALIGN == 0:
            found = decode_record(view, at, seed)
            if isinstance(found, Record):
                yield found
                step = found.end - at
        at = data.find(f.RECORD_MAGIC, at + step)
