"""Embeddings as one matrix, their cosine with a query, and the mask of live rows.

Theory of operation. Vectors are kept as they were given, float32, beside a column of inverse
norms (computed in float64 when the row is appended); a cosine is then one pass over the matrix.

That pass is `numpy.vecdot`, not a matrix-vector product of BLAS, for two reasons. Each row is its
own dot product, so that a row's score depends on that row and the query alone: equal vectors get
equal scores, bit for bit, wherever they stand and however many rows there are, which the blocked
kernels of BLAS do not give. And a dot product of at most 4,096 elements never wakes BLAS threads,
so nothing has to be pinned. Measured on two cores with OpenBLAS 0.3.31 (median ms, float32,
256 dimensions):

    rows      vecdot   matvec, 1 thread   matvec, 2 threads
    1,000      0.022         0.015              0.019
    10,000     0.20          0.16               0.10
    100,000    3.4           9.4                5.9

At 100,000 rows the scan is bound by memory and the plain dot product reads it best.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from engram.indexes.columns import CAPACITY_MIN, GrowingColumn

# Below this length a vector has no direction that float32 could hold; it is similar to nothing.
NORM_MIN: Final = 1e-30
# Rows that are copied at a time, where a pass needs a copy: 4 MiB at 256 dimensions.
ROWS_PER_BLOCK: Final = 4_096

BoolArray = npt.NDArray[np.bool_]
Float32Array = npt.NDArray[np.float32]
Part = tuple[Float32Array, Float32Array]
"""A matrix and the inverse norms of its rows."""


def inverse_norms(matrix: Float32Array) -> Float32Array:
    """1 / Euclidean length of each row: float32 (n, D) -> float32 (n,); 0 for a zero vector.

    Raises ValueError where a row is not finite.
    """
    wide = matrix.astype(np.float64)
    norms = np.sqrt(np.vecdot(wide, wide))
    if not np.isfinite(norms).all():
        raise ValueError("a vector holds NaN or infinity")
    inverse = np.zeros(len(norms), np.float64)
    np.divide(1.0, norms, out=inverse, where=norms > NORM_MIN)
    return inverse.astype(np.float32)


class VectorsView:
    """The vectors of the first rows, as captured; never changes.

    `parts` are one or two pairs of matrix, float32 (n, D), and inverse norms, float32 (n,), whose
    rows are behind each other.
    """

    __slots__ = ("_rows", "parts")

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self._rows = sum(len(norms) for _, norms in parts)

    def __len__(self) -> int:
        return self._rows

    def cosine(self, query: Float32Array) -> Float32Array:
        """Cosine of every row with `query`, float32 (D,) -> float32 (rows,) within [-1, 1].

        A zero vector, on either side, has cosine 0. Raises ValueError where `query` has another
        length or is not finite.
        """
        shape = self.parts[0][0].shape
        if query.shape != shape[1:]:
            raise ValueError(f"a query of shape {query.shape} against {shape}")
        wide = query.astype(np.float64)
        norm = float(np.sqrt(np.vecdot(wide, wide)))
        if not np.isfinite(norm):
            raise ValueError("the query vector holds NaN or infinity")
        if norm <= NORM_MIN:
            return np.zeros(len(self), np.float32)
        unit = (wide / norm).astype(np.float32)
        scores = np.empty(len(self), np.float32)
        start = 0
        for matrix, norms in self.parts:
            part = scores[start : start + len(norms)]
            np.vecdot(matrix, unit, out=part)
            part *= norms
            start += len(norms)
        # Rounding may leave an equal direction a hair above 1.
        return np.clip(scores, -1.0, 1.0, out=scores)

    def cosine_over(self, query: Float32Array, known: BoolArray) -> Float32Array:
        """As :meth:`cosine`, but over the components that are `known`, bool (D,), alone.

        A row that is zero in all of them has cosine 0.
        """
        masked = np.where(known, query, 0).astype(np.float64)
        norm = float(np.sqrt(np.vecdot(masked, masked)))
        scores = np.zeros(len(self), np.float32)
        if norm <= NORM_MIN:
            return scores
        unit = (masked / norm)[known].astype(np.float32)
        start = 0
        for matrix, _ in self.parts:
            for first in range(0, len(matrix), ROWS_PER_BLOCK):
                block = np.ascontiguousarray(matrix[first : first + ROWS_PER_BLOCK, known])
                end = start + len(block)
                np.multiply(np.vecdot(block, unit), inverse_norms(block), out=scores[start:end])
                start = end
        return np.clip(scores, -1.0, 1.0, out=scores)

    def combined(
        self, rows: npt.NDArray[np.intp], weights: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """The sum of the unit vectors in `rows`, (n,), times `weights`, (n,): float64 (D,).

        Added up in order of rows, in blocks, whatever the number of threads.
        """
        total = np.zeros(self.parts[0][0].shape[1], np.float64)
        start = 0
        for matrix, norms in self.parts:
            here = (rows >= start) & (rows < start + len(norms))
            inside, factors = rows[here] - start, weights[here]
            for first in range(0, len(inside), ROWS_PER_BLOCK):
                chosen = inside[first : first + ROWS_PER_BLOCK]
                factor = factors[first : first + ROWS_PER_BLOCK] * norms[chosen]
                total += np.add.reduce(matrix[chosen] * factor[:, np.newaxis], axis=0)
            start += len(norms)
        return total

    def row(self, row: int) -> Float32Array:
        """The vector at `row` as it was given, float32 (D,), read-only."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        first = self.parts[0][0]
        matrix, row = (first, row) if row < len(first) else (self.parts[1][0], row - len(first))
        vector: Float32Array = matrix[row]
        return vector


