"""Recall through the handle: its scores by the documented formula, its choices, and its bounds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import engram
from engram.cognition.matching import SIMILARITY_WEIGHT
from engram.cognition.recall import SCORES_PER_BLOCK, _nth_best
from engram.errors import Invalid, MemoryNotFound
from engram.memory.model import Filter, Hit
from tests.unit.conftest import START_NS, SetClock

START = datetime.fromtimestamp(START_NS / 1e9, UTC)
FACTS = (
    "The deploy key is rotated every Monday",
    "The deploy key is kept in the vault of the operations team",
    "Lunch is served at noon in the kitchen",
    "Caroline went to the support group on 7 May 2023",
    "The cat sleeps on the warm server",
    "The server is restarted when the cat wakes up",
    "Monday is the day of the weekly meeting",
)
WORLDLY = (
    "Der Schlüssel wird montags getauscht",
    "鍵は毎週月曜日に交換されます",
    "钥匙每周一更换",
    "يتم تدوير المفتاح كل يوم اثنين",
    "המפתח מוחלף בכל יום שני",
    "열쇠는 매주 월요일에 바뀝니다",
    "กุญแจถูกเปลี่ยนทุกวันจันทร์",
    "चाबी हर सोमवार को बदली जाती है",
    "🔑🔁📅",
    "👨‍👩‍👧‍👦 on holiday 🏖️",
    "naïve café, ﬁancé; Ωmega",
    "zażółć gęślą jaźń",
    "\u202eright to left\u202c",
    "x",
    "42",
    "…",
    "???",
    "C++ vs C#: a->b::c()",
    "\x00\x01 binary\x7f",
)
HOSTILE = (
    "?" * 500,
    '"deploy key',
    "'deploy' OR 1=1; --",
    "deploy AND key NOT vault",
    "deploy NEAR/3 key",
    "NEAR(deploy key)",
    "content:deploy^2 ~key",
    "(((deploy",
    "deploy*)",
    "* ? [a-z] {1,9}",
    "\\deploy\\",
    "<s> deploy </s>",
    "%s %d {0} ${deploy}",
    "deploy\0key",
    "deploy\nkey\r\n\tvault",
    "-deploy +key !vault",
    "the of and is",
    "\ufeffdeploy",
    "deploy key? " * 4_000,
)


@pytest.fixture
def facts(alpha: engram.Space) -> engram.Space:
    alpha.remember_many([{"id": str(i), "content": text} for i, text in enumerate(FACTS)])
    return alpha


def ids(answer: engram.Recall) -> list[str]:
    return [hit.memory.id for hit in answer]


def assert_scores_follow(hits: tuple[Hit, ...], weight: float) -> None:
    """The formula of engram.cognition.matching; `hits` must be all candidates there are."""
    whys = [hit.why for hit in hits if hit.why is not None]
    assert len(whys) == len(hits) > 1
    cosines = [why.cosine for why in whys if why.cosine is not None]
    bm25s = [why.bm25 for why in whys if why.bm25 is not None]
    for hit, why in zip(hits, whys, strict=True):
        similarity = lexical = 0.0
        if why.cosine is not None:
            similarity = weight * (why.cosine - min(cosines)) / (max(cosines) - min(cosines))
        if why.bm25 is not None and max(bm25s) > 0:
            lexical = (1 - weight) * why.bm25 / max(bm25s)
        assert why.similarity == pytest.approx(similarity, abs=1e-6)
        assert why.lexical == pytest.approx(lexical, abs=1e-6)
        uses = why.recency + why.frequency
        assert hit.score == pytest.approx(why.similarity + why.lexical + uses, abs=1e-9)
        assert (why.window, why.activation, why.path, hit.hops) == (0, 0, (), 0)
        assert why.positions == (hit.memory.position,)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@pytest.mark.parametrize(
    ("mode", "weight", "speaks"),
    [
        ("hybrid", SIMILARITY_WEIGHT, (True, True)),
        ("similarity", 1.0, (True, False)),
        ("lexical", 0.0, (False, True)),
    ],
)
def test_scores_are_reproduced_from_why_by_the_documented_formula(
    facts: engram.Space,
    mode: engram.memory.model.Mode | None,
    weight: float,
    speaks: tuple[bool, bool],
) -> None:
    answer = facts.recall("when is the deploy key rotated?", mode=mode, limit=1_000, explain=True)
    for hit in answer:
        assert hit.why is not None
        assert (hit.why.cosine is not None, hit.why.bm25 is not None) == speaks
    assert_scores_follow(answer.results, weight)
    assert answer.mode == mode
    assert ids(answer)[0] == "0"


def test_explaining_changes_no_score(facts: engram.Space) -> None:
    bare, explained = (
        facts.recall("deploy key", explain=explain, record=False) for explain in (False, True)
    )
    assert [(h.memory, h.score, h.confidence, h.activation) for h in bare] == [
        (h.memory, h.score, h.confidence, h.activation) for h in explained
    ]
    assert all(hit.why is None for hit in bare)


def test_lexical_answers_hold_a_word_of_the_question(facts: engram.Space) -> None:
    assert set(ids(facts.recall("deploy keys", mode="lexical", limit=100))) == {"0", "1"}
    assert ids(facts.recall("zebra", mode="lexical")) == []


def test_no_channel_gates_the_other(facts: engram.Space) -> None:
    assert len(facts.recall("zebra", mode="hybrid", limit=100)) == len(FACTS)


@pytest.mark.parametrize(
    ("asked", "mode"),
    [
        ({"query": "lunch"}, "spreading"),
        ({"memory_ids": ["2"]}, "spreading"),
        ({"embedding": [1.0] * 256}, "similarity"),
        ({"query": "lunch", "embedding": [1.0] * 256}, "spreading"),
        ({"embedding": [1.0] * 256, "spread": engram.Spread()}, "spreading"),
    ],
)
def test_auto_names_its_choice(facts: engram.Space, asked: dict, mode: str) -> None:
    assert facts.recall(**asked).mode == mode


@pytest.mark.parametrize(
    ("asked", "mode"),
    [
        ({"query": "lunch"}, "spreading"),
        ({"embedding": [1.0, 0.0, 0.0]}, "similarity"),
        ({"query": "lunch", "embedding": [1.0, 0.0, 0.0]}, "spreading"),
        ({"memory_ids": ["a"]}, "spreading"),
    ],
)
def test_auto_knows_that_a_space_has_no_embedder(
    vectors: engram.Space, asked: dict, mode: str
) -> None:
    vectors.remember("lunch", id="a", embedding=[1.0, 0.0, 0.0])
    assert vectors.recall(**asked).mode == mode


def test_similarity_without_a_vector_is_refused(vectors: engram.Space) -> None:
    with pytest.raises(Invalid, match="needs a vector"):
        vectors.recall("lunch", mode="similarity")


def test_an_empty_space_answers_with_nothing(alpha: engram.Space, vectors: engram.Space) -> None:
    for answer in (
        alpha.recall("anything"),
        alpha.recall("anything", mode="lexical"),
        alpha.recall("anything", mode="similarity", min_confidence=0.0),
        vectors.recall(embedding=[1.0, 0.0, 0.0]),
    ):
        assert answer.results == ()
        assert answer.position == 1


@pytest.mark.parametrize("mode", ["similarity", "lexical", "hybrid"])
def test_a_single_memory_gets_the_whole_score(alpha: engram.Space, mode: str) -> None:
    alpha.remember("The deploy key", id="only")
    (hit,) = alpha.recall("deploy", mode=mode, explain=True)
    assert hit.memory.id == "only"
    assert hit.score == pytest.approx(1.0)


@pytest.mark.parametrize("question", HOSTILE, ids=[repr(text[:20]) for text in HOSTILE])
def test_no_character_of_a_question_is_syntax(facts: engram.Space, question: str) -> None:
    for mode in (None, "lexical", "similarity"):
        answer = facts.recall(question, mode=mode, limit=3)
        assert len(answer) <= 3
        if "deploy" in question and mode != "similarity":
            assert ids(answer)[0] in {"0", "1"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(question=st.text(min_size=1, max_size=60))
def test_any_text_may_be_asked(facts: engram.Space, question: str) -> None:
    try:
        answer = facts.recall(question, limit=100, explain=True)
    except Invalid:
        assert not question.strip()
        return
    for hit in answer:
        assert np.isfinite(hit.score)
        assert 0 <= hit.confidence.lower <= hit.confidence.point <= hit.confidence.upper <= 1


@pytest.mark.parametrize("text", FACTS + WORLDLY, ids=ascii)
def test_every_memory_is_recalled_first_by_its_own_text(alpha: engram.Space, text: str) -> None:
    alpha.remember_many([{"content": each} for each in FACTS + WORLDLY])
    for mode in ("hybrid", "similarity", "spreading"):
        first = alpha.recall(text, mode=mode, limit=1).results[0]
        assert first.memory.content == text


def test_near_duplicates_are_kept_and_each_is_recalled_by_its_own_text(
    alpha: engram.Space,
) -> None:
    texts = [f"The deploy key number {i} is rotated every Monday" for i in range(40)]
    texts += ["The deploy key is rotated every Monday", "the deploy key is rotated every monday!"]
    alpha.remember_many(texts)
    assert alpha.info().memories == len(texts)
    for text in texts[:-2]:
        assert alpha.recall(text, limit=1).results[0].memory.content == text
    for text in texts[-2:]:
        assert text in [hit.memory.content for hit in alpha.recall(text, limit=2)]


def test_the_same_text_twice_is_two_memories_in_the_order_of_their_ids(
    alpha: engram.Space,
) -> None:
    for number in (3, 0, 4, 2, 1):
        alpha.remember("The deploy key is rotated", id=f"m{number}")
        alpha.remember(FACTS[number], id=f"other {number}")
    answer = alpha.recall("The deploy key is rotated", limit=5)
    assert ids(answer) == ["m0", "m1", "m2", "m3", "m4"]
    assert len({hit.score for hit in answer}) == 1
    assert ids(alpha.recall("The deploy key is rotated", limit=2)) == ["m0", "m1"]


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 8, 1_000])
def test_a_limit_cuts_the_same_order(facts: engram.Space, limit: int) -> None:
    whole = ids(facts.recall("the server on Monday", limit=1_000, record=False))
    assert ids(facts.recall("the server on Monday", limit=limit, record=False)) == whole[:limit]


FILTERS: dict[str, tuple[Filter, set[str]]] = {
    "all of some tags": (Filter(tags_all=("red", "round")), {"ball"}),
    "any of some tags": (Filter(tags_any=("red", "green")), {"ball", "car", "leaf"}),
    "a tag nobody has": (Filter(tags_any=("nobody",)), set()),
    "a kind": (Filter(kind="fact"), {"leaf"}),
    "a source": (Filter(source="s1"), {"ball", "leaf"}),
    "a metadata value": (Filter(metadata={"n": 2}), {"car"}),
    "a metadata range": (Filter(metadata={"n": {"$gte": 2, "$lt": 10}}), {"car", "leaf"}),
    "metadata that is absent": (Filter(metadata={"n": {"$exists": False}}), {"sky"}),
    "since, inclusive": (Filter(since=START + timedelta(days=2)), {"leaf", "sky"}),
    "until, exclusive": (Filter(until=START + timedelta(days=2)), {"ball", "car"}),
    "everything at once": (
        Filter(tags_any=("red",), source="s1", metadata={"n": 1.0}, until=START + timedelta(1)),
        {"ball"},
    ),
    "nothing": (Filter(), {"ball", "car", "leaf", "sky"}),
}


@pytest.fixture
def things(alpha: engram.Space) -> engram.Space:
    alpha.remember_many(
        [
            {
                "id": "ball",
                "content": "a red ball",
                "tags": ["red", "round"],
                "source": "s1",
                "metadata": {"n": 1},
            },
            {
                "id": "car",
                "content": "a red car",
                "tags": ["red"],
                "metadata": {"n": 2},
                "occurred_at": START + timedelta(days=1),
            },
            {
                "id": "leaf",
                "content": "a leaf",
                "tags": ["green"],
                "kind": "fact",
                "source": "s1",
                "metadata": {"n": 9},
                "occurred_at": START + timedelta(days=2),
            },
            {"id": "sky", "content": "the sky", "occurred_at": START + timedelta(days=3)},
        ]
    )
    return alpha


@pytest.mark.parametrize(("chosen", "right"), FILTERS.values(), ids=FILTERS.keys())
def test_a_filter_holds_for_recall_and_for_lists(
    things: engram.Space, chosen: Filter, right: set[str]
) -> None:
    assert set(ids(things.recall("a red ball", filter=chosen))) == right
    assert {memory.id for memory in things.list(chosen).memories} == right


def test_scores_are_scaled_among_what_the_filter_lets_through(things: engram.Space) -> None:
    answer = things.recall("a red ball", filter=Filter(source="s1"), mode="hybrid", explain=True)
    assert_scores_follow(answer.results, SIMILARITY_WEIGHT)


def test_min_confidence_cuts_by_the_point_and_changes_no_score(facts: engram.Space) -> None:
    every = facts.recall("when is the deploy key rotated", limit=100, record=False).results
    points = sorted(hit.confidence.point for hit in every)
    for bound in (0.0, points[2], points[-1], 1.0):
        kept = facts.recall(
            "when is the deploy key rotated", limit=100, min_confidence=bound, record=False
        )
        assert kept.results == tuple(hit for hit in every if hit.confidence.point >= bound)
    assert facts.recall("deploy", min_confidence=1.0).results == ()


def test_a_memorys_own_confidence_bounds_its_confidence(alpha: engram.Space) -> None:
    for own in (0.0, 0.25, 1.0):
        alpha.remember("The deploy key is rotated", id=str(own), confidence=own)
    points = {hit.memory.id: hit.confidence for hit in alpha.recall("The deploy key is rotated")}
    assert points["0.0"].point == points["0.0"].lower == 0.0
    assert 0 < points["0.25"].point <= 0.25
    assert points["0.25"].point == pytest.approx(points["1.0"].point / 4)


def test_more_words_found_means_more_confidence(facts: engram.Space) -> None:
    sure = facts.recall("deploy key rotated every Monday").results[0]
    unsure = facts.recall("deploy zebra quantum umbrella").results[0]
    assert sure.confidence.point > unsure.confidence.point
    assert sure.activation > unsure.activation


def test_memories_as_cue_do_not_answer_themselves(facts: engram.Space) -> None:
    answer = facts.recall(memory_ids=["0", "4"], limit=100)
    assert set(ids(answer)) == {"1", "2", "3", "5", "6"}
    assert ids(answer)[0] in {"1", "5", "6"}
    assert ids(facts.recall(memory_ids=[str(i) for i in range(len(FACTS))])) == []


@pytest.mark.parametrize("cue", ["unheard-of", "forgotten", "expired"])
def test_a_cue_that_is_not_there_is_named(facts: engram.Space, clock: SetClock, cue: str) -> None:
    facts.remember("x", id="forgotten")
    facts.forget("forgotten")
    facts.remember("x", id="expired", expires_at=START + timedelta(seconds=1))
    clock.go_on(2)
    with pytest.raises(MemoryNotFound, match=rf"memory_ids\[1\].*{cue}"):
        facts.recall(memory_ids=["0", cue])


def test_forgotten_and_expired_memories_leave_no_trace_in_the_scores_of_others(
    db: engram.Database, clock: SetClock
) -> None:
    clean, used = db.create_space("clean"), db.create_space("used")
    for text in FACTS:
        clean.remember(text, id=text)
    for text in FACTS:
        used.remember(text, id=text)
        used.remember(f"{text} and more of the deploy key", id="gone")
        used.forget("gone")
    used.remember("deploy key", id="late", expires_at=START + timedelta(hours=1))
    clock.go_on(3_600)
    shown = [
        [
            (h.memory.content, h.score, h.confidence, h.activation)
            for h in s.recall("deploy key", record=False)
        ]
        for s in (clean, used)
    ]
    assert shown[0] == shown[1]


def test_an_expired_memory_is_never_shown(alpha: engram.Space, clock: SetClock) -> None:
    alpha.remember("The deploy key", id="late", expires_at=START + timedelta(seconds=10))
    alpha.remember("The deploy key", id="stays")
    clock.go_on(9.999999)
    assert set(ids(alpha.recall("deploy"))) == {"late", "stays"}
    clock.go_on(0.000001)
    assert ids(alpha.recall("deploy")) == ["stays"]
    assert ids(alpha.recall("deploy", mode="lexical", filter=Filter(kind="episode"))) == ["stays"]
    assert [memory.id for memory in alpha.list().memories] == ["stays"]
    assert alpha.info().memories == 1
    calls: list[Callable[[], object]] = [
        lambda: alpha.get("late"),
        lambda: alpha.forget("late"),
        lambda: alpha.revise("late", engram.Changes(expires_at=None)),
    ]
    for call in calls:
        with pytest.raises(MemoryNotFound):
            call()


def test_revisions_go_on_through_forgetting_and_expiry(
    db: engram.Database, alpha: engram.Space, clock: SetClock
) -> None:
    assert alpha.remember("one", id="m").revision == 1
    assert alpha.revise("m", engram.Changes(content="two")).revision == 2
    alpha.forget("m")
    assert alpha.remember("three", id="m", expires_at=START + timedelta(seconds=1)).revision == 3
    clock.go_on(1)
    before = alpha.info().position
    four = alpha.remember("four", id="m")
    assert four.revision == 4
    assert before is not None
    assert four.position == before + 2  # the expiry is an event of its own
    db.close()
    with engram.open(db.path) as again:
        assert again.space("alpha").get("m") == four
        assert again.space("alpha").revise("m", engram.Changes(tags=("t",))).revision == 5


def test_a_revision_replaces_given_fields_and_clears_with_none(alpha: engram.Space) -> None:
    old = alpha.remember(
        "old text", id="m", tags=["t"], metadata={"a": 1}, confidence=0.5, occurred_at=START,
        source="s", kind="fact",
    )  # fmt: skip
    new = alpha.revise("m", engram.Changes(tags=None, metadata={"b": 2}, source=None))
    assert (new.tags, new.metadata, new.source) == ((), {"b": 2}, None)
    assert (new.content, new.confidence, new.occurred_at, new.kind) == (
        old.content, 0.5, START, "fact",
    )  # fmt: skip
    assert alpha.revise("m", engram.Changes(confidence=None)).confidence == 1.0
    alpha.revise("m", engram.Changes(content="Lunch is at noon"))
    alpha.remember("Dinner is at eight")
    assert ids(alpha.recall("noon lunch", mode="similarity"))[0] == "m"
    assert ids(alpha.recall("old text", mode="lexical")) == []


def test_lists_page_by_ascending_position(alpha: engram.Space) -> None:
    for number in range(7):
        alpha.remember(f"memory {number}", id=str(number))
    alpha.forget("2")
    alpha.revise("0", engram.Changes(tags=("t",)))
    whole = alpha.list(limit=1_000)
    assert [memory.id for memory in whole.memories] == ["1", "3", "4", "5", "6", "0"]
    assert whole.next is None
    for limit in (1, 2, 3, 5, 6, 7):
        paged, after = [], None
        while True:
            page = alpha.list(limit=limit, after=after)
            paged += page.memories
            if page.next is None:
                break
            assert len(page.memories) == limit
            after = page.next
        assert tuple(paged) == whole.memories


@pytest.mark.parametrize(
    ("after", "shown"),
    [(-(1 << 70), 2), (-1, 2), (0, 2), (1, 2), (2, 1), (3, 0), (1 << 63, 0), (1 << 70, 0)],
)
def test_a_page_may_begin_behind_any_number(alpha: engram.Space, after: int, shown: int) -> None:
    alpha.remember_many(["one", "two"])
    page = alpha.list(after=after)
    assert (len(page.memories), page.next) == (shown, None)


def test_a_memory_that_is_revised_all_the_time_is_always_found_as_a_cue(
    vectors: engram.Space,
) -> None:
    vectors.remember("cue", id="cue", embedding=[1.0, 0.0, 0.0])
    vectors.remember("answer", id="answer", embedding=[1.0, 1.0, 0.0])
    done = threading.Event()

    def revise() -> None:
        for number in range(150):
            vectors.revise("cue", engram.Changes(tags=(str(number),)))
        done.set()

    writer = threading.Thread(target=revise)
    writer.start()
    asked = 0
    while not done.is_set() or not asked:
        assert ids(vectors.recall(memory_ids=["cue"])) == ["answer"]
        asked += 1
    writer.join()


def test_the_answer_names_the_position_it_was_read_at(facts: engram.Space) -> None:
    first = facts.recall("deploy", record=False)
    assert first.position == facts.info().position == 1 + len(FACTS)
    facts.remember("one more")
    second = facts.recall("deploy", record=False)
    assert second.position == first.position + 1
    assert first.recall_id != second.recall_id
    assert first.memory_space_id == "alpha"
    assert not first.recorded
    assert facts.recall("deploy").recorded


@given(
    blocks=st.integers(0, 6),
    rest=st.integers(0, SCORES_PER_BLOCK - 1),
    number=st.integers(1, 5),
    levels=st.integers(1, 2_000),
    seed=st.integers(0, 99),
)
def test_the_bar_for_the_best_is_the_same_as_by_sorting(
    blocks: int, rest: int, number: int, levels: int, seed: int
) -> None:
    count = max(number, blocks * SCORES_PER_BLOCK + rest)
    scores = np.random.default_rng(seed).integers(0, levels, count) / levels
    assert _nth_best(scores, number) == np.sort(scores)[-number]
