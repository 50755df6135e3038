"""The one seam between the log and the operating system.

Everything `wal` does to a disk goes through these three protocols. :mod:`wal.os_vfs` implements
them on POSIX; :mod:`wal.sim_vfs` in memory, with crashes, torn writes and failing syncs.

The model is descriptor-relative: a :class:`Directory` is an open directory and every name is one
component inside it. Symbolic links are never followed. Durability is explicit: file contents are
durable after :meth:`File.sync_data`, names after :meth:`Directory.sync` of the directory that
holds them. Operating-system failures surface as :class:`OSError` with `errno` set.
"""

from __future__ import annotations

from typing import Protocol

Buffer = bytes | bytearray | memoryview


class File(Protocol):
    """An open regular file. Writes are positional; there is no file offset."""

    def size(self) -> int: ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes from `offset`; fewer only where the file ends."""

    def write_at(self, offset: int, data: Buffer) -> int:
        """Write at `offset`; returns how many bytes were taken, which may be fewer than given."""

    def allocate(self, offset: int, length: int) -> None:
        """Reserve blocks that read as zeros and extend the size to at least offset + length."""

    def truncate(self, length: int) -> None: ...

    def sync_data(self) -> None:
        """Return once contents and size are on stable storage (fdatasync)."""

    def drop_cache(self) -> None:
        """Ask the system to forget cached pages, so that the next read shows the disk's bytes."""

    def map(self) -> memoryview:
        """A read-only view of the whole file, valid as long as the view lives.

        Only for files that nobody truncates any more.
        """

    def close(self) -> None: ...


class Directory(Protocol):
    """An open directory. `path` is for messages only."""

    path: str

    def names(self) -> list[str]:
        """The names in the directory, sorted."""

    def exists(self, name: str) -> bool: ...

    def create(self, name: str) -> File:
        """Create a file for reading and writing; FileExistsError if the name is taken."""

    def open(self, name: str, *, writable: bool = False) -> File: ...

    def make_dir(self, name: str) -> Directory:
        """Create a directory and open it."""

    def open_dir(self, name: str) -> Directory: ...

    def rename(self, name: str, target: Directory, new_name: str) -> None:
        """Move `name` to `new_name` in `target` on the same file system, replacing a file there."""

    def remove(self, name: str) -> None:
        """Unlink a file."""

    def remove_tree(self, name: str) -> None:
        """Remove a directory and all that is below it."""

    def sync(self) -> None:
        """Make the directory's entries durable."""

    def lock(self, name: str, owner: str, *, wait_s: float = 0.0) -> Lock:
        """Take the exclusive lock file `name`, creating it if need be, and write `owner` into it.

        Raises :class:`wal.errors.Locked` naming the current owner if it is still held after
        `wait_s` seconds.
        """

    def close(self) -> None: ...


class Lock(Protocol):
    """A held lock; the process's end releases it too."""

    def release(self) -> None: ...
