"""Runs a target under atheris, with the arguments of libFuzzer (`-runs=N`, `-max_total_time=S`)."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import atheris

Target = Callable[[bytes], None]

CORPUS: Final = Path(__file__).parent / "corpus"
DEFAULTS: Final = ("-max_len=4096", "-timeout=20")
"""Long enough for whatever the targets build of it; an input that takes 20 s is a hang."""


class Surprise(Exception):
    """A property does not hold."""


def corpus_of(name: str) -> Path:
    """The seeds of a target, as :mod:`fuzz.corpus` wrote them."""
    return CORPUS / name


def fuzz(target: Target, name: str, dictionary: Iterable[bytes] = ()) -> None:
    """Fuzz until libFuzzer's limits are reached; exits the process.

    Starts from the seeds of the target called `name`, and from any folder that the command line
    names: libFuzzer keeps new inputs in the first of these, and goes on from them the next time.
    Files that it names are only executed.
    An input that fails is left in the working directory as `crash-…`.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = sys.argv[1:]
        named = [argument for argument in given if not argument.startswith("-")]
        arguments = [sys.argv[0], *DEFAULTS, *given]
        if not named:
            arguments.append(folder)  # the first folder is written to, which the seeds are not
        if not any(Path(one).is_file() for one in named):
            arguments.append(str(corpus_of(name)))
        if lines := [f'"{_escaped(word)}"\n' for word in dictionary]:
            words = Path(folder).with_suffix(".words")
            words.write_text("".join(lines))
            arguments.append(f"-dict={words}")
        try:
            atheris.Setup(arguments, target)
            atheris.Fuzz()
        finally:
            if lines:
                words.unlink()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)
