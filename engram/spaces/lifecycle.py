"""How a space ends, comes back, and is gone for good; each with a crash at any point.

A deletion is the last event of the space's log, decided by its one writer like any other command,
so all that was queued before it is in the log and all that comes after is refused. Before that
event is written, everything that needs room on the disk is there: the generation, so that a space
made anew under this id counts on, and the tombstone, which tells the next start where to look. Then
the folder moves to the trash. Wherever this was interrupted, the last event says what holds, and
:meth:`Lifecycle.settle` finishes it.

A restoration is an event too, written in the trash; moving the folder back is what counts. A purge
counts once the folder has a name that ends in `.purging`.

Every method that changes something needs the lock of the data root.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Final

from engram.errors import (
    DiskFull,
    EngramError,
    OutcomeUnknown,
    SpaceDamaged,
    SpaceDeleted,
    SpaceExists,
    SpaceNotFound,
)
from engram.memory.decide import DeleteSpace, RestoreSpace
from engram.memory.model import DeletedSpace, Receipt
from engram.memory.times import from_us
from engram.spaces.disk_errors import root_error
from engram.spaces.entry import Entry
from engram.spaces.identity import Identity, read_identity
from engram.spaces.store import Clock, Store, translated
from engram.spaces.trash import (
    TRASH_DIR,
    Buried,
    Purging,
    ReceiptFile,
    Tombstone,
    Trash,
    grave_name,
)
from wal.errors import Damaged, Unsupported, WalError
from wal.log import LOCK_NAME, NO_ROOM
from wal.vfs import Directory

DELETE_GRACE_S: Final = 7 * 24 * 3_600.0
"""How long a deleted space can be restored for certain, unless `engram.open` is told otherwise."""
_LOG: Final = logging.getLogger("engram.spaces")
_US: Final = 1_000_000
OpenFolder = Callable[[Directory, Identity], Store]
"""Opens a space wherever its folder is; closes the directory if that fails."""


class Lifecycle:
    """The ends of all spaces of one data root. `grace_s` is how long a deletion can be undone."""

    def __init__(
        self,
        root: Directory,
        control: Directory,
        open_folder: OpenFolder,
        *,
        owner: str,
        clock: Clock,
        grace_s: float,
    ) -> None:
        self._root = root
        self._trash = Trash(control)
        self._open_folder = open_folder
        self._owner = owner
        self._clock = clock
        self._grace_us = int(grace_s * _US)

    def next_generation(self, space_id: str) -> int:
        """The generation of a space that is made now."""
        return self._trash.generation(space_id) + 1

    def note(self, identity: Identity, purge_after_us: int) -> None:
        """Remember that the log of a space that is in its place ends with a deletion."""
        if not self.was_begun(identity):
            tombstone = Tombstone(
                memory_space_id=identity.memory_space_id,
                uuid=identity.uuid,
                generation=identity.generation,
                deleted_us=self._clock() // 1_000,
                purge_after_us=purge_after_us,
            )
            self._trash.write_tombstone(tombstone)

    def was_begun(self, identity: Identity) -> bool:
        """Whether a space that is in its place may have a deletion to be settled."""
        return self._trash.has_tombstone(identity)

    def deleted(self, space_id: str | None = None) -> list[Buried]:
        """The deleted spaces in order of id, or the one of that id, if it is deleted."""
        return [self._trash.buried(*whose) for whose in self._trash.names(space_id).graves]

    def refuse_deleted(self, space_id: str) -> None:
        """Raise :class:`engram.errors.SpaceDeleted` if the id is a deleted space's."""
        for buried in self.deleted(space_id):
            until = ""
            if buried.tombstone is not None:
                until = f" until {from_us(buried.tombstone.purge_after_us):%Y-%m-%d %H:%MZ}"
            raise SpaceDeleted(
                f"space {space_id!r} was deleted and can be restored{until}. Restore it, purge it, "
                "or choose another id",
                memory_space_id=space_id,
            )

    def delete(self, entry: Entry) -> DeletedSpace:
        """Delete a space that can be opened."""
        identity = entry.identity
        space_id = identity.memory_space_id
        tombstone = self._entomb(space_id, identity.uuid, identity.generation, None)
        try:
            entry.reopen(though_damaged=True)  # where the log takes no more writes
            entry.commit(entry.store(), DeleteSpace(tombstone.purge_after_us))
        except (OutcomeUnknown, SpaceNotFound):
            raise  # it may be in the log, so the next start has to look
        except EngramError:
            self._drop(space_id, identity.uuid)
            raise
        try:
            entry.withdraw(lambda: self._bury(space_id, identity.uuid))
        except OSError as error:
            raise _half_done(space_id, "deleted", error) from error
        return _deleted(tombstone)

    def delete_damaged(self, space_id: str, entry: Entry | None, damage: str) -> DeletedSpace:
        """Delete a space whose log cannot take the event; without an `entry`, not even its
        identity can be read.
        """
        uuid = secrets.token_hex(16) if entry is None else entry.identity.uuid
        with closing(self._root.open_dir(space_id)) as folder, translated(space_id):
            # Another process may be able to use what this one cannot.
            lock = folder.lock(LOCK_NAME, self._owner)
            try:
                generation = (
                    self.next_generation(space_id) if entry is None else entry.identity.generation
                )
                tombstone = self._entomb(space_id, uuid, generation, damage)
                try:
                    if entry is None:
                        self._bury(space_id, uuid)
                    else:
                        entry.withdraw(lambda: self._bury(space_id, uuid))
                except OSError as error:
                    raise _half_done(space_id, "deleted", error) from error
            finally:
                lock.release()
        return _deleted(tombstone)

    def _entomb(self, space_id: str, uuid: str, generation: int, damage: str | None) -> Tombstone:
        """All that a deletion needs room for, durably."""
        now_us = self._clock() // 1_000
        tombstone = Tombstone(
            memory_space_id=space_id,
            uuid=uuid,
            generation=generation,
            deleted_us=now_us,
            purge_after_us=now_us + self._grace_us,
            damage=damage,
        )
        try:
            with translated(space_id):
                self._trash.raise_generation(space_id, generation)
                self._trash.write_tombstone(tombstone)
        except OSError as error:
            self._drop(space_id, uuid)
            if error.errno in NO_ROOM:
                raise DiskFull(
                    f"there is no room to delete space {space_id!r} ({error.strerror}); nothing "
                    "was changed. Free a little space and try again",
                    memory_space_id=space_id,
                ) from error
            raise root_error(self._root.path, error) from error
        return tombstone

    def _drop(self, space_id: str, uuid: str) -> None:
        """Remove a tombstone that stands for nothing; if that fails, settling does it."""
        with suppress(OSError):
            self._trash.remove_tombstone(space_id, uuid)

    def _bury(self, space_id: str, uuid: str) -> None:
        with closing(self._trash.folder(TRASH_DIR)) as trash:
            self._root.rename(space_id, trash, grave_name(space_id, uuid))
            trash.sync()
            self._root.sync()

    def restore(self, space_id: str) -> None:
        """Put a deleted space back into its place."""
        graves = self.deleted(space_id)
        if not graves:
            raise _nothing_deleted(space_id)
        if self._root.exists(space_id):
            raise SpaceExists(
                f"the id {space_id!r} was taken meanwhile, so the deleted space cannot be "
                "restored. Delete the one that is there first",
                memory_space_id=space_id,
            )
        (buried,) = graves
        with closing(self._trash.folder(TRASH_DIR)) as trash:
            self._cancel(trash, buried)
            trash.rename(buried.name, self._root, space_id)
            try:
                self._root.sync()
                trash.sync()
            except OSError as error:
                raise _half_done(space_id, "restored", error) from error
        self._drop(space_id, buried.uuid)

    def _cancel(self, trash: Directory, buried: Buried) -> None:
        """Let the log say that the deletion does not hold, unless it says so already."""
        folder = trash.open_dir(buried.name)
        try:
            identity = read_identity(folder, buried.memory_space_id)
        except (Damaged, Unsupported):
            folder.close()
            return  # what is damaged comes back as damaged as it was
        except OSError:
            folder.close()
            raise
        try:
            store = self._open_folder(folder, identity)
        except SpaceDamaged:
            return
        try:
            if store.state.deleted:
                store.commit(RestoreSpace())
        finally:
            store.close()

    def purge(self, space_id: str) -> Receipt:
        """Remove a deleted space for good. One that was purged before gives its receipt again."""
        graves = self._trash.names(space_id).graves
        if not graves:
            with translated(space_id):
                generation = self._trash.generation(space_id)
                receipt = self._trash.receipt(space_id, generation)
            if receipt is None:
                raise _nothing_deleted(space_id)
            return receipt.receipt()
        (whose,) = graves
        with closing(self._trash.folder(TRASH_DIR)) as trash:
            with closing(trash.open_dir(grave_name(*whose))) as grave:
                files, size = _measured(grave)
            purging = Purging(*whose, self._clock() // 1_000, files, size)
            trash.rename(grave_name(*whose), trash, purging.name)
            try:
                trash.sync()
            except OSError as error:
                raise _half_done(space_id, "purged", error) from error
        try:
            with translated(space_id):
                return self._empty(purging).receipt()
        except OSError as error:
            raise _half_done(space_id, "purged", error) from error

    def _empty(self, purging: Purging) -> ReceiptFile:
        """Remove every byte, then leave the receipt: there is room for it now. The folder itself
        goes last: as long as it is there, this is not done.
        """
        space_id, uuid, purged_us, files, size = purging
        with closing(self._trash.folder(TRASH_DIR)) as trash:
            with closing(trash.open_dir(purging.name)) as grave:
                for name in grave.names():
                    _remove(grave, name)
                grave.sync()
            tombstone = self._trash.tombstone(space_id, uuid)
            receipt = ReceiptFile(
                memory_space_id=space_id,
                uuid=uuid,
                generation=(
                    self._trash.generation(space_id) if tombstone is None else tombstone.generation
                ),
                deleted_us=None if tombstone is None else tombstone.deleted_us,
                purged_us=purged_us,
                files=files,
                bytes=size,
            )
            known = self._trash.receipt(space_id, receipt.generation)
            if known is None or known.uuid != uuid:
                self._trash.write_receipt(receipt)
            else:
                receipt = known
            trash.remove_tree(purging.name)
            trash.sync()
        self._drop(space_id, uuid)
        return receipt

    def start(self) -> None:
        """What the start of a process finds to do: finish what was interrupted, and purge what is
        past its grace. What fails is left for the next one.
        """
        with suppress(OSError):
            self._trash.clear_temporaries()
        self.settle()
        now_us = self._clock() // 1_000
        for space_id, uuid in self._trash.names().graves:
            tombstone = self._trash.tombstone(space_id, uuid)
            if tombstone is None or tombstone.purge_after_us > now_us:
                continue
            try:
                self.purge(space_id)
            except (EngramError, WalError, OSError) as error:
                _LOG.warning("space %s is not purged yet: %s", space_id, error)

    def settle(self, space_id: str | None = None) -> None:
        """Finish what was interrupted, of one space or of all; never fails."""
        names = self._trash.names(space_id)
        moved = {*names.graves, *((p.memory_space_id, p.uuid) for p in names.purging)}
        begun = [whose for whose in names.tombstones if whose not in moved]
        steps: list[tuple[str, Callable[[], object]]] = [
            *((p.memory_space_id, lambda p=p: self._empty(p)) for p in names.purging),
            *((whose[0], lambda whose=whose: self._settle_deletion(*whose)) for whose in begun),
        ]
        for whose_id, step in steps:
            try:
                step()
            except (EngramError, WalError, OSError) as error:
                _LOG.warning("space %s is not settled yet: %s", whose_id, error)

    def _settle_deletion(self, space_id: str, uuid: str) -> None:
        """A tombstone without a grave: the log of the space decides, if that is still there."""
        if self._ends_deleted(space_id, uuid):
            with closing(self._root.open_dir(space_id)) as folder:
                generation = read_identity(folder, space_id).generation
            self._trash.raise_generation(space_id, generation)
            self._bury(space_id, uuid)
        else:
            self._trash.remove_tombstone(space_id, uuid)

    def _ends_deleted(self, space_id: str, uuid: str) -> bool:
        try:
            folder = self._root.open_dir(space_id)
        except (FileNotFoundError, NotADirectoryError):
            return False
        try:
            identity = read_identity(folder, space_id)
        except (FileNotFoundError, Damaged, Unsupported):
            identity = None
        except OSError:
            folder.close()
            raise
        if identity is None or identity.uuid != uuid:
            folder.close()
            return False
        try:
            store = self._open_folder(folder, identity)
        except SpaceDamaged:
            return False
        with closing(store):
            return store.state.deleted


def _deleted(tombstone: Tombstone) -> DeletedSpace:
    return DeletedSpace(
        memory_space_id=tombstone.memory_space_id, purge_after=from_us(tombstone.purge_after_us)
    )


def _nothing_deleted(space_id: str) -> SpaceNotFound:
    return SpaceNotFound(
        f"there is no deleted space {space_id!r}. It was never made, or purged",
        memory_space_id=space_id,
    )


def _half_done(space_id: str, what: str, error: OSError) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"space {space_id!r} is being {what}, but the disk failed on the way ({error.strerror}). "
        "It is finished when it is next looked at; look whether it is there",
        memory_space_id=space_id,
    )


def _measured(folder: Directory) -> tuple[int, int]:
    """The number of files below a folder, and their bytes."""
    files = size = 0
    for name in folder.names():
        try:
            inner = folder.open_dir(name)
        except OSError:
            files += 1
            with suppress(OSError), closing(folder.open(name)) as file:
                size += file.size()
            continue
        with closing(inner):
            inner_files, inner_size = _measured(inner)
        files, size = files + inner_files, size + inner_size
    return files, size


def _remove(folder: Directory, name: str) -> None:
    """Remove a file, or a folder with all that is below it."""
    try:
        folder.open_dir(name).close()
    except FileNotFoundError:
        return
    except OSError:
        folder.remove(name)  # a file, or a link, which is never followed
    else:
        folder.remove_tree(name)
