"""Who stands beside whom in a source, against a plain sort."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.indexes import sequences as module
from engram.indexes.sequences import NO_ROW, SequenceColumns, Sequences, SequencesView

ROWS = st.lists(
    st.tuples(st.sampled_from([None, "a", "b", "c"]), st.integers(-3, 3), st.booleans()),
    max_size=30,
)
Rows = list[tuple[str | None, int, bool]]


def beside(rows: Rows) -> tuple[list[int], list[int]]:
    before, after = [NO_ROW] * len(rows), [NO_ROW] * len(rows)
    for source in {source for source, _, _ in rows} - {None}:
        chain = sorted(
            (time, row) for row, (of, time, visible) in enumerate(rows) if of == source and visible
        )
        for (_, first), (_, second) in pairwise(chain):
            before[second], after[first] = first, second
    return before, after


def check(view: SequencesView, rows: Rows) -> None:
    found = view.neighbours(np.array([visible for _, _, visible in rows], np.bool_))
    assert (found.before.tolist(), found.after.tolist()) == beside(rows)


def grown(sequences: Sequences, rows: Rows) -> None:
    sequences.extend([source for source, _, _ in rows], [time for _, time, _ in rows])


@pytest.mark.parametrize("inserted_max", [0, 1_000], ids=["sorted", "inserted"])
@given(rows=ROWS, cuts=st.lists(st.integers(0, 30), max_size=4))
def test_neighbours_are_those_of_a_plain_sort(
    inserted_max: int, rows: Rows, cuts: list[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "INSERTED_MAX", inserted_max)
        sequences, views, begin = Sequences(), [], 0
        for cut in [*sorted(min(cut, len(rows)) for cut in cuts), len(rows)]:
            grown(sequences, rows[begin:cut])
            begin = cut
            views.append((cut, sequences.view()))
        for cut, view in reversed(views):  # an older view, asked last, knows nothing of what came
            check(view, rows[:cut])
        for cut, view in views:
            check(view, rows[:cut])


@given(rows=ROWS, more=ROWS, data=st.data())
def test_they_go_on_from_columns(rows: Rows, more: Rows, data: st.DataObject) -> None:
    sequences = Sequences()
    grown(sequences, rows)
    keeps = st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))
    kept = np.array(data.draw(keeps), np.bool_)
    columns = sequences.view().columns().kept(kept)
    columns.check(int(kept.sum()))
    left = [row for row, keep in zip(rows, kept, strict=True) if keep]
    again = Sequences.of(columns, np.array([time for _, time, _ in left], np.int64))
    grown(again, more)
    check(again.view(), left + more)


def test_columns_that_make_no_order_are_refused() -> None:
    good = SequenceColumns(np.array([5, 0, 5], np.uint64), np.array([2, 0], np.uint32))
    good.check(3)
    for rows, wrong in (
        (2, good),
        (4, good),
        (3, good._replace(order=np.array([0, 0], np.uint32))),
        (3, good._replace(order=np.array([0, 1, 2], np.uint32))),
        (3, good._replace(order=np.array([0, 9], np.uint32))),
    ):
        with pytest.raises(ValueError, match="order"):
            wrong.check(rows)
