"""Fuzzes the reading of a whole log: segments that follow each other, and the plan for the end.

Three kinds of input, chosen by the first byte. *Raw*: the rest is taken for the active segment,
with or without a header page of its own. *Repaired*: the rest is cut into header and records whose
checksums are then made to match, so that what they say is all that can be wrong. *Structured*: the
rest chooses groups of records in up to three segments, a watermark, and damage. What is found must
be what docs/FORMAT.md demands: this module works that out from what was written, by itself.

    python -m fuzz.segment -max_total_time=300
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from random import Random
from typing import Final, NamedTuple

import atheris
from crc32c import crc32c

from fuzz.driver import Surprise, fuzz

with atheris.instrument_imports(include=["wal"]):
    from wal import format as f
    from wal import replay
    from wal.codec import (
        Bad,
        Draft,
        Record,
        SegmentHeader,
        decode_segment_header,
        encode_record,
        encode_segment_header,
    )
    from wal.errors import Damaged, Unsupported
    from wal.manifest import Manifest, encode_manifest
    from wal.recovery import Append, SetAside
    from wal.segment import write_all
    from wal.vfs import Directory
    from wal.watermark import WATERMARK_NAME, Watermark, encode_slot

from wal.log import Log
from wal.opened import LogOptions
from wal.sim_vfs import SimDisk

NAME: Final = "segment"
UUID: Final = b"u" * 16
SEGMENTS_MAX: Final = 3
GROUPS_MAX: Final = 3
PAYLOAD_BYTES_MAX: Final = 150
OPTIONS: Final = LogOptions(1 << 16, 512, 512)


class Put(NamedTuple):
    """A record as it was written into a segment. `synced` is the position it carries as durable."""

    position: int
    events: int
    synced: int
    payload: bytes
    start: int
    end: int


class Segment(NamedTuple):
    """One file; `records` end where zeros may begin."""

    header: SegmentHeader
    data: bytes
    records: list[Put]


Seen = list[tuple[int, int, bytes]]
"""What replay visited: position, number of events, payload."""


def target(data: bytes) -> None:
    """One input; raises if any property does not hold."""
    if not data:
        return
    match data[0] % 3:
        case 0:
            check_structured(atheris.FuzzedDataProvider(data[1:]))
        case 1:
            first = FIRST.data[: f.SEGMENT_HEADER_BYTES] if data[0] & 4 else b""
            check_bytes(FIRST.header, first + data[1:])
        case _:
            check_bytes(*repaired(data[1:]))


def laid_out(active: str, files: dict[str, bytes], watermark: int) -> Directory:
    """A space's folder, on a simulated disk, with these files in its log."""
    space = SimDisk().root().make_dir("space")
    with closing(space.make_dir("log")) as log_dir:
        for name, data in files.items():
            with closing(log_dir.create(name)) as file:
                write_all(file, 0, data)
    manifest = Manifest(number=1, space_uuid=UUID.hex(), sealed=(), active=active)
    with closing(space.create(manifest.name)) as file:
        write_all(file, 0, encode_manifest(manifest))
    if watermark:
        with closing(space.create(WATERMARK_NAME)) as file:
            write_all(file, 0, encode_slot(Watermark(2, watermark), UUID))
    return space


def read(space: Directory) -> tuple[Seen, replay.LiveLog | None]:
    """What is visited, and the log; None if it was refused as it should be."""
    seen: Seen = []

    def visit(record: Record) -> None:
        seen.append((record.position, record.events, bytes(record.payload)))

    try:
        return seen, replay.read_live(space, UUID, visit)
    except (Damaged, Unsupported):
        return seen, None


def check_bytes(header: SegmentHeader, data: bytes) -> None:
    """Any bytes as a segment: refused, or dense, in order and with an end that is in the file."""
    space = laid_out(header.name, {header.name: data}, 0)
    seen, live = read(space)
    position = header.first_position
    for first, events, _ in seen:
        if first != position or events < 1:
            raise Surprise(f"position {first} follows {position - 1}")
        position += events
    if live is not None and not f.SEGMENT_HEADER_BYTES <= live.plan.offset <= len(data):
        raise Surprise(f"a plan for byte {live.plan.offset} of {len(data)}")


