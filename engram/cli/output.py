"""What commands print: text for people, JSON for programs, errors as one line or one document.

JSON is always UTF-8. Text survives any terminal: what its encoding cannot show is escaped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

if TYPE_CHECKING:
    from engram.errors import EngramError


def prepare_streams() -> None:
    """Never fail for a character that the terminal cannot show, nor for a closed stream."""
    # Python has None for a stream that was closed before it began, as by `>&-`.
    sys.stdout = sys.stdout or _open_nowhere()
    sys.stderr = sys.stderr or _open_nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_line(text: str) -> None:
    """One line on stdout, at once: the reader may be waiting for it."""
    with _reader_may_leave():
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def print_json(document: Any) -> None:
    """One JSON document on a line of its own."""
    from engram.server.wire import encode

    with _reader_may_leave():
        sys.stdout.buffer.write(encode(document) + b"\n")
        sys.stdout.flush()


def print_table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Left-aligned columns with a heading."""
    table = [list(titles), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(titles))]
    for row in table:
        print_line("  ".join(map(str.ljust, row, widths)).rstrip())


def print_hint(text: str) -> None:
    """A line for people, on stderr so that it never mixes with results."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def print_error(error: EngramError, *, as_json: bool) -> None:
    if as_json:
        from engram.server.problems import encode_problem, problem_of

        print_hint(encode_problem(problem_of(error)).decode())
    else:
        print_hint("engram: " + " ".join(error.detail.split()))


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """Whoever reads our output may have seen enough, as `head` does: then end, without a word."""
    try:
        yield
    except BrokenPipeError:
        # What is still buffered goes nowhere, so that the interpreter's last flush succeeds.
        with _open_nowhere() as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        raise typer.Exit from None


def _open_nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")
