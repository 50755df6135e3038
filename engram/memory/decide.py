"""From a command and what is known to the events it causes, or to a refusal. Pure.

`Known` is all the decider may ask: what an id means right now, counting events decided earlier in
the same group. Ids, times and vectors come in with the command, so the same commands in the same
order always give the same events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from engram.errors import (
    LinkNotFound,
    MemoryExists,
    MemoryNotFound,
    SpaceExists,
    SpaceNotFound,
)
from engram.memory.believing import (
    Consolidate,
    check_expiry,
    formed,
    rests_no_more,
    with_derived,
    withdrawn,
)
from engram.memory.etags import Expected, check_expected
from engram.memory.events import (
    ActivationSpread,
    MemoryForgotten,
    MemoryLinked,
    MemoryPurged,
    MemoryRecalled,
    MemoryRestored,
    MemoryRevised,
    MemoryStored,
    MemoryUnlinked,
    MemoryVersion,
    SpaceCompacted,
    SpaceConfigured,
    SpaceDeleted,
    SpaceRestored,
)
from engram.memory.forgetting import (
    EXPIRED,
    FADED,
    FORGET_NOTHING,
    REQUEST,
    Forgetting,
    Judged,
    NothingLeft,
)
from engram.memory.model import OnConflict, Vector
from engram.memory.payload import NO_VECTORS, Batch
from engram.memory.purges import is_husk
from engram.memory.settings import Settings
from engram.memory.storing import check_not_withdrawn, remembered


class Remember(NamedTuple):
    """Store `versions` (revision 0 here; deciding gives the real one) with their vectors.
    `on_conflict` says what is done about ids that live.
    """

    versions: Sequence[MemoryStored]
    vectors: Vector
    now_us: int
    on_conflict: OnConflict = "error"


class Revise(NamedTuple):
    """Change a memory. `changes` holds new values by the names of :class:`MemoryVersion`;
    `vector` comes with new content, or is None to keep the old one.
    """

    id: str
    changes: Mapping[str, Any]
    vector: Vector | None
    now_us: int
    expected: Expected = None


class Forget(NamedTuple):
    """Forget a memory; where `expected` is given, here as elsewhere, only if its newest version is
    one of those.
    """

    id: str
    now_us: int
    expected: Expected = None


class ForgetMatching(NamedTuple):
    """Forget memories, by id, that are still in the revision in which they matched."""

    matched: Sequence[tuple[str, int]]
    now_us: int


class Sweep(NamedTuple):
    """Forget what has expired, or was judged to go by a policy, as far as that still holds."""

    judged: Sequence[Judged]
    now_us: int
    policy: Forgetting = FORGET_NOTHING


class Purge(NamedTuple):
    """Let nothing be left of these memories, living or forgotten."""

    ids: Sequence[str]
    expected: Expected = None


class Restore(NamedTuple):
    """Undo the forgetting of a memory."""

    id: str
    now_us: int
    expected: Expected = None


class Associate(NamedTuple):
    """Link a memory to another, or set the weight of that link anew."""

    link: MemoryLinked
    now_us: int


class Dissociate(NamedTuple):
    """Remove the link of a memory to another."""

    link: MemoryUnlinked
    now_us: int


class Observe(NamedTuple):
    """Something happened that is to be on record; nothing about it can be refused."""

    events: tuple[MemoryRecalled | ActivationSpread, ...]


class NoteCompaction(NamedTuple):
    """The space was compacted."""

    event: SpaceCompacted


class Configure(NamedTuple):
    """Change some settings of a space; `changes` holds new values by the names of
    :class:`engram.memory.settings.Settings`.
    """

    changes: Mapping[str, Any]


class DeleteSpace(NamedTuple):
    """Let nothing follow; the space may be purged from `purge_after_us` on."""

    purge_after_us: int


class RestoreSpace(NamedTuple):
    """Undo the deletion that is the last event."""


Command = (
    Remember
    | Revise
    | Forget
    | ForgetMatching
    | Sweep
    | Purge
    | Restore
    | Associate
    | Dissociate
    | Consolidate
    | Observe
    | NoteCompaction
    | Configure
    | DeleteSpace
    | RestoreSpace
)


class Latest(NamedTuple):
    """The last thing that happened to an id: its newest version, whether that one lives, and where
    and when it was stored.
    """

    version: MemoryVersion
    alive: bool
    position: int = 0
    stored_us: int = 0

    def lives_at(self, now_us: int) -> bool:
        expires = self.version.expires_us
        return self.alive and (expires is None or expires > now_us)


class Known(Protocol):
    """What the space knows about an id, and about itself."""

    @property
    def deleted(self) -> bool:
        """Whether the last event deleted the space."""

    @property
    def settings(self) -> Settings:
        """What is set about the space."""

    def latest(self, memory_id: str) -> Latest | None: ...

    def vector(self, memory_id: str) -> Vector:
        """The vector of the id's newest version, shape (dimensions,)."""

    def linked(self, source: str, target: str, relation: str) -> bool:
        """Whether two living memories are linked so."""

    def resting_on(self, memory_id: str) -> Sequence[str]:
        """The ids of living beliefs that rest on a memory."""

    def derived_from(self, memory_id: str) -> Sequence[str]:
        """The ids of all beliefs ever formed from a memory, as far as history goes."""

    def cited(self, memory_id: str) -> Sequence[tuple[str, int]]:
        """What the last belief of an id was formed from: ids and revisions."""

    def living(self, now_us: int) -> int:
        """How many memories live and have not expired."""


