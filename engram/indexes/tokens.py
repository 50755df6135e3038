"""Text to terms: one tokeniser for what is remembered and for what is asked, in every script.

Theory of operation. Text is normalised (Unicode NFKC, case folded) and cut into words: runs of
letters, digits and combining marks, with apostrophes inside. Each word becomes at most one term:
English stop words go, possessives and elisions lose their small part (Mel's -> mel, l'amour ->
amour), and what is left is stemmed (Snowball English, Porter 2001). Scripts written without spaces
(Han, kana, Hangul, Thai, Lao, Khmer, Burmese) become overlapping pairs of characters, a run of one
stays a single one. A text of nothing but stop words keeps them: "Who are you?" must be findable.
No character is ever syntax.

In bulk a term is its id, the first 8 bytes of BLAKE2b of its UTF-8 form, so that indexes keep plain
uint64 columns and no vocabulary, and ids mean the same in every process. (Among a million terms
any two share an id with a chance of 3e-8; their postings would then be one.) The way from a word
to its id is cached, since texts repeat their words; the cache is bounded and shared by all threads.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import blake2b
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import Stemmer

# Longer words (encoded data, mostly) are neither stemmed nor cached.
WORD_CHARACTERS_MAX: Final = 64
CACHED_WORDS_MAX: Final = 1 << 16
# A head is a name or a title; what goes on for longer is neither.
HEAD_CHARACTERS_MAX: Final = 80
HEAD_WORDS_MAX: Final = 8
STOPPED: Final = 0

_STOP_LIST: Final = """
a about am an and are as at be been being but by can cannot could did do does for from had has have
he her hers him his how i if in into is it its me my no not of on or our ours she should so that the
their theirs them then there these they this those to us was we were what when where which who whom
whose why will with would you your yours
"""
_STOP_WORDS: Final = frozenset(_STOP_LIST.split())
_CONTRACTED: Final = frozenset(("s", "ll", "re", "ve", "d", "m"))
_ELIDED: Final = frozenset(("l", "d", "j", "m", "t", "s", "n", "c", "qu"))

_ASCII_WORDS: Final = "".join(
    chr(code).lower() if chr(code).isalnum() or chr(code) == "'" else " " for code in range(128)
)
# Punctuation that word processors and phones put where a keyboard has ASCII.
_TYPOGRAPHIC: Final = (
    *(("\u2019", "'"), ("\u2018", "'"), ("\u02bc", "'"), ("\u201c", " "), ("\u201d", " ")),
    *(("\u2013", " "), ("\u2014", " "), ("\u2026", " "), ("\u00a0", " ")),
)
# Invisible inside words: soft hyphen, joiners, byte order mark.
_IGNORED: Final = re.compile("[\u00ad\u200c\u200d\u2060\ufeff]")
_UNSPACED: Final = re.compile(
    "["
    "\u0e01-\u0e3a\u0e40-\u0e4e"  # Thai
    "\u0e81-\u0ebd\u0ec0-\u0ece\u0edc-\u0edf"  # Lao
    "\u1000-\u103f\u1050-\u108f"  # Burmese
    "\u1780-\u17d3"  # Khmer
    "\u3005-\u3007\u3041-\u3096\u3099\u309a\u309d-\u309f"  # ideographic marks, Hiragana
    "\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"  # Katakana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"  # Han
    "\uac00-\ud7a3"  # Hangul
    "]+"
)


# A name, a title or a sentence ends with one of these.
_HEAD_END: Final = re.compile(
    r"[:.?!,;](?=\s|$)|[\n\r(\u2014\u2013\u3002\uff1a\uff1f\uff01\u3001\uff0c]|\s-\s"
)


class Terms(NamedTuple):
    """The terms of some texts, text after text.

    `ids` and `occurrences` are uint64 and int64 (terms,): the distinct terms of each text, in order
    of first appearance, and how often each occurs there. `distinct` and `lengths` are int64
    (texts,): how many entries belong to each text, and how long it is in terms. `heads` is uint8
    (texts,): how many of a text's first entries are its head, the name that it begins with, as in
    "Ada Lovelace: wrote the first program" or "Berlin"; 0 without one.
    """

    ids: npt.NDArray[np.uint64]
    occurrences: npt.NDArray[np.int64]
    distinct: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    heads: npt.NDArray[np.uint8]


def tokenise(text: str) -> list[str]:
    """The terms of one text, in order and with repetitions."""
    words = _words(text)
    return [term for word in words if (term := _term(word))] or _stopped_terms(words)


def tokenise_many(texts: Sequence[str]) -> Terms:
    """The terms of many texts, counted: `term_id` of each term that `tokenise` gives."""
    ids: list[int] = []
    occurrences: list[int] = []
    distinct: list[int] = []
    lengths: list[int] = []
    heads = bytearray()
    id_of = _ids.__getitem__
    for text in texts:
        words = _words(text)
        # STOPPED is the one id that is false.
        kept = list(filter(None, map(id_of, words))) or list(map(term_id, _stopped_terms(words)))
        counted = Counter(kept)
        ids.extend(counted)
        occurrences.extend(counted.values())
        distinct.append(len(counted))
        lengths.append(len(kept))
        heads.append(len(set(filter(None, map(id_of, _head(text))))))
    return Terms(
        np.fromiter(ids, np.uint64, len(ids)),
        np.fromiter(occurrences, np.int64, len(ids)),
        np.fromiter(distinct, np.int64, len(texts)),
        np.fromiter(lengths, np.int64, len(texts)),
        np.frombuffer(heads, np.uint8),
    )


def _head(text: str) -> list[str]:
    """The words of a text's head, none if it has none."""
    end = _HEAD_END.search(text, 0, HEAD_CHARACTERS_MAX)
    if end is None and len(text) > HEAD_CHARACTERS_MAX:
        return []
    words = _words(text if end is None else text[: end.start()])
    return words if len(words) <= HEAD_WORDS_MAX else []


