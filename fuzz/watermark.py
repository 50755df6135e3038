"""Fuzzes watermarks: two slots, of which the newest whole one of this space counts.

Three kinds of input, chosen by the first byte. *Raw*: the rest is taken for the file. *Repaired*:
the same, but both checksums are right. *Structured*: the rest chooses what was written, in turn as
the log does it, and what happened to the file then. A slot that was hit must not count, and the
other one still must: the watermark is never more than what was written, and never another's.

    python -m fuzz.watermark -max_total_time=300
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Final

import atheris
from crc32c import crc32c

from fuzz.driver import Surprise, fuzz

with atheris.instrument_imports(include=["wal"]):
    from wal import watermark
    from wal.format import mask
    from wal.watermark import NOTHING, SLOT_BYTES, Watermark, encode_slot

NAME: Final = "watermark"
UUID: Final = b"u" * 16
OTHER: Final = b"o" * 16
FILE_BYTES: Final = 2 * SLOT_BYTES
CHECKED_BYTES: Final = 40
CRC_BYTES: Final = 4


def target(data: bytes) -> None:
    """One input; raises if any property does not hold."""
    if not data:
        return
    match data[0] % 3:
        case 0:
            check_structured(atheris.FuzzedDataProvider(data[1:]))
        case 1:
            check_bytes(data[1:])
        case _:
            check_bytes(repaired(data[1:]))


def repaired(data: bytes) -> bytes:
    """The file with whatever it holds under checksums that match."""
    half = len(data) // 2
    slots = []
    for part in (data[:half], data[half:]):
        body = part[:CHECKED_BYTES].ljust(CHECKED_BYTES, b"\0")
        crc = mask(crc32c(body)).to_bytes(CRC_BYTES, "little")
        slots.append((body + crc).ljust(SLOT_BYTES, b"\0"))
    return b"".join(slots)


def check_bytes(data: bytes) -> None:
    """Any bytes: a watermark that is believed stands there, in one of the slots."""
    found = watermark.decode_slots(data, UUID)
    if not isinstance(found, Watermark):
        raise Surprise(f"a watermark was decoded to {found!r}")
    if found == NOTHING:
        return
    slot = encode_slot(found, UUID)[: CHECKED_BYTES + CRC_BYTES]
    if not any(data[start : start + len(slot)] == slot for start in (0, SLOT_BYTES)):
        raise Surprise(f"{found} stands in no slot")


def check_structured(choices: atheris.FuzzedDataProvider) -> None:
    """Writes in turn, then damage: the newest slot that was not hit counts."""
    data = bytearray(FILE_BYTES)
    written: dict[int, Watermark] = {}
    for number in range(1, choices.ConsumeIntInRange(0, 3) + 1):
        mark = Watermark(number, choices.ConsumeIntInRange(0, (1 << 64) - 1))
        uuid = OTHER if choices.ConsumeIntInRange(0, 7) == 7 else UUID
        start = SLOT_BYTES * (number % 2)
        data[start : start + SLOT_BYTES] = encode_slot(mark, uuid)
        written.pop(start, None)
        if uuid == UUID:
            written[start] = mark
    before = bytes(data)
    for _ in range(choices.ConsumeIntInRange(0, 2)):
        at = choices.ConsumeIntInRange(0, FILE_BYTES - 1)
        data[at] ^= choices.ConsumeIntInRange(1, 255)
    if choices.ConsumeBool():
        del data[choices.ConsumeIntInRange(0, FILE_BYTES) :]
    whole = CHECKED_BYTES + CRC_BYTES
    left = [
        mark
        for start, mark in written.items()
        if data[start : start + whole] == before[start : start + whole]
    ]
    found = watermark.decode_slots(bytes(data), UUID)
    if found != max([NOTHING, *left]):
        raise Surprise(f"of {written}, {left} are whole; {found} was read")


def seeds() -> Iterator[bytes]:
    """Each kind of input, with one slot and with both."""
    rng = Random(NAME)
    one, two = (encode_slot(Watermark(n, 7 * n), UUID) for n in (1, 2))
    for data in (bytes(SLOT_BYTES) + one, two + one):
        yield b"\1" + data
    yield b"\2" + one[:CHECKED_BYTES] + two[:CHECKED_BYTES]
    for _ in range(6):
        yield b"\0" + rng.randbytes(60)


WORDS: Final = (b"\xe6WMK", UUID, b"\1\0\0\0")

if __name__ == "__main__":
    fuzz(target, NAME, WORDS)
