"""Which memories a forgetting policy has go. Pure; see :mod:`engram.memory.forgetting`.

How strong a memory is, is its base level (:mod:`engram.cognition.base_level`): uses make it, and
that a memory was restored is one, so that what was brought back does not go again at once. Base
levels are rounded before they are compared, and equal ones go in the order of ids, so that the same
view gives the same answer anywhere.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engram.cognition.base_level import base_levels
from engram.memory.decay import Decay
from engram.memory.forgetting import CAPACITY, EXPIRED, FADED, LEVEL_MAX, Forgetting, Judged
from engram.memory.model import Filter
from engram.memory.view import BoolArray, View

DIGITS: Final = 6
_US_PER_S: Final = 1_000_000
Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]


class Verdict(NamedTuple):
    """So many memories have to go, of which `judged` are the first."""

    judged: list[Judged]
    total: int


def expired(view: View, now_us: int, most: int) -> Verdict:
    """What has expired by then, those first that were stored first; named are at most so many."""
    rows = view.expired(now_us)
    versions = [view.named(row) for row in rows[:most].tolist()]
    return Verdict([Judged(each.id, each.revision, EXPIRED) for each in versions], len(rows))


def beyond(view: View, policy: Forgetting, decay: Decay, now_us: int, most: int) -> Verdict:
    """What of the memories that have not expired a policy has go: the faded ones and then, if more
    are left than it allows, the weakest; each beginning with the weakest. Named are at most so
    many.
    """
    visible = view.visible(now_us)
    rows = np.flatnonzero(visible & ~spared(view, policy))
    if not policy or not len(rows):
        return Verdict([], 0)
    levels = strengths(view, rows, decay, now_us)
    fading = np.zeros(len(rows), np.bool_)
    if policy.threshold is not None and policy.grace_s is not None:
        since_us = now_us - policy.grace_s * _US_PER_S
        fading = (levels < policy.threshold) & (view.stored_us[rows] <= since_us)
    left = np.flatnonzero(~fading)
    faded = int(np.count_nonzero(fading))
    excess = 0
    if policy.capacity is not None:
        excess = int(np.count_nonzero(visible)) - faded - policy.capacity
        excess = min(max(excess, 0), len(left))
    judged = _weakest(view, rows[fading], levels[fading], min(faded, most), FADED)
    judged += _weakest(view, rows[left], levels[left], min(excess, most - len(judged)), CAPACITY)
    return Verdict(judged, faded + excess)


def spared(view: View, policy: Forgetting) -> BoolArray:
    """The rows that a policy does not touch, bool (rows,)."""
    mask = np.zeros(view.rows, np.bool_)
    for kind in policy.spare_kinds:
        mask |= view.attributes.mask(Filter(kind=kind))
    if policy.spare_tags:
        mask |= view.attributes.mask(Filter(tags_any=policy.spare_tags))
    if len(view.beliefs):  # without what they rest on they would be withdrawn
        mask[view.beliefs.cited(mask & view.live)] = True
    return mask


def strengths(view: View, rows: Int64Array, decay: Decay, now_us: int) -> Float64Array:
    """The base levels that memories are judged by, float64 as long as `rows`; never infinite."""
    levels = base_levels(view.uses.of(rows), decay, now_us)
    return np.round(levels.clip(-LEVEL_MAX, LEVEL_MAX), DIGITS)


def _weakest(
    view: View, rows: Int64Array, levels: Float64Array, count: int, reason: str
) -> list[Judged]:
    """The `count` rows of the lowest levels, by level and then by id."""
    if not count:
        return []
    cut = np.partition(levels, count - 1)[count - 1]
    candidates = np.flatnonzero(levels <= cut)  # more than wanted where several are just as weak
    named = [
        (level, version.id, version.revision)
        for level, version in zip(
            levels[candidates].tolist(), map(view.named, rows[candidates].tolist()), strict=True
        )
    ]
    named.sort()
    return [Judged(id, revision, reason, level) for level, id, revision in named[:count]]