def term_id(term: str) -> int:
    """The id of a term: 64 bits, never 0."""
    return int.from_bytes(blake2b(term.encode(), digest_size=8).digest(), "little") or 1


def _words(text: str) -> list[str]:
    """Cut text into case-folded words that may hold apostrophes."""
    if not text.isascii():
        for typographic, plain in _TYPOGRAPHIC:
            text = text.replace(typographic, plain)
        if not text.isascii():
            return _words_unicode(text)
    return text.translate(_ASCII_WORDS).split()


def _words_unicode(text: str) -> list[str]:
    # Folding case can undo the normal form, hence twice (Unicode's own NFKC_Casefold does so too).
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = _IGNORED.sub("", text).replace("_", " ")
    text = _UNSPACED.sub(_spaced_pairs, text)
    words: list[str] = _word_pattern().findall(text)
    return words


def _spaced_pairs(run: re.Match[str]) -> str:
    characters = run[0]
    if len(characters) == 1:
        return f" {characters} "
    return f" {' '.join(map(str.__add__, characters, characters[1:]))} "


@cache
def _word_pattern() -> re.Pattern[str]:
    r"""Words with apostrophes inside. `\w` leaves out combining marks, which many scripts need."""
    ranges = "".join(
        f"{chr(first)}-{chr(last)}" for first, last in _ranges_of_marks(range(0x300, 0x20000))
    )
    return re.compile(rf"[\w{ranges}]+(?:'[\w{ranges}]+)*")


def _ranges_of_marks(codes: range) -> Iterator[tuple[int, int]]:
    first: int | None = None
    for code in codes:
        if unicodedata.category(chr(code)).startswith("M"):
            first = code if first is None else first
        elif first is not None:
            yield first, code - 1
            first = None


def _term(word: str) -> str:
    """The term of a word, "" for a stop word."""
    bare = _without_apostrophes(word)
    return "" if bare in _STOP_WORDS else _stem(bare)


def _stopped_terms(words: list[str]) -> list[str]:
    return [_stem(bare) for word in words if (bare := _without_apostrophes(word))]


def _without_apostrophes(word: str) -> str:
    """don't -> not, Mel's -> mel, l'amour -> amour, O'Brien -> obrien, 'quoted' -> quoted."""
    if "'" not in word:
        return word
    if word.endswith("n't"):
        return "not"
    parts = word.strip("'").split("'")
    if len(parts) > 1 and parts[-1] in _CONTRACTED:
        parts.pop()
    if len(parts) > 1 and parts[0] in _ELIDED:
        parts.pop(0)
    return "".join(parts)


_stemmer = Stemmer.Stemmer("english", 0)
# A stemmer keeps its working buffer between calls; two threads must not share it.
_stemmer_lock = threading.Lock()


def _stem(word: str) -> str:
    if len(word) > WORD_CHARACTERS_MAX:
        return word
    with _stemmer_lock:
        stem: str = _stemmer.stemWord(word)
    return stem


class _WordIds(dict[str, int]):
    """Word -> id of its term, or STOPPED; fills itself, and starts afresh when it is full."""

    def __missing__(self, word: str) -> int:
        term = _term(word)
        found = term_id(term) if term else STOPPED
        if len(word) <= WORD_CHARACTERS_MAX:
            if len(self) >= CACHED_WORDS_MAX:
                self.clear()
            self[word] = found
        return found


_ids = _WordIds()
