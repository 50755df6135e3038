"""The part of a client's space that changes what is remembered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from engram.client import requests
from engram.client.answers import Answer, MatchingPurgeAnswer, MemoryPurgeAnswer, read
from engram.client.lapsing import AsyncLapsing
from engram.client.requests import Body, Parameters
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
from engram.spaces.requests import told_of_one

Etags = str | Sequence[str]
"""An etag as `memory.etag` gives it, or several, one of which has to fit."""


class AsyncChanging(AsyncLapsing):
    """What is remembered, revised and forgotten is durable when the call returns.

    With `if_match`, a memory is only changed if it is still the revision that an etag stands for;
    else :class:`engram.errors.Stale` is raised. With an `idempotency_key`, a write is done once
    however often it is sent, also by another client, for 24 hours; without one each call makes one
    of its own, by which it may be sent again (see :class:`engram.AsyncClient`).
    """

    _path: str

    async def remember(
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
        """Store one memory; durable when this returns. See :meth:`remember_many`."""
        new = NewMemory(
            content=content,
            id=id,
            kind=kind,
            tags=tags,  # type: ignore[arg-type]  # checked and made a tuple by memory_body
            metadata={} if metadata is None else metadata,  # type: ignore[arg-type]
            confidence=confidence,
            occurred_at=occurred_at,
            expires_at=expires_at,
            source=source,
            embedding=embedding,  # type: ignore[arg-type]
        )
        if on_conflict == "error":
            return (
                await self._remember(requests.memory_body("", new), 1, idempotency_key)
            ).memories[0]
        with told_of_one():
            body = requests.batch_body([new], on_conflict)
            return (await self._remember(body, 1, idempotency_key)).memories[0]

    async def remember_many(
        self,
        memories: Iterable[NewMemory | Mapping[str, Any] | str],
        *,
        on_conflict: OnConflict = "error",
        idempotency_key: str | None = None,
        embedded_by: EmbeddingSpec | None = None,
    ) -> Remembered:
        """Store a batch, all or nothing; durable when this returns.

        Items are :class:`engram.NewMemory`, mappings with its fields, or bare contents. Where an id
        lives, `on_conflict` says what becomes of it: `skip` leaves that memory as it is, and the
        answer shows it so and names it in `skipped`; `replace` makes the given one its next
        revision, which has to be of the same kind. For `embedded_by` see
        :meth:`engram.Space.remember_many`. Raises :class:`engram.errors.MemoryExists` if it
        is `error`, `Invalid`, `TooLarge`, `EmbedderMismatch` or `EmbedderUnavailable`; nothing is
        stored then.
        """
        body = requests.batch_body(memories, on_conflict, embedded_by)
        return await self._remember(body, len(body["memories"]), idempotency_key)

    async def _remember(self, body: Body, count: int, key: str | None) -> Remembered:
        answer = await self._once("POST", f"{self._path}/memories", body, key)
        remembered = read(answer, Remembered, self._id)
        if len(remembered.memories) != count:
            raise answer.invalid(f"{len(remembered.memories)} memories for {count}")
        return remembered

    async def revise(
        self,
        memory_id: str,
        changes: Changes,
        *,
        if_match: Etags | None = None,
        idempotency_key: str | None = None,
    ) -> Memory:
        """Change the given fields of a memory, each as a whole; None clears a field.

        Raises :class:`engram.errors.MemoryNotFound`, `Stale`, `Invalid`, `TooLarge`,
        `EmbedderMismatch` or `EmbedderUnavailable`; nothing is changed then.
        """
        path = requests.memory_path(self._id, memory_id)
        body = requests.changes_body(changes)
        answer = await self._once("PATCH", path, body, idempotency_key, if_match)
        return read(answer, Memory, self._id)

    async def forget(
        self,
        memory_id: str,
        *,
        if_match: Etags | None = None,
        idempotency_key: str | None = None,
    ) -> Forgotten:
        """Stop recalling a memory; logged, so that it stays forgotten until :meth:`restore`. Its
        id may be used again.

        Raises :class:`engram.errors.MemoryNotFound` and `Stale`.
        """
        path = requests.memory_path(self._id, memory_id)
        return read(await self._once("DELETE", path, None, idempotency_key, if_match), Forgotten)

    async def forget_matching(self, filter: Filter) -> ForgottenMatching:
        """:meth:`forget` all living memories that match a filter as of this call; one without any
        condition is refused. If it is cut off, some may be forgotten; called again, it goes on. See
        :meth:`engram.Space.forget_matching`.
        """
        body = requests.forget_body(filter)
        answer = await self._write("DELETE", f"{self._path}/memories", body, bounded=False)
        return read(answer, ForgottenMatching, self._id)

    async def restore(
        self,
        memory_id: str,
        *,
        if_match: Etags | None = None,
        idempotency_key: str | None = None,
    ) -> Memory:
        """Undo a forgetting: the memory as it was, as its next revision, embedded as it was.

        Where the id was used again and forgotten again, it is the last memory of that id. Raises
        :class:`engram.errors.MemoryExists` if it is not forgotten; `MemoryNotFound` if it never
        was there or was purged, and for one whose time is up: that it expired is not undone.
        """
        path = f"{requests.memory_path(self._id, memory_id)}/restore"
        return read(
            await self._once("POST", path, None, idempotency_key, if_match), Memory, self._id
        )

    async def purge(self, memory_id: str, *, if_match: Etags | None = None) -> PurgeReceipt:
        """Let nothing be left of a memory, living or forgotten, in any file of the space.

        It is recalled no more from the first moment, and its id may be used again. Asked again, it
        returns the same receipt. Raises :class:`engram.errors.MemoryNotFound` and `Stale`; and
        `DiskFull` where there is no room to rewrite what holds it: repeat it once there is.
        """
        path = requests.memory_path(self._id, memory_id)
        answer = await self._write(
            "DELETE", path, None, parameters=[("purge", "true")], if_match=if_match
        )
        return read(answer, MemoryPurgeAnswer, self._id).receipt

    async def purge_matching(self, filter: Filter) -> PurgeReceipt | None:
        """:meth:`purge` all memories, living or forgotten, whose last version matches a filter.

        None if there was none; a filter without any condition is refused. Raises what that raises.
        """
        body = requests.purge_body(filter)
        answer = await self._write("DELETE", f"{self._path}/memories", body)
        return read(answer, MatchingPurgeAnswer, self._id).receipt

    async def _once(
        self, method: str, path: str, body: Body | None, key: str | None, if_match: object = None
    ) -> Answer:
        """A write that the server does once by a key, and that is sent again where that helps."""
        return await self._transport.request(
            method,
            path,
            body=body,
            headers=requests.matching_headers(if_match),
            write=True,
            once=True,
            key=key,
        )

    async def _write(
        self,
        method: str,
        path: str,
        body: Body | None,
        *,
        parameters: Parameters | None = None,
        if_match: object = None,
        bounded: bool = True,
    ) -> Answer:
        return await self._transport.request(
            method,
            path,
            parameters=parameters,
            body=body,
            headers=requests.matching_headers(if_match),
            write=True,
            bounded=bounded,
        )
