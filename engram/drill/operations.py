"""What the clients do: one table, in which a new operation is one entry.

An operation takes a turn (a client, a space, a generator of chance), asks the server for one thing
and tells the ledger: before it is sent what it will do, and then what was answered. Ids belong to
one client each, but for a few that all compete for; every id and every content begins with the name
of its space, the shared ids excepted. The third word of a content stands in no other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, NamedTuple
from zlib import crc32

import msgspec

from engram.client.asynchronous import AsyncClient, AsyncSpace
from engram.drill.effects import (
    CONFIGURED,
    FORGOTTEN,
    PURGED,
    RESTORED,
    REVISED,
    SHARED_PREFIX,
    STORED,
    Effect,
    Violation,
    Write,
)
from engram.drill.ledger import DELETED, GONE, LIVE, PRIVATE_MARK, Ledger
from engram.drill.model import SpaceModel
from engram.errors import (
    EngramError,
    MemoryExists,
    MemoryNotFound,
    OutcomeUnknown,
    ServerUnreachable,
)
from engram.memory.model import (
    Changes,
    EmbeddingSpec,
    Forgotten,
    Memory,
    NewMemory,
    PurgeReceipt,
    Remembered,
    SpaceInfo,
)
from engram.memory.retention import Retention

DIMENSIONS: Final = 4
CALLER: Final = EmbeddingSpec(model="caller", dimensions=DIMENSIONS)
BATCH_MAX: Final = 12
FILLER_CHARACTERS_MAX: Final = 300
SHARED_IDS: Final = 3
SHARED_SHARE: Final = 0.15
REUSE_SHARE: Final = 0.3
SPACES_FACTOR_MAX: Final = 4
"""No more spaces are made than so many times those that the drill began with."""
REMEMBER: Final = "remember"
REMEMBER_BATCH: Final = "remember batch"
FORGET: Final = "forget"
COMPACT: Final = "compact"
CREATE: Final = "create space"
DELETE: Final = "delete space"
RESTORE: Final = "restore space"
PURGE: Final = "purge space"
CONFIGURE: Final = "configure space"
KINDS_OF_SPACES: Final = ("words", "vectors")
MADE_MARK: Final = "-of-"
"""In the names of spaces that are made while the drill goes on."""
BRIEF_MARK: Final = "-brief"
"""In the names of spaces that need not keep all of their history."""
KEPT_POSITIONS: Final = (15, 30, 60)
_ALPHABET: Final = "abcdefgh déf猫🙂 \n\t"


class ServerGone(Exception):
    """The connection was lost: this client is done until the server is back."""


@dataclass
class Client:
    """One of those who use the server at the same time, over connections of its own."""

    name: str
    random: Random
    living: dict[str, list[str]] = field(default_factory=dict)
    forgotten: dict[str, list[str]] = field(default_factory=dict)
    last: dict[str, Effect] = field(default_factory=dict)
    """What it wrote last to each of its ids, in any space."""
    number: int = 0

    def refresh(self, models: dict[str, SpaceModel]) -> None:
        """After a restart: which of its ids live, as far as the log knows."""
        for space, model in models.items():
            own = f"{space}.{self.name}."
            self.living[space] = [i for i in model.living if i.startswith(own)]
            last = {i: effect for i, effect in model.last.items() if i.startswith(own)}
            self.forgotten[space] = [i for i in last if i not in model.living]
            self.last.update(last)


class Turn(NamedTuple):
    """One step of one client in one space."""

    client: Client
    connection: AsyncClient
    space: AsyncSpace
    ledger: Ledger
    operation: str
    spaces_max: int

    @property
    def random(self) -> Random:
        return self.client.random

    @property
    def model(self) -> SpaceModel:
        return self.ledger.models[self.space.id]

    @property
    def own(self) -> list[str]:
        return self.client.living.setdefault(self.space.id, [])

    @property
    def own_forgotten(self) -> list[str]:
        return self.client.forgotten.setdefault(self.space.id, [])

    def shared_id(self) -> str | None:
        if self.random.random() >= SHARED_SHARE:
            return None
        return f"{SHARED_PREFIX}{self.random.randrange(SHARED_IDS)}"

    def new_memory(self, memory_id: str | None = None) -> NewMemory:
        self.client.number += 1
        number = self.client.number
        return NewMemory(
            id=memory_id or f"{self.space.id}.{self.client.name}.{number}",
            **self.fields(),
            tags=(f"space-{self.space.id}", self.random.choice(("red", "green", "blue"))),
            metadata={"space": self.space.id, "client": self.client.name, "number": number},
        )

    def fields(self) -> dict[str, Any]:
        """A content that nobody else ever wrote, and its vector where the space takes one."""
        filler = "".join(self.random.choices(_ALPHABET, k=self._filler_characters()))
        name = f"{self.space.id} {self.client.name} {self.random.getrandbits(48):012x}"
        content = f"{name} {filler}|"
        if takes_vectors(self.space.id):
            return {"content": content, "embedding": embedding_of(content)}
        return {"content": content}

    def _filler_characters(self) -> int:
        return self.random.randint(0, FILLER_CHARACTERS_MAX)

    async def write(
        self,
        effects: Sequence[Effect],
        asked: Awaitable[Memory | Forgotten | Remembered | PurgeReceipt | SpaceInfo],
        may_refuse: type[EngramError] | None = None,
    ) -> None:
        """Carry out one write, and tell the ledger. Raises `ServerGone`."""
        write = Write(self.space.id, self.operation, tuple(effects))
        self.ledger.begin(write)
        try:
            answer = await asked
        except OutcomeUnknown:
            self.ledger.unanswered[self.operation] += 1
            raise ServerGone from None
        except ServerUnreachable:
            self.ledger.withdraw(write)  # not a byte of it was sent
            raise ServerGone from None
        except EngramError as error:
            self.ledger.withdraw(write)
            self.refused(error, may_refuse)
            return
        self._keep(write)
        if isinstance(answer, PurgeReceipt):
            self.ledger.acknowledge_purge(write, answer)
        elif isinstance(answer, SpaceInfo):
            self.ledger.acknowledge_unplaced(write)
        else:
            memories = answer.memories if isinstance(answer, Remembered) else (answer,)
            self.ledger.acknowledge(write, memories)

    def refused(self, error: EngramError, may_refuse: type[EngramError] | None = None) -> None:
        """An answer that is an error: expected, or a violation."""
        if may_refuse is not None and isinstance(error, may_refuse):
            self.ledger.refused[self.operation] += 1
            return
        detail = f"{self.operation} was refused: {error.problem}, {error.detail}"
        self.ledger.report([Violation(kind="refused", detail=detail, space=self.space.id)])

    def _keep(self, write: Write) -> None:
        for effect in write.effects:
            if not effect.id or effect.id.startswith(SHARED_PREFIX):
                continue
            for ids in (self.own, self.own_forgotten):
                if effect.id in ids:
                    ids.remove(effect.id)
            if effect.content:
                self.client.last[effect.id] = effect
            if effect.type != PURGED:
                (self.own_forgotten if effect.type == FORGOTTEN else self.own).append(effect.id)


def takes_vectors(space: str) -> bool:
    """Half of the drill's spaces are given vectors, the others make their own of the words."""
    return space.startswith(KINDS_OF_SPACES[1])


