"""When each memory was used: stored, taken back after being forgotten, or recalled.

Theory of operation. Uses are counted for each *life* of a memory, which goes on through revisions
and ends where its id is used anew; a life is named by its root, the row at which it began (see
:mod:`engram.indexes.links`). Each row keeps when its life began. Every further use is an entry of a
column that only grows: the entry before it of the same life, its time, and the how manyth it is. So
the newest entry of a life leads to all that base levels ask for: how many uses there were, and when
the last RECENT_USES of them were.

One array, which views share, leads from roots to newest entries. A view that meets an entry which
is newer than itself goes back from there to the one that was the newest then.

A checkpoint holds the last RECENT_USES of each life, and how many there were. The first ones hold
none: what was used before such a checkpoint is not known, which `since` tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engram.indexes.columns import GrowingColumn

RECENT_USES: Final = 8
"""How many of the last uses of a memory are known one by one (Petrov 2006, k)."""
NO_ENTRY: Final = -1
_BEFORE, _TIME, _COUNT = range(3)

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

    __slots__ = ("_begun_us", "_entries", "_heads", "_known", "_roots", "most", "since")

    def __init__(
        self,
        begun_us: Int64Array,
        heads: Int64Array,
        entries: GrowingColumn,
        roots: Uint32Array,
        most: int,
        since: int,
    ) -> None:
        self._begun_us = begun_us
        self._heads = heads
        self._entries = entries
        self._known = len(entries)
        self._roots = roots
        self.most = most
        self.since = since

    def of(self, rows: npt.ArrayLike) -> Used:
        """The uses of the memories in some rows, int64 (n,)."""
        asked = np.asarray(rows, np.int64)
        at = self._heads[self._roots[asked]]
        # Asked for after the heads, so it leads back from each of them.
        entries = self._entries.view()
        late = np.flatnonzero(at >= self._known)
        while len(late):
            at[late] = entries[at[late], _BEFORE]
            late = late[at[late] >= self._known]
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


class Uses:
    """The uses of one space. One thread writes; a view is taken by it too, and read by any."""

    def __init__(self) -> None:
        self._begun_us = GrowingColumn(np.int64)
        self._entries = GrowingColumn(np.int64, 3)
        self._heads: Int64Array = np.empty(0, np.int64)
        self._most = 0
        self._since = 0

    @classmethod
    def of(cls, columns: UseColumns) -> Uses:
        """The uses that a checkpoint holds, each of whose rows begins a life."""
        uses = cls()
        uses._begun_us = GrowingColumn.of(columns.begun_us)
        uses._heads = np.full(len(columns.begun_us), NO_ENTRY)
        uses._since = int(columns.since[0])
        if len(columns.rows):
            ends, lengths = columns.starts[1:], np.diff(columns.starts)
            places = np.arange(len(columns.times_us))
            before = places - 1
            before[columns.starts[:-1]] = NO_ENTRY
            counts = np.repeat(columns.counts - ends, lengths) + places + 1
            uses._entries = GrowingColumn.of(np.column_stack((before, columns.times_us, counts)))
            uses._heads[columns.rows] = ends - 1
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

    def add(self, root: int, time_us: int) -> None:
        """What began at `root` was used."""
        before = int(self._heads[root])
        count = 1 + (0 if before == NO_ENTRY else int(self._entries.view()[before, _COUNT]))
        self._heads[root] = self._entries.append((before, time_us, count))
        self._most = max(self._most, count)

    def view(self, roots: Uint32Array) -> UsesView:
        """What is there now; stays as it is. `roots` leads from each row to that of its life."""
        return UsesView(
            self._begun_us.view(), self._heads, self._entries, roots, self._most, self._since
        )
