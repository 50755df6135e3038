"""What may become a memory: every limit, from both sides, and every odd type, through the handle.

Each refusal names the error and the field, and leaves the space as it was.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import engram
from engram import limits
from engram.errors import EmbedderMismatch, EngramError, Invalid, MemoryExists, TooLarge
from engram.memory.model import Filter
from tests.unit.conftest import CALLER

UNIT = [1.0, 0.0, 0.0]
NAIVE = datetime(2026, 5, 1, 9)
BEFORE_YEAR_1 = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))
AFTER_YEAR_9999 = datetime.max.replace(tzinfo=timezone(timedelta(hours=-12)))


class Text(str):
    """A string of another type, as enums and numpy have them."""


class Colour(enum.StrEnum):
    RED = "red"


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


class Bad(NamedTuple):
    """Keyword arguments of `remember`, and what they must be refused with."""

    given: dict[str, Any]
    error: type[EngramError]
    field: str | None
    content: Any = "fine"


BAD = {
    "content of another type": Bad({}, Invalid, "content", 5),
    "content of bytes": Bad({}, Invalid, "content", b"text"),
    "no content": Bad({}, Invalid, "content", None),
    "empty content": Bad({}, Invalid, "content", ""),
    "blank content": Bad({}, Invalid, "content", " \n\t\u3000"),
    "a lone surrogate": Bad({}, Invalid, "content", "a\ud800b"),
    "too much content": Bad({}, TooLarge, None, "x" * (limits.CONTENT_BYTES_MAX + 1)),
    "too much once encoded": Bad({}, TooLarge, None, "é" * (limits.CONTENT_BYTES_MAX // 2 + 1)),
    "an empty id": Bad({"id": ""}, Invalid, "id"),
    "an id of another type": Bad({"id": 7}, Invalid, "id"),
    "a long id": Bad({"id": "x" * (limits.MEMORY_ID_CHARACTERS_MAX + 1)}, Invalid, "id"),
    "an id with a slash": Bad({"id": "a/b"}, Invalid, "id"),
    "an id with a backslash": Bad({"id": "a\\b"}, Invalid, "id"),
    "an id of one dot": Bad({"id": "."}, Invalid, "id"),
    "an id of two dots": Bad({"id": ".."}, Invalid, "id"),
    "an id with outer spaces": Bad({"id": " a"}, Invalid, "id"),
    "an id with a line break": Bad({"id": "a\nb"}, Invalid, "id"),
    "an id with NUL": Bad({"id": "a\0"}, Invalid, "id"),
    "an id with an override": Bad({"id": "a\u202eb"}, Invalid, "id"),
    "an id with a surrogate": Bad({"id": "\udc80"}, Invalid, "id"),
    "an unknown kind": Bad({"kind": "dream"}, Invalid, "kind"),
    "a kind of another type": Bad({"kind": 1}, Invalid, "kind"),
    "a kind in a list": Bad({"kind": ["episode"]}, Invalid, "kind"),
    "a kind in an array": Bad({"kind": np.array(["episode"])}, Invalid, "kind"),
    "tags in one string": Bad({"tags": "ops"}, Invalid, "tags"),
    "no tags at all": Bad({"tags": None}, Invalid, "tags"),
    "a number for tags": Bad({"tags": 5}, Invalid, "tags"),
    "a tag of another type": Bad({"tags": ["a", 5]}, Invalid, "tags[1]"),
    "an empty tag": Bad({"tags": [""]}, Invalid, "tags[0]"),
    "a long tag": Bad({"tags": ["x" * (limits.TAG_CHARACTERS_MAX + 1)]}, Invalid, "tags[0]"),
    "a tag with a control character": Bad({"tags": ["a\x07"]}, Invalid, "tags[0]"),
    "too many tags": Bad(
        {"tags": [str(i) for i in range(limits.TAGS_PER_MEMORY_MAX + 1)]}, Invalid, "tags"
    ),
    "metadata in a list": Bad({"metadata": [1]}, Invalid, "metadata"),
    "metadata with a number as key": Bad({"metadata": {1: 2}}, Invalid, "metadata"),
    "metadata with NaN": Bad({"metadata": {"a": float("nan")}}, Invalid, "metadata.a"),
    "metadata with an infinity": Bad({"metadata": {"a": [float("inf")]}}, Invalid, "metadata.a[0]"),
    "metadata with a date": Bad({"metadata": {"a": NAIVE}}, Invalid, "metadata.a"),
    "metadata with bytes": Bad({"metadata": {"a": b"x"}}, Invalid, "metadata.a"),
    "metadata with a set": Bad({"metadata": {"a": {1}}}, Invalid, "metadata.a"),
    "metadata with a huge integer": Bad({"metadata": {"a": 1 << 64}}, Invalid, "metadata.a"),
    "metadata with a very negative one": Bad(
        {"metadata": {"a": -(1 << 63) - 1}}, Invalid, "metadata.a"
    ),
    "metadata with a surrogate": Bad({"metadata": {"a": "\ud800"}}, Invalid, "metadata.a"),
    "a metadata key with a surrogate": Bad({"metadata": {"\ud800": 1}}, Invalid, "metadata"),
    "deep metadata": Bad(
        {"metadata": {"a": nested(limits.METADATA_DEPTH_MAX)}},
        Invalid,
        "metadata.a" + "[0]" * limits.METADATA_DEPTH_MAX,
    ),
    "too much metadata": Bad({"metadata": {"a": "x" * limits.METADATA_BYTES_MAX}}, TooLarge, None),
    "confidence above 1": Bad({"confidence": 1.0000001}, Invalid, "confidence"),
    "confidence below 0": Bad({"confidence": -1e-300}, Invalid, "confidence"),
    "confidence NaN": Bad({"confidence": float("nan")}, Invalid, "confidence"),
    "a huge confidence": Bad({"confidence": 10**5_000}, Invalid, "confidence"),
    "confidence in text": Bad({"confidence": "1"}, Invalid, "confidence"),
    "confidence true": Bad({"confidence": True}, Invalid, "confidence"),
    "no confidence": Bad({"confidence": None}, Invalid, "confidence"),
    "a time in text": Bad({"occurred_at": "2026-05-01T09:00:00Z"}, Invalid, "occurred_at"),
    "a time without a zone": Bad({"occurred_at": NAIVE}, Invalid, "occurred_at"),
    "a time before year 1": Bad({"occurred_at": BEFORE_YEAR_1}, Invalid, "occurred_at"),
    "an expiry after year 9999": Bad({"expires_at": AFTER_YEAR_9999}, Invalid, "expires_at"),
    "an expiry in seconds": Bad({"expires_at": 1.7e9}, Invalid, "expires_at"),
    "an empty source": Bad({"source": ""}, Invalid, "source"),
    "a long source": Bad({"source": "x" * (limits.SOURCE_CHARACTERS_MAX + 1)}, Invalid, "source"),
    "a source of another type": Bad({"source": 1}, Invalid, "source"),
    "a vector where the space makes them": Bad({"embedding": UNIT}, EmbedderMismatch, None),
}


def stored(space: engram.Space) -> Any:
    """All that a refusal must not change."""
    info = space.info()
    return info.position, info.bytes, space.list(limit=1_000).memories


def assert_refused(
    space: engram.Space, call: Callable[[], object], error: type[EngramError], field: str | None
) -> None:
    before = stored(space)
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    if field is not None:
        assert [item.field for item in caught.value.errors] == [field]
    assert stored(space) == before
    assert space.info().state == "active"


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_bad_field_is_refused_by_name(alpha: engram.Space, bad: Bad) -> None:
    alpha.remember("before", id="before")
    assert_refused(alpha, lambda: alpha.remember(bad.content, **bad.given), bad.error, bad.field)


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_in_a_batch_the_field_is_named_with_its_place_and_nothing_is_stored(
    alpha: engram.Space, bad: Bad
) -> None:
    batch = ["good", {"content": bad.content, **bad.given}]
    field = None if bad.field is None else f"memories[1].{bad.field}"
    assert_refused(alpha, lambda: alpha.remember_many(batch), bad.error, field)


@pytest.mark.parametrize(
    ("batch", "error", "field"),
    [
        ([], Invalid, "memories"),
        ("abc", Invalid, "memories"),
        ({"content": "one"}, Invalid, "memories"),
        (None, Invalid, "memories"),
        (7, Invalid, "memories"),
        (["x", 7], Invalid, "memories[1]"),
        ([{}], Invalid, "memories[0].content"),
        ([{"content": "x", "colour": "red"}], Invalid, "memories[0].colour"),
        ([{"content": "x", 1: 2, "z": 3}], Invalid, "memories[0].1"),
        ([{"content": "a", "id": "x"}, {"content": "b", "id": "x"}], Invalid, "memories[1].id"),
        (["x"] * (limits.MEMORIES_PER_REQUEST_MAX + 1), TooLarge, None),
        ([{"content": "a", "id": "new"}, {"content": "b", "id": "lives"}], MemoryExists, None),
    ],
)
def test_a_bad_batch_is_refused_whole(
    alpha: engram.Space, batch: Any, error: type[EngramError], field: str | None
) -> None:
    alpha.remember("lives", id="lives")
    assert_refused(alpha, lambda: alpha.remember_many(batch), error, field)


@pytest.mark.parametrize(
    "embedding",
    [
        [1.0, 2.0],
        [1.0, 2.0, 3.0, 4.0],
        [],
        [[1.0, 2.0, 3.0]],
        [[1.0], [2.0, 3.0]],
        5,
        "abc",
        b"abc",
        bytearray(b"abc"),
        {0: 1.0, 1: 2.0, 2: 3.0},
        {1.0, 2.0, 3.0},
        [True, 1.0, 2.0],
        ["1", "2", "3"],
        [None, 1.0, 2.0],
        [1.0, 2.0, float("nan")],
        [1.0, float("-inf"), 2.0],
        [10**400, 1, 2],
        [0.0, 0.0, 0.0],
        [1e30, 0.0, 0.0],
        [1e-30, 0.0, 0.0],
        [1j, 2.0, 3.0],
        np.array([1j, 2, 3]),
        np.array([True, False, True]),
        np.array(["1", "2", "3"]),
        np.array([1, 2, 3], "m8[s]"),
    ],
    ids=repr,
)
def test_what_is_not_a_vector_of_the_space_is_refused(
    vectors: engram.Space, embedding: Any
) -> None:
    vectors.remember("before", embedding=UNIT)
    for call in (
        lambda: vectors.remember("x", embedding=embedding),
        lambda: vectors.recall(embedding=embedding),
    ):
        assert_refused(vectors, call, Invalid, "embedding")


@pytest.mark.parametrize(
    "embedding",
    [
        [1, 2, 3],
        (1.0, 2.0, 3.0),
        np.array([1, 2, 3]),
        np.array([1, 2, 3], np.float16),
        np.array([1, 2, 3], ">f8"),
        np.array([1, 9, 2, 9, 3, 9], np.float32)[::2],
        [np.float32(1), np.int64(2), 3.0],
    ],
    ids=repr,
)
def test_vectors_of_any_numeric_kind_come_back_as_float32(
    vectors: engram.Space, embedding: Any
) -> None:
    vectors.remember("x", id="x", embedding=embedding)
    held = vectors.get("x", include_embedding=True).embedding
    assert held is not None
    assert held.dtype == np.float32
    assert held.tolist() == [1.0, 2.0, 3.0]


def test_a_callers_array_may_change_afterwards(vectors: engram.Space) -> None:
    given = np.array([1.0, 2.0, 3.0], np.float32)
    vectors.remember("x", id="x", embedding=given)
    given[:] = 9.0
    held = vectors.get("x", include_embedding=True).embedding
    assert held is not None
    assert held.tolist() == [1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="read-only"):
        held[0] = 5.0


def test_without_a_vector_a_space_that_takes_them_refuses(vectors: engram.Space) -> None:
    assert_refused(vectors, lambda: vectors.remember("x"), Invalid, "embedding")
    vectors.remember("x", id="x", embedding=UNIT)
    change = engram.Changes(content="y")
    assert_refused(vectors, lambda: vectors.revise("x", change), Invalid, "embedding")


@pytest.mark.parametrize(
    ("changes", "error", "field"),
    [
        (engram.Changes(), Invalid, None),
        ({"content": "y"}, Invalid, "changes"),
        (engram.Changes(content=None), Invalid, "content"),
        (engram.Changes(content=""), Invalid, "content"),
        (engram.Changes(tags=""), Invalid, "tags"),
        (engram.Changes(tags=0), Invalid, "tags"),
        (engram.Changes(metadata=[]), Invalid, "metadata"),
        (engram.Changes(confidence=2.0), Invalid, "confidence"),
        (engram.Changes(occurred_at=BEFORE_YEAR_1), Invalid, "occurred_at"),
        (engram.Changes(source=""), Invalid, "source"),
        (engram.Changes(embedding=np.ones(3, np.float32)), EmbedderMismatch, None),
        (engram.Changes(content="y", embedding=np.ones(3, np.float32)), EmbedderMismatch, None),
    ],
)
def test_a_bad_revision_changes_nothing(
    alpha: engram.Space, changes: Any, error: type[EngramError], field: str | None
) -> None:
    alpha.remember("x", id="x", tags=["t"], source="s")
    assert_refused(alpha, lambda: alpha.revise("x", changes), error, field)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, None),
        ({"query": ""}, "query"),
        ({"query": "  "}, "query"),
        ({"query": 5}, "query"),
        ({"query": "\ud800"}, "query"),
        ({"query": "x", "limit": 0}, "limit"),
        ({"query": "x", "limit": limits.RECALL_LIMIT_MAX + 1}, "limit"),
        ({"query": "x", "limit": 1.0}, "limit"),
        ({"query": "x", "limit": True}, "limit"),
        ({"query": "x", "mode": "magic"}, "mode"),
        ({"query": "x", "mode": []}, "mode"),
        ({"query": "x", "min_confidence": 1.5}, "min_confidence"),
        ({"query": "x", "min_confidence": "0"}, "min_confidence"),
        ({"memory_ids": "lives"}, "memory_ids"),
        ({"memory_ids": 5}, "memory_ids"),
        ({"memory_ids": None}, "memory_ids"),
        ({"memory_ids": {"lives"}}, "memory_ids"),
        ({"memory_ids": ["lives", 5]}, "memory_ids[1]"),
        ({"memory_ids": ["x"] * (limits.RECALL_MEMORY_IDS_MAX + 1)}, "memory_ids"),
        ({"embedding": [1.0, 2.0]}, "embedding"),
        ({"memory_ids": [], "mode": "lexical", "embedding": [1.0] * 256}, "mode"),
        ({"query": "x", "filter": {"kind": "fact"}}, "filter"),
        ({"query": "x", "filter": Filter(tags_all="ops")}, "filter.tags_all"),
        ({"query": "x", "filter": Filter(tags_any=[1])}, "filter.tags_any[0]"),
        ({"query": "x", "filter": Filter(kind="dream")}, "filter.kind"),
        ({"query": "x", "filter": Filter(source="")}, "filter.source"),
        ({"query": "x", "filter": Filter(since=NAIVE)}, "filter.since"),
        ({"query": "x", "filter": Filter(until=AFTER_YEAR_9999)}, "filter.until"),
        ({"query": "x", "filter": Filter(metadata={"a": {"$near": 1}})}, "filter.metadata.a"),
        ({"query": "x", "filter": Filter(metadata={"a": {"$in": 1}})}, "filter.metadata.a.$in"),
    ],
)
def test_a_bad_recall_is_refused_by_name(
    alpha: engram.Space, asked: dict[str, Any], field: str | None
) -> None:
    alpha.remember("lives", id="lives")
    assert_refused(alpha, lambda: alpha.recall(**asked), Invalid, field)


def test_a_question_over_the_limit_is_too_large(alpha: engram.Space) -> None:
    question = "x" * limits.QUERY_BYTES_MAX
    assert alpha.recall(question).results == ()
    assert_refused(alpha, lambda: alpha.recall(question + "x"), TooLarge, None)


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": limits.LIST_LIMIT_MAX + 1}, "limit"),
        ({"after": "1"}, "after"),
        ({"after": True}, "after"),
        ({"filter": "ops"}, "filter"),
    ],
)
def test_a_bad_listing_is_refused_by_name(
    alpha: engram.Space, asked: dict[str, Any], field: str
) -> None:
    assert_refused(alpha, lambda: alpha.list(**asked), Invalid, field)


@pytest.mark.parametrize(
    ("embedding", "field"),
    [
        (engram.EmbeddingSpec(model="caller", dimensions=0), "embedding.dimensions"),
        (
            engram.EmbeddingSpec(model="caller", dimensions=limits.DIMENSIONS_MAX + 1),
            "embedding.dimensions",
        ),
        (engram.EmbeddingSpec(model="caller", dimensions=True), "embedding.dimensions"),
        (engram.EmbeddingSpec(model="caller", dimensions=3.0), "embedding.dimensions"),
        (engram.EmbeddingSpec(model="caller", dimensions="3"), "embedding.dimensions"),
        (engram.EmbeddingSpec(model=[], dimensions=3), "embedding.model"),
        (engram.EmbeddingSpec(model="unheard-of", dimensions=3), "embedding.model"),
        (engram.EmbeddingSpec(model="wordllama-l2-256", dimensions=3), "embedding.dimensions"),
        ({"model": "caller", "dimensions": 3}, "embedding"),
    ],
)
def test_a_space_of_a_bad_embedding_is_not_made(
    db: engram.Database, embedding: Any, field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        db.create_space("beta", embedding=embedding)
    assert [item.field for item in caught.value.errors] == [field]
    assert not (db.path / "beta").exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"content": "x" * limits.CONTENT_BYTES_MAX},
        {"id": "x" * limits.MEMORY_ID_CHARACTERS_MAX},
        {"id": "…"},
        {"id": "a b"},
        {"id": "e\u0301"},
        {"id": "\u00e9"},
        {"tags": tuple(f"t{i}" for i in range(limits.TAGS_PER_MEMORY_MAX))},
        {"tags": ("x" * limits.TAG_CHARACTERS_MAX, "猫", "👍🏽")},
        {"source": "x" * limits.SOURCE_CHARACTERS_MAX},
        {"metadata": {"a": "x" * (limits.METADATA_BYTES_MAX - len('{"a":""}'))}},
        {"metadata": {"a": nested(limits.METADATA_DEPTH_MAX - 1)}},
        {"metadata": {"a": [1 << 53, (1 << 53) + 1, (1 << 64) - 1, -(1 << 63)]}},
        {"metadata": {"a": [1e308, 5e-324, 0.1, 1e20, -1.5]}},
        {"metadata": {"": "empty key", "a\0b": "\0", "$in": 1, "é": None, "n": True}},
        {"confidence": 0.0},
        {"confidence": 1},
        {"confidence": np.float64(0.1)},
        {"occurred_at": datetime(1, 1, 1, tzinfo=UTC)},
        {"occurred_at": datetime.max.replace(tzinfo=UTC)},
        {"expires_at": datetime.max.replace(tzinfo=UTC)},
        {"occurred_at": datetime(2026, 5, 1, 9, 0, 0, 1, timezone(timedelta(hours=5, minutes=45)))},
        {"content": "\x00\x7f\ufeff\ufffe\u202e end"},
        {"content": "e\u0301 is not \u00e9, ﬁ is not fi"},
        {"content": "line\r\nline\rline\u2028line"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_is_accepted_comes_back_equal_now_and_after_reopening(
    db: engram.Database, fields: dict[str, Any]
) -> None:
    fields = {"content": "fine", **fields}
    remembered = db.create_space("alpha").remember(**fields)
    held = db.space("alpha").get(remembered.id)
    db.close()
    with engram.open(db.path) as again:
        reread = again.space("alpha").get(remembered.id)
    assert remembered == held == reread
    for name, value in fields.items():
        assert getattr(reread, name) == value


def test_minus_zero_and_whole_floats_keep_their_form(alpha: engram.Space) -> None:
    metadata = alpha.remember("x", id="x", metadata={"a": -0.0, "b": 1.0, "c": 1}).metadata
    assert repr(metadata) == repr(alpha.get("x").metadata) == "{'a': -0.0, 'b': 1.0, 'c': 1}"


def test_strings_and_numbers_of_derived_types_are_stored_as_plain_ones(
    alpha: engram.Space,
) -> None:
    alpha.remember(
        Text("content"),
        id=Text("id"),
        kind=Text("fact"),
        tags=[Text("tag"), Colour.RED],
        metadata={Text("k"): [Text("v"), Colour.RED, np.float64(1.5), np.str_("s")]},
        source=Text("source"),
        confidence=np.float64(0.5),
    )
    held = alpha.get("id")
    assert held.content == "content"
    assert held.kind == "fact"
    assert held.tags == ("tag", "red")
    assert held.metadata == {"k": ["v", "red", 1.5, "s"]}
    assert [hit.memory.id for hit in alpha.recall(Text("content"))] == ["id"]
    assert (
        len(alpha.list(Filter(metadata={"k": (Text("v"), "red", np.float64(1.5), "s")})).memories)
        == 1
    )


def test_times_come_back_in_utc(alpha: engram.Space) -> None:
    there = timezone(timedelta(hours=-3, minutes=-30))
    held = alpha.remember("x", occurred_at=datetime(2026, 5, 1, 22, 0, tzinfo=there))
    assert held.occurred_at == datetime(2026, 5, 2, 1, 30, tzinfo=UTC)
    assert held.occurred_at.utcoffset() == timedelta(0)


def test_tags_keep_their_order_and_lose_duplicates(alpha: engram.Space) -> None:
    assert alpha.remember("x", tags=iter(["b", "a", "b"])).tags == ("b", "a")


def test_a_filter_given_as_generators_is_applied(alpha: engram.Space) -> None:
    alpha.remember("tagged", tags=["a"])
    alpha.remember("not")
    chosen = Filter(tags_all=(tag for tag in ["a"]))
    assert [m.content for m in alpha.list(chosen).memories] == ["tagged"]


def test_ids_that_only_look_alike_are_different_memories(alpha: engram.Space) -> None:
    for memory_id in ("e\u0301", "\u00e9", "E\u0301", "A", "a", "ａ"):
        alpha.remember(f"memory {memory_id}", id=memory_id)
        assert alpha.get(memory_id).content == f"memory {memory_id}"
    assert alpha.info().memories == 6


def test_a_batch_over_the_records_bound_is_too_large_and_the_space_goes_on(
    db: engram.Database,
) -> None:
    space = db.create_space("beta", embedding=CALLER)
    big = {"content": "x" * limits.CONTENT_BYTES_MAX, "embedding": UNIT}
    assert_refused(space, lambda: space.remember_many([big] * 33), TooLarge, None)
    assert space.remember("small", embedding=UNIT).revision == 1


ANYTHING = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.none() | st.timezones())
    | st.decimals()
    | st.lists(st.integers() | st.text() | st.floats() | st.none(), max_size=3)
    | st.dictionaries(st.text() | st.integers(), st.floats() | st.text() | st.none(), max_size=3)
    | st.sampled_from(
        [
            object(),
            int,
            range(3),
            np.array([1.0, 2.0]),
            np.array(["a"]),
            np.datetime64("2020-01-01"),
        ]
    )
)
FIELDS = ("content", "id", "kind", "tags", "metadata", "confidence", "occurred_at", "source")


def answer_or_refusal(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except EngramError:
        return None


@settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.dictionaries(st.sampled_from(FIELDS), ANYTHING, max_size=3), ANYTHING)
def test_whatever_is_given_is_refused_by_us_or_comes_back_equal(
    vectors: engram.Space, given_fields: dict[str, Any], anything: Any
) -> None:
    fields = {"content": "fine", "embedding": UNIT, **given_fields}
    memory = answer_or_refusal(lambda: vectors.remember(**fields))
    if memory is not None:
        assert repr(vectors.get(memory.id)) == repr(memory)
        vectors.forget(memory.id)
    calls: list[Callable[[], object]] = [
        lambda: vectors.remember("fine", embedding=anything),
        lambda: vectors.remember_many(anything),
        lambda: vectors.remember_many([anything]),
        lambda: vectors.revise("x", anything),
        lambda: vectors.get(anything),
        lambda: vectors.forget(anything),
        lambda: vectors.restore(anything),
        lambda: vectors.configure(retention=anything),
        lambda: vectors.configure(decay=anything),
        lambda: vectors.list(anything),
        lambda: vectors.list(limit=anything),
        lambda: vectors.list(after=anything),
        lambda: vectors.recall(anything),
        lambda: vectors.recall("x", mode=anything),
        lambda: vectors.recall("x", memory_ids=anything),
        lambda: vectors.recall("x", filter=anything),
        lambda: vectors.recall("x", limit=anything),
        lambda: vectors.recall("x", min_confidence=anything),
        lambda: vectors.recall("x", embedding=anything),
    ]
    for call in calls:
        answer_or_refusal(call)
    assert vectors.info().state == "active"


def test_ids_of_derived_types_name_the_same_memory(alpha: engram.Space) -> None:
    alpha.remember("x", id="m")
    for memory_id in (Text("m"), np.str_("m")):
        assert alpha.get(memory_id).id == "m"
        assert alpha.revise(memory_id, engram.Changes(tags=("t",))).id == "m"
        assert alpha.recall(memory_ids=[memory_id]).results == ()
    assert alpha.forget(np.str_("m")).id == "m"
