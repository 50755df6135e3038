"""Opening a log's folder: verify what is live, hand every record out once, mend a torn end.

The order of steps is that of docs/FORMAT.md, "Recovery". Running it twice gives what running it
once gives, and a crash inside it is just another crash: the only changes it makes are making the
names it found durable, copying a torn tail to quarantine, truncating it, and publishing a manifest,
each durable before the next.

Where a checkpoint stands for the first segments, those are not read: they have to be there, in the
length and with the header that the manifest knows, and are verified when somebody reads them.

Nothing is changed before all that is replayed has verified. :func:`read_live` does the reading half
alone, without owning the folder; the offline tools use it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from wal import format as f
from wal.codec import Bad, End, Record, SegmentHeader
from wal.errors import Damaged
from wal.links import (
    begins_history_wrong,
    begins_wrong,
    chain_start,
    ends_wrong,
    follows_wrong,
    header_of,
    later_records,
)
from wal.live_set import LOG_DIR, sealed_as
from wal.manifest import (
    Manifest,
    SealedSegment,
    decode_manifest,
    encode_manifest,
    manifest_number,
)
from wal.recovery import Append, Later, Plan, Refuse, SetAside, TailSeen, plan_tail
from wal.segment import TMP_SUFFIX, Chain, scan, write_all
from wal.vfs import Directory, File
from wal.watermark import Watermark, read_watermark

QUARANTINE_DIR: Final = "quarantine"
SEEK_STEP_BYTES: Final = 256 << 10
LISTINGS_MAX: Final = 5

Visit = Callable[[Record], None]


class Start(NamedTuple):
    """Where replay starts: behind `position`. `unusable` names checkpoints that did not verify."""

    position: int
    unusable: tuple[str, ...] = ()


Restore = Callable[[Manifest], Start]
"""Takes up the newest checkpoint that can be used. Raises Damaged for a base that cannot."""


def from_the_log(manifest: Manifest) -> Start:
    """Use no checkpoint: replay all of history."""
    if manifest.base_position:
        raise Damaged(manifest.name, 0, "history begins with a checkpoint, which was not read")
    return Start(0)


@dataclass(slots=True)
class SegmentSeen:
    """A live segment as read. `seek` holds a place to start reading at every 256 KiB or so, and
    nothing for a segment that was not read.
    """

    name: str
    header: SegmentHeader
    chain: Chain
    seek: list[Chain]
    records: int = 0

    def note(self, record: Record) -> None:
        """Take `record`, which continues the chain, into account."""
        if self.chain.offset - self.seek[-1].offset >= SEEK_STEP_BYTES:
            self.seek.append(self.chain)
        self.chain = self.chain.after(record)
        self.records += 1

    def sealed(self) -> SealedSegment:
        return sealed_as(self.header, self.chain)


@dataclass(slots=True)
class LiveLog:
    """All live segments, oldest first; the last is the active one. `plan` is for its end.

    `leftovers` are files that a change of the live set left behind and nothing needs any more.
    """

    manifest: Manifest
    segments: list[SegmentSeen]
    plan: Plan
    size: int
    watermark: Watermark
    start: Start
    strangers: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)

    @property
    def active(self) -> SegmentSeen:
        return self.segments[-1]


def read_manifest(space_dir: Directory) -> Manifest:
    """The newest manifest. Raises :class:`wal.errors.Damaged` if there is none, or it is broken."""
    for _ in range(LISTINGS_MAX):
        numbers = [n for name in space_dir.names() if (n := manifest_number(name)) is not None]
        if not numbers:
            break
        name = f"MANIFEST-{max(numbers)}"
        try:
            file = space_dir.open(name)
        except FileNotFoundError:
            continue  # whoever owns the folder has just put a newer one in its place
        try:
            return decode_manifest(name, file.read_at(0, file.size()))
        finally:
            file.close()
    raise Damaged("MANIFEST", 0, "the space has no manifest")


def publish_manifest(space_dir: Directory, manifest: Manifest) -> None:
    """Make `manifest` the current one; the sync of the folder is the commit point."""
    temporary = manifest.name + TMP_SUFFIX
    if space_dir.exists(temporary):
        space_dir.remove(temporary)
    file = space_dir.create(temporary)
    try:
        write_all(file, 0, encode_manifest(manifest))
        file.sync_data()
    finally:
        file.close()
    space_dir.rename(temporary, space_dir, manifest.name)
    space_dir.sync()
    for name in space_dir.names():
        number = manifest_number(name)
        if number is not None and number < manifest.number:
            space_dir.remove(name)


def may_stand(space_dir: Directory, number: int) -> bool:
    """Whether a manifest of that number has, or may have, its name."""
    try:
        return space_dir.exists(f"MANIFEST-{number}")
    except OSError:
        return True


def read_live(
    space_dir: Directory,
    space_uuid: bytes,
    visit: Visit,
    *,
    fresh: bool = False,
    restore: Restore = from_the_log,
) -> LiveLog:
    """Verify live history in order, calling `visit` for each record behind where `restore` begins.

    `fresh` syncs the active segment and drops its cached pages first, so that what is read is what
    the disk has: after a failed sync the page cache shows bytes that are not there. Raises
    :class:`wal.errors.Damaged` at the first damage; changes nothing.
    """
    manifest = read_manifest(space_dir)
    if manifest.space_uuid != space_uuid.hex():
        raise Damaged(manifest.name, 0, f"the manifest is of space uuid {manifest.space_uuid}")
    log_dir = space_dir.open_dir(LOG_DIR)
    try:
        found = live_headers(log_dir, manifest, space_uuid)
        watermark = read_watermark(space_dir, space_uuid)
        start = restore(manifest)
        segments, tail, size = _read_segments(
            log_dir, manifest, found.headers, visit, fresh, start.position
        )
    finally:
        log_dir.close()
    tail = tail._replace(durable_position=max(tail.durable_position, watermark.position))
    plan = plan_tail(tail)
    if isinstance(plan, Refuse):
        raise Damaged(f"{LOG_DIR}/{segments[-1].name}", plan.offset, plan.reason)
    return LiveLog(
        manifest, segments, plan, size, watermark, start, found.strangers, found.leftovers
    )


def leftovers_of(manifest: Manifest, headers: Mapping[str, SegmentHeader]) -> list[str]:
    """The segments that were live once, or were to be: those the manifest retired, and rewritten
    ones that it does not name.
    """
    named = {*(segment.name for segment in manifest.sealed), manifest.active}
    return [
        name
        for name, header in headers.items()
        if name not in named
        and (f"{LOG_DIR}/{name}" in manifest.retired or header.kind == f.KIND_REWRITTEN)
    ]


def read_checkpoint_only(
    space_dir: Directory, space_uuid: bytes, restore: Restore
) -> LiveLog | None:
    """What can be served of a log that is damaged behind its newest checkpoint, or in what that
    stands for: the log up to there. None without such a checkpoint, or if more is wrong.
    """
    try:
        manifest = read_manifest(space_dir)
        with closing(space_dir.open_dir(LOG_DIR)) as log_dir:
            headers = live_headers(log_dir, manifest, space_uuid).headers
            start = restore(manifest)
            if not start.position:
                return None
            sealed = {segment.segment_id: segment for segment in manifest.sealed}
            segments: list[SegmentSeen] = []
            for header, successor in zip(headers, [*headers[1:], None], strict=True):
                before = segments[-1].chain if segments else None
                chain = chain_start(header, before)
                seen = SegmentSeen(header.name, header, chain, [chain])
                segments.append(seen)
                if header.first_position > start.position or successor is None:
                    break
                with closing(log_dir.open(header.name)) as file:
                    _pass_over(file, seen, sealed[header.segment_id], successor)
    except (Damaged, KeyError):
        return None
    if segments[-1].header.first_position != start.position + 1:
        return None
    end = segments[-1].chain.offset
    return LiveLog(manifest, segments, Append(end), end, Watermark(0, 0), start)


class HeadersFound(NamedTuple):
    """The headers of the live segments in order, the names of files that are none of the log's,
    and those of segments that were live once, or were to be.
    """

    headers: list[SegmentHeader]
    strangers: list[str]
    leftovers: list[str]


def live_headers(log_dir: Directory, manifest: Manifest, space_uuid: bytes) -> HeadersFound:
    """Which segments are live: those the manifest names, then those that chain.

    Every other segment file refuses the space: it is another space's, or history of this one that
    nothing accounts for, and guessing which would risk either isolation or data.
    """
    named = [segment.name for segment in manifest.sealed] + [manifest.active]
    strangers = [n for n in log_dir.names() if not n.endswith((".seg", TMP_SUFFIX))]
    segments = [name for name in log_dir.names() if name.endswith(".seg")]
    # Whatever is in a file that was let go of, nobody looks into it any more.
    leftovers = [n for n in segments if f"{LOG_DIR}/{n}" in manifest.retired and n not in named]
    present = [name for name in segments if name not in leftovers]
    for name in named:
        if name not in present:
            raise Damaged(f"{LOG_DIR}/{name}", 0, "the manifest names this segment; it is missing")
    by_name = {name: header_of(log_dir, f"{LOG_DIR}/{name}", name, space_uuid) for name in present}
    for name in leftovers_of(manifest, by_name):
        del by_name[name]
        leftovers.append(name)
    for segment in manifest.sealed:
        header = by_name[segment.name]
        if (header.segment_id, header.first_position) != (
            segment.segment_id,
            segment.first_position,
        ):
            raise Damaged(
                f"{LOG_DIR}/{segment.name}", 0, "the header is not the one the manifest names"
            )
    headers = [by_name.pop(name) for name in named]
    while by_name:
        last = headers[-1].segment_id
        successors = [h for h in by_name.values() if h.prev_segment_id == last]
        if len(successors) != 1:
            name = min(by_name)
            raise Damaged(
                f"{LOG_DIR}/{name}",
                0,
                "this segment is neither named by the manifest nor the successor of a live one",
            )
        headers.append(by_name.pop(successors[0].name))
    return HeadersFound(headers, strangers, leftovers)


def _read_segments(
    log_dir: Directory,
    manifest: Manifest,
    headers: list[SegmentHeader],
    visit: Visit,
    fresh: bool,
    start: int,
) -> tuple[list[SegmentSeen], TailSeen, int]:
    """The segments, how the last one ends, and its size."""
    first = headers[0]
    if reason := begins_history_wrong(first, manifest):
        raise Damaged(f"{LOG_DIR}/{first.name}", 0, reason)
    if start and all(header.first_position != start + 1 for header in headers):
        raise Damaged(manifest.name, 0, f"no segment begins behind the checkpoint at {start}")
    sealed = {segment.segment_id: segment for segment in manifest.sealed}
    segments: list[SegmentSeen] = []
    before: Chain | None = None
    stop: End | Bad = End(0)
    later: list[Later] = []
    size = 0
    for header, successor in zip(headers, [*headers[1:], None], strict=True):
        if reason := begins_wrong(header, before):
            raise Damaged(f"{LOG_DIR}/{header.name}", 0, reason)
        chain = chain_start(header, before)
        seen = SegmentSeen(header.name, header, chain, [chain])
        segments.append(seen)
        file = log_dir.open(header.name, writable=fresh and successor is None)
        try:
            named = sealed.get(header.segment_id)
            if successor is None:
                stop, later, size = _read_active(file, seen, visit, fresh)
            elif named is not None and named.next_position <= start + 1:
                _pass_over(file, seen, named, successor)
            else:
                _read_sealed(file, seen, visit, named, successor)
        finally:
            file.close()
        before = seen.chain
    end = segments[-1].chain
    return segments, TailSeen(stop, end.next_position, end.synced_position, later), size


def _pass_over(
    file: File, seen: SegmentSeen, named: SealedSegment, successor: SegmentHeader
) -> None:
    """Take a sealed segment's end from the manifest: a checkpoint stands for what it holds."""
    if file.size() != named.length:
        raise Damaged(
            f"{LOG_DIR}/{seen.name}",
            min(file.size(), named.length),
            f"it has {file.size()} bytes; the manifest says {named.length}",
        )
    seen.chain = Chain(named.next_position, named.final_crc, named.time_ns, 0, named.length)
    seen.seek = []
    if reason := follows_wrong(seen.header, seen.chain, successor):
        raise Damaged(f"{LOG_DIR}/{seen.name}", named.length, reason)


