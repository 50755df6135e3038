from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.indexes import timeline
from engram.indexes.timeline import Timeline

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
# Few distinct times, so that equal ones are common, and both ends of what fits.
times = st.one_of(st.integers(-3, 8), st.sampled_from((INT64_MIN, INT64_MAX)))
bounds = st.one_of(
    st.none(), times, st.integers(-4, 9), st.sampled_from((INT64_MIN - 1, INT64_MAX + 1, 10**30))
)


def expected(items: list[tuple[int, int]], since: int | None, until: int | None) -> list[int]:
    return [
        row
        for time, row in sorted(items)
        if (since is None or time >= since) and (until is None or time < until)
    ]


@settings(deadline=None)
@given(
    st.lists(st.lists(times, max_size=12), max_size=8),
    bounds,
    bounds,
    st.integers(0, 6),
    st.booleans(),
    st.sampled_from((1, -1)),
)
def test_ranges_are_found_however_rows_came_and_were_merged(
    batches: list[list[int]],
    since: int | None,
    until: int | None,
    late_min: int,
    singly: bool,
    step: int,
) -> None:
    line = Timeline()
    items: list[tuple[int, int]] = []
    views = []
    with (
        mock.patch.object(timeline, "LATE_MIN", late_min),
        mock.patch.object(timeline, "LATE_SHARE", 0.3),
    ):
        for batch in batches:
            rows = [1000 + step * (len(items) + n) for n in range(len(batch))]
            if singly:
                for time, row in zip(batch, rows, strict=True):
                    line.add(time, row)
            else:
                line.extend(batch, rows)
            items += zip(batch, rows, strict=True)
            views.append((line.view(), list(items)))
    assert len(line) == len(items)
    for view, seen in views:
        assert view.between(since, until).tolist() == expected(seen, since, until)


def test_what_is_due() -> None:
    line = Timeline()
    line.extend([30, 10, 20, 20], [0, 1, 2, 3])
    view = line.view()
    assert view.due(9).tolist() == []
    assert view.due(20).tolist() == [1, 2, 3]
    assert view.due(30, after=10).tolist() == [2, 3, 0]
    assert view.due(INT64_MAX, after=20).tolist() == [0]


def test_rows_in_order_of_time_are_only_appended() -> None:
    line = Timeline()
    for row in range(1000):
        line.add(row // 3, row)
    line.extend(range(400, 500), range(1000, 1100))
    assert not line._late


def test_late_rows_are_merged_when_they_are_many() -> None:
    line = Timeline()
    line.extend(range(1000), range(1000))
    for row in range(1000, 1000 + timeline.LATE_MIN + 2):
        line.add(2000 - row, row)
    assert not line._late
    line.extend(range(900, 0, -1), range(2000, 2900))  # too many for the list: merged at once
    assert not line._late
    assert np.all(np.diff(line._times.view()) >= 0)


def test_a_view_keeps_its_late_rows() -> None:
    line = Timeline()
    line.add(10, 0)
    line.add(5, 1)
    view = line.view()
    line.add(1, 2)
    assert view.between(None, None).tolist() == [1, 0]
    assert line.view().between(None, None).tolist() == [2, 1, 0]


@pytest.mark.parametrize(("times", "rows"), [([1, 2], [1]), ([[1]], [[1]])])
def test_times_and_rows_must_match(times: list[int], rows: list[int]) -> None:
    with pytest.raises(ValueError, match="times for"):
        Timeline().extend(times, rows)
