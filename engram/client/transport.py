"""The connections to one server: reuse, time limits, and what it means to lose one.

The one question after a failure is whether the server may have acted. A request of which nothing
was sent certainly did nothing (`ServerUnreachable`). A write of which anything was sent may or may
not have been done (`OutcomeUnknown`), so one is only repeated if it has a key by which the server
does it once (:mod:`engram.client.retrying`); aiohttp would repeat any DELETE and PUT.

No error made here carries the API key, nor an aiohttp error behind it: those hold all headers.
"""

from __future__ import annotations

import asyncio
import math
import re
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Final
from urllib.parse import urlencode, urlsplit

import aiohttp
import anyio
from aiohttp.client_middlewares import ClientHandlerType
from yarl import URL

from engram.client import retrying
from engram.client.answers import EVENT_STREAM, JSON, PROBLEM, Answer, error_of, invalid_answer
from engram.client.requests import Body, Parameters, encoded
from engram.errors import (
    EngramError,
    Malformed,
    OutcomeUnknown,
    ServerAnswerInvalid,
    ServerUnreachable,
    Unavailable,
)

API: Final = "/api/v1"
INCARNATION: Final = "X-Memory-Space-Incarnation"
NO_HEADERS: Final[Mapping[str, str]] = {}
REQUESTS_AT_ONCE_MAX: Final = 64
"""More wait for their turn, so that their time does not run while they queue for a connection."""
DOWNLOAD_BYTES: Final = 256 << 10
_ERROR_BODY_BYTES_MAX: Final = 1 << 20
_TRANSIENT: Final = frozenset({408, 429})
"""Refusals that say "not now"; like every 5xx they may be gone a moment later."""


class ConnectionLost(aiohttp.ClientConnectionError):
    """Stands for aiohttp's errors about a broken connection, after which it would try again."""


class Scopes:
    """What is being awaited at the moment, so that closing can end it."""

    def __init__(self) -> None:
        self.closed = False
        self._open: set[anyio.CancelScope] = set()

    @contextmanager
    def scope(self) -> Iterator[anyio.CancelScope]:
        """Ends early, with `cancelled_caught`, when :meth:`close` is or was called."""
        with anyio.CancelScope() as scope:
            self._open.add(scope)
            if self.closed:
                scope.cancel()
            try:
                yield scope
            finally:
                self._open.discard(scope)

    def close(self) -> None:
        self.closed = True
        for scope in tuple(self._open):
            scope.cancel()


class Stream:
    """An open event stream."""

    def __init__(self, response: aiohttp.ClientResponse, asked: str) -> None:
        self.response = response
        self.asked = asked


