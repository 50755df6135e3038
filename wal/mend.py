"""Mending what opening refuses but an operator may decide: from a folder to a plan, and its steps.

Four things can be put right without guessing: a manifest that is missing or broken although the
segments prove each other, from position 1 on; files in `log/` that are not the log's; a checkpoint
that is broken and not the base, since the log holds what it stands for; and an end of the last
segment that was durable once but holds no whole record any more, if the loss is accepted. Anything
else, damage in the middle of history above all, is for salvaging.

Whatever a step takes away it first puts into `quarantine/`, durably. Each step is durable before
the next, and planning again after a crash gives the steps that are left. The caller holds the lock
and has made a copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import zip_longest
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from wal import format as f
from wal.codec import Bad, End, Record, SegmentHeader, decode_segment_header
from wal.errors import Damaged
from wal.links import begins_wrong, chain_start, ends_wrong, header_of, later_records
from wal.live_set import CHECKPOINT_DIR, LOG_DIR
from wal.manifest import Manifest, SealedSegment, manifest_number
from wal.recovery import Refuse, TailSeen, plan_tail
from wal.replay import keep_aside, leftovers_of, publish_manifest, quarantine_of, read_manifest
from wal.segment import TMP_SUFFIX, Chain, scan
from wal.vfs import Directory
from wal.watermark import WATERMARK_NAME, read_watermark

SEGMENT_SUFFIX: Final = ".seg"


class MoveAside(NamedTuple):
    """A file in `log/` that is not the log's goes to quarantine."""

    name: str
    bytes: int
    reason: str


class RestoreManifest(NamedTuple):
    """A manifest is published anew; the `broken` ones go to quarantine."""

    manifest: Manifest
    broken: tuple[str, ...]
    reason: str


class AcceptEnd(NamedTuple):
    """The last segment ends at `offset` from now on, and the watermark is given up: positions
    `first` to `last` were durable and are gone. `bytes` of unreadable tail go to quarantine.
    """

    name: str
    offset: int
    bytes: int
    first: int
    last: int
    reason: str


class DropCheckpoint(NamedTuple):
    """The manifest does without a checkpoint from now on, which goes to quarantine."""

    name: str
    bytes: int
    reason: str


Step = MoveAside | RestoreManifest | DropCheckpoint | AcceptEnd


def plan_mending(
    space_dir: Directory, space_uuid: bytes, broken: Mapping[str, str] = MappingProxyType({})
) -> list[Step]:
    """The steps after which the log opens; none if it does already. Changes nothing.

    `broken` says by their names what is wrong with checkpoints. Raises
    :class:`wal.errors.Damaged` for what cannot be mended, and :class:`wal.errors.Unsupported`.
    """
    if not space_dir.exists(LOG_DIR):
        raise Damaged(LOG_DIR, 0, "it is missing")
    manifest, reason = _manifest(space_dir, space_uuid)
    with closing(space_dir.open_dir(LOG_DIR)) as log_dir:
        strangers = list(_strangers(log_dir, space_uuid, manifest))
        aside = {step.name for step in strangers}
        headers = {
            name: header_of(log_dir, f"{LOG_DIR}/{name}", name, space_uuid)
            for name in log_dir.names()
            if name.endswith(SEGMENT_SUFFIX) and name not in aside
        }
        for name in () if manifest is None else leftovers_of(manifest, headers):
            del headers[name]
        chain = _chained(headers, manifest)
        ends, accepted = _read(space_dir, log_dir, chain, manifest, space_uuid)
    steps: list[Step] = [*strangers]
    if manifest is not None:
        steps += _dropped(space_dir, manifest, broken)
    else:
        steps.append(_restored(space_dir, space_uuid, chain, ends, reason))
    return steps if accepted is None else [*steps, accepted]


def _manifest(space_dir: Directory, space_uuid: bytes) -> tuple[Manifest | None, str]:
    try:
        manifest = read_manifest(space_dir)
    except Damaged as error:
        return None, str(error)
    if manifest.space_uuid != space_uuid.hex():
        return None, f"{manifest.name} is of space uuid {manifest.space_uuid}"
    return manifest, ""


