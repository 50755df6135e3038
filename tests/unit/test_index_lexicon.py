from __future__ import annotations

import math
import threading
from collections import Counter
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.indexes import postings
from engram.indexes.lexicon import K1, B, Lexicon
from engram.indexes.tokens import tokenise, tokenise_many

WORDS = ("deploy", "key", "monday", "rotate", "猫が", "the", "who", "vault", "x1")
text = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)


def lexicon_of(texts: list[str]) -> Lexicon:
    lexicon = Lexicon()
    lexicon.extend(texts)
    return lexicon


def bm25(texts: list[str], live: list[bool], query: str) -> list[tuple[float, float]]:
    """(score, coverage) of every text, straight from the formula, over the live texts only."""
    rows = [Counter(tokenise(text)) for text in texts]
    alive = [row for row, lives in zip(rows, live, strict=True) if lives]
    terms = set(tokenise(query))
    if not alive or not terms:
        return [(0.0, 0.0)] * len(texts)
    mean = sum(row.total() for row in alive) / len(alive)
    frequency = {term: sum(term in row for row in alive) for term in terms}
    idf = {t: math.log(1 + (len(alive) - n + 0.5) / (n + 0.5)) for t, n in frequency.items()}
    result = []
    for row, lives in zip(rows, live, strict=True):
        there = [term for term in terms if lives and term in row]
        score = sum(
            idf[t] * row[t] / (row[t] + K1 * (1 - B + B * row.total() / mean)) for t in there
        )
        result.append((score, sum(idf[t] for t in there) / sum(idf.values())))
    return result


@settings(deadline=None)
@given(st.data(), st.lists(text, max_size=30), text)
def test_scores_are_bm25_over_the_living(data: st.DataObject, texts: list[str], query: str) -> None:
    live = data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts)))
    found = lexicon_of(texts).view().score(query, np.array(live, np.bool_))
    assert found.scores.dtype == found.coverage.dtype == np.float32
    assert found.query_terms == len(set(tokenise(query)))
    expected = bm25(texts, live, query)
    np.testing.assert_allclose(found.scores, [score for score, _ in expected], rtol=1e-5)
    np.testing.assert_allclose(found.coverage, [share for _, share in expected], rtol=1e-5)


@settings(deadline=None)
@given(
    st.lists(text, min_size=1, max_size=40), text, st.integers(1, 9), st.integers(0, 30), st.data()
)
def test_scores_are_the_same_to_the_bit_whatever_the_batches_and_merges(
    texts: list[str], query: str, batch: int, tail_max: int, data: st.DataObject
) -> None:
    live = np.array([data.draw(st.booleans()) for _ in texts], np.bool_)
    whole = lexicon_of(texts).view().score(query, live)
    views = []
    with mock.patch.object(postings, "TAIL_MAX", tail_max):
        lexicon = Lexicon()
        for first in range(0, len(texts), batch):
            lexicon.extend(tokenise_many(texts[first : first + batch]))
            views.append(lexicon.view())
    pieces = lexicon.view().score(query, live)
    assert pieces.scores.tobytes() == whole.scores.tobytes()
    assert pieces.coverage.tobytes() == whole.coverage.tobytes()
    # A view from halfway answers as a lexicon of half the rows, although the index went on.
    for view in views:
        rows = len(view)
        half = lexicon_of(texts[:rows]).view().score(query, live[:rows])
        assert view.score(query, live[:rows]).scores.tobytes() == half.scores.tobytes()


def test_the_wording_of_a_question_does_not_matter() -> None:
    view = lexicon_of(["deploy key monday", "key vault", "monday"] * 50).view()
    live = np.ones(150, np.bool_)
    one = view.score("deploy key monday vault", live)
    two = view.score("vault? MONDAY monday -- 'key' deploys", live)
    assert one.scores.tobytes() == two.scores.tobytes()


@pytest.mark.parametrize(
    "query",
    ['"', "*", "key*", 'NEAR("key" vault)', "key OR", "AND", "x:key", "(key", "-key", "^key", "\0"],
)
def test_no_character_of_a_question_is_syntax(query: str) -> None:
    view = lexicon_of(["the key is here", "nothing"]).view()
    scores = view.score(query, np.ones(2, np.bool_)).scores
    assert (scores[0] > 0) == ("key" in query)


def test_coverage_of_every_term_is_exactly_one() -> None:
    # Of different frequencies, so that their weights do not add up to the same in every order.
    words = [f"word{n}" for n in range(40)]
    texts = [" ".join(words[:length]) for length in range(1, 41)]
    view, live = lexicon_of(texts).view(), np.ones(40, np.bool_)
    assert all(view.score(text, live).coverage[n] == 1.0 for n, text in enumerate(texts))
    assert (view.score("word0 unheard", live).coverage < 0.01).all()


def test_a_question_without_terms_says_nothing() -> None:
    found = lexicon_of(["deploy"]).view().score("?!", np.ones(1, np.bool_))
    assert found.query_terms == 0
    assert found.scores.tolist() == found.coverage.tolist() == [0]


def test_an_empty_lexicon_answers() -> None:
    found = Lexicon().view().score("deploy", np.ones(0, np.bool_))
    assert len(found.scores) == 0
    assert found.query_terms == 1


def test_a_mask_of_another_row_count_is_refused() -> None:
    with pytest.raises(ValueError, match="live mask"):
        lexicon_of(["deploy"]).view().score("deploy", np.ones(2, np.bool_))


def test_a_word_repeated_beyond_counting_still_scores() -> None:
    texts = ["key " * 70_000, "key"]
    view = lexicon_of(texts).view()
    scores = view.score("key", np.ones(2, np.bool_)).scores
    expected = [score for score, _ in bm25(texts, [True, True], "key")]
    np.testing.assert_allclose(scores, expected, rtol=1e-3)


def test_size_counts_rows_and_bytes() -> None:
    lexicon = lexicon_of(["deploy key", ""])
    assert len(lexicon) == 2
    assert lexicon.nbytes == 2 * (8 + 4 + 2) + 2 * 4 + 2 * 8 + 3 * 8 + 2 * 1


def test_the_view_is_the_same_object_until_rows_come() -> None:
    lexicon = lexicon_of(["deploy"])
    view = lexicon.view()
    assert lexicon.view() is view
    lexicon.extend(["key"])
    assert lexicon.view() is not view
    assert len(view) == 1


def test_readers_score_while_the_writer_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postings, "TAIL_MAX", 50)
    lexicon = lexicon_of(["deploy key"] * 10)
    view, live = lexicon.view(), np.ones(10, np.bool_)
    expected = view.score("deploy key", live).scores.tobytes()
    different: list[int] = []
    done, lock = threading.Event(), threading.Lock()

    def read() -> None:
        while not done.is_set():
            if view.score("deploy key", live).scores.tobytes() != expected:
                different.append(1)
            with lock:
                latest = lexicon.view()
            scores = latest.score("deploy", np.ones(len(latest), np.bool_)).scores
            if not (scores > 0).all():
                different.append(2)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(300):
        with lock:
            lexicon.extend([f"deploy {number}", f"deploy vault {number}"])
    done.set()
    reader.join()
    assert not different
