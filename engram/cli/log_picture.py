"""A log drawn in a terminal: one bar per segment, and the sizes of records as bars."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from engram.cli import output
from engram.cli.render import size_text

if TYPE_CHECKING:
    from engram.inspect.figures import Bucket, Span

BAR_CELLS_MAX: Final = 96
BAR_CELLS_MIN: Final = 10
_FALLBACK: Final = (80, 24)
_MARKS: Final = {
    "used": ("\N{FULL BLOCK}", "#"),
    "zeros": ("\N{LIGHT SHADE}", "."),
    "damaged": ("\N{BALLOT X}", "X"),
}
# SGR codes; shapes differ too, so that nothing depends on seeing them.
_COLOURS: Final = {"used": "32", "zeros": "2", "damaged": "1;31"}


def bar_cells() -> int:
    """How many characters a bar may take in this terminal."""
    columns = shutil.get_terminal_size(_FALLBACK).columns
    return max(BAR_CELLS_MIN, min(BAR_CELLS_MAX, columns - 4))


def cells_of(spans: Sequence[Span], size_bytes: int, cells: int) -> list[str]:
    """What each cell of a bar shows. A cell that holds any damage shows that; zeros come last."""
    shown = ["zeros"] * cells
    for what in ("used", "damaged"):
        for span in spans:
            if span.what == what and span.end > span.start:
                first = span.start * cells // size_bytes
                last = -(-span.end * cells // size_bytes) - 1
                shown[first : last + 1] = [what] * (last + 1 - first)
    return shown


def segment_bar(spans: Sequence[Span], size_bytes: int, largest_bytes: int) -> str:
    """A segment as a bar, whose length is to the longest bar as its size to the largest."""
    if size_bytes == 0:
        return ""
    cells = max(1, round(bar_cells() * size_bytes / largest_bytes))
    return "".join(_painted(what) for what in _runs(cells_of(spans, size_bytes, cells)))


def legend() -> str:
    """What the marks stand for."""
    return "   ".join(f"{_painted((what, 1))} {what}" for what in _MARKS)


def histogram_lines(buckets: Iterable[Bucket]) -> Iterator[str]:
    """A line for each range of sizes: its least, a bar, how many."""
    buckets = list(buckets)
    most = max(bucket.records for bucket in buckets)
    cells = max(BAR_CELLS_MIN, bar_cells() // 2)
    for bucket in buckets:
        filled = -(-bucket.records * cells // most)  # what is there is seen
        bar = _painted(("used", filled)) if filled else ""
        yield f"{size_text(bucket.least):>10}  {bar} {bucket.records}".rstrip()


def _runs(cells: Sequence[str]) -> Iterator[tuple[str, int]]:
    start = 0
    for at in range(1, len(cells) + 1):
        if at == len(cells) or cells[at] != cells[start]:
            yield cells[start], at - start
            start = at


def _painted(run: tuple[str, int]) -> str:
    what, cells = run
    marks = _MARKS[what][0 if output.is_utf8(sys.stdout) else 1] * cells
    if output.is_terminal(sys.stdout) and not os.environ.get("NO_COLOR"):
        return f"\x1b[{_COLOURS[what]}m{marks}\x1b[0m"
    return marks
