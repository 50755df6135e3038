"""Growing columns: what every index keeps its rows in.

Theory of operation. A column is one contiguous buffer and a count. Appending writes past the count
and then publishes (buffer, count) as a single attribute; when the buffer is full, a copy of twice
the capacity takes its place, and whoever still holds the old one keeps it. So elements below a
published count never change, and a view stays valid without a lock while the writer goes on. Only
one thread may append at a time; taking a view needs no lock at all.

Nothing is ever removed from a column. Contents are plain arrays, so that a column can be written
to a file as it is, and mapped from one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

CAPACITY_MIN: Final = 16


class GrowingColumn:
    """An append-only column of fixed-size elements.

    `dtype` is that of an element; with `width`, each row is a vector of so many elements and views
    have shape (rows, width), otherwise (rows,).
    """

    __slots__ = ("_published",)

    def __init__(self, dtype: npt.DTypeLike, width: int | None = None) -> None:
        shape = (0,) if width is None else (0, width)
        self._published: tuple[npt.NDArray[Any], int] = (np.empty(shape, dtype), 0)

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> GrowingColumn:
        """A column that begins with `values`, which may be read-only: growing copies them."""
        column = cls.__new__(cls)
        column._published = (values, len(values))
        return column

    def __len__(self) -> int:
        return self._published[1]

    @property
    def nbytes(self) -> int:
        """Bytes of the rows held, without spare capacity."""
        buffer, count = self._published
        return buffer[:count].nbytes

    def append(self, value: Any) -> int:
        """Append one element (or one vector); returns its row."""
        buffer, count = self._room_for(1)
        buffer[count] = value
        self._published = (buffer, count + 1)
        return count

    def extend(self, values: npt.ArrayLike) -> None:
        """Append many: shape (n,), or (n, width).

        Raises ValueError where the shape does not fit; the column is then unchanged.
        """
        block = np.asarray(values, self._published[0].dtype)
        if block.shape[1:] != self._published[0].shape[1:] or block.ndim == 0:
            raise ValueError(f"a column of {self._published[0].shape[1:]} takes no {block.shape}")
        if not len(block):
            return
        buffer, count = self._room_for(len(block))
        buffer[count : count + len(block)] = block
        self._published = (buffer, count + len(block))

    def view(self, rows: int | None = None) -> npt.NDArray[Any]:
        """The first `rows` rows (all, if left out) as a read-only array that never changes."""
        buffer, count = self._published
        if rows is not None:
            if not 0 <= rows <= count:
                raise IndexError(f"a column of {count} rows has no first {rows}")
            count = rows
        view = buffer[:count]
        view.flags.writeable = False
        return view

    def _room_for(self, count_new: int) -> tuple[npt.NDArray[Any], int]:
        buffer, count = self._published
        needed = count + count_new
        if needed > len(buffer):
            capacity = max(needed, 2 * len(buffer), CAPACITY_MIN)
            grown = np.empty((capacity, *buffer.shape[1:]), buffer.dtype)
            grown[:count] = buffer[:count]
            return grown, count
        return buffer, count


class BytesView:
    """The first rows of a `BytesColumn`, as they were; never changes.

    `data` is uint8 (bytes,); `offsets` is uint64 (rows + 1,), and row i is
    `data[offsets[i] : offsets[i + 1]]`.
    """

    __slots__ = ("data", "offsets")

    def __init__(self, data: npt.NDArray[np.uint8], offsets: npt.NDArray[np.uint64]) -> None:
        self.data = data
        self.offsets = offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def get(self, row: int) -> bytes:
        """The blob at `row`; raises IndexError beyond the view."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        return self.data[int(self.offsets[row]) : int(self.offsets[row + 1])].tobytes()

    def taken(self, kept: npt.NDArray[np.bool_]) -> BytesView:
        """The blobs of the rows where `kept`, bool (rows,), holds; copied."""
        lengths = np.diff(self.offsets)[kept]
        offsets = np.concatenate((np.zeros(1, np.uint64), np.cumsum(lengths, dtype=np.uint64)))
        # Rows that are neighbours are copied in one piece.
        edges = np.flatnonzero(np.diff(np.concatenate(([False], kept, [False])).astype(np.int8)))
        bounds = self.offsets[edges].astype(np.int64).reshape(-1, 2)
        pieces = [self.data[first:end] for first, end in bounds.tolist()]
        return BytesView(np.concatenate(pieces) if pieces else self.data[:0], offsets)


