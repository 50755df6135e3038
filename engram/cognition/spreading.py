"""Spreading activation: what the memories that a cue lights up remind of in turn. Pure.

A walk that begins at the best matches and goes on along their associations, hop by hop:

    x₀ = the seeds' shares, which add up to 1
    x₍h₊₁₎(to) = decay · Σ over from: x₍h₎(from) · weight(from → to)
    activation = x₁ + x₂ + … + x₍max_hops₎

It is a random walk with restart (as HippoRAG, Gutiérrez et al. 2024) cut off after some hops, with
the seeds' own mass taken out: who was matched does not gain by that alone. A memory whose
activation in a hop is below the threshold does not pass it on, so that work is bounded by what is
lit and not by what there is. Cycles converge, since each hop loses by the decay.

The strongest path to a memory is that along which the product of shares, weights and decays is the
greatest; it is found on the way.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engram.cognition.associations import associations, reasons
from engram.memory.model import Spread
from engram.memory.view import BoolArray, View

Int64Array = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Edge(NamedTuple):
    """One association on a path, by rows; `position` is that of the link, 0 if it is none."""

    from_row: int
    to_row: int
    weight: float
    relation: str
    position: int


class _Hop(NamedTuple):
    """What one hop has reached: rows, ascending, with the strength of the strongest path there, and
    by which association the last step of it was: from where, how strong, of which kind, and where
    that link was made.
    """

    rows: Int64Array
    strengths: Floats
    parents: Int64Array
    weights: Floats
    kinds: Int64Array
    positions: Int64Array

    def strength(self, row: int) -> float:
        """That of the strongest path to a row, 0 for one that was not reached."""
        at = int(np.searchsorted(self.rows, row))
        held = at < len(self.rows) and self.rows[at] == row
        return float(self.strengths[at]) if held else 0.0

    def last_step(self, row: int, reasons: tuple[str, ...]) -> Edge:
        """The one that led to a row which was reached."""
        at = int(np.searchsorted(self.rows, row))
        return Edge(
            int(self.parents[at]),
            row,
            float(self.weights[at]),
            reasons[self.kinds[at]],
            int(self.positions[at]),
        )


class Lit(NamedTuple):
    """What was lit: rows, int64 (n,) and ascending, with their activation, float64 (n,) and > 0."""

    rows: Int64Array
    activation: Floats
    hops: tuple[_Hop, ...]
    reasons: tuple[str, ...]

    def distance(self, row: int) -> int:
        """How long the strongest path to a row is; 0 for one that was not reached."""
        reached = [(hop.strength(row), -number) for number, hop in enumerate(self.hops, 1)]
        strength, number = max(reached, default=(0.0, 0))
        return -number if strength > 0 else 0

    def path(self, row: int) -> list[Edge]:
        """The strongest path that leads to a row; none for one that was not reached."""
        steps: list[Edge] = []
        for hop in reversed(self.hops[: self.distance(row)]):
            steps.append(hop.last_step(row, self.reasons))
            row = steps[-1].from_row
        return steps[::-1]


def spread(view: View, seeds: Int64Array, shares: Floats, visible: BoolArray, how: Spread) -> Lit:
    """Light the seeds, int64 (k,) and ascending, by their shares, and follow what they lead to."""
    rows, strengths = seeds, shares
    values: Floats = shares
    total = np.zeros(view.rows)
    hops: list[_Hop] = []
    for _ in range(how.max_hops):
        passing = values >= how.threshold
        rows, strengths, values = rows[passing], strengths[passing], values[passing]
        edges = associations(view, rows, visible)
        if not len(edges.rows):
            break
        flow = how.decay * edges.weights
        reached, place = np.unique(edges.rows, return_inverse=True)
        along = flow * strengths[edges.which]
        # The strongest of all that lead to a row comes first.
        order = np.lexsort((edges.kinds, rows[edges.which], -along, place))
        first = order[np.searchsorted(place[order], np.arange(len(reached)))]
        values = np.bincount(place, flow * values[edges.which], len(reached)).astype(np.float64)
        parents = rows[edges.which[first]]
        last = (edges.weights[first], edges.kinds[first], edges.positions[first])
        hops.append(_Hop(reached, along[first], parents, *last))
        total[reached] += values
        rows, strengths = reached, along[first]
    lit = np.flatnonzero(total)
    return Lit(lit, total[lit], tuple(hops), reasons(view))
