"""The lexical index: which rows share words with a question, scored by BM25.

Theory of operation. Texts become terms (`engram.indexes.tokens`), terms become postings of
(row, occurrences), and each row keeps its length in terms. A question is plain text and means OR:
every row that has any of its terms gets a score, and no character of it is ever syntax. Scoring is
a handful of numpy passes over the postings of the question's terms. A forward index leads from a
row back to its terms; and of rows that died the postings are counted, so that how many living rows
hold a term is one look-up and one subtraction.

The formula is BM25 (Robertson & Zaragoza 2009) as Lucene has it since version 8, without the
constant factor (k1 + 1), and with Lucene's idf, which is never negative:

    score(row) = sum over the question's distinct terms t of
                 idf(t) * tf / (tf + k1 * (1 - b + b * length(row) / mean length))
    idf(t)     = ln(1 + (N - df(t) + 0.5) / (df(t) + 0.5))

k1 = 0.6 and b = 0.2 measured best on short memories (docs/decisions/0003-lexicon.md). N, df and the
mean length count live rows only and are computed for each question from the live mask it brings,
so that forgetting and revising need no work here and leave no trace in the scores of others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engram.indexes.columns import GrowingColumn
from engram.indexes.forward import Forward, ForwardColumns, ForwardView
from engram.indexes.postings import Matches, Postings, PostingsView, Run
from engram.indexes.tokens import Terms, tokenise_many

K1: Final = 0.6
B: Final = 0.2
# Occurrences of a term in a row are counted up to here; far beyond it the score is flat.
OCCURRENCES_MAX: Final = 65_535

BoolArray = npt.NDArray[np.bool_]
Float32Array = npt.NDArray[np.float32]


class LexicalScores(NamedTuple):
    """What the words of a question say about every row.

    `scores` is float32 (rows,), BM25, 0 where no term matched or the row is dead. `coverage` is
    float32 (rows,) in [0, 1]: the share of the question's terms found in the row, weighted by idf.
    `query_terms` counts the question's distinct terms; with 0 the question says nothing.
    """

    scores: Float32Array
    coverage: Float32Array
    query_terms: int


class ScoredPostings(NamedTuple):
    """The live postings of a question: entry i says that the row `rows[i]` holds the question's
    term number `which[i]`, which adds `parts[i]` to its score. int64, uint32 and float64, all (n,),
    by term and then by row. `idf` is float64 (terms,).
    """

    which: npt.NDArray[np.int64]
    rows: npt.NDArray[np.uint32]
    parts: npt.NDArray[np.float64]
    idf: npt.NDArray[np.float64]

    def by_row(self, rows: int) -> LexicalScores:
        """Added up for each of `rows` rows."""
        nothing = np.zeros(rows, np.float32)
        if not len(self.which):
            return LexicalScores(nothing, nothing, len(self.idf))
        # bincount adds in order, and the terms of a row come in the order of their ids: the sums
        # are the same however the postings are spread over runs.
        scores = np.bincount(self.rows, self.parts, rows)
        coverage = np.bincount(self.rows, self.idf[self.which], rows) / self.idf.sum()
        return LexicalScores(
            scores.astype(np.float32), coverage.astype(np.float32), query_terms=len(self.idf)
        )


class LexiconView:
    """The lexicon as it was when captured; never changes. `terms` leads from rows to terms."""

    __slots__ = ("_buried", "_lengths", "_live_seen", "_postings", "terms")

    def __init__(
        self,
        postings: PostingsView,
        lengths: npt.NDArray[np.uint32],
        terms: ForwardView,
        buried: PostingsView,
    ) -> None:
        self._postings = postings
        self._lengths = lengths
        self.terms = terms
        self._buried = buried
        self._live_seen: tuple[BoolArray, int, float] | None = None

    def __len__(self) -> int:
        return len(self._lengths)

    def columns(self) -> tuple[Run, npt.NDArray[np.uint32], ForwardColumns]:
        """All of it as plain arrays, for :meth:`Lexicon.of`."""
        return self._postings.merged(), self._lengths, self.terms.columns

    def rows_with(self, ids: npt.NDArray[np.uint64]) -> Matches:
        """The rows, dead ones too, that hold each of the given terms, which must be distinct."""
        return self._postings.find(ids)

    def unburied(self, ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """How many rows that were not buried hold each term, int64 (q,); distinct ids."""
        return self._postings.frequencies(ids) - self._buried.frequencies(ids)

    def scored_postings(self, query: str, live: BoolArray) -> ScoredPostings:
        """What each posting of a question adds to its row's score; `live` is bool (rows,).

        Raises ValueError where `live` was captured at another row count than this view.
        """
        rows = len(self._lengths)
        if live.shape != (rows,):
            raise ValueError(f"a live mask of shape {live.shape} for {rows} rows")
        # Sorted, so that sums are made in the same order however the question is worded.
        terms = np.sort(tokenise_many([query]).ids)
        which, found_rows, occurrences = self._postings.find(terms)
        # Run after run as they are found; by term, the rows of each run are behind each other.
        order = np.argsort(which, kind="stable")
        order = order[live[found_rows[order]]]
        which, found_rows, occurrences = which[order], found_rows[order], occurrences[order]
        if not len(which):
            return ScoredPostings(which, found_rows, np.empty(0), np.zeros(len(terms)))
        live_rows, mean_length = self._live_figures(live)
        frequency = np.bincount(which, minlength=len(terms))
        idf = np.log1p((live_rows - frequency + 0.5) / (frequency + 0.5))
        saturation = self._lengths[found_rows] * (K1 * B / mean_length)
        saturation += K1 * (1 - B)
        saturation += occurrences
        parts = idf[which] * occurrences
        parts /= saturation
        return ScoredPostings(which, found_rows, parts, idf)

    def score(self, query: str, live: BoolArray) -> LexicalScores:
        """Score every row against a question, as :meth:`scored_postings` does each posting."""
        return self.scored_postings(query, live).by_row(len(self._lengths))

    def _live_figures(self, live: BoolArray) -> tuple[int, float]:
        """How many rows live, and their mean length in terms (> 0)."""
        seen = self._live_seen
        if seen is None or seen[0] is not live:
            live_rows = int(np.count_nonzero(live))
            total = int(np.dot(live, self._lengths.astype(np.int64)))
            seen = (live, live_rows, total / live_rows)
            self._live_seen = seen
        return seen[1], seen[2]


class Lexicon:
    """The lexical index of a space's rows."""

    __slots__ = ("_buried", "_forward", "_lengths", "_postings", "_view")

    def __init__(self) -> None:
        self._postings = Postings(np.uint16)
        self._lengths = GrowingColumn(np.uint32)
        self._forward = Forward()
        self._buried = Postings(np.bool_)
        self._view: LexiconView | None = None

    @classmethod
    def of(cls, run: Run, lengths: npt.NDArray[np.uint32], forward: ForwardColumns) -> Lexicon:
        """A lexicon that begins with what `columns` gave."""
        lexicon = cls()
        lexicon._postings = Postings.of(run)
        lexicon._lengths = GrowingColumn.of(lengths)
        lexicon._forward = Forward(forward)
        return lexicon

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of postings and lengths, without spare capacity."""
        held = (self._postings, self._lengths, self._forward, self._buried)
        return sum(part.nbytes for part in held)

    def extend(self, texts: Sequence[str] | Terms) -> None:
        """Append one row per text. Texts may be tokenised beforehand, outside the caller's lock."""
        terms = texts if isinstance(texts, Terms) else tokenise_many(texts)
        first_row = len(self._lengths)
        rows = np.arange(first_row, first_row + len(terms.lengths), dtype=np.uint32)
        if len(terms.ids):
            occurrences = np.minimum(terms.occurrences, OCCURRENCES_MAX)
            self._postings.extend(terms.ids, np.repeat(rows, terms.distinct), occurrences)
        self._lengths.extend(terms.lengths)
        self._forward.extend(terms)
        self._view = None

    def bury(self, rows: npt.NDArray[np.int64]) -> None:
        """Take rows, int64 (n,) and ascending, for dead from now on: each once."""
        terms = self._forward.view().of(rows)
        if len(terms.ids):
            buried = rows.astype(np.uint32)[terms.which]
            self._buried.extend(terms.ids, buried, np.ones(len(buried), np.bool_))
        self._view = None

    def view(self) -> LexiconView:
        """What is there now; stays as it is. The same object until rows are appended."""
        if self._view is None:
            self._view = LexiconView(
                self._postings.view(),
                self._lengths.view(),
                self._forward.view(),
                self._buried.view(),
            )
        return self._view
