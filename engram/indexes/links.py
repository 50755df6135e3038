"""Links between memories: weighted, directed edges over rows, found from either end.

Theory of operation. A memory's rows change with each revision, so a link is kept between *roots*:
the rows at which the lives of its two ends began. A revision or a restoration goes on with the life
of the row before it, everything else begins one; `roots` leads from a row to where its life began,
`heads` from there to its newest row. So forgetting an end hides its links (the head is dead),
restoring it brings them back (the head lives again), and an id that is used anew has none.

New links go to a short tail in the order they came. A full tail is sorted into a sealed run of
plain arrays, by source and, through a permutation, by target; the last runs are merged for as long
as the older one is not much larger than the younger, as with postings. A look-up is two binary
searches a run and a comparison with the tail, in each direction.

Nothing is copied for a view. Two things change in place, and a view knows how to read them as of
its position: `ended`, the position at which a link was set anew or removed, counts for views behind
it only; and a head that is newer than the view is followed back, revision by revision. What has
ended for all views to come is left out when a run is made; arrays that older views hold stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engram.indexes.columns import CAPACITY_MIN, BytesColumn, BytesView, GrowingColumn

TAIL_MAX: Final = 2_048
# A run is merged into the one before it unless that one is this many times as large.
RUN_GROWTH: Final = 4
NEVER_ENDED: Final = np.iinfo(np.int64).max
_TAIL: Final = np.dtype(
    [
        ("source", np.uint32),
        ("target", np.uint32),
        ("relation", np.uint32),
        ("weight", np.float64),
        ("position", np.int64),
        ("ended", np.int64),
    ]
)

Int64Array = npt.NDArray[np.int64]
Uint32Array = npt.NDArray[np.uint32]
BoolArray = npt.NDArray[np.bool_]
Structured = npt.NDArray[Any]


class LinkColumns(NamedTuple):
    """Links as a checkpoint holds them, (n,) each, ascending by source, target and position.

    `sources` and `targets` are uint32 rows, `relations` uint32 places in `names`, which are in
    UTF-8, distinct and ascending; `weights` are float64 in (0, 1], `positions` int64, those of the
    events that set them; `by_target` is the uint32 permutation that sorts them by target.
    """

    sources: Uint32Array
    targets: Uint32Array
    relations: Uint32Array
    weights: npt.NDArray[np.float64]
    positions: Int64Array
    by_target: Uint32Array
    names: BytesView


def _names_of(names: Sequence[bytes]) -> BytesView:
    column = BytesColumn()
    column.extend(names)
    return column.view()


def no_links() -> LinkColumns:
    """The columns of a space without a link."""
    rows = np.empty(0, np.uint32)
    return LinkColumns(rows, rows, rows, np.empty(0), np.empty(0, np.int64), rows, _names_of(()))


def check_links(columns: LinkColumns, rows: int) -> None:
    """Raises :class:`ValueError` for arrays that are no links between so many rows."""
    sources, targets, relations, weights, positions, by_target, names = columns
    if {len(column) for column in columns[:-1]} != {len(sources)}:
        raise ValueError("its links have columns of different lengths")
    said = [names.get(row) for row in range(len(names))]
    if any(one >= other for one, other in pairwise(said)):
        raise ValueError("the relations of its links are out of order")
    if not len(sources):
        return
    if int(sources.max()) >= rows or int(targets.max()) >= rows:
        raise ValueError("its links name rows that it does not have")
    if int(relations.max()) >= len(names):
        raise ValueError("its links name relations that it does not have")
    if not ((weights > 0) & (weights <= 1)).all() or (sources == targets).any():
        raise ValueError("its links hold what no link can be")
    pairs = _pairs(sources, targets)
    tied = pairs[1:] == pairs[:-1]
    if (pairs[1:] < pairs[:-1]).any() or (positions[1:][tied] <= positions[:-1][tied]).any():
        raise ValueError("its links are out of order")
    if int(by_target.max()) >= len(targets) or (np.bincount(by_target) != 1).any():
        raise ValueError("its links by target are not all of its links")
    ordered = targets[by_target]
    if (ordered[1:] < ordered[:-1]).any():
        raise ValueError("its links by target are out of order")


def _pairs(sources: Uint32Array, targets: Uint32Array) -> npt.NDArray[np.uint64]:
    pairs: npt.NDArray[np.uint64] = (sources.astype(np.uint64) << np.uint64(32)) | targets
    return pairs


class _Run(NamedTuple):
    """Sealed links: as :class:`LinkColumns`, with `target_keys`, the targets in the order of
    `by_target`, and `ended`, which alone changes.
    """

    sources: Uint32Array
    targets: Uint32Array
    relations: Uint32Array
    weights: npt.NDArray[np.float64]
    positions: Int64Array
    by_target: Uint32Array
    target_keys: Uint32Array
    ended: Int64Array


class _Entries(NamedTuple):
    """Links between roots, (n,) each."""

    sources: Uint32Array
    targets: Uint32Array
    relations: Uint32Array
    weights: npt.NDArray[np.float64]
    positions: Int64Array


class Around(NamedTuple):
    """The links at some rows, (n,) each, by the row asked for and then by position.

    Entry i is a link of the row asked for as number `which[i]` with `rows[i]`, the newest row of
    the memory at its other end, which is alive: from the one asked for to that if `outward[i]`.
    `relations` are places in :attr:`LinksView.relations`; `positions` are those of the events that
    set the links.
    """

    which: Int64Array
    rows: Int64Array
    weights: npt.NDArray[np.float32]
    relations: Int64Array
    outward: BoolArray
    positions: Int64Array
    exact: npt.NDArray[np.float64]


class LinksView:
    """The links as they were when captured; never changes. `past` is int64 (n, 3), source, target
    and position: the events of links that were set anew or removed since.
    """

    __slots__ = (
        "_heads",
        "_names",
        "_names_count",
        "_previous",
        "_roots",
        "_runs",
        "_tail",
        "live",
        "past",
        "position",
    )

    def __init__(
        self,
        position: int,
        live: BoolArray,
        runs: tuple[_Run, ...],
        tail: Structured,
        roots: Uint32Array,
        heads: Uint32Array,
        previous: GrowingColumn,
        names: list[str],
        past: Int64Array,
    ) -> None:
        self.position = position
        self.live = live
        self._runs = runs
        self._tail = tail
        self._roots = roots
        self._heads = heads
        self._previous = previous
        self._names = names
        self._names_count = len(names)
        self.past = past

    def __len__(self) -> int:
        """How many links there are, those that are hidden among them, and some that ended."""
        return sum(len(run.sources) for run in self._runs) + len(self._tail)

    @property
    def relations(self) -> tuple[str, ...]:
        """The names of the relations, by number."""
        return tuple(self._names[: self._names_count])

    def around(self, rows: npt.ArrayLike) -> Around:
        """The links of distinct rows, each the newest of its memory, int64 (n,), to what lives."""
        which, found, outward = self._touching(self._roots[np.asarray(rows, np.int64)])
        others = self.newest(np.where(outward, found.targets, found.sources))
        shown = np.flatnonzero(self.live[others])
        shown = shown[np.lexsort((found.positions[shown], which[shown]))]
        exact = found.weights[shown]
        return Around(
            which[shown],
            others[shown],
            exact.astype(np.float32),
            found.relations[shown].astype(np.int64),
            outward[shown],
            found.positions[shown],
            exact,
        )

    def positions(self, rows: npt.ArrayLike) -> Int64Array:
        """The positions of all events of links of memories that lived in these distinct rows,
        ascending; also of links that are no more, or hidden.
        """
        asked = np.asarray(rows, np.int64)
        _, found, _ = self._touching(asked.astype(np.uint32))
        if not len(self.past):
            return np.unique(found.positions)
        ended = np.isin(self.past[:, 0], asked) | np.isin(self.past[:, 1], asked)
        return np.unique(np.concatenate((found.positions, self.past[ended, 2])))

    def roots_of(self, rows: Int64Array) -> Int64Array:
        """Where the lives in some rows began, int64 as long."""
        roots: Int64Array = self._roots[rows].astype(np.int64)
        return roots

    def newest(self, roots: Uint32Array) -> Int64Array:
        """The newest rows of the lives that began at `roots`, int64 as long."""
        heads: Int64Array = self._heads[roots].astype(np.int64)
        # Asked for after the heads, so it leads back from each of them.
        previous = self._previous.view()
        late = np.flatnonzero(heads >= len(self.live))
        while len(late):
            heads[late] = previous[heads[late]]
            late = late[heads[late] >= len(self.live)]
        return heads

    def _touching(self, roots: Uint32Array) -> tuple[Int64Array, _Entries, BoolArray]:
        """Which of the distinct roots, the links that begin or end there, whether they begin."""
        which: list[Int64Array] = []
        found: list[_Entries] = []
        outward: list[BoolArray] = []
        for run in self._runs:
            for keys, order in ((run.sources, None), (run.target_keys, run.by_target)):
                begins = np.searchsorted(keys, roots)
                counts = np.searchsorted(keys, roots, side="right") - begins
                places = np.arange(counts.sum()) + np.repeat(
                    begins - np.cumsum(counts) + counts, counts
                )
                if order is not None:
                    places = order[places]
                lasting = run.ended[places] > self.position
                places = places[lasting]
                which.append(np.repeat(np.arange(len(roots)), counts)[lasting])
                found.append(_taken(run, places))
                outward.append(np.full(len(places), order is None))
        tail = self._tail[self._tail["ended"] > self.position]
        order_of = np.argsort(roots)
        for end in ("source", "target"):
            if not len(roots) or not len(tail):
                break
            places = np.searchsorted(roots, tail[end], sorter=order_of)
            numbers = order_of[np.minimum(places, len(roots) - 1)]
            met = np.flatnonzero(roots[numbers] == tail[end])
            which.append(numbers[met])
            found.append(_entries_of(tail[met]))
            outward.append(np.full(len(met), end == "source"))
        if not which:
            return np.empty(0, np.int64), _entries_of(tail[:0]), np.empty(0, np.bool_)
        return np.concatenate(which), _joined(found), np.concatenate(outward)

    def entries(self) -> _Entries:
        """All links between roots, hidden ones too."""
        found = [_entries_of(self._tail[self._tail["ended"] > self.position])]
        for run in self._runs:
            lasting = run.ended > self.position
            found.append(_taken(run, lasting))
        return _joined(found)

    def kept(self, new_rows: Int64Array) -> tuple[LinkColumns, Int64Array]:
        """The links of the rows that are kept, under their new numbers; and those of others, as
        `past` has them.

        `new_rows` is int64 (rows,), negative for a row that is not kept.
        """
        found = self.entries()
        sources, targets = (new_rows[self.newest(ends)] for ends in (found.sources, found.targets))
        kept = (sources >= 0) & (targets >= 0)
        gone = np.column_stack(
            [column[~kept].astype(np.int64) for column in (*found[:2], found.positions)]
        )
        used, codes = np.unique(found.relations[kept], return_inverse=True)
        names = [self._names[code].encode() for code in used.tolist()]
        ranks = np.empty(len(names), np.uint32)
        ranks[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
        run = _sorted_run(
            _Entries(
                sources[kept].astype(np.uint32),
                targets[kept].astype(np.uint32),
                ranks[codes],
                found.weights[kept],
                found.positions[kept],
            )
        )
        return LinkColumns(*run[:6], _names_of(sorted(names))), gone


def _entries_of(tail: Structured) -> _Entries:
    return _Entries(
        *(tail[name] for name in ("source", "target", "relation", "weight", "position"))
    )


def _taken(columns: _Run | _Entries, places: Int64Array | BoolArray) -> _Entries:
    parts: list[Any] = [column[places] for column in columns[: len(_Entries._fields)]]
    return _Entries(*parts)


def _joined(parts: Sequence[_Entries]) -> _Entries:
    if len(parts) == 1:
        return parts[0]
    columns: list[Any] = [np.concatenate(columns) for columns in zip(*parts, strict=True)]
    return _Entries(*columns)


def _sorted_run(entries: _Entries) -> _Run:
    order = np.lexsort((entries.positions, _pairs(entries.sources, entries.targets)))
    columns = _taken(entries, order)
    by_target = np.argsort(columns.targets, kind="stable").astype(np.uint32)
    return _run(*columns, by_target)


def _run(
    sources: Uint32Array,
    targets: Uint32Array,
    relations: Uint32Array,
    weights: npt.NDArray[np.float64],
    positions: Int64Array,
    by_target: Uint32Array,
) -> _Run:
    ended = np.full(len(sources), NEVER_ENDED)
    keys = targets[by_target]
    return _Run(sources, targets, relations, weights, positions, by_target, keys, ended)


class Links:
    """The links of one space. One thread writes; a view is taken by it too, and read by any.

    `previous` is the column that leads from a row to the one before it with the same id. It has to
    be extended before the rows are appended here.
    """

    def __init__(self, previous: GrowingColumn) -> None:
        self._previous = previous
        self._roots = GrowingColumn(np.uint32)
        self._heads: Uint32Array = np.empty(0, np.uint32)
        self._runs: tuple[_Run, ...] = ()
        self._names: list[str] = []
        self._codes: dict[str, int] = {}
        self._past = GrowingColumn(np.int64, 3)
        self._tail, self._tail_count = _new_tail(), 0
        self._tail_places: dict[tuple[int, int, int], int] = {}

    @classmethod
    def of(cls, columns: LinkColumns, rows: int, previous: GrowingColumn) -> Links:
        """The links that a checkpoint holds, each of whose rows begins a life."""
        links = cls(previous)
        links._roots = GrowingColumn.of(np.arange(rows, dtype=np.uint32))
        links._heads = np.arange(rows, dtype=np.uint32)
        if len(columns.sources):
            links._runs = (_run(*columns[:6]),)
        for row in range(len(columns.names)):
            links._code(columns.names.get(row).decode())
        return links

    def append(self, roots: Sequence[int]) -> None:
        """Append rows, by the rows at which their lives began; a new life begins at itself."""
        first = len(self._roots)
        rows = np.arange(first, first + len(roots), dtype=np.uint32)
        self._roots.extend(np.asarray(roots, np.uint32))
        if first + len(roots) > len(self._heads):
            grown = np.empty(max(first + len(roots), 2 * first), np.uint32)
            grown[:first] = self._heads[:first]
            self._heads = grown
        self._heads[first : first + len(roots)] = rows
        self._heads[self._roots.view()[first:]] = rows  # in order, so that the newest stays

    def root(self, row: int) -> int:
        """Where the life of a row began."""
        return int(self._roots.view()[row])

    def roots(self) -> Uint32Array:
        """Where the life of each row began, uint32 (rows,); stays as it is."""
        roots: Uint32Array = self._roots.view()
        return roots

    def put(self, source: int, target: int, relation: str, weight: float, position: int) -> None:
        """Link two roots from `position` on, or set the weight of their link anew."""
        code = self._code(relation)
        self._end(source, target, code, position)
        if self._tail_count >= TAIL_MAX:
            self._seal()
        if self._tail_count == len(self._tail):
            grown = np.empty(2 * len(self._tail), _TAIL)
            grown[: self._tail_count] = self._tail
            self._tail = grown
        self._tail[self._tail_count] = source, target, code, weight, position, NEVER_ENDED
        self._tail_places[source, target, code] = self._tail_count
        self._tail_count += 1

    def remove(self, source: int, target: int, relation: str, position: int) -> bool:
        """End the link of two roots at `position`; whether there was one."""
        code = self._codes.get(relation)
        if code is None or not self._end(source, target, code, position):
            return False
        self._past.append((source, target, position))
        return True

    def has(self, source: int, target: int, relation: str) -> bool:
        """Whether two roots are linked so."""
        code = self._codes.get(relation)
        return code is not None and self._place(source, target, code) is not None

    def view(self, position: int, live: BoolArray) -> LinksView:
        """What is there now; stays as it is. `live` is the mask of all rows at `position`."""
        return LinksView(
            position,
            live,
            self._runs,
            self._tail[: self._tail_count],
            self._roots.view(),
            self._heads,
            self._previous,
            self._names,
            self._past.view(),
        )

    def _code(self, relation: str) -> int:
        code = self._codes.get(relation)
        if code is None:
            code = self._codes[relation] = len(self._names)
            self._names.append(relation)
        return code

    def _end(self, source: int, target: int, code: int, position: int) -> bool:
        found = self._place(source, target, code)
        if found is None:
            return False
        run, place = found
        if run is None:
            del self._tail_places[source, target, code]
            began = int(self._tail["position"][place])
            self._tail["ended"][place] = position
        else:
            began = int(run.positions[place])
            run.ended[place] = position
        self._past.append((source, target, began))
        return True

    def _place(self, source: int, target: int, code: int) -> tuple[_Run | None, int] | None:
        """The run, None for the tail, and the place in it of a link that has not ended."""
        place = self._tail_places.get((source, target, code))
        if place is not None:
            return None, place
        for run in self._runs:
            begin, end = _bounds(run.sources, source)
            first, last = _bounds(run.targets[begin:end], target)
            for at in range(begin + first, begin + last):
                if run.relations[at] == code and run.ended[at] == NEVER_ENDED:
                    return run, at
        return None

    def _seal(self) -> None:
        tail = self._tail[: self._tail_count]
        parts = [_entries_of(tail[tail["ended"] == NEVER_ENDED])]
        runs = list(self._runs)
        while runs and len(runs[-1].sources) < RUN_GROWTH * sum(len(p.sources) for p in parts):
            run = runs.pop()
            lasting = run.ended == NEVER_ENDED
            parts.insert(0, _taken(run, lasting))
        self._runs = (*runs, _sorted_run(_joined(parts)))
        self._tail, self._tail_count, self._tail_places = _new_tail(), 0, {}


def _new_tail() -> Structured:
    return np.empty(CAPACITY_MIN, _TAIL)


def _bounds(keys: Uint32Array, key: int) -> tuple[int, int]:
    wanted = np.uint32(key)
    return int(np.searchsorted(keys, wanted)), int(np.searchsorted(keys, wanted, side="right"))
