"""Server-sent events: the feed of one space, or of several in one stream.

A stream is history after a position, then what comes, without a seam. Its loop takes pages from
each space's reader in turn, sends them, and when there is nothing left waits to be woken; reading
the log happens in worker threads of its own, so that catching up holds up no other request. A space
that was deleted leaves the stream behind its last event, and the last of them ends it. A client
that takes nothing for too long is cut off: it resumes from its last id and misses nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import anyio
import anyio.to_thread
from sse_starlette.sse import AppStatus, EventSourceResponse, SendTimeoutError
from starlette.types import Receive, Scope, Send

from engram.access.principal import NEEDS, Need, Principal
from engram.errors import EngramError, Invalid, Malformed, SpaceConflict, SpaceNotFound, Unavailable
from engram.feed.reader import Page, Reader
from engram.server.admission import admitted_space, space_for
from engram.server.audience import Audiences
from engram.server.calls import Call
from engram.server.frames import (
    Reached,
    decode_token,
    encode_token,
    event_block,
    first_block,
    id_block,
    position_of,
)
from engram.server.resolver import NameSpace, named_space, resolve
from engram.spaces.ids import check_space_id

if TYPE_CHECKING:
    from engram import Database, Space

SPACES_PER_STREAM_MAX: Final = 100
HISTORY_THREADS_MAX: Final = 8
"""Subscribers that read the log at once; others wait for their turn."""
END_S_MAX: Final = 1.0
"""How long a stream that is over may take to end politely."""

_LOG: Final = logging.getLogger("engram.server")

# It would find the server that stops by itself and cut its streams; `Audiences.close` ends them.
AppStatus.enable_automatic_graceful_drain = False


class StreamOptions(NamedTuple):
    """Times in seconds, but for `retry_ms`."""

    heartbeat_s: float = 15.0
    write_s: float = 30.0
    retry_ms: int = 1_000


DEFAULT_STREAMS: Final = StreamOptions()
PARAMETERS: Final = frozenset({"after", "type", "incarnation"})
SEVERAL_PARAMETERS: Final = frozenset({*PARAMETERS, "space"})


class StreamOperation(NamedTuple):
    """One route that answers with a stream; `name_space` is the part of the resolver it goes by."""

    path: str
    parameters: frozenset[str]
    name_space: NameSpace
    need: Need = NEEDS["events"]
    method: str = "GET"
    takes_body: bool = False


STREAM_OPERATIONS: Final = (
    StreamOperation("/spaces/{space}/events", PARAMETERS, resolve),
    # Its space, or spaces, may stand among the parameters too.
    StreamOperation("/events", SEVERAL_PARAMETERS, named_space),
)


class Subscription:
    """Where each space of a stream is read, and how ids are told. Made in a worker thread."""

    def __init__(
        self,
        principal: Principal,
        readers: Sequence[Reader],
        *,
        several: bool,
        live_only: bool,
        seats: Mapping[str, int],
    ) -> None:
        self.principal = principal
        self.seats = seats
        self.readers = readers
        self.space_ids = [reader.feed.space.memory_space_id for reader in readers]
        self.live_only = live_only
        self._reached = {
            reader.feed.space.memory_space_id: Reached(
                reader.feed.space.space_uuid, reader.position
            )
            for reader in readers
        }
        self._several = several

    def blocks(self, reader: Reader, page: Page) -> bytes:
        """A page of events, each with the id to resume behind it."""
        parts = []
        for entry in page.entries:
            self.note(reader, entry.position)
            parts.append(event_block(self.last_id(), entry))
        return b"".join(parts)

    def scanned(self) -> str:
        """The id of how far all readers have looked."""
        for reader in self.readers:
            self.note(reader, reader.position)
        return self.last_id()

    def last_id(self) -> str:
        """The id of the last block that was made."""
        if self._several:
            return encode_token(self._reached)
        (reached,) = self._reached.values()
        return str(reached.position)

    def note(self, reader: Reader, position: int) -> None:
        """That a reader's space was told up to there."""
        space = reader.feed.space
        self._reached[space.memory_space_id] = Reached(space.space_uuid, position)


def subscribe(db: Database, call: Call) -> Subscription:
    """What `GET …/events` asks for. Blocks while spaces open.

    Raises, in this order, what the resolver raises, and then what is wrong with the parameters.
    """
    names = call.spaces
    if names:
        return _subscribe_several(db, call, names)
    space = admitted_space(db, call, NEEDS["events"])
    after, incarnation = _resume_from(call), call.query.one("incarnation")
    reader = _reader(space, call, None if after is None else position_of(after), incarnation)
    return Subscription(
        call.principal, [reader], several=False, live_only=after is None, seats=seats_of([space])
    )


def _subscribe_several(db: Database, call: Call, names: Sequence[str]) -> Subscription:
    if call.space_header:
        raise SpaceConflict(
            "a stream of several spaces names them all with `space=`; leave the header out"
        )
    if len(set(names)) < len(names):
        raise Malformed("the parameter 'space' names a space twice; name each once")
    if len(names) > SPACES_PER_STREAM_MAX:
        raise Malformed(f"one stream takes at most {SPACES_PER_STREAM_MAX} spaces; open several")
    for name in names:
        check_space_id(name)
    spaces = [space_for(db, call, name, NEEDS["events"]) for name in names]
    if call.query.one("incarnation") is not None:
        raise Malformed("the ids of a stream of several spaces name incarnations; leave it out")
    after = _resume_from(call)
    reached = None if after is None or after == "0" else decode_token(after)
    if reached is not None and set(reached) != set(names):
        raise Malformed(
            "`after` (or Last-Event-ID) belongs to a stream of other spaces: "
            f"{', '.join(sorted(reached)) or 'none'}"
        )
    readers = []
    for space in spaces:
        start = None if reached is None else reached.get(space.id)
        position = start.position if start else None if after is None else 0
        readers.append(_reader(space, call, position, start.space_uuid if start else None))
    return Subscription(
        call.principal, readers, several=True, live_only=after is None, seats=seats_of(spaces)
    )


