"""The registry of a data root: creates spaces, finds them, lists them, hands out their handles.

    <data_root>/<memory_space_id>/     a space; see wal and engram.spaces.identity
    <data_root>/.engram/               see engram.spaces.layout

A space is built whole under `.engram/tmp` and appears by one rename, so a crash leaves a whole
space or none. Finding a known space is one dictionary look-up without a lock; an unknown one costs
a look at the disk, so that spaces made by other processes are found too. Opening happens at first
use.

A data root opened belongs to the process that opened it. A forked child has its memory, files and
file locks, but none of its threads: what it wrote would be lost, and what it closed would be taken
from its parent. So it is refused everything, before any lock that a lost thread may have held.
"""

from __future__ import annotations

import errno
import os
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Final

import msgspec

from engram.embedding.protocol import RemoteEmbedder
from engram.embedding.registry import DEFAULT, embedder_for
from engram.errors import (
    DataRootUnusable,
    DiskFull,
    EngramError,
    OutcomeUnknown,
    SpaceDamaged,
    SpaceExists,
    SpaceInvalid,
    SpaceLocked,
    SpaceNotFound,
    Unavailable,
)
from engram.feed.feed import Feed
from engram.feed.telling import SpaceName
from engram.memory.events import SpaceCreated
from engram.memory.model import EmbeddingSpec, SpaceInfo
from engram.memory.payload import NO_VECTORS, Batch, encode_batch
from engram.memory.times import from_us
from engram.memory.validate import CALLER, check_embedding_spec
from engram.spaces.identity import IDENTITY_NAME, Identity, read_identity, write_identity
from engram.spaces.ids import check_space_id, mint_space_id
from engram.spaces.layout import (
    CREATE_LOCK,
    CREATE_LOCK_WAIT_S,
    SERVER_LOCK,
    TMP_DIR,
    clear_tmp,
    lay_out,
    open_control,
)
from engram.spaces.space import Space
from engram.spaces.store import NONCE_BYTES, Clock, Store, translated
from wal import errors as wal_errors
from wal.codec import Draft
from wal.log import DEFAULT_OPTIONS, NO_ROOM, LogOptions, create_log
from wal.replay import LOG_DIR
from wal.vfs import Directory, Lock

