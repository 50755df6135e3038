"""`engram space create|list|show`: the spaces of a data root, without a server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engram.cli import output
from engram.cli.options import DataRootOption, JsonOption, data_root
from engram.errors import Malformed, SpaceDamaged

if TYPE_CHECKING:
    from engram import Database, SpaceInfo

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
    data_root_given: DataRootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create a memory space.

    An id has 1 to 64 of a-z, 0-9, '_' and '-', and begins with a letter or digit.

    Example:  engram space create alpha --data-root ./data
    """
    from engram import EmbeddingSpec

    spec = None if dimensions is None else EmbeddingSpec(model="caller", dimensions=dimensions)
    with _opened(data_root_given, create=True) as db:
        if not if_not_exists:
            space, created = db.create_space(space_id, embedding=spec), True
        elif space_id is not None:
            space, created = db.ensure_space(space_id, embedding=spec)
        else:
            raise Malformed("--if-not-exists needs an id; name the space")
        if as_json:
            output.print_json({**_document(space.info()), "created": created})
        else:
            output.print_line(f"created {space.id}" if created else f"{space.id} exists already")


@app.command("list")
def list_spaces(data_root_given: DataRootOption = None, as_json: JsonOption = False) -> None:
    """List the spaces of a data root, in order of id, without opening them.

    Example:  engram space list --data-root ./data
    """
    with _opened(data_root_given, create=False) as db:
        infos = db.spaces()
    if as_json:
        for info in infos:
            output.print_json(_document(info))
    elif infos:
        titles = ("SPACE", "CREATED", "EMBEDDING", "DIMENSIONS")
        output.print_table(titles, [_row(info) for info in infos])
    else:
        output.print_hint("no spaces yet; create one with: engram space create alpha")


@app.command("show")
def show(
    space_id: Annotated[str, typer.Argument(metavar="ID", help="The space to show.")],
    data_root_given: DataRootOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a space: its state, position, memories, size and embedding.

    Example:  engram space show alpha --data-root ./data
    """
    with _opened(data_root_given, create=False) as db:
        info = db.space_info(space_id)
    document = _document(info)
    if as_json:
        output.print_json(document)
    else:
        width = max(map(len, document))
        for name, value in document.items():
            output.print_line(f"{name.ljust(width)}  {_shown(value)}")
    if info.state == "damaged":
        raise typer.Exit(SpaceDamaged.exit_code)


@contextmanager
def _opened(given: Path | None, *, create: bool) -> Iterator[Database]:
    import engram

    owner = f"engram space, pid {os.getpid()}"
    with engram.open(data_root(given), create=create, owner=owner) as db:
        yield db


def _document(info: SpaceInfo) -> dict[str, object]:
    from engram.server.wire import space_document

    return space_document(info)


def _row(info: SpaceInfo) -> tuple[str, ...]:
    if info.embedding is None or info.created_at is None:
        return (info.memory_space_id, info.state or "", "", "")
    created = info.created_at.strftime("%Y-%m-%d %H:%M:%SZ")
    return (
        info.memory_space_id,
        created,
        info.embedding.model,
        str(info.embedding.dimensions),
    )


def _shown(value: object) -> str:
    """A figure of a space as text; what is not known is a dash."""
    from engram import EmbeddingSpec

    if isinstance(value, EmbeddingSpec):
        return f"{value.model}, {value.dimensions} dimensions"
    return "-" if value is None else str(value)
