"""`engram migrate`: one shared space into many, and what other stores hold into spaces."""

from __future__ import annotations

from typing import Annotated

import typer

from engram.cli import output
from engram.cli.asking import confirm, need_terminal
from engram.cli.completion import complete_space
from engram.cli.connection import opened
from engram.cli.options import (
    ConfigOption,
    DataRootOption,
    JsonOption,
    Named,
    ServerOption,
    SpaceOption,
)
from engram.errors import Malformed

app = typer.Typer(rich_markup_mode=None, help="Bring memories over from elsewhere.")


@app.callback()
def migrate() -> None:
    """Bring memories over from elsewhere."""


DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Only show the plan; change nothing.")
]
ReceiptOption = Annotated[
    str | None,
    typer.Option(
        "--receipt",
        metavar="FILE",
        help="Write what went where, as JSON, into a new FILE.",
        show_default=False,
    ),
]
FromSpaceOption = Annotated[
    str,
    typer.Option("--from", metavar="ID", help="The shared space.", autocompletion=complete_space),
]
ByOption = Annotated[
    str,
    typer.Option("--by", metavar="FIELD", help="What decides: metadata.KEY, tag or source."),
]
IntoOption = Annotated[
    str,
    typer.Option(
        "--into",
        metavar="PATTERN",
        help="The ids of the new spaces, as agent-{value}. Default: the value.",
        show_default=False,
    ),
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map", metavar="VALUE=SPACE", help="Send a value there; may be given several times."
    ),
]
PrefixOption = Annotated[
    str,
    typer.Option(
        "--prefix",
        metavar="TEXT",
        help="Only values that begin so count; the value is what follows.",
        show_default=False,
    ),
]
RestOption = Annotated[
    str | None,
    typer.Option(
        "--rest",
        metavar="SPACE",
        help="Where to with what has no value. Default: it stays.",
        show_default=False,
    ),
]
SeveralOption = Annotated[
    str,
    typer.Option(
        "--several",
        metavar="stay|each|rest",
        help="What to do with a memory of several spaces: it stays, is copied to each, or goes to "
        "--rest.",
    ),
]
KeepTimesOption = Annotated[
    bool,
    typer.Option(
        "--keep-times", help="What does not say when it happened happened when it was stored."
    ),
]
ForgetMovedOption = Annotated[
    bool,
    typer.Option(
        "--forget-moved", help="Forget in the shared space what was found in its new one."
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before forgetting.")]

FormatOption = Annotated[
    str,
    typer.Option("--format", metavar="jsonl|mcp-memory|chroma", help="What it is a file of."),
]
CollectionsIntoOption = Annotated[
    str | None,
    typer.Option(
        "--into",
        metavar="PATTERN",
        help="chroma: each collection into a space of its own, made if it is missing, as "
        "kb-{value}.",
        show_default=False,
    ),
]
CollectionOption = Annotated[
    list[str] | None,
    typer.Option(
        "--collection",
        metavar="NAME",
        help="chroma: only this collection; may be given several times with --into.",
    ),
]
CreateOption = Annotated[bool, typer.Option("--create", help="Make the space if it is missing.")]
EmbeddingsOption = Annotated[
    str | None,
    typer.Option(
        "--embeddings",
        metavar="keep",
        help="jsonl and chroma: keep their vectors, in a space that takes the caller's. Default: "
        "the space embeds the texts.",
        show_default=False,
    ),
]
FieldOption = Annotated[
    list[str] | None,
    typer.Option(
        "--field",
        metavar="OURS=THEIRS",
        help="jsonl: where a field is found, as content=text or metadata.role=author.role.",
    ),
]
ExtraOption = Annotated[
    str,
    typer.Option(
        "--extra",
        metavar="refuse|metadata|ignore",
        help="jsonl: what to do with fields that are none of a memory's.",
    ),
]
RecordTimesOption = Annotated[
    bool,
    typer.Option("--keep-times", help="chroma: a record happened when Chroma stored it first."),
]


@app.command("split")
def split(
    from_space: FromSpaceOption,
    by: ByOption,
    into: IntoOption = "{value}",
    mapped: MapOption = None,
    prefix: PrefixOption = "",
    rest: RestOption = None,
    several: SeveralOption = "stay",
    keep_times: KeepTimesOption = False,
    forget_moved: ForgetMovedOption = False,
    yes: YesOption = False,
    receipt: ReceiptOption = None,
    dry_run: DryRunOption = False,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a shared space into one for each agent.

    Ids, kinds, contents, tags, metadata, confidence, times and sources are kept, links within a
    space too, and vectors where the embedder is the same. Spaces that are missing are made.
    Nothing is overwritten, and the shared space stays as it is but for --forget-moved. Killed or
    cut off, run it again: what is done is seen by ids and digests, and only the rest is copied.

    What was copied is compared on both sides at the end. Exit code 4: some ids hold something else
    in the new space; all others were copied.

    \b
    Example:  engram space create shared --if-not-exists; engram remember "Backups run at two" \
--metadata '{"agent": "planner"}' --space shared; \
engram migrate split --from shared --by metadata.agent --dry-run; \
engram migrate split --from shared --by metadata.agent
    """
    from engram.cli.migrating import Run, split_source

    if several not in {"stay", "each", "rest"}:
        raise Malformed(f"--several {several!r} is not known; use stay, each or rest")
    if forget_moved and not dry_run:
        need_terminal(yes, "what was moved would be forgotten")
    routing = {
        "pattern": into,
        "mapping": _mapping(mapped or []),
        "prefix": prefix,
        "rest": rest,
        "several": several,
    }
    with opened(Named(server, data_root, config)) as spaces:
        source = split_source(spaces.space(from_space), by, keep_times=keep_times, routing=routing)
        with Run(source, spaces, receipt, as_json=as_json) as run:
            if not run.planned(dry_run=dry_run):
                return
            run.copied()
            if forget_moved:
                if not yes:
                    question = f"Forget in {output.printable(from_space)} what was moved?"
                    confirm(question, "nothing was forgotten")
                run.forgotten(source)
            run.ended()


@app.command("import")
def import_file(
    file: Annotated[
        str, typer.Argument(metavar="FILE|FOLDER", help="What to read; it is never written to.")
    ],
    format: FormatOption,
    space: SpaceOption = None,
    into: CollectionsIntoOption = None,
    collection: CollectionOption = None,
    create: CreateOption = False,
    embeddings: EmbeddingsOption = None,
    field: FieldOption = None,
    extra: ExtraOption = "refuse",
    keep_times: RecordTimesOption = False,
    receipt: ReceiptOption = None,
    dry_run: DryRunOption = False,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring over what another store holds.

    jsonl: JSON Lines with the fields of `engram remember --file`, or others by --field and --extra.
    mcp-memory: the file of the reference MCP memory server, its entities and observations as facts
    and its relations as links. chroma: a persistent Chroma folder, its documents with metadata.

    The whole file is checked before anything is stored, and nothing is overwritten. Killed or cut
    off, run it again: only what is missing is stored. Exit code 4: some ids hold something else in
    the space; all others were stored.

    \b
    Example:  echo '{"text": "Backups run at two", "id": "backups"}' > old.jsonl; \
engram migrate import old.jsonl --format jsonl --field content=text --space alpha --create
    Example:  engram migrate import ./chroma --format chroma --into 'agent-{value}' --dry-run
    """
    from engram.cli.migrating import Run
    from engram.cli.reading_files import Asked, opened_source

    named = Named(server, data_root, config, space)
    asked = Asked(format, into, collection, create, embeddings, field or [], extra, keep_times)
    makes = create or into is not None
    with (
        opened_source(file, named, asked) as source,
        opened(named, create=makes and not dry_run) as spaces,
        Run(source, spaces, receipt, as_json=as_json, makes_spaces=makes) as run,
    ):
        if run.planned(dry_run=dry_run):
            run.copied()
            run.ended()


def _mapping(given: list[str]) -> dict[str, str]:
    mapping: dict[str, str] = {}
    for pair in given:
        value, equals, space = pair.rpartition("=")
        if not equals or not value or not space:
            raise Malformed(f"--map {pair!r} is not VALUE=SPACE")
        if mapping.setdefault(value, space) != space:
            raise Malformed(f"--map sends {value!r} to two spaces")
    return mapping
