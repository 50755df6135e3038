"""What commands print: text for people, JSON for programs, errors as one line or one document.

JSON is always UTF-8. Text survives any terminal: what its encoding cannot show is escaped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engram.errors import EngramError


def prepare_streams() -> None:
    """Never fail for a character that the terminal cannot show."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def print_line(text: str) -> None:
    """One line on stdout, at once: the reader may be waiting for it."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def print_json(document: Any) -> None:
    """One JSON document on a line of its own."""
    from engram.server.wire import encode

    sys.stdout.flush()
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


def discard_stdout() -> None:
    """After a broken pipe: let the interpreter's last flush go nowhere instead of failing."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
