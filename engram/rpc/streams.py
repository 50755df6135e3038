"""The calls that send or take more than one message.

Each begins as all others do: who makes it, which space it means, whether that is there. Reading a
log, storing and building block, and are done in worker threads; while the other side is slow, it is
waited for here, where that holds up nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

import anyio
import anyio.from_thread
from google.protobuf.message import Message

from engram.errors import Malformed, Unauthenticated, Unavailable
from engram.rpc.calls import Call
from engram.rpc.memories import remembered, remembering
from engram.rpc.requests import optional
from engram.rpc.spaces import made_space
from engram.rpc.values import told
from engram.server.audience import Audiences
from engram.server.events import StreamOptions, Subscription, following, seats_of
from engram.server.transfers import RECEIVE_S_MAX, SEND_BYTES
from engram.v1 import memories_pb2, spaces_pb2, types_pb2
from engram.v1.memories_pb2 import EventsResponse

if TYPE_CHECKING:
    from engram import Space
    from engram.bundles.outgoing import Outgoing

IDS_TOLD_MAX: Final = 10_000
"""How many ids RememberMany tells, so that its answer stays one that any client takes."""
_T = TypeVar("_T")
_M = TypeVar("_M", bound=Message)


class Channel(Protocol):
    """One call's way to the other side, and to worker threads."""

    audiences: Audiences
    options: StreamOptions

    async def work(self, work: Callable[[], _T]) -> _T:
        """What `work` returns, which blocks."""
        ...

    async def take(self, kind: type[_M]) -> _M | None:
        """The next message; None once all have come."""
        ...

    async def send(self, message: Message) -> None:
        """Raises :class:`engram.errors.Unavailable` if nobody takes it."""
        ...

    def cut(self) -> None:
        """What is being sent is to be taken soon, or not at all."""
        ...


class StreamRpc(NamedTuple):
    """A method that sends or takes a stream; what it returns is sent as its last message.

    `transfers` says that it moves a bundle, for which there are threads of their own.
    """

    name: str
    operation: str | Callable[[Any], str]
    run: Callable[[Call, Channel], Awaitable[Message | None]]
    transfers: bool = False


async def remember_many(call: Call, channel: Channel) -> memories_pb2.RememberManyResponse:
    """Batch by batch, each on its own; what was stored before one that is refused stays."""
    kind = memories_pb2.RememberManyRequest
    space: Space | None = None
    answer = memories_pb2.RememberManyResponse()
    while (given := await channel.take(kind)) is not None:
        space = await channel.work(_batch_storing(call, space, given, answer))
        call.told = {
            "batches_stored": str(answer.batches),
            "memories_stored": str(answer.memories),
            "position": str(answer.position),
        }
    if space is None:  # nothing came, but metadata may have named a space
        space = await channel.work(lambda: call.space(kind()))
    answer.memory_space_id = space.id
    return answer


def _batch_storing(
    call: Call,
    space: Space | None,
    given: memories_pb2.RememberManyRequest,
    answer: memories_pb2.RememberManyResponse,
) -> Callable[[], Space]:
    def work() -> Space:
        if space is not None:
            call.go_on(given)
            space.charge("writes")
        used = call.space(given, "writes") if space is None else space
        stored = remembered(used, given)
        answer.position = stored.position
        answer.batches += 1
        answer.memories += len(stored.memories)
        room = IDS_TOLD_MAX - len(answer.ids)
        answer.ids.extend(memory.id for memory in stored.memories[:room])
        return used

    return work


async def events(call: Call, channel: Channel) -> None:
    """History, then what comes. Ends well with the space only."""
    given = await channel.take(memories_pb2.EventsRequest) or memories_pb2.EventsRequest()

    def begin() -> Subscription:
        after = optional(given, "after")
        space = call.space(given)
        incarnation = optional(given, "incarnation")
        reader = space.reader(after, list(given.types), incarnation=incarnation)
        return Subscription(
            call.principal,
            [reader],
            several=False,
            live_only=after is None,
            seats=seats_of([space]),
        )

    subscription = await channel.work(begin)
    channel.audiences.check_room(subscription)
    with channel.audiences.seat(subscription):
        await _tell(subscription, channel)


async def _tell(subscription: Subscription, channel: Channel) -> None:
    (reader,) = subscription.readers
    uuid = reader.feed.space.space_uuid
    revoked = False
    told_to: str | None = None

    def end() -> None:
        nonlocal revoked
        revoked = True
        channel.cut()

    async def scanned() -> None:
        await channel.send(EventsResponse(position=reader.position, space_uuid=uuid))

    if subscription.live_only:
        told_to = subscription.scanned()
        await scanned()
    heartbeat_s = channel.options.heartbeat_s
    async for came in following(subscription, channel.audiences, heartbeat_s, told_to, end):
        if came is None:
            await scanned()
            continue
        for entry in came[1].entries:
            if revoked:
                break
            event = told(types_pb2.Event, entry.event)
            await channel.send(
                EventsResponse(position=entry.position, space_uuid=uuid, event=event)
            )
            subscription.note(reader, entry.position)
    if revoked:
        raise Unauthenticated("the key was revoked, or has expired, while events were told")
    if not reader.feed.ended:
        raise Unavailable(
            "the server stops; go on behind the last position that was told once it is back"
        )


async def export(call: Call, channel: Channel) -> None:
    """A bundle in pieces; what goes wrong on the way leaves it without an end."""
    given = await channel.take(spaces_pb2.ExportRequest) or spaces_pb2.ExportRequest()

    def begin() -> Outgoing:
        return call.space(given).outgoing()

    bundle = await channel.work(begin)
    chunks = bundle.chunks()
    while data := await channel.work(lambda: _piece(chunks)):
        await channel.send(spaces_pb2.ExportResponse(position=bundle.position, data=data))


def _piece(chunks: Iterator[bytes]) -> bytes:
    """What is taken from an iterator that blocks, joined to a piece that is worth a message."""
    parts, size = list[bytes](), 0
    for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size >= SEND_BYTES:
            break
    return b"".join(parts)


async def receive(call: Call, channel: Channel) -> spaces_pb2.MadeSpace:
    """A space from a bundle: answered once all of it has come and is durable."""
    kind = spaces_pb2.ImportRequest
    first = await channel.take(kind) or kind()

    def following_pieces() -> Iterator[bytes]:
        given: spaces_pb2.ImportRequest | None = first
        while given is not None:
            if given.data:
                yield given.data
            given = anyio.from_thread.run(next_message)
            if given is not None:
                call.go_on(given)

    async def next_message() -> spaces_pb2.ImportRequest | None:
        try:
            with anyio.fail_after(RECEIVE_S_MAX):
                return await channel.take(kind)
        except TimeoutError:
            raise Malformed(
                f"nothing more of the bundle came for {RECEIVE_S_MAX:g} s. Nothing was made"
            ) from None
        except asyncio.CancelledError:
            raise Unavailable(
                "the sender left before the bundle had come; nothing was made"
            ) from None

    def build() -> spaces_pb2.MadeSpace:
        space_id = call.resolve(first)
        call.check()
        return made_space(call.db.receive_space(space_id, following_pieces()))

    return await channel.work(build)


MEMORY_STREAMS: Final = (
    StreamRpc("RememberMany", remembering, remember_many),
    StreamRpc("Events", "events", events),
)
SPACE_STREAMS: Final = (
    StreamRpc("Export", "export", export, transfers=True),
    StreamRpc("Import", "import", receive, transfers=True),
)
