"""Summaries: in the words of the sources, in order of time, bounded, and with what came whence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engram.cognition.summaries import SENTENCE_CHARACTERS_MAX, SENTENCES_MAX, extract


def test_what_recurs_comes_before_what_is_said_once() -> None:
    texts = [
        (2, "Wow! The deploy broke checkout on Friday. I had a sandwich with cheese."),
        (0, "Checkout broke after the Friday deploy. The weather was fine. Bye now!"),
        (1, "Another Friday deploy broke checkout. My cat is called Pixel. So tired."),
    ]
    summary = extract(texts)
    lines = summary.content.split("\n")
    assert len(lines) == SENTENCES_MAX
    for line in (
        "The deploy broke checkout on Friday.",
        "Checkout broke after the Friday deploy.",
        "Another Friday deploy broke checkout.",
    ):
        assert line in lines


def test_each_sentence_says_where_it_came_from_in_order_of_time() -> None:
    texts = [(4, "First things first."), (1, "Second things second."), (9, "Third things third.")]
    summary = extract(texts)
    assert [source for source, _, _ in summary.citations] == [4, 1, 9]
    cited = [summary.content[start:end] for _, start, end in summary.citations]
    assert cited == [text for _, text in texts]


@given(st.lists(st.text(min_size=1), min_size=1, max_size=8))
def test_whatever_is_said_can_be_summed_up(texts: list[str]) -> None:
    summary = extract(list(enumerate(texts)))
    assert summary.content
    assert len(summary.content) <= SENTENCES_MAX * (SENTENCE_CHARACTERS_MAX + 1)
    assert 1 <= len(summary.citations) <= SENTENCES_MAX
    last = -1
    for source, start, end in summary.citations:
        assert last < start < end <= len(summary.content)
        sentence = summary.content[start:end]
        assert sentence.removesuffix("…") in texts[source]
        last = end
    assert last == len(summary.content)


@pytest.mark.parametrize("same", ["The same.", "  The same.\n", "THE SAME."])
def test_equal_sentences_are_one(same: str) -> None:
    assert extract([(0, "The same."), (1, same), (2, same)]).content == "The same."


@pytest.mark.parametrize("unit", ["word ", "word", "\U0001f600", "猫"])
def test_a_long_sentence_is_cut(unit: str) -> None:
    content = extract([(0, unit * 1_000)]).content
    assert len(content) <= SENTENCE_CHARACTERS_MAX
    assert content.endswith("…")
    assert content.removesuffix("…").strip() in unit * 1_000


def test_sentences_of_other_scripts_end_too() -> None:
    summary = extract([(0, "猫は眠る。犬は走る。鳥は飛ぶ。")])
    assert summary.content == "猫は眠る。\n犬は走る。\n鳥は飛ぶ。"
