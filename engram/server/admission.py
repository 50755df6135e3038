"""Who sends a request, found out before anything else about it, and whether it may go on.

Every request passes :class:`Authentication` before it is routed, so an unknown caller learns
nothing of this server but that it is one. What the caller may do is asked once the space is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from engram.access.gate import Access, admit
from engram.access.principal import ANYBODY, Need, Principal
from engram.errors import EngramError, Unauthenticated
from engram.server.problems import problem_of
from engram.server.resolver import resolve
from engram.server.responses import problem_response

if TYPE_CHECKING:
    from engram import Database, Space
    from engram.server.calls import Call

OPEN_PATHS: Final = frozenset({b"/healthz", b"/openapi.json", b"/docs"})
"""What is answered without a key: nothing there tells of spaces, only of what every server has."""
_PRINCIPAL: Final = "engram.principal"


class Authentication:
    """Notes in the scope who sends a request, or answers it with 401."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            values = Headers(scope=scope).getlist("authorization")
            try:
                scope[_PRINCIPAL] = (
                    ANYBODY
                    if scope["raw_path"] in OPEN_PATHS
                    else self._access.authenticate(values)
                )
            except EngramError as error:
                headers = _challenge(values) if isinstance(error, Unauthenticated) else None
                await problem_response(problem_of(error), headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _challenge(values: list[str]) -> dict[str, str]:
    """What RFC 6750 has a 401 say."""
    wrong = ', error="invalid_token"' if values else ""
    return {"WWW-Authenticate": f'Bearer realm="engram"{wrong}'}


def principal_of_scope(scope: Scope) -> Principal:
    """Who sends a request. A KeyError, for one that came past :class:`Authentication`, is right."""
    principal: Principal = scope[_PRINCIPAL]
    return principal


def admitted_space(db: Database, call: Call, need: Need) -> Space:
    """The handle of the space that a request means, if its sender may do there what takes `need`.
    Blocks while the space is looked for.
    """
    space_id = resolve(call.path.get("space"), call.space_header)
    return space_for(db, call, space_id, need)


def space_for(db: Database, call: Call, space_id: str, need: Need) -> Space:
    """As :func:`admitted_space`, for one of several spaces that a request names."""
    admit(db, call.principal, space_id, need)
    return db.space(space_id)
