"""The POSIX implementation of :mod:`wal.vfs`, and the only module of `wal` that touches the system.

Theory of operation: every object owns one descriptor. A directory is opened once and everything
below it is reached relative to that descriptor, one name at a time and never through a symbolic
link, so that renaming a parent or planting a link cannot redirect a write. Only the root, which
the user named, may be reached through links.

Descriptors are close-on-exec. A closed object holds the descriptor -1, so that using it is EBADF
rather than a read from whatever file got the number next. Closing twice is harmless.

Maps are never closed here: the memoryview owns the mapping, and slices of it or arrays over it
keep it alive. (Before Python 3.13 every live map also costs one descriptor.)

The lock is `flock` on a file that stays in place when it is released: unlinking it would let a
process that had opened the old file and one that creates a new file both believe they hold it.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import sys
import time

from wal.errors import Locked, ReadOnly
from wal.vfs import Buffer, Directory, File, Lock

_SAFE = os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK the mere opening of a planted FIFO would hang; regular files ignore it.
_FILE = _SAFE | os.O_NONBLOCK
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE_MODE = 0o600
_DIRECTORY_MODE = 0o700

_LOCK_POLL_S = 0.02
_OWNER_BYTES_MAX = 4096


def open_root(path: str | os.PathLike[str]) -> Directory:
    """Open the existing directory that everything else is reached from."""
    path = os.fspath(path)
    return OsDirectory(os.open(path, _DIRECTORY), path)


def check_name(name: str) -> str:
    """The name, if it is a single path component; otherwise ValueError."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"not a single file name: {name!r}")
    return name


