"""Whether a space's quotas leave room for what a command has come to, in the writer's thread.

Exactly, since the writer decides one command after the other: what was decided earlier in the same
group counts already, though it is not durable yet. A batch for which there is no room is refused
whole. What gives something up is never refused, nor is what merely tells of something.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from engram.memory.decide import Latest
from engram.memory.events import (
    Event,
    MemoryForgotten,
    MemoryLinked,
    MemoryPurged,
    MemoryVersion,
)
from engram.memory.payload import Batch
from engram.memory.quotas import NO_QUOTAS, Quotas, check_bytes, check_memories
from engram.memory.settings import Settings
from wal.format import RECORD_HEADER_BYTES, padded

_ADDS: Final = (MemoryVersion, MemoryLinked)


class Known(Protocol):
    """What is known of the space, with what was decided earlier in the group."""

    @property
    def settings(self) -> Settings: ...

    def latest(self, memory_id: str) -> Latest | None: ...

    def living(self, now_us: int) -> int: ...


class Sized(Protocol):
    """A log, as far as its length goes."""

    @property
    def size_bytes(self) -> int: ...


class Room:
    """The room that is left in one space, whose log is `log`."""

    def __init__(self, memory_space_id: str, log: Sized, defaults: Quotas = NO_QUOTAS) -> None:
        self._memory_space_id = memory_space_id
        self._log = log
        self._defaults = defaults
        self._queued = 0

    def take(self, known: Known, batch: Batch, payload_bytes: int, now_us: int) -> None:
        """Have room for a batch, or raise :class:`engram.errors.QuotaExceeded`."""
        record_bytes = RECORD_HEADER_BYTES + padded(payload_bytes)
        if any(isinstance(event, _ADDS) for event in batch.events):
            quotas = known.settings.quotas.over(self._defaults)
            if quotas.memories is not None:
                more = _more(known, batch.events, now_us)
                if more > 0:
                    living = known.living(now_us)
                    check_memories(quotas.memories, living, more, self._memory_space_id)
            if quotas.bytes is not None:
                held = self._log.size_bytes + self._queued
                check_bytes(quotas.bytes, held, record_bytes, self._memory_space_id)
        self._queued += record_bytes

    def clear(self) -> None:
        """What was queued is durable, or came to nothing."""
        self._queued = 0


def _more(known: Known, events: Sequence[Event], now_us: int) -> int:
    """By how many memories there are more once these events are applied."""
    lives: dict[str, tuple[bool, bool]] = {}
    for event in events:
        if not isinstance(event, MemoryVersion | MemoryForgotten | MemoryPurged):
            continue
        if event.id not in lives:
            latest = known.latest(event.id)
            lived = latest is not None and latest.lives_at(now_us)
            lives[event.id] = lived, lived
        after = isinstance(event, MemoryVersion) and (
            event.expires_us is None or event.expires_us > now_us
        )
        lives[event.id] = lives[event.id][0], after
    return sum(after - before for before, after in lives.values())