class Transport:
    """All requests of one client. Bound to the event loop that it is first used in."""

    def __init__(
        self, url: str, api_key: str | None, timeout_s: float, retry_s: float = retrying.RETRY_S
    ) -> None:
        self.url = _checked_url(url)
        self._headers = {"Accept": f"{JSON}, {PROBLEM}", "Accept-Encoding": "identity"}
        if api_key is not None:
            self._headers["Authorization"] = f"Bearer {_checked_key(api_key)}"
        self._timeout_s = seconds("timeout_s", timeout_s)
        self._retry_s = retrying.checked_retry_s(retry_s)
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turns = asyncio.Semaphore(REQUESTS_AT_ONCE_MAX)
        self._scopes = Scopes()
        self._streams: set[Stream] = set()

    @property
    def closed(self) -> bool:
        return self._scopes.closed

    async def request(
        self,
        method: str,
        path: str,
        *,
        parameters: Parameters | None = None,
        body: Body | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
        write: bool = False,
        bounded: bool = True,
        once: bool = False,
        key: str | None = None,
    ) -> Answer:
        """One request and its answer, whatever its status; each attempt with `bounded` within the
        time limit. A write that a server does `once` by a key gets one, and may be sent again.

        Raises `ServerUnreachable`, `ServerAnswerInvalid` for what is not HTTP, `Unavailable` when
        the client is closed, and for a write that may have been done `OutcomeUnknown`.
        """
        url, data = self._url(path, parameters), None if body is None else encoded(body)
        asked = f"{method} {self.url}{API}{path}"
        if key is not None:
            key = retrying.checked_idempotency_key(key)
        elif once and self._retry_s > 0:
            key = uuid.uuid4().hex
        if key is not None:
            headers = {**headers, "Idempotency-Key": key}
        retry_s = self._retry_s if bounded else 0.0  # it may be long work, and paid for
        repeats = retrying.Repeats(retry_s, write=write, key=key)
        at_once = 0 if write else 1
        while True:
            session, sent = self._session_here(), SimpleNamespace(any=False)
            with self._scopes.scope() as scope:
                async with self._turns:
                    outcome = await self._exchange(
                        session, method, url, data, sent, asked, write, headers, bounded=bounded
                    )
            if scope.cancelled_caught:
                if write and (sent.any or repeats.sent):
                    raise OutcomeUnknown(_unknown(f"the client was closed during {asked}"))
                raise self._closed_error()
            if outcome is None and at_once:
                at_once = 0
                continue
            pause_s = repeats.pause_s(outcome, sent.any)
            if pause_s is None:
                return self._given_up(outcome, asked, write=write, sent=repeats.sent)
            await self._pause_between(pause_s, asked, unsure=write and repeats.sent)

    async def _pause_between(self, pause_s: float, asked: str, *, unsure: bool) -> None:
        try:
            await self.pause(pause_s)
        except Unavailable:
            if unsure:
                raise OutcomeUnknown(_unknown(f"the client was closed during {asked}")) from None
            raise

    def _given_up(
        self, outcome: retrying.Outcome, asked: str, *, write: bool, sent: bool
    ) -> Answer:
        """The answer, or what to raise instead: `sent` says that an attempt without an answer may
        have been done.
        """
        if isinstance(outcome, Answer):
            return outcome
        if outcome is None and not write:
            raise ServerUnreachable(
                f"the connection was lost during {asked}. Is the server still running?"
            )
        if outcome is None or (write and sent and isinstance(outcome, ServerUnreachable)):
            raise OutcomeUnknown(_unknown(f"the connection was lost during {asked}"))
        raise outcome

    async def upload(self, path: str, data: AsyncIterator[bytes], media_type: str) -> Answer:
        """A write whose body comes in pieces. Its time is not bounded: nobody knows how long it is.

        The body is sent once the server asks for it, so that a refusal costs nothing. Raises as
        :meth:`request` does.
        """
        session, sent = self._session_here(), SimpleNamespace(any=False)
        asked = f"POST {self.url}{API}{path}"
        with self._scopes.scope() as scope:
            outcome = await self._exchange(
                session,
                "POST",
                self._url(path, None),
                data,
                sent,
                asked,
                True,
                media_type=media_type,
            )
        if scope.cancelled_caught:
            raise OutcomeUnknown(_unknown(f"the client was closed during {asked}"))
        if isinstance(outcome, Answer):
            return outcome
        lost = OutcomeUnknown(_unknown(f"the connection was lost during {asked}"))
        raise lost if outcome is None else outcome

    async def download(self, path: str, media_type: str) -> AsyncIterator[bytes]:
        """The body of an answer, as it comes. Raises `Unavailable` when the client is closed, what
        the server refuses with, and `ServerUnreachable` if the connection is lost on the way.
        """
        session = self._session_here()
        asked = f"GET {self.url}{API}{path}"
        headers = {**self._headers, "Accept": f"{media_type}, {PROBLEM}"}
        timeout = aiohttp.ClientTimeout(total=None, sock_read=self._timeout_s)
        try:
            async with session.get(
                self._url(path, None), headers=headers, allow_redirects=False, timeout=timeout
            ) as response:
                if response.status != 200 or response.content_type != media_type:
                    answer = await _answer(response, asked, write=False)
                    if answer.status >= 300:
                        raise error_of(answer)
                    raise answer.invalid(f"{answer.media_type or 'no media type'}")
                async for chunk in response.content.iter_chunked(DOWNLOAD_BYTES):
                    if self.closed:
                        raise self._closed_error()
                    yield chunk
        except aiohttp.ClientConnectorError as error:
            raise self._unreachable(error) from None
        except (aiohttp.ClientError, TimeoutError, OSError):
            if self.closed:
                raise self._closed_error() from None
            raise ServerUnreachable(
                f"the connection was lost in the middle of {asked}. Is the server still running?"
            ) from None

    async def _exchange(
        self,
        session: aiohttp.ClientSession,
        method: str,
        url: URL,
        data: bytes | AsyncIterator[bytes] | None,
        sent: SimpleNamespace,
        asked: str,
        write: bool,
        headers: Mapping[str, str] = NO_HEADERS,
        media_type: str = JSON,
        bounded: bool = True,
    ) -> Answer | EngramError | None:
        """The answer; or the error to raise; or None for a connection that broke on the way.

        Errors are returned, not raised, so that no aiohttp error becomes their context.
        """
        typed = {} if data is None else {"Content-Type": media_type}
        streamed = not isinstance(data, bytes | None)
        try:
            async with session.request(
                method,
                url,
                data=data,
                headers={**self._headers, **typed, **headers},
                allow_redirects=False,
                trace_request_ctx=sent,
                timeout=aiohttp.ClientTimeout(
                    total=self._timeout_s if bounded and not streamed else None,
                    sock_connect=self._timeout_s,
                ),
                expect100=streamed,
            ) as response:
                return await _answer(response, asked, write)
        except aiohttp.ClientResponseError as error:
            return _not_http(asked, error, write=write)
        except TimeoutError:
            if sent.any and write:
                return OutcomeUnknown(
                    _unknown(f"no answer within {self._timeout_s:g} s to {asked}")
                )
            return ServerUnreachable(
                f"no answer within {self._timeout_s:g} s to {asked}. Is the server overloaded, or "
                "the URL another's?"
            )
        except aiohttp.ClientConnectorError as error:
            return self._unreachable(error)
        except (aiohttp.ClientError, OSError) as error:
            return None if sent.any else self._unreachable(error)

    async def open_stream(
        self, path: str, parameters: Parameters, headers: Mapping[str, str]
    ) -> Stream | EngramError:
        """An event stream. Returns the error if it may be gone a moment later: no server there, a
        connection lost, an overloaded server. Raises all others.
        """
        session = self._session_here()
        asked = f"GET {self.url}{API}{path}"
        url = self._url(path, parameters)
        with self._scopes.scope() as scope:
            opened = await self._open(session, url, headers, asked)
        if scope.cancelled_caught:
            raise self._closed_error()
        if isinstance(opened, Answer):
            error = error_of(opened)
            if opened.status >= 500 or opened.status in _TRANSIENT:
                return error
            raise error
        if isinstance(opened, ServerAnswerInvalid):
            raise opened
        if isinstance(opened, Stream):
            self._streams.add(opened)
        return opened

    async def _open(
        self, session: aiohttp.ClientSession, url: URL, headers: Mapping[str, str], asked: str
    ) -> Stream | Answer | EngramError:
        """The stream, or the answer that came instead of one, or why none came."""
        try:
            async with asyncio.timeout(self._timeout_s):
                response = await session.get(
                    url,
                    headers={**self._headers, "Accept": f"{EVENT_STREAM}, {PROBLEM}", **headers},
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None),
                )
                if response.status == 200 and response.content_type == EVENT_STREAM:
                    return Stream(response, asked)
                async with response:
                    answer = await _answer(response, asked, write=False)
        except aiohttp.ClientResponseError as error:
            return _not_http(asked, error, write=False)
        except (aiohttp.ClientError, OSError) as error:
            return self._unreachable(error)
        if answer.status < 300:
            return answer.invalid(f"{answer.media_type or 'no media type'}, not {EVENT_STREAM}")
        return answer

    async def next_chunk(self, stream: Stream, silence_s: float) -> bytes:
        """What comes next on a stream; b"" once it has ended, broken or been silent too long."""
        chunk = b""
        with self._scopes.scope() as scope:
            try:
                async with asyncio.timeout(silence_s):
                    chunk = await stream.response.content.readany()
            except (aiohttp.ClientError, OSError):
                pass  # the reader connects again, whatever it was
        if scope.cancelled_caught or self.closed:
            raise self._closed_error()
        return chunk

    def close_stream(self, stream: Stream) -> None:
        """Idempotent. To be called in the client's event loop."""
        self._streams.discard(stream)
        stream.response.close()

    def drop_stream(self, stream: Stream) -> None:
        """As :meth:`close_stream`, from any thread and later: for a reader that was forgotten."""
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(self.close_stream, stream)
        except RuntimeError:
            pass  # the loop was closed, and its connections with it

    async def pause(self, seconds: float) -> None:
        with self._scopes.scope() as scope:
            await asyncio.sleep(seconds)
        if scope.cancelled_caught or self.closed:
            raise self._closed_error()

    async def close(self) -> None:
        """End what runs and close all connections. Idempotent."""
        if self._session is not None and asyncio.get_running_loop() is not self._loop:
            raise self._elsewhere_error()
        self._scopes.close()
        for stream in tuple(self._streams):
            self.close_stream(stream)
        if self._session is not None:
            await self._session.close()

    def _session_here(self) -> aiohttp.ClientSession:
        """The session, made in the loop that runs now; a client cannot move to another one."""
        if self.closed:
            raise self._closed_error()
        loop = asyncio.get_running_loop()
        if self._session is None:
            trace = aiohttp.TraceConfig()
            trace.on_request_headers_sent.append(_note_sent)
            self._loop = loop
            self._session = aiohttp.ClientSession(
                # Requests take turns already, and streams must not use up what they need.
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[trace],
                middlewares=(_never_repeat,),
            )
        elif loop is not self._loop:
            raise self._elsewhere_error()
        return self._session

    def _url(self, path: str, parameters: Parameters | None) -> URL:
        query = f"?{urlencode(parameters)}" if parameters else ""
        # Encoded already: yarl would take `%2E` or `+` for something else.
        return URL(f"{self.url}{API}{path}{query}", encoded=True)

    def _closed_error(self) -> Unavailable:
        return Unavailable(f"the client of {self.url} was closed; make a new one")

    def _elsewhere_error(self) -> Unavailable:
        return Unavailable(
            f"the client of {self.url} belongs to another event loop; make one in each loop"
        )

    def _unreachable(self, error: Exception) -> ServerUnreachable:
        reason = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        if isinstance(error, aiohttp.ClientConnectorSSLError):
            return ServerUnreachable(
                f"no server that speaks https can be reached at {self.url} ({text}). If it speaks "
                "http, as `engram serve` does, give its URL with http://"
            )
        return ServerUnreachable(
            f"no server can be reached at {self.url} ({text}). Is it running? `engram serve` "
            "starts one"
        )


