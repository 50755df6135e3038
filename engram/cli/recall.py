"""`engram recall`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from engram import limits
from engram.cli import output, render
from engram.cli.connection import opened_space
from engram.cli.options import (
    AsOfOption,
    ConfigOption,
    DataRootOption,
    FromOption,
    JsonOption,
    KindFilterOption,
    Mode,
    Named,
    ServerOption,
    SourceFilterOption,
    SpaceOption,
    TagFilterOption,
    ToOption,
)
from engram.cli.times import moment_of, time_of

if TYPE_CHECKING:
    from engram import Recall, Spread

LimitOption = Annotated[
    int,
    typer.Option("--limit", "-n", min=1, max=limits.RECALL_LIMIT_MAX, help="How many at most."),
]
ModeOption = Annotated[
    Mode | None,
    typer.Option(
        "--mode",
        help="By meaning, by words, by both, or also by association. Left out, what the cue "
        "allows.",
        show_default=False,
    ),
]

SureOption = Annotated[
    float | None,
    typer.Option("--min-confidence", help="Only memories at least this sure, from 0 to 1."),
]
SpreadOption = Annotated[
    str | None,
    typer.Option(
        "--spread",
        metavar="JSON",
        help="How far activation goes, e.g. '{\"max_hops\": 2}'; also decay and threshold.",
        show_default=False,
    ),
]


def recall(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What to look for, in words.")],
    limit: LimitOption = 10,
    mode: ModeOption = None,
    tag: TagFilterOption = None,
    kind: KindFilterOption = None,
    source: SourceFilterOption = None,
    since: FromOption = None,
    until: ToOption = None,
    min_confidence: SureOption = None,
    spread: SpreadOption = None,
    as_of: AsOfOption = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the parts that each score is the sum of.")
    ] = False,
    no_record: Annotated[
        bool, typer.Option("--no-record", help="Leave no event of this recall behind.")
    ] = False,
    space: SpaceOption = None,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the memories that best answer a question.

    CONFIDENCE is how likely each one is to answer it, with an interval; SCORE only ranks them. With
    --explain, SCORE = SIMILARITY + LEXICAL + WINDOW + ACTIVATION + RECENCY + FREQUENCY: the
    memory's own match, scaled from COSINE and BM25, that of its neighbours in its source, what came
    along associations, with the strongest path below, and how lately and often it was used. The
    recall itself becomes an event of the space, with a digest of the question in place of its
    words; with --as-of it does not.

    \b
    Example:  engram space create alpha --if-not-exists && engram remember "Backups run at two" \
--space alpha && engram recall "when do backups run?" --space alpha
    Example:  engram recall "deploy key" --as-of 2026-05-01T09:00 --space alpha
    Example:  engram recall "deploy key" --tag ops --from 2026-05-01 -n 3 --explain --space alpha
    """
    from engram import Filter

    wanted = Filter(
        tags_all=tuple(tag or ()),
        kind=kind,
        source=source,
        since=time_of("--from", since),
        until=time_of("--to", until),
    )
    when = moment_of("--as-of", as_of)
    with opened_space(Named(server, data_root, config, space)) as place:
        found = place.recall(
            query,
            limit=limit,
            mode=mode,
            filter=wanted,
            min_confidence=min_confidence,
            spread=None if spread is None else _spread(spread),
            as_of=when,
            explain=explain,
            record=not no_record,
        )
    if as_json:
        output.print_json(found)
    else:
        _show(found, explain)
    if when is not None:
        output.print_hint(f"as of position {found.position}")
    elif not no_record and not found.recorded:
        output.print_hint("this recall could not be recorded in the space's history")


def _show(found: Recall, explain: bool) -> None:
    if not found.results:
        output.print_hint(f"nothing in {found.memory_space_id} answers that")
        return
    titles = render.EXPLAINED_TITLES if explain else render.HIT_TITLES
    output.print_table(titles, map(render.hit_row, found.results))
    if explain:
        for line in render.path_lines(found.results):
            output.print_line(line)
        output.print_hint(
            f"mode {found.mode}; "
            "score = similarity + lexical + window + activation + recency + frequency"
        )


def _spread(text: str) -> Spread:
    import msgspec

    from engram import Invalid, Spread

    try:
        return msgspec.json.decode(text, type=Spread)
    except (msgspec.MsgspecError, UnicodeEncodeError) as error:
        raise Invalid.of(
            "--spread", f"must be JSON with max_hops, decay or threshold in it: {error}"
        ) from error
