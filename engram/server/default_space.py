"""The default space: what serves requests that name none, on a server that lets it.

Engram wants every request to name its space. Clients from before there were spaces cannot, so a
server may be started with `require_explicit_space = false` and a default space. It stands in where
nobody so much as tried to name one, on routes that work inside one space; each such request is
counted and its answer says that it is deprecated. Other surfaces ask :meth:`DefaultSpace.stand_in`
at the same place: where the resolver would raise `SpaceRequired`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engram.errors import SpaceDamaged, SpaceDeleted, SpaceExists
from engram.server.resolver import SPACE_HEADER
from engram.server.rest import API, SPACE_OPERATIONS
from engram.server.transfers import EXPORT

if TYPE_CHECKING:
    from engram import Database

DEPRECATION: Final = "@1795478400"
"""When naming no space was deprecated, in the form of RFC 9745: 2026-11-24."""
Ensure = Callable[["Database", str], object]
"""Makes a space in a database if it is not there."""
WARNED_EVERY_S: Final = 3_600.0
WARNED_CLIENTS_MAX: Final = 1_000

_LOG: Final = logging.getLogger("engram.server")
_HEADER: Final = SPACE_HEADER.lower().encode()
_PATHS: Final = frozenset(
    {f"{API}/events"}
    | {f"{API}/{operation.path.split('/')[1]}" for operation in (*SPACE_OPERATIONS, EXPORT)}
)
"""How the paths of operations inside one space begin. Those that make one are not among them."""


class DefaultSpace:
    """The default space of one server, and how often it stood in. Thread-safe."""

    def __init__(self, space_id: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.space_id = space_id
        self._clock = clock
        self._guard = threading.Lock()
        self._count = 0
        self._warned_s: dict[str, float] = {}

    @property
    def fallbacks(self) -> int:
        """How many requests it stood in for: `engram_memory_space_default_fallback_total`."""
        return self._count

    def stand_in(self, client: str) -> str:
        """Count a request that named no space, and return the id of the one that is meant.

        `client` is the address it came from. Of each one the log speaks once an hour.
        """
        now_s = self._clock()
        with self._guard:
            self._count += 1
            warned_s = self._warned_s.get(client)
            if warned_s is not None and now_s - warned_s < WARNED_EVERY_S:
                return self.space_id
            if len(self._warned_s) >= WARNED_CLIENTS_MAX:
                self._warned_s.clear()
            self._warned_s[client] = now_s
        _LOG.warning(
            "a request named no memory space, and was taken to mean the default space: client=%s "
            "space=%s. Have it name one; this is deprecated",
            client,
            self.space_id,
        )
        return self.space_id

    def prepare(self, db: Database, ensure: Ensure | None = None) -> None:
        """Make the space if it is not there: once, when the server starts. `ensure` knows how.

        One that was deleted, is damaged or is otherwise than it was to be stays what it is, and
        requests are told so; it keeps nobody from the other spaces. Raises what else making a space
        does.
        """
        try:
            if ensure is None:
                db.ensure_space(self.space_id)
            else:
                ensure(db, self.space_id)
        except (SpaceDeleted, SpaceDamaged, SpaceExists) as error:
            _LOG.warning("the default space is not as it was to be: %s", error.detail)


class DefaultSpaceFallback:
    """Lets requests that name no space name the default space."""

    def __init__(self, app: ASGIApp, default: DefaultSpace) -> None:
        self._app = app
        self._default = default

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _names_none(scope):
            await self._app(scope, receive, send)
            return
        named = (_HEADER, self._default.space_id.encode())
        inner = {**scope, "headers": [*scope["headers"], named]}

        async def send_deprecated(message: Message) -> None:
            # Who was not so much as let in learns nothing of it.
            if message["type"] == "http.response.start" and message["status"] != 401:
                client = scope.get("client")
                self._default.stand_in(client[0] if client else "unknown")
                deprecation = (b"deprecation", DEPRECATION.encode())
                message = {**message, "headers": [*message.get("headers", ()), deprecation]}
            await send(message)

        await self._app(inner, receive, send_deprecated)


def _names_none(scope: Scope) -> bool:
    """Whether a request works inside a space and nothing about it could be meant to name one: no
    parameter `space`, and no header that is only misspelt.
    """
    path = scope["path"]
    if not any(path == begun or path.startswith(f"{begun}/") for begun in _PATHS):
        return False
    if any(_seems_to_name(name) for name, _ in scope["headers"]):
        return False
    parameters = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return not _some_space(name for name, _ in parameters)


def _seems_to_name(header: bytes) -> bool:
    name = header.lower()
    return b"memory" in name and b"space" in name


def _some_space(parameters: Iterable[str]) -> bool:
    return any("space" in name.lower() for name in parameters)
