"""`engram log salvage`: what can be read of a damaged log, as a new space or as JSON Lines."""

from __future__ import annotations

import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from engram.cli import output
from engram.cli.log_inspect import PathArgument
from engram.cli.options import JsonOption
from engram.errors import Malformed, SpaceDamaged

if TYPE_CHECKING:
    from engram.inspect.salvage import Salvaged
    from engram.inspect.sources import OpenLog

LINES_SHOWN_MAX: Final = 20


class Format(StrEnum):
    """What is written."""

    SPACE = "space"
    JSONL = "jsonl"


def salvage(
    path: PathArgument,
    target: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="PATH",
            help="The new space's folder, whose name becomes its id; inside a data root it can be "
            "used at once. Or the file for JSON Lines; left out, they go to stdout.",
            show_default=False,
        ),
    ] = None,
    format_: Annotated[
        Format, typer.Option("--format", help="A new space, or every event as a line of JSON.")
    ] = Format.SPACE,
    as_json: JsonOption = False,
) -> None:
    """Rescue what can be read of a damaged log.

    Every record that verifies is taken, wherever it lies; the original is only read. A new space
    has a new uuid and new positions. Exit code 5 says that not everything could be kept: what
    is lost, and which events had to become others, is told. Memories whose forgetting is lost
    live again.

    \b
    Example:  engram space create alpha --if-not-exists --data-root ./data && \
engram log salvage ./data/alpha --format jsonl
    A space:  engram log salvage ./data/alpha --output ./data/alpha-rescued
    """
    from engram.inspect.sources import NoLog, find_sources, opened

    if target is None and (format_ is Format.SPACE or as_json):
        raise Malformed("name what is to be written: --output PATH")
    sources = find_sources(path)
    if len(sources) != 1 or sources[0].kind == "manifest":
        raise NoLog(f"{path} is not one log. Name the folder of one space, or its segments")
    if target is not None and sources[0].kind == "space":
        whole = target.absolute().resolve()
        if whole == sources[0].path or sources[0].path in whole.parents:
            raise Malformed(f"{target} lies in what is rescued, which stays as it is")
    with opened(sources[0]) as log:
        if target is None:
            report = _to_stdout(log)
        elif format_ is Format.JSONL:
            report = _to_file(log, target)
        else:
            report = _to_space(log, target)
    if as_json:
        output.print_json(_document(report, target))
    else:
        for line in _lines(report, target):
            (output.print_hint if target is None else output.print_line)(line)
    if not report.complete:
        raise typer.Exit(SpaceDamaged.exit_code)


def _to_stdout(log: OpenLog) -> Salvaged:
    from engram.inspect.salvage import salvage_to_lines

    report, lines = salvage_to_lines(log)
    for line in lines:
        output.print_json(line)
    return report


def _to_file(log: OpenLog, target: Path) -> Salvaged:
    from engram.inspect.salvage import salvage_to_lines, write_lines
    from engram.inspect.sources import parent_of
    from engram.server.wire import encode

    with parent_of(target) as parent:
        report, lines = salvage_to_lines(log)
        write_lines(parent, target.name, (encode(line) + b"\n" for line in lines))
    return report


def _to_space(log: OpenLog, target: Path) -> Salvaged:
    from engram.inspect.salvage import salvage_to_space
    from engram.inspect.sources import parent_of
    from engram.spaces.ids import check_space_id

    space_id = check_space_id(target.absolute().name)
    with parent_of(target) as parent:
        return salvage_to_space(log, parent, space_id, now_ns=time.time_ns())


def _document(report: Salvaged, target: Path | None) -> dict[str, Any]:
    from dataclasses import fields

    shown = {f.name: getattr(report, f.name) for f in fields(report)}
    return {"output": str(target), "complete": report.complete} | shown


def _lines(report: Salvaged, target: Path | None) -> Iterator[str]:
    """What was done; of what goes to stdout only what was not."""
    if target is not None:
        memories = "" if report.memories is None else f", {report.memories} memories"
        what = f"{report.events} events of {report.records} records{memories}"
        if report.from_checkpoints:
            what += f", {report.from_checkpoints} of the events out of checkpoints"
        if report.memory_space_id is not None:
            what += f", as space {report.memory_space_id} with uuid {report.space_uuid}"
        yield f"{output.printable(str(target))}: {what}"
    lost = [f"lost: positions {gap.first} to {gap.last}" for gap in report.lost]
    unreadable = [f"{d.file} at byte {d.offset}: {d.reason}" for d in report.unreadable]
    changes = [
        f"position {c.position}: {c.type} {c.id or ''} "
        f"{'left out' if c.became is None else f'became {c.became}'}: {c.reason}"
        for c in report.changes
    ]
    for lines in (lost, unreadable, changes):
        yield from (f"  {output.one_line(line)}" for line in lines[:LINES_SHOWN_MAX])
        if len(lines) > LINES_SHOWN_MAX:
            yield f"  and {len(lines) - LINES_SHOWN_MAX} more like these; --json lists them all"
    if report.copies:
        yield f"  {report.copies} records were found more than once, and count once"
