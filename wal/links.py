"""What ties a segment to its file, its neighbours and the manifest, as reasons for people.

Opening stops at the first thing that is wrong, a report goes on to the next, and mending decides
what can be put right: all three ask here.
"""

from __future__ import annotations

from contextlib import closing

from wal import format as f
from wal.codec import Bad, End, SegmentHeader, find_records
from wal.errors import Damaged
from wal.manifest import Manifest, SealedSegment
from wal.recovery import Later
from wal.segment import Chain, read_header
from wal.vfs import Directory


def header_of(log_dir: Directory, where: str, name: str, space_uuid: bytes | None) -> SegmentHeader:
    """The header of a segment file, which must be of this space (of any, if None) and have the
    name that follows from it. `where` is for messages.

    Raises :class:`wal.errors.Damaged`, :class:`wal.errors.Foreign` for another space's segment.
    """
    with closing(log_dir.open(name)) as file:
        header = read_header(where, file.read_at(0, f.SEGMENT_HEADER_BYTES), space_uuid)
    if header.name != name:
        raise Damaged(where, 0, f"the file holds segment {header.name}: it was renamed or copied")
    return header


def chain_start(header: SegmentHeader, before: Chain | None) -> Chain:
    """Where a segment's records start, `before` being where the segment before it ended."""
    if before is None:
        return Chain.start(header, time_ns=0, synced_position=0)
    return Chain.start(header, time_ns=before.time_ns, synced_position=before.synced_position)


def begins_history_wrong(first: SegmentHeader, manifest: Manifest) -> str | None:
    """Why the oldest segment is not the one that history begins with, if it is not."""
    begins = manifest.base_position + 1
    if first.first_position == begins:
        return None
    return f"it begins at position {first.first_position}; history begins at {begins}"


def begins_wrong(header: SegmentHeader, before: Chain | None) -> str | None:
    """Why a segment does not go on where the one before it ended, if it does not."""
    if before is None or header.first_position == before.next_position:
        return None
    return (
        f"it begins at position {header.first_position}, but the one before ends at "
        f"{before.next_position - 1}"
    )


def ends_wrong(
    header: SegmentHeader,
    chain: Chain,
    stop: End | Bad,
    size: int,
    successor: SegmentHeader | None,
    named: SealedSegment | None,
) -> str | None:
    """Why a sealed segment, read up to `chain`, does not end where its successor and the manifest
    say (as far as there are any), if it does not.
    """
    if isinstance(stop, Bad):
        return stop.reason
    if chain.offset != size:
        return "zeros follow the last record of a sealed segment"
    if named is not None:
        said = (named.length, named.final_crc, named.next_position, named.time_ns)
        if (chain.offset, chain.prev_crc, chain.next_position, chain.time_ns) != said:
            return "it does not end as the manifest says"
    return follows_wrong(header, chain, successor)


def follows_wrong(header: SegmentHeader, end: Chain, successor: SegmentHeader | None) -> str | None:
    """Why a segment that ends at `end` is not the one that its successor was started behind, if it
    is not. Of one that was rewritten since, the successor knows nothing; the manifest does.
    """
    if successor is None or header.kind == f.KIND_REWRITTEN:
        return None
    told = (successor.prev_segment_id, successor.prev_len, successor.prev_final_crc)
    if (header.segment_id, end.offset, end.prev_crc) == told:
        return None
    return f"it does not end as its successor says (length {successor.prev_len})"


def later_records(view: memoryview, stop: End | Bad, header: SegmentHeader) -> list[Later]:
    """The records that verify behind bytes that do not."""
    if isinstance(stop, End):
        return []
    return [
        Later(record.offset, record.position, record.synced_position)
        for record in find_records(view, stop.offset + 1, header.seed)
    ]
