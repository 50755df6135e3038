"""What a space must hold, from what its clients were told. Pure.

Theory of operation. Every write is announced before it is sent, with the events that it will make
(its effects). An answer ties each of them to a position. A write that never got an answer stays
open: it may be in the log, whole, or not at all. After each restart the whole log is read, and
every event must be one of these:

- at a position that was read before, and then the very same event as then;
- at a position that was acknowledged, and then the effect that was acknowledged there;
- part of one open write, all of whose effects stand there, in order;
- the record of a recall;
- the deletion or restoration of the space, if one was asked for.

Anything else is a phantom; an acknowledged effect that is not at its position is lost. What was
open is settled by that: what was not found must never appear later, where it would be a phantom.
Applying the events then gives what the space must list, to the revision. So clients may compete for
the same ids: the log decides who came first, and the answers must agree with it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

from engram.memory.model import Event, Forgotten, Memory

CONTENT_SHOWN: Final = 60
SHARED_PREFIX: Final = "shared-"
"""Ids that all clients use, in every space; all others begin with the name of their space."""
STORED: Final = "memory.stored"
REVISED: Final = "memory.revised"
FORGOTTEN: Final = "memory.forgotten"
RECALLED: Final = "memory.recalled"
CREATED: Final = "space.created"
SPACE_DELETED: Final = "space.deleted"
SPACE_RESTORED: Final = "space.restored"
CHANGE_MEMORIES: Final = frozenset({STORED, REVISED, FORGOTTEN})

_ENCODE = msgspec.json.Encoder(order="deterministic").encode


class Violation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One promise that was not kept. `kind` is short and stable, `detail` is for people."""

    kind: str
    detail: str
    space: str | None = None
    memory_id: str | None = None
    position: int | None = None


class Effect(NamedTuple):
    """What one event of a write says. `metadata` is JSON, so that it can be compared."""

    type: str
    id: str
    content: str = ""
    tags: tuple[str, ...] = ()
    metadata: str = "{}"

    def __str__(self) -> str:
        shown = self.content[:CONTENT_SHOWN]
        return f"{self.type} of {self.id!r}" + (f" ({shown!r} …)" if shown else "")


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
    """A position of a log and what stands there, in brief."""

    digest: bytes
    label: str


class Seen(NamedTuple):
    """What a server showed of a space: all events, and all living memories."""

    events: Sequence[Event]
    memories: Sequence[Memory]


def effect_of_memory(kind: str, memory: Memory) -> Effect:
    metadata = _ENCODE(memory.metadata).decode()
    return Effect(kind, memory.id, memory.content, tuple(memory.tags), metadata)


def effect_of(event: Event) -> Effect:
    if event.memory is not None:
        return effect_of_memory(event.type, event.memory)
    return Effect(event.type, event.id or "")


def mark_of(event: Event) -> Mark:
    """A digest of all that an event says."""
    label = str(effect_of(event)) if event.id or event.memory else event.type
    return Mark(blake2b(_ENCODE(event), digest_size=16).digest(), label)


def is_foreign(space: str, effect: Effect) -> bool:
    """Whether an effect carries the name of another space than the one it was found in."""
    own_id = effect.id.startswith((f"{space}.", SHARED_PREFIX))
    return not own_id or (bool(effect.content) and not effect.content.startswith(f"{space} "))


