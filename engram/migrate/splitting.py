"""A shared space as a source, and forgetting there what is durably elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from engram import limits
from engram.errors import MemoryNotFound, Stale
from engram.memory.model import EmbeddingSpec, Memory, SpaceInfo
from engram.memory.validate import CALLER
from engram.migrate.copying import Progress, all_of
from engram.migrate.items import Item, SourceLink, digest_of, new_of
from engram.migrate.ledger import Ledger
from engram.migrate.places import Place
from engram.migrate.routing import FORMED, By, Routes

_FORMED_ID: Final = re.compile(r"belief-[0-9a-f]{24}")


class SharedSpace:
    """The memories that a space held when this was made; what is written later is not among them.

    A memory that was revised meanwhile counts as written later.
    """

    lives = True
    unit = "position"
    loose: tuple[SourceLink, ...] = ()

    def __init__(self, place: Place, by: By, routes: Routes, *, keep_times: bool) -> None:
        self._place = place
        self._by = by
        self.routes = routes
        self._keep_times = keep_times
        self.info: SpaceInfo = place.info()
        spec = self.info.embedding
        self._by_caller = spec is not None and spec.model == CALLER

    def items(self, *, vectors: bool) -> Iterator[Item]:
        bound = self.info.position or 0
        for memory in all_of(self._place, vectors=vectors or self._by_caller):
            if memory.position > bound:
                return
            new = new_of(memory, keep_times=self._keep_times)
            if memory.kind == "belief" and is_formed(self._place, memory):
                yield Item(new, memory.position, stays=FORMED)
                continue
            route = self.routes.of(memory)
            yield Item(new, memory.position, route.spaces, route.value, route.stays)

    def links(self, memory_id: str) -> Iterator[SourceLink]:
        after = None
        while True:
            try:
                page = self._place.links(memory_id, limit=limits.LIST_LIMIT_MAX, after=after)
            except MemoryNotFound:
                return  # it was forgotten since, and its links with it
            for link in page.links:
                yield SourceLink(
                    link.source, link.target, link.relation, link.weight, link.position
                )
            after = page.next
            if after is None:
                return

    def described(self) -> Mapping[str, Any]:
        return {
            "memory_space_id": self.info.memory_space_id,
            "space_uuid": self.info.uuid,
            "position": self.info.position,
            "by": str(self._by),
        }

    def embedding_for(self, space_id: str) -> EmbeddingSpec | None:
        return self.info.embedding

    def vectors_of(self, space_id: str) -> EmbeddingSpec | None:
        return self.info.embedding

    def forget_moved(self, ledger: Ledger, progress: Progress) -> tuple[int, list[str]]:
        """Forget what was found in each space it was to go to: how many, and which of them were
        revised meanwhile, and so are still here.
        """
        by_caller = self._by_caller
        forgotten, left = 0, []
        for memory_id, digest in ledger.moved():
            try:
                memory = self._place.get(memory_id, include_embedding=by_caller)
            except MemoryNotFound:
                continue
            new = new_of(memory, keep_times=self._keep_times)
            if digest_of(new, with_vector=by_caller) != digest:
                left.append(memory_id)
                continue
            try:
                self._place.forget(memory_id, if_match=memory.etag)
            except Stale:
                left.append(memory_id)  # it was revised between looking and forgetting
                continue
            forgotten += 1
            progress("forgetting", 1)
        return forgotten, left


def is_formed(place: Place, memory: Memory) -> bool:
    """Whether consolidating formed a belief, of sources that may go elsewhere. Where the history of
    that is not held any more, its id tells.
    """
    events = place.history(memory.id)
    formed = any(e.type == "memory.consolidated" and e.id == memory.id for e in events)
    return formed or _FORMED_ID.fullmatch(memory.id) is not None
