"""The shapes of answers that are put together rather than being one value of the engine.

Nothing is decoded into them: they describe, and tests hold what a server answers against them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from engram.memory.model import Event, Origin, PurgeReceipt, Receipt, SpaceInfo


class SpacesPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of spaces in order of id; `next` continues it, null at the end."""

    spaces: list[SpaceInfo]
    next: str | None


class MadeSpace(SpaceInfo, frozen=True, kw_only=True):
    """A space that was just made from another, and what it was made from."""

    origin: Origin | None


class MemoryHistory(msgspec.Struct, frozen=True, kw_only=True):
    """All that happened to a memory, oldest first."""

    memory_space_id: str
    id: str
    events: list[Event]


class MemoryPurged(msgspec.Struct, frozen=True, kw_only=True):
    """A memory is gone for good."""

    receipt: PurgeReceipt


class MatchingPurged(msgspec.Struct, frozen=True, kw_only=True):
    """What matched is gone for good; null if nothing did."""

    receipt: PurgeReceipt | None


class SpacePurged(msgspec.Struct, frozen=True, kw_only=True):
    """A space is gone for good."""

    receipt: Receipt


class Alive(msgspec.Struct, frozen=True, kw_only=True):
    """The process answers."""

    status: Literal["ok"]