@dataclass
class SpaceModel:
    """What is known of one space. `uuid` is what it had when it was first looked at."""

    name: str
    uuid: str | None = None
    marks: list[Mark] = field(default_factory=list)
    living: dict[str, Held] = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)
    """The last revision of every id there ever was."""
    acknowledged: dict[int, Acknowledged] = field(default_factory=dict)
    """By position, since the log was last read."""
    open: list[Write] = field(default_factory=list)
    endings: int = 0
    """How many deletions and restorations were asked for, since the log was last read."""
    former: set[str | None] = field(default_factory=set)
    """The uuids of earlier lives under the same id."""
    recalls_answered: set[str] = field(default_factory=set)
    recalls_unanswered: int = 0
    found_unanswered: int = 0
    """How many open writes turned out to have been done."""

    @property
    def forgotten(self) -> list[str]:
        return [memory_id for memory_id in self.revisions if memory_id not in self.living]

    def acknowledge(
        self, write: Write, answers: Sequence[Memory | Forgotten]
    ) -> Iterator[Violation]:
        """Take the answer to a write: a memory or a forgetting for each of its effects."""
        self.open.remove(write)
        if len(answers) != len(write.effects):
            yield self._violation(
                "wrong answer", f"{len(answers)} answers to the {len(write.effects)} of a write"
            )
        for effect, answer in zip(write.effects, answers, strict=False):
            told = Effect(FORGOTTEN, answer.id)
            if isinstance(answer, Memory):
                told = effect_of_memory(effect.type, answer)
            position = answer.position
            if told != effect:
                detail = f"{effect} was answered with {told}"
                yield self._violation("wrong answer", detail, effect.id, position)
            if position <= len(self.marks):
                there = self.marks[position - 1].label
                detail = f"{effect} was acknowledged at {position}, where {there} stands"
                yield self._violation("position reused", detail, effect.id, position)
            elif position in self.acknowledged:
                other = self.acknowledged[position].effect
                detail = f"{effect} and {other} were both acknowledged at {position}"
                yield self._violation("position reused", detail, effect.id, position)
            else:
                revision = answer.revision if isinstance(answer, Memory) else None
                self.acknowledged[position] = Acknowledged(effect, revision)

    def settle(self, seen: Seen) -> Iterator[Violation]:
        """Compare with what a server shows after a restart, and take that as the state from now
        on. What comes after a violation is compared as well as it can be.
        """
        yield from self._compare_prefix(seen.events)
        yield from self._compare_new(seen.events)
        yield from self._compare_list(seen.memories)
        self.open.clear()
        self.acknowledged.clear()
        self.recalls_answered.clear()
        self.recalls_unanswered = 0
        self.endings = 0

    def _compare_prefix(self, events: Sequence[Event]) -> Iterator[Violation]:
        """Positions are dense, and what was read before is as it was."""
        for number, event in enumerate(events, 1):
            if event.position != number:
                detail = f"position {event.position} stands where {number} should"
                yield self._violation("position not dense", detail, position=event.position)
                break
        for event in events:
            whose = (event.memory_space_id, event.space_uuid)
            if whose != (self.name, self.uuid or event.space_uuid):
                detail = f"position {event.position} belongs to {whose[0]!r}, uuid {whose[1]}"
                yield self._violation("foreign", detail, position=event.position)
        for number, (mark, event) in enumerate(zip(self.marks, events, strict=False), 1):
            now = mark_of(event)
            if mark != now:
                detail = f"position {number} was {mark.label}, and is {now.label}"
                yield self._violation("history changed", detail, event.id, number)
        for number in range(len(events) + 1, len(self.marks) + 1):
            there = self.marks[number - 1].label
            detail = f"{there} was in the log at {number}, which ends at {len(events)}"
            yield self._violation("lost", detail, position=number)

    def _compare_new(self, events: Sequence[Event]) -> Iterator[Violation]:
        """Each new event is explained, and each acknowledged one is there."""
        waiting: dict[Effect, list[Write]] = {}
        for unanswered in self.open:
            waiting.setdefault(unanswered.effects[0], []).append(unanswered)
        missing = dict(self.acknowledged)
        number = len(self.marks)
        while number < len(events):
            event = events[number]
            acknowledged = missing.pop(event.position, None)
            taken = 1
            if acknowledged is not None:
                if acknowledged.effect != effect_of(event):
                    yield self._lost(event.position, acknowledged, f"is {mark_of(event).label}")
            elif event.type == RECALLED:
                yield from self._check_recall(event)
            elif event.type in {SPACE_DELETED, SPACE_RESTORED}:
                yield from self._check_ending(event, events[number - 1 : number + 2])
            elif event.type != CREATED or event.position != 1:
                write = next(iter(waiting.get(effect_of(event), ())), None)
                if write is None:
                    yield self._phantom(event)
                else:
                    waiting[write.effects[0]].remove(write)
                    taken = yield from self._check_whole(write, events[number:])
            for one in events[number : number + taken]:
                yield from self._apply(one, self.acknowledged.get(one.position))
            number += taken
        for position, acknowledged in missing.items():
            yield self._lost(
                position, acknowledged, f"is not in the log, which ends at {len(events)}"
            )

    def _check_whole(
        self, write: Write, events: Sequence[Event]
    ) -> Generator[Violation, None, int]:
        """An open write that was found begins with these events; returns how many are its own."""
        self.found_unanswered += 1
        for number, effect in enumerate(write.effects):
            if number == len(events) or effect_of(events[number]) != effect:
                detail = f"a write of {len(write.effects)} is there in part: {effect} is missing"
                yield self._violation(
                    "half a batch", detail, effect.id, events[0].position + number
                )
                return number
        return len(write.effects)

    def _check_recall(self, event: Event) -> Iterator[Violation]:
        if event.recall_id in self.recalls_answered:
            self.recalls_answered.discard(event.recall_id)
        elif self.recalls_unanswered:
            self.recalls_unanswered -= 1
        else:
            yield self._phantom(event)
        for item in event.results or ():
            if item.id not in self.revisions:
                detail = f"the recall at {event.position} found {item.id!r}, which never was here"
                yield self._violation("phantom", detail, item.id, event.position)

    def _check_ending(self, event: Event, around: Sequence[Event]) -> Iterator[Violation]:
        """A living space's deletion is followed by its restoration, and by nothing else."""
        if not self.endings:
            yield self._phantom(event)
        types = [one.type for one in around]
        pair = [SPACE_DELETED, SPACE_RESTORED]
        if (types[1:] if event.type == SPACE_DELETED else types[:2]) != pair:
            detail = f"{event.type} at {event.position} stands in {', '.join(types)}"
            yield self._violation("impossible event", detail, position=event.position)

    def _apply(self, event: Event, acknowledged: Acknowledged | None) -> Iterator[Violation]:
        """Take one event into the state that the log gives."""
        self.marks.append(mark_of(event))
        if event.type not in CHANGE_MEMORIES:
            return
        effect = effect_of(event)
        if is_foreign(self.name, effect):
            yield self._violation(
                "foreign", f"{effect} is not of this space", effect.id, event.position
            )
        if event.memory is None:
            if self.living.pop(effect.id, None) is None:
                detail = f"{effect} at {event.position}, when it did not live"
                yield self._violation("impossible event", detail, effect.id, event.position)
            return
        revision = self.revisions.get(effect.id, 0) + 1
        lived = effect.id in self.living
        if lived != (event.type == REVISED):
            detail = f"{effect} at {event.position}, when it {'lived' if lived else 'did not live'}"
            yield self._violation("impossible event", detail, effect.id, event.position)
        told = revision if acknowledged is None else acknowledged.revision
        if not revision == event.memory.revision == told:
            detail = (
                f"{effect} at {event.position} has revision {event.memory.revision}; "
                f"{revision} comes next, and {told} was acknowledged"
            )
            yield self._violation("wrong revision", detail, effect.id, event.position)
        self.revisions[effect.id] = event.memory.revision
        self.living[effect.id] = Held(effect, event.memory.revision, event.position)

    def _compare_list(self, memories: Sequence[Memory]) -> Iterator[Violation]:
        """What is listed is what the log gives: content, tags, metadata, revision, position."""
        listed: dict[str, Memory] = {}
        for memory in memories:
            if memory.id in listed:
                detail = f"{memory.id!r} is listed twice"
                yield self._violation("phantom", detail, memory.id, memory.position)
            listed[memory.id] = memory
        for memory_id, held in self.living.items():
            found = listed.pop(memory_id, None)
            if found is None:
                detail = f"{held.effect}, at {held.position}, is not listed"
                yield self._violation("lost", detail, memory_id, held.position)
            else:
                yield from self.check_memory(found, "is listed")
        for memory in listed.values():
            was = "was forgotten" if memory.id in self.revisions else "never was here"
            effect = effect_of_memory(STORED, memory)
            detail = f"{memory.id!r} ({memory.content[:CONTENT_SHOWN]!r} …) is listed, but {was}"
            kind = "foreign" if is_foreign(self.name, effect) else "phantom"
            yield self._violation(kind, detail, memory.id, memory.position)

    def check_memory(self, memory: Memory, how: str) -> Iterator[Violation]:
        """A memory that the server showed is the one that the log gives."""
        held = self.living.get(memory.id)
        if held is None:
            yield self._violation("phantom", f"{memory.id!r} {how} and does not live", memory.id)
            return
        told = effect_of_memory(held.effect.type, memory)
        if Held(told, memory.revision, memory.position) != held:
            detail = (
                f"{held.effect}, revision {held.revision} at {held.position}, {how} as "
                f"{told}, revision {memory.revision} at {memory.position}"
            )
            yield self._violation("changed", detail, memory.id, memory.position)

    def _lost(self, position: int, acknowledged: Acknowledged, what: str) -> Violation:
        effect = acknowledged.effect
        detail = f"{effect} was acknowledged at {position}; that position {what}"
        return self._violation("lost", detail, effect.id, position)

    def _phantom(self, event: Event) -> Violation:
        effect = effect_of(event)
        if event.memory is not None and is_foreign(self.name, effect):
            detail = f"{effect} at {event.position} belongs to another space"
            return self._violation("foreign", detail, effect.id, event.position)
        detail = f"{mark_of(event).label} at {event.position} was asked for by nobody"
        return self._violation("phantom", detail, effect.id or None, event.position)

    def _violation(
        self, kind: str, detail: str, memory_id: str | None = None, position: int | None = None
    ) -> Violation:
        return Violation(
            kind=kind, detail=detail, space=self.name, memory_id=memory_id, position=position
        )