async def _note_sent(
    session: aiohttp.ClientSession, context: SimpleNamespace, parameters: object
) -> None:
    """Called before the first byte of a request is written."""
    if context.trace_request_ctx is not None:
        context.trace_request_ctx.any = True


async def _never_repeat(
    request: aiohttp.ClientRequest, handler: ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a request again by itself once a connection broke."""
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, TimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise ConnectionLost(str(error)) from None


async def _answer(response: aiohttp.ClientResponse, asked: str, write: bool) -> Answer:
    """The answer in full; of one that is not ours, just its head."""
    media_type = response.content_type if "Content-Type" in response.headers else ""
    body = b""
    if 200 <= response.status < 300 and media_type == JSON:
        body = await response.read()
    elif media_type == PROBLEM:
        body = await _at_most(response.content, _ERROR_BODY_BYTES_MAX)
    incarnation = response.headers.get(INCARNATION)
    wait_s = retrying.retry_after_s(response.headers.get("Retry-After"))
    return Answer(asked, write, response.status, media_type, body, incarnation, wait_s)


async def _at_most(content: aiohttp.StreamReader, bytes_max: int) -> bytes:
    chunks: list[bytes] = []
    while bytes_max > 0 and (chunk := await content.read(bytes_max)):
        chunks.append(chunk)
        bytes_max -= len(chunk)
    return b"".join(chunks)


def _not_http(
    asked: str, error: aiohttp.ClientResponseError, *, write: bool
) -> ServerAnswerInvalid:
    return invalid_answer(
        f"{asked} was answered with what is not HTTP ({error.message[:200]})", write
    )


def _unknown(what: str) -> str:
    return f"{what}: the write may or may not have been done. Read before repeating it"


def _checked_url(url: object) -> str:
    """The root of a server, without a slash at its end."""
    example = "give one like http://127.0.0.1:7432"
    if not isinstance(url, str):
        raise Malformed(f"a server's URL is a string, not {type(url).__name__}; {example}")
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")  # as the system is asked for its address
    except ValueError:
        raise Malformed(f"the server's URL cannot be read; {example}") from None
    if parts.username is not None or parts.password is not None:
        raise Malformed("the server's URL holds a user name; give the key as api_key instead")
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise Malformed(f"{url[:200]!r} is not the URL of a server; {example}")
    if parts.query or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise Malformed(f"{url[:200]!r} is more than the URL of a server; {example}")
    # What the paths of requests begin with belongs to them, although it is often given here.
    path = parts.path.rstrip("/").removesuffix(API).rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}"


def _checked_key(api_key: object) -> str:
    """A key that can stand in a header. It is never shown, not even where it cannot be one."""
    if not isinstance(api_key, str) or not re.fullmatch(r"[!-~]+", api_key):
        raise Malformed("the API key must be one word of printable ASCII characters")
    return api_key


def seconds(name: str, value: object) -> float:
    number = math.nan
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            pass  # an int that no float can hold
    if not 0 < number < math.inf:
        raise Malformed(f"{name} must be a number of seconds above 0")
    return number
