"""What a memory leads to: its associations, worked out of the indexes when somebody asks. Pure.

Links are made on purpose, and lead both ways, by their weights. So do beliefs and what they rest
on, all alike. `recall` comes of what was recalled: in how many of its last uses another memory was
used along (:mod:`engram.indexes.uses`). Three more kinds follow from the memories themselves,
whichever came first:

    time     what stands one or two places before or after it in its source, by 1 and 1/2
    words    what shares a word with it that at most 8 visible memories have
    mention  what holds the whole of its head, the name its text begins with, and what has a head
             that it holds; the rarest word of the head must be in at most 16 visible memories

A word that df of N memories have weighs √(idf / (df − 1)), so that one which many share says less
of each: the fan effect (Anderson 1974). Of words, mentions and recalls a memory keeps its 8
strongest. Each kind is normalised by itself before they are added, by KIND_WEIGHTS, so that none
drowns another; what a memory leads to adds up to 1.

But for recalls. One says little: what came second may have come by chance, and what is brought up
because it came once would come again, and so for ever. So a companion weighs by its share of all
that RECENT_COMPANY uses have places for, few uses less than many, and where a memory leads to
nothing else, that does not add up to 1 before there were that many.
"""

from __future__ import annotations

from itertools import repeat
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engram.indexes.sequences import NO_ROW
from engram.indexes.uses import COMPANIONS_MAX, RECENT_COMPANY
from engram.memory.view import BoolArray, View

KINDS: Final = ("time", "words", "mention", "belief", "recall")
"""What is no link; behind these come the relations of links, by number."""
KIND_WEIGHTS: Final = (1.0, 0.5, 1.0, 0.5)
"""That of beliefs is not measured, hence modest: what they rest on is like them anyway."""
RECALL_WEIGHT: Final = 0.5
"""As little as the least of the others, for the same reason: what was recalled at once mostly
answers the same words.
"""
LINK_WEIGHT: Final = 1.0
TIME_WEIGHTS: Final = (1.0, 0.5)
"""By how many places away."""
WORDS_SHARED_MAX: Final = 8
HEADS_SHARED_MAX: Final = 16
DEGREE: Final = 8
# More equally strong associations than this are not told apart by leaving some out, but all left.
DEGREE_MAX: Final = 64
# Words that so many living memories have are not looked at, whether or not some have expired.
LOOKED_AT_MAX: Final = 64

Int64Array = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Edges(NamedTuple):
    """Associations of some rows: entry i leads from row number `which[i]` of those asked for to
    `rows[i]`, by `weights[i]`, for the reason that :func:`reasons` has at `kinds[i]`; a link was
    made at `positions[i]`, which is 0 for all else. int64, int64, float64, int64, int64.
    """

    which: Int64Array
    rows: Int64Array
    weights: Floats
    kinds: Int64Array
    positions: Int64Array


class _Pairs(NamedTuple):
    """Edges of one kind, not normalised yet; a pair may stand there several times."""

    which: Int64Array
    rows: Int64Array
    weights: Floats


def associations(view: View, rows: Int64Array, visible: BoolArray) -> Edges:
    """All associations of `rows`, int64 (q,) and distinct, among the visible, bool (view.rows,)."""
    shared = _Shared(view, rows, visible)
    links = view.links.around(rows)
    seen = np.flatnonzero(visible[links.rows])
    linked = _Pairs(links.which[seen], links.rows[seen], links.exact[seen])
    kinds = (
        _beside(view, rows, visible),
        _by_words(shared),
        _by_mention(view, shared),
        _by_belief(view, rows, visible),
    )
    found = [
        *map(_normalised, kinds, repeat(len(rows)), KIND_WEIGHTS),
        _by_recall(view, rows, visible),
        _normalised(linked, len(rows), LINK_WEIGHT),
    ]
    which = np.concatenate([pairs.which for pairs in found])
    weights = np.concatenate([pairs.weights for pairs in found])
    totals = np.bincount(which, weights, len(rows))
    weights /= np.maximum(totals, RECALL_WEIGHT)[which]  # less than that is recalls alone
    numbers = np.repeat(np.arange(len(found)), [len(pairs.which) for pairs in found])
    positions = np.zeros(len(which), np.int64)
    last = numbers == len(KINDS)
    numbers[last] += links.relations[seen]
    positions[last] = links.positions[seen]
    others = np.concatenate([pairs.rows for pairs in found])
    return Edges(which, others, weights, numbers, positions)


def reasons(view: View) -> tuple[str, ...]:
    """The names of kinds and relations, by number."""
    return KINDS + view.links.relations


