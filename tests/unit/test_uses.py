"""Uses, from the recall that is one to the score that they count in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import engram
from engram import Changes, Why
from engram.embedding.registry import DEFAULT
from engram.memory.decay import WEIGHT_DEFAULT
from engram.memory.model import Mode
from engram.spaces.space import Space
from engram.spaces.verify import verify
from tests.unit.conftest import START_NS, UNIT, SetClock

DAY_S = 86_400
TEXTS = {
    "rota": "the deploy key is rotated every Monday",
    "vault": "the deploy key is kept in a vault",
    "lunch": "lunch is at noon and the key is on the hook",
    "desk": "the key of the desk is lost",
}


@pytest.fixture
def kept(alpha: Space, clock: SetClock) -> Space:
    alpha.remember_many([{"id": id_, "content": text} for id_, text in TEXTS.items()])
    clock.go_on(DAY_S)
    return alpha


def used(space: Space, text: str, times: int = 1, limit: int = 10) -> None:
    """Recall, and wait until that is on record."""
    before = space.info().position
    for _ in range(times):
        assert space.recall(text, limit=limit).recorded
    told = space.events(after=before, types=["memory.recalled"], follow=True)
    for _ in range(times):
        next(told)


def whys(space: Space, text: str = "deploy key", **asked: object) -> dict[str, Why]:
    answer = space.recall(text, explain=True, record=False, **asked)  # type: ignore[arg-type]
    found = {hit.memory.id: hit.why for hit in answer if hit.why is not None}
    for hit in answer:
        why = found[hit.memory.id]
        others = why.similarity + why.lexical + why.window + why.activation
        assert hit.score == pytest.approx(others + why.recency + why.frequency, abs=1e-9)
    return found


def room(why: Why) -> float:
    return 1 - (why.similarity + why.lexical + why.window + why.activation)


def test_the_first_that_a_recall_answers_with_are_used(kept: Space) -> None:
    first = [hit.memory.id for hit in kept.recall("deploy key", record=False)]
    assert all(why.frequency == 0 for why in whys(kept).values())
    used(kept, "deploy key")
    found = whys(kept, mode="hybrid")
    assert [id_ for id_ in first if found[id_].frequency] == first[1:3]
    for id_ in first[1:3]:  # of the first, which matches in full, there is nothing left to say
        why = found[id_]
        assert why.recency == pytest.approx(WEIGHT_DEFAULT * room(why) * 0.5, abs=1e-6)
        total = 1 + 2**-0.5
        all_ = WEIGHT_DEFAULT * room(why) * total / (1 + total)
        assert why.recency + why.frequency == pytest.approx(all_, abs=2e-6)
    unused = found[first[3]]
    strength = 2**-0.5
    right = WEIGHT_DEFAULT * room(unused) * strength / (1 + strength)
    assert unused.recency == pytest.approx(right, abs=1e-6)


def test_what_was_used_is_as_sure_and_the_interval_around_that_is_narrower(kept: Space) -> None:
    def sure() -> dict[str, engram.Confidence]:
        answer = kept.recall("deploy key", record=False)
        return {hit.memory.id: hit.confidence for hit in answer}

    before, first = sure(), list(whys(kept))[:3]
    used(kept, "deploy key", times=3)
    after = sure()
    for id_, was in before.items():
        now = after[id_]
        assert now.point == was.point
        assert (now.upper - now.lower < was.upper - was.lower) == (id_ in first)


def test_what_was_not_put_on_record_was_no_use(kept: Space) -> None:
    position = kept.info().position
    kept.recall("deploy key", record=False)
    kept.recall("deploy key", as_of=position)
    kept.remember("something else")
    assert all(why.frequency == 0 for why in whys(kept, limit=4).values())


def test_memories_fade_by_the_law_of_their_space(kept: Space, clock: SetClock) -> None:
    kept.configure(decay="exponential:1d,weight:0.5")
    for days in (1, 2, 10):
        for why in whys(kept, mode="hybrid").values():
            strength = 0.5**days
            right = 0.5 * room(why) * strength / (1 + strength)
            assert why.recency == pytest.approx(right, abs=1e-6)
        clock.go_on(DAY_S if days == 1 else 8 * DAY_S)
    kept.configure(decay="none,weight:0.5")
    for why in whys(kept).values():
        assert why.recency == pytest.approx(0.25 * room(why), abs=1e-6)
    kept.configure(decay="none,weight:0")
    assert all(why.recency == why.frequency == 0 for why in whys(kept).values())


@pytest.mark.parametrize("mode", ["similarity", "lexical"])
def test_a_match_alone_is_asked_for_in_these_modes(kept: Space, mode: Mode) -> None:
    used(kept, "deploy key")
    assert all(why.recency == why.frequency == 0 for why in whys(kept, mode=mode).values())


@pytest.mark.parametrize("mode", ["hybrid", "spreading"])
def test_of_what_matches_as_well_the_used_comes_first(
    alpha: Space, clock: SetClock, mode: Mode
) -> None:
    for id_ in ("a", "b"):
        alpha.remember("the deploy key is rotated", id=id_)
    alpha.remember("lunch is at noon", id="c")
    asked = "rotated lunch"
    assert next(iter(whys(alpha, asked, mode=mode, limit=1))) in {"a", "c"}
    both = [id_ for id_ in whys(alpha, asked, mode=mode) if id_ != "c"]
    assert both == ["a", "b"]
    alpha.revise("b", Changes(tags=["used"]))
    before = alpha.info().position
    for _ in range(3):
        alpha.recall("rotated", filter=engram.Filter(tags_any=("used",)))
    told = alpha.events(after=before, types=["memory.recalled"], follow=True)
    assert [next(told).results[0].id for _ in range(3)] == ["b"] * 3  # type: ignore[index]
    clock.go_on(DAY_S)
    both = [id_ for id_ in whys(alpha, asked, mode=mode) if id_ != "c"]
    assert both == ["b", "a"]


def test_what_matches_in_full_stays_in_front_however_often_another_was_used(
    alpha: Space,
) -> None:
    alpha.configure(decay="none,weight:1")
    alpha.remember("the deploy key is rotated on Monday", id="often")
    used(alpha, "Monday", times=60)
    alpha.remember("the deploy key is rotated on Tuesday", id="right")
    for mode in ("hybrid", "spreading"):
        found = alpha.recall("the deploy key is rotated on Tuesday", mode=mode, record=False)
        assert [hit.memory.id for hit in found] == ["right", "often"]


def test_the_past_knows_no_later_uses_and_has_its_own_now(kept: Space, clock: SetClock) -> None:
    then, position = whys(kept), kept.info().position
    clock.go_on(-DAY_S)
    kept.configure(decay="exponential:2d,weight:0.3")
    configured = kept.info().position
    right = whys(kept)
    clock.go_on(DAY_S)
    used(kept, "deploy key", times=3)
    clock.go_on(300 * DAY_S)
    assert whys(kept, as_of=configured) == right
    past = whys(kept, as_of=position)
    assert past.keys() == then.keys()
    for why in past.values():  # it was new then, and the law was another
        assert why.frequency == 0
        assert why.recency == pytest.approx(WEIGHT_DEFAULT * room(why) / 2, abs=1e-6)


def test_uses_outlive_the_process_checkpoints_bundles_and_forks(
    kept: Space, db: engram.Database, clock: SetClock, tmp_path: Path
) -> None:
    used(kept, "deploy key", times=11)
    used(kept, "lunch", limit=2)
    clock.go_on(5 * DAY_S)
    before = whys(kept)
    kept.compact()
    assert whys(kept) == before
    used(kept, "desk", limit=1)
    clock.go_on(DAY_S)
    before = whys(kept)
    assert len({why.frequency for why in before.values()}) > 2
    kept.export(tmp_path / "kept.bundle")
    copies = [db.import_space("imported", tmp_path / "kept.bundle"), kept.fork("forked")]
    kept.compact()
    copies.append(kept)
    for copy in copies:
        assert whys(copy) == before


def test_a_memory_taken_back_was_used_and_an_id_used_anew_was_not(
    kept: Space, clock: SetClock
) -> None:
    used(kept, "deploy key vault")
    kept.forget("vault")
    kept.forget("rota")
    clock.go_on(DAY_S)
    kept.restore("vault")
    kept.remember(TEXTS["rota"], id="rota")
    found = whys(kept, "lost vault and rotated")
    assert found["vault"].frequency > 0
    assert found["vault"].recency == pytest.approx(
        WEIGHT_DEFAULT / 2 * room(found["vault"]), abs=1e-6
    )
    assert found["rota"].frequency == 0


def test_what_happened_long_ago_is_as_old_as_that(alpha: Space) -> None:
    year_2000 = START_NS // 1_000_000_000 - 23 * 365 * DAY_S
    alpha.remember("the key is old", id="old", occurred_at=datetime.fromtimestamp(year_2000, UTC))
    alpha.remember("the key is new", id="new")
    soon = datetime.fromtimestamp(START_NS / 1e9, UTC) + timedelta(days=9)
    alpha.remember("the key is to come", id="later", occurred_at=soon)
    found = whys(alpha, "desk key lost", mode="hybrid")
    for id_, presence in {"new": 0.5, "later": 0.5, "old": 0.01079}.items():
        right = WEIGHT_DEFAULT * room(found[id_]) * presence
        assert found[id_].recency == pytest.approx(right, abs=2e-6)


APART = {
    "piano": "the piano wants tuning",
    "grete": "Grete comes on Thursday",
    "soup": "lentils were burnt again",
    "boat": "a varnish for wooden hulls",
}


@pytest.fixture
def apart(alpha: Space) -> Space:
    """Memories that share no word and no source."""
    alpha.remember_many([{"id": id_, "content": text} for id_, text in APART.items()])
    return alpha


def reminds_of(space: Space, text: str, **asked: object) -> dict[str, list[str]]:
    """What else than by its own words, and by which associations."""
    asked = {"spread": engram.Spread(max_hops=1), **asked}
    answer = space.recall(text, mode="spreading", explain=True, record=False, **asked)  # type: ignore[arg-type]
    return {
        hit.memory.id: [step.relation for step in hit.why.path]
        for hit in answer
        if hit.why is not None and hit.why.path
    }


def test_what_is_always_recalled_together_comes_up_though_it_shares_no_word(apart: Space) -> None:
    before = {hit.memory.id: hit.score for hit in apart.recall("piano tuning", record=False)}
    assert reminds_of(apart, "piano tuning") == {}
    for _ in range(6):
        used(apart, "piano tuning Thursday Grete", limit=2)
    assert reminds_of(apart, "piano tuning")["grete"] == ["recall"]
    answer = apart.recall("piano tuning", record=False)
    assert [hit.memory.id for hit in answer][:2] == ["piano", "grete"]
    score = {hit.memory.id: hit.score for hit in answer}
    assert score["grete"] > before["grete"] + 0.3
    assert all(score[id_] == before[id_] for id_ in ("soup", "boat"))


def test_recalls_that_are_not_on_record_bring_nothing_together(apart: Space) -> None:
    for _ in range(6):
        apart.recall("piano Thursday", limit=2, record=False)
        apart.recall("piano Thursday", limit=2, as_of=apart.info().position)
    apart.remember("nothing", id="nothing")
    used(apart, "piano tuning", limit=1)
    assert reminds_of(apart, "piano tuning") == {}


def test_company_outlives_checkpoints_bundles_and_forks(
    apart: Space, db: engram.Database, tmp_path: Path
) -> None:
    then = apart.info().position
    for _ in range(3):
        used(apart, "piano Thursday", limit=2)
    right = {"grete": ["recall"]}
    assert reminds_of(apart, "piano tuning") == right
    assert reminds_of(apart, "piano tuning", as_of=then) == {}
    apart.export(tmp_path / "log.bundle")
    apart.compact()
    apart.configure(retention="positions:1")
    apart.compact()  # from here on a base is all that knows of it
    apart.export(tmp_path / "base.bundle")
    copies = [
        apart,
        db.import_space("log", tmp_path / "log.bundle"),
        db.import_space("base", tmp_path / "base.bundle"),
        apart.fork("forked"),
    ]
    for copy in copies:
        assert reminds_of(copy, "piano tuning") == right


def test_company_comes_along_to_another_embedder(vectors: Space) -> None:
    for id_, text in APART.items():
        vectors.remember(text, id=id_, embedding=UNIT)
    for _ in range(3):
        used(vectors, "piano Thursday", limit=2)
    copy = vectors.fork("embedded", embedding=DEFAULT)
    assert reminds_of(copy, "piano tuning") == {"grete": ["recall"]}


def test_company_goes_and_comes_with_its_memory(apart: Space) -> None:
    for _ in range(3):
        used(apart, "piano Thursday", limit=2)
    right = {"grete": ["recall"]}
    apart.revise("grete", Changes(content="Grete comes on Wednesday"))
    assert reminds_of(apart, "piano tuning") == right
    apart.forget("grete")
    assert reminds_of(apart, "piano tuning") == {}
    apart.compact()
    apart.restore("grete")
    assert reminds_of(apart, "piano tuning") == right
    apart.forget("grete")
    apart.remember(APART["grete"], id="grete")  # which is another life
    assert reminds_of(apart, "piano tuning") == {}


def test_who_was_purged_is_nobodys_company(apart: Space, db: engram.Database) -> None:
    for _ in range(3):
        used(apart, "piano Thursday", limit=2)
    used(apart, "piano lentils", limit=2)
    apart.purge("grete")
    apart.remember(APART["grete"], id="grete")
    apart.compact()
    assert reminds_of(apart, "piano tuning") == {"soup": ["recall"]}
    (report,) = verify(db.path / "alpha")
    assert report.damage == []
