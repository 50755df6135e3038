"""The server process: its socket, its signals, its start and its end.

The order matters. The ports are taken first, so that a taken one changes nothing on disk. Then the
data root is opened, then requests are answered, and only then is the ready line printed. On
SIGTERM or SIGINT requests in flight are finished (within a bound), the database is closed, and the
process ends with status 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import resource
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

import uvicorn

import engram
from engram.access.gate import Access
from engram.access.key_file import Keys, open_key_file
from engram.config import Serving
from engram.errors import EngramError, Malformed
from engram.server.app import build_app
from engram.server.audience import STREAMS_MAX, Room
from engram.server.default_space import DefaultSpace, Ensure
from engram.server.protocol import EngramProtocol
from engram.spaces.layout import CONTROL_DIR

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from engram import Database
    from engram.rpc.serving import GrpcServer

DRAIN_S_MAX: Final = 10
"""How long requests in flight may take to finish once the server was told to stop."""
CLOSE_S_MAX: Final = 20
"""How long draining and closing may take together before the process is ended the hard way."""
KEEP_ALIVE_S: Final = 65
"""How long an idle connection stays open: longer than the pools of usual clients keep theirs."""
SILENT_PEER_MS_MAX: Final = 60_000
"""How long what was sent may go unacknowledged before a connection counts as dead."""
BACKLOG_MAX: Final = 2_048
SWITCH_S: Final = 0.001
"""How long one thread may keep the interpreter while others want it; Python's own is five times as
much, which each step of a request would wait beside a busy space.
"""
ACCEPTED_AT_ONCE_MAX: Final = 64
"""asyncio tries so often to accept, and says so each time, when no more files may be opened."""
PORT_MAX: Final = 65_535

_LOG: Final = logging.getLogger("engram.server")
_STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


class PortUnavailable(EngramError):
    """The address cannot be listened on."""

    problem: ClassVar[str] = "port-unavailable"
    title: ClassVar[str] = "Port unavailable"


class GrpcPort(NamedTuple):
    """Where gRPC is served: a port that was `named` has to be free, another one need not be."""

    port: int
    named: bool


class Ready(NamedTuple):
    """What is served: the URL of HTTP, and host and port of gRPC, if that is served."""

    url: str
    grpc: str | None


def serve(
    data_root: Path,
    host: str,
    port: int,
    *,
    grpc: GrpcPort | None = None,
    announce: Callable[[Ready], None],
    opening: Serving,
    default_space: str | None = None,
    ensure: Ensure | None = None,
    require_explicit_space: bool = True,
) -> None:
    """Serve `data_root`, opened with `opening`, until told to stop; calls `announce` once requests
    are taken. gRPC is served on the same address, or not at all if `grpc` is None. `default_space`
    is made by `ensure` if it is not there; unless `require_explicit_space`, requests that name no
    space mean it.

    Raises :class:`Malformed` for a host or port that cannot be meant, and for one that others can
    reach where there is no access key; :class:`PortUnavailable`; `KeysDamaged`; and what opening
    the data root raises: `SpaceLocked` where another server has it, `DataRootUnusable`. Must be
    called in the main thread.
    """
    files_max = _raise_descriptor_limit()
    sys.setswitchinterval(SWITCH_S)
    local = is_local(host)
    if not local:
        _check_keys(data_root, host)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(contextlib.closing(listen(host, port)))
        url = url_of(listener)
        # Both servers live in one event loop. It does not run while the data root is opened, which
        # Ctrl-C is to break off.
        runner = stack.enter_context(asyncio.Runner(loop_factory=asyncio.SelectorEventLoop))
        rpc = None if grpc is None else runner.run(_bound(listener, grpc))
        if rpc is not None:
            stack.callback(lambda: runner.run(rpc.stop(0)))
        db = stack.enter_context(
            engram.open(
                data_root,
                create=True,
                exclusive=True,
                owner=f"engram serve, pid {os.getpid()}, {url}",
                **opening,
            )
        )
        keys = stack.enter_context(contextlib.closing(open_key_file(data_root)))
        access = stack.enter_context(contextlib.closing(Access(keys, required=not local)))
        default = None if default_space is None else DefaultSpace(default_space)
        if default is not None:
            default.prepare(db, ensure)
        app = build_app(
            db,
            access=access,
            # Half of the files are left to spaces and to other requests.
            room=Room(streams=max(1, min(STREAMS_MAX, files_max // 2))),
            default_space=None if require_explicit_space else default,
        )
        ready = Ready(url, None if rpc is None else f"{_authority(listener)}:{rpc.port}")
        server = _Server(
            _config(app),
            on_ready=lambda: announce(ready),
            on_stop=app.state.audiences.close,
            beside=None if rpc is None else _Beside(rpc, db, access, app),
        )
        runner.run(server.serve(sockets=[listener]))


def _config(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio",
        http=EngramProtocol,
        ws="none",
        lifespan="off",
        backlog=ACCEPTED_AT_ONCE_MAX,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S_MAX,
        server_header=False,
        proxy_headers=False,
        access_log=False,
        log_config=None,
    )


def _raise_descriptor_limit() -> int:
    """Open files up to what the system grants: each open space takes four (see the README).

    Shells give few by default, for programs that use select(2); this one does not.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Darwin reports a limit that it does not grant.
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class _Beside(NamedTuple):
    """The gRPC server, and what it is to serve."""

    server: GrpcServer
    db: Database
    access: Access
    app: Starlette

    async def start(self) -> None:
        from engram.rpc.calls import Door
        from engram.rpc.handlers import Handlers

        state = self.app.state
        door = Door(self.db, self.access, state.default_space)
        handlers = Handlers(door, state.audiences, state.limiter, state.turns)
        await self.server.start(handlers)


