"""Remembering, revising, forgetting, restoring, linking with a crash at any point: as in a model.

A request is one record, so after a crash the space is as it was behind some request: the last that
was acknowledged, or the one that was under way. What was forgotten stays forgotten.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from engram.errors import EngramError, MemoryNotFound
from engram.memory.model import Changes, NewMemory
from engram.spaces.registry import Registry
from engram.spaces.space import Space
from tests.crash.histories import Books, Budget, aftermaths
from tests.crash.test_space_creation import SPEC, opened
from wal.opened import LogOptions
from wal.sim_vfs import SimCrash, SimDisk, lose_everything

# Content and revision of what lives, by id; of links relation and weight in tenths, by "a>b".
Model = dict[str, tuple[str, int]]
IDS = ("a", "b", "c")
# Small enough that the requests below fill several segments.
SMALL = LogOptions(segment_bytes=4_700, allocate_bytes_min=512, allocate_bytes_max=1_024)
BUDGET = Budget(few=12, samples=5)


def remember(*ids: str, content: str) -> Callable[[Space], object]:
    memories = [NewMemory(content=content, id=m, embedding=[1.0, 2.0]) for m in ids]
    return lambda space: space.remember_many(memories)


def revise(memory_id: str, content: str) -> Callable[[Space], object]:
    return lambda space: space.revise(memory_id, Changes(content=content, embedding=[2.0, 1.0]))


def forget(memory_id: str) -> Callable[[Space], object]:
    return lambda space: space.forget(memory_id)


def restore(memory_id: str) -> Callable[[Space], object]:
    return lambda space: space.restore(memory_id)


def link(source: str, target: str, tenths: int) -> Callable[[Space], object]:
    return lambda space: space.link(source, target, weight=tenths / 10, relation="causes")


def unlink(source: str, target: str) -> Callable[[Space], object]:
    return lambda space: space.unlink(source, target, "causes")


# Each request and what lives behind it.
REQUESTS: list[tuple[Callable[[Space], object], Model]] = [
    (remember("a", "b", content="first"), {"a": ("first", 1), "b": ("first", 1)}),
    (revise("a", "second " * 20), {"a": ("second " * 20, 2), "b": ("first", 1)}),
    (
        link("a", "b", 5),
        {"a": ("second " * 20, 2), "b": ("first", 1), "a>b": ("causes", 5)},
    ),
    (forget("b"), {"a": ("second " * 20, 2)}),
    (
        remember("b", "c", content="again"),
        {
            "a": ("second " * 20, 2),
            "b": ("again", 2),
            "c": ("again", 1),
        },
    ),
    (forget("a"), {"b": ("again", 2), "c": ("again", 1)}),
    (link("c", "b", 8), {"b": ("again", 2), "c": ("again", 1), "c>b": ("causes", 8)}),
    (revise("c", "x" * 700), {"b": ("again", 2), "c": ("x" * 700, 2), "c>b": ("causes", 8)}),
    (link("c", "b", 9), {"b": ("again", 2), "c": ("x" * 700, 2), "c>b": ("causes", 9)}),
    (forget("c"), {"b": ("again", 2)}),
    (restore("c"), {"b": ("again", 2), "c": ("x" * 700, 3), "c>b": ("causes", 9)}),
    (unlink("c", "b"), {"b": ("again", 2), "c": ("x" * 700, 3)}),
    (forget("c"), {"b": ("again", 2)}),
    (remember("a", content="back"), {"a": ("back", 3), "b": ("again", 2)}),
]
STATES: list[Model] = [{}, *(model for _, model in REQUESTS)]


def living(registry: Registry) -> Model:
    found: Model = {}
    space = registry.space("s")
    for memory_id in IDS:
        try:
            memory = space.get(memory_id)
        except MemoryNotFound:
            continue
        found[memory_id] = (memory.content, memory.revision)
    hits = space.recall(embedding=[1.0, 1.0], limit=10).results
    assert {hit.memory.id for hit in hits} == set(found), "recall and look-up disagree"
    links = {link for memory_id in found for link in space.links(memory_id).links}
    for each in links:
        assert {each.source, each.target} <= found.keys(), "a link of what does not live"
        assert each in space.links(each.source).links
        assert each in space.links(each.target).links
    for each in links:
        found[f"{each.source}>{each.target}"] = (each.relation, round(each.weight * 10))
    return found


def run(disk: SimDisk, acknowledged: list[int]) -> None:
    """All requests, opening the space twice; how many were acknowledged is counted."""
    for part in (REQUESTS[:4], REQUESTS[4:]):
        with opened(disk, SMALL) as registry:
            space = registry.space("s")
            for request, _ in part:
                request(space)
                acknowledged[0] += 1


def check(disk: SimDisk, acknowledged: int) -> None:
    with opened(disk, SMALL) as registry:
        model = living(registry)
        assert model in STATES[acknowledged : acknowledged + 2], f"not a prefix: {model}"
        registry.space("s").remember("after", id="z", embedding=[1.0, 0.0])
        disk = disk.crash(lose_everything())
    with opened(disk, SMALL) as registry:
        space = registry.space("s")
        assert space.get("z").content == "after"
        space.forget("z")
        assert living(registry) == model, "what was served did not stay"


def test_a_crash_at_any_point_leaves_what_some_prefix_of_the_requests_made() -> None:
    start = SimDisk()
    with opened(start, SMALL) as registry:
        registry.create("s", SPEC)
    states = 0
    for point in count(1):
        disk, acknowledged = start.clone(), [0]
        disk.crash_at(point, after=point % 2 == 0)
        try:
            run(disk, acknowledged)
        except (SimCrash, EngramError):
            pass  # the writer's thread turns a crash into an error for its callers
        else:
            break
        for aftermath in aftermaths(disk, Books(), f"{point}", BUDGET):
            try:
                check(aftermath.disk, acknowledged[0])
            except Exception as error:
                raise AssertionError(f"crash {aftermath.path}: {error!r}") from error
            states += 1
    assert acknowledged == [len(REQUESTS)]
    assert states > 200


def test_without_a_crash_everything_is_there() -> None:
    disk, acknowledged = SimDisk(), [0]
    with opened(disk, SMALL) as registry:
        registry.create("s", SPEC)
    run(disk, acknowledged)
    with opened(disk, SMALL) as registry:
        assert living(registry) == STATES[-1]
