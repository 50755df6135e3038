"""The values users see: memories, recall answers, space descriptions.

Times are aware datetimes in UTC, to the microsecond; in JSON they are RFC 3339.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from engram.memory.decay import Decay
from engram.memory.etags import etag_of
from engram.memory.forgetting import Forgetting
from engram.memory.kinds import KINDS as KINDS
from engram.memory.kinds import Kind as Kind
from engram.memory.quotas import Quotas
from engram.memory.retention import Retention
from engram.memory.rhythm import Rhythm

SpaceState = Literal["active", "read_only", "poisoned", "damaged", "deleted"]
Mode = Literal["similarity", "lexical", "hybrid", "spreading"]
MODES: tuple[Mode, ...] = ("similarity", "lexical", "hybrid", "spreading")
OnConflict = Literal["error", "skip", "replace"]
ON_CONFLICT: tuple[OnConflict, ...] = ("error", "skip", "replace")
Vector = npt.NDArray[np.float32]
Metadata = dict[str, Any]
AsOf = int | datetime
"""A position, or a time with its zone."""


class Memory(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """One remembered item, as of its latest revision.

    `position` is that of the event that made this revision. `embedding` is filled in only where it
    was asked for; shape (dimensions,), float32.
    """

    id: str
    memory_space_id: str
    kind: Kind
    content: str
    tags: tuple[str, ...]
    metadata: Metadata
    confidence: float
    occurred_at: datetime | None
    expires_at: datetime | None
    stored_at: datetime
    source: str | None
    revision: int
    position: int
    embedding: Vector | None = None

    @property
    def etag(self) -> str:
        """What stands for just this revision, for `if_match`; opaque. It is no field, so that a
        memory is the same whichever way it came. Raises ValueError for one that came with an event,
        and for copies.
        """
        incarnation = self.__dict__.get(_INCARNATION)
        if incarnation is None:
            raise ValueError(
                "this memory has no etag: it came with an event, or is a copy. Get it from its "
                "space again"
            )
        return etag_of(incarnation, self.position)


_INCARNATION: Final = "_incarnation"


def with_etag(memory: Memory, space_uuid: str) -> Memory:
    """The same memory; to be called by whoever has just made it."""
    msgspec.structs.force_setattr(memory, _INCARNATION, space_uuid)
    return memory


class NewMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller hands in to be remembered; everything but the content has a default."""

    content: str
    id: str | None = None
    kind: Kind = "episode"
    tags: tuple[str, ...] = ()
    metadata: Metadata = {}
    confidence: float = 1.0
    occurred_at: datetime | None = None
    expires_at: datetime | None = None
    source: str | None = None
    embedding: Vector | None = None


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """A revision: fields left UNSET stay, given ones replace whole, None clears."""

    content: str | msgspec.UnsetType = msgspec.UNSET
    tags: tuple[str, ...] | msgspec.UnsetType | None = msgspec.UNSET
    metadata: Metadata | msgspec.UnsetType | None = msgspec.UNSET
    confidence: float | msgspec.UnsetType | None = msgspec.UNSET
    occurred_at: datetime | msgspec.UnsetType | None = msgspec.UNSET
    expires_at: datetime | msgspec.UnsetType | None = msgspec.UNSET
    source: str | msgspec.UnsetType | None = msgspec.UNSET
    embedding: Vector | msgspec.UnsetType = msgspec.UNSET


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which memories a recall or a listing may return; every given condition must hold.

    `since` and `until` bound `occurred_at` (or, where a memory has none, `stored_at`): since is
    inclusive, until exclusive. `metadata` compares for equality, or by the operators
    `$in $gt $gte $lt $lte $ne $exists`.
    """

    tags_all: tuple[str, ...] = ()
    tags_any: tuple[str, ...] = ()
    kind: Kind | None = None
    source: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    metadata: Metadata = {}


class Confidence(msgspec.Struct, frozen=True):
    """How likely it is that this memory answers the cue, with an interval; all within [0, 1]."""

    point: float
    lower: float
    upper: float


class Spread(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far activation goes, in mode `spreading`: how many associations at most, which part of it
    each passes on (0 to 1), and below how much of what the cue gave in all it goes no further.
    """

    max_hops: int = 4
    decay: float = 0.5
    threshold: float = 0.01


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One association that activation went along, between the memories of two ids. `weight` is its
    share of all that leads on from the first; `relation` is `time`, `words`, `mention`, `belief`,
    `recall`, or what a link is called.
    """

    from_id: str = msgspec.field(name="from")
    to_id: str = msgspec.field(name="to")
    weight: float
    relation: str


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of a score:
    `score = similarity + lexical + window + activation + recency + frequency`.

    `cosine` and `bm25` are the raw figures of the memory itself. `path` is the strongest way along
    which it was lit, from a memory that the cue matched. `positions` are the log positions of the
    memory and of the memories and links on the path.
    """

    similarity: float
    lexical: float
    window: float = 0.0
    activation: float = 0.0
    recency: float = 0.0
    frequency: float = 0.0
    cosine: float | None
    bm25: float | None
    path: tuple[Step, ...] = ()
    positions: tuple[int, ...]


