"""The gRPC server: its port, its bounds, its start and its end.

It lives in the event loop of the HTTP server, beside it. The port is taken first, before anything
is made; calls are answered once there is a database, and until it stops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from engram.limits import BODY_BYTES_MAX
from engram.rpc.handlers import SERVICES, Handlers

if TYPE_CHECKING:
    from grpc.aio import Server

MESSAGE_BYTES_MAX: Final = 4 * BODY_BYTES_MAX
"""What gRPC itself refuses, without reading it; from BODY_BYTES_MAX on we do, and say more."""
KEEPALIVE_MS: Final = 60_000
"""How often a silent connection is asked whether it lives, streams being endless."""
KEEPALIVE_ANSWER_MS: Final = 20_000
PINGS_APART_MS_MIN: Final = 5_000
"""How often clients may ask the same; gRPC's own default ends connections for less than 5 min."""
METADATA_BYTES_MAX: Final = 64 << 10
_OPTIONS: Final = (
    # Else a second server would get half of the calls, where it should be refused the port.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_ANSWER_MS),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", PINGS_APART_MS_MIN),
)


class PortNotBound(Exception):
    """The address could not be listened on; gRPC does not say why."""


class GrpcServer:
    """A server that has its port. Made and used in one event loop."""

    def __init__(self, server: Server, port: int) -> None:
        self._server = server
        self._handlers: Handlers | None = None
        self._health = health.aio.HealthServicer()
        self.port = port

    @classmethod
    async def bound(cls, address: str, port: int) -> GrpcServer:
        """One that listens on a numeric address; port 0 picks a free one. Raises PortNotBound."""
        server = grpc.aio.server(options=_OPTIONS)
        host = f"[{address}]" if ":" in address else address
        try:
            return cls(server, server.add_insecure_port(f"{host}:{port}"))
        except RuntimeError as error:
            raise PortNotBound(str(error)) from None

    async def start(self, handlers: Handlers) -> None:
        """Answer calls, beside them those for health and reflection."""
        self._handlers = handlers
        self._server.add_generic_rpc_handlers(tuple(handlers.generic()))
        names = [service.full_name for service in SERVICES]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection(
            [*names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server
        )
        for name in ("", *names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, and give those in flight so long; what then still writes is waited
        for. Called again, with less, that is what counts.
        """
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)
        if self._handlers is not None:
            await self._handlers.rest()
