"""`engram consolidate`: beliefs, formed of what recurs among the episodes of a space."""

from __future__ import annotations

from typing import Annotated

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


def consolidate(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be formed; change nothing.")
    ] = False,
    space: SpaceOption = None,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Form beliefs of what recurs among the episodes of a space.

    At least three episodes that are alike make a belief, a memory of its own whose content is their
    most central sentences; others join it later. `engram history ID` shows what a belief was formed
    from. One that rests on a memory that is forgotten, revised or purged goes with it, and is
    formed anew of what still holds. Run again, it changes nothing unless there is something new.

    With ENGRAM_SUMMARISER=openai:<model> (for a server, in its environment) a model writes the
    content: each belief is a request to ENGRAM_OPENAI_BASE_URL, with --dry-run too.

    \b
    Example:  engram space create alpha --if-not-exists; \
engram remember "Friday's deploy broke checkout" --space alpha; \
engram remember "Another Friday deploy, and checkout broke" --space alpha; \
engram remember "Checkout broke after the Friday deploy" --space alpha; \
engram consolidate --dry-run --space alpha; engram consolidate --space alpha
    """
    with opened_space(Named(server, data_root, config, space)) as place:
        done = place.consolidate(dry_run=dry_run)
    if as_json:
        output.print_json(done)
        return
    if done.beliefs:
        output.print_table(render.BELIEF_TITLES, map(render.belief_row, done.beliefs))
    formed = sum(belief.action == "formed" for belief in done.beliefs)
    revised = len(done.beliefs) - formed
    would = "would be " if dry_run else ""
    output.print_line(
        f"{formed} {would}formed, {revised} {would}revised; {done.left} of {done.episodes} "
        "episodes that no belief rested on are left"
    )
