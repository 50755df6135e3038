"""`engram watch`: the feed of a space in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Final

import typer

from engram.cli import output, render
from engram.cli.connection import opened_space
from engram.cli.options import (
    ConfigOption,
    DataRootOption,
    JsonOption,
    Named,
    ServerOption,
    SpaceOption,
)
from engram.cli.settings import read_settings
from engram.errors import Malformed
from engram.memory.event_types import EVENT_TYPES, EventType

if TYPE_CHECKING:
    from engram import Event


_TYPE_CHARACTERS: Final = max(map(len, EVENT_TYPES))


def watch(
    after: Annotated[
        int | None,
        typer.Option(
            "--after",
            min=0,
            metavar="POSITION",
            help="Begin behind this position; 0 is everything. Left out, begin with what comes, or "
            "with --no-follow at the beginning.",
            show_default=False,
        ),
    ] = None,
    types: Annotated[
        list[EventType] | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="Only events of this type; may be given several times. Types: "
            f"{', '.join(EVENT_TYPES)}.",
        ),
    ] = None,
    follow: Annotated[
        bool | None,
        typer.Option(
            "--follow/--no-follow",
            help="Go on with what comes, or end with what is there. Only a server has what comes: "
            "a data root is told to its end.",
            show_default=False,
        ),
    ] = None,
    space: SpaceOption = None,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Watch what happens in a space, live.

    It goes on until Ctrl-C, which ends it with exit code 130. Each line has the time, the position
    and the type of an event, and what happened; with --json it is the event in full. A lost
    connection is made again, and no position is skipped or repeated.

    \b
    Example:  engram space create alpha --if-not-exists && engram watch --after 0 --no-follow \
--space alpha
    Example:  engram watch --space alpha --server http://127.0.0.1:7432
    """
    named = Named(server, data_root, config, space)
    live = _is_live(named, follow)
    with opened_space(named) as place:
        wanted = [type_.value for type_ in types or ()]
        _print_events(place.events(after, types=wanted, follow=live), as_json=as_json)


def _is_live(named: Named, follow: bool | None) -> bool:
    over_http = read_settings(named).target.name == "server"
    if follow and not over_http:
        raise Malformed(
            "a data root has no live events to follow: while this command has the space open, "
            "nobody else can write to it. Watch it through its server, with --server URL, or "
            "leave out --follow"
        )
    return over_http if follow is None else follow


def _print_events(events: Iterable[Event], *, as_json: bool) -> None:
    if as_json:
        for event in events:
            output.print_json(event)
        return
    line = _styled_line() if output.is_terminal(sys.stdout) else _plain_line
    for event in events:
        output.print_line(line(event))


def _plain_line(event: Event) -> str:
    time, position, type_, what = render.event_parts(event)
    return f"{time}  {position:>6}  {type_:<{_TYPE_CHARACTERS}}  {what}".rstrip()


def _styled_line() -> Callable[[Event], str]:
    """Lines for a terminal, each cut to its width as it is then."""
    from rich.text import Text

    console = output.console_on(sys.stdout)

    def line(event: Event) -> str:
        time, position, type_, what = render.event_parts(event)
        text = Text.assemble(
            (time, "dim"),
            f"  {position:>6}  ",
            (f"{type_:<{_TYPE_CHARACTERS}}", "cyan"),
            "  ",
        )
        # As in tables: what happened is cut, and nothing before it.
        width = max(console.width, text.cell_len + output.LAST_COLUMN_MIN)
        text.append(what)
        text.truncate(width, overflow="ellipsis" if output.is_utf8(sys.stdout) else "crop")
        with console.capture() as captured:
            console.print(text, no_wrap=True, overflow="ignore", crop=False, end="")
        return captured.get().rstrip()

    return line
