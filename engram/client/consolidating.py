"""The part of a client's space that is about beliefs."""

from __future__ import annotations

from engram.client import requests
from engram.client.answers import read
from engram.client.transport import Transport
from engram.memory import validate as check
from engram.memory.beliefs import Consolidation


class AsyncConsolidating:
    """Beliefs are formed of what recurs among episodes; see :class:`engram.Space`."""

    _transport: Transport
    _id: str

    async def consolidate(self, *, dry_run: bool = False) -> Consolidation:
        """Form beliefs of what recurs among the episodes of the space, durably; with `dry_run`,
        only tell what would be formed. See `engram.Space.consolidate`. The answer is waited for as
        long as it takes: a model may write the beliefs.

        Raises :class:`engram.errors.DiskFull`; whole beliefs are stored then, or not.
        """
        check.check_flag("dry_run", dry_run)
        path = requests.consolidate_path(self._id)
        body = {"dry_run": dry_run}
        answer = await self._transport.request(
            "POST", path, body=body, write=not dry_run, bounded=False
        )
        return read(answer, Consolidation, self._id)
