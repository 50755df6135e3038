"""A file system in memory that can crash: the other implementation of :mod:`wal.vfs`.

Theory of operation. A :class:`SimDisk` is one machine with one process on it. Its medium, and the
rules of what a crash may leave there, are :mod:`wal.sim_medium`'s; here are the handles that the
process holds and all that a test can do to it:

- :meth:`SimDisk.crash` ends the process and gives the disk that the next boot finds. It can be
  asked again for other outcomes of the same crash; :func:`every_outcome` enumerates
  them and :func:`sample` draws one.
- :meth:`SimDisk.crash_at` ends it in the n-th call that changes something. From then on every call
  raises :class:`SimCrash`; only closing and releasing pass, as a kernel does them for the dead.
- :meth:`SimDisk.fail`, :meth:`SimDisk.short_writes` and `capacity` make calls fail.
- :meth:`SimDisk.clone` is what `kill -9` leaves: the page cache survives, the process does not.

So a test of every crash point runs the history once to read `mutations`, then once for each n up
to that, and checks all or some of the states that each crash leaves.

One mutex serialises all calls, so that code under test may use threads.
"""

from __future__ import annotations

import errno
import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Concatenate, NoReturn, ParamSpec, TypeVar

from wal.errors import Locked, ReadOnly
from wal.os_vfs import check_name
from wal.sim_medium import (
    KEPT,
    LOST,
    SECTOR,
    Choice,
    Contents,
    DirNode,
    Fate,
    FileNode,
    Kind,
    Medium,
    Pending,
    every_outcome,
    fates_of,
    keep_everything,
    lose_everything,
    sample,
)
from wal.vfs import Buffer, Directory, File, Lock

__all__ = [
    "KEPT",
    "LOST",
    "SECTOR",
    "Choice",
    "Contents",
    "Fate",
    "Pending",
    "SimCrash",
    "SimDirectory",
    "SimDisk",
    "SimFile",
    "SimLock",
    "SimMisuse",
    "every_outcome",
    "fates_of",
    "keep_everything",
    "lose_everything",
    "sample",
]


class SimCrash(BaseException):
    """The simulated machine is down. Not an Exception, so that nothing handles it by accident."""


class SimMisuse(AssertionError):
    """The code under test did what would be a SIGBUS or silent corruption on a real disk."""


@dataclass(slots=True)
class _Failure:
    op: str
    calls_left: int
    code: int
    persistent: bool
    drop_pending: bool
    on: str


