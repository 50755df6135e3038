"""`engram log dump`: records and events of a log as lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from engram.cli import output
from engram.cli.log_inspect import PathArgument
from engram.cli.options import JsonOption
from engram.cli.render import event_parts, time_text
from engram.cli.times import time_of
from engram.errors import Malformed, SpaceDamaged
from engram.memory.event_types import EVENT_TYPES, EventType

if TYPE_CHECKING:
    from datetime import datetime

    from engram.inspect.dump import EventLine, RecordLine, Wanted

_TYPE_CHARACTERS = max(map(len, EVENT_TYPES))

SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        help="Only what was stored at this time or later: 2026-05-01, or RFC 3339 as "
        "2026-05-01T09:00:00Z. Without a zone it is your local time.",
    ),
]
TypesOption = Annotated[
    list[EventType] | None,
    typer.Option(
        "--type",
        metavar="TYPE",
        help="Only events of this type; may be given several times. Types: "
        f"{', '.join(EVENT_TYPES)}.",
    ),
]


def dump(
    path: PathArgument,
    first: Annotated[
        int | None,
        typer.Option("--from", min=1, metavar="POSITION", help="Begin at this position."),
    ] = None,
    last: Annotated[
        int | None,
        typer.Option("--to", min=1, metavar="POSITION", help="End with this position."),
    ] = None,
    since: SinceOption = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="Only what was stored before this time."),
    ] = None,
    types: TypesOption = None,
    memory_id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="Only events that name this memory."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, metavar="N", help="End after N lines.")
    ] = None,
    records: Annotated[
        bool, typer.Option("--records", help="Show records instead of the events in them.")
    ] = False,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Show records with their header's fields and all their bytes."),
    ] = False,
    embeddings: Annotated[
        bool, typer.Option("--embeddings", help="With --json: memories with their vectors.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Print the events of a log, one per line.

    Everything that verifies is printed, in the order of the files; what cannot be read is told on
    stderr, with its place, and ends with exit code 5. Memory use does not grow with the log.

    \b
    Example:  engram space create alpha --if-not-exists --data-root ./data && \
engram log dump ./data/alpha
    """
    from engram.inspect.dump import Wanted
    from engram.memory.times import to_us

    def micros(time: datetime | None) -> int | None:
        return None if time is None else to_us(time)

    if embeddings and not as_json:
        raise Malformed("--embeddings shows vectors in JSON only; add --json")
    if embeddings and (records or raw):
        raise Malformed("--embeddings goes with events, not with --records or --raw")
    wanted = Wanted(
        first,
        last,
        micros(time_of("--since", since)),
        micros(time_of("--until", until)),
        frozenset(types or ()),
        memory_id,
    )
    shown = _Shown(records or raw, raw, as_json, embeddings)
    if _run(path, wanted, shown, limit):
        raise typer.Exit(SpaceDamaged.exit_code)


class _Shown(NamedTuple):
    """What is printed, and how."""

    records: bool
    raw: bool
    as_json: bool
    embeddings: bool


def _run(path: Path, wanted: Wanted, shown: _Shown, limit: int | None) -> bool:
    """Print all lines; whether anything could not be read."""
    from engram.inspect.dump import Problem, dump_events, dump_records
    from engram.inspect.sources import NoLog, find_sources, opened

    sources = find_sources(path)
    damaged, left = False, limit
    for source in sources:
        if source.kind in {"manifest", "checkpoint"}:
            raise NoLog(
                f"{path} is a {source.kind}, which holds no events; see `engram log inspect`"
            )
        name = f"{output.printable(source.path.name)}  " if len(sources) > 1 else ""
        with opened(source) as log:
            for line in (dump_records if shown.records else dump_events)(log, wanted):
                if isinstance(line, Problem):
                    output.print_hint(f"{name}{output.one_line(line.text)}")
                    damaged = damaged or line.damage
                    continue
                _print(line, name, shown)
                if left is not None and (left := left - 1) == 0:
                    return damaged
    return damaged


def _print(line: EventLine | RecordLine, name: str, shown: _Shown) -> None:
    from engram.inspect.dump import EventLine, event_document, record_document

    if isinstance(line, EventLine):
        if shown.as_json:
            output.print_json(event_document(line, embeddings=shown.embeddings))
        else:
            time, position, type_, what = event_parts(line.event)
            output.print_line(
                f"{name}{position:>6}  {time}  {type_.ljust(_TYPE_CHARACTERS)}  {what}".rstrip()
            )
    elif shown.as_json:
        output.print_json(record_document(line, raw=shown.raw))
    else:
        output.print_line(name + _record_line(line))
        if shown.raw:
            for text in _raw_lines(line):
                output.print_line(text)


def _record_line(line: RecordLine) -> str:
    from engram.inspect.dump import NS_PER_US
    from engram.memory.times import from_us

    record = line.record
    time = time_text(from_us(record.time_ns // NS_PER_US))
    positions = f"{record.position}-{record.next_position - 1}"
    types = "cannot be decoded"
    if line.types is not None:
        types = ", ".join(f"{count} {name}" for name, count in line.types.items())
    return (
        f"{positions:>9}  {time}  {line.segment.shown} at {record.offset}, "
        f"{record.end - record.offset} bytes, crc {record.payload_crc:08x}: {types}"
    )


def _raw_lines(line: RecordLine) -> Iterator[str]:
    from engram.inspect.dump import header_fields, hex_rows, raw_bytes

    for name, value in header_fields(line.record).items():
        yield f"    {name:<16} {value}"
    for row in hex_rows(raw_bytes(line), line.record.offset):
        yield f"    {row}"
