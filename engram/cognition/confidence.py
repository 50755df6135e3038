"""How sure a recall may be of a memory, kept apart from the score that orders the answer. Pure.

A score is relative to the other memories of a space; confidence is not. It is ACT-R's retrieval
probability (Anderson & Lebiere 1998), P = 1 / (1 + exp((τ − A) / s)), of the match's activation

    A = COSINE_WEIGHT · cosine + COVERAGE_WEIGHT · coverage

where coverage is the idf-weighted share of the cue's words that the memory holds. P is multiplied
by the memory's own confidence. The interval is Wilson's (1927) for a proportion P seen in as many
trials as there is evidence: every distinct word of the cue is one, a vector counts as several.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from engram.memory.model import Confidence

COSINE_WEIGHT: Final = 4.0
COVERAGE_WEIGHT: Final = 4.0
THRESHOLD: Final = 5.0
"""τ: the activation at which a memory is as likely as not to be the one that was meant."""
NOISE: Final = 1.0
"""s: how gradually probability rises around the threshold."""
VECTOR_EVIDENCE: Final = 4.0
Z: Final = 1.0
"""Width of the interval in standard errors: about 68 %."""

Floats = npt.NDArray[np.float64]


def activation(cosine: npt.ArrayLike, coverage: npt.ArrayLike) -> Floats:
    """A of the formula above, float64, element by element."""
    a: Floats = COSINE_WEIGHT * np.asarray(cosine, np.float64) + COVERAGE_WEIGHT * np.asarray(
        coverage, np.float64
    )
    return a


def probability(a: Floats, own: npt.ArrayLike) -> Floats:
    """Retrieval probability times the memories' own confidence, within [0, 1]."""
    p: Floats = np.asarray(own, np.float64) / (1.0 + np.exp((THRESHOLD - a) / NOISE))
    return p


def interval(point: float, evidence: float) -> Confidence:
    """Wilson's score interval around `point` after `evidence` trials."""
    n = max(evidence, 1.0)
    centre = (point + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z / (1 + Z * Z / n) * float(np.sqrt(point * (1 - point) / n + Z * Z / (4 * n * n)))
    # Wilson's interval always holds the point but for rounding at 0 and 1.
    lower, upper = max(0.0, min(point, centre - half)), min(1.0, max(point, centre + half))
    return Confidence(point, lower, upper)
