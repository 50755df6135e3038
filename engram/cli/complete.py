"""`engram complete`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engram import limits
from engram.cli import output, render
from engram.cli.connection import opened_space
from engram.cli.given import metadata_of, numbers_of
from engram.cli.options import (
    ConfigOption,
    DataRootOption,
    JsonOption,
    Kind,
    Named,
    ServerOption,
    SourceOption,
    SpaceOption,
)
from engram.cli.times import time_of

if TYPE_CHECKING:
    from engram import Completion, Filled

TITLES = ("FIELD", "CONFIDENCE", "VALUE", "FROM")


QueryArgument = Annotated[
    str | None, typer.Argument(metavar="TEXT", help="What it is about, in words.")
]
ContentOption = Annotated[
    str | None, typer.Option("--content", metavar="TEXT", help="Words that stand in its content.")
]
TagsOption = Annotated[
    list[str] | None, typer.Option("--tag", metavar="TAG", help="A tag it has; may be repeated.")
]
KindOption = Annotated[Kind | None, typer.Option("--kind", help="Its kind.", show_default=False)]
MetadataOption = Annotated[
    str | None,
    typer.Option(
        "--metadata",
        metavar="JSON",
        help="An object of what its metadata holds, or of conditions as in a filter.",
    ),
]
SinceOption = Annotated[
    str | None, typer.Option("--from", metavar="TIME", help="It happened then or later.")
]
UntilOption = Annotated[
    str | None, typer.Option("--to", metavar="TIME", help="It happened before this time.")
]
EmbeddingOption = Annotated[
    str | None,
    typer.Option(
        "--embedding",
        metavar="JSON",
        help="Its vector, noisy or with null where a number is not known.",
    ),
]
BetaOption = Annotated[
    float,
    typer.Option(
        min=limits.BETA_MIN,
        max=limits.BETA_MAX,
        help="How sharply memories are told apart: low for what many share, high for one.",
    ),
]
LimitOption = Annotated[
    int,
    typer.Option(
        "--limit",
        "-n",
        min=1,
        max=limits.RECALL_LIMIT_MAX,
        help="How many memories to name for each field.",
    ),
]
IncludeOption = Annotated[
    bool, typer.Option("--include-embedding", help="With --json: the completed vector too.")
]


def complete(
    query: QueryArgument = None,
    content: ContentOption = None,
    tag: TagsOption = None,
    kind: KindOption = None,
    source: SourceOption = None,
    metadata: MetadataOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    embedding: EmbeddingOption = None,
    beta: BetaOption = limits.BETA_DEFAULT,
    limit: LimitOption = 10,
    include_embedding: IncludeOption = False,
    space: SpaceOption = None,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fill in a partial cue from the memories of a space.

    Give what is known: words, fields, a vector, or several of these. The cue settles on the
    memories nearest to it, and each field is what these agree on: CONFIDENCE is the share of the
    attention on memories that say so, FROM the heaviest of them.

    \b
    Example:  engram space create alpha --if-not-exists && engram remember "Backups run at two" \
--tag ops --source standup --space alpha && engram complete "backups" --tag ops --space alpha
    Example:  engram complete --source standup --metadata '{"agent": "planner"}' --space alpha
    """
    from engram import Known

    known = Known(
        content=content,
        tags=tuple(tag or ()),
        kind=kind,
        source=source,
        since=time_of("--from", since),
        until=time_of("--to", until),
        metadata=metadata_of(metadata) or {},
    )
    vector = numbers_of("--embedding", embedding)
    with opened_space(Named(server, data_root, config, space)) as place:
        found = place.complete(
            query,
            embedding=vector,
            known=known,
            beta=beta,
            limit=limit,
            include_embedding=include_embedding,
        )
    if as_json:
        output.print_json(found)
    elif found.attractor:
        output.print_table(TITLES, _rows(found))
        output.print_line(_settled(found))
    else:
        output.print_hint(f"nothing in {found.memory_space_id} answers that")


def _rows(found: Completion) -> Iterator[tuple[str, ...]]:
    fields: list[tuple[str, Filled[Any] | None]] = [
        ("content", found.content),
        ("kind", found.kind),
        ("source", found.source),
        ("occurred_at", found.occurred_at),
        *(("tag", tag) for tag in found.tags),
        *((f"metadata.{key}", filled) for key, filled in found.metadata.items()),
    ]
    for name, filled in fields:
        if filled is not None:
            yield render.filled_row(name, filled)


def _settled(found: Completion) -> str:
    where = "on one memory" if found.single else "between several memories"
    rest = "" if found.converged else ", and had not come to rest"
    return f"settled {where} in {found.steps} steps{rest}"