def _beside(view: View, rows: Int64Array, visible: BoolArray) -> _Pairs:
    neighbours = view.sequences.neighbours(visible)
    which, others, weights = list[Int64Array](), list[Int64Array](), list[Floats]()
    for step in neighbours:
        at, number = rows, np.arange(len(rows))
        for weight in TIME_WEIGHTS:
            at = step[at]
            number, at = number[at != NO_ROW], at[at != NO_ROW]
            which.append(number)
            others.append(at)
            weights.append(np.full(len(at), weight))
    return _Pairs(np.concatenate(which), np.concatenate(others), np.concatenate(weights))


def _by_belief(view: View, rows: Int64Array, visible: BoolArray) -> _Pairs:
    which, others = view.beliefs.around(rows)
    seen = np.flatnonzero(visible[others])
    return _Pairs(which[seen], others[seen], np.ones(len(seen)))


def _by_recall(view: View, rows: Int64Array, visible: BoolArray) -> _Pairs:
    """Not normalised, but weighed by how many of the uses that count there could be."""
    which, roots = view.uses.company(rows)
    others = view.links.newest(roots)
    seen = np.flatnonzero(visible[others])
    times = _strongest(_Pairs(which[seen], others[seen], np.ones(len(seen))))
    share = RECALL_WEIGHT / (RECENT_COMPANY * COMPANIONS_MAX)
    return times._replace(weights=times.weights * share)


