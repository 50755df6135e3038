"""`Client` and its spaces: :mod:`engram.client.asynchronous` for programs without an event loop.

All of it runs in one background thread with an event loop of its own (anyio's blocking portal);
the methods here hand their call over and wait. So a client may be shared by threads.
"""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from functools import partial
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, Unpack

import anyio
from anyio.from_thread import BlockingPortal

from engram import limits
from engram.client.asynchronous import HEARTBEAT_TIMEOUT_S, TIMEOUT_S, AsyncClient, AsyncSpace
from engram.client.changing_blocking import ClientChanging
from engram.client.feed import EventFeed
from engram.client.retrying import RETRY_S
from engram.errors import Unavailable
from engram.memory.beliefs import Consolidation
from engram.memory.completion import Completion, Known
from engram.memory.forgetting import ForgettingReport
from engram.memory.model import (
    AsOf,
    Compaction,
    DeletedSpace,
    EmbeddingSpec,
    Event,
    ExportReport,
    Filter,
    Link,
    LinksPage,
    Memory,
    Mode,
    Origin,
    Page,
    Recall,
    Receipt,
    SpaceInfo,
    Spread,
    Unlinked,
    Vector,
)
from engram.memory.quotas import QuotasGiven
from engram.memory.relations import RELATED
from engram.memory.settings import SettingsGiven

if TYPE_CHECKING:
    from engram.bundles.files import Source, Target

_THREAD: Final = "engram-client"
_T = TypeVar("_T")
_P = ParamSpec("_P")


