"""The index of uses: what a view shows, whatever comes later, and what a checkpoint holds of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.indexes.uses import RECENT_USES, UseColumns, Uses, UsesView, no_uses

ROOTS = 5
adding = st.lists(st.integers(0, ROOTS - 1), max_size=60)


def fresh() -> Uses:
    uses = Uses()
    uses.append(range(ROOTS), np.arange(ROOTS, dtype=np.int64) * 10)
    return uses


def view_of(uses: Uses) -> UsesView:
    return uses.view(np.arange(ROOTS, dtype=np.uint32))


def shown(view: UsesView) -> list[tuple[int, int, list[int]]]:
    used = view.of(range(ROOTS))
    return [
        (begun, count, recent[: min(count, RECENT_USES)][::-1])
        for begun, count, recent in zip(
            used.begun_us.tolist(), used.counts.tolist(), used.recent_us.tolist(), strict=True
        )
    ]


def expected(roots: list[int]) -> list[tuple[int, int, list[int]]]:
    found = []
    for root in range(ROOTS):
        times = [100 + number for number, each in enumerate(roots) if each == root]
        found.append((root * 10, len(times), times[-RECENT_USES:]))
    return found


@given(adding, st.sets(st.integers(0, 59)), st.sets(st.integers(0, 59)))
def test_a_view_shows_what_was_there_whatever_comes(
    roots: list[int], looked: set[int], reopened: set[int]
) -> None:
    uses, kept = fresh(), []
    for number, root in enumerate(roots):
        if number in looked:
            kept.append((view_of(uses), number))
        if number in reopened:
            uses = Uses.of(view_of(uses).kept(np.arange(ROOTS)))
        uses.add(root, 100 + number)
    for view, number in [*kept, (view_of(uses), len(roots))]:
        assert shown(view) == expected(roots[:number])
        counts = [count for _, count, _ in expected(roots[:number])]
        assert view.most == max(counts)
        assert view.of([3, 1]).counts.tolist() == [counts[3], counts[1]]


@given(adding, st.sets(st.integers(0, ROOTS - 1)))
def test_a_checkpoint_has_the_rows_that_are_kept(roots: list[int], kept: set[int]) -> None:
    uses = fresh()
    for number, root in enumerate(roots):
        uses.add(root, 100 + number)
    rows = np.array(sorted(kept), np.int64)
    columns = view_of(uses).kept(rows)
    columns.check(len(rows))
    again = Uses.of(columns).view(np.arange(len(rows), dtype=np.uint32)).of(np.arange(len(rows)))
    right = [expected(roots)[row] for row in rows.tolist()]
    assert again.begun_us.tolist() == [begun for begun, _, _ in right]
    assert again.counts.tolist() == [count for _, count, _ in right]
    assert int(columns.counts.sum()) == sum(count for _, count, _ in right)


def test_a_life_begins_once_and_goes_on_in_later_rows() -> None:
    uses = Uses()
    uses.append([0, 0, 2], np.array([7, 3, 9]))
    uses.append([2, 4, 0], np.array([1, 2, 3]))
    uses.add(2, 50)
    used = uses.view(np.array([0, 0, 2, 2, 4, 0], np.uint32)).of(np.arange(6))
    assert used.begun_us.tolist() == [7, 7, 9, 9, 2, 7]
    assert used.counts.tolist() == [0, 0, 1, 1, 0, 0]


def test_nothing_is_used_in_an_empty_space() -> None:
    view = Uses().view(np.empty(0, np.uint32))
    assert view.of(np.empty(0, np.int64)).recent_us.shape == (0, RECENT_USES)
    assert view.most == 0
    no_uses(np.empty(0, np.int64)).check(0)


WRONG: dict[str, Callable[[UseColumns], UseColumns]] = {
    "too few rows": lambda c: c._replace(begun_us=c.begun_us[1:]),
    "a row twice": lambda c: c._replace(rows=np.array([1, 1], np.uint32)),
    "a row that is not there": lambda c: c._replace(rows=np.array([1, 9], np.uint32)),
    "too few counts": lambda c: c._replace(counts=c.counts[1:]),
    "more uses than times": lambda c: c._replace(counts=c.counts + 1),
    "fewer uses than times": lambda c: c._replace(counts=c.counts - 1),
    "none": lambda c: c._replace(counts=c.counts * 0),
    "starts too short": lambda c: c._replace(starts=c.starts[:-1]),
    "starts that go back": lambda c: c._replace(starts=c.starts[::-1].copy()),
    "times too short": lambda c: c._replace(times_us=c.times_us[:-1]),
    "times that go back": lambda c: c._replace(times_us=c.times_us[::-1].copy()),
    "no position": lambda c: c._replace(since=c.since[:0]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_columns_that_do_not_belong_together_are_refused(wrong: str) -> None:
    uses = fresh()
    for number, root in enumerate([1, 3, 1, 1, 3]):
        uses.add(root, 100 + number)
    columns = view_of(uses).kept(np.arange(ROOTS))
    columns.check(ROOTS)
    with pytest.raises(ValueError, match="its uses"):
        WRONG[wrong](columns).check(ROOTS)
