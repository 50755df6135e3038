"""Turns: one space's requests wait for each other, and for nobody else's."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from engram.access.principal import NEEDS
from engram.errors import Unavailable
from engram.server.turns import AT_WORK_MAX, WAITING_MAX, Turns, work_of


async def some_rounds() -> None:
    """Let whoever can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0)


async def at_work(turns: Turns, at: list[int], over: asyncio.Event, space_id: str = "a") -> None:
    async with turns.turn(space_id, "writes"):
        at[0] += 1
        await over.wait()
        at[0] -= 1


async def hold(rounds: int) -> None:
    turns, at, over = Turns(), [0], asyncio.Event()
    tasks = [asyncio.create_task(at_work(turns, at, over)) for _ in range(AT_WORK_MAX + rounds)]
    await some_rounds()
    assert at == [AT_WORK_MAX]
    async with AsyncExitStack() as others:  # of another space, of another kind, and without one
        await others.enter_async_context(turns.turn("b", "writes"))
        await others.enter_async_context(turns.turn("a", "reads"))
        await others.enter_async_context(turns.turn("a", None))
        await others.enter_async_context(turns.turn(None, "writes"))
    if rounds == WAITING_MAX:
        with pytest.raises(Unavailable) as caught:
            await at_work(turns, at, over)
        assert (caught.value.memory_space_id, caught.value.retry_after_s) == ("a", 1)
    tasks[-1].cancel()  # whoever hangs up leaves the queue
    await some_rounds()
    over.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (at, turns._queues) == ([0], {})


@pytest.mark.parametrize("rounds", [1, WAITING_MAX])
def test_what_is_more_than_a_space_may_have_at_work_waits(rounds: int) -> None:
    asyncio.run(hold(rounds))


@pytest.mark.parametrize(
    ("operation", "work"),
    [
        *(("recall", "reads"), ("get", "reads"), ("remember", "writes"), ("forget", "writes")),
        *(("compact", None), ("show_space", None), ("events", None), ("create_space", None)),
    ],
)
def test_what_an_operation_is_made_of(operation: str, work: str | None) -> None:
    assert work_of(NEEDS[operation]) == work