def decide(known: Known, command: Command, memory_space_id: str) -> Batch:
    """The events `command` causes, and that beliefs are withdrawn with what they rest on; raises
    what its caller is to get when it is refused.
    """
    if known.deleted and not isinstance(command, RestoreSpace):
        raise SpaceNotFound(
            f"space {memory_space_id!r} was deleted; nothing was done. Restore it to use it again",
            memory_space_id=memory_space_id,
        )
    batch = _decided(known, command, memory_space_id)
    gone = list(withdrawn(known, batch.events))
    if not gone:
        return batch
    if isinstance(command, Remember):
        check_not_withdrawn(batch.events, gone)
    return batch._replace(events=[*batch.events, *gone])


def _decided(known: Known, command: Command, memory_space_id: str) -> Batch:
    match command:
        case Remember():
            return remembered(known, command, memory_space_id)
        case Revise():
            return _revise(known, command, memory_space_id)
        case Forget():
            latest = _living(known, command, memory_space_id)
            event = MemoryForgotten(id=command.id, revision=latest.version.revision, reason=REQUEST)
            return Batch([event], NO_VECTORS)
        case ForgetMatching():
            return _forgotten_matching(known, command)
        case Sweep():
            return _swept(known, command)
        case Purge():
            return Batch(list(_purged(known, command, memory_space_id)), NO_VECTORS)
        case Restore():
            return _restore(known, command, memory_space_id)
        case Associate() | Dissociate():
            return _linked(known, command, memory_space_id)
        case Consolidate():
            return formed(known, command)
        case Observe():
            return Batch(list(command.events), NO_VECTORS)
        case NoteCompaction():
            return Batch([command.event], NO_VECTORS)
        case Configure():
            fields = {**msgspec.structs.asdict(known.settings), **command.changes}
            return Batch([SpaceConfigured(**fields)], NO_VECTORS)
        case DeleteSpace():
            return Batch([SpaceDeleted(purge_after_us=command.purge_after_us)], NO_VECTORS)
        case RestoreSpace():
            if not known.deleted:
                raise SpaceExists(
                    f"space {memory_space_id!r} is not deleted", memory_space_id=memory_space_id
                )
            return Batch([SpaceRestored()], NO_VECTORS)


def _swept(known: Known, command: Sweep) -> Batch:
    """What was revised, forgotten or used anew since it was judged stays as it is. So does what a
    policy had go which holds no more, what is no longer too many, and what a belief has come to
    rest on that is spared. A belief that is withdrawn with one of them is one less, too.
    """
    events: list[MemoryForgotten] = []
    gone: set[str] = set()
    policy = command.policy
    holds = known.settings.forgetting == policy
    too_many = 0
    if holds and policy.capacity is not None:
        too_many = known.living(command.now_us) - policy.capacity
    for each in command.judged:
        latest = known.latest(each.id)
        if latest is None or not latest.alive or latest.version.revision != each.revision:
            continue
        lives = latest.lives_at(command.now_us)
        if lives == (each.reason == EXPIRED):
            continue
        if lives and not (holds and (too_many > 0 or each.reason == FADED)):
            continue
        if lives:
            resting = known.resting_on(each.id)
            if any(_spared(known, policy, belief) for belief in resting):
                continue
            with_it = {each.id, *resting} - gone
            gone |= with_it
            too_many -= len(with_it)
        events.append(
            MemoryForgotten(
                id=each.id,
                revision=each.revision,
                reason=each.reason,
                base_level=each.base_level,
                bound=policy.bound(each.reason),
            )
        )
    if not events:
        raise NothingLeft
    return Batch(events, NO_VECTORS)


