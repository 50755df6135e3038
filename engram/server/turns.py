"""Whose turn it is: one busy space leaves the others their share of the server.

Requests of all spaces take their threads from one lot. So of each space only so many are at work at
once, and what is more waits in a queue of that space, where nobody else waits behind it; beyond a
bound it is refused, since who sends that much faster than it is served gains nothing by waiting
longer. That those at work leave others the processors is :mod:`engram.spaces.entry`'s to see to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Literal

import anyio

from engram.access.principal import Need
from engram.errors import Unavailable

AT_WORK_MAX: Final = 16
"""Of one space and kind. Writes wait for one sync together, so there may well be several."""
WAITING_MAX: Final = 512

Work = Literal["reads", "writes"]


def work_of(need: Need) -> Work | None:
    """What an operation is mostly made of; None for those of administrators, which are few, and may
    take long.
    """
    if "admin" in need.scopes:
        return None
    if "write" in need.scopes:
        return "writes"
    return "reads" if "read" in need.scopes else None


class _Queue:
    """One kind of work of one space; `members` are at work or wait."""

    def __init__(self) -> None:
        self.limiter = anyio.CapacityLimiter(AT_WORK_MAX)
        self.members = 0


class Turns:
    """The queues of all spaces that have requests now. Used in one event loop only."""

    def __init__(self) -> None:
        self._queues: dict[tuple[str, Work], _Queue] = {}

    @asynccontextmanager
    async def turn(self, space_id: str | None, work: Work | None) -> AsyncIterator[None]:
        """Held while a request is at work. Raises :class:`engram.errors.Unavailable` where too many
        wait already.
        """
        if space_id is None or work is None:
            yield
            return
        key = space_id, work
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = _Queue()
        if queue.members >= AT_WORK_MAX + WAITING_MAX:
            raise Unavailable(
                f"{WAITING_MAX} requests of space {space_id!r} wait already, so this one was not "
                "begun. Come again a little later, and send fewer at once",
                memory_space_id=space_id,
                retry_after_s=1,
            )
        queue.members += 1
        try:
            async with queue.limiter:
                yield
        finally:
            queue.members -= 1
            if not queue.members:
                del self._queues[key]
