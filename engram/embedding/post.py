"""Posting a request to an embedding server and waiting for its answer, with patience and bounds.

Theory of operation. Embedders are called from any thread, and block; aiohttp runs in an event loop.
One loop in one daemon thread therefore serves the whole process, started by the first request, with
one session whose connections are reused. A caller hands over its request and waits for the outcome.

What may pass by itself is tried again (TRIES_MAX, WAITING_S_MAX): a busy or failing server, a lost
connection. A request that took its whole time is not, since the caller has waited long enough. The
server may ask for a longer wait than we have; its answer is then handed on at once.

The loop is closed when the interpreter exits; requests that are still under way are cancelled, so
that they do not hold it up. A forked child has no such thread, so it forgets the loop and starts
its own. This module is imported at the first request, because aiohttp takes a while to load.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import random
import threading
from concurrent.futures import CancelledError
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from io import BytesIO
from typing import Final

import aiohttp
from anyio.from_thread import start_blocking_portal

CONNECT_TIMEOUT_S: Final = 5.0
TRIES_MAX: Final = 3
WAITING_S_MAX: Final = 10.0
"""Between all tries of one request, what the server asks for included."""
WAIT_GROWTH: Final = 4

PASSING: Final = frozenset({429, 500, 502, 503, 504})
"""Statuses that a later try may not meet."""

ENDING: Final = "the process is ending"

REFUSAL_BYTES_MAX: Final = 64 << 10
"""How much is read of an answer that is an error."""


@dataclass(frozen=True, slots=True)
class Request:
    """A POST; its repr shows no header, which may be secret."""

    url: str
    headers: dict[str, str]
    body: bytes
    timeout_s: float
    answer_bytes_max: int
    first_wait_s: float
    proxy: str | None = None
    proxy_headers: dict[str, str] | None = None

    def __repr__(self) -> str:
        return f"<Request of {len(self.body)} bytes>"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said in the end, on which try, and the wait it asked for, if any."""

    status: int
    body: bytes
    tries: int
    retry_after_s: float | None = None
    location: str | None = None


class NotAnswered(Exception):
    """There is no whole answer; the message says why."""


class _Lost(Exception):
    """The connection failed; the next one may not."""


def post(request: Request) -> Answer:
    """Send a request and wait for the answer, whatever its status. Raises NotAnswered."""
    return _running_loop().run(request)


class _Loop:
    """An event loop in a daemon thread, and the HTTP session that lives in it."""

    def __init__(self) -> None:
        self._scope = start_blocking_portal()
        self._portal = self._scope.__enter__()
        self._session = self._portal.call(_open_session)

    def run(self, request: Request) -> Answer:
        try:
            future = self._portal.start_task_soon(_post, self._session, request)
        except RuntimeError as error:
            raise NotAnswered(ENDING) from error
        try:
            return future.result()
        except CancelledError as error:
            raise NotAnswered(ENDING) from error
        except BaseException:
            future.cancel()  # nobody waits for it any more: the caller was interrupted
            raise

    def close(self) -> None:
        self._portal.call(self._session.close)
        # Leaving the scope would wait for requests under way; stopping it first cancels them.
        self._portal.call(self._portal.stop, True)
        self._scope.__exit__(None, None, None)


_starting = threading.Lock()
_loop: _Loop | None = None
_closed = False
_of_parents: Final[list[_Loop]] = []


def _running_loop() -> _Loop:
    global _loop
    loop = _loop
    if loop is not None:
        return loop
    with _starting:
        if _closed:
            raise NotAnswered(ENDING)
        if _loop is None:
            _loop = _Loop()
        return _loop


def _close() -> None:
    global _loop, _closed
    with _starting:
        _closed = True
        loop, _loop = _loop, None
    if loop is not None:
        loop.close()