def seats_of(spaces: Sequence[Space]) -> dict[str, int]:
    """How many subscribers there may be of those spaces that have a quota of them."""
    quotas = {space.id: space.quotas().subscribers for space in spaces}
    return {space_id: most for space_id, most in quotas.items() if most is not None}


def _reader(space: Space, call: Call, after: int | None, incarnation: str | None) -> Reader:
    try:
        return space.reader(after, call.query.many("type"), incarnation=incarnation)
    except Invalid as error:
        message = error.detail.removeprefix("types: ")
        raise Malformed(f"the parameter 'type': {message}") from None


def _resume_from(call: Call) -> str | None:
    """Last-Event-ID, which a browser sends when it reconnects, beats the address it reconnects to.

    An empty one means that no id was ever seen.
    """
    return call.last_event_id or call.query.one("after")


class EventStream(EventSourceResponse):
    """The response; ends with the client, with the server, with the key that it was asked for with,
    or when a write takes too long.
    """

    def __init__(
        self, subscription: Subscription, audiences: Audiences, options: StreamOptions
    ) -> None:
        self._subscription = subscription
        self._audiences = audiences
        self._abort: Callable[[], None] | None = None
        self._cut: asyncio.TimerHandle | None = None
        super().__init__(
            _blocks(subscription, audiences, options, self._end_soon),
            ping=0,  # heartbeats come from the stream itself, where they cannot overtake an event
            send_timeout=options.write_s,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._abort = scope.get("state", {}).get("abort_connection")
        try:
            with self._audiences.seat(self._subscription):
                await super().__call__(scope, receive, send)
        except SendTimeoutError:
            _LOG.info("a subscriber took nothing for too long and was cut off")
            # Closing politely would wait for it to take what is buffered.
            if self._abort is not None:
                self._abort()
                await asyncio.sleep(0)
        finally:
            if self._cut is not None:
                self._cut.cancel()

    def _end_soon(self) -> None:
        """Whoever takes nothing would be sent what it asked for for as long as a write may take."""
        _LOG.info("a stream ended: its key was revoked, or has expired")
        if self._abort is not None:
            self._cut = asyncio.get_running_loop().call_later(END_S_MAX, self._abort)


async def _blocks(
    subscription: Subscription,
    audiences: Audiences,
    options: StreamOptions,
    end_soon: Callable[[], None],
) -> AsyncIterator[bytes]:
    told = subscription.scanned() if subscription.live_only else None
    yield first_block(options.retry_ms, told)
    try:
        async for came in following(subscription, audiences, options.heartbeat_s, told, end_soon):
            if came is None:
                yield id_block(subscription.last_id())
            else:
                yield subscription.blocks(*came)
    except EngramError as error:
        # The client comes back with its last id, and is told then what is wrong.
        level = logging.INFO if isinstance(error, Unavailable) else logging.WARNING
        _LOG.log(level, "a stream ended: problem=%s detail=%s", error.problem, error.detail)


async def following(
    subscription: Subscription,
    audiences: Audiences,
    heartbeat_s: float,
    told: str | None,
    end_soon: Callable[[], None],
) -> AsyncIterator[tuple[Reader, Page] | None]:
    """Pages as they come, each with its reader, whose positions the caller has noted when it asks
    for more; and None where nothing has to be told but how far was scanned, which `told` says of
    what was before. It ends with the last of the spaces, with the server, or, behind `end_soon`,
    with the key that was shown.
    """

    def end() -> None:
        listener.end()
        end_soon()

    readers = list(subscription.readers)
    loop = asyncio.get_running_loop()
    sent_at = loop.time()
    caught_up = False
    feeds = [(reader.feed, reader.types) for reader in readers]
    with (
        audiences.listening(feeds) as listener,
        audiences.while_allowed(subscription.principal, end),
    ):
        for reader in readers:
            if reader.resting:
                await anyio.to_thread.run_sync(reader.attend, limiter=_history_limiter)
        while True:
            await asyncio.sleep(0)  # sending need not wait, and others shall have their turn
            listener.arm()
            if audiences.closing or listener.ended:
                return
            idle = True
            for reader in tuple(readers):
                ended = reader.feed.ended
                page = await _next_page(reader)
                if page is None:
                    if ended:
                        readers.remove(reader)
                    continue
                if listener.ended:
                    return
                idle = False
                if page.entries:
                    listener.disarm()
                    yield reader, page
                    told, sent_at = subscription.last_id(), loop.time()
            if not readers:
                return  # their spaces were deleted, which was the last to be told
            due_s = sent_at + heartbeat_s - loop.time()
            just_caught_up = idle and not caught_up and subscription.scanned() != told
            caught_up = caught_up or idle
            if due_s <= 0 or just_caught_up:
                told, sent_at = subscription.scanned(), loop.time()
                listener.disarm()
                yield None
            elif idle:
                with anyio.move_on_after(due_s):
                    await listener.came.wait()


_history_limiter: Final = anyio.CapacityLimiter(HISTORY_THREADS_MAX)


async def _next_page(reader: Reader) -> Page | None:
    """What comes next; None for now, or for good if the space has been deleted meanwhile."""
    try:
        if reader.behind:
            return await anyio.to_thread.run_sync(reader.history, limiter=_history_limiter)
        return reader.live()
    except SpaceNotFound:
        # It still read the log, which is gone; its client is told so when it comes back.
        return None
