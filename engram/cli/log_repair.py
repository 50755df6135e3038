"""`engram log repair`: put right what opening refuses and an operator may decide."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engram.cli import output
from engram.cli.options import JsonOption

if TYPE_CHECKING:
    from engram.inspect.repair import Repaired


def repair(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="The folder of one space.", show_default=False)
    ],
    copy: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="DIR",
            help="Where the copy goes that is made first. Default: beside the space, as "
            "<folder>.before-repair-<n>.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Repair a space that refuses to open.

    It restores a manifest that is missing or broken if the segments prove each other, moves files
    that are not the log's out of it, drops a checkpoint that the log can do without, and accepts
    the loss of the last records if nothing behind the damage can be read. All that is taken away
    goes to quarantine, and the whole folder is copied first. Damage in the middle of history is
    refused with exit code 5; see `salvage`.

    \b
    Example:  engram space create alpha --if-not-exists --data-root ./data && \
engram log repair ./data/alpha --dry-run
    """
    from engram.inspect.repair import repair as run

    report = run(path, output=copy, dry_run=dry_run)
    if as_json:
        output.print_json(asdict(report))
        return
    for line in _lines(report):
        output.print_line(output.printable(line))


def _lines(report: Repaired) -> Iterator[str]:
    if not report.steps:
        yield f"{report.memory_space_id}: nothing to repair"
        return
    yield f"{report.memory_space_id}: {'would be' if report.dry_run else 'was'} repaired"
    if report.copy is not None:
        yield f"  as it was before: {report.copy}"
    for step in report.steps:
        yield from (f"  {line}" for line in _step_lines(step))
    yield from (f"  kept: quarantine/{name}" for name in report.kept)


def _step_lines(step: dict[str, Any]) -> Iterator[str]:
    match step["step"]:
        case "move-aside":
            yield f"moved aside: {step['file']}, {step['bytes']} bytes: {step['reason']}"
        case "drop-checkpoint":
            yield f"dropped: {step['file']}, {step['bytes']} bytes: {step['reason']}"
        case "restore-manifest":
            yield f"restored: {step['file']} of {step['segments']} segments: {step['reason']}"
        case _:
            lost = step["lost"]
            yield (
                f"ended: {step['file']} at byte {step['offset']}, {step['bytes']} bytes set "
                f"aside: {step['reason']}"
            )
            yield (
                f"lost: positions {lost['first']} to {lost['last']}; what is stored next takes "
                "these numbers again, so restart whoever follows the feed from position 0"
            )
