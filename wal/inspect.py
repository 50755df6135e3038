"""Reading a log's folder without owning it: a report of what is there and of all that is wrong.

Opening a log stops at the first damage, because it must not serve anything; a report goes on, so
that whoever has to mend the folder sees everything at once. Nothing is locked and nothing changed.
The folder may be in use: what the writer is just adding looks torn and is reported as such, and a
tail that seems damaged is read again before it is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from wal.live_set import LOG_DIR
from wal.manifest import Manifest, SealedSegment
from wal.recovery import Later, Refuse, SetAside, TailSeen, plan_tail
from wal.replay import QUARANTINE_DIR, live_headers, read_manifest
from wal.segment import TMP_SUFFIX, Chain, scan
from wal.vfs import Directory
from wal.watermark import read_watermark

READS_MAX: Final = 3
Check = Callable[[Record], None]


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


@dataclass(slots=True)
class LogReport:
    """What was found. `torn` describes an unfinished tail: expected after a crash, not damage."""

    space_uuid: str | None = None
    segments: list[SegmentReport] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    torn: Damage | None = None
    torn_bytes: int = 0
    strangers: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)
    watermark: int = 0

    @property
    def last_position(self) -> int:
        return self.segments[-1].last_position if self.segments else 0

    @property
    def records(self) -> int:
        return sum(segment.records for segment in self.segments)

    def note(self, error: Damaged) -> None:
        self.damage.append(Damage(error.file, error.offset, error.reason))


def inspect_log(
    space_dir: Directory,
    space_uuid: bytes | None = None,
    new_check: Callable[[], Check] = lambda: lambda record: None,
) -> LogReport:
    """Verify every byte of a log.

    Each reading makes itself a `check`, which sees every record in order and may raise `Damaged`.
    Without `space_uuid`, the manifest says whose log it is. Raises
    :class:`wal.errors.Unsupported` for a newer format, FileNotFoundError where there is no log.
    """
    report = LogReport()
    for _ in range(READS_MAX):
        before, report = report, _inspect_once(space_dir, space_uuid, new_check())
        if not report.damage or report.damage == before.damage:
            break
    return report


def _inspect_once(space_dir: Directory, space_uuid: bytes | None, check: Check) -> LogReport:
    report = LogReport()
    manifest: Manifest | None = None
    try:
        manifest = read_manifest(space_dir)
        report.space_uuid = manifest.space_uuid
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
    log_dir = space_dir.open_dir(LOG_DIR)
    try:
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
    finally:
        log_dir.close()
    if space_dir.exists(QUARANTINE_DIR):
        quarantine = space_dir.open_dir(QUARANTINE_DIR)
        report.quarantined = quarantine.names()
        quarantine.close()
    return report


def _headers(
    log_dir: Directory, space_uuid: bytes | None, manifest: Manifest | None, report: LogReport
) -> Iterator[SegmentHeader]:
    """The headers that verify and belong here, in order; without those that were let go of."""
    headers = []
    named = set[str]() if manifest is None else {s.name for s in manifest.sealed}
    retired = () if manifest is None else manifest.retired
    for name in log_dir.names():
        if f"{LOG_DIR}/{name}" in retired:
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
            check(found)
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
