"""The state machine that a space's writer thread drives. Commands become events here, decided over
the durable state and an overlay of what was decided earlier in the same group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from engram.errors import InProgress
from engram.feed.feed import Feed
from engram.memory.answering import Keyed, answered_event, check_unanswered
from engram.memory.believing import Queued
from engram.memory.decide import Command, Latest, Observe, Remember, decide
from engram.memory.events import (
    MemoryForgotten,
    MemoryLinked,
    MemoryPurged,
    MemoryStored,
    MemoryUnlinked,
    MemoryVersion,
    RequestAnswered,
    SpaceConfigured,
    SpaceDeleted,
    SpaceRestored,
)
from engram.memory.model import Vector
from engram.memory.payload import NO_VECTORS, Batch, encode_batch
from engram.memory.purges import husk
from engram.memory.settings import Settings, settings_in
from engram.memory.state import State, StateError
from engram.memory.storing import left_standing
from engram.spaces.room import Room
from wal.codec import Draft, check_draft
from wal.commit import Decided
from wal.format import FLAG_OBSERVED
from wal.opened import Ack


class Committed(NamedTuple):
    """A durable command: its events, the position of the first, and the record's time. `standing`
    is what it left as it was. Of a command without events there is no record, and `ack` has the
    position behind the last before it.
    """

    batch: Batch
    ack: Ack
    standing: tuple[Latest, ...] = ()


class Timed(NamedTuple):
    command: Command | Keyed
    time_ns: int


class Staged(NamedTuple):
    """What was decided: what the caller gets, and the record there will be, if there is one."""

    committed: Committed
    record: Committed


class Machine:
    """The state machine that the writer thread drives: `decide` over an overlay of its group."""

    def __init__(
        self,
        memory_space_id: str,
        state: State,
        feed: Feed,
        noticing: Sequence[Callable[[], None]],
        log_time_ns: Callable[[], int],
        room: Room,
    ) -> None:
        """`log_time_ns` is the time of the last record, which no later one is before."""
        self._memory_space_id = memory_space_id
        self.state = state
        self._feed = feed
        self._noticing = noticing
        self._log_time_ns = log_time_ns
        self._last: Ack | None = None
        self._room = room
        self._answered: set[bytes] = set()
        self._overlay: dict[str, tuple[Latest, Vector | None]] = {}
        self._asked: dict[str, Latest | None] = {}
        self._links: dict[tuple[str, str, str], bool] = {}
        self._anew: set[str] = set()
        self._formed = Queued()
        self._deleted: bool | None = None
        self._settings: Settings | None = None

    @property
    def settings(self) -> Settings:
        return self.state.settings if self._settings is None else self._settings

    @property
    def deleted(self) -> bool:
        return self.state.deleted if self._deleted is None else self._deleted

    def latest(self, memory_id: str) -> Latest | None:
        queued = self._overlay.get(memory_id)
        return queued[0] if queued is not None else self._durable(memory_id)

    def _durable(self, memory_id: str) -> Latest | None:
        """What is known without this group; it is asked for again and again."""
        if memory_id not in self._asked:
            self._asked[memory_id] = self.state.latest(memory_id)
        return self._asked[memory_id]

    def vector(self, memory_id: str) -> Vector:
        queued = self._overlay.get(memory_id)
        if queued is not None and queued[1] is not None:
            return queued[1]
        return self.state.vector(memory_id)

    def linked(self, source: str, target: str, relation: str) -> bool:
        queued = self._links.get((source, target, relation))
        if queued is not None:
            return queued
        begun = source in self._anew or target in self._anew
        return not begun and self.state.linked(source, target, relation)

    def resting_on(self, memory_id: str) -> Sequence[str]:
        return self._formed.resting_on(self.state, memory_id, self.latest, self._anew)

    def derived_from(self, memory_id: str) -> Sequence[str]:
        return self._formed.derived_from(self.state, memory_id)

    def cited(self, memory_id: str) -> Sequence[tuple[str, int]]:
        return self._formed.cited(self.state, memory_id, memory_id in self._anew)

    def living(self, now_us: int) -> int:
        count = self.state.view.live_count(now_us)
        for memory_id, (latest, _) in self._overlay.items():
            before = self._durable(memory_id)
            count -= before is not None and before.lives_at(now_us)
            count += latest.lives_at(now_us)
        return count

    def decide(self, timed: Timed) -> Decided[Staged]:
        keyed, command = None, timed.command
        if isinstance(command, Keyed):
            keyed, command = command, command.command
        last = self._last
        at = Ack(
            self.state.view.position + 1 if last is None else last.position + last.events,
            0,
            max(timed.time_ns, self._log_time_ns() if last is None else last.time_ns),
        )
        if keyed is not None:
            self._check_unanswered(keyed, at.time_ns // 1_000)
        batch = decide(self, command, self._memory_space_id)
        standing: tuple[Latest, ...] = ()
        if isinstance(command, Remember):
            standing = left_standing(self, command, batch.events)
        committed = record = Committed(batch, at._replace(events=len(batch.events)), standing)
        if keyed is not None:
            record = _with_answer(committed, answered_event(keyed, keyed.answer(committed)))
        if not record.batch.events:
            return Decided(None, Staged(committed, record))
        flags = FLAG_OBSERVED if isinstance(command, Observe) else 0
        ack = record.ack
        draft = Draft(encode_batch(record.batch), ack.events, ack.time_ns, flags=flags)
        # Refused before the rest of the group may see it: what is too large never happens.
        payload_bytes = check_draft(draft)
        self._room.take(self, batch, payload_bytes, timed.time_ns // 1_000)
        self._last = ack
        if keyed is not None:
            self._answered.add(keyed.key)
        self._overlay_batch(record.batch, ack)
        return Decided(draft, Staged(committed, record))

    def _check_unanswered(self, keyed: Keyed, time_us: int) -> None:
        if keyed.key in self._answered:
            raise InProgress(
                "a request with this Idempotency-Key is being worked on; send it again for its "
                "answer",
                memory_space_id=self._memory_space_id,
            )
        kept = self.state.answers.find(keyed.key, time_us)
        check_unanswered(kept, keyed.request, self._memory_space_id)

    def _overlay_batch(self, batch: Batch, ack: Ack) -> None:
        vectors = iter(batch.vectors)
        for position, event in enumerate(batch.events, ack.position):
            self._formed.take(event)
            if isinstance(event, MemoryVersion):
                latest = Latest(event, True, position, ack.time_ns // 1_000)
                self._overlay[event.id] = (latest, next(vectors))
                if isinstance(event, MemoryStored):
                    self._begin_anew(event.id)
            elif isinstance(event, MemoryLinked | MemoryUnlinked):
                key = (event.source, event.target, event.relation)
                self._links[key] = isinstance(event, MemoryLinked)
            elif isinstance(event, MemoryForgotten):
                self._bury(event.id, None)
            elif isinstance(event, MemoryPurged):
                self._bury(event.id, husk(event))
            elif isinstance(event, SpaceDeleted | SpaceRestored):
                self._deleted = isinstance(event, SpaceDeleted)
            elif isinstance(event, SpaceConfigured):
                self._settings = settings_in(event)

    def _bury(self, memory_id: str, husk: MemoryVersion | None) -> None:
        """It lives no more: what it was is known still, or only its husk. Its vector stays."""
        known, queued = self.latest(memory_id), self._overlay.get(memory_id)
        version = husk or (None if known is None else known.version)
        if version is not None:
            vector = None if queued is None else queued[1]
            at = Latest(version, False) if known is None else known
            self._overlay[memory_id] = (at._replace(version=version, alive=False), vector)

    def _begin_anew(self, memory_id: str) -> None:
        """What lives under an id from here on in the group has no links yet."""
        self._anew.add(memory_id)
        self._links = {key: at for key, at in self._links.items() if memory_id not in key[:2]}

    def commit(self, decided: Sequence[tuple[Staged, Ack | None]]) -> list[Committed]:
        self.abandon()
        records = []
        for (_, record), ack in decided:
            if ack is None:
                continue
            if ack != record.ack:  # an answer may have told it already
                raise StateError(f"a record went to {ack}, and not where it was to go")
            self.state.apply(record.batch, ack.position, ack.time_ns)
            records.append((record.batch, ack.position, ack.time_ns))
        self.state.publish()
        self._feed.publish(records)
        for notice in self._noticing:
            notice()
        return [staged.committed for staged, _ in decided]

    def abandon(self) -> None:
        self._overlay.clear()
        self._room.clear()
        self._asked.clear()
        self._links.clear()
        self._anew.clear()
        self._formed = Queued()
        self._deleted = self._settings = self._last = None
        self._answered.clear()


def _with_answer(committed: Committed, answered: RequestAnswered) -> Committed:
    """The record that also holds what was answered: as its only event where there is no other."""
    batch, ack = committed.batch, committed.ack
    if batch.events:
        return Committed(batch._replace(answered=answered), ack)
    return Committed(Batch([answered], NO_VECTORS), ack._replace(events=1))
