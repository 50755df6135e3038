"""The values of a completion, as users see them: what is known of a memory, and what it became."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

from engram.memory.model import Kind, Metadata, Vector

_T = TypeVar("_T")


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """Fields of a memory that are known, as evidence: memories that agree count for more.

    `content` is words that stand in it; `since` (inclusive) and `until` (exclusive) bound its
    `occurred_at`, or `stored_at` where it has none; `metadata` compares for equality, or by the
    operators of a filter.
    """

    content: str | None = None
    tags: tuple[str, ...] = ()
    kind: Kind | None = None
    source: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    metadata: Metadata = {}


class Voter(msgspec.Struct, frozen=True, kw_only=True):
    """A memory of the attractor, and the share of the attention it has."""

    id: str
    position: int
    weight: float


class Filled(msgspec.Struct, Generic[_T], frozen=True, kw_only=True):
    """One completed value. `confidence` is the attention of all memories that say so, `evidence`
    the heaviest of them.
    """

    value: _T
    confidence: float
    evidence: tuple[Voter, ...]


class Completion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A completed cue. A field is None where most of the attention is on memories without it.

    `attractor` are the memories that the cue settled on, heaviest first; `steps` how often the
    state moved, `converged` whether it came to rest; `entropy` (nats) how widely the attention is
    spread, and `single` whether one memory has at least nine tenths of it. `embedding` is there
    only where it was asked for: float32 (dimensions,), of unit length.
    """

    memory_space_id: str
    position: int
    beta: float
    steps: int
    converged: bool
    entropy: float
    single: bool
    attractor: tuple[Voter, ...]
    content: Filled[str] | None
    kind: Filled[str] | None
    source: Filled[str] | None
    occurred_at: Filled[datetime] | None
    tags: tuple[Filled[str], ...]
    metadata: dict[str, Filled[Any]]
    took_ms: float
    embedding: Vector | None = None