class _Loop:
    """An asynchronous client and the event loop it lives in, in a thread of its own.

    The thread would keep the process from ending, and what is in it can be reached by others, so
    whoever lets go of the last handle without closing, or ends the process, closes it thereby.

    It belongs to the process that made it: in a forked child its thread is not there, and what the
    child closed would be taken from its parent. So the child is refused everything, and keeps it.
    """

    def __init__(self, client: AsyncClient) -> None:
        # Not anyio's start_blocking_portal: what it leaves behind in a child waits there for the
        # thread as soon as it is collected, at the latest when the child ends.
        begun: Future[BlockingPortal] = Future()
        thread = Thread(target=_run, args=(begun,), name=_THREAD, daemon=True)
        thread.start()
        self._portal = begun.result()
        self._pid = os.getpid()
        self._end = weakref.finalize(self, _end, self._portal, thread, client, self._pid)
        self._closed = False

    def call(self, verb: Callable[_P, Awaitable[_T]], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        if self._pid != os.getpid():
            raise Unavailable(
                f"the client was made by another process (pid {self._pid}); make a new one in this "
                "one"
            )
        try:
            if self._closed:
                raise RuntimeError
            future = self._portal.start_task_soon(partial(verb, *args, **kwargs))
        except RuntimeError:
            # Of the portal's, there is one only: that it no longer runs.
            raise Unavailable("the client was closed; make a new one") from None
        try:
            return future.result()
        except CancelledError:
            raise Unavailable("the client was closed during the call") from None
        except BaseException:
            future.cancel()  # of use when this thread was interrupted while it waited
            raise

    def close(self) -> None:
        """End the loop and what runs in it. Idempotent; the first call returns once it is done."""
        self._closed = True
        self._end()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and self._pid == os.getpid():
            warnings.warn("an engram.Client was not closed", ResourceWarning, 2, source=self)


_of_parents: Final[list[AsyncClient]] = []
"""Kept from being collected in a child: closing their connections would take them out of the
parent's epoll set too.
"""


def _run(begun: Future[BlockingPortal]) -> None:
    async def serve() -> None:
        async with BlockingPortal() as portal:
            begun.set_result(portal)
            await portal.sleep_until_stopped()

    try:
        anyio.run(serve)
    except BaseException as error:
        if begun.done():
            raise
        begun.set_exception(error)


def _end(portal: BlockingPortal, thread: Thread, client: AsyncClient, pid: int) -> None:
    if pid != os.getpid():
        _of_parents.append(client)
        return
    try:
        portal.call(client.close)
    finally:
        portal.call(portal.stop)
        thread.join()


class Client:
    """A server's spaces. Thread-safe; use it as a context manager, or close it.

    The same as :class:`engram.AsyncClient`, whose documentation says what may be raised.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        heartbeat_timeout_s: float = HEARTBEAT_TIMEOUT_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self._client = AsyncClient(
            url,
            api_key,
            timeout_s=timeout_s,
            heartbeat_timeout_s=heartbeat_timeout_s,
            retry_s=retry_s,
        )
        self._loop = _Loop(self._client)

    @property
    def url(self) -> str:
        return self._client.url

    def __repr__(self) -> str:
        return f"<engram.Client {self.url!r}>"

    def create_space(
        self,
        space_id: str | None = None,
        *,
        embedding: EmbeddingSpec | None = None,
        quotas: QuotasGiven | None = None,
    ) -> ClientSpace:
        """See :meth:`engram.AsyncClient.create_space`."""
        made = self._loop.call(
            self._client.create_space, space_id, embedding=embedding, quotas=quotas
        )
        return ClientSpace(self._loop, made)

    def ensure_space(
        self,
        space_id: str,
        *,
        embedding: EmbeddingSpec | None = None,
        quotas: QuotasGiven | None = None,
    ) -> tuple[ClientSpace, bool]:
        """See :meth:`engram.AsyncClient.ensure_space`."""
        space, created = self._loop.call(
            self._client.ensure_space, space_id, embedding=embedding, quotas=quotas
        )
        return ClientSpace(self._loop, space), created

    def space(self, space_id: str) -> ClientSpace:
        """A handle on a space. Asks nothing: whether it exists is known at its first use."""
        return ClientSpace(self._loop, self._client.space(space_id))

    def spaces(
        self, *, limit: int | None = None, after: str | None = None, deleted: bool = False
    ) -> list[SpaceInfo]:
        """Descriptions of the spaces in order of id, those behind `after`; opens none."""
        return self._loop.call(self._client.spaces, limit=limit, after=after, deleted=deleted)

    def space_info(self, space_id: str, *, deleted: bool = False) -> SpaceInfo:
        """A space's description with figures; a damaged one says so in `state` and `detail`."""
        return self._loop.call(self._client.space_info, space_id, deleted=deleted)

    def delete_space(self, space_id: str) -> DeletedSpace:
        """See :meth:`engram.AsyncClient.delete_space`."""
        return self._loop.call(self._client.delete_space, space_id)

    def restore_space(self, space_id: str) -> ClientSpace:
        """See :meth:`engram.AsyncClient.restore_space`."""
        restored = self._loop.call(self._client.restore_space, space_id)
        return ClientSpace(self._loop, restored)

    def purge_space(self, space_id: str) -> Receipt:
        """See :meth:`engram.AsyncClient.purge_space`."""
        return self._loop.call(self._client.purge_space, space_id)

    def import_space(self, space_id: str, file: Source) -> ClientSpace:
        """See :meth:`engram.AsyncClient.import_space`."""
        made = self._loop.call(self._client.import_space, space_id, file)
        return ClientSpace(self._loop, made)

    def close(self) -> None:
        """End what runs in any thread, feeds too, and close all connections. Idempotent."""
        self._loop.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class ClientSpace(ClientChanging):
    """One memory space of a server, as :class:`engram.client.asynchronous.AsyncSpace`."""

    def __init__(self, loop: _Loop, space: AsyncSpace) -> None:
        self._loop = loop
        self._space = space

    @property
    def id(self) -> str:
        return self._space.id

    def __repr__(self) -> str:
        return repr(self._space).replace("AsyncSpace", "ClientSpace", 1)

    def info(self) -> SpaceInfo:
        """The space's description, figures included."""
        return self._loop.call(self._space.info)

    def configure(self, **settings: Unpack[SettingsGiven]) -> SpaceInfo:
        """Set something about the space, durably; see `AsyncSpace.configure`."""
        return self._loop.call(self._space.configure, **settings)

    def reopen(self) -> SpaceInfo:
        """Go on with what the server's disk holds, after a failed sync has left it in doubt."""
        return self._loop.call(self._space.reopen)

    def get(
        self, memory_id: str, *, include_embedding: bool = False, as_of: AsOf | None = None
    ) -> Memory:
        """The living memory of that id, as it is or `as_of` an earlier moment.

        Raises :class:`engram.errors.MemoryNotFound`.
        """
        return self._loop.call(
            self._space.get, memory_id, include_embedding=include_embedding, as_of=as_of
        )

    def list(
        self,
        filter: Filter | None = None,
        *,
        limit: int = limits.LIST_LIMIT_DEFAULT,
        after: int | None = None,
        include_embedding: bool = False,
        as_of: AsOf | None = None,
    ) -> Page:
        """Living memories by ascending position, those behind position `after` only; those of now,
        or `as_of` an earlier moment.
        """
        return self._loop.call(
            self._space.list,
            filter,
            limit=limit,
            after=after,
            include_embedding=include_embedding,
            as_of=as_of,
        )

    def apply_forgetting(self, *, dry_run: bool = False) -> ForgettingReport:
        """Forget what has expired and what the space's policy has go, or only say what would."""
        return self._loop.call(self._space.apply_forgetting, dry_run=dry_run)

    def link(
        self,
        source: str,
        target: str,
        *,
        weight: float = 1.0,
        relation: str = RELATED,
        idempotency_key: str | None = None,
    ) -> Link:
        """Link a memory to another, durably; see `AsyncSpace.link`."""
        return self._loop.call(
            self._space.link,
            source,
            target,
            weight=weight,
            relation=relation,
            idempotency_key=idempotency_key,
        )

    def unlink(
        self,
        source: str,
        target: str,
        relation: str | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> Unlinked:
        """Remove the link of a memory to another, durably; see `AsyncSpace.unlink`."""
        return self._loop.call(
            self._space.unlink, source, target, relation, idempotency_key=idempotency_key
        )

    def links(
        self, memory_id: str, *, limit: int = limits.LIST_LIMIT_DEFAULT, after: int | None = None
    ) -> LinksPage:
        """The links that begin or end at a memory, a page of them; see `AsyncSpace.links`."""
        return self._loop.call(self._space.links, memory_id, limit=limit, after=after)

    def recall(
        self,
        query: str | None = None,
        *,
        embedding: Sequence[float] | Vector | None = None,
        memory_ids: Sequence[str] = (),
        limit: int = 10,
        mode: Mode | None = None,
        filter: Filter | None = None,
        min_confidence: float | None = None,
        as_of: AsOf | None = None,
        spread: Spread | None = None,
        explain: bool = False,
        record: bool = True,
    ) -> Recall:
        """The memories that best answer a cue: words, a vector, memories, or several of these."""
        return self._loop.call(
            self._space.recall,
            query,
            embedding=embedding,
            memory_ids=memory_ids,
            limit=limit,
            mode=mode,
            filter=filter,
            min_confidence=min_confidence,
            as_of=as_of,
            spread=spread,
            explain=explain,
            record=record,
        )

    def complete(
        self,
        query: str | None = None,
        *,
        embedding: Sequence[float | None] | Vector | None = None,
        known: Known | Mapping[str, Any] | None = None,
        beta: float = limits.BETA_DEFAULT,
        limit: int = 10,
        include_embedding: bool = False,
    ) -> Completion:
        """Fill in a partial cue from what the space remembers; see `engram.Space.complete`."""
        return self._loop.call(
            self._space.complete,
            query,
            embedding=embedding,
            known=known,
            beta=beta,
            limit=limit,
            include_embedding=include_embedding,
        )

    @property
    def origin(self) -> Origin | None:
        """What the space was made from, on the handle that importing or forking returned."""
        return self._space.origin

    def export(self, file: Target, *, force: bool = False) -> ExportReport:
        """Write the space into one file, a bundle; see `AsyncSpace.export`."""
        return self._loop.call(self._space.export, file, force=force)

    def fork(
        self, new_id: str, as_of: int | None = None, *, embedding: EmbeddingSpec | None = None
    ) -> ClientSpace:
        """Copy the space, as it is or as of a position; see `AsyncSpace.fork`."""
        copy = self._loop.call(self._space.fork, new_id, as_of, embedding=embedding)
        return ClientSpace(self._loop, copy)

    def consolidate(self, *, dry_run: bool = False) -> Consolidation:
        """Form beliefs of what recurs among the episodes; see `engram.Space.consolidate`."""
        return self._loop.call(self._space.consolidate, dry_run=dry_run)

    def compact(self) -> Compaction:
        """Write a checkpoint, and let go of history that need not be kept. Raises
        :class:`engram.errors.DiskFull`.
        """
        return self._loop.call(self._space.compact)

    def history(self, memory_id: str) -> tuple[Event, ...]:
        """The events of one memory, oldest first."""
        return self._loop.call(self._space.history, memory_id)

    def events(
        self, after: int | None = None, *, types: Sequence[str] = (), follow: bool = True
    ) -> Events:
        """The events behind position `after`, then live ones; see `AsyncSpace.events`."""
        return Events(self._loop, self._space.events(after, types=types, follow=follow))


class Events(Iterator[Event]):
    """A feed read by ordinary threads. Close it, or use it as a context manager, to end it early;
    closing it or its client ends an iteration in another thread too.
    """

    def __init__(self, loop: _Loop, feed: EventFeed) -> None:
        self._loop = loop
        self._feed = feed

    def __next__(self) -> Event:
        # Events come in bunches; only a wait for more goes through the loop.
        while (event := self._feed.ready()) is None:
            if not self._loop.call(self._feed.wait):
                raise StopIteration
        return event

    def close(self) -> None:
        """End the feed and its connection. Idempotent."""
        try:
            self._loop.call(self._feed.aclose)
        except Unavailable:
            pass  # the client was closed, and the feed with it

    def __enter__(self) -> Events:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
