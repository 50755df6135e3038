"""`engram config show`: which settings hold, and where each comes from."""

from __future__ import annotations

import os
import re
from typing import Any

import typer

from engram.cli import output
from engram.cli.options import (
    ConfigOption,
    DataRootOption,
    JsonOption,
    Named,
    ServerOption,
    SpaceOption,
)
from engram.cli.settings import read_settings
from engram.config import API_KEY_VARIABLE, KEYS, Settings
from engram.sections import SPACES

app = typer.Typer(rich_markup_mode=None, help="See which settings hold.")


@app.callback()
def config() -> None:
    """See which settings hold, and where they come from."""


@app.command("show")
def show(
    space: SpaceOption = None,
    server: ServerOption = None,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show every setting and where it comes from.

    A flag beats the environment, the environment the configuration file, the file a default. The
    configuration file is TOML with the keys shown here; every one is also an environment variable,
    as ENGRAM_PORT is for port (and ENGRAM_SPACE for default_space). An API key is only taken from
    ENGRAM_API_KEY and never shown. Sections [spaces.ID] say how `engram space create ID` makes a
    space, in the words of its flags and those of `engram space configure`.

    \b
    Example:  engram config show
    Example:  ENGRAM_PORT=7000 engram config show --json
    """
    settings = read_settings(Named(server, data_root, config, space))
    key = "set" if os.environ.get(API_KEY_VARIABLE) else "not set"
    if as_json:
        output.print_json(_document(settings, key))
        return
    rows = [
        (
            name,
            "-" if found["value"] is None else output.printable(str(found["value"])),
            output.printable(found["origin"]),
        )
        for name, found in _document(settings, key)["settings"].items()
    ]
    output.print_table(("KEY", "VALUE", "FROM"), rows)
    if settings.file is not None:
        output.print_hint(f"configuration file: {output.printable(settings.file.path)}")


def _document(settings: Settings, key: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in (known.name for known in KEYS):
        setting = getattr(settings, name)
        value = setting.value
        if isinstance(value, str) and name == "server":
            # The client refuses such a URL; it is shown by somebody looking for the reason.
            value = re.sub(r"//[^/@]*@", "//***@", value)
        found[name] = {"value": value, "origin": setting.origin}
    origin = "default" if key == "not set" else f"environment variable {API_KEY_VARIABLE}"
    found["api_key"] = {"value": key, "origin": origin}
    if settings.file is not None:
        for space_id, section in settings.spaces.items():
            for name, value in section.items():
                found[f"{SPACES}.{space_id}.{name}"] = {
                    "value": value,
                    "origin": settings.file.path,
                }
    return {"file": None if settings.file is None else settings.file.path, "settings": found}
