"""The feed of the clients against a scripted server: cut, stalled, repeating, refusing."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import given, settings
from hypothesis import strategies as st

from engram import AsyncClient, Client, Event, errors
from engram.client import feed
from engram.errors import EngramError

from .fake_server import Answer, FakeServer, Request, document, fake_server, http, problem

UUID, OTHER_UUID = "1" * 32, "2" * 32
INFO, EVENTS = "/api/v1/spaces/alpha", "/api/v1/spaces/alpha/events"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n"
TYPES = ("space.created", "memory.stored", "memory.recalled", "memory.forgotten")


@pytest.fixture(autouse=True, scope="module")
def _reconnect_at_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feed, "RECONNECT_S", 0.001)
        patch.setattr(feed, "RECONNECT_S_MAX", 0.002)
        yield


def type_of(position: int) -> str:
    return TYPES[position % len(TYPES)]


def block(position: int, *, uuid: str = UUID, **fields: Any) -> bytes:
    data = {
        "memory_space_id": "alpha",
        "space_uuid": uuid,
        "position": position,
        "type": type_of(position),
        "time": "2026-05-01T09:00:00Z",
        **fields,
    }
    return f"id: {position}\nevent: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


def scanned(position: int) -> bytes:
    return b"id: %d\n\n" % position


class Script:
    """A space with events at positions 1 to `last`, and how each connection to its feed goes.

    `cuts` are the bytes sent before each connection breaks; once they are used up, connections
    stay open. `refusals` come instead of streams, None for a stream. `repeated` is how many
    positions each connection sends again.
    """

    def __init__(
        self,
        last: int = 5,
        *,
        cuts: list[int] | None = None,
        refusals: list[bytes | None] | None = None,
        repeated: int = 0,
        tail: bytes = b"",
    ) -> None:
        self.last = last
        self.cuts = list(cuts or [])
        self.refusals = list(refusals or [])
        self.repeated = repeated
        self.tail = tail
        self.live: asyncio.Queue[bytes] | None = None

    async def __call__(self, request: Request) -> AsyncIterator[bytes]:
        if request.path == INFO:
            yield document({"memory_space_id": "alpha", "uuid": UUID, "position": self.last})
            return
        refusal = self.refusals.pop(0) if self.refusals else None
        if refusal is not None:
            yield refusal
            return
        after = int(request.headers.get("last-event-id", request.query["after"][0]))
        stream = self.stream(max(0, after - self.repeated), request.query.get("type"))
        if self.cuts:
            yield HEAD + stream[: self.cuts.pop(0)]
            return
        yield HEAD + stream
        while self.live is not None:
            yield await self.live.get()
        await asyncio.Event().wait()

    def stream(self, after: int, types: list[str] | None) -> bytes:
        told = [
            block(position)
            for position in range(after + 1, self.last + 1)
            if types is None or type_of(position) in types
        ]
        return b": welcome\n\nretry: 1\n\n" + b"".join(told) + scanned(self.last) + self.tail


@asynccontextmanager
async def client_of(
    script: Script, **options: Any
) -> AsyncIterator[tuple[FakeServer, AsyncClient]]:
    async with fake_server(script) as fake, AsyncClient(fake.url, **options) as client:
        yield fake, client


def run(main: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await main

    asyncio.run(bounded())


async def positions_of(events: AsyncIterator[Event]) -> list[int]:
    return [event.position async for event in events]


@settings(max_examples=60)
@given(
    cuts=st.lists(st.integers(0, 1_500), max_size=8),
    repeated=st.integers(0, 5),
    after=st.integers(0, 6),
    types=st.lists(st.sampled_from(TYPES), max_size=2, unique=True),
)
def test_however_it_is_cut_each_position_comes_once_and_in_order(
    cuts: list[int], repeated: int, after: int, types: list[str]
) -> None:
    async def main() -> None:
        script = Script(6, cuts=cuts, repeated=repeated)
        async with client_of(script) as (fake, client):
            came = await positions_of(
                client.space("alpha").events(after, types=types, follow=False)
            )
            assert came == [p for p in range(after + 1, 7) if not types or type_of(p) in types]
            for number, request in enumerate(fake.on(EVENTS)):
                assert request.query["incarnation"] == [UUID]
                assert request.query.get("type", []) == sorted(types)
                assert request.query["after"] == [request.headers["last-event-id"]]
                assert number > 0 or request.query["after"] == [str(after)]

    run(main())


def test_a_live_feed_goes_on_over_many_connections() -> None:
    async def main() -> None:
        script = Script(3, cuts=[10_000, 20, 300])
        async with (
            client_of(script) as (fake, client),
            aclosing(client.space("alpha").events(0)) as events,
        ):
            assert [(await anext(events)).position for _ in range(3)] == [1, 2, 3]
            script.last = 7
            assert [(await anext(events)).position for _ in range(4)] == [4, 5, 6, 7]
            assert len(fake.on(EVENTS)) == 4

    run(main())


def test_without_a_position_only_what_comes_is_told() -> None:
    async def main() -> None:
        script = Script(5, cuts=[0, 12, 60])
        script.live = asyncio.Queue()
        async with (
            client_of(script) as (fake, client),
            aclosing(client.space("alpha").events()) as events,
        ):
            coming = asyncio.ensure_future(anext(events))
            await fake.asked(4, EVENTS)
            script.live.put_nowait(block(6))
            assert (await coming).position == 6
            assert {request.headers["last-event-id"] for request in fake.on(EVENTS)} == {"5"}

    run(main())


def test_an_id_alone_moves_the_position_from_which_a_filtered_feed_goes_on() -> None:
    async def main() -> None:
        script = Script(402, cuts=[20_000_000])
        async with (
            client_of(script) as (fake, client),
            aclosing(client.space("alpha").events(399, types=["memory.forgotten"])) as events,
        ):
            waiting = asyncio.ensure_future(anext(events))
            await fake.asked(2, EVENTS)
            assert fake.requests[-1].headers["last-event-id"] == "402"
            waiting.cancel()

    run(main())


def test_without_follow_it_ends_where_the_space_was_when_it_began() -> None:
    async def main() -> None:
        script = Script(4, tail=block(5) + block(6))
        async with client_of(script) as (fake, client):
            space = client.space("alpha")
            assert await positions_of(space.events(follow=False)) == [1, 2, 3, 4]
            assert await positions_of(space.events(4, follow=False)) == []
            await asyncio.wait_for(fake.left.wait(), 10)

    run(main())


def test_a_stalled_connection_is_given_up() -> None:
    async def main() -> None:
        stalled = asyncio.Event()

        class Stalling(Script):
            async def __call__(self, request: Request) -> AsyncIterator[bytes]:
                if request.path == EVENTS and not stalled.is_set():
                    stalled.set()
                    yield HEAD + block(1) + block(2)[:30]
                    await asyncio.Event().wait()
                async for part in super().__call__(request):
                    yield part

        async with client_of(Stalling(3), heartbeat_timeout_s=0.05) as (fake, client):
            came = await positions_of(client.space("alpha").events(follow=False))
            assert came == [1, 2, 3]
            assert [r.headers["last-event-id"] for r in fake.on(EVENTS)] == ["0", "1"]

    run(main())


REFUSALS = {
    "position-beyond-end": (400, errors.PositionBeyondEnd),
    "malformed": (400, errors.Malformed),
    "unauthenticated": (401, EngramError),
    "forbidden": (403, errors.Forbidden),
    "space-not-found": (404, errors.SpaceNotFound),
    "history-gone": (410, errors.HistoryGone),
    "space-damaged": (503, errors.SpaceDamaged),
}
FLEETING = {
    "overloaded": (503, errors.Unavailable),
    "internal": (500, EngramError),
    "rate-limited": (429, EngramError),
}


async def error_of(events: AsyncIterator[Event]) -> EngramError:
    with pytest.raises(EngramError) as caught:
        await anext(events)
    return caught.value


@pytest.mark.parametrize("name", REFUSALS | FLEETING)
def test_a_first_connection_refused_raises_at_once_and_ends_the_feed(name: str) -> None:
    status, kind = (REFUSALS | FLEETING)[name]

    async def main() -> None:
        async with client_of(Script(refusals=[problem(status, name)])) as (fake, client):
            events = client.space("alpha").events(0)
            error = await error_of(events)
            assert isinstance(error, kind)
            assert (error.problem, error.status) == (name, status)
            assert await positions_of(events) == []
            assert len(fake.on(EVENTS)) == 1

    run(main())


@pytest.mark.parametrize("name", REFUSALS)
def test_a_later_connection_refused_for_good_raises(name: str) -> None:
    status, kind = REFUSALS[name]

    async def main() -> None:
        script = Script(3, cuts=[10_000], refusals=[None, problem(status, name, position=9)])
        async with client_of(script) as (_, client):
            events = client.space("alpha").events(0)
            assert [(await anext(events)).position for _ in range(3)] == [1, 2, 3]
            assert isinstance(await error_of(events), kind)

    run(main())


@pytest.mark.parametrize("name", FLEETING)
def test_a_later_connection_refused_for_now_is_tried_again(name: str) -> None:
    status, _ = FLEETING[name]
    page = http(502, b"<html>Bad gateway</html>", "text/html")

    async def main() -> None:
        refusals = [None, problem(status, name), page, b"", problem(status, name)]
        async with client_of(Script(3, cuts=[0], refusals=refusals)) as (fake, client):
            came = await positions_of(client.space("alpha").events(follow=False))
            assert came == [1, 2, 3]
            assert len(fake.on(EVENTS)) == 6

    run(main())


class Listener(logging.Handler):
    """Waits for something to be logged."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words, self.heard = words, asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self.words in record.getMessage():
            self.heard.set()


