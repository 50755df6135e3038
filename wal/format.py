"""Constants and struct layouts of the files on disk; docs/FORMAT.md explains each field.

All integers are little-endian. Stored CRCs are masked, computed ones are not: a checksum over
bytes that hold a checksum is otherwise too easily right by accident (LevelDB's observation).
"""

from __future__ import annotations

from struct import Struct
from typing import Final

SEGMENT_MAGIC: Final = b"ENGRLOG\x01"
RECORD_MAGIC: Final = b"\xe6gR\xc1"
MANIFEST_MAGIC: Final = "ENGRAM-MANIFEST"

FORMAT_MAJOR: Final = 1
FORMAT_MINOR: Final = 0
# Feature bits a reader must know to be allowed in; none exist yet.
INCOMPAT_KNOWN: Final = 0

SEGMENT_HEADER_BYTES: Final = 4096
RECORD_HEADER_BYTES: Final = 64
RECORD_ALIGN: Final = 8
PAYLOAD_BYTES_MAX: Final = 32 << 20
EVENTS_PER_RECORD_MAX: Final = 1 << 16

# magic, major, minor, header_len, space_uuid, segment_id, first_position, nonce, prev_segment_id,
# prev_len, prev_final_crc, kind, created_ns, incompat, compat; zeros; crc32c in the last 4 bytes.
SEGMENT_HEADER: Final = Struct("<8sHHI16sQQ16sQQIIQQQ")
CRC: Final = Struct("<I")

# magic, payload_len, position, time_ns, synced_position, prev_crc, count, epoch, type, flags,
# batch_id, header_crc, payload_crc.
RECORD_HEADER: Final = Struct("<4sIQQQIIIHHQII")
RECORD_HEADER_CRC_OFFSET: Final = 56

KIND_LOG: Final = 1
"""Segment kind: records as they were appended."""

KIND_REWRITTEN: Final = 2
"""Segment kind: a copy of another one's records, with some contents taken out. It is live only
where a manifest names it.
"""

KINDS: Final = (KIND_LOG, KIND_REWRITTEN)

RECORD_EVENTS: Final = 1
"""Record type: one atomic batch of events."""

FLAG_OBSERVED: Final = 1
"""Record flag: events that nobody waited for; history may let go of them first."""

SEED_INPUT: Final = Struct("<16sQ16s")  # space_uuid, segment_id, nonce

SEGMENT_NAME: Final = "{first_position:020d}-{segment_id:010d}.seg"

MASK_DELTA: Final = 0xA282EAD8


def mask(crc: int) -> int:
    """The stored form of a CRC: rotated right by 15 bits, plus a constant (LevelDB)."""
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF


def padded(length: int) -> int:
    """`length` rounded up to the record alignment."""
    return (length + RECORD_ALIGN - 1) & ~(RECORD_ALIGN - 1)
