"""`engram log`: the files of spaces, offline. `verify` is here, the others in modules beside."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engram.cli import log_dump, log_inspect, log_repair, log_salvage, output
from engram.cli.options import JsonOption
from engram.errors import SpaceDamaged

if TYPE_CHECKING:
    from engram.spaces.verify import Progress, SpaceReport

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
        Path,
        typer.Argument(
            metavar="PATH",
            help="A data root, the folder of one space, or a checkpoint file (.ckpt).",
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Read every byte of a space, and report what is wrong.

    Or of all spaces of a data root. Checkpoints have to be what the log adds up to, as far as it
    holds that. An unfinished record at the very end is what a crash leaves behind; it is reported,
    but it is not damage, and neither are files that a compaction left over. Damage ends with exit
    code 5.

    \b
    Example:  engram space create alpha --if-not-exists --data-root ./data && \
engram log verify ./data
    """
    if path.is_file():
        _verify_file(path, as_json=as_json)
        return
    from engram.spaces.verify import verify as run

    with _progress(path) as progress:
        reports = run(path, progress)
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


def _verify_file(path: Path, *, as_json: bool) -> None:
    """A checkpoint without its space: whether it is whole, and its columns make a state."""
    from engram.inspect.figures import inspect
    from engram.inspect.sources import NoLog, find_sources

    if find_sources(path)[0].kind != "checkpoint":
        raise NoLog(f"{path} is no checkpoint; see what it holds with `engram log inspect`")
    (report,) = inspect(path)
    (checkpoint,) = report.checkpoints
    if as_json:
        output.print_json({"path": report.path, "ok": report.ok, "damage": report.damage})
    else:
        held = f"{checkpoint.memories} memories at position {checkpoint.position}"
        output.print_line(
            f"{output.printable(path.name)}: {f'ok, {held}' if report.ok else 'DAMAGED'}"
        )
        for damage in report.damage:
            output.print_line(f"  damage at byte {damage.offset}: {damage.reason}")
    if not report.ok:
        raise typer.Exit(SpaceDamaged.exit_code)


@contextmanager
def _progress(path: Path) -> Iterator[Progress]:
    """A bar on stderr if that is a terminal."""
    from engram.spaces.verify import bytes_to_read, untold

    if not output.is_terminal(sys.stderr):
        yield untold
        return
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=output.console_on(sys.stderr), transient=True) as bar:
        task = bar.add_task("verifying", total=bytes_to_read(path))

        def advance(folder: str, more_bytes: int) -> None:
            bar.update(task, advance=more_bytes, description=output.printable(folder))

        yield advance


def _document(report: SpaceReport) -> dict[str, Any]:
    log = report.log
    return {
        "path": report.path,
        "memory_space_id": report.memory_space_id,
        "is_space": report.is_space,
        "ok": report.ok,
        "space_uuid": log.space_uuid,
        "position": log.last_position,
        "oldest_position": log.oldest_position,
        "records": log.records,
        "memories": report.memories if report.ok and report.is_space else None,
        "segments": log.segments,
        "checkpoints": log.checkpoints,
        "damage": log.damage,
        "torn": log.torn,
        "torn_bytes": log.torn_bytes,
        "leftovers": log.leftovers,
        "strangers": log.strangers,
        "quarantined": log.quarantined,
        "took_s": report.took_s,
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
    if log.oldest_position > 1:
        held += f", from position {log.oldest_position} on"
    if log.checkpoints:
        held += f", {len(log.checkpoints)} checkpoints"
    if report.ok:
        lines = [f"{name}: ok, {report.memories} memories, {held}; {report.took_s} s"]
    else:
        lines = [f"{name}: DAMAGED, {held} can be read"]
    for damage in log.damage:
        lines.append(f"  damage in {damage.file} at byte {damage.offset}: {damage.reason}")
    if log.torn is not None:
        lines.append(
            f"  unfinished tail of {log.torn_bytes} bytes in {log.torn.file} at byte "
            f"{log.torn.offset}, set aside when the space is next opened: {log.torn.reason}"
        )
    lines += [f"  left over: {each.file}: {each.reason}" for each in log.leftovers]
    lines += [f"  not part of a log: {name}" for name in log.strangers]
    lines += [f"  set aside earlier: quarantine/{name}" for name in log.quarantined]
    return lines
