"""The ASGI application: routing, worker threads, and every error as a problem document.

Each request goes the same way: find out which space it means, read it within bounds, then do the
rest (opening the space, decoding, the engine, encoding) in a worker thread, never on the event
loop. Nothing of an unexpected exception leaves the process; it is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from engram.access.gate import Access, admit
from engram.errors import (
    EngramError,
    MethodNotAllowed,
    OutcomeUnknown,
    RouteNotFound,
    SpaceConflict,
    Unavailable,
)
from engram.server.admission import Authentication, admitted_space, principal_of_scope
from engram.server.answers import Answer
from engram.server.audience import DEFAULT_ROOM, Audiences, Room
from engram.server.calls import Call, UnsupportedEncoding, read_call
from engram.server.conditions import REPLAYED_HEADER
from engram.server.default_space import DefaultSpace, DefaultSpaceFallback
from engram.server.events import (
    DEFAULT_STREAMS,
    STREAM_OPERATIONS,
    EventStream,
    StreamOperation,
    StreamOptions,
    Subscription,
    subscribe,
)
from engram.server.forks import FORK, fork_limiter, read_fork_call, run_fork
from engram.server.load import DEFAULT_BOUNDS, Bounds, Load
from engram.server.middleware import BodyDrain, LocalOnly, PathGuard, UpgradeGuard
from engram.server.openapi.document import encoded_document
from engram.server.openapi.page import docs_page
from engram.server.problems import problem_of
from engram.server.request_ids import RequestIds
from engram.server.resolver import SPACE_HEADER, NameSpace, named_space, resolve
from engram.server.responses import problem_response
from engram.server.rest import (
    API,
    CHARGES,
    INCARNATION_HEADER,
    NOT_MODIFIED,
    REGISTRY_OPERATIONS,
    SPACE_OPERATIONS,
    RegistryOperation,
    SpaceOperation,
)
from engram.server.transfers import (
    EXPORT,
    IMPORT,
    BundleStream,
    TransferOperation,
    begin_export,
    import_limiter,
    read_import_call,
    run_import,
)
from engram.server.turns import Turns, work_of

if TYPE_CHECKING:
    from engram import Database

WORKER_THREADS_MAX: Final = 64
"""Requests at work at once. Most of them wait for one fdatasync that they share."""

_LOG: Final = logging.getLogger("engram.server")
_T = TypeVar("_T")
_Endpoint = Callable[[Request], Awaitable[Response]]


_STOPPED: Final[Mapping[tuple[Any, ...], EngramError]] = {
    IMPORT: Unavailable("the server stopped before the bundle had come; nothing was made"),
    FORK: OutcomeUnknown(
        "the server stopped while the copy was made. See whether it is there; if not, the same "
        "request goes on with what was embedded"
    ),
}
"""What those are told at the end of the server who have waited for it in vain."""


class _SegmentConvertor(Convertor[str]):
    """One part of a path, even an empty one: it is then refused as a space id, not as a route."""

    regex = "[^/]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


def build_app(
    db: Database,
    streams: StreamOptions = DEFAULT_STREAMS,
    *,
    access: Access | None = None,
    room: Room = DEFAULT_ROOM,
    default_space: DefaultSpace | None = None,
    bounds: Bounds = DEFAULT_BOUNDS,
) -> Starlette:
    """The HTTP surface of `db`: REST, and feeds as server-sent events; for whom `access` lets in,
    which without one is whoever reaches it from this machine. With `default_space`, requests need
    not name one.

    The caller closes `app.state.audiences` when the server stops, which ends the streams, and `db`
    after the last request. `app.state.limiter` bounds its worker threads.
    """
    register_url_convertor("segment", _SegmentConvertor())
    limiter = anyio.CapacityLimiter(WORKER_THREADS_MAX)
    access = access or Access(None)
    audiences = Audiences(access, room)
    middleware = [
        Middleware(RequestIds),
        Middleware(BodyDrain),
        Middleware(LocalOnly, access=access),
        Middleware(Authentication, access=access),
        Middleware(PathGuard),
        Middleware(UpgradeGuard),
        Middleware(Load, bounds=bounds),
    ]
    if default_space is not None:
        middleware.append(Middleware(DefaultSpaceFallback, default=default_space))
    app = Starlette(
        routes=[*_routes(db, limiter, audiences, streams), *_ROUTES_OUTSIDE],
        middleware=middleware,
        exception_handlers={HTTPException: _http_exception},
    )
    # A slash at the end is another path: redirecting would lose the body of a POST.
    app.router.redirect_slashes = False
    app.state.audiences = audiences
    app.state.default_space = default_space
    app.state.turns = Turns()
    app.state.limiter = limiter
    return app


def _routes(
    db: Database,
    limiter: anyio.CapacityLimiter,
    audiences: Audiences,
    streams: StreamOptions,
) -> list[Route]:
    """One route per path, so that a 405 can name every method the path knows."""
    methods: dict[str, dict[str, _Endpoint]] = {}

    def add(path: str, method: str, endpoint: _Endpoint) -> None:
        methods.setdefault(API + path, {})[method] = endpoint

    for operation in REGISTRY_OPERATIONS:
        path = operation.path.replace("{space}", "{space:segment}")
        add(path, operation.method, _on_registry(db, limiter, operation))
    for space_operation in SPACE_OPERATIONS:
        endpoint = _in_space(db, limiter, space_operation)
        for prefix in ("/spaces/{space:segment}", ""):
            add(prefix + space_operation.path, space_operation.method, endpoint)

    export = _endpoint(EXPORT, partial(begin_export, db), BundleStream, limiter, resolve)
    for prefix in ("/spaces/{space:segment}", ""):
        add(prefix + EXPORT.path, EXPORT.method, export)
    copy = partial(run_fork, db)
    fork = _endpoint(FORK, copy, _response, fork_limiter, resolve, read_fork_call)
    for prefix in ("/spaces/{space:segment}", ""):
        add(prefix + FORK.path, FORK.method, fork)
    path = IMPORT.path.replace("{space}", "{space:segment}")
    build = partial(run_import, db)
    receive = _endpoint(IMPORT, build, _response, import_limiter, resolve, read_import_call)
    add(path, IMPORT.method, receive)

    def respond(subscription: Subscription) -> Response:
        audiences.check_room(subscription)
        return EventStream(subscription, audiences, streams)

    for stream in STREAM_OPERATIONS:
        path = stream.path.replace("{space}", "{space:segment}")
        work = partial(subscribe, db)
        add(path, "GET", _endpoint(stream, work, respond, limiter, stream.name_space))
    return [
        Route(path, _by_method(endpoints), methods=list(endpoints))
        for path, endpoints in methods.items()
    ]


def _by_method(endpoints: Mapping[str, _Endpoint]) -> _Endpoint:
    async def endpoint(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await endpoints[method](request)

    return endpoint


def _in_space(db: Database, limiter: anyio.CapacityLimiter, operation: SpaceOperation) -> _Endpoint:
    charge = CHARGES.get(operation.run)

    def work(call: Call) -> Response:
        space = admitted_space(db, call, operation.need)
        if charge is not None:
            space.charge(charge)
        call.check()
        call.route = f"{operation.method} {operation.path}"
        response = _response(operation.run(space, call))
        response.headers[INCARNATION_HEADER] = space.incarnation
        return response

    read = partial(read_call, understood=operation.understood)
    return _endpoint(operation, work, _as_it_is, limiter, resolve, read)


def _on_registry(
    db: Database, limiter: anyio.CapacityLimiter, operation: RegistryOperation
) -> _Endpoint:
    def work(call: Call) -> Response:
        space_id = call.path.get("space")
        if space_id is not None or operation.need.makes:
            admit(db, call.principal, space_id or "", operation.need)
        return _response(operation.run(db, call))

    return _endpoint(operation, work, _as_it_is, limiter, named_space)


def _endpoint(
    operation: SpaceOperation | RegistryOperation | StreamOperation | TransferOperation,
    work: Callable[[Any], _T],
    respond: Callable[[_T], Response],
    limiter: anyio.CapacityLimiter,
    name_space: NameSpace,
    read: Callable[..., Awaitable[Call]] = read_call,
) -> _Endpoint:
    """`work` runs in a worker thread, `respond` turns what it returns into a response here."""
    kind = work_of(operation.need)

    async def endpoint(request: Request) -> Response:
        space_id: str | None = None
        try:
            header = tuple(request.headers.getlist(SPACE_HEADER))
            space_id = name_space(request.path_params.get("space"), header)
            try:
                call = await read(request, operation.parameters, takes_body=operation.takes_body)
            except anyio.get_cancelled_exc_class():
                # Only the end of the server cancels, after it has waited. Answer at once: the
                # event loop is about to go.
                return _refused(
                    Unavailable("the server stopped before the body had come; nothing was done"),
                    space_id,
                )
            call.principal = principal_of_scope(request.scope)
            async with call.attended(), request.app.state.turns.turn(space_id, kind):
                return respond(await anyio.to_thread.run_sync(work, call, limiter=limiter))
        except anyio.get_cancelled_exc_class():
            if operation not in _STOPPED:
                raise
            return _refused(_STOPPED[operation], space_id)
        except ClientDisconnect:
            # Nobody is left to read this; the request was never whole, so nothing was done.
            return Response(status_code=400)
        except EngramError as error:
            return _refused(error, space_id)
        except Exception:
            _LOG.exception("unexpected error: method=%s route=%s", request.method, operation.path)
            return _refused(
                EngramError(
                    "the server met an error it did not expect; its log says more. Whether a write "
                    "was done is not known: read before repeating it"
                ),
                space_id,
            )

    return endpoint


def _as_it_is(response: Response) -> Response:
    return response


def _response(answer: Answer) -> Response:
    headers = {}
    if answer.location is not None:
        headers["location"] = answer.location
    if answer.etag is not None:
        headers["etag"] = f'"{answer.etag}"'
    if answer.replayed:
        headers[REPLAYED_HEADER] = "true"
    if answer.status == NOT_MODIFIED:
        return Response(status_code=NOT_MODIFIED, headers=headers)
    return Response(answer.encoded(), answer.status, headers, media_type="application/json")


def _outside(respond: Callable[[Request], Response]) -> _Endpoint:
    """What is served beside the API: without parameters, and about no space."""

    async def endpoint(request: Request) -> Response:
        try:
            (await read_call(request, (), takes_body=False)).check()
        except ClientDisconnect:
            return Response(status_code=400)
        except EngramError as error:
            return _refused(error)
        return respond(request)

    return endpoint


def _healthz(request: Request) -> Response:
    """The process is up and answers; it says nothing about any space."""
    return Response(b'{"status":"ok"}', media_type="application/json")


def _openapi(request: Request) -> Response:
    explicit = request.app.state.default_space is None
    return Response(encoded_document(explicit=explicit), media_type="application/json")


def _docs(request: Request) -> Response:
    page = docs_page()
    headers = {"content-security-policy": page.policy, "x-content-type-options": "nosniff"}
    return Response(page.html, headers=headers, media_type="text/html")


_ROUTES_OUTSIDE: Final = [
    Route("/healthz", _outside(_healthz)),
    Route("/openapi.json", _outside(_openapi)),
    Route("/docs", _outside(_docs)),
]


def _refused(error: EngramError, space_id: str | None = None) -> Response:
    # Where two spaces were named, neither of them is "the" space of the request.
    named = None if isinstance(error, SpaceConflict) else space_id
    problem = problem_of(error, memory_space_id=named)
    if problem.status >= 500 and error.problem != EngramError.problem:
        _LOG.warning(
            "request failed: problem=%s space=%s detail=%s",
            error.problem,
            problem.memory_space_id,
            error.detail,
        )
    # RFC 9110, 12.5.3: so that the sender knows what would be understood.
    encodings = {"Accept-Encoding": "identity"} if isinstance(error, UnsupportedEncoding) else None
    return problem_response(problem, encodings)


async def _http_exception(request: Request, exception: Exception) -> Response:
    """Starlette's own refusals: no such route, or not with this method."""
    path = request.scope["path"]
    headers = exception.headers if isinstance(exception, HTTPException) else None
    if headers and "Allow" in headers:
        allow = ", ".join(sorted(headers["Allow"].split(", ")))
        detail = f"{request.method} does not work on {path}; these do: {allow}"
        return problem_response(problem_of(MethodNotAllowed(detail)), {"Allow": allow})
    detail = f"nothing is served at {path}; the API begins at {API}/spaces"
    return problem_response(problem_of(RouteNotFound(detail)))
