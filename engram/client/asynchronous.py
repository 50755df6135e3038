"""`AsyncClient` and its spaces: the verbs of :class:`engram.Database`, over HTTP, on asyncio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Unpack

from engram import limits
from engram.client import requests
from engram.client.answers import (
    EventsPage,
    MadeSpace,
    PurgeAnswer,
    SpacesPage,
    read,
)
from engram.client.changing import AsyncChanging
from engram.client.consolidating import AsyncConsolidating
from engram.client.feed import EventFeed
from engram.client.retrying import RETRY_S
from engram.client.transfers import download, upload
from engram.client.transport import Transport, seconds
from engram.feed.reader import check_types
from engram.memory.completion import Completion, Known
from engram.memory.model import (
    AsOf,
    Compaction,
    DeletedSpace,
    EmbeddingSpec,
    Event,
    ExportReport,
    Filter,
    Memory,
    Mode,
    Origin,
    Page,
    Recall,
    Receipt,
    SpaceInfo,
    Spread,
    Vector,
)
from engram.memory.quotas import QuotasGiven
from engram.memory.settings import SettingsGiven
from engram.spaces.ids import check_space_id

if TYPE_CHECKING:
    from engram.bundles.files import Source, Target
    from engram.client.requests import Parameters

TIMEOUT_S: Final = 30.0
HEARTBEAT_TIMEOUT_S: Final = 45.0
"""Three heartbeats of the server."""


class AsyncClient:
    """A server's spaces. To be used in one event loop, as a context manager, or closed.

    Beside what the verbs name, each may raise :class:`engram.errors.ServerUnreachable`,
    `ServerAnswerInvalid` (what answered is not an Engram server) and `Unavailable` (the client was
    closed, or belongs to another loop); every write also `OutcomeUnknown`: the connection was lost
    or the time was up before the answer came, so it may or may not have been done.

    `timeout_s` bounds each request; `heartbeat_timeout_s` is how long a feed may be silent before
    it connects again. A request that was lost on the way, or that the server has no room for, is
    sent again for up to `retry_s`, if that cannot do anything twice: reads, and the writes that
    take an `idempotency_key`, which get one of their own. With 0 they do not, and nothing is sent
    again but a read whose connection broke, once.
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
        self._silence_s = seconds("heartbeat_timeout_s", heartbeat_timeout_s)
        self._transport = Transport(url, api_key, timeout_s, retry_s)

    @property
    def url(self) -> str:
        return self._transport.url

    def __repr__(self) -> str:
        return f"<engram.AsyncClient {self.url!r}>"

    async def create_space(
        self,
        space_id: str | None = None,
        *,
        embedding: EmbeddingSpec | None = None,
        quotas: QuotasGiven | None = None,
    ) -> AsyncSpace:
        """Make a new space, durably, and return its handle; without an id one is made up.

        Raises :class:`engram.errors.SpaceExists`, `SpaceInvalid`, `Invalid` (unknown embedder),
        `EmbedderUnavailable` or `DiskFull`.
        """
        body = requests.new_space_body(embedding, quotas)
        if space_id is not None:
            body["memory_space_id"] = check_space_id(space_id)
        answer = await self._transport.request("POST", "/spaces", body=body, write=True)
        return self.space(read(answer, SpaceInfo, space_id).memory_space_id)

    async def ensure_space(
        self,
        space_id: str,
        *,
        embedding: EmbeddingSpec | None = None,
        quotas: QuotasGiven | None = None,
    ) -> tuple[AsyncSpace, bool]:
        """The space of that id, made if it is not there, and whether it was made.

        Raises :class:`engram.errors.SpaceExists` if it has another embedding, or other quotas,
        than those given.
        """
        path, body = requests.space_path(space_id), requests.new_space_body(embedding, quotas)
        answer = await self._transport.request("PUT", path, body=body, write=True)
        read(answer, SpaceInfo, space_id)
        return self.space(space_id), answer.status == 201

    def space(self, space_id: str) -> AsyncSpace:
        """A handle on a space. Asks nothing: whether it exists is known at its first use."""
        return AsyncSpace(self._transport, check_space_id(space_id), self._silence_s)

    async def spaces(
        self, *, limit: int | None = None, after: str | None = None, deleted: bool = False
    ) -> list[SpaceInfo]:
        """Descriptions of the spaces in order of id, those behind `after`; opens none. With
        `deleted`, those that can be restored are among them.
        """
        left = requests.spaces_limit(limit)
        asked = requests.deleted_parameters(deleted)
        if after is not None:
            check_space_id(after)
        found: list[SpaceInfo] = []
        while left is None or len(found) < left:
            size = limits.LIST_LIMIT_MAX
            if left is not None:
                size = min(size, left - len(found))
            parameters: Parameters = [("limit", str(size)), *asked]
            if after is not None:
                parameters.append(("after", after))
            answer = await self._transport.request("GET", "/spaces", parameters=parameters)
            page = read(answer, SpacesPage)
            found += page.spaces
            if page.next is None:
                break
            if after is not None and page.next <= after:
                raise answer.invalid("a list of spaces that does not go on")
            after = page.next
        return found[:left]

    async def space_info(self, space_id: str, *, deleted: bool = False) -> SpaceInfo:
        """A space's description with figures; a damaged one says so in `state` and `detail`. With
        `deleted`, one that can be restored is described too.
        """
        path, parameters = requests.space_path(space_id), requests.deleted_parameters(deleted)
        answer = await self._transport.request("GET", path, parameters=parameters)
        return read(answer, SpaceInfo, space_id)

    async def delete_space(self, space_id: str) -> DeletedSpace:
        """Delete a space, durably. It can be restored until it is purged, which happens at a start
        after `purge_after` at the earliest, or by :meth:`purge_space`; its id stays taken so long.

        Raises :class:`engram.errors.SpaceNotFound`, `SpaceLocked` or `DiskFull`, and nothing is
        changed then.
        """
        path = requests.space_path(space_id)
        answer = await self._transport.request("DELETE", path, write=True)
        return read(answer, DeletedSpace, space_id)

    async def restore_space(self, space_id: str) -> AsyncSpace:
        """Undo a deletion: the same space, its positions continue.

        Raises :class:`engram.errors.SpaceNotFound` if no such space is deleted, `SpaceExists` if
        one of that id is there, `DiskFull`.
        """
        path = f"{requests.space_path(space_id)}/restore"
        read(await self._transport.request("POST", path, write=True), SpaceInfo, space_id)
        return self.space(space_id)

    async def purge_space(self, space_id: str) -> Receipt:
        """Remove every byte of a deleted space, for good, whether or not its time is up.

        Asked again, it returns the same receipt. Raises :class:`engram.errors.SpaceExists` for a
        space that is not deleted, and `SpaceNotFound` if there never was one.
        """
        path = f"{requests.space_path(space_id)}/purge"
        answer = await self._transport.request("POST", path, write=True)
        return read(answer, PurgeAnswer, space_id).receipt

    async def import_space(self, space_id: str, file: Source) -> AsyncSpace:
        """Make a space from a bundle, whole or not at all, and return its handle, whose `origin`
        says what it was made from.

        `file` is a path, or a binary file open for reading; it is read in a thread. Raises
        :class:`engram.errors.Malformed` for a bundle that is damaged, cut short, or of a newer
        version; `SpaceExists`, `SpaceDeleted`, `SpaceInvalid`, `Invalid` (an embedder that the
        server does not have), `EmbedderUnavailable` and `DiskFull`.
        """
        path = f"{requests.space_path(space_id)}/import"
        made = read(await upload(self._transport, path, file), MadeSpace, space_id)
        space = self.space(space_id)
        space.origin = made.origin
        return space

    async def close(self) -> None:
        """End what runs, feeds too, and close all connections. Idempotent."""
        await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


