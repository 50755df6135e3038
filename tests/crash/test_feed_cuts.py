"""Subscribers of a real server that are cut off again and again while others write.

Clients end and new ones go on from the last position, connections break or go silent at any byte,
and the server is killed and started again on the same port and data root, while history is sent and
while live events are. Afterwards what each subscriber was told is compared with the log: every
event that passes its filter, once, in order, and the same.

Seeded; `ENGRAM_FEED_CUTS_SEED=… pytest tests/crash/test_feed_cuts.py` repeats a run's choices.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest

import engram
from engram import AsyncClient, Changes, Event, NewMemory
from engram.client import feed
from engram.client.asynchronous import AsyncSpace
from engram.errors import OutcomeUnknown, ServerUnreachable
from engram.feed.feed import TAIL_EVENTS_MAX
from tests.crash.drill import CALLER, embedding_of
from tests.crash.proxy import Cut, Kind, proxy
from tests.surfaces.harness import Server

SEED = int(os.environ.get("ENGRAM_FEED_CUTS_SEED", "20261123"))
SPACES = ("north", "south", "east")
WRITERS_PER_SPACE = 2
BATCH_MAX = 20
SERVER_KILLS = 16
CLIENT_KILLS = 6
CONNECTION_CUTS = 26
KINDS: tuple[Kind, ...] = ("end", "end", "reset", "reset", "stall")
SILENCE_S = 0.5
TIMEOUT_S = 3.0
ALL_S_MAX = 240
"""Only so that a feed that never gets to its end is a failure and not a hang."""
LATE = 2 * TAIL_EVENTS_MAX
THE_END = "the end"
LIVE_LAG_MAX = 200


class Served:
    """A server that can be killed, and then comes back where it was."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._server = Server(root)
        self.url = self._server.url
        self.port = int(self.url.rpartition(":")[2])
        self.up = asyncio.Event()
        self.up.set()

    async def kill_and_start(self) -> None:
        self.up.clear()
        await asyncio.to_thread(self._server.kill)
        self._server = await asyncio.to_thread(Server, self._root, "--port", str(self.port))
        self.up.set()

    def kill(self) -> None:
        self._server.kill()


class Acknowledged(NamedTuple):
    """A write that its caller was told is durable."""

    space: str
    position: int
    type: str
    id: str
    content: str | None


class Ledger:
    """What was acknowledged, and how many cuts of each kind were made."""

    def __init__(self, cuts_planned: int) -> None:
        self.writes: list[Acknowledged] = []
        self.last = dict.fromkeys(SPACES, 0)
        self.cuts: Counter[str] = Counter()
        self.depths: Counter[str] = Counter()
        self._cuts_planned = cuts_planned
        self._changed = asyncio.Event()

    @property
    def all_cuts_made(self) -> bool:
        return self.cuts.total() >= self._cuts_planned

    def acknowledge(self, write: Acknowledged) -> None:
        self.writes.append(write)
        self.last[write.space] = max(self.last[write.space], write.position)
        self._changed.set()

    def cut(self, kind: str, told: Sequence[Told] = ()) -> None:
        """Note a cut, and what was being sent to the subscriber it met."""
        self.cuts[kind] += 1
        self._changed.set()
        if told:
            lag = max(self.last[one.space] - one.last for one in told)
            # The tail holds no more than that: who is further behind is being sent the log.
            depth = "live" if lag <= LIVE_LAG_MAX else "behind"
            self.depths["history" if lag > TAIL_EVENTS_MAX else depth] += 1

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._changed.clear()
            await self._changed.wait()


