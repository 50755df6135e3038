"""Every method of every service, and the one way that all calls go.

    authenticate -> name a space -> may it be seen, is it there, may this be done -> all the rest

Messages come as bytes; large ones are read in worker threads, where all else is done too. A call
that is given up by its caller, or by its deadline, is not broken off where it writes: it is done or
not done, and only its caller does not know which. What has not begun by then is not begun.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar
from urllib.parse import unquote

import anyio
import anyio.to_thread
import grpc
import grpc.aio
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_status import rpc_status

from engram.errors import EngramError, SpaceConflict, Unavailable
from engram.rpc.calls import Call, Door, Rpc
from engram.rpc.memories import MEMORY_RPCS
from engram.rpc.refusals import status_of
from engram.rpc.spaces import SPACE_RPCS
from engram.rpc.streams import MEMORY_STREAMS, SPACE_STREAMS, StreamRpc
from engram.server.audience import Audiences
from engram.server.default_space import DEPRECATION
from engram.server.events import DEFAULT_STREAMS, END_S_MAX, StreamOptions
from engram.server.forks import fork_limiter
from engram.server.transfers import import_limiter
from engram.server.turns import Turns, Work, work_of
from engram.v1 import memories_pb2, spaces_pb2

SERVICES: Final = {
    memories_pb2.DESCRIPTOR.services_by_name["MemoryService"]: (MEMORY_RPCS, MEMORY_STREAMS),
    spaces_pb2.DESCRIPTOR.services_by_name["SpaceService"]: (SPACE_RPCS, SPACE_STREAMS),
}
READ_AT_ONCE_BYTES_MAX: Final = 64 << 10
_DEPRECATED: Final = (
    ("deprecation", DEPRECATION),
    ("warning", "no memory space was named, and the default space stood in; name one"),
)
_LOG: Final = logging.getLogger("engram.server")
_T = TypeVar("_T")
_M = TypeVar("_M", bound=Message)
Context = grpc.aio.ServicerContext[Any, Any]


class Handlers:
    """What serves the calls of one server."""

    def __init__(
        self,
        door: Door,
        audiences: Audiences,
        limiter: anyio.CapacityLimiter,
        turns: Turns,
        options: StreamOptions = DEFAULT_STREAMS,
    ) -> None:
        """`limiter` bounds the worker threads of all that is not slow."""
        self._door = door
        self._audiences = audiences
        self._limiter = limiter
        self._turns = turns
        self._options = options
        self._at_work: set[asyncio.Future[Any]] = set()

    def generic(self) -> list[grpc.GenericRpcHandler]:
        """What a server is to be given."""
        return [
            grpc.method_handlers_generic_handler(
                service.full_name,
                {
                    **{rpc.name: self._unary(service, rpc) for rpc in rpcs},
                    **{rpc.name: self._stream(service, rpc) for rpc in streams},
                },
            )
            for service, (rpcs, streams) in SERVICES.items()
        ]

    async def rest(self) -> None:
        """Wait for what goes on though its caller has left."""
        if self._at_work:
            await asyncio.wait(self._at_work)

    def _unary(self, service: ServiceDescriptor, rpc: Rpc) -> grpc.RpcMethodHandler[Any, Any]:
        kind = GetMessageClass(service.methods_by_name[rpc.name].input_type)
        limiter = fork_limiter if rpc.slow else self._limiter

        async def handle(data: bytes, context: Context) -> bytes:
            async def run(call: Call) -> bytes:
                message = await self._taken(call, kind, data)

                def work() -> bytes:
                    subject = call.space(message, rpc.charge) if rpc.inside else call
                    return rpc.run(subject, message).SerializeToString()

                kind_of_work = work_of(call.need(message))
                async with self._turns.turn(call.seems_to_mean(message), kind_of_work):
                    return await self._work(call, work, limiter)

            return await self._answer(context, rpc, run)

        return grpc.unary_unary_rpc_method_handler(handle)

    async def _taken(self, call: Call, kind: type[_M], data: bytes) -> _M:
        """The message that some bytes hold; reading large ones would hold up the others."""
        if len(data) <= READ_AT_ONCE_BYTES_MAX:
            return call.take(kind, data)
        return await self._work(call, lambda: call.take(kind, data), self._limiter)

    def _stream(
        self, service: ServiceDescriptor, rpc: StreamRpc
    ) -> grpc.RpcMethodHandler[Any, Any]:
        method = service.methods_by_name[rpc.name]

        async def take_one(data: bytes, context: Context) -> None:
            await self._answer(context, rpc, lambda call: self._run(call, context, rpc, [data]))

        async def take_many(_: object, context: Context) -> bytes:
            run = self._answer(context, rpc, lambda call: self._run(call, context, rpc, None))
            return await run or b""

        return _method_handler(method, take_many if method.client_streaming else take_one)

    async def _run(
        self, call: Call, context: Context, rpc: StreamRpc, came: list[bytes] | None
    ) -> bytes | None:
        channel = _Channel(self, call, context, rpc, came)
        answer = await rpc.run(call, channel)
        return None if answer is None else answer.SerializeToString()

    async def _answer(
        self,
        context: Context,
        rpc: Rpc | StreamRpc,
        run: Callable[[Call], Awaitable[_T]],
    ) -> _T:
        """The one way of every call; `run` does what is its own."""
        call: Call | None = None
        refused: EngramError
        try:
            metadata = context.invocation_metadata() or ()
            call = Call(self._door, rpc.operation, metadata, _address_of(context.peer()))
            answer = await run(call)
            if call.deprecated:
                context.set_trailing_metadata(_DEPRECATED)
            return answer
        except EngramError as error:
            refused = error
        except (asyncio.CancelledError, grpc.aio.AbortError):
            raise
        except Exception:
            _LOG.exception("unexpected error: rpc=%s", rpc.name)
            refused = EngramError(
                "the server met an error it did not expect; its log says more. Whether a write was "
                "done is not known: read before repeating it"
            )
        await self._refuse(context, refused, call)
        raise refused  # not reached: what ends a call does not return

    async def _refuse(self, context: Context, error: EngramError, call: Call | None) -> None:
        # Where two spaces were named, neither of them is "the" space of the call.
        named = None if call is None or isinstance(error, SpaceConflict) else call.space_id
        if error.status >= 500 and error.problem != EngramError.problem:
            level = logging.INFO if isinstance(error, Unavailable) else logging.WARNING
            _LOG.log(
                level, "call failed: problem=%s space=%s detail=%s", error.problem, named, error
            )
        status = rpc_status.to_status(status_of(error, named, call.told if call else None))
        trailing = tuple(status.trailing_metadata or ())
        if call is not None and call.deprecated:
            trailing += _DEPRECATED
        await context.abort(status.code, status.details or "", trailing)

    async def _work(self, call: Call, work: Callable[[], _T], limiter: anyio.CapacityLimiter) -> _T:
        """What `work` returns, done in a worker thread, to its end if it has begun."""

        def unless_left() -> _T:
            if call.left.is_set():
                raise Unavailable("the caller left before it was begun; nothing was done")
            return work()

        task = asyncio.ensure_future(anyio.to_thread.run_sync(unless_left, limiter=limiter))
        self._at_work.add(task)
        task.add_done_callback(self._done)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            call.left.set()
            raise

    def _done(self, task: asyncio.Future[Any]) -> None:
        self._at_work.discard(task)
        if not task.cancelled():
            task.exception()  # of a call that was left there is nobody to tell


class _Channel:
    """The way to the other side of one call that streams."""

    def __init__(
        self,
        handlers: Handlers,
        call: Call,
        context: Context,
        rpc: StreamRpc,
        came: list[bytes] | None,
    ) -> None:
        """`came` is the one message of a call that takes no stream."""
        self.audiences = handlers._audiences
        self.options = handlers._options
        self._handlers = handlers
        self._transfers = rpc.transfers
        self._limiter = import_limiter if rpc.transfers else handlers._limiter
        self._call = call
        self._context = context
        self._came = came
        self._bound: anyio.CancelScope | None = None

    async def work(self, work: Callable[[], _T]) -> _T:
        kind: Work | None = "writes" if self._came is None and not self._transfers else None
        async with self._handlers._turns.turn(self._call.space_id, kind):
            return await self._handlers._work(self._call, work, self._limiter)

    async def take(self, kind: type[_M]) -> _M | None:
        if self._came is not None:
            data: Any = self._came.pop() if self._came else grpc.aio.EOF
        else:
            data = await self._context.read()
        return None if data is grpc.aio.EOF else self._call.take(kind, data)

    async def send(self, message: Message) -> None:
        try:
            with anyio.fail_after(self.options.write_s) as self._bound:
                await self._context.write(message.SerializeToString())
        except TimeoutError:
            raise Unavailable(
                f"nothing was taken for {self.options.write_s:g} s. Go on behind the last position "
                "that was told"
            ) from None
        finally:
            self._bound = None

    def cut(self) -> None:
        if self._bound is not None:
            soon = anyio.current_time() + END_S_MAX
            self._bound.deadline = min(self._bound.deadline, soon)


def _address_of(peer: str) -> str:
    """The address in what gRPC says of the other side: `ipv4:127.0.0.1:49152`."""
    return unquote(peer).partition(":")[2].rpartition(":")[0] or peer


def _method_handler(
    method: MethodDescriptor, handle: Callable[[Any, Context], Awaitable[Any]]
) -> grpc.RpcMethodHandler[Any, Any]:
    if not method.server_streaming:
        return grpc.stream_unary_rpc_method_handler(handle)
    if method.client_streaming:
        return grpc.stream_stream_rpc_method_handler(handle)
    return grpc.unary_stream_rpc_method_handler(handle)
