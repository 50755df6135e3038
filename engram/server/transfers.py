"""Bundles over HTTP: sent and received as they come, in pieces, never held as a whole.

Reading a space's log and building a space both block, so they are done in worker threads of their
own number; while a client is slow, an export waits here and holds none of them. An import does hold
one, so slow uploads may keep others waiting, but no export. A bundle that cannot be sent to its end
is cut off: its client sees a broken connection, and a bundle without an end besides.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

import anyio
import anyio.from_thread
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from engram.access.gate import admit
from engram.access.principal import NEEDS, Need
from engram.bundles.codec import MEDIA_TYPE
from engram.errors import EngramError, Malformed, UnsupportedMediaType
from engram.server.admission import admitted_space
from engram.server.answers import Answer
from engram.server.calls import Call, UnsupportedEncoding
from engram.server.conditions import idempotency_key
from engram.server.query import parse_query
from engram.server.resolver import SPACE_HEADER, resolve
from engram.server.rest import space_path
from engram.server.wire import origin_document

if TYPE_CHECKING:
    from engram import Database
    from engram.bundles.outgoing import Outgoing

TRANSFERS_AT_WORK_MAX: Final = 8
"""Threads that read for exports at once, and that build imports; others wait for their turn."""
RECEIVE_S_MAX: Final = 30.0
"""How long a client may be silent in the middle of a bundle."""
SEND_BYTES: Final = 256 << 10
TAKEN_TYPES: Final = frozenset({MEDIA_TYPE, "application/octet-stream"})

_LOG: Final = logging.getLogger("engram.server")
import_limiter: Final = anyio.CapacityLimiter(TRANSFERS_AT_WORK_MAX)
_export_limiter: Final = anyio.CapacityLimiter(TRANSFERS_AT_WORK_MAX)


class TransferOperation(NamedTuple):
    """One route that sends or takes a bundle."""

    method: str
    path: str
    need: Need
    parameters: frozenset[str] = frozenset()
    takes_body: bool = False


EXPORT: Final = TransferOperation("GET", "/export", NEEDS["export"])
"""Inside a space; served below `/spaces/{space}` and, for a space named by the header, without."""
IMPORT: Final = TransferOperation(
    "POST", "/spaces/{space}/import", NEEDS["import"], takes_body=True
)


class ImportCall(Call):
    """A request whose body is a bundle, which has not been read yet."""

    request: Request

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes; for a worker thread. Raises ClientDisconnect."""
        stream = self.request.stream()

        async def following() -> bytes:
            try:
                with anyio.fail_after(RECEIVE_S_MAX):
                    async for chunk in stream:
                        if chunk:
                            return chunk
            except anyio.get_cancelled_exc_class():
                # Only the end of the server cancels, after it has waited. The bundle is cut short.
                return b""
            except TimeoutError:
                raise Malformed(
                    f"nothing more of the bundle came for {RECEIVE_S_MAX:g} s. Nothing was made"
                ) from None
            return b""

        while chunk := anyio.from_thread.run(following):
            yield chunk


async def read_import_call(
    request: Request, parameters: Collection[str], *, takes_body: bool
) -> ImportCall:
    """All of a request but its body."""
    refusal, query = None, None
    try:
        idempotency_key(request.headers)
        query = parse_query(request.scope["query_string"], parameters)
        _check_media_type(request)
    except EngramError as error:
        refusal = error
    call = ImportCall(
        path=request.path_params,
        space_header=tuple(request.headers.getlist(SPACE_HEADER)),
        query=query,
        refusal=refusal,
    )
    call.request = request
    return call


def _check_media_type(request: Request) -> None:
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise UnsupportedEncoding(
            f"Content-Encoding '{encoding[:64]}' is not understood; send the bundle as it is"
        )
    media_type = request.headers.get("content-type", MEDIA_TYPE).partition(";")[0].strip().lower()
    if media_type not in TAKEN_TYPES:
        raise UnsupportedMediaType(
            f"Content-Type '{media_type[:64]}' is not understood; send the bundle as {MEDIA_TYPE}"
        )


def begin_export(db: Database, call: Call) -> Outgoing:
    """What `GET …/export` asks for. Blocks while the space opens."""
    space = admitted_space(db, call, EXPORT.need)
    call.check()
    return space.outgoing()


def run_import(db: Database, call: ImportCall) -> Answer:
    """What `POST …/import` asks for: blocks until all of the bundle has come and is durable."""
    space_id = resolve(call.path["space"], call.space_header)
    admit(db, call.principal, space_id, IMPORT.need)
    call.check()
    space = db.receive_space(space_id, call.chunks())
    return Answer(201, origin_document(space), space_path(space.id))


class BundleStream(Response):
    """The response that sends a bundle."""

    media_type = MEDIA_TYPE

    def __init__(self, bundle: Outgoing) -> None:
        self._bundle = bundle
        super().__init__()
        del self.headers["content-length"]
        name = f"{bundle.memory_space_id}-{bundle.position}.engram"
        self.headers["content-disposition"] = f'attachment; filename="{name}"'
        self.headers["engram-position"] = str(bundle.position)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        if scope["method"] == "HEAD":
            await send(head)
            await send({"type": "http.response.body", "body": b""})
            return
        try:
            await send(head)
            async for data in _in_threads(self._bundle.chunks()):
                await send({"type": "http.response.body", "body": data, "more_body": True})
        except (EngramError, OSError) as error:
            if isinstance(error, EngramError):
                _LOG.warning("an export ended: problem=%s detail=%s", error.problem, error.detail)
            abort = scope.get("state", {}).get("abort_connection")
            if abort is None:
                raise
            abort()
            await asyncio.sleep(0)
            return
        await send({"type": "http.response.body", "body": b""})


async def _in_threads(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """What is taken from an iterator that blocks, joined to pieces that are worth a thread."""

    def following() -> bytes:
        parts, size = list[bytes](), 0
        for chunk in chunks:
            parts.append(chunk)
            size += len(chunk)
            if size >= SEND_BYTES:
                break
        return b"".join(parts)

    while data := await anyio.to_thread.run_sync(following, limiter=_export_limiter):
        yield data
