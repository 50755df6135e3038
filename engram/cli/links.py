"""`engram link|unlink|links`: what leads from one memory to another."""

from __future__ import annotations

from typing import Annotated

import typer

from engram import limits
from engram.cli import output, render
from engram.cli.connection import opened_space
from engram.cli.options import (
    ConfigOption,
    DataRootOption,
    JsonOption,
    MemoryArgument,
    Named,
    ServerOption,
    SpaceOption,
)
from engram.errors import Malformed
from engram.memory.relations import RELATED

SourceArgument = Annotated[
    str, typer.Argument(metavar="SOURCE", help="Id of the memory that the link begins at.")
]
TargetArgument = Annotated[
    str, typer.Argument(metavar="TARGET", help="Id of the memory that it leads to.")
]
RelationOption = Annotated[
    str, typer.Option("--relation", metavar="TEXT", help="What the link means, in a word or two.")
]


def link(
    source: SourceArgument,
    target: TargetArgument,
    weight: Annotated[
        float,
        typer.Option("--weight", metavar="NUMBER", help="How strong it is: above 0, at most 1."),
    ] = 1.0,
    relation: RelationOption = RELATED,
    space: SpaceOption = None,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Link a memory to another.

    The same link again sets its weight anew. It stays when either memory is revised, is hidden
    while one of them is forgotten, and goes with the one that is purged.

    \b
    Example:  engram space create alpha --if-not-exists; engram remember "It rained" --id rain \
--space alpha; engram remember "The match was off" --id match --space alpha; \
engram link rain match --relation causes --weight .8 --space alpha
    """
    with opened_space(Named(server, data_root, config, space)) as place:
        made = place.link(source, target, weight=weight, relation=relation)
    if as_json:
        output.print_json(made)
    else:
        output.print_line(
            f"linked {_shown(made.source, made.relation, made.target)} with weight "
            f"{made.weight:g} at position {made.position}"
        )


def unlink(
    source: SourceArgument,
    target: TargetArgument,
    relation: RelationOption = RELATED,
    space: SpaceOption = None,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove the link of a memory to another.

    Two memories may have several links, one of each relation and direction; this removes one.

    \b
    Example:  engram space create alpha --if-not-exists; engram remember "It rained" --id rain \
--space alpha; engram remember "The match was off" --id match --space alpha; \
engram link rain match --space alpha && engram unlink rain match --space alpha
    """
    with opened_space(Named(server, data_root, config, space)) as place:
        removed = place.unlink(source, target, relation)
    if as_json:
        output.print_json(removed)
    else:
        shown = _shown(removed.source, removed.relation, removed.target)
        output.print_line(f"unlinked {shown} at position {removed.position}")


def links(
    memory_id: MemoryArgument,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit", "-n", min=1, help="How many at most. Default: 50.", show_default=False
        ),
    ] = None,
    after: Annotated[
        int | None,
        typer.Option(
            "--after",
            min=0,
            metavar="POSITION",
            help="Only links behind this position: where the last list ended.",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="To the end, however many there are.")
    ] = False,
    space: SpaceOption = None,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the links that begin or end at a memory.

    They come in the order in which they were set. A page ends with a hint at how to go on, on
    stderr. With --json: one link a line.

    \b
    Example:  engram space create alpha --if-not-exists; engram remember "It rained" --id rain \
--space alpha; engram remember "The match was off" --id match --space alpha; \
engram link rain match --space alpha && engram links rain --space alpha
    """
    if everything and limit is not None:
        raise Malformed("--all and --limit exclude each other. Give one of them")
    left = None if everything else limit or limits.LIST_LIMIT_DEFAULT
    found = 0
    with opened_space(Named(server, data_root, config, space)) as place:
        while left is None or left > 0:
            size = limits.LIST_LIMIT_MAX if left is None else min(left, limits.LIST_LIMIT_MAX)
            page = place.links(memory_id, limit=size, after=after)
            found += len(page.links)
            left = None if left is None else left - len(page.links)
            after = page.next
            if as_json:
                for each in page.links:
                    output.print_json(each)
            elif page.links:
                output.print_table(render.LINK_TITLES, map(render.link_row, page.links))
            if after is None:
                break
        if after is not None:
            output.print_hint(f"there is more: --after {after}, or --all")
        elif not found and not as_json:
            output.print_hint(f"no links begin or end at {output.printable(memory_id)}")


def _shown(source: str, relation: str, target: str) -> str:
    return output.one_line(f"{source} -[{relation}]-> {target}")