def embedding_of(content: str) -> list[float]:
    """A vector that shows whether a memory still has its own."""
    return [float(crc32(f"{content}{i}".encode()) % 1_000 + 1) for i in range(DIMENSIONS)]


def is_brief(space: str) -> bool:
    return BRIEF_MARK in space


def stored(memory: NewMemory) -> Effect:
    metadata = msgspec.json.encode(memory.metadata, order="deterministic").decode()
    return Effect(STORED, memory.id or "", memory.content, tuple(memory.tags), metadata)


async def remember(turn: Turn) -> None:
    """One memory: with an id of its own, one that was forgotten, or one that all compete for."""
    memory_id = turn.shared_id()
    may_refuse = None if memory_id is None else MemoryExists
    if memory_id is None and turn.own_forgotten and turn.random.random() < REUSE_SHARE:
        memory_id = turn.random.choice(turn.own_forgotten)
    new = turn.new_memory(memory_id)
    await turn.write([stored(new)], turn.space.remember(**msgspec.structs.asdict(new)), may_refuse)


async def remember_batch(turn: Turn) -> None:
    """Several memories, all or nothing."""
    new = [turn.new_memory() for _ in range(turn.random.randint(2, BATCH_MAX))]
    await turn.write([stored(one) for one in new], turn.space.remember_many(new))


async def revise(turn: Turn) -> None:
    """Other content, tags and metadata."""
    shared = turn.shared_id()
    if shared is None and not turn.own:
        return await remember(turn._replace(operation=REMEMBER))
    memory_id = shared or turn.random.choice(turn.own)
    new = turn.new_memory(memory_id)
    given = msgspec.structs.asdict(new)
    changes = {name: given[name] for name in ("content", "tags", "metadata")}
    if new.embedding is not None:
        changes["embedding"] = new.embedding
    await turn.write(
        [stored(new)._replace(type=REVISED)],
        turn.space.revise(memory_id, Changes(**changes)),
        None if shared is None else MemoryNotFound,
    )
    return None