class Told:
    """What one subscriber was told of one space."""

    def __init__(self, space: str, uuid: str, types: tuple[str, ...] = ()) -> None:
        self.space = space
        self.types = types
        self.events: list[Event] = []
        self.over = False
        self._uuid = uuid

    @property
    def last(self) -> int:
        return self.events[-1].position if self.events else 0

    def take(self, event: Event) -> None:
        assert not self.over, f"told {event} behind the end"
        assert (event.memory_space_id, event.space_uuid) == (self.space, self._uuid)
        if self.types:
            assert event.type in self.types
            assert event.position > self.last
        else:
            assert event.position == self.last + 1
        self.events.append(event)
        self.over = event.type == "memory.forgotten" and event.id == THE_END

    def check(self, history: list[Event]) -> None:
        """Compare with the log."""
        expected = [event for event in history if not self.types or event.type in self.types]
        for told, logged in zip(self.events, expected, strict=True):
            assert told == logged


class Subscriber:
    """Follows through `url` until the end of everything; `kills` is when it ends in between."""

    def __init__(self, told: list[Told], ledger: Ledger, served: Served, rng: Random) -> None:
        self.told = {one.space: one for one in told}
        self.ledger = ledger
        self._served = served
        self._rng = rng
        self._kills_left = CLIENT_KILLS

    @property
    def over(self) -> bool:
        return all(one.over for one in self.told.values())

    async def follow(self, url: str, late: int) -> None:
        await self.ledger.until(lambda: min(self.ledger.last[s] for s in self.told) >= late)
        while not self.over:
            events_left = self._rng.randint(1, 150) if self._kills_left else None
            try:
                async with aclosing(self._events(url)) as events:
                    async for event in events:
                        self.told[event.memory_space_id].take(event)
                        if self.over:
                            return
                        events_left = None if events_left is None else events_left - 1
                        if events_left == 0:
                            break
            except (ServerUnreachable, aiohttp.ClientError, OSError):
                pass  # the connection that it began with, or a raw one, was lost: once more
            if events_left == 0:
                await self._end_for_a_while()
            await self._served.up.wait()

    async def _end_for_a_while(self) -> None:
        """The client is gone; others write on."""
        self._kills_left -= 1
        self.ledger.cut("client", list(self.told.values()))
        pause = self._rng.choice((0, 0, 50, TAIL_EVENTS_MAX + 100))
        space = min(self.told)
        back = self.ledger.last[space] + pause
        await self.ledger.until(
            lambda: self.ledger.last[space] >= back or self.ledger.all_cuts_made
        )

    def _events(self, url: str) -> AsyncIterator[Event]:
        """The events behind those that were told, over a new client."""
        raise NotImplementedError("each kind of subscriber reads in its own way")


class ByClient(Subscriber):
    """One space, through `AsyncClient`."""

    async def _events(self, url: str) -> AsyncIterator[Event]:
        (told,) = self.told.values()
        async with (
            AsyncClient(url, timeout_s=TIMEOUT_S, heartbeat_timeout_s=SILENCE_S) as client,
            aclosing(client.space(told.space).events(told.last, types=told.types)) as events,
        ):
            async for event in events:
                yield event


class ByHand(Subscriber):
    """One stream of several spaces, or of one, as it comes: nothing drops what is told twice."""

    last_id = "0"

    async def _events(self, url: str) -> AsyncIterator[Event]:
        only = next(iter(self.told)) if len(self.told) == 1 else None
        path = f"/api/v1/spaces/{only}/events" if only else "/api/v1/events"
        parameters = [] if only else [("space", space) for space in self.told]
        parameters += [("type", name) for name in next(iter(self.told.values())).types]
        timeout = aiohttp.ClientTimeout(total=None, sock_read=SILENCE_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(
                url + path, params=parameters, headers={"Last-Event-ID": self.last_id}
            ) as response,
        ):
            assert response.status == 200, await response.text()
            rest = b""
            async for chunk in response.content.iter_any():
                *blocks, rest = (rest + chunk).split(b"\n\n")
                for block in blocks:
                    fields = dict(line.split(b": ", 1) for line in block.split(b"\n"))
                    self.last_id = fields.get(b"id", self.last_id.encode()).decode()
                    if b"data" in fields:
                        event = msgspec.json.decode(fields[b"data"], type=Event)
                        assert fields[b"event"].decode() == event.type
                        assert only is None or self.last_id == str(event.position)
                        yield event


