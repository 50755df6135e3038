from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.indexes.columns import BytesColumn, GrowingColumn

batches = st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=40), max_size=12)


@settings(deadline=None)
@given(batches)
def test_a_column_holds_what_was_appended_however_it_was_batched(batches: list[list[int]]) -> None:
    column = GrowingColumn(np.int64)
    views = []
    for batch in batches:
        column.extend(np.array(batch, np.int64))
        views.append(column.view())
    everything = [value for batch in batches for value in batch]
    assert column.view().tolist() == everything
    # Views taken on the way still show their own prefix, though the column has grown since.
    assert all(view.tolist() == everything[: len(view)] for view in views)


def test_append_returns_the_row() -> None:
    column = GrowingColumn(np.uint8)
    assert [column.append(value) for value in (7, 8, 9)] == [0, 1, 2]
    assert column.view(2).tolist() == [7, 8]


def test_a_column_of_vectors_keeps_its_width() -> None:
    column = GrowingColumn(np.float32, 3)
    column.extend([[1, 2, 3], [4, 5, 6]])
    column.append([7, 8, 9])
    assert column.view().shape == (3, 3)
    assert column.view()[2].tolist() == [7, 8, 9]


@pytest.mark.parametrize("block", [[[1.0, 2.0]], [1.0, 2.0, 3.0], 5.0])
def test_a_block_of_another_shape_is_refused_and_leaves_nothing(block: object) -> None:
    column = GrowingColumn(np.float32, 3)
    with pytest.raises(ValueError, match="takes no"):
        column.extend(block)  # type: ignore[arg-type]
    assert len(column) == 0


def test_views_are_read_only() -> None:
    column = GrowingColumn(np.int64)
    column.append(1)
    with pytest.raises(ValueError, match="read-only"):
        column.view()[0] = 2
    column.append(3)  # while the column itself goes on
    assert column.view().tolist() == [1, 3]


@pytest.mark.parametrize("rows", [-1, 3])
def test_a_view_of_more_rows_than_there_are_is_refused(rows: int) -> None:
    column = GrowingColumn(np.int64)
    column.extend([1, 2])
    with pytest.raises(IndexError):
        column.view(rows)


def test_a_view_taken_while_another_thread_appends_is_a_true_prefix() -> None:
    column = GrowingColumn(np.int64)
    rows = 200_000
    torn: list[int] = []

    def read() -> None:
        while len(column) < rows:
            view = column.view()
            if not np.array_equal(view, np.arange(len(view))):
                torn.append(len(view))
                return

    reader = threading.Thread(target=read)
    reader.start()
    for first in range(0, rows, 7):
        column.extend(np.arange(first, min(first + 7, rows)))
    reader.join()
    assert not torn


@settings(deadline=None)
@given(st.lists(st.lists(st.binary(max_size=50), max_size=8), max_size=8))
def test_blobs_come_back_as_they_were(batches: list[list[bytes]]) -> None:
    column = BytesColumn()
    early = column.view()
    for batch in batches:
        column.extend(batch)
    blobs = [blob for batch in batches for blob in batch]
    assert [column.append(blob) for blob in blobs[:3]] == list(
        range(len(blobs), len(blobs) + len(blobs[:3]))
    )
    blobs += blobs[:3]
    assert [column.get(row) for row in range(len(column))] == blobs
    view = column.view()
    assert view.data.tobytes() == b"".join(blobs)
    assert column.nbytes == view.data.nbytes + view.offsets.nbytes
    assert len(early) == 0


def test_a_view_of_blobs_ends_where_it_was_taken() -> None:
    column = BytesColumn()
    column.extend([b"one", b"", b"three"])
    view = column.view(2)
    column.append(b"four")
    assert [view.get(0), view.get(1)] == [b"one", b""]
    assert view.data.tobytes() == b"one"
    for row in (2, -1):
        with pytest.raises(IndexError):
            view.get(row)
