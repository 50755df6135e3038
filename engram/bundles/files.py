"""Bundles in files: written whole or not at all, and read wherever they come from.

What can be written to or read from is a path, or a binary file that is open already.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from engram.bundles.incoming import READ_BYTES
from engram.errors import Invalid, Malformed


class Writable(Protocol):
    """A binary file that can be written to, or what looks like one."""

    def write(self, data: bytes, /) -> int | None: ...


class Readable(Protocol):
    """A binary file that can be read, or what looks like one."""

    def read(self, length: int, /) -> bytes: ...


Target = str | os.PathLike[str] | Writable
Source = str | os.PathLike[str] | Readable
_TMP: Final = ".tmp"


@contextmanager
def opened_target(target: Target, *, force: bool = False) -> Iterator[Writable]:
    """Where to write. A file that is named gets its name once all was written, durably; one that is
    there already is replaced with `force` alone, and what is no file never is.

    Raises FileExistsError, and OSError; `Invalid` for what can be no file's name.
    """
    if not isinstance(target, str | os.PathLike):
        if not hasattr(target, "write"):
            raise Invalid.of("file", f"must be a path or a file, not {type(target).__name__}")
        yield _Whole(target)
        return
    path = _path(target)
    if not force and os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "File exists", str(path))
    _check_replaceable(path)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_TMP}")
    descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if force:
            unfinished.replace(path)
        else:
            _link(unfinished, path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise
    _sync_folder(path.parent)


def _path(target: str | os.PathLike[str]) -> Path:
    path = Path(target)
    if "\0" in str(path) or not os.fspath(target):
        raise Invalid.of("file", f"must name a file, which {os.fspath(target)!r} does not")
    return path


def _check_replaceable(path: Path) -> None:
    """Raise OSError for a folder, a pipe or a device: taking its name would destroy it, for all
    who use it. Where a link leads to is looked at too: /dev/stdout may be one.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "Not a regular file", str(path))


def _link(unfinished: Path, path: Path) -> None:
    """Give a file its name unless somebody was faster."""
    try:
        os.link(unfinished, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "File exists", str(path)) from None
        unfinished.replace(path)
    else:
        unfinished.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Whole:
    """Writes all of what it is given: a raw file may take less at a time."""

    def __init__(self, file: Writable) -> None:
        self._file = file

    def write(self, data: bytes, /) -> int:
        view = memoryview(data)
        while len(view):
            taken = self._file.write(view)  # type: ignore[arg-type]  # any buffer will do
            if taken is None:
                break  # it says nothing, and so has taken all
            view = view[taken:]
        return len(data)


@contextmanager
def opened_source(source: Source) -> Iterator[Readable]:
    """Where to read from. Raises :class:`engram.errors.Malformed` for what cannot be read."""
    if not isinstance(source, str | os.PathLike):
        if not hasattr(source, "read"):
            raise Invalid.of("file", f"must be a path or a file, not {type(source).__name__}")
        yield source
        return
    with ExitStack() as stack:
        try:
            file = stack.enter_context(Path(source).open("rb"))
        except (OSError, ValueError) as error:
            raise _unreadable(error) from error
        yield file


def chunks_of(source: Readable) -> Iterator[bytes]:
    """All that there is to read."""
    while True:
        try:
            chunk = source.read(READ_BYTES)
        except OSError as error:
            raise _unreadable(error) from error
        if not isinstance(chunk, bytes | bytearray | memoryview):
            kind = type(chunk).__name__
            raise Invalid.of("file", f"must give bytes, not {kind}: open it in binary mode")
        if not len(chunk):
            return
        yield bytes(chunk)


def _unreadable(error: OSError | ValueError) -> Malformed:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return Malformed(f"the bundle cannot be read: {reason}. Nothing was made")
