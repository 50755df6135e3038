"""The records and events of a log as lines, with whatever cannot be read told in between.

One record is held at a time, so a log of any size can be dumped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from engram.feed.telling import SpaceName, tell
from engram.inspect.reading import Found, Lost, Missing, Repeated, Torn, read, told
from engram.inspect.sources import OpenLog, Segment
from engram.memory.events import MemoryVersion, event_type
from engram.memory.model import Event, Vector
from engram.memory.payload import Batch, PayloadError, decode_batch
from engram.memory.times import from_us
from wal import format as f
from wal.codec import Record

NS_PER_US: Final = 1_000
ROW_BYTES: Final = 16


class Wanted(NamedTuple):
    """Which events to show: positions and times `until` exclusive; None and empty is all."""

    first: int | None = None
    last: int | None = None
    since_us: int | None = None
    until_us: int | None = None
    types: frozenset[str] = frozenset()
    memory_id: str | None = None

    def takes_record(self, record: Record) -> bool:
        """Whether any event of it may be wanted."""
        time_us = record.time_ns // NS_PER_US
        return (
            (self.first is None or record.next_position > self.first)
            and (self.last is None or record.position <= self.last)
            and (self.since_us is None or time_us >= self.since_us)
            and (self.until_us is None or time_us < self.until_us)
        )

    @property
    def looks_inside(self) -> bool:
        return bool(self.types) or self.memory_id is not None

    def takes_event(self, event: Event) -> bool:
        """Whether this one is wanted, its record being so."""
        return (
            (self.first is None or event.position >= self.first)
            and (self.last is None or event.position <= self.last)
            and (not self.types or event.type in self.types)
            and (self.memory_id is None or self.memory_id in _ids(event))
        )


class EventLine(NamedTuple):
    """An event, the record it is part of, and its vector if it has one."""

    segment: Segment
    record: Record
    event: Event
    vector: Vector | None


class RecordLine(NamedTuple):
    """A record. `types` counts its events; None if they cannot be decoded."""

    segment: Segment
    record: Record
    types: Mapping[str, int] | None


class Problem(NamedTuple):
    """Something that could not be read, or does not fit. What is merely unfinished is no damage."""

    text: str
    damage: bool


def dump_events(log: OpenLog, wanted: Wanted) -> Iterator[EventLine | Problem]:
    """The wanted events, in the order of the files, and every problem on the way."""
    name = SpaceName(_space_id(log), "" if log.uuid is None else log.uuid.hex())
    for found in _found(log):
        if isinstance(found, Problem):
            yield found
            continue
        segment, record = found
        if not wanted.takes_record(record):
            continue
        batch = _decoded(found)
        if isinstance(batch, Problem):
            yield batch
            continue
        vectors = iter(batch.vectors)
        told = tell(batch, name, record.position, record.time_ns)
        for logged, entry in zip(batch.events, told, strict=True):
            vector = next(vectors) if isinstance(logged, MemoryVersion) else None
            if wanted.takes_event(entry.event):
                yield EventLine(segment, record, entry.event, vector)


def dump_records(log: OpenLog, wanted: Wanted) -> Iterator[RecordLine | Problem]:
    """The records that hold a wanted event, in the order of the files, and every problem."""
    for found in _found(log):
        if isinstance(found, Problem):
            yield found
            continue
        segment, record = found
        if not wanted.takes_record(record):
            continue
        batch = _decoded(found)
        if isinstance(batch, Problem):
            yield batch
            if not wanted.looks_inside:
                yield RecordLine(segment, record, None)
            continue
        told = tell(batch, SpaceName("", ""), record.position, record.time_ns)
        if wanted.looks_inside and not any(wanted.takes_event(entry.event) for entry in told):
            continue
        types: dict[str, int] = {}
        for logged in batch.events:
            types[event_type(logged)] = types.get(event_type(logged), 0) + 1
        yield RecordLine(segment, record, types)


def _found(log: OpenLog) -> Iterator[Found | Problem]:
    for damage in log.damage:
        yield Problem(f"{damage.file} at byte {damage.offset}: {damage.reason}", True)
    for finding in read(log):
        match finding:
            case Found():
                yield finding
            case Lost() | Missing() | Repeated():
                yield Problem(told(finding), True)
            case Torn():
                in_flux = f", {log.owner} may be writing it" if log.owner else ""
                yield Problem(told(finding) + in_flux, False)


def _decoded(found: Found) -> Batch | Problem:
    try:
        return decode_batch(found.record.payload)
    except PayloadError as error:
        where = f"{found.segment.shown} at byte {found.record.offset}"
        return Problem(f"{where}: its checksum is right, but {error}", True)


def _space_id(log: OpenLog) -> str:
    return "" if log.identity is None else log.identity.memory_space_id


def _ids(event: Event) -> tuple[str, ...]:
    if event.memory is not None:
        return (event.memory.id,)
    if event.activated is not None:
        return tuple(each.id for each in event.activated)
    if event.results is not None:
        return tuple(result.id for result in event.results)
    return tuple(each for each in (event.id, event.source, event.target) if each is not None)


def event_fields(event: Event, vector: Vector | None) -> dict[str, Any]:
    """An event as feeds tell it, but for its position; with its vector, if that is given."""
    told: dict[str, Any] = msgspec.to_builtins(event)
    memory = told.get("memory")
    if not told["memory_space_id"]:  # a file without its space does not say
        del told["memory_space_id"]
        if memory is not None:
            del memory["memory_space_id"]
    if memory is not None and vector is not None:
        memory["embedding"] = vector.tolist()
    del told["position"]
    return told


def event_document(line: EventLine, *, embeddings: bool) -> dict[str, Any]:
    """An event for programs: where it stands, and then as feeds tell it."""
    return {
        "position": line.event.position,
        "file": line.segment.shown,
        "offset": line.record.offset,
        "crc": f"{line.record.payload_crc:08x}",
        **event_fields(line.event, line.vector if embeddings else None),
    }


def record_document(line: RecordLine, *, raw: bool) -> dict[str, Any]:
    """A record for programs; `raw` adds its bytes in hexadecimal."""
    record = line.record
    document = {
        "position": record.position,
        "last_position": record.next_position - 1,
        "file": line.segment.shown,
        "offset": record.offset,
        "bytes": record.end - record.offset,
        "time": from_us(record.time_ns // NS_PER_US),
        "events": record.events,
        "types": line.types,
        **header_fields(record),
    }
    return document | {"hex": raw_bytes(line).hex()} if raw else document


def header_fields(record: Record) -> dict[str, Any]:
    """The fields of a record's header that are not told elsewhere, by their names in FORMAT.md."""
    return {
        "payload_len": len(record.payload),
        "time_ns": record.time_ns,
        "synced_position": record.synced_position,
        "type": record.type,
        "flags": record.flags,
        "observed": bool(record.flags & f.FLAG_OBSERVED),
        "epoch": record.epoch,
        "batch_id": record.batch_id,
        "prev_crc": f"{record.prev_crc:08x}",
        "payload_crc": f"{record.payload_crc:08x}",
    }


def raw_bytes(line: RecordLine) -> bytes:
    """The record as it stands in the file: header, payload, padding."""
    record = line.record
    return line.segment.file.read_at(record.offset, record.end - record.offset)


def hex_rows(data: bytes, start: int) -> Iterator[str]:
    """Sixteen bytes a row, each with its place, as in docs/FORMAT.md. `*` stands for rows that
    repeat the one before, as hexdump has it.
    """
    before = b""
    skipped = False
    for at in range(0, len(data), ROW_BYTES):
        row = data[at : at + ROW_BYTES]
        if row == before and at + ROW_BYTES < len(data):
            if not skipped:
                yield "*"
            skipped = True
            continue
        before, skipped = row, False
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{start + at:08x}  {row.hex(' '):<47}  |{text}|"
