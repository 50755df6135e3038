"""The agents' writes: each acknowledged one is kept, to be compared with what is read."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

import engram
from engram import Memory, NewMemory, OutcomeUnknown, ServerUnreachable
from engram.client.asynchronous import AsyncSpace

PAGE: Final = 100


class Ledger:
    """What the server has acknowledged, by space and id."""

    def __init__(self, spaces: tuple[str, ...]) -> None:
        self.acknowledged: dict[str, dict[str, Memory]] = {space: {} for space in spaces}

    def __len__(self) -> int:
        return sum(map(len, self.acknowledged.values()))

    async def remember(self, space: AsyncSpace, new: NewMemory) -> None:
        """One write through the client; noted only once its answer is here."""
        memory = await space.remember(
            new.content,
            id=new.id,
            kind=new.kind,
            tags=new.tags,
            metadata=new.metadata,
            confidence=new.confidence,
            occurred_at=new.occurred_at,
            expires_at=new.expires_at,
            source=new.source,
        )
        self.acknowledged[space.id][memory.id] = memory


class Writer:
    """Writes one note after the other, to each space in turn, until the server is gone."""

    def __init__(
        self,
        client: engram.AsyncClient,
        ledger: Ledger,
        notes: Iterator[tuple[str, NewMemory]],
    ) -> None:
        self.count = 0
        self.unknown: tuple[str, NewMemory] | None = None
        """The write that was under way when the connection broke."""
        self.unsent: tuple[str, NewMemory] | None = None
        """The write that found no server any more: nothing of it was sent."""
        self._client = client
        self._ledger = ledger
        self._notes = notes

    async def until_it_breaks(self, *, slow: int, pause_s: float) -> None:
        """The first `slow` writes with pauses between them, later ones without."""
        while self.unknown is None and self.unsent is None:
            await self._next()
            if self.count < slow:
                await asyncio.sleep(pause_s)

    async def some(self, count: int, *, pause_s: float) -> None:
        for _ in range(count):
            space, note = next(self._notes)
            await self._ledger.remember(self._client.space(space), note)
            await asyncio.sleep(pause_s)

    async def _next(self) -> None:
        space, note = next(self._notes)
        try:
            await self._ledger.remember(self._client.space(space), note)
            self.count += 1
        except OutcomeUnknown:
            self.unknown = space, note
        except ServerUnreachable:
            self.unsent = space, note


async def read_all(client: engram.AsyncClient, space: str) -> dict[str, Memory]:
    """Every living memory of a space, read page by page."""
    found: dict[str, Memory] = {}
    after: int | None = 0
    while after is not None:
        page = await client.space(space).list(limit=PAGE, after=after)
        found |= {memory.id: memory for memory in page.memories}
        after = page.next
    return found
