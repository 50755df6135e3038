"""Options that several commands share, and the data root they mean."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import typer

DATA_ROOT_VARIABLE: Final = "ENGRAM_DATA_ROOT"

DataRootOption = Annotated[
    Path | None,
    typer.Option(
        "--data-root",
        metavar="DIR",
        help=f"Folder that holds the spaces. Default: ${DATA_ROOT_VARIABLE}, else your XDG data "
        "folder (~/.local/share/engram).",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON: one document, or one per line for lists.")
]


def data_root(given: Path | None) -> Path:
    """The folder to work on: the flag, else the environment, else the XDG data folder."""
    if given is not None:
        return given
    if from_environment := os.environ.get(DATA_ROOT_VARIABLE):
        return Path(from_environment)
    base = Path(os.environ.get("XDG_DATA_HOME", ""))
    # The XDG specification has relative paths ignored.
    return (base if base.is_absolute() else Path.home() / ".local" / "share") / "engram"
