"""The question before what cannot be taken back lightly."""

from __future__ import annotations

import sys

import typer

from engram.cli import output
from engram.errors import Malformed


def can_ask() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def need_terminal(yes: bool, what: str) -> None:
    """Refuse to go on unasked where there is nobody to ask; `what` begins the refusal."""
    if not yes and not can_ask():
        raise Malformed(f"{what}, and there is no terminal to ask on; add --yes")


def confirm(question: str, otherwise: str) -> None:
    """Ask on the terminal; a no ends the command with exit code 1, saying `otherwise`."""
    if not typer.confirm(question, err=True):
        output.print_hint(otherwise)
        raise typer.Exit(1)
