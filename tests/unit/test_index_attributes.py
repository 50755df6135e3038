from __future__ import annotations

import operator
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.errors import Invalid
from engram.indexes import attributes, postings
from engram.indexes.attributes import METADATA_OPERATORS, Attributes, validate_metadata_filter
from engram.limits import FILTER_VALUES_MAX
from engram.memory.model import KINDS, Filter, NewMemory

TAGS = ("ops", "keys", "é", "ops\0")
SOURCES = (None, "session-1", "ops")
# Neighbours that are easily confused: 1, 1.0, true and "1"; integers that float64 rounds together.
SCALARS = (
    *(None, True, False, 0, -0.0, 1, 1.0, 1.5, "1", "", "é", "Z", "a", 'quo"te'),
    *(2**53, 2**53 + 1, 2.0**53, 2**63 + 1, 2**64 - 1, -(2**63), 1e300, -1.7e308),
)
scalars = st.sampled_from(SCALARS)
values = st.one_of(
    scalars,
    st.lists(st.sampled_from((1, 1.0, True, "x")), max_size=2),
    st.sampled_from(({}, {"a": 1}, {"a": 1.0}, {"a": [True]}, {"b": 1, "a": 2})),
)
KEYS = ("n", "m", "ops")
comparable = scalars.filter(lambda v: v is not None and not isinstance(v, bool))
conditions = st.one_of(
    values,
    st.fixed_dictionaries(
        {},
        optional={
            "$in": st.lists(values, max_size=3),
            "$ne": values,
            "$exists": st.booleans(),
            "$gt": comparable,
            "$gte": comparable,
            "$lt": comparable,
            "$lte": comparable,
        },
    ),
)
memories = st.builds(
    NewMemory,
    content=st.just("x"),
    tags=st.lists(st.sampled_from(TAGS), max_size=3).map(tuple),
    kind=st.sampled_from(KINDS),
    source=st.sampled_from(SOURCES),
    metadata=st.dictionaries(st.sampled_from(KEYS), values, max_size=3),
)
filters = st.builds(
    Filter,
    tags_all=st.lists(st.sampled_from((*TAGS, "none")), max_size=2).map(tuple),
    tags_any=st.lists(st.sampled_from((*TAGS, "none")), max_size=2).map(tuple),
    kind=st.sampled_from((None, *KINDS)),
    source=st.sampled_from((*SOURCES, "none")),
    metadata=st.dictionaries(st.sampled_from((*KEYS, "none")), conditions, max_size=2),
)


