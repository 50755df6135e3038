"""Rows by time: `since` and `until` of filters, and what is due to expire.

Theory of operation. The sealed part is two columns, times and rows, sorted by (time, row). Rows
mostly come in the order of time, and those are simply appended. One that comes late goes into a
small sorted list; a view carries a copy of it (made once per change), and when it outgrows its
share it is merged into new sealed columns. A range is then two binary searches in each part.

Which of a memory's times is kept here, and in which unit since the Unix epoch, is the caller's
choice; times must fit 64 bits, bounds of a question need not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from sortedcontainers import SortedList

from engram.indexes.columns import GrowingColumn

LATE_MIN: Final = 256
# Late rows are merged when there are more than this share of the sealed ones; a merge copies all.
LATE_SHARE: Final = 1 / 64

Times = npt.NDArray[np.int64]
Rows = npt.NDArray[np.uint32]


class TimelineView:
    """The timeline as it was when captured; never changes."""

    __slots__ = ("_parts",)

    def __init__(self, parts: tuple[tuple[Times, Rows], ...]) -> None:
        self._parts = parts

    def between(self, since: int | None, until: int | None) -> Rows:
        """The rows with since <= time < until (None is open), in order of time.

        uint32 (n,); rows of the same time are in ascending order.
        """
        found = [
            (times[first:last], rows[first:last])
            for times, rows in self._parts
            for first, last in [(_place(times, since, 0), _place(times, until, len(times)))]
            if first < last
        ]
        if not found:
            return np.empty(0, np.uint32)
        if len(found) == 1:
            return found[0][1]
        rows = np.concatenate([part[1] for part in found])
        return rows[np.lexsort((rows, np.concatenate([part[0] for part in found])))]

    def columns(self) -> tuple[Times, Rows]:
        """Times and rows, both (n,), in order: for :meth:`Timeline.of`."""
        times = np.concatenate([part[0] for part in self._parts])
        rows = np.concatenate([part[1] for part in self._parts])
        order = np.lexsort((rows, times))
        return times[order], rows[order]

    def due(self, now: int, after: int | None = None) -> Rows:
        """The rows whose time has come: time <= now, and > `after` where that is given."""
        return self.between(None if after is None else after + 1, now + 1)


def _place(times: Times, time: int | None, where_none: int) -> int:
    """The first place whose time is >= `time`, which may lie outside of 64 bits."""
    if time is None:
        return where_none
    if time > np.iinfo(np.int64).max:
        return len(times)
    return int(np.searchsorted(times, np.int64(max(time, np.iinfo(np.int64).min))))


class Timeline:
    """Rows ordered by time. A row may be left out, or be there several times."""

    __slots__ = ("_last", "_late", "_late_view", "_rows", "_times")

    def __init__(self) -> None:
        self._times = GrowingColumn(np.int64)
        self._rows = GrowingColumn(np.uint32)
        self._last: tuple[int, int] | None = None
        self._late: SortedList = SortedList()
        self._late_view: tuple[Times, Rows] | None = None

    @classmethod
    def of(cls, times: Times, rows: Rows) -> Timeline:
        """A timeline that begins with what `columns` gave."""
        timeline = cls()
        timeline._times, timeline._rows = GrowingColumn.of(times), GrowingColumn.of(rows)
        if len(times):
            timeline._last = (int(times[-1]), int(rows[-1]))
        return timeline

    def __len__(self) -> int:
        return len(self._rows) + len(self._late)

    def add(self, time: int, row: int) -> None:
        """Add one row at `time`."""
        if self._last is None or (time, row) >= self._last:
            self._times.append(time)
            self._rows.append(row)
            self._last = (time, row)
            return
        self._late.add((time, row))
        self._late_view = None
        if len(self._late) > max(LATE_MIN, LATE_SHARE * len(self._rows)):
            self._merge(*_columns(self._late))
            self._late = SortedList()

    def extend(self, times: Sequence[int] | Times, rows: Sequence[int] | Rows) -> None:
        """Add many rows, each at its time; in any order."""
        time_column, row_column = np.asarray(times, np.int64), np.asarray(rows, np.uint32)
        if time_column.shape != row_column.shape or time_column.ndim != 1:
            raise ValueError(f"{time_column.shape} times for {row_column.shape} rows")
        if not len(time_column):
            return
        order = np.lexsort((row_column, time_column))
        time_column, row_column = time_column[order], row_column[order]
        first = (int(time_column[0]), int(row_column[0]))
        if self._last is None or first >= self._last:
            self._times.extend(time_column)
            self._rows.extend(row_column)
            self._last = (int(time_column[-1]), int(row_column[-1]))
        elif len(time_column) <= LATE_MIN:
            for time, row in zip(time_column.tolist(), row_column.tolist(), strict=True):
                self.add(time, row)
        else:
            self._merge(time_column, row_column)

    def view(self) -> TimelineView:
        """What is there now; stays as it is."""
        sealed = (self._times.view(), self._rows.view())
        if not self._late:
            return TimelineView((sealed,))
        if self._late_view is None:
            self._late_view = _columns(self._late)
        return TimelineView((sealed, self._late_view))

    def _merge(self, times: Times, rows: Rows) -> None:
        """Put rows, in any order, among the sealed ones: new columns, old views keep theirs."""
        times = np.concatenate((self._times.view(), times))
        rows = np.concatenate((self._rows.view(), rows))
        order = np.lexsort((rows, times))
        self._times, self._rows = GrowingColumn(np.int64), GrowingColumn(np.uint32)
        self._times.extend(times[order])
        self._rows.extend(rows[order])
        self._last = (int(times[order[-1]]), int(rows[order[-1]]))


def _columns(late: SortedList) -> tuple[Times, Rows]:
    times = np.fromiter((time for time, _ in late), np.int64, len(late))
    return times, np.fromiter((row for _, row in late), np.uint32, len(late))
