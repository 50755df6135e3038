"""`engram space export`, `import` and `fork`: a space as a file, from a file, and as a copy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from engram.cli import output, render
from engram.cli.completion import complete_space
from engram.cli.connection import opened
from engram.cli.exit_codes import INTERRUPTED
from engram.cli.given import embedding_of
from engram.cli.options import ConfigOption, DataRootOption, JsonOption, Named, ServerOption
from engram.errors import Malformed, SpaceExists

if TYPE_CHECKING:
    from engram import EmbeddingSpec, ExportReport, Origin
    from engram.cli.connection import OpenSpace

SpaceArgument = Annotated[
    str, typer.Argument(metavar="ID", help="The space.", autocompletion=complete_space)
]


def export(
    space_id: SpaceArgument,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to, or - for stdout.")],
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace FILE if it is there.")
    ] = False,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a space into one file.

    The bundle holds its memories and its history as it is retained, up to one position; reads and
    writes go on meanwhile. The file gets its name once all of it is on the disk, and replaces
    nothing without --force. What was purged is not in it.

    \b
    Example:  engram space create alpha --if-not-exists && engram space export alpha alpha.engram \
--force
    Example:  engram space export alpha - --server http://127.0.0.1:7432 | gzip > alpha.engram.gz
    """
    to_stdout = file == "-"
    if to_stdout and as_json:
        raise Malformed("--json and the bundle cannot both go to standard output; name a file")
    if to_stdout and sys.stdout.isatty():
        raise Malformed("a bundle is not for a terminal; name a file, or redirect the output")
    if not file:
        raise Malformed("FILE is empty; name a file, or - for standard output")
    with opened(Named(server, data_root, config)) as spaces:
        report = _exported(spaces.space(space_id), None if to_stdout else Path(file), force)
    if as_json:
        output.print_json({"file": file, "report": report})
    elif not to_stdout:
        output.print_line(_told(report, file))
    elif output.is_terminal(sys.stderr):
        output.print_hint(_told(report, "standard output"))


def _exported(place: OpenSpace, path: Path | None, force: bool) -> ExportReport:
    from engram.bundles.files import opened_target

    try:
        with _progress("exporting", lambda: place.info().bytes) as advance:
            if path is None:
                return place.export(_Stdout(advance))
            with opened_target(path, force=force) as target:

                class Counted:
                    def write(self, data: bytes, /) -> int | None:
                        taken = target.write(data)
                        advance(len(data))
                        return taken

                return place.export(Counted())
    except FileExistsError:
        raise SpaceExists(
            f"{path} is there already; name another file, or add --force to replace it"
        ) from None
    except OSError as error:
        raise Malformed(f"{path} cannot be written: {error.strerror or error}") from error


class _Stdout:
    """Standard output as a file of bytes."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance

    def write(self, data: bytes, /) -> int:
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except OSError as error:
            raise output.output_failed(error) from None
        self._advance(len(data))
        return len(data)


def _told(report: ExportReport, where: str) -> str:
    return (
        f"exported {report.memory_space_id} to {output.printable(where)}: positions "
        f"{report.oldest_position} to {report.position}, {render.size_text(report.bytes)}"
    )


def import_space(
    space_id: Annotated[str, typer.Argument(metavar="ID", help="The id of the new space.")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="A bundle, or - for stdin.")],
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a space from a bundle.

    It has the memories, positions and times of the space that was exported, under an id of its own,
    and is there whole or not at all. A bundle that is damaged or cut short is refused. The data
    root is made too if it is not there yet.

    \b
    Example:  engram space create alpha --if-not-exists && engram space export alpha a.engram -f \
&& engram space import copy a.engram && engram space delete copy -y && engram space purge copy -y
    Example:  gunzip < alpha.engram.gz | engram space import alpha-again -
    """
    with (
        _opened_bundle(file) as (source, size),
        opened(Named(server, data_root, config), create=True) as spaces,
        _progress("importing", lambda: size) as advance,
    ):

        class Counted:
            def read(self, length: int, /) -> bytes:
                data = source.read(length)
                advance(len(data))
                return data

        space = spaces.import_space(space_id, Counted())
    _print_made("imported", space_id, space.origin, as_json)


