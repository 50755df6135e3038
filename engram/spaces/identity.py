"""Who a space is: `space.json`, written once when the space is made and never changed.

The folder's name must be the id inside, so that a renamed or copied folder is noticed before any
of its bytes are served under another name.
"""

from __future__ import annotations

from typing import Final

import msgspec

from engram.memory.model import EmbeddingSpec
from wal.errors import Damaged
from wal.framed import decode_framed, encode_framed
from wal.segment import write_all
from wal.vfs import Directory

IDENTITY_NAME: Final = "space.json"
_MAGIC: Final = "ENGRAM-SPACE"
_VERSION: Final = 1


class Identity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fixed at creation. `uuid` is 32 hex digits; it is in every segment's header too."""

    memory_space_id: str
    uuid: str
    generation: int
    created_us: int
    embedding: EmbeddingSpec

    @property
    def uuid_bytes(self) -> bytes:
        return bytes.fromhex(self.uuid)


def write_identity(space_dir: Directory, identity: Identity) -> None:
    """Write the file durably, but for its name: the caller syncs the folder."""
    file = space_dir.create(IDENTITY_NAME)
    try:
        write_all(file, 0, encode_framed(_MAGIC, _VERSION, identity))
        file.sync_data()
    finally:
        file.close()


def read_identity(space_dir: Directory, folder: str) -> Identity:
    """The identity in an open folder of that name.

    Raises :class:`wal.errors.Damaged` when it does not verify or names another space, and
    FileNotFoundError when there is none.
    """
    file = space_dir.open(IDENTITY_NAME)
    try:
        data = file.read_at(0, file.size())
    finally:
        file.close()
    identity = decode_framed(_MAGIC, _VERSION, Identity, IDENTITY_NAME, data)
    if identity.memory_space_id != folder:
        raise Damaged(
            IDENTITY_NAME,
            0,
            f"the folder {folder!r} holds space {identity.memory_space_id!r}: it was renamed or "
            f"copied. Give it back its name, {identity.memory_space_id!r}",
        )
    return identity
