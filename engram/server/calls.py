"""Reading one request in full, within bounds, without deciding yet what is wrong with it.

The order of checks is part of the contract: which space, whether it exists, only then everything
else about the request. So what is wrong with parameters, headers or body is kept as a refusal in
the :class:`Call`, and raised by :meth:`Call.check` once the space has been found.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Final, TypeVar

from starlette.datastructures import Headers
from starlette.requests import Request

from engram.access.principal import Principal
from engram.errors import (
    EngramError,
    Malformed,
    TooLarge,
    UnsupportedMediaType,
)
from engram.limits import BODY_BYTES_MAX
from engram.server.conditions import NO_CONDITIONS, Conditions, read_conditions
from engram.server.query import Query, parse_query
from engram.server.resolver import SPACE_HEADER

LAST_EVENT_ID: Final = "Last-Event-ID"
_UTF8: Final = frozenset({"utf-8", "utf8"})


class UnsupportedEncoding(UnsupportedMediaType):
    """The body is compressed, or encoded in another way."""


class Call:
    """One request: where it points, who sends it, and what came with it."""

    principal: Principal
    """Who sends it; noted behind reading, so that whoever asks without that has noted none."""

    def __init__(
        self,
        *,
        path: Mapping[str, str],
        space_header: tuple[str, ...],
        last_event_ids: tuple[str, ...] = (),
        query: Query | None = None,
        query_string: bytes = b"",
        body: bytes = b"",
        conditions: Conditions = NO_CONDITIONS,
        refusal: EngramError | None = None,
    ) -> None:
        self.path = path
        self.space_header = space_header
        self.body = body
        self.conditions = conditions
        self.route = ""
        """What was asked for, whatever it was asked of: a method and a path with placeholders."""
        self._last_event_ids = last_event_ids
        self._query = query
        self._query_string = query_string
        self._refusal = refusal

    @property
    def query(self) -> Query:
        self.check()
        if self._query is None:
            raise RuntimeError("a call without a refusal has its parameters")
        return self._query

    @property
    def key_parts(self) -> tuple[bytes, ...] | None:
        """Which request this is, of those that are done once, and whose; None for any other."""
        key = self.conditions.key
        if key is None:
            return None
        caller = self.principal.key_id or ""
        return tuple(part.encode() for part in (caller, self.route, key))

    @property
    def request_parts(self) -> tuple[bytes, ...]:
        """All that it asks for, as it came."""
        path = [f"{name}={value}" for name, value in self.path.items() if name != "space"]
        etags = self.conditions.if_match
        condition = "*" if etags is None else ",".join(etags)
        named = (*sorted(path), condition)
        return (*(part.encode() for part in named), self._query_string, self.body)

    @property
    def last_event_id(self) -> str | None:
        ids = self._last_event_ids
        if len(ids) > 1:
            raise Malformed(f"the header {LAST_EVENT_ID} was sent {len(ids)} times; send it once")
        return ids[0] if ids else None

    @property
    def spaces(self) -> tuple[str, ...]:
        """The spaces that the parameters name, for what works on several at once."""
        return self.query.many("space")

    def attended(self) -> AbstractAsyncContextManager[None]:
        """To be held while the request is worked on."""
        return nullcontext()

    def check(self) -> None:
        """Raise what is wrong with the request apart from the space it names."""
        if self._refusal is not None:
            raise self._refusal


C = TypeVar("C", bound=Call)


async def read_call(
    request: Request,
    parameters: Collection[str],
    *,
    takes_body: bool,
    understood: Collection[str] = (),
    kind: type[C] = Call,  # type: ignore[assignment]  # the default of a type variable
) -> C:
    """Read a request; `understood` are the conditions, by their headers, that it may be sent under.

    Raises ClientDisconnect when the caller hangs up before its end.
    """
    path = request.path_params
    space_header = tuple(request.headers.getlist(SPACE_HEADER))
    last_event_ids = tuple(request.headers.getlist(LAST_EVENT_ID))
    try:
        conditions = read_conditions(request.headers, request.method, understood)
        query = parse_query(request.scope["query_string"], parameters)
        body = await _read_body(request)
        if body:
            _check_body_headers(request.headers, takes_body=takes_body)
    except EngramError as error:
        return kind(path=path, space_header=space_header, refusal=error)
    return kind(
        path=path,
        space_header=space_header,
        last_event_ids=last_event_ids,
        query=query,
        query_string=request.scope["query_string"],
        body=body,
        conditions=conditions,
    )


async def _read_body(request: Request) -> bytes:
    """The body, read no further than the limit: the rest is the server's to discard."""
    declared = request.headers.get("content-length")
    if declared is not None and declared.isdecimal() and int(declared) > BODY_BYTES_MAX:
        raise _too_large(f"has {declared} bytes")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_BYTES_MAX:
            raise _too_large("is larger")
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(what: str) -> TooLarge:
    return TooLarge(f"the body {what}; at most {BODY_BYTES_MAX} bytes are taken. Split the request")


def _check_body_headers(headers: Headers, *, takes_body: bool) -> None:
    if not takes_body:
        raise Malformed("this request takes no body; send none")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise UnsupportedEncoding(
            f"Content-Encoding '{encoding[:64]}' is not understood; send the body as it is"
        )
    content_type = headers.get("content-type")
    if content_type is None:
        return
    media_type, *parameters = (part.strip().lower() for part in content_type.split(";"))
    if media_type != "application/json":
        raise UnsupportedMediaType(
            f"Content-Type '{media_type[:64]}' is not understood; send application/json"
        )
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in _UTF8:
            raise UnsupportedMediaType("JSON is UTF-8 here; leave the charset out, or name utf-8")
