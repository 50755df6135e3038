"""The index of uses: what a view shows, whatever comes later, and what a checkpoint holds of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.indexes.uses import (
    COMPANIONS_MAX,
    NOBODY,
    RECENT_COMPANY,
    RECENT_USES,
    CompanyColumns,
    UseColumns,
    Uses,
    UsesView,
    no_company,
    no_uses,
)

ROOTS = 5
Using = list[list[int]]
adding = st.lists(
    st.lists(st.integers(0, ROOTS - 1), max_size=COMPANIONS_MAX + 1, unique=True), max_size=60
)


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


def company_of(view: UsesView, rows: int = ROOTS) -> list[list[int]]:
    """Who was used along with each, ascending, as often as it was."""
    which, roots = view.company(np.arange(rows))
    return [sorted(roots[which == row].tolist()) for row in range(rows)]


def expected(using: Using) -> list[tuple[int, int, list[int]]]:
    found = []
    for root in range(ROOTS):
        times = [100 + number for number, each in enumerate(using) if root in each]
        found.append((root * 10, len(times), times[-RECENT_USES:]))
    return found


def expected_company(using: Using) -> list[list[int]]:
    found = []
    for root in range(ROOTS):
        recent = [each for each in using if root in each][-RECENT_COMPANY:]
        found.append(sorted(other for each in recent for other in each if other != root))
    return found


def columns_of(view: UsesView, kept: set[int]) -> tuple[UseColumns, CompanyColumns]:
    """As they are where each life has one row, and keeps it or not."""
    rows = np.array(sorted(kept), np.int64)
    new_rows = np.array([sorted(kept).index(row) if row in kept else -1 for row in range(ROOTS)])
    uses, company = view.kept(rows), view.kept_company(rows, new_rows, lambda r: r.astype(np.int64))
    uses.check(len(rows))
    company.check(uses, len(rows))
    return uses, company


@given(adding, st.sets(st.integers(0, 59)), st.sets(st.integers(0, 59)))
def test_a_view_shows_what_was_there_whatever_comes(
    using: Using, looked: set[int], reopened: set[int]
) -> None:
    uses, kept = fresh(), []
    for number, roots in enumerate(using):
        if number in looked:
            kept.append((view_of(uses), number))
        if number in reopened:
            uses = Uses.of(*columns_of(view_of(uses), {*range(ROOTS)}))
        uses.add(roots, 100 + number)
    for view, number in [*kept, (view_of(uses), len(using))]:
        assert shown(view) == expected(using[:number])
        counts = [count for _, count, _ in expected(using[:number])]
        assert view.most == max(counts)
        assert view.of([3, 1]).counts.tolist() == [counts[3], counts[1]]
        assert company_of(view) == expected_company(using[:number])


@given(adding, st.sets(st.integers(0, ROOTS - 1)))
def test_a_checkpoint_has_the_rows_that_are_kept(using: Using, kept: set[int]) -> None:
    uses = fresh()
    for number, roots in enumerate(using):
        uses.add(roots, 100 + number)
    columns, company = columns_of(view_of(uses), kept)
    view = Uses.of(columns, company).view(np.arange(len(kept), dtype=np.uint32))
    again = view.of(np.arange(len(kept)))
    right = [expected(using)[row] for row in sorted(kept)]
    assert again.begun_us.tolist() == [begun for begun, _, _ in right]
    assert again.counts.tolist() == [count for _, count, _ in right]
    assert int(columns.counts.sum()) == sum(count for _, count, _ in right)
    assert [[sorted(kept)[each] for each in row] for row in company_of(view, len(kept))] == [
        [other for other in expected_company(using)[row] if other in kept] for row in sorted(kept)
    ]


@given(adding, st.sets(st.integers(0, ROOTS - 1)))
def test_who_is_gone_leaves_the_same_columns_as_who_never_was(using: Using, kept: set[int]) -> None:
    """So that a log from which somebody was taken out adds up to the same."""
    uses, without = fresh(), fresh()
    for number, roots in enumerate(using):
        uses.add(roots, 100 + number)
        without.add([root for root in roots if root in kept], 100 + number)
    for one, other in zip(
        columns_of(view_of(uses), kept), columns_of(view_of(without), kept), strict=True
    ):
        for part, same in zip(one, other, strict=True):
            assert part.tolist() == same.tolist()


def test_a_life_begins_once_and_goes_on_in_later_rows() -> None:
    uses = Uses()
    uses.append([0, 0, 2], np.array([7, 3, 9]))
    uses.append([2, 4, 0], np.array([1, 2, 3]))
    uses.add([2], 50)
    used = uses.view(np.array([0, 0, 2, 2, 4, 0], np.uint32)).of(np.arange(6))
    assert used.begun_us.tolist() == [7, 7, 9, 9, 2, 7]
    assert used.counts.tolist() == [0, 0, 1, 1, 0, 0]


def test_nothing_is_used_in_an_empty_space() -> None:
    view = Uses().view(np.empty(0, np.uint32))
    assert view.of(np.empty(0, np.int64)).recent_us.shape == (0, RECENT_USES)
    assert view.most == 0
    assert company_of(view, 0) == []
    columns = no_uses(np.empty(0, np.int64))
    columns.check(0)
    no_company(columns).check(columns, 0)


def test_uses_of_before_there_was_company_have_none_and_those_behind_it_do() -> None:
    uses = fresh()
    for number in range(12):
        uses.add([0, 1, 2], 100 + number)
    columns, _ = columns_of(view_of(uses), {*range(ROOTS)})
    uses = Uses.of(columns, no_company(columns, since=7))
    assert company_of(view_of(uses)) == [[]] * ROOTS
    uses.add([0, 3], 200)
    view = view_of(uses)
    assert company_of(view) == [[3], [], [], [0], []]
    assert (view.since, view.company_since) == (0, 7)
    assert shown(view)[0] == (0, 13, [*range(105, 112), 200])
    assert columns_of(view, {*range(ROOTS)})[1].since.tolist() == [7]


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


def some_columns() -> tuple[UseColumns, CompanyColumns]:
    uses = fresh()
    for number, roots in enumerate([[1], [3], [1, 3, 4], [1, 2]]):
        uses.add(roots, 100 + number)
    return columns_of(view_of(uses), {*range(ROOTS)})


@pytest.mark.parametrize("wrong", WRONG)
def test_columns_that_do_not_belong_together_are_refused(wrong: str) -> None:
    columns, _ = some_columns()
    columns.check(ROOTS)
    with pytest.raises(ValueError, match="its uses"):
        WRONG[wrong](columns).check(ROOTS)


def but(columns: CompanyColumns, entry: int, *company: int) -> CompanyColumns:
    rows = columns.rows.copy()
    rows[entry] = company
    return columns._replace(rows=rows)


WRONG_COMPANY: dict[str, Callable[[CompanyColumns], CompanyColumns]] = {
    "too few entries": lambda c: c._replace(rows=c.rows[1:]),
    "too narrow": lambda c: c._replace(rows=c.rows[:, 1:]),
    "no position": lambda c: c._replace(since=c.since[:0]),
    "a row that is not there": lambda c: but(c, 1, ROOTS, 0),
    "nobody at all": lambda c: but(c, 1, 0, NOBODY - 1),
    "ascending": lambda c: but(c, 1, NOBODY, 3),
    "one twice": lambda c: but(c, 1, 3, 3),
    "itself": lambda c: but(c, 1, 3, 1),
}


@pytest.mark.parametrize("wrong", WRONG_COMPANY)
def test_company_that_does_not_go_with_its_uses_is_refused(wrong: str) -> None:
    uses, columns = some_columns()
    assert uses.rows.tolist() == [1, 2, 3, 4]
    assert columns.rows.tolist() == [[-1, -1], [4, 3], [2, -1], [1, -1], [-1, -1], [4, 1], [3, 1]]
    columns.check(uses, ROOTS)
    with pytest.raises(ValueError, match="its uses"):
        WRONG_COMPANY[wrong](columns).check(uses, ROOTS)
