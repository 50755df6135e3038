"""`engram space …`: the spaces of a data root or of a server, from creation to purge.

What is about bundles is in :mod:`engram.cli.bundles`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from engram.cli import bundles, output, render
from engram.cli.asking import confirm, need_terminal
from engram.cli.completion import complete_space
from engram.cli.connection import opened
from engram.cli.options import ConfigOption, DataRootOption, JsonOption, Named, ServerOption
from engram.cli.planned import plan_of
from engram.cli.settings import read_settings
from engram.errors import Malformed, SpaceDamaged

if TYPE_CHECKING:
    from engram import SpaceInfo

app = typer.Typer(
    rich_markup_mode=None,
    help="Create, list, show, copy, delete and restore memory spaces.",
)

DeletedOption = Annotated[
    bool, typer.Option("--deleted", help="Deleted spaces too, as long as they can be restored.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


QuotaOption = Annotated[
    str | None,
    typer.Option(
        "--quota",
        metavar="QUOTAS",
        help="What the space may hold and be asked for: memories:100000, bytes:1000000000 (of its "
        "log), and, of a server, writes_per_second:50, recalls_per_second:50, subscribers:8, with "
        "commas between; or none.",
        show_default=False,
    ),
]


@app.command("create")
def create(
    space_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="Its id; left out, one is made up.")
    ] = None,
    embedding: Annotated[
        str | None,
        typer.Option(
            "--embedding",
            metavar="MODEL",
            help="What makes its vectors, for good: all-minilm-l6-v2-int8, openai:<model>, or "
            "caller. Default: the embedder that needs nothing more.",
            show_default=False,
        ),
    ] = None,
    dimensions: Annotated[
        int | None,
        typer.Option(
            help="Of the vectors; alone, it means that they come with the memories (caller).",
            show_default=False,
        ),
    ] = None,
    if_not_exists: Annotated[
        bool,
        typer.Option("--if-not-exists", help="Succeed if it exists, and is as it is named."),
    ] = False,
    quota: QuotaOption = None,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create a memory space.

    The data root is made too if it is not there yet. An id has 1 to 64 of a-z, 0-9, '_' and '-',
    and begins with a letter or digit. What no flag says, a section [spaces.ID] of engram.toml may.

    \b
    Example:  engram space create alpha --if-not-exists
    Example:  engram space create vectors --dimensions 384 --data-root ./data
    Example:  engram space create quality --embedding all-minilm-l6-v2-int8 --data-root ./data
    Example:  engram space create bounded --quota memories:100000 --data-root ./data
    """
    named = Named(server, data_root, config)
    section = read_settings(named).spaces.get(space_id or "", {})
    plan = plan_of(section, embedding=embedding, dimensions=dimensions, quota=quota)
    if if_not_exists and space_id is None:
        raise Malformed("--if-not-exists needs an id; name the space")
    with opened(named, create=True) as spaces:
        if if_not_exists and space_id is not None:
            space, created = plan.ensure(spaces, space_id)
        else:
            space, created = plan.make(spaces, space_id), True
        if as_json:
            output.print_json({**_document(space.info()), "created": created})
        else:
            output.print_line(f"created {space.id}" if created else f"{space.id} exists already")