class Writer:
    """Writes one thing after the other to its own ids, until it is told to stop."""

    def __init__(self, space: AsyncSpace, name: str, ledger: Ledger, served: Served) -> None:
        self._space = space
        self._name = name
        self._ledger = ledger
        self._served = served
        self._random = Random(f"{SEED} {space.id} {name}")
        self._living: list[str] = []
        self._number = 0

    async def write(self) -> None:
        while not self._ledger.all_cuts_made:
            dice = self._random.random()
            memory_id = self._random.choice(self._living) if self._living else None
            try:
                if memory_id is None or dice < 0.4:
                    await self._remember(1 if dice < 0.2 else self._random.randint(2, BATCH_MAX))
                elif dice < 0.6:
                    await self._revise(memory_id)
                elif dice < 0.8:
                    await self._space.recall(embedding=embedding_of(memory_id), limit=3)
                else:
                    await self._forget(memory_id)
            except OutcomeUnknown:
                if memory_id in self._living:  # whether it still lives is not known
                    self._living.remove(memory_id)
            except ServerUnreachable:
                pass
            await self._served.up.wait()

    async def _remember(self, count: int) -> None:
        new = [self._new() for _ in range(count)]
        for memory in (await self._space.remember_many(new)).memories:
            self._acknowledge(memory.position, "memory.stored", memory.id, memory.content)
            self._living.append(memory.id)

    async def _revise(self, memory_id: str) -> None:
        content = self._content()
        changes = Changes(content=content, embedding=embedding_of(content))
        memory = await self._space.revise(memory_id, changes)
        self._acknowledge(memory.position, "memory.revised", memory_id, content)

    async def _forget(self, memory_id: str) -> None:
        position = (await self._space.forget(memory_id)).position
        self._acknowledge(position, "memory.forgotten", memory_id, None)
        self._living.remove(memory_id)

    def _acknowledge(self, position: int, kind: str, memory_id: str, content: str | None) -> None:
        write = Acknowledged(self._space.id, position, kind, memory_id, content)
        self._ledger.acknowledge(write)

    def _new(self) -> NewMemory:
        self._number += 1
        content = self._content()
        return NewMemory(
            id=f"{self._name}-{self._number}",
            content=content,
            embedding=embedding_of(content),
            tags=("cut",),
            metadata={"number": self._number, "text": "line\n\nid: 7\n"},
        )

    def _content(self) -> str:
        return "." + "".join(self._random.choices("abc déf猫🙂\n ", k=self._random.randint(0, 200)))


class Plan(NamedTuple):
    """A subscriber, when it joins, and the bytes that one connection may carry, about."""

    subscriber: type[Subscriber]
    spaces: tuple[str, ...]
    types: tuple[str, ...] = ()
    late: int = 0
    bytes: int = 12_000


PLANS = (
    Plan(ByClient, ("north",)),
    Plan(ByClient, ("south",), ("memory.forgotten", "memory.recalled"), bytes=3_000),
    Plan(ByHand, SPACES[:2], bytes=24_000),
    Plan(ByHand, ("south",), ("memory.forgotten", "memory.recalled"), bytes=3_000),
    Plan(ByClient, ("east",), late=LATE, bytes=30_000),
    Plan(ByHand, SPACES, late=LATE, bytes=60_000),
)
CUTS_PLANNED = SERVER_KILLS + len(PLANS) * (CLIENT_KILLS + CONNECTION_CUTS)


def cuts(rng: Random, size: int) -> Iterator[Cut]:
    """Some in the head of the answer or in its first events, the rest anywhere."""
    for _ in range(CONNECTION_CUTS):
        yield Cut(rng.choice(KINDS), rng.randrange(1, rng.choice((900, size, 2 * size))))


