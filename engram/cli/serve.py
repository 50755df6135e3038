"""`engram serve`."""

from __future__ import annotations

import logging
import os
from typing import Annotated

import typer

from engram.cli import output
from engram.cli.connection import data_root_of
from engram.cli.options import ConfigOption, DataRootOption, JsonOption, Named
from engram.cli.settings import read_settings
from engram.config import DEFAULT_HOST, DEFAULT_PORT


def serve(
    data_root: DataRootOption = None,
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            help="Loopback address to listen on; others need access keys. Default: $ENGRAM_HOST, "
            f"else {DEFAULT_HOST}.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            help=f"Port; 0 picks a free one. Default: $ENGRAM_PORT, else {DEFAULT_PORT}.",
            show_default=False,
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the spaces of a data root over HTTP.

    Until Ctrl-C or SIGTERM. Prints `engram ready http://HOST:PORT` once it takes requests.

    \b
    Example:  engram serve --data-root ./data
    Example:  engram serve --port 0 --json
    """
    settings = read_settings(Named(data_root=data_root, config=config), host=host, port=port)

    from engram.server.serve import serve as run

    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    root = data_root_of(settings)

    def announce(url: str) -> None:
        if as_json:
            output.print_json({"ready": url, "data_root": str(root.absolute()), "pid": os.getpid()})
            return
        for hint in _what_to_try(url):
            output.print_hint(hint)
        output.print_line(f"engram ready {url}")

    run(root, str(settings.host.value), int(settings.port.value or 0), announce=announce)


def _what_to_try(url: str) -> tuple[str, ...]:
    json_header = "-H 'Content-Type: application/json'"
    return (
        "Try, in another terminal:",
        f"  curl -X PUT {url}/api/v1/spaces/alpha",
        f"  curl {url}/api/v1/spaces/alpha/memories {json_header} "
        """-d '{"content": "The deploy key is rotated every Monday"}'""",
        f"  curl {url}/api/v1/spaces/alpha/recall {json_header} "
        """-d '{"query": "when is the deploy key rotated?"}'""",
        "Ctrl-C stops the server.",
    )
