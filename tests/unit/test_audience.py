"""Waking the streams of an event loop: who waits is woken, and nobody else costs the writer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from engram.access.gate import Access
from engram.feed.feed import Feed
from engram.feed.reader import Reader
from engram.feed.telling import SpaceName
from engram.memory.events import MemoryForgotten, MemoryRecalled
from engram.memory.payload import NO_VECTORS, Batch
from engram.server.audience import Audiences

EVENTS = 3_000


def new_feed() -> Feed:
    feed = Feed(SpaceName("alpha", "0" * 32))
    feed.begin(1)
    return feed


def publish(feed: Feed, *, recalled: bool = False) -> None:
    position = feed.last.durable + 1
    event = (
        MemoryRecalled(recall_id="r", mode="lexical", query_digest=None, ids=(), scores=())
        if recalled
        else MemoryForgotten(id="m", revision=1, reason="request")
    )
    feed.publish([(Batch([event], NO_VECTORS), position, 1_000)])


def counted_calls(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often the running loop was called into from the writer."""
    loop = asyncio.get_running_loop()
    calls = 0
    real = loop.call_soon_threadsafe

    def call(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        return real(*args, **options)

    monkeypatch.setattr(loop, "call_soon_threadsafe", call)
    return lambda: calls


def test_only_who_waits_for_what_came_makes_the_writer_call_into_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> None:
        feed, audiences = new_feed(), Audiences(Access(None))
        calls = counted_calls(monkeypatch)
        every: frozenset[str] = frozenset()
        recalls = frozenset({"memory.recalled"})
        with (
            audiences.listening([(feed, every)]) as sending,
            audiences.listening([(feed, recalls)]) as waiting,
        ):
            waiting.arm()
            publish(feed)
            assert calls() == 0, "nobody waits for that type"
            publish(feed, recalled=True)
            assert calls() == 1
            await asyncio.sleep(0)
            assert waiting.came.is_set()
            assert not sending.came.is_set()
            sending.arm()
            waiting.disarm()
            for _ in range(5):
                publish(feed)
            assert calls() == 2, "one call for what comes before the loop has run"
            await asyncio.sleep(0)
            assert sending.came.is_set()
            sending.disarm()
            publish(feed)
            assert calls() == 2, "nobody waits"
            waiting.arm()
            feed.end()
            await asyncio.sleep(0)
            assert waiting.came.is_set(), "the end wakes whoever waits, whatever for"
        publish(feed)
        assert calls() == 3, "nobody is left"

    asyncio.run(run())


def test_who_waits_for_a_type_is_woken_when_the_space_begins_again_behind_more() -> None:
    # Of what came to the log while the space was closed, nobody knows the types without looking.
    async def run() -> None:
        feed, audiences = new_feed(), Audiences(Access(None))
        with audiences.listening([(feed, frozenset({"memory.stored"}))]) as listener:
            listener.arm()
            feed.begin(1)
            await asyncio.sleep(0)
            assert not listener.came.is_set()
            feed.begin(3)
            await asyncio.wait_for(listener.came.wait(), 30)

    asyncio.run(run())


@pytest.mark.parametrize("kinds", [(), ("memory.recalled",)])
def test_no_event_is_slept_through_however_writer_and_streams_interleave(
    kinds: tuple[str, ...],
) -> None:
    def unreadable(position: int) -> Any:
        raise AssertionError("the tail holds everything here")

    async def follow(feed: Feed, audiences: Audiences, until: int) -> list[int]:
        reader, positions = Reader(feed, unreadable, None, kinds), list[int]()
        with audiences.listening([(feed, reader.types)]) as listener:
            while reader.position < until:
                listener.arm()
                page = reader.live()
                if page is None:
                    await asyncio.wait_for(listener.came.wait(), 10)
                    continue
                listener.disarm()
                positions += [entry.position for entry in page.entries]
                await asyncio.sleep(0)
        return positions

    async def run() -> None:
        feed, audiences = new_feed(), Audiences(Access(None))
        done = threading.Semaphore(0)

        def write() -> None:
            for number in range(EVENTS):
                publish(feed, recalled=number % 3 == 2)
                if number % 500 == 499:  # no further ahead than the tail reaches
                    done.acquire(timeout=10)

        async def release() -> None:
            for _ in range(EVENTS // 500):
                await asyncio.sleep(0.05)
                done.release()

        streams = [asyncio.create_task(follow(feed, audiences, EVENTS + 1)) for _ in range(3)]
        await asyncio.sleep(0)
        writer = threading.Thread(target=write)
        writer.start()
        releasing = asyncio.create_task(release())
        taken = await asyncio.gather(*streams)
        await releasing
        writer.join()
        wanted = [p for p in range(2, EVENTS + 2) if not kinds or (p - 2) % 3 == 2]
        assert taken == [wanted] * 3

    asyncio.run(run())
