"""Reads what :mod:`engram.config` judges: flags, environment and configuration file."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from engram.config import CONFIG_VARIABLE, FILE_NAME, File, Settings, settings_of
from engram.errors import Malformed, SpaceRequired

if TYPE_CHECKING:
    from engram.cli.options import Named


def read_settings(named: Named, **serving: str | int | None) -> Settings:
    """The settings of one command; `serving` are the flags that only `engram serve` has, by the
    names of their keys. Raises :class:`engram.errors.Malformed`.
    """
    flags = {
        "server": named.server,
        "data_root": named.data_root,
        "default_space": named.space,
        **serving,
    }
    return settings_of(
        flags,
        os.environ,
        _find_file(named.config),
        default_data_root=str(_xdg("XDG_DATA_HOME", ".local/share") / "engram"),
        home=str(_home()),
    )


def space_of(settings: Settings) -> str:
    """The space that a command means. Raises :class:`engram.errors.SpaceRequired`."""
    space = settings.default_space.value
    if space is None:
        raise SpaceRequired(
            "no memory space was named. Name it with --space ID, with ENGRAM_SPACE=ID in the "
            f'environment, or with default_space = "ID" in {FILE_NAME}; `engram space list` shows '
            "which there are"
        )
    return str(space)


def _find_file(given: str | None) -> File | None:
    """The configuration file that counts, and no other. One that was named has to be there."""
    if given is not None:
        if not given:
            raise Malformed("--config is empty; give a value, as engram.toml, or leave it out")
        return _read(Path(given))
    if from_environment := os.environ.get(CONFIG_VARIABLE):
        return _read(Path(from_environment))
    here = Path(FILE_NAME)
    if _is_there(here):
        # Whoever made the current folder may have put it there.
        return _read(here)._replace(trusted=False)
    own = _xdg("XDG_CONFIG_HOME", ".config") / "engram" / FILE_NAME
    return _read(own) if _is_there(own) else None


def _is_there(path: Path) -> bool:
    """What this user may not even look for is nothing that they keep there."""
    try:
        return path.exists()
    except OSError:
        return False


def _read(path: Path) -> File:
    import tomllib

    try:
        text = _read_bytes(path).decode()
        table = tomllib.loads(text)
    except OSError as error:
        raise Malformed(f"configuration file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise Malformed(f"configuration file {path} is not UTF-8 at byte {error.start}") from None
    except tomllib.TOMLDecodeError as error:
        raise Malformed(f"configuration file {path} is not TOML: {error}") from None
    except (ValueError, RecursionError):
        raise Malformed(f"configuration file {path} cannot be read as TOML") from None
    return File(str(path.absolute()), table, text=text)


def _read_bytes(path: Path) -> bytes:
    """The bytes of a regular file. One that is none, as a named pipe, might never end."""
    # Without O_NONBLOCK, opening a pipe would wait for somebody to write to it.
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if not stat.S_ISREG(mode):
            raise Malformed(f"configuration file {path} cannot be read: it is no regular file")
        return file.read()


def _xdg(variable: str, below_home: str) -> Path:
    base = Path(os.environ.get(variable, ""))
    # The XDG specification has relative paths ignored.
    return base if base.is_absolute() else _home() / below_home


def _home() -> Path:
    """The home folder; the current one for a user who has none, as in bare containers."""
    try:
        return Path.home()
    except RuntimeError:
        return Path()
