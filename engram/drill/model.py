"""What a space must hold, from what its clients were told. Pure.

Theory of operation. Every write is announced before it is sent, with the events that it will make
(its effects). An answer ties each of them to a position. A write that never got an answer stays
open: it may be in the log, whole, or not at all. After each restart the whole log is read, and
every event must be one of these:

- at a position that was read before, and then the very same event as then;
- at a position that was acknowledged, and then the effect that was acknowledged there;
- part of one open write, all of whose effects stand there, in order;
- the record of a recall, or of a compaction, which a server also starts by itself;
- the deletion or restoration of the space, if one was asked for;
- a redaction, where something happened to a memory that was purged later.

Anything else is a phantom; an acknowledged effect that is not at its position is lost. What was
open is settled by that: what was not found must never appear later, where it would be a phantom.
Applying the events then gives what the space must list, to the revision. So clients may compete for
the same ids: the log decides who came first, and the answers must agree with it.

A space that need not keep its history lets go of positions that were never read. There the
acknowledged effects stand for the log, and what was open may have been done unseen: about its
memories, and no others, the list decides. Whatever was let go of, what lives is all there.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence

from engram.drill.effects import (
    CHANGE_MEMORIES,
    COMPACTED,
    CONFIGURED,
    CONTENT_SHOWN,
    CREATED,
    FORGOTTEN,
    PURGED,
    RECALLED,
    REDACTABLE,
    REDACTED,
    RESTORED,
    REVISED,
    SPACE_DELETED,
    SPACE_RESTORED,
    SPREAD,
    STORED,
    UNKNOWN,
    Acknowledged,
    Effect,
    Held,
    Mark,
    Seen,
    Violation,
    Write,
    effect_of,
    effect_of_memory,
    is_foreign,
    mark_of,
    word_of,
)
from engram.drill.promises import Promises
from engram.memory.model import Event, Memory


class SpaceModel(Promises):
    """One space, settled with what a server shows of it after each restart."""

    def settle(self, seen: Seen) -> Iterator[Violation]:
        """Compare with what a server shows after a restart, and take that as the state from now
        on. What comes after a violation is compared as well as it can be.
        """
        purged = {event.id or "": event.position for event in seen.events if event.type == PURGED}
        self.purges = {**self.purged_at, **purged}
        yield from self._compare_beginning(seen)
        yield from self._compare_prefix(seen.events)
        yield from self._compare_new(seen)
        yield from self._compare_redacted(seen.events)
        yield from self._compare_list(seen.memories)
        self.open.clear()
        self.acknowledged.clear()
        self.unplaced.clear()
        self.compactions.clear()
        self.recalls_answered.clear()
        self.recalls_unanswered = 0
        self.endings = 0

    def _compare_beginning(self, seen: Seen) -> Iterator[Violation]:
        """History begins where it may: what was let go of stays gone, what has to stay is there."""
        if seen.oldest < self.oldest:
            detail = f"history begins at {seen.oldest}, and began at {self.oldest} already"
            yield self._violation("lost compaction", detail, position=seen.oldest)
        must = 1 if self.kept_min is None else max(1, seen.end + 1 - self.kept_min)
        if seen.oldest > max(must, 1):
            detail = f"history begins at {seen.oldest}; from {must} on it had to stay"
            yield self._violation("lost", detail, position=must)
        self.oldest = max(self.oldest, seen.oldest)

    def _compare_prefix(self, events: Sequence[Event]) -> Iterator[Violation]:
        """Positions are dense, and what was read before is as it was."""
        for number, event in enumerate(events, self.oldest if events else 1):
            if event.position != number:
                detail = f"position {event.position} stands where {number} should"
                yield self._violation("position not dense", detail, position=event.position)
                break
        for event in events:
            whose = (event.memory_space_id, event.space_uuid)
            if whose != (self.name, self.uuid or event.space_uuid):
                detail = f"position {event.position} belongs to {whose[0]!r}, uuid {whose[1]}"
                yield self._violation("foreign", detail, position=event.position)
            if not 0 < event.position <= len(self.marks):
                continue
            mark, now = self.marks[event.position - 1], mark_of(event)
            if event.type == REDACTED and event.position < self.purges.get(mark.id, 0):
                self.marks[event.position - 1] = now._replace(id=mark.id)
            elif mark.digest != now.digest:
                detail = f"position {event.position} was {mark.label}, and is {now.label}"
                yield self._violation("history changed", detail, event.id, event.position)
        end = self.oldest - 1 + len(events)
        for number in range(end + 1, len(self.marks) + 1):
            there = self.marks[number - 1].label
            detail = f"{there} was in the log at {number}, which ends at {end}"
            yield self._violation("lost", detail, position=number)

    def _compare_new(self, seen: Seen) -> Iterator[Violation]:
        """Each new event is explained, and each acknowledged one is there."""
        missing = dict(self.acknowledged)
        gap = range(len(self.marks) + 1, self.oldest)
        unseen = [position for position in gap if position not in missing]
        hidden = [event for event in seen.events if event.type == REDACTED]
        if unseen or any(event.position not in missing for event in hidden):
            self.unsure.update(effect.id for one in self.open for effect in one.effects)
        for position in gap:
            told = missing.pop(position, None)
            if told is None:
                self.marks.append(UNKNOWN)
            else:
                self.marks.append(Mark(b"", str(told.effect), told.effect.id))
                yield from self._apply(position, told.effect, None, told)
        fresh = [event for event in seen.events if event.position > len(self.marks)]
        configured = [event for event in fresh if event.type == CONFIGURED]
        while fresh:
            told = missing.pop(fresh[0].position, None)
            effects = yield from self._explain(fresh, told)
            for event, effect in zip(fresh, effects, strict=False):
                mark = mark_of(event)
                self.marks.append(mark._replace(id=effect.id))
                revision = event.revision if event.memory is None else event.memory.revision
                yield from self._apply(
                    event.position, effect, revision, self.acknowledged.get(event.position)
                )
            fresh = fresh[len(effects) :]
        for position, told in missing.items():
            yield self._lost(position, told, f"is not in the log, which ends at {seen.end}")
        yield from self._compare_settings(seen, unseen, configured)

    def _explain(
        self, events: Sequence[Event], told: Acknowledged | None
    ) -> Generator[Violation, None, Sequence[Effect]]:
        """Why the first of these events is there; the effects of the write that it begins."""
        event = events[0]
        effect = effect_of(event)
        if told is not None:
            if not self._is(event, told.effect):
                yield self._lost(event.position, told, f"is {mark_of(event).label}")
            elif event.type == COMPACTED:
                yield from self._check_compaction(event)
            elif event.type == REDACTED:
                return (told.effect,)
        elif event.type == COMPACTED:
            yield from self._check_compaction(event)
        elif event.type == RECALLED:
            yield from self._check_recall(event)
        elif event.type == SPREAD:
            yield from self._check_spread(event)
        elif event.type in {SPACE_DELETED, SPACE_RESTORED}:
            yield from self._check_ending(event, events)
        elif effect in self.unplaced:
            self.unplaced.remove(effect)
        elif event.type != CREATED or event.position != 1:
            write = next((one for one in self.open if self._is(event, one.effects[0])), None)
            if write is None:
                yield self._phantom(event)
            else:
                self.open.remove(write)
                return (yield from self._check_whole(write, events))
        return (effect,)

    def _is(self, event: Event, effect: Effect) -> bool:
        """Whether an event says what an effect does, or stands for it once that was purged."""
        if event.type == REDACTED:
            later = event.position < self.purges.get(effect.id, 0)
            return later and effect.type in REDACTABLE
        return effect_of(event) == effect

    def _check_whole(
        self, write: Write, events: Sequence[Event]
    ) -> Generator[Violation, None, Sequence[Effect]]:
        """An open write that was found begins with these events; returns those of its own."""
        self.found_unanswered += 1
        for number, effect in enumerate(write.effects):
            if number == len(events) or not self._is(events[number], effect):
                detail = f"a write of {len(write.effects)} is there in part: {effect} is missing"
                yield self._violation(
                    "half a batch", detail, effect.id, events[0].position + number
                )
                return write.effects[:number]
        return write.effects

    def _check_spread(self, event: Event) -> Iterator[Violation]:
        """It stands behind the recall that it is of."""
        if (event.recall_id, event.position - 1) != self.recalled:
            yield self._phantom(event)
        yield from self._check_known(event, [item.id for item in event.activated or ()])

    def _check_recall(self, event: Event) -> Iterator[Violation]:
        self.recalled = (event.recall_id, event.position)
        if event.recall_id in self.recalls_answered:
            self.recalls_answered.discard(event.recall_id)
        elif self.recalls_unanswered:
            self.recalls_unanswered -= 1
        else:
            yield self._phantom(event)
        yield from self._check_known(event, [item.id for item in event.results or ()])

    def _check_known(self, event: Event, ids: Iterable[str]) -> Iterator[Violation]:
        for memory_id in ids:
            if memory_id not in self.revisions and memory_id not in self.unsure:
                detail = f"the recall at {event.position} found {memory_id!r}, which never was here"
                yield self._violation("phantom", detail, memory_id, event.position)

    def _check_compaction(self, event: Event) -> Iterator[Violation]:
        """It stands for what comes before it, and history begins where it says or later."""
        self.compacted += 1
        self.compactions.discard(event.checkpoint_position or 0)
        self.completed_to = max(self.completed_to, event.purged_to or 0)
        if not 0 < (event.checkpoint_position or 0) < event.position:
            detail = f"a checkpoint at {event.checkpoint_position} is told of at {event.position}"
            yield self._violation("impossible event", detail, position=event.position)
        if (event.oldest_position or 0) > self.oldest:
            detail = f"history begins at {self.oldest}, before the {event.oldest_position} that "
            detail += f"the compaction at {event.position} left"
            yield self._violation("lost compaction", detail, position=event.position)

    def _check_ending(self, event: Event, events: Sequence[Event]) -> Iterator[Violation]:
        """A living space's deletion is followed by its restoration, and by nothing else."""
        if not self.endings:
            yield self._phantom(event)
        before = self.marks[-1].label if self.marks else "nothing"
        following = events[1].type if len(events) > 1 else "nothing"
        deleted = event.type == SPACE_DELETED
        if (following, before)[not deleted] != (SPACE_RESTORED, SPACE_DELETED)[not deleted]:
            detail = f"{event.type} at {event.position} stands between {before} and {following}"
            yield self._violation("impossible event", detail, position=event.position)

    def _compare_settings(
        self, seen: Seen, unseen: Sequence[int], configured: Sequence[Event]
    ) -> Iterator[Violation]:
        """What was acknowledged without a position is there too, unless it was let go of."""
        possible = {self.retention}
        if unseen:
            possible.update(effect.content for effect in self.unplaced)
            of_open = [effect for write in self.open for effect in write.effects]
            possible.update(one.content for one in of_open if one.type == CONFIGURED)
        else:
            for effect in self.unplaced:
                yield self._violation("lost", f"{effect} was acknowledged, and is not in the log")
        if configured:
            possible = {str(configured[-1].retention)}
        if seen.retention not in possible:
            detail = f"its retention is {seen.retention}, not {' or '.join(sorted(possible))}"
            yield self._violation("changed", detail)
        self.retention = seen.retention
        for position in self.compactions:
            if not unseen or unseen[-1] <= position:
                detail = f"a compaction up to {position} was acknowledged; the log tells of none"
                yield self._violation("lost compaction", detail, position=position)

    def _compare_redacted(self, events: Sequence[Event]) -> Iterator[Violation]:
        """Once a purge is complete, nothing of the memory is told any more."""
        for event in events:
            effect = effect_of(event)
            purged = self.purges.get(effect.id, 0)
            if event.type in REDACTABLE and event.position < purged <= self.completed_to:
                detail = f"{effect} is told at {event.position}, and was purged at {purged}"
                yield self._violation("purged", detail, effect.id, event.position)

    def _apply(
        self, position: int, effect: Effect, revision: int | None, told: Acknowledged | None
    ) -> Iterator[Violation]:
        """Take one event into the state that the log gives; `revision` is None if it is unseen."""
        if effect.type not in CHANGE_MEMORIES:
            return
        if is_foreign(self.name, effect):
            yield self._violation("foreign", f"{effect} is not of this space", effect.id, position)
        lived = self.living.pop(effect.id, None) is not None
        sure = effect.id not in self.unsure
        if revision is not None:
            self.unsure.discard(effect.id)
        if effect.type == PURGED:
            self._purge(effect.id, position)
        if effect.type in {FORGOTTEN, PURGED} and revision is not None:
            self.revisions[effect.id] = revision
        if effect.type == PURGED:
            return
        if sure and lived != (effect.type in {REVISED, FORGOTTEN}):
            detail = f"{effect} at {position}, when it {'lived' if lived else 'did not live'}"
            yield self._violation("impossible event", detail, effect.id, position)
        if effect.type == FORGOTTEN:
            self.ended[effect.id] = position
            return
        if effect.type == RESTORED:
            yield from self._check_restored(effect, position, sure=sure)
        following = self.revisions.get(effect.id, 0) + 1
        # What history has let go of begins again.
        ended = self.ended.get(effect.id)
        possible = {following} if ended is None or ended >= self.oldest else {following, 1}
        promised = told.revision if told is not None else None
        found = revision or promised or following
        if (sure and found not in possible) or found != (promised or found):
            detail = (
                f"{effect} at {position} has revision {found}; {following} comes next, and "
                f"{promised or following} was acknowledged"
            )
            yield self._violation("wrong revision", detail, effect.id, position)
        self._hold(Held(effect, found, position))

    def _hold(self, held: Held) -> None:
        memory_id = held.effect.id
        self.revisions[memory_id] = held.revision
        self.living[memory_id] = held
        self.last[memory_id] = held.effect
        self.words.setdefault(memory_id, set()).add(word_of(held.effect.content))

    def _purge(self, memory_id: str, position: int) -> None:
        self.living.pop(memory_id, None)
        self.last.pop(memory_id, None)
        self.ended[memory_id] = self.purged_at[memory_id] = position
        self.purged_words |= self.words.pop(memory_id, set())

    def _check_restored(self, effect: Effect, position: int, *, sure: bool) -> Iterator[Violation]:
        """A restored memory is what it was."""
        was = self.last.get(effect.id)
        if sure and (was is None or was._replace(type=effect.type) != effect):
            detail = f"{effect} at {position} restores what was {was or 'not there'}"
            yield self._violation("changed", detail, effect.id, position)

    def _compare_list(self, memories: Sequence[Memory]) -> Iterator[Violation]:
        """What is listed is what the log gives: content, tags, metadata, revision, position."""
        listed: dict[str, Memory] = {}
        for memory in memories:
            if memory.id in listed:
                detail = f"{memory.id!r} is listed twice"
                yield self._violation("phantom", detail, memory.id, memory.position)
            listed[memory.id] = memory
        self._decide_unsure(listed)
        self.unsure -= listed.keys()
        for memory_id, held in self.living.items():
            found = listed.pop(memory_id, None)
            if found is None:
                detail = f"{held.effect}, at {held.position}, is not listed"
                yield self._violation("lost", detail, memory_id, held.position)
            else:
                yield from self.check_memory(found, "is listed")
        for memory in listed.values():
            was = "was forgotten" if memory.id in self.revisions else "never was here"
            was = "was purged" if memory.id in self.purged_at else was
            effect = effect_of_memory(STORED, memory)
            detail = f"{memory.id!r} ({memory.content[:CONTENT_SHOWN]!r} …) is listed, but {was}"
            kind = "foreign" if is_foreign(self.name, effect) else "phantom"
            yield self._violation(kind, detail, memory.id, memory.position)

    def _decide_unsure(self, listed: dict[str, Memory]) -> None:
        """Writes that were open may have been done where nothing can be read any more."""
        for write in self.open:
            for effect in write.effects:
                memory, held = listed.get(effect.id), self.living.get(effect.id)
                if effect.id not in self.unsure:
                    continue
                if memory is not None and effect_of_memory(effect.type, memory) == effect:
                    unseen = self.marks[memory.position - 1 : memory.position] == [UNKNOWN]
                    if unseen and (held is None or held.position < memory.position):
                        self._hold(Held(effect, memory.revision, memory.position))
                elif memory is None and effect.type in {FORGOTTEN, PURGED}:
                    self.living.pop(effect.id, None)

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
