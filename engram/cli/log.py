"""`engram log …`: a space's log, offline and without the engine."""

from __future__ import annotations

import typer

app = typer.Typer(rich_markup_mode=None, help="Look into the log of a space, offline.")