def _forget() -> None:
    """In a forked child: the parent's loop is only kept from being collected, because closing its
    connections would take them out of the parent's epoll set too.
    """
    global _starting, _loop
    _starting = threading.Lock()
    if _loop is not None:
        _of_parents.append(_loop)
        _loop = None


atexit.register(_close)
os.register_at_fork(after_in_child=_forget)


async def _open_session() -> aiohttp.ClientSession:
    # Not trust_env: it would also look for the host in ~/.netrc, which forbids our own header.
    return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())


async def _post(session: aiohttp.ClientSession, request: Request) -> Answer:
    waited_s, tried = 0.0, 0
    while True:
        tried += 1
        answer: Answer | None = None
        lost: _Lost | None = None
        if session.closed:
            raise NotAnswered(ENDING)
        try:
            answer = await _try(session, request, tried)
        except _Lost as error:
            lost = error
        if answer is not None and answer.status not in PASSING:
            return answer
        wait_s = _wait_s(request, tried, answer)
        if tried == TRIES_MAX or waited_s + wait_s > WAITING_S_MAX:
            break
        await asyncio.sleep(wait_s)
        waited_s += wait_s
    if answer is None:
        raise NotAnswered(f"{lost} (tried {tried} times)") from lost
    return answer


def _wait_s(request: Request, tried: int, answer: Answer | None) -> float:
    """What the server asks for, or else exponential backoff with jitter."""
    if answer is not None and answer.retry_after_s is not None:
        return answer.retry_after_s
    return request.first_wait_s * float(WAIT_GROWTH ** (tried - 1)) * random.uniform(0.5, 1.0)


async def _try(session: aiohttp.ClientSession, request: Request, tried: int) -> Answer:
    try:
        async with session.post(
            request.url,
            data=BytesIO(request.body),  # written in pieces, so that others get their turn
            headers=request.headers,
            timeout=aiohttp.ClientTimeout(
                total=request.timeout_s, sock_connect=min(CONNECT_TIMEOUT_S, request.timeout_s)
            ),
            allow_redirects=False,
            proxy=request.proxy,
            proxy_headers=request.proxy_headers,
        ) as response:
            return Answer(
                status=response.status,
                body=await _read(response, request.answer_bytes_max),
                tries=tried,
                retry_after_s=retry_after_s(response.headers.get("Retry-After"), datetime.now(UTC)),
                location=response.headers.get("Location"),
            )
    except aiohttp.ConnectionTimeoutError as error:
        raise _Lost(f"no connection within {CONNECT_TIMEOUT_S:g} s") from error
    except TimeoutError as error:
        raise NotAnswered(f"no whole answer within {request.timeout_s:g} s") from error
    except aiohttp.ClientSSLError as error:
        raise NotAnswered(f"no trusted connection: {error.os_error}") from error
    except aiohttp.ClientPayloadError as error:
        raise _Lost("the answer broke off") from error
    except aiohttp.ServerDisconnectedError as error:
        raise _Lost("the connection was closed without an answer") from error
    except OSError as error:
        raise _Lost(_reason(error)) from error
    except aiohttp.ClientError as error:
        raise NotAnswered(f"no HTTP answer ({type(error).__name__}: {error})") from error


async def _read(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """The body; of a refusal its beginning, which holds the message."""
    body = bytearray()
    refused = response.status >= 300
    async for chunk in response.content.iter_any():
        body += chunk
        if refused and len(body) > REFUSAL_BYTES_MAX:
            return bytes(body[:REFUSAL_BYTES_MAX])
        if len(body) > bytes_max:
            raise NotAnswered(f"the answer is longer than {bytes_max} bytes")
    return bytes(body)


def _reason(error: OSError) -> str:
    """The system's words; asyncio and the resolver put theirs in their place."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno).lower()
    return (error.strerror or str(error) or type(error).__name__).lower()


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """The header of RFC 9110, section 10.2.3, in either of its forms; None if it says nothing."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at
    return max(0.0, (at - now).total_seconds())