class Vectors:
    """The embeddings of a space's rows, all of one length.

    They may begin with a base that is never copied: a matrix mapped from a file.
    """

    __slots__ = ("_base", "_inverse_norms", "_matrix", "dimensions")

    def __init__(self, dimensions: int, base: Part | None = None) -> None:
        self.dimensions = dimensions
        self._base = base
        self._matrix = GrowingColumn(np.float32, dimensions)
        self._inverse_norms = GrowingColumn(np.float32)

    def __len__(self) -> int:
        return len(self._inverse_norms) + (0 if self._base is None else len(self._base[1]))

    def extend(self, matrix: npt.ArrayLike) -> None:
        """Append rows: float32 (n, D).

        Raises ValueError for another shape or for values that are not finite; nothing is appended
        then.
        """
        block = np.asarray(matrix, np.float32)
        if block.ndim != 2 or block.shape[1] != self.dimensions:
            raise ValueError(f"vectors of {self.dimensions} dimensions take no {block.shape}")
        norms = inverse_norms(block)
        self._matrix.extend(block)
        self._inverse_norms.extend(norms)

    def view(self) -> VectorsView:
        """What is there now; stays as it is."""
        rows = len(self._inverse_norms)
        own = self._matrix.view(rows), self._inverse_norms.view(rows)
        return VectorsView([own] if self._base is None else [self._base, own])


class LiveMask:
    """Which rows are alive: neither superseded by a later revision nor forgotten.

    A mask changes in place, unlike a column, so a view is a frozen copy. It is made once per
    change (1 byte a row) and the same array is handed out until the next one. Like the writer's
    methods, `view` is to be called under the caller's lock.
    """

    __slots__ = ("_buffer", "_frozen", "_rows", "live")

    def __init__(self) -> None:
        self._buffer: BoolArray = np.empty(0, np.bool_)
        self._frozen: BoolArray | None = None
        self._rows = 0
        self.live = 0

    def __len__(self) -> int:
        return self._rows

    @classmethod
    def of(cls, mask: BoolArray) -> LiveMask:
        """A mask that begins as a copy of `mask`."""
        live = cls()
        live._buffer = mask.copy()
        live._rows = len(mask)
        live.live = int(np.count_nonzero(mask))
        return live

    def append(self, count: int = 1) -> None:
        """Append `count` live rows."""
        rows = self._rows + count
        if rows > len(self._buffer):
            grown = np.empty(max(rows, 2 * len(self._buffer), CAPACITY_MIN), np.bool_)
            grown[: self._rows] = self._buffer[: self._rows]
            self._buffer = grown
        self._buffer[self._rows : rows] = True
        self._rows = rows
        self.live += count
        self._frozen = None

    def alive(self, row: int) -> bool:
        """Whether `row` is alive; False where there is no such row."""
        return 0 <= row < self._rows and bool(self._buffer[row])

    def kill(self, row: int) -> bool:
        """Mark `row` dead; returns whether it was alive. Raises IndexError beyond the end."""
        if not 0 <= row < self._rows:
            raise IndexError(f"row {row} of {self._rows}")
        if not self._buffer[row]:
            return False
        self._buffer[row] = False
        self.live -= 1
        self._frozen = None
        return True

    def view(self) -> BoolArray:
        """The mask as it is now, bool (rows,), read-only; the same object until a change."""
        if self._frozen is None:
            self._frozen = self._buffer[: self._rows].copy()
            self._frozen.flags.writeable = False
        return self._frozen
