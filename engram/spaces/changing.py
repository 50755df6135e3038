"""The part of a handle that changes what is remembered: by one memory, by a batch, by a filter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from engram import limits
from engram.embedding.registry import embedder_for
from engram.errors import EmbedderUnavailable, EngramError, Invalid, MemoryNotFound, TooLarge
from engram.memory import validate as check
from engram.memory.decide import Forget, Remember, Restore, Revise
from engram.memory.etags import Expected, expected_of
from engram.memory.events import MemoryVersion
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
    with_etag,
)
from engram.memory.view import memory_of
from engram.spaces import purging
from engram.spaces.forgetting import forget_matching
from engram.spaces.lapsing import Lapsing
from engram.spaces.requests import (
    changed_fields,
    filter_for,
    new_memory,
    told_of_one,
    version_of,
)

if TYPE_CHECKING:
    from engram.embedding.protocol import Embedder
    from engram.spaces.machine import Committed

T = TypeVar("T")
Etags = str | Sequence[str]
"""An etag as `memory.etag` gives it, or several, one of which has to fit."""


class Changing(Lapsing):
    """What is remembered, revised and forgotten is durable when the call returns.

    With `if_match`, a memory is only changed if it is still the revision that an etag stands for,
    which is decided together with the write; else :class:`engram.errors.Stale` is raised.
    """

    _spec: EmbeddingSpec

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
    ) -> Memory:
        """Store one memory; durable when this returns. See :meth:`remember_many`."""
        new = NewMemory(
            content=content,
            id=id,
            kind=kind,
            tags=tags,  # type: ignore[arg-type]  # checked and made a tuple below
            metadata={} if metadata is None else metadata,  # type: ignore[arg-type]
            confidence=confidence,
            occurred_at=occurred_at,
            expires_at=expires_at,
            source=source,
            embedding=embedding,  # type: ignore[arg-type]
        )
        with told_of_one():
            return self._remember([new], [""], on_conflict, None, lambda done: done.memories[0])

    def remember_many(
        self,
        memories: Iterable[NewMemory | Mapping[str, Any] | str],
        *,
        on_conflict: OnConflict = "error",
        embedded_by: EmbeddingSpec | None = None,
    ) -> Remembered:
        """Store a batch, all or nothing; durable when this returns.

        Items are :class:`engram.NewMemory`, mappings with its fields, or bare contents. Where an id
        lives, `on_conflict` says what becomes of it: `skip` leaves that memory as it is, and the
        answer shows it so and names it in `skipped`; `replace` makes the given one its next
        revision, which has to be of the same kind. With `embedded_by`, which has to be the space's
        own embedding, vectors that it made before are taken as they are, one for each item. Raises
        :class:`engram.errors.MemoryExists` if `on_conflict` is `error`, `Invalid`, `TooLarge`,
        `EmbedderMismatch` or `EmbedderUnavailable`; nothing is stored then.
        """
        items = list(check.items_of("memories", memories, "a list"))
        if not items:
            raise Invalid.of("memories", "is empty; there is nothing to remember")
        if len(items) > limits.MEMORIES_PER_REQUEST_MAX:
            raise TooLarge(
                f"memories has {len(items)} items; at most {limits.MEMORIES_PER_REQUEST_MAX} go "
                "into one atomic batch. Split it"
            )
        fields = [f"memories[{i}]." for i in range(len(items))]
        return self._remember(
            [new_memory(f, item) for f, item in zip(fields, items, strict=True)],
            fields,
            on_conflict,
            embedded_by,
            lambda done: done,
        )

    def _remember(
        self,
        items: list[NewMemory],
        fields: list[str],
        on_conflict: object,
        embedded_by: EmbeddingSpec | None,
        told: Callable[[Remembered], T],
    ) -> T:
        choice = check.check_on_conflict("on_conflict", on_conflict)
        versions = [version_of(f, item) for f, item in zip(fields, items, strict=True)]
        store = self._store()  # a space that cannot be used is told before anything is embedded
        contents, given = [v.content for v in versions], [item.embedding for item in items]
        vectors = self._vectors(fields, contents, given, embedded_by)
        command = Remember(versions, vectors, store.now_ns() // 1_000, choice)
        return self._commit(store, command, lambda done: told(self._remembered(versions, done)))

    def _remembered(self, versions: Sequence[MemoryVersion], committed: Committed) -> Remembered:
        memories = {memory.id: memory for memory in self._memories(committed)}
        return Remembered(
            memory_space_id=self.id,
            position=committed.ack.last_position,
            memories=tuple(memories[version.id] for version in versions),
            skipped=tuple(latest.version.id for latest in committed.standing),
        )

    def _vectors(
        self,
        fields: Sequence[str],
        contents: Sequence[str],
        given: Sequence[Any],
        made_by: EmbeddingSpec | None = None,
    ) -> Vector:
        """One float32 row per content: the caller's vectors, or the space's embedder's."""
        if made_by is not None:
            return check.check_vectors_made_by(fields, given, made_by, self._spec)
        if any(vector is not None for vector in given) or self._spec.model == check.CALLER:
            rows = []
            for field, vector in zip(fields, given, strict=True):
                if vector is None and self._spec.model == check.CALLER:
                    raise Invalid.of(
                        f"{field}embedding",
                        f"is missing; this space takes the caller's vectors of "
                        f"{self._spec.dimensions} dimensions",
                    )
                if vector is not None:
                    rows.append(check.check_vector(f"{field}embedding", vector, self._spec))
            return np.stack(rows)
        return self._embed(contents)

    def _embed(self, texts: Sequence[str]) -> Vector:
        try:
            return self._embedder().embed(texts)
        except EngramError as error:
            error.memory_space_id = self.id
            raise

    def _embedder(self) -> Embedder:
        """The embedder this space is pinned to; another one never stands in for it."""
        try:
            return embedder_for(self._spec)
        except Invalid as error:
            raise EmbedderUnavailable(
                f"space {self.id!r} is pinned to the embedder {self._spec.model!r} of "
                f"{self._spec.dimensions} dimensions, which this version does not have. Use the "
                "version of Engram that made it",
                memory_space_id=self.id,
            ) from error

    def revise(self, memory_id: str, changes: Changes, *, if_match: Etags | None = None) -> Memory:
        """Change the given fields of a memory, each as a whole; None clears a field.

        New content is embedded anew; in a space with the caller's vectors it needs its embedding.
        Raises :class:`engram.errors.MemoryNotFound`, `Stale`, `Invalid`, `TooLarge`,
        `EmbedderMismatch` or `EmbedderUnavailable`; nothing is changed then.
        """
        memory_id = check.check_memory_id("id", memory_id)
        fields = changed_fields(changes)
        expected = self._expected(if_match)
        store = self._store()
        if store.state.find(memory_id, store.now_ns() // 1_000) is None:
            raise self._not_found(memory_id)  # before anything is embedded
        vector = None
        if "content" in fields:
            given = None if changes.embedding is msgspec.UNSET else changes.embedding
            vector = self._vectors([""], [fields["content"]], [given])[0]
        elif changes.embedding is not msgspec.UNSET:
            vector = check.check_vector("embedding", changes.embedding, self._spec)
        elif not fields:
            raise Invalid(
                "nothing to change was given; name at least one of "
                + ", ".join(Changes.__struct_fields__)
            )
        store = self._store()
        command = Revise(memory_id, fields, vector, store.now_ns() // 1_000, expected)
        return self._commit(store, command, self._memory)

    def forget(self, memory_id: str, *, if_match: Etags | None = None) -> Forgotten:
        """Stop recalling a memory; logged, so that it stays forgotten until :meth:`restore`. Its
        id may be used again.

        Raises :class:`engram.errors.MemoryNotFound` and `Stale`.
        """
        memory_id = check.check_memory_id("id", memory_id)
        expected = self._expected(if_match)
        store = self._store()
        command = Forget(memory_id, store.now_ns() // 1_000, expected)
        return self._commit(
            store,
            command,
            lambda committed: Forgotten(id=memory_id, position=committed.ack.position),
        )

    def forget_matching(self, filter: Filter) -> ForgottenMatching:
        """:meth:`forget` all living memories that match a filter as of this call; one without any
        condition is refused.

        They go with one record for some hundreds of them, so that others can write meanwhile. If it
        is cut off, whole records have happened; called again, it goes on. Beliefs that go with what
        they rest on are not counted, unless they match too.
        """
        checked = filter_for(filter, "to forget everything, delete the space")
        with self._entry.pinned() as store:
            return forget_matching(store, checked)

    def restore(self, memory_id: str, *, if_match: Etags | None = None) -> Memory:
        """Undo a forgetting: the memory as it was, as its next revision, embedded as it was.

        Where the id was used again and forgotten again, it is the last memory of that id. Raises
        :class:`engram.errors.MemoryExists` if it is not forgotten; `MemoryNotFound` if it never
        was there or was purged, or went with the history it was forgotten in, and for one whose
        time is up: that it expired is not undone. The etag of a forgotten memory is the one that it
        had when it was forgotten.
        """
        memory_id = check.check_memory_id("id", memory_id)
        expected = self._expected(if_match)
        store = self._store()
        command = Restore(memory_id, store.now_ns() // 1_000, expected)
        return self._commit(store, command, self._memory)

    def purge(self, memory_id: str, *, if_match: Etags | None = None) -> PurgeReceipt:
        """Let nothing be left of a memory, living or forgotten, in any file of the space.

        It is recalled no more from the first moment; its events become `history.redacted`, and its
        id may be used again. Asked again, it returns the same receipt. Raises
        :class:`engram.errors.MemoryNotFound` and `Stale`; and `DiskFull` where there is no room to
        rewrite what holds it: then it is out of reach, but not yet off the disk. Repeat it once
        there is room.
        """
        memory_id = check.check_memory_id("id", memory_id)
        expected = self._expected(if_match)
        with self._unstaged(), self._entry.pinned() as store:
            return purging.purge_one(store, memory_id, expected)

    def purge_matching(self, filter: Filter) -> PurgeReceipt | None:
        """:meth:`purge` all memories, living or forgotten, whose last version matches a filter.

        None if there was none; a filter without any condition is refused. Raises what that raises.
        """
        checked = filter_for(filter, "to purge everything, purge the space")
        with self._unstaged(), self._entry.pinned() as store:
            return purging.purge_matching(store, checked)

    def _not_found(self, memory_id: str, verb: str = "is") -> MemoryNotFound:
        return MemoryNotFound(
            f"there {verb} no memory {memory_id!r} in space {self.id!r}", memory_space_id=self.id
        )

    def _memory(self, committed: Committed) -> Memory:
        return self._memories(committed)[0]

    def _memories(self, committed: Committed) -> tuple[Memory, ...]:
        """The memory versions among durable events, and those left standing, as users see them."""
        found: list[tuple[MemoryVersion, int, int]] = [
            (event, committed.ack.position + index, committed.ack.time_ns // 1_000)
            for index, event in enumerate(committed.batch.events)
            if isinstance(event, MemoryVersion)
        ]
        found += [(each.version, each.position, each.stored_us) for each in committed.standing]
        return tuple(
            with_etag(
                memory_of(self.id, version, position=position, stored_us=stored_us),
                self.incarnation,
            )
            for version, position, stored_us in found
        )

    def _expected(self, if_match: object) -> Expected:
        return expected_of("if_match", if_match, self.incarnation)
