"""What goes into opening a log and appending to it, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from wal.recovery import SetAside
from wal.replay import LiveLog


class LogOptions(NamedTuple):
    """Sizes in bytes. A segment is sealed by the first group that finds it this long."""

    segment_bytes: int = 64 << 20
    allocate_bytes_min: int = 64 << 10
    allocate_bytes_max: int = 1 << 20


DEFAULT_OPTIONS: Final = LogOptions()


class Ack(NamedTuple):
    """Where a record went: its first position, its event count and the time it carries."""

    position: int
    events: int
    time_ns: int

    @property
    def last_position(self) -> int:
        return self.position + self.events - 1


@dataclass(frozen=True, slots=True)
class Opened:
    """What opening found and did, for reports."""

    records: int
    segments: int
    bytes: int
    quarantined: str | None
    quarantined_bytes: int
    quarantine_reason: str | None
    strangers: tuple[str, ...]
    replayed_from: int
    unusable_checkpoints: tuple[str, ...]


def opened_of(live: LiveLog, quarantined: str | None, quarantined_bytes: int) -> Opened:
    """What was found, and the torn tail that was set aside."""
    return Opened(
        records=sum(segment.records for segment in live.segments),
        segments=len(live.segments),
        bytes=sum(segment.chain.offset for segment in live.segments),
        quarantined=quarantined,
        quarantined_bytes=quarantined_bytes,
        quarantine_reason=live.plan.reason if isinstance(live.plan, SetAside) else None,
        strangers=tuple(live.strangers),
        replayed_from=live.start.position + 1,
        unusable_checkpoints=live.start.unusable,
    )
