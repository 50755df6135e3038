"""Reading a log's folder without owning it: a report of what is there and of all that is wrong.

Opening a log stops at the first damage, because it must not serve anything; a report goes on, so
that whoever has to mend the folder sees everything at once. Nothing is locked and nothing changed.
The folder may be in use: its files are held as they were at one moment, what the writer is just
adding looks torn and is reported as such, and a tail that seems damaged is read again before it is
believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Final

from wal import format as f
from wal.codec import Bad, End, Record, SegmentHeader
from wal.errors import Damaged
from wal.links import (
    begins_history_wrong,
    begins_wrong,
    chain_start,
    ends_wrong,
    header_of,
    later_records,
)
from wal.live_set import CHECKPOINT_DIR, LOG_DIR
from wal.manifest import Checkpoint, Manifest, SealedSegment
from wal.recovery import Later, Refuse, SetAside, TailSeen, plan_tail
from wal.replay import QUARANTINE_DIR, live_headers, read_manifest
from wal.retire import CHECKPOINT_SUFFIX
from wal.segment import TMP_SUFFIX, Chain, scan
from wal.still import held_still
from wal.vfs import Directory
from wal.watermark import read_watermark

READS_MAX: Final = 3
RETIRED: Final = "the manifest let go of it"


class Check:
    """What else is held against one reading of a log. This one minds nothing."""

    def begin(self, space_dir: Directory, manifest: Manifest) -> Iterable[Damage]:
        """Called first, with what the manifest names; returns what is wrong with checkpoints."""
        return ()

    def record(self, record: Record) -> None:
        """Called for each record that verifies, in order; may raise Damaged."""

    def end(self) -> Iterable[Damage]:
        """Called behind the last record; returns what is wrong besides."""
        return ()


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong: the file inside the folder, the byte where it begins, and why."""

    file: str
    offset: int
    reason: str


