"""Where a command works: the spaces of a data root, opened here, or those of a server.

Both have the same verbs, so what follows is written once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from engram.cli import output
from engram.cli.settings import read_settings, space_of
from engram.config import API_KEY_VARIABLE, Settings
from engram.errors import DataRootUnusable, EngramError, SpaceLocked, SpaceNotFound

if TYPE_CHECKING:
    from engram import Client, Database, Space
    from engram.cli.options import Named
    from engram.client.synchronous import ClientSpace

    Spaces: TypeAlias = Database | Client
    OpenSpace: TypeAlias = Space | ClientSpace

_OWNER: Final = "an engram command"
"""How a command names itself in lock files, for whoever finds them locked."""


@contextmanager
def opened(named: Named, *, create: bool = False) -> Iterator[Spaces]:
    """The spaces that a command line means. With `create` a data root is made if it is missing."""
    settings = read_settings(named)
    with _advised(), _opened(settings, create=create) as spaces:
        yield spaces


@contextmanager
def opened_space(named: Named) -> Iterator[OpenSpace]:
    """The one space that a command line means. Of a server it may turn out to be missing later."""
    settings = read_settings(named)
    space_id = space_of(settings)
    with _advised(), _told_of(space_id), _opened(settings, create=False) as spaces:
        yield spaces.space(space_id)


@contextmanager
def _told_of(space_id: str) -> Iterator[None]:
    """Every error names the space, whether or not the engine or the server thought of it."""
    try:
        yield
    except EngramError as error:
        if error.memory_space_id is None:
            error.memory_space_id = space_id
        raise


@contextmanager
def _opened(settings: Settings, *, create: bool) -> Iterator[Spaces]:
    target = settings.target
    if target.name == "server":
        from engram import Client

        with Client(str(target.value), _api_key(settings)) as client:
            yield client
        return
    import engram

    root = data_root_of(settings)
    if not create and not _is_there(root):
        raise DataRootUnusable(
            f"{root} does not exist, so no space is there yet. `engram space create ID` makes it "
            "and a first space; --data-root names another folder"
        )
    owner = f"{_OWNER}, pid {os.getpid()}"
    with engram.open(root, create=create, owner=owner, **settings.opening) as db:
        yield db


def data_root_of(settings: Settings) -> Path:
    """The data root of a command that works on one."""
    root = Path(str(settings.data_root.value))
    try:
        root.absolute()
    except FileNotFoundError:
        raise DataRootUnusable(
            f"{root} is below the current folder, which was deleted. Go to another one, or name "
            "the whole path"
        ) from None
    return root


def _is_there(root: Path) -> bool:
    try:
        return root.exists()
    except OSError as error:
        raise DataRootUnusable(
            f"{root} cannot be used: {error.strerror}. --data-root names another folder"
        ) from None


def _api_key(settings: Settings) -> str | None:
    key = os.environ.get(API_KEY_VARIABLE) or None
    if key is not None and not settings.key_may_be_sent:
        output.print_hint(
            f"engram: {API_KEY_VARIABLE} is not sent to a server that only {settings.server.origin}"
            " names; name it with --server or ENGRAM_SERVER"
        )
        return None
    return key


@contextmanager
def _advised() -> Iterator[None]:
    """Say in an error what to type next."""
    try:
        yield
    except SpaceLocked as error:
        error.detail = locked_advice(error.detail)
        raise
    except SpaceNotFound as error:
        if error.memory_space_id is not None:
            error.detail = (
                f"there is no space {error.memory_space_id!r}. `engram space create "
                f"{error.memory_space_id}` makes it, `engram space list` shows which there are"
            )
        raise


def locked_advice(detail: str) -> str:
    """What to do about a space that another process has open: its server can be asked, another
    command waited for.
    """
    if _OWNER in detail:
        return f"{detail.partition('. ')[0]}. Try again when that is done"
    server = re.search(r"engram serve, pid \d+, (https?://[^\s,]*[^\s,.])", detail)
    if server is None:
        return detail
    return f"{detail.partition('. ')[0]}. Ask that server: add --server {server[1]}"