def _read_sealed(
    file: File,
    seen: SegmentSeen,
    visit: Visit,
    named: SealedSegment | None,
    successor: SegmentHeader,
) -> None:
    """Read a sealed segment, which must end exactly where its successor and the manifest say."""
    where = f"{LOG_DIR}/{seen.name}"
    view = file.map()
    stop = _scan_into(view, seen, visit)
    if reason := ends_wrong(seen.header, seen.chain, stop, len(view), successor, named):
        raise Damaged(where, seen.chain.offset, reason)


def _read_active(
    file: File, seen: SegmentSeen, visit: Visit, fresh: bool
) -> tuple[End | Bad, list[Later], int]:
    # Read, never mapped: this file may yet be truncated, and that kills whoever has it mapped.
    if fresh:
        file.sync_data()
        file.drop_cache()
    size = file.size()
    view = memoryview(file.read_at(0, size))
    stop = _scan_into(view, seen, visit)
    return stop, later_records(view, stop, seen.header), size


def _scan_into(view: memoryview, seen: SegmentSeen, visit: Visit) -> End | Bad:
    for found in scan(view, seen.header, seen.chain):
        if not isinstance(found, Record):
            return found
        seen.note(found)
        try:
            visit(found)
        except Damaged as error:
            # Whoever is visited knows what is wrong, but not in which file.
            raise Damaged(f"{LOG_DIR}/{seen.name}", found.offset, error.reason) from error
    raise AssertionError("scan ends with End or Bad")  # pragma: no cover