class Hit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One recalled memory. `hops` is 0 for a direct match; else the greater part of its score came
    along so many associations.
    """

    memory: Memory
    score: float
    confidence: Confidence
    activation: float
    hops: int
    why: Why | None = None


class Recall(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a recall, best first. `position` is that of the durable view it was read from.

    Iterating over it iterates over the hits.
    """

    memory_space_id: str
    recall_id: str
    position: int
    mode: Mode
    recorded: bool
    results: tuple[Hit, ...]
    took_ms: float

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a listing by ascending position; `next` continues it, None at the end."""

    memories: tuple[Memory, ...]
    next: int | None


class Remembered(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An acknowledged, durable batch, in its order. `position` is that of its last event, or of the
    last before it where it caused none; `skipped` are the ids of those that were left as they are.
    """

    memory_space_id: str
    position: int
    memories: tuple[Memory, ...]
    skipped: tuple[str, ...] = ()


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    """An acknowledged, durable forgetting."""

    id: str
    position: int


class ForgottenMatching(msgspec.Struct, frozen=True, kw_only=True):
    """An acknowledged, durable forgetting of all that matched: how many, and the position of the
    last event that it caused, or of the space where nothing matched.
    """

    memory_space_id: str
    count: int
    position: int


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """A directed link between two memories, of a weight above 0 and up to 1.

    `position` is that of the event that set it.
    """

    memory_space_id: str
    source: str
    target: str
    relation: str
    weight: float
    position: int


class LinksPage(msgspec.Struct, frozen=True, kw_only=True):
    """One page of a memory's links by ascending position; `next` continues it, None at the end."""

    links: tuple[Link, ...]
    next: int | None


class Unlinked(msgspec.Struct, frozen=True, kw_only=True):
    """An acknowledged, durable removal of a link."""

    source: str
    target: str
    relation: str
    position: int


class Compaction(msgspec.Struct, frozen=True, kw_only=True):
    """What a compaction came to. The checkpoint at `checkpoint_position` stands for the log up to
    there; `oldest_position` is where the history that is held begins. Sizes in bytes: of that
    checkpoint, of all checkpoints, and of the log.
    """

    memory_space_id: str
    checkpoint_position: int
    oldest_position: int
    checkpoint_bytes: int
    checkpoints_bytes: int
    log_bytes: int
    segments_retired: int
    took_ms: float


class PurgedFile(msgspec.Struct, frozen=True):
    """A file made without what was purged: its path in the space, and the CRC32C for all of it."""

    name: str
    crc32c: str


class PurgeReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """That no file of the space holds a byte of `count` memories any more.

    They were purged at `position`, or up to there where there are several; that it was complete is
    the event at `completed_position`. `id` is given for a single one. Copies outside the space are
    not reached.
    """

    memory_space_id: str
    id: str | None = None
    count: int
    position: int
    purged_at: datetime
    completed_position: int
    completed_at: datetime
    files: tuple[PurgedFile, ...]