class BytesColumn:
    """An append-only column of blobs: their bytes end to end, and uint64 offsets."""

    __slots__ = ("_data", "_offsets")

    def __init__(self) -> None:
        self._data = GrowingColumn(np.uint8)
        self._offsets = GrowingColumn(np.uint64)
        self._offsets.append(0)

    @classmethod
    def of(cls, view: BytesView) -> BytesColumn:
        """A column that begins with the blobs of `view`: growing copies them."""
        column = cls.__new__(cls)
        column._data, column._offsets = GrowingColumn.of(view.data), GrowingColumn.of(view.offsets)
        return column

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @property
    def nbytes(self) -> int:
        """Bytes of the blobs and their offsets, without spare capacity."""
        return self._data.nbytes + self._offsets.nbytes

    def append(self, blob: bytes) -> int:
        """Append one blob; returns its row."""
        # The offset goes in last: it is what makes the bytes before it visible.
        self._data.extend(np.frombuffer(blob, np.uint8))
        return self._offsets.append(len(self._data)) - 1

    def extend(self, blobs: Sequence[bytes]) -> None:
        """Append many blobs."""
        if not blobs:
            return
        start = len(self._data)
        lengths = np.fromiter(map(len, blobs), np.uint64, len(blobs))
        self._data.extend(np.frombuffer(b"".join(blobs), np.uint8))
        self._offsets.extend(np.cumsum(lengths, dtype=np.uint64) + np.uint64(start))

    def get(self, row: int) -> bytes:
        """The blob at `row`; raises IndexError where there is none."""
        return self.view().get(row)

    def view(self, rows: int | None = None) -> BytesView:
        """The first `rows` blobs (all, if left out); never changes."""
        offsets = self._offsets.view(None if rows is None else rows + 1)
        # Taken after the offsets, so it holds at least the bytes they point to.
        return BytesView(self._data.view()[: int(offsets[-1])], offsets)


class LayeredBytes:
    """An append-only column of blobs over a base that is never copied: one mapped from a file."""

    __slots__ = ("_base", "_own")

    def __init__(self, base: BytesView | None = None) -> None:
        self._base = base
        self._own = BytesColumn()

    def __len__(self) -> int:
        return len(self._own) + (0 if self._base is None else len(self._base))

    def extend(self, blobs: Sequence[bytes]) -> None:
        """Append many blobs."""
        self._own.extend(blobs)

    def get(self, row: int) -> bytes:
        """The blob at `row`; raises IndexError where there is none."""
        return self.view().get(row)

    def view(self) -> LayeredView:
        """What is there now; stays as it is."""
        return LayeredView(self._base, self._own.view())


class LayeredView:
    """The blobs of a `LayeredBytes`, as they were; never changes."""

    __slots__ = ("_base", "_base_rows", "_own")

    def __init__(self, base: BytesView | None, own: BytesView) -> None:
        self._base = base
        self._base_rows = 0 if base is None else len(base)
        self._own = own

    def __len__(self) -> int:
        return self._base_rows + len(self._own)

    def get(self, row: int) -> bytes:
        """The blob at `row`; raises IndexError beyond the view."""
        if self._base is not None and 0 <= row < self._base_rows:
            return self._base.get(row)
        return self._own.get(row - self._base_rows)

    def parts(self) -> tuple[list[npt.NDArray[np.uint8]], list[npt.NDArray[np.uint64]]]:
        """Data and offsets as pieces that, behind each other, are one `BytesView`'s."""
        if self._base is None:
            return [self._own.data], [self._own.offsets]
        end = self._base.offsets[-1]
        return [self._base.data, self._own.data], [
            self._base.offsets,
            self._own.offsets[1:] + end,
        ]
