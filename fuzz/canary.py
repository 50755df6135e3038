"""A fuzz target with a planted bug: running it must fail, or the fuzzing here finds nothing.

The bug is the classic one, a length that is believed before the checksum over it was looked at.
`tests/unit/test_fuzz_targets.py` runs it and expects the failure.
"""

from __future__ import annotations

import atheris

from fuzz.driver import fuzz

with atheris.instrument_imports(include=["wal"]):
    from fuzz.record_codec import HEADER, Surprise, encode, seeds
    from wal import format as f
    from wal.codec import Bad, End, Record, decode_record


def careless_decode(view: memoryview, offset: int) -> Record | End | Bad:
    """As :func:`wal.codec.decode_record`, but one that seems too long is taken for the end."""
    magic = bytes(view[offset : offset + len(f.RECORD_MAGIC)])
    if len(view) - offset >= f.RECORD_HEADER_BYTES and magic == f.RECORD_MAGIC:
        length = int.from_bytes(view[offset + 4 : offset + 8], "little")
        if offset + f.RECORD_HEADER_BYTES + f.padded(length) > len(view):
            return End(offset)  # the bug: the length was never verified
    return decode_record(view, offset, HEADER.seed)


def target(data: bytes) -> None:
    """A change within a record must not look like the end of the log."""
    choices = atheris.FuzzedDataProvider(data[1:])
    segment, written = encode(choices)
    if not written:
        return
    changed = bytearray(segment)
    changed[f.SEGMENT_HEADER_BYTES + choices.ConsumeIntInRange(0, 63)] ^= 0x80
    found = careless_decode(memoryview(changed), f.SEGMENT_HEADER_BYTES)
    if isinstance(found, End):
        raise Surprise("damage was taken for the end of the log")


if __name__ == "__main__":
    fuzz(target, seeds())
