"""What readers see of a state: an immutable `View` of its columns at one position. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from engram.indexes.attributes import AttributesView
from engram.indexes.beliefs import BeliefsView
from engram.indexes.columns import LayeredView
from engram.indexes.lexicon import LexiconView
from engram.indexes.links import LinksView
from engram.indexes.sequences import SequencesView
from engram.indexes.timeline import TimelineView
from engram.indexes.uses import UsesView
from engram.indexes.vectors import VectorsView
from engram.memory.columns import Past
from engram.memory.events import MemoryRestored, MemoryRevised, MemoryStored, MemoryVersion
from engram.memory.model import Filter, Memory, Vector
from engram.memory.times import NEVER_US, from_us, to_us

NO_ROW: Final = -1
BoolArray = npt.NDArray[np.bool_]
_decoder: Final = msgspec.msgpack.Decoder(MemoryStored | MemoryRevised | MemoryRestored)


class Named(msgspec.Struct, frozen=True, array_like=True):
    """What a memory version begins with, which is read sooner than all of it."""

    type: str
    id: str
    revision: int


_naming: Final = msgspec.msgpack.Decoder(Named)


def version_in(document: bytes) -> MemoryVersion:
    """A memory version as it lies in the column of documents. Raises msgspec.MsgspecError."""
    version: MemoryVersion = _decoder.decode(document)
    return version


def earliest_expiry(expires_us: npt.NDArray[np.int64], live: BoolArray) -> int:
    """When the first of the living rows expires, NEVER_US without any; both arguments (rows,)."""
    return int(expires_us.min(where=live, initial=NEVER_US))


class View:
    """The durable state at one position; never changes. All columns have `rows` rows, but for
    `forgotten`, which pairs the row of each forgotten memory with the position it was forgotten at.
    `previous` leads from a row to the one before it with the same id, or to NO_ROW. The first rows
    may have come from a checkpoint: of what else happened to their ids, `past` has the positions.
    `earliest_expiry_us` is that of the living rows, NEVER_US where none of them expires.
    """

    __slots__ = (
        "attributes",
        "beliefs",
        "confidences",
        "documents",
        "earliest_expiry_us",
        "expires_us",
        "forgotten",
        "lexicon",
        "links",
        "live",
        "memory_space_id",
        "past",
        "position",
        "positions",
        "previous",
        "rows",
        "sequences",
        "stored_us",
        "timeline",
        "uses",
        "vectors",
    )

    def __init__(
        self,
        memory_space_id: str,
        position: int,
        documents: LayeredView,
        positions: npt.NDArray[np.int64],
        stored_us: npt.NDArray[np.int64],
        expires_us: npt.NDArray[np.int64],
        earliest_expiry_us: int,
        confidences: npt.NDArray[np.float64],
        live: BoolArray,
        vectors: VectorsView,
        lexicon: LexiconView,
        attributes: AttributesView,
        timeline: TimelineView,
        previous: npt.NDArray[np.int64],
        forgotten: npt.NDArray[np.int64],
        past: Past,
        sequences: SequencesView,
        links: LinksView,
        uses: UsesView,
        beliefs: BeliefsView,
    ) -> None:
        self.memory_space_id = memory_space_id
        self.position = position
        self.rows = len(live)
        self.documents = documents
        self.positions = positions
        self.stored_us = stored_us
        self.expires_us = expires_us
        self.earliest_expiry_us = earliest_expiry_us
        self.confidences = confidences
        self.live = live
        self.vectors = vectors
        self.lexicon = lexicon
        self.attributes = attributes
        self.timeline = timeline
        self.previous = previous
        self.forgotten = forgotten
        self.past = past
        self.sequences = sequences
        self.links = links
        self.uses = uses
        self.beliefs = beliefs

    def newest(self) -> BoolArray:
        """The rows that no later version of their id follows, alive or not, bool (rows,)."""
        newest = np.ones(self.rows, np.bool_)
        newest[self.previous[self.previous >= 0]] = False
        return newest

    def visible(self, now_us: int) -> BoolArray:
        """The rows that may be shown at that time, bool (rows,): alive and not expired."""
        if now_us < self.earliest_expiry_us:
            return self.live
        mask: BoolArray = self.live & (self.expires_us > now_us)
        return mask

    def expired(self, now_us: int) -> npt.NDArray[np.int64]:
        """The living rows whose time is up by then, int64 (n,), that is not shown any more."""
        if now_us < self.earliest_expiry_us:
            return np.empty(0, np.int64)
        return np.flatnonzero(self.live & (self.expires_us <= now_us))

    def live_count(self, now_us: int) -> int:
        return int(np.count_nonzero(self.visible(now_us)))

    def matching(self, filter: Filter | None, visible: BoolArray) -> BoolArray:
        """The visible rows that meet the filter, bool (rows,)."""
        if filter is None:
            return visible
        mask: BoolArray = visible & self.attributes.mask(filter)
        if filter.since is not None or filter.until is not None:
            within = np.zeros(self.rows, np.bool_)
            within[self.timeline.between(_us(filter.since), _us(filter.until))] = True
            mask &= within
        return mask

    def history(self, row: int) -> list[int]:
        """The positions of what happened to the id whose newest row is `row`, oldest first."""
        rows = self.chain(row)
        ended = self.forgotten[np.isin(self.forgotten[:, 0], rows), 1]
        linked, formed = self.links.positions(rows), self.beliefs.positions(rows)
        parts = (self.past.of(rows[-1]), self.positions[rows], ended, linked, formed)
        found: list[int] = np.sort(np.concatenate(parts)).tolist()
        return found

    def chain(self, row: int) -> list[int]:
        """The rows of the id whose newest row is `row`, newest first."""
        rows = [row]
        while (row := int(self.previous[row])) != NO_ROW:
            rows.append(row)
        return rows

    def version(self, row: int) -> MemoryVersion:
        """The memory version in a row."""
        return version_in(self.documents.get(row))

    def named(self, row: int) -> Named:
        """The id and revision of the memory version in a row."""
        return _naming.decode(self.documents.get(row))

    def memory(self, row: int, *, include_embedding: bool = False) -> Memory:
        """The memory in a row as users see it."""
        return memory_of(
            self.memory_space_id,
            self.version(row),
            position=int(self.positions[row]),
            stored_us=int(self.stored_us[row]),
            embedding=self.vectors.row(row) if include_embedding else None,
        )


def memory_of(
    memory_space_id: str,
    version: MemoryVersion,
    *,
    position: int,
    stored_us: int,
    embedding: Vector | None = None,
) -> Memory:
    """A memory version and where it was stored, as users see it."""
    return Memory(
        id=version.id,
        memory_space_id=memory_space_id,
        kind=version.kind,
        content=version.content,
        tags=version.tags,
        metadata=version.metadata,
        confidence=version.confidence,
        occurred_at=None if version.occurred_us is None else from_us(version.occurred_us),
        expires_at=None if version.expires_us is None else from_us(version.expires_us),
        stored_at=from_us(stored_us),
        source=version.source,
        revision=version.revision,
        position=position,
        embedding=embedding,
    )


def _us(time: datetime | None) -> int | None:
    return None if time is None else to_us(time)
