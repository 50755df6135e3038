"""From rows to their terms, against dictionaries and sets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.indexes.forward import Forward, ForwardColumns
from engram.indexes.lexicon import Lexicon
from engram.indexes.postings import TAIL_MAX, Postings
from engram.indexes.tokens import term_id, tokenise, tokenise_many

WORDS = ["deploy", "key", "monday", "lunch", "noon", "paris"]
texts = st.lists(st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), max_size=20)


def distinct(text: str) -> list[int]:
    return [term_id(term) for term in dict.fromkeys(tokenise(text))]


@given(documents=texts, data=st.data())
def test_a_row_leads_to_its_terms(documents: list[str], data: st.DataObject) -> None:
    forward = Forward()
    for cut in range(0, len(documents), 3):
        forward.extend(tokenise_many(documents[cut : cut + 3]))
    rows = data.draw(st.lists(st.integers(0, len(documents) - 1))) if documents else []
    found = forward.view().of(np.array(rows, np.int64))
    for number, row in enumerate(rows):
        assert found.ids[found.which == number].tolist() == distinct(documents[row])
    keeps = st.lists(st.booleans(), min_size=len(documents), max_size=len(documents))
    kept = np.array(data.draw(keeps), np.bool_)
    left = Forward(forward.view().columns.kept(kept))
    wanted = [
        id_ for text, keep in zip(documents, kept, strict=True) if keep for id_ in distinct(text)
    ]
    assert left.view().of(np.arange(kept.sum())).ids.tolist() == wanted


@pytest.mark.parametrize(
    ("text", "head"),
    [
        ("Ada Lovelace: wrote the first program", "Ada Lovelace"),
        ("Kiss and Tell (1945 film). It is a comedy", "Kiss and Tell"),
        ("Berlin", "Berlin"),
        ("Berlin\nis a city", "Berlin"),
        ("The plan - a draft", "The plan"),
        ("we met at 10:30, and left", "we met at 10:30"),
        ("\u6771\u4eac\uff1a\u9996\u90fd", "\u6771\u4eac"),
        ("one two three four five six seven eight nine. ten", ""),
        ("x" * 100 + ": much too long for a name", ""),
        ("", ""),
        (": nothing before it", ""),
        ("The: a stop word is no name", ""),
    ],
)
def test_a_text_may_begin_with_a_name(text: str, head: str) -> None:
    terms = tokenise_many([text])
    assert terms.ids[: terms.heads[0]].tolist() == (distinct(head) if head != "The" else [])


@given(documents=texts, data=st.data())
def test_the_buried_are_not_counted(documents: list[str], data: st.DataObject) -> None:
    lexicon = Lexicon()
    lexicon.extend(documents)
    rows = data.draw(st.sets(st.integers(0, len(documents) - 1))) if documents else set()
    for part in (rows, set()):
        lexicon.bury(np.array(sorted(part), np.int64))
    ids = [term_id(word) for word in {term for word in WORDS for term in tokenise(word)}]
    counted = lexicon.view().unburied(np.array(ids, np.uint64))
    alive = [distinct(text) for row, text in enumerate(documents) if row not in rows]
    assert counted.tolist() == [sum(id_ in terms for terms in alive) for id_ in ids]


@given(runs=st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), max_size=6))
def test_frequencies_count_sealed_postings_and_those_of_the_tail(runs: list[list[int]]) -> None:
    postings, counts, row = Postings(np.uint8), [0] * 12, 0
    for number, keys in enumerate(runs):
        filler = [100 + k for k in range(TAIL_MAX)] if number % 2 else []
        for key in keys:
            counts[key] += 1
            extend(postings, [key], row)
            row += 1
        extend(postings, filler, row)
        row += 1
    asked = np.array([11, *range(10)], np.uint64)
    assert postings.view().frequencies(asked).tolist() == [0, *counts[:10]]


def extend(postings: Postings, keys: Sequence[int], row: int) -> None:
    rows = np.full(len(keys), row, np.uint32)
    postings.extend(np.array(keys, np.uint64), rows, np.ones(len(keys), np.uint8))


def test_columns_that_make_no_terms_are_refused() -> None:
    good = ForwardColumns(
        np.array([0, 2, 3]), np.array([1, 2, 3], np.uint64), np.array([1, 0], np.uint8)
    )
    good.check(2)
    for rows, wrong in (
        (3, good),
        (2, good._replace(starts=np.array([0, 2, 4]))),
        (2, good._replace(starts=np.array([1, 2, 3]))),
        (2, good._replace(heads=np.array([3, 0], np.uint8))),
        (2, good._replace(heads=np.array([1], np.uint8))),
        (2, good._replace(starts=np.array([0, 5, 3]))),
    ):
        with pytest.raises(ValueError, match=r"terms|heads"):
            wrong.check(rows)
