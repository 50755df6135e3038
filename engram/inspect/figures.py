"""What a log adds up to: one report for people and programs. See :func:`inspect`."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from engram.inspect.checkpoints import CheckpointFigures, figures_of
from engram.inspect.reading import Finding, Found, Lost, Missing, Repeated, Room, Torn, positions
from engram.inspect.reading import read as read_log
from engram.inspect.sources import (
    OpenLog,
    Segment,
    Source,
    find_sources,
    opened,
    read_manifest_file,
)
from engram.memory.events import event_type
from engram.memory.payload import PayloadError, decode_batch
from engram.memory.times import from_us
from engram.spaces.verify import verify_space
from wal import format as f
from wal.errors import Damaged, Unsupported
from wal.inspect import Damage, Leftover
from wal.manifest import Checkpoint, Manifest, decode_manifest, manifest_number
from wal.replay import QUARANTINE_DIR
from wal.vfs import Directory

NS_PER_US: Final = 1_000


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Part of a file: `used`, `zeros` or `damaged`."""

    start: int
    end: int
    what: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Positions that no record has."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Bucket:
    """How many records take at least `least` bytes, and at most `most`."""

    least: int
    most: int
    records: int


@dataclass(slots=True)
class SegmentFigures:
    """One file. `state` is sealed, active, loose (named without its space), foreign (another
    space's), leftover (not part of history any more; its contents are not counted) or unreadable;
    what is not known is None. `used_bytes` counts header and records. Of a `rewritten` one some
    contents were taken out.
    """

    file: str
    state: str
    segment_id: int | None
    bytes: int
    used_bytes: int = 0
    zero_bytes: int = 0
    damaged_bytes: int = 0
    records: int = 0
    events: int = 0
    first_position: int | None = None
    last_position: int | None = None
    first_time: datetime | None = None
    last_time: datetime | None = None
    seed_from_records: bool = False
    rewritten: bool = False
    spans: list[Span] = field(default_factory=list)

    def span(self, start: int, end: int, what: str) -> None:
        """Note what part of the file is; neighbours of one kind become one."""
        if self.spans and self.spans[-1].what == what and self.spans[-1].end == start:
            start = self.spans.pop().start
        self.spans.append(Span(start, end, what))


@dataclass(frozen=True, slots=True)
class SizeFigures:
    """Bytes that records take in the file, headers and padding included."""

    least: int
    median: int
    most: int
    histogram: tuple[Bucket, ...]


@dataclass(frozen=True, slots=True)
class ManifestFigures:
    """A manifest file; of one that does not verify, all but the name is empty."""

    name: str
    ok: bool
    space_uuid: str | None
    sealed: tuple[str, ...]
    active: str | None
    checkpoints: tuple[Checkpoint, ...] = ()
    retired: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Quarantined:
    """What was set aside earlier."""

    name: str
    bytes: int


@dataclass(slots=True)
class Inspection:
    """All about one log. `in_flux` says that its tail is being written by `owner` right now;
    `oldest_position` is where the history begins that it holds.
    """

    path: str
    kind: str
    memory_space_id: str | None = None
    space_uuid: str | None = None
    owner: str | None = None
    position: int = 0
    oldest_position: int = 1
    records: int = 0
    events: int = 0
    memories: int | None = None
    segments: list[SegmentFigures] = field(default_factory=list)
    checkpoints: list[CheckpointFigures] = field(default_factory=list)
    types: dict[str, int] = field(default_factory=dict)
    record_bytes: SizeFigures | None = None
    gaps: list[Gap] = field(default_factory=list)
    damage: list[Damage] = field(default_factory=list)
    torn: Damage | None = None
    torn_bytes: int = 0
    in_flux: bool = False
    leftovers: list[Leftover] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    quarantined: list[Quarantined] = field(default_factory=list)
    manifests: list[ManifestFigures] = field(default_factory=list)
    watermark: int = 0

    @property
    def ok(self) -> bool:
        return not self.damage


def inspect(path: str | Path) -> list[Inspection]:
    """A report for each log at `path`. Reads everything, changes nothing.

    Raises what :mod:`engram.inspect.sources` raises.
    """
    return [_inspect(source) for source in find_sources(path)]


def _inspect(source: Source) -> Inspection:
    report = Inspection(source.shown, source.kind)
    if source.kind == "manifest":
        _read_manifest(report, source.path)
        return report
    with opened(source) as log:
        report.owner = log.owner
        report.space_uuid = None if log.uuid is None else log.uuid.hex()
        report.watermark = log.watermark
        if log.identity is not None:
            report.memory_space_id = log.identity.memory_space_id
        report.oldest_position = log.oldest_position
        report.checkpoints = [figures_of(held) for held in log.checkpoints]
        tally = _Tally(report, log)
        for finding in read_log(log):
            tally.take(finding)
        tally.close()
        if source.kind == "space":
            _judge_space(report, source, log.directory)
        else:
            report.damage = [*log.damage, *tally.damage]
    report.in_flux = report.torn is not None and report.owner is not None
    return report


def _judge_space(report: Inspection, source: Source, space_dir: Directory) -> None:
    """What is wrong with a whole space is for verifying to say: it knows what opening would do."""
    verified = verify_space(source.path)
    report.damage = verified.damage
    report.torn, report.torn_bytes = verified.log.torn, verified.log.torn_bytes
    report.strangers, report.leftovers = verified.log.strangers, verified.log.leftovers
    report.memories = verified.memories if verified.ok else None
    if space_dir.exists(QUARANTINE_DIR):
        with closing(space_dir.open_dir(QUARANTINE_DIR)) as quarantine:
            for name in quarantine.names():
                with closing(quarantine.open(name)) as file:
                    report.quarantined.append(Quarantined(name, file.size()))
    for name in space_dir.names():
        if manifest_number(name) is not None:
            with closing(space_dir.open(name)) as file:
                data = file.read_at(0, file.size())
            report.manifests.append(_manifest_figures(name, data))


