"""A caller's id -> the latest row that carries it.

Theory of operation. The sealed part is two plain columns sorted by hash: the first 8 bytes of
BLAKE2b of the id as uint64, and the row. New ids and new rows of old ids go into a small dict,
which wins over the sealed part and is merged into it when it outgrows its share. The ids
themselves are not kept here: different ids may have equal hashes, so a look-up asks `id_at`, a
callback into the column that stores them, which of the rows found is really meant.

A forgotten memory's id still leads to its last row, so that its revision can go on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import blake2b
from types import MethodType
from typing import Final
from weakref import WeakMethod

import numpy as np
import numpy.typing as npt

RECENT_MIN: Final = 1_024
# Recent ids are merged when there are more than this share of the sealed ones; a merge copies all.
RECENT_SHARE: Final = 1 / 8

Hashes = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.uint32]


def id_hash(memory_id: str) -> int:
    """64 bits of BLAKE2b of the id's UTF-8 form."""
    return int.from_bytes(blake2b(memory_id.encode(), digest_size=8).digest(), "little")


class IdIndex:
    """Maps ids to rows. `id_at(row)` must give the id stored at a row that was put here.

    `get` may run without a lock beside the one writer that calls `put`.
    """

    __slots__ = ("_hash", "_id_at", "_known", "_recent", "_sealed")

    def __init__(
        self, id_at: Callable[[int], str], hash_of: Callable[[str], int] = id_hash
    ) -> None:
        # A column that owns its index shall not be kept alive by it: it may be large, and a cycle
        # is not collected soon.
        self._id_at: Callable[[], Callable[[int], str] | None] = (
            WeakMethod(id_at) if isinstance(id_at, MethodType) else lambda: id_at
        )
        self._hash = hash_of
        self._sealed: tuple[Hashes, Rows] = (np.empty(0, np.uint64), np.empty(0, np.uint32))
        self._recent: dict[str, int] = {}

    def restore(self, hashes: Hashes, rows: Rows) -> None:
        """Begin with what `columns` gave, which may be mapped from a file."""
        self._sealed, self._recent = (hashes, rows), {}

    def frozen(self) -> IdIndex:
        """A copy that stays as it is. To be called where nothing is put meanwhile."""
        id_at = self._id_at()  # held by the copy, which may outlive its original
        copy = IdIndex(str, self._hash)
        copy._id_at = lambda: id_at
        copy._sealed, copy._recent = self._sealed, dict(self._recent)
        return copy

    def columns(self) -> tuple[Hashes, Rows]:
        """Hashes, ascending, and rows, both (n,). To be called where nothing is put meanwhile."""
        if self._recent:
            self._merge()
        return self._sealed

    def get(self, memory_id: str) -> int | None:
        """The latest row of the id, None where it was never put."""
        recent = self._recent.get(memory_id)
        if recent is not None:
            return recent
        hashes, rows = self._sealed
        place = self._place(hashes, rows, memory_id, self._hash(memory_id))
        return None if place is None else int(rows[place])

    def put(self, memory_id: str, row: int) -> None:
        """Let the id lead to `row` from now on."""
        self._recent[memory_id] = row
        if len(self._recent) > max(RECENT_MIN, RECENT_SHARE * len(self._sealed[0])):
            self._merge()

    def extend(self, items: Iterable[tuple[str, int]]) -> None:
        """`put` many, in order."""
        for memory_id, row in items:
            self.put(memory_id, row)

    def _place(self, hashes: Hashes, rows: Rows, memory_id: str, hashed: int) -> int | None:
        id_at = self._id_at()
        place = int(np.searchsorted(hashes, np.uint64(hashed)))
        while place < len(hashes) and int(hashes[place]) == hashed:
            if id_at is not None and id_at(int(rows[place])) == memory_id:
                return place
            place += 1
        return None

    def _merge(self) -> None:
        hashes, old_rows = self._sealed
        rows = old_rows.copy()
        fresh: list[tuple[int, int]] = []
        for memory_id, row in self._recent.items():
            hashed = self._hash(memory_id)
            place = self._place(hashes, old_rows, memory_id, hashed)
            if place is None:
                fresh.append((hashed, row))
            else:
                rows[place] = row
        fresh.sort()
        fresh_hashes = np.array([hashed for hashed, _ in fresh], np.uint64)
        fresh_rows = np.array([row for _, row in fresh], np.uint32)
        places = np.searchsorted(hashes, fresh_hashes)
        # Sealed first: a reader that finds the recent ones gone must find them here.
        self._sealed = np.insert(hashes, places, fresh_hashes), np.insert(rows, places, fresh_rows)
        self._recent = {}
