"""`engram serve`."""

from __future__ import annotations

import logging
import os
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from engram.cli import output
from engram.cli.connection import data_root_of
from engram.cli.options import ConfigOption, DataRootOption, JsonOption, Named
from engram.cli.planned import plan_of
from engram.cli.settings import read_settings
from engram.config import (
    DEFAULT_DELETE_GRACE_S,
    DEFAULT_GRPC_PORT,
    DEFAULT_HOST,
    DEFAULT_OPEN_BYTES_MAX,
    DEFAULT_OPEN_SPACES_MAX,
    DEFAULT_PAST_BYTES_MAX,
    DEFAULT_PORT,
    DEFAULT_SCRUB_BYTES_PER_S,
    OFF,
    Settings,
)
from engram.errors import Malformed

if TYPE_CHECKING:
    from engram.server.serve import GrpcPort, Ready

GrpcPortOption = Annotated[
    str | None,
    typer.Option(
        "--grpc-port",
        metavar="PORT|off",
        help="Port for gRPC; 0 picks a free one, off serves none. Default: $ENGRAM_GRPC_PORT, else "
        f"{DEFAULT_GRPC_PORT}, or a free one where that is taken or --port is 0.",
        show_default=False,
    ),
]

GraceOption = Annotated[
    int | None,
    typer.Option(
        "--delete-grace-s",
        metavar="SECONDS",
        help="How long a space deleted here can be restored. Default: $ENGRAM_DELETE_GRACE_S, "
        f"else {DEFAULT_DELETE_GRACE_S}, which is a week.",
        show_default=False,
    ),
]
OpenSpacesOption = Annotated[
    int | None,
    typer.Option(
        "--open-spaces-max",
        metavar="NUMBER",
        help="Spaces that stay open at once; beyond it, those used least recently are closed "
        "until their next use. Default: $ENGRAM_OPEN_SPACES_MAX, else "
        f"{DEFAULT_OPEN_SPACES_MAX}.",
        show_default=False,
    ),
]
OpenBytesOption = Annotated[
    int | None,
    typer.Option(
        "--open-bytes-max",
        metavar="BYTES",
        help="Memory that open spaces may take together, about. Default: "
        f"$ENGRAM_OPEN_BYTES_MAX, else {DEFAULT_OPEN_BYTES_MAX}.",
        show_default=False,
    ),
]
PastBytesOption = Annotated[
    int | None,
    typer.Option(
        "--past-bytes-max",
        metavar="BYTES",
        help="Memory in which earlier states of spaces are kept for the next who asks for them; 0 "
        f"keeps none. Default: $ENGRAM_PAST_BYTES_MAX, else {DEFAULT_PAST_BYTES_MAX}.",
        show_default=False,
    ),
]
ScrubOption = Annotated[
    int | None,
    typer.Option(
        "--scrub-bytes-per-s",
        metavar="BYTES",
        help="How fast the files of open spaces are read again to verify them, in bytes a second; "
        "0 turns that off. Default: $ENGRAM_SCRUB_BYTES_PER_S, else "
        f"{DEFAULT_SCRUB_BYTES_PER_S}.",
        show_default=False,
    ),
]
QuotaOption = Annotated[
    str | None,
    typer.Option(
        "--quota",
        metavar="QUOTAS",
        help="Quotas of spaces that have none of their own, as for `engram space create`. Default: "
        "$ENGRAM_QUOTAS, else none.",
        show_default=False,
    ),
]
DefaultSpaceOption = Annotated[
    str | None,
    typer.Option(
        "--default-space",
        metavar="ID",
        help="A space that is made at the start if it is not there, and the one that requests mean "
        "which name none, where they need not. Default: $ENGRAM_DEFAULT_SPACE, else default_space "
        "of the configuration.",
        show_default=False,
    ),
]
ExplicitOption = Annotated[
    bool | None,
    typer.Option(
        "--require-explicit-space/--no-require-explicit-space",
        help="Whether each request has to name its space. Default: "
        "$ENGRAM_REQUIRE_EXPLICIT_SPACE, else it has to.",
        show_default=False,
    ),
]


