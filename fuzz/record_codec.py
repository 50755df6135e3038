"""Fuzzes what reads a log's bytes: segment headers, records, manifests.

Three kinds of input, chosen by the first byte. *Raw*: the rest is handed to every decoder, which
may answer with a value or with one of the documented errors and nothing else. *Framed*: the rest is
the body of a manifest whose checksum is right. *Structured*: the rest chooses records, which are
encoded, changed and decoded again; what comes back must be what was written up to the record that
was hit, and never anything that was not.

    python -m fuzz.record_codec -max_total_time=300
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Final, NamedTuple

import atheris
from crc32c import crc32c

from fuzz.driver import Surprise, fuzz

with atheris.instrument_imports(include=["wal"]):
    from wal import format as f
    from wal.codec import (
        Bad,
        Draft,
        End,
        Record,
        SegmentHeader,
        decode_record,
        decode_segment_header,
        encode_record,
        encode_segment_header,
        find_records,
    )
    from wal.errors import Damaged, Unsupported
    from wal.manifest import Manifest, SealedSegment, decode_manifest, encode_manifest
    from wal.segment import Chain, scan

NAME: Final = "record_codec"
HEADER: Final = SegmentHeader(b"u" * 16, 3, 10, b"n" * 16, 2, 5_000, 77, 1_000)
SEALED: Final = SealedSegment(
    name=HEADER.name,
    segment_id=3,
    first_position=10,
    next_position=12,
    length=4_300,
    final_crc=9,
    time_ns=7,
)
MANIFEST: Final = Manifest(
    number=4,
    space_uuid=(b"u" * 16).hex(),
    sealed=(SEALED,),
    active=HEADER._replace(segment_id=4).name,
)
MAGIC: Final = f.MANIFEST_MAGIC.encode()
SEEDS_PER_KIND: Final = 12


class Written(NamedTuple):
    """A record as it was encoded, and where it ended."""

    payload: bytes
    position: int
    time_ns: int
    events: int
    end: int


def target(data: bytes) -> None:
    """One input; raises if any property does not hold."""
    if not data:
        return
    match data[0] % 3:
        case 0:
            check_changed(atheris.FuzzedDataProvider(data[1:]))
        case 1:
            check_raw(data[1:])
        case _:
            body = data[1:]
            check_manifest(b"%s 1 %d %08x\n" % (MAGIC, len(body), crc32c(body)) + body)


def check_raw(data: bytes) -> None:
    """Any bytes to any decoder."""
    view = memoryview(data)
    try:
        header = decode_segment_header(data)
    except Unsupported:
        header = Bad(0, "unsupported")
    if not isinstance(header, SegmentHeader | Bad):
        raise Surprise(f"a header was decoded to {header!r}")
    for offset in {0, min(8, len(data))}:
        check_found(view, offset, decode_record(view, offset, HEADER.seed))
    for record in find_records(view, 0, HEADER.seed):
        check_found(view, record.offset, record)
        if record.offset % f.RECORD_ALIGN:
            raise Surprise("a record was found where none can be")
    check_manifest(data)


def check_manifest(data: bytes) -> None:
    """Any bytes as a manifest: one that is taken comes back from being written again."""
    try:
        manifest = decode_manifest(MANIFEST.name, data)
    except (Damaged, Unsupported):
        return
    if decode_manifest(MANIFEST.name, encode_manifest(manifest)) != manifest:
        raise Surprise("a manifest does not survive being written again")


def check_found(view: memoryview, offset: int, found: Record | End | Bad) -> None:
    """The answer is of one of three kinds, and within the bytes that were given."""
    match found:
        case Record():
            if not offset + f.RECORD_HEADER_BYTES <= found.end <= len(view):
                raise Surprise(f"a record reaches from {offset} to {found.end} of {len(view)}")
            if found.payload.nbytes > f.PAYLOAD_BYTES_MAX or found.events < 1:
                raise Surprise("a record breaks the format's bounds")
        case End():
            if any(view[found.offset :]):
                raise Surprise("the end of a log is followed by something")
        case Bad():
            if found.offset != offset or not found.reason:
                raise Surprise("what is bad has no place or no reason")
        case _:
            raise Surprise(f"a record was decoded to {found!r}")


def check_changed(choices: atheris.FuzzedDataProvider) -> None:
    """Encode records, change bytes, decode: the untouched ones come back, and nothing else."""
    data, written = encode(choices)
    changed = bytearray(data)
    first = len(changed)
    for _ in range(choices.ConsumeIntInRange(0, 3)):
        match choices.ConsumeIntInRange(0, 3):
            case 0:
                at = choices.ConsumeIntInRange(0, len(changed) - 1)
                flip = choices.ConsumeIntInRange(1, 255)
                changed[at] ^= flip
                first = min(first, at)
            case 1:
                at = choices.ConsumeIntInRange(0, len(changed) - 1)
                length = choices.ConsumeIntInRange(0, 600)
                changed[at : at + length] = bytes(len(changed[at : at + length]))
                first = min(first, at)
            case 2:
                at = choices.ConsumeIntInRange(0, len(changed) - 1)
                noise = choices.ConsumeBytes(choices.ConsumeIntInRange(0, 64))
                changed[at : at + len(noise)] = noise[: len(changed) - at]
                first = min(first, at)
            case _:
                cut = choices.ConsumeIntInRange(f.SEGMENT_HEADER_BYTES, len(data))
                del changed[cut:]
                first = min(first, len(changed))
        if not changed:
            return
    compare(bytes(changed), data, written, first)


def encode(choices: atheris.FuzzedDataProvider) -> tuple[bytes, list[Written]]:
    """A segment with up to six records and some zeros behind them."""
    data = bytearray(encode_segment_header(HEADER))
    position, time_ns, prev_crc = HEADER.first_position, 0, HEADER.seed
    written: list[Written] = []
    for _ in range(choices.ConsumeIntInRange(0, 6)):
        payload = choices.ConsumeBytes(choices.ConsumeIntInRange(0, 200))
        events = choices.ConsumeIntInRange(1, f.EVENTS_PER_RECORD_MAX)
        time_ns += choices.ConsumeIntInRange(0, 1 << 40)
        cut = len(payload) // 2
        buffers, length, prev_crc = encode_record(
            Draft([payload[:cut], payload[cut:]], events, time_ns),
            position=position,
            time_ns=time_ns,
            synced_position=position - 1,
            prev_crc=prev_crc,
            seed=HEADER.seed,
        )
        record = b"".join(buffers)
        if len(record) != length:
            raise Surprise(f"a record of {len(record)} bytes says it has {length}")
        data += record
        written.append(Written(payload, position, time_ns, events, len(data)))
        position += events
    data += bytes(choices.ConsumeIntInRange(0, 300))
    return bytes(data), written


def compare(changed: bytes, data: bytes, written: list[Written], first: int) -> None:
    """What `changed` decodes to, against what was written; `first` is the first changed byte."""
    whole = [record for record in written if record.end <= first]
    if first < f.SEGMENT_HEADER_BYTES and changed[: f.SEGMENT_HEADER_BYTES] != data[:4_096]:
        if not isinstance(decode_segment_header(changed), Bad):
            raise Surprise("a changed segment header was accepted")
        return
    if decode_segment_header(changed) != HEADER:
        raise Surprise("a segment header does not come back")
    chain = Chain.start(HEADER, time_ns=0, synced_position=0)
    *records, stop = scan(memoryview(changed), HEADER, chain)
    if isinstance(stop, Record):
        raise Surprise("a scan ends with a record")
    for index, record in enumerate(records):
        if not isinstance(record, Record):
            raise Surprise("a scan goes on behind its end")
        original = written[index]  # IndexError: a record that nobody wrote
        found = (bytes(record.payload), record.position, record.time_ns, record.events, record.end)
        if found != tuple(original):
            raise Surprise(f"{original} came back as {found}")
    if len(records) < len(whole):
        raise Surprise(f"{len(whole)} records are untouched, {len(records)} came back")
    if changed == data and (len(records) != len(written) or not isinstance(stop, End)):
        raise Surprise("an untouched segment does not come back whole")


def seeds() -> Iterator[bytes]:
    """Inputs of both kinds that lead far into the decoders."""
    rng = Random(1)
    for _ in range(SEEDS_PER_KIND):
        yield b"\0" + rng.randbytes(rng.randrange(40, 900))
        data, _ = encode(atheris.FuzzedDataProvider(rng.randbytes(900)))
        yield b"\1" + data
        yield b"\1" + data[f.SEGMENT_HEADER_BYTES :]
    manifest = encode_manifest(MANIFEST)
    yield b"\1" + manifest
    yield b"\2" + manifest.partition(b"\n")[2]


WORDS: Final = (f.SEGMENT_MAGIC, f.RECORD_MAGIC, MAGIC, b'"sealed"', bytes(8))

if __name__ == "__main__":
    fuzz(target, NAME, WORDS)
