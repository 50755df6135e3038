"""Options that several commands share, and what the values given to them stand for."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import typer

from engram.cli.completion import complete_space

Kind = Literal["episode", "belief", "fact"]
OnConflict = Literal["error", "skip", "replace"]
Mode = Literal["similarity", "lexical", "hybrid", "spreading"]

SpaceOption = Annotated[
    str | None,
    typer.Option(
        "--space",
        metavar="ID",
        help="The memory space. Default: $ENGRAM_SPACE, else default_space of engram.toml.",
        show_default=False,
        autocompletion=complete_space,
    ),
]
ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        help="Work on the spaces of this server instead of a data root. Default: $ENGRAM_SERVER.",
        show_default=False,
    ),
]
DataRootOption = Annotated[
    str | None,
    typer.Option(
        "--data-root",
        metavar="DIR",
        help="Folder that holds the spaces. Default: $ENGRAM_DATA_ROOT, else your XDG data "
        "folder (~/.local/share/engram).",
        show_default=False,
    ),
]
ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Configuration file. Default: $ENGRAM_CONFIG, else ./engram.toml, else "
        "~/.config/engram/engram.toml.",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON: one document, or one per line for lists.")
]
MemoryArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of the memory.")]
TagFilterOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tag", metavar="TAG", help="Only memories with this tag; several: with all of them."
    ),
]
KindFilterOption = Annotated[
    Kind | None, typer.Option("--kind", help="Only memories of this kind.", show_default=False)
]
SourceFilterOption = Annotated[
    str | None,
    typer.Option(
        "--source", metavar="TEXT", help="Only memories from this source.", show_default=False
    ),
]
FromOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="TIME",
        help="Only what happened at this time or later: 2026-05-01, or RFC 3339 as "
        "2026-05-01T09:00:00Z. Without a zone it is your local time.",
        show_default=False,
    ),
]
ToOption = Annotated[
    str | None,
    typer.Option(
        "--to",
        metavar="TIME",
        help="Only what happened before this time; a date means its midnight.",
        show_default=False,
    ),
]
AsOfOption = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        metavar="POSITION|TIME",
        help="What the space was once this position was applied, or at this time.",
        show_default=False,
    ),
]
AtOption = Annotated[str | None, typer.Option("--at", metavar="TIME", help="When it happened.")]
ExpiresOption = Annotated[
    str | None,
    typer.Option("--expires", metavar="TIME", help="When it is to be forgotten by itself."),
]
SourceOption = Annotated[
    str | None, typer.Option("--source", metavar="TEXT", help="Where it comes from.")
]
IfMatchOption = Annotated[
    str | None,
    typer.Option(
        "--if-match",
        metavar="ETAG",
        help="Only if it is still the revision with this etag, as `engram get --etag` says it.",
    ),
]
ConfidenceOption = Annotated[
    float | None,
    typer.Option("--confidence", metavar="NUMBER", help="How sure it is, from 0 to 1."),
]


class Named(NamedTuple):
    """What a command line named: where to work, and on which space. None was not given."""

    server: str | None = None
    data_root: str | None = None
    config: str | None = None
    space: str | None = None
