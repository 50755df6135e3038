"""Recall: the memories that answer a cue best, and why. Pure.

In the modes `similarity` and `lexical` a score is what a memory says for itself, scaled among those
that pass the filter (`engram.cognition.matching`). In mode `hybrid` it is what it says by both, and
how present it is by its uses (`engram.cognition.base_level`), as far as the space wants that:

    score = similarity + lexical + recency + frequency
    recency, frequency = (1 − the others) · weight · their parts of the squashed base level

In mode `spreading` half of the match comes from the memory's window, scaled among all visible
memories, and what the best matches remind of is added (`engram.cognition.spreading`):

    score = similarity + lexical + window + activation + recency + frequency
    similarity, lexical: as above, times (1 − WINDOW_WEIGHT)
    window = WINDOW_WEIGHT · (similarity + lexical of the window)
    activation = (1 − the others) · min(ACTIVATION_WEIGHT · what was lit, ACTIVATION_MAX)

What a memory says for itself, what it was lit by, and that it was used are reasons to recall it,
combined as probabilities of independent causes are: so what matches in full stays in front, however
often another one was used. The limit keeps what a good match reminds of behind the match itself:
without it, half of the passages were not the first answer to their own text.

Base levels are not worked out for all. They add at most (1 − the others) · weight · what the most
used memory could have, so whoever is behind the limit-th best by more than that stays behind it.

The seeds are the SEEDS best by the first three, in proportion to their SEED_POWERth power, and the
memories that are the cue. Parts and scores are rounded to 1e-6 before they are compared, and equal
ones ordered by id, so that no order of storing, no thread and no version of numpy shows.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engram.cognition.base_level import presence, presence_max
from engram.cognition.confidence import activation, interval, probability, use_evidence
from engram.cognition.matching import Cue, Match, match_all, own_parts, window_parts
from engram.cognition.spreading import Edge, Lit, spread
from engram.memory.decay import DECAY_DEFAULT, Decay
from engram.memory.model import Activated, Filter, Hit, Mode, Spread, Step, Why
from engram.memory.view import BoolArray, View

WINDOW_WEIGHT: Final = 0.5
ACTIVATION_WEIGHT: Final = 12.0
ACTIVATION_MAX: Final = 0.7
SEEDS: Final = 20
SEED_POWER: Final = 4
"""All five tuned on LoCoMo, see docs/benchmarks; a fifth more or less changes little."""
DECIMALS: Final = 6
_ROUNDED_BY_MAX: Final = 2e-6
"""What rounding may add to a sum of two parts, and a little more."""
SCORES_PER_BLOCK: Final = 128

Floats = npt.NDArray[np.float64]
Int64Array = npt.NDArray[np.int64]


class Wanted(NamedTuple):
    """Which answers, and how many of them. `mode` must be one the cue can serve."""

    mode: Mode
    limit: int
    filter: Filter | None
    min_confidence: float | None
    explain: bool
    now_us: int
    spread: Spread = Spread()
    decay: Decay = DECAY_DEFAULT


class _Scored(NamedTuple):
    """Memories with their scores and the parts of these: rows, int64 (n,), and float64 (n,) each.
    `candidates` are the places of those that may answer; `lit` is what was lit, if anything was.
    """

    rows: Int64Array
    candidates: npt.NDArray[np.intp]
    similarity: Floats
    lexical: Floats
    window: Floats
    activation: Floats
    scores: Floats
    lit: Lit | None


class Answer(NamedTuple):
    """The best matches, best first, and what was lit on the way, if anything was."""

    hits: list[Hit]
    lit: Lit | None


def recall(view: View, cue: Cue, wanted: Wanted) -> list[Hit]:
    """The best matches, best first; at most `wanted.limit`."""
    return answer(view, cue, wanted).hits


def answer(view: View, cue: Cue, wanted: Wanted) -> Answer:
    """As :func:`recall`, with what was lit."""
    visible = view.visible(wanted.now_us)
    match = match_all(view, cue, wanted.mode, visible)
    answering = view.matching(wanted.filter, visible)
    if cue.exclude:
        answering = answering.copy()
        answering[list(cue.exclude)] = False
    if match.silent or not answering.any():
        return Answer([], None)
    if wanted.mode == "spreading":
        scored = _spreading(view, cue, wanted, match, visible, answering)
    else:
        scored = _matching(match, answering)
    candidates = scored.candidates
    if wanted.min_confidence is not None:
        sure = (
            _confidence(view, match, wanted.mode, scored.rows[candidates])[1]
            >= wanted.min_confidence
        )
        candidates = candidates[sure]
    used = _with_uses(view, wanted, scored, candidates)
    chosen = best(view, scored.rows[used.places], used.scores, wanted.limit)
    answered = scored.rows[used.places[chosen]]
    strength, point = _confidence(view, match, wanted.mode, answered)
    counts = view.uses.of(answered).counts
    hits = [
        _hit(view, match, scored, used.one(i), Sure(*sure), wanted.explain)
        for i, *sure in zip(
            *(chosen.tolist(), strength.tolist(), point.tolist(), counts.tolist()), strict=True
        )
    ]
    return Answer(hits, scored.lit)


def activated(view: View, lit: Lit, limit: int) -> list[Activated]:
    """What was lit most, the strongest first; at most `limit`."""
    strengths = np.round(lit.activation, DECIMALS)
    return [
        Activated(view.version(row).id, float(strengths[i]), lit.distance(row))
        for i in best(view, lit.rows, strengths, limit).tolist()
        for row in [int(lit.rows[i])]
        if strengths[i] > 0
    ]


class _OneUsed(NamedTuple):
    """What uses add to the score of the memory at `place`, and that score whole."""

    place: int
    recency: float
    frequency: float
    score: float


class _Used(NamedTuple):
    """Those of the candidates that may be among the best, by their places, with what their uses add
    to their scores, and these whole: (n,) each.
    """

    places: npt.NDArray[np.intp]
    recency: Floats
    frequency: Floats
    scores: Floats

    def one(self, i: int) -> _OneUsed:
        place, *parts = (column[i].item() for column in self)
        return _OneUsed(place, *parts)


def _with_uses(
    view: View, wanted: Wanted, scored: _Scored, candidates: npt.NDArray[np.intp]
) -> _Used:
    """Have their uses count for what may be among the best; see the module."""
    scores, weight = scored.scores[candidates], wanted.decay.weight
    if wanted.mode in {"similarity", "lexical"} or not weight:
        nothing = np.zeros(len(candidates))
        return _Used(candidates, nothing, nothing, scores)
    if len(candidates) > wanted.limit:
        most = weight * presence_max(view.uses.most)
        bar = _nth_best(scores, wanted.limit) - _ROUNDED_BY_MAX
        least = (bar - most) / (1.0 - most) if most < 1.0 else -np.inf
        near = np.flatnonzero(scores >= least)
        candidates, scores = candidates[near], scores[near]
    room = weight * (1.0 - scores).clip(0)
    parts = presence(view.uses.of(scored.rows[candidates]), wanted.decay, wanted.now_us)
    recency, frequency = (np.round(room * part, DECIMALS) for part in parts)
    return _Used(candidates, recency, frequency, np.round(scores + recency + frequency, DECIMALS))


class Sure(NamedTuple):
    """How strongly a memory was activated above the threshold, how probable that makes it, and how
    often it was used since it was stored.
    """

    strength: float
    point: float
    uses: int


def _confidence(view: View, match: Match, mode: Mode, rows: Int64Array) -> tuple[Floats, Floats]:
    strength = activation(
        None if match.cosine is None else match.cosine[rows],
        None if match.coverage is None else match.coverage[rows],
        associated=mode == "spreading",
    )
    return strength, probability(strength, view.confidences[rows])


def _hit(
    view: View, match: Match, scored: _Scored, used: _OneUsed, sure: Sure, explain: bool
) -> Hit:
    i = used.place
    row = int(scored.rows[i])
    direct = scored.similarity[i] + scored.lexical[i] + scored.window[i]
    brought_up = scored.activation[i] > direct
    told = brought_up or (explain and scored.activation[i] > 0)
    path = scored.lit.path(row) if scored.lit is not None and told else []
    return Hit(
        memory=view.memory(row),
        score=used.score,
        confidence=interval(sure.point, match.evidence + use_evidence(sure.uses)),
        activation=sure.strength,
        hops=len(path) if brought_up else 0,
        why=_why(view, match, scored, used, path) if explain else None,
    )


def _matching(match: Match, answering: BoolArray) -> _Scored:
    """Each memory for itself, scaled among those that may answer."""
    if match.cosine is None and match.bm25 is not None:
        answering = answering & (match.bm25 > 0)
    rows = np.flatnonzero(answering)
    nothing = np.zeros(len(rows))
    similarity, lexical = np.round(own_parts(match, rows), DECIMALS)
    scores = np.round(similarity + lexical, DECIMALS)
    everyone = np.arange(len(rows))
    return _Scored(rows, everyone, similarity, lexical, nothing, nothing, scores, None)


def _spreading(
    view: View, cue: Cue, wanted: Wanted, match: Match, visible: BoolArray, answering: BoolArray
) -> _Scored:
    """With windows and associations. A filter decides who answers, not who may be thought of."""
    compared = visible
    if cue.exclude:
        compared = visible.copy()
        compared[list(cue.exclude)] = False
    rows = np.flatnonzero(compared)
    own = own_parts(match, rows)
    beside = window_parts(match, view.sequences.neighbours(visible), rows)
    similarity = np.round((1.0 - WINDOW_WEIGHT) * own.similarity, DECIMALS)
    lexical = np.round((1.0 - WINDOW_WEIGHT) * own.lexical, DECIMALS)
    window = np.round(WINDOW_WEIGHT * (beside.similarity + beside.lexical), DECIMALS)
    scores = np.round(similarity + lexical + window, DECIMALS)
    lit = _lit(view, cue, wanted, visible, rows, scores)
    gained = np.zeros(view.rows)
    gained[lit.rows] = np.minimum(ACTIVATION_WEIGHT * lit.activation, ACTIVATION_MAX)
    activated = np.round((1.0 - scores).clip(0) * gained[rows], DECIMALS)
    scores = np.round(scores + activated, DECIMALS)
    may = answering[rows]
    if match.cosine is None:
        may &= scores > 0
    candidates = np.flatnonzero(may)
    return _Scored(rows, candidates, similarity, lexical, window, activated, scores, lit)


def _lit(
    view: View, cue: Cue, wanted: Wanted, visible: BoolArray, rows: Int64Array, scores: Floats
) -> Lit:
    """Spread from the best matches, and from the memories that are the cue."""
    chosen = best(view, rows, scores, SEEDS)
    shares = np.zeros(view.rows)
    shares[rows[chosen]] = scores[chosen].clip(0) ** SEED_POWER
    shares[[row for row in cue.exclude if visible[row]]] = 1.0
    seeds = np.flatnonzero(shares)
    total = shares[seeds].sum()
    return spread(view, seeds, shares[seeds] / (total or 1.0), visible, wanted.spread)


def _why(view: View, match: Match, scored: _Scored, used: _OneUsed, path: list[Edge]) -> Why:
    i = used.place
    row = int(scored.rows[i])
    ids = {at: view.version(at).id for edge in path for at in (edge.from_row, edge.to_row)}
    positions = {int(view.positions[at]) for at in (row, *ids)}
    positions.update(edge.position for edge in path if edge.position)
    return Why(
        similarity=float(scored.similarity[i]),
        lexical=float(scored.lexical[i]),
        window=float(scored.window[i]),
        activation=float(scored.activation[i]),
        recency=used.recency,
        frequency=used.frequency,
        cosine=None if match.cosine is None else float(match.cosine[row]),
        bm25=None if match.bm25 is None else float(match.bm25[row]),
        path=tuple(
            Step(
                from_id=ids[edge.from_row],
                to_id=ids[edge.to_row],
                weight=round(edge.weight, DECIMALS),
                relation=edge.relation,
            )
            for edge in path
        ),
        positions=tuple(sorted(positions)),
    )


def best(view: View, rows: Int64Array, scores: Floats, limit: int) -> npt.NDArray[np.intp]:
    """Indices of the `limit` highest scores, highest first, and of equals in the order of ids."""
    chosen = np.arange(len(scores))
    if len(scores) > limit:
        # Everything at or above the limit-th score, so that ties at the edge are broken by id and
        # not by how the partition happened to fall.
        chosen = np.flatnonzero(scores >= _nth_best(scores, limit))
    chosen = chosen[np.argsort(-scores[chosen], kind="stable")]
    equal = np.flatnonzero(scores[chosen][1:] == scores[chosen][:-1])
    if len(equal):
        tied = set(equal.tolist()) | set((equal + 1).tolist())
        ids = {at: view.version(int(rows[chosen[at]])).id for at in tied}
        order = sorted(range(len(chosen)), key=lambda at: (-scores[chosen[at]], ids.get(at, "")))
        chosen = chosen[order]
    return chosen[:limit]


def _nth_best(scores: Floats, number: int) -> float:
    """The `number`th highest score. Of so many blocks the best are as high or higher than the one
    sought, so that few need to be sorted where there are many.
    """
    blocks = len(scores) // SCORES_PER_BLOCK
    if blocks > number:
        tops = scores[: blocks * SCORES_PER_BLOCK].reshape(blocks, -1).max(axis=1)
        scores = scores[scores >= np.partition(tops, -number)[-number]]
    return float(np.partition(scores, -number)[-number])
