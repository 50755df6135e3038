"""What every request passes before routing: it must come from this machine, its path is decoded
once, its body read to the end.
"""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engram.errors import EngramError, Forbidden, Malformed, RouteNotFound
from engram.limits import BODY_BYTES_MAX
from engram.server.problems import problem_of
from engram.server.responses import problem_response

DISCARD_BYTES_MAX: Final = 4 * BODY_BYTES_MAX
"""How much of a refused body is read, so that its sender lives to see the refusal."""


class LocalOnly:
    """Refuses what a web page of somewhere else sends through a browser on this machine.

    A loopback address keeps other machines out, not other web sites: a page may post to it, or
    lead its own name to 127.0.0.1 and read the answers too. The first shows in the Origin that the
    browser adds, the second in the Host.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            host, origin = headers.get("host"), headers.get("origin")
            for name, url in (("Host", host and f"//{host}"), ("Origin", origin)):
                if url and not is_loopback(url):
                    error = Forbidden(
                        f"the header {name} is {headers[name]!r}; this server answers only to this "
                        "machine. Address it as 127.0.0.1 or localhost, and not from a web page of "
                        "another site"
                    )
                    await problem_response(problem_of(error))(scope, receive, send)
                    return
        await self._app(scope, receive, send)


def is_loopback(url: str) -> bool:
    """Whether a URL's host is a loopback address, or a name that can only mean one (RFC 6761)."""
    try:
        host = urlsplit(url).hostname or ""
        if host == "localhost" or host.endswith(".localhost"):
            return True
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
