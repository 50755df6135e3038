"""What the Tab key offers. It asks no server, opens no space, makes nothing and never fails."""

from __future__ import annotations

import os
from itertools import islice
from typing import Final

import typer

SPACES_MAX: Final = 1_000
"""Nobody reads more, and folders beyond are not looked at."""


def complete_space(context: typer.Context, incomplete: str) -> list[str]:
    """The ids of the spaces in the data root that the line so far means."""
    try:
        return _spaces(context.params, incomplete)
    except Exception:  # whatever it is: an error must not end up in the line being typed
        return []


def _spaces(given: dict[str, object], incomplete: str) -> list[str]:
    from engram.cli.options import Named
    from engram.cli.settings import read_settings

    def text(name: str) -> str | None:
        value = given.get(name)
        return value if isinstance(value, str) else None

    named = Named(text("server"), text("data_root"), text("config"))
    target = read_settings(named).target
    if target.name != "data_root":
        return []
    with os.scandir(str(target.value)) as entries:
        return sorted(
            entry.name
            for entry in islice(entries, SPACES_MAX)
            if entry.name.startswith(incomplete)
            and not entry.name.startswith(".")
            and os.path.exists(os.path.join(entry.path, "space.json"))  # noqa: PTH110, PTH118
        )
