"""`engram log`: the files of spaces, offline. `verify` is here, the others in modules beside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engram.cli import log_dump, log_inspect, log_repair, log_salvage, output
from engram.cli.options import JsonOption
from engram.errors import SpaceDamaged

if TYPE_CHECKING:
    from engram.spaces.verify import SpaceReport

app = typer.Typer(rich_markup_mode=None, help="Look into the logs of spaces, offline.")


@app.callback()
def log() -> None:
    """Look into the logs of spaces, offline."""


app.command("inspect")(log_inspect.inspect)
app.command("dump")(log_dump.dump)
app.command("repair")(log_repair.repair)
app.command("salvage")(log_salvage.salvage)


@app.command("verify")
def verify(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A data root, or the folder of one space.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Read every byte of a space, and report what is wrong.

    Or of all spaces of a data root. An unfinished record at the very end is what a crash leaves
    behind; it is reported, but it is not damage. Damage ends with exit code 5.

    \b
    Example:  engram space create alpha --if-not-exists --data-root ./data && \
engram log verify ./data
    """
    from engram.spaces.verify import verify as run

    reports = run(path)
    for report in reports:
        if as_json:
            output.print_json(_document(report))
        else:
            for line in _lines(report):
                output.print_line(line)
    if not reports:
        output.print_hint(f"no spaces in {path}")
    if not all(report.ok for report in reports):
        raise typer.Exit(SpaceDamaged.exit_code)


def _document(report: SpaceReport) -> dict[str, Any]:
    log = report.log
    return {
        "path": report.path,
        "memory_space_id": report.memory_space_id,
        "is_space": report.is_space,
        "ok": report.ok,
        "space_uuid": log.space_uuid,
        "position": log.last_position,
        "records": log.records,
        "memories": report.memories if report.ok and report.is_space else None,
        "segments": log.segments,
        "damage": log.damage,
        "torn": log.torn,
        "torn_bytes": log.torn_bytes,
        "strangers": log.strangers,
        "quarantined": log.quarantined,
    }


def _lines(report: SpaceReport) -> list[str]:
    """What is known about one space; the first line says whether it is sound."""
    name = report.memory_space_id or Path(report.path).name
    if not report.is_space:
        return [f"{name}: not a space"]
    log = report.log
    held = (
        f"{log.records} records in {len(log.segments)} segments up to position {log.last_position}"
    )
    if report.ok:
        lines = [f"{name}: ok, {report.memories} memories, {held}"]
    else:
        lines = [f"{name}: DAMAGED, {held} can be read"]
    for damage in log.damage:
        lines.append(f"  damage in {damage.file} at byte {damage.offset}: {damage.reason}")
    if log.torn is not None:
        lines.append(
            f"  unfinished tail of {log.torn_bytes} bytes in {log.torn.file} at byte "
            f"{log.torn.offset}, set aside when the space is next opened: {log.torn.reason}"
        )
    lines += [f"  not part of a log: {name}" for name in log.strangers]
    lines += [f"  set aside earlier: quarantine/{name}" for name in log.quarantined]
    return lines
