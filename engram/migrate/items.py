"""What goes where: an item of a source, and the digest by which two memories are the same. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np

from engram.memory.model import EmbeddingSpec, Memory, NewMemory
from engram.memory.times import to_us
from engram.spaces.requests import version_of

DIGEST_BYTES: Final = 16
_NORM_MIN: Final = 1e-18


class Item(NamedTuple):
    """A memory of a source, its place there, and the spaces it goes to. `value` is what it was sent
    there for; with no space, `stays` says why.
    """

    new: NewMemory
    position: int
    spaces: tuple[str, ...] = ()
    value: str | None = None
    stays: str | None = None


class SourceLink(NamedTuple):
    """A link between two memories of a source."""

    source: str
    target: str
    relation: str
    weight: float
    position: int


class Source(Protocol):
    """Where memories come from: the same ones in the same order whenever it is asked. `unit` is
    what an item's position counts; `loose` are links of which no end is an item. If it `lives`, the
    ends of all its links are there, if not among the items that go somewhere.
    """

    @property
    def lives(self) -> bool: ...

    @property
    def unit(self) -> str: ...

    @property
    def loose(self) -> Sequence[SourceLink]: ...

    def items(self, *, vectors: bool) -> Iterator[Item]:
        """Its memories; with the vectors that an embedder made only if they are wanted. A caller's
        vectors are a part of the memories, and always there.
        """

    def links(self, memory_id: str) -> Iterator[SourceLink]:
        """The links that begin or end at an item that goes somewhere; each may come twice."""

    def described(self) -> Mapping[str, Any]:
        """What a receipt says about it."""

    def embedding_for(self, space_id: str) -> EmbeddingSpec | None:
        """What a new space for its items is pinned to; None leaves it to the engine."""

    def vectors_of(self, space_id: str) -> EmbeddingSpec | None:
        """What made the vectors of the items that go to a space; None if they have none."""


def new_of(memory: Memory, *, keep_times: bool = False) -> NewMemory:
    """A stored memory as one to be stored elsewhere; with `keep_times` one that does not say when
    it happened says when it was stored.
    """
    occurred_at = memory.occurred_at
    if occurred_at is None and keep_times:
        occurred_at = memory.stored_at
    return NewMemory(
        content=memory.content,
        id=memory.id,
        kind=memory.kind,
        tags=memory.tags,
        metadata=memory.metadata,
        confidence=memory.confidence,
        occurred_at=occurred_at,
        expires_at=memory.expires_at,
        source=memory.source,
        embedding=memory.embedding,
    )


def digest_of(new: NewMemory, *, with_vector: bool) -> bytes:
    """BLAKE2b over all that a memory holds, for a caller's vectors also its vector (as float32).

    Raises :class:`engram.errors.Invalid` or `TooLarge` for what no space would take.
    """
    version = version_of("", new)
    fields = (
        *(version.id, version.kind, version.content, version.tags, version.metadata),
        *(version.confidence, version.occurred_us, version.expires_us, version.source),
    )
    digest = blake2b(msgspec.json.encode(fields, order="deterministic"), digest_size=DIGEST_BYTES)
    if with_vector and new.embedding is not None:
        digest.update(np.asarray(new.embedding, np.float32).tobytes())
    return digest.digest()


def expires_us_of(new: NewMemory) -> int | None:
    return None if new.expires_at is None else to_us(new.expires_at)


def bytes_of(new: NewMemory) -> int:
    """What its text takes, in bytes."""
    return len(new.content.encode())


def weight_of(new: NewMemory | Memory) -> int:
    """About what it takes in a request, in bytes."""
    vector = 0 if new.embedding is None else 20 * len(new.embedding)
    return len(msgspec.json.encode(new.metadata)) + 2 * len(new.content) + vector + 512


def has_vector(new: NewMemory) -> bool:
    """Whether it has a vector that can be handed in: one with a direction."""
    return new.embedding is not None and float(np.linalg.norm(new.embedding)) > _NORM_MIN