async def _bound(listener: socket.socket, wanted: GrpcPort) -> GrpcServer:
    """A gRPC server on the address of `listener`. Raises :class:`PortUnavailable`."""
    from engram.rpc.serving import GrpcServer, PortNotBound

    address, port = listener.getsockname()[0], wanted.port
    if port:
        # gRPC does not say why it cannot listen.
        try:
            listen(address, port, "--grpc-port").close()
        except PortUnavailable as error:
            if wanted.named:
                raise
            _LOG.warning("gRPC is served on a free port: %s", error)
            port = 0
    try:
        return await GrpcServer.bound(address, port)
    except PortNotBound as error:
        raise PortUnavailable(
            f"cannot listen on {address} port {port} for gRPC ({error}); choose another with "
            "--grpc-port, 0 for a free one, or off"
        ) from None


def listen(host: str, port: int, flag: str = "--port") -> socket.socket:
    """A listening socket; port 0 picks a free one."""
    if not 0 <= port <= PORT_MAX:
        raise Malformed(f"{flag} {port} is not a port; use 1 to {PORT_MAX}, or 0 for a free one")
    family, address = _address(host)
    try:
        # The protocol is named because asyncio turns Nagle's algorithm off only where it is: with
        # it, and a client that delays its acknowledgements, every answer would take 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise PortUnavailable(f"cannot listen on {address}: {error.strerror}") from None
    try:
        # A port whose last server has just ended may be taken again at once.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # A connection whose other end is gone without a word is noticed, streams being endless.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_PEER_MS_MAX)
        listener.bind((address, port))
        listener.listen(BACKLOG_MAX)
    except OSError as error:
        listener.close()
        raise PortUnavailable(_why_unavailable(address, port, error, flag)) from None
    return listener


def url_of(listener: socket.socket) -> str:
    return f"http://{_authority(listener)}:{listener.getsockname()[1]}"


def _authority(listener: socket.socket) -> str:
    address = listener.getsockname()[0]
    return f"[{address}]" if ":" in address else address


def is_local(host: str) -> bool:
    """Whether nobody but this machine can reach what listens on `host`."""
    return ipaddress.ip_address(_address(host)[1].partition("%")[0]).is_loopback


def _check_keys(data_root: Path, host: str) -> None:
    """Refuse to let other machines in where there is no key to know them by."""
    keys: Keys | None = None
    if Path(data_root, CONTROL_DIR).exists():
        with contextlib.closing(open_key_file(data_root)) as file:
            keys = file.read()
    now_us = time.time_ns() // 1_000
    if not keys or all(record.expired(now_us) for record in keys.values()):
        raise Malformed(
            f"--host '{host}' can be reached from other machines, and this data root has no access "
            f"key{'' if not keys else ' that has not expired'}. Make one with `engram keys create "
            f"--data-root {shlex.quote(str(data_root))} --all-spaces --scope admin`, then start "
            "again; or use 127.0.0.1 or ::1"
        )


def _address(host: str) -> tuple[socket.AddressFamily, str]:
    """The address that `host` names."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        found = []
    if not host or not found:
        raise Malformed(f"--host '{host}' is not an address of this machine; use 127.0.0.1")
    # One socket, one ready line: where a name has addresses of both families, IPv4 is served.
    return min((item[0], str(item[4][0])) for item in found)


def _why_unavailable(address: str, port: int, error: OSError, flag: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken; choose another with {flag}, or 0 for a free one"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"port {port} is not yours to use; choose one above 1023 with {flag}"
    return f"cannot listen on {address} port {port}: {error.strerror}"


class _Server(uvicorn.Server):
    """uvicorn's server, with a ready call and an end that is not a death by signal; and the gRPC
    server beside it, which starts and drains with it.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        on_ready: Callable[[], None],
        on_stop: Callable[[], None],
        beside: _Beside | None,
    ) -> None:
        super().__init__(config)
        self._beside = beside
        self._on_ready = on_ready
        self._on_stop = on_stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(BACKLOG_MAX)  # uvicorn's backlog means both
        if self._beside is not None:
            await self._beside.start()
        if not self.should_exit:
            self._on_ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own would raise the signal again at the end, and the exit status with it."""
        before = {number: signal.signal(number, self._stop) for number in _STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                # Closing the database is not to be broken off by an impatient second signal.
                signal.signal(number, signal.SIG_IGN if self.should_exit else handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        _end_hard_after(CLOSE_S_MAX)
        self._on_stop()
        if self._beside is None:
            await super().shutdown(sockets)
            return
        draining = asyncio.create_task(self._beside.server.stop(DRAIN_S_MAX))
        await super().shutdown(sockets)
        if self.force_exit:
            await self._beside.server.stop(0)
        await draining

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Only flags are set: a handler runs between any two steps of the main thread."""
        if self.should_exit and number == signal.SIGINT:
            # Ctrl-C twice: stop waiting for requests. They are cut, not undone.
            self.force_exit = True
        self.should_exit = True


def _end_hard_after(seconds: float) -> None:
    """End the process if it has not ended by then, for example because a disk does not answer.

    Nothing is lost by that: what was acknowledged is durable, and locks end with the process.
    """

    def end() -> None:
        _LOG.error("still not closed %s s after the signal; ending the process", seconds)
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
