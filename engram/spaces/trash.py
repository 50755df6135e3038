"""What is kept of spaces that are no more: names and files below the control folder.

    .engram/trash/<id>.<uuid>              the folder of a deleted space
    .engram/trash/<id>.<uuid>.json         its tombstone
    .engram/trash/<id>.<uuid>.<…>.purging  a folder being emptied, for good; see `Purging`
    .engram/generations/<id>               the highest generation of any deleted space of that id
    .engram/receipts/<id>-<generation>.json

Ids hold no dots, so no two of these can be confused. Nothing here decides anything: the order in
which it is done, which is what a crash is about, is :mod:`engram.spaces.lifecycle`'s.
"""

from __future__ import annotations

import re
from contextlib import closing, suppress
from typing import Final, NamedTuple, TypeVar

import msgspec

from engram.memory.model import Receipt
from engram.memory.times import from_us
from engram.spaces.identity import Identity, read_identity
from wal.errors import Damaged, Unsupported
from wal.framed import decode_framed, encode_framed
from wal.segment import write_all
from wal.vfs import Directory

TRASH_DIR: Final = "trash"
GENERATIONS_DIR: Final = "generations"
RECEIPTS_DIR: Final = "receipts"
_TMP: Final = ".tmp"
_VERSION: Final = 1
_NAME: Final = re.compile(
    r"(?P<space>[a-z0-9][a-z0-9_-]*)\.(?P<uuid>[0-9a-f]{32})"
    r"(?:(?P<tombstone>\.json)|\.(?P<purged>\d+)-(?P<files>\d+)-(?P<bytes>\d+)\.purging)?"
)
_Document = TypeVar("_Document", bound=msgspec.Struct)