class AsyncSpace(AsyncChanging, AsyncConsolidating):
    """One memory space of a server. Get it from :meth:`AsyncClient.space` or `create_space`.

    Every method may raise :class:`engram.errors.SpaceNotFound`, and what the embedded verb of the
    same name raises.
    """

    def __init__(self, transport: Transport, space_id: str, silence_s: float) -> None:
        self._transport = transport
        self._id = space_id
        self._silence_s = silence_s
        self.origin: Origin | None = None
        self._path = requests.space_path(space_id)

    @property
    def id(self) -> str:
        return self._id

    def __repr__(self) -> str:
        return f"<engram.AsyncSpace {self._id!r} of {self._transport.url!r}>"

    async def info(self) -> SpaceInfo:
        """The space's description, figures included."""
        return read(await self._transport.request("GET", self._path), SpaceInfo, self._id)

    async def configure(self, **settings: Unpack[SettingsGiven]) -> SpaceInfo:
        """Set something about the space, durably; what is left out stays. Settings: `retention`,
        `decay`, `forgetting`, `consolidation`, `quotas`; see
        :meth:`engram.Space.configure`. `Invalid`.
        """
        answer = await self._write("PATCH", self._path, requests.settings_body(settings))
        return read(answer, SpaceInfo, self._id)

    async def reopen(self) -> SpaceInfo:
        """Go on with what the server's disk holds, after a failed sync has left it in doubt: a
        poisoned space takes no writes until then. `detail` says whether there was a reason to.

        Raises :class:`engram.errors.SpaceDamaged` if what is on disk does not verify.
        """
        answer = await self._transport.request("POST", f"{self._path}/reopen", write=True)
        return read(answer, SpaceInfo, self._id)

    async def get(
        self, memory_id: str, *, include_embedding: bool = False, as_of: AsOf | None = None
    ) -> Memory:
        """The living memory of that id, as it is or `as_of` an earlier moment.

        Raises :class:`engram.errors.MemoryNotFound`.
        """
        path = requests.memory_path(self._id, memory_id)
        parameters = requests.get_parameters(include_embedding=include_embedding, as_of=as_of)
        answer = await self._transport.request("GET", path, parameters=parameters)
        return read(answer, Memory, self._id)

    async def list(
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

        Of a filter, `tags_any` and `metadata` are refused: the route does not know them.
        """
        parameters = requests.list_parameters(
            filter, limit, after, include_embedding=include_embedding, as_of=as_of
        )
        path = f"{self._path}/memories"
        answer = await self._transport.request("GET", path, parameters=parameters)
        return read(answer, Page, self._id)

    async def recall(
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
        """The memories that best answer a cue: words, a vector, memories, or several of these.

        With `record` the recall becomes an event of the space, as `memory.recalled`. `as_of` asks
        what the space was at a position or time; see `engram.Space.recall`. Raises
        :class:`engram.errors.Invalid`, `MemoryNotFound` for a cue that is not there,
        `EmbedderUnavailable`; and for `as_of`, `PositionBeyondEnd` and `HistoryGone`.
        """
        body = requests.recall_body(
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
        path = f"{self._path}/recall"
        return read(await self._transport.request("POST", path, body=body), Recall, self._id)

    async def complete(
        self,
        query: str | None = None,
        *,
        embedding: Sequence[float | None] | Vector | None = None,
        known: Known | Mapping[str, Any] | None = None,
        beta: float = limits.BETA_DEFAULT,
        limit: int = 10,
        include_embedding: bool = False,
    ) -> Completion:
        """Fill in a partial cue from what the space remembers; see `engram.Space.complete`.

        Raises :class:`engram.errors.Invalid`, `TooLarge` and `EmbedderUnavailable`.
        """
        body = requests.complete_body(
            query, embedding=embedding, known=known, beta=beta, limit=limit
        )
        parameters = requests.include_parameters(include_embedding)
        answer = await self._transport.request(
            "POST", f"{self._path}/complete", parameters=parameters, body=body
        )
        return read(answer, Completion, self._id)

    async def export(self, file: Target, *, force: bool = False) -> ExportReport:
        """Write the space into one file, a bundle: its memories, and its history as it is retained.

        `file` is a path, or a binary file open for writing; it is written in a thread. A file that
        is named gets its name once all of it is on the disk; with `force` it may replace another.
        Raises FileExistsError and OSError.
        """
        return await download(self._transport, f"{self._path}/export", file, force=force)

    async def fork(
        self, new_id: str, as_of: int | None = None, *, embedding: EmbeddingSpec | None = None
    ) -> AsyncSpace:
        """Copy the space, durably, as it is or as of a position; see `engram.Space.fork`.

        With `embedding` it is embedded anew, which may take minutes; the answer is waited for as
        long as it takes, and the server gives up if that is cancelled. Raises
        :class:`engram.errors.SpaceExists`, `SpaceDeleted`, `SpaceInvalid`, `PositionBeyondEnd`,
        `HistoryGone`, `Invalid`, `EmbedderUnavailable`, `SpaceLocked` and `DiskFull`.
        """
        path, body = f"{self._path}/fork", requests.fork_body(new_id, as_of, embedding)
        bounded = embedding is None
        answer = await self._transport.request("POST", path, body=body, write=True, bounded=bounded)
        copy = AsyncSpace(self._transport, new_id, self._silence_s)
        copy.origin = read(answer, MadeSpace, new_id).origin
        return copy

    async def compact(self) -> Compaction:
        """Write a checkpoint, so that the space opens at once, and let go of history that it need
        not keep. Reads and writes go on meanwhile. Where one runs already, this joins the next.

        Raises :class:`engram.errors.DiskFull`; everything is as it was then.
        """
        return read(await self._write("POST", f"{self._path}/compact", None), Compaction, self._id)

    async def history(self, memory_id: str) -> tuple[Event, ...]:
        """The events of one memory, oldest first. Raises :class:`engram.errors.MemoryNotFound`."""
        path = f"{requests.memory_path(self._id, memory_id)}/history"
        return read(await self._transport.request("GET", path), EventsPage, self._id).events

    def events(
        self, after: int | None = None, *, types: Sequence[str] = (), follow: bool = True
    ) -> EventFeed:
        """The events behind position `after`, then live ones as they become durable.

        `after` None begins now, or at the first event held where `follow` is False: then it ends
        at the position the space had when it began. `types` leaves out all others. It connects
        again by itself, and gives each position once, in order. Raises, while iterating,
        :class:`engram.errors.HistoryGone` if the space was made anew or the position is no longer
        held, and `PositionBeyondEnd`; if the first connection fails, also why.
        """
        return EventFeed(
            self._transport,
            self._id,
            after=None if after is None else requests.position("after", after),
            types=tuple(sorted(check_types(types))),
            follow=follow,
            silence_s=self._silence_s,
        )