def repaired(data: bytes) -> tuple[SegmentHeader, bytes]:
    """A segment that says what `data` says, under checksums that match."""
    page = bytearray(FIRST.data[: f.SEGMENT_HEADER_BYTES])
    at, taken = (data[0] * 2, data[1:17]) if data else (0, b"")
    page[at : at + len(taken)] = taken
    del page[f.SEGMENT_HEADER_BYTES - f.CRC.size :]
    page += f.mask(crc32c(page)).to_bytes(f.CRC.size, "little")
    try:
        header = decode_segment_header(page)
    except Unsupported:
        header = FIRST.header
    if isinstance(header, Bad):
        header = FIRST.header
    out, rest, prev_crc, seed = bytearray(page), data[17:], header.seed, header.seed
    while rest:
        head = bytearray(SAMPLE[: f.RECORD_HEADER_BYTES])
        fresh = rest[: f.RECORD_HEADER_CRC_OFFSET]
        for index, byte in enumerate(fresh):
            head[index] ^= byte if index >= 4 else 0
        head[32:36] = prev_crc.to_bytes(4, "little")
        length = int.from_bytes(head[4:8], "little")
        rest = rest[len(fresh) :]
        payload, rest = rest[:length], rest[length:]
        crc = crc32c(head[: f.RECORD_HEADER_CRC_OFFSET], seed)
        prev_crc = f.mask(crc32c(payload, crc))
        f.CRC.pack_into(head, f.RECORD_HEADER_CRC_OFFSET, f.mask(crc))
        f.CRC.pack_into(head, f.RECORD_HEADER_CRC_OFFSET + f.CRC.size, prev_crc)
        out += head + payload
        out += bytes(-len(out) % f.RECORD_ALIGN)
    return header, bytes(out)


def drawn(choices: atheris.FuzzedDataProvider) -> list[Segment]:
    """A log as it is written: groups of records, each synced before the next is begun."""
    segments: list[Segment] = []
    header = SegmentHeader(UUID, 1, 1, b"n" * 16, 0, 0, 0, 1_000)
    synced, time_ns = 0, 0
    count = choices.ConsumeIntInRange(1, SEGMENTS_MAX)
    for number in range(1, count + 1):
        data = bytearray(encode_segment_header(header))
        prev_crc, position = header.seed, header.first_position
        records: list[Put] = []
        for _ in range(choices.ConsumeIntInRange(1, GROUPS_MAX)):
            for _ in range(choices.ConsumeIntInRange(1, 3)):
                payload = choices.ConsumeBytes(choices.ConsumeIntInRange(0, PAYLOAD_BYTES_MAX))
                events = choices.ConsumeIntInRange(1, 3)
                time_ns += choices.ConsumeIntInRange(0, 9)
                buffers, _, prev_crc = encode_record(
                    Draft([payload], events, time_ns),
                    position=position,
                    time_ns=time_ns,
                    synced_position=synced,
                    prev_crc=prev_crc,
                    seed=header.seed,
                )
                start = len(data)
                data += b"".join(buffers)
                records.append(Put(position, events, synced, payload, start, len(data)))
                position += events
            synced = position - 1
        length = len(data)
        if number == count:
            data += bytes(choices.ConsumeIntInRange(0, 300))
        segments.append(Segment(header, bytes(data), records))
        header = SegmentHeader(
            UUID, number + 1, position, b"n" * 16, number, length, prev_crc, 1_000 + number
        )
    return segments


def damaged(choices: atheris.FuzzedDataProvider, data: bytes) -> bytes:
    """Up to three changes: a byte, a span of zeros, noise, a cut."""
    changed = bytearray(data)
    for _ in range(choices.ConsumeIntInRange(0, 3)):
        # Most of the page is zeros that one checksum covers: damage to records says more.
        lowest = 0 if choices.ConsumeIntInRange(0, 7) == 7 else f.SEGMENT_HEADER_BYTES
        if len(changed) <= lowest:
            break
        at = choices.ConsumeIntInRange(lowest, len(changed) - 1)
        match choices.ConsumeIntInRange(0, 3):
            case 0:
                changed[at] ^= choices.ConsumeIntInRange(1, 255)
            case 1:
                length = choices.ConsumeIntInRange(0, 600)
                changed[at : at + length] = bytes(len(changed[at : at + length]))
            case 2:
                noise = choices.ConsumeBytes(choices.ConsumeIntInRange(0, 64))
                changed[at : at + len(noise)] = noise[: len(changed) - at]
            case _:
                del changed[at:]
    return bytes(changed)


