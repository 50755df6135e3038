"""Reads what a server holds after a restart, over HTTP, for the model to judge."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from random import Random
from typing import Any, Final

from engram.client.asynchronous import AsyncClient, AsyncSpace
from engram.drill.effects import COMPACTED, PURGED, Seen, Violation
from engram.drill.ledger import DELETED, LIVE, Ledger
from engram.drill.model import SpaceModel
from engram.drill.operations import embedding_of, takes_vectors
from engram.errors import EngramError, HistoryGone, MemoryNotFound, SpaceNotFound
from engram.limits import LIST_LIMIT_MAX
from engram.memory.model import Event, Memory, SpaceInfo

SAMPLES: Final = 2
"""Of the living and of the forgotten of each space, so many are asked for one by one."""
RECALL_LIMIT: Final = 10
COMPLETED_S_MAX: Final = 30.0
"""What a crash has interrupted of a purge is completed once the space is open."""
READINGS_MAX: Final = 20
"""A compaction that a server begins by itself may come between two readings, but not for ever."""


async def look(url: str, ledger: Ledger, random: Random) -> float:
    """Compare every space with the ledger; the violations are in it afterwards.

    Returns after how many seconds the last space had been opened and had answered.
    """
    began = time.perf_counter()
    async with AsyncClient(url) as client:
        try:
            listed = await client.spaces(deleted=True)
        except EngramError as error:
            ledger.report([_unreadable("the list of spaces", error)])
            return 0.0
        deleted = {info.memory_space_id for info in listed if info.state == DELETED}
        live = {info.memory_space_id for info in listed} - deleted
        ledger.settle_spaces(live, deleted)
        ledger.report(await _check_not_served(client, ledger.in_state(DELETED)))
        models = [ledger.models[name] for name in sorted(ledger.in_state(LIVE) & live)]
        spaces = [client.space(model.name) for model in models]
        infos = await asyncio.gather(*(_info(space) for space in spaces))
        opened_s = time.perf_counter() - began
        for model, space, info in zip(models, spaces, infos, strict=True):
            if isinstance(info, Violation):
                ledger.report([info])
                continue
            found_before = model.found_unanswered
            ledger.report(await _compare(space, info, model, random))
            ledger.found_unanswered += model.found_unanswered - found_before
    return opened_s


async def _check_not_served(client: AsyncClient, deleted: set[str]) -> list[Violation]:
    """What is deleted is not found, though it can be restored."""
    found = []
    for name in sorted(deleted):
        try:
            await client.space_info(name)
        except SpaceNotFound:
            continue
        except EngramError as error:
            found.append(_unreadable("its absence", error, name))
            continue
        detail = f"space {name!r} is deleted, and served"
        found.append(Violation(kind="phantom", detail=detail, space=name))
    return found


async def _info(space: AsyncSpace) -> SpaceInfo | Violation:
    try:
        info = await space.info()
    except EngramError as error:
        return _unreadable("its description", error, space.id)
    if info.state != "active":
        detail = f"its state is {info.state}: {info.detail}"
        return Violation(kind="unreadable", detail=detail, space=space.id)
    return info


async def _compare(
    space: AsyncSpace, info: SpaceInfo, model: SpaceModel, random: Random
) -> list[Violation]:
    found: list[Violation] = []
    if model.uuid not in {None, info.uuid}:
        detail = f"its uuid was {model.uuid} and is {info.uuid}"
        found.append(Violation(kind="history changed", detail=detail, space=space.id))
    if info.uuid in model.former:
        detail = f"its uuid {info.uuid} is that of an earlier life, which was purged"
        found.append(Violation(kind="phantom", detail=detail, space=space.id))
    model.uuid = info.uuid
    try:
        info, seen = await _read(space)
        found += model.settle(seen)
        found += _check_figures(space.id, info, seen)
        found += _check_vectors(space.id, seen.memories)
        if not found:  # after a violation these would only repeat it
            found += await _check_living(space, model, random)
            found += await _check_forgotten(space, model, random)
    except NotCompleted as error:
        found.append(Violation(kind="purge not completed", detail=str(error), space=space.id))
    except EngramError as error:
        found.append(_unreadable("it", error, space.id))
    return found


class NotCompleted(Exception):
    """A purge that was interrupted was not taken up again."""


async def _read(space: AsyncSpace) -> tuple[SpaceInfo, Seen]:
    """All of a space, as of one moment: read until nothing has come between, nor is to come."""
    for _ in range(READINGS_MAX):
        before = await space.info()
        oldest = before.oldest_position or 1
        try:
            events = [event async for event in space.events(after=oldest - 1, follow=False)]
        except HistoryGone:
            continue
        memories = await _list(space)
        info = await space.info()
        if (info.position, info.oldest_position) != (before.position, before.oldest_position):
            continue
        pending = _pending(events)
        if pending is None:
            return info, Seen(events, memories, oldest, str(info.retention))
        await _completed(space, pending, events[-1].position)
    raise NotCompleted(f"it changed by itself each of the {READINGS_MAX} times it was read")


def _pending(events: Iterable[Event]) -> int | None:
    """The last position at which something was purged, unless that is complete."""
    purged = completed = 0
    for event in events:
        purged = event.position if event.type == PURGED else purged
        completed = max(completed, event.purged_to or 0)
    return purged if purged > completed else None


async def _completed(space: AsyncSpace, purged: int, after: int) -> None:
    """Wait for the event that says so. Raises `NotCompleted`."""
    try:
        async with (
            asyncio.timeout(COMPLETED_S_MAX),
            aclosing(space.events(after=after, types=(COMPACTED,), follow=True)) as events,
        ):
            async for event in events:
                if (event.purged_to or 0) >= purged:
                    return
    except TimeoutError:
        detail = f"the purge at {purged} was not completed within {COMPLETED_S_MAX:.0f} s"
        raise NotCompleted(detail) from None


async def _list(space: AsyncSpace) -> list[Memory]:
    memories: list[Memory] = []
    after: int | None = 0
    with_vectors = takes_vectors(space.id)
    while after is not None:
        page = await space.list(limit=LIST_LIMIT_MAX, after=after, include_embedding=with_vectors)
        memories += page.memories
        after = page.next
    return memories


def _check_figures(space: str, info: SpaceInfo, seen: Seen) -> Iterator[Violation]:
    said, read = (info.position, info.memories), (seen.end, len(seen.memories))
    if said != read:
        detail = f"it says position {said[0]} and {said[1]} memories; {read} were read"
        yield Violation(kind="wrong figures", detail=detail, space=space)


def _check_vectors(space: str, memories: Iterable[Memory]) -> Iterator[Violation]:
    """Each memory still has the vector that belongs to its content."""
    if not takes_vectors(space):
        return
    for memory in memories:
        vector = None if memory.embedding is None else memory.embedding.tolist()
        if vector != embedding_of(memory.content):
            yield Violation(
                kind="changed",
                detail=f"{memory.id!r} has the vector {vector}",
                space=space,
                memory_id=memory.id,
                position=memory.position,
            )


async def _check_living(space: AsyncSpace, model: SpaceModel, random: Random) -> list[Violation]:
    """Some of the living are got by id and recalled by what they say."""
    found: list[Violation] = []
    for memory_id in random.sample(list(model.living), min(SAMPLES, len(model.living))):
        memory = await space.get(memory_id)
        found += model.check_memory(memory, "is got")
        # By itself: spreading may bring up what it stands beside before it.
        cue: dict[str, Any] = {"query": memory.content, "mode": "hybrid"}
        if takes_vectors(space.id):
            cue["embedding"] = embedding_of(memory.content)
        answer = await space.recall(**cue, limit=RECALL_LIMIT, record=False)
        for hit in answer:
            found += model.check_memory(hit.memory, "is recalled")
        if memory_id not in {hit.memory.id for hit in answer}:
            detail = f"{memory_id!r} is not recalled by its own words"
            found.append(Violation(kind="lost", detail=detail, space=space.id, memory_id=memory_id))
    return found


async def _check_forgotten(space: AsyncSpace, model: SpaceModel, random: Random) -> list[Violation]:
    """Some of the forgotten are asked for: they are not found."""
    found: list[Violation] = []
    for memory_id in random.sample(model.forgotten, min(SAMPLES, len(model.forgotten))):
        try:
            memory = await space.get(memory_id)
        except MemoryNotFound:
            continue
        found += model.check_memory(memory, "is got")
    return found


def _unreadable(what: str, error: EngramError, space: str | None = None) -> Violation:
    detail = f"{what} cannot be read: {error.problem}, {error.detail}"
    return Violation(kind="unreadable", detail=detail, space=space)
