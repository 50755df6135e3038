from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engram.indexes import tokens
from engram.indexes.tokens import term_id, tokenise, tokenise_many

texts = st.lists(
    st.one_of(
        st.text(max_size=60),
        st.text("the whodon't Mel’s_-7é日本語 गं\u0301", max_size=60),
        st.sampled_from(["who are you", "don't", "", "'", "日", "The keys rotate"]),
    ),
    max_size=8,
)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The deploy keys are rotated", ["deploy", "key", "rotat"]),
        ("running RUNS Run", ["run", "run", "run"]),
        ("Mel's keys don't fit; they'll rust", ["mel", "key", "fit", "rust"]),
        ("Mel’s keys don’t fit", ["mel", "key", "fit"]),
        ("'quoted' O'Brien L'Amour", ["quot", "obrien", "amour"]),
        ("deploy_key snake_case", ["deploy", "key", "snake", "case"]),
        ("2023-05-08, 3.5 %", ["2023", "05", "08", "3", "5"]),
        ('NEAR("x" AND y*) -z OR c++', ["near", "x", "y", "z", "c"]),
        ("Ａｐｐｌｅ ﬁne Straße", ["appl", "fine", "strass"]),
        ("cafe\u0301", ["café"]),
        ("soft\u00adhyphen", ["softhyphen"]),
        ("she won; it’s won", ["won", "won"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("Привет, мир", ["привет", "мир"]),
        ("吾輩は猫", ["吾輩", "輩は", "は猫"]),
        ("猫 iPhone手機", ["猫", "iphon", "手機"]),
        ("한국어", ["한국", "국어"]),
        ("ﾃｽﾄ", ["テス", "スト"]),
        ("ไทย", ["ไท", "ทย"]),
        ("ລາວ", ["ລາ", "າວ"]),
        ("ខ្មែ", ["ខ្", "្ម", "មែ"]),
        ("", []),
        ("?! … — ' ’", []),
    ],
)
def test_terms_of(text: str, terms: list[str]) -> None:
    assert tokenise(text) == terms


def test_a_text_of_stop_words_keeps_them() -> None:
    assert tokenise("Who are you?") == ["who", "are", "you"]
    assert tokenise("don't") == ["not"]
    assert tokenise("Who are the ninjas?") == ["ninja"]


@settings(deadline=None)
@given(texts)
@example(["who are you", "x", "who are you", ""])
def test_in_bulk_the_terms_are_the_same_and_counted(texts: list[str]) -> None:
    found = tokenise_many(texts)
    assert len(found.distinct) == len(found.lengths) == len(texts)
    start = 0
    for text, distinct, length in zip(texts, found.distinct, found.lengths, strict=True):
        expected = Counter(tokenise(text))
        ids = found.ids[start : start + distinct].tolist()
        occurrences = found.occurrences[start : start + distinct].tolist()
        assert dict(zip(ids, occurrences, strict=True)) == {
            term_id(term): count for term, count in expected.items()
        }
        assert length == expected.total()
        start += distinct
    assert start == len(found.ids) == len(found.occurrences)


def test_ids_are_the_same_in_every_process() -> None:
    # Indexes on disk hold these.
    assert term_id("rotat") == 0x9FB3_663E_372D_8E13


def test_a_full_cache_starts_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [f"word{number}" for number in range(50)]
    expected = tokenise_many(words).ids.tolist()
    monkeypatch.setattr(tokens, "CACHED_WORDS_MAX", 7)
    monkeypatch.setattr(tokens, "_ids", tokens._WordIds())
    assert tokenise_many(words).ids.tolist() == expected
    assert tokenise_many(words).ids.tolist() == expected
    assert len(tokens._ids) <= 7


def test_very_long_words_are_not_cached() -> None:
    word = "a1" * 50_000
    assert tokenise_many([word]).ids.tolist() == [term_id(word)]
    assert word not in tokens._ids


def test_threads_do_not_disturb_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "CACHED_WORDS_MAX", 50)
    texts = [" ".join(f"{stem}{n}ing" for n in range(30)) for stem in ("walk", "talk", "rest")]
    expected = [tokenise(text) for text in texts]
    with ThreadPoolExecutor(6) as pool:
        for _ in range(20):
            assert list(pool.map(tokenise, texts * 4)) == expected * 4
            many = list(pool.map(lambda text: tokenise_many([text]).ids.tolist(), texts * 4))
            assert many == [[term_id(term) for term in terms] for terms in expected] * 4