def _dropped(
    space_dir: Directory, manifest: Manifest, broken: Mapping[str, str]
) -> Iterator[DropCheckpoint]:
    for checkpoint in manifest.checkpoints:
        reason = broken.get(checkpoint.name)
        if reason is None:
            continue
        path = f"{CHECKPOINT_DIR}/{checkpoint.name}"
        if checkpoint.base and checkpoint.position == manifest.base_position:
            raise Damaged(path, 0, f"{reason}. It is the base, behind which history begins")
        size = 0
        if space_dir.exists(CHECKPOINT_DIR):
            with closing(space_dir.open_dir(CHECKPOINT_DIR)) as folder:
                if folder.exists(checkpoint.name):
                    with closing(folder.open(checkpoint.name)) as file:
                        size = file.size()
        yield DropCheckpoint(checkpoint.name, size, reason)


def _strangers(
    log_dir: Directory, space_uuid: bytes, manifest: Manifest | None
) -> Iterator[MoveAside]:
    """Files that are surely none of the log's. What might be its history is never among them."""
    names = log_dir.names()
    named = [] if manifest is None else [*(s.name for s in manifest.sealed), manifest.active]
    for name in names:
        if name.endswith(TMP_SUFFIX) or name in named:
            continue
        reason = "it is not a segment"
        if name.endswith(SEGMENT_SUFFIX):
            with closing(log_dir.open(name)) as file:
                page = file.read_at(0, f.SEGMENT_HEADER_BYTES)
            header = decode_segment_header(page)
            if isinstance(header, Bad):
                continue
            if header.space_uuid != space_uuid:
                reason = f"it belongs to another space (uuid {header.space_uuid.hex()})"
            elif header.name != name and header.name in names:
                reason = f"it is a copy of {header.name}, which is there too"
            else:
                continue
        try:
            with closing(log_dir.open(name)) as file:
                yield MoveAside(name, file.size(), reason)
        except IsADirectoryError:
            pass  # opening does not mind it


def _chained(headers: dict[str, SegmentHeader], manifest: Manifest | None) -> list[SegmentHeader]:
    """The live segments in order. Without a manifest they have to prove each other: from one that
    has no predecessor on, each the only successor of the one before, and none left over.
    """
    left = dict(headers)
    if manifest is None:
        first = [name for name, header in left.items() if header.prev_segment_id == 0]
        if len(first) != 1:
            raise Damaged(LOG_DIR, 0, f"{len(first)} segments have no predecessor; one should")
        chain = [left.pop(first[0])]
        if chain[0].first_position != 1:
            raise Damaged(
                f"{LOG_DIR}/{first[0]}",
                0,
                f"history begins at position {chain[0].first_position}, behind a base that only "
                "the manifest names",
            )
    else:
        for name in [*(s.name for s in manifest.sealed), manifest.active]:
            if name not in left:
                raise Damaged(f"{LOG_DIR}/{name}", 0, "the manifest names it; it is missing")
        chain = [left.pop(s.name) for s in manifest.sealed] + [left.pop(manifest.active)]
    while left:
        last = chain[-1].segment_id
        successors = [h for h in left.values() if h.prev_segment_id == last]
        if len(successors) != 1:
            raise Damaged(
                f"{LOG_DIR}/{min(left)}",
                0,
                f"{len(successors)} segments follow segment {last}, and {len(left)} have no place",
            )
        chain.append(left.pop(successors[0].name))
    return chain


def _read(
    space_dir: Directory,
    log_dir: Directory,
    headers: list[SegmentHeader],
    manifest: Manifest | None,
    space_uuid: bytes,
) -> tuple[list[Chain], AcceptEnd | None]:
    """Where each segment's records end, and what is to be accepted about the last one's."""
    sealed = {} if manifest is None else {s.segment_id: s for s in manifest.sealed}
    ends: list[Chain] = []
    before: Chain | None = None
    for header, successor in zip_longest(headers, headers[1:]):
        where = f"{LOG_DIR}/{header.name}"
        if reason := begins_wrong(header, before):
            raise Damaged(where, 0, reason)
        with closing(log_dir.open(header.name)) as file:
            view = memoryview(file.read_at(0, file.size()))
        chain = chain_start(header, before)
        stop: End | Bad = End(chain.offset)
        for found in scan(view, header, chain):
            if isinstance(found, Record):
                chain = chain.after(found)
            else:
                stop = found
        before = chain
        ends.append(chain)
        if successor is not None:
            named = sealed.get(header.segment_id)
            if reason := ends_wrong(header, chain, stop, len(view), successor, named):
                raise Damaged(where, chain.offset, reason)
            continue
        later = later_records(view, stop, header)
        marked = read_watermark(space_dir, space_uuid).position
        durable = max(chain.synced_position, marked)
        plan = plan_tail(TailSeen(stop, chain.next_position, durable, later))
        if isinstance(plan, Refuse):
            if later or chain.synced_position >= chain.next_position:
                behind = f"; {len(later)} records behind it verify" if later else ""
                raise Damaged(where, plan.offset, plan.reason + behind)
            cut = len(view) - plan.offset if isinstance(stop, Bad) else 0
            return ends, AcceptEnd(
                header.name, plan.offset, cut, chain.next_position, marked, plan.reason
            )
    return ends, None


