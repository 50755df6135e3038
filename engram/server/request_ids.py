"""An id for every request: in its answer, in a problem document, and in what is logged meanwhile.

A caller's own is taken, if it is one that a log may hold; else one is made. It is what somebody who
was refused can tell somebody who has the log.
"""

from __future__ import annotations

import logging
import re
import secrets
from contextvars import ContextVar
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUEST_ID_HEADER: Final = "X-Request-Id"
REQUEST_ID_CHARACTERS_MAX: Final = 128
_SANE: Final = re.compile(rb"[\x21-\x7e]{1,%d}" % REQUEST_ID_CHARACTERS_MAX)
_HEADER: Final = REQUEST_ID_HEADER.lower().encode()
_current: ContextVar[str | None] = ContextVar("request_id", default=None)


def current_request_id() -> str | None:
    """That of the request that is worked on here, also in a worker thread; None outside of any."""
    return _current.get()


def made_request_id() -> str:
    return secrets.token_hex(8)


class RequestIds:
    """Outermost: what others refuse has an id too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = [value for name, value in scope["headers"] if name == _HEADER]
        sane = len(given) == 1 and _SANE.fullmatch(given[0])
        request_id = given[0].decode("ascii") if sane else made_request_id()

        async def named_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                header = (_HEADER, request_id.encode())
                message["headers"] = [*message.get("headers", ()), header]
            await send(message)

        token = _current.set(request_id)
        try:
            await self._app(scope, receive, named_send)
        finally:
            _current.reset(token)


class RequestIdFilter(logging.Filter):
    """Gives records the field `request`: ` request=…`, or nothing outside of any request."""

    def filter(self, record: logging.LogRecord) -> bool:
        request_id = current_request_id()
        record.request = "" if request_id is None else f" request={request_id}"
        return True