def serve(
    data_root: DataRootOption = None,
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            help="Address to listen on. One that other machines can reach takes access keys (see "
            f"`engram keys`). Default: $ENGRAM_HOST, else {DEFAULT_HOST}.",
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
    grpc_port: GrpcPortOption = None,
    delete_grace_s: GraceOption = None,
    open_spaces_max: OpenSpacesOption = None,
    open_bytes_max: OpenBytesOption = None,
    past_bytes_max: PastBytesOption = None,
    scrub_bytes_per_s: ScrubOption = None,
    quota: QuotaOption = None,
    default_space: DefaultSpaceOption = None,
    require_explicit_space: ExplicitOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Serve the spaces of a data root over HTTP and gRPC.

    Until Ctrl-C or SIGTERM. Prints `engram ready http://HOST:PORT` once it takes requests; where
    gRPC is served is told on stderr, and with --json. Once the data root has an access key
    (`engram keys create`), requests need one. There is no TLS: put a proxy that has it before an
    address that others can reach.

    \b
    Example:  engram serve --data-root ./data
    Example:  engram serve --port 0 --json
    Example:  engram serve --default-space main --no-require-explicit-space
    """
    settings = read_settings(
        Named(data_root=data_root, config=config),
        host=host,
        port=port,
        grpc_port=grpc_port,
        delete_grace_s=delete_grace_s,
        open_spaces_max=open_spaces_max,
        open_bytes_max=open_bytes_max,
        past_bytes_max=past_bytes_max,
        scrub_bytes_per_s=scrub_bytes_per_s,
        quotas=quota,
        server_default_space=default_space,
        require_explicit_space=require_explicit_space,
    )
    _run(settings, as_json=as_json)


def _run(settings: Settings, *, as_json: bool) -> None:
    from engram.access.key_file import open_key_file
    from engram.server.request_ids import RequestIdFilter
    from engram.server.serve import serve as run

    stand_in = settings.server_default_space.value
    explicit = settings.require_explicit_space
    if not explicit.value and stand_in is None:
        raise Malformed(
            "requests that name no space need one that they mean: give --default-space ID, or "
            f"leave require_explicit_space (here: {explicit.origin}) out"
        )
    handler = logging.StreamHandler()
    handler.addFilter(RequestIdFilter())
    text = "%(asctime)s %(levelname)s %(name)s:%(request)s %(message)s"
    logging.basicConfig(format=text, handlers=[handler])
    root = data_root_of(settings)

    def announce(ready: Ready) -> None:
        if as_json:
            served = {"ready": ready.url, "grpc": ready.grpc}
            output.print_json({**served, "data_root": str(root.absolute()), "pid": os.getpid()})
            return
        with closing(open_key_file(root)) as keys:
            with_key = keys.stamp() is not None
        for hint in _what_to_try(ready, with_key=with_key):
            output.print_hint(hint)
        output.print_line(f"engram ready {ready.url}")

    run(
        root,
        str(settings.host.value),
        int(settings.port.value or 0),
        grpc=_grpc_port(settings),
        announce=announce,
        opening=settings.serving,
        default_space=None if stand_in is None else str(stand_in),
        ensure=plan_of(settings.spaces.get(str(stand_in), {})).ensure,
        require_explicit_space=bool(explicit.value),
    )


def _grpc_port(settings: Settings) -> GrpcPort | None:
    """Where to serve gRPC. Who has any port picked for HTTP wants none in particular here."""
    from engram.server.serve import GrpcPort

    wanted = settings.grpc_port
    if wanted.value == OFF:
        return None
    named = wanted.level != "default"
    free = not named and not settings.port.value
    return GrpcPort(0 if free else int(wanted.value or 0), named)


def _what_to_try(ready: Ready, *, with_key: bool) -> tuple[str, ...]:
    url = ready.url
    json_header = "-H 'Content-Type: application/json'"
    if with_key:
        json_header = '-H "Authorization: Bearer $ENGRAM_API_KEY" ' + json_header
    return (
        "Try, in another terminal:",
        f"  curl -X PUT {url}/api/v1/spaces/alpha"
        + (' -H "Authorization: Bearer $ENGRAM_API_KEY"' if with_key else ""),
        f"  curl {url}/api/v1/spaces/alpha/memories {json_header} "
        """-d '{"content": "The deploy key is rotated every Monday"}'""",
        f"  curl {url}/api/v1/spaces/alpha/recall {json_header} "
        """-d '{"query": "when is the deploy key rotated?"}'""",
        *(() if ready.grpc is None else (f"gRPC is served on {ready.grpc}.",)),
        "Ctrl-C stops the server.",
    )