DAMAGE_REMEMBERED_S: Final = 5.0
_NOT_WRITABLE: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class Entry:
    """A space known to this process: its identity, and its store once it has been used."""

    def __init__(self, identity: Identity, open_store: Callable[[Identity, Feed], Store]) -> None:
        self.identity = identity
        self.feed = Feed(SpaceName(identity.memory_space_id, identity.uuid))
        self._open_store = open_store
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._store: Store | None = None
        self._closed = False
        self._damage: tuple[float, str] | None = None

    @property
    def opened(self) -> Store | None:
        """The store if the space is open, without opening it."""
        return self._store

    def store(self) -> Store:
        """The open store; opens it at first use. Lock-free once open.

        A damaged space is not read again for a few seconds: refusing must stay cheap.
        """
        _check_process(self._pid, self.identity.memory_space_id)
        store = self._store
        if store is not None:
            return store
        with self._lock:
            if self._store is not None:
                return self._store
            space_id = self.identity.memory_space_id
            if self._closed:
                raise Unavailable("the database was closed", memory_space_id=space_id)
            if self._damage is not None and time.monotonic() < self._damage[0]:
                raise SpaceDamaged(self._damage[1], memory_space_id=space_id)
            try:
                self._store = self._open_store(self.identity, self.feed)
            except SpaceDamaged as error:
                self._damage = (time.monotonic() + DAMAGE_REMEMBERED_S, error.detail)
                raise
            return self._store

    def close(self) -> None:
        with self._lock:
            self._closed = True
            store, self._store = self._store, None
        try:
            if store is not None:
                store.close()
        finally:
            self.feed.close()


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
    ) -> None:
        """Take the data root into use, laying it out if it is empty.

        `exclusive` refuses a second server: raises :class:`engram.errors.SpaceLocked`. Raises
        :class:`engram.errors.DataRootUnusable` for a folder that is not ours or not writable.
        """
        self._root = root
        self._pid = os.getpid()
        self._owner = owner
        self._clock = clock
        self._options = options
        self._entries: dict[str, Entry] = {}
        self._guard = threading.Lock()
        self._closed = False
        self._server_lock: Lock | None = None
        try:
            self._control = open_control(root)
            try:
                lay_out(self._control, owner, clock)
                if exclusive:
                    self._server_lock = self._control.lock(SERVER_LOCK, owner)
                clear_tmp(self._control, owner)
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
            raise _root_error(root.path, error) from error

    def create(self, space_id: str | None, embedding: EmbeddingSpec | None) -> Space:
        """Make a space, whole or not at all. Raises :class:`engram.errors.SpaceExists`."""
        space, created = self.ensure(space_id, embedding)
        if not created:
            raise SpaceExists(
                f"space {space.id!r} exists already. Use it, or choose another id",
                memory_space_id=space.id,
            )
        return space

    def ensure(self, space_id: str | None, embedding: EmbeddingSpec | None) -> tuple[Space, bool]:
        """The space of that id, and whether this call made it.

        Raises :class:`engram.errors.SpaceExists` if it exists with another embedding than given.
        """
        self._check_open()
        if space_id is None:
            space_id = mint_space_id(secrets.token_bytes(16))
        check_space_id(space_id)
        spec = check_embedding_spec(embedding or DEFAULT)
        if spec.model != CALLER:
            embedder = embedder_for(spec)  # an unknown model is refused now
            if isinstance(embedder, RemoteEmbedder) and self._find(space_id) is None:
                embedder.check()  # before the guard: it takes as long as the network does
        with self._guard:
            self._check_open()
            entry = self._find(space_id)
            created = entry is None
            if entry is None:
                entry, created = self._make_locked(space_id, spec)
        if not created and embedding is not None and entry.identity.embedding != embedding:
            has = entry.identity.embedding
            raise SpaceExists(
                f"space {space_id!r} exists with embedding {has.model!r} of {has.dimensions} "
                "dimensions, which cannot be changed. Leave the embedding out to use it as it is, "
                "or choose another id",
                memory_space_id=space_id,
            )
        return Space(entry), created

    def _make_locked(self, space_id: str, spec: EmbeddingSpec) -> tuple[Entry, bool]:
        try:
            with translated(space_id):
                lock = self._control.lock(CREATE_LOCK, self._owner, wait_s=CREATE_LOCK_WAIT_S)
            try:
                entry = self._find(space_id)  # another process may have been faster
                if entry is not None:
                    return entry, False
                if self._root.exists(space_id):
                    raise SpaceExists(
                        f"{self._root.path}/{space_id} is taken by something that is not a space. "
                        "Move it away, or choose another id",
                        memory_space_id=space_id,
                    )
                identity = self._build(space_id, spec)
            finally:
                lock.release()
        except OSError as error:
            if error.errno in NO_ROOM:
                raise no_room(f"space {space_id!r}", error, space_id) from error
            raise _root_error(self._root.path, error) from error
        return self._remember_entry(identity), True

    def _build(self, space_id: str, spec: EmbeddingSpec) -> Identity:
        """Lay the space out in tmp, durably, then rename it into place, durably."""
        now_ns = self._clock()
        identity = Identity(
            memory_space_id=space_id,
            uuid=secrets.token_hex(16),
            generation=1,
            created_us=now_ns // 1_000,
            embedding=spec,
        )
        created = SpaceCreated(
            memory_space_id=space_id,
            generation=identity.generation,
            embedding_model=spec.model,
            dimensions=spec.dimensions,
        )
        payload = encode_batch(Batch([created], NO_VECTORS))
        tmp = self._control.open_dir(TMP_DIR)
        try:
            space_dir = tmp.make_dir(identity.uuid)
            try:
                write_identity(space_dir, identity)
                create_log(
                    space_dir,
                    space_uuid=identity.uuid_bytes,
                    nonce=secrets.token_bytes(NONCE_BYTES),
                    now_ns=now_ns,
                    first=Draft(payload, 1, now_ns),
                )
            finally:
                space_dir.close()
            tmp.rename(identity.uuid, self._root, space_id)
        except OSError:
            # What is half made takes room, which may be what was missing. What cannot be removed
            # now is removed at the next start.
            with suppress(OSError):
                tmp.remove_tree(identity.uuid)
            raise
        finally:
            tmp.close()
        try:
            self._root.sync()
        except OSError as error:
            raise OutcomeUnknown(
                f"space {space_id!r} was made, but may not outlive a power failure: "
                f"{error.strerror}. See whether it is there, and create it again if not",
                memory_space_id=space_id,
            ) from error
        return identity

    def space(self, space_id: str) -> Space:
        """A handle on an existing space. Raises :class:`engram.errors.SpaceNotFound`."""
        return Space(self._entry(check_space_id(space_id)))

    def _entry(self, space_id: str) -> Entry:
        self._check_open()
        entry = self._entries.get(space_id)
        if entry is None:
            entry = self._find(space_id)
        if entry is None:
            raise SpaceNotFound(
                f"there is no space {space_id!r}. Create it first", memory_space_id=space_id
            )
        return entry

    def _find(self, space_id: str) -> Entry | None:
        """The entry of a space on disk; None if there is no such folder."""
        known = self._entries.get(space_id)
        if known is not None:
            return known
        try:
            with translated(space_id):
                space_dir = self._root.open_dir(space_id)
                try:
                    if space_dir.exists(LOG_DIR) and not space_dir.exists(IDENTITY_NAME):
                        raise wal_errors.Damaged(IDENTITY_NAME, 0, "it is missing")
                    return self._remember_entry(read_identity(space_dir, space_id))
                finally:
                    space_dir.close()
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            return None
        except OSError as error:
            raise self._cannot_open(space_id, error) from error

    def _cannot_open(self, space_id: str, error: OSError) -> EngramError:
        """What a failure of the system to open a space means."""
        self._check_open()
        if error.errno in _EXHAUSTED:
            return _exhausted(f"space {space_id!r}", error, space_id)
        where = f" ({error.filename!r} in its folder)" if error.filename else ""
        return SpaceDamaged(
            f"space {space_id!r} cannot be opened: {error.strerror or error}{where}",
            memory_space_id=space_id,
        )

    def _remember_entry(self, identity: Identity) -> Entry:
        return self._entries.setdefault(identity.memory_space_id, Entry(identity, self._open_store))

    def _open_store(self, identity: Identity, feed: Feed) -> Store:
        space_id = identity.memory_space_id
        try:
            # Whoever made the space may have been killed before its name was durable; what is
            # stored in it from now on must not vanish with it.
            self._root.sync()
            return self._open_folder(self._root.open_dir(space_id), identity, feed)
        except OSError as error:
            raise self._cannot_open(space_id, error) from error

    def _open_folder(self, space_dir: Directory, identity: Identity, feed: Feed) -> Store:
        space_id = identity.memory_space_id
        try:
            with translated(space_id):
                if read_identity(space_dir, space_id) != identity:
                    raise wal_errors.Damaged(
                        IDENTITY_NAME, 0, "the folder was replaced by that of another space"
                    )
            return Store(
                space_dir,
                identity,
                feed=feed,
                owner=self._owner,
                clock=self._clock,
                options=self._options,
            )
        except BaseException:
            space_dir.close()
            raise

    def list(self, *, limit: int | None, after: str | None) -> list[SpaceInfo]:
        """Descriptions in order of id, behind `after`; opens nothing. A folder whose identity does
        not verify is listed as damaged rather than left out.
        """
        self._check_open()
        infos: list[SpaceInfo] = []
        try:
            names = self._root.names()
        except OSError as error:
            self._check_open()
            raise _root_error(self._root.path, error) from error
        for name in names:
            if limit is not None and len(infos) >= limit:
                break
            if name.startswith(".") or (after is not None and name <= after):
                continue
            try:
                entry = self._find(check_space_id(name))
            except SpaceInvalid:
                continue
            except SpaceDamaged as error:
                infos.append(_damaged_info(name, error))
                continue
            if entry is not None:
                infos.append(describe(entry, opened_only=True))
        return infos

    def info(self, space_id: str) -> SpaceInfo:
        """The full description; opens the space. One that cannot be opened says so in `state`."""
        check_space_id(space_id)
        try:
            entry = self._entry(space_id)
        except SpaceDamaged as error:
            return _damaged_info(space_id, error)
        return describe(entry, opened_only=False)

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
            for entry in list(self._entries.values()):
                closing.callback(entry.close)

    def _release_control(self) -> None:
        if self._server_lock is not None:
            self._server_lock.release()
        self._control.close()

    def _check_open(self) -> None:
        _check_process(self._pid)
        if self._closed:
            raise Unavailable("the database was closed; open it again")


