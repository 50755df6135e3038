"""Copying what a source gives into its spaces, so that it can be killed anywhere and run again.

First both sides are looked at (`Plan`): what each space is to hold, what it holds already, and what
stands in the way. Then what is missing is stored, linked, and both sides are compared once more.
The same id with the same digest is done; with another it is a conflict, and nothing is overwritten.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from msgspec.structs import replace

from engram.errors import (
    EmbedderMismatch,
    EngramError,
    Invalid,
    MemoryExists,
    MemoryNotFound,
    SpaceNotFound,
)
from engram.memory.model import EmbeddingSpec, Memory, NewMemory, SpaceInfo
from engram.memory.validate import CALLER, check_relation
from engram.migrate import ledger as states
from engram.migrate.files import in_place
from engram.migrate.items import (
    Item,
    Source,
    SourceLink,
    bytes_of,
    digest_of,
    expires_us_of,
    has_vector,
    new_of,
    weight_of,
)
from engram.migrate.ledger import Ledger, Planned
from engram.migrate.places import Place, Places

BATCH_MAX: Final = 500
BATCH_BYTES_MAX: Final = 6 << 20
HELD_MAX: Final = 4_000
HELD_BYTES_MAX: Final = 16 << 20
PAGE_MAX: Final = 500
_PAGE_BYTES: Final = 8 << 20

Progress = Callable[[str, int], None]
"""Told what is being done, and how many more items of it are."""


class Target(NamedTuple):
    """A space that memories go to, as it was found; `info` is None if it is not there yet."""

    id: str
    info: SpaceInfo | None
    embedding: EmbeddingSpec | None
    by_caller: bool


class Plan(NamedTuple):
    """What is to be done, in the ledger, by space."""

    targets: tuple[Target, ...]
    by_caller: bool


def all_of(place: Place, *, vectors: bool) -> Iterator[Memory]:
    """All living memories of a space by position, a page of some MiB at a time."""
    after, size = None, 100
    while True:
        page = place.list(limit=size, after=after, include_embedding=vectors)
        weight = 1
        for memory in page.memories:
            weight += weight_of(memory)
            yield memory
        after = page.next
        if after is None:
            return
        size = max(1, min(PAGE_MAX, size * 2, _PAGE_BYTES * len(page.memories) // weight))


def plan(source: Source, places: Places, ledger: Ledger, progress: Progress) -> Plan:
    """Look at both sides. Changes nothing.

    Raises :class:`engram.errors.Invalid` for a memory that no space would take or two of one id,
    and `EmbedderMismatch` for a space that cannot take the source's vectors, or has others'.
    """
    by_caller: dict[str, bool] = {}
    for item in source.items(vectors=False):
        _plan_item(source, item, ledger, by_caller)
        progress("reading", 1)
    targets = tuple(_target(source, places, space) for space in sorted(ledger.spaces()))
    for target in targets:
        if target.info is not None and target.info.memories != 0:
            _look(places.space(target.id), target, ledger, progress)
            ledger.compare(target.id)
    for memory_id in ledger.ids():
        for link in source.links(memory_id):
            _plan_link(source, link, ledger)
        progress("reading links", 1)
    for link in source.loose:
        _plan_link(source, link, ledger)
    return Plan(targets, any(by_caller.values()))


def _plan_item(source: Source, item: Item, ledger: Ledger, by_caller: dict[str, bool]) -> None:
    if item.stays is not None:
        ledger.stays(item.stays, item.new.id or "")
    for space in item.spaces:
        if space not in by_caller:
            spec = source.vectors_of(space)
            by_caller[space] = spec is not None and spec.model == CALLER
        memory_id = item.new.id or ""
        try:
            digest = digest_of(item.new, with_vector=by_caller[space])
        except EngramError as error:
            raise in_place(f"{source.unit} {item.position}", error) from None
        planned = Planned(
            space, memory_id, digest, bytes_of(item.new), expires_us_of(item.new), item.position
        )
        other = ledger.plan(planned)
        if other is not None and other != digest:
            raise Invalid(
                f"{source.unit} {item.position}: another one of the id {memory_id!r} holds "
                "something else. Nothing was stored"
            )


def _target(source: Source, places: Places, space_id: str) -> Target:
    given = source.vectors_of(space_id)
    by_caller = given is not None and given.model == CALLER
    try:
        info: SpaceInfo = places.space(space_id).info()
    except SpaceNotFound:
        return Target(space_id, None, source.embedding_for(space_id), by_caller)
    spec = info.embedding
    if spec is not None and (spec.model == CALLER or by_caller) and spec != given:
        has = "none" if given is None else f"those of {given.model}, {given.dimensions} dimensions"
        raise EmbedderMismatch(
            f"space {space_id!r} takes vectors of {spec.model}, {spec.dimensions} dimensions, and "
            f"the source has {has}. Choose another space",
            memory_space_id=space_id,
        )
    return Target(space_id, info, spec, by_caller)


def _look(place: Place, target: Target, ledger: Ledger, progress: Progress) -> None:
    """Note what a space holds of what it is to hold."""
    ledger.look_again(target.id)
    for memory in all_of(place, vectors=target.by_caller):
        if ledger.digest(target.id, memory.id) is not None:
            digest = digest_of(new_of(memory), with_vector=target.by_caller)
            ledger.found(target.id, memory.id, digest)
        progress(f"looking at {target.id}", 1)


def _plan_link(source: Source, link: SourceLink, ledger: Ledger) -> None:
    begins, ends = ledger.spaces_of(link.source), ledger.spaces_of(link.target)
    shared = begins & ends
    if not _can_be_made(link):
        ledger.plan_link("", link, states.LINK_REFUSED)
        return
    for space in shared:
        ledger.plan_link(space, link, states.LINK_PENDING)
    if not shared:
        ledger.plan_link("", link, states.LINK_ACROSS if source.lives else states.LINK_OPEN)


def _can_be_made(link: SourceLink) -> bool:
    try:
        check_relation("relation", link.relation)
    except Invalid:
        return False
    return link.source != link.target


class Copier:
    """Carries out a plan. Each batch is atomic and durable before the next one is sent."""

    def __init__(
        self, source: Source, places: Places, ledger: Ledger, made: Plan, progress: Progress
    ) -> None:
        self._source = source
        self._places = places
        self._ledger = ledger
        self._plan = made
        self._progress = progress
        self._targets = {target.id: target for target in made.targets}
        self._held: dict[str, list[NewMemory]] = {}
        self._count = self._bytes = 0
        self.positions: dict[str, tuple[int, int]] = {}
        self.created: set[str] = set()

    def run(self) -> None:
        """Make the spaces that are missing, store, link, and compare."""
        for target in self._plan.targets:
            if target.info is None:
                made, created = self._places.ensure_space(target.id, embedding=target.embedding)
                self._targets[target.id] = target._replace(embedding=made.info().embedding)
                self.created |= {target.id} if created else set()
        for item in self._source.items(vectors=True) if self._ledger.has_pending() else ():
            for space in item.spaces:
                self._hold(space, item.new)
        self._send_all()
        for space in self._targets:
            self._link(space)
        for space, target in self._targets.items():
            _look(self._places.space(space), target, self._ledger, self._progress)
            self._ledger.settle(space, time.time_ns() // 1_000)

    def _hold(self, space: str, new: NewMemory) -> None:
        if self._ledger.state(space, new.id or "") != states.PENDING:
            return
        target = self._targets[space]
        if digest_of(new, with_vector=target.by_caller) != self._ledger.digest(space, new.id or ""):
            raise Invalid(f"{new.id!r} changed in the source while it was read; run it again")
        self._held.setdefault(space, []).append(new)
        self._count += 1
        self._bytes += weight_of(new)
        if self._count >= HELD_MAX or self._bytes >= HELD_BYTES_MAX:
            self._send_all()

    def _send_all(self) -> None:
        for space, held in self._held.items():
            made_by = self._source.vectors_of(space)
            if made_by is None or made_by != self._targets[space].embedding:
                made_by = None
                held = [replace(new, embedding=None) for new in held]
            for batch in _batches([new for new in held if has_vector(new)]):
                self._send(space, batch, made_by)
            # What an embedder made no direction of cannot be handed in, and is embedded again.
            for batch in _batches(
                [replace(new, embedding=None) for new in held if not has_vector(new)]
            ):
                self._send(space, batch, None)
        self._held.clear()
        self._count = self._bytes = 0

    def _send(self, space: str, batch: list[NewMemory], made_by: EmbeddingSpec | None) -> None:
        place: Place = self._places.space(space)
        target = self._targets[space]
        while batch:
            try:
                done = place.remember_many(batch, embedded_by=made_by)
            except MemoryExists:
                # Somebody stored one of them since we looked, maybe a run that was cut off.
                batch = [new for new in batch if not self._is_there(place, target, new)]
                continue
            first, _ = self.positions.get(space, (done.memories[0].position, 0))
            self.positions[space] = (first, done.position)
            self._ledger.mark(space, [new.id or "" for new in batch], states.COPIED)
            self._progress("copying", len(batch))
            return

    def _is_there(self, place: Place, target: Target, new: NewMemory) -> bool:
        memory_id = new.id or ""
        try:
            held = new_of(place.get(memory_id, include_embedding=target.by_caller))
        except MemoryNotFound:
            return False
        same = digest_of(held, with_vector=target.by_caller) == self._ledger.digest(
            target.id, memory_id
        )
        self._ledger.mark(target.id, [memory_id], states.DONE if same else states.CONFLICT)
        return True

    def _link(self, space: str) -> None:
        """Make the links of a space that are not there yet."""
        place: Place = self._places.space(space)
        for links in self._ledger.links(space):
            held = None
            for link in links:
                ends = {self._ledger.state(space, end) for end in (link.source, link.target)}
                if not ends <= {states.DONE, states.COPIED}:
                    self._ledger.mark_link(link, states.LINK_OPEN)
                    continue
                held = _links_from(place, link.source) if held is None else held
                weight = held.get((link.target, link.relation))
                if weight is None:
                    place.link(link.source, link.target, weight=link.weight, relation=link.relation)
                same = weight is None or weight == link.weight
                self._ledger.mark_link(link, states.LINK_DONE if same else states.LINK_CONFLICT)
                self._progress("linking", 1)


def _batches(held: list[NewMemory]) -> Iterator[list[NewMemory]]:
    batch: list[NewMemory] = []
    size = 0
    for new in held:
        weight = weight_of(new)
        if batch and (len(batch) == BATCH_MAX or size + weight > BATCH_BYTES_MAX):
            yield batch
            batch, size = [], 0
        batch.append(new)
        size += weight
    if batch:
        yield batch


def _links_from(place: Place, memory_id: str) -> dict[tuple[str, str], float]:
    """The weights of the links that begin at a memory, by their other end and relation."""
    found: dict[tuple[str, str], float] = {}
    after = None
    while True:
        page = place.links(memory_id, limit=1_000, after=after)
        for link in page.links:
            if link.source == memory_id:
                found[link.target, link.relation] = link.weight
        after = page.next
        if after is None:
            return found