def set_aside_tail(space_dir: Directory, live: LiveLog, plan: SetAside) -> str:
    """Copy the torn tail to quarantine, durably, then truncate it away, durably.

    Returns the name of the quarantine file.
    """
    log_dir = space_dir.open_dir(LOG_DIR)
    try:
        quarantine = quarantine_of(space_dir)
    except BaseException:
        log_dir.close()
        raise
    try:
        file = log_dir.open(live.active.name, writable=True)
        try:
            tail = file.read_at(plan.offset, live.size - plan.offset)
            name = keep_aside(quarantine, f"{live.active.name}.{plan.offset}", tail)
            file.truncate(plan.offset)
            file.sync_data()
        finally:
            file.close()
    finally:
        quarantine.close()
        log_dir.close()
    return name


def quarantine_of(space_dir: Directory) -> Directory:
    """The folder for what is set aside, made anew if somebody cleared it away."""
    if space_dir.exists(QUARANTINE_DIR):
        return space_dir.open_dir(QUARANTINE_DIR)
    quarantine = space_dir.make_dir(QUARANTINE_DIR)
    space_dir.sync()
    return quarantine


def keep_aside(quarantine: Directory, stem: str, data: bytes) -> str:
    """Store `data` durably under a free name, or find it there after a crash right behind this."""
    number = 0
    while quarantine.exists(name := f"{stem}-{number}.torn"):
        file = quarantine.open(name, writable=True)
        try:
            if file.read_at(0, file.size()) == data:
                file.sync_data()
                quarantine.sync()
                return name
        finally:
            file.close()
        number += 1
    file = quarantine.create(name)
    try:
        write_all(file, 0, data)
        file.sync_data()
    finally:
        file.close()
    quarantine.sync()
    return name
