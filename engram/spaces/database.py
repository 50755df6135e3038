"""A data root opened by this process: the front door of the embedded API."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from engram.bundles.files import Source, chunks_of, opened_source
from engram.errors import DataRootUnusable, Invalid
from engram.memory.model import DeletedSpace, EmbeddingSpec, Receipt, SpaceInfo
from engram.memory.quotas import NO_QUOTAS, Quotas, QuotasGiven, check_quotas
from engram.memory.validate import check_flag
from engram.spaces.disk_errors import no_room
from engram.spaces.entry import Entry
from engram.spaces.ids import check_space_id
from engram.spaces.lifecycle import DELETE_GRACE_S
from engram.spaces.registry import Registry
from engram.spaces.requests import check_spaces_limit
from engram.spaces.residency import OPEN_BYTES_MAX, OPEN_SPACES_MAX, PAST_BYTES_MAX, Bounds
from engram.spaces.scrub import Scrub
from engram.spaces.space import Space
from engram.spaces.sweeper import Sweeper
from wal.log import NO_ROOM
from wal.os_vfs import open_root
from wal.vfs import Directory

_GRACE_S_MAX: Final = 100 * 366 * 24 * 3_600
"""A century, so that what is computed from it stays a time."""


class Database:
    """All spaces of one data root. Thread-safe; use it as a context manager, or close it."""

    def __init__(
        self,
        registry: Registry,
        path: Path,
        scrub_bytes_per_s: int = 0,
        sweeper: Sweeper | None = None,
    ) -> None:
        """`sweeper` is the one that the registry has, to be stopped with it."""
        self._registry = registry
        self.path = path
        self._sweeper = sweeper
        self._scrub: Scrub | None = None
        if scrub_bytes_per_s:
            self._scrub = Scrub(self._open_entries, scrub_bytes_per_s)
            self._scrub.start()

    def _open_entries(self) -> list[Entry]:
        residents = self._registry.residency.residents()
        return [each for each in residents if isinstance(each, Entry)]

    def create_space(
        self,
        space_id: str | None = None,
        *,
        embedding: EmbeddingSpec | None = None,
        quotas: QuotasGiven | None = None,
    ) -> Space:
        """Make a new space, durably, and return its handle; without an id one is made up.

        `embedding` None pins the default embedder; `quotas` bound what it may hold and be asked
        for, see :meth:`engram.Space.configure`. Raises :class:`engram.errors.SpaceExists`,
        `SpaceInvalid`, `Invalid` (unknown embedder), `EmbedderUnavailable` or `DiskFull`.
        """
        return self._registry.create(space_id, embedding, _checked_quotas(quotas))

    def ensure_space(
        self,
        space_id: str,
        *,
        embedding: EmbeddingSpec | None = None,
        quotas: QuotasGiven | None = None,
    ) -> tuple[Space, bool]:
        """The space of that id, made if it is not there, and whether it was made.

        Raises :class:`engram.errors.SpaceExists` if it has another embedding, or other quotas,
        than those given.
        """
        check_space_id(space_id)
        return self._registry.ensure(space_id, embedding, _checked_quotas(quotas))

    def space(self, space_id: str) -> Space:
        """The handle on an existing space. Raises :class:`engram.errors.SpaceNotFound`."""
        return self._registry.space(space_id)

    def spaces(
        self, *, limit: int | None = None, after: str | None = None, deleted: bool = False
    ) -> list[SpaceInfo]:
        """Descriptions of the spaces in order of id, those behind `after`; opens none. With
        `deleted`, those that can be restored are among them.
        """
        return self.spaces_among(None, limit=limit, after=after, deleted=deleted)

    def spaces_among(
        self,
        among: frozenset[str] | None,
        *,
        limit: int | None = None,
        after: str | None = None,
        deleted: bool = False,
    ) -> list[SpaceInfo]:
        """:meth:`spaces` for surfaces whose caller sees some of them: no others are looked at."""
        if after is not None:
            check_space_id(after)
        check_flag("deleted", deleted)
        limit = check_spaces_limit(limit)
        return self._registry.list(limit=limit, after=after, deleted=deleted, among=among)

    def space_info(self, space_id: str, *, deleted: bool = False) -> SpaceInfo:
        """A space's description with figures; a damaged one says so in `state` and `detail`. With
        `deleted`, one that can be restored is described too.
        """
        return self._registry.info(space_id, deleted=check_flag("deleted", deleted))

    def delete_space(self, space_id: str) -> DeletedSpace:
        """Delete a space, durably. It can be restored until it is purged, which happens at a start
        after `purge_after` at the earliest, or by :meth:`purge_space`; its id stays taken so long.

        What was queued before is stored, and what comes later is refused with
        :class:`engram.errors.SpaceNotFound`. A damaged space can be deleted too. Raises
        `SpaceNotFound`, `SpaceLocked` or `DiskFull`, and nothing is changed then; `OutcomeUnknown`.
        """
        return self._registry.delete(space_id)

    def restore_space(self, space_id: str) -> Space:
        """Undo a deletion: the same space, its positions continue.

        Raises :class:`engram.errors.SpaceNotFound` if no such space is deleted, `SpaceExists` if
        one of that id is there, `DiskFull`, `OutcomeUnknown`; and `SpaceDamaged` for one that is
        back in its place, but cannot say who it is.
        """
        return self._registry.restore(space_id)

    def purge_space(self, space_id: str) -> Receipt:
        """Remove every byte of a deleted space, for good, whether or not its time is up.

        Asked again, it returns the same receipt. Raises :class:`engram.errors.SpaceExists` for a
        space that is not deleted, `SpaceNotFound` if there never was one, `OutcomeUnknown`.
        """
        return self._registry.purge(space_id)

    def import_space(self, space_id: str, file: Source) -> Space:
        """Make a space from a bundle, whole or not at all, and return its handle.

        `file` is a path, or a binary file open for reading. The space has the memories, positions
        and times of the one that was exported, a new uuid, and this id; the handle's `origin` says
        which space that was. Raises :class:`engram.errors.Malformed` for a bundle that is damaged,
        cut short, or of a newer version; `SpaceExists`, `SpaceDeleted`, `SpaceInvalid`, `Invalid`
        (an embedder that this version does not have), `EmbedderUnavailable` and `DiskFull`.
        """
        check_space_id(space_id)
        with opened_source(file) as source:
            return self.receive_space(space_id, chunks_of(source))

    def receive_space(self, space_id: str, chunks: Iterator[bytes]) -> Space:
        """:meth:`import_space` for surfaces that get a bundle in their own way."""
        return self._registry.receive(space_id, chunks)

    def close(self) -> None:
        """Make everything durable and release the data root. Idempotent."""
        if self._scrub is not None:
            self._scrub.stop()  # it reads from what is closed next
        if self._sweeper is not None:
            self._sweeper.stop()
        self._registry.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_database(
    path: str | os.PathLike[str],
    *,
    create: bool = True,
    owner: str | None = None,
    exclusive: bool = False,
    delete_grace_s: float = DELETE_GRACE_S,
    open_spaces_max: int = OPEN_SPACES_MAX,
    open_bytes_max: int = OPEN_BYTES_MAX,
    past_bytes_max: int = PAST_BYTES_MAX,
    scrub_bytes_per_s: int = 0,
    quotas: QuotasGiven | None = None,
) -> Database:
    """Open the data root at `path`; with `create`, make it if it is not there.

    `owner` names this process in lock files, for whoever finds them locked. `exclusive` is for
    servers: a second one on the same root is refused with :class:`engram.errors.SpaceLocked`.
    `delete_grace_s` is how long a space deleted here can be restored for certain, in seconds.

    Spaces open at first use and stay open, up to `open_spaces_max` of them (fewer where the limit
    on open files is low: half of it is theirs) and about `open_bytes_max` bytes of memory. Then
    those used least recently are closed, and open again at their next use, which takes longer.
    One that is followed or poisoned stays open, and so does the one that is used just now, however
    large it is.

    What spaces were as of earlier positions is kept for the next who asks, in up to
    `past_bytes_max` bytes of memory, about, which count among those of open spaces; 0 keeps
    nothing, so that it is built anew for each.

    With `scrub_bytes_per_s` a thread reads what open spaces have on disk again and again, so many
    bytes a second, and verifies it. A space found damaged says so, takes no writes, and can still
    be read as far as it is in memory.

    `quotas` hold for every space, but for those of its own that it has.

    Raises :class:`engram.errors.DataRootUnusable` saying why the folder cannot serve, `DiskFull`
    if there is no room to lay it out, `Invalid` for what is no path.
    """
    root = Path(_checked_path(path))
    _check_grace(delete_grace_s)
    defaults = _checked_quotas(quotas) or NO_QUOTAS
    bounds = Bounds(
        _checked_bound("open_spaces_max", open_spaces_max),
        _checked_bound("open_bytes_max", open_bytes_max),
        _checked_bound("past_bytes_max", past_bytes_max, 0),
    )
    _checked_bound("scrub_bytes_per_s", scrub_bytes_per_s, 0)
    if owner is None:
        owner = f"process {os.getpid()} ({Path(sys.argv[0]).name or 'python'})"
    directory = _opened_root(root, create=create)
    sweeper = Sweeper()
    try:
        registry = Registry(
            directory,
            owner=owner,
            exclusive=exclusive,
            delete_grace_s=delete_grace_s,
            bounds=bounds,
            sweeper=sweeper,
            quotas=defaults,
        )
    except BaseException:
        directory.close()
        raise
    return Database(registry, root, scrub_bytes_per_s, sweeper)


def _opened_root(root: Path, *, create: bool) -> Directory:
    try:
        if create:
            _make_durable(root)
        return open_root(str(root))
    except OSError as error:
        if error.errno in NO_ROOM:
            raise no_room(str(root), error) from error
        raise DataRootUnusable(_why(root, error)) from error
    except ValueError as error:
        raise DataRootUnusable(f"{str(root)!r} is not a path: {error}") from error


def _checked_quotas(quotas: QuotasGiven | None) -> Quotas | None:
    return None if quotas is None else check_quotas("quotas", quotas)


def _checked_path(path: object) -> str:
    given = path if isinstance(path, str) or not isinstance(path, os.PathLike) else os.fspath(path)
    if not isinstance(given, str):
        raise Invalid.of("path", f"must be a string or pathlib.Path, not {type(path).__name__}")
    if not given:
        raise Invalid.of("path", "is empty; name a folder, '.' for the current one")
    return given


def _check_grace(seconds: object) -> None:
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, int | float)
        or not 0 <= seconds <= _GRACE_S_MAX
    ):
        raise Invalid.of("delete_grace_s", f"must be a number of seconds from 0 to {_GRACE_S_MAX}")


def _checked_bound(name: str, value: object, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise Invalid.of(name, f"must be a whole number from {least} on")
    return value


def _make_durable(folder: Path) -> None:
    """Make a folder, and those above it that are missing, so that a crash leaves them there."""
    if folder.is_dir():
        return
    if folder.parent != folder:
        _make_durable(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    parent = open_root(str(folder.parent))
    try:
        parent.sync()
    finally:
        parent.close()


def _why(root: Path, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return f"{root} does not exist. Name an existing data root, or let it be created"
    if error.errno in {errno.ENOTDIR, errno.EEXIST}:
        return f"{root} is not a folder. Name another data root"
    return f"{root} cannot be opened ({error.strerror}). Check its permissions"
