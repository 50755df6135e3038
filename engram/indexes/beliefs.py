"""What beliefs rest on: which memories each was formed from, found from either end.

Theory of operation. As with links, both ends are *roots*, the rows at which lives began, so that
revisions change nothing here. An entry says that a belief was formed from a memory, in which
revision, and by the event at which position. Entries are only ever added: forming a belief anew
adds what it rests on besides. Whether they still count follows from the rows: a belief rests on
them for as long as it lives, and it does not live on when one of them is gone.

A checkpoint has one row left of each id, so it also says which entries are of the life that its
belief's id leads to, and until when the others were. These are kept for as long as the text of that
life may be: not only in the history that is held, but also in the base where that begins. They say
in which texts there may be something of a memory that is to be purged.

What is looked up is sorted once somebody asks, and shared by all views until an entry is added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engram.indexes.columns import GrowingColumn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engram.indexes.links import LinksView

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
_BELIEF, _SOURCE, _REVISION, _POSITION, _UNTIL = range(5)
WIDTH: Final = 5


class BeliefColumns(NamedTuple):
    """Entries as a checkpoint holds them, (n,) each, ascending by belief, source and position.

    `beliefs` and `sources` are uint32 rows; `revisions` and `positions` int64, those of the sources
    and of the events that formed the beliefs; `until`, int64, the one from which on the belief's id
    led to another life, 0 while it does not.
    """

    beliefs: npt.NDArray[np.uint32]
    sources: npt.NDArray[np.uint32]
    revisions: Int64Array
    positions: Int64Array
    until: Int64Array


def no_beliefs() -> BeliefColumns:
    """The columns of a space in which nothing was consolidated."""
    return _columns(np.empty((0, WIDTH), np.int64))


def check_beliefs(columns: BeliefColumns, rows: int) -> None:
    """Raises :class:`ValueError` for arrays that cannot be beliefs rest on."""
    beliefs, sources, revisions, positions, until = columns
    if {len(column) for column in columns} != {len(beliefs)}:
        raise ValueError("what its beliefs rest on has columns that do not fit each other")
    if not len(beliefs):
        return
    if max(int(beliefs.max()), int(sources.max())) >= rows or (beliefs == sources).any():
        raise ValueError("its beliefs rest on rows that it does not have")
    if int(revisions.min()) < 1 or int(positions.min()) < 1 or int(until.min()) < 0:
        raise ValueError("its beliefs rest on what cannot be")
    order = np.lexsort((positions, sources, beliefs))
    if (order != np.arange(len(order))).any():
        raise ValueError("what its beliefs rest on is out of order")


def _columns(entries: Int64Array) -> BeliefColumns:
    order = np.lexsort((entries[:, _POSITION], entries[:, _SOURCE], entries[:, _BELIEF]))
    ordered = entries[order]
    return BeliefColumns(
        ordered[:, _BELIEF].astype(np.uint32),
        ordered[:, _SOURCE].astype(np.uint32),
        ordered[:, _REVISION].copy(),
        ordered[:, _POSITION].copy(),
        ordered[:, _UNTIL].copy(),
    )


class _Sorted:
    """The places of current entries by each of their ends, made when somebody asks."""

    __slots__ = ("_entries", "_made")

    def __init__(self, entries: Int64Array) -> None:
        self._entries = entries
        self._made: tuple[tuple[Int64Array, Int64Array], ...] | None = None

    def find(self, end: int, roots: Int64Array) -> tuple[Int64Array, Int64Array]:
        """Which of some roots, and the places of the entries that have it at that end."""
        made = self._made
        if made is None:
            current = np.flatnonzero(self._entries[:, _UNTIL] == 0)
            both = []
            for column in (_BELIEF, _SOURCE):
                order = current[np.argsort(self._entries[current, column], kind="stable")]
                both.append((self._entries[order, column], order))
            made = self._made = tuple(both)
        keys, order = made[end]
        begins = np.searchsorted(keys, roots)
        counts = np.searchsorted(keys, roots, side="right") - begins
        places = np.arange(counts.sum()) + np.repeat(begins - np.cumsum(counts) + counts, counts)
        return np.repeat(np.arange(len(roots)), counts), order[places]


class BeliefsView:
    """What beliefs rested on when captured; never changes."""

    __slots__ = ("_entries", "_links", "_sorted")

    def __init__(self, entries: Int64Array, by_end: _Sorted, links: LinksView) -> None:
        self._entries = entries
        self._sorted = by_end
        self._links = links

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def last_position(self) -> int:
        """The greatest position of an event that formed a belief, 0 without any."""
        return int(self._entries[:, _POSITION].max(initial=0))

    def around(self, rows: Int64Array) -> tuple[Int64Array, Int64Array]:
        """What rows, each the newest of its memory, rest on or hold up: which of the rows, and the
        newest row at the other end, which may be dead. Int64 both, no pair twice.
        """
        if not len(self._entries):
            return np.empty(0, np.int64), np.empty(0, np.int64)
        roots = self._links.roots_of(rows)
        parts = [self._sorted.find(end, roots) for end in (_BELIEF, _SOURCE)]
        others = [
            self._entries[places, 1 - end] for end, (_, places) in zip((0, 1), parts, strict=True)
        ]
        which = np.concatenate([part[0] for part in parts])
        pairs = np.column_stack((which, self._newest(np.concatenate(others))))
        distinct = np.unique(pairs, axis=0)
        return distinct[:, 0], distinct[:, 1]

    def sources(self, row: int) -> tuple[Int64Array, Int64Array]:
        """What the belief in a row rests on: the newest rows of its sources, ascending, and the
        revisions that it was formed from, int64 (n,) each; empty for what rests on nothing.
        """
        places = self._at(_BELIEF, row)
        rows, first = np.unique(self._newest(self._entries[places, _SOURCE]), return_index=True)
        return rows, self._entries[places[first], _REVISION]

    def formed_at(self, row: int) -> int:
        """The position at which the belief in a row was last formed, 0 if it never was."""
        places = self._at(_BELIEF, row)
        return int(self._entries[places, _POSITION].max(initial=0))

    def resting_on(self, row: int) -> Int64Array:
        """The newest rows, which may be dead, of the beliefs that rest on the memory in a row."""
        return np.unique(self._newest(self._entries[self._at(_SOURCE, row), _BELIEF]))

    def ever_of(self, rows: Sequence[int]) -> Int64Array:
        """The newest rows of the lives of all beliefs ever formed from what was in these rows."""
        found = np.isin(self._entries[:, _SOURCE], rows)
        return np.unique(self._newest(self._entries[found, _BELIEF]))

    def rows(self) -> Int64Array:
        """The newest rows, which may be dead, of all that was formed from sources."""
        current = self._entries[:, _UNTIL] == 0
        return np.unique(self._newest(self._entries[current, _BELIEF]))

    def cited(self, visible: BoolArray) -> Int64Array:
        """The newest rows of what visible beliefs rest on, ascending."""
        current = self._entries[self._entries[:, _UNTIL] == 0]
        living = visible[self._newest(current[:, _BELIEF])]
        return np.unique(self._newest(current[living, _SOURCE]))

    def positions(self, rows: Sequence[int]) -> Int64Array:
        """The positions of the events that formed a belief in these rows, or one from them."""
        if not len(self._entries):
            return self._entries[:, _POSITION]
        ends = np.isin(self._entries[:, : _SOURCE + 1], rows).any(1)
        return np.unique(self._entries[ends, _POSITION])

    def kept(
        self, new_rows: Int64Array, labels: Int64Array, ended: Int64Array, drop_to: int
    ) -> BeliefColumns:
        """The entries of the rows that are kept, under their new numbers.

        `labels` leads from each row to the newest of its id, `new_rows` is negative for one that is
        not kept, and `ended` says of each root from which position on its id led to another life, 0
        while it does not. Of such a life nothing is left once that is not behind `drop_to`.
        """
        entries = self._entries.copy()
        over = np.where(entries[:, _UNTIL] == 0, ended[entries[:, _BELIEF]], entries[:, _UNTIL])
        entries[:, _UNTIL] = over
        entries[:, : _SOURCE + 1] = new_rows[labels[entries[:, : _SOURCE + 1]]]
        kept = (entries[:, : _SOURCE + 1] >= 0).all(1)
        kept &= (over == 0) | (over > drop_to)
        return _columns(entries[kept])

    def _at(self, end: int, row: int) -> Int64Array:
        if not len(self._entries):
            return np.empty(0, np.int64)
        return self._sorted.find(end, self._links.roots_of(np.array([row])))[1]

    def _newest(self, roots: Int64Array) -> Int64Array:
        return self._links.newest(roots.astype(np.uint32))


class Beliefs:
    """What the beliefs of one space rest on. One thread writes; a view is taken by it too."""

    def __init__(self) -> None:
        self._entries = GrowingColumn(np.int64, WIDTH)
        self._sorted = _Sorted(self._entries.view())
        self._last = -1  # the root of the belief that began last

    @classmethod
    def of(cls, columns: BeliefColumns) -> Beliefs:
        """What a checkpoint holds."""
        beliefs = cls()
        wide: list[Any] = [column.astype(np.int64) for column in columns]
        beliefs._entries = GrowingColumn.of(np.column_stack(wide))
        beliefs._sorted = _Sorted(beliefs._entries.view())
        beliefs._last = int(columns.beliefs.max()) if len(columns.beliefs) else -1
        return beliefs

    def form(
        self, belief: int, sources: Sequence[int], revisions: Sequence[int], position: int
    ) -> None:
        """The belief that began at a root was formed from those that began at others."""
        known = set[int]()
        if belief <= self._last:  # else it is new, and replay would look through all for each
            entries = self._entries.view()
            own = entries[(entries[:, _BELIEF] == belief) & (entries[:, _UNTIL] == 0)]
            known.update(own[:, _SOURCE].tolist())
        self._last = max(self._last, belief)
        pairs = list(zip(sources, revisions, strict=True))
        # What says nothing new was nevertheless said, at its own position.
        new = [pair for pair in pairs if pair[0] not in known] or pairs
        self._entries.extend([(belief, *pair, position, 0) for pair in new])

    def view(self, links: LinksView) -> BeliefsView:
        """What is there now; stays as it is. `links` is of the same moment."""
        entries = self._entries.view()
        if len(entries) != len(self._sorted._entries):
            self._sorted = _Sorted(entries)
        return BeliefsView(entries, self._sorted, links)