def _restored(
    space_dir: Directory,
    space_uuid: bytes,
    headers: list[SegmentHeader],
    ends: list[Chain],
    reason: str,
) -> RestoreManifest:
    broken = [name for name in space_dir.names() if manifest_number(name) is not None]
    numbers = [manifest_number(name) or 0 for name in broken]
    sealed = tuple(
        SealedSegment(
            name=header.name,
            segment_id=header.segment_id,
            first_position=header.first_position,
            next_position=end.next_position,
            length=end.offset,
            final_crc=end.prev_crc,
            time_ns=end.time_ns,
        )
        for header, end in zip(headers[:-1], ends[:-1], strict=True)
    )
    manifest = Manifest(
        number=max(numbers, default=0) + 1,
        space_uuid=space_uuid.hex(),
        sealed=sealed,
        active=headers[-1].name,
    )
    return RestoreManifest(manifest, tuple(broken), reason)


def mend(space_dir: Directory, steps: list[Step]) -> list[str]:
    """Do the steps. Returns the names, in quarantine, of what was set aside."""
    with (
        closing(space_dir.open_dir(LOG_DIR)) as log_dir,
        closing(quarantine_of(space_dir)) as quarantine,
    ):
        kept: list[str] = []
        for step in steps:
            match step:
                case MoveAside(name):
                    kept.append(_move(log_dir, quarantine, name))
                case RestoreManifest(manifest, broken):
                    kept += [_copy(space_dir, quarantine, name) for name in broken]
                    publish_manifest(space_dir, manifest)  # and removes those before it
                case DropCheckpoint(name):
                    kept += _drop(space_dir, quarantine, name)
                case AcceptEnd(name, offset, length):
                    if length:
                        kept.append(_cut(log_dir, quarantine, name, offset, length))
                    # Last: until it is gone, planning again finds the rest of this step.
                    kept.append(_move(space_dir, quarantine, WATERMARK_NAME))
        return kept


def _drop(space_dir: Directory, quarantine: Directory, name: str) -> list[str]:
    """The file goes last: until the manifest does without it, planning again finds it."""
    kept: list[str] = []
    folder = space_dir.open_dir(CHECKPOINT_DIR) if space_dir.exists(CHECKPOINT_DIR) else None
    try:
        there = folder is not None and folder.exists(name)
        if folder is not None and there:
            kept.append(_copy(folder, quarantine, name))
        manifest = read_manifest(space_dir)
        left = tuple(each for each in manifest.checkpoints if each.name != name)
        publish_manifest(
            space_dir,
            msgspec.structs.replace(
                manifest,
                number=manifest.number + 1,
                checkpoints=left,
                retired=(*manifest.retired, f"{CHECKPOINT_DIR}/{name}"),
            ),
        )
        if folder is not None and there:
            folder.remove(name)
            folder.sync()
    finally:
        if folder is not None:
            folder.close()
    return kept


def _copy(directory: Directory, quarantine: Directory, name: str) -> str:
    with closing(directory.open(name)) as file:
        return keep_aside(quarantine, name, file.read_at(0, file.size()))


def _move(directory: Directory, quarantine: Directory, name: str) -> str:
    """As a copy and a removal: a rename between folders could lose both names in a crash."""
    kept = _copy(directory, quarantine, name)
    directory.remove(name)
    directory.sync()
    return kept


def _cut(log_dir: Directory, quarantine: Directory, name: str, offset: int, length: int) -> str:
    with closing(log_dir.open(name, writable=True)) as file:
        kept = keep_aside(quarantine, f"{name}.{offset}", file.read_at(offset, length))
        file.truncate(offset)
        file.sync_data()
    return kept