@asynccontextmanager
async def subscribing(
    plans: Sequence[Plan], uuids: dict[str, str], ledger: Ledger, served: Served
) -> AsyncIterator[list[Subscriber]]:
    """Every plan's subscriber, following from a task of its own through a proxy of its own. Ends
    once all have seen the end.
    """
    subscribers, urls = [], []
    async with AsyncExitStack() as stack:
        for number, plan in enumerate(plans):
            rng = Random(f"{SEED} subscriber {number}")
            told = [Told(space, uuids[space], plan.types) for space in plan.spaces]

            def on_cut(cut: Cut, told: list[Told] = told) -> None:
                ledger.cut(cut.kind, told)

            between = proxy(served.port, cuts(rng, plan.bytes), on_cut)
            urls.append((await stack.enter_async_context(between)).url)
            subscribers.append(plan.subscriber(told, ledger, served, rng))
        following = await stack.enter_async_context(asyncio.TaskGroup())
        for plan, url, subscriber in zip(plans, urls, subscribers, strict=True):
            following.create_task(subscriber.follow(url, plan.late))
        yield subscribers


async def kill_again_and_again(served: Served, ledger: Ledger) -> None:
    rng = Random(f"{SEED} kills")
    for _ in range(SERVER_KILLS):
        enough = len(ledger.writes) + rng.randint(0, 250)
        await ledger.until(lambda enough=enough: len(ledger.writes) >= enough)  # type: ignore[misc]
        await served.kill_and_start()
        ledger.cut("server")


async def end(space: AsyncSpace) -> None:
    """The last two events of a space."""
    await space.remember(THE_END, id=THE_END, embedding=embedding_of(THE_END))
    await space.forget(THE_END)


async def drill(served: Served, uuids: dict[str, str]) -> tuple[Ledger, list[Subscriber]]:
    ledger = Ledger(CUTS_PLANNED)
    async with AsyncClient(served.url) as client, asyncio.timeout(ALL_S_MAX):
        spaces = [client.space(space_id) for space_id in SPACES]
        async with subscribing(PLANS, uuids, ledger, served) as subscribers:
            async with asyncio.TaskGroup() as working:
                for space in spaces:
                    for number in range(WRITERS_PER_SPACE):
                        writer = Writer(space, f"w{number}", ledger, served)
                        working.create_task(writer.write())
                working.create_task(kill_again_and_again(served, ledger))
            for space in spaces:
                await end(space)
    return ledger, subscribers


def check_acknowledged(ledger: Ledger, histories: dict[str, list[Event]]) -> None:
    """Each acknowledged write is the event at its position."""
    for write in ledger.writes:
        event = histories[write.space][write.position - 1]
        about: Any = event if event.memory is None else event.memory
        content = None if event.memory is None else event.memory.content
        assert (event.position, event.type) == (write.position, write.type)
        assert (about.id, content) == (write.id, write.content)


def test_subscribers_cut_off_again_and_again_are_told_the_log_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(feed, "RECONNECT_S", 0.01)
    monkeypatch.setattr(feed, "RECONNECT_S_MAX", 0.02)
    root = tmp_path / "data"
    with engram.open(root) as db:
        uuids = {name: db.create_space(name, embedding=CALLER).info().uuid for name in SPACES}
    served = Served(root)
    try:
        ledger, subscribers = asyncio.run(drill(served, uuids))
    except BaseException as error:
        error.add_note(f"ENGRAM_FEED_CUTS_SEED={SEED} repeats the choices")
        raise
    finally:
        served.kill()
    with engram.open(root) as db:
        histories = {name: list(db.space(name).events()) for name in SPACES}
    for name, history in histories.items():
        assert [event.position for event in history] == list(range(1, len(history) + 1))
        assert history[-1].id == THE_END
        assert {event.space_uuid for event in history} == {uuids[name]}
    check_acknowledged(ledger, histories)
    for subscriber in subscribers:
        for told in subscriber.told.values():
            told.check(histories[told.space])
    with capsys.disabled():
        events = sum(map(len, histories.values()))
        print(f"\n{dict(ledger.cuts)} cuts, of which {dict(ledger.depths)}; {events:,} events")
    assert ledger.cuts.total() == CUTS_PLANNED >= 200
    assert ledger.depths["history"] >= 20
    assert ledger.depths["live"] >= 20
