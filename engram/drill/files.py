"""Looks for what was purged in every file of a data root, whatever the file is."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from engram.drill.effects import Violation

WORD_DIGITS: Final = 12
"""The word that stands in one content only is a number of so many hexadecimal digits."""
_DIGITS: Final = re.compile(rb"[0-9a-f]{%d,}" % WORD_DIGITS)


def find_words(root: Path, gone: Mapping[str, str]) -> Iterator[Violation]:
    """The files that hold one of the words, which each come with the space it was written in."""
    words = {word.encode(): space for word, space in gone.items()}
    if not words:
        return
    for path in sorted(root.rglob("*")):
        try:
            data = path.read_bytes()
        except (FileNotFoundError, IsADirectoryError):
            continue  # a server removes files while it runs
        for word in words.keys() & _words_in(data):
            where = f"{path.relative_to(root)}, at byte {data.index(word)}"
            detail = f"the word {word.decode()} of a content that was purged is in {where}"
            yield Violation(kind="purged", detail=detail, space=words[word])


def _words_in(data: bytes) -> set[bytes]:
    found: set[bytes] = set()
    for match in _DIGITS.finditer(data):
        run = match.group()
        last = len(run) - WORD_DIGITS
        found.update(run[first : first + WORD_DIGITS] for first in range(last + 1))
    return found
