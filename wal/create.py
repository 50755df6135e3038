"""Laying out a new log in a new folder."""

from __future__ import annotations

from wal.codec import Draft, SegmentHeader, encode_record
from wal.live_set import LOG_DIR
from wal.manifest import Checkpoint, Manifest
from wal.replay import QUARANTINE_DIR, publish_manifest
from wal.segment import prepare_segment, publish_segment
from wal.vfs import Buffer, Directory


def create_log(
    space_dir: Directory,
    *,
    space_uuid: bytes,
    nonce: bytes,
    now_ns: int,
    first: Draft | None,
    base: Checkpoint | None = None,
) -> None:
    """Lay out a log in a new folder, durably but for the folder's name.

    It holds the record `first`, at position 1; or it begins, empty, behind the checkpoint `base`,
    which is there already.
    """
    begins = 1 if base is None else base.position + 1
    header = SegmentHeader(space_uuid, 1, begins, nonce, 0, 0, 0, now_ns)
    record: list[Buffer] = []
    if first is not None:
        record, _, _ = encode_record(
            first,
            position=begins,
            time_ns=first.time_ns,
            synced_position=0,
            prev_crc=header.seed,
            seed=header.seed,
        )
    space_dir.make_dir(QUARANTINE_DIR).close()
    log_dir = space_dir.make_dir(LOG_DIR)
    try:
        prepare_segment(log_dir, header, b"".join(record)).close()
        publish_segment(log_dir, header)
    finally:
        log_dir.close()
    manifest = Manifest(
        number=1,
        space_uuid=space_uuid.hex(),
        sealed=(),
        active=header.name,
        checkpoints=() if base is None else (base,),
    )
    publish_manifest(space_dir, manifest)
