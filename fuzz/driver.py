"""Runs a target under atheris, with the arguments of libFuzzer (`-runs=N`, `-max_total_time=S`)."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import atheris

Target = Callable[[bytes], None]


def fuzz(target: Target, seeds: Iterable[bytes], dictionary: Iterable[bytes] = ()) -> None:
    """Fuzz until libFuzzer's limits are reached; exits the process.

    Starts from `seeds`, generated for this run alone, beside any corpus folder that the command
    line names. An input that fails is left in the working directory as `crash-…`.
    """
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "seeds")
        corpus.mkdir()
        for number, seed in enumerate(seeds):
            Path(corpus, f"{number:04}").write_bytes(seed)
        arguments = [*sys.argv, str(corpus)]
        if lines := [f'"{_escaped(word)}"\n' for word in dictionary]:
            words = Path(folder, "words")
            words.write_text("".join(lines))
            arguments.append(f"-dict={words}")
        atheris.Setup(arguments, target)
        atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)
