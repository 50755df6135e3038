"""`engram serve`."""

from __future__ import annotations

import logging
import os
from typing import Annotated, Final

import typer

from engram.cli import output
from engram.cli.options import DataRootOption, JsonOption, data_root

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 7432


def serve(
    data_root_given: DataRootOption = None,
    host: Annotated[
        str, typer.Option(help="Loopback address to listen on; others need access keys.")
    ] = DEFAULT_HOST,
    port: Annotated[int, typer.Option(help="Port; 0 picks a free one.")] = DEFAULT_PORT,
    as_json: JsonOption = False,
) -> None:
    """Serve the spaces of a data root over HTTP until Ctrl-C or SIGTERM.

    Prints `engram ready http://HOST:PORT` once it takes requests.

    Example:  engram serve --data-root ./data --port 7432
    """
    from engram.server.serve import serve as run

    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    root = data_root(data_root_given)

    def announce(url: str) -> None:
        if as_json:
            output.print_json({"ready": url, "data_root": str(root.absolute()), "pid": os.getpid()})
            return
        for hint in _what_to_try(url):
            output.print_hint(hint)
        output.print_line(f"engram ready {url}")

    run(root, host, port, announce=announce)


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
