"""The watermark: a lower bound of what is durable, kept beside the log.

A record says what was durable when it was written, which leaves the last ones without a witness.
So once a log is quiet, and when it is closed, the position it has reached is written to a small
file of its own. Damage up to there cannot be taken for a write that a crash interrupted.

Two slots, one disk sector each, are written in turn: a torn write loses one of them, and what it
leaves is still a lower bound. A file without any whole slot bounds nothing.

    magic 4s | version u32 | space_uuid 16s | number u64 | position u64 | crc32c u32 (masked)
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from crc32c import crc32c

from wal.format import mask
from wal.segment import write_all
from wal.vfs import Buffer, Directory

WATERMARK_NAME: Final = "WATERMARK"
WATERMARK_VERSION: Final = 1
SLOT_BYTES: Final = 512
_MAGIC: Final = b"\xe6WMK"
_SLOT: Final = Struct("<4sI16sQQI")
_CRC_OFFSET: Final = _SLOT.size - 4


class Watermark(NamedTuple):
    """`number` counts the writes of the file; `position` was durable before the last of them."""

    number: int
    position: int


NOTHING: Final = Watermark(0, 0)


def encode_slot(watermark: Watermark, space_uuid: bytes) -> bytes:
    """One slot, 512 bytes."""
    packed = bytearray(SLOT_BYTES)
    _SLOT.pack_into(
        packed, 0, _MAGIC, WATERMARK_VERSION, space_uuid, watermark.number, watermark.position, 0
    )
    crc = crc32c(memoryview(packed)[:_CRC_OFFSET])
    packed[_CRC_OFFSET : _SLOT.size] = mask(crc).to_bytes(4, "little")
    return bytes(packed)


def decode_slots(data: Buffer, space_uuid: bytes) -> Watermark:
    """The newest whole slot that belongs to this space; :data:`NOTHING` without one."""
    view = memoryview(data)
    found = [NOTHING]
    for start in (0, SLOT_BYTES):
        slot = view[start : start + SLOT_BYTES]
        if len(slot) < _SLOT.size:
            continue
        magic, version, uuid, number, position, crc = _SLOT.unpack_from(slot)
        whole = crc == mask(crc32c(slot[:_CRC_OFFSET]))
        if whole and (magic, version, uuid) == (_MAGIC, WATERMARK_VERSION, space_uuid):
            found.append(Watermark(number, position))
    return max(found)


def read_watermark(space_dir: Directory, space_uuid: bytes) -> Watermark:
    """The watermark of a folder; :data:`NOTHING` where it has none."""
    try:
        file = space_dir.open(WATERMARK_NAME)
    except FileNotFoundError:
        return NOTHING
    try:
        return decode_slots(file.read_at(0, min(file.size(), 2 * SLOT_BYTES)), space_uuid)
    finally:
        file.close()


def write_watermark(space_dir: Directory, space_uuid: bytes, watermark: Watermark) -> None:
    """Replace the older slot, durably. What it says must be durable already. Raises OSError."""
    there = space_dir.exists(WATERMARK_NAME)
    if there:
        file = space_dir.open(WATERMARK_NAME, writable=True)
    else:
        file = space_dir.create(WATERMARK_NAME)
    try:
        start = SLOT_BYTES * (watermark.number % 2)
        write_all(file, start, encode_slot(watermark, space_uuid))
        file.sync_data()
    finally:
        file.close()
    if not there:
        space_dir.sync()
