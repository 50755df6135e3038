"""The access keys of a data root, on disk: `.engram/keys.json`, beside the lock `KEYS`.

The file is written whole, under another name, synced and renamed, so a crash leaves the old keys or
the new ones. Whoever changes it holds the lock; whoever reads it needs none, and notices a change
by looking at the file's inode and times. What cannot be read lets nobody in.

That there is a file, even one without any key left in it, is what says that keys are needed here.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

import msgspec

from engram.access.keys import RANDOM_BYTES, KeyRecord, NewKey, check_records, new_key
from engram.errors import (
    DataRootUnusable,
    Invalid,
    KeyNotFound,
    KeysDamaged,
    OutcomeUnknown,
    SpaceLocked,
)
from engram.spaces.disk_errors import root_error
from engram.spaces.layout import CONTROL_DIR
from engram.spaces.trash import read_document, write_document
from wal.errors import Damaged, Locked, ReadOnly, Unsupported
from wal.os_vfs import open_root
from wal.vfs import Directory

KEYS_NAME: Final = "keys.json"
KEYS_LOCK: Final = "KEYS"
KEYS_MAX: Final = 10_000
LOCK_WAIT_S: Final = 10.0
_MAGIC: Final = "ENGRAM-KEYS"

Keys = Mapping[str, KeyRecord]


class _KeysDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    keys: tuple[KeyRecord, ...]


class KeyFile:
    """The keys of one data root. Thread-safe, and safe beside other processes."""

    def __init__(
        self, control: Directory, *, owner: str = "", clock: Callable[[], int] = time.time_ns
    ) -> None:
        """`control` is the open control folder; `owner` names this process in the lock."""
        self._control = control
        self._owner = owner or f"process {os.getpid()}"
        self._clock = clock

    def read(self) -> Keys | None:
        """The keys by their id; None where no key was ever made.

        Raises :class:`engram.errors.KeysDamaged` for what is there and cannot be read.
        """
        try:
            document = read_document(self._control, KEYS_NAME, _MAGIC, _KeysDocument)
            return check_records(document.keys)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _damaged(f"cannot be read: {error.strerror or error}") from error
        except Unsupported as error:
            raise _damaged("is of a format that this version does not read") from error
        except Damaged as error:  # told to whoever asks over HTTP, so without its path
            raise _damaged(f"cannot be trusted: {error.reason}") from error
        except ValueError as error:
            raise _damaged(f"cannot be trusted: {error}") from error

    def stamp(self) -> object:
        """Differs from an earlier one if the file was replaced or changed since; None if there is
        no file.
        """
        try:
            status = Path(self._control.path, KEYS_NAME).lstat()
        except FileNotFoundError:
            return None
        except OSError as error:
            return error.errno
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns

    def create(
        self,
        *,
        spaces: Literal["*"] | Iterable[str],
        scopes: Iterable[str],
        expires_us: int | None = None,
        name: str = "",
    ) -> NewKey:
        """Make a key, durably.

        Raises :class:`engram.errors.Invalid`, `SpaceInvalid`, `KeysDamaged`, `SpaceLocked` while
        another process changes keys, `DiskFull` or `DataRootUnusable`.
        """
        made = new_key(
            secrets.token_bytes(RANDOM_BYTES),
            spaces=spaces,
            scopes=scopes,
            now_us=self._clock() // 1_000,
            expires_us=expires_us,
            name=name,
        )
        with self._changing():
            keys = self.read() or {}
            if len(keys) >= KEYS_MAX:
                raise Invalid.of("keys", f"there are {len(keys)}, as many as there may be: revoke")
            self._write([*keys.values(), made.record])
        return made

    def revoke(self, key_id: str) -> KeyRecord:
        """Remove a key, durably. Raises :class:`engram.errors.KeyNotFound`, else as :meth:`create`
        does.
        """
        with self._changing():
            keys = self.read() or {}
            if key_id not in keys:
                with self._failing():
                    self._control.sync()  # its removal may have been cut off just before that
                raise KeyNotFound(
                    "no key has that id. `engram keys list` shows the ids of those there are"
                )
            self._write([record for record in keys.values() if record.id != key_id])
            return keys[key_id]

    def close(self) -> None:
        self._control.close()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        try:
            with self._failing():
                lock = self._control.lock(KEYS_LOCK, self._owner, wait_s=LOCK_WAIT_S)
        except Locked as error:
            raise SpaceLocked(
                f"another process changes the keys of this data root ({error.owner}). Try again "
                "when that is done"
            ) from error
        except ReadOnly as error:
            raise DataRootUnusable(str(error)) from error
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise root_error(self._control.path, error) from error

    def _write(self, records: Iterable[KeyRecord]) -> None:
        document = _KeysDocument(keys=tuple(records))
        try:
            write_document(self._control, KEYS_NAME, _MAGIC, document)
        except OSError as error:
            with suppress(KeysDamaged):
                if tuple((self.read() or {}).values()) == document.keys:
                    raise OutcomeUnknown(
                        f"the keys were changed, but may not outlive a power failure "
                        f"({error.strerror}). See with `engram keys list`, and repeat it if not"
                    ) from error
            raise root_error(self._control.path, error) from error


def open_key_file(data_root: Path, *, owner: str = "") -> KeyFile:
    """The keys of a data root that is there. Raises :class:`engram.errors.DataRootUnusable`."""
    try:
        with closing(open_root(str(data_root))) as root:
            return KeyFile(root.open_dir(CONTROL_DIR), owner=owner)
    except (FileNotFoundError, NotADirectoryError):
        raise DataRootUnusable(
            f"{data_root} is no data root, so it has no keys. Name another one with --data-root"
        ) from None
    except OSError as error:
        raise root_error(str(data_root), error) from error


def _damaged(why: str) -> KeysDamaged:
    return KeysDamaged(
        f"the file of access keys, {CONTROL_DIR}/{KEYS_NAME} in the data root, {why}. Nobody is "
        "let in: bring it back from a backup; or remove it, which ends every key there was, and "
        "make new ones with `engram keys create` before the server starts again"
    )
