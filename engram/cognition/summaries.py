"""A summary in the words of what it sums up: the most central sentences, in order of time. Pure.

SumBasic (Nenkova & Vanderwende 2005) over documents: a word is as likely as the share of the texts
that have it; a sentence is worth the mean of its words, drawn towards nothing where it has few, so
that what recurs comes first and a mere exclamation does not. The words of a sentence that was taken
are squared, so that the next one says something else. Equal sentences are one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from engram.indexes.tokens import tokenise

SENTENCES_MAX: Final = 4
SENTENCE_CHARACTERS_MAX: Final = 300
FEW_WORDS: Final = 2
"""A sentence is worth as if it had so many words more that nobody else has."""
_CUT: Final = "…"
_BETWEEN: Final = "\n"
_SENTENCE_END: Final = re.compile(
    r"(?<=[.!?…])[\"'”’)\]]*\s+|(?<=[。！？])|[\r\n\x85\u2028\u2029]+"
)


class Summary(NamedTuple):
    """A content and its citations, (number of the source, first character, one past the last)."""

    content: str
    citations: tuple[tuple[int, int, int], ...]


class _Sentence(NamedTuple):
    source: int
    text: str
    words: frozenset[str]


def extract(texts: Sequence[tuple[int, str]]) -> Summary:
    """The summary of some texts in order of time, each with the number of its source."""
    sentences = list(_sentences(texts))
    chosen = sorted(_central(sentences, texts))
    content, citations = "", list[tuple[int, int, int]]()
    for number in chosen:
        start = len(content) + len(_BETWEEN) * bool(content)
        content += _BETWEEN * bool(content) + sentences[number].text
        citations.append((sentences[number].source, start, len(content)))
    return Summary(content, tuple(citations))


def _sentences(texts: Sequence[tuple[int, str]]) -> Iterator[_Sentence]:
    seen = set[str]()
    for source, text in texts:
        for piece in _SENTENCE_END.split(text):
            sentence = _shortened(piece.strip())
            if sentence and sentence.casefold() not in seen:
                seen.add(sentence.casefold())
                yield _Sentence(source, sentence, frozenset(tokenise(sentence)))
    if not seen:  # white space alone is a content, too
        source, text = texts[0]
        yield _Sentence(source, text[:SENTENCE_CHARACTERS_MAX], frozenset())


def _shortened(sentence: str) -> str:
    if len(sentence) <= SENTENCE_CHARACTERS_MAX:
        return sentence
    cut = sentence[: SENTENCE_CHARACTERS_MAX - len(_CUT)]
    return (cut.rsplit(None, 1)[0] if len(cut.split(None, 1)) > 1 else cut) + _CUT


def _central(sentences: Sequence[_Sentence], texts: Sequence[tuple[int, str]]) -> Iterator[int]:
    shared = Counter(word for _, text in texts for word in set(tokenise(text)))
    share = {word: count / len(texts) for word, count in shared.items()}
    left = list(range(len(sentences)))
    for _ in range(min(SENTENCES_MAX, len(sentences))):
        best = max(left, key=lambda number: (_worth(sentences[number], share), -number))
        left.remove(best)
        yield best
        share.update((word, share.get(word, 0.0) ** 2) for word in sentences[best].words)


def _worth(sentence: _Sentence, share: dict[str, float]) -> float:
    # Sorted, so that the sum is the same whatever order a set of words is in.
    total = sum(share.get(word, 0.0) for word in sorted(sentence.words))
    return round(total / (len(sentence.words) + FEW_WORDS), 9)
