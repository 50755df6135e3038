"""`engram keys …`: the access keys of a data root, made on the machine of its server.

There is no way to them over HTTP: whoever may make keys can give themselves any right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from engram.cli import output, render
from engram.cli.asking import can_ask, confirm
from engram.cli.completion import complete_space
from engram.cli.connection import data_root_of
from engram.cli.options import ConfigOption, DataRootOption, JsonOption, Named
from engram.cli.settings import read_settings
from engram.cli.times import time_of
from engram.errors import Invalid, Malformed

if TYPE_CHECKING:
    from engram.access.key_file import KeyFile
    from engram.access.keys import KeyRecord

app = typer.Typer(rich_markup_mode=None, help="Make, list and revoke access keys.")

_DURATION: Final = re.compile(r"([0-9]{1,6})([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_TITLES: Final = ("ID", "NAME", "SPACES", "SCOPES", "CREATED", "EXPIRES")


@app.command("create")
def create(
    space: Annotated[
        list[str] | None,
        typer.Option(
            "--space",
            metavar="ID",
            help="A space it is for; repeat it for several. It need not be there yet.",
            autocompletion=complete_space,
        ),
    ] = None,
    all_spaces: Annotated[
        bool, typer.Option("--all-spaces", help="It is for all spaces, those to come too.")
    ] = False,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help="What it may do there: read, write, subscribe, or admin, which is all of them and "
            "more. Repeat it for several.",
        ),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires",
            metavar="DURATION|TIME",
            help="When it ends by itself: 90m, 12h, 30d, 8w, or a time. Default: never.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", metavar="TEXT", help="Whose it is, for people.")
    ] = "",
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an access key, and show it this once.

    The key is printed alone on standard output; what is kept is a digest, so nobody can show it
    again. From the first key on, the server of this data root takes requests with a key only, a
    running one too. Clients and commands send the key that ENGRAM_API_KEY holds.

    Scopes: read (recall, get, list), write (remember, forget, link), subscribe (the live feed),
    admin (all of these; configure, delete, export; with --all-spaces, making spaces too).

    \b
    Example:  engram space create alpha --if-not-exists; engram keys create --space alpha \
--scope read --scope write --name planner --expires 30d
    Example:  ENGRAM_API_KEY=$(engram keys create --all-spaces --scope admin)
    """
    if bool(space) == all_spaces:
        raise Malformed("name the spaces the key is for: --space ID, or --all-spaces")
    if not scope:
        raise Malformed("say what the key may do: --scope read, write, subscribe or admin")
    expires_us = None if expires is None else _end_of(expires)
    with _opened(data_root, config, create=True) as keys:
        made = keys.create(
            spaces="*" if all_spaces else space or [],
            scopes=scope,
            expires_us=expires_us,
            name=name,
        )
    if as_json:
        output.print_json({"key": made.text, **_document(made.record)})
        return
    output.print_hint(f"key {made.record.id}: {_said(made.record)}. It is shown this once")
    output.print_line(made.text)


@app.command("list")
def list_keys(
    data_root: DataRootOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """List the access keys: their ids, and what they are for.

    \b
    Example:  engram space create alpha --if-not-exists && engram keys list
    """
    with _opened(data_root, config) as keys:
        known = keys.read()
    if as_json:
        for record in (known or {}).values():
            output.print_json(_document(record))
    elif known:
        output.print_table(_TITLES, map(_row, known.values()))
    elif known is None:
        output.print_hint(
            "no keys yet, so none is needed; make one with: engram keys create --space alpha "
            "--scope read"
        )
    else:
        output.print_hint(
            "no keys are left, so nobody is let in; make one with: engram keys create --space "
            "alpha --scope read"
        )


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key, as in the list.")],
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask, on a terminal either.")
    ] = False,
    data_root: DataRootOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Revoke an access key, for good.

    A running server refuses it at once, and ends the streams of whoever uses it within a second. On
    a terminal it asks beforehand; without one it does it, so that a script can.

    \b
    Example:  engram keys revoke $(engram keys create --all-spaces --scope read | cut -d _ -f 2)
    """
    key_id = _id_of(key_id)
    with _opened(data_root, config) as keys:
        known = (keys.read() or {}).get(key_id)
        if known is not None and not yes and can_ask():
            confirm(f"Revoke the key {key_id}: {_said(known)}?", "nothing was revoked")
        record = keys.revoke(key_id)
    if as_json:
        output.print_json(_document(record))
    else:
        output.print_line(f"revoked {record.id}")


@contextmanager
def _opened(
    data_root: str | None, config: str | None, *, create: bool = False
) -> Iterator[KeyFile]:
    """The keys of the data root that a command line means; with `create` it is made if missing."""
    import engram
    from engram.access.key_file import open_key_file
    from engram.spaces.layout import CONTROL_DIR

    settings = read_settings(Named(data_root=data_root, config=config))
    if settings.target.name == "server":
        raise Malformed(
            f"keys are made in the data root, on the machine of the server, but "
            f"{settings.server.origin} names a server. Name the data root with --data-root"
        )
    root = data_root_of(settings)
    if create and not Path(root, CONTROL_DIR).exists():
        engram.open(root, create=True).close()
    with closing(open_key_file(root, owner="engram keys")) as keys:
        yield keys


def _end_of(text: str) -> int:
    """When a key expires, in microseconds since the epoch."""
    from engram.memory.times import to_us

    duration = _DURATION.fullmatch(text)
    try:
        if duration is not None:
            length = timedelta(**{_UNITS[duration[2]]: int(duration[1])})
            return to_us(datetime.now(UTC) + length)
    except OverflowError:
        raise Invalid.of("--expires", f"{text!r} is longer than times can be told") from None
    try:
        time = time_of("--expires", text)
    except Invalid as error:
        raise Invalid.of(
            "--expires",
            f"{error.detail.removeprefix('--expires: ')}; or a duration as 90m, 12h, 30d or 8w",
        ) from None
    if time is None:
        raise Invalid.of("--expires", "is empty")
    return to_us(time)


def _id_of(text: str) -> str:
    """Of a whole key its id: who revokes one in a hurry may have nothing else at hand."""
    from engram.access.keys import id_of

    return id_of(text) or text


def _document(record: KeyRecord) -> dict[str, Any]:
    from engram.memory.times import from_us

    return {
        "id": record.id,
        "name": record.name,
        "spaces": "*" if record.spaces == "*" else list(record.spaces),
        "scopes": list(record.scopes),
        "created_at": from_us(record.created_us),
        "expires_at": None if record.expires_us is None else from_us(record.expires_us),
    }


def _row(record: KeyRecord) -> tuple[str, ...]:
    document = _document(record)
    expires = document["expires_at"]
    return (
        record.id,
        record.name or "-",
        "all" if record.spaces == "*" else ", ".join(record.spaces),
        ", ".join(record.scopes),
        render.time_text(document["created_at"]),
        "never" if expires is None else render.time_text(expires),
    )


def _said(record: KeyRecord) -> str:
    _, name, spaces, scopes, _, expires = _row(record)
    whose = "" if name == "-" else f"{name}, "
    where = "all spaces" if spaces == "all" else spaces
    return output.printable(f"{whose}{scopes} in {where}, expires {expires}")
