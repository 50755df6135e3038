"""The events a space's log consists of. Immutable facts; everything else is derived from them.

Field order is part of the format: events are stored as msgpack arrays, and new fields may only be
added at the end, with a default, so that old logs stay readable. Times are int64 microseconds since
the epoch; the time an event was stored is its record's.
"""

from __future__ import annotations

from typing import Any

import msgspec

from engram.memory.model import Kind
from engram.memory.settings import Settings


class SpaceCreated(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag="space.created"):
    """The first event of every log: whose it is, and what makes its vectors."""

    memory_space_id: str
    generation: int
    embedding_model: str
    dimensions: int


class SpaceConfigured(Settings, frozen=True, array_like=True, kw_only=True, tag="space.configured"):
    """The space's settings from here on, all of them."""


class SpaceDeleted(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag="space.deleted"):
    """The space was deleted. Nothing but its restoration may follow; it may be purged from
    `purge_after_us` on.
    """

    purge_after_us: int


class SpaceRestored(
    msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag="space.restored"
):
    """The deletion before it is undone."""


class SpaceCompacted(
    msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag="space.compacted"
):
    """A checkpoint stands for the log up to a position; history begins at `oldest_position`.

    If `purged_to` is not 0, no file holds a byte any more of what was purged up to there: `files`
    are those made for that, each with the checksum that stands for it.
    """

    checkpoint_position: int
    oldest_position: int
    checkpoint_bytes: int
    purged_to: int = 0
    files: tuple[tuple[str, int], ...] = ()


class MemoryVersion(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One whole revision of a memory. Its vector travels beside the events, see `payload`."""

    id: str
    revision: int
    kind: Kind
    content: str
    tags: tuple[str, ...]
    metadata: dict[str, Any]
    confidence: float
    occurred_us: int | None
    expires_us: int | None
    source: str | None


class MemoryStored(MemoryVersion, frozen=True, array_like=True, kw_only=True, tag="memory.stored"):
    """A memory was remembered."""


class MemoryRevised(
    MemoryVersion, frozen=True, array_like=True, kw_only=True, tag="memory.revised"
):
    """A living memory was changed; the event holds its whole new state."""


class MemoryRestored(
    MemoryVersion, frozen=True, array_like=True, kw_only=True, tag="memory.restored"
):
    """A forgetting is undone; the event holds the memory whole, as its next revision."""


class MemoryForgotten(
    msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag="memory.forgotten"
):
    """A memory is no longer recalled. `reason`: `request`, `expired` for a passed expiry, or by a
    policy `capacity` or `faded`; then it had the `base_level`, and `bound` is how many may live, or
    the threshold. Of a belief also `source-forgotten` or `source-revised`, for what became of a
    memory that it rested on.
    """

    id: str
    revision: int
    reason: str
    base_level: float | None = None
    bound: float | None = None


class MemoryPurged(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag="memory.purged"):
    """A memory is gone for good; `revision` was its last. Its bytes go with the next compaction."""

    id: str
    revision: int


class HistoryRedacted(
    msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag="history.redacted"
):
    """Here stood an event of a memory that was purged, or of one of its links."""


class MemoryLinked(msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag="memory.linked"):
    """A living memory was linked to another, or the weight of that link was set anew."""

    source: str
    target: str
    relation: str
    weight: float


class MemoryUnlinked(
    msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag="memory.unlinked"
):
    """A link between two living memories was removed."""

    source: str
    target: str
    relation: str


class MemoryConsolidated(
    msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag="memory.consolidated"
):
    """A living belief, in that revision, was formed from memories: `sources` and `revisions` run
    side by side, in order of the ids. `strength` is their mean cosine with their centroid.

    A citation is which source, by number, and which characters of the belief's content came from
    it: the first, and one past the last. `summariser` says what made the content.
    """

    id: str
    revision: int
    sources: tuple[str, ...]
    revisions: tuple[int, ...]
    strength: float
    citations: tuple[tuple[int, int, int], ...]
    summariser: str


class MemoryRecalled(
    msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag="memory.recalled"
):
    """A recall was answered. Observed: a crash may lose the last of these.

    `ids` and `scores` run side by side, best first and no more than a named limit. Of the query
    only a digest is kept, keyed by the space's uuid.
    """

    recall_id: str
    mode: str
    query_digest: str | None
    ids: tuple[str, ...]
    scores: tuple[float, ...]


class ActivationSpread(
    msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag="activation.spread"
):
    """What a recall lit, told behind its `memory.recalled` and observed like it. The fields run
    side by side, the strongest first and no more than a named limit: ids, how much came to each,
    and along how many associations most of it.
    """

    recall_id: str
    ids: tuple[str, ...]
    activations: tuple[float, ...]
    hops: tuple[int, ...]


class RequestAnswered(
    msgspec.Struct, frozen=True, array_like=True, kw_only=True, tag="request.answered"
):
    """How a request was answered that had a key of its own: told again where it comes again.

    It stands at the end of the record of the events that it told of, and has no position there; the
    record of a request that caused none holds it alone. `key` and `request` are digests, `body` is
    compressed, and `ids` are the memories it names. Once one of these was purged, nothing is left
    but the key; in a space that was made from another one, not even that.
    """

    key: bytes
    request: bytes
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    ids: tuple[str, ...]


Event = (
    SpaceCreated
    | SpaceConfigured
    | SpaceDeleted
    | SpaceRestored
    | SpaceCompacted
    | MemoryStored
    | MemoryRevised
    | MemoryForgotten
    | MemoryRestored
    | MemoryPurged
    | MemoryLinked
    | MemoryUnlinked
    | MemoryConsolidated
    | MemoryRecalled
    | ActivationSpread
    | HistoryRedacted
    | RequestAnswered
)


def event_type(event: Event) -> str:
    """The name of an event's type, as it is stored and told."""
    return str(type(event).__struct_config__.tag)
