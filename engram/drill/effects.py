"""What writes do and logs say, in the words that both can be compared in. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from engram.memory.model import Event, Memory

CONTENT_SHOWN: Final = 60
SHARED_PREFIX: Final = "shared-"
"""Ids that all clients use, in every space; all others begin with the name of their space."""
STORED: Final = "memory.stored"
REVISED: Final = "memory.revised"
FORGOTTEN: Final = "memory.forgotten"
RESTORED: Final = "memory.restored"
PURGED: Final = "memory.purged"
RECALLED: Final = "memory.recalled"
SPREAD: Final = "activation.spread"
REDACTED: Final = "history.redacted"
CREATED: Final = "space.created"
CONFIGURED: Final = "space.configured"
COMPACTED: Final = "space.compacted"
SPACE_DELETED: Final = "space.deleted"
SPACE_RESTORED: Final = "space.restored"
CHANGE_MEMORIES: Final = frozenset({STORED, REVISED, FORGOTTEN, RESTORED, PURGED})
REDACTABLE: Final = CHANGE_MEMORIES - {PURGED}

_ENCODE = msgspec.json.Encoder(order="deterministic").encode


class Violation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One promise that was not kept. `kind` is short and stable, `detail` is for people."""

    kind: str
    detail: str
    space: str | None = None
    memory_id: str | None = None
    position: int | None = None


class Effect(NamedTuple):
    """What one event of a write says. `metadata` is JSON, so that it can be compared; the content
    of `space.configured` is the retention as text.
    """

    type: str
    id: str
    content: str = ""
    tags: tuple[str, ...] = ()
    metadata: str = "{}"

    def __str__(self) -> str:
        what = f"{self.type} of {self.id!r}" if self.id else self.type
        shown = self.content[:CONTENT_SHOWN]
        return what + (f" ({shown!r} …)" if shown else "")


@dataclass(eq=False)
class Write:
    """One request that changes a space, from before it is sent until it is settled."""

    space: str
    operation: str
    effects: tuple[Effect, ...]


class Acknowledged(NamedTuple):
    """An effect as its client was told of it. `revision` is None where an answer has none."""

    effect: Effect
    revision: int | None


class Held(NamedTuple):
    """A living memory, as the log has it."""

    effect: Effect
    revision: int
    position: int


class Mark(NamedTuple):
    """A position of a log and what stands there, in brief. Without a digest it was let go of before
    it was ever read; then the label, and the memory's id, are known only if it was acknowledged.
    """

    digest: bytes
    label: str
    id: str = ""


UNKNOWN: Final = Mark(b"", "")


class Seen(NamedTuple):
    """What a server showed of a space: all events that it holds, from position `oldest` on, all
    living memories, and its retention as text.
    """

    events: Sequence[Event]
    memories: Sequence[Memory]
    oldest: int = 1
    retention: str = "all"

    @property
    def end(self) -> int:
        """The last position."""
        return self.oldest - 1 + len(self.events)


def effect_of_memory(kind: str, memory: Memory) -> Effect:
    metadata = _ENCODE(memory.metadata).decode()
    return Effect(kind, memory.id, memory.content, tuple(memory.tags), metadata)


def effect_of(event: Event) -> Effect:
    if event.memory is not None:
        return effect_of_memory(event.type, event.memory)
    if event.retention is not None:
        return Effect(event.type, "", str(event.retention))
    return Effect(event.type, event.id or "")


def mark_of(event: Event) -> Mark:
    """A digest of all that an event says."""
    effect = effect_of(event)
    return Mark(blake2b(_ENCODE(event), digest_size=16).digest(), str(effect), effect.id)


def is_foreign(space: str, effect: Effect) -> bool:
    """Whether an effect carries the name of another space than the one it was found in."""
    own_id = effect.id.startswith((f"{space}.", SHARED_PREFIX))
    return not own_id or (bool(effect.content) and not effect.content.startswith(f"{space} "))


def word_of(content: str) -> str:
    """The word of a content that stands in no other: its third."""
    return content.split(" ", 3)[2]
