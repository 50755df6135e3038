"""Copying a sealed segment with some contents taken out. Positions and times stay as they are.

The copy has an id and a nonce of its own, so none of its records can be taken for one of the
original, and its records are chained anew. It is live only where a manifest names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from typing import Final

from wal import format as f
from wal.codec import Bad, Draft, Record, SegmentHeader, encode_record
from wal.errors import Damaged
from wal.live_set import LOG_DIR, Sealed, sealed_as
from wal.manifest import SealedSegment
from wal.segment import TMP_SUFFIX, Chain, prepare_segment, publish_segment, scan, write_all
from wal.vfs import Buffer, Directory

Redact = Callable[[Record], Sequence[Buffer] | None]
"""The payload that takes the place of a record's, or None to leave it as it is."""

_PIECE_BYTES: Final = 1 << 20


def rewrite_segment(
    log_dir: Directory, original: Sealed, segment_id: int, nonce: bytes, redact: Redact
) -> Sealed:
    """Write the copy of a sealed segment, durably, and read it back.

    Raises OSError, and :class:`wal.errors.Damaged` for an original that no longer verifies.
    """
    header, sealed, _ = original
    copied = header._replace(segment_id=segment_id, nonce=nonce, kind=f.KIND_REWRITTEN)
    with closing(log_dir.open(header.name)) as file:
        view = file.map()[: sealed.length]
    with closing(prepare_segment(log_dir, copied)) as copy:
        end = Chain.start(copied, time_ns=0, synced_position=0)
        pieces: list[Buffer] = []
        start = end.offset
        for record in _records(view, header, sealed):
            end = _append(pieces, end, record, redact, copied.seed)
            if end.offset - start >= _PIECE_BYTES:
                write_all(copy, start, b"".join(pieces))
                pieces, start = [], end.offset
        write_all(copy, start, b"".join(pieces))
        copy.sync_data()
        copy.drop_cache()
        written = sealed_as(copied, end)
        for _ in _records(memoryview(copy.read_at(0, end.offset)), copied, written):
            pass
    publish_segment(log_dir, copied)
    return copied, written, ()


def _records(view: memoryview, header: SegmentHeader, sealed: SealedSegment) -> Iterator[Record]:
    """All records of a sealed segment, which must be as the manifest says."""
    chain = Chain.start(header, time_ns=0, synced_position=0)
    for found in scan(view, header, chain):
        if isinstance(found, Record):
            chain = chain.after(found)
            yield found
        elif isinstance(found, Bad) or found.offset != sealed.length:
            reason = found.reason if isinstance(found, Bad) else "it ends too early"
            raise Damaged(f"{LOG_DIR}/{header.name}", found.offset, reason)
    if chain.next_position != sealed.next_position:
        raise Damaged(f"{LOG_DIR}/{header.name}", chain.offset, "it does not end as it should")


def _append(pieces: list[Buffer], end: Chain, record: Record, redact: Redact, seed: int) -> Chain:
    payload = redact(record)
    draft = Draft(
        [record.payload] if payload is None else payload,
        record.events,
        record.time_ns,
        record.type,
        record.flags,
        record.batch_id,
        record.epoch,
    )
    encoded, length, crc = encode_record(
        draft,
        position=record.position,
        time_ns=record.time_ns,
        synced_position=record.synced_position,
        prev_crc=end.prev_crc,
        seed=seed,
    )
    pieces += encoded
    return Chain(
        record.next_position,
        crc,
        record.time_ns,
        max(end.synced_position, record.synced_position),
        end.offset + length,
    )


def remove_copies(log_dir: Directory, names: Sequence[str]) -> None:
    """Remove copies that no manifest names, finished or not."""
    for name in names:
        for left in (name + TMP_SUFFIX, name):
            with suppress(OSError):
                log_dir.remove(left)
