"""What the clients send again, until when, and that nothing is done twice by it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import engram
from engram import AsyncClient, errors
from engram.client import retrying

from .fake_server import ABORT, CLOSE, document, fake_server, http, in_turn, problem
from .harness import Server
from .test_client_faults import MEMORY, error_from

pytestmark = pytest.mark.usefixtures("at_once")
STORED = document({"memory_space_id": "alpha", "position": 2, "memories": [MEMORY]}, 201)
BUSY = problem(503, "overloaded")
CUT = http(200, b'{"half": ', length=500) + CLOSE


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "PAUSE_S_FIRST", 0.001)
    monkeypatch.setattr(retrying, "PAUSE_S_MAX", 0.01)


def keys(fake: Any) -> list[str | None]:
    return [request.headers.get("idempotency-key") for request in fake.requests]


@pytest.mark.parametrize("failing", [ABORT, BUSY, problem(409, "in-progress"), CUT])
def test_a_write_is_sent_again_with_the_key_it_had(failing: bytes) -> None:
    async def main() -> None:
        script = in_turn(failing, failing, STORED, STORED)
        async with fake_server(script) as fake, AsyncClient(fake.url) as client:
            await client.space("alpha").remember("text")
            first, second, third = keys(fake)
            assert first is not None
            assert first == second == third
            await client.space("alpha").remember("text", idempotency_key="mine")
            assert keys(fake)[3] == "mine"

    asyncio.run(main())


def test_what_is_refused_is_not_sent_again() -> None:
    async def main() -> None:
        script = in_turn(problem(409, "memory-exists"), problem(503, "space-damaged"))
        async with fake_server(script) as fake, AsyncClient(fake.url) as client:
            for kind in (errors.MemoryExists, errors.SpaceDamaged):
                assert type(await error_from(client.space("alpha").remember("x"))) is kind
            assert len(fake.requests) == 2
            assert len(set(keys(fake))) == 2

    asyncio.run(main())


def test_it_is_not_sent_again_for_ever() -> None:
    async def main() -> None:
        script = in_turn(*[ABORT] * 1_000)
        async with fake_server(script) as fake, AsyncClient(fake.url, retry_s=0.1) as client:
            error = await error_from(client.space("alpha").remember("x"))
            assert type(error) is errors.OutcomeUnknown
            assert 1 < len(fake.requests) < 1_000
        async with fake_server(in_turn(ABORT)) as fake, AsyncClient(fake.url) as client:
            error = await error_from(client.delete_space("alpha"))
            assert type(error) is errors.OutcomeUnknown
            assert keys(fake) == [None]

    asyncio.run(main())


def test_a_server_that_was_never_reached_is_told_at_once() -> None:
    async def main() -> None:
        async with AsyncClient("http://127.0.0.1:1", retry_s=1_000) as client:
            error = await error_from(client.space("alpha").remember("x"))
            assert type(error) is errors.ServerUnreachable

    asyncio.run(main())


def test_a_server_that_asks_to_be_left_alone_for_longer_is() -> None:
    async def main() -> None:
        wait = problem(429, "rate-limited").replace(b"\r\n", b"\r\nRetry-After: 60\r\n", 1)
        async with fake_server(in_turn(wait)) as fake, AsyncClient(fake.url) as client:
            assert type(await error_from(client.space("alpha").get("one"))) is errors.RateLimited
            assert len(fake.requests) == 1

    asyncio.run(main())


@pytest.mark.parametrize("given", ["", " x", "x\n", "é", "x" * 256, 7])
def test_what_is_no_key_is_refused_before_anything_is_sent(given: Any) -> None:
    async def main() -> None:
        async with AsyncClient("http://127.0.0.1:1") as client:
            alpha = client.space("alpha")
            error = await error_from(alpha.forget("one", idempotency_key=given))
            assert type(error) is errors.Malformed

    asyncio.run(main())
    with pytest.raises(errors.Malformed, match="retry_s"):
        AsyncClient("http://127.0.0.1:1", retry_s=-1)


@asynccontextmanager
async def cutting(port: int, chance: random.Random) -> AsyncIterator[tuple[str, list[int]]]:
    """A way to a server that cuts most of the answers off, after some of their bytes or before;
    what it has cut is counted.
    """
    cuts: list[int] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)

        async def ask() -> None:
            while data := await reader.read(65_536):
                back.write(data)
                await back.drain()

        asking = asyncio.ensure_future(ask())
        try:
            while data := await there.read(65_536):
                if chance.random() < 0.7:
                    cuts.append(1)
                    writer.write(data[: chance.choice((0, 1, 20, len(data) - 1))])
                    await writer.drain()
                    break
                writer.write(data)
                await writer.drain()
        finally:
            asking.cancel()
            back.close()
            writer.close()

    async with await asyncio.start_server(pass_on, "127.0.0.1", 0) as proxy:
        yield f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}", cuts


def test_however_many_answers_are_cut_off_nothing_is_done_twice(server: Server) -> None:
    async def main() -> None:
        port = int(server.url.rpartition(":")[2])
        async with (
            AsyncClient(server.url) as direct,
            cutting(port, random.Random(1)) as (url, cuts),
            AsyncClient(url, retry_s=60) as client,
        ):
            made = await direct.create_space()
            space = client.space(made.id)
            stored = [await space.remember(f"number {i}") for i in range(30)]
            batch = await space.remember_many(["one", "two"])
            await space.link(stored[0].id, stored[1].id)
            revised = await space.revise(stored[0].id, engram.Changes(source="s"))
            await space.forget(stored[1].id)
            restored = await space.restore(stored[1].id)
            assert len(cuts) > 24
            events = [e async for e in made.events(after=0, follow=False)]
            assert [event.position for event in events] == list(range(1, 38))
            expected = ["memory.stored"] * 32 + ["memory.linked", "memory.revised"]
            expected += ["memory.forgotten", "memory.restored"]
            assert [event.type for event in events[1:]] == expected
            held = (await made.list(limit=1_000)).memories
            assert sorted(m.id for m in held) == sorted(m.id for m in (*stored, *batch.memories))
            assert (revised.revision, restored.revision) == (2, 2)

    asyncio.run(main())
