"""From a row to its terms: the way back from what the lexicon leads to.

Theory of operation. The distinct terms of each row, in the order they first occur in its text, lie
behind each other in one column; another says where each row begins. A third says how many of a
row's first terms are its head, the name its text begins with. All of it is append-only.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engram.indexes.columns import GrowingColumn
from engram.indexes.tokens import Terms

Int64Array = npt.NDArray[np.int64]
TermIds = npt.NDArray[np.uint64]
BoolArray = npt.NDArray[np.bool_]


class ForwardColumns(NamedTuple):
    """Row i has the terms `ids[starts[i] : starts[i + 1]]`, and the first `heads[i]` are its head.

    `starts` is int64 (rows + 1,), `ids` uint64, `heads` uint8 (rows,).
    """

    starts: Int64Array
    ids: TermIds
    heads: npt.NDArray[np.uint8]

    def check(self, rows: int) -> None:
        """Raises :class:`ValueError` for what are no terms of so many rows."""
        starts, ids, heads = self
        if len(starts) != rows + 1 or starts[0] != 0 or starts[-1] != len(ids):
            raise ValueError("its rows have other terms than they say")
        if len(heads) != rows or (np.diff(starts) < heads).any():
            raise ValueError("its heads are longer than its rows")

    def kept(self, kept: BoolArray) -> ForwardColumns:
        """Those of the rows where `kept`, bool (rows,), holds."""
        if kept.all():
            return self
        counts = np.diff(self.starts)
        starts = np.concatenate(([0], np.cumsum(counts[kept], dtype=np.int64)))
        return ForwardColumns(starts, self.ids[np.repeat(kept, counts)], self.heads[kept])


class RowTerms(NamedTuple):
    """The terms of some rows: entry i belongs to row number `which[i]` of those asked for, and
    `is_head[i]` says whether it is one of its head. int64, uint64 and bool, all (n,).
    """

    which: Int64Array
    ids: TermIds
    is_head: BoolArray


NO_TERMS: Final = ForwardColumns(
    np.zeros(1, np.int64), np.empty(0, np.uint64), np.empty(0, np.uint8)
)


class ForwardView:
    """The terms of the rows there were; never changes."""

    __slots__ = ("columns",)

    def __init__(self, columns: ForwardColumns) -> None:
        self.columns = columns

    def of(self, rows: Int64Array) -> RowTerms:
        """The terms of `rows`, int64 (q,)."""
        starts = self.columns.starts
        return self._first(rows, starts[rows + 1] - starts[rows])

    def heads_of(self, rows: Int64Array) -> RowTerms:
        """The terms of the heads of `rows`, int64 (q,)."""
        return self._first(rows, self.columns.heads[rows].astype(np.int64))

    def _first(self, rows: Int64Array, counts: Int64Array) -> RowTerms:
        starts, ids, heads = self.columns
        which = np.repeat(np.arange(len(rows)), counts)
        number = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
        return RowTerms(which, ids[starts[rows][which] + number], number < heads[rows][which])


class Forward:
    """Growing :class:`ForwardColumns`, which may begin with some mapped from a file."""

    __slots__ = ("_heads", "_ids", "_starts")

    def __init__(self, columns: ForwardColumns = NO_TERMS) -> None:
        self._starts = GrowingColumn.of(columns.starts)
        self._ids = GrowingColumn.of(columns.ids)
        self._heads = GrowingColumn.of(columns.heads)

    @property
    def nbytes(self) -> int:
        """Bytes of what is held, without spare capacity."""
        return self._starts.nbytes + self._ids.nbytes + self._heads.nbytes

    def extend(self, terms: Terms) -> None:
        """Append one row per text."""
        begin = len(self._ids)
        self._ids.extend(terms.ids)
        self._heads.extend(terms.heads)
        self._starts.extend(begin + np.cumsum(terms.distinct))

    def view(self) -> ForwardView:
        """What is there now; stays as it is."""
        starts, ids, heads = self._starts.view(), self._ids.view(), self._heads.view()
        return ForwardView(ForwardColumns(starts, ids, heads))