@app.command("list")
def list_spaces(
    deleted: DeletedOption = False,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the spaces, in order of id, without opening them.

    With --deleted, those that can be restored are among them.

    \b
    Example:  engram space create alpha --if-not-exists && engram space list
    Example:  engram space list --server http://127.0.0.1:7432 --json
    """
    with opened(Named(server, data_root, config)) as spaces:
        infos = spaces.spaces(deleted=deleted)
    if as_json:
        for info in infos:
            output.print_json(_document(info))
    elif infos and deleted:
        output.print_table(render.ENDED_TITLES, map(render.ended_row, infos))
    elif infos:
        output.print_table(render.SPACE_TITLES, map(render.space_row, infos))
    else:
        output.print_hint("no spaces yet; create one with: engram space create alpha")


@app.command("show")
def show(
    space_id: Annotated[
        str,
        typer.Argument(metavar="ID", help="The space to show.", autocompletion=complete_space),
    ],
    deleted: DeletedOption = False,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a space: state, position, memories, settings.

    \b
    Example:  engram space create alpha --if-not-exists && engram space show alpha
    """
    with opened(Named(server, data_root, config)) as spaces:
        info = spaces.space_info(space_id, deleted=deleted)
    document = _document(info)
    if as_json:
        output.print_json(document)
    else:
        output.print_fields(render.space_fields(document))
    if info.state == "damaged":
        raise typer.Exit(SpaceDamaged.exit_code)


RetentionOption = Annotated[
    str | None,
    typer.Option(
        "--retention",
        metavar="AMOUNT",
        help="How much of its history has to stay: all, positions:10000 (the last ones), or "
        "age:30d (s, m, h or d).",
        show_default=False,
    ),
]
DecayOption = Annotated[
    str | None,
    typer.Option(
        "--decay",
        metavar="LAW",
        help="How memories fade that nobody uses: power:0.5 (the exponent), exponential:30d "
        "(the half-life) or none; and, behind it, what it counts for in recall: ,weight:0.1.",
        show_default=False,
    ),
]
ForgettingOption = Annotated[
    str | None,
    typer.Option(
        "--forgetting",
        metavar="POLICY",
        help="What is forgotten by itself: none, or capacity:50000 (living memories at most), "
        "threshold:-7.5 (a base level), grace:1d, spare:belief, spare-tag:pinned, with commas "
        "between.",
        show_default=False,
    ),
]
ConsolidationOption = Annotated[
    str | None,
    typer.Option(
        "--consolidation",
        metavar="WHEN",
        help="When beliefs are formed by themselves: after:100 (new episodes), every:1d "
        "(s, m, h or d), after:100,every:1d or off.",
        show_default=False,
    ),
]


@app.command("configure")
def configure(
    space_id: Annotated[
        str,
        typer.Argument(metavar="ID", help="The space to set up.", autocompletion=complete_space),
    ],
    retention: RetentionOption = None,
    decay: DecayOption = None,
    forgetting: ForgettingOption = None,
    consolidation: ConsolidationOption = None,
    quota: QuotaOption = None,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set what a space keeps, forgets and believes.

    What is not named stays as it is. Of history, at least so much stays; what lies before it goes
    when the space is compacted, and can then no longer be watched from its beginning; what is
    remembered stays, whatever is set of it. A memory fades while it is not recalled, and comes a
    little later among others that match as well; with ,weight:0 that does not count. By a policy,
    the weakest memories beyond its capacity are forgotten, and those that have faded below its
    threshold; `engram restore` takes them back, and `engram forget --policy --dry-run` names what
    would go.

    \b
    Example:  engram space create alpha --if-not-exists && engram space configure alpha \
--retention age:30d
    Example:  engram space configure alpha --retention positions:10000 --decay exponential:30d
    Example:  engram space configure alpha --decay power:0.5,weight:0.05
    Example:  engram space configure alpha --forgetting capacity:50000,spare:belief,spare:fact
    Example:  engram space configure alpha --consolidation after:100,every:1d
    Example:  engram space configure alpha --quota memories:100000,writes_per_second:50
    """
    from engram.memory.settings import given_settings

    settings = given_settings(
        retention=retention,
        decay=decay,
        forgetting=forgetting,
        consolidation=consolidation,
        quotas=quota,
    )
    with opened(Named(server, data_root, config)) as spaces:
        info = spaces.space(space_id).configure(**settings)
    if as_json:
        output.print_json(_document(info))
    else:
        output.print_line(f"configured {space_id}: {render.settings_text(info)}")


@app.command("delete")
def delete(
    space_id: Annotated[
        str,
        typer.Argument(metavar="ID", help="The space to delete.", autocompletion=complete_space),
    ],
    yes: YesOption = False,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete a space, so that it can be restored.

    For a week it can be restored as it was, and its id stays taken. After that time it is purged
    when the data root is next opened. It asks before it does it, and needs --yes where there is no
    terminal to ask on.

    \b
    Example:  engram space create trial --if-not-exists && engram space delete trial --yes && \
engram space restore trial
    """
    need_terminal(yes, "to delete a space takes it from whoever uses it")
    with opened(Named(server, data_root, config)) as spaces:
        if not yes:
            info = spaces.space_info(space_id)
            held = "" if info.memories is None else f" with its {info.memories} memories"
            confirm(f"Delete the space {info.memory_space_id}{held}?", "nothing was deleted")
        deleted = spaces.delete_space(space_id)
    if as_json:
        output.print_json(deleted)
    else:
        until = render.time_text(deleted.purge_after)
        output.print_line(f"deleted {space_id}, which can be restored until {until}")


@app.command("restore")
def restore(
    space_id: Annotated[str, typer.Argument(metavar="ID", help="The deleted space.")],
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a deleted space back.

    It is as it was: its memories, its history, its positions. `engram space list --deleted` shows
    what can be restored. A single forgotten memory is taken back with `engram restore`.

    \b
    Example:  engram space create trial --if-not-exists && engram space delete trial --yes && \
engram space restore trial
    """
    with opened(Named(server, data_root, config)) as spaces:
        info = spaces.restore_space(space_id).info()
    if as_json:
        output.print_json(_document(info))
    else:
        output.print_line(f"restored {space_id}")


@app.command("reopen")
def reopen(
    space_id: Annotated[
        str,
        typer.Argument(metavar="ID", help="The space to reopen.", autocompletion=complete_space),
    ],
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a space into use again whose disk failed.

    After a failed sync nobody knows what is stored, so a server takes no more writes to that space:
    it is poisoned. This recovers it from what the disk holds, and whoever follows it goes on. Look
    then whether the writes that failed are there. A damaged space is verified again, which ends
    with exit code 5 if it still is. Of any other space nothing is changed.

    \b
    Example:  engram space create alpha --if-not-exists && engram space reopen alpha
    """
    with opened(Named(server, data_root, config)) as spaces:
        info = spaces.space(space_id).reopen()
    if as_json:
        output.print_json(_document(info))
    else:
        output.print_line(f"{space_id} is {info.state}: {output.one_line(info.detail or '')}")


@app.command("purge")
def purge(
    space_id: Annotated[str, typer.Argument(metavar="ID", help="The deleted space.")],
    yes: YesOption = False,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove a deleted space for good.

    Every file of it is removed, and a receipt says so; asked again, it is the same receipt. Only a
    deleted space can be purged. It asks before it does it, and needs --yes where there is no
    terminal to ask on. Copies and backups are not reached.

    \b
    Example:  engram space create brief --if-not-exists && engram space delete brief --yes && \
engram space purge brief --yes
    """
    need_terminal(yes, "to purge is for good")
    with opened(Named(server, data_root, config)) as spaces:
        if not yes:
            confirm(f"Purge the deleted space {space_id} for good?", "nothing was purged")
        receipt = spaces.purge_space(space_id)
    if as_json:
        output.print_json({"receipt": receipt})
    else:
        output.print_line(
            f"purged {receipt.memory_space_id}, generation {receipt.generation}, at "
            f"{render.time_text(receipt.purged_at)}: {receipt.files} files, "
            f"{render.size_text(receipt.bytes)}"
        )


app.command("export")(bundles.export)
app.command("import")(bundles.import_space)
app.command("fork")(bundles.fork)


def _document(info: SpaceInfo) -> dict[str, object]:
    from engram.server.wire import space_document

    return space_document(info)
