"""The part of a client's space that is about links between memories."""

from __future__ import annotations

from engram import limits
from engram.client import requests
from engram.client.answers import read
from engram.client.transport import Transport
from engram.memory.model import Link, LinksPage, Unlinked
from engram.memory.relations import RELATED


class AsyncLinking:
    """Links are directed, have a relation and a weight, and live as long as both of their ends; see
    :class:`engram.Space`.
    """

    _transport: Transport
    _id: str

    async def link(
        self,
        source: str,
        target: str,
        *,
        weight: float = 1.0,
        relation: str = RELATED,
        idempotency_key: str | None = None,
    ) -> Link:
        """Link a memory to another, durably; the same link again sets its weight anew.

        `weight` is above 0 and at most 1. Raises :class:`engram.errors.MemoryNotFound` unless both
        live, and `Invalid`, also for a link of a memory to itself.
        """
        body = requests.link_body(source, target, weight, relation)
        path = requests.links_path(self._id)
        answer = await self._transport.request(
            "POST", path, body=body, write=True, once=True, key=idempotency_key
        )
        return read(answer, Link, self._id)

    async def unlink(
        self,
        source: str,
        target: str,
        relation: str | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> Unlinked:
        """Remove the link of a memory to another, durably; of the relation `related`, if none is
        given.

        Raises :class:`engram.errors.LinkNotFound` if there is none, and `MemoryNotFound` unless
        both live.
        """
        path = requests.link_path(self._id, source, target)
        parameters = requests.unlink_parameters(relation)
        answer = await self._transport.request(
            "DELETE", path, parameters=parameters, write=True, once=True, key=idempotency_key
        )
        return read(answer, Unlinked)

    async def links(
        self, memory_id: str, *, limit: int = limits.LIST_LIMIT_DEFAULT, after: int | None = None
    ) -> LinksPage:
        """The links that begin or end at a memory, by ascending position, those behind position
        `after` only; none to what is forgotten or has expired.

        Raises :class:`engram.errors.MemoryNotFound`.
        """
        parameters = requests.links_parameters(memory_id, limit, after)
        path = requests.links_path(self._id)
        answer = await self._transport.request("GET", path, parameters=parameters)
        return read(answer, LinksPage, self._id)