async def forget(turn: Turn) -> None:
    shared = turn.shared_id()
    if shared is None and not turn.own:
        return await remember(turn._replace(operation=REMEMBER))
    memory_id = shared or turn.random.choice(turn.own)
    await turn.write(
        [Effect(FORGOTTEN, memory_id)],
        turn.space.forget(memory_id),
        None if shared is None else MemoryNotFound,
    )
    return None


async def restore(turn: Turn) -> None:
    """Undo a forgetting of its own; a brief space may have let go of what was forgotten."""
    if not turn.own_forgotten:
        return await forget(turn._replace(operation=FORGET))
    memory_id = turn.random.choice(turn.own_forgotten)
    await turn.write(
        [turn.client.last[memory_id]._replace(type=RESTORED)],
        turn.space.restore(memory_id),
        MemoryNotFound if is_brief(turn.space.id) else None,
    )
    return None


async def purge(turn: Turn) -> None:
    """Let nothing be left of a memory, living or forgotten. Of those that all compete for, one may
    be purged already, which gives the same receipt.
    """
    shared = turn.shared_id()
    own = [*turn.own, *turn.own_forgotten]
    if shared is None and not own:
        return await remember(turn._replace(operation=REMEMBER))
    memory_id = shared or turn.random.choice(own)
    lenient = shared is not None or is_brief(turn.space.id)
    await turn.write(
        [Effect(PURGED, memory_id)],
        turn.space.purge(memory_id),
        MemoryNotFound if lenient else None,
    )
    return None


async def compact(turn: Turn) -> None:
    try:
        answer = await turn.space.compact()
    except (OutcomeUnknown, ServerUnreachable):
        turn.ledger.unanswered[turn.operation] += 1
        raise ServerGone from None
    except EngramError as error:
        turn.refused(error)
        return
    turn.ledger.acknowledge_compaction(turn.operation, answer)


async def configure(turn: Turn) -> None:
    """Have a brief space keep more or less of its history."""
    if not is_brief(turn.space.id):
        return await compact(turn._replace(operation=COMPACT))
    positions = turn.random.choice(KEPT_POSITIONS)
    retention = Retention(positions=positions)
    turn.model.ask_to_keep(positions)
    await turn.write(
        [Effect(CONFIGURED, "", str(retention))], turn.space.configure(retention=retention)
    )
    return None


async def recall(turn: Turn) -> None:
    """By words or by a vector, on the record or off it. A client's own ids have to be as it last
    wrote them, for it reads what it wrote; no other space may show through.
    """
    record = turn.random.random() < 0.5
    cue: dict[str, Any] = {"query": f"{turn.space.id} {turn.client.name} abc"}
    if takes_vectors(turn.space.id) and turn.random.random() < 0.5:
        cue = {"embedding": embedding_of(str(turn.random.random()))}
    try:
        answer = await turn.space.recall(**cue, limit=5, record=record)
    except ServerUnreachable:
        turn.model.recalls_unanswered += 2 * record  # the client tries a second time
        turn.ledger.unanswered[turn.operation] += 1
        raise ServerGone from None
    except EngramError as error:
        turn.refused(error)
        return
    if record:
        turn.model.recalls_answered.add(answer.recall_id)
    own = f"{turn.space.id}.{turn.client.name}."
    for hit in answer:
        memory = hit.memory
        if not memory.content.startswith(f"{turn.space.id} "):
            what, kind = f"belongs to another space ({memory.content[:60]!r} …)", "foreign"
        elif memory.id.startswith(own) and memory.id not in turn.own:
            what, kind = "was forgotten or purged", "phantom"
        elif memory.id.startswith(own) and memory.content != turn.client.last[memory.id].content:
            what, kind = f"is not what it was last ({memory.content[:60]!r} …)", "changed"
        else:
            continue
        detail = f"a recall found {memory.id!r}, which {what}"
        turn.ledger.report(
            [Violation(kind=kind, detail=detail, space=turn.space.id, memory_id=memory.id)]
        )
    turn.ledger.count(turn.operation)


async def create_space(turn: Turn) -> None:
    """A new space; once it is acknowledged, the clients use it like any other."""
    ledger = turn.ledger
    if len(ledger.shared) >= turn.spaces_max:
        await remember(turn._replace(operation=REMEMBER))
        return
    turn.client.number += 1
    kind = turn.random.choice(KINDS_OF_SPACES) + turn.random.choice(("", BRIEF_MARK))
    name = f"{kind}{MADE_MARK}{turn.client.name}-{turn.client.number}"
    create = turn.connection.create_space(name, embedding=spec_of(name))
    await _change_state(turn, name, LIVE, create)