def equal(one: Any, other: Any) -> bool:
    """Equality of JSON values: as Python's, but true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return bool(one == other)


def ordered(one: Any, other: Any) -> bool:
    """Whether two values can be compared."""
    if isinstance(one, bool) or isinstance(other, bool):
        return False
    numbers = isinstance(one, int | float) and isinstance(other, int | float)
    return numbers or (isinstance(one, str) and isinstance(other, str))


def meets(metadata: dict[str, Any], key: str, condition: Any) -> bool:
    if not (isinstance(condition, dict) and any(name.startswith("$") for name in condition)):
        return key in metadata and equal(metadata[key], condition)
    compare = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}
    for name, operand in condition.items():
        there = key in metadata
        value = metadata.get(key)
        if name == "$in":
            held = there and any(equal(value, one) for one in operand)
        elif name == "$ne":
            held = not (there and equal(value, operand))
        elif name == "$exists":
            held = there == operand
        else:
            held = there and ordered(value, operand) and compare[name](value, operand)
        if not held:
            return False
    return True


def matches(memory: NewMemory, filter: Filter) -> bool:
    return (
        set(filter.tags_all) <= set(memory.tags)
        and (not filter.tags_any or bool(set(filter.tags_any) & set(memory.tags)))
        and filter.kind in (None, memory.kind)
        and filter.source in (None, memory.source)
        and all(meets(memory.metadata, key, cond) for key, cond in filter.metadata.items())
    )


@settings(deadline=None)
@given(st.lists(memories, max_size=25), st.lists(filters, min_size=1, max_size=4))
def test_filters_agree_with_looking_at_every_memory(
    stored: list[NewMemory], asked: list[Filter]
) -> None:
    index = Attributes()
    index.extend(stored)
    view = index.view()
    for filter in asked:
        mask = view.mask(filter)
        assert mask.tolist() == [matches(memory, filter) for memory in stored]


@settings(deadline=None)
@given(st.lists(memories, max_size=25), filters, st.integers(1, 5), st.integers(0, 40))
def test_masks_do_not_depend_on_batches_nor_on_what_came_later(
    stored: list[NewMemory], filter: Filter, batch: int, tail_max: int
) -> None:
    views = []
    with (
        mock.patch.object(postings, "TAIL_MAX", tail_max),
        mock.patch.object(attributes, "INTERNED_MAX", 3),
        mock.patch.object(attributes, "REMEMBERED_BYTES_MAX", 4),
    ):
        index = Attributes()
        for first in range(0, len(stored), batch):
            index.extend(stored[first : first + batch])
            views.append(index.view())
    assert len(index) == len(stored)
    for view in views:
        seen = stored[: len(view)]
        assert view.mask(filter).tolist() == [matches(memory, filter) for memory in seen]


def mask_of(metadata: dict[str, Any], stored: list[dict[str, Any]]) -> list[bool]:
    index = Attributes()
    index.extend([NewMemory(content="x", metadata=one) for one in stored])
    mask: list[bool] = index.view().mask(Filter(metadata=metadata)).tolist()
    return mask


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (1, [True, True, False, False, False]),
        (True, [False, False, True, False, False]),
        ("1", [False, False, False, True, False]),
        ({"$ne": 1}, [False, False, True, True, True]),
        ({"$exists": False}, [False, False, False, False, True]),
        ({"$gte": 1}, [True, True, False, False, False]),
        ({"$gte": "1"}, [False, False, False, True, False]),
        ({"$in": [True, "1"]}, [False, False, True, True, False]),
        ({"$gt": 0, "$lt": 2}, [True, True, False, False, False]),
        ({"$in": []}, [False] * 5),
    ],
)
def test_what_a_condition_means(condition: Any, expected: list[bool]) -> None:
    stored = [{"a": 1}, {"a": 1.0}, {"a": True}, {"a": "1"}, {"b": 1}]
    assert mask_of({"a": condition}, stored) == expected


@pytest.mark.parametrize(
    ("stored", "asked", "equal"),
    [
        ([1, 2], [1.0, 2], True),
        ([1, 2], [2, 1], False),
        ([1], [True], False),
        ([1], 1, False),
        ({"a": 1, "b": [2.0]}, {"b": [2], "a": 1.0}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": {"b": -0.0}}, {"a": {"b": 0}}, True),
        ({}, {}, True),
        ([], {}, False),
        (None, None, True),
    ],
)
def test_lists_and_objects_are_equal_as_a_whole(stored: Any, asked: Any, equal: bool) -> None:
    assert mask_of({"a": asked}, [{"a": stored}, {}]) == [equal, False]


def test_integers_that_floats_cannot_tell_apart_are_compared_exactly() -> None:
    nanoseconds = 1_700_000_000_000_000_000
    stored = [{"at": nanoseconds + n} for n in (-1, 0, 1)]
    assert mask_of({"at": {"$gt": nanoseconds}}, stored) == [False, False, True]
    assert mask_of({"at": {"$lte": nanoseconds}}, stored) == [True, True, False]
    assert mask_of({"at": nanoseconds + 1}, stored) == [False, False, True]


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        ({"a": {"$near": 1}}, ["filter.metadata.a", "$near", *METADATA_OPERATORS]),
        ({"a": {"$gt": 1, "b": 2}}, ["filter.metadata.a", "'b'"]),
        ({"a": {"$in": 1}}, ["filter.metadata.a.$in", "list"]),
        ({"a": {"$in": list(range(FILTER_VALUES_MAX + 1))}}, [str(FILTER_VALUES_MAX)]),
        ({"a": {"$exists": 1}}, ["filter.metadata.a.$exists", "true or false"]),
        ({"a": {"$gt": True}}, ["filter.metadata.a.$gt", "number or a string"]),
        ({"a": {"$lte": [1]}}, ["filter.metadata.a.$lte"]),
        ({"a": float("nan")}, ["filter.metadata.a"]),
        ({"a": object()}, ["filter.metadata.a"]),
    ],
)
def test_a_condition_that_cannot_be_met_is_refused(
    metadata: dict[str, Any], names: list[str]
) -> None:
    with pytest.raises(Invalid) as caught:
        validate_metadata_filter(metadata)
    assert all(name in caught.value.detail for name in names)
    with pytest.raises(Invalid):
        Attributes().view().mask(Filter(metadata=metadata))


def test_a_checked_filter_is_plain_json() -> None:
    assert validate_metadata_filter({"a": (1, 2), "b": {"$in": (1,)}}) == {
        "a": [1, 2],
        "b": {"$in": [1]},
    }


def test_long_values_are_not_held_in_caches() -> None:
    index = Attributes()
    index.extend([NewMemory(content="x", metadata={"a": "v" * 10_000}) for _ in range(3)])
    assert not index._codes
    assert index.view().mask(Filter(metadata={"a": {"$gt": "v"}})).all()
    assert index.nbytes > 30_000
