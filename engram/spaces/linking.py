"""The part of a handle that is about links between memories, and how it writes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from copy import copy
from typing import TYPE_CHECKING, Self, TypeVar

import numpy as np

from engram import limits
from engram.errors import EngramError, Invalid, MemoryNotFound
from engram.memory import validate as check
from engram.memory.decide import Associate, Command, Dissociate
from engram.memory.events import MemoryLinked, MemoryUnlinked
from engram.memory.model import Link, LinksPage, Unlinked
from engram.memory.relations import RELATED
from engram.memory.view import View
from engram.spaces.keyed import KeyedRequest, answering
from engram.spaces.portable import Portable
from engram.spaces.requests import check_limit, checked_ends

if TYPE_CHECKING:
    from engram.spaces.machine import Committed
    from engram.spaces.store import Store

T = TypeVar("T")


class Linking(Portable):
    """Links are directed, have a relation and a weight, and live as long as both of their ends:
    they are hidden while one of them is forgotten, and gone for good once it is purged or its id is
    used anew. Revisions keep them.
    """

    _request: KeyedRequest | None = None

    @property
    def id(self) -> str:
        return self._entry.identity.memory_space_id

    @property
    def incarnation(self) -> str:
        """The uuid of the space, which one made anew under its id does not share."""
        return self._entry.identity.uuid

    def link(
        self,
        source: str,
        target: str,
        *,
        weight: float = 1.0,
        relation: str = RELATED,
    ) -> Link:
        """Link a memory to another, durably; the same link again sets its weight anew.

        `weight` is above 0 and at most 1. Raises :class:`engram.errors.MemoryNotFound` unless both
        live, and `Invalid`, also for a link of a memory to itself.
        """
        source, target = checked_ends(source, target)
        event = MemoryLinked(
            source=source,
            target=target,
            relation=check.check_relation("relation", relation),
            weight=check.check_weight("weight", weight),
        )
        store = self._store()
        return self._commit(
            store,
            Associate(event, store.now_ns() // 1_000),
            lambda committed: Link(
                memory_space_id=self.id,
                source=source,
                target=target,
                relation=event.relation,
                weight=event.weight,
                position=committed.ack.position,
            ),
        )

    def unlink(self, source: str, target: str, relation: str | None = None) -> Unlinked:
        """Remove the link of a memory to another, durably; of the relation `related`, if none is
        given.

        Raises :class:`engram.errors.LinkNotFound` if there is none, and `MemoryNotFound` unless
        both live.
        """
        source, target = checked_ends(source, target)
        named = RELATED if relation is None else relation
        event = MemoryUnlinked(
            source=source, target=target, relation=check.check_relation("relation", named)
        )
        store = self._store()
        return self._commit(
            store,
            Dissociate(event, store.now_ns() // 1_000),
            lambda committed: Unlinked(
                source=source,
                target=target,
                relation=event.relation,
                position=committed.ack.position,
            ),
        )

    def links(
        self, memory_id: str, *, limit: int = limits.LIST_LIMIT_DEFAULT, after: int | None = None
    ) -> LinksPage:
        """The links that begin or end at a memory, by ascending position, those behind position
        `after` only; none to what is forgotten or has expired.

        Raises :class:`engram.errors.MemoryNotFound`.
        """
        memory_id = check.check_memory_id("memory_id", memory_id)
        check_limit("limit", limit, limits.LIST_LIMIT_MAX)
        if after is not None and (isinstance(after, bool) or not isinstance(after, int)):
            raise Invalid.of("after", "must be a position, as `next` gave it")
        view, row, now_us = self._seen(memory_id)
        around = view.links.around([row])
        first = 0 if after is None else np.searchsorted(around.positions, after, side="right")
        shown = np.flatnonzero(view.visible(now_us)[around.rows[first:]]) + first
        relations = view.links.relations
        links = []
        for at in shown[:limit].tolist():
            other = view.version(int(around.rows[at])).id
            source, target = (memory_id, other) if around.outward[at] else (other, memory_id)
            link = Link(
                memory_space_id=self.id,
                source=source,
                target=target,
                relation=relations[around.relations[at]],
                weight=float(around.exact[at]),
                position=int(around.positions[at]),
            )
            links.append(link)
        more = len(shown) > limit
        return LinksPage(links=tuple(links), next=links[-1].position if more else None)

    def _seen(self, memory_id: str) -> tuple[View, int, int]:
        """A view that shows a memory, its row there, and the time of looking."""
        store = self._store()
        now_us = store.now_ns() // 1_000
        found = store.state.find(memory_id, now_us)
        if found is None:
            raise MemoryNotFound(
                f"there is no memory {memory_id!r} in space {self.id!r}", memory_space_id=self.id
            )
        return *found, now_us

    def _store(self) -> Store:
        return self._entry.store()

    def keyed(self, request: KeyedRequest) -> Self:
        """This space, for a request that is to be done once: whichever write is called first on
        what is returned is kept with its answer, and any other is refused. See
        :mod:`engram.spaces.keyed`.
        """
        handle = copy(self)
        handle._request = request
        return handle

    def answering(self, request: KeyedRequest) -> AbstractContextManager[None]:
        """While such a request is worked on. Raises :class:`engram.errors.InProgress` if it is
        already, and where it was answered before what
        :func:`engram.memory.answering.check_unanswered` does.
        """
        return answering(self._entry, self._store(), request)

    def _commit(self, store: Store, command: Command, told: Callable[[Committed], T]) -> T:
        """Run a command; `told` makes of what came of it what the caller gets, without effects."""
        request = self._request
        try:
            if request is None:
                return told(self._entry.commit(store, command))
            keyed = request.command(command, told)
            return told(self._entry.commit(store, keyed))
        except EngramError as error:
            error.memory_space_id = self.id
            raise
