"""The three doors to the same spaces: embedded, `Client` and `AsyncClient` on a real server."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

from anyio.from_thread import BlockingPortal

from engram import EmbeddingSpec, Event
from engram.client.asynchronous import AsyncSpace

CALLER = EmbeddingSpec(model="caller", dimensions=3)


class Awaited:
    """An asynchronous object whose verbs are awaited in another thread, so that tests are one."""

    def __init__(self, portal: BlockingPortal, target: Any) -> None:
        self._portal = portal
        self._target = target

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        return partial(self._called, value) if callable(value) else value

    def _called(self, verb: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        async def call() -> Any:
            result = verb(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result

        return self._wrapped(self._portal.call(call))

    def _wrapped(self, value: Any) -> Any:
        if isinstance(value, AsyncSpace):
            return Awaited(self._portal, value)
        if isinstance(value, AsyncIterator):
            return AwaitedEvents(self._portal, value)
        return tuple(map(self._wrapped, value)) if type(value) is tuple else value


class AwaitedEvents:
    def __init__(self, portal: BlockingPortal, events: Any) -> None:
        self._portal = portal
        self._events = events

    def __iter__(self) -> AwaitedEvents:
        return self

    def __next__(self) -> Event:
        try:
            event: Event = self._portal.call(self._events.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None
        return event

    def close(self) -> None:
        self._portal.call(self._events.aclose)