class ExportReport(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that was written whole: the history of a space from `oldest_position` to `position`.

    `bytes` is its length, `digest` (BLAKE2b, hexadecimal) that of all but its end, which holds it.
    """

    memory_space_id: str
    space_uuid: str
    oldest_position: int
    position: int
    records: int
    events: int
    bytes: int
    digest: str


class Reembedded(msgspec.Struct, frozen=True, kw_only=True):
    """What was embedded anew, and with what: so many `memories`, forgotten ones counted too, of
    which `resumed` had been embedded by an attempt before.
    """

    model: str
    dimensions: int
    memories: int
    resumed: int


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What a new space was made from: which space, and up to which position.

    `as_of` is what was asked for. Where that falls inside a batch, which is stored whole or not at
    all, the new space ends before it, and `position` is less. `reembedded` is None for a copy that
    has the vectors of its source.
    """

    memory_space_id: str
    space_uuid: str
    position: int
    as_of: int | None = None
    reembedded: Reembedded | None = None

    @property
    def rounded(self) -> bool:
        return self.as_of is not None and self.position < self.as_of


class Recalled(msgspec.Struct, frozen=True):
    """One memory that a recall answered with, and its score there."""

    id: str
    score: float


class BeliefSource(msgspec.Struct, frozen=True):
    """A memory that a belief rests on, in the revision that it was formed from."""

    id: str
    revision: int


class Citation(msgspec.Struct, frozen=True):
    """Which characters of a belief's content, from `start` to before `end`, came from a source."""

    id: str
    start: int
    end: int


class Activated(msgspec.Struct, frozen=True):
    """A memory that a recall lit: what came to it in all, of 1 that the cue gave, and along how
    many associations most of that.
    """

    id: str
    activation: float
    hop: int


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One fact of a space's history, as its feed tells it; the fields below `time` go by `type`.

    `memory.stored`, `memory.revised` and `memory.restored` carry the whole `memory` (without its
    embedding);
    `memory.forgotten` carries `id`, `revision` and `reason`, and, where a policy had it go, its
    `base_level` and the `bound` (the capacity, or the threshold); `memory.recalled` carries
    `recall_id`, `mode`, `results` and a `query_digest` (never the query); `activation.spread`
    carries the `recall_id` and what was `activated`; `space.created` carries
    `generation` and `embedding`; `space.configured` carries all settings: `retention`, `decay`,
    `forgetting`, `consolidation` and `quotas`;
    `space.deleted` carries `purge_after`; `space.compacted` carries `checkpoint_position`,
    `oldest_position` (where history begins now) and `checkpoint_bytes` and, if it completed purges,
    `purged_to`, the position of the last of them. `memory.purged` carries `id` and `revision`;
    `memory.linked` carries `source`, `target`, `relation` and `weight`, `memory.unlinked` the first
    three. `memory.consolidated` carries the `id` and `revision` of a belief, the `sources` that it
    was formed from, its `strength`, `citations` and `summariser`. `history.redacted`, which stands
    where an event of a purged memory was, the positions it stands for.
    """

    memory_space_id: str
    space_uuid: str
    position: int
    type: str
    time: datetime
    memory: Memory | None = None
    id: str | None = None
    revision: int | None = None
    reason: str | None = None
    recall_id: str | None = None
    mode: str | None = None
    query_digest: str | None = None
    results: tuple[Recalled, ...] | None = None
    generation: int | None = None
    embedding: EmbeddingSpec | None = None
    retention: Retention | None = None
    purge_after: datetime | None = None
    checkpoint_position: int | None = None
    oldest_position: int | None = None
    checkpoint_bytes: int | None = None
    purged_to: int | None = None
    redacted_from: int | None = msgspec.field(default=None, name="from")
    redacted_to: int | None = msgspec.field(default=None, name="to")
    source: str | None = None
    target: str | None = None
    relation: str | None = None
    weight: float | None = None
    decay: Decay | None = None
    consolidation: Rhythm | None = None
    sources: tuple[BeliefSource, ...] | None = None
    strength: float | None = None
    citations: tuple[Citation, ...] | None = None
    summariser: str | None = None
    forgetting: Forgetting | None = None
    base_level: float | None = None
    bound: float | None = None
    activated: tuple[Activated, ...] | None = None
    quotas: Quotas | None = None


class EmbeddingSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Which embedder a space is pinned to. Model `caller`: the vectors come with the memories."""

    model: str
    dimensions: int


class SpaceInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A space's description. Listings open nothing, so its settings and figures, which need the
    space open, may be None there; of a space too damaged to say who it is, only `state` and
    `detail` are known. Of a deleted one no figures are known, but `deleted_at` and `purge_after`.
    """

    memory_space_id: str
    uuid: str | None = None
    generation: int | None = None
    state: SpaceState | None = None
    created_at: datetime | None = None
    embedding: EmbeddingSpec | None = None
    retention: Retention | None = None
    decay: Decay | None = None
    forgetting: Forgetting | None = None
    consolidation: Rhythm | None = None
    quotas: Quotas | None = None
    position: int | None = None
    memories: int | None = None
    bytes: int | None = None
    oldest_position: int | None = None
    checkpoint_bytes: int | None = None
    detail: str | None = None
    deleted_at: datetime | None = None
    purge_after: datetime | None = None


class DeletedSpace(msgspec.Struct, frozen=True, kw_only=True):
    """A durable deletion. It can be undone at least until `purge_after`."""

    memory_space_id: str
    purge_after: datetime


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """That a space was purged: which life of its id, when, and how much was removed.

    `files` and `bytes` count what its folder held. `deleted_at` is None if that was not readable.
    """

    memory_space_id: str
    uuid: str
    generation: int
    deleted_at: datetime | None
    purged_at: datetime
    files: int
    bytes: int
