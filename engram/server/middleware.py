"""What every request passes before routing: its path is decoded once, its body read to the end."""

from __future__ import annotations

from typing import Final
from urllib.parse import unquote_to_bytes

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engram.errors import EngramError, Malformed, RouteNotFound
from engram.limits import BODY_BYTES_MAX
from engram.server.problems import problem_of
from engram.server.responses import problem_response

DISCARD_BYTES_MAX: Final = 4 * BODY_BYTES_MAX
"""How much of a refused body is read, so that its sender lives to see the refusal."""


class PathGuard:
    """Refuses paths whose decoded form could be taken for another one.

    By the time of routing a path is decoded: `%2F` has become a separator, and bytes that are not
    UTF-8 have become U+FFFD, so two different requests would look the same. What is routed is
    decoded here, once, from the bytes that were sent.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                scope["path"] = decoded_path(scope["raw_path"])
            except EngramError as error:
                await problem_response(problem_of(error))(scope, receive, send)
                return
        await self._app(scope, receive, send)


def decoded_path(raw_path: bytes) -> str:
    """The path as text. Raises :class:`Malformed` or :class:`RouteNotFound`."""
    try:
        path = unquote_to_bytes(raw_path).decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("the path is not percent-encoded UTF-8") from None
    if b"%2f" in raw_path.lower():
        raise RouteNotFound("the path holds an encoded '/' (%2F), which no id can have")
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in path):
        raise RouteNotFound("the path holds a control character, which no id can have")
    return path


class BodyDrain:
    """Reads what is left of a request's body before its answer begins.

    An answer may be certain before the body has arrived. If the connection is to be closed after
    it, what arrives later resets the connection, and the answer with it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Who waits for "100 Continue" sends no body unless it is asked for.
        pending = not any(name == b"expect" for name, _ in scope["headers"])

        async def noted_receive() -> Message:
            nonlocal pending
            try:
                message = await receive()
            except anyio.get_cancelled_exc_class():
                pending = False  # nobody waits for the rest any more
                raise
            pending = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def drained_send(message: Message) -> None:
            discarded = 0
            while pending and discarded < DISCARD_BYTES_MAX:
                discarded += len((await noted_receive()).get("body", b""))
            await send(message)

        await self._app(scope, noted_receive, drained_send)
