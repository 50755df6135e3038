"""Purging memories with a crash at any point: gone from every file once acknowledged, never half.

What is looked for is each content, each relation and each vector, in all bytes of all files of the
disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import NamedTuple

import numpy as np

from engram.errors import EngramError, MemoryNotFound
from engram.memory.model import Changes, Filter
from engram.spaces.space import Space
from tests.crash.histories import Books, Budget, Seen, aftermaths
from tests.crash.test_space_creation import SPEC, opened
from wal.opened import LogOptions
from wal.sim_vfs import Contents, SimCrash, SimDisk, lose_everything

SMALL = LogOptions(segment_bytes=4_700, allocate_bytes_min=512, allocate_bytes_max=1_024)
BUDGET = Budget(few=2, samples=1)
IDS = ("a", "b", "c", "d")


class Secret(NamedTuple):
    """One version of a memory, which nothing else on the disk looks like."""

    memory_id: str
    revision: int

    @property
    def content(self) -> str:
        return f"<{self.memory_id}{self.revision}>" * 40

    @property
    def relation(self) -> str:
        """What a link of it is called, which its content is looked for with."""
        return self.content[:20]

    @property
    def vector(self) -> list[float]:
        return [1.0 + IDS.index(self.memory_id) / 7, self.revision / 3]

    @property
    def needles(self) -> tuple[bytes, bytes]:
        return self.content[:8].encode(), np.array(self.vector, np.float32).tobytes()


class State(NamedTuple):
    """What lives, by id the revision, and what is to be nowhere, behind a request."""

    alive: dict[str, int]
    gone: frozenset[Secret]

    @property
    def purged(self) -> set[str]:
        return {secret.memory_id for secret in self.gone}


def remember(space: Space, secret: Secret, *tags: str) -> None:
    space.remember(secret.content, id=secret.memory_id, embedding=secret.vector, tags=tags)


def prepared() -> SimDisk:
    """Four memories: in a checkpoint and behind it, revised, and one of them forgotten."""
    disk = SimDisk()
    with opened(disk, SMALL) as registry:
        space = registry.create("s", SPEC)
        remember(space, Secret("a", 1))
        remember(space, Secret("b", 1))
        remember(space, Secret("d", 1), "trial")
        space.link("a", "b", relation=Secret("b", 1).relation)
        space.link("a", "d", relation="near", weight=0.5)
        space.compact()
        second = Secret("b", 2)
        space.revise("b", Changes(content=second.content, embedding=second.vector))
        remember(space, Secret("c", 1), "trial")
        space.link("c", "b", relation=Secret("c", 1).relation)
        space.link("b", "d", relation=second.relation)
        space.unlink("b", "d", second.relation)
        space.forget("c")
    return disk.clone()


B = frozenset({Secret("b", 1), Secret("b", 2)})
BCD = B | {Secret("c", 1), Secret("d", 1)}
TRIAL = Filter(tags_any=("trial",))
# Each request and what holds behind it.
REQUESTS: list[tuple[Callable[[Space], object], State]] = [
    (lambda space: space.purge("b"), State({"a": 1, "d": 1}, B)),
    (lambda space: remember(space, Secret("b", 3)), State({"a": 1, "b": 3, "d": 1}, B)),
    (lambda space: space.purge_matching(TRIAL), State({"a": 1, "b": 3}, BCD)),
]
STATES = [State({"a": 1, "b": 2, "d": 1}, frozenset()), *(state for _, state in REQUESTS)]


def run(disk: SimDisk, acknowledged: list[int]) -> None:
    """All requests, opening the space twice; how many were acknowledged is counted."""
    for part in (REQUESTS[:1], REQUESTS[1:]):
        with opened(disk, SMALL) as registry:
            space = registry.space("s")
            for request, _ in part:
                request(space)
                acknowledged[0] += 1


def files_of(contents: Contents) -> Iterator[bytes]:
    for each in contents.values():
        if isinstance(each, dict):
            yield from files_of(each)
        else:
            yield each


def check_gone(disk: SimDisk, gone: frozenset[Secret], when: str) -> None:
    data = b"\0".join(files_of(disk.contents()))
    for secret in gone:
        for needle in secret.needles:
            assert needle not in data, f"{secret} is on the disk {when}"


def living(space: Space) -> dict[str, int]:
    """What look-up finds, which recall, list and history have to agree with."""
    found: dict[str, int] = {}
    for memory_id in IDS:
        try:
            memory = space.get(memory_id, include_embedding=True)
        except MemoryNotFound:
            continue
        secret = Secret(memory_id, memory.revision)
        assert memory.content == secret.content
        assert memory.embedding is not None
        assert memory.embedding.tobytes() == secret.needles[1]
        found[memory_id] = memory.revision
    hits = space.recall(embedding=[1.0, 1.0], limit=10, record=False).results
    assert {hit.memory.id for hit in hits} == set(found), "recall and look-up disagree"
    assert {memory.id for memory in space.list().memories} == set(found)
    links = {link for memory_id in found for link in space.links(memory_id).links}
    for link in links:
        assert {link.source, link.target} <= found.keys(), "a link of what does not live"
    if {"a", "d"} <= found.keys():
        assert "near" in {link.relation for link in links}
    events = list(space.events(after=0))
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    for memory_id in IDS:
        history = space.history(memory_id)
        assert all(event.type != "history.redacted" for event in history)
        told = [event for event in history if event.memory is not None]
        if memory_id in found:
            assert told[-1].memory is not None
            assert told[-1].memory.revision == found[memory_id]
        elif space.history(memory_id)[-1].type == "memory.purged":
            assert told == [], "purged, and told all the same"
    return found


def check(disk: SimDisk, acknowledged: int) -> None:
    check_gone(disk, STATES[acknowledged].gone, "after it was acknowledged")
    with opened(disk, SMALL) as registry:
        space = registry.space("s")
        space.compact()  # and with it what is pending, in turn with what opening has begun
        found, purged = living(space), ids_purged(space)
        nearest = (acknowledged, min(acknowledged + 1, len(REQUESTS)))
        fitting = [n for n in nearest if (found, purged) == (STATES[n].alive, STATES[n].purged)]
        assert fitting, f"{found}, {purged} purged: neither before nor behind the request"
        at = fitting[0]
        check_gone(disk, STATES[at].gone, "after it was completed")
        remember(space, Secret("c", 2))
        disk = disk.crash(lose_everything())
    with opened(disk, SMALL) as registry:
        assert living(registry.space("s")) == {**found, "c": 2}


def ids_purged(space: Space) -> set[str]:
    """The ids of which history says that they were purged, whatever came after."""
    return {m for m in IDS if any(e.type == "memory.purged" for e in space.history(m))}


def test_a_crash_at_any_point_leaves_a_purge_done_or_undone() -> None:
    start = prepared()
    seen = Seen()
    for point in count(1):
        disk, acknowledged = start.clone(), [0]
        disk.crash_at(point, after=point % 2 == 0)
        try:
            run(disk, acknowledged)
        except (SimCrash, EngramError):
            pass
        else:
            break
        books = Books(acknowledged=acknowledged[0])
        for aftermath in aftermaths(disk, books, f"{point}", BUDGET):
            if not seen.is_new(aftermath):
                continue
            try:
                check(aftermath.disk, acknowledged[0])
            except Exception as error:
                raise AssertionError(f"crash {aftermath.path}: {error!r}") from error
    assert acknowledged == [len(REQUESTS)]
    assert seen.checked > 200


def test_without_a_crash_all_of_it_is_gone() -> None:
    disk, acknowledged = prepared(), [0]
    everything = {Secret("a", 1), *BCD}
    data = b"\0".join(files_of(disk.contents()))
    assert all(needle in data for secret in everything for needle in secret.needles)
    run(disk, acknowledged)
    check_gone(disk, STATES[-1].gone, "at the end")
    check(disk, len(REQUESTS))
