"""`engram compact`: a checkpoint now, so that a space opens at once."""

from __future__ import annotations

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


def compact(
    space: SpaceOption = None,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a checkpoint of a space, so that it opens at once.

    A checkpoint holds what the log adds up to, so that the space opens without replaying it all. A
    server, and whoever holds a space open, makes them by itself when much was written since the
    last one; this makes one now. History that the space need not keep goes with it (see `engram
    space configure --retention`). Reads and writes go on meanwhile, and nothing that is recalled
    changes. On a full disk everything stays as it is.

    \b
    Example:  engram space create alpha --if-not-exists; engram remember "Lunch is at noon" \
--space alpha; engram compact --space alpha
    """
    with opened_space(Named(server, data_root, config, space)) as place:
        done = place.compact()
    if as_json:
        output.print_json(done)
        return
    output.print_line(
        f"compacted {done.memory_space_id}: a checkpoint of "
        f"{render.size_text(done.checkpoint_bytes)} stands at position {done.checkpoint_position}"
    )
    output.print_line(
        f"history from position {done.oldest_position} on, {render.size_text(done.log_bytes)}; "
        f"{done.segments_retired} segments let go of"
    )
