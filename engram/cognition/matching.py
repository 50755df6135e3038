"""How well each memory matches a cue by itself, and by what stands beside it. Pure.

Two channels say how well a memory matches: the cosine of its vector with the cue's, and BM25 of its
words. Each is scaled over the memories compared, and weighted:

    similarity = w · (cosine − min) / (max − min)        lexical = (1 − w) · bm25 / max

with w = 1 when only the vector speaks, 0 when only the words do, and SIMILARITY_WEIGHT when both
do. Sums of scaled scores beat reciprocal ranks here, and no channel gates the other: a memory found
by its words alone stays in.

The window of a memory is itself with its neighbours in its source: a turn of a conversation means
little without the ones around it. The same two channels speak of it: the cosine is the memory's own
with half of each neighbour's added; and of BM25, which is a sum over the cue's words, each word
counts for what it says of that one of the three of which it says most.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from engram.cognition.confidence import VECTOR_EVIDENCE
from engram.indexes.lexicon import LexicalScores, ScoredPostings
from engram.indexes.sequences import Neighbours
from engram.memory.model import Mode, Vector
from engram.memory.view import BoolArray, View

SIMILARITY_WEIGHT: Final = 0.4
"""Tuned for the default embedder on LoCoMo, see docs/benchmarks; flat between .3 and .5."""
NEIGHBOUR_WEIGHT: Final = 0.5
"""What a neighbour's cosine counts for in a window."""
ALIKE: Final = 1e-6
"""Cosines that differ by no more do so by rounding, which must not be scaled up to a preference."""
DENSE_SHARE: Final = 32
"""A term in more than one row of so many is added up for all rows, which then is quicker."""

Floats = npt.NDArray[np.float64]
_Floating = TypeVar("_Floating", bound=np.floating)
Int64Array = npt.NDArray[np.int64]


class Cue(NamedTuple):
    """What to look for: words, a direction (shape (dimensions,)), or both. `exclude` lists rows
    that must not answer, because they are the cue.
    """

    text: str | None
    vector: Vector | None
    exclude: tuple[int, ...] = ()


class Match(NamedTuple):
    """The channels over all rows, each float32 (rows,); one that does not speak is None.

    `postings` are what BM25 is the sum of. `evidence` is how much there was to go by, in trials.
    """

    cosine: npt.NDArray[np.float32] | None
    words: LexicalScores | None
    postings: ScoredPostings | None
    evidence: float

    @property
    def silent(self) -> bool:
        return self.cosine is None and self.words is None

    @property
    def bm25(self) -> npt.NDArray[np.float32] | None:
        return None if self.words is None else self.words.scores

    @property
    def coverage(self) -> npt.NDArray[np.float32] | None:
        return None if self.words is None else self.words.coverage


class Parts(NamedTuple):
    """The two channels, scaled and weighted: float64 (n,) each."""

    similarity: Floats
    lexical: Floats


def match_all(view: View, cue: Cue, mode: Mode, visible: BoolArray) -> Match:
    """Hold every row against the cue, by the channels that the mode and the cue allow."""
    cosine = words = postings = None
    evidence = 0.0
    if mode != "lexical" and cue.vector is not None:
        cosine = view.vectors.cosine(cue.vector)
        evidence += VECTOR_EVIDENCE
    if mode != "similarity" and cue.text is not None:
        found = view.lexicon.scored_postings(cue.text, visible)
        if len(found.idf):
            words, postings = found.by_row(view.rows), found
            evidence += words.query_terms
    return Match(cosine, words, postings, evidence)


def own_parts(match: Match, rows: Int64Array) -> Parts:
    """What the memories in `rows` say for themselves, scaled among these."""
    return _scaled(
        None if match.cosine is None else _taken(match.cosine, rows),
        None if match.bm25 is None else _taken(match.bm25, rows),
    )


def _taken(column: npt.NDArray[_Floating], rows: Int64Array) -> npt.NDArray[_Floating]:
    """Some rows of a column, ascending and distinct; the column itself where that is all."""
    return column if len(rows) == len(column) else column[rows]


def window_parts(match: Match, neighbours: Neighbours, rows: Int64Array) -> Parts:
    """What the windows of the memories in `rows` say, scaled among these."""
    cosine = bm25 = None
    if match.cosine is not None:
        # A row without a neighbour finds the zero behind the last.
        padded = np.append(match.cosine.astype(np.float64), 0.0)
        cosine = padded[neighbours.before]
        cosine += padded[neighbours.after]
        cosine *= NEIGHBOUR_WEIGHT
        cosine += padded[:-1]
        cosine = _taken(cosine, rows)
    if match.postings is not None:
        bm25 = _taken(_window_bm25(match.postings, neighbours), rows)
    return _scaled(cosine, bm25)


def _window_bm25(postings: ScoredPostings, neighbours: Neighbours) -> Floats:
    """For each row, the sum over the cue's terms of the most that a term adds to any of three."""
    count = len(neighbours.before)
    total, most = np.zeros(count + 1), np.zeros(count + 1)
    ends = np.searchsorted(postings.which, np.arange(len(postings.idf)), side="right")
    begin = 0
    for end in ends.tolist():
        rows, parts = postings.rows[begin:end].astype(np.intp), postings.parts[begin:end]
        begin = end
        most[rows] = parts
        beside = neighbours.before[rows], neighbours.after[rows]
        for at in beside:  # in each, no row stands twice but the one behind the last
            most[at] = np.maximum(most[at], parts)
        if len(rows) > count // DENSE_SHARE:
            total += most
            most[:] = 0.0
            continue
        for at in (rows, *beside):
            total[at] += most[at]
            most[at] = 0.0
    return total[:-1]


def _scaled(
    cosine: npt.NDArray[np.floating] | None, bm25: npt.NDArray[np.floating] | None
) -> Parts:
    given = cosine if cosine is not None else bm25
    if given is None:
        raise ValueError("no channel speaks")
    similarity = np.zeros(len(given))
    lexical = np.zeros(len(given))
    weight = SIMILARITY_WEIGHT if bm25 is not None else 1.0
    if cosine is not None and len(cosine):
        low, high = float(cosine.min()), float(cosine.max())
        similarity += weight  # one candidate, or all alike: each is as near as any
        if high - low > ALIKE:
            np.subtract(cosine, low, out=similarity, dtype=np.float64)
            similarity *= weight / (high - low)
    if bm25 is not None and len(bm25):
        high = float(bm25.max())
        if high > 0:
            share = 1.0 - (weight if cosine is not None else 0.0)
            np.multiply(bm25, share / high, out=lexical, dtype=np.float64)
    return Parts(similarity, lexical)