def _check_process(pid: int, space_id: str | None = None) -> None:
    if pid != os.getpid():
        raise Unavailable(
            f"the database was opened by another process (pid {pid}); open it again in this one",
            memory_space_id=space_id,
        )


def describe(entry: Entry, *, opened_only: bool) -> SpaceInfo:
    """A space's description; with `opened_only`, figures only if it is open already."""
    identity = entry.identity
    info = SpaceInfo(
        memory_space_id=identity.memory_space_id,
        uuid=identity.uuid,
        generation=identity.generation,
        created_at=from_us(identity.created_us),
        embedding=identity.embedding,
    )
    try:
        store = entry.opened if opened_only else entry.store()
    except SpaceDamaged as error:
        return msgspec.structs.replace(info, state="damaged", detail=error.detail)
    if store is None:
        return info
    view = store.state.view
    state, detail = store.condition
    return msgspec.structs.replace(
        info,
        state=state,
        detail=detail,
        position=view.position,
        memories=view.live_count(store.now_ns() // 1_000),
        bytes=store.log.size_bytes,
    )


def _damaged_info(name: str, error: SpaceDamaged) -> SpaceInfo:
    return SpaceInfo(memory_space_id=name, state="damaged", detail=error.detail)


def _exhausted(what: str, error: OSError, space_id: str | None = None) -> Unavailable:
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


def _root_error(path: str, error: OSError) -> EngramError:
    if error.errno in NO_ROOM:
        return no_room(path, error)
    if error.errno in _EXHAUSTED:
        return _exhausted(path, error)
    if error.errno in _NOT_WRITABLE:
        return DataRootUnusable(
            f"{path} cannot be written ({error.strerror}). Give this user the right to write "
            "there, or name another data root"
        )
    return DataRootUnusable(f"{path} cannot be used: {error.strerror or error}")
