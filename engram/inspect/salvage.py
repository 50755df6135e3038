"""Rescuing what can be read of a damaged log: a new space, or JSON Lines.

Every record that verifies is taken, wherever it lies, from whole, renamed, copied and headless
files alike. What is read is never changed. What is written appears under its name when it is
complete, durable, and has been read back; a crash before leaves `<name>.salvaging`, which the next
attempt clears away.

A log has no gaps, so in the new space events get new positions, in their old order; a record stays
one record. Where several records claim the same positions, as after files were mixed up, all are
kept: the one that continues the record before it comes last, so that its state prevails.

What no record tells any more, checkpoints may still know: the memories of the base above all. It is
taken from there, at its old place in the order. What was purged is never brought back.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from heapq import merge
from typing import Any, Final, NamedTuple

import numpy as np

from engram.errors import SpaceDamaged, SpaceExists
from engram.feed.telling import SpaceName, tell
from engram.inspect.dump import NS_PER_US, EventLine, event_document, event_fields
from engram.inspect.figures import Gap
from engram.inspect.reading import Found, Lost, Missing, Torn, read
from engram.inspect.recovered import Recovered, recovered
from engram.inspect.rescue import Change, Rescue
from engram.inspect.sources import OpenLog, Segment
from engram.memory.events import MemoryPurged, MemoryVersion, SpaceCreated
from engram.memory.model import EmbeddingSpec
from engram.memory.payload import NO_VECTORS, Batch, PayloadError, decode_batch, encode_batch
from engram.memory.purges import is_purged
from engram.memory.state import State, StateError
from engram.memory.validate import CALLER
from engram.spaces.identity import Identity, write_identity
from wal.bulk import append_all
from wal.codec import Draft, Record, decode_record
from wal.create import create_log
from wal.errors import Damaged
from wal.inspect import Damage
from wal.log import LOCK_NAME, Log
from wal.opened import DEFAULT_OPTIONS, LogOptions
from wal.segment import write_all
from wal.vfs import Directory

UNFINISHED_SUFFIX: Final = ".salvaging"
NONCE_BYTES: Final = 16
OWNER: Final = "engram log salvage"


class Place(NamedTuple):
    """Where a record lies; sorted, these are in the order in which records are taken."""

    position: int
    prevails: bool
    segment: int
    offset: int
    end: int
    crc: int
    next_position: int


@dataclass(slots=True)
class Findings:
    """What is left of a log. `copies` counts records found more than once, which count once."""

    places: list[Place] = field(default_factory=list)
    lost: list[Gap] = field(default_factory=list)
    unreadable: list[Damage] = field(default_factory=list)
    unreadable_bytes: int = 0
    copies: int = 0
    recovered: list[Recovered] = field(default_factory=list)
    purged: dict[str, int] = field(default_factory=dict)
    created: SpaceCreated | None = None
    dimensions: int | None = None
    first_time_ns: int = 0


@dataclass(slots=True)
class Salvaged:
    """What was rescued, and what was not. Of the events, `from_checkpoints` came from there."""

    memory_space_id: str | None = None
    space_uuid: str | None = None
    embedding: EmbeddingSpec | None = None
    records: int = 0
    events: int = 0
    memories: int | None = None
    from_checkpoints: int = 0
    copies: int = 0
    lost: list[Gap] = field(default_factory=list)
    unreadable: list[Damage] = field(default_factory=list)
    unreadable_bytes: int = 0
    changes: list[Change] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not (self.lost or self.unreadable or self.changes)


def find_records(log: OpenLog) -> Findings:
    """Look through all files of a log. Holds some bytes for each record, and no contents.

    Raises :class:`engram.errors.SpaceDamaged` if no record or checkpoint verifies.
    """
    found = Findings(unreadable=list(log.damage))
    undecodable: set[int] = set()
    seen: set[tuple[int, int]] = set()
    ends: set[tuple[int, int]] = set()
    numbers = {id(segment): number for number, segment in enumerate(log.segments)}
    for finding in read(log):
        match finding:
            case Found(segment, record):
                key = (record.position, record.payload_crc)
                if key in seen:
                    found.copies += 1
                    continue
                seen.add(key)
                ends.add((record.next_position, record.payload_crc))
                continues = record.prev_crc == segment.seed or (
                    (record.position, record.prev_crc) in ends
                )
                found.places.append(
                    Place(
                        record.position,
                        continues,
                        numbers[id(segment)],
                        record.offset,
                        record.end,
                        record.payload_crc,
                        record.next_position,
                    )
                )
                if not _learn(found, segment.shown, record):
                    undecodable.add(record.position)
            case Lost(segment, start, end, reason) | Torn(segment, start, end, reason):
                found.unreadable.append(Damage(segment.shown, start, reason))
                found.unreadable_bytes += end - start
            case Missing():
                pass  # what a later file still brings is not lost
    found.places.sort()
    told = [p for p in found.places if p.position not in undecodable]
    found.recovered = recovered(log, [(p.position, p.next_position) for p in told], found.purged)
    if not found.places and not found.recovered:
        raise SpaceDamaged(f"nothing in {log.source.shown} verifies; nothing was written")
    _learn_from_checkpoints(log, found)
    found.lost = list(_gaps(found.places, log.watermark, _oldest(log)))
    return found


def _oldest(log: OpenLog) -> int | None:
    """The first position that should be there: what was let go of on purpose is not lost, as long
    as a base stands for it. None for files without their space.
    """
    if log.source.kind != "space":
        return None
    bases = [held for held in log.checkpoints if held.standing == "base"]
    return 1 if bases and not bases[0].whole else log.oldest_position


def _learn_from_checkpoints(log: OpenLog, found: Findings) -> None:
    for held in log.checkpoints:
        if held.standing == "base" and held.damage is not None:
            found.unreadable.append(held.damage)
        if found.dimensions is None and held.state is not None and held.file is not None:
            found.dimensions = held.file.column("vectors.0").shape[-1]
    times = [each.time_us * NS_PER_US for each in found.recovered if each.time_us]
    found.first_time_ns = min([*times, *filter(None, [found.first_time_ns])], default=0)


def _learn(found: Findings, shown: str, record: Record) -> bool:
    """What the new space has to be like, from the first records that tell. False if one does not
    make sense.
    """
    found.first_time_ns = found.first_time_ns or record.time_ns
    try:
        batch = decode_batch(record.payload)
    except PayloadError as error:
        found.unreadable.append(Damage(shown, record.offset, str(error)))
        return False
    for position, event in enumerate(batch.events, record.position):
        if isinstance(event, MemoryPurged):
            found.purged[event.id] = position
    if found.dimensions is None and len(batch.vectors):
        found.dimensions = batch.vectors.shape[1]
    first = next(iter(batch.events), None)
    if found.created is None and isinstance(first, SpaceCreated):
        found.created = first
    return True


def _gaps(places: Iterable[Place], durable: int, oldest: int | None) -> Iterator[Gap]:
    next_position = oldest
    for place in places:
        if next_position is not None and place.position > next_position:
            yield Gap(next_position, place.position - 1)
        next_position = max(next_position or 1, place.next_position)
    if next_position is not None and durable >= next_position:
        yield Gap(next_position, durable)


class _Read(NamedTuple):
    """A record as it was read again; `batch` says why if it makes no sense."""

    segment: Segment
    record: Record
    batch: Batch | PayloadError

    @property
    def position(self) -> int:
        return self.record.position


def _in_order(log: OpenLog, found: Findings) -> Iterator[_Read | Recovered]:
    """The records, and what checkpoints know besides, by position."""
    return merge(_records(log, found), found.recovered, key=lambda each: each.position)


def _records(log: OpenLog, found: Findings) -> Iterator[_Read]:
    """The records in order, each read again and checked again."""
    for place in found.places:
        segment = log.segments[place.segment]
        data = segment.file.read_at(place.offset, place.end - place.offset)
        record = decode_record(memoryview(data), 0, segment.seed or 0)
        if not isinstance(record, Record) or record.payload_crc != place.crc:
            raise SpaceDamaged(
                f"{segment.shown} changed at byte {place.offset} while it was read; nothing was "
                "written. Stop what writes there, or salvage a copy"
            )
        record = record._replace(offset=place.offset, end=place.end)
        try:
            yield _Read(segment, record, decode_batch(record.payload))
        except PayloadError as error:
            yield _Read(segment, record, error)


def _report(found: Findings) -> Salvaged:
    return Salvaged(
        copies=found.copies,
        lost=found.lost,
        unreadable=found.unreadable,
        unreadable_bytes=found.unreadable_bytes,
    )


def salvage_lines(log: OpenLog, found: Findings, report: Salvaged) -> Iterator[dict[str, Any]]:
    """Every event as `engram log dump --json --embeddings` shows it. A record whose checksum is
    right, but that makes no sense to this version, is one line with its bytes.

    Counts into `report` on the way.
    """
    space_id = "" if log.identity is None else log.identity.memory_space_id
    name = SpaceName(space_id, "" if log.uuid is None else log.uuid.hex())
    for each in _in_order(log, found):
        if isinstance(each, Recovered):
            report.events += 1
            report.from_checkpoints += 1
            yield _recovered_line(each, name)
            continue
        segment, record, batch = each
        report.records += 1
        report.events += record.events
        if isinstance(batch, PayloadError):
            yield {
                "position": record.position,
                "file": segment.shown,
                "offset": record.offset,
                "crc": f"{record.payload_crc:08x}",
                "undecodable": str(batch),
                "payload": bytes(record.payload).hex(),
            }
            continue
        vectors = iter(batch.vectors)
        told = tell(batch, name, record.position, record.time_ns)
        for logged, entry in zip(batch.events, told, strict=True):
            vector = next(vectors) if isinstance(logged, MemoryVersion) else None
            if is_purged(logged, entry.position, found.purged):
                continue
            line = EventLine(segment, record, entry.event, vector)
            yield event_document(line, embeddings=True)


def _recovered_line(each: Recovered, name: SpaceName) -> dict[str, Any]:
    vector = each.vector
    batch = Batch([each.event], NO_VECTORS if vector is None else vector[np.newaxis])
    (told,) = tell(batch, name, each.position, each.time_us * NS_PER_US)
    document = event_fields(told.event, vector)
    if not each.time_us:
        document["time"] = None
    return {"position": each.position, "file": each.held.shown, **document}


def salvage_to_lines(log: OpenLog) -> tuple[Salvaged, Iterator[dict[str, Any]]]:
    """A report that is complete once the lines beside it have all been taken."""
    found = find_records(log)
    report = _report(found)
    return report, salvage_lines(log, found, report)


def write_lines(parent: Directory, name: str, lines: Iterable[bytes]) -> None:
    """Lines as a new file, which has its name only once it is whole and durable.

    Raises :class:`engram.errors.SpaceExists` if the name is taken, and OSError.
    """
    _check_free(parent, name)
    unfinished = name + UNFINISHED_SUFFIX
    if parent.exists(unfinished):
        parent.remove(unfinished)
    file = parent.create(unfinished)
    try:
        offset = 0
        for line in lines:
            write_all(file, offset, line)
            offset += len(line)
        file.sync_data()
    except Exception:
        with suppress(OSError):  # it takes room, which may be what was missing
            parent.remove(unfinished)
        raise
    finally:
        file.close()
    parent.rename(unfinished, parent, name)
    parent.sync()


def salvage_to_space(
    log: OpenLog,
    parent: Directory,
    space_id: str,
    *,
    now_ns: int,
    options: LogOptions = DEFAULT_OPTIONS,
) -> Salvaged:
    """All that is left as a new space, in a new folder of `parent` that has the space's id.

    Raises :class:`engram.errors.SpaceExists`, :class:`engram.errors.SpaceDamaged` if nothing
    verifies, :class:`wal.errors.Locked` while another salvage makes the same space, and OSError.
    """
    _check_free(parent, space_id)
    found = find_records(log)
    identity = _identity(log, found, space_id, now_ns)
    rescue = Rescue(identity.embedding.dimensions, found.purged)
    report = _report(found)
    unfinished = space_id + UNFINISHED_SUFFIX
    _clear(parent, unfinished)
    try:
        with closing(parent.make_dir(unfinished)) as space_dir:
            write_identity(space_dir, identity)
            drafts = _drafts(log, found, rescue, report)
            _write_log(space_dir, identity, drafts, found.first_time_ns, options)
            report.memories = _read_back(space_dir, identity, options)
    except Exception:
        with suppress(OSError):
            parent.remove_tree(unfinished)
        raise
    report.changes = rescue.changes
    report.memory_space_id, report.space_uuid = space_id, identity.uuid
    report.embedding = identity.embedding
    parent.rename(unfinished, parent, space_id)
    parent.sync()
    return report


def _check_free(parent: Directory, name: str) -> None:
    if parent.exists(name):
        raise SpaceExists(f"{name} exists already in {parent.path}; name another output")


def _clear(parent: Directory, unfinished: str) -> None:
    """Remove what an attempt that was interrupted left, but not from under one that goes on."""
    if not parent.exists(unfinished):
        return
    with closing(parent.open_dir(unfinished)) as left:
        lock = left.lock(LOCK_NAME, OWNER)
        try:
            parent.remove_tree(unfinished)
        finally:
            lock.release()


def _identity(log: OpenLog, found: Findings, space_id: str, now_ns: int) -> Identity:
    """The old space's, where it is known, under a new uuid."""
    old, created = log.identity, found.created
    if old is not None:
        embedding, generation = old.embedding, old.generation
    elif created is not None:
        spec = EmbeddingSpec(model=created.embedding_model, dimensions=created.dimensions)
        embedding, generation = spec, created.generation
    else:
        # Nobody knows what made the vectors; as the caller's they can at least be compared.
        embedding, generation = EmbeddingSpec(model=CALLER, dimensions=found.dimensions or 1), 1
    return Identity(
        memory_space_id=space_id,
        uuid=uuid.uuid4().hex,
        generation=generation,
        created_us=(found.first_time_ns or now_ns) // 1_000,
        embedding=embedding,
    )


