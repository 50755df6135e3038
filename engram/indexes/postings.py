"""Postings: for a 64-bit key, the ascending rows it occurs in, each with a small value.

Theory of operation. New postings go to a tail of flat columns in the order they came. When the
tail is full it is sorted by key (rows stay ascending) into a sealed run, four plain arrays, and the
last two runs are merged for as long as the older is not much larger than the younger. So there are
O(log n) runs, each posting is moved O(log n) times, and a look-up is one binary search a run and
one comparison of the short tail. Runs cover consecutive ranges of rows, and all postings of a row
are in one run or all in the tail; what a look-up returns for a row is therefore ordered by the
question alone, and sums over it do not depend on when runs were merged.

Runs are immutable and the tail is an append-only column, so a view is a few references.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engram.indexes.columns import GrowingColumn

TAIL_MAX: Final = 2_048
# A run is merged into the one before it unless that one is this many times as large.
RUN_GROWTH: Final = 4
# Comparisons of tail with question held in memory at a time.
_COMPARED_MAX: Final = 1 << 20

Keys = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.uint32]


class Run(NamedTuple):
    """Sealed postings in compressed sparse rows: key i has `rows[starts[i] : starts[i + 1]]`.

    `keys` is uint64, ascending and distinct; `starts` is int64 (keys + 1,); `rows` is uint32,
    ascending within a key; `values` is as long as `rows`.
    """

    keys: Keys
    starts: npt.NDArray[np.int64]
    rows: Rows
    values: npt.NDArray[Any]


def check_run(run: Run) -> None:
    """Raises :class:`ValueError` for arrays that are no postings, however they came by it."""
    keys, starts, rows, values = run
    if not (len(starts) == len(keys) + 1 and len(rows) == len(values) == starts[-1]):
        raise ValueError("its postings have other lengths than they say")
    if starts[0] != 0 or (starts[1:] <= starts[:-1]).any() or (keys[1:] <= keys[:-1]).any():
        raise ValueError("its postings are out of order")


def kept_of(run: Run, new_rows: npt.NDArray[np.int64]) -> Run:
    """The postings of the rows that are kept, under their new numbers.

    `new_rows` is int64 (rows,), ascending where it is not negative; negative drops a row.
    """
    if (new_rows >= 0).all():
        return run  # under the numbers they have
    renumbered = new_rows[run.rows]
    kept = renumbered >= 0
    key_of = np.repeat(np.arange(len(run.keys)), np.diff(run.starts))[kept]
    counts = np.bincount(key_of, minlength=len(run.keys))
    used = counts > 0
    starts = np.concatenate((np.zeros(1, np.int64), np.cumsum(counts[used], dtype=np.int64)))
    return Run(run.keys[used], starts, renumbered[kept].astype(np.uint32), run.values[kept])


class Matches(NamedTuple):
    """The postings found: entry i belongs to key number `which[i]` of those asked for.

    For any one row, entries come in the order of the keys asked for. `which` is int64, `rows`
    uint32, all (n,).
    """

    which: npt.NDArray[np.int64]
    rows: Rows
    values: npt.NDArray[Any]


class PostingsView:
    """The postings as they were when captured; never changes."""

    __slots__ = ("_runs", "_tail")

    def __init__(self, runs: tuple[Run, ...], tail: tuple[Keys, Rows, npt.NDArray[Any]]) -> None:
        self._runs = runs
        self._tail = tail

    def find(self, keys: Keys) -> Matches:
        """All postings of the given keys, uint64 (q,), which must be distinct."""
        which: list[npt.NDArray[np.int64]] = []
        rows: list[Rows] = []
        values: list[npt.NDArray[Any]] = []
        for run in self._runs:
            at = np.searchsorted(run.keys, keys)
            at[at == len(run.keys)] = 0
            found = np.flatnonzero(run.keys[at] == keys)
            begins, ends = run.starts[at[found]], run.starts[at[found] + 1]
            which.append(np.repeat(found, ends - begins))
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
                rows.append(run.rows[begin:end])
                values.append(run.values[begin:end])
        tail_keys, tail_rows, tail_values = self._tail
        step = max(1, _COMPARED_MAX // max(1, len(tail_keys)))
        for first in range(0, len(keys), step):
            number, place = np.nonzero(keys[first : first + step, np.newaxis] == tail_keys)
            which.append(number + first)
            rows.append(tail_rows[place])
            values.append(tail_values[place])
        if not which:
            return Matches(np.empty(0, np.int64), tail_rows[:0], tail_values[:0])
        if not rows:
            rows, values = [tail_rows[:0]], [tail_values[:0]]
        return Matches(np.concatenate(which), np.concatenate(rows), np.concatenate(values))

    def frequencies(self, keys: Keys) -> npt.NDArray[np.int64]:
        """How many postings each of the given keys has, int64 (q,); they must be distinct."""
        counts = np.zeros(len(keys), np.int64)
        for run in self._runs:
            at = np.searchsorted(run.keys, keys)
            at[at == len(run.keys)] = 0
            found = run.keys[at] == keys
            counts[found] += run.starts[at[found] + 1] - run.starts[at[found]]
        tail = self._tail[0]
        if len(tail) and len(keys):
            order = np.argsort(keys)
            at = np.searchsorted(keys, tail, sorter=order)
            at[at == len(keys)] = 0
            which = order[at]
            counts += np.bincount(which[keys[which] == tail], minlength=len(keys))
        return counts

    def rows_of(self, key: int) -> Rows:
        """The rows of one key, ascending, uint32."""
        return self.find(np.array([key], np.uint64)).rows

    def merged(self) -> Run:
        """All postings as one run."""
        runs = list(self._runs)
        if len(self._tail[0]) or not runs:
            runs.append(_sorted_run(*self._tail))
        whole = runs.pop()
        while runs:
            whole = _merged(runs.pop(), whole)
        return whole


class Postings:
    """Growing postings. `value_dtype` is that of the value beside each row."""

    __slots__ = ("_runs", "_tail", "_value_dtype")

    def __init__(self, value_dtype: npt.DTypeLike) -> None:
        self._value_dtype = np.dtype(value_dtype)
        self._runs: tuple[Run, ...] = ()
        self._tail = self._new_tail()

    @classmethod
    def of(cls, run: Run) -> Postings:
        """Postings that begin with a run, which may be mapped from a file."""
        postings = cls(run.values.dtype)
        if len(run.rows):
            postings._runs = (run,)
        return postings

    def __len__(self) -> int:
        return sum(len(run.rows) for run in self._runs) + len(self._tail[0])

    @property
    def nbytes(self) -> int:
        """Bytes of all postings held, without spare capacity."""
        sealed = sum(array.nbytes for run in self._runs for array in run)
        return sealed + sum(column.nbytes for column in self._tail)

    def extend(self, keys: Keys, rows: Rows, values: npt.NDArray[Any]) -> None:
        """Append postings, each array (n,). No (key, row) may come twice.

        Rows must ascend, and all postings of a row must come in one call.
        """
        key_column, row_column, value_column = self._tail
        key_column.extend(keys)
        row_column.extend(rows)
        value_column.extend(values)
        if len(self._tail[0]) > TAIL_MAX:
            self._seal()

    def view(self) -> PostingsView:
        """What is there now; stays as it is."""
        keys, rows, values = self._tail
        return PostingsView(self._runs, (keys.view(), rows.view(), values.view()))

    def _new_tail(self) -> tuple[GrowingColumn, GrowingColumn, GrowingColumn]:
        return GrowingColumn(np.uint64), GrowingColumn(np.uint32), GrowingColumn(self._value_dtype)

    def _seal(self) -> None:
        runs = [*self._runs, _sorted_run(*(column.view() for column in self._tail))]
        while len(runs) > 1 and len(runs[-2].rows) < RUN_GROWTH * len(runs[-1].rows):
            younger = runs.pop()
            runs.append(_merged(runs.pop(), younger))
        self._runs = tuple(runs)
        self._tail = self._new_tail()


def _sorted_run(keys: Keys, rows: Rows, values: npt.NDArray[Any]) -> Run:
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1]))[: len(keys)])
    return Run(keys[first], np.append(first, len(keys)), rows[order], values[order])


def _merged(older: Run, younger: Run) -> Run:
    """One run of both, the older one's rows first under each key."""
    keys = np.union1d(older.keys, younger.keys)
    slots = [np.searchsorted(keys, run.keys) for run in (older, younger)]
    lengths = [np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int64)]
    for run, slot, length in zip((older, younger), slots, lengths, strict=True):
        length[slot] = np.diff(run.starts)
    starts = np.concatenate(([0], np.cumsum(lengths[0] + lengths[1])))
    rows = np.empty(int(starts[-1]), np.uint32)
    values = np.empty(int(starts[-1]), older.values.dtype)
    begins = (starts[:-1], starts[:-1] + lengths[0])
    for run, slot, begin in zip((older, younger), slots, begins, strict=True):
        shift = np.repeat(begin[slot] - run.starts[:-1], np.diff(run.starts))
        place = np.arange(len(run.rows)) + shift
        rows[place] = run.rows
        values[place] = run.values
    return Run(keys, starts, rows, values)