@contextmanager
def _opened_bundle(file: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """The bundle, and its length where that is known."""
    if file == "-":
        if sys.stdin is None:
            raise Malformed("standard input is closed; name a file")
        yield sys.stdin.buffer, None
        return
    path = Path(file)
    try:
        stream = path.open("rb")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Malformed(f"{file!r} cannot be read: {reason}") from None
    with stream:
        yield stream, path.stat().st_size if path.is_file() else None


def fork(
    space_id: SpaceArgument,
    new_id: Annotated[str, typer.Argument(metavar="NEW-ID", help="The id of the copy.")],
    as_of: Annotated[
        int | None,
        typer.Option(
            "--as-of",
            metavar="POSITION",
            help="Copy what the space was at this position.",
            show_default=False,
        ),
    ] = None,
    embedding: Annotated[
        str | None,
        typer.Option(
            "--embedding",
            metavar="MODEL",
            help="Embed it anew: wordllama-l2-256, all-minilm-l6-v2-int8, or openai:<model>.",
            show_default=False,
        ),
    ] = None,
    dimensions: Annotated[
        int | None,
        typer.Option(help="Of the new vectors, for openai:<model>.", show_default=False),
    ] = None,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Copy a space under another id.

    The copy has the same memories, positions and times, and goes its own way from there. A batch is
    stored whole or not at all: where --as-of falls inside one, the copy ends before it.

    With --embedding its memories are embedded anew, forgotten ones too; history begins behind the
    position of the copy, since what was before has another embedder's vectors. Cut off, the same
    command goes on with what was done, for seven days; the space stays as it is.

    \b
    Example:  engram space create alpha --if-not-exists && engram space fork alpha branch && \
engram space delete branch -y && engram space purge branch -y
    Example:  engram space fork alpha as-it-was --as-of 1200
    Example:  engram space fork alpha better --embedding all-minilm-l6-v2-int8
    """
    if dimensions is not None and embedding is None:
        raise Malformed("--dimensions needs --embedding; name the model")
    spec = embedding_of(embedding, dimensions)
    with opened(Named(server, data_root, config)) as spaces:
        space = spaces.space(space_id)
        made = (
            space.fork(new_id, as_of) if spec is None else _reembedded(space, new_id, as_of, spec)
        )
    _print_made("forked", new_id, made.origin, as_json)


def _reembedded(space: OpenSpace, new_id: str, as_of: int | None, spec: EmbeddingSpec) -> OpenSpace:
    from engram import Space

    try:
        with _counting() as progress:
            if isinstance(space, Space):
                return space.fork(new_id, as_of, embedding=spec, progress=progress)
            return space.fork(new_id, as_of, embedding=spec)
    except KeyboardInterrupt:
        output.print_hint(
            "engram: interrupted. What was embedded is kept: the same command goes on from there"
        )
        raise typer.Exit(INTERRUPTED) from None


def _print_made(what: str, space_id: str, origin: Origin | None, as_json: bool) -> None:
    if as_json:
        output.print_json({"memory_space_id": space_id, "origin": origin})
        return
    if origin is None:
        raise RuntimeError("a space that was just made from another knows which")
    text = (
        f"{what} {space_id} from {output.printable(origin.memory_space_id)}, up to position "
        f"{origin.position}"
    )
    if origin.rounded:
        text += f": {origin.as_of} falls inside a batch, or on a deletion, so it ends before that"
    if (anew := origin.reembedded) is not None:
        memories = "1 memory" if anew.memories == 1 else f"{anew.memories} memories"
        text += f"; {memories} embedded anew with {output.printable(anew.model)}"
        if anew.resumed:
            text += f", {anew.resumed} of them by an attempt before"
    output.print_line(text)


@contextmanager
def _counting() -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr if that is a terminal; call what it yields with memories done and in all."""
    if not output.is_terminal(sys.stderr):
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Remaining())
    console = output.console_on(sys.stderr)
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("embedding", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def _progress(what: str, total: Callable[[], int | None]) -> Iterator[Callable[[int], None]]:
    """A bar on stderr if that is a terminal; call what it yields with the bytes that came."""
    if not output.is_terminal(sys.stderr):
        yield lambda size: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = output.console_on(sys.stderr)
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total())
        yield lambda size: progress.advance(task, size)
