"""Pattern completion: the equations themselves, and what a space answers by them."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engram
from engram.cognition import completion as core
from engram.errors import Invalid, TooLarge
from engram.indexes.vectors import Vectors
from engram.limits import BETA_DEFAULT, QUERY_BYTES_MAX
from engram.memory.completion import Known
from tests.unit.conftest import START_NS, SetClock

DIMENSIONS = 64
START = datetime.fromtimestamp(START_NS / 1e9, UTC)


def index_of(matrix: np.ndarray[Any, Any]) -> Vectors:
    vectors = Vectors(matrix.shape[1])
    vectors.extend(matrix)
    return vectors


def plain_steps(
    matrix: np.ndarray[Any, Any], overlap: Any, bias: Any, beta: float, steps: int
) -> tuple[Any, Any]:
    """The same equations, written without any of the engine."""
    units = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    for _ in range(steps):
        grown = np.exp(beta * (overlap + bias) - (beta * (overlap + bias)).max())
        attention = grown / grown.sum()
        state = attention @ units
        overlap = units @ state
    return attention, state


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 40),
    beta=st.sampled_from([0.01, 1.0, 8.0, 32.0, 1000.0]),
    hidden=st.integers(0, 7),
    agreeing=st.booleans(),
)
def test_it_settles_where_the_equations_say(
    seed: int, count: int, beta: float, hidden: int, agreeing: bool
) -> None:
    random = np.random.default_rng(seed)
    matrix = random.standard_normal((count, 8)).astype(np.float32)
    cue = random.standard_normal(8).astype(np.float32)
    known = np.arange(8) >= hidden
    bias = random.integers(0, 2, count).astype(np.float64) if agreeing else np.zeros(count)
    vectors, rows = index_of(matrix).view(), np.arange(count)
    part = core.Part(np.where(known, cue, np.float32(0)), known if hidden else None)
    settled = core.settle(vectors, rows, core.Cue((part,), (bias,) if agreeing else ()), beta)
    partial = matrix[:, known].astype(np.float64)
    overlap = partial @ cue[known] / np.linalg.norm(partial, axis=1) / np.linalg.norm(cue[known])
    attention, state = plain_steps(matrix.astype(np.float64), overlap, bias, beta, settled.steps)
    np.testing.assert_allclose(settled.attention, attention, atol=2e-3)
    np.testing.assert_allclose(settled.state, state, atol=2e-3)
    assert settled.attention.sum() == pytest.approx(1)
    # One more step leads nowhere, and none has led uphill.
    if settled.converged:
        _, after = plain_steps(
            matrix, vectors.cosine(state.astype(np.float32)) * np.linalg.norm(state), bias, beta, 1
        )
        assert np.linalg.norm(after - state) < 1e-2
    energies = [
        core.energy(vectors, rows, bias, plain_steps(matrix, overlap, bias, beta, n)[1], beta)
        for n in range(1, settled.steps + 1)
    ]
    assert all(later <= earlier + 1e-5 for earlier, later in pairwise(energies))


def test_the_order_of_rows_changes_nothing() -> None:
    random = np.random.default_rng(5)
    matrix = random.standard_normal((500, DIMENSIONS)).astype(np.float32)
    cue = core.Cue(
        (core.Part(matrix[7] + random.standard_normal(DIMENSIONS).astype(np.float32)),), ()
    )
    order = random.permutation(500)
    for beta in (1.0, BETA_DEFAULT):
        straight = core.settle(index_of(matrix).view(), np.arange(500), cue, beta)
        shuffled = core.settle(index_of(matrix[order]).view(), np.arange(500), cue, beta)
        np.testing.assert_allclose(straight.attention[order], shuffled.attention, atol=1e-6)


def test_many_rows_are_combined_in_blocks() -> None:
    random = np.random.default_rng(6)
    matrix = random.standard_normal((10_000, 5)).astype(np.float32)
    base = matrix[:3_000], 1 / np.linalg.norm(matrix[:3_000], axis=1).astype(np.float32)
    vectors = Vectors(5, base)
    vectors.extend(matrix[3_000:])
    rows = np.flatnonzero(random.random(10_000) < 0.9)
    weights = random.random(len(rows))
    units = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    expected = weights @ units[rows].astype(np.float64)
    np.testing.assert_allclose(vectors.view().combined(rows, weights), expected, rtol=1e-4)
    known = np.array([True, False, True, True, False])
    part = matrix[:, known]
    cosines = (
        part @ matrix[4, known] / np.linalg.norm(part, axis=1) / np.linalg.norm(matrix[4, known])
    )
    np.testing.assert_allclose(vectors.view().cosine_over(matrix[4], known), cosines, atol=1e-5)
    assert not vectors.view().cosine_over(np.zeros(5, np.float32), known).any()


@pytest.fixture
def space(db: engram.Database) -> engram.Space:
    """Three hundred memories with random directions, alike in pairs of fields."""
    spec = engram.EmbeddingSpec(model="caller", dimensions=DIMENSIONS)
    space = db.create_space("patterns", embedding=spec)
    random = np.random.default_rng(3)
    space.remember_many(
        engram.NewMemory(
            id=f"m{n:03}",
            content=f"note number{n} of the {'planner' if n % 2 else 'reviewer'}",
            tags=("odd",) if n % 2 else ("even", "all"),
            kind="fact" if n % 3 == 0 else "episode",
            source=None if n % 5 == 0 else f"source {n % 4}",
            metadata={"number": n, "agent": "planner" if n % 2 else "reviewer", "list": [n % 2]},
            occurred_at=START - timedelta(days=n),
            embedding=random.standard_normal(DIMENSIONS).astype(np.float32),
        )
        for n in range(300)
    )
    return space


def vector_of(space: engram.Space, memory_id: str) -> Any:
    return space.get(memory_id, include_embedding=True).embedding


def noisy(vector: Any) -> Any:
    noise = np.random.default_rng(11).standard_normal(len(vector))
    return vector + noise / np.linalg.norm(noise) * np.linalg.norm(vector)


def every_other(vector: Any) -> Any:
    return [float(x) if i % 2 else None for i, x in enumerate(vector)]


def with_nan(vector: Any) -> Any:
    return np.where(np.arange(len(vector)) % 2, vector, np.nan)


@pytest.mark.parametrize("spoil", [noisy, every_other, with_nan])
def test_a_spoilt_vector_comes_back_whole(space: engram.Space, spoil: Callable[[Any], Any]) -> None:
    memory = space.get("m041", include_embedding=True)
    vector = memory.embedding
    answer = space.complete(embedding=spoil(vector), include_embedding=True, beta=64)
    assert answer.single
    assert answer.converged
    assert 2 <= answer.steps <= 5
    assert answer.entropy < 0.1
    assert answer.attractor[0].id == "m041"
    assert answer.attractor[0].position == memory.position
    assert answer.embedding is not None
    assert answer.embedding.dtype == np.float32
    assert vector is not None
    assert answer.embedding @ vector / np.linalg.norm(vector) > 0.999
    assert answer.content is not None
    assert answer.content.value == memory.content
    assert answer.content.confidence >= 0.95
    assert answer.content.evidence[0].id == "m041"
    assert answer.occurred_at is not None
    assert answer.occurred_at.value == memory.occurred_at
    assert [tag.value for tag in answer.tags] == list(memory.tags)
    assert {key: filled.value for key, filled in answer.metadata.items()} == memory.metadata


def test_fields_alone_are_a_cue(space: engram.Space) -> None:
    answer = space.complete(known=Known(tags=("odd",), kind="fact"), limit=1_000)
    agreeing = {voter.id for voter in answer.attractor if voter.weight > 0.001}
    assert agreeing == {f"m{n:03}" for n in range(300) if n % 2 and n % 3 == 0}
    assert not answer.single
    assert answer.entropy == pytest.approx(math.log(len(agreeing)), abs=0.01)
    assert answer.metadata["agent"].value == "planner"
    assert answer.metadata["agent"].confidence > 0.99
    assert len(answer.metadata["agent"].evidence) == len(agreeing)
    assert answer.metadata["list"].value == [1]
    assert answer.kind is not None
    assert answer.kind.value == "fact"
    assert [(tag.value, tag.confidence > 0.99) for tag in answer.tags] == [("odd", True)]


KNOWN: list[tuple[dict[str, Any], str]] = [
    ({"content": "number17"}, "m017"),
    ({"metadata": {"number": 18}}, "m018"),
    ({"metadata": {"number": {"$gt": 298}}}, "m299"),
    ({"since": START - timedelta(days=19), "until": START - timedelta(days=18)}, "m019"),
    ({"source": "source 1", "metadata": {"number": 21}, "tags": ["odd"]}, "m021"),
]


@pytest.mark.parametrize(("known", "expected"), KNOWN)
def test_each_kind_of_evidence_leads_to_its_memory(
    space: engram.Space, known: dict[str, Any], expected: str
) -> None:
    for cue in (known, Known(**{**known, "tags": tuple(known.get("tags", ()))})):
        answer = space.complete(known=cue)
        assert answer.single
        assert answer.attractor[0].id == expected


def test_words_count_without_an_embedder_too(space: engram.Space) -> None:
    assert space.complete("number42").attractor[0].id == "m042"


def test_evidence_decides_between_equal_vectors(vectors: engram.Space) -> None:
    for name in ("b", "a", "c"):
        vectors.remember(name, id=name, tags=[name], source="s", embedding=[1.0, 0.0, 0.0])
    answer = vectors.complete(embedding=[1.0, 0.0, 0.0])
    assert [voter.id for voter in answer.attractor] == ["a", "b", "c"]  # equal weights: by id
    assert [voter.weight for voter in answer.attractor] == [0.333333] * 3
    assert answer.content is not None
    assert (answer.content.value, answer.content.confidence) == ("a", 0.333333)
    assert answer.source is not None
    assert answer.source.confidence == pytest.approx(1, abs=1e-5)
    assert answer.tags == ()
    chosen = vectors.complete(embedding=[1.0, None, None], known={"tags": ["c"]})
    assert (chosen.attractor[0].id, chosen.single) == ("c", True)


def test_a_text_is_completed_by_meaning(alpha: engram.Space) -> None:
    alpha.remember("The deploy key is rotated every Monday", tags=["ops"], source="standup")
    alpha.remember("Lunch is at noon", tags=["life"])
    answer = alpha.complete("deploy key")
    assert answer.source is not None
    assert (answer.source.value, [tag.value for tag in answer.tags]) == ("standup", ["ops"])


def test_most_having_none_is_having_none(vectors: engram.Space) -> None:
    for n, source in enumerate([None, None, "s"]):
        vectors.remember("x", source=source, metadata={"k": None}, embedding=[1.0, n / 1e4, 0.0])
    answer = vectors.complete(embedding=[1.0, 0.0, 0.0])
    assert (answer.source, answer.occurred_at, answer.metadata) == (None, None, {})
    assert answer.content is not None
    assert answer.content.confidence == pytest.approx(1, abs=1e-5)


def test_low_beta_asks_everybody_and_high_beta_one(space: engram.Space) -> None:
    vector = vector_of(space, "m100")
    low, high = (space.complete(embedding=vector, beta=beta) for beta in (0.01, 1_000))
    assert low.entropy > math.log(300) - 0.01
    assert high.entropy == 0
    assert (high.single, low.single) == (True, False)
    assert (low.beta, high.beta) == (0.01, 1_000)


def test_more_than_may_vote_are_taken_by_weight_and_then_by_id(
    space: engram.Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "VOTERS_MAX", 7)
    answer = space.complete(known={"tags": ["odd"]}, limit=1_000, beta=1_000)
    assert [voter.id for voter in answer.attractor] == [f"m{n:03}" for n in range(1, 14, 2)]
    assert [tag.value for tag in answer.tags] == []  # 7 of 150 are less than half
    assert answer.kind is not None
    assert answer.kind.confidence <= 7 / 150


def test_an_empty_space_gives_an_empty_answer(alpha: engram.Space) -> None:
    answer = alpha.complete("anything", include_embedding=True)
    assert (answer.attractor, answer.content, answer.tags, answer.metadata) == ((), None, (), {})
    assert (answer.steps, answer.entropy, answer.single, answer.embedding) == (0, 0.0, False, None)
    assert answer.position == 1


def test_what_is_forgotten_or_expired_is_not_asked(vectors: engram.Space, clock: SetClock) -> None:
    vectors.remember("forgotten", id="f", embedding=[1.0, 0.0, 0.0])
    vectors.remember(
        "expired", id="e", expires_at=START + timedelta(seconds=5), embedding=[1.0, 0.0, 0.0]
    )
    vectors.remember("there", id="t", embedding=[0.0, 1.0, 0.0])
    vectors.forget("f")
    clock.go_on(10)
    answer = vectors.complete(embedding=[1.0, 0.0, 0.0])
    assert [(voter.id, voter.weight) for voter in answer.attractor] == [("t", 1.0)]


def test_it_leaves_no_event(space: engram.Space) -> None:
    position = space.info().position
    space.complete("number1")
    space.complete(embedding=vector_of(space, "m001"))
    assert space.info().position == position


def test_it_is_the_same_every_time(space: engram.Space) -> None:
    cue = noisy(vector_of(space, "m200"))
    answers = {
        msgspec.json.encode(msgspec.structs.replace(space.complete(embedding=cue), took_ms=0.0))
        for _ in range(5)
    }
    assert len(answers) == 1


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, ""),
    "no known field": ({"known": Known()}, ""),
    "an empty mapping": ({"known": {}}, ""),
    "an empty text": ({"query": " "}, "query"),
    "a text of another type": ({"query": 5}, "query"),
    "a vector too short": ({"embedding": [1.0] * 3}, "embedding"),
    "a vector too long": ({"embedding": [1.0] * 65}, "embedding"),
    "a partial vector too short": ({"embedding": [1.0, None]}, "embedding"),
    "a vector of zeros": ({"embedding": [0.0] * 64}, "embedding"),
    "zeros where it is known": ({"embedding": [0.0] * 32 + [None] * 32}, "embedding"),
    "nothing but gaps": ({"embedding": [None] * 64}, "embedding"),
    "nothing but NaN": ({"embedding": np.full(64, np.nan)}, "embedding"),
    "infinity": ({"embedding": [math.inf] + [1.0] * 63}, "embedding"),
    "a word in a vector": ({"embedding": ["x"] + [1.0] * 63}, "embedding"),
    "a matrix": ({"embedding": np.ones((64, 64))}, "embedding"),
    "true in a vector": ({"embedding": [True] * 64}, "embedding"),
    "a text as a vector": ({"embedding": "1, 2"}, "embedding"),
    "a number as a vector": ({"embedding": 5}, "embedding"),
    "an unknown field": ({"known": {"colour": "red"}}, "known.colour"),
    "fields as a list": ({"known": ["ops"]}, "known"),
    "tags as text": ({"known": {"tags": "ops"}}, "known.tags"),
    "a tag of another type": ({"known": {"tags": [5]}}, "known.tags[0]"),
    "an unknown kind": ({"known": {"kind": "rumour"}}, "known.kind"),
    "a source of another type": ({"known": {"source": 5}}, "known.source"),
    "a content of another type": ({"known": {"content": []}}, "known.content"),
    "a time without a zone": ({"known": {"since": datetime(2026, 1, 1)}}, "known.since"),
    "metadata as a list": ({"known": {"metadata": []}}, "known.metadata"),
    "an unknown operator": ({"known": {"metadata": {"n": {"$near": 1}}}}, "known.metadata.n"),
    "beta 0": ({"query": "x", "beta": 0}, "beta"),
    "beta below 0": ({"query": "x", "beta": -1.0}, "beta"),
    "beta NaN": ({"query": "x", "beta": math.nan}, "beta"),
    "beta infinite": ({"query": "x", "beta": math.inf}, "beta"),
    "beta as text": ({"query": "x", "beta": "32"}, "beta"),
    "beta true": ({"query": "x", "beta": True}, "beta"),
    "limit 0": ({"query": "x", "limit": 0}, "limit"),
    "limit too large": ({"query": "x", "limit": 1_001}, "limit"),
    "include as a number": ({"query": "x", "include_embedding": 1}, "include_embedding"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_cue_that_is_none_is_refused_by_name(space: engram.Space, case: str) -> None:
    given, field = BAD[case]
    with pytest.raises(Invalid) as caught:
        space.complete(**given)
    assert [error.field for error in caught.value.errors] == ([field] if field else [])


def test_a_text_too_long_is_refused(space: engram.Space) -> None:
    for cue in (
        {"query": "x" * (QUERY_BYTES_MAX + 1)},
        {"known": {"content": "x " * QUERY_BYTES_MAX}},
    ):
        with pytest.raises(TooLarge):
            space.complete(**cue)  # type: ignore[arg-type]
