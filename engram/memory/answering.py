"""Answering a request once, however often it comes: what is asked of the writer, and kept. Pure."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from zlib import compress, decompress

from engram.errors import AnswerPurged, IdempotencyKeyReused
from engram.indexes.answers import Kept
from engram.memory.events import (
    MemoryForgotten,
    MemoryLinked,
    MemoryUnlinked,
    MemoryVersion,
    RequestAnswered,
)

if TYPE_CHECKING:
    from engram.memory.decide import Command
    from engram.memory.payload import Batch

DIGEST_BYTES: Final = 16
_COMPRESSION: Final = 1
"""The writer waits for it."""


class Answered(NamedTuple):
    """What a caller is told, and of which memories that speaks."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    ids: tuple[str, ...]


class Keyed(NamedTuple):
    """A command that is to be run once. `key` says which request it is, `request` what that asks
    for; both are digests. `answer` makes of what comes of the command what the caller is told; it
    is called when that is decided, and has no effect.
    """

    command: Command
    key: bytes
    request: bytes
    answer: Callable[[Any], Answered]


class AnsweredBefore(Exception):
    """The request was answered before, with `answered`."""

    def __init__(self, answered: Answered) -> None:
        super().__init__("the request was answered before")
        self.answered = answered


def digest(space_uuid: bytes, *parts: bytes) -> bytes:
    """Which request something is, or what it asks for: of use in one incarnation of a space."""
    made = blake2b(key=space_uuid, digest_size=DIGEST_BYTES)
    for part in parts:
        made.update(len(part).to_bytes(8, "little"))
        made.update(part)
    return made.digest()


def check_unanswered(kept: Kept | None, request: bytes, memory_space_id: str) -> None:
    """Raise what a request is to get whose key was used before: :class:`AnsweredBefore`, or
    :class:`engram.errors.IdempotencyKeyReused` or `AnswerPurged`.
    """
    if kept is None:
        return
    if kept.purged:
        raise AnswerPurged(
            "a request with this Idempotency-Key was done before, and is not done again. What it "
            "was answered named a memory that has been purged since, so it is gone; read what is "
            "there now",
            memory_space_id=memory_space_id,
        )
    if kept.request != request:
        raise IdempotencyKeyReused(
            "this Idempotency-Key was used for another request in the last 24 hours; nothing was "
            "done. Make a new key for each request, and send a request again as it was",
            memory_space_id=memory_space_id,
        )
    raise AnsweredBefore(Answered(kept.status, kept.headers, decompress(kept.body), kept.ids))


def answered_event(keyed: Keyed, answered: Answered) -> RequestAnswered:
    return RequestAnswered(
        key=keyed.key,
        request=keyed.request,
        status=answered.status,
        headers=answered.headers,
        body=compress(answered.body, _COMPRESSION),
        ids=tuple(sorted(set(answered.ids))),
    )


def kept_of(event: RequestAnswered) -> Kept:
    return Kept(event.key, event.request, event.status, event.headers, event.body, event.ids)


def held_by(batch: Batch) -> set[str]:
    """The ids of the memories that the events of a record tell of."""
    held: set[str] = set()
    for event in batch.events:
        if isinstance(event, MemoryVersion | MemoryForgotten):
            held.add(event.id)
        elif isinstance(event, MemoryLinked | MemoryUnlinked):
            held.update((event.source, event.target))
    return held