class SimDisk:
    """One machine's disk, and the one process that uses it.

    `mutations` counts the calls that change something, those that fail included. `capacity` in
    bytes, which may be changed at any time, bounds the sum of the file sizes. `misuses` repeats
    every :class:`SimMisuse`, in case the code under test swallowed it.
    """

    def __init__(self, *, capacity: int | None = None) -> None:
        self.capacity = capacity
        self.mutations = 0
        self.misuses: list[str] = []
        self._medium = Medium()
        self._mapped: dict[FileNode, int] = {}
        self._locks: dict[FileNode, SimLock] = {}
        self._dead = False
        self._crash_at: int | None = None
        self._crash_after = False
        self._failures: list[_Failure] = []
        self._write_limit: int | None = None
        self._mutex = threading.RLock()
        self._released = threading.Condition(self._mutex)

    def root(self) -> Directory:
        return SimDirectory(self, "sim:", self._medium.root)

    def contents(self) -> Contents:
        """All that is visible, as nested dictionaries; of a dead disk too."""
        with self._mutex:
            return self._medium.root.contents()

    def used(self) -> int:
        """The sum of the sizes of all files that have a name."""
        with self._mutex:
            return self._medium.root.bytes_below()

    def crash_at(self, n: int, *, after: bool = False) -> None:
        """Crash in the `n`-th mutating call, counted as `mutations` is, before its effect or after.

        The first call is 1.
        """
        self._crash_at, self._crash_after = n, after

    def fail(
        self,
        op: str,
        nth: int,
        code: int,
        *,
        persistent: bool = False,
        drop_pending: bool = True,
        on: str = "*",
    ) -> None:
        """Make the `nth` call of method `op` from now on raise OSError(`code`) without effect.

        `persistent` fails all later ones too. Only handles whose path matches the pattern `on`
        count. A `sync_data` that fails drops the file's pending writes, as ext4 does: they stay
        visible until `drop_cache`, can no longer become durable, and the next sync succeeds. With
        `drop_pending=False` they stay pending.
        """
        if op not in _OPERATIONS:
            raise ValueError(f"no such operation: {op}")
        self._failures.append(_Failure(op, nth, code, persistent, drop_pending, on))

    def heal(self) -> None:
        """Let no call fail any more."""
        self._failures.clear()

    def short_writes(self, limit: int | None) -> None:
        """Let each write take at most `limit` bytes."""
        self._write_limit = limit

    def crash(self, choice: Choice) -> SimDisk:
        """End this disk's life and give one state that the next boot may find.

        May be called again on a dead disk, for another outcome of the same crash.
        """
        with self._mutex:
            self._dead = True
            self._released.notify_all()
            after = SimDisk(capacity=self.capacity)
            after._medium = self._medium.after_crash(choice)
            return after

    def clone(self) -> SimDisk:
        """The same disk without the process: pending changes stay pending, locks are free.

        On a dead disk this is what `kill -9` leaves, as opposed to a power cut.
        """
        with self._mutex:
            twin = SimDisk(capacity=self.capacity)
            twin._medium = self._medium.duplicate()
            return twin

    def _die(self, op: str) -> NoReturn:
        self._dead = True
        self._released.notify_all()
        raise SimCrash(f"in {op}, mutation {self.mutations}")

    def _enter(self, op: str, handle: _Handle, mutates: bool) -> bool:
        """Whether the call that is about to take effect is to be the last."""
        if self._dead:
            raise SimCrash(f"{op} after the crash")
        if not handle._is_open:
            raise OSError(errno.EBADF, "Already closed", handle.path)
        if not mutates:
            return False
        self.mutations += 1
        if self.mutations != self._crash_at:
            return False
        if not self._crash_after:
            self._die(op)
        return True

    def _inject(self, op: str, handle: _Handle) -> None:
        for failure in self._failures:
            if failure.op != op or not fnmatchcase(handle.path, failure.on):
                continue
            failure.calls_left -= 1
            if failure.calls_left == 0 or (failure.persistent and failure.calls_left < 0):
                if op == "lock" and failure.code in (errno.EROFS, errno.EACCES):
                    raise ReadOnly(f"{handle.path} cannot be written (injected failure)")
                if op == "sync_data" and failure.drop_pending:
                    handle._drop_writes()
                raise OSError(failure.code, f"Injected failure of {op}", handle.path)

    def _affordable(self, node: FileNode, end: int) -> int:
        """How far towards `end` the file can grow; ENOSPC if not at all."""
        size = len(node.visible)
        if self.capacity is None or end <= size:
            return end
        return min(end, size + max(0, self.capacity - self.used()))

    def _refuse_if_mapped(self, node: FileNode, offset: int, act: str) -> None:
        if offset < self._mapped.get(node, 0):
            self.misuses.append(act)
            raise SimMisuse(f"{act} at {offset}, which is mapped")


_P = ParamSpec("_P")
_R = TypeVar("_R")
_H = TypeVar("_H", bound="_Handle")
_OPERATIONS: set[str] = set()


