"""How present a memory is by its uses alone: how many there were, and how long ago. Pure.

The base level of a memory is ACT-R's (Anderson & Lebiere 1998), B = ln Σ f(t) over the ages t of
its uses. The first is when it happened, or was stored if that was earlier or nothing else is known;
then come those that :mod:`engram.indexes.uses` tells of. What a use counts for falls with its age:

    power         f(t) = (1 + t / day)^−d         (Wickelgren 1974; d = .5: half of it after 3 days)
    exponential   f(t) = 2^(−t / half-life)
    none          f(t) = 1

A use is never older than nothing: one that lies in the future counts as one of now. The last
RECENT_USES are known one by one. The others are taken to be spread evenly over the time from the
first to the oldest of these (Petrov 2006), so that each counts for the mean of f over that time.

Squashed to what counts in a score it is S / (1 + S), with S = Σ f(t) = e^B: from 0 to 1, ½ for one
use just now. `recency` is what the last use alone would give, `frequency` what the others add.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engram.indexes.uses import RECENT_USES, Used
from engram.memory.decay import EXPONENT_DEFAULT, HALF_LIFE_S_DEFAULT, Decay

US_PER_DAY: Final = 24 * 3_600 * 1_000_000
_US_PER_S: Final = 1_000_000
_LN_2: Final = float(np.log(2.0))

Floats = npt.NDArray[np.float64]


class Presence(NamedTuple):
    """The parts of a squashed base level, float64 (n,) each, from 0 to 1 together."""

    recency: Floats
    frequency: Floats


def presence(used: Used, decay: Decay, now_us: int) -> Presence:
    """How present the memories with these uses are at a time. The weight is not in it."""
    last, all_ = _strengths(used, decay, now_us)
    recency = last / (1.0 + last)
    return Presence(recency, all_ / (1.0 + all_) - recency)


def presence_max(most: int) -> float:
    """What no memory reaches that was used up to `most` times after it was stored."""
    return (most + 1) / (most + 2)


def base_levels(used: Used, decay: Decay, now_us: int) -> Floats:
    """B of the memories with these uses at a time, float64 (n,); −inf where nothing is left."""
    with np.errstate(divide="ignore"):
        levels: Floats = np.log(_strengths(used, decay, now_us)[1])
    return levels


def _strengths(used: Used, decay: Decay, now_us: int) -> tuple[Floats, Floats]:
    """What the last use counts for, and what all do, float64 (n,) each."""
    first = _ages(used.begun_us, now_us)
    recent = _ages(used.recent_us, now_us)
    known = np.arange(RECENT_USES) < used.counts[:, None]
    last = _counts_for(np.where(used.counts > 0, recent[:, 0], first), decay)
    all_ = np.where(known, _counts_for(recent, decay), 0.0).sum(axis=1)
    # The first use is one of those that are not known one by one, where there are such.
    others = used.counts + 1 - known.sum(axis=1)
    spread = np.where(others > 1, recent[:, -1], first)
    all_ += others * _mean_between(spread, np.maximum(first, spread), decay)
    return last, np.maximum(all_, last)


def _ages(times_us: npt.NDArray[np.int64], now_us: int) -> Floats:
    """Microseconds, 0 for what is to come."""
    ages: Floats = np.maximum(now_us - times_us, 0).astype(np.float64)
    return ages


def _counts_for(ages_us: Floats, decay: Decay) -> Floats:
    """f of the module."""
    if decay.family == "none":
        return np.ones_like(ages_us)
    if decay.family == "exponential":
        counts: Floats = np.exp2(-ages_us / _half_life_us(decay))
    else:
        counts = (1.0 + ages_us / US_PER_DAY) ** -_exponent(decay)
    return counts


def _mean_between(younger_us: Floats, older_us: Floats, decay: Decay) -> Floats:
    """The mean of f over the ages between two, float64 (n,)."""
    counts = _counts_for(younger_us, decay)
    if decay.family == "none":
        return counts
    if decay.family == "exponential":
        fallen = _LN_2 * (older_us - younger_us) / _half_life_us(decay)
        return counts * _ratio(-np.expm1(-fallen), fallen)
    # With r = (1 + older) / (1 + younger), the mean of f is that of the younger age times
    # (r^(1 − d) − 1) / ((1 − d) (r − 1)); written so that r near 1 loses nothing.
    grown = np.log((US_PER_DAY + older_us) / (US_PER_DAY + younger_us))
    rest = 1.0 - _exponent(decay)
    total = grown if rest == 0.0 else np.expm1(rest * grown) / rest
    return counts * _ratio(total, np.expm1(grown))


def _ratio(part: Floats, whole: Floats) -> Floats:
    """1 where both are nothing."""
    return np.divide(part, whole, out=np.ones_like(part), where=whole > 0)


def _exponent(decay: Decay) -> float:
    return EXPONENT_DEFAULT if decay.exponent is None else decay.exponent


def _half_life_us(decay: Decay) -> float:
    seconds = HALF_LIFE_S_DEFAULT if decay.half_life_s is None else decay.half_life_s
    return float(seconds * _US_PER_S)
