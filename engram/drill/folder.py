"""Where a drill may work, and what it may remove: only what a drill has made.

A folder is a drill's if it was empty when a drill first took it; a marker file says so from then
on, and is locked while a drill runs. In it every round has a folder of its own.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from engram.errors import DataRootUnusable, SpaceLocked

MARKER: Final = "engram-drill.txt"
ROUND_PREFIX: Final = "round-"
_SAYS: Final = "The crash-recovery drill of Engram made this folder, and may empty it again.\n"


class Folder:
    """The folder of one drill. `keep` leaves the rounds in it that ended well too."""

    def __init__(self, path: Path, *, keep: bool) -> None:
        self.path = path
        self._keep = keep
        self.kept = False
        """Whether anything is left in it for people to look at."""

    def new_round(self, number: int) -> Path:
        path = self.path / f"{ROUND_PREFIX}{number}"
        path.mkdir()
        return path

    def end_round(self, path: Path, *, clean: bool) -> None:
        if self._keep or not clean:
            self.kept = True
        else:
            shutil.rmtree(path)


@contextmanager
def drill_folder(data_root: Path | None, *, keep: bool) -> Iterator[Folder]:
    """A folder to work in: `data_root`, or a new temporary one. Removed at the end, unless there
    is something in it to be kept; a `data_root` that was there before stays, empty.

    Raises :class:`engram.errors.DataRootUnusable` if it holds what no drill has made, and
    `SpaceLocked` if another drill is using it.
    """
    made = data_root is None or not data_root.exists()
    path = _temporary() if data_root is None else data_root.absolute()
    lock = _take(path)
    folder = Folder(path, keep=keep)
    try:
        yield folder
    finally:
        if not folder.kept:
            _empty(path)
            (path / MARKER).unlink(missing_ok=True)
            if made:
                path.rmdir()
        os.close(lock)


def _temporary() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="engram-drill-"))
    except OSError as error:
        raise DataRootUnusable(f"no temporary folder can be made: {error.strerror}") from None


def _take(path: Path) -> int:
    """Make it the drill's, locked and empty; returns the lock's descriptor."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        marker = path / MARKER
        if not marker.exists() and any(path.iterdir()):
            raise DataRootUnusable(
                f"{path} holds files that no drill has made. A drill needs a folder of its own: "
                "name a new one, or leave out --data-root for a temporary one"
            )
        lock = os.open(marker, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise DataRootUnusable(f"{path} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.pwrite(lock, _SAYS.encode(), 0)
        _empty(path)
    except BlockingIOError:
        os.close(lock)
        raise SpaceLocked(f"another drill is using {path}; name another folder") from None
    except OSError as error:
        os.close(lock)
        raise DataRootUnusable(f"{path} cannot be used: {error.strerror}") from None
    return lock


def _empty(path: Path) -> None:
    for child in path.iterdir():
        if child.name.startswith(ROUND_PREFIX) and child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
