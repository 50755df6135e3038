"""What every request passes before routing: it must come from this machine unless it needs a key,
its path is decoded once, its body read to the end.
"""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engram.access.gate import Access
from engram.errors import EngramError, Forbidden, Malformed, RouteNotFound, SpaceInvalid
from engram.limits import BODY_BYTES_MAX
from engram.server.problems import problem_of
from engram.server.responses import problem_response

DISCARD_BYTES_MAX: Final = 4 * BODY_BYTES_MAX
"""How much of a refused body is read, so that its sender lives to see the refusal."""
DISCARD_S_MAX: Final = 2.0
"""How long that may take: a sender that sends nothing is answered all the same."""
SPACES_PATH: Final = b"/api/v1/spaces/"
"""What stands before a space's id in a path."""


class LocalOnly:
    """Refuses what a web page of somewhere else sends through a browser on this machine.

    A loopback address keeps other machines out, not other web sites: a page may post to it, or
    lead its own name to 127.0.0.1 and read the answers too. The first shows in the Origin that the
    browser adds, the second in the Host.

    Where keys are needed nothing is refused for that: a page of another site has none, and no
    browser adds one by itself as it adds cookies. The server may have any name then.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._access.required:
            # Every one of them: who reads a second Host after us may believe that one.
            headers = Headers(scope=scope)
            named = [("Host", host, f"//{host}") for host in headers.getlist("host")]
            named += [("Origin", origin, origin) for origin in headers.getlist("origin")]
            for name, value, url in named:
                if value and not is_loopback(url):
                    error = Forbidden(
                        f"the header {name} is {value!r}; this server answers only to this "
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
    """The path as text.

    Raises :class:`SpaceInvalid` for what is wrong in the place of a space's id, elsewhere
    :class:`Malformed` or :class:`RouteNotFound`.
    """
    in_space = raw_path.startswith(SPACES_PATH)
    if in_space and (wrong := _what_no_id_has(raw_path.split(b"/")[SPACES_PATH.count(b"/")])):
        raise SpaceInvalid(f"the memory space id in the path holds {wrong}, which no id can have")
    if wrong := _what_no_id_has(raw_path):
        if wrong is _NOT_UTF8:
            raise Malformed("the path is not percent-encoded UTF-8")
        raise RouteNotFound(f"the path holds {wrong}, which no id can have")
    return unquote_to_bytes(raw_path).decode()


_NOT_UTF8: Final = "what is not UTF-8"


def _what_no_id_has(raw: bytes) -> str | None:
    try:
        text = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return _NOT_UTF8
    if b"%2f" in raw.lower():
        return "an encoded '/' (%2F)"
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in text):
        return "a control character"
    return None


class UpgradeGuard:
    """Refuses to be led to another protocol, by those who could not read an answer in this one."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            upgrade = Headers(scope=scope).get("upgrade", "").strip().lower()
            if upgrade.startswith("websocket"):
                error = Malformed(
                    "no WebSockets are served here; events come as server-sent events, over plain "
                    "HTTP/1.1. Leave the header Upgrade out"
                )
                await problem_response(problem_of(error))(scope, receive, send)
                return
        await self._app(scope, receive, send)


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
        discarded = 0

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
            nonlocal discarded
            try:
                with anyio.move_on_after(DISCARD_S_MAX):
                    while pending and discarded < DISCARD_BYTES_MAX:
                        discarded += len((await noted_receive()).get("body", b""))
            except anyio.get_cancelled_exc_class():
                pass  # the server ends, and the event loop is about to go: answer at once
            await send(message)

        await self._app(scope, noted_receive, drained_send)
