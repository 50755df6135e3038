"""Deciding, as a table: what is known, what is asked, what follows."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest

from engram.errors import (
    EngramError,
    Invalid,
    LinkNotFound,
    MemoryExists,
    MemoryNotFound,
    SpaceExists,
    SpaceNotFound,
)
from engram.memory.decay import Decay
from engram.memory.decide import (
    Associate,
    Command,
    Configure,
    DeleteSpace,
    Dissociate,
    Forget,
    Latest,
    Observe,
    Remember,
    Restore,
    RestoreSpace,
    Revise,
    Sweep,
    decide,
)
from engram.memory.events import (
    MemoryForgotten,
    MemoryLinked,
    MemoryRecalled,
    MemoryRestored,
    MemoryRevised,
    MemoryStored,
    MemoryUnlinked,
    MemoryVersion,
    SpaceConfigured,
    SpaceDeleted,
    SpaceRestored,
)
from engram.memory.forgetting import Judged, NothingLeft
from engram.memory.model import Vector
from engram.memory.payload import Batch, decode_batch, encode_batch
from engram.memory.retention import Retention
from engram.memory.settings import Settings

NOW = 1_000
OLD = np.array([1.0, 2.0], np.float32)
NEW = np.array([[3.0, 4.0]], np.float32)


def version(memory_id: str = "a", **fields: Any) -> MemoryStored:
    defaults: dict[str, Any] = {
        "id": memory_id,
        "revision": 0,
        "kind": "episode",
        "content": "text",
        "tags": ("t",),
        "metadata": {"k": 1},
        "confidence": 0.5,
        "occurred_us": 7,
        "expires_us": None,
        "source": "s",
    }
    return MemoryStored(**{**defaults, **fields})


class Fake:
    """What a space may know: the latest version of a few ids; and that `a` is linked to `b`."""

    def __init__(self, *known: Latest, deleted: bool = False) -> None:
        self._known = {latest.version.id: latest for latest in known}
        self.deleted = deleted

    @property
    def settings(self) -> Settings:
        return Settings(decay=Decay(family="none"))

    def latest(self, memory_id: str) -> Latest | None:
        return self._known.get(memory_id)

    def vector(self, memory_id: str) -> Vector:
        assert memory_id in self._known
        return OLD

    def linked(self, source: str, target: str, relation: str) -> bool:
        return (source, target, relation) == ("a", "b", "r")

    def resting_on(self, memory_id: str) -> list[str]:
        return []

    def derived_from(self, memory_id: str) -> list[str]:
        return []

    def cited(self, memory_id: str) -> list[tuple[str, int]]:
        return []

    def living(self, now_us: int) -> int:
        return sum(latest.lives_at(now_us) for latest in self._known.values())


def lives(revision: int = 1, **fields: Any) -> Latest:
    return Latest(version(revision=revision, **fields), True)


def dead(revision: int = 1, **fields: Any) -> Latest:
    return Latest(version(revision=revision, **fields), False)


def remember(*ids: str) -> Remember:
    vectors = np.repeat(NEW, len(ids), axis=0)
    return Remember([version(memory_id) for memory_id in ids], vectors, NOW)


def shape(batch: Batch) -> list[tuple[str, str, int]]:
    return [(type(e).__name__, e.id, e.revision) for e in batch.events]  # type: ignore[union-attr]


class Case(NamedTuple):
    known: list[Latest]
    command: Command
    outcome: list[tuple[str, str, int]] | type[EngramError]


CASES = {
    "a new id starts at revision 1": Case([], remember("a"), [("MemoryStored", "a", 1)]),
    "a living id is refused": Case([lives()], remember("a"), MemoryExists),
    "a forgotten id goes on at its next revision": Case(
        [dead(4)], remember("a"), [("MemoryStored", "a", 5)]
    ),
    "an expired id is forgotten first": Case(
        [lives(2, expires_us=NOW)],
        remember("a"),
        [("MemoryForgotten", "a", 2), ("MemoryStored", "a", 3)],
    ),
    "an id forgotten before it expired is not forgotten again": Case(
        [dead(2, expires_us=NOW - 1)], remember("a"), [("MemoryStored", "a", 3)]
    ),
    "an id that expires one microsecond later lives": Case(
        [lives(expires_us=NOW + 1)], remember("a"), MemoryExists
    ),
    "a batch keeps its order": Case(
        [dead(1)], remember("b", "a"), [("MemoryStored", "b", 1), ("MemoryStored", "a", 2)]
    ),
    "an id twice in a batch is refused": Case([], remember("a", "b", "a"), Invalid),
    "one living id refuses the whole batch": Case([lives()], remember("b", "a"), MemoryExists),
    "a living memory is revised": Case(
        [lives(3)], Revise("a", {}, None, NOW), [("MemoryRevised", "a", 4)]
    ),
    "an unknown id cannot be revised": Case([], Revise("a", {}, None, NOW), MemoryNotFound),
    "a forgotten one cannot be revised": Case([dead()], Revise("a", {}, None, NOW), MemoryNotFound),
    "an expired one cannot be revised": Case(
        [lives(expires_us=NOW)], Revise("a", {}, None, NOW), MemoryNotFound
    ),
    "forgetting names the revision it ends": Case(
        [lives(3)], Forget("a", NOW), [("MemoryForgotten", "a", 3)]
    ),
    "an unknown id cannot be forgotten": Case([], Forget("a", NOW), MemoryNotFound),
    "a forgotten one cannot be forgotten again": Case([dead()], Forget("a", NOW), MemoryNotFound),
    "an expired one cannot be forgotten": Case(
        [lives(expires_us=NOW)], Forget("a", NOW), MemoryNotFound
    ),
    "a forgotten one is restored as its next revision": Case(
        [dead(3)], Restore("a", NOW), [("MemoryRestored", "a", 4)]
    ),
    "one is restored up to the microsecond before it expires": Case(
        [dead(3, expires_us=NOW + 1)], Restore("a", NOW), [("MemoryRestored", "a", 4)]
    ),
    "an unknown id cannot be restored": Case([], Restore("a", NOW), MemoryNotFound),
    "what lives cannot be restored": Case([lives()], Restore("a", NOW), MemoryExists),
    "what expired was not forgotten": Case(
        [lives(expires_us=NOW)], Restore("a", NOW), MemoryNotFound
    ),
    "what was forgotten and expired since is not restored": Case(
        [dead(expires_us=NOW)], Restore("a", NOW), MemoryNotFound
    ),
    "what was purged cannot be restored": Case(
        [dead(content="")], Restore("a", NOW), MemoryNotFound
    ),
}


A, B = lives(), Latest(version("b", revision=1), True)
GONE = Latest(version("b", revision=1), False)


def judged(*ids: str, revision: int = 1) -> Sweep:
    return Sweep([Judged(memory_id, revision, "expired") for memory_id in ids], NOW)


def test_a_sweep_forgets_what_is_still_as_it_was_judged() -> None:
    known = Fake(
        Latest(version("expired", revision=1, expires_us=NOW), True),
        Latest(version("later", revision=1, expires_us=NOW + 1), True),
        Latest(version("never", revision=1), True),
        Latest(version("dead", revision=1, expires_us=NOW), False),
        Latest(version("revised", revision=2, expires_us=NOW), True),
    )
    ids = ("later", "unheard-of", "expired", "never", "dead", "revised")
    (event,) = decide(known, judged(*ids), "alpha").events
    assert event == MemoryForgotten(id="expired", revision=1, reason="expired")


@pytest.mark.parametrize("known", [[], [lives()], [dead(expires_us=NOW)], [lives(2, expires_us=5)]])
def test_a_sweep_that_comes_too_late_leaves_no_record(known: list[Latest]) -> None:
    with pytest.raises(NothingLeft):
        decide(Fake(*known), judged("a"), "alpha")


EXPIRED = Latest(version("b", revision=1, expires_us=NOW), True)


def link(source: str, target: str, relation: str = "r") -> Associate:
    return Associate(MemoryLinked(source=source, target=target, relation=relation, weight=0.5), NOW)


def unlink(source: str, target: str, relation: str = "r") -> Dissociate:
    return Dissociate(MemoryUnlinked(source=source, target=target, relation=relation), NOW)


@pytest.mark.parametrize(
    ("known", "command", "refused"),
    [
        ([A, B], link("a", "b"), None),
        ([A, B], link("b", "a"), None),
        ([A, B], unlink("a", "b"), None),
        ([A, B], unlink("b", "a"), LinkNotFound),
        ([A, B], unlink("a", "b", "s"), LinkNotFound),
        *(
            (known, command, MemoryNotFound)
            for known in ([A], [A, GONE], [A, EXPIRED])
            for command in (link("a", "b"), link("b", "a"), unlink("a", "b"))
        ),
    ],
)
def test_links_are_between_what_lives(
    known: list[Latest], command: Associate | Dissociate, refused: type[EngramError] | None
) -> None:
    if refused is None:
        assert decide(Fake(*known), command, "alpha").events == [command.link]
    else:
        with pytest.raises(refused) as raised:
            decide(Fake(*known), command, "alpha")
        assert raised.value.memory_space_id == "alpha"


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_deciding(case: Case) -> None:
    known = Fake(*case.known)
    if isinstance(case.outcome, list):
        batch = decide(known, case.command, "alpha")
        assert shape(batch) == case.outcome
        assert shape(decide(known, case.command, "alpha")) == case.outcome  # it changed nothing
        assert shape(decode_batch(memoryview(b"".join(encode_batch(batch))))) == case.outcome
    else:
        with pytest.raises(case.outcome):
            decide(known, case.command, "alpha")


@pytest.mark.parametrize(("known", "command"), [([lives()], remember("a")), ([], Forget("a", NOW))])
def test_a_refusal_names_space_and_memory(known: list[Latest], command: Command) -> None:
    with pytest.raises(EngramError, match=r"'a'.*'alpha'") as caught:
        decide(Fake(*known), command, "alpha")
    assert caught.value.memory_space_id == "alpha"


def test_a_duplicate_is_named_by_its_place() -> None:
    with pytest.raises(Invalid) as caught:
        decide(Fake(), remember("a", "b", "a"), "alpha")
    assert [item.field for item in caught.value.errors] == ["memories[2].id"]


def test_what_is_stored_is_what_was_given_but_for_the_revision() -> None:
    (event,) = decide(Fake(), remember("a"), "alpha").events
    assert event == version(revision=1)


def test_a_revision_replaces_the_given_fields_and_keeps_the_others() -> None:
    changes = {"content": "new", "tags": (), "expires_us": 9_999, "source": None}
    batch = decide(Fake(lives(3)), Revise("a", changes, NEW[0], NOW), "alpha")
    (event,) = batch.events
    assert isinstance(event, MemoryRevised)
    assert msgspec.structs.asdict(event) == {
        **msgspec.structs.asdict(version(revision=4)),
        **changes,
    }
    assert batch.vectors.tolist() == NEW.tolist()


def test_a_revision_without_a_vector_keeps_the_old_one() -> None:
    batch = decide(Fake(lives()), Revise("a", {"tags": ()}, None, NOW), "alpha")
    assert batch.vectors.tolist() == [OLD.tolist()]


def test_a_restoration_brings_back_what_was_forgotten_with_its_vector() -> None:
    old = dead(3, content="old", tags=("x",), expires_us=NOW + 9, source=None)
    batch = decide(Fake(old), Restore("a", NOW), "alpha")
    (event,) = batch.events
    assert isinstance(event, MemoryRestored)
    assert msgspec.structs.asdict(event) == {**msgspec.structs.asdict(old.version), "revision": 4}
    assert batch.vectors.tolist() == [OLD.tolist()]


@pytest.mark.parametrize(
    ("known", "word"),
    [
        ([], "never was"),
        ([lives()], "is not forgotten"),
        ([lives(expires_us=NOW)], "has expired"),
        ([dead(expires_us=NOW)], "has expired"),
        ([dead(content="")], "was purged"),
        ([dead(content="", expires_us=NOW)], "was purged"),
    ],
)
def test_a_restoration_that_cannot_be_says_why(known: list[Latest], word: str) -> None:
    with pytest.raises(EngramError, match=word) as caught:
        decide(Fake(*known), Restore("a", NOW), "alpha")
    assert caught.value.memory_space_id == "alpha"


def test_forgetting_says_why() -> None:
    (asked,) = decide(Fake(lives()), Forget("a", NOW), "alpha").events
    expired, _ = decide(Fake(lives(expires_us=NOW)), remember("a"), "alpha").events
    assert isinstance(asked, MemoryForgotten)
    assert isinstance(expired, MemoryForgotten)
    assert (asked.reason, expired.reason) == ("request", "expired")


def test_there_is_one_vector_per_version_even_behind_an_expiry() -> None:
    batch = decide(Fake(lives(expires_us=NOW)), remember("b", "a"), "alpha")
    versions = sum(isinstance(event, MemoryVersion) for event in batch.events)
    assert versions == len(batch.vectors) == 2
    assert len(batch.events) == 3


@pytest.mark.parametrize(
    "command",
    [
        remember("b"),
        Revise("a", {"tags": ()}, None, NOW),
        Forget("a", NOW),
        Restore("b", NOW),
        Observe(
            (MemoryRecalled(recall_id="r", mode="lexical", query_digest=None, ids=(), scores=()),)
        ),
        Configure({"retention": Retention()}),
        DeleteSpace(7),
    ],
    ids=lambda command: type(command).__name__,
)
def test_a_deleted_space_takes_nothing_but_its_restoration(command: Command) -> None:
    known = [lives(), dead(id="b")]
    decide(Fake(*known), command, "alpha")
    with pytest.raises(SpaceNotFound) as caught:
        decide(Fake(*known, deleted=True), command, "alpha")
    assert caught.value.memory_space_id == "alpha"


def test_a_configuration_is_one_event_that_holds_what_stays_too() -> None:
    kept, law = Retention(age_s=60), Decay(family="none")
    assert decide(Fake(), Configure({"retention": kept}), "alpha").events == [
        SpaceConfigured(retention=kept, decay=law)
    ]
    new = Decay(exponent=0.3)
    assert decide(Fake(), Configure({"decay": new}), "alpha").events == [SpaceConfigured(decay=new)]
    assert decide(Fake(), Configure({"decay": new, "retention": kept}), "alpha").events == [
        SpaceConfigured(retention=kept, decay=new)
    ]


def test_a_space_ends_and_comes_back_by_one_event_each() -> None:
    assert decide(Fake(), DeleteSpace(7), "alpha").events == [SpaceDeleted(purge_after_us=7)]
    assert decide(Fake(deleted=True), RestoreSpace(), "alpha").events == [SpaceRestored()]
    with pytest.raises(SpaceExists):
        decide(Fake(), RestoreSpace(), "alpha")
