from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.indexes import postings
from engram.indexes.postings import Postings, PostingsView

# Per row: key -> value. Keys sit at both ends of 64 bits, where a signed comparison would fail.
KEYS = (1, 2, 3, 2**63 - 1, 2**63, 2**64 - 1)
rows_strategy = st.lists(st.dictionaries(st.sampled_from(KEYS), st.integers(0, 9)), max_size=60)
asked_strategy = st.lists(st.sampled_from((*KEYS, 4, 0)), unique=True, max_size=8)


def extend(index: Postings, rows: list[dict[int, int]], first_row: int = 0) -> None:
    index.extend(
        np.array([key for row in rows for key in row], np.uint64),
        np.array([first_row + n for n, row in enumerate(rows) for _ in row], np.uint32),
        np.array([value for row in rows for value in row.values()], np.uint16),
    )


def found(view: PostingsView, asked: list[int]) -> list[list[tuple[int, int]]]:
    """(row, value) of each key asked for, in the order given."""
    which, rows, values = view.find(np.array(asked, np.uint64))
    assert len(which) == len(rows) == len(values)
    result: list[list[tuple[int, int]]] = [[] for _ in asked]
    for number, row, value in zip(which.tolist(), rows.tolist(), values.tolist(), strict=True):
        result[number].append((row, value))
    return result


def expected(rows: list[dict[int, int]], asked: list[int]) -> list[list[tuple[int, int]]]:
    return [[(n, row[key]) for n, row in enumerate(rows) if key in row] for key in asked]


@settings(deadline=None)
@given(rows_strategy, asked_strategy, st.integers(1, 9), st.integers(0, 12), st.integers(1, 4))
def test_postings_are_found_however_they_came_and_were_merged(
    rows: list[dict[int, int]], asked: list[int], batch: int, tail_max: int, growth: int
) -> None:
    views = []
    with (
        mock.patch.object(postings, "TAIL_MAX", tail_max),
        mock.patch.object(postings, "RUN_GROWTH", growth),
    ):
        index = Postings(np.uint16)
        for first in range(0, len(rows), batch):
            extend(index, rows[first : first + batch], first)
            views.append((index.view(), min(first + batch, len(rows))))
    assert len(index) == sum(map(len, rows))
    for view, count in views:
        assert found(view, asked) == expected(rows[:count], asked)


@settings(deadline=None)
@given(rows_strategy, asked_strategy, st.integers(0, 12))
def test_the_entries_of_a_row_come_in_the_order_asked(
    rows: list[dict[int, int]], asked: list[int], tail_max: int
) -> None:
    with mock.patch.object(postings, "TAIL_MAX", tail_max):
        index = Postings(np.uint16)
        for number, row in enumerate(rows):
            extend(index, [row], number)
    which, found_rows, _ = index.view().find(np.array(asked, np.uint64))
    for number in range(len(rows)):
        of_row = which[found_rows == number].tolist()
        assert of_row == sorted(of_row)


def test_a_long_question_is_compared_with_the_tail_in_portions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(postings, "_COMPARED_MAX", 5)
    rows = [{key: key % 7 for key in KEYS} for _ in range(4)]
    index = Postings(np.uint16)
    extend(index, rows)
    assert found(index.view(), list(KEYS)) == expected(rows, list(KEYS))


def test_rows_of_a_key() -> None:
    index = Postings(np.uint16)
    assert index.view().rows_of(5).tolist() == []
    extend(index, [{5: 0}, {6: 0}, {5: 0}])
    assert index.view().rows_of(5).tolist() == [0, 2]


def test_runs_stay_few_and_bytes_are_counted() -> None:
    index = Postings(np.uint16)
    for first in range(0, 60_000, 100):
        extend(index, [{n % 1000 + 1: 1} for n in range(first, first + 100)], first)
    runs = index.view()._runs
    assert len(index) == 60_000
    assert len(runs) <= 4
    assert all(np.all(run.keys[1:] > run.keys[:-1]) for run in runs)
    # Six bytes for row and value, and what a key costs per run; the tail keeps its keys as well.
    assert 60_000 * 6 <= index.nbytes <= 60_000 * 6 + len(runs) * 1001 * 16 + 2_048 * 8