def _operation(
    *, mutates: bool = False
) -> Callable[[Callable[Concatenate[_H, _P], _R]], Callable[Concatenate[_H, _P], _R]]:
    """Make a method one that can fail, crash and find itself crashed."""

    def wrap(method: Callable[Concatenate[_H, _P], _R]) -> Callable[Concatenate[_H, _P], _R]:
        op = method.__name__
        _OPERATIONS.add(op)

        @functools.wraps(method)
        def call(self: _H, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
            disk = self._disk
            with disk._mutex:
                is_last = disk._enter(op, self, mutates)
                try:
                    disk._inject(op, self)
                    return method(self, *args, **kwargs)
                finally:
                    if is_last:
                        disk._die(op)

        return call

    return wrap


class _Handle:
    """What a process holds."""

    def __init__(self, disk: SimDisk, path: str) -> None:
        self.path = path
        self._disk = disk
        self._is_open = True

    def close(self) -> None:
        self._is_open = False

    def _drop_writes(self) -> None:
        """Forget what a failed sync was to write."""


class SimFile(_Handle):
    """See :class:`wal.vfs.File`."""

    def __init__(self, disk: SimDisk, path: str, node: FileNode, *, writable: bool) -> None:
        super().__init__(disk, path)
        self._node = node
        self._writable = writable

    @_operation()
    def size(self) -> int:
        return len(self._node.visible)

    @_operation()
    def read_at(self, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0:
            raise OSError(errno.EINVAL, "Negative offset or length", self.path)
        return bytes(self._node.visible[offset : offset + length])

    @_operation(mutates=True)
    def write_at(self, offset: int, data: Buffer) -> int:
        self._check_writable(offset, errno.EBADF)
        wanted = bytes(data)[: self._disk._write_limit]
        if not wanted:
            return 0
        end = self._disk._affordable(self._node, offset + len(wanted))
        if end <= offset:
            raise OSError(errno.ENOSPC, "No room on the simulated disk", self.path)
        self._disk._refuse_if_mapped(self._node, offset, f"write to {self.path}")
        taken = wanted[: end - offset]
        self._change("write", offset, taken)
        return len(taken)

    @_operation(mutates=True)
    def allocate(self, offset: int, length: int) -> None:
        if offset < 0 or length <= 0:
            raise ValueError(f"cannot allocate {length} bytes at {offset}")
        self._check_writable(offset, errno.EBADF)
        wanted = offset + length
        end = self._disk._affordable(self._node, wanted)
        if end > len(self._node.visible):
            self._change("allocate", end)
        if end < wanted:
            # Real systems too keep what they had reserved before the disk was full.
            raise OSError(errno.ENOSPC, "No room on the simulated disk", self.path)

    @_operation(mutates=True)
    def truncate(self, length: int) -> None:
        self._check_writable(length, errno.EINVAL)
        self._disk._refuse_if_mapped(self._node, length, f"truncation of {self.path}")
        self._change("truncate", length)

    @_operation(mutates=True)
    def sync_data(self) -> None:
        self._node.sync()

    @_operation()
    def drop_cache(self) -> None:
        self._node.drop_cache()

    @_operation()
    def map(self) -> memoryview:
        content = bytes(self._node.visible)
        mapped = self._disk._mapped
        mapped[self._node] = max(mapped.get(self._node, 0), len(content))
        return memoryview(content)

    def _check_writable(self, offset: int, code: int) -> None:
        if not self._writable:
            raise OSError(code, "Opened for reading only", self.path)
        if offset < 0:
            raise OSError(errno.EINVAL, "Negative offset", self.path)

    def _change(self, kind: Kind, offset: int, data: bytes = b"") -> None:
        self._disk._medium.change_content(self._node, kind, self.path, offset, data)

    def _drop_writes(self) -> None:
        self._node.drop_writes()


class SimDirectory(_Handle):
    """See :class:`wal.vfs.Directory`."""

    def __init__(self, disk: SimDisk, path: str, node: DirNode) -> None:
        super().__init__(disk, path)
        self._node = node

    @_operation()
    def names(self) -> list[str]:
        return sorted(self._node.visible)

    @_operation()
    def exists(self, name: str) -> bool:
        return check_name(name) in self._node.visible

    @_operation(mutates=True)
    def create(self, name: str) -> File:
        return SimFile(self._disk, self._path_of(name), self._add_file(name), writable=True)

    @_operation()
    def open(self, name: str, *, writable: bool = False) -> File:
        node = self._find(name)
        if isinstance(node, DirNode):
            raise OSError(errno.EISDIR, "Not a regular file", self._path_of(name))
        return SimFile(self._disk, self._path_of(name), node, writable=writable)

    @_operation(mutates=True)
    def make_dir(self, name: str) -> Directory:
        self._check_free(name)
        path, node = self._path_of(name), DirNode()
        self._disk._medium.change_names("make_dir", path, (self._node, name, node))
        return SimDirectory(self._disk, path, node)

    @_operation()
    def open_dir(self, name: str) -> Directory:
        return SimDirectory(self._disk, self._path_of(name), self._find_dir(name))

    @_operation(mutates=True)
    def rename(self, name: str, target: Directory, new_name: str) -> None:
        if not isinstance(target, SimDirectory):
            raise TypeError(f"cannot move a file into a {type(target).__name__}")
        if target._disk is not self._disk:
            raise OSError(errno.EXDEV, "Another disk", target.path)
        node, replaced = self._find(name), target._node.visible.get(check_name(new_name))
        if not target._node.linked:
            raise OSError(errno.ENOENT, "The directory was removed", target.path)
        if node is replaced:
            return
        path = target._path_of(new_name)
        if isinstance(node, DirNode):
            if node in target._node.lineage():
                raise OSError(errno.EINVAL, "Cannot move a directory into itself", path)
            if isinstance(replaced, FileNode):
                raise OSError(errno.ENOTDIR, "Not a directory", path)
        elif isinstance(replaced, DirNode):
            raise OSError(errno.EISDIR, "Is a directory", path)
        if isinstance(replaced, DirNode) and replaced.visible:
            raise OSError(errno.ENOTEMPTY, "Directory not empty", path)
        self._disk._medium.change_names(
            "rename", path, (self._node, name, None), (target._node, new_name, node)
        )

    @_operation(mutates=True)
    def remove(self, name: str) -> None:
        if isinstance(self._find(name), DirNode):
            raise OSError(errno.EISDIR, "Is a directory", self._path_of(name))
        self._disk._medium.change_names("remove", self._path_of(name), (self._node, name, None))

    @_operation(mutates=True)
    def remove_tree(self, name: str) -> None:
        self._remove_tree(self._node, name, self._find_dir(name), self._path_of(name))

    @_operation(mutates=True)
    def sync(self) -> None:
        self._disk._medium.sync_names(self._node)

    @_operation()
    def lock(self, name: str, owner: str, *, wait_s: float = 0.0) -> Lock:
        disk = self._disk
        if not disk._released.wait_for(lambda: disk._dead or not self._holder(name), wait_s):
            held = self._find(name)
            owner = held.visible.decode() if isinstance(held, FileNode) else ""
            raise Locked(self.path, owner)
        if disk._dead:
            raise SimCrash("lock after the crash")
        node = self._find(name) if name in self._node.visible else self._add_file(name)
        if isinstance(node, DirNode):
            raise OSError(errno.EISDIR, "Not a regular file", self._path_of(name))
        node.replace_durably(owner.encode())
        lock = disk._locks[node] = SimLock(disk, node)
        return lock

    def _holder(self, name: str) -> SimLock | None:
        node = self._node.visible.get(check_name(name))
        return self._disk._locks.get(node) if isinstance(node, FileNode) else None

    def _path_of(self, name: str) -> str:
        return f"{self.path}/{name}"

    def _find(self, name: str) -> FileNode | DirNode:
        try:
            return self._node.visible[check_name(name)]
        except KeyError:
            raise OSError(errno.ENOENT, "No such file", self._path_of(name)) from None

    def _find_dir(self, name: str) -> DirNode:
        node = self._find(name)
        if isinstance(node, FileNode):
            raise OSError(errno.ENOTDIR, "Not a directory", self._path_of(name))
        return node

    def _check_free(self, name: str) -> None:
        if check_name(name) in self._node.visible:
            raise OSError(errno.EEXIST, "Already exists", self._path_of(name))
        if not self._node.linked:
            raise OSError(errno.ENOENT, "The directory was removed", self.path)

    def _add_file(self, name: str) -> FileNode:
        self._check_free(name)
        node = FileNode()
        self._disk._medium.change_names("create", self._path_of(name), (self._node, name, node))
        return node

    def _remove_tree(self, parent: DirNode, name: str, node: DirNode, path: str) -> None:
        # One change for each name, because a crash may leave any part of the tree behind.
        for child_name, child in list(node.visible.items()):
            child_path = f"{path}/{child_name}"
            if isinstance(child, DirNode):
                self._remove_tree(node, child_name, child, child_path)
            else:
                self._disk._medium.change_names("remove", child_path, (node, child_name, None))
        self._disk._medium.change_names("remove", path, (parent, name, None))


class SimLock:
    """See :class:`wal.vfs.Lock`."""

    def __init__(self, disk: SimDisk, node: FileNode) -> None:
        self._disk = disk
        self._node = node

    def release(self) -> None:
        with self._disk._mutex:
            if self._disk._locks.get(self._node) is self:
                del self._disk._locks[self._node]
                self._disk._released.notify_all()
