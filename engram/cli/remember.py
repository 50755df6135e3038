"""`engram remember`: one memory, or a file of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from engram.cli import output
from engram.cli.connection import opened_space
from engram.cli.given import content_of, metadata_of
from engram.cli.options import (
    AtOption,
    ConfidenceOption,
    ConfigOption,
    DataRootOption,
    ExpiresOption,
    JsonOption,
    Kind,
    Named,
    OnConflict,
    ServerOption,
    SourceOption,
    SpaceOption,
)
from engram.cli.settings import read_settings, space_of
from engram.cli.times import time_of
from engram.errors import Malformed

TagOption = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="TAG", help="A tag; may be given several times."),
]
FileOption = Annotated[
    str | None,
    typer.Option(
        "--file",
        metavar="FILE|-",
        help="Remember every line of a JSON Lines file, - for stdin.",
    ),
]
ConflictOption = Annotated[
    OnConflict | None,
    typer.Option(
        "--on-conflict",
        help="What to do where the id lives: refuse (error, the default), leave what is there as "
        "it is (skip), or make it the next revision (replace).",
        show_default=False,
    ),
]
FromLineOption = Annotated[
    int | None,
    typer.Option(
        "--from-line", min=1, metavar="N", help="Pass over the lines of --file before this one."
    ),
]


def remember(
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT|-", help="What to remember; - reads it from stdin."),
    ] = None,
    memory_id: Annotated[
        str | None,
        typer.Option("--id", metavar="ID", help="Its id. Left out, one is made up."),
    ] = None,
    tag: TagOption = None,
    metadata: Annotated[
        str | None,
        typer.Option("--metadata", metavar="JSON", help="A JSON object to keep with it."),
    ] = None,
    at: AtOption = None,
    expires: ExpiresOption = None,
    source: SourceOption = None,
    kind: Annotated[
        Kind | None,
        typer.Option("--kind", help="What it is. Default: episode.", show_default=False),
    ] = None,
    confidence: ConfidenceOption = None,
    file: FileOption = None,
    from_line: FromLineOption = None,
    on_conflict: ConflictOption = None,
    space: SpaceOption = None,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remember something, durably.

    It is on disk when the command ends. Times are dates (2026-05-01), local times or RFC 3339.

    Each line of --file is a JSON object: content and, if wanted, id, tags, metadata, occurred_at,
    expires_at, kind, confidence, embedding and source. Up to 500 lines at once are stored or none
    of them. If one cannot be, the command tells which, what is durable, and how to go on. With
    --on-conflict skip, a file can be given again: what is there already stays as it is.

    \b
    Example:  engram space create alpha --if-not-exists && engram remember "Backups run at two" \
--space alpha
    Example:  engram remember --file messages.jsonl --space alpha
    """
    named = Named(server, data_root, config, space)
    space_of(read_settings(named))  # said before standard input is read, which may take long
    times = {"occurred_at": time_of("--at", at), "expires_at": time_of("--expires", expires)}
    options: dict[str, Any] = {
        "id": memory_id,
        "tags": tag,
        "metadata": metadata_of(metadata),
        **times,
    }
    options |= {"source": source, "kind": kind, "confidence": confidence}
    given = {name: value for name, value in options.items() if value is not None}
    if file is not None:
        _refuse_beside_file(text, given)
        _remember_file(named, file, from_line or 1, on_conflict, as_json=as_json)
    elif text is None:
        raise Malformed(
            "there is nothing to remember: give the text, - for standard input, or --file FILE"
        )
    elif from_line is not None:
        raise Malformed("--from-line goes with --file")
    elif on_conflict is not None and memory_id is None:
        raise Malformed("--on-conflict goes with --id, or --file; without one the id is new")
    else:
        given["content"] = content_of(text)
        _remember_one(named, given, on_conflict, as_json=as_json)


def _remember_one(
    named: Named, new: Mapping[str, Any], on_conflict: OnConflict | None, *, as_json: bool
) -> None:
    from engram.spaces.requests import told_of_one

    with opened_space(named) as place, told_of_one():
        stored = place.remember_many([new], on_conflict=on_conflict or "error")
    memory, shown = stored.memories[0], output.printable(stored.memories[0].id)
    if as_json:
        output.print_json(memory)
    elif stored.skipped:
        output.print_line(f"{shown} was there, and stays as it is at position {memory.position}")
    elif memory.revision > 1 and on_conflict == "replace":
        output.print_line(
            f"remembered {shown} as revision {memory.revision} at position {memory.position}"
        )
    else:
        output.print_line(f"remembered {shown} at position {memory.position}")
    if memory.expires_at is not None and memory.expires_at <= datetime.now(UTC):
        output.print_hint("it has expired already: no recall and no list will find it")


def _remember_file(
    named: Named, file: str, from_line: int, on_conflict: OnConflict | None, *, as_json: bool
) -> None:
    from engram.cli.ingest import ingest, opened_lines

    with opened_lines(file) as lines, opened_space(named) as place:
        stored = ingest(place, lines, from_line, on_conflict or "error")
        space_id = place.id
    if as_json:
        document = {
            "memory_space_id": space_id,
            "memories": stored.memories,
            "position": stored.position,
        }
        if on_conflict == "skip":
            document["skipped"] = stored.skipped
        output.print_json(document)
    else:
        what = "1 memory" if stored.memories == 1 else f"{stored.memories} memories"
        there = f"; {stored.skipped} were there" if stored.skipped else ""
        output.print_line(f"remembered {what}{there}; durable up to position {stored.position}")


def _refuse_beside_file(text: str | None, given: Mapping[str, object]) -> None:
    if text is not None:
        raise Malformed("TEXT and --file exclude each other. Give one of them")
    if given:
        raise Malformed(
            f"with --file, {next(iter(given))} is said in each line of the file, not as an option"
        )