def expected(
    segments: list[Segment], hit: int, changed: bytes, watermark: int
) -> Append | SetAside | None:
    """What docs/FORMAT.md demands, from what was written; None: it has to be refused."""
    original = segments[hit]
    page = f.SEGMENT_HEADER_BYTES
    if hit < len(segments) - 1:
        if changed != original.data:
            return None
    elif changed[:page] != original.data[:page]:
        return None
    last = segments[-1]
    data = changed if hit == len(segments) - 1 else last.data
    whole = [r for r in last.records if data[r.start : r.end] == last.data[r.start : r.end]]
    prefix = []
    for record in last.records:
        if record not in whole:
            break
        prefix.append(record)
    stop = prefix[-1].end if prefix else page
    missing = prefix[-1].position + prefix[-1].events if prefix else last.header.first_position
    before = [*(r for s in segments[:-1] for r in s.records), *prefix]
    durable = max([watermark, *(record.synced for record in before)])
    if not any(data[stop:]):
        return None if durable >= missing else Append(stop)
    proofs = [durable, *(record.synced for record in whole[len(prefix) :])]
    return None if max(proofs) >= missing else SetAside(stop, "")


def check_structured(choices: atheris.FuzzedDataProvider) -> None:
    """A log, damaged: exactly the outcome of the decision table, and only what was written."""
    segments = drawn(choices)
    everything = [r for s in segments for r in s.records]
    ends = [0, *(r.position + r.events - 1 for r in everything)]
    watermark = ends[choices.ConsumeIntInRange(0, len(ends) - 1)]
    reopened = choices.ConsumeIntInRange(0, 15) == 15
    hit = choices.ConsumeIntInRange(0, len(segments) - 1)
    changed = damaged(choices, segments[hit].data)
    files = {s.header.name: s.data for s in segments} | {segments[hit].header.name: changed}
    space = laid_out(segments[0].header.name, files, watermark)
    seen, live = read(space)
    written = [(r.position, r.events, r.payload) for r in everything]
    if seen != written[: len(seen)]:
        raise Surprise(f"{seen} was visited, {written} was written")
    wanted = expected(segments, hit, changed, watermark)
    plan = None if live is None else live.plan
    if type(plan) is not type(wanted) or (plan and wanted and plan.offset != wanted.offset):
        raise Surprise(f"the plan is {plan}; it has to be {wanted}")
    if reopened:
        check_opening(space, seen, wanted is None)


def check_opening(space: Directory, seen: Seen, refused: bool) -> None:
    """Opening does what the plan says: refusing changes nothing, mending changes nothing twice."""
    before = bytes_of(space)
    for boot in (1, 2):
        again: Seen = []

        def visit(record: Record, into: Seen = again) -> None:
            into.append((record.position, record.events, bytes(record.payload)))

        try:
            log = Log.open(
                space,
                space_uuid=UUID,
                owner="a fuzzer",
                visit=visit,
                nonce=lambda boot=boot: bytes([boot]) * 16,  # type: ignore[misc]
                now_ns=5_000,
                options=OPTIONS,
            )
        except (Damaged, Unsupported):
            if not refused:
                raise
            if bytes_of(space) != before:
                raise Surprise("a refusal changed what it refused") from None
            return
        log.close()
        if refused or again != seen:
            raise Surprise(f"opening gives {again}, reading {seen}")


def bytes_of(space: Directory) -> dict[str, bytes]:
    found = {}
    with closing(space.open_dir("log")) as log_dir:
        for name in log_dir.names():
            with closing(log_dir.open(name)) as file:
                found[name] = file.read_at(0, file.size())
    return found


FIRST: Final = drawn(atheris.FuzzedDataProvider(bytes(64)))[0]
SAMPLE: Final = FIRST.data[f.SEGMENT_HEADER_BYTES :]


def seeds() -> Iterator[bytes]:
    """Logs that lead far into the reader, as each kind of input."""
    rng = Random(NAME)
    for _ in range(10):
        yield b"\0" + rng.randbytes(rng.randrange(100, 1_200))
    for _ in range(4):
        data = drawn(atheris.FuzzedDataProvider(rng.randbytes(400)))[0].data
        yield b"\4" + data[f.SEGMENT_HEADER_BYTES :]
        yield b"\2" + bytes(17) + rng.randbytes(20)
    yield b"\1" + FIRST.data
    yield b"\2\x14" + bytes(16) + (bytes(f.RECORD_HEADER_CRC_OFFSET)) * 2


WORDS: Final = (f.SEGMENT_MAGIC, f.RECORD_MAGIC, bytes(8), b"\xff" * 8)

if __name__ == "__main__":
    fuzz(target, NAME, WORDS)
