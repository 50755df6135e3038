"""`engram status`: how the spaces of a data root or server are, once or again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from engram.cli import output, render
from engram.cli.connection import locked_advice, opened
from engram.cli.options import ConfigOption, DataRootOption, JsonOption, Named, ServerOption
from engram.cli.settings import read_settings
from engram.errors import (
    DataRootUnusable,
    DiskFull,
    EngramError,
    SpaceDamaged,
    SpaceLocked,
    SpaceNotFound,
)

if TYPE_CHECKING:
    from engram.cli.connection import Spaces

Report = dict[str, Any]
_PASSING: Final = frozenset({"locked", "unusable"})
"""States that may end without a change to the files of a space."""


def status(
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again and again, until Ctrl-C.")
    ] = False,
    interval: Annotated[
        float,
        typer.Option(
            "--interval", min=0.1, max=3_600, metavar="SECONDS", help="How often, with --watch."
        ),
    ] = 2.0,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show every space: state, memories, position, size.

    A space that another process has open, as a running server has, is shown as locked: ask that
    server with --server. One that this user may not use is shown as unusable, which ends with exit
    code 1; damage ends with exit code 5. With --watch and --json: one report a line.

    \b
    Example:  engram space create alpha --if-not-exists && engram status
    """
    named = Named(server, data_root, config)
    if not watch:
        report = _Reports(named).take()
        _print(report, as_json=as_json)
        states = {space["state"] for space in report["spaces"]}
        if "damaged" in states:
            raise typer.Exit(SpaceDamaged.exit_code)
        if "unusable" in states:
            raise typer.Exit(DataRootUnusable.exit_code)
        return
    take = _Reports(named).take
    if as_json or not output.is_terminal(sys.stdout):
        while True:
            _print(take(), as_json=as_json)
            time.sleep(interval)
    _show_live(take, interval)


class _Reports:
    """Reports on the same spaces, one after the other.

    To look into a space of a data root is to lock it for that time. So that watching does not stand
    in the way of those who work there, a space is only opened again when its files have changed.
    """

    def __init__(self, named: Named) -> None:
        target = read_settings(named).target
        self._named = named
        self._where = {target.name: str(target.value)}
        self._root = Path(str(target.value)) if target.name == "data_root" else None
        self._known: dict[str, tuple[object, Report]] = {}

    def take(self) -> Report:
        with opened(self._named) as spaces:
            ids = [info.memory_space_id for info in spaces.spaces()]
            reports = [self._report(spaces, space_id) for space_id in ids]
        found = [report for report in reports if report is not None]
        if self._root is not None:
            for report in found:
                # Closing may write, so only now do the files stand for what was seen.
                space_id = report["memory_space_id"]
                self._known[space_id] = (_signature(self._root / space_id), report)
        return {**self._where, "spaces": found}

    def _report(self, spaces: Spaces, space_id: str) -> Report | None:
        if self._root is not None and space_id in self._known:
            signature, report = self._known[space_id]
            if report["state"] not in _PASSING and signature == _signature(self._root / space_id):
                return report
        try:
            info = spaces.space_info(space_id)
        except SpaceLocked as error:
            return _without_figures(space_id, "locked", locked_advice(error.detail))
        except (DataRootUnusable, DiskFull) as error:
            return _without_figures(space_id, "unusable", error.detail)
        except SpaceNotFound:
            return None  # it was there a moment ago
        return {
            "memory_space_id": space_id,
            "state": info.state,
            "memories": info.memories,
            "position": info.position,
            "bytes": info.bytes,
            "detail": info.detail,
        }


def _without_figures(space_id: str, state: str, detail: str) -> Report:
    figures = dict.fromkeys(("memories", "position", "bytes"))
    return {"memory_space_id": space_id, "state": state, **figures, "detail": detail}


def _signature(space: Path) -> object:
    """What changes with every write to a space: the names, sizes and times of its log's files."""
    try:
        stats = [(file.name, file.stat()) for file in sorted((space / "log").iterdir())]
    except OSError:
        return object()  # unlike any other, so that the space itself is asked
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def _print(report: Report, *, as_json: bool) -> None:
    if as_json:
        output.print_json(report)
        return
    output.print_line(_heading(report))
    if not report["spaces"]:
        output.print_hint("no spaces yet; create one with: engram space create alpha")
        return
    output.print_table(render.STATUS_TITLES, map(render.status_row, report["spaces"]))
    for line in _details(report):
        output.print_line(line)


def _heading(report: Report) -> str:
    name = "server" if "server" in report else "data_root"
    return f"{name.replace('_', ' ')} {output.printable(report[name])}"


def _details(report: Report) -> list[str]:
    return [
        f"{output.printable(space['memory_space_id'])}: {output.one_line(space['detail'])}"
        for space in report["spaces"]
        if space["detail"]
    ]


def _show_live(take: Callable[[], Report], interval: float) -> None:
    from rich.console import Group, RenderableType
    from rich.live import Live
    from rich.text import Text

    def shown(report: Report) -> RenderableType:
        table = output.rich_table(
            render.STATUS_TITLES, [render.status_row(space) for space in report["spaces"]]
        )
        return Group(Text(_heading(report)), table, *map(Text, _details(report)))

    # A first report that fails ends the command; later, a server may be gone for a while.
    latest: RenderableType = shown(take())
    console = output.console_on(sys.stdout)
    try:
        with Live(latest, console=console, auto_refresh=False) as live:
            while True:
                time.sleep(interval)
                try:
                    latest = shown(take())
                    live.update(latest, refresh=True)
                except EngramError as error:
                    lost = Text(output.one_line(error.detail))
                    live.update(Group(latest, lost), refresh=True)
    finally:
        # Ctrl-C may come before `with` has got as far as undoing what it did.
        console.show_cursor(True)
