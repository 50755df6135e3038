"""The registry of a data root: creates spaces, finds them, lists them, hands out their handles.

    <data_root>/<memory_space_id>/     a space; see wal and engram.spaces.identity
    <data_root>/.engram/               see engram.spaces.layout and engram.spaces.trash

A space is built whole under `.engram/tmp` and appears by one rename, so a crash leaves a whole
space or none; how it ends is :mod:`engram.spaces.lifecycle`'s. Finding an open space is one
dictionary look-up without a lock, since nobody else can touch it; any other costs a look at the
disk, so that what other processes make and delete is noticed. Opening happens at first use.

A data root opened belongs to the process that opened it. A forked child has its memory, files and
file locks, but none of its threads: what it wrote would be lost, and what it closed would be taken
from its parent. So it is refused everything, before any lock that a lost thread may have held.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from typing import Final

from engram.embedding.protocol import TriedEmbedder
from engram.embedding.registry import DEFAULT, embedder_for
from engram.errors import (
    DataRootUnusable,
    EngramError,
    SpaceDamaged,
    SpaceExists,
    SpaceInvalid,
    SpaceLocked,
    SpaceNotFound,
    Unavailable,
)
from engram.feed.feed import Feed
from engram.memory.model import DeletedSpace, EmbeddingSpec, Receipt, SpaceInfo
from engram.memory.quotas import NO_QUOTAS, Quotas
from engram.memory.validate import CALLER, check_embedding_spec
from engram.spaces.copies import Copies, Ground
from engram.spaces.description import describe, describe_damaged, describe_deleted
from engram.spaces.disk_errors import EXHAUSTED, exhausted, no_room, root_error
from engram.spaces.entry import Entry, check_process
from engram.spaces.identity import IDENTITY_NAME, Identity, read_identity
from engram.spaces.ids import check_space_id, mint_space_id
from engram.spaces.layout import (
    CREATE_LOCK,
    CREATE_LOCK_WAIT_S,
    SERVER_LOCK,
    clear_tmp,
    lay_out,
    open_control,
)
from engram.spaces.lifecycle import DELETE_GRACE_S, Lifecycle
from engram.spaces.making import build_space, new_identity
from engram.spaces.opening import open_aside, open_in_place
from engram.spaces.past import PastStates
from engram.spaces.residency import Bounds, Residency
from engram.spaces.space import Space
from engram.spaces.store import Clock, Store, translated, was_deleted
from engram.spaces.sweeper import Sweeper
from wal import errors as wal_errors
from wal.live_set import LOG_DIR
from wal.log import NO_ROOM
from wal.opened import DEFAULT_OPTIONS, LogOptions
from wal.vfs import Directory, Lock

_BOUNDS: Final = Bounds()


class Registry:
    """All spaces of one data root. Thread-safe."""

    def __init__(
        self,
        root: Directory,
        *,
        owner: str,
        clock: Clock = time.time_ns,
        exclusive: bool = False,
        options: LogOptions = DEFAULT_OPTIONS,
        delete_grace_s: float = DELETE_GRACE_S,
        bounds: Bounds = _BOUNDS,
        sweeper: Sweeper | None = None,
        quotas: Quotas = NO_QUOTAS,
    ) -> None:
        """Take the data root into use, laying it out if it is empty.

        `exclusive` refuses a second server: raises :class:`engram.errors.SpaceLocked`.
        `delete_grace_s` is how long a space deleted here can be restored for certain, `bounds` what
        open spaces may take, `sweeper` looks after them, `quotas` bound those without quotas of
        their own. `DataRootUnusable`: for an unfit folder.
        """
        self._root = root
        self._pid = os.getpid()
        self._owner = owner
        self._clock = clock
        self._options = options
        pasts = PastStates(bounds.past_bytes)
        self._new_store = partial(
            Store,
            owner=owner,
            pasts=pasts,
            sweeper=sweeper,
            quotas=quotas,
            clock=clock,
            options=options,
        )
        self.residency = Residency(bounds)
        self._entries: dict[str, Entry] = {}
        self._lives: dict[str, Entry] = {}  # by uuid: handles keep to the life they were made for
        self._naming = threading.Lock()
        self._guard = threading.Lock()
        self._closed = False
        self._server_lock: Lock | None = None
        try:
            self._control = open_control(root)
            try:
                lay_out(self._control, owner, clock)
                if exclusive:
                    self._server_lock = self._control.lock(SERVER_LOCK, owner)
                self._lifecycle = Lifecycle(
                    root,
                    self._control,
                    partial(open_aside, new_store=partial(self._new_store, sweeper=None)),
                    owner=owner,
                    clock=clock,
                    grace_s=delete_grace_s,
                )
                self._copies = self._new_copies()
                self._clear()
            except BaseException:
                self._release_control()
                raise
        except wal_errors.Locked as error:
            raise SpaceLocked(
                f"{root.path} is served already by {error.owner}. Use that server, or give this "
                "one another --data-root"
            ) from error
        except wal_errors.WalError as error:
            raise DataRootUnusable(f"{root.path} cannot be used: {error}") from error
        except OSError as error:
            raise root_error(root.path, error) from error

    def _new_copies(self) -> Copies:
        ground = Ground(
            self._root,
            self._control,
            self._lifecycle,
            self._owner,
            self._clock,
            self._options,
            self._check_open,
            self._exclusively,
            self._root_errors,
            self._remember_entry,
        )
        return Copies(ground)

    def _clear(self) -> None:
        """Finish and clear away what was interrupted, unless somebody is at it right now."""
        try:
            lock = self._control.lock(CREATE_LOCK, self._owner)
        except wal_errors.Locked:
            return
        try:
            clear_tmp(self._control, self._owner)
            self._lifecycle.start()
            self._copies.stages.sweep()
        finally:
            lock.release()

    def create(
        self,
        space_id: str | None,
        embedding: EmbeddingSpec | None,
        quotas: Quotas | None = None,
    ) -> Space:
        """Make a space, whole or not at all. Raises :class:`engram.errors.SpaceExists`."""
        space, created = self.ensure(space_id, embedding, quotas)
        if not created:
            raise SpaceExists(
                f"space {space.id!r} exists already. Use it, or choose another id",
                memory_space_id=space.id,
            )
        return space

    def ensure(
        self,
        space_id: str | None,
        embedding: EmbeddingSpec | None,
        quotas: Quotas | None = None,
    ) -> tuple[Space, bool]:
        """The space of that id, and whether this call made it.

        Raises :class:`engram.errors.SpaceExists` if it exists with another embedding than given, or
        with other quotas.
        """
        self._check_open()
        if space_id is None:
            space_id = mint_space_id(secrets.token_bytes(16))
        check_space_id(space_id)
        spec = check_embedding_spec(embedding or DEFAULT)
        if spec.model != CALLER:
            embedder = embedder_for(spec)  # an unknown model is refused now
        created, entry = False, self._find(space_id)
        if entry is None:
            with self._root_errors():
                self._lifecycle.refuse_deleted(space_id)
            if spec.model != CALLER and isinstance(embedder, TriedEmbedder):
                embedder.check()  # before the lock: it takes as long as the network does
            with self._exclusively(space_id):
                entry, created = self._make(space_id, spec, quotas)
        if not created and embedding is not None and entry.identity.embedding != embedding:
            has = entry.identity.embedding
            raise SpaceExists(
                f"space {space_id!r} exists with embedding {has.model!r} of {has.dimensions} "
                "dimensions, which cannot be changed. Leave the embedding out to use it as it is, "
                "or choose another id",
                memory_space_id=space_id,
            )
        if not created and quotas is not None:
            has_quotas = entry.store().state.settings.quotas
            if has_quotas != quotas:
                raise SpaceExists(
                    f"space {space_id!r} exists with the quotas {has_quotas}. Leave them out to "
                    "use it as it is, or configure it",
                    memory_space_id=space_id,
                )
        return Space(entry, self._copies), created

    @contextmanager
    def _exclusively(self, space_id: str) -> Iterator[None]:
        """While spaces are made, deleted, restored and purged by nobody else, in any process."""
        self._check_open()
        with self._guard:
            self._check_open()
            with self._root_errors():
                with translated(space_id):
                    lock = self._control.lock(CREATE_LOCK, self._owner, wait_s=CREATE_LOCK_WAIT_S)
                try:
                    yield
                finally:
                    lock.release()

    @contextmanager
    def _root_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._check_open()
            raise root_error(self._root.path, error) from error

    def _make(
        self, space_id: str, spec: EmbeddingSpec, quotas: Quotas | None
    ) -> tuple[Entry, bool]:
        self._lifecycle.settle(space_id)
        entry = self._look(space_id)  # another process may have been faster
        if entry is not None:
            return entry, False
        self._lifecycle.refuse_deleted(space_id)
        if self._root.exists(space_id):
            raise SpaceExists(
                f"{self._root.path}/{space_id} is taken by something that is not a space. "
                "Move it away, or choose another id",
                memory_space_id=space_id,
            )
        try:
            now_ns = self._clock()
            identity = new_identity(self._lifecycle, space_id, spec, now_ns)
            build_space(self._root, self._control, identity, quotas, now_ns)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise no_room(f"space {space_id!r}", error, space_id) from error
            raise
        return self._remember_entry(identity), True

    def receive(self, space_id: str, chunks: Iterator[bytes]) -> Space:
        """Make a space from a bundle; see :class:`engram.spaces.copies.Copies`."""
        return self._copies.receive(space_id, chunks)

    def space(self, space_id: str) -> Space:
        """A handle on an existing space. Raises :class:`engram.errors.SpaceNotFound`."""
        return Space(self._entry(check_space_id(space_id)), self._copies)

    def _entry(self, space_id: str) -> Entry:
        entry = self._find(space_id)
        if entry is None:
            raise SpaceNotFound.of(space_id)
        return entry

    def _find(self, space_id: str) -> Entry | None:
        """The entry of a space; None if there is none. An interrupted deletion is finished."""
        self._check_open()
        known = self._entries.get(space_id)
        if known is not None and known.opened is not None:
            return known
        entry = self._look(space_id)
        try:
            if entry is None or not self._lifecycle.was_begun(entry.identity):
                return entry
        except OSError as error:
            raise self._cannot_open(space_id, error) from error
        with self._exclusively(space_id):
            self._lifecycle.settle(space_id)
            return self._look(space_id)

    def _look(self, space_id: str) -> Entry | None:
        """The entry of a space as it is on the disk; None if there is no such folder."""

        def look() -> Entry:
            with translated(space_id), closing(self._root.open_dir(space_id)) as space_dir:
                if space_dir.exists(LOG_DIR) and not space_dir.exists(IDENTITY_NAME):
                    raise wal_errors.Damaged(IDENTITY_NAME, 0, "it is missing")
                return self._remember_entry(read_identity(space_dir, space_id))

        try:
            return self.residency.relieved(look)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._cannot_open(space_id, error) from error

    def _cannot_open(self, space_id: str, error: OSError) -> EngramError:
        """What a failure of the system to open a space means."""
        self._check_open()
        if error.errno in EXHAUSTED:
            return exhausted(f"space {space_id!r}", error, space_id)
        where = f" ({error.filename!r} in its folder)" if error.filename else ""
        return SpaceDamaged(
            f"space {space_id!r} cannot be opened: {error.strerror or error}{where}",
            memory_space_id=space_id,
        )

    def _remember_entry(self, identity: Identity) -> Entry:
        with self._naming:
            entry = self._lives.get(identity.uuid)
            if entry is None or entry.identity != identity:
                entry = self._lives[identity.uuid] = Entry(
                    identity, self._open_store, self.residency
                )
            self._entries[identity.memory_space_id] = entry
            return entry

    def _open_store(self, identity: Identity, feed: Feed) -> Store:
        """Open a space where it belongs. Raises :class:`engram.errors.SpaceNotFound` if what is
        there is not the one that is meant, or is deleted.
        """
        space_id = identity.memory_space_id
        try:
            return self.residency.relieved(
                lambda: open_in_place(self._root, identity, feed, self._lifecycle, self._new_store)
            )
        except FileNotFoundError as error:
            if not self._root.exists(space_id):
                raise was_deleted(space_id) from error
            raise self._cannot_open(space_id, error) from error
        except OSError as error:
            raise self._cannot_open(space_id, error) from error

    def delete(self, space_id: str) -> DeletedSpace:
        """Let a space end, recoverably. Raises :class:`engram.errors.SpaceNotFound`."""
        check_space_id(space_id)
        entry, damage = None, ""
        try:
            entry = self._entry(space_id)
            store = entry.store()
            if store.opened_damaged:
                damage = store.condition[1] or "it was damaged when it was opened"
                entry.let_go()
        except SpaceDamaged as error:
            damage = error.detail
        with self._exclusively(space_id):
            self._lifecycle.settle(space_id)
            with suppress(SpaceDamaged):
                if self._look(space_id) is not entry:
                    raise was_deleted(space_id)  # by somebody who was faster
            if not damage and entry is not None:
                deleted = self._lifecycle.delete(entry)
            else:
                deleted = self._lifecycle.delete_damaged(space_id, entry, damage)
            self._copies.stages.sweep()
            return deleted

    def restore(self, space_id: str) -> Space:
        """Undo a deletion."""
        check_space_id(space_id)
        with self._exclusively(space_id):
            self._lifecycle.settle(space_id)
            self._refuse_living(space_id, "there is nothing to restore")
            self._lifecycle.restore(space_id)
        try:
            return self.space(space_id)
        except SpaceDamaged as error:
            raise SpaceDamaged(
                f"space {space_id!r} was restored, but is as damaged as it was: {error.__cause__}",
                memory_space_id=space_id,
            ) from error

    def purge(self, space_id: str) -> Receipt:
        """Remove a deleted space for good."""
        check_space_id(space_id)
        with self._exclusively(space_id):
            self._lifecycle.settle(space_id)
            self._refuse_living(space_id, "only a deleted space can be purged. Delete it first")
            return self._lifecycle.purge(space_id)

    def _refuse_living(self, space_id: str, why: str) -> None:
        with suppress(SpaceDamaged):
            if self._look(space_id) is None:
                return
        raise SpaceExists(f"space {space_id!r} is not deleted: {why}", memory_space_id=space_id)

    def list(
        self,
        *,
        limit: int | None,
        after: str | None,
        deleted: bool = False,
        among: frozenset[str] | None = None,
    ) -> list[SpaceInfo]:
        """Descriptions in order of id, behind `after`; opens nothing. A folder whose identity does
        not verify is listed as damaged rather than left out. With `deleted`, deleted ones too; with
        `among`, none but those.
        """
        self._check_open()
        infos: list[SpaceInfo] = []
        with self._root_errors():
            names = self._root.names() if among is None else []
            buried = {b.memory_space_id: b for b in self._lifecycle.deleted()} if deleted else {}
        for name in sorted({*names, *buried} if among is None else among):
            if limit is not None and len(infos) >= limit:
                break
            if name.startswith(".") or (after is not None and name <= after):
                continue
            try:
                entry = self._find(check_space_id(name))
            except SpaceInvalid:
                continue
            except SpaceDamaged as error:
                infos.append(describe_damaged(name, error))
                continue
            if entry is not None:
                infos.append(describe(entry, opened_only=True))
            elif name in buried:
                infos.append(describe_deleted(buried[name]))
        return infos

    def info(self, space_id: str, *, deleted: bool = False) -> SpaceInfo:
        """The full description; opens the space. One that cannot be opened says so in `state`.
        With `deleted`, a deleted one is described too.
        """
        check_space_id(space_id)
        try:
            return describe(self._entry(space_id), opened_only=False)
        except SpaceDamaged as error:
            return describe_damaged(space_id, error)
        except SpaceNotFound:
            if deleted:
                with self._root_errors():
                    for buried in self._lifecycle.deleted(space_id):
                        return describe_deleted(buried)
            raise

    def close(self) -> None:
        """Finish what is queued, close every space and release the data root. Idempotent.

        In another process than the one that opened it, nothing happens: nothing there is its own.
        """
        if self._pid != os.getpid():
            return
        with self._guard:
            if self._closed:
                return
            self._closed = True
        with ExitStack() as closing:  # one that fails to close must not keep the others open
            closing.callback(self._root.close)
            closing.callback(self._release_control)
            for entry in list(self._lives.values()):
                closing.callback(entry.close)

    def _release_control(self) -> None:
        if self._server_lock is not None:
            self._server_lock.release()
        self._control.close()

    def _check_open(self) -> None:
        check_process(self._pid)
        if self._closed:
            raise Unavailable("the database was closed; open it again")
