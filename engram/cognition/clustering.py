"""Clusters of vectors that are alike, the same in whatever order they are worked out. Pure.

Agglomerative, by average linkage over cosines, in rounds (SCC: Monath et al. 2021). The average
similarity of two clusters of unit vectors is the dot product of their means, so a cluster is its
mean and its size, and no table of pairs is ever held. At each of some falling levels every cluster
looks for its nearest one; those that are at least as near as the level says are merged, whole
components of such pairs at once, until the level has none left. So hubs and ties, where merging
pair by pair would take a pass for each point, take one for all. What a chain of near ones brought
together but its mean does not hold is let go again at the end.

Similarities are rounded before they are compared, and of equal ones the first vector's counts:
callers sort theirs by id. A cluster that has no other at LIKE or more never will (an average is no
more than the greater part), so it is looked at once; and what is not connected by similarities of
at least LIKE never meets, so that :func:`connected` tells what new vectors can change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from engram.indexes.vectors import NORM_MIN

LIKE: Final = 0.65
"""The average cosine of members of a cluster to one another, at least."""
LEVEL_STEP: Final = 0.04
_ROUNDED: Final = np.float32(1e5)
"""Similarities are compared in units of 1e-5."""
_LEAST: Final = np.float32(round(LIKE * 1e5))
_FIRST: Final = round((1 - LEVEL_STEP) * 1e5)
_LEVELS: Final = tuple(range(_FIRST, int(_LEAST), -round(LEVEL_STEP * 1e5)))
_BLOCK_BYTES: Final = 32 << 20
# Rows of a block at least, so that products stay matrix products in the largest spaces.
_BLOCK_ROWS_MIN: Final = 16

Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Matrix = Float32Array | Floats
GoingOn = Callable[[], None]
BoolArray = npt.NDArray[np.bool_]


def always() -> None:
    """What lets all go on."""


def unit_rows(matrix: Float32Array) -> Float32Array:
    """Each row at unit length, float32 (n, D); a row without a direction stays zero."""
    wide = matrix.astype(np.float64)
    norms = np.sqrt(np.vecdot(wide, wide))
    units = np.zeros_like(wide)
    np.divide(wide, norms[:, None], out=units, where=norms[:, None] > NORM_MIN)
    return units.astype(np.float32)


def alike(units: Matrix, others: Matrix, going_on: GoingOn) -> Iterator[tuple[int, Float32Array]]:
    """Similarities in blocks of rows: where each begins, and float32 (rows, len(others)) in units
    of 1e-5, rounded. A block is the caller's to write to until the next one.

    `going_on` is called before each block, and may raise to stop.
    """
    narrow, across = (
        units.astype(np.float32, copy=False),
        np.ascontiguousarray(others.T, np.float32),
    )
    rows = max(_BLOCK_ROWS_MIN, _BLOCK_BYTES // (4 * max(len(others), 1)))
    for first in range(0, len(units), rows):
        going_on()
        block = narrow[first : first + rows] @ across
        block *= _ROUNDED
        yield first, np.rint(block, out=block)


def nearest(units: Float32Array, means: Floats, going_on: GoingOn = always) -> Int64Array:
    """For each vector the mean it is most like, int64 (n,); -1 where none is alike enough."""
    found = np.full(len(units), -1)
    if len(means):
        for first, block in alike(units, means, going_on):
            best = block.argmax(1)
            near = block[np.arange(len(block)), best] >= _LEAST
            found[first : first + len(block)] = np.where(near, best, -1)
    return found


def connected(units: Float32Array, seeds: BoolArray, going_on: GoingOn = always) -> BoolArray:
    """Which vectors the seeds lead to, along pairs that are alike enough; bool (n,)."""
    reached: BoolArray = seeds.copy()
    fresh = np.flatnonzero(seeds)
    while len(fresh) and not reached.all():
        near = np.zeros(len(units), np.bool_)
        for _, block in alike(units[fresh], units, going_on):
            near |= (block >= _LEAST).any(0)
        near &= ~reached
        reached |= near
        fresh = np.flatnonzero(near)
    return reached


def clusters(units: Float32Array, members_min: int, going_on: GoingOn = always) -> list[Int64Array]:
    """Clusters of at least so many of the unit vectors, float32 (n, D); each as ascending numbers,
    in the order of their first ones.
    """
    if len(units) < members_min:
        return []
    counts, first, which = _same(units)
    labels = _merged(units[first], counts, going_on)[which]
    order = np.argsort(labels, kind="stable")
    begins = np.flatnonzero(np.diff(labels[order], prepend=-1))
    found = [_held(units, members) for members in np.split(order, begins[1:])]
    return sorted((m for m in found if len(m) >= members_min), key=lambda each: int(each[0]))


def _held(units: Float32Array, members: Int64Array) -> Int64Array:
    """Those members that are alike enough to what is left of them, on average."""
    while len(members):
        own = units[members].astype(np.float64)
        kept = np.rint(np.vecdot(own, own.mean(0)) * 1e5) >= float(_LEAST)
        if kept.all():
            break
        members = members[kept]
    return members


def _same(units: Float32Array) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Equal vectors as one: how many there are of each, the first of them, and which each is."""
    seen: dict[bytes, int] = {}
    which = np.fromiter(
        (seen.setdefault(unit.tobytes(), len(seen)) for unit in units), np.int64, len(units)
    )
    first = np.full(len(seen), len(units))
    np.minimum.at(first, which, np.arange(len(units)))
    return np.bincount(which, minlength=len(seen)), first, which