def _drafts(log: OpenLog, found: Findings, rescue: Rescue, report: Salvaged) -> Iterator[Draft]:
    for each in _in_order(log, found):
        if isinstance(each, Recovered):
            kept = rescue.recover(each.event, each.vector)
            if kept.events:
                report.events += 1
                report.from_checkpoints += 1
                yield Draft(encode_batch(kept), 1, each.time_us * NS_PER_US)
            continue
        _, record, batch = each
        if isinstance(batch, PayloadError):
            continue  # told as unreadable
        kept = rescue.translate(batch, record.position)
        report.records += 1
        report.events += len(kept.events)
        if kept.events:
            payload = encode_batch(kept)
            yield Draft(payload, len(kept.events), record.time_ns, flags=record.flags)


def _write_log(
    space_dir: Directory,
    identity: Identity,
    drafts: Iterable[Draft],
    first_time_ns: int,
    options: LogOptions,
) -> None:
    created = SpaceCreated(
        memory_space_id=identity.memory_space_id,
        generation=identity.generation,
        embedding_model=identity.embedding.model,
        dimensions=identity.embedding.dimensions,
    )
    create_log(
        space_dir,
        space_uuid=identity.uuid_bytes,
        nonce=_nonce(),
        now_ns=first_time_ns,
        first=Draft(encode_batch(Batch([created], NO_VECTORS)), 1, first_time_ns),
    )
    log = _open_log(space_dir, identity, lambda record: None, first_time_ns, options)
    try:
        append_all(log, drafts)
    finally:
        log.close()


def _read_back(space_dir: Directory, identity: Identity, options: LogOptions) -> int:
    """Open what was written as a server would; the number of memories that live in it."""
    state = State(identity.memory_space_id, identity.embedding.dimensions)

    def apply(record: Record) -> None:
        try:
            state.apply(decode_batch(record.payload), record.position, record.time_ns)
        except (PayloadError, StateError) as error:
            raise Damaged("log", record.offset, str(error)) from error

    _open_log(space_dir, identity, apply, 0, options).close()
    state.publish()
    return state.view.live_count(0)


def _open_log(
    space_dir: Directory,
    identity: Identity,
    visit: Callable[[Record], None],
    now_ns: int,
    options: LogOptions,
) -> Log:
    return Log.open(
        space_dir,
        space_uuid=identity.uuid_bytes,
        owner=OWNER,
        visit=visit,
        nonce=_nonce,
        now_ns=now_ns,
        options=options,
    )


def _nonce() -> bytes:
    return secrets.token_bytes(NONCE_BYTES)