class Tombstone(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which space was deleted, when, and from when on it may be purged.

    `damage` says why the deletion is not the last event of the log, for a space that could not be
    opened.
    """

    memory_space_id: str
    uuid: str
    generation: int
    deleted_us: int
    purge_after_us: int
    damage: str | None = None


class Generation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    memory_space_id: str
    generation: int


class ReceiptFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A :class:`engram.Receipt` as it is kept."""

    memory_space_id: str
    uuid: str
    generation: int
    deleted_us: int | None
    purged_us: int
    files: int
    bytes: int

    def receipt(self) -> Receipt:
        return Receipt(
            memory_space_id=self.memory_space_id,
            uuid=self.uuid,
            generation=self.generation,
            deleted_at=None if self.deleted_us is None else from_us(self.deleted_us),
            purged_at=from_us(self.purged_us),
            files=self.files,
            bytes=self.bytes,
        )


class Purging(NamedTuple):
    """A folder that is being emptied. Its name holds what the receipt will say, because renaming
    needs no room, and a full disk is what one purges for.
    """

    memory_space_id: str
    uuid: str
    purged_us: int
    files: int
    bytes: int

    @property
    def name(self) -> str:
        return (
            f"{self.memory_space_id}.{self.uuid}.{self.purged_us}-{self.files}-{self.bytes}.purging"
        )


class Buried(NamedTuple):
    """A deleted space in the trash; what could not be read is None."""

    memory_space_id: str
    uuid: str
    tombstone: Tombstone | None
    identity: Identity | None

    @property
    def name(self) -> str:
        return grave_name(self.memory_space_id, self.uuid)


class Names(NamedTuple):
    """The names in the trash, sorted by what they are: (id, uuid), but for those being purged."""

    graves: list[tuple[str, str]]
    tombstones: list[tuple[str, str]]
    purging: list[Purging]


def grave_name(space_id: str, uuid: str) -> str:
    return f"{space_id}.{uuid}"


def tombstone_name(space_id: str, uuid: str) -> str:
    return f"{space_id}.{uuid}.json"


class Trash:
    """Reads and writes what is below the control folder. Raises OSError, and what reading raises:
    :class:`wal.errors.Damaged` and `Unsupported`.
    """

    def __init__(self, control: Directory) -> None:
        self._control = control

    def folder(self, name: str) -> Directory:
        """One of the folders, made if it is not there, under a name that is durable."""
        if not self._control.exists(name):
            self._control.make_dir(name).close()
        # Always: whoever made it may have been killed before its name was durable.
        self._control.sync()
        return self._control.open_dir(name)

    def names(self, space_id: str | None = None) -> Names:
        """What is in the trash, of one space or of all."""
        found = Names([], [], [])
        if not self._control.exists(TRASH_DIR):
            return found
        with closing(self._control.open_dir(TRASH_DIR)) as trash:
            names = trash.names()
        for name in names:
            match = _NAME.fullmatch(name)
            if match is None or (space_id is not None and match["space"] != space_id):
                continue
            whose = (match["space"], match["uuid"])
            if match["tombstone"]:
                found.tombstones.append(whose)
            elif match["purged"]:
                purged_us, files, size = (int(match[p]) for p in ("purged", "files", "bytes"))
                found.purging.append(Purging(*whose, purged_us, files, size))
            else:
                found.graves.append(whose)
        return found

    def has_tombstone(self, identity: Identity) -> bool:
        """Whether a deletion of that very space was begun."""
        if not self._control.exists(TRASH_DIR):
            return False
        with closing(self._control.open_dir(TRASH_DIR)) as trash:
            return trash.exists(tombstone_name(identity.memory_space_id, identity.uuid))

    def buried(self, space_id: str, uuid: str) -> Buried:
        """What can be read of a deleted space."""
        identity = None
        with closing(self._control.open_dir(TRASH_DIR)) as trash:
            try:
                with closing(trash.open_dir(grave_name(space_id, uuid))) as grave:
                    identity = read_identity(grave, space_id)
            except (OSError, Damaged, Unsupported):
                pass
        return Buried(space_id, uuid, self.tombstone(space_id, uuid), identity)

    def tombstone(self, space_id: str, uuid: str) -> Tombstone | None:
        """A tombstone; None if it is not there or cannot be read."""
        try:
            with closing(self._control.open_dir(TRASH_DIR)) as trash:
                return read_document(
                    trash, tombstone_name(space_id, uuid), "ENGRAM-TOMBSTONE", Tombstone
                )
        except (OSError, Damaged, Unsupported):
            return None

    def write_tombstone(self, tombstone: Tombstone) -> None:
        name = tombstone_name(tombstone.memory_space_id, tombstone.uuid)
        with closing(self.folder(TRASH_DIR)) as trash:
            write_document(trash, name, "ENGRAM-TOMBSTONE", tombstone)

    def clear_temporaries(self) -> None:
        """Remove what a crash left half written."""
        for name in (TRASH_DIR, GENERATIONS_DIR, RECEIPTS_DIR):
            if not self._control.exists(name):
                continue
            with closing(self._control.open_dir(name)) as folder:
                for inner in folder.names():
                    if inner.endswith(_TMP):
                        folder.remove(inner)

    def remove_tombstone(self, space_id: str, uuid: str) -> None:
        with closing(self.folder(TRASH_DIR)) as trash:
            name = tombstone_name(space_id, uuid)
            if trash.exists(name):
                trash.remove(name)
                trash.sync()

    def generation(self, space_id: str) -> int:
        """The highest generation that a deleted space of that id had; 0 if there never was one."""
        if not self._control.exists(GENERATIONS_DIR):
            return 0
        with closing(self._control.open_dir(GENERATIONS_DIR)) as generations:
            if not generations.exists(space_id):
                return 0
            return read_document(generations, space_id, "ENGRAM-GENERATION", Generation).generation

    def raise_generation(self, space_id: str, generation: int) -> None:
        """Have it on the disk that the id was used up to that generation."""
        try:
            known = self.generation(space_id)
        except Damaged:
            known = 0  # whichever lives now is the highest
        with closing(self.folder(GENERATIONS_DIR)) as generations:
            if known < generation:
                document = Generation(memory_space_id=space_id, generation=generation)
                write_document(generations, space_id, "ENGRAM-GENERATION", document)
            else:
                generations.sync()  # its writer may have been killed before it did so

    def receipt(self, space_id: str, generation: int) -> ReceiptFile | None:
        if not self._control.exists(RECEIPTS_DIR):
            return None
        with closing(self._control.open_dir(RECEIPTS_DIR)) as receipts:
            name = _receipt_name(space_id, generation)
            if not receipts.exists(name):
                return None
            return read_document(receipts, name, "ENGRAM-RECEIPT", ReceiptFile)

    def write_receipt(self, receipt: ReceiptFile) -> None:
        with closing(self.folder(RECEIPTS_DIR)) as receipts:
            name = _receipt_name(receipt.memory_space_id, receipt.generation)
            write_document(receipts, name, "ENGRAM-RECEIPT", receipt)


def _receipt_name(space_id: str, generation: int) -> str:
    return f"{space_id}-{generation}.json"


def read_document(folder: Directory, name: str, magic: str, shape: type[_Document]) -> _Document:
    """Raises :class:`wal.errors.Damaged` and `Unsupported`, and OSError."""
    with closing(folder.open(name)) as file:
        data = file.read_at(0, file.size())
    return decode_framed(magic, _VERSION, shape, f"{folder.path}/{name}", data)


def write_document(folder: Directory, name: str, magic: str, document: msgspec.Struct) -> None:
    """Write a file whole, under a name that is durable, replacing an older one."""
    temporary = name + _TMP
    if folder.exists(temporary):
        folder.remove(temporary)
    file = folder.create(temporary)
    try:
        write_all(file, 0, encode_framed(magic, _VERSION, document))
        file.sync_data()
    except OSError:
        with suppress(OSError):  # what is half made takes room, which may be what was missing
            folder.remove(temporary)
        raise
    finally:
        file.close()
    folder.rename(temporary, folder, name)
    folder.sync()