async def end_space(turn: Turn) -> None:
    """A step in the lives of a space that this client has to itself: it is made, used, deleted,
    restored or purged, and after that made again, when nothing of its earlier life may show.
    """
    connection, random = turn.connection, turn.random
    name = f"{turn.random.choice(KINDS_OF_SPACES)}{PRIVATE_MARK}{turn.client.name}"
    (state,) = turn.ledger.states.get(name, (GONE,))
    own = turn._replace(space=connection.space(name))
    if state == GONE:
        turn.client.living[name], turn.client.forgotten[name] = [], []
        create = connection.create_space(name, embedding=spec_of(name))
        await _change_state(turn._replace(operation=CREATE), name, LIVE, create)
    elif state == LIVE and random.random() < 0.5:
        await remember_batch(own._replace(operation=REMEMBER_BATCH))
    elif state == LIVE:
        deleting = turn._replace(operation=DELETE)
        await _change_state(deleting, name, DELETED, connection.delete_space(name))
    elif random.random() < 0.5:
        restoring = turn._replace(operation=RESTORE)
        await _change_state(restoring, name, LIVE, connection.restore_space(name))
    else:
        purging = turn._replace(operation=PURGE)
        await _change_state(purging, name, GONE, connection.purge_space(name))


async def _change_state(turn: Turn, name: str, state: str, asked: Awaitable[object]) -> None:
    """Ask a space into another state, and tell the ledger. Raises `ServerGone`."""
    ledger = turn.ledger
    before = ledger.states.get(name, (GONE,))
    ledger.announce(name, state)
    try:
        await asked
    except OutcomeUnknown:
        ledger.unanswered[turn.operation] += 1
        raise ServerGone from None
    except ServerUnreachable:
        ledger.settle_state(name, before[0])
        raise ServerGone from None
    except EngramError as error:
        ledger.settle_state(name, before[0])
        turn.refused(error)
        return
    ledger.settle_state(name, state)
    ledger.count(turn.operation)


def first_spaces(count: int) -> list[str]:
    """The names of the spaces that a drill begins with, of both kinds in turn."""
    marks = ("", "", BRIEF_MARK, BRIEF_MARK)
    return [f"{KINDS_OF_SPACES[n % 2]}{marks[n % 4]}-{n + 1}" for n in range(count)]


def is_followed(space: str) -> bool:
    """Whether somebody follows a shared space: half of those made meanwhile rest when unused."""
    return MADE_MARK not in space or bool(crc32(space.encode()) % 2)


async def keep_little(space: AsyncSpace, ledger: Ledger) -> None:
    """Have a space keep few positions, before anybody uses it."""
    retention = Retention(positions=KEPT_POSITIONS[0])
    write = Write(space.id, CONFIGURE, (Effect(CONFIGURED, "", str(retention)),))
    ledger.models[space.id].ask_to_keep(KEPT_POSITIONS[0])
    ledger.begin(write)
    await space.configure(retention=retention)
    ledger.acknowledge_unplaced(write)


def spec_of(space: str) -> EmbeddingSpec | None:
    return CALLER if takes_vectors(space) else None


class Operation(NamedTuple):
    """An entry of the table; `weight` is how often it is chosen, relative to the others."""

    name: str
    weight: int
    act: Callable[[Turn], Awaitable[None]]


OPERATIONS: Final = (
    Operation(REMEMBER, 30, remember),
    Operation(REMEMBER_BATCH, 15, remember_batch),
    Operation("revise", 20, revise),
    Operation(FORGET, 14, forget),
    Operation("restore", 8, restore),
    Operation("purge", 5, purge),
    Operation("recall", 20, recall),
    Operation(COMPACT, 2, compact),
    Operation(CONFIGURE, 2, configure),
    Operation(CREATE, 1, create_space),
    Operation("end space", 8, end_space),  # counted as what it does: delete, restore, purge
)


async def work(client: Client, connection: AsyncClient, ledger: Ledger, spaces_max: int) -> None:
    """One thing after the other, each in any space, until the server is gone."""
    weights = [operation.weight for operation in OPERATIONS]
    try:
        while not ledger.violations:
            (operation,) = client.random.choices(OPERATIONS, weights)
            space = connection.space(client.random.choice(ledger.shared))
            turn = Turn(client, connection, space, ledger, operation.name, spaces_max)
            await operation.act(turn)
    except ServerGone:
        pass
