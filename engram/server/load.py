"""How much a server takes on at once, and how long the body of a request may take to come.

Both are bounds on what callers can make a server hold: requests that wait for a thread, bodies that
wait with them, and connections whose senders are slow on purpose. Bundles are left out of account:
they are not held, and :mod:`engram.server.transfers` waits for them in its own way.
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engram.errors import RequestTimeout, Unavailable
from engram.server.problems import problem_of
from engram.server.responses import problem_response


class Bounds(NamedTuple):
    """Requests that have come and are not being answered yet, and the bytes of their bodies; a body
    may take `grace_s` and, for what has come of it, a second for each `bytes_per_s`.
    """

    requests: int = 4_096
    body_bytes: int = 512 << 20
    grace_s: float = 20.0
    bytes_per_s: int = 16 << 10


DEFAULT_BOUNDS: Final = Bounds()


class Load:
    """Answers 503 to what is too much, and has bodies that take too long be refused with 408."""

    def __init__(self, app: ASGIApp, bounds: Bounds = DEFAULT_BOUNDS) -> None:
        self._app = app
        self._bounds = bounds
        self._requests = 0
        self._body_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].endswith("/import"):
            await self._app(scope, receive, send)
            return
        if self._requests >= self._bounds.requests or self._body_bytes >= self._bounds.body_bytes:
            error = Unavailable(
                f"this server is at work on {self._requests} requests, or on bodies of too many "
                "bytes, as many as it may; nothing was done. Come again in a second",
                retry_after_s=1,
            )
            await problem_response(problem_of(error))(scope, receive, send)
            return
        held = _Held(self)

        async def counted_receive() -> Message:
            return await held.receive(receive)

        async def counted_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                held.release()
            await send(message)

        try:
            await self._app(scope, counted_receive, counted_send)
        finally:
            held.release()


class _Held:
    """What one request takes of the bounds, until its answer begins."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._body_bytes = 0
        self._waited_s = 0.0
        self._coming = True
        self._released = False
        load._requests += 1

    async def receive(self, receive: Receive) -> Message:
        """The next message. Raises :class:`engram.errors.RequestTimeout`."""
        if not self._coming:
            return await receive()
        bounds = self._load._bounds
        loop = asyncio.get_running_loop()
        since_s = loop.time()
        may_s = bounds.grace_s + self._body_bytes / bounds.bytes_per_s - self._waited_s
        try:
            async with asyncio.timeout(may_s):
                message = await receive()
        except TimeoutError:
            raise RequestTimeout(
                f"the body came too slowly: {self._body_bytes} bytes of it in "
                f"{self._waited_s + may_s:.0f} s. Nothing was done"
            ) from None
        self._waited_s += loop.time() - since_s
        size = len(message.get("body", b""))
        self._body_bytes += size
        if not self._released:
            self._load._body_bytes += size
        self._coming = message["type"] == "http.request" and message.get("more_body", False)
        return message

    def release(self) -> None:
        if self._released:
            return
        self._released = True
        self._load._requests -= 1
        self._load._body_bytes -= self._body_bytes
