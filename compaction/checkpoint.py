"""Checkpoints: writing one beside the log, and beginning with the newest that verifies.

A checkpoint is made again from the log whenever it is missing or broken, unless it is the base:
then the log no longer holds what it stands for, and losing it would be losing history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from hashlib import blake2b
from typing import Final

from compaction.columns import Array, ColumnFile, Identity, write_columns
from wal.errors import Damaged
from wal.live_set import CHECKPOINT_DIR
from wal.manifest import Checkpoint, Manifest
from wal.replay import Start
from wal.retire import CHECKPOINT_SUFFIX
from wal.segment import TMP_SUFFIX
from wal.vfs import Directory

_NAME: Final = "{position:020d}-{number:010d}" + CHECKPOINT_SUFFIX
_NONCE_BYTES: Final = 16

Columns = Iterable[tuple[str, Array]]
Take = Callable[[ColumnFile], None]
"""Takes up a checkpoint's columns. Raises Damaged for such as do not belong together."""


def identity_of(space_uuid: bytes, position: int, time_ns: int, number: int) -> Identity:
    """The identity of the checkpoint that the manifest `number` is the first to name: made again
    after a crash, it comes out the same.
    """
    what = b"%b checkpoint %d %d" % (space_uuid, position, number)
    nonce = blake2b(what, digest_size=_NONCE_BYTES).digest()
    return Identity(space_uuid, position, time_ns, nonce)


def write_checkpoint(
    space_dir: Directory, identity: Identity, number: int, columns: Columns, *, base: bool
) -> Checkpoint:
    """Write a checkpoint under its final name, durably, and read all of it back from the disk.

    It counts only once a manifest names it. Raises OSError, and :class:`wal.errors.Damaged` if the
    disk gives other bytes back than it was given.
    """
    name = _NAME.format(position=identity.position, number=number)
    temporary = name + TMP_SUFFIX
    if not space_dir.exists(CHECKPOINT_DIR):
        space_dir.make_dir(CHECKPOINT_DIR).close()
        space_dir.sync()
    with closing(space_dir.open_dir(CHECKPOINT_DIR)) as folder:
        for left in (temporary, name):  # by an attempt that did not get as far as its manifest
            if folder.exists(left):
                folder.remove(left)
        try:
            with closing(folder.create(temporary)) as file:
                length, crc = write_columns(file, identity, columns)
                file.sync_data()
                file.drop_cache()
            written = Checkpoint(
                name=temporary, position=identity.position, length=length, crc=crc, base=base
            )
            open_checkpoint(space_dir, written, identity.space_uuid).verify()
            folder.rename(temporary, folder, name)
            folder.sync()
        except BaseException:
            for left in (temporary, name):
                with suppress(OSError):
                    folder.remove(left)
            raise
    return Checkpoint(name=name, position=identity.position, length=length, crc=crc, base=base)


def remove_checkpoint(space_dir: Directory, name: str) -> None:
    """Remove a checkpoint that no manifest names."""
    with closing(space_dir.open_dir(CHECKPOINT_DIR)) as folder:
        folder.remove(name)


def open_checkpoint(space_dir: Directory, checkpoint: Checkpoint, space_uuid: bytes) -> ColumnFile:
    """Map a checkpoint that a manifest names. Its columns verify when they are asked for.

    Raises :class:`wal.errors.Damaged` if it is missing or is not the one that is named.
    """
    where = f"{CHECKPOINT_DIR}/{checkpoint.name}"
    try:
        with (
            closing(space_dir.open_dir(CHECKPOINT_DIR)) as folder,
            closing(folder.open(checkpoint.name)) as file,
        ):
            if file.size() != checkpoint.length:
                raise Damaged(
                    where,
                    min(file.size(), checkpoint.length),
                    f"it has {file.size()} bytes; the manifest says {checkpoint.length}",
                )
            view = file.map()
    except FileNotFoundError:
        raise Damaged(where, 0, "the manifest names this checkpoint; it is missing") from None
    opened = ColumnFile(where, view, space_uuid)
    if (opened.identity.position, opened.trailer_crc) != (checkpoint.position, checkpoint.crc):
        raise Damaged(where, 0, "this is not the checkpoint that the manifest names")
    return opened


def begin_with_newest(
    space_dir: Directory, manifest: Manifest, space_uuid: bytes, take: Take
) -> Start:
    """Have `take` take up the newest checkpoint that verifies; the log is replayed behind it.

    Raises :class:`wal.errors.Damaged` if none does and the log does not hold everything.
    """
    unusable: list[str] = []
    for checkpoint in reversed(manifest.checkpoints):
        try:
            opened = open_checkpoint(space_dir, checkpoint, space_uuid)
            opened.verify()
            take(opened)
        except Damaged:
            # The log holds what this stands for, and so does an older one; but nothing does what
            # the base stands for.
            if checkpoint.base and checkpoint.position == manifest.base_position:
                raise
            unusable.append(checkpoint.name)
        else:
            return Start(checkpoint.position, tuple(unusable))
    return Start(0, tuple(unusable))
