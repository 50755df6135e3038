"""Indexes taken apart into plain arrays and begun again with them: nobody can tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.indexes.attributes import AttributeColumns, Attributes
from engram.indexes.columns import BytesColumn, BytesView, GrowingColumn, LayeredBytes
from engram.indexes.forward import ForwardColumns
from engram.indexes.ids import IdIndex
from engram.indexes.lexicon import Lexicon
from engram.indexes.postings import Run
from engram.indexes.timeline import Timeline
from engram.indexes.vectors import LiveMask, Vectors
from engram.memory.model import Filter, NewMemory

WORDS = ["deploy", "key", "monday", "lunch", "noon", "paris", "office", "rotates"]
texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), max_size=30)
cut_at = st.integers(0, 30)


def mapped(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """As a file would give it: read-only, and not ours."""
    array = np.frombuffer(values.tobytes(), values.dtype).reshape(values.shape)
    assert not array.flags.writeable
    return array


def mapped_run(run: Run) -> Run:
    return Run(*(mapped(part) for part in run))


def mapped_bytes(view: BytesView) -> BytesView:
    return BytesView(mapped(view.data), mapped(view.offsets))


@given(values=st.lists(st.integers(-99, 99)), more=st.lists(st.integers(-99, 99)))
def test_a_column_goes_on_from_an_array_that_it_leaves_alone(
    values: list[int], more: list[int]
) -> None:
    array = mapped(np.array(values, np.int64))
    column = GrowingColumn.of(array)
    column.extend(np.array(more, np.int64))
    assert column.view().tolist() == values + more
    assert array.tolist() == values


@given(blobs=st.lists(st.binary(max_size=9), max_size=20), cut=cut_at)
def test_blobs_over_a_base(blobs: list[bytes], cut: int) -> None:
    base = BytesColumn()
    base.extend(blobs[:cut])
    for column in (
        LayeredBytes(mapped_bytes(base.view())),
        BytesColumn.of(mapped_bytes(base.view())),
    ):
        column.extend(blobs[cut:])
        assert [column.get(row) for row in range(len(column))] == blobs
        assert [column.view().get(row) for row in range(len(column.view()))] == blobs
    layered = LayeredBytes(mapped_bytes(base.view()))
    layered.extend(blobs[cut:])
    data, offsets = (np.concatenate(parts) for parts in layered.view().parts())
    whole = BytesView(data, offsets)
    assert [whole.get(row) for row in range(len(whole))] == blobs


@settings(deadline=None)
@given(rows=st.lists(st.lists(st.integers(-9, 9), min_size=3, max_size=3), max_size=30), cut=cut_at)
def test_vectors_over_a_base(rows: list[list[int]], cut: int) -> None:
    matrix = np.array(rows, np.float32).reshape(-1, 3)
    whole, first = Vectors(3), Vectors(3)
    whole.extend(matrix)
    first.extend(matrix[:cut])
    ((base, norms),) = first.view().parts
    layered = Vectors(3, (mapped(base), mapped(norms)))
    layered.extend(matrix[cut:])
    view = layered.view()
    assert len(view) == len(layered) == len(matrix)
    query = np.array([1.0, -2.0, 3.0], np.float32)
    assert view.cosine(query).tobytes() == whole.view().cosine(query).tobytes()
    assert [view.row(i).tolist() for i in range(len(view))] == matrix.tolist()


@settings(deadline=None)
@given(documents=texts, cut=cut_at)
def test_a_lexicon_goes_on(documents: list[str], cut: int) -> None:
    whole, first = Lexicon(), Lexicon()
    whole.extend(documents)
    for text in documents[:cut]:
        first.extend([text])
    run, lengths, forward = first.view().columns()
    terms = ForwardColumns(*map(mapped, forward))
    restored = Lexicon.of(mapped_run(run), mapped(lengths), terms)
    restored.extend(documents[cut:])
    live = np.ones(len(documents), np.bool_)
    rows = np.arange(len(documents))
    for expected, found in zip(
        whole.view().terms.of(rows), restored.view().terms.of(rows), strict=True
    ):
        assert found.tolist() == expected.tolist()
    for query in ("deploy key", "lunch", "nothing at all"):
        expected, found = whole.view().score(query, live), restored.view().score(query, live)
        assert found.scores.tobytes() == expected.scores.tobytes()
        assert found.coverage.tobytes() == expected.coverage.tobytes()


memories = st.lists(
    st.builds(
        NewMemory,
        content=st.just("x"),
        kind=st.sampled_from(["episode", "fact"]),
        tags=st.lists(st.sampled_from("abc"), max_size=2, unique=True).map(tuple),
        metadata=st.dictionaries(
            st.sampled_from("mn"), st.one_of(st.integers(-3, 3), st.sampled_from(["u", "v"]))
        ),
        source=st.sampled_from([None, "s"]),
    ),
    max_size=30,
)
FILTERS = [
    Filter(tags_any=("a", "b")),
    Filter(kind="fact"),
    Filter(source="s"),
    Filter(metadata={"m": {"$gt": 0}}),
    Filter(metadata={"n": {"$in": ["u", 1]}}),
    Filter(metadata={"m": {"$exists": False}}),
]


@settings(deadline=None)
@given(items=memories, cut=cut_at)
def test_attributes_go_on(items: Sequence[NewMemory], cut: int) -> None:
    whole, first = Attributes(), Attributes()
    whole.extend(items)
    first.extend(items[:cut])
    columns = first.view().columns()
    restored = Attributes.of(
        AttributeColumns(
            mapped_run(columns.postings),
            mapped(columns.kinds),
            mapped_bytes(columns.values),
            mapped(columns.numbers),
        )
    )
    restored.extend(items[cut:])
    for wanted in FILTERS:
        expected = whole.view().mask(wanted)
        assert restored.view().mask(wanted).tolist() == expected.tolist()


@given(times=st.lists(st.integers(-50, 50), max_size=30), cut=cut_at)
def test_a_timeline_goes_on(times: list[int], cut: int) -> None:
    whole, first = Timeline(), Timeline()
    for row, time in enumerate(times):
        whole.add(time, row)
        if row < cut:
            first.add(time, row)
    restored = Timeline.of(*(mapped(part) for part in first.view().columns()))
    for row, time in list(enumerate(times))[cut:]:
        restored.add(time, row)
    for since, until in ((None, None), (-10, 10), (0, None)):
        expected = whole.view().between(since, until)
        assert restored.view().between(since, until).tolist() == expected.tolist()


@given(ids=st.lists(st.sampled_from("abcdefgh"), max_size=30), cut=cut_at)
def test_ids_go_on(ids: list[str], cut: int) -> None:
    first = IdIndex(ids.__getitem__)
    first.extend((name, row) for row, name in enumerate(ids[:cut]))
    restored = IdIndex(ids.__getitem__)
    restored.restore(*(mapped(part) for part in first.columns()))
    restored.extend((name, row) for row, name in list(enumerate(ids))[cut:])
    for name in "abcdefgh":
        newest = max((row for row, other in enumerate(ids) if other == name), default=None)
        assert restored.get(name) == newest


def test_a_live_mask_begins_as_a_copy() -> None:
    mask = mapped(np.array([True, False, True]))
    live = LiveMask.of(mask)
    assert live.kill(0)
    live.append()
    assert live.view().tolist() == [False, False, True, True]
    assert live.live == 2
    assert mask.tolist() == [True, False, True]