def _merged(units: Float32Array, counts: Int64Array, going_on: GoingOn) -> Int64Array:
    """The cluster of each of some distinct vectors that stand for so many each, int64 (n,)."""
    labels = np.arange(len(units))
    sums: Floats = units.astype(np.float64) * counts[:, None]
    sizes: Floats = counts.astype(np.float64)
    active = labels.copy()
    near = np.full(len(units), -1)
    strength = np.zeros(len(units), np.float32)
    stale = np.ones(len(units), np.bool_)
    levels = [*_LEVELS, int(_LEAST)]
    while True:
        looking = active[stale[active]]
        means = sums[active] / sizes[active, None]
        _look(sums, sizes, looking, active, means, near, strength, going_on)
        stale[looking] = False
        active = active[strength[active] >= _LEAST]
        if not len(active):
            return _settled(labels)
        while not len(close := active[strength[active] >= levels[0]]):
            # Laid down and not up to what there is, so that what does not meet does not matter.
            levels.pop(0)
        gone = _merge(close, near, labels, sums, sizes)
        touched = np.zeros(len(units), np.bool_)
        touched[close] = touched[near[close]] = True
        active = active[~gone[active]]
        stale[active] |= touched[active] | touched[near[active]]


def _look(
    sums: Floats,
    sizes: Floats,
    looking: Int64Array,
    active: Int64Array,
    means: Floats,
    near: Int64Array,
    strength: Float32Array,
    going_on: GoingOn,
) -> None:
    """Find the nearest of the active clusters to each that looks for it."""
    if len(active) < 2:
        strength[looking] = 0
        return
    own = np.searchsorted(active, looking)
    for first, block in alike(sums[looking] / sizes[looking, None], means, going_on):
        rows = np.arange(len(block))
        asking = looking[first : first + len(block)]
        block[rows, own[first : first + len(block)]] = -np.inf
        best = block.argmax(1)
        near[asking], strength[asking] = active[best], block[rows, best]


def _merge(
    close: Int64Array, near: Int64Array, labels: Int64Array, sums: Floats, sizes: Floats
) -> BoolArray:
    """Merge each of some clusters with its nearest, into the first of all that come together so;
    which of them are no more, bool (n,).
    """
    gone = np.zeros(len(labels), np.bool_)
    into: dict[int, int] = {}

    def first_of(one: int) -> int:
        while (next_one := into.get(one, one)) != one:
            into[one] = into.get(next_one, next_one)
            one = next_one
        return one

    for one, other in zip(close.tolist(), near[close].tolist(), strict=True):
        ends = sorted((first_of(one), first_of(other)))
        into[ends[1]] = ends[0]
    merged = sorted({*close.tolist(), *near[close].tolist()})
    for one in merged:
        target = first_of(one)
        if target != one:
            sums[target] += sums[one]
            sizes[target] += sizes[one]
            labels[one] = target
            gone[one] = True
    return gone


def _settled(labels: Int64Array) -> Int64Array:
    """Follow each label to the cluster that it has become part of."""
    while (further := labels[labels] != labels).any():
        labels[further] = labels[labels[further]]
    return labels
