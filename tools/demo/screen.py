"""The terminal: a console that survives any of them, and what the scenes show on it.

Only the sixteen colours every terminal theme defines are used, and body text has the terminal's
own. rich leaves colours out without a terminal and with NO_COLOR, and draws boxes in ASCII where
the stream is not UTF-8; single characters that such a stream cannot show are replaced one for one,
so that nothing loses its place.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import sys
import unicodedata
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from io import TextIOWrapper
from typing import Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from engram import Event, Recall
from tools.demo.turns import PLANNER, REVIEWER

WIDTH_MAX: Final = 112
SIDE_BY_SIDE_WIDTH_MIN: Final = 72
FEED_ROWS: Final = 7
FRAME_S: Final = 0.08
WRONG_SHOWN_MAX: Final = 5

COLOURS: Final = {PLANNER: "cyan", REVIEWER: "magenta"}
GOOD: Final = "green"
BAD: Final = "bold red"
QUIET: Final = "dim"

_ERRORS: Final = "engram-demo"
_PLAIN: Final = dict(zip("✓✗→·…–—’“”●○─│", '+x>-.--\'""*o-|', strict=True))


def open_console() -> Console:
    """The console on stdout, as wide as the terminal but for very wide ones."""
    codecs.register_error(_ERRORS, _in_plain_characters)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors=_ERRORS)
    console = Console(markup=False, highlight=False, emoji=False)
    if console.width > WIDTH_MAX:
        console.width = WIDTH_MAX
    return console


def _in_plain_characters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(character: str) -> str:
    """One ASCII character for another, the letter for one with an accent."""
    bare = unicodedata.normalize("NFKD", character)[0]
    return _PLAIN.get(character, bare if bare.isascii() else "?")


class Screen:
    """What the scenes print; `fast` leaves out the pauses that let people read along."""

    def __init__(self, console: Console, *, fast: bool) -> None:
        self.console = console
        self.fast = fast

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(0 if self.fast else seconds)

    def title(self, text: str) -> None:
        self.console.print()
        self.console.print(Rule(Text(f" {text} ", style="bold"), style=QUIET, align="left"))

    def say(self, text: str, style: str = "") -> None:
        self.console.print(Text(text, style=style))

    def command(self, text: str, comment: str = "") -> None:
        """A command line, to be copied: never broken by us, only by the terminal."""
        line = Text.assemble(("$ ", QUIET), (text, "bold"))
        if comment:
            line.append(f"  # {comment}", style=QUIET)
        self.console.print(line, soft_wrap=True)

    def output(self, text: str) -> None:
        """What a command said."""
        self.console.print(Padding(Text(text.rstrip("\n")), (0, 0, 0, 2)))

    def event(self, mark: str, text: str, style: str) -> None:
        self._marked(Text(mark, style=style), Text(text))

    def checked(self, statement: str) -> None:
        """A statement that was found to be true."""
        self._marked(Text("✓", style=GOOD), Text(statement))

    def failed(self, statement: str, wrong: Sequence[str]) -> None:
        """A statement that is not true, and what stands against it."""
        self._marked(Text("✗ check failed:", style=BAD), Text(statement))
        for line in wrong[:WRONG_SHOWN_MAX]:
            self.console.print(Padding(Text(line), (0, 0, 0, 4)))
        if len(wrong) > WRONG_SHOWN_MAX:
            self.console.print(f"    and {len(wrong) - WRONG_SHOWN_MAX} more")

    def show(self, *parts: RenderableType) -> None:
        for part in parts:
            self.console.print(part)

    @asynccontextmanager
    async def live(self, render: Callable[[], RenderableType]) -> AsyncIterator[None]:
        """Show what `render` gives, anew for every frame; its last state stays on the screen.

        Without a terminal that moves, the last state is all that is printed.
        """
        if not self.console.is_terminal or self.console.is_dumb_terminal:
            yield
            self.console.print(render())
            return
        with Live(render(), console=self.console, auto_refresh=False) as live:

            async def tick() -> None:
                while True:
                    live.update(render(), refresh=True)
                    await asyncio.sleep(FRAME_S)

            ticking = asyncio.create_task(tick())
            try:
                yield
            finally:
                ticking.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await ticking
                live.update(render(), refresh=True)

    def pair(self, left: RenderableType, right: RenderableType) -> RenderableType:
        """Two things side by side, or one below the other where the terminal is narrow."""
        if self.console.width < SIDE_BY_SIDE_WIDTH_MIN:
            return Group(left, right)
        grid = Table.grid(expand=True, padding=0)
        grid.add_column(ratio=1)
        grid.add_column(ratio=1)
        grid.add_row(left, right)
        return grid

    def _marked(self, mark: Text, text: Text) -> None:
        grid = Table.grid(padding=(0, 1))
        grid.add_column(no_wrap=True)
        grid.add_column()
        grid.add_row(mark, text)
        self.console.print(grid)


def space_name(space: str) -> Text:
    return Text(space, style=f"bold {COLOURS[space]}")


def progress(done: dict[str, int], totals: dict[str, int]) -> RenderableType:
    """A bar for each space."""
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(no_wrap=True, width=8)
    grid.add_column(ratio=1)
    grid.add_column(no_wrap=True, justify="right", width=22)
    for space, total in totals.items():
        bar = ProgressBar(
            total, done[space], complete_style=COLOURS[space], finished_style=COLOURS[space]
        )
        grid.add_row(space_name(space), bar, f"{done[space]}/{total} on disk")
    return grid


def feed(
    recent: Iterable[Event], counts: dict[str, int], lost_at: dict[str, int], *, wide: bool
) -> RenderableType:
    """The latest events of all spaces, and how many came of each."""
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(no_wrap=True, width=8)
    grid.add_column(no_wrap=True, justify="right", width=4)
    grid.add_column(no_wrap=True, width=8)
    grid.add_column(no_wrap=True, ratio=1, overflow="ellipsis")
    rows = list(recent)[-FEED_ROWS:]
    for event in rows:
        verb = event.type.rpartition(".")[2]
        position = Text(str(event.position), style=QUIET)
        grid.add_row(space_name(event.memory_space_id), position, verb, _told(event, wide=wide))
    for _ in range(FEED_ROWS - len(rows)):
        grid.add_row("", "", "", "")
    foot = Text()
    for space, count in counts.items():
        foot.append(" · " if foot else " ")
        foot.append(space, style=f"bold {COLOURS[space]}")
        foot.append(f" {count} events")
        if space in lost_at:
            foot.append(f", lost at {lost_at[space]}", style=BAD)
    foot.append(" ")
    return Panel(
        grid,
        title=Text(" live feed, both spaces "),
        title_align="left",
        subtitle=foot,
        subtitle_align="left",
        border_style=BAD if lost_at else QUIET,
        box=box.ROUNDED,
    )


def _told(event: Event, *, wide: bool) -> Text:
    if event.memory is not None:
        told = Text(event.memory.id, style="bold")
        return told.append(f"  {event.memory.content}", style="not bold") if wide else told
    if event.results is not None:
        found = ", ".join(result.id for result in event.results[:3])
        return Text(f"{len(event.results)} answers: {found}")
    return Text("")


def answers(space: str, recall: Recall, shown: int) -> RenderableType:
    """One agent's answers to a question, best first."""
    parts: list[RenderableType] = []
    for hit in list(recall)[:shown]:
        sure = hit.confidence
        figures = Text.assemble(
            (f"{hit.score:.2f}", "bold"),
            (f"  confidence {sure.point:.2f} ({sure.lower:.2f}–{sure.upper:.2f})", QUIET),
        )
        parts += [
            figures,
            Text(hit.memory.id, style=COLOURS[space]),
            Text(hit.memory.content),
            Text(""),
        ]
    return Panel(
        Group(*parts[:-1]),
        title=space_name(space),
        title_align="left",
        border_style=COLOURS[space],
        box=box.ROUNDED,
    )


def summary(spaces: Sequence[str], rows: Mapping[str, Mapping[str, int]]) -> RenderableType:
    """Figures of each space, a row for each."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("")
    for space in spaces:
        table.add_column(space_name(space), justify="right")
    for name, figures in rows.items():
        table.add_row(name, *(str(figures[space]) for space in spaces))
    return table
