"""What commands print: text for people, JSON for programs, errors as one line or one document.

JSON is always UTF-8. Text survives any terminal: what its encoding cannot show is escaped, and so
is what would control it. Tables are laid out by rich on a terminal and plainly everywhere else.
"""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, TextIO

import typer

from engram.errors import EngramError

if TYPE_CHECKING:
    from rich.console import Console, OverflowMethod
    from rich.table import Table

_HARMLESS_FORMAT_CHARACTERS: Final = "\u200c\u200d"
"""They join letters and emoji; the others of their category reorder or hide what stands there."""
_ESCAPED: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_GAP: Final = 2
LAST_COLUMN_MIN: Final = 10
"""What the last column of a table keeps at least: any figure has room in it."""


class OutputFailed(EngramError):
    """Standard output takes nothing more; what the command did before is done."""

    problem: ClassVar[str] = "output-failed"
    title: ClassVar[str] = "Output failed"


def prepare_streams() -> None:
    """Never fail for a character that the terminal cannot show, nor for a closed stream."""
    # Python has None for a stream that was closed before it began, as by `>&-`.
    sys.stdout = sys.stdout or _open_nowhere()
    sys.stderr = sys.stderr or _open_nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def printable(text: str) -> str:
    """`text` with all that is not to reach a terminal written out: contents come from anywhere.

    These are control and format characters, line breaks among them, and what the terminal's
    encoding cannot show.
    """
    if not (text.isascii() and text.isprintable()):
        text = "".join(_shown(character) for character in text)
        encoding = sys.stdout.encoding or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    return text


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _ESCAPED or character in _HARMLESS_FORMAT_CHARACTERS:
        return character
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def one_line(text: str) -> str:
    """`text` with each run of white space as one space, and fit for a terminal."""
    return printable(" ".join(text.split()))


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
    """Columns with a heading. On a terminal the last one is cut to what fits, else nothing is.

    What is to be read or pasted is never cut: where a terminal is too narrow for the columns before
    the last one, lines are longer than it is wide.
    """
    table = [list(row) for row in rows]
    if is_terminal(sys.stdout):
        widths = _widths([titles, *table])
        console = console_on(sys.stdout)
        fixed = sum(widths[:-1]) + _GAP * (len(widths) - 1)
        widths[-1] = min(widths[-1], max(console.width - fixed, LAST_COLUMN_MIN))
        console.width = fixed + widths[-1] + _GAP
        with console.capture() as captured:
            console.print(_rich_table(titles, table, widths))
        for line in captured.get().splitlines():
            print_line(line.rstrip())
        return
    for line in _plain_table([list(titles), *table]):
        print_line(line)


def rich_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table for rich to lay out anew whenever it draws. Where a terminal is too narrow for it,
    cells go on below.
    """
    return _rich_table(titles, rows, None)


def _rich_table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int] | None
) -> Table:
    """The table for a terminal. Cells are text: nothing in them is taken for markup."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    if widths is None:
        for title in titles:
            table.add_column(title, overflow="fold")
    else:
        cut: OverflowMethod = "ellipsis" if is_utf8(sys.stdout) else "crop"
        for title, width in zip(titles, widths, strict=True):
            table.add_column(title, no_wrap=True, width=width, overflow=cut)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _plain_table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    from rich.cells import cell_len

    widths = _widths(rows)
    for row in rows:
        cells = [
            cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)
        ]
        yield (" " * _GAP).join(cells).rstrip()


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    from rich.cells import cell_len

    return [max(map(cell_len, column)) for column in zip(*rows, strict=True)]


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Names and values, one a line."""
    pairs = list(fields)
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        print_line(f"{name.ljust(width)}  {value}".rstrip())


def is_terminal(stream: TextIO) -> bool:
    """Whether a terminal that can do more than print lines will show what is written."""
    return stream.isatty() and os.environ.get("TERM", "") not in {"", "dumb", "unknown"}


def console_on(stream: TextIO) -> Console:
    """rich's view of a terminal. Colours are left out where NO_COLOR is set (no-color.org)."""
    from rich.console import Console

    return Console(
        file=stream,
        force_terminal=True,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        markup=False,
        emoji=False,
        highlight=False,
    )


def print_hint(text: str) -> None:
    """A line for people, on stderr so that it never mixes with results.

    Where stderr takes nothing, there is nobody to tell; what the command did stays what it is.
    """
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        _give_up(sys.stderr)


def print_error(error: EngramError, *, as_json: bool) -> None:
    if as_json:
        from engram.server.problems import encode_problem, problem_of

        print_hint(encode_problem(problem_of(error)).decode())
    else:
        print_hint("engram: " + one_line(error.detail))


def is_utf8(stream: TextIO) -> bool:
    return (stream.encoding or "").lower().replace("-", "") in {"utf8", "utf8sig"}


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """Whoever reads our output may have seen enough, as `head` does: then end, without a word."""
    try:
        yield
    except BrokenPipeError:
        _give_up(sys.stdout)
        raise typer.Exit from None
    except OSError as error:
        # A full disk behind `>`, for one.
        raise output_failed(error) from None


def output_failed(error: OSError) -> OutputFailed:
    """The error for a standard output that takes nothing more; from here on it is given nothing."""
    _give_up(sys.stdout)
    return OutputFailed(f"the output cannot be written: {error.strerror}")


def _give_up(stream: TextIO) -> None:
    """What is still buffered goes nowhere, so that the interpreter's last flush succeeds."""
    try:
        with _open_nowhere() as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
    except (OSError, ValueError):
        pass  # it has no file behind it that could fail again


def _open_nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")