def _manifest_figures(name: str, data: bytes) -> ManifestFigures:
    try:
        return _of_manifest(decode_manifest(name, data))
    except (Damaged, Unsupported):
        return ManifestFigures(name, False, None, (), None)


def _of_manifest(manifest: Manifest) -> ManifestFigures:
    sealed = tuple(segment.name for segment in manifest.sealed)
    return ManifestFigures(
        manifest.name,
        True,
        manifest.space_uuid,
        sealed,
        manifest.active,
        manifest.checkpoints,
        manifest.retired,
    )


def _read_manifest(report: Inspection, path: Path) -> None:
    try:
        manifest = read_manifest_file(path)
    except Damaged as error:
        report.damage.append(Damage(error.file, error.offset, error.reason))
        report.manifests.append(ManifestFigures(path.name, False, None, (), None))
        return
    report.space_uuid = manifest.space_uuid
    report.manifests.append(_of_manifest(manifest))
    report.oldest_position = manifest.base_position + 1
    if manifest.sealed:
        report.position = manifest.sealed[-1].next_position - 1


class _Tally:
    """Counts findings into a report."""

    def __init__(self, report: Inspection, log: OpenLog) -> None:
        self._report = report
        self.damage: list[Damage] = []
        self._types: Counter[str] = Counter()
        self._sizes: Counter[int] = Counter()
        self._by_name: dict[str, SegmentFigures] = {}
        ours = [segment for segment in log.segments if segment.is_read]
        for segment in log.segments:
            state = "active" if ours and segment is ours[-1] else "sealed"
            figures = _figures_of(segment, state if log.source.kind == "space" else "loose")
            self._by_name[segment.name] = figures
            report.segments.append(figures)

    def take(self, finding: Finding) -> None:
        figures = self._by_name[finding.segment.name]
        shown = finding.segment.shown
        match finding:
            case Found():
                self._record(figures, finding)
            case Room(_, start, end):
                figures.zero_bytes += end - start
                figures.span(start, end, "zeros")
            case Torn(_, start, end, reason):
                figures.damaged_bytes += end - start
                figures.span(start, end, "damaged")
                if self._report.torn is None:
                    self._report.torn = Damage(shown, start, reason)
                self._report.torn_bytes += end - start
            case Lost(_, start, end, reason):
                self.damage.append(Damage(shown, start, reason))
                if not any(s.what == "zeros" and s.start == start for s in figures.spans):
                    figures.damaged_bytes += end - start
                    figures.span(start, end, "damaged")
            case Missing(_, offset, first, last):
                self._report.gaps.append(Gap(first, last))
                self.damage.append(Damage(shown, offset, f"{positions(first, last)} missing"))
            case Repeated(_, offset, first, last):
                self.damage.append(Damage(shown, offset, f"{positions(first, last)} repeated"))

    def _record(self, figures: SegmentFigures, found: Found) -> None:
        record = found.record
        time = from_us(record.time_ns // NS_PER_US)
        if figures.first_position is None:
            figures.first_position, figures.first_time = record.position, time
        figures.last_position, figures.last_time = record.next_position - 1, time
        figures.records += 1
        figures.events += record.events
        figures.used_bytes += record.end - record.offset
        figures.span(record.offset, record.end, "used")
        self._sizes[record.end - record.offset] += 1
        try:
            self._types.update(map(event_type, decode_batch(record.payload).events))
        except PayloadError as error:
            self.damage.append(Damage(found.segment.shown, record.offset, str(error)))

    def close(self) -> None:
        report = self._report
        report.records = sum(figures.records for figures in report.segments)
        report.events = sum(figures.events for figures in report.segments)
        positions = [figures.last_position or 0 for figures in report.segments]
        report.position = max([*positions, report.oldest_position - 1])
        report.types = dict(self._types.most_common())
        report.record_bytes = size_figures(self._sizes)
        for figures in report.segments:
            figures.spans.sort()


def _figures_of(segment: Segment, state: str) -> SegmentFigures:
    if segment.foreign:
        state = "foreign"
    elif segment.leftover is not None:
        state = "leftover"
    elif segment.seed is None:
        state = "unreadable"
    figures = SegmentFigures(segment.shown, state, segment.segment_id, segment.size)
    figures.rewritten = segment.rewritten
    figures.seed_from_records = segment.header is None and segment.seed is not None
    if segment.header is not None:
        figures.used_bytes = f.SEGMENT_HEADER_BYTES
        figures.span(0, f.SEGMENT_HEADER_BYTES, "used")
    if not segment.is_read and segment.size > f.SEGMENT_HEADER_BYTES:
        figures.span(f.SEGMENT_HEADER_BYTES, segment.size, "zeros")
    return figures


def size_figures(sizes: Counter[int]) -> SizeFigures | None:
    """Least, median and most of record sizes, and buckets between powers of two."""
    if not sizes:
        return None
    middle = (sizes.total() + 1) // 2  # the lower one of two
    median = counted = 0
    buckets: Counter[int] = Counter()
    for size, records in sorted(sizes.items()):
        if counted < middle:
            median = size
        counted += records
        buckets[size.bit_length()] += records
    histogram = tuple(
        Bucket(1 << bits - 1, (1 << bits) - 1, buckets[bits])
        for bits in range(min(buckets), max(buckets) + 1)
    )
    return SizeFigures(min(sizes), median, max(sizes), histogram)
