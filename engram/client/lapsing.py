"""The part of a client's space that is about what it forgets by itself."""

from __future__ import annotations

from engram.client import requests
from engram.client.answers import read
from engram.client.linking import AsyncLinking
from engram.memory.forgetting import ForgettingReport


class AsyncLapsing(AsyncLinking):
    """What a space forgets by itself, it can be asked to forget now, or only to name."""

    async def apply_forgetting(self, *, dry_run: bool = False) -> ForgettingReport:
        """Forget all that has expired, and what the space's `forgetting` has go, durably; with
        `dry_run`, only say what would go, and why. See :meth:`engram.Space.apply_forgetting`.
        """
        body = requests.apply_body(dry_run)
        path = f"{requests.space_path(self._id)}/forgetting"
        answer = await self._transport.request("POST", path, body=body, write=True)
        return read(answer, ForgettingReport, self._id)
