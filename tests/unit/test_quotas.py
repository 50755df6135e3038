"""Quotas: their forms, what they bound exactly, what they never refuse, and rates."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import engram
from engram.errors import Invalid, QuotaExceeded, RateLimited, SpaceExists
from engram.memory.quotas import NO_QUOTAS, QUOTA_MAX, Quotas, check_quotas
from engram.spaces.rates import Rates

amounts = st.none() | st.integers(1, QUOTA_MAX)
quotas = st.builds(Quotas, **dict.fromkeys(Quotas.__struct_fields__, amounts))
CALLER = engram.EmbeddingSpec(model="caller", dimensions=2)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[engram.Database]:
    with engram.open(tmp_path) as database:
        yield database


def remember(space: engram.Space, *ids: str) -> engram.Remembered:
    return space.remember_many(
        [{"id": memory_id, "content": "words", "embedding": [1.0, 0.0]} for memory_id in ids]
    )


@given(quotas)
def test_quotas_come_back_from_their_forms(said: Quotas) -> None:
    parts = msgspec.structs.asdict(said)
    for form in (said, str(said), parts):
        assert check_quotas("quotas", form) == said


@pytest.mark.parametrize(
    ("value", "field"),
    [
        *((text, "quotas") for text in ("", "all", "memories", "memories:", "memories:x")),
        *((text, "quotas") for text in ("memories:-1", "memories:1,", "memories:1,memories:2")),
        *((text, "quotas") for text in ("memories:1.5", "disk:1", "memories:" + "9" * 30)),
        (5, "quotas"),
        ({"disk": 1}, "quotas.disk"),
        ({"memories": True}, "quotas.memories"),
        ({"bytes": QUOTA_MAX + 1}, "quotas.bytes"),
        ({"recalls_per_second": 0}, "quotas.recalls_per_second"),
        (Quotas(subscribers="8"), "quotas.subscribers"),  # type: ignore[arg-type]
    ],
)
def test_what_are_no_quotas_is_refused(value: object, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_quotas("quotas", value)
    assert [item.field for item in caught.value.errors] == [field]


def test_defaults_hold_where_a_space_says_nothing() -> None:
    own = Quotas(memories=5, subscribers=0)
    assert own.over(Quotas(memories=1, bytes=2)) == Quotas(memories=5, bytes=2, subscribers=0)
    assert NO_QUOTAS.over(own) == own


def test_memories_are_bounded_exactly_and_a_batch_is_refused_whole(db: engram.Database) -> None:
    space = db.create_space("alpha", embedding=CALLER, quotas="memories:3")
    remember(space, "a", "b")
    before = space.info()
    with pytest.raises(QuotaExceeded, match="holds 2 memories, and its quota is 3"):
        remember(space, "c", "d")
    assert space.info() == before
    remember(space, "c")
    with pytest.raises(QuotaExceeded):
        remember(space, "d")
    space.revise("a", engram.Changes(tags=("still",)))  # which is none more
    space.forget("b")
    remember(space, "d")
    with pytest.raises(QuotaExceeded):
        space.restore("b")
    space.purge("d")
    assert space.restore("b").id == "b"
    space.configure(quotas="memories:1")  # lower than what there is: it stays, and may go
    space.forget("a")
    with pytest.raises(QuotaExceeded):
        remember(space, "e")
    assert space.configure(quotas="none").quotas == NO_QUOTAS
    remember(space, "e")


def test_those_who_come_at_once_do_not_get_past_it_together(db: engram.Database) -> None:
    space = db.create_space("alpha", embedding=CALLER, quotas={"memories": 10})

    def one(number: int) -> bool:
        try:
            remember(space, f"m{number}")
        except QuotaExceeded:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(one, range(48))) == 10
    assert space.info().memories == 10


def test_the_log_is_bounded_to_the_byte(db: engram.Database) -> None:
    space = db.create_space("alpha", embedding=CALLER)
    remember(space, "a")
    before = space.info().bytes or 0
    remember(space, "b")
    now = space.info().bytes or 0
    one = now - before
    # The settings are a record too, and as long with any number of so many digits.
    space.configure(quotas={"bytes": now})
    settled = (space.info().bytes or 0) - now
    room = now + 2 * settled + one
    space.configure(quotas={"bytes": room})
    remember(space, "c")
    assert space.info().bytes == room
    for write in (
        lambda: remember(space, "d"),
        lambda: space.revise("a", engram.Changes(tags=("x",))),
        lambda: space.link("a", "b", weight=0.5),
    ):
        with pytest.raises(QuotaExceeded, match="Purge some memories"):
            write()
    space.forget("b")
    space.purge("b")
    space.configure(quotas="none")
    remember(space, "d")


def test_recalls_and_what_forgets_by_itself_are_on_record_beyond_it(db: engram.Database) -> None:
    space = db.create_space("alpha")
    space.remember("The deploy key is rotated every Monday")
    space.configure(quotas="bytes:0,memories:0")
    assert space.recall("deploy key").recorded
    space.configure(forgetting="capacity:1")
    assert space.apply_forgetting().memories == ()


def test_a_consolidation_for_whose_beliefs_there_is_no_room_forms_none(db: engram.Database) -> None:
    space = db.create_space("alpha", embedding=CALLER, quotas="memories:4")
    remember(space, "a", "b", "c", "d")
    with pytest.raises(QuotaExceeded):
        space.consolidate()
    assert space.info().memories == 4
    space.configure(quotas="memories:5")
    assert len(space.consolidate().beliefs) == 1


def test_they_are_kept_and_hold_after_opening_again(tmp_path: Path) -> None:
    with engram.open(tmp_path) as db:
        space = db.create_space("alpha", embedding=CALLER, quotas="memories:1")
        assert [event.type for event in space.events()] == ["space.created", "space.configured"]
        remember(space, "a")
    with engram.open(tmp_path, quotas="memories:0,bytes:1000000") as db:
        space = db.space("alpha")
        assert space.info().quotas == Quotas(memories=1)
        assert space.quotas() == Quotas(memories=1, bytes=1_000_000)
        with pytest.raises(QuotaExceeded):
            remember(space, "b")
        with pytest.raises(QuotaExceeded, match="its quota is 0"):
            remember(db.create_space("beta", embedding=CALLER), "a")


def test_making_it_again_with_other_quotas_is_a_conflict(db: engram.Database) -> None:
    assert db.ensure_space("alpha", quotas="memories:1")[1]
    assert not db.ensure_space("alpha", quotas={"memories": 1})[1]
    assert not db.ensure_space("alpha")[1]
    with pytest.raises(SpaceExists, match="memories:1"):
        db.ensure_space("alpha", quotas="memories:2")
    with pytest.raises(Invalid):
        db.create_space("beta", quotas="lots")
    assert [info.memory_space_id for info in db.spaces()] == ["alpha"]


def test_copies_have_the_quotas_of_what_they_were_made_of(
    db: engram.Database, tmp_path: Path
) -> None:
    space = db.create_space("alpha", embedding=CALLER, quotas="memories:1")
    remember(space, "a")
    space.export(tmp_path / "alpha.engram")
    for copy in (space.fork("beta"), db.import_space("gamma", tmp_path / "alpha.engram")):
        assert copy.info().quotas == Quotas(memories=1)
        with pytest.raises(QuotaExceeded):
            remember(copy, "b")


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def charged(rates: Rates, times: int, said: Quotas, what: Any = "writes") -> Iterator[int]:
    """How long each of so many requests has to wait, 0 for those that are served."""
    for _ in range(times):
        try:
            rates.charge(what, said, "alpha")
        except RateLimited as error:
            yield error.retry_after_s
        else:
            yield 0


def test_a_second_brings_as_many_as_its_rate() -> None:
    clock = Clock()
    rates, said = Rates(clock), Quotas(writes_per_second=4, recalls_per_second=1)
    assert list(charged(rates, 6, said)) == [0, 0, 0, 0, 1, 1]
    assert list(charged(rates, 2, said, "recalls")) == [0, 1]  # of a bucket of their own
    clock.now_s += 0.5
    assert list(charged(rates, 3, said)) == [0, 0, 1]
    clock.now_s += 1_000
    assert list(charged(rates, 5, said)) == [0, 0, 0, 0, 1]
    assert list(charged(rates, 9, NO_QUOTAS)) == [0] * 9


@given(st.integers(1, 50), st.lists(st.floats(0, 3), max_size=100))
def test_no_second_sees_more_than_twice_the_rate(rate: int, steps: list[float]) -> None:
    clock = Clock()
    rates, said = Rates(clock), Quotas(writes_per_second=rate)
    served: list[float] = []
    for step in steps:
        clock.now_s += step / rate
        served += [clock.now_s for wait_s in charged(rates, 3, said) if not wait_s]
    for at_s in served:
        assert sum(at_s <= other < at_s + 1 for other in served) <= 2 * rate


def test_a_program_is_not_held_up_by_the_rates_of_its_own_spaces(db: engram.Database) -> None:
    space = db.create_space("alpha", quotas="writes_per_second:1,recalls_per_second:1")
    for number in range(3):
        space.remember(f"number {number}")
        space.recall("number")
    space.charge("writes")
    with pytest.raises(RateLimited):
        space.charge("writes")