def test_a_server_away_for_a_while_is_waited_for() -> None:
    async def main() -> None:
        listener = Listener("no server can be reached")
        logging.getLogger("engram.client").addHandler(listener)
        async with fake_server(Script(2)) as fake:
            client = AsyncClient(fake.url)
            events = client.space("alpha").events(0)
            assert [(await anext(events)).position for _ in range(2)] == [1, 2]
        waiting = asyncio.ensure_future(anext(events))
        await listener.heard.wait()
        async with client, fake_server(Script(3), int(fake.url.rpartition(":")[2])):
            assert (await waiting).position == 3
        logging.getLogger("engram.client").removeHandler(listener)

    run(main())


def test_a_space_made_anew_is_not_taken_for_the_same() -> None:
    async def main() -> None:
        tail = block(4, uuid=OTHER_UUID)
        async with client_of(Script(3, tail=tail)) as (_, client):
            events = client.space("alpha").events(0)
            assert [(await anext(events)).position for _ in range(3)] == [1, 2, 3]
            error = await error_of(events)
            assert isinstance(error, errors.HistoryGone)
            assert error.space_uuid == OTHER_UUID

    run(main())


NONSENSE = {
    "an id that is no position": b"id: soon\n\n",
    "data that is not JSON": b"id: 4\ndata: {oops\n\n",
    "data that is no event": b'id: 4\ndata: {"position": 4}\n\n',
    "an event of another space": block(4, memory_space_id="beta"),
    "a memory of another space": b"data: {}\n\n",
    "not UTF-8": b"id: \xff\n\n",
}