class OsFile:
    """See :class:`wal.vfs.File`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def read_at(self, offset: int, length: int) -> bytes:
        first = os.pread(self._fd, length, offset)
        if len(first) == length or not first:
            return first
        # A short read is not the end of the file: a signal or a large request can cause it too.
        parts = [first]
        got = len(first)
        while got < length and (part := os.pread(self._fd, length - got, offset + got)):
            parts.append(part)
            got += len(part)
        return b"".join(parts)

    def write_at(self, offset: int, data: Buffer) -> int:
        return os.pwrite(self._fd, data, offset)

    def allocate(self, offset: int, length: int) -> None:
        if offset < 0 or length <= 0:
            raise ValueError(f"cannot allocate {length} bytes at {offset}")
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(self._fd, offset, length)
                return
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise
        if os.fstat(self._fd).st_size < offset + length:
            os.ftruncate(self._fd, offset + length)

    def truncate(self, length: int) -> None:
        os.ftruncate(self._fd, length)

    def sync_data(self) -> None:
        _sync(self._fd, data_only=True)

    def drop_cache(self) -> None:
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def map(self) -> memoryview:
        if self.size() == 0:
            return memoryview(b"")  # mmap refuses to map nothing
        if sys.version_info >= (3, 13):
            return memoryview(mmap.mmap(self._fd, 0, access=mmap.ACCESS_READ, trackfd=False))
        return memoryview(mmap.mmap(self._fd, 0, access=mmap.ACCESS_READ))

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class OsDirectory:
    """See :class:`wal.vfs.Directory`."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self.path = path

    def names(self) -> list[str]:
        # A fresh descriptor, because the position of a listing belongs to the open file: two
        # threads that list through one descriptor would each see half.
        fd = os.open(".", _DIRECTORY, dir_fd=self._fd)
        try:
            return sorted(os.listdir(fd))
        finally:
            os.close(fd)

    def exists(self, name: str) -> bool:
        try:
            os.stat(check_name(name), dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def create(self, name: str) -> File:
        return OsFile(self._open_regular(name, os.O_RDWR | os.O_CREAT | os.O_EXCL))

    def open(self, name: str, *, writable: bool = False) -> File:
        return OsFile(self._open_regular(name, os.O_RDWR if writable else os.O_RDONLY))

    def make_dir(self, name: str) -> Directory:
        os.mkdir(check_name(name), _DIRECTORY_MODE, dir_fd=self._fd)
        return self.open_dir(name)

    def open_dir(self, name: str) -> Directory:
        fd = os.open(check_name(name), _DIRECTORY | _SAFE, dir_fd=self._fd)
        return OsDirectory(fd, self._path_of(name))

    def rename(self, name: str, target: Directory, new_name: str) -> None:
        if not isinstance(target, OsDirectory):
            raise TypeError(f"cannot move a file into a {type(target).__name__}")
        os.rename(
            check_name(name), check_name(new_name), src_dir_fd=self._fd, dst_dir_fd=target._fd
        )

    def remove(self, name: str) -> None:
        os.unlink(check_name(name), dir_fd=self._fd)

    def remove_tree(self, name: str) -> None:
        _remove_tree(self._fd, check_name(name))

    def sync(self) -> None:
        _sync(self._fd)

    def lock(self, name: str, owner: str, *, wait_s: float = 0.0) -> Lock:
        deadline = time.monotonic() + wait_s
        while True:
            fd = self._open_lock_file(name)
            try:
                if not _try_flock(fd):
                    holder = _read_owner(fd)
                elif self._is_entry(name, fd):
                    _write_owner(fd, owner)
                    lock, fd = OsLock(fd), -1
                    return lock
                else:
                    continue  # what we locked was replaced meanwhile and protects nothing
            finally:
                if fd >= 0:
                    os.close(fd)
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise Locked(self.path, holder)
            time.sleep(min(_LOCK_POLL_S, left_s))

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _path_of(self, name: str) -> str:
        return os.path.join(self.path, name)

    def _open_regular(self, name: str, flags: int) -> int:
        fd = os.open(check_name(name), flags | _FILE, _FILE_MODE, dir_fd=self._fd)
        mode = os.fstat(fd).st_mode
        if stat.S_ISREG(mode):
            return fd
        os.close(fd)
        code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(code, "Not a regular file", self._path_of(name))

    def _open_lock_file(self, name: str) -> int:
        try:
            return self._open_regular(name, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            raise ReadOnly(
                f"{self._path_of(name)} cannot be opened for writing ({error.strerror}). Make the "
                "folder and its files writable for this user, or remount the file system "
                "read-write, and try again."
            ) from error

    def _is_entry(self, name: str, fd: int) -> bool:
        try:
            entry = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(entry, os.fstat(fd))


class OsLock:
    """See :class:`wal.vfs.Lock`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def release(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            # Unlocked explicitly: a forked child shares the descriptor and would keep the lock.
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)


def _sync(fd: int, *, data_only: bool = False) -> None:
    if fd < 0:
        raise OSError(errno.EBADF, "Already closed")  # these calls would make it a ValueError
    if sys.platform == "darwin":
        # Darwin's fsync leaves the bytes in the drive's cache.
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    elif data_only and hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        os.fsync(fd)


def _remove_tree(parent_fd: int, name: str) -> None:
    fd = os.open(name, _DIRECTORY | _SAFE, dir_fd=parent_fd)
    try:
        with os.scandir(fd) as entries:
            children = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for child, is_directory in children:
            if is_directory:
                _remove_tree(fd, child)
            else:
                os.unlink(child, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent_fd)


def _try_flock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_owner(fd: int, owner: str) -> None:
    text = owner.encode()[:_OWNER_BYTES_MAX]
    try:
        # Written before the old text is cut off, so that a contender never reads an empty name.
        os.pwrite(fd, text, 0)
        os.ftruncate(fd, len(text))
    except OSError as error:
        # The text is only for the message to others; a full disk must not prevent the opening
        # that is needed to free some of it.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def _read_owner(fd: int) -> str:
    return os.pread(fd, _OWNER_BYTES_MAX, 0).decode(errors="replace").strip()
