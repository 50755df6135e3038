"""What came before and after a memory in its source: a conversation, a document, a day's journal.

Theory of operation. Each row keeps a hash of its source, and its time. The rows of all sources,
sorted by these and then by row, are one column, so that what follows what is a matter of adjacent
entries. (Rows are in the order of storing; of what happened at the same time, a revision comes
last.) Appending rows only appends; the order is brought up to date when somebody asks, by merging
the rows that came since. Which rows may be seen is part of the question: what is forgotten stands
between nobody.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engram.indexes.columns import GrowingColumn

NO_SOURCE: Final = 0
NO_ROW: Final = -1
# A few new rows are put in their places; more of them are sorted together with the old ones.
INSERTED_MAX: Final = 128
CACHED_SOURCES_MAX: Final = 4_096

Int64Array = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.uint32]
BoolArray = npt.NDArray[np.bool_]


class SequenceColumns(NamedTuple):
    """Each row's source, 0 without one, and the rows with a source in their order.

    `sources` is uint64 (rows,), `order` uint32 (rows with a source,).
    """

    sources: Hashes
    order: Rows

    def kept(self, kept: BoolArray) -> SequenceColumns:
        """Those of the rows where `kept`, bool (rows,), holds, under their new numbers."""
        if kept.all():
            return self
        order = self.order[kept[self.order]]
        new_rows = np.cumsum(kept) - 1
        return SequenceColumns(self.sources[kept], new_rows[order].astype(np.uint32))

    def check(self, rows: int) -> None:
        """Raises :class:`ValueError` for what is no order of so many rows."""
        counted = np.bincount(self.order, minlength=rows)
        if len(self.sources) != rows or not np.array_equal(counted, self.sources != NO_SOURCE):
            raise ValueError("its sources are out of order")


class Neighbours(NamedTuple):
    """For each row the one before and the one after it in its source, NO_ROW without: int64
    (rows,) each. Rows that may not be seen have none.
    """

    before: Int64Array
    after: Int64Array


@lru_cache(CACHED_SOURCES_MAX)
def source_hash(source: str) -> int:
    """64 bits that stand for a source, never 0."""
    return int.from_bytes(blake2b(source.encode(), digest_size=8).digest(), "little") or 1


class _Order:
    """The rows with a source, sorted, as far as somebody has asked; shared by all views."""

    __slots__ = ("_sorted",)

    def __init__(self, rows: int, order: Rows) -> None:
        self._sorted = (rows, order)

    def upto(self, sources: Hashes, times: Int64Array) -> Rows:
        """The order of the rows that there are keys for. Threads may race: all come to the same."""
        known, order = self._sorted
        count = len(sources)
        if known > count:
            return order[order < count]
        if known < count:
            new = (known + np.flatnonzero(sources[known:])).astype(np.uint32)
            new = new[np.lexsort((new, times[new], sources[new]))]
            if len(new) > INSERTED_MAX:
                rows = np.concatenate((order, new))
                order = rows[np.lexsort((rows, times[rows], sources[rows]))]
            else:

                def key(row: int) -> tuple[int, int]:
                    return sources[row], times[row]

                places = [bisect_right(order, key(row), key=key) for row in new.tolist()]
                order = np.insert(order, places, new)
            self._sorted = (count, order)
        return order


class SequencesView:
    """The sequences as they were when captured; never changes."""

    __slots__ = ("_found", "_order", "_sources", "_times")

    def __init__(self, order: _Order, sources: Hashes, times: Int64Array) -> None:
        self._order = order
        self._sources = sources
        self._times = times
        self._found: tuple[BoolArray, Neighbours] | None = None

    def neighbours(self, visible: BoolArray) -> Neighbours:
        """Who stands beside whom among the visible rows, bool (rows,)."""
        found = self._found
        if found is None or found[0] is not visible:
            order = self._sorted()
            order = order[visible[order]].astype(np.int64)
            sources = self._sources[order]
            beside = sources[1:] == sources[:-1]
            first, second = order[:-1][beside], order[1:][beside]
            before = np.full(len(self._sources), NO_ROW)
            after = before.copy()
            before[second], after[first] = first, second
            found = self._found = (visible, Neighbours(before, after))
        return found[1]

    def columns(self) -> SequenceColumns:
        """All of it as plain arrays, for :meth:`Sequences.of`."""
        return SequenceColumns(self._sources, self._sorted())

    def _sorted(self) -> Rows:
        return self._order.upto(self._sources, self._times)


class Sequences:
    """The rows of a space by source and time."""

    __slots__ = ("_order", "_sources", "_times")

    def __init__(self) -> None:
        self._sources = GrowingColumn(np.uint64)
        self._times = GrowingColumn(np.int64)
        self._order = _Order(0, np.empty(0, np.uint32))

    @classmethod
    def of(cls, columns: SequenceColumns, times: Int64Array) -> Sequences:
        """Sequences that begin with what `columns` gave; `times` are those of the rows."""
        sequences = cls()
        sequences._sources = GrowingColumn.of(columns.sources)
        sequences._times = GrowingColumn.of(times)
        sequences._order = _Order(len(times), columns.order)
        return sequences

    def extend(self, sources: Sequence[str | None], times: Sequence[int] | Int64Array) -> None:
        """Append rows."""
        hashes = [NO_SOURCE if source is None else source_hash(source) for source in sources]
        self._sources.extend(np.array(hashes, np.uint64))
        self._times.extend(times)

    def view(self) -> SequencesView:
        """What is there now; stays as it is."""
        return SequencesView(self._order, self._sources.view(), self._times.view())