@pytest.mark.parametrize("tail", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_is_told_after_the_events_before_it(tail: bytes) -> None:
    async def main() -> None:
        async with client_of(Script(3, tail=tail)) as (_, client):
            events = client.space("alpha").events(0)
            assert [(await anext(events)).position for _ in range(3)] == [1, 2, 3]
            assert type(await error_of(events)) is errors.ServerAnswerInvalid
            assert await positions_of(events) == []

    run(main())


def test_a_space_that_cannot_be_read_has_no_feed() -> None:
    async def damaged(request: Request) -> AsyncIterator[bytes]:
        yield document({"memory_space_id": "alpha", "state": "damaged", "detail": "see the log"})

    async def main() -> None:
        async with fake_server(damaged) as fake, AsyncClient(fake.url) as client:
            error = await error_of(client.space("alpha").events(0))
            assert isinstance(error, errors.SpaceDamaged)
            assert error.detail == "see the log"

    run(main())


def test_closing_a_feed_hangs_up_and_ends_whoever_waits() -> None:
    async def main() -> None:
        async with client_of(Script(1)) as (fake, client):
            events = client.space("alpha").events(0)
            assert (await anext(events)).position == 1
            waiting = asyncio.ensure_future(positions_of(events))
            await asyncio.sleep(0)
            await events.aclose()
            await events.aclose()
            assert await waiting == []
            await asyncio.wait_for(fake.left.wait(), 10)

    run(main())


def test_a_feed_left_in_the_middle_hangs_up_once_it_is_forgotten() -> None:
    async def main() -> None:
        async with client_of(Script(3)) as (fake, client):
            async for event in client.space("alpha").events(0):
                assert event.position == 1
                break
            gc.collect()
            await asyncio.wait_for(fake.left.wait(), 10)

    run(main())


def test_an_interrupted_wait_loses_nothing() -> None:
    async def main() -> None:
        script = Script(1)
        script.live = asyncio.Queue()
        async with (
            client_of(script) as (fake, client),
            aclosing(client.space("alpha").events(0)) as events,
        ):
            assert (await anext(events)).position == 1
            for position in range(2, 10):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0):
                        await anext(events)
                script.live.put_nowait(block(position))
                assert (await anext(events)).position == position
            assert len(fake.on(EVENTS)) == 1

    run(main())


