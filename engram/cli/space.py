"""`engram space create|list|show`: the spaces of a data root or of a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from engram.cli import output, render
from engram.cli.completion import complete_space
from engram.cli.connection import opened
from engram.cli.options import ConfigOption, DataRootOption, JsonOption, Named, ServerOption
from engram.errors import Malformed, SpaceDamaged

if TYPE_CHECKING:
    from engram import SpaceInfo

app = typer.Typer(rich_markup_mode=None, help="Create, list and show memory spaces.")


@app.command("create")
def create(
    space_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="Its id; left out, one is made up.")
    ] = None,
    dimensions: Annotated[
        int | None,
        typer.Option(
            help="For a space whose vectors come with its memories: their dimensions.",
            show_default=False,
        ),
    ] = None,
    if_not_exists: Annotated[
        bool, typer.Option("--if-not-exists", help="Succeed if it exists already.")
    ] = False,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create a memory space.

    The data root is made too if it is not there yet. An id has 1 to 64 of a-z, 0-9, '_' and '-',
    and begins with a letter or digit.

    \b
    Example:  engram space create alpha --if-not-exists
    Example:  engram space create vectors --dimensions 384 --data-root ./data
    """
    from engram import EmbeddingSpec

    spec = None if dimensions is None else EmbeddingSpec(model="caller", dimensions=dimensions)
    if if_not_exists and space_id is None:
        raise Malformed("--if-not-exists needs an id; name the space")
    with opened(Named(server, data_root, config), create=True) as spaces:
        if if_not_exists and space_id is not None:
            space, created = spaces.ensure_space(space_id, embedding=spec)
        else:
            space, created = spaces.create_space(space_id, embedding=spec), True
        if as_json:
            output.print_json({**_document(space.info()), "created": created})
        else:
            output.print_line(f"created {space.id}" if created else f"{space.id} exists already")


@app.command("list")
def list_spaces(
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the spaces, in order of id, without opening them.

    \b
    Example:  engram space create alpha --if-not-exists && engram space list
    Example:  engram space list --server http://127.0.0.1:7432 --json
    """
    with opened(Named(server, data_root, config)) as spaces:
        infos = spaces.spaces()
    if as_json:
        for info in infos:
            output.print_json(_document(info))
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
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a space: state, position, memories, embedding.

    \b
    Example:  engram space create alpha --if-not-exists && engram space show alpha
    """
    with opened(Named(server, data_root, config)) as spaces:
        info = spaces.space_info(space_id)
    document = _document(info)
    if as_json:
        output.print_json(document)
    else:
        output.print_fields(render.space_fields(document))
    if info.state == "damaged":
        raise typer.Exit(SpaceDamaged.exit_code)


def _document(info: SpaceInfo) -> dict[str, object]:
    from engram.server.wire import space_document

    return space_document(info)