class _Shared:
    """The rarer words of some rows, and the visible rows that have them too.

    Words go by number: `terms` are all of those rows, `frequency` says how many visible memories
    have each, or FREQUENT. The entries of `which` and `numbers` say which row has which word;
    those of `pairs`, `others` and `by` which row shares which word with whom.
    """

    FREQUENT: Final = 1 << 30

    def __init__(self, view: View, rows: Int64Array, visible: BoolArray) -> None:
        self.rows = rows
        of_rows = view.lexicon.terms.of(rows)
        self.which = of_rows.which
        self.is_head = of_rows.is_head
        self.terms, self.numbers = np.unique(of_rows.ids, return_inverse=True)
        self.frequency = np.full(len(self.terms), self.FREQUENT)
        few = np.flatnonzero(view.lexicon.unburied(self.terms) <= LOOKED_AT_MAX)
        postings = view.lexicon.rows_with(self.terms[few])
        seen = visible[postings.rows]
        term, holder = few[postings.which[seen]], postings.rows[seen].astype(np.int64)
        counts = np.bincount(term, minlength=len(self.terms))
        self.frequency[few] = counts[few]
        order = np.lexsort((holder, term))
        begins = np.concatenate(([0], np.cumsum(counts)))
        rare = np.flatnonzero(self.frequency[self.numbers] <= HEADS_SHARED_MAX)
        sizes = counts[self.numbers[rare]]
        entry = np.repeat(rare, sizes)
        place = np.arange(len(entry)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        self.pairs, self.by = self.which[entry], self.numbers[entry]
        self.others = holder[order[begins[self.by] + place]]
        apart = self.others != rows[self.pairs]
        self.pairs, self.by, self.others = self.pairs[apart], self.by[apart], self.others[apart]
        live = int(np.count_nonzero(visible))
        idf = np.log1p((live - self.frequency + 0.5).clip(0) / (self.frequency + 0.5))
        self.weight = np.sqrt(idf / np.maximum(self.frequency - 1, 1))

    def numbers_of(self, ids: npt.NDArray[np.uint64]) -> Int64Array:
        """The numbers of words, -1 for one that none of the rows has."""
        if not len(self.terms):
            return np.full(len(ids), -1)
        at = np.searchsorted(self.terms, ids)
        at[at == len(self.terms)] = 0
        return np.where(self.terms[at] == ids, at, -1)


def _by_words(shared: _Shared) -> _Pairs:
    few = shared.frequency[shared.by] <= WORDS_SHARED_MAX
    by = shared.by[few]
    return _strongest(_Pairs(shared.pairs[few], shared.others[few], shared.weight[by]))


def _by_mention(view: View, shared: _Shared) -> _Pairs:
    """Whoever holds another's head shares its rarest word with it, and so is among the pairs."""
    own, theirs = _held_by_others(view, shared), _held_here(view, shared)
    return _strongest(
        _Pairs(
            np.concatenate((own.which, theirs.which)),
            np.concatenate((own.rows, theirs.rows)),
            np.concatenate((own.weights, theirs.weights)),
        )
    )


def _held_by_others(view: View, shared: _Shared) -> _Pairs:
    """Those that hold the head of one of the rows."""
    which, numbers = shared.which[shared.is_head], shared.numbers[shared.is_head]
    heads = _Words(which, numbers, len(shared.rows))
    rarest = heads.rarest(shared)
    first = rarest[shared.pairs] == shared.by
    pairs, others = shared.pairs[first], shared.others[first]
    distinct, place = np.unique(others, return_inverse=True)
    terms = view.lexicon.terms.of(distinct)
    words = _Words(terms.which, shared.numbers_of(terms.ids), len(distinct))
    whole = words.hold(heads, place, pairs)
    return _Pairs(pairs[whole], others[whole], shared.weight[rarest[pairs[whole]]])


def _held_here(view: View, shared: _Shared) -> _Pairs:
    """Those whose head one of the rows holds."""
    candidates = np.unique(shared.pairs * view.rows + shared.others)
    which, others = candidates // view.rows, candidates % view.rows
    distinct, place = np.unique(others, return_inverse=True)
    terms = view.lexicon.terms.heads_of(distinct)
    heads = _Words(terms.which, shared.numbers_of(terms.ids), len(distinct))
    rarest = heads.rarest(shared)
    few = rarest[place] >= 0
    which, others, place = which[few], others[few], place[few]
    words = _Words(shared.which, shared.numbers, len(shared.rows))
    whole = words.hold(heads, which, place)
    return _Pairs(which[whole], others[whole], shared.weight[rarest[place[whole]]])


class _Words:
    """The words of some rows, by number; -1 for one that is none of `_Shared.terms`."""

    def __init__(self, which: Int64Array, numbers: Int64Array, rows: int) -> None:
        self._which = which
        self._numbers = numbers
        self._rows = rows

    def rarest(self, shared: _Shared) -> Int64Array:
        """Of each row the rarest word, int64 (rows,); -1 where that has too many holders, or one
        only, and where there is no word at all. Of equally rare ones any: they weigh the same.
        """
        frequency = np.where(self._numbers < 0, shared.FREQUENT, shared.frequency[self._numbers])
        order = np.lexsort((self._numbers, frequency, self._which))
        first = order[np.flatnonzero(np.diff(self._which[order], prepend=-1))]
        few = (frequency[first] >= 2) & (frequency[first] <= HEADS_SHARED_MAX)
        found = np.full(self._rows, -1)
        found[self._which[first[few]]] = self._numbers[first[few]]
        return found

    def hold(self, others: _Words, which: Int64Array, of: Int64Array) -> BoolArray:
        """For each pair, whether row `which[i]` has all the words of the others' row `of[i]`."""
        begins = np.searchsorted(others._which, np.arange(others._rows + 1))
        sizes = begins[of + 1] - begins[of]
        pair = np.repeat(np.arange(len(of)), sizes)
        place = np.arange(len(pair)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        word = others._numbers[begins[of[pair]] + place]
        held = np.isin(which[pair] * (1 << 32) + word, self._which * (1 << 32) + self._numbers)
        held &= word >= 0
        whole: BoolArray = np.bincount(pair[~held], minlength=len(of)) == 0
        return whole


def _strongest(pairs: _Pairs) -> _Pairs:
    """Each pair once, with its weights added up, and of each row's the DEGREE strongest.

    Of equally strong ones either all stay or none, so that nothing depends on the order of rows.
    """
    if not len(pairs.which):
        return pairs
    width = int(pairs.rows.max()) + 1
    keys, place = np.unique(pairs.which * width + pairs.rows, return_inverse=True)
    weights: Floats = np.round(np.bincount(place, pairs.weights), 12)
    which = keys // width
    order = np.lexsort((-weights, which))
    ordered = which[order]
    strength: Floats = weights[order]
    begins = np.searchsorted(ordered, ordered)
    rank = np.arange(len(order)) - begins
    # The strength of the first that is one too many, for each row that has so many.
    bar = _at_rank(ordered, strength, rank, DEGREE + 1)[ordered]
    top = strength[begins]
    kept = strength > np.where(top > bar, bar, 0.0)
    kept &= (top > bar) | (_at_rank(ordered, strength, rank, DEGREE_MAX + 1)[ordered] == 0)
    chosen = np.sort(order[kept])
    return _Pairs(which[chosen], keys[chosen] % width, weights[chosen])


def _at_rank(which: Int64Array, strength: Floats, rank: Int64Array, number: int) -> Floats:
    """For each row the strength of its `number`th strongest, 0 where there are fewer."""
    found = np.zeros(int(which.max()) + 1)
    at = rank == number - 1
    found[which[at]] = strength[at]
    return found


def _normalised(pairs: _Pairs, rows: int, weight: float) -> _Pairs:
    """With the weights of each row adding up to `weight`."""
    totals = np.bincount(pairs.which, pairs.weights, rows)
    return pairs._replace(weights=weight * pairs.weights / totals[pairs.which])
