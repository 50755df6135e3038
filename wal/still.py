"""Reading a log's folder while its owner goes on: as it was at one moment.

A change of the live files publishes a manifest and then removes what it let go of. Whoever read the
manifest before that would miss files which were there when it was written. So all of them are
opened first, and a removed file stays readable for as long as somebody has it open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Final, Never

from wal.live_set import CHECKPOINT_DIR, LOG_DIR
from wal.manifest import manifest_number
from wal.retire import CHECKPOINT_SUFFIX
from wal.segment import TMP_SUFFIX
from wal.vfs import Directory, File

TRIES_MAX: Final = 100
_HELD_SUFFIXES: Final = (".seg", CHECKPOINT_SUFFIX, TMP_SUFFIX)
OPEN_MAX: Final = 256
"""Files kept open of one folder, the newest, so that a long log leaves descriptors to others."""


@contextmanager
def held_still(space_dir: Directory) -> Iterator[Directory]:
    """The folder with the manifests, segments and checkpoints of one moment, for reading only.

    All else in it is looked up when it is asked for, and so is a file that cannot be opened now.
    """
    for tries in range(1, TRIES_MAX + 1):
        with ExitStack() as stack:
            before = _manifests(space_dir)
            held = _hold(space_dir, stack)
            if before == _manifests(space_dir) or tries == TRIES_MAX:
                yield held
                return


def _manifests(space_dir: Directory) -> list[str]:
    return [name for name in space_dir.names() if manifest_number(name) is not None]


def _hold(space_dir: Directory, stack: ExitStack) -> _Held:
    folders: dict[str, Directory] = {}
    for name in (LOG_DIR, CHECKPOINT_DIR):
        with suppress(OSError):
            folder = space_dir.open_dir(name)
            stack.callback(folder.close)
            folders[name] = _held(folder, folder.names(), stack, {})
    return _held(space_dir, space_dir.names(), stack, folders)


def _held(
    directory: Directory, names: list[str], stack: ExitStack, folders: Mapping[str, Directory]
) -> _Held:
    """What is still there of `names`, the newest files of the log open."""
    files: dict[str, File] = {}
    wanted = [n for n in names if n.endswith(_HELD_SUFFIXES) or manifest_number(n) is not None]
    for name in wanted[-OPEN_MAX:]:
        try:
            files[name] = directory.open(name)
        except FileNotFoundError:
            names.remove(name)  # let go of by a manifest before the one that is read
        except OSError:
            continue  # whoever asks for it is told so
        else:
            stack.callback(files[name].close)
    return _Held(directory, names, files, folders)


def _refuse(*_: object, **__: object) -> Never:
    raise PermissionError("what is held still is only read")


class _Held:
    """See :class:`wal.vfs.Directory`; it does not own the one it stands for."""

    def __init__(
        self,
        directory: Directory,
        names: list[str],
        files: Mapping[str, File],
        folders: Mapping[str, Directory],
    ) -> None:
        self.path = directory.path
        self._directory = directory
        self._names = names
        self._files = files
        self._folders = folders

    def names(self) -> list[str]:
        return list(self._names)

    def exists(self, name: str) -> bool:
        return name in self._names

    def open(self, name: str, *, writable: bool = False) -> File:
        file = self._files.get(name)
        if file is None or writable:
            return self._directory.open(name, writable=writable)
        return _HeldFile(file)

    def open_dir(self, name: str) -> Directory:
        return self._folders.get(name) or self._directory.open_dir(name)

    def close(self) -> None:
        """Whoever holds it closes it."""

    create = make_dir = rename = remove = remove_tree = sync = lock = _refuse


class _HeldFile:
    """See :class:`wal.vfs.File`; it does not own the one it stands for."""

    def __init__(self, file: File) -> None:
        self.size = file.size
        self.read_at = file.read_at
        self.map = file.map
        self.drop_cache = file.drop_cache

    def close(self) -> None:
        """Whoever holds it closes it."""

    write_at = allocate = truncate = sync_data = _refuse
