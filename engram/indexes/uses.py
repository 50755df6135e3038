"""When each memory was used, that is stored, taken back after being forgotten, or recalled; and
which others the same recall used.

Theory of operation. Uses are counted for each *life* of a memory, which goes on through revisions
and ends where its id is used anew; a life is named by its root, the row at which it began (see
:mod:`engram.indexes.links`). Each row keeps when its life began. Every further use is an entry of a
column that only grows: the entry before it of the same life, its time, the how manyth it is, and
the roots of its *company*, what else that recall used. So the newest entry of a life leads to all
that base levels ask for, how many uses there were and when the last RECENT_USES of them were, and
to all that associations ask for, the company of the last RECENT_COMPANY. Whether a companion still
counts follows from the rows, as it does for an end of a link: for as long as its life goes on.

One array, which views share, leads from roots to newest entries. A view that meets an entry which
is newer than itself goes back from there to the one that was the newest then.

A checkpoint holds the last of each life, and how many there were. The first ones hold none, and
those after them no company: what was before such a checkpoint is not known, which `since` tells. A
use stays one of the last also where nobody is left of its company, so that it makes no difference
whether a companion was purged before or after the use was read from the log.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engram.indexes.columns import GrowingColumn

RECENT_USES: Final = 8
"""How many of the last uses of a memory are known one by one (Petrov 2006, k)."""
RECENT_COMPANY: Final = 16
"""Of how many of the last uses of a memory the company is known."""
COMPANIONS_MAX: Final = 2
"""How many others one recall can have used."""
NO_ENTRY: Final = 0
"""Where an entry lies that is nobody's and leads to itself, so that going back may go too far."""
NOBODY: Final = -1
_BEFORE, _TIME, _COUNT, _COMPANY = range(4)
_NO_USE: Final = (NO_ENTRY, 0, 0, *[NOBODY] * COMPANIONS_MAX)

Int64Array = npt.NDArray[np.int64]
Uint32Array = npt.NDArray[np.uint32]
BoolArray = npt.NDArray[np.bool_]


class UseColumns(NamedTuple):
    """Uses as a checkpoint holds them. `since`, int64 (1,): the position behind which they are
    known, 0 for all of them. `begun_us`, int64 (rows,): when each row's life began. Of the lives
    that were used since: their rows, ascending, and how often, (n,); life i has the times
    `times_us[starts[i] : starts[i + 1]]`, ascending.
    """

    since: Int64Array
    begun_us: Int64Array
    rows: Uint32Array
    counts: Int64Array
    starts: Int64Array
    times_us: Int64Array

    def check(self, rows: int) -> None:
        """Raises :class:`ValueError` for columns that do not belong together."""
        lengths = np.diff(self.starts)
        if (
            self.since.shape != (1,)
            or len(self.begun_us) != rows
            or len(self.counts) != len(self.rows)
            or len(self.starts) != len(self.rows) + 1
            or self.starts[0] != 0
            or self.starts[-1] != len(self.times_us)
            or (len(self.rows) and int(self.rows[-1]) >= rows)
            or (self.rows[1:] <= self.rows[:-1]).any()
            or not np.array_equal(lengths, np.minimum(self.counts, RECENT_USES))
            or (lengths < 1).any()
        ):
            raise ValueError("its uses do not belong together")
        ascending = self.times_us[1:] >= self.times_us[:-1]
        ascending[self.starts[1:-1] - 1] = True  # from one life to the next
        if not ascending.all():
            raise ValueError("its uses are out of order")


class CompanyColumns(NamedTuple):
    """The company of uses as a checkpoint holds it. `since`, int64 (1,): the position behind which
    it is known. `rows`, int32 (m, COMPANIONS_MAX): those that were used along, descending, and then
    NOBODY; of each life in :class:`UseColumns` one after the other the last RECENT_COMPANY uses, or
    all if there were fewer, oldest first.
    """

    since: Int64Array
    rows: npt.NDArray[np.int32]

    def check(self, uses: UseColumns, rows: int) -> None:
        """Raises :class:`ValueError` for columns that do not go with those uses."""
        used = np.repeat(uses.rows, np.minimum(uses.counts, RECENT_COMPANY))
        if self.since.shape != (1,) or self.rows.shape != (len(used), COMPANIONS_MAX):
            raise ValueError("the company of its uses does not go with them")
        if not len(used):
            return
        if (self.rows == used[:, None]).any():
            raise ValueError("its uses name as company what was used")
        if int(self.rows.min()) < NOBODY or int(self.rows.max()) >= rows:
            raise ValueError("its uses name a company of rows that it does not have")
        one, other = self.rows[:, :-1], self.rows[:, 1:]
        if ((one < other) | ((one == other) & (one != NOBODY))).any():
            raise ValueError("the company of its uses is out of order")


