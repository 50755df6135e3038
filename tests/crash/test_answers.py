"""Requests with a key of their own, with a crash at any point: done once, however often they come,
and answered the same; and the mutants that these checks have to catch.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Any, NamedTuple

import msgspec
import pytest

from engram.errors import AnswerPurged, EngramError, IdempotencyKeyReused
from engram.indexes import answers as index
from engram.memory import answering, purges
from engram.memory.answering import Answered, AnsweredBefore
from engram.memory.decide import Observe
from engram.memory.model import Changes
from engram.spaces import machine
from engram.spaces.keyed import KeyedRequest
from engram.spaces.linking import Linking
from engram.spaces.space import Space
from tests.crash.histories import Books, Budget, Seen, aftermaths
from tests.crash.test_purges import files_of
from tests.crash.test_space_creation import SPEC, opened
from wal.opened import LogOptions
from wal.sim_vfs import SimCrash, SimDisk, lose_everything

SMALL = LogOptions(segment_bytes=4_700, allocate_bytes_min=512, allocate_bytes_max=1_024)
BUDGET = Budget(few=2, samples=1)
Patch = pytest.MonkeyPatch


def item(content: str, memory_id: str | None = None) -> dict[str, Any]:
    return {"content": content, "id": memory_id, "embedding": [1.0, 0.5]}


ACTS: list[Callable[[Space], Any]] = [
    lambda space: space.remember_many([item("one", "a"), item("nameless")]),
    lambda space: space.remember_many([item("x", "a"), item("two", "b")], on_conflict="skip"),
    lambda space: space.remember_many([item("y", "a"), item("z", "b")], on_conflict="skip"),
    lambda space: space.revise("a", Changes(source="revised")),
    lambda space: space.link("a", "b"),
    lambda space: space.forget("a"),
    lambda space: space.remember_many([item("also nameless")]),
]
COMPACTED_BEFORE = 4


def named_in(result: Any) -> tuple[str, ...]:
    memories = getattr(result, "memories", ())
    ids = [memory.id for memory in memories]
    return (*ids, *(getattr(result, each) for each in ("id", "target") if hasattr(result, each)))


def send(space: Space, key: str, act: Callable[[Space], Any], request: str = "") -> bytes:
    """What a request is answered that has a key: that it was done before makes no difference."""
    keyed = KeyedRequest(
        bytes.fromhex(space.incarnation),
        (key.encode(),),
        ((request or key).encode(),),
        lambda result: Answered(200, (), msgspec.json.encode(result), named_in(result)),
    )
    try:
        with space.answering(keyed):
            act(space.keyed(keyed))
    except AnsweredBefore as before:
        return before.answered.body
    assert keyed.answered is not None
    return keyed.answered.body


class Holding(NamedTuple):
    """What a space holds, but for ids that were made up, and its position."""

    memories: list[tuple[str, int]]
    events: dict[str, int]


def holding(space: Space) -> Holding:
    memories = sorted((m.content, m.revision) for m in space.list().memories)
    events = list(space.events(after=0))
    assert [event.position for event in events] == list(range(1, len(events) + 1))
    told = Counter(event.type for event in events if event.type != "space.compacted")
    return Holding(memories, dict(told))


def prepared() -> SimDisk:
    disk = SimDisk()
    with opened(disk, SMALL) as registry:
        registry.create("s", SPEC)
    return disk.clone()


def run(disk: SimDisk, acknowledged: list[bytes], holdings: list[Holding] | None = None) -> None:
    """All requests, the space opened anew and compacted on the way."""
    for part in (ACTS[:COMPACTED_BEFORE], ACTS[COMPACTED_BEFORE:]):
        with opened(disk, SMALL) as registry:
            space = registry.space("s")
            if acknowledged:
                space.compact()
            for act in part:
                if holdings is not None:
                    holdings.append(holding(space))
                acknowledged.append(send(space, str(len(acknowledged)), act))
            if holdings is not None and part[-1] is ACTS[-1]:
                holdings.append(holding(space))


def check(disk: SimDisk, acknowledged: list[bytes], holdings: list[Holding]) -> None:
    """Whoever sends again what was sent gets what they got, and nothing is done twice."""
    sent = min(len(acknowledged) + 1, len(ACTS))
    with opened(disk, SMALL) as registry:
        space = registry.space("s")
        told = [send(space, str(n), ACTS[n]) for n in range(sent)]
        assert told[: len(acknowledged)] == acknowledged
        assert holding(space) == holdings[sent], "something was done twice, or not at all"
        space.compact()
        disk = disk.crash(lose_everything())
    with opened(disk, SMALL) as registry:
        space = registry.space("s")
        assert [send(space, str(n), ACTS[n]) for n in range(sent)] == told
        assert holding(space) == holdings[sent]


def no_crash_has_a_request_done_twice() -> None:
    start = prepared()
    holdings: list[Holding] = []
    run(start.clone(), [], holdings)
    seen = Seen()
    for point in count(1):
        disk, acknowledged = start.clone(), list[bytes]()
        disk.crash_at(point, after=point % 2 == 0)
        try:
            run(disk, acknowledged)
        except (SimCrash, EngramError):
            pass
        else:
            break
        books = Books(acknowledged=len(acknowledged))
        for aftermath in aftermaths(disk, books, f"{point}", BUDGET):
            if not seen.is_new(aftermath):
                continue
            try:
                check(aftermath.disk, acknowledged, holdings)
            except Exception as error:
                raise AssertionError(f"crash {aftermath.path}: {error!r}") from error
    assert seen.checked > 100


def another_request_of_the_same_key_is_refused() -> None:
    disk = prepared()
    for again in range(2):
        with opened(disk, SMALL) as registry:
            space = registry.space("s")
            send(space, "key", ACTS[0], "one request")
            before = space.info().position
            try:
                send(space, "key", ACTS[0], "another request")
            except IdempotencyKeyReused:
                pass
            else:
                raise AssertionError("it was answered what another request was")
            assert space.info().position == before
            if not again:
                space.compact()


def a_purge_leaves_no_answer_that_tells_of_it() -> None:
    """What was answered by records with an event of the memory, and without one; before a
    checkpoint and behind it.
    """
    secret = "<secret>" * 9
    for compacted in (False, True):
        disk = prepared()
        with opened(disk, SMALL) as registry:
            space = registry.space("s")
            send(space, "stored", lambda space: space.remember_many([item(secret, "a")]))
            for key in ("skipped", "skipped with another"):
                others = [item(key)] if key.endswith("another") else []
                skipped = [item("x", "a"), *others]
                send(space, key, lambda s, b=skipped: s.remember_many(b, on_conflict="skip"))
            unharmed = send(space, "unharmed", lambda space: space.remember_many([item("u")]))
            if compacted:
                space.compact()
                send(space, "tail", lambda s: s.remember_many([item("t", "a")], on_conflict="skip"))
            before = len(list(space.events(after=0)))
            space.purge("a")
            disk.crash_at(1)  # what comes now is lost, so all that counts is on the disk
        for data in files_of(disk.crash(lose_everything()).contents()):
            held = b"".join([data, *compressed_in(data)])
            assert b"<secret>" not in held, "a file holds what was purged"
        with opened(disk.crash(lose_everything()), SMALL) as registry:
            space = registry.space("s")
            assert send(space, "unharmed", ACTS[-1]) == unharmed
            for key in ("stored", "skipped", "skipped with another"):
                try:
                    send(space, key, ACTS[-1])
                except AnswerPurged:
                    pass
                else:
                    raise AssertionError(f"{key}: it was answered although that is purged")
            assert len(list(space.events(after=0))) == before + 2


def compressed_in(data: bytes) -> Iterator[bytes]:
    """All that lies compressed in a file, as answers do."""
    at = data.find(b"\x78\x01")
    while at >= 0:
        with suppress(zlib.error):
            yield zlib.decompressobj().decompress(data[at:])
        at = data.find(b"\x78\x01", at + 1)


def how_long_an_answer_is_kept_follows_from_records() -> None:
    day_us = index.KEPT_US
    answers = index.Answers()
    answers.put(index.Kept(b"k", b"r"), 2, 1_000, ())
    assert answers.find(b"k", 1_000 + day_us - 1) is not None
    assert answers.find(b"k", 1_000 + day_us) is None
    answers.put(index.Kept(b"l", b"r"), 3, 1_000 + day_us - 1, ())
    assert len(answers) == 2
    answers.put(index.Kept(b"k", b"r"), 4, 1_000 + day_us, ())
    assert len(answers) == 2
    found = index.Answers(answers.frozen().kept(0, frozenset())).find(b"k", 1_000 + day_us)
    assert found is not None


def keeps_the_answer_in_a_record_of_its_own(patch: Patch) -> None:
    waiting = list[Any]()

    def without(committed: Any, answered: Any) -> Any:
        waiting.append(answered)
        return committed

    real = Linking._commit

    def then_the_answer(self: Any, store: Any, command: Any, told: Any) -> Any:
        result = real(self, store, command, told)
        while waiting:
            self._entry.commit(store, Observe((waiting.pop(),)))
        return result

    patch.setattr(machine, "_with_answer", without)
    patch.setattr(Linking, "_commit", then_the_answer)


def keeps_no_answer_of_what_causes_nothing(patch: Patch) -> None:
    real = machine._with_answer

    def only_beside_events(committed: Any, answered: Any) -> Any:
        return real(committed, answered) if committed.batch.events else committed

    patch.setattr(machine, "_with_answer", only_beside_events)


def keeps_answers_in_memory_only(patch: Patch) -> None:
    patch.setattr(index.FrozenAnswers, "kept", lambda self, drop_to, gone: index.no_answers())


def does_not_look_what_is_asked_for(patch: Patch) -> None:
    real = answering.check_unanswered

    def whatever(kept: Any, request: bytes, space_id: str) -> None:
        real(kept, b"" if kept is None else kept.request, space_id)

    for module in (machine, keyed_module()):
        patch.setattr(module, "check_unanswered", whatever)


def keyed_module() -> Any:
    from engram.spaces import keyed

    return keyed


def leaves_answers_to_what_is_purged(patch: Patch) -> None:
    patch.setattr(purges, "_names_purged", lambda answered, position, purged_at: False)


def looks_for_answers_only_beside_events(patch: Patch) -> None:
    real = index.Answers.frozen

    def blind(self: index.Answers) -> Any:
        return real(self)._replace(stripped=frozenset())

    patch.setattr(index.Answers, "frozen", blind)


def leaves_answers_in_checkpoints(patch: Patch) -> None:
    patch.setattr(index.Answers, "purge", lambda self, ids: None)


def keeps_answers_by_the_clock_on_the_wall(patch: Patch) -> None:
    import time

    real = index.Answers.find
    now = lambda self, key, time_us: real(self, key, time.time_ns() // 1_000)  # noqa: E731
    patch.setattr(index.Answers, "find", now)


MUTANTS: list[tuple[Callable[[Patch], None], Callable[[], None]]] = [
    (keeps_the_answer_in_a_record_of_its_own, no_crash_has_a_request_done_twice),
    (keeps_no_answer_of_what_causes_nothing, no_crash_has_a_request_done_twice),
    (keeps_answers_in_memory_only, no_crash_has_a_request_done_twice),
    (does_not_look_what_is_asked_for, another_request_of_the_same_key_is_refused),
    (leaves_answers_to_what_is_purged, a_purge_leaves_no_answer_that_tells_of_it),
    (looks_for_answers_only_beside_events, a_purge_leaves_no_answer_that_tells_of_it),
    (leaves_answers_in_checkpoints, a_purge_leaves_no_answer_that_tells_of_it),
    (keeps_answers_by_the_clock_on_the_wall, how_long_an_answer_is_kept_follows_from_records),
]
CHECKS = list(dict.fromkeys(check for _, check in MUTANTS))


@pytest.mark.parametrize("holds", CHECKS, ids=lambda check: check.__name__)
def test_the_check_holds_for_what_is_there(holds: Callable[[], None]) -> None:
    holds()


@pytest.mark.parametrize(
    ("mutate", "holds"), MUTANTS, ids=[mutate.__name__ for mutate, _ in MUTANTS]
)
def test_the_check_catches_an_engine_that(
    mutate: Callable[[Patch], None], holds: Callable[[], None], monkeypatch: Patch
) -> None:
    mutate(monkeypatch)
    with pytest.raises(AssertionError), suppress(KeyboardInterrupt):
        holds()
