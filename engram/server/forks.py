"""Copies of spaces over HTTP. One that is embedded anew may take minutes: it is answered once it is
there, and given up soon after its caller hangs up or the server stops. What was embedded is kept.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import anyio
from starlette.requests import Request

from engram.access.principal import NEEDS
from engram.errors import Unavailable
from engram.server.admission import admitted_space
from engram.server.answers import Answer
from engram.server.calls import Call, read_call
from engram.server.rest import space_path
from engram.server.transfers import TransferOperation
from engram.server.wire import ForkBody, decode, origin_document

if TYPE_CHECKING:
    from engram import Database

FORKS_AT_WORK_MAX: Final = 4
"""Threads that make copies at once; others wait for their turn, and hold up nothing else."""
FORK: Final = TransferOperation("POST", "/fork", NEEDS["fork"], takes_body=True)
fork_limiter: Final = anyio.CapacityLimiter(FORKS_AT_WORK_MAX)


class ForkCall(Call):
    """A request whose caller may leave before it is answered."""

    request: Request
    left: threading.Event

    @asynccontextmanager
    async def attended(self) -> AsyncIterator[None]:
        """`left` is set once nobody waits for the answer any more."""
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            self.left.set()
            watching.cancel()

    async def _watch(self) -> None:
        while (await self.request.receive())["type"] != "http.disconnect":
            pass  # all of the body has been read
        self.left.set()

    def progress(self, done: int, total: int) -> None:
        """Called between pieces of the work."""
        if self.left.is_set():
            raise Unavailable(
                f"nobody waits for the copy any more. {done} of {total} memories are embedded and "
                "kept: the same request goes on from there"
            )


async def read_fork_call(
    request: Request, parameters: Collection[str], *, takes_body: bool
) -> ForkCall:
    """A request, and how to notice that its caller has left."""
    call = await read_call(request, parameters, takes_body=takes_body, kind=ForkCall)
    call.request, call.left = request, threading.Event()
    return call


def run_fork(db: Database, call: ForkCall) -> Answer:
    """What `POST …/fork` asks for: blocks until the copy is durable."""
    space = admitted_space(db, call, FORK.need)
    call.check()
    body = decode(call.body, ForkBody)
    spec = None if body.embedding is None else body.embedding.spec()
    made = space.fork(body.memory_space_id, body.as_of, embedding=spec, progress=call.progress)
    return Answer(201, origin_document(made), space_path(made.id))
