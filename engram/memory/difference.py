"""Whether two states are the same, told from their columns. Pure."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from engram.indexes.attributes import AttributeColumns
from engram.indexes.columns import BytesView
from engram.indexes.uses import CompanyColumns, UseColumns
from engram.memory.columns import StateColumns

_NORMS: Final = "vectors.1"
_NORM_ERROR_MAX: Final = 1e-5
"""Relative; norms are sums, and machines add in different orders."""

Array = npt.NDArray[Any]


def difference(one: StateColumns, other: StateColumns) -> str | None:
    """The name of the first column in which two states differ, None if they are the same.

    Both have to come from :func:`engram.memory.columns.compact`, with the same `drop_to`.
    """
    # What was used, and along with what, before the first checkpoints that tell of it, the log
    # alone knows.
    if _known_since(one.uses) != _known_since(other.uses):
        one, other = one._replace(uses=None), other._replace(uses=None)
    if _known_since(one.company) != _known_since(other.company):
        one, other = one._replace(company=None), other._replace(company=None)
    ours, theirs = dict(_sorted(one).named()), dict(_sorted(other).named())
    if ours.keys() != theirs.keys():
        return min(ours.keys() ^ theirs.keys())
    return next((name for name in ours if not _same(name, ours[name], theirs[name])), None)


def _same(name: str, one: Array, other: Array) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if name == _NORMS:
        return bool(np.allclose(one, other, rtol=_NORM_ERROR_MAX, atol=0))
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))


def _known_since(columns: UseColumns | CompanyColumns | None) -> int | None:
    return None if columns is None else int(columns.since[0])


def _sorted(columns: StateColumns) -> StateColumns:
    """With each distinct metadata value once in their table, in the order of their bytes: how they
    came to stand there depends on what was compacted when. And without the restorations, which
    checkpoints from before there were links do not tell of.
    """
    postings, kinds, values, numbers = columns.attributes
    blobs = [values.get(row) for row in range(len(values))]
    first_of = {blob: row for row, blob in reversed(list(enumerate(blobs[1:], 1)))}
    distinct = sorted(first_of)
    # Entry 0 is nobody's value, and stays where it is.
    ranks = {blob: rank for rank, blob in enumerate(distinct, 1)}
    new_codes = np.array([0, *(ranks[blob] for blob in blobs[1:])], np.uint32)
    lengths = [len(blobs[0]), *map(len, distinct)]
    attributes = AttributeColumns(
        postings._replace(values=new_codes[postings.values]),
        kinds,
        BytesView(
            np.frombuffer(blobs[0] + b"".join(distinct), np.uint8),
            np.cumsum([0, *lengths], dtype=np.uint64),
        ),
        numbers[[0, *(first_of[blob] for blob in distinct)]],
    )
    return columns._replace(attributes=attributes, restored=columns.restored[:0])
