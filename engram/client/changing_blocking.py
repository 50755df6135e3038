"""The part of a synchronous client's space that changes what is remembered: see
:mod:`engram.client.changing`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from engram.client.changing import Etags
from engram.memory.model import (
    Changes,
    EmbeddingSpec,
    Filter,
    Forgotten,
    ForgottenMatching,
    Kind,
    Memory,
    NewMemory,
    OnConflict,
    PurgeReceipt,
    Remembered,
    Vector,
)

if TYPE_CHECKING:
    from engram.client.asynchronous import AsyncSpace
    from engram.client.synchronous import _Loop


class ClientChanging:
    """What is remembered, revised and forgotten is durable when the call returns."""

    _loop: _Loop
    _space: AsyncSpace

    def remember(
        self,
        content: str,
        *,
        id: str | None = None,
        kind: Kind = "episode",
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        confidence: float = 1.0,
        occurred_at: datetime | None = None,
        expires_at: datetime | None = None,
        source: str | None = None,
        embedding: Sequence[float] | Vector | None = None,
        on_conflict: OnConflict = "error",
        idempotency_key: str | None = None,
    ) -> Memory:
        """Store one memory; durable when this returns."""
        return self._loop.call(
            self._space.remember,
            content,
            id=id,
            kind=kind,
            tags=tags,
            metadata=metadata,
            confidence=confidence,
            occurred_at=occurred_at,
            expires_at=expires_at,
            source=source,
            embedding=embedding,
            on_conflict=on_conflict,
            idempotency_key=idempotency_key,
        )

    def remember_many(
        self,
        memories: Iterable[NewMemory | Mapping[str, Any] | str],
        *,
        on_conflict: OnConflict = "error",
        idempotency_key: str | None = None,
        embedded_by: EmbeddingSpec | None = None,
    ) -> Remembered:
        """Store a batch, all or nothing; durable when this returns. See
        `AsyncSpace.remember_many`.
        """
        if isinstance(memories, Iterator):
            memories = [*memories]  # the caller's code runs in the caller's thread
        return self._loop.call(
            self._space.remember_many,
            memories,
            on_conflict=on_conflict,
            idempotency_key=idempotency_key,
            embedded_by=embedded_by,
        )

    def revise(
        self,
        memory_id: str,
        changes: Changes,
        *,
        if_match: Etags | None = None,
        idempotency_key: str | None = None,
    ) -> Memory:
        """Change the given fields of a memory, each as a whole; None clears a field."""
        return self._loop.call(
            self._space.revise,
            memory_id,
            changes,
            if_match=if_match,
            idempotency_key=idempotency_key,
        )

    def forget(
        self,
        memory_id: str,
        *,
        if_match: Etags | None = None,
        idempotency_key: str | None = None,
    ) -> Forgotten:
        """Stop recalling a memory until it is restored. Raises
        :class:`engram.errors.MemoryNotFound` and `Stale`.
        """
        return self._loop.call(
            self._space.forget, memory_id, if_match=if_match, idempotency_key=idempotency_key
        )

    def forget_matching(self, filter: Filter) -> ForgottenMatching:
        """:meth:`forget` all living memories that match a filter; see
        `AsyncSpace.forget_matching`.
        """
        return self._loop.call(self._space.forget_matching, filter)

    def restore(
        self,
        memory_id: str,
        *,
        if_match: Etags | None = None,
        idempotency_key: str | None = None,
    ) -> Memory:
        """Undo a forgetting: the memory as it was, as its next revision. Raises
        :class:`engram.errors.MemoryExists`, `MemoryNotFound` or `Stale`.
        """
        return self._loop.call(
            self._space.restore, memory_id, if_match=if_match, idempotency_key=idempotency_key
        )

    def purge(self, memory_id: str, *, if_match: Etags | None = None) -> PurgeReceipt:
        """Let nothing be left of a memory, living or forgotten, in any file of the space; asked
        again, it is the same receipt. Raises :class:`engram.errors.MemoryNotFound` or `DiskFull`.
        """
        return self._loop.call(self._space.purge, memory_id, if_match=if_match)

    def purge_matching(self, filter: Filter) -> PurgeReceipt | None:
        """:meth:`purge` all memories, living or forgotten, whose last version matches a filter.
        None if there was none.
        """
        return self._loop.call(self._space.purge_matching, filter)
