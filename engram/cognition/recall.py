"""Recall: scoring every visible memory against a cue, over columns. Pure.

Two channels say how well a memory matches: the cosine of its vector with the cue's, and BM25 of its
words. Each is scaled over the memories that pass the filter, and their weighted sum is the score:

    score = similarity + lexical
    similarity = w · (cosine − min) / (max − min)        lexical = (1 − w) · bm25 / max

with w = 1 when only the vector speaks, 0 when only the words do, and SIMILARITY_WEIGHT when both
do. Sums of scaled scores beat reciprocal ranks here, and no channel gates the other: a memory found
by its words alone stays in. Equal scores are ordered newest first.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engram.cognition.confidence import VECTOR_EVIDENCE, activation, interval, probability
from engram.memory.model import Filter, Hit, Mode, Vector, Why
from engram.memory.view import BoolArray, View

SIMILARITY_WEIGHT: Final = 0.4
"""Tuned for the default embedder on LoCoMo, see docs/benchmarks; flat between .3 and .5."""

Floats = npt.NDArray[np.float32]


class Cue(NamedTuple):
    """What to look for: words, a direction (shape (dimensions,)), or both. `exclude` lists rows
    that must not answer, because they are the cue.
    """

    text: str | None
    vector: Vector | None
    exclude: tuple[int, ...] = ()


class Wanted(NamedTuple):
    """Which answers, and how many of them. `mode` must be one the cue can serve."""

    mode: Mode
    limit: int
    filter: Filter | None
    min_confidence: float | None
    explain: bool
    now_us: int


class _Match(NamedTuple):
    """The channels over all rows; one that does not speak is None."""

    cosine: Floats | None
    bm25: Floats | None
    coverage: Floats | None
    evidence: float


def recall(view: View, cue: Cue, wanted: Wanted) -> list[Hit]:
    """The best matches, best first; at most `wanted.limit`."""
    visible = view.visible(wanted.now_us)
    candidates = view.matching(wanted.filter, visible)
    if cue.exclude:
        candidates = candidates.copy()
        candidates[list(cue.exclude)] = False
    match = _match(view, cue, wanted.mode, visible)
    if match.cosine is None:
        if match.bm25 is None:
            return []
        candidates = candidates & (match.bm25 > 0)
    rows = np.flatnonzero(candidates)
    if not len(rows):
        return []
    similarity, lexical = _parts(match, rows)
    strength = activation(
        None if match.cosine is None else match.cosine[rows],
        None if match.coverage is None else match.coverage[rows],
    )
    point = probability(strength, view.confidences[rows])
    scores = similarity + lexical
    if wanted.min_confidence is not None:
        sure = point >= wanted.min_confidence
        rows, scores, point, strength = rows[sure], scores[sure], point[sure], strength[sure]
        similarity, lexical = similarity[sure], lexical[sure]
    hits = []
    for i in _best(scores, wanted.limit):
        row = int(rows[i])
        memory = view.memory(row)
        why = None
        if wanted.explain:
            why = Why(
                similarity=float(similarity[i]),
                lexical=float(lexical[i]),
                cosine=None if match.cosine is None else float(match.cosine[row]),
                bm25=None if match.bm25 is None else float(match.bm25[row]),
                positions=(memory.position,),
            )
        hits.append(
            Hit(
                memory=memory,
                score=float(scores[i]),
                confidence=interval(float(point[i]), match.evidence),
                activation=float(strength[i]),
                hops=0,
                why=why,
            )
        )
    return hits


def _match(view: View, cue: Cue, mode: Mode, visible: BoolArray) -> _Match:
    cosine = bm25 = coverage = None
    evidence = 0.0
    if mode != "lexical" and cue.vector is not None:
        cosine = view.vectors.cosine(cue.vector)
        evidence += VECTOR_EVIDENCE
    if mode != "similarity" and cue.text is not None:
        lexical = view.lexicon.score(cue.text, visible)
        if lexical.query_terms:
            bm25, coverage = lexical.scores, lexical.coverage
            evidence += lexical.query_terms
    return _Match(cosine, bm25, coverage, evidence)


def _parts(
    match: _Match, rows: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The weighted, scaled channels at `rows`, float64 (len(rows),) each."""
    similarity = np.zeros(len(rows))
    lexical = np.zeros(len(rows))
    weight = SIMILARITY_WEIGHT if match.bm25 is not None else 1.0
    if match.cosine is not None:
        cosine = match.cosine[rows].astype(np.float64)
        low, high = cosine.min(), cosine.max()
        # One candidate, or all alike: each is as near as any.
        similarity = weight * ((cosine - low) / (high - low) if high > low else cosine * 0 + 1)
    if match.bm25 is not None:
        bm25 = match.bm25[rows].astype(np.float64)
        high = bm25.max()
        if high > 0:
            lexical = (1.0 - (weight if match.cosine is not None else 0.0)) * bm25 / high
    return similarity, lexical


def _best(scores: npt.NDArray[np.float64], limit: int) -> npt.NDArray[np.intp]:
    """Indices of the `limit` highest scores, highest first, the later of equals first."""
    chosen = np.arange(len(scores))
    if len(scores) > limit:
        # Everything at or above the limit-th score, so that ties at the edge are broken by age
        # and not by how the partition happened to fall.
        chosen = np.flatnonzero(scores >= np.partition(scores, -limit)[-limit])
    order = np.lexsort((-chosen, -scores[chosen]))[:limit]
    best: npt.NDArray[np.intp] = chosen[order]
    return best