def test_interruptions_while_connecting_lose_nothing() -> None:
    async def main() -> None:
        script = Script(3, cuts=[90, 0, 300])
        async with client_of(script) as (_, client):
            events = client.space("alpha").events(follow=False)
            came: list[int] = []
            turns = 1
            while not came or came[-1] < 3:
                step = asyncio.ensure_future(anext(events))
                for _ in range(turns):
                    await asyncio.sleep(0)
                turns += 1
                step.cancel()
                [outcome] = await asyncio.gather(step, return_exceptions=True)
                if isinstance(outcome, Event):
                    came.append(outcome.position)
            assert came == [1, 2, 3]

    run(main())


def test_closing_the_client_ends_its_feeds() -> None:
    async def main() -> None:
        async with client_of(Script(1)) as (fake, client):
            events = client.space("alpha").events(0)
            await anext(events)
            waiting = asyncio.ensure_future(error_of(events))
            await asyncio.sleep(0)
            await client.close()
            assert isinstance(await waiting, errors.Unavailable)
            await asyncio.wait_for(fake.left.wait(), 10)

    run(main())


@pytest.mark.parametrize("after", [-1, True, "1", 1.0, 1 << 63])
def test_a_position_that_is_none_is_refused_at_once(after: Any) -> None:
    with pytest.raises(errors.Invalid, match="after"):
        AsyncClient("http://localhost:1").space("alpha").events(after)


@pytest.mark.parametrize("types", ["memory.stored", 5, [5], ["memory.imagined"]])
def test_types_that_are_none_are_refused_at_once(types: Any) -> None:
    with pytest.raises(errors.Invalid, match="types"):
        AsyncClient("http://localhost:1").space("alpha").events(types=types)


@contextmanager
def running(script: Answer) -> Iterator[FakeServer]:
    """The scripted server in a thread of its own."""
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(fake_server(script)) as fake,
    ):
        yield fake


def test_threads_read_it_too() -> None:
    script = Script(6, cuts=[100, 400, 90], repeated=2)
    with running(script) as fake, Client(fake.url) as client:
        events = client.space("alpha").events(follow=False)
        assert [event.position for event in events] == [1, 2, 3, 4, 5, 6]
        with client.space("alpha").events(0) as live:
            assert [next(live).position for _ in range(6)] == [1, 2, 3, 4, 5, 6]
        assert list(live) == []


@pytest.mark.parametrize("closed", ["feed", "client"])
def test_closing_from_another_thread_ends_an_iteration(closed: str) -> None:
    with running(Script(2)) as fake, Client(fake.url) as client:
        events = client.space("alpha").events(0)
        began, ends = threading.Event(), list[str]()

        def read() -> None:
            try:
                for event in events:
                    if event.position == 2:
                        began.set()
                ends.append("stop")
            except errors.Unavailable:
                ends.append("unavailable")

        reader = threading.Thread(target=read)
        reader.start()
        assert began.wait(10)
        (events if closed == "feed" else client).close()
        reader.join(10)
        assert ends == ["stop" if closed == "feed" else "unavailable"]
        events.close()


class Interrupted(Exception):
    """What a signal handler raises, as Ctrl-C does."""


@pytest.fixture
def interrupt() -> Iterator[Callable[[], None]]:
    """Interrupts the main thread from another one."""

    def raise_it(number: int, frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, raise_it)
    yield lambda: os.kill(os.getpid(), signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


def test_an_interrupted_call_is_abandoned(interrupt: Callable[[], None]) -> None:
    asked, abandoned = threading.Event(), threading.Event()

    async def silent(request: Request) -> AsyncIterator[bytes]:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            abandoned.set()
        yield b""

    def interrupt_once_asked() -> None:
        if asked.wait(10):
            interrupt()

    with running(silent) as fake, Client(fake.url) as client:
        thread = threading.Thread(target=interrupt_once_asked)
        thread.start()
        with pytest.raises(Interrupted):
            client.spaces()
        assert abandoned.wait(10)
        thread.join()
