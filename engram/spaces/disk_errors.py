"""What the system's refusals to work with a data root mean to users."""

from __future__ import annotations

import errno
from typing import Final

from engram.errors import DataRootUnusable, DiskFull, EngramError, Unavailable
from wal.log import NO_ROOM

EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_NOT_WRITABLE: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def root_error(path: str, error: OSError) -> EngramError:
    """A failure of something that belongs to the data root at `path`, not to one space."""
    if error.errno in NO_ROOM:
        return no_room(path, error)
    if error.errno in EXHAUSTED:
        return exhausted(path, error)
    if error.errno in _NOT_WRITABLE:
        return DataRootUnusable(
            f"{path} cannot be used ({error.strerror}). Give this user the right to write and "
            "read there, or name another data root"
        )
    return DataRootUnusable(f"{path} cannot be used: {error.strerror or error}")


def exhausted(what: str, error: OSError, space_id: str | None = None) -> Unavailable:
    return Unavailable(
        f"{what} cannot be opened now: {error.strerror}. Raise the limit (ulimit -n), or open "
        "fewer spaces at once",
        memory_space_id=space_id,
    )


def no_room(what: str, error: OSError, space_id: str | None = None) -> DiskFull:
    return DiskFull(
        f"there is no room to make {what} ({error.strerror}); nothing was made. Free some space "
        "and try again",
        memory_space_id=space_id,
    )