def _spared(known: Known, policy: Forgetting, memory_id: str) -> bool:
    latest = known.latest(memory_id)
    return latest is not None and policy.spares(latest.version.kind, latest.version.tags)


def _revise(known: Known, command: Revise, memory_space_id: str) -> Batch:
    old = _living(known, command, memory_space_id).version
    fields = {**msgspec.structs.asdict(old), **command.changes, "revision": old.revision + 1}
    if "expires_us" in command.changes:
        check_expiry(known, command.id, fields["expires_us"])
    vector = known.vector(command.id) if command.vector is None else command.vector
    return Batch([MemoryRevised(**fields)], vector.reshape(1, -1))


def _restore(known: Known, command: Restore, memory_space_id: str) -> Batch:
    old = _forgotten(known, command, memory_space_id)
    fields = {**msgspec.structs.asdict(old), "revision": old.revision + 1}
    return Batch([MemoryRestored(**fields)], known.vector(command.id).reshape(1, -1))


def _linked(known: Known, command: Associate | Dissociate, memory_space_id: str) -> Batch:
    link = command.link
    for memory_id in (link.source, link.target):
        _check_lives(known, memory_id, command.now_us, memory_space_id)
    if isinstance(command, Dissociate) and not known.linked(
        link.source, link.target, link.relation
    ):
        raise LinkNotFound(
            f"memory {link.source!r} has no link {link.relation!r} to {link.target!r} in space "
            f"{memory_space_id!r}",
            memory_space_id=memory_space_id,
        )
    return Batch([link], NO_VECTORS)


def _forgotten_matching(known: Known, command: ForgetMatching) -> Batch:
    """What was revised, forgotten or used anew since it matched stays; it is looked at again."""
    events = []
    for memory_id, revision in command.matched:
        latest = known.latest(memory_id)
        if latest is None or not latest.lives_at(command.now_us):
            continue
        if latest.version.revision == revision:
            events.append(MemoryForgotten(id=memory_id, revision=revision, reason=REQUEST))
    if not events:
        raise NothingLeft
    return Batch(events, NO_VECTORS)


def _forgotten(known: Known, command: Restore, memory_space_id: str) -> MemoryVersion:
    """What was forgotten, if it would be seen again. That its time is up is no forgetting, and
    nothing could bring it back for longer than no time; of a purged one the content is gone.
    """
    memory_id, now_us = command.id, command.now_us
    latest = known.latest(memory_id)
    what = f"memory {memory_id!r} of space {memory_space_id!r}"
    if latest is None:
        why = (
            f"there never was a memory {memory_id!r} in space {memory_space_id!r}, or it was "
            "forgotten before what its history still holds"
        )
    elif latest.lives_at(now_us):
        raise MemoryExists(
            f"{what} is not forgotten; nothing was restored", memory_space_id=memory_space_id
        )
    elif is_husk(latest.version):
        why = f"{what} was purged; nothing is left of it"
    elif latest.version.expires_us is not None and latest.version.expires_us <= now_us:
        why = f"{what} has expired, which cannot be undone; remember it again"
    elif source := rests_no_more(known, memory_id, now_us):
        why = (
            f"{what} is a belief that rests on {source!r}, which is gone or has changed since; "
            "consolidate the space to form it anew"
        )
    else:
        check_expected(command.expected, latest.position, memory_id, memory_space_id)
        return latest.version
    raise MemoryNotFound(why, memory_space_id=memory_space_id)


def _purged(known: Known, command: Purge, memory_space_id: str) -> Iterator[MemoryPurged]:
    named = set(command.ids)
    for memory_id in with_derived(known, command.ids):
        latest = known.latest(memory_id)
        if latest is None or is_husk(latest.version):
            raise MemoryNotFound(
                f"there is no memory {memory_id!r} in space {memory_space_id!r} to be purged; "
                "nothing was purged",
                memory_space_id=memory_space_id,
            )
        if memory_id in named:
            check_expected(command.expected, latest.position, memory_id, memory_space_id)
        yield MemoryPurged(id=memory_id, revision=latest.version.revision)


def _living(known: Known, command: Revise | Forget, memory_space_id: str) -> Latest:
    latest = _check_lives(known, command.id, command.now_us, memory_space_id)
    check_expected(command.expected, latest.position, command.id, memory_space_id)
    return latest


def _check_lives(known: Known, memory_id: str, now_us: int, memory_space_id: str) -> Latest:
    latest = known.latest(memory_id)
    if latest is None or not latest.lives_at(now_us):
        raise MemoryNotFound(
            f"there is no memory {memory_id!r} in space {memory_space_id!r}",
            memory_space_id=memory_space_id,
        )
    return latest
