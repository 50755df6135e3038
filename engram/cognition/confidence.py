"""How sure a recall may be of a memory, kept apart from the score that orders the answer. Pure.

A score is relative to the other memories of a space; confidence is not. It is ACT-R's retrieval
probability (Anderson & Lebiere 1998), P = 1 / (1 + exp((τ − A) / s)), multiplied by the memory's
own confidence. Activation is given from the threshold on, so that 0 is as likely as not:

    A − τ = a · cosine + b · coverage − τ          s = 1

Coverage is the idf-weighted share of the cue's words that the memory holds. a, b and τ depend on
which channels the cue speaks to; they are logistic regressions of "this turn is evidence" over the
first ten answers to each question of LoCoMo conversations 1 to 3. On conversations 4 and 5 the
expected calibration error was .012 with both channels, .009 by cosine and .014 by words alone.
Where windows and associations bring memories up that say little by themselves, the same features
mean more: WITH_ASSOCIATIONS was fitted on the answers of mode `spreading`, and was off by .011.

The interval is Wilson's (1927) for a proportion P seen in as many trials as there is evidence:
every distinct word of the cue is one, a vector counts as several. That a memory answered before is
evidence too, but little: a use says that it was found, not that it was what was meant. So the first
use counts as a trial, and after that every doubling does. It leaves the point alone, which was
calibrated without any uses, and narrows only the interval around it. After each question of
conversations 1 to 5 was asked once and put on record, the answers to those of 4 and 5 that had been
used, in bins of their point, were right as often as the interval says in 19 bins of 20.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engram.memory.model import Confidence


class Calibration(NamedTuple):
    """a, b and τ of the formula above."""

    cosine: float
    coverage: float
    threshold: float


BOTH: Final = Calibration(0.85, 4.06, 4.59)
WITH_ASSOCIATIONS: Final = Calibration(1.74, 2.91, 4.14)
COSINE_ONLY: Final = Calibration(2.37, 0.0, 3.52)
COVERAGE_ONLY: Final = Calibration(0.0, 4.16, 4.25)
VECTOR_EVIDENCE: Final = 4.0
Z: Final = 1.0
"""Width of the interval in standard errors: about 68 %."""

Floats = npt.NDArray[np.float64]


def activation(
    cosine: npt.NDArray[np.float32] | None,
    coverage: npt.NDArray[np.float32] | None,
    *,
    associated: bool = False,
) -> Floats:
    """A − τ, float64 (n,), from the channels that speak; at least one must. `associated` says that
    what answers may have been brought up by its neighbours and associations.
    """
    if cosine is None and coverage is None:
        raise ValueError("no channel speaks")
    fit = COSINE_ONLY
    if cosine is not None and coverage is not None:
        fit = WITH_ASSOCIATIONS if associated else BOTH
    if cosine is None:
        fit = COVERAGE_ONLY
    total: Floats = np.asarray(-fit.threshold, np.float64)
    if cosine is not None:
        total = total + fit.cosine * cosine.astype(np.float64)
    if coverage is not None:
        total = total + fit.coverage * coverage.astype(np.float64)
    return total


def probability(above_threshold: Floats, own: npt.NDArray[np.float64]) -> Floats:
    """Retrieval probability times the memories' own confidence, within [0, 1]."""
    p: Floats = own / (1.0 + np.exp(-above_threshold))
    return p


def use_evidence(count: int) -> float:
    """How many trials it is worth that a memory was used so often behind its storing."""
    return math.log2(1 + count)


def interval(point: float, evidence: float) -> Confidence:
    """Wilson's score interval around `point` after `evidence` trials."""
    n = max(evidence, 1.0)
    centre = (point + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * float(np.sqrt(point * (1 - point) / n + Z * Z / (4 * n * n)))
    # Wilson's interval always holds the point but for rounding at 0 and 1.
    lower, upper = max(0.0, min(point, centre - half)), min(1.0, max(point, centre + half))
    return Confidence(point, lower, upper)