@dataclass(slots=True)
class SegmentReport:
    """One live segment: which positions it holds, in how many records and bytes."""

    name: str
    first_position: int
    last_position: int
    records: int
    bytes: int
    sealed: bool
    rewritten: bool = False


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file that a change of the live files left behind. It goes when the space is next opened."""

    file: str
    reason: str


@dataclass(slots=True)
class LogReport:
    """What was found. `torn` describes an unfinished tail: expected after a crash, not damage.
    `oldest_position` is where the history begins that the log holds.
    """

    space_uuid: str | None = None
    oldest_position: int = 1
    segments: list[SegmentReport] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    leftovers: list[Leftover] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    torn: Damage | None = None
    torn_bytes: int = 0
    strangers: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)
    watermark: int = 0

    @property
    def last_position(self) -> int:
        if not self.segments:
            return self.oldest_position - 1
        return self.segments[-1].last_position

    @property
    def records(self) -> int:
        return sum(segment.records for segment in self.segments)

    def note(self, error: Damaged) -> None:
        self.damage.append(Damage(error.file, error.offset, error.reason))


def inspect_log(
    space_dir: Directory,
    space_uuid: bytes | None = None,
    new_check: Callable[[], Check] = Check,
) -> LogReport:
    """Verify every byte of a log.

    Each reading makes itself a `check`, which sees the manifest and every record in order. Without
    `space_uuid`, the manifest says whose log it is. Raises :class:`wal.errors.Unsupported` for a
    newer format, FileNotFoundError where there is no log.
    """
    report = LogReport()
    for _ in range(READS_MAX):
        before = report
        with held_still(space_dir) as held:
            report = _inspect_once(held, space_uuid, new_check())
        if not report.damage or report.damage == before.damage:
            break
    return report


def _inspect_once(space_dir: Directory, space_uuid: bytes | None, check: Check) -> LogReport:
    report = LogReport()
    manifest: Manifest | None = None
    try:
        manifest = read_manifest(space_dir)
        report.space_uuid = manifest.space_uuid
        report.oldest_position = manifest.base_position + 1
        report.checkpoints = list(manifest.checkpoints)
    except Damaged as error:
        report.note(error)
    if space_uuid is not None and report.space_uuid not in {None, space_uuid.hex()}:
        report.damage.append(
            Damage("MANIFEST", 0, f"it belongs to another space (uuid {report.space_uuid})")
        )
    uuid = space_uuid or (bytes.fromhex(manifest.space_uuid) if manifest else None)
    if uuid is not None:
        # Read before the segments: of a log in use it may only be older than they are.
        report.watermark = read_watermark(space_dir, uuid).position
    if manifest is not None:
        _look_at_checkpoints(space_dir, manifest, report)
        report.damage += check.begin(space_dir, manifest)
    with closing(space_dir.open_dir(LOG_DIR)) as log_dir:
        _inspect_segments(log_dir, manifest, uuid, check, report)
    report.damage += check.end()
    if space_dir.exists(QUARANTINE_DIR):
        with closing(space_dir.open_dir(QUARANTINE_DIR)) as quarantine:
            report.quarantined = quarantine.names()
    return report


def _look_at_checkpoints(space_dir: Directory, manifest: Manifest, report: LogReport) -> None:
    """Which files lie there; what is in those that are live is for the check to say."""
    if not space_dir.exists(CHECKPOINT_DIR):
        return
    live = {each.name for each in manifest.checkpoints}
    with closing(space_dir.open_dir(CHECKPOINT_DIR)) as folder:
        for name in folder.names():
            path = f"{CHECKPOINT_DIR}/{name}"
            if name in live:
                continue
            if path in manifest.retired:
                report.leftovers.append(Leftover(path, RETIRED))
            elif name.endswith((CHECKPOINT_SUFFIX, TMP_SUFFIX)):
                report.leftovers.append(Leftover(path, "the manifest does not name it"))
            else:
                report.strangers.append(path)


def _inspect_segments(
    log_dir: Directory,
    manifest: Manifest | None,
    uuid: bytes | None,
    check: Check,
    report: LogReport,
) -> None:
    headers = list(_headers(log_dir, uuid, manifest, report))
    sealed: dict[int, SealedSegment] = {}
    if manifest is not None and uuid is not None:
        if headers and (reason := begins_history_wrong(headers[0], manifest)):
            report.damage.append(Damage(f"{LOG_DIR}/{headers[0].name}", 0, reason))
        _check_named(log_dir, manifest, uuid, headers, report)
        sealed = {segment.segment_id: segment for segment in manifest.sealed}
    chain: Chain | None = None
    for header, successor in zip_longest(headers, headers[1:]):
        named = sealed.get(header.segment_id)
        chain = _inspect_segment(log_dir, header, successor, named, chain, check, report)


def _headers(
    log_dir: Directory, space_uuid: bytes | None, manifest: Manifest | None, report: LogReport
) -> Iterator[SegmentHeader]:
    """The headers that verify and belong here, in order; without those that were let go of."""
    headers = []
    named = set[str]() if manifest is None else {s.name for s in manifest.sealed}
    retired = () if manifest is None else manifest.retired
    for name in log_dir.names():
        if f"{LOG_DIR}/{name}" in retired:
            report.leftovers.append(Leftover(f"{LOG_DIR}/{name}", RETIRED))
            continue
        if not name.endswith(".seg"):
            if not name.endswith(TMP_SUFFIX):
                report.strangers.append(f"{LOG_DIR}/{name}")
            continue
        try:
            header = header_of(log_dir, f"{LOG_DIR}/{name}", name, space_uuid)
        except Damaged as error:
            report.note(error)
        else:
            if header.kind == f.KIND_LOG or name in named or manifest is None:
                headers.append(header)
            else:
                reason = "a copy of a segment, with contents taken out, that is not live"
                report.leftovers.append(Leftover(f"{LOG_DIR}/{name}", reason))
    return iter(sorted(headers, key=lambda header: (header.first_position, header.segment_id)))


def _check_named(
    log_dir: Directory,
    manifest: Manifest,
    space_uuid: bytes,
    headers: list[SegmentHeader],
    report: LogReport,
) -> None:
    """Every segment the manifest names must be there, and every other must be live as opening
    decides it.
    """
    present = {header.name for header in headers}
    damaged = {damage.file for damage in report.damage}
    for name in [*(segment.name for segment in manifest.sealed), manifest.active]:
        if name not in present and f"{LOG_DIR}/{name}" not in damaged:
            report.damage.append(
                Damage(f"{LOG_DIR}/{name}", 0, "the manifest names this segment; it is missing")
            )
    try:
        live_headers(log_dir, manifest, space_uuid)
    except Damaged as error:
        if error.file not in {damage.file for damage in report.damage}:
            report.note(error)


def _inspect_segment(
    log_dir: Directory,
    header: SegmentHeader,
    successor: SegmentHeader | None,
    named: SealedSegment | None,
    before: Chain | None,
    check: Check,
    report: LogReport,
) -> Chain:
    where = f"{LOG_DIR}/{header.name}"
    if reason := begins_wrong(header, before):
        report.damage.append(Damage(where, 0, reason))
    chain = chain_start(header, before)
    file = log_dir.open(header.name)
    try:
        # Read, not mapped: a live server may cut the active segment back at any moment.
        view = memoryview(file.read_at(0, file.size()))
    finally:
        file.close()
    records = 0
    stop: End | Bad = End(f.SEGMENT_HEADER_BYTES)
    for found in scan(view, header, chain):
        if not isinstance(found, Record):
            stop = found
            break
        chain = chain.after(found)
        records += 1
        try:
            check.record(found)
        except Damaged as error:
            report.damage.append(Damage(where, found.offset, error.reason))
    report.segments.append(
        SegmentReport(
            header.name,
            header.first_position,
            chain.next_position - 1,
            records,
            chain.offset,
            successor is not None,
            header.kind == f.KIND_REWRITTEN,
        )
    )
    later = later_records(view, stop, header)
    if successor is None and named is None:
        _judge_tail(where, len(view), chain, stop, later, report)
    elif reason := ends_wrong(header, chain, stop, len(view), successor, named):
        behind = f"; {len(later)} records behind it verify" if later else ""
        report.damage.append(Damage(where, chain.offset, reason + behind))
    return chain


def _judge_tail(
    where: str, size: int, chain: Chain, stop: End | Bad, later: list[Later], report: LogReport
) -> None:
    durable = max(chain.synced_position, report.watermark)
    plan = plan_tail(TailSeen(stop, chain.next_position, durable, later))
    if isinstance(plan, Refuse):
        report.damage.append(Damage(where, plan.offset, plan.reason))
    elif isinstance(plan, SetAside):
        report.torn = Damage(where, plan.offset, plan.reason)
        report.torn_bytes = size - plan.offset