def no_company(uses: UseColumns, since: int = 0) -> CompanyColumns:
    """Of uses of which it is not known who was used along."""
    entries = int(np.minimum(uses.counts, RECENT_COMPANY).sum())
    rows = np.full((entries, COMPANIONS_MAX), NOBODY, np.int32)
    return CompanyColumns(np.array([since], np.int64), rows)


def no_uses(begun_us: Int64Array, since: int = 0) -> UseColumns:
    """Of rows of which no use is known but that they were stored."""
    return UseColumns(
        np.array([since], np.int64),
        begun_us,
        np.empty(0, np.uint32),
        np.empty(0, np.int64),
        np.zeros(1, np.int64),
        np.empty(0, np.int64),
    )


class Used(NamedTuple):
    """The uses of some rows' memories. `begun_us`, int64 (n,), is the first use, and `counts`,
    int64 (n,), says how many followed; the last of these are `recent_us`, int64 (n, RECENT_USES),
    newest first, of which each row has as many as it has uses.
    """

    begun_us: Int64Array
    counts: Int64Array
    recent_us: Int64Array


class UsesView:
    """The uses as they were when captured; never changes. `most` is the highest of all counts."""

    __slots__ = (
        "_begun_us",
        "_entries",
        "_heads",
        "_known",
        "_roots",
        "company_since",
        "most",
        "since",
    )

    def __init__(
        self,
        begun_us: Int64Array,
        heads: Int64Array,
        entries: GrowingColumn,
        roots: Uint32Array,
        most: int,
        since: int,
        company_since: int,
    ) -> None:
        self._begun_us = begun_us
        self._heads = heads
        self._entries = entries
        self._known = len(entries)
        self._roots = roots
        self.most = most
        self.since = since
        self.company_since = company_since

    def of(self, rows: npt.ArrayLike) -> Used:
        """The uses of the memories in some rows, int64 (n,)."""
        asked = np.asarray(rows, np.int64)
        at, entries = self._newest(asked)
        counts = np.zeros(len(asked), np.int64)
        recent_us = np.zeros((len(asked), RECENT_USES), np.int64)
        used = np.flatnonzero(at != NO_ENTRY)
        counts[used] = entries[at[used], _COUNT]
        for number in range(RECENT_USES):
            recent_us[used, number] = entries[at[used], _TIME]
            at[used] = entries[at[used], _BEFORE]
            used = used[at[used] != NO_ENTRY]
            if not len(used):
                break
        return Used(self._begun_us[asked], counts, recent_us)

    def company(self, rows: Int64Array) -> tuple[Int64Array, Uint32Array]:
        """Who was used along with the memories in some rows in their last RECENT_COMPANY uses:
        which of the rows, int64, and the root of each companion, as long; one for each time.
        """
        used, company = self._company(rows)
        there = np.flatnonzero(company.ravel() != NOBODY)
        which = used[there // COMPANIONS_MAX % max(len(used), 1)]
        return which, company.ravel()[there].astype(np.uint32)

    def _newest(self, rows: Int64Array) -> tuple[Int64Array, Int64Array]:
        """The places of the newest entries of the lives in some rows, NO_ENTRY without any; and all
        entries, which may be more than this view knows.
        """
        at = self._heads[self._roots[rows]]
        # Asked for after the heads, so it leads back from each of them.
        entries = self._entries.view()
        late = np.flatnonzero(at >= self._known)
        while len(late):
            at[late] = entries[at[late], _BEFORE]
            late = late[at[late] >= self._known]
        return at, entries

    def _company(self, rows: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Which of the rows were used, int64 (n,), and in whose company last, newest first,
        int64 (RECENT_COMPANY, n, COMPANIONS_MAX), of nobody where there were fewer.
        """
        at, entries = self._newest(rows)
        used = np.flatnonzero(at != NO_ENTRY)
        company = np.empty((RECENT_COMPANY, len(used), COMPANIONS_MAX), np.int64)
        if len(used):
            at = at[used]
            for number in range(RECENT_COMPANY):
                step = entries.take(at, axis=0)
                company[number] = step[:, _COMPANY:]
                at = step[:, _BEFORE]
        return used, company

    def kept(self, rows: Int64Array) -> UseColumns:
        """The uses of the rows that are kept, ascending, each the newest of its memory."""
        begun_us, counts, recent_us = self.of(rows)
        used = np.flatnonzero(counts)
        lengths = np.minimum(counts[used], RECENT_USES)
        oldest_first = np.arange(RECENT_USES)[::-1] < lengths[:, None]
        return UseColumns(
            np.array([self.since], np.int64),
            begun_us,
            used.astype(np.uint32),
            counts[used],
            np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths))),
            recent_us[used, ::-1][oldest_first],
        )

    def kept_company(
        self, rows: Int64Array, new_rows: Int64Array, newest: Callable[[Uint32Array], Int64Array]
    ) -> CompanyColumns:
        """The company of the rows that are kept, under their new numbers. `new_rows` is int64
        (view.rows,), negative for what is not kept; `newest` leads from roots to newest rows.
        """
        used, steps = self._company(rows)
        lengths = np.minimum(self.of(rows[used]).counts, RECENT_COMPANY)
        oldest_first = np.arange(RECENT_COMPANY)[::-1] < lengths[:, None]
        company = steps[::-1].transpose(1, 0, 2)[oldest_first]
        there = company != NOBODY
        company[there] = np.maximum(new_rows[newest(company[there].astype(np.uint32))], NOBODY)
        # Who was used along has no order, so that rows may be numbered in any.
        ordered = np.sort(company, axis=1)[:, ::-1]
        return CompanyColumns(
            np.array([self.company_since], np.int64), np.ascontiguousarray(ordered, np.int32)
        )


class Uses:
    """The uses of one space. One thread writes; a view is taken by it too, and read by any."""

    def __init__(self) -> None:
        self._begun_us = GrowingColumn(np.int64)
        self._entries = GrowingColumn.of(np.array([_NO_USE], np.int64))
        self._heads: Int64Array = np.empty(0, np.int64)
        self._most = 0
        self._since = self._company_since = 0

    @classmethod
    def of(cls, columns: UseColumns, company: CompanyColumns) -> Uses:
        """The uses that a checkpoint holds, each of whose rows begins a life."""
        uses = cls()
        uses._begun_us = GrowingColumn.of(columns.begun_us)
        uses._heads = np.full(len(columns.begun_us), NO_ENTRY)
        uses._since = int(columns.since[0])
        uses._company_since = int(company.since[0])
        if len(columns.rows):
            lengths = np.minimum(columns.counts, RECENT_COMPANY)
            ends = np.cumsum(lengths)
            places = np.arange(1, len(company.rows) + 1)
            before = places - 1
            before[ends - lengths] = NO_ENTRY
            left = np.repeat(ends, lengths) - places + 1
            counts = np.repeat(columns.counts, lengths) - left + 1
            # Of the uses before the last RECENT_USES nobody asks when they were.
            times_us = np.zeros(len(places), np.int64)
            times_us[left <= RECENT_USES] = columns.times_us
            uses._entries.extend(np.column_stack((before, times_us, counts, company.rows)))
            uses._heads[columns.rows] = ends
            uses._most = int(columns.counts.max())
        return uses

    def append(self, roots: Sequence[int], encoded_us: Int64Array) -> None:
        """Append rows, by the rows at which their lives began, and when what is in them was so."""
        first, at = len(self._begun_us), np.asarray(roots, np.int64)
        begun_us = encoded_us[np.maximum(at - first, 0)]
        goes_on = at < first
        begun_us[goes_on] = self._begun_us.view()[at[goes_on]]
        self._begun_us.extend(begun_us)
        if first + len(roots) > len(self._heads):
            grown = np.full(max(first + len(roots), 2 * first), NO_ENTRY)
            grown[:first] = self._heads[:first]
            self._heads = grown

    def add(self, roots: Sequence[int], time_us: int) -> None:
        """What began at some roots, distinct ones, was used at once; COMPANIONS_MAX + 1 at most."""
        for root in roots:
            company = [other for other in roots if other != root]
            company += [NOBODY] * (COMPANIONS_MAX - len(company))
            before = int(self._heads[root])
            count = 1 + int(self._entries.view()[before, _COUNT])
            self._heads[root] = self._entries.append((before, time_us, count, *company))
            self._most = max(self._most, count)

    def view(self, roots: Uint32Array) -> UsesView:
        """What is there now; stays as it is. `roots` leads from each row to that of its life."""
        return UsesView(
            self._begun_us.view(),
            self._heads,
            self._entries,
            roots,
            self._most,
            self._since,
            self._company_since,
        )
