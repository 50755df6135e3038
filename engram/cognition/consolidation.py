"""Which episodes belong together as a belief, worked out from a view of the space. Pure.

Episodes that no belief rests on first join the belief they are alike enough to on average, if there
is one; what is left is clustered (`clustering`), and each cluster is a belief. That may draw in
others, so it goes on until nothing changes: then asking again changes nothing either. A belief that
somebody has revised by hand is theirs: it keeps its sources, and is not formed anew. One that was
forgotten by hand, with all that it rested on as it was, is not formed again of the same or fewer.

What was left over by an earlier look, the *settled*, was compared with itself then: only what is
connected with something new is clustered again, which comes to the same.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engram.cognition.clustering import GoingOn, always, clusters, connected, nearest, unit_rows
from engram.memory.model import Filter
from engram.memory.view import View

SOURCES_MIN: Final = 3
SOURCES_MAX: Final = 5_000
"""What a belief rests on at most; a cluster of more makes several."""
_EPISODES: Final = Filter(kind="episode")

Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]


class Group(NamedTuple):
    """Episodes that belong together: their `rows` in order of their ids, and the row of the belief
    that is to rest on them, None for a new one. `centroid` is float32 (D,), at unit length;
    `likeness` float64 (n,), the cosine of each with it, and `strength` their mean.
    """

    belief: int | None
    rows: Int64Array
    centroid: Float32Array
    likeness: npt.NDArray[np.float64]
    strength: float


class Plan(NamedTuple):
    """What is to be formed. `episodes` counts those that no belief rested on, `left` those that
    none will; `settled` are the positions of these, ascending.
    """

    groups: tuple[Group, ...]
    episodes: int
    left: int
    settled: Int64Array


class _Standing:
    """A belief as it stands, or is to be: numbers of its sources among those looked at."""

    def __init__(self, belief: int | None, members: Int64Array, units: Float32Array) -> None:
        self.belief = belief
        self.members = members
        self.sum = units[members].sum(0, dtype=np.float64)
        self.changed = belief is None

    @property
    def room(self) -> int:
        return SOURCES_MAX - len(self.members)

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        mean: npt.NDArray[np.float64] = self.sum / len(self.members)
        return mean

    def join(self, members: Int64Array, units: Float32Array) -> None:
        self.members = np.sort(np.concatenate((self.members, members)))
        self.sum = units[self.members].sum(0, dtype=np.float64)
        self.changed = True


def plan(
    view: View, now_us: int, settled: Int64Array | None = None, going_on: GoingOn = always
) -> Plan:
    """What is to be formed of the memories that are visible at that time. `settled` are those of
    the last plan, if all of that was done. `going_on` is called often, and may raise to stop.
    """
    visible = view.visible(now_us)
    episodes = visible & view.attributes.mask(_EPISODES)
    episodes[view.beliefs.cited(visible)] = False
    free = np.flatnonzero(episodes)
    if not len(free):
        return Plan((), 0, 0, free)
    held, refused = _held_up(view, visible)
    rows = _by_id(view, np.concatenate([free, *(of for _, of in held)]))
    units = unit_rows(_vectors(view, rows))
    number = dict(zip(rows.tolist(), range(len(rows)), strict=True))
    standing = [
        _Standing(row, np.array([number[each] for each in of.tolist()]), units) for row, of in held
    ]
    left = episodes[rows] & units.any(1)  # what has no direction is like nothing
    looked_at = _Left(units, left, _dirty(view.positions[rows], left, settled), going_on)
    refusals = [{number.get(row, -1) for row in each} for each in refused]
    while True:
        if looked_at.join(standing):
            continue
        made = looked_at.cluster(refusals)
        if not made:
            break
        standing += [_Standing(None, members, units) for members in made]
    groups = tuple(_group(each, rows, units) for each in standing if each.changed)
    left = looked_at.left
    return Plan(groups, len(free), int(left.sum()), np.sort(view.positions[rows[left]]))


class _Left:
    """The episodes that no belief rests on, bool (n,) over the units, and which of them were not
    compared with all the others yet.
    """

    def __init__(
        self, units: Float32Array, left: BoolArray, dirty: BoolArray, going_on: GoingOn
    ) -> None:
        self._units = units
        self._going_on = going_on
        self.left = left
        self._dirty = dirty

    def join(self, standing: list[_Standing]) -> bool:
        """Have those that are alike enough to a belief join it; whether any did."""
        left = np.flatnonzero(self.left)
        roomy = [each for each in standing if each.room]
        means = np.array([each.mean for each in roomy]).reshape(-1, self._units.shape[1])
        best = nearest(self._units[left], means, self._going_on)
        moved = np.zeros(len(self.left), np.bool_)
        for which in np.unique(best[best >= 0]).tolist():
            members = left[best == which][: roomy[which].room]
            roomy[which].join(members, self._units)
            moved[members] = True
        if not moved.any():
            return False
        self.left &= ~moved
        if not self._dirty[self.left].all():
            # Without them, those that they were like may come together otherwise.
            around = np.flatnonzero(self.left | moved)
            led_to = connected(self._units[around], moved[around], self._going_on)
            self._dirty[around[led_to]] = True
        return True

    def cluster(self, refusals: list[set[int]]) -> list[Int64Array]:
        """The clusters among them, which are left no longer; those of a refusal are none."""
        left = np.flatnonzero(self.left)
        looked_at = left
        if not self._dirty[left].all():
            looked_at = left[connected(self._units[left], self._dirty[left], self._going_on)]
        made = []
        for cluster in clusters(self._units[looked_at], SOURCES_MIN, self._going_on):
            members = looked_at[cluster]
            if any(refusal.issuperset(members.tolist()) for refusal in refusals):
                continue
            parts = [members[at : at + SOURCES_MAX] for at in range(0, len(members), SOURCES_MAX)]
            made += [part for part in parts if len(part) >= SOURCES_MIN]
        self.left[np.concatenate([looked_at[:0], *made])] = False
        self._dirty[:] = False
        self._dirty[looked_at] = True
        return made


def _held_up(view: View, visible: BoolArray) -> tuple[list[tuple[int, Int64Array]], list[set[int]]]:
    """The visible beliefs that were not changed by hand, with what they rest on; and what those
    rested on that were forgotten by hand.
    """
    held, refused = [], []
    for row in view.beliefs.rows().tolist():
        sources, _ = view.beliefs.sources(row)
        formed_at = view.beliefs.formed_at(row)
        if visible[row] and view.positions[row] < formed_at:
            held.append((row, sources))
        elif not view.live[row] and (
            visible[sources].all() and (view.positions[sources] < formed_at).all()
        ):
            refused.append(set(sources.tolist()))
    return held, refused


def _dirty(positions: Int64Array, left: BoolArray, settled: Int64Array | None) -> BoolArray:
    """Which of those left were not there, or not left, when the settled were looked at."""
    if settled is None or not np.isin(settled, positions[left]).all():
        return left.copy()
    dirty: BoolArray = left & ~np.isin(positions, settled)
    return dirty


def _by_id(view: View, rows: Int64Array) -> Int64Array:
    ids = [view.version(row).id for row in rows.tolist()]
    ordered: Int64Array = rows[sorted(range(len(ids)), key=ids.__getitem__)]
    return ordered


def _vectors(view: View, rows: Int64Array) -> Float32Array:
    """The vectors of some rows, float32 (n, D)."""
    found, start = np.empty((len(rows), view.vectors.parts[0][0].shape[1]), np.float32), 0
    for matrix, norms in view.vectors.parts:
        within = (rows >= start) & (rows < start + len(norms))
        found[within] = matrix[rows[within] - start]
        start += len(norms)
    return found


def _group(standing: _Standing, rows: Int64Array, units: Float32Array) -> Group:
    mean = standing.mean
    centroid = mean / np.sqrt(mean @ mean)
    likeness = units[standing.members].astype(np.float64) @ centroid
    return Group(
        standing.belief,
        rows[standing.members],
        centroid.astype(np.float32),
        likeness,
        round(min(1.0, float(likeness.mean())), 6),
    )
