"""HTTP below ASGI: what uvicorn refuses before there is a request, in our words and bounds."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Final

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from engram.errors import EngramError, Malformed, RequestTimeout
from engram.server.problems import PROBLEM_MEDIA_TYPE, encode_problem, problem_of
from engram.server.request_ids import REQUEST_ID_HEADER, made_request_id

HEAD_S_MAX: Final = 15.0
"""How long request line and headers may take to come."""
HEAD_BYTES_MAX: Final = 64 << 10
"""Request line and headers together; httptools itself would gather them without end."""


class EngramProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with problem documents and a bound on the size of a request's head."""

    _head_bytes = 0
    _head_begun = False
    _head_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        cycle = self.cycle
        # A body whose request is answered already may not hold the connection for ever either.
        between = cycle is None or not cycle.more_body or cycle.response_complete
        if between and self._head_due is None:
            self._await_head()
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        self._head_begun = False
        super().on_headers_complete()

    def _await_head(self) -> None:
        self._head_due = self.loop.call_later(HEAD_S_MAX, self._head_is_late)

    def _stop_waiting(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _head_is_late(self) -> None:
        self._head_due = None
        if self.cycle is not None and not self.cycle.response_complete:
            self._await_head()  # an answer before this request is still being sent
            return
        if not self._head_begun:
            self.transport.close()
            return
        self._refuse(RequestTimeout(f"the head of the request had not come after {HEAD_S_MAX:g} s"))

    def _unsupported_upgrade_warning(self) -> None:
        """Not in the log: whoever asked is told, and it is no fault of whoever reads that."""

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        self._head_begun = True
        if self._head_due is None:  # it came with the end of the request before
            self._await_head()
        super().on_message_begin()
        # For answers without an end whose reader takes nothing any more.
        self.scope["state"]["abort_connection"] = self.transport.abort

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES_MAX:
            # httptools turns it into its own parser error, which ends in send_400_response.
            raise ValueError(f"request line and headers exceed {HEAD_BYTES_MAX} bytes")

    def send_400_response(self, msg: str) -> None:
        self._refuse(
            Malformed(
                "this is not a request of HTTP/1.1 that can be read: check its request line, "
                f"percent-encoding and headers (together at most {HEAD_BYTES_MAX} bytes)"
            )
        )

    def _refuse(self, error: EngramError) -> None:
        """Answer what never became a request, and close."""
        request_id = made_request_id()
        problem = msgspec.structs.replace(problem_of(error), request_id=request_id)
        body = encode_problem(problem)
        head = (
            f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\n"
            f"{REQUEST_ID_HEADER.lower()}: {request_id}\r\n"
            f"content-type: {PROBLEM_MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()
