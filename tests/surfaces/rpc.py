"""A data root behind a real gRPC server on a thread's event loop, and stubs that speak to it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import grpc
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from grpc_status import rpc_status

import engram
from engram.access.gate import Access
from engram.access.key_file import KeyFile
from engram.rpc.calls import Door
from engram.rpc.handlers import Handlers
from engram.rpc.serving import GrpcServer
from engram.server.audience import Audiences
from engram.server.default_space import DefaultSpace
from engram.server.events import StreamOptions
from engram.server.turns import Turns
from engram.v1 import memories_pb2_grpc, spaces_pb2_grpc

HEARTBEAT_S = 0.2


class Refused(NamedTuple):
    """What a refused call was answered with."""

    code: str
    problem: str
    detail: str
    told: dict[str, str]
    fields: list[str]
    retry_s: int


class Served:
    """A server's data root, and stubs of its services."""

    def __init__(self, db: engram.Database, channel: grpc.Channel, audiences: Audiences) -> None:
        self.db = db
        self.channel = channel
        self.audiences = audiences
        self.memories = memories_pb2_grpc.MemoryServiceStub(channel)  # type: ignore[no-untyped-call]
        self.spaces = spaces_pb2_grpc.SpaceServiceStub(channel)  # type: ignore[no-untyped-call]

    def stub(self, service: str, name: str) -> Any:
        return getattr(self.memories if service == "MemoryService" else self.spaces, name)


@contextmanager
def served(
    root: Path, keys: KeyFile | None = None, default_space: DefaultSpace | None = None
) -> Iterator[Served]:
    with engram.open(root) as db:
        access = Access(keys)
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="rpc")
        thread.start()

        async def start() -> tuple[GrpcServer, Audiences]:
            audiences = Audiences(access)
            server = await GrpcServer.bound("127.0.0.1", 0)
            options = StreamOptions(heartbeat_s=HEARTBEAT_S)
            door = Door(db, access, default_space)
            await server.start(
                Handlers(door, audiences, anyio.CapacityLimiter(8), Turns(), options)
            )
            return server, audiences

        async def stop(server: GrpcServer, audiences: Audiences) -> None:
            audiences.close()
            await server.stop(5)

        server, audiences = asyncio.run_coroutine_threadsafe(start(), loop).result(30)
        try:
            with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
                yield Served(db, channel, audiences)
        finally:
            asyncio.run_coroutine_threadsafe(stop(server, audiences), loop).result(30)
            access.close()
            loop.call_soon_threadsafe(loop.stop)
            thread.join(30)
            loop.close()


def refusal(error: grpc.RpcError) -> Refused:
    """What an error of a call says."""
    status = rpc_status.from_call(error)
    assert status is not None, error
    info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
    for detail in status.details:
        assert any(detail.Unpack(kind) for kind in (info, bad, retry))
    assert info.domain == "engram.dev"
    assert info.metadata["type"].endswith(f"/{info.reason}")
    fields = [violation.field for violation in bad.field_violations]
    return Refused(
        error.code().name,
        info.reason,
        error.details(),
        dict(info.metadata),
        fields,
        retry.retry_delay.seconds,
    )


def outcome(
    stub: Any, request: Any, metadata: Sequence[tuple[str, str]] = ()
) -> tuple[Any, Refused | None]:
    """What a call of any kind came to: its answers, and what it was refused with at its end.

    A request that is a list is a stream of messages. Of an endless stream one answer is taken.
    """
    try:
        sent = iter(request) if isinstance(request, list) else request
        call = stub(sent, metadata=metadata, timeout=30)
        if not hasattr(call, "cancel"):
            return [call], None
        first = next(call, None)
        call.cancel()
        return [] if first is None else [first], None
    except grpc.RpcError as error:
        return [], refusal(error)
